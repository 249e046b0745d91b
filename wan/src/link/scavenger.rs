//! How much may be under way for traffic that yields to everybody: a congestion controller for connections of the class scavenger.
//!
//! *Yielding* takes what nobody else on the line wants. Like LEDBAT (RFC 6817) and LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) it goes by
//! the delay that a queue adds to the shortest round trip: above a target somebody is there, and it shrinks faster than others do; below it grows. What is different, and why:
//!
//! * **The target is low**: 5 ms, and what three packets and a 32nd of the round trip take, instead of 60 ms. Branch lines often have queues shorter than 60 ms, in
//!   which LEDBAT would never see its target; and our own controller ([`super::congestion`]) keeps a queue of some ten milliseconds. The delay is the *least* of a
//!   round, not of single packets, so jitter does not look like company.
//! * **Loss** by itself says nothing on a lossy line. It counts where it is above the usual of the line by 4 %, or where a queue goes with it, which in a shallow one only the mean of a round shows.
//! * **Growth** doubles from round to round while the line is empty, up to a 16th of the window, and begins anew with one packet after every shrinking: so a line
//!   that was left is filled within some twenty rounds, and beside company every attempt is small.
//! * **Slowdowns** (LEDBAT++, section 4.4): after the start, and then after nine times as long as the last one took, it holds two packets for two rounds, so
//!   that who came later sees the true round trip, and so does it. That costs a tenth of an otherwise empty line.
//!
//! It never goes below two packets a round trip: QUIC's own rule, and a trickle that shows when the line is empty again.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// The queue that is tolerated, besides what packets and the line's length make.
const TARGET: Duration = Duration::from_millis(5);
/// Packets that may be in the queue by themselves: some are always sent together.
const TARGET_PACKETS: u64 = 3;
/// quinn sends while what is under way and one packet more are below the window: of three, two are under way, which are acknowledged at
/// once ([`super::transport::transport_of`]); one alone would wait for the acknowledgement's timer and look like a queue.
const WINDOW_MIN_PACKETS: u64 = 3;
const WINDOW_INITIAL_PACKETS: u64 = 4;
const WINDOW_MAX: u64 = 1 << 30;
/// The shortest round trip is that of so many slowdowns: a route may become longer.
const BASES: usize = 8;
/// Rounds of two packets in a slowdown.
const SLOW_ROUNDS: u32 = 2;
/// A slowdown comes after so many times as long as the last one took, with the growing again.
const SLOW_EVERY: u32 = 9;
/// Loss beyond the usual that is taken for an overflowing queue, in thousandths.
const EXCESS_LOSS_MILLI: u64 = 40;
/// Packets that a round needs before its loss says anything.
const TELLING_PACKETS: u64 = 20;
/// Rounds whose loss is remembered.
const LOSS_ROUNDS: usize = 16;
/// No round is shorter: acknowledgements come in lumps.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// Makes a [`Yielding`] for every connection.
#[derive(Debug, Default)]
pub struct YieldingFactory;

impl ControllerFactory for YieldingFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Yielding::new(now, current_mtu))
    }
}

/// The controller. See the module.
#[derive(Clone, Debug)]
pub struct Yielding {
    mtu: u64,
    window: u64,
    phase: Phase,
    round: Round,
    /// The shortest round trip since each of the last slowdowns; the newest last.
    bases: VecDeque<Duration>,
    /// The loss of the last rounds, in thousandths.
    losses: VecDeque<u64>,
    /// By how much the window grows next.
    step: u64,
    /// The window to come back to after a slowdown.
    before: u64,
    /// When the next slowdown is due, once that is known.
    slow_at: Option<Instant>,
    bytes_per_second: u64,
    /// The most that any round delivered: what a packet takes on this line.
    fastest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubling, up to what was there before a slowdown that began then.
    Start { slowed: Option<Instant> },
    /// By the delay.
    Follow,
    /// Two packets, for so many rounds more.
    Slow { rounds: u32, since: Instant },
}

#[derive(Clone, Debug)]
struct Round {
    began: Instant,
    delivered: u64,
    lost: u64,
    packets: u64,
    round_trip: Option<Duration>,
    round_trips: Duration,
    app_limited: bool,
    over: bool,
}

impl Round {
    fn new(began: Instant) -> Round {
        let round_trips = Duration::ZERO;
        Round {
            began,
            delivered: 0,
            lost: 0,
            packets: 0,
            round_trip: None,
            round_trips,
            app_limited: true,
            over: false,
        }
    }

    fn mean(&self) -> Duration {
        u32::try_from(self.packets).ok().and_then(|packets| self.round_trips.checked_div(packets)).unwrap_or_default()
    }

    fn loss_milli(&self) -> Option<u64> {
        (self.packets >= TELLING_PACKETS).then(|| self.lost * 1000 / (self.lost + self.delivered).max(1))
    }
}

impl Yielding {
    /// A controller that knows nothing of the line yet.
    pub fn new(now: Instant, mtu: u16) -> Yielding {
        let mtu = u64::from(mtu);
        Yielding {
            mtu,
            window: WINDOW_INITIAL_PACKETS * mtu,
            phase: Phase::Start { slowed: None },
            round: Round::new(now),
            bases: VecDeque::new(),
            losses: VecDeque::new(),
            step: mtu,
            before: WINDOW_MAX,
            slow_at: None,
            bytes_per_second: 0,
            fastest: 0,
        }
    }

    /// What was delivered in the last round, in bytes per second; zero before the first.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    fn base(&self) -> Option<Duration> {
        self.bases.iter().min().copied()
    }

    fn see(&mut self, sample: Duration) {
        match self.bases.back_mut() {
            Some(newest) => *newest = sample.min(*newest),
            None => self.bases.push_back(sample),
        }
        self.round.round_trip = Some(self.round.round_trip.map_or(sample, |least| least.min(sample)));
    }

    /// How long the queue may make a packet wait.
    fn target(&self, base: Duration) -> Duration {
        let packets = (TARGET_PACKETS * self.mtu).saturating_mul(1_000_000_000) / self.fastest.max(1);
        TARGET + base / 32 + Duration::from_nanos(packets).min(base + Duration::from_millis(400))
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        let nanos = now.saturating_duration_since(round.began).as_nanos().max(1);
        self.bytes_per_second = u64::try_from(u128::from(round.delivered) * 1_000_000_000 / nanos).unwrap_or(u64::MAX);
        self.fastest = self.fastest.max(self.bytes_per_second);
        let usual = self.losses.iter().min().copied();
        if let Some(loss) = round.loss_milli() {
            self.losses.push_back(loss);
            if self.losses.len() > LOSS_ROUNDS {
                self.losses.pop_front();
            }
        }
        let (Some(base), Some(least)) = (self.base(), round.round_trip) else { return };
        let (queue, target) = (least.saturating_sub(base), self.target(base));
        let excess = round.loss_milli().unwrap_or(0).saturating_sub(usual.unwrap_or(0));
        let crowded = excess > EXCESS_LOSS_MILLI || (round.lost > 0 && round.mean().saturating_sub(base) > target);
        match self.phase {
            Phase::Slow { rounds: 0 | 1, since } => self.phase = Phase::Start { slowed: Some(since) },
            Phase::Slow { rounds, since } => self.phase = Phase::Slow { rounds: rounds - 1, since },
            Phase::Start { slowed } if queue > target * 3 / 4 || crowded || self.window >= self.before => {
                self.begin_to_follow(now, slowed, queue > target || crowded);
            }
            // Where little is sent nothing is learned.
            _ if round.app_limited => {}
            Phase::Start { .. } => {}
            Phase::Follow => self.follow(now, queue, target, crowded),
        }
    }

    fn begin_to_follow(&mut self, now: Instant, slowed: Option<Instant>, queued: bool) {
        if queued {
            self.window = self.bounded(self.window / 2);
        }
        self.phase = Phase::Follow;
        self.step = self.mtu;
        let round_trip = self.base().unwrap_or_default();
        self.slow_at = Some(match slowed {
            Some(since) => now + now.saturating_duration_since(since) * SLOW_EVERY,
            None => now + 2 * round_trip,
        });
    }

    fn follow(&mut self, now: Instant, queue: Duration, target: Duration, crowded: bool) {
        if self.slow_at.is_some_and(|slow_at| now >= slow_at) {
            self.before = self.window;
            self.phase = Phase::Slow { rounds: SLOW_ROUNDS, since: now };
            self.window = self.bounded(0);
            // What was seen before the last slowdowns is forgotten in the end.
            self.bases.extend(self.base());
            if self.bases.len() > BASES {
                self.bases.pop_front();
            }
            if let Some(newest) = self.bases.back_mut() {
                *newest = Duration::MAX;
            }
            return;
        }
        if queue > target || crowded {
            // By half at twice the target and beyond.
            let over = (queue.as_nanos() * 1000 / target.as_nanos().max(1)).clamp(1000, 2000);
            let keeps = if crowded { 500 } else { 1500 - u64::try_from(over).unwrap_or(2000) / 2 };
            self.window = self.bounded(self.window * keeps.min(900) / 1000);
            self.step = self.mtu;
        } else if queue < target * 3 / 4 {
            self.window = self.bounded(self.window + self.step);
            self.step = (self.step * 2).min((self.window / 16).max(self.mtu));
        } else {
            self.step = self.mtu;
        }
    }

    /// One packet was acknowledged.
    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        self.round.delivered += bytes;
        self.round.packets += 1;
        self.round.app_limited &= app_limited;
        self.round.over |= sent >= self.round.began;
        let sample = now.saturating_duration_since(sent);
        self.round.round_trips += sample;
        self.see(sample);
        if matches!(self.phase, Phase::Start { .. }) && !app_limited {
            let most = self.before.max(WINDOW_INITIAL_PACKETS * self.mtu);
            self.window = self.bounded((self.window + bytes).min(most));
        }
    }

    fn bounded(&self, window: u64) -> u64 {
        window.clamp(WINDOW_MIN_PACKETS * self.mtu, WINDOW_MAX)
    }
}

impl Controller for Yielding {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _rtt: &RttEstimator) {
        self.acked(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        if self.round.over && now.saturating_duration_since(self.round.began) >= ROUND_MIN {
            self.end_round(now);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, persistent: bool, lost_bytes: u64) {
        self.round.lost += lost_bytes;
        if persistent {
            let fresh = Yielding::new(now, u16::try_from(self.mtu).unwrap_or(u16::MAX));
            *self = Yielding { bases: std::mem::take(&mut self.bases), window: self.bounded(0), ..fresh };
        } else if lost_bytes == 0 {
            // A router marked instead of dropping (ECN, RFC 3168): somebody waits.
            self.window = self.bounded(self.window / 2);
            self.step = self.mtu;
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.bounded(self.window);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window;
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW_INITIAL_PACKETS * self.mtu
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn the_window_is_never_zero_and_never_boundless() {
        let mut rng = SmallRng::seed_from_u64(5);
        let mut now = Instant::now();
        let mut yielding = Yielding::new(now, 1200);
        for _ in 0..200_000 {
            now += Duration::from_micros(rng.random_range(0..50_000));
            match rng.random_range(0..8) {
                0 => yielding.on_congestion_event(now, now, rng.random_bool(0.01), rng.random_range(0..3_000_000)),
                1 => yielding.on_mtu_update(rng.random_range(1200..9000)),
                2 => yielding.on_end_acks(now, 0, rng.random(), None),
                _ => {
                    let sent = now.checked_sub(Duration::from_micros(rng.random_range(0..2_000_000))).unwrap_or(now);
                    yielding.acked(now, sent, rng.random_range(0..20_000), rng.random());
                }
            }
            let bounds = WINDOW_MIN_PACKETS * yielding.mtu..=WINDOW_MAX;
            assert!(bounds.contains(&yielding.window()), "{}", yielding.window());
        }
    }

    /// A round of packets that all took so long.
    fn round(yielding: &mut Yielding, now: &mut Instant, takes: Duration) {
        let sent = *now;
        *now += takes.max(ROUND_MIN);
        for _ in 0..30 {
            yielding.acked(*now, sent.max(yielding.round.began), 1200, false);
            let last = now.checked_sub(takes).unwrap_or(*now);
            yielding.see(now.saturating_duration_since(last));
        }
        yielding.on_end_acks(*now, 0, false, None);
    }

    #[test]
    fn a_queue_makes_it_small_within_a_few_rounds() {
        let mut now = Instant::now();
        let mut yielding = Yielding::new(now, 1200);
        (0..40).for_each(|_| round(&mut yielding, &mut now, Duration::from_millis(50)));
        yielding.phase = Phase::Follow;
        yielding.slow_at = None;
        yielding.window = 400 * 1200;
        (0..10).for_each(|_| round(&mut yielding, &mut now, Duration::from_millis(90)));
        assert!(yielding.window() <= 10 * 1200, "{}", yielding.window());
    }
}
