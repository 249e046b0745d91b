//! Whom the box takes for who he says he is: certificates for what it calls out to over TLS.

use std::path::Path;
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where a system keeps the certificates that it trusts: Debian's place and Fedora's.
const TRUSTED: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The certificates (DER) of a file, or of the system where there is none.
pub(crate) fn certificates(ca_file: Option<&Path>) -> Result<Vec<Vec<u8>>, String> {
    let found = || TRUSTED.iter().map(Path::new).find(|file| file.exists());
    let file = ca_file.or_else(found);
    let file = file.ok_or("no certificates to trust were found on this system: set ca_file")?;
    let pem = std::fs::read(file).map_err(|error| format!("{} can't be read: {error}", file.display()))?;
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
