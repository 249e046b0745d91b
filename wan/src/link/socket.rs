//! The shaped UDP socket: below QUIC, above the kernel, the one place that every datagram passes.
//!
//! [`ShapedSocket`] wraps any [`AsyncUdpSocket`] (the real one, [`MarkingSocket`], or a simulated one in tests). Before a
//! transmission it asks the [`Shaper`]; where the answer is "later" it says "would block", as a full socket buffer
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
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::Sleep;

use super::lane::{self, Lane};
use super::shaper::{canonical, datagrams};
use super::udp::MarkingSocket;
use crate::shape::{Class, NodeId, Verdict};

pub use super::shaper::{Counters, Granting, Shaper, Watch};

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
