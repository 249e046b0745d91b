//! TLS 1.3 between pinned keys: who may shake hands at all.
//!
//! Both sides show a raw Ed25519 public key (RFC 7250) and prove it. There are no certificates, no authorities, no
//! names, no clocks. What this module promises:
//!
//! * On [`ALPN_LINK`] a connection comes about only between a box and a key that it has pinned, checked on both sides
//!   before any byte of ours is read. An unknown key gets a TLS alert and nothing else.
//! * On [`ALPN_PAIR`] any key may connect, but only while an invitation is open; such a connection can do nothing but pair.
//! * No 0-RTT and no session tickets: a resumed session would skip the check of the key, and a peer that was removed must
//!   not come back through one.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quinn::crypto;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::ConnectionId;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::congestion::Steady;
use super::identity::Identity;
use super::law::Governed;
use crate::peer::PeerId;
use crate::shape::Class;

/// The protocol between pinned peers.
pub const ALPN_LINK: &[u8] = b"narrowboat/1";
/// What stands between the protocol and the class where that is not the normal one: `narrowboat/1+urgent`.
const ALPN_CLASS: &[u8] = b"+";
/// The protocol that pairs.
pub const ALPN_PAIR: &[u8] = b"narrowboat-pair/1";
/// A name that TLS wants and nobody reads: it is not sent.
pub const SERVER_NAME: &str = "narrowboat";

/// What comes before the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What comes before the 32 bytes of an Ed25519 seed in PKCS #8 (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The keys that may connect, and whether strangers may pair just now. Shared with the endpoint; changes count from the
/// next handshake on.
#[derive(Debug, Default)]
pub struct Doorkeeper {
    pinned: RwLock<BTreeSet<PeerId>>,
    pairing: AtomicBool,
}

impl Doorkeeper {
    /// Pins a key.
    pub fn pin(&self, id: PeerId) {
        self.pinned.write().unwrap_or_else(PoisonError::into_inner).insert(id);
    }
    /// Forgets a key.
    pub fn unpin(&self, id: &PeerId) {
        self.pinned.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
    /// Is the key pinned?
    pub fn knows(&self, id: &PeerId) -> bool {
        self.pinned.read().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
    /// Lets strangers try to pair, or no more.
    pub fn set_pairing(&self, open: bool) {
        self.pairing.store(open, Ordering::Release);
    }
    /// May strangers try to pair?
    pub fn is_pairing(&self) -> bool {
        self.pairing.load(Ordering::Acquire)
    }
}

/// The TLS side of an identity, from which connections are configured.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    door: Arc<Doorkeeper>,
}

impl Tls {
    /// Prepares an identity for TLS.
    pub fn new(identity: &Identity, door: Arc<Doorkeeper>) -> Result<Tls, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pkcs8 = [PKCS8_PREFIX.as_slice(), identity.seed()].concat();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let signer = provider.key_provider.load_private_key(private)?;
        let spki = [SPKI_PREFIX.as_slice(), &identity.id().0].concat();
        let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signer));
        Ok(Tls { provider, key, door })
    }

    /// Dials one pinned peer: any other key at that address is refused.
    pub fn dial(&self, expected: PeerId) -> Result<quinn::ClientConfig, Error> {
        self.dial_as(expected, Class::Normal)
    }

    /// The same for a connection of a class. A box that knows no classes refuses any but normal.
    pub fn dial_as(&self, expected: PeerId, class: Class) -> Result<quinn::ClientConfig, Error> {
        self.client(Some(expected), &alpn_for(class))
    }

    /// Dials whoever is there in order to pair with it.
    pub fn dial_to_pair(&self) -> Result<quinn::ClientConfig, Error> {
        self.client(None, ALPN_PAIR)
    }

    fn client(&self, expected: Option<PeerId>, alpn: &[u8]) -> Result<quinn::ClientConfig, Error> {
        let verifier = VerifyServer { expected, algorithms: self.provider.signature_verification_algorithms };
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = false;
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        let crypto = QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))?;
        Ok(quinn::ClientConfig::new(Arc::new(crypto)))
    }

    /// Answers handshakes.
    pub fn answer(self: &Arc<Self>) -> Result<quinn::ServerConfig, Error> {
        let base = Arc::new(self.server()?);
        Ok(quinn::ServerConfig::with_crypto(Arc::new(Answer { tls: self.clone(), base })))
    }

    /// A configuration for one handshake: its resolver sees which protocols the client offers and tells its verifier.
    fn server(&self) -> Result<QuicServerConfig, Error> {
        let pairing_only = Arc::new(AtomicBool::new(false));
        let verifier = VerifyClient {
            door: self.door.clone(),
            pairing_only: pairing_only.clone(),
            algorithms: self.provider.signature_verification_algorithms,
        };
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(ShowKey { key: self.key.clone(), pairing_only }));
        config.alpn_protocols = Class::ALL.map(alpn_for).into_iter().chain([ALPN_PAIR.to_vec()]).collect();
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        QuicServerConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("door", &self.door).finish_non_exhaustive()
    }
}

/// The key that the other side of a connection has proved.
pub fn peer_of(connection: &quinn::Connection) -> Option<PeerId> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    key_of(shown.first()?)
}

/// The protocol of connections of a class between pinned peers.
fn alpn_for(class: Class) -> Vec<u8> {
    match class {
        Class::Normal => ALPN_LINK.to_vec(),
        class => [ALPN_LINK, ALPN_CLASS, class.to_string().as_bytes()].concat(),
    }
}

/// The class of connections with this protocol; `None` where it is not one between pinned peers.
pub fn class_of(alpn: &[u8]) -> Option<Class> {
    Class::ALL.into_iter().find(|class| alpn_for(*class) == alpn)
}

/// The protocol that a connection has agreed on.
pub fn alpn_of(connection: &quinn::Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<crypto::rustls::HandshakeData>().ok()?.protocol
}

/// What the congestion controller of a connection knows of the line.
pub(super) fn controller_of(connection: &quinn::Connection) -> Option<Steady> {
    let governed = connection.congestion_state().into_any().downcast::<Governed<Steady>>();
    governed.ok().map(|governed| governed.law)
}

fn key_of(spki: &CertificateDer<'_>) -> Option<PeerId> {
    let key = spki.as_ref().strip_prefix(&SPKI_PREFIX)?;
    key.try_into().ok().map(PeerId)
}

/// Makes a server session with a configuration of its own for every connection.
struct Answer {
    tls: Arc<Tls>,
    base: Arc<QuicServerConfig>,
}

impl crypto::ServerConfig for Answer {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<crypto::Keys, crypto::UnsupportedVersion> {
        self.base.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.base.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn crypto::Session> {
        // Building it succeeded once with the same parts; should it ever fail, the base refuses every stranger.
        let config = self.tls.server().map_or_else(|_| self.base.clone(), Arc::new);
        config.start_session(version, params)
    }
}

/// Shows our key, and notes whether the client came to pair and for nothing else.
#[derive(Debug)]
struct ShowKey {
    key: Arc<CertifiedKey>,
    pairing_only: Arc<AtomicBool>,
}

impl ResolvesServerCert for ShowKey {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairing_only = hello.alpn().is_some_and(|offered| {
            let mut offered = offered.peekable();
            offered.peek().is_some() && offered.all(|protocol| protocol == ALPN_PAIR)
        });
        self.pairing_only.store(pairing_only, Ordering::Release);
        Some(self.key.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// What both verifiers say of signatures: TLS 1.3, raw public keys, Ed25519, and nothing else.
macro_rules! raw_ed25519_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.3 only".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature_with_raw_key(
                message,
                &SubjectPublicKeyInfoDer::from(cert.as_ref()),
                dss,
                &self.algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

/// Whether a client may come in.
#[derive(Debug)]
struct VerifyClient {
    door: Arc<Doorkeeper>,
    pairing_only: Arc<AtomicBool>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for VerifyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let id = key_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        let welcome = match self.pairing_only.load(Ordering::Acquire) {
            true => self.door.is_pairing(),
            false => self.door.knows(&id),
        };
        if welcome { Ok(ClientCertVerified::assertion()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }

    raw_ed25519_signatures!();
}

/// Whether a server is the one that was dialled.
#[derive(Debug)]
struct VerifyServer {
    /// None while pairing: the pairing protocol will tell.
    expected: Option<PeerId>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for VerifyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let id = key_of(end_entity).ok_or(CertificateError::BadEncoding)?;
        match self.expected {
            Some(expected) if expected != id => Err(CertificateError::UnknownIssuer.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    raw_ed25519_signatures!();
}
