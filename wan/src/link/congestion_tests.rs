//! The controller alone, over a bottleneck of a few lines: what it comes to, how it yields, how it starts anew.

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const MTU: u64 = 1400;

/// A sender with a window and a pacer over a line with a rate, a round trip, a queue, random loss and jitter.
struct World {
    steady: Steady,
    rng: SmallRng,
    now: Instant,
    tick: Duration,
    bits_per_second: u64,
    round_trip: Duration,
    queue_bytes: u64,
    loss: f64,
    /// Acknowledgements come later by up to this, in lumps.
    jitter: Duration,
    free_at: Instant,
    /// Of packets under way: when the sender learns of them, when they were sent, whether they were lost.
    under_way: VecDeque<(Instant, Instant, bool)>,
    /// What the pacer lets through: 1.25 windows a round trip, as quinn's does.
    tokens: f64,
    smoothed: Duration,
    delivered: u64,
    dropped: u64,
}

impl World {
    fn new(bits_per_second: u64, milli: u64, loss: f64) -> World {
        let now = Instant::now();
        let round_trip = Duration::from_millis(milli);
        World {
            steady: Steady::new(now, MTU as u16),
            rng: SmallRng::seed_from_u64(3),
            now,
            tick: Duration::from_millis(1),
            bits_per_second,
            round_trip,
            queue_bytes: (bits_per_second * milli / 8000).max(20 * MTU),
            loss,
            jitter: Duration::ZERO,
            free_at: now,
            under_way: VecDeque::new(),
            tokens: 0.0,
            smoothed: round_trip,
            delivered: 0,
            dropped: 0,
        }
    }

    fn bdp(&self) -> u64 {
        self.bits_per_second * self.round_trip.as_millis() as u64 / 8000
    }

    fn send(&mut self) {
        let window = self.steady.window() as f64;
        self.tokens += 1.25 * window * self.tick.as_secs_f64() / self.smoothed.as_secs_f64();
        self.tokens = self.tokens.min((10 * MTU) as f64 + 1.25 * window * 0.002 / self.smoothed.as_secs_f64());
        while (self.under_way.len() as u64 + 1) * MTU <= self.steady.window() && self.tokens >= MTU as f64 {
            self.tokens -= MTU as f64;
            let backlog = self.free_at.saturating_duration_since(self.now).as_secs_f64();
            let full = backlog * self.bits_per_second as f64 / 8.0 + MTU as f64 > self.queue_bytes as f64;
            if full {
                self.dropped += 1;
            } else {
                let takes = Duration::from_secs_f64(MTU as f64 * 8.0 / self.bits_per_second as f64);
                self.free_at = self.free_at.max(self.now) + takes;
            }
            let lost = full || self.rng.random_bool(self.loss);
            let last = self.under_way.back().map_or(self.now, |(known, ..)| *known);
            let jitter = self.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
            let known = (self.free_at + self.round_trip + jitter).max(last);
            self.under_way.push_back((known, self.now, lost));
        }
    }

    /// Lets time pass, tick after tick. Returns the bits per second that arrived.
    fn run(&mut self, seconds: u64) -> f64 {
        let before = self.delivered;
        self.run_for(Duration::from_secs(seconds));
        (self.delivered - before) as f64 * 8.0 / seconds as f64
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += self.tick;
            let mut lost = 0;
            let mut any = false;
            while self.under_way.front().is_some_and(|(known, ..)| *known <= self.now) {
                let Some((_, sent, was_lost)) = self.under_way.pop_front() else { break };
                if was_lost {
                    lost += MTU;
                } else {
                    self.delivered += MTU;
                    self.smoothed = (self.smoothed * 7 + (self.now - sent)) / 8;
                    self.steady.acked(self.now, sent, MTU, false);
                    any = true;
                }
            }
            if any {
                self.steady.heard(self.now, false);
            }
            if lost > 0 {
                self.steady.lost(self.now, self.now, false, lost);
            }
            self.send();
        }
    }
}

#[test]
fn random_loss_does_not_make_it_small() {
    for (bits, milli) in [(2_000_000, 300), (20_000_000, 100), (100_000_000, 30)] {
        for loss in [0.0, 0.01, 0.03, 0.05] {
            let mut world = World::new(bits, milli, loss);
            world.run(8);
            let rate = world.run(20);
            assert!(rate >= 0.95 * (1.0 - loss) * bits as f64, "{bits} bit/s, {milli} ms, {loss}: {rate}");
            assert!(
                world.steady.window() < 3 * world.bdp() / 2 + 20 * MTU,
                "{} of {}",
                world.steady.window(),
                world.bdp()
            );
        }
    }
}

/// A local network: a round trip of a fifth of a millisecond, and a switch that holds eight of them.
#[test]
fn a_short_line_is_kept_full() {
    let mut world = World::new(1_000_000_000, 1, 0.0);
    (world.tick, world.round_trip) = (Duration::from_micros(50), Duration::from_micros(200));
    (world.smoothed, world.queue_bytes, world.jitter) = (world.round_trip, 1_000_000, Duration::from_micros(500));
    let first = world.run(1);
    assert!(first > 0.9 * 1e9, "{first} in the second in which it starts, which overflows the queue");
    let (dropped, rate) = (world.dropped, world.run(12));
    assert!(rate > 0.97 * 1e9, "{rate}");
    assert_eq!(world.dropped, dropped, "and none afterwards");
    // Somebody else's burst fills the queue while the line is drained: what is lost then was not sent under the window of that moment.
    for _ in 0..4000 {
        world.run_for(Duration::from_millis(1));
        if world.steady.window() < 100_000 {
            break;
        }
    }
    assert!(world.steady.window() < 100_000, "it drains");
    let now = world.now;
    world.steady.lost(now, now, false, 400_000);
    let rate = world.run(1);
    assert!(rate > 0.9 * 1e9, "{rate} in the second after it");
}

#[test]
fn jitter_does_not_make_it_shrink() {
    for (bits, milli, jitter) in
        [(50_000_000, 20, 20), (20_000_000, 20, 60), (20_000_000, 100, 50), (100_000_000, 5, 20)]
    {
        let mut world = World::new(bits, milli, 0.01);
        world.jitter = Duration::from_millis(jitter);
        world.queue_bytes *= 3;
        world.run(10);
        let rate = world.run(20);
        assert!(rate >= 0.80 * bits as f64, "{bits} bit/s, {milli} ms, up to {jitter} ms late: {rate}");
    }
}

/// The queue stays within what the window is meant to hold beyond the line's own: the slack for timers, acknowledgements
/// and whole packets, and the gain.
#[test]
fn a_queue_of_its_own_does_not_pass_for_the_lines() {
    for (bits, milli) in [(500_000, 30), (2_000_000, 20), (2_000_000, 300), (20_000_000, 2), (20_000_000, 20)] {
        let mut world = World::new(bits, milli, 0.0);
        world.queue_bytes = u64::MAX;
        world.run(50);
        let mut queued = Duration::ZERO;
        for _ in 0..20 {
            world.run(1);
            queued += world.free_at.saturating_duration_since(world.now) / 20;
        }
        let packets = Duration::from_secs_f64((ACK_PACKETS + 3) as f64 * MTU as f64 * 8.0 / bits as f64);
        let most = SLACK + packets + world.round_trip / 8 + Duration::from_millis(5);
        assert!(queued <= most, "{bits} bit/s, {milli} ms: {queued:?} of queue, {most:?} at most");
    }
}

#[test]
fn the_start_fills_the_line_and_hardly_floods_the_queue() {
    let mut world = World::new(20_000_000, 100, 0.0);
    world.run(3);
    let in_bdp = world.dropped * MTU * 100 / world.bdp();
    assert!(in_bdp <= 50, "dropped {in_bdp} % of a bandwidth-delay product");
    assert!(world.run(1) > 19_000_000.0 * 0.95);
}

#[test]
fn a_line_that_becomes_slower_is_believed() {
    let mut world = World::new(50_000_000, 40, 0.01);
    world.run(5);
    world.bits_per_second = 5_000_000;
    world.run(5);
    let rate = world.run(10);
    assert!(rate > 0.93 * 5e6, "{rate}");
    assert!(world.steady.window() <= 2 * world.bdp() + 20 * MTU, "{} of {}", world.steady.window(), world.bdp());
}

#[test]
fn a_line_that_becomes_faster_is_found_out() {
    let mut world = World::new(2_000_000, 60, 0.01);
    world.run(10);
    world.bits_per_second = 40_000_000;
    world.queue_bytes *= 20;
    world.run(12);
    let rate = world.run(5);
    assert!(rate > 0.9 * 40e6, "{rate}");
}

#[test]
fn a_shallow_queue_costs_little() {
    let mut world = World::new(20_000_000, 60, 0.0);
    world.queue_bytes = 16 * MTU;
    world.run(10);
    let (delivered, dropped) = (world.delivered, world.dropped);
    let rate = world.run(20);
    let lost = (world.dropped - dropped) as f64 * MTU as f64 / (world.delivered - delivered) as f64;
    assert!(rate > 0.80 * 20e6 && lost < 0.08, "{rate} bit/s, {lost} of it dropped");
}

#[test]
fn a_dead_line_starts_anew() {
    let mut world = World::new(20_000_000, 50, 0.0);
    world.run(5);
    let now = world.now;
    world.steady.lost(now, now, true, 100_000);
    assert_eq!(world.steady.window(), WINDOW_MIN_PACKETS * MTU);
    assert_eq!(world.steady.bytes_per_second(), 0);
    world.run(4);
    assert!(world.run(2) > 18_000_000.0);
}

#[test]
fn a_mark_of_a_router_makes_it_smaller() {
    let mut world = World::new(20_000_000, 50, 0.0);
    world.run(5);
    let (before, now) = (world.steady.window(), world.now);
    world.steady.lost(now, now, false, 0);
    assert!(world.steady.window() <= before * 85 / 100);
}

#[test]
fn the_window_is_never_zero_and_never_boundless() {
    let mut rng = SmallRng::seed_from_u64(5);
    let mut now = Instant::now();
    let mut steady = Steady::new(now, 1200);
    for _ in 0..200_000 {
        now += Duration::from_micros(rng.random_range(0..50_000));
        match rng.random_range(0..8) {
            0 => steady.lost(now, now, rng.random_bool(0.01), rng.random_range(0..3_000_000)),
            1 => steady.set_mtu(rng.random_range(1200..9000)),
            2 => steady.heard(now, rng.random()),
            _ => {
                let sent = now.checked_sub(Duration::from_micros(rng.random_range(0..2_000_000))).unwrap_or(now);
                steady.acked(now, sent, rng.random_range(0..20_000), rng.random());
            }
        }
        assert!((WINDOW_MIN_PACKETS * 1200..=WINDOW_MAX).contains(&steady.window()), "{}", steady.window());
    }
}
