//! How much may be under way: a congestion controller for thin, long, lossy lines.
//!
//! Loss-based controllers (Cubic, NewReno) take every lost packet for a full queue; on a line that loses one packet in a
//! hundred by itself they end at a tenth of its rate. This one, *Steady*, holds what the line was seen to deliver times
//! the time that it takes (the bandwidth-delay product, BDP), and looks at delay and at loss beyond the usual to find out
//! that it is too much. The ideas are those of BBR (Cardwell et al., ACM Queue 14(5), 2016; draft-ietf-ccwg-bbr), made to fit
//! a sender whose caps are enforced below it and whose pacer sends at 1.25 windows per round trip whatever we say:
//! the window therefore stays close to one BDP instead of two, or the pacer would fill every queue and lose what it fills.
//!
//! * **Rate**: bytes acknowledged per round trip, the highest of the last ten rounds (and at least of the last second).
//! * **Round trip**: where the shortest was not seen for five seconds, a round at 0.75 BDP begins at once and shows both it and the
//!   usual one, the mean. What is in the mean above the shortest, beyond what acknowledgements and timers
//!   take, is not ours (a busy host, radio, other traffic), and a window that ignored it would shrink from round to round.
//!   It is believed up to a round trip and 100 ms; where the line delivers less than it can, so that nothing of ours waits, it is learned from
//!   other rounds, too, for a few packets meet less jitter than many. Others of our kind on the line see the same shortest round trip at the same
//!   moment, and so drain with us five seconds later: then no queue of theirs or ours passes for the line's, as in BBR.
//! * **Usual loss**: the lowest loss of any of the last ten rounds that had enough packets to tell. One such round in each
//!   cycle sends less than the line takes, so what is lost in it is the line's own doing. The window is enlarged by that
//!   share, and only by it.
//! * **Cycle**: one round at 1.25 BDP (is there more?), one at 0.9 (empty the queue), six at 1.06.
//!   A probing round that finds more is followed by another. Where the probing round met no
//!   queue and lost little, as under a cap, there is nothing to drain, and the round is like the others. On a short line a round lasts for
//!   many round trips, for acknowledgements come in lumps; but one that drains ends as soon as it has, and then the line is filled at once.
//! * **Start**: the window doubles every round until the rate stops growing, a queue appears, or much is lost. A queue shows
//!   one round trip late, when the window is twice what made it; so it is halved, and held for two rounds to be measured.
//! * **Yielding**: a queue that stays (half a round trip and 50 ms over two rounds) drops the remembered rates for the
//!   present one. Loss of a tenth beyond the usual, or of some percent beyond it for three rounds (the less, the more packets
//!   tell), lowers a ceiling on the window to 85 % of what it was sent under, which after a second rises again by 1 %, 2 %, 4 %, … a round without such loss. When everything was lost for long ("persistent
//!   congestion", RFC 9002, 7.6), it starts anew.
//!
//! It never asks for the time, and what it does follows from its calls alone. Measured in `docs/performance/wan.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::law::{Law, Round, TELLING_PACKETS};
use drain::{DRAIN_PACKETS, Drain};
use past::Past;
use short::ROUND_MIN;

mod drain;
mod past;
mod short;

/// A round trip that is longer by less than this, by a 64th, or by what a packet takes, is the same.
const SAME_MIN: Duration = Duration::from_millis(1);
/// On top of the BDP: what timers with a resolution of a millisecond make late at both ends.
const SLACK: Duration = Duration::from_millis(4);
/// And what waits to be acknowledged: so many packets, or for so long.
const ACK_PACKETS: u64 = 10;
const ACK_DELAY: Duration = Duration::from_millis(25);
/// A queue at the start: this much more than the shortest round trip, or an eighth of it.
const QUEUE_MIN: Duration = Duration::from_millis(8);
/// So many samples in a row must show it.
const QUEUE_SAMPLES: u32 = 8;
/// How much the ceiling rises after the first round without excess loss, in thousandths; then twice as much each round.
const RISE_MILLI: u64 = 10;
const RISE_MILLI_MAX: u64 = 80;
/// But not before it has held for so long: a shallow queue overflows whenever it has risen.
const CEILING_HOLDS: Duration = Duration::from_secs(1);
/// The cycle of gains, in percent of the BDP; one a round.
const CYCLE: [u64; 8] = [125, 90, 106, 106, 106, 106, 106, 106];
const PROBE: usize = 0;
const DRAIN: usize = 1;
const AFTER_DRAIN: usize = 2;
/// A round later all packets of the draining round have been heard of.
const DRAIN_KNOWN: usize = 3;
/// The gain of a draining round where the shortest round trip has not been seen for long.
const DEEP_DRAIN: u64 = 75;
/// After so long.
const ROUND_TRIP_STALE: Duration = Duration::from_secs(5);
/// A rate that grew by less than this (percent) did not grow.
const GROWTH_PERCENT: u64 = 10;
/// Loss beyond the usual that is taken for an overflowing queue or a policer, in thousandths.
const EXCESS_LOSS_MILLI: u64 = 100;
const LASTING_ROUNDS: u32 = 3;
/// Where more is lost, it has to be told whose doing that is: by a round that leaves the queue empty.
const NEEDLESS_LOSS_MILLI: u64 = 20;
/// A rate below this much of what the line delivers (percent) leaves it free.
const FREE_PERCENT: u64 = 90;
/// What is above the shortest round trip while little is under way, up to this and as much again, is jitter.
const JITTER_MAX: Duration = Duration::from_millis(100);
/// What is above the usual round trip by this, and half of the shortest, is a queue that stays.
const QUEUE_MAX: Duration = Duration::from_millis(50);
/// A train that goes on after so long is another one.
const PASS_AGAIN: Duration = Duration::from_secs(1);
const WINDOW_MIN_PACKETS: u64 = 4;
const WINDOW_INITIAL_PACKETS: u64 = 10;
/// 1 GiB: beyond every line that this is made for (1 Gbit/s times 600 ms is 75 MB).
const WINDOW_MAX: u64 = 1 << 30;

/// The same, where it lasts for [`LASTING_ROUNDS`] of so many packets: the more there are, the less is chance.
fn lasting_loss_milli(packets: u64) -> u64 {
    12 + 550 / packets.isqrt().max(1)
}

/// The controller. See the module.
#[derive(Clone, Debug)]
pub struct Steady {
    mtu: u64,
    window: u64,
    phase: Phase,
    round: Round,
    past: Past,
    round_trip: Option<(Duration, Instant)>,
    /// In the last deep draining round that had enough packets, on average.
    drained_round_trip: Option<Duration>,
    /// The least mean round trip of any round: without a queue that came later.
    calm: Option<Duration>,
    drain: Drain,
    /// What loss has taught, in bytes; None while it has taught nothing.
    ceiling: Option<u64>,
    /// The window when the round before this one began, and this one: what is lost now was sent under the wider of them, though a
    /// round that drains has a narrow one.
    windows: [u64; 2],
    /// Bytes that were acknowledged since it was last heard that all were told.
    acknowledged: u64,
    /// What the round before this one delivered, in bytes, and how long it took.
    before: (u64, Duration),
    /// By how much the ceiling rises next, in thousandths.
    rise_milli: u64,
    /// When it sank last.
    ceiling_since: Option<Instant>,
    /// Samples in a row that showed a queue at the start.
    queue_samples: u32,
    /// Rounds in a row that had a queue which should not be there.
    queued_rounds: u32,
    /// Rounds in a row with much more loss than usual.
    much_rounds: u32,
    /// Rounds in a row with some more loss than usual.
    some_rounds: u32,
    /// Bytes of a probe that may pass at once, shared with all clones.
    passing: Arc<AtomicU64>,
    /// When the last such bytes began to leave, and when they had left: what was sent then teaches nothing.
    passed: Option<(Instant, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubling; `best` is the best rate so far and `stale` how many rounds in a row it did not grow.
    Start { best: u64, stale: u32 },
    /// Holding the window while the rate is measured, for so many rounds more.
    Settle { rounds: u32 },
    /// Place in [`CYCLE`], and the best rate when the place was reached.
    Cycle { place: usize, best: u64 },
}

impl Steady {
    /// A controller that knows nothing of the line yet.
    pub fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Steady {
            mtu,
            window: WINDOW_INITIAL_PACKETS * mtu,
            phase: Phase::Start { best: 0, stale: 0 },
            round: Round::new(now, true),
            past: Past::default(),
            round_trip: None,
            drained_round_trip: None,
            calm: None,
            drain: Drain::default(),
            ceiling: None,
            windows: [0; 2],
            acknowledged: 0,
            before: Default::default(),
            rise_milli: RISE_MILLI,
            ceiling_since: None,
            queue_samples: 0,
            queued_rounds: 0,
            much_rounds: 0,
            some_rounds: 0,
            passing: Arc::default(),
            passed: None,
        }
    }

    /// What the line delivers, in bytes per second, as far as is known; zero before the first round.
    pub fn bytes_per_second(&self) -> u64 {
        self.past.bytes_per_second()
    }

    fn round_trip(&self) -> Duration {
        self.round_trip.map_or(Duration::from_millis(100), |(shortest, _)| shortest)
    }

    /// What the line takes for a packet and its acknowledgement where nothing of ours waits: the shortest round trip, and
    /// what it varies by.
    fn usual_round_trip(&self) -> Duration {
        let slack = SLACK + ACK_DELAY.min(self.time_of_packets(ACK_PACKETS, self.bytes_per_second()));
        let above = self.drained_round_trip.map_or(Duration::ZERO, |mean| mean.saturating_sub(self.round_trip()));
        let jitter = above.saturating_sub(slack);
        self.round_trip() + jitter.min(self.jitter_max())
    }

    fn jitter_max(&self) -> Duration {
        self.round_trip() + JITTER_MAX
    }

    fn same(&self, shortest: Duration) -> Duration {
        let packet = self.time_of_packets(1, self.bytes_per_second()).min(shortest);
        SAME_MIN.max(shortest / 64).max(packet)
    }

    fn see_round_trip(&mut self, now: Instant, sample: Duration) {
        match self.round_trip {
            Some((shortest, _)) if sample > shortest + self.same(shortest) => {}
            // As good as seen again.
            Some((shortest, _)) if sample > shortest => self.round_trip = Some((shortest, now)),
            _ => self.round_trip = Some((sample, now)),
        }
    }

    fn end_round(&mut self, now: Instant, app_limited: bool) {
        let next = Round::new(now, app_limited);
        let round = std::mem::replace(&mut self.round, next);
        self.windows = [self.windows[1], self.window];
        let best_before = self.bytes_per_second();
        let rate = self.rate_of(&round, now.saturating_duration_since(round.began));
        let usual = self.past.usual_loss_milli();
        // A round in which there was little to send may show a higher rate, but no lower one.
        if !round.app_limited || rate > best_before {
            self.past.remember(now, rate, round.telling_loss_milli());
        }
        if round.packets >= u64::from(DRAIN_PACKETS) {
            let mean = round.mean();
            self.calm = Some(self.calm.map_or(mean, |calm| calm.min(mean)));
        }
        if round.app_limited {
            return;
        }
        self.watch_queue(&round, rate);
        self.watch_jitter(&round, rate);
        let lossy = self.watch_loss(now, &round, usual, rate);
        let needless = self.is_empty_of_ours(&round);
        self.next_phase(now, rate, best_before, lossy, needless);
    }

    /// True where the packets of a round took no longer than the shortest: nothing of ours waits on the line, as under a cap.
    fn is_empty_of_ours(&self, round: &Round) -> bool {
        let slack = SLACK + ACK_DELAY.min(self.time_of_packets(ACK_PACKETS, self.bytes_per_second()));
        round.packets >= u64::from(DRAIN_PACKETS)
            && round.loss_milli() <= NEEDLESS_LOSS_MILLI
            && round.mean() <= self.round_trip() + slack
    }

    /// Where a queue has stayed, the remembered rates go.
    fn watch_queue(&mut self, round: &Round, rate: u64) {
        let Some(fastest) = round.shortest else { return };
        let queue = fastest.saturating_sub(self.usual_round_trip());
        if queue > self.round_trip() / 2 + QUEUE_MAX + self.time_of_packets(4, rate) {
            self.queued_rounds += 1;
            if self.queued_rounds >= 2 {
                self.past.believe_only(rate);
            }
        } else {
            self.queued_rounds = 0;
        }
    }

    /// Where the line delivers less than it can, nothing of ours waits, and what packets take all the same is jitter: more than the few
    /// packets of a draining round met.
    fn watch_jitter(&mut self, round: &Round, rate: u64) {
        let Phase::Cycle { place, .. } = self.phase else { return };
        let (Some(usual), mean) = (self.drained_round_trip, round.mean()) else { return };
        let is_free = rate < self.bytes_per_second() / 100 * FREE_PERCENT && round.packets >= TELLING_PACKETS;
        let overflows = round.loss_milli() > self.past.usual_loss_milli() + NEEDLESS_LOSS_MILLI;
        if is_free && !overflows && place > AFTER_DRAIN && mean > usual {
            self.drained_round_trip = Some(usual + (mean - usual) / 4);
        }
    }

    /// True when the samples at the start show that the line is full.
    fn queue_at_start(&mut self, sample: Duration) -> bool {
        let packets = self.time_of_packets(4, self.bytes_per_second());
        let calm =
            self.calm.map_or(Duration::ZERO, |calm| calm.saturating_sub(self.round_trip()).min(self.jitter_max()));
        let queued = sample > self.round_trip() + calm + (self.round_trip() / 8).max(QUEUE_MIN) + packets;
        self.queue_samples = if queued { self.queue_samples + 1 } else { 0 };
        self.queue_samples >= QUEUE_SAMPLES
    }

    fn time_of_packets(&self, packets: u64, bytes_per_second: u64) -> Duration {
        Duration::from_nanos((packets * self.mtu).saturating_mul(1_000_000_000) / bytes_per_second.max(1))
    }

    /// The line is full: back to what filled it, and measure.
    fn settle(&mut self) {
        self.window = self.bounded(self.window / 2);
        self.phase = Phase::Settle { rounds: 2 };
    }

    /// True where more was lost than usual: much more once, or some more over and over. Then the ceiling sinks; else it
    /// rises and in the end goes.
    fn watch_loss(&mut self, now: Instant, round: &Round, usual_milli: u64, rate: u64) -> bool {
        let lost_packets = round.lost / self.mtu.max(1);
        let excess_milli = round.loss_milli().saturating_sub(usual_milli);
        let much = self.is_much_lost(round, usual_milli);
        let some = lost_packets >= 4 && excess_milli > lasting_loss_milli(round.packets + lost_packets);
        self.much_rounds = if much { self.much_rounds + 1 } else { 0 };
        self.some_rounds = if some { self.some_rounds + 1 } else { 0 };
        if self.much_rounds >= 2 {
            self.past.believe_only(rate);
        }
        if much || self.some_rounds >= LASTING_ROUNDS {
            let widest = self.widest_window();
            let from = self.ceiling.map_or(widest, |ceiling| ceiling.min(widest));
            self.ceiling = Some((from * 85 / 100).max(WINDOW_MIN_PACKETS * self.mtu));
            (self.rise_milli, self.ceiling_since) = (RISE_MILLI, Some(now));
            self.some_rounds = 0;
        } else if !some && self.ceiling_since.is_none_or(|since| now.saturating_duration_since(since) >= CEILING_HOLDS)
        {
            let risen = self.ceiling.map(|ceiling| ceiling + ceiling * self.rise_milli / 1000);
            self.ceiling = risen.filter(|ceiling| *ceiling < 2 * self.window);
            self.rise_milli = (self.rise_milli * 2).min(RISE_MILLI_MAX);
        }
        much
    }

    /// Of this round and the two before it.
    fn widest_window(&self) -> u64 {
        self.windows.into_iter().fold(self.window, u64::max)
    }

    /// A tenth beyond the usual.
    fn is_much_lost(&self, round: &Round, usual_milli: u64) -> bool {
        let lost_packets = round.lost / self.mtu.max(1);
        lost_packets >= 8 && round.loss_milli().saturating_sub(usual_milli) > EXCESS_LOSS_MILLI
    }

    fn next_phase(&mut self, now: Instant, rate: u64, best_before: u64, lossy: bool, needless: bool) {
        let best_now = self.bytes_per_second();
        let measured = Phase::Cycle { place: DRAIN, best: best_now };
        match self.phase {
            Phase::Start { .. } if lossy => self.settle(),
            Phase::Start { best, stale } => {
                let stale = if rate > best + best / 4 { 0 } else { stale + 1 };
                self.phase = if stale >= 3 { measured } else { Phase::Start { best: best.max(rate), stale } };
            }
            Phase::Settle { rounds: 0 | 1 } => self.phase = measured,
            Phase::Settle { rounds } => self.phase = Phase::Settle { rounds: rounds - 1 },
            Phase::Cycle { place: PROBE, best } if !lossy && rate > best + best * GROWTH_PERCENT / 100 => {
                self.phase = Phase::Cycle { place: PROBE, best: best_before.max(rate) };
            }
            Phase::Cycle { place, .. } => {
                self.phase = Phase::Cycle { place: (place + 1) % CYCLE.len(), best: best_now };
            }
        }
        match self.phase {
            Phase::Cycle { place: DRAIN, .. } => {
                let deep = self.drained_round_trip.is_none();
                self.drain = Drain::begin(now, deep, needless && !deep);
            }
            Phase::Cycle { place: AFTER_DRAIN, .. } => self.drain.ended = Some(now),
            Phase::Cycle { place: DRAIN_KNOWN, .. } if self.drain.deep => {
                self.drained_round_trip = self.drain.mean().or(self.drained_round_trip);
                let before = self.round_trip.map(|(shortest, _)| shortest);
                self.round_trip = self.drain.shortest.or(before).map(|shortest| (shortest, now));
            }
            _ => {}
        }
    }

    /// Begins a round that shows the shortest round trip and the usual one, where that is due.
    fn drain_deep_if_stale(&mut self, now: Instant, app_limited: bool) {
        let stale = |(_, seen): (Duration, Instant)| now.saturating_duration_since(seen) > ROUND_TRIP_STALE;
        let Phase::Cycle { place, best } = self.phase else { return };
        let draining = (DRAIN..=AFTER_DRAIN).contains(&place);
        if app_limited || (draining && self.drain.deep) || !self.round_trip.is_some_and(stale) {
            return;
        }
        self.round = Round::new(now, app_limited);
        self.phase = Phase::Cycle { place: DRAIN, best };
        self.drain = Drain::begin(now, true, false);
        self.window = self.bounded(self.target().min(self.window));
    }

    /// The window that the model asks for, in bytes.
    fn target(&self) -> u64 {
        let Phase::Cycle { place, .. } = self.phase else { return self.window };
        let rate = u128::from(self.bytes_per_second());
        let bytes_in = |time: Duration| rate * time.as_nanos() / 1_000_000_000;
        let acks = bytes_in(ACK_DELAY).min(u128::from(ACK_PACKETS * self.mtu));
        let enlarged = |round_trip: Duration, percent: u64| {
            bytes_in(round_trip) * u128::from(percent) / 100 * 1000 / u128::from(1000 - self.past.usual_loss_milli())
        };
        let target = match place {
            // Draining goes by the shortest: a queue of our own must not pass for the line's. But enough is under way to be
            // acknowledged without waiting.
            DRAIN if self.drain.deep => enlarged(self.round_trip(), DEEP_DRAIN).max(acks),
            DRAIN if !self.drain.needless => enlarged(self.usual_round_trip(), CYCLE[DRAIN]) + acks,
            DRAIN => enlarged(self.usual_round_trip(), CYCLE[AFTER_DRAIN]) + acks + bytes_in(SLACK),
            _ => enlarged(self.usual_round_trip(), CYCLE[place]) + acks + bytes_in(SLACK),
        };
        u64::try_from(target).unwrap_or(WINDOW_MAX) + 3 * self.mtu
    }

    /// Lets so many bytes that are sent next pass at once, whatever the window says, for a probe. What is sent meanwhile teaches
    /// nothing, neither its losses nor its rate.
    pub fn let_pass(&self, bytes: u64) {
        self.passing.store(bytes, Ordering::Relaxed);
    }

    fn is_passed(&self, sent: Instant) -> bool {
        self.passed.is_some_and(|(first, last)| (first..=last).contains(&sent))
    }

    fn bounded(&self, window: u64) -> u64 {
        let ceiling = self.ceiling.unwrap_or(WINDOW_MAX).min(WINDOW_MAX);
        window.min(ceiling).max(WINDOW_MIN_PACKETS * self.mtu)
    }
}

impl Law for Steady {
    const INITIAL_PACKETS: u64 = WINDOW_INITIAL_PACKETS;

    fn begin(now: Instant, mtu: u16) -> Self {
        Steady::new(now, mtu)
    }

    fn sent(&mut self, now: Instant, bytes: u64) {
        let passing = self.passing.load(Ordering::Relaxed);
        if passing > 0 {
            let goes_on = |(_, last): &(Instant, Instant)| now.saturating_duration_since(*last) < PASS_AGAIN;
            let first = self.passed.filter(goes_on).map_or(now, |(first, _)| first);
            self.passed = Some((first, now));
            self.passing.store(passing.saturating_sub(bytes), Ordering::Relaxed);
        }
    }

    fn acked(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool) {
        if self.is_passed(sent) {
            self.round.over |= sent >= self.round.began;
            return;
        }
        let sample = self.round.acked(now, sent, bytes, app_limited);
        self.see_round_trip(now, sample);
        self.drain.see(sent, now);
        match self.phase {
            Phase::Start { .. } if app_limited => {}
            Phase::Start { .. } => {
                if self.queue_at_start(sample) {
                    self.settle();
                } else {
                    self.window = self.bounded(self.window + bytes);
                }
            }
            Phase::Settle { .. } => {}
            Phase::Cycle { .. } => self.acknowledged += bytes,
        }
    }

    fn heard(&mut self, now: Instant, app_limited: bool) {
        // Grow no faster than the line delivers; shrink at once.
        let acknowledged = std::mem::take(&mut self.acknowledged);
        if matches!(self.phase, Phase::Cycle { .. }) {
            self.window = self.bounded(self.target().min(self.window + acknowledged));
        }
        self.drain_deep_if_stale(now, app_limited);
        if self.round.over && now.saturating_duration_since(self.round.began) >= self.round_min() {
            self.end_round(now, app_limited);
            // A short line has been seen to take what was under way before it was drained, and the pacer spreads it.
            let is_short = self.usual_round_trip() < ROUND_MIN;
            let drained = is_short && matches!(self.phase, Phase::Cycle { place: AFTER_DRAIN, .. });
            let most = if drained { self.widest_window() } else { self.window };
            self.window = self.bounded(self.target().min(most));
        }
    }

    fn lost(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        if self.is_passed(sent) {
            return;
        }
        self.round.lost += lost_bytes;
        if persistent {
            let fresh = Steady::new(now, u16::try_from(self.mtu).unwrap_or(u16::MAX));
            let (passing, passed) = (self.passing.clone(), self.passed);
            let window = WINDOW_MIN_PACKETS * self.mtu;
            *self = Steady { round_trip: self.round_trip, window, passing, passed, ..fresh };
        } else if lost_bytes == 0 {
            // A router marked instead of dropping (ECN, RFC 3168): it asks for less before it must drop.
            self.ceiling = Some((self.bounded(self.window) * 85 / 100).max(WINDOW_MIN_PACKETS * self.mtu));
            self.window = self.bounded(self.window);
        }
    }

    fn set_mtu(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
        self.window = self.bounded(self.window);
    }

    fn window(&self) -> u64 {
        // So large a window is not paced, either.
        if self.passing.load(Ordering::Relaxed) > 0 { u64::MAX / 4 } else { self.window }
    }

    fn ceiling(&self) -> Option<u64> {
        self.ceiling
    }

    fn mtu(&self) -> u64 {
        self.mtu
    }
}

#[cfg(test)]
#[path = "congestion_tests.rs"]
mod tests;
