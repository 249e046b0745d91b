//! Whom the box takes for who he says he is: certificates for what it calls out to over TLS, what becomes of a call, in words, and secrets in files.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use ureq::Error;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where a system keeps the certificates that it trusts: Debian's place and Fedora's.
const TRUSTED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Longest secret in a file, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// The certificates (DER) of a file, or of the system where there is none.
pub(crate) fn certificates(ca_file: Option<&Path>) -> Result<Vec<Vec<u8>>, String> {
    let found = || TRUSTED.iter().map(Path::new).find(|file| file.exists());
    let file = ca_file.or_else(found);
    let file = file.ok_or("no certificates to trust were found on this system: set ca_file")?;
    let pem = fs::read(file).map_err(|error| format!("{} can't be read: {error}", file.display()))?;
    let certificates: Vec<Vec<u8>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate.der().to_vec()),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(format!("{} holds no certificate", file.display())),
        false => Ok(certificates),
    }
}

/// TLS for a call to an address, by these certificates or those of the system.
pub(crate) fn tls(ca_file: Option<&Path>, address: &str) -> Result<TlsConfig, String> {
    let tls =
        TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    if !address.starts_with("https:") {
        return Ok(tls.build());
    }
    let certificates = certificates(ca_file)?;
    let certificates: Vec<_> = certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(tls.root_certs(RootCerts::new_with_certs(&certificates)).build())
}

/// What an error means. Nothing of the address is in the text.
pub(crate) fn in_words(error: &Error) -> String {
    match error {
        Error::HostNotFound => "its host is not known".into(),
        Error::Timeout(_) => "it took too long and was left".into(),
        Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "nobody listens there".into(),
        Error::Io(error) if error.to_string().starts_with("failed to lookup address") => "its host is not known".into(),
        Error::Io(error) => format!("the call broke off: {error}"),
        Error::Other(error) => error.to_string(),
        Error::BadUri(_) => "this is no address that HTTP knows".into(),
        error => format!("the call broke off: {error}"),
    }
}

/// A secret that lies in a file. Refused where others than its owner may read it; nothing of it is in the refusal.
pub(crate) fn secret(file: &Path) -> Result<String, String> {
    let about = fs::metadata(file).map_err(|error| error.to_string())?;
    if about.mode() & 0o077 != 0 {
        return Err(format!("others may read it: chmod 600 {}", file.display()));
    }
    if about.len() > SECRET_BYTES_MAX {
        return Err(format!("it is longer than {SECRET_BYTES_MAX} bytes"));
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("it is empty".into()),
        secret if secret.contains(char::is_control) => Err("it holds more than one line".into()),
        secret => Ok(secret.to_owned()),
    }
}
