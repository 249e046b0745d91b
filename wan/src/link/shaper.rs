//! The caps and counters of a socket: whose a datagram is, whether it may leave, and what has left and arrived.
//!
//! A [`Shaper`] is what [`super::socket::ShapedSocket`] asks, and what everybody else rules it by. It holds the [`Tree`] of caps, knows which
//! address is which peer's, and keeps who waits for credit until a cap changes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use quinn::udp::RecvMeta;
use tokio::time::Instant;

use crate::shape::{Class, NodeId, Rate, Tally, Tree, WatchId, filling};

/// IPv4 (20) and UDP (8).
const HEADERS_V4: u64 = 28;
/// IPv6 (40) and UDP (8).
const HEADERS_V6: u64 = 48;
/// Datagrams to strangers are remembered for so many addresses, until one of them proves a key.
pub(super) const STRANGERS_MAX: usize = 64;
/// The cap that all strangers share.
const STRANGERS_RATE_BITS: u64 = 1_000_000;
/// What QUIC needs a path to take (RFC 9000, section 14).
const PAYLOAD_MIN: usize = 1200;
/// What every path takes, with its headers.
const SAFE_DATAGRAM: u64 = 1280;
/// Wire size of a full datagram, for turning bytes into segments.
const FULL_DATAGRAM: u64 = 1500;

/// Wire bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What left.
    pub sent: Tally,
    /// What arrived.
    pub received: Tally,
}

/// A stretch of counting that was begun with [`Shaper::watch`].
#[derive(Debug)]
pub struct Watch {
    node: NodeId,
    sent: WatchId,
    received: WatchId,
}

/// The caps and counters of a socket, shared with whoever rules it. Every method may be called from any thread.
#[derive(Debug)]
pub struct Shaper {
    pub(super) began: Instant,
    extra_bytes: u64,
    pub(super) segments_max: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) tree: Tree,
    routes: BTreeMap<SocketAddr, NodeId>,
    pub(super) strangers: VecDeque<Stranger>,
    /// Who waits for credit, by the number of its poller.
    pub(super) waiting: BTreeMap<u64, Waker>,
    pub(super) next_poller: u64,
    /// Of each peer, what was granted last by each source, the newest source last.
    granting: BTreeMap<NodeId, BTreeMap<u64, Option<Rate>>>,
    next_granting: u64,
}

/// Where a peer's grants come from: of several, the newest counts.
#[derive(Clone, Copy, Debug)]
pub struct Granting {
    node: NodeId,
    number: u64,
}

/// What went to and came from an address that has not proved a key yet: (bytes, datagrams).
#[derive(Debug)]
pub(super) struct Stranger {
    address: SocketAddr,
    pub(super) sent: (u64, u64),
    pub(super) received: (u64, u64),
}

impl Shaper {
    /// Caps and counters for one socket. `extra_bytes` are added to every datagram: what the line below adds to IP
    /// (Ethernet 18, PPPoE 8, a VPN's headers), at most 200.
    pub fn new(limit: Option<Rate>, extra_bytes: u64) -> Arc<Shaper> {
        Arc::new(Shaper {
            began: Instant::now(),
            extra_bytes: extra_bytes.min(200),
            segments_max: AtomicUsize::new(usize::MAX),
            state: Mutex::new(State {
                tree: Tree::new(limit, Rate::from_bits(STRANGERS_RATE_BITS).ok()),
                routes: BTreeMap::new(),
                strangers: VecDeque::new(),
                waiting: BTreeMap::new(),
                next_poller: 0,
                granting: BTreeMap::new(),
                next_granting: 0,
            }),
        })
        .with_segments()
    }

    fn with_segments(self: Arc<Self>) -> Arc<Self> {
        self.limits_changed(self.lock());
        self
    }

    /// Adds a peer under its cap.
    pub fn add_peer(&self, limit: Option<Rate>) -> NodeId {
        let mut state = self.lock();
        let node = state.tree.add(limit);
        self.limits_changed(state);
        node
    }

    /// Forgets a peer and its addresses.
    pub fn remove_peer(&self, node: NodeId) {
        let mut state = self.lock();
        state.tree.remove(node);
        state.granting.remove(&node);
        state.routes.retain(|_, routed| *routed != node);
        self.limits_changed(state);
    }

    /// From now on datagrams to and from this address count as this peer's; those of the stranger it was until now are
    /// charged to the peer, so that connecting is under its cap too.
    pub fn route(&self, address: SocketAddr, node: NodeId) {
        let now = self.now();
        let address = canonical(address);
        let mut state = self.lock();
        if state.routes.insert(address, node).is_some() {
            return;
        }
        if let Some(at) = state.strangers.iter().position(|stranger| stranger.address == address)
            && let Some(known) = state.strangers.remove(at)
        {
            state.tree.recognise(now, node, known.sent, known.received);
        }
    }

    /// The address is a stranger's again.
    pub fn unroute(&self, address: SocketAddr) {
        self.lock().routes.remove(&canonical(address));
    }

    /// Changes the cap of the box (`None`) or of a peer. It counts from the next datagram on; who waits is asked again.
    pub fn set_limit(&self, of: Option<NodeId>, limit: Option<Rate>) {
        let now = self.now();
        let mut state = self.lock();
        let before = state.tree.limit(of);
        state.tree.set_limit(now, of, limit);
        if state.tree.limit(of) != before {
            self.limits_changed(state);
        }
    }

    /// A source of a peer's grants begins: one of its connections. Those of an earlier one count until the first of this one.
    pub fn begin_granting(&self, node: NodeId) -> Granting {
        let mut state = self.lock();
        let number = state.next_granting;
        state.next_granting += 1;
        Granting { node, number }
    }

    /// The peer grants us a rate (`None`: any) from the next datagram on. Without effect while a newer source has a word.
    pub fn set_granted(&self, by: Granting, granted: Option<Rate>) {
        let mut state = self.lock();
        state.granting.entry(by.node).or_default().insert(by.number, granted);
        self.newest_grants(state, by.node);
    }

    /// A source has ended, and what it granted: that of the newest of the others counts.
    pub fn end_granting(&self, by: Granting) {
        let mut state = self.lock();
        if let Some(sources) = state.granting.get_mut(&by.node) {
            sources.remove(&by.number);
            self.newest_grants(state, by.node);
        }
    }

    fn newest_grants(&self, mut state: MutexGuard<'_, State>, node: NodeId) {
        let granted =
            state.granting.get(&node).and_then(|sources| sources.last_key_value()).and_then(|(_, last)| *last);
        if state.tree.granted(node) != granted {
            state.tree.set_granted(self.now(), node, granted);
            self.limits_changed(state);
        }
    }

    /// What a peer grants.
    pub fn granted(&self, node: NodeId) -> Option<Rate> {
        self.lock().tree.granted(node)
    }

    /// The cap of the box (`None`) or of a peer: the lower of what was set and what the peer grants.
    pub fn limit(&self, of: Option<NodeId>) -> Option<Rate> {
        self.lock().tree.limit(of)
    }

    /// The cap of the box (`None`) or of a peer that was set here, whatever the peer grants.
    pub fn own_limit(&self, of: Option<NodeId>) -> Option<Rate> {
        self.lock().tree.own_limit(of)
    }

    /// The payload that datagrams to an address should have for them to fill the cap that they are under, where so few fit into a second
    /// that it matters: to begin with, and at most. The former every path takes (1280 bytes with headers, RFC 8200, section 5).
    pub fn filling_payloads(&self, address: SocketAddr) -> Option<(u16, u16)> {
        let of = self.lock().node_of(canonical(address));
        let limit = [self.limit(None), self.limit(Some(of))].into_iter().flatten().min()?;
        let least = self.wire_bytes(address, PAYLOAD_MIN, 1);
        let [safe, most] = [SAFE_DATAGRAM, FULL_DATAGRAM].map(|most| most + self.extra_bytes);
        let length = filling(limit, least..=safe).or_else(|| filling(limit, least..=most))?;
        let payload = |length| u16::try_from(PAYLOAD_MIN as u64 + length - least).ok();
        Some((payload(length.min(safe))?, payload(length)?))
    }

    /// Everything that the box (`None`) or a peer has sent and received since the socket was made.
    pub fn counters(&self, of: Option<NodeId>) -> Counters {
        let mut state = self.lock();
        let (sent, received) = state.tree.meters(of);
        Counters { sent: sent.total(), received: received.total() }
    }

    /// What was sent to a peer in the second that ends now, in bits per second.
    pub fn bits_per_second(&self, node: NodeId) -> u64 {
        let now = self.now();
        self.lock().tree.meters(Some(node)).0.last_second_bytes(now).saturating_mul(8)
    }

    /// What came from the box's peers and strangers (`None`), or from a peer, in the second that ends now, in bits per second.
    pub fn received_bits_per_second(&self, of: Option<NodeId>) -> u64 {
        let now = self.now();
        self.lock().tree.meters(of).1.last_second_bytes(now).saturating_mul(8)
    }

    /// Wire bytes that were sent to a peer, by class, in the order of [`Class::ALL`].
    pub fn sent_by_class(&self, node: NodeId) -> [u64; Class::ALL.len()] {
        self.lock().tree.sent_by_class(node)
    }

    /// Begins counting for one job with a peer.
    pub fn watch(&self, node: NodeId) -> Watch {
        let mut state = self.lock();
        let (sent, received) = state.tree.meters(Some(node));
        Watch { node, sent: sent.watch(), received: received.watch() }
    }

    /// What a watch has seen so far.
    pub fn seen(&self, watch: &Watch) -> Counters {
        let mut state = self.lock();
        let (sent, received) = state.tree.meters(Some(watch.node));
        Counters { sent: sent.seen(watch.sent), received: received.seen(watch.received) }
    }

    /// Ends a watch.
    pub fn unwatch(&self, watch: Watch) -> Counters {
        let mut state = self.lock();
        let (sent, received) = state.tree.meters(Some(watch.node));
        Counters { sent: sent.unwatch(watch.sent), received: received.unwatch(watch.received) }
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain numbers; a panic elsewhere does not make them less true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits_changed(&self, mut state: MutexGuard<'_, State>) {
        let segments = state.tree.transmission_bytes_max().map_or(u64::MAX, |bytes| bytes / FULL_DATAGRAM);
        self.segments_max.store(usize::try_from(segments).unwrap_or(usize::MAX).max(1), Ordering::Relaxed);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    pub(super) fn wire_bytes(&self, address: SocketAddr, payload: usize, datagrams: u64) -> u64 {
        let headers = if canonical(address).is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        payload as u64 + datagrams * (headers + self.extra_bytes)
    }

    pub(super) fn received(&self, meta: &RecvMeta) {
        let datagrams = datagrams(meta.len, Some(meta.stride));
        let bytes = self.wire_bytes(meta.addr, meta.len, datagrams);
        let (now, address) = (self.now(), canonical(meta.addr));
        let mut state = self.lock();
        let node = state.node_of(address);
        state.tree.count_received(now, node, bytes, datagrams);
        if node == NodeId::STRANGERS {
            let received = &mut state.stranger(address).received;
            *received = (received.0 + bytes, received.1 + datagrams);
        }
    }
}

impl State {
    pub(super) fn node_of(&self, address: SocketAddr) -> NodeId {
        self.routes.get(&address).copied().unwrap_or(NodeId::STRANGERS)
    }

    /// The entry of a stranger. Addresses can be forged, so only the latest are kept.
    pub(super) fn stranger(&mut self, address: SocketAddr) -> &mut Stranger {
        let entry = match self.strangers.iter().position(|stranger| stranger.address == address) {
            Some(at) => self.strangers.remove(at),
            None => None,
        };
        if self.strangers.len() >= STRANGERS_MAX {
            self.strangers.pop_front();
        }
        self.strangers.push_back(entry.unwrap_or(Stranger { address, sent: (0, 0), received: (0, 0) }));
        let last = self.strangers.len() - 1;
        &mut self.strangers[last]
    }
}

pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

pub(super) fn datagrams(bytes: usize, segment: Option<usize>) -> u64 {
    match segment {
        Some(segment) if segment > 0 => bytes.div_ceil(segment).max(1) as u64,
        _ => 1,
    }
}
