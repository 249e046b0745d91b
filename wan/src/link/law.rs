//! What the laws of congestion control have in common: how quinn calls them, and what a round of acknowledgements shows.
//!
//! A *law* ([`Law`]) says how much may be under way, from what was sent, acknowledged and lost. [`Governed`] puts it into a connection, and
//! [`Laws`] into every connection of a transport. It asks for no time and does nothing by itself.

use std::any::Any;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::hold::Gate;

/// Packets that a round needs before its loss says anything.
pub(super) const TELLING_PACKETS: u64 = 20;

/// How much may be under way.
pub trait Law: Clone + Debug + Send + Sync + 'static {
    /// The first window, in packets.
    const INITIAL_PACKETS: u64;

    /// One that knows nothing of the line yet.
    fn begin(now: Instant, mtu: u16) -> Self;

    /// A packet leaves.
    fn sent(&mut self, _now: Instant, _bytes: u64) {}

    /// One packet was acknowledged; `app_limited` where there was not always something to send.
    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool);

    /// All packets of one acknowledgement were told.
    fn heard(&mut self, now: Instant, app_limited: bool);

    /// So many bytes were lost, the last of which was sent then; all for long where it is `persistent` (RFC 9002, section 7.6), and none
    /// where a router marked packets instead (ECN, RFC 3168).
    fn lost(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64);

    /// Packets are so long now.
    fn set_mtu(&mut self, mtu: u16);

    /// How long packets are.
    fn mtu(&self) -> u64;

    /// What may be under way, in bytes.
    fn window(&self) -> u64;

    /// What loss bounds it to, where it does.
    fn ceiling(&self) -> Option<u64> {
        None
    }
}

/// Makes the law of a connection, and another one behind the same gate for every path that it moves to. For one connection each.
#[derive(Debug)]
pub struct Laws<L> {
    gate: Arc<Gate>,
    law: PhantomData<fn() -> L>,
}

impl<L> Default for Laws<L> {
    fn default() -> Self {
        Laws { gate: Arc::default(), law: PhantomData }
    }
}

impl<L: Law> ControllerFactory for Laws<L> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Governed { law: L::begin(now, current_mtu), gate: self.gate.clone() })
    }
}

/// Less than any packet: nothing more may be under way.
const SHUT: u64 = 1;

/// A law as quinn's controller.
#[derive(Clone, Debug)]
pub struct Governed<L> {
    /// It says how much may be under way,
    pub(super) law: L,
    /// unless the peer wants nothing.
    pub(super) gate: Arc<Gate>,
}

impl<L: Law> Controller for Governed<L> {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last: u64) {
        self.law.sent(now, bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.law.acked(now, sent, bytes, app_limited || self.gate.is_shut());
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, app_limited: bool, _largest: Option<u64>) {
        self.law.heard(now, app_limited || self.gate.is_shut());
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.law.lost(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.law.set_mtu(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.gate.is_shut() { SHUT } else { self.law.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        (metrics.congestion_window, metrics.ssthresh) = (self.law.window(), self.law.ceiling());
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        L::INITIAL_PACKETS * self.law.mtu()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The round under way: from a moment until a packet is acknowledged that was sent after it.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub began: Instant,
    /// Bytes that were acknowledged, and bytes that were lost.
    pub delivered: u64,
    pub lost: u64,
    /// Packets that were acknowledged, and what they took.
    pub packets: u64,
    pub round_trips: Duration,
    pub shortest: Option<Duration>,
    pub longest: Duration,
    /// There was not always something to send.
    pub app_limited: bool,
    /// A packet sent in this round has been acknowledged.
    pub over: bool,
}

impl Round {
    /// One that begins now.
    pub fn new(began: Instant, app_limited: bool) -> Self {
        Round {
            began,
            delivered: 0,
            lost: 0,
            packets: 0,
            round_trips: Duration::ZERO,
            shortest: None,
            longest: Duration::ZERO,
            app_limited,
            over: false,
        }
    }

    /// A packet was acknowledged. Returns what it took.
    pub fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) -> Duration {
        let sample = now.saturating_duration_since(sent);
        self.delivered += bytes;
        self.packets += 1;
        self.app_limited &= app_limited;
        self.round_trips += sample;
        self.shortest = Some(self.shortest.map_or(sample, |shortest| shortest.min(sample)));
        self.longest = self.longest.max(sample);
        self.over |= sent >= self.began;
        sample
    }

    /// What packets took on average.
    pub fn mean(&self) -> Duration {
        u32::try_from(self.packets).ok().and_then(|packets| self.round_trips.checked_div(packets)).unwrap_or_default()
    }

    /// What was lost, in thousandths.
    pub fn loss_milli(&self) -> u64 {
        self.lost * 1000 / (self.lost + self.delivered).max(1)
    }

    /// The same, where there were enough packets to tell.
    pub fn telling_loss_milli(&self) -> Option<u64> {
        (self.packets >= TELLING_PACKETS).then(|| self.loss_milli())
    }
}
