//! The peers of a link: for each its record, its node in the tree of caps, and its connection, if there is one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{Connection, Side, VarInt};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::cancel::Cancel;
use super::lanes::Lanes;
use super::socket::Shaper;
use crate::peer::{PeerAddress, PeerId, PeerName, PeerRecord};
use crate::shape::{NodeId, Rate};

/// Two connections that come about within this time are taken for two boxes dialling one another at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// Closed because there is another.
const DUPLICATE: VarInt = VarInt::from_u32(2);

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub id: PeerId,
    pub node: NodeId,
    /// Its connections of classes other than normal.
    pub lanes: Lanes,
    /// Thrown when the peer is removed.
    pub removed: Cancel,
    record: Mutex<PeerRecord>,
    connection: watch::Sender<Option<(Connection, Instant)>>,
    nudge: Notify,
    sessions: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Peer {
    fn new(record: PeerRecord, node: NodeId) -> Peer {
        Peer {
            id: record.id,
            node,
            lanes: Lanes::default(),
            removed: Cancel::new(),
            record: Mutex::new(record),
            connection: watch::Sender::new(None),
            nudge: Notify::new(),
            sessions: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    pub(super) fn record(&self) -> PeerRecord {
        lock(&self.record).clone()
    }

    pub(super) fn name(&self) -> PeerName {
        lock(&self.record).name.clone()
    }

    pub(super) fn addresses(&self) -> Vec<PeerAddress> {
        lock(&self.record).addresses.clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut PeerRecord)) {
        change(&mut lock(&self.record));
    }

    /// The connection, if it is up.
    pub(super) fn current(&self) -> Option<Connection> {
        let current = self.connection.borrow();
        current.as_ref().map(|(connection, _)| connection.clone()).filter(is_up)
    }

    /// Is this where the peer is connected from?
    pub(super) fn is_connected_from(&self, address: SocketAddr) -> bool {
        self.current().is_some_and(|connection| connection.remote_address() == address)
    }

    /// Waits for a connection that is up, and has one made if there is none. None where the peer was removed.
    pub(super) async fn connected(&self) -> Option<Connection> {
        let mut changes = self.connection.subscribe();
        loop {
            if let Some(connection) = self.current() {
                return Some(connection);
            }
            self.nudge.notify_one();
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                () = self.removed.cancelled() => return None,
            }
        }
    }

    /// Waits until there is a connection, without asking for one.
    pub(super) async fn wait_connected(&self) {
        let mut changes = self.connection.subscribe();
        // The sender lives in self.
        let _ = changes.wait_for(|current| current.as_ref().is_some_and(|(connection, _)| is_up(connection))).await;
    }

    /// Waits until somebody wants a connection.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Takes a new connection; false where the one that is there stays and the new one was closed.
    ///
    /// Normally the newest wins: who dials again has lost the old one. When both sides dialled at once there are two,
    /// and both sides must choose the same: that of the smaller key.
    pub(super) fn take(&self, connection: &Connection, ours: PeerId) -> bool {
        let mut taken = true;
        self.connection.send_modify(|current| {
            if let Some((old, since)) = current.as_ref().filter(|(old, _)| is_up(old)) {
                let crossed = old.side() != connection.side() && since.elapsed() < AT_ONCE;
                taken = !crossed || (connection.side() == Side::Client) == (ours < self.id);
                let loser = if taken { old } else { connection };
                loser.close(DUPLICATE, b"duplicate");
            }
            if taken {
                *current = Some((connection.clone(), Instant::now()));
            }
        });
        *lock(&self.last_error) = None;
        taken
    }

    /// Closes what is open.
    pub(super) fn close(&self, why: &'static str) {
        if let Some(connection) = self.current() {
            connection.close(VarInt::from_u32(0), why.as_bytes());
        }
    }

    /// A number for a session that this side opens.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// True while nothing may be sent to the peer.
    pub(super) fn is_paused(&self, shaper: &Shaper) -> bool {
        [None, Some(self.node)].into_iter().any(|of| shaper.limit(of).is_some_and(|limit| limit.is_paused()))
    }

    /// Remembers why the peer was not reached.
    pub(super) fn note_error(&self, why: String) {
        tracing::debug!(peer = %self.name(), %why, "not reached");
        *lock(&self.last_error) = Some(why);
    }

    /// Why the peer was not reached when it was tried last; None while it is connected.
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }
}

/// Is the connection up, as far as is known?
pub(super) fn is_up(connection: &Connection) -> bool {
    connection.close_reason().is_none()
}

/// All peers.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<BTreeMap<PeerId, Arc<Peer>>>);

impl Peers {
    pub(super) fn find(&self, id: &PeerId) -> Option<Arc<Peer>> {
        lock(&self.0).get(id).cloned()
    }

    pub(super) fn count(&self) -> usize {
        lock(&self.0).len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        lock(&self.0).values().cloned().collect()
    }

    /// Adds a peer under a cap, or updates what is known of it. The peer, and whether it is new.
    pub(super) fn add(&self, record: PeerRecord, limit: Option<Rate>, shaper: &Shaper) -> (Arc<Peer>, bool) {
        let mut peers = lock(&self.0);
        if let Some(known) = peers.get(&record.id) {
            shaper.set_limit(Some(known.node), limit);
            known.update(|old| *old = record);
            return (known.clone(), false);
        }
        let node = shaper.add_peer(limit);
        let peer = Arc::new(Peer::new(record, node));
        peers.insert(peer.id, peer.clone());
        (peer, true)
    }

    pub(super) fn remove(&self, id: &PeerId) -> Option<Arc<Peer>> {
        lock(&self.0).remove(id)
    }

    /// `wanted`, or `wanted-2`, `wanted-3`, … where another key has that name already.
    pub(super) fn free_name(&self, wanted: &PeerName, id: &PeerId) -> PeerName {
        let taken: Vec<PeerName> = self.all().iter().filter(|peer| peer.id != *id).map(|peer| peer.name()).collect();
        let stem = wanted.as_str();
        let numbered = (2..).map(|number| {
            let suffix = format!("-{number}");
            let end =
                (0..=stem.len().min(PeerName::LEN_MAX - suffix.len())).rev().find(|end| stem.is_char_boundary(*end));
            format!("{}{suffix}", &stem[..end.unwrap_or(0)]).parse()
        });
        let mut names = std::iter::once(Ok(wanted.clone())).chain(numbered).flatten();
        names.find(|name| !taken.contains(name)).unwrap_or_else(|| wanted.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is replaced whole, so a panic elsewhere leaves it true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
