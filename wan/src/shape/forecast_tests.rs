//! Forecasts against sums that a person can do, and against water poured second by second.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::{Calendar, Override};
use super::*;
use jiff::tz::TimeZone;

const HOUR: i64 = 3600 * SECOND;

/// Hours since Monday, 23 November 2026, 00:00 UTC.
fn at(hours: i64) -> Timestamp {
    Timestamp(1_795_392_000 * SECOND + hours * HOUR)
}

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().expect("a rate"))
}

fn schedule(plain: Option<Rate>, calendar: &str) -> Schedule {
    Schedule { calendar: Calendar::parse(calendar, &TimeZone::UTC).expect("sound"), ..Schedule::plain(plain) }
}

/// Bytes that flow in an hour under a cap.
fn hour_of(text: &str) -> u64 {
    aim_bits(text.parse().expect("a rate")) * 3600 / 8
}

fn one(now: Timestamp, whole: &Schedule, own: &Schedule, bytes: u64) -> Arrival {
    forecast(now, whole, &[Load { bytes, schedule: own, line: None }])[0]
}

#[test]
fn a_night_at_one_rate_and_a_day_at_another() {
    let whole = schedule(rate("20Mbit"), "08:00-18:00 4Mbit");
    let free = Schedule::plain(None);
    assert_eq!(one(at(0), &whole, &free, 0), Arrival::At(at(0)));
    assert_eq!(one(at(0), &whole, &free, hour_of("20Mbit")), Arrival::At(at(1)));
    let night_and_day = 8 * hour_of("20Mbit") + 10 * hour_of("4Mbit");
    assert_eq!(one(at(0), &whole, &free, night_and_day), Arrival::At(at(18)));
    assert_eq!(one(at(0), &whole, &free, night_and_day + 14 * hour_of("20Mbit")), Arrival::At(at(32)));
    // The lower of both caps counts.
    assert_eq!(one(at(0), &whole, &Schedule::plain(rate("2Mbit")), 5 * hour_of("2Mbit")), Arrival::At(at(5)));
}

#[test]
fn what_is_paused_for_ever_never_arrives() {
    let free = Schedule::plain(None);
    let paused = Schedule::plain(Some(Rate::PAUSED));
    assert_eq!(one(at(0), &paused, &free, 1), Arrival::Never);
    assert_eq!(one(at(0), &free, &paused, 1), Arrival::Never);
    // The box sends by day, this peer may only by night.
    let (day, night) =
        (schedule(Some(Rate::PAUSED), "08:00-18:00 4Mbit"), schedule(Some(Rate::PAUSED), "22:00-06:00 4Mbit"));
    assert_eq!(one(at(0), &day, &night, 1), Arrival::Never);
    let exception = schedule(Some(Rate::PAUSED), "2027-05-01 22:00-06:00 4Mbit\n22:00-06:00 4Mbit");
    assert_eq!(one(at(0), &day, &exception, 1), Arrival::Never);
}

#[test]
fn one_exception_far_ahead_is_enough() {
    let paused = schedule(Some(Rate::PAUSED), "2027-05-01 10:00-11:00 4Mbit");
    let free = Schedule::plain(None);
    let begin = Timestamp(at(0).0 + 159 * DAY + 10 * HOUR);
    assert_eq!(one(at(0), &paused, &free, hour_of("4Mbit")), Arrival::At(Timestamp(begin.0 + HOUR)));
    assert_eq!(one(at(0), &paused, &free, hour_of("4Mbit") + 1), Arrival::Never);
    let once = Schedule {
        once: Some(Override { limit: rate("4Mbit"), from: at(0), until: at(2) }),
        ..Schedule::plain(Some(Rate::PAUSED))
    };
    assert_eq!(one(at(0), &once, &free, 2 * hour_of("4Mbit")), Arrival::At(at(2)));
    assert_eq!(one(at(0), &once, &free, 2 * hour_of("4Mbit") + 1), Arrival::Never);
}

#[test]
fn what_takes_longer_than_is_looked_says_so() {
    let thin = Schedule::plain(rate("64kbit"));
    let Arrival::After(horizon) = one(at(0), &thin, &Schedule::plain(None), 1 << 40) else { panic!("five years") };
    assert_eq!(horizon.0 - at(0).0, HORIZON);
}

#[test]
fn without_caps_only_a_measured_line_answers() {
    let free = Schedule::plain(None);
    assert_eq!(one(at(0), &free, &free, 1), Arrival::Unknown(at(0)));
    let measured = Load { bytes: 3600 * 1000, schedule: &free, line: Some(8000) };
    assert_eq!(forecast(at(0), &free, &[measured]), [Arrival::At(at(1))]);
    let night = schedule(None, "06:00-22:00 pause");
    assert_eq!(one(at(10), &night, &free, 1), Arrival::Unknown(at(22)));
}

#[test]
fn peers_share_the_box_and_leave_what_they_do_not_use() {
    let whole = Schedule::plain(rate("9Mbit"));
    let (slow, free) = (Schedule::plain(rate("1Mbit")), Schedule::plain(None));
    let nine = hour_of("9Mbit");
    let loads = [
        Load { bytes: hour_of("1Mbit"), schedule: &slow, line: None },
        Load { bytes: (nine - hour_of("1Mbit")) / 2, schedule: &free, line: None },
        Load { bytes: (nine - hour_of("1Mbit")) / 2 + nine, schedule: &free, line: None },
    ];
    let arrivals = forecast(at(0), &whole, &loads);
    let near =
        |arrival: Arrival, hours: i64| matches!(arrival, Arrival::At(when) if (when.0 - at(hours).0).abs() < SECOND);
    assert!(near(arrivals[0], 1) && near(arrivals[1], 1) && near(arrivals[2], 2), "{arrivals:?}");
}

/// Pours second by second; as long as all caps change at whole seconds, it is off by the seconds in which peers arrive.
fn pour(now: Timestamp, whole: &Schedule, loads: &[Load<'_>], seconds: i64) -> Vec<Option<i64>> {
    let mut left: Vec<f64> = loads.iter().map(|load| load.bytes as f64 * 8.0).collect();
    let mut arrived = vec![None; loads.len()];
    for second in 0..seconds {
        let at = Timestamp(now.0 + second * SECOND);
        let wishes: Vec<u64> = left
            .iter()
            .zip(loads)
            .map(
                |(left, load)| {
                    if *left > 0.0 { bits(load.schedule.limit_at(at)).min(load.line.unwrap_or(UNBOUNDED)) } else { 0 }
                },
            )
            .collect();
        for (nth, rate) in share(bits(whole.limit_at(at)), &wishes).into_iter().enumerate() {
            if left[nth] > 0.0 {
                left[nth] -= rate as f64;
                if left[nth] <= 0.0 {
                    arrived[nth] = Some(second + 1);
                }
            }
        }
    }
    arrived
}

fn random_schedule(rng: &mut SmallRng) -> Schedule {
    let mut text = String::new();
    for _ in 0..rng.random_range(0..4) {
        let (from, until) = (rng.random_range(0..24), rng.random_range(1..24));
        let rate = ["pause", "1Mbit", "4Mbit", "20Mbit"][rng.random_range(0..4)];
        text += &format!("{from:02}:00-{:02}:30 {rate}\n", (from + until) % 24);
    }
    let calendar = Calendar::parse(&text, &TimeZone::UTC).unwrap_or_else(|_| Calendar::empty(TimeZone::UTC));
    Schedule { calendar, ..Schedule::plain(rate(["512kbit", "2Mbit", "8Mbit"][rng.random_range(0..3)])) }
}

#[test]
fn a_forecast_is_what_pouring_finds() {
    for seed in 0..40 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let whole = random_schedule(&mut rng);
        let schedules: Vec<Schedule> = (0..rng.random_range(1..4)).map(|_| random_schedule(&mut rng)).collect();
        let loads: Vec<Load> = schedules
            .iter()
            .map(|schedule| Load { bytes: rng.random_range(1..5_000_000_000), schedule, line: None })
            .collect();
        let now = Timestamp(at(0).0 + rng.random_range(0..86_400) * SECOND);
        let poured = pour(now, &whole, &loads, 2 * 86_400);
        for (arrival, poured) in forecast(now, &whole, &loads).into_iter().zip(poured) {
            let seconds = match arrival {
                Arrival::At(when) => (when.0 - now.0 + SECOND - 1) / SECOND,
                _ => i64::MAX,
            };
            match poured {
                Some(poured) => assert!((seconds - poured).abs() <= 5, "seed {seed}: {seconds} s, poured {poured} s"),
                None => assert!(seconds > 2 * 86_400 - 5, "seed {seed}: {seconds} s, poured nothing in two days"),
            }
        }
    }
}

#[test]
fn the_slowest_rate_meets_the_deadline_and_none_below_does() {
    for seed in 0..300 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (whole, own) = (random_schedule(&mut rng), random_schedule(&mut rng));
        let bytes = rng.random_range(50_000_000..5_000_000_000);
        let (now, deadline) = (at(0), Timestamp(at(0).0 + rng.random_range(HOUR..3 * DAY)));
        let under = |cap: Option<Rate>, whole: &Schedule| {
            // The slower of two rates, as a cap of its own, is one more cap: pour through the box's and this one.
            let capped = Schedule { plain: None, ..Schedule::plain(cap) };
            let (mut left, mut at) = (u128::from(bytes) * UNITS_PER_BYTE, now);
            while at < deadline {
                let end = [whole.at(at).until, own.at(at).until]
                    .into_iter()
                    .flatten()
                    .min()
                    .unwrap_or(deadline)
                    .min(deadline);
                let rate = bits(whole.limit_at(at)).min(bits(own.limit_at(at))).min(bits(cap.or(capped.plain)));
                left = left.saturating_sub(u128::from(rate) * nanos_between(at, end));
                at = end;
            }
            u64::try_from(left.div_ceil(UNITS_PER_BYTE)).expect("fits")
        };
        match slowest(now, deadline, &whole, &own, bytes) {
            Slowest::Rate(slow) => {
                assert_eq!(under(Some(slow), &whole), 0, "seed {seed}: {slow} is too slow");
                let slower = Rate::from_bits(slow.bits() * 99 / 100);
                assert!(slower.is_err() || under(slower.ok(), &whole) > 0, "seed {seed}: slower than {slow} is enough");
            }
            Slowest::Misses(over) => assert_eq!(under(None, &whole), over, "seed {seed}"),
        }
    }
}

#[test]
fn a_deadline_that_is_over_is_missed_by_all_that_is_left() {
    let free = Schedule::plain(None);
    assert_eq!(slowest(at(1), at(1), &free, &free, 7), Slowest::Misses(7));
    assert_eq!(slowest(at(1), at(1), &free, &free, 0), Slowest::Rate(Rate::MIN));
    assert_eq!(slowest(at(0), at(1), &free, &free, 1), Slowest::Rate(Rate::MIN));
    assert!(matches!(slowest(at(0), at(1), &free, &free, u64::MAX), Slowest::Rate(Rate::MAX)));
}
