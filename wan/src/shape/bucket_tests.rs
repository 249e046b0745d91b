//! The promise over every sliding second, under seeded traffic that tries to break it.

use std::time::Duration;

use narrowboat_lines::ledger::Ledger;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// What left, in order: time and bytes.
type Log = Vec<(Duration, u64)>;

fn seeds() -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// The most bytes in any half-open second.
fn worst_second(log: &Log) -> u64 {
    worst(log, SECOND)
}

/// The most bytes in any half-open time of this length.
fn worst(log: &Log, length: Duration) -> u64 {
    log.iter().copied().collect::<Ledger<_>>().worst(length)
}

/// A sender that wants to send `size(rng)` bytes and does so whenever it may, with timers that are late by up to
/// `late`, and that is idle now and then.
fn run(
    rng: &mut SmallRng,
    bucket: &mut Bucket,
    from: Duration,
    for_time: Duration,
    late_micros: u64,
    idle: bool,
) -> Log {
    let mut log = Log::new();
    let mut now = from;
    let segment_max = bucket.limit().map_or(10, |limit| (limit.bytes_in(Duration::from_millis(2)) / 1480).clamp(1, 10));
    while now < from + for_time {
        let bytes = match rng.random_range(0..10) {
            0 => 60,
            1 => rng.random_range(48..1480),
            _ => 1480 * rng.random_range(1..=segment_max),
        };
        match bucket.check(now, bytes) {
            Verdict::Now => {
                bucket.charge(now, bytes);
                log.push((now, bytes));
            }
            Verdict::At(when) => {
                assert!(when > now, "a verdict that says wait names a later time");
                now = when + Duration::from_micros(rng.random_range(0..=late_micros));
            }
            verdict => panic!("{verdict:?}"),
        }
        if idle && rng.random_range(0..2000) == 0 {
            now += Duration::from_millis(rng.random_range(1..1500));
        }
    }
    log
}

#[test]
fn no_second_carries_more_than_the_cap() {
    for seed in 0..seeds() {
        let mut rng = SmallRng::seed_from_u64(seed);
        let bits = 10_u64.pow(rng.random_range(5..9)) * rng.random_range(1..10) + 64_000;
        let limit = Rate::from_bits(bits).expect("in bounds");
        let mut bucket = Bucket::new(Some(limit));
        let time = Duration::from_secs_f64((4e8 / bits as f64).clamp(2.5, 60.0));
        let log = run(&mut rng, &mut bucket, Duration::from_millis(seed), time, 3000, true);
        let worst = worst_second(&log);
        assert!(worst <= limit.bytes_in(SECOND), "seed {seed}: {worst} bytes in a second under {limit}");
        let (most, short) = (limit.bytes_in(SHORT), self::worst(&log, SHORT));
        assert!(short <= (most * 11 / 10).max(most + 1500), "seed {seed}: {short} bytes in 100 ms under {limit}");
    }
}

#[test]
fn what_a_late_timer_left_over_is_made_up_for() {
    // Timers that are late by up to 9 ms, far more than a datagram takes.
    for text in ["2Mbit", "20Mbit", "300Mbit"] {
        let mut rng = SmallRng::seed_from_u64(9);
        let limit: Rate = text.parse().expect("a rate");
        let mut bucket = Bucket::new(Some(limit));
        let time = Duration::from_secs(5);
        let log = run(&mut rng, &mut bucket, Duration::ZERO, time, 9_000, false);
        let sent: u64 = log.iter().map(|(_, bytes)| bytes).sum();
        let share = sent as f64 / limit.bytes_in(time) as f64;
        assert!(share >= 0.97, "{text}: {share:.3} of the cap");
        let (most, short) = (limit.bytes_in(SHORT), worst(&log, SHORT));
        assert!(short <= most * 11 / 10, "{short} bytes in 100 ms under {text}");
    }
}

#[test]
fn a_saturated_sender_uses_the_cap() {
    for (text, least) in [("64kbit", 0.85), ("512kbit", 0.95), ("2Mbit", 0.97), ("20Mbit", 0.975), ("1Gbit", 0.975)] {
        let mut rng = SmallRng::seed_from_u64(7);
        let limit: Rate = text.parse().expect("a rate");
        let mut bucket = Bucket::new(Some(limit));
        let time = if limit.bits() > 100_000_000 { 3 } else { 30 };
        // Timers of the rim have a resolution of a millisecond.
        let log = run(&mut rng, &mut bucket, Duration::ZERO, Duration::from_secs(time), 1500, false);
        let sent: u64 = log.iter().map(|(_, bytes)| bytes).sum();
        let share = sent as f64 / limit.bytes_in(Duration::from_secs(time)) as f64;
        assert!(share >= least, "{text}: {share:.3} of the cap");
    }
}

#[test]
fn datagrams_of_a_length_that_fills_a_thin_cap_use_all_of_it() {
    // IPv4 datagrams from QUIC's least to what every path takes, and where none of these does, to what Ethernet takes.
    let (safe, all) = (1228..=1280, 1228..=1480);
    for (kbit, is_safe) in
        [(51, true), (60, true), (61, true), (64, false), (72, true), (95, false), (128, false), (300, true)]
    {
        let limit = Rate::from_bits(kbit * 1000).expect("in bounds");
        assert_eq!(filling(limit, safe.clone()).is_some(), is_safe, "{kbit} kbit/s");
        let length = filling(limit, safe.clone()).or(filling(limit, all.clone())).expect("one that fits");
        assert!(all.contains(&length));
        let (mut bucket, mut now, mut sent) = (Bucket::new(Some(limit)), Duration::ZERO, 0);
        while now < 60 * SECOND {
            match bucket.check(now, length) {
                Verdict::Now => {
                    bucket.charge(now, length);
                    sent += length;
                }
                Verdict::At(when) => now = when,
                verdict => panic!("{verdict:?}"),
            }
        }
        let share = sent as f64 / limit.bytes_in(60 * SECOND) as f64;
        assert!(share >= 0.97, "{kbit} kbit/s in datagrams of {length}: {share:.3} of the cap");
    }
    for text in ["0", "38kbit", "20Mbit"] {
        assert_eq!(filling(text.parse().expect("a rate"), all.clone()), None, "{text}: none fits, or all do");
    }
}

#[test]
fn a_change_counts_at_once_and_within_any_second() {
    for seed in 0..seeds() {
        let mut rng = SmallRng::seed_from_u64(1000 + seed);
        let mut bucket = Bucket::new(None);
        let (mut log, mut limits, mut now) = (Log::new(), Vec::new(), Duration::ZERO);
        for _ in 0..6 {
            let limit = Rate::from_bits(rng.random_range(100_000..20_000_000)).expect("in bounds");
            bucket.set_limit(now, Some(limit));
            limits.push((now, limit));
            let stretch = Duration::from_millis(rng.random_range(10..3000));
            log.extend(run(&mut rng, &mut bucket, now, stretch, 2000, false));
            now = (now + stretch).max(log.last().map_or(now, |(at, _)| *at));
        }
        // Every second that ends with a datagram fits under the cap that this datagram left under.
        for (last, (end, _)) in log.iter().enumerate() {
            let (_, limit) = limits.iter().rev().find(|(from, _)| from <= end).expect("a cap from the start");
            let sum: u64 = log[..=last].iter().rev().take_while(|(at, _)| *at + SECOND > *end).map(|(_, b)| b).sum();
            assert!(sum <= limit.bytes_in(SECOND), "seed {seed}: {sum} bytes before {end:?} under {limit}");
        }
    }
}

#[test]
fn a_lowered_cap_is_silent_for_a_second_at_most() {
    let mut bucket = Bucket::new(None);
    for milli in 0..1000 {
        bucket.charge(Duration::from_millis(milli), 100_000);
    }
    let now = Duration::from_secs(1);
    bucket.set_limit(now, Rate::from_bits(64_000).ok());
    let Verdict::At(when) = bucket.check(now, 1480) else { panic!("must wait") };
    assert!(when > now && when <= now + SECOND + GUARD_SLOT, "{when:?}");
    assert_eq!(bucket.check(when, 1480), Verdict::Now);
}

#[test]
fn zero_pauses_and_none_is_unlimited() {
    let mut bucket = Bucket::new(Some(Rate::PAUSED));
    assert_eq!(bucket.check(Duration::from_secs(100), 60), Verdict::Paused);
    bucket.set_limit(Duration::from_secs(100), None);
    assert_eq!(bucket.check(Duration::from_secs(100), u64::MAX), Verdict::Now);
}

#[test]
fn what_no_second_holds_is_too_big() {
    let mut bucket = Bucket::new(Some(Rate::MIN));
    assert_eq!(bucket.check(Duration::ZERO, 14_800), Verdict::TooBig);
    assert_eq!(bucket.check(Duration::ZERO, 1480), Verdict::Now);
}

#[test]
fn the_harness_sees_a_cap_that_is_broken() {
    // A plain token bucket at the full rate, without the guard: the canary of this file.
    let limit: Rate = "20Mbit".parse().expect("a rate");
    let mut log = Log::new();
    log.push((Duration::ZERO, limit.bytes_in(BURST)));
    log.extend((0..2000).map(|half_milli| (Duration::from_micros(500 * half_milli), limit.bytes_in(BURST) / 32)));
    assert!(worst_second(&log) > limit.bytes_in(SECOND));
}
