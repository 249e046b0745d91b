//! The certificate that whoever connects is shown. The box may exchange it at any time; connections that are open stay as they are.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::start::Shown;

/// What is shown.
#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<RwLock<Arc<CertifiedKey>>>);

impl Tls {
    /// This at first.
    pub(super) fn new(shown: &Shown) -> io::Result<Tls> {
        Ok(Tls(Arc::new(RwLock::new(Arc::new(read(shown)?)))))
    }

    /// The rules by which connections come about.
    pub(super) fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let config = ServerConfig::builder_with_provider(Arc::new(provider())).with_protocol_versions(&versions);
        let config = config.map_err(io::Error::other)?.with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// What the box says later on: another certificate.
    pub(super) fn told(&self, message: &[u8]) {
        let shown = serde_json::from_slice::<Shown>(message).map_err(io::Error::from).and_then(|shown| read(&shown));
        match shown {
            Ok(shown) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown),
            Err(error) => tracing::warn!(%error, "the box said something that is no certificate"),
        }
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn read(shown: &Shown) -> io::Result<CertifiedKey> {
    let wrong =
        |error: rustls::pki_types::pem::Error| io::Error::other(format!("the certificate can't be read: {error}"));
    let chain = CertificateDer::pem_slice_iter(shown.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).map_err(wrong)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(io::Error::other)
}
