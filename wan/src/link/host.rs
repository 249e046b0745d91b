//! What the link is told when it is made, and what it asks of the box around it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::error::{Environment, Error, Refusal, Result};
use narrowboat_storage::id::StoreId;
use narrowboat_storage::name::Realm;

use super::identity::Identity;
use super::pairing::PairingError;
use crate::heal::Healer;
use crate::peer::{PeerName, PeerRecord};
use crate::shape::{Marks, Rate};
use crate::sync::{Admission, Failure, Limits, References, Report, Sink};
use crate::wire::FEATURES_KNOWN;

/// What a link is made from.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Where to listen, UDP. `[::]:port` takes IPv4 too.
    pub listen: SocketAddr,
    /// The box's key.
    pub identity: Identity,
    /// What the box calls itself when it is paired.
    pub name: PeerName,
    /// The realm of its store.
    pub realm: Realm,
    /// Its store.
    pub store: StoreId,
    /// How the references of a node are read.
    pub references: References,
    /// The cap of everything that the box sends; None is unlimited.
    pub limit: Option<Rate>,
    /// What the line below adds to every datagram besides IP and UDP headers (Ethernet 18, PPPoE 8, …), in bytes.
    pub extra_bytes: u64,
    /// What datagrams of each class say about themselves to routers.
    pub marks: Marks,
    /// Bounds of one replication.
    pub limits: Limits,
    /// Whether snapshots are taken only from peers that prove to have what they do not send. Others are told to be updated.
    pub require_proofs: bool,
    /// What greetings name of the features that this software knows: all of them, unless a test wants an older box.
    pub features: u64,
    /// How long a replication goes on trying while nothing moves.
    pub retry_for: Duration,
    /// Sessions in which peers send here at once, all peers together, 1 to 1024. Where more want to, they take turns.
    pub sessions: usize,
    /// The peers that are pinned already.
    pub peers: Vec<PeerRecord>,
}

impl LinkConfig {
    /// A link with defaults: no cap, a window of 16 MiB (100 Mbit/s at 900 ms), an hour of trying, no peers.
    pub fn new(
        listen: SocketAddr,
        identity: Identity,
        name: PeerName,
        realm: Realm,
        store: StoreId,
        references: References,
    ) -> Self {
        LinkConfig {
            listen,
            identity,
            name,
            realm,
            store,
            references,
            limit: None,
            extra_bytes: 0,
            marks: Marks::default(),
            require_proofs: false,
            features: FEATURES_KNOWN,
            limits: Limits { window_bytes: 16 << 20, ..Limits::default() },
            retry_for: Duration::from_secs(3600),
            sessions: 16,
            peers: Vec::new(),
        }
    }
}

/// The box around a link. Calls come from threads that may block.
pub trait Host: Send + Sync + 'static {
    /// Where snapshots of this peer go.
    fn sink(&self, peer: &PeerRecord) -> Result<Arc<dyn Sink>>;
    /// What this peer may publish. That its greeting names the store it was paired with has been checked already.
    fn admission(&self, peer: &PeerRecord) -> Arc<dyn Admission>;
    /// Keeps a peer that has just been paired, durably; replaces a record with the same key.
    fn pin(&self, peer: &PeerRecord) -> Result<()>;
    /// The cap of what is sent to this peer that is in force when it is added: that of its record, or what a calendar says. Must
    /// not block.
    fn cap(&self, peer: &PeerRecord) -> Option<Rate> {
        peer.limit
    }
    /// The peer did, or asked for, what it may not, and got nothing for it: `why` is a sentence for people. Of each session, each probe and each
    /// stream of grants that ended so, once; a hostile peer can begin as many of these as it likes.
    fn refused(&self, _peer: &PeerRecord, _why: &str) {}
    /// What this peer is healed from; none where it is given nothing, as by a box that knows no healing.
    fn healer(&self, _peer: &PeerRecord) -> Option<Arc<dyn Healer>> {
        None
    }
    /// A replication from this peer has ended.
    fn received(&self, peer: &PeerRecord, outcome: Result<(), &Failure>, report: &Report);
}

/// Why the link could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The store, or a file, failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// The socket could not be opened.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Nobody answered, or not who was expected.
    #[error("{peer} cannot be reached: {why}")]
    Unreachable {
        /// A name or an address.
        peer: String,
        /// What was tried, and what came of it.
        why: String,
    },
    /// The boxes did not pair.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The replication ended.
    #[error(transparent)]
    Replication(#[from] Failure),
    /// The link is shutting down.
    #[error("the link is shutting down")]
    Closed,
}

impl From<Refusal> for LinkError {
    fn from(refusal: Refusal) -> Self {
        LinkError::Store(refusal.into())
    }
}

impl From<Environment> for LinkError {
    fn from(environment: Environment) -> Self {
        LinkError::Store(environment.into())
    }
}
