//! The reckoning over lines whose truth is known.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const BYTES: u64 = 1480;

/// Arrivals of a train over a line: serialised at its rate, seen by a clock of so many microseconds.
fn train(
    bits: u64,
    packets: u32,
    tick_us: u64,
    loss: f64,
    queue_bytes: u64,
    rng: &mut SmallRng,
) -> Vec<(u32, Duration)> {
    let each = BYTES * 8_000_000 / bits;
    let mut arrivals = Vec::new();
    for number in 0..packets.min((queue_bytes / BYTES) as u32) {
        let at = (u64::from(number) + 1) * each;
        if !rng.random_bool(loss) {
            arrivals.push((number, Duration::from_micros(at.div_ceil(tick_us) * tick_us)));
        }
    }
    arrivals
}

fn survey(bits: u64, tick_us: u64, loss: f64, queue_bytes: u64, seed: u64) -> (Plan, Option<Capacity>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut plan = Plan::default();
    while let Some(packets) = plan.next(BYTES) {
        let arrivals = train(bits, packets, tick_us, loss, queue_bytes, &mut rng);
        plan.heard(packets, BYTES, Dispersion::of(&arrivals, packets, BYTES));
    }
    (plan, plan.capacity())
}

#[test]
fn trains_tell_the_rate_of_every_line_with_few_bytes() {
    for bits in [32_000, 64_000, 512_000, 2_000_000, 10_000_000, 50_000_000, 100_000_000] {
        for (tick, loss) in [(1, 0.0), (1000, 0.0), (1000, 0.03)] {
            for seed in 0..20 {
                let (plan, capacity) = survey(bits, tick, loss, 300_000, seed);
                let capacity = capacity.expect("something arrived");
                let share = capacity.bits_per_second as f64 / bits as f64;
                assert!(
                    (0.85..1.15).contains(&share) && !capacity.at_least,
                    "{bits} {tick} {loss} {seed}: {capacity:?}"
                );
                assert!(plan.spent_bytes() <= TRAIN_BYTES_MAX, "{plan:?}");
                let bound = (bits / 8 / 4).max(4 * BYTES * 4);
                assert!(plan.spent_bytes() <= bound, "{} bytes over {bits} bit/s", plan.spent_bytes());
            }
        }
    }
}

#[test]
fn short_queues_end_a_plan_and_fast_lines_are_called_at_least() {
    let (plan, capacity) = survey(50_000_000, 1, 0.0, 30_000, 1);
    let capacity = capacity.expect("the head of each train arrives");
    assert!((45_000_000..55_000_000).contains(&capacity.bits_per_second), "{capacity:?}");
    assert!(plan.spent_bytes() < TRAIN_BYTES_MAX);
    let (_, capacity) = survey(1_000_000_000, 1, 0.0, 1 << 20, 1);
    assert!(capacity.is_some_and(|capacity| capacity.at_least), "{capacity:?}");
    // All at one tick: no rate at all, and the bytes are still bounded.
    let (plan, capacity) = survey(10_000_000_000, 10_000, 0.0, 1 << 20, 1);
    assert!(capacity.is_none() && plan.spent_bytes() <= TRAIN_BYTES_MAX);
    // Nothing arrives at all.
    let (plan, capacity) = survey(1_000_000, 1, 1.0, 1 << 20, 1);
    assert!(capacity.is_none() && plan.spent_bytes() <= 7 * 4 * BYTES, "{plan:?}");
}

#[test]
fn strange_arrivals_count_for_nothing() {
    let at = Duration::from_millis;
    let honest = [(0, at(10)), (1, at(20)), (2, at(30)), (3, at(40))];
    let seen = Dispersion::of(&honest, 4, 1250);
    assert_eq!((seen.packets, seen.spread), (4, at(30)));
    assert!(seen.bits_per_second.abs_diff(1_000_000) < 10, "{seen:?}");
    let odd: Vec<_> = honest.iter().copied().chain([(3, at(90)), (4, at(1)), (u32::MAX, at(500))]).collect();
    assert_eq!(Dispersion::of(&odd, 4, 1250), seen, "twice, or never sent");
    assert_eq!(Dispersion::of(&[], 4, 1250), Dispersion::default());
    assert_eq!(Dispersion::of(&[(0, at(1))], 4, 1250).bits_per_second, 0);
    assert_eq!(Loss::of(3, [7, u32::MAX, 1, 1].into_iter()), Loss { sent: 3, lost: 2, bursts: 2, longest: 1 });
    assert_eq!(RoundTrips::of(&[]), None);
}

#[test]
fn loss_is_within_its_confidence_and_bursts_are_told_apart() {
    // (turns bad, recovers, loses while bad): Bernoulli lines recover at once.
    for (worsens, recovers, bursty) in
        [(0.01, None, false), (0.03, None, false), (0.005, Some(0.2), true), (0.01, Some(0.5), true)]
    {
        let truth: f64 = recovers.map_or(worsens, |recovers| worsens / (worsens + recovers));
        let (mut within, mut bursts, mut lost, worlds) = (0, 0, 0, 400);
        for seed in 0..worlds {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut bad = rng.random_bool(truth);
            let mut came = Vec::new();
            for number in 0..500 {
                bad = match recovers {
                    None => rng.random_bool(worsens),
                    Some(recovers) if bad => !rng.random_bool(recovers),
                    Some(_) => rng.random_bool(worsens),
                };
                if !bad {
                    came.push(number);
                }
            }
            let loss = Loss::of(500, came.into_iter());
            assert!(loss.is_sound());
            let (low, high) = loss.between();
            within += u32::from((low..=high).contains(&truth));
            bursts += loss.bursts;
            lost += loss.lost;
        }
        let mean = f64::from(lost) / f64::from(bursts);
        let expected = recovers.map_or(1.0 / (1.0 - worsens), |recovers| 1.0 / recovers);
        assert!((0.85..1.15).contains(&(mean / expected)), "bursts of {mean}, {expected} expected");
        assert!(!bursty || mean > 1.5);
        // Where two or three bursts are expected, none at all may be seen, which nothing can tell from a good line.
        let least = if bursty { 80 } else { 93 };
        assert!(within * 100 >= worlds as u32 * least, "{within} of {worlds} at {truth}");
    }
    assert_eq!(Loss::of(5, [0, 4].into_iter()), Loss { sent: 5, lost: 3, bursts: 1, longest: 3 });
    assert_eq!(Loss::default().between(), (0.0, 1.0));
    let all = Loss::of(50, std::iter::empty());
    assert!(all.share() == 1.0 && all.between().1 == 1.0 && all.longest == 50);
    assert!(!Loss { sent: 5, lost: 6, bursts: 1, longest: 6 }.is_sound());
}

#[test]
fn round_trips_are_summed_up() {
    let seen = [10, 12, 11, 30].map(Duration::from_millis);
    let trips = RoundTrips::of(&seen).expect("some");
    let milli = |time: Duration| time.as_millis();
    assert_eq!((trips.count, milli(trips.min), milli(trips.median), milli(trips.max)), (4, 10, 12, 30));
    assert_eq!(trips.jitter, Duration::from_millis(22) / 3);
}

#[test]
fn rows_leave_the_line_to_others() {
    for bits in [None, Some(32_000), Some(64_000), Some(1_000_000), Some(u64::MAX / 200)] {
        let row = Row::over(bits, 100);
        assert!((ROW_PACKETS_MIN..=ROW_PACKETS_MAX).contains(&row.packets), "{row:?}");
        assert!(row.interval >= ROW_INTERVAL_MIN && row.interval <= ROW_INTERVAL_MAX);
        let taken = 800.0 / row.interval.as_secs_f64();
        assert!(taken <= bits.unwrap_or(32_000) as f64 * 0.21, "{taken} of {bits:?}");
    }
}

#[test]
fn a_cap_that_holds_is_told() {
    let capacity = |bits_per_second| Some(Capacity { bits_per_second, at_least: false, packets: 9, spread: ENOUGH });
    const ENOUGH: Duration = Duration::from_millis(50);
    let cap = Rate::from_bits(1_000_000).ok();
    let way = |bits, cap| Way { capacity: capacity(bits), loss: Loss::default(), cap };
    assert_eq!(way(990_000, cap).rate(), Some((1_000_000, true)));
    assert_eq!(way(1_200_000, cap).rate(), Some((1_000_000, true)));
    assert_eq!(way(500_000, cap).rate(), Some((500_000, false)));
    assert_eq!(way(500_000, None).rate(), Some((500_000, false)));
}
