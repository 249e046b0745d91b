//! How much may be under way for traffic that yields to everybody: a congestion controller for connections of the class scavenger.
//!
//! *Yielding* takes what nobody else on the line wants. Like LEDBAT (RFC 6817) and LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) it goes by
//! the delay that a queue adds to the shortest round trip: above a target somebody is there, and it shrinks faster than others do; below it grows. What is different, and why:
//!
//! * **The target is low**: 5 ms, and what three packets and a 32nd of the round trip take, instead of 60 ms. Branch lines often have queues shorter than 60 ms, in
//!   which LEDBAT would never see its target; and our own controller ([`super::congestion`]) keeps a queue of some ten milliseconds. The delay is the *least* of a
//!   round, not of single packets, so jitter does not look like company.
//! * **Loss** by itself says nothing on a lossy line. It counts where it is above the usual of the line by 4 %, or where some packet of the same round
//!   waited for longer than the target: in a queue much shorter than the round trip that is all that is seen of a loss-based flow.
//! * **Room** is made for who is there: when such a loss comes, or the delay has driven the window below a quarter, it holds the least for half a second, and for
//!   twice as long, up to six seconds, each time that growing again meets somebody. What comes and goes, as the queue of such a flow does, is not mistaken for a line that was left.
//! * **Growth** doubles its step from round to round while the line is empty, up to a 16th of what the line holds, less the nearer the target is, and begins anew
//!   with one packet after every shrinking. Steps do not depend on the window: two scavengers come to equal shares, as senders do whose increase is additive (Chiu, Jain 1989).
//! * **Slowdowns** (LEDBAT++, section 4.4): after the start, and then after nine times as long as the last one took, it holds two packets for two rounds, so
//!   that who came later sees the true round trip, and so does it. That costs a tenth of an otherwise empty line.
//!
//! It never goes below two packets a round trip: QUIC's own rule, and a trickle that shows when the line is empty again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::law::{Law, Round};

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
/// Rounds whose loss is remembered.
const LOSS_ROUNDS: usize = 16;
/// No round is shorter: acknowledgements come in lumps.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// Losses of the start, and its queue, are its own doing for so many rounds.
const SETTLING_ROUNDS: u32 = 3;
/// How long it makes room for somebody, at first and at most.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
const PATIENCE_MAX: Duration = Duration::from_secs(6);
/// Growing takes about so long; who is there again within this and twice the patience never left.
const GROWS_WITHIN: Duration = Duration::from_secs(4);

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
    /// Rounds in which what the start did is still heard of.
    settling: u32,
    /// The largest window since it began to grow.
    top: u64,
    /// Somebody was there: the window stays the least until then.
    held: Option<Instant>,
    /// When it began to grow last.
    grows_since: Instant,
    /// How long somebody is waited for next.
    patience: Duration,
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

impl Yielding {
    /// A controller that knows nothing of the line yet.
    pub fn new(now: Instant, mtu: u16) -> Yielding {
        let mtu = u64::from(mtu);
        Yielding {
            mtu,
            window: WINDOW_INITIAL_PACKETS * mtu,
            phase: Phase::Start { slowed: None },
            round: Round::new(now, true),
            bases: VecDeque::new(),
            losses: VecDeque::new(),
            step: mtu,
            before: WINDOW_MAX,
            slow_at: None,
            bytes_per_second: 0,
            fastest: 0,
            settling: 0,
            top: 0,
            held: None,
            grows_since: now,
            patience: PATIENCE_MIN,
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
    }

    /// How long the queue may make a packet wait.
    fn target(&self, base: Duration) -> Duration {
        let packets = (TARGET_PACKETS * self.mtu).saturating_mul(1_000_000_000) / self.fastest.max(1);
        TARGET + base / 32 + Duration::from_nanos(packets).min(base + Duration::from_millis(400))
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now, true));
        let nanos = now.saturating_duration_since(round.began).as_nanos().max(1);
        self.bytes_per_second = u64::try_from(u128::from(round.delivered) * 1_000_000_000 / nanos).unwrap_or(u64::MAX);
        self.fastest = self.fastest.max(self.bytes_per_second);
        let usual = self.losses.iter().min().copied();
        if let Some(loss) = round.telling_loss_milli() {
            self.losses.push_back(loss);
            if self.losses.len() > LOSS_ROUNDS {
                self.losses.pop_front();
            }
        }
        let (Some(base), Some(least)) = (self.base(), round.shortest) else { return };
        let (queue, target) = (least.saturating_sub(base), self.target(base));
        let excess = round.telling_loss_milli().unwrap_or(0).saturating_sub(usual.unwrap_or(0));
        let crowded =
            excess > EXCESS_LOSS_MILLI || (round.lost > 0 && round.longest.saturating_sub(base) > target * 5 / 4);
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
        self.settling = SETTLING_ROUNDS;
        self.top = self.window;
        let round_trip = self.base().unwrap_or_default();
        self.slow_at = Some(match slowed {
            Some(since) => now + now.saturating_duration_since(since) * SLOW_EVERY,
            None => now + 2 * round_trip,
        });
    }

    fn follow(&mut self, now: Instant, queue: Duration, target: Duration, crowded: bool) {
        if self.held.is_some_and(|until| now < until) {
            return;
        }
        if self.held.take().is_some() {
            (self.top, self.grows_since, self.step) = (self.window, now, self.mtu);
        }
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
        self.top = self.top.max(self.window);
        self.settling = self.settling.saturating_sub(1);
        if queue > target || crowded {
            // By half at twice the target and beyond.
            let over = (queue.as_nanos() * 1000 / target.as_nanos().max(1)).clamp(1000, 2000);
            let keeps = if crowded { 500 } else { 1500 - u64::try_from(over).unwrap_or(2000) / 2 };
            self.window = self.bounded(self.window * keeps.min(900) / 1000);
            self.step = self.mtu;
            if self.settling == 0 && (crowded || self.window < self.top / 4) {
                self.make_room(now);
            }
        } else {
            // The nearer the target, the less: two that share the line take the same steps.
            let left = (target - queue).as_nanos() * 1000 / target.as_nanos().max(1);
            let grown = self.step * u64::try_from(left).unwrap_or(1000) / 1000;
            self.window = self.bounded(self.window + grown);
            self.step = (self.step * 2).min(self.step_max());
        }
    }

    /// Somebody else is there: the least, for a while that doubles as long as they are there whenever it is over.
    fn make_room(&mut self, now: Instant) {
        let in_vain = now.saturating_duration_since(self.grows_since) < 2 * self.patience + GROWS_WITHIN;
        self.patience = if in_vain { (self.patience * 2).min(PATIENCE_MAX) } else { PATIENCE_MIN };
        self.held = Some(now + self.patience);
        self.window = self.bounded(0);
    }

    /// A 16th of what the line holds.
    fn step_max(&self) -> u64 {
        let line = u128::from(self.fastest) * self.base().unwrap_or_default().as_nanos() / 1_000_000_000;
        u64::try_from(line / 16).unwrap_or(u64::MAX).max(self.mtu)
    }

    fn bounded(&self, window: u64) -> u64 {
        window.clamp(WINDOW_MIN_PACKETS * self.mtu, WINDOW_MAX)
    }
}

impl Law for Yielding {
    const INITIAL_PACKETS: u64 = WINDOW_INITIAL_PACKETS;

    fn begin(now: Instant, mtu: u16) -> Self {
        Yielding::new(now, mtu)
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        let sample = self.round.acked(now, sent, bytes, app_limited);
        self.see(sample);
        if matches!(self.phase, Phase::Start { .. }) && !app_limited {
            let most = self.before.max(WINDOW_INITIAL_PACKETS * self.mtu);
            self.window = self.bounded((self.window + bytes).min(most));
        }
    }

    fn heard(&mut self, now: Instant, _app_limited: bool) {
        if self.round.over && now.saturating_duration_since(self.round.began) >= ROUND_MIN {
            self.end_round(now);
        }
    }

    fn lost(&mut self, now: Instant, _sent: Instant, persistent: bool, lost_bytes: u64) {
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

    fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.bounded(self.window);
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn mtu(&self) -> u64 {
        self.mtu
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
                0 => yielding.lost(now, now, rng.random_bool(0.01), rng.random_range(0..3_000_000)),
                1 => yielding.set_mtu(rng.random_range(1200..9000)),
                2 => yielding.heard(now, rng.random()),
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
        yielding.heard(*now, false);
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
