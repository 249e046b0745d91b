//! The shaped UDP socket: below QUIC, above the kernel, the one place that every datagram passes.
//!
//! [`ShapedSocket`] wraps any [`AsyncUdpSocket`] (the real one, [`MarkingSocket`], or a simulated one in tests). Before a
//! transmission it asks the [`Tree`] of caps; where the answer is "later" it says "would block", as a full socket buffer
//! does, and wakes the connection when credit is there or the cap has changed. quinn then holds one transmission, so nothing
//! queues up below QUIC and nothing is lost by waiting. Answers that belong to no connection (version negotiation, stateless
//! resets) are dropped instead, which QUIC allows.
//!
//! What it promises: every datagram that leaves was allowed by the caps and is counted, with its headers: UDP payload +
//! 28 bytes (IPv4) or 48 (IPv6) + the configured extra, for each segment of a batch. What arrives is counted likewise.
//! It never reads a payload.
//!
//! **How a connection learns what it waits for.** quinn calls `try_send` without saying which connection sends, and then
//! `poll_writable` without saying what was refused. Both happen in one synchronous step of one task
//! (`State::drive_transmit`), so a thread-local carries the refusal from the one to the other: `poll_writable` that answers
//! "ready" leaves its name, the next `try_send` on this thread takes the name, and leaves a refusal under it. A `try_send`
//! without a name (an answer to a stranger) leaves nothing. The tests over simulated lines hang or
//! break the cap should quinn ever change that order.
//!
//! **What class a datagram has.** QUIC puts frames of many streams into one datagram, so the class belongs to the connection: each has a
//! [`Lane`], which is handed to whoever makes the connection ([`lane::making`]) and says what its datagrams count as.
//!
//! **Whose a datagram is.** The lane says that, too, as soon as the connection has proved a key or was dialled to a peer: a NAT may give the peer
//! another address at any moment, and that lifts no cap. Where it goes counts only for datagrams of connections that belong to nobody yet, and
//! of none. What arrives is counted by where it comes from; from a new address it is a stranger's until the next look at the connection
//! ([`Shaper::route`]), and then the peer's.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep};

use super::lane::{self, Lane};
use super::udp::MarkingSocket;
use crate::shape::{Class, NodeId, Rate, Tally, Tree, Verdict, WatchId, filling};

/// IPv4 (20) and UDP (8).
const HEADERS_V4: u64 = 28;
/// IPv6 (40) and UDP (8).
const HEADERS_V6: u64 = 48;
/// Datagrams to strangers are remembered for so many addresses, until one of them proves a key.
const STRANGERS_MAX: usize = 64;
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
    began: Instant,
    extra_bytes: u64,
    segments_max: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    routes: BTreeMap<SocketAddr, NodeId>,
    strangers: VecDeque<Stranger>,
    waiting: BTreeMap<u64, Waker>,
    next_poller: u64,
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
struct Stranger {
    address: SocketAddr,
    sent: (u64, u64),
    received: (u64, u64),
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

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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

    fn wire_bytes(&self, address: SocketAddr, payload: usize, datagrams: u64) -> u64 {
        let headers = if canonical(address).is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        payload as u64 + datagrams * (headers + self.extra_bytes)
    }

    fn received(&self, meta: &RecvMeta) {
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
    fn node_of(&self, address: SocketAddr) -> NodeId {
        self.routes.get(&address).copied().unwrap_or(NodeId::STRANGERS)
    }

    /// The entry of a stranger. Addresses can be forged, so only the latest are kept.
    fn stranger(&mut self, address: SocketAddr) -> &mut Stranger {
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

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn datagrams(bytes: usize, segment: Option<usize>) -> u64 {
    match segment {
        Some(segment) if segment > 0 => bytes.div_ceil(segment).max(1) as u64,
        _ => 1,
    }
}

/// A transmission that was refused.
#[derive(Clone, Copy, Debug)]
struct Wish {
    node: NodeId,
    class: Class,
    bytes: u64,
}

/// Who is about to send: a poller, and what its connection's lane says.
#[derive(Clone, Copy, Debug)]
struct Ready {
    poller: u64,
    class: Class,
    peer: Option<NodeId>,
}

/// A refusal on its way from `try_send` to `poll_writable`.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    poller: u64,
    wish: Wish,
}

thread_local! {
    /// The poller that answered "ready" last on this thread, until a `try_send` takes it.
    static READY: Cell<Option<Ready>> = const { Cell::new(None) };
    /// What that `try_send` was refused.
    static REFUSED: Cell<Option<Refusal>> = const { Cell::new(None) };
}

/// A socket under caps. See the module.
#[derive(Debug)]
pub struct ShapedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    /// The same, where it can mark classes.
    marking: Option<Arc<MarkingSocket>>,
    shaper: Arc<Shaper>,
}

impl ShapedSocket {
    /// Puts `inner` under the caps of `shaper`.
    pub fn new(inner: Arc<dyn AsyncUdpSocket>, shaper: Arc<Shaper>) -> Arc<ShapedSocket> {
        Arc::new(ShapedSocket { inner, marking: None, shaper })
    }

    /// The same for a socket that marks datagrams by their class.
    pub fn marking(inner: Arc<MarkingSocket>, shaper: Arc<Shaper>) -> Arc<ShapedSocket> {
        Arc::new(ShapedSocket { inner: inner.clone(), marking: Some(inner), shaper })
    }

    fn send(&self, class: Class, transmit: &Transmit<'_>) -> io::Result<()> {
        match &self.marking {
            Some(marking) => marking.try_send_as(class, transmit),
            None => self.inner.try_send(transmit),
        }
    }
}

impl AsyncUdpSocket for ShapedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let mut state = self.shaper.lock();
        let id = state.next_poller;
        state.next_poller += 1;
        drop(state);
        let inner = self.inner.clone().create_io_poller();
        Box::pin(ShapedPoller {
            id,
            lane: lane::of_new_poller(),
            inner,
            shaper: self.shaper.clone(),
            refused: None,
            sleep: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let ready = READY.take();
        // What belongs to no connection answers somebody who waits.
        let class = ready.map_or(Class::Control, |ready| ready.class);
        let datagrams = datagrams(transmit.contents.len(), transmit.segment_size);
        let bytes = self.shaper.wire_bytes(transmit.destination, transmit.contents.len(), datagrams);
        let (now, address) = (self.shaper.now(), canonical(transmit.destination));
        let mut state = self.shaper.lock();
        let node = ready.and_then(|ready| ready.peer).unwrap_or_else(|| state.node_of(address));
        match state.tree.check(now, node, class, bytes) {
            Verdict::Now => self.send(class, transmit)?,
            // As a queue in the network would; QUIC sends again what matters, in smaller pieces.
            Verdict::TooBig => return Ok(()),
            Verdict::At(_) | Verdict::Paused => {
                REFUSED.set(ready.map(|Ready { poller, .. }| Refusal { poller, wish: Wish { node, class, bytes } }));
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        state.tree.charge(now, node, class, bytes, datagrams);
        if node == NodeId::STRANGERS {
            let sent = &mut state.stranger(address).sent;
            *sent = (sent.0 + bytes, sent.1 + datagrams);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        meta.iter().take(count).for_each(|meta| self.shaper.received(meta));
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.shaper.segments_max.load(Ordering::Relaxed))
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Waits for one connection until the socket and the caps allow what was refused.
struct ShapedPoller {
    id: u64,
    lane: Lane,
    inner: Pin<Box<dyn UdpPoller>>,
    shaper: Arc<Shaper>,
    refused: Option<Wish>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl ShapedPoller {
    /// Ready where the refused bytes may leave; else registers for the moment when they may, and for any change of caps.
    fn poll_credit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(Wish { node, class, bytes }) = self.refused else { return Poll::Ready(()) };
        loop {
            let now = self.shaper.now();
            let mut state = self.shaper.lock();
            let when = match state.tree.check(now, node, class, bytes) {
                Verdict::Now | Verdict::TooBig => {
                    state.waiting.remove(&self.id);
                    self.refused = None;
                    return Poll::Ready(());
                }
                Verdict::At(when) => Some(when),
                Verdict::Paused => None,
            };
            state.waiting.insert(self.id, cx.waker().clone());
            drop(state);
            let Some(deadline) = when.map(|when| self.shaper.began + when) else { return Poll::Pending };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            sleep.as_mut().reset(deadline);
            ready!(sleep.as_mut().poll(cx));
        }
    }
}

impl UdpPoller for ShapedPoller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(refusal) = REFUSED.take()
            && refusal.poller == self.id
        {
            self.refused = Some(refusal.wish);
        }
        ready!(self.inner.as_mut().poll_writable(cx))?;
        ready!(self.poll_credit(cx));
        READY.set(Some(Ready { poller: self.id, class: self.lane.class(), peer: self.lane.peer() }));
        Poll::Ready(Ok(()))
    }
}

impl Drop for ShapedPoller {
    fn drop(&mut self) {
        self.shaper.lock().waiting.remove(&self.id);
    }
}

impl std::fmt::Debug for ShapedPoller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShapedPoller").field("id", &self.id).field("refused", &self.refused).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
