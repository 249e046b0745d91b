use narrowboat_storage::units::Timestamp;

use super::*;
use crate::assess::measured::{Measured, SLOT, Series};
use crate::shape::{Calendar, Schedule};

/// 2026-11-23 is a Monday.
const MONDAY: i64 = 1_795_392_000_000_000_000;

/// Two weeks of an office: people change something from 8 to 18 on working days, and a backup comes at 22 every day.
fn office() -> Measured {
    let day_slots = 288;
    let bytes = |slot: usize, people: u64, backup: u64| {
        let (day, hour) = (slot / day_slots, slot % day_slots / 12);
        let work = if day % 7 < 5 && (8..18).contains(&hour) { people * (1 + slot as u64 % 7) } else { 0 };
        work + if slot % day_slots == 22 * 12 { backup } else { 0 }
    };
    let series = |name: &str, people, backup| Series {
        dataset: name.into(),
        bytes: (0..14 * day_slots).map(|slot| Some(bytes(slot, people, backup))).collect(),
    };
    Measured {
        start: Timestamp(MONDAY),
        series: vec![series("files", 2_000_000, 0), series("disk", 100_000, 1_500_000_000)],
    }
}

fn ceiling(measured: &Measured, calendar: &str) -> Line {
    let calendar = Calendar::parse(calendar, &jiff::tz::TimeZone::UTC).expect("sound");
    Line::under(&Schedule { plain: None, calendar, once: None }, measured.start, measured.end())
}

fn target(minutes: u64, share: f64) -> Target {
    Target { age: Duration::from_secs(60 * minutes), share }
}

#[test]
fn the_answer_keeps_the_target_and_a_little_less_does_not() {
    let measured = office();
    let snapshots = measured.snapshots(SLOT, 4000);
    for calendar in ["", "mon-fri 08:00-18:00 4Mbit", "12:00-12:30 pause"] {
        let ceiling = ceiling(&measured, calendar);
        let mut before = None;
        for minutes in [15, 60, 240, 1440] {
            for share in [0.9, 0.95, 0.99, 1.0] {
                let target = target(minutes, share);
                let rate = match needed(&ceiling, &snapshots, target) {
                    Needed::Rate(rate) => rate,
                    Needed::NoLine { share } => {
                        assert!(share < target.share && !calendar.is_empty(), "{calendar} {target:?} {share}");
                        continue;
                    }
                };
                let kept_at = |share: f64| {
                    let bits = (rate.bits() as f64 * share) as u64;
                    Rate::from_bits(bits).map(|rate| kept(&ceiling.of(rate), &snapshots, target.age)).unwrap_or(0.0)
                };
                assert!(kept_at(1.0) >= target.share && kept_at(1.05) >= target.share, "{calendar} {target:?} {rate}");
                assert!(kept_at(0.9) < target.share, "{calendar} {target:?} {rate}");
                // Older may be had for less.
                if share == 1.0 {
                    assert!(before.is_none_or(|before| rate <= before), "{calendar} {minutes}");
                    before = Some(rate);
                }
            }
        }
    }
}

#[test]
fn the_arithmetic_of_one_backup() {
    // 1.5 GB at once, each night; it may be there an hour after the snapshot before it.
    let measured = office();
    let disk = &measured.snapshots(SLOT, 0)[1..];
    let Needed::Rate(rate) = needed(&ceiling(&measured, ""), disk, target(60, 1.0)) else { panic!("a rate") };
    // 55 minutes are left, for the snapshot before is five minutes older; 63/64 of the rate flow.
    let exact = 1.5e9 * 8.0 / (55.0 * 60.0) * 64.0 / 63.0;
    let found = rate.bits() as f64;
    assert!(found >= exact * 0.999 && found <= exact * 1.011, "{found} {exact}");
}

#[test]
fn where_no_line_helps_that_is_said() {
    let measured = office();
    let snapshots = measured.snapshots(SLOT, 0);
    // Nothing flows for four hours a day.
    let found = needed(&ceiling(&measured, "20:00-24:00 pause"), &snapshots, target(60, 1.0));
    assert!(matches!(found, Needed::NoLine { share } if (0.8..0.9).contains(&share)), "{found:?}");
    // Snapshots every four hours keep no quarter of an hour.
    let seldom = measured.snapshots(SLOT * 48, 0);
    assert!(
        matches!(needed(&ceiling(&measured, ""), &seldom, target(15, 0.9)), Needed::NoLine { share } if share < 0.1)
    );
    // No data needs the slowest line there is, and no time asks for nothing.
    assert_eq!(needed(&ceiling(&measured, ""), &[], target(15, 1.0)), Needed::Rate(Rate::MIN));
}
