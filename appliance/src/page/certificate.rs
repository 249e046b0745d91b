//! A certificate that the page shows: one that the box made for itself, or one that somebody gave it.

use std::fs;
use std::io;
use std::path::Path;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::x509::{self, Says};
use crate::whole::exchange;

/// The folder of the box's own in the data folder.
pub(super) const FOLDER: &str = "page";
/// What a certificate and its key may take, in bytes: less than a message to the worker.
const BYTES_MAX: usize = 48 << 10;

/// A certificate with its key.
pub(super) struct Certificate {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
    /// The first of the chain.
    der: CertificateDer<'static>,
}

impl Certificate {
    /// The one that somebody gave.
    pub(super) fn read(certificate: &Path, key: &Path) -> io::Result<Certificate> {
        let named =
            |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let certificate_pem = fs::read_to_string(certificate).map_err(|error| named(certificate, error))?;
        let key_pem = fs::read_to_string(key).map_err(|error| named(key, error))?;
        let read = Certificate::of(certificate_pem, key_pem);
        read.map_err(|what| {
            named(if what == KEY { key } else { certificate }, io::Error::other(format!("there is no {what} in it")))
        })
    }

    /// The box's own, made where there is none yet.
    pub(super) fn own(data: &Path, name: &str) -> io::Result<Certificate> {
        let folder = data.join(FOLDER);
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        match Certificate::read(&certificate, &key) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "the page's own certificate can't be used, so another one is made: browsers will ask")
            }
        }
        let (certificate_pem, key_pem) = made(name).map_err(io::Error::other)?;
        fs::create_dir_all(&folder)?;
        // The key first: a certificate without one is made anew.
        exchange(&folder, "key.pem", key_pem.as_bytes(), 0o600)?;
        exchange(&folder, "certificate.pem", certificate_pem.as_bytes(), 0o600)?;
        Certificate::of(certificate_pem, key_pem).map_err(io::Error::other)
    }

    /// Refused with the name of what is missing.
    pub(super) fn of(certificate_pem: String, key_pem: String) -> Result<Certificate, &'static str> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| "certificate")?;
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| KEY)?;
        Ok(Certificate { certificate_pem, key_pem, der })
    }

    /// SHA-256, as browsers show it.
    pub(super) fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.der);
        digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// What it says; nothing where it can't be read.
    pub(super) fn says(&self) -> Option<Says> {
        x509::read(&self.der)
    }

    /// Whether the worker can show it: it fits into a message, and chain and key belong together.
    pub(super) fn is_whole(&self) -> bool {
        let chain = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let (Ok(chain), Ok(key)) = (chain, PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())) else {
            return false;
        };
        let fits = self.certificate_pem.len() + self.key_pem.len() <= BYTES_MAX;
        fits && rustls::sign::CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).is_ok()
    }
}

const KEY: &str = "key";

/// A new one. It is good from before any clock that a box may have, until the box is scrap: nobody looks after it.
fn made(name: &str) -> Result<(String, String), rcgen::Error> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_host = |name: &&str| {
        !name.is_empty() && name.len() < 60 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let mut names = vec!["localhost".to_owned(), "narrowboat.local".to_owned()];
    for known in [name, host.trim()].iter().filter(|name| is_host(name)) {
        names.extend([(*known).to_owned(), format!("{known}.local")]);
    }
    names.sort();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    for address in [[127, 0, 0, 1].into(), std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)] {
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Narrowboat {name}"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_own_certificate_stays_and_its_key_is_the_owners_alone() {
        let data = tempfile::tempdir().expect("a folder");
        let first = Certificate::own(data.path(), "office-bonn").expect("made");
        let again = Certificate::own(data.path(), "another name").expect("read");
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.fingerprint().len(), 32 * 3 - 1);
        let key = data.path().join("page/key.pem");
        assert_eq!(fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&key, "nonsense").expect("written");
        let third = Certificate::own(data.path(), "office-bonn").expect("made anew");
        assert_ne!(first.fingerprint(), third.fingerprint());
        assert!(
            Certificate::read(&key, &data.path().join("nothing"))
                .is_err_and(|error| error.to_string().contains("nothing"))
        );
    }

    #[test]
    fn any_name_has_a_certificate_and_a_server_takes_it() {
        for name in ["office", "Büro Köln", "", "a.b", &"x".repeat(300)] {
            let (certificate, key) = made(name).expect("made");
            let made = Certificate::of(certificate, key).expect("both are there");
            let says = made.says().expect("it is one");
            assert!(
                says.names.contains(&"narrowboat.local".to_owned()) && says.life.is_good(1_800_000_000),
                "{says:?}"
            );
            assert!(made.is_whole());
            let other = self::made(name).expect("made").1;
            assert!(
                !Certificate {
                    key_pem: other,
                    ..Certificate::of(made.certificate_pem.clone(), made.key_pem.clone()).expect("both")
                }
                .is_whole()
            );
            let key = PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes()).expect("a key");
            let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
            let config = config.with_safe_default_protocol_versions().expect("sound").with_no_client_auth();
            config.with_single_cert(vec![made.der], key).expect("they belong together");
        }
    }
}
