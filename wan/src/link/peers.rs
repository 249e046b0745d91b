//! The peers of a link: for each its record, its node in the tree of caps, and its connections.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::Connection;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::cancel::Cancel;
use super::connections::{Changes, Connections, InUse, Watch};
use super::hold::Hold;
use super::lanes::Lanes;
use super::paths::{Candidate, Path, Traffic};
use super::shares::Shares;
use super::socket::Shaper;
use crate::peer::{PeerAddress, PeerId, PeerName, PeerRecord};
use crate::shape::{NodeId, Rate};
use crate::sync::Lately;
use crate::wire::{FEATURE_PROOFS, Hello};

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub id: PeerId,
    pub node: NodeId,
    /// Its connections of classes other than normal.
    pub lanes: Lanes,
    /// What its sessions have sent to it lately.
    pub lately: Arc<Lately>,
    /// Whether it has paused what it receives from us.
    pub hold: Arc<Hold>,
    /// Thrown when the peer is removed.
    pub removed: Cancel,
    /// Whose what was on the wire is.
    pub shares: Mutex<Shares>,
    record: Mutex<PeerRecord>,
    connections: Connections,
    nudge: Notify,
    readdressed: Notify,
    memory: Mutex<Memory>,
    sessions: AtomicU64,
    last_error: Mutex<Option<String>>,
    greeting: Mutex<Option<Greeting>>,
}

/// What a peer's latest session said of its software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Name and version.
    pub software: String,
    /// Whether it proves to have what it does not send ([`FEATURE_PROOFS`]).
    pub proves: bool,
}

impl Peer {
    fn new(record: PeerRecord, node: NodeId) -> Peer {
        Peer {
            id: record.id,
            node,
            lanes: Lanes::default(),
            lately: Arc::default(),
            hold: Arc::default(),
            removed: Cancel::new(),
            shares: Mutex::default(),
            record: Mutex::new(record),
            connections: Connections::default(),
            nudge: Notify::new(),
            readdressed: Notify::new(),
            memory: Mutex::default(),
            sessions: AtomicU64::new(0),
            last_error: Mutex::new(None),
            greeting: Mutex::new(None),
        }
    }

    /// Notes how the peer greets.
    pub(super) fn greeted(&self, hello: &Hello) {
        let proves = hello.features_ignore & FEATURE_PROOFS != 0;
        *lock(&self.greeting) = Some(Greeting { software: hello.software.clone(), proves });
    }

    pub(super) fn greeting(&self) -> Option<Greeting> {
        lock(&self.greeting).clone()
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

    /// The connection that new sessions use, if one is up.
    pub(super) fn current(&self) -> Option<Connection> {
        self.in_use().map(|(connection, ..)| connection)
    }

    /// The same with its path, and since when it is there.
    pub(super) fn in_use(&self) -> Option<(Connection, Path, Instant)> {
        self.connections.current()
    }

    /// Connections that were replaced, and whose sessions go on.
    pub(super) fn replaced(&self) -> usize {
        self.connections.replaced()
    }

    /// Is the peer connected from this address?
    pub(super) fn is_connected_from(&self, address: SocketAddr) -> bool {
        self.connections.any_from(address)
    }

    /// Waits for a connection that is up, and has one made if there is none. None where the peer was removed.
    pub(super) async fn connected(&self) -> Option<Connection> {
        let mut changes = self.connections.subscribe();
        loop {
            if let Some(connection) = self.current() {
                return Some(connection);
            }
            self.nudge.notify_one();
            tokio::select! {
                () = changes.changed() => {}
                () = self.removed.cancelled() => return None,
            }
        }
    }

    /// Waits until there is a connection, without asking for one.
    pub(super) async fn wait_connected(&self) {
        let mut changes = self.connections.subscribe();
        while self.current().is_none() {
            changes.changed().await;
        }
    }

    /// Hears of new connections.
    pub(super) fn subscribe(&self) -> Changes {
        self.connections.subscribe()
    }

    /// Waits until somebody wants a connection.
    pub(super) async fn nudged(&self) {
        self.nudge.notified().await;
    }

    /// Waits until the addresses have changed.
    pub(super) async fn addresses_changed(&self) {
        self.readdressed.notified().await;
    }

    /// Other addresses, best first. They count at once.
    pub(super) fn set_addresses(&self, addresses: Vec<PeerAddress>) {
        self.update(|record| record.addresses = addresses);
        self.readdressed.notify_one();
        self.nudge.notify_one();
    }

    /// Takes a new connection beside those that are there.
    pub(super) fn take(&self, connection: &Connection, path: Path, ours: PeerId) {
        self.connections.adopt(connection, path, ours < self.id);
        *lock(&self.last_error) = None;
    }

    /// Notes that a session uses a connection.
    pub(super) fn begin_use(&self, connection: &Connection) -> InUse {
        self.connections.begin_use(connection)
    }

    /// Looks after a connection that may have been replaced.
    pub(super) fn look_after(&self, connection: &Connection, watch: &mut Watch, ours: PeerId) {
        self.connections.look_after(connection, watch, ours < self.id);
    }

    /// Closes what is open.
    pub(super) fn close(&self, why: &'static str) {
        self.connections.close(why);
    }

    /// What went over a connection and over those of other classes beside it.
    pub(super) fn traffic(&self, connection: &Connection) -> Traffic {
        Traffic::of(connection) + self.lanes.traffic_to(connection.remote_address())
    }

    /// The entry of the record that answered last.
    pub(super) fn last_good(&self) -> Option<PeerAddress> {
        lock(&self.memory).last_good.clone()
    }

    /// An address has answered.
    pub(super) fn note_good(&self, candidate: &Candidate, round_trip: Duration) {
        let mut memory = lock(&self.memory);
        memory.last_good = Some(candidate.of.clone());
        memory.round_trips.retain(|(address, _)| *address != candidate.address);
        memory.round_trips.push_back((candidate.address, round_trip));
        if memory.round_trips.len() > 2 * PeerRecord::ADDRESSES_MAX {
            memory.round_trips.pop_front();
        }
    }

    /// The round trip to an address when it was dialled last.
    pub(super) fn round_trip_to(&self, candidate: &Candidate) -> Option<Duration> {
        let memory = lock(&self.memory);
        memory.round_trips.iter().find(|(address, _)| *address == candidate.address).map(|(_, known)| *known)
    }

    /// The place of a path in the record; behind all of them where it is none of these.
    pub(super) fn rank_of(&self, path: &Path) -> usize {
        let addresses = self.addresses();
        addresses.iter().position(|known| Some(known) == path.address.as_ref()).unwrap_or(usize::MAX)
    }

    /// A number for a session that this side opens.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// True while nothing at all may be sent to the peer, by a cap of this box.
    pub(super) fn is_paused(&self, shaper: &Shaper) -> bool {
        [None, Some(self.node)].into_iter().any(|of| shaper.own_limit(of).is_some_and(|limit| limit.is_paused()))
    }

    /// True while no data may be sent to the peer, by a cap of this box or because the peer wants none.
    pub(super) fn stands_still(&self, shaper: &Shaper) -> bool {
        self.hold.is_held() || self.is_paused(shaper)
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

/// What dialling has taught, since the box started.
#[derive(Debug, Default)]
struct Memory {
    last_good: Option<PeerAddress>,
    round_trips: VecDeque<(SocketAddr, Duration)>,
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
