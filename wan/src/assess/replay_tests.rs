use proptest::prelude::*;

use super::*;
use crate::shape::{Arrival, Calendar, Load, Rate, Schedule, forecast};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * SECOND)
}

fn due(seconds: i64, bytes: u64) -> Due {
    Due { at: at(seconds), bytes }
}

/// A line that lets 63 kbit/s through, 7875 bytes a second.
fn line(until: i64) -> Line {
    Line::under(&Schedule::plain(Some("64kbit".parse().expect("a rate"))), at(0), at(until))
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[test]
fn one_snapshot_takes_its_bytes_over_the_rate() {
    let [replayed] = &replay(&line(1000), &[vec![due(100, 78_750), due(200, 7_875)]])[..] else {
        panic!("one dataset")
    };
    assert_eq!(replayed.arrived(), [(at(110), at(100)), (at(201), at(200))]);
    assert_eq!((replayed.left, replayed.worst()), (0, Duration::from_secs(800)));
    // Up to 110 what the peer has is of the beginning, up to 201 of 100, then of 200.
    let violations = replayed.violations(Duration::from_secs(105));
    let expected = [(105, 110, 110), (305, 1000, 800)];
    assert_eq!(
        violations.iter().map(|v| (v.from, v.until, v.worst.as_secs())).collect::<Vec<_>>(),
        expected.map(|(a, b, c)| (at(a), at(b), c))
    );
    assert!((replayed.kept(Duration::from_secs(105)) - 0.3).abs() < 1e-9);
    assert_eq!(seconds(replayed.at_share(0.3)), 105.0);
    assert_eq!(seconds(replayed.at_share(1.0)), 800.0);
}

#[test]
fn datasets_share_the_line_and_the_rest_goes_to_who_is_left() {
    let both = replay(&line(1000), &[vec![due(0, 78_750)], vec![due(0, 157_500)]]);
    assert_eq!(both[0].arrived(), [(at(20), at(0))]);
    assert_eq!(both[1].arrived(), [(at(30), at(0))]);
}

#[test]
fn what_does_not_arrive_is_left() {
    let replayed = replay(&line(10), &[vec![due(0, 7_875), due(5, 78_750), due(7, 1000), due(11, 5)]]);
    assert_eq!(replayed[0].arrived(), [(at(1), at(0))]);
    // Five seconds of the second have flowed; what is made behind the end is nobody's.
    assert_eq!(replayed[0].left, 78_750 - 5 * 7_875 + 1000);
}

#[test]
fn pauses_and_lines_without_bounds_are_kept_to() {
    let calendar = Calendar::parse("00:00-01:00 pause\n01:00-02:00 64kbit", &jiff::tz::TimeZone::UTC).expect("sound");
    let schedule = Schedule { plain: None, calendar, once: None };
    let line = Line::under(&schedule, at(0), at(4 * 3600));
    let replayed = replay(&line, &[vec![due(60, 78_750), due(3 * 3600, 1 << 60)]]);
    assert_eq!(replayed[0].arrived(), [(at(3610), at(60)), (at(3 * 3600), at(3 * 3600))]);
    let cut = replay(&line.without(at(3605), at(3700)), &[vec![due(60, 78_750)]]);
    assert_eq!(cut[0].arrived(), [(at(3705), at(60))]);
    // A snapshot without a byte has to be told of, too.
    assert_eq!(replay(&line, &[vec![due(60, 0)]])[0].arrived(), [(at(3600), at(60))]);
    assert_eq!(replay(&Line::under(&schedule, at(5), at(5)), &[vec![due(1, 1)]])[0].kept(Duration::ZERO), 1.0);
}

/// Some datasets with snapshots every now and then.
fn datasets() -> impl Strategy<Value = Vec<Vec<Due>>> {
    let snapshots = proptest::collection::btree_map(0i64..7200, 0u64..40_000_000, 0..12);
    let in_order = snapshots.prop_map(|all| all.into_iter().map(|(seconds, bytes)| due(seconds, bytes)).collect());
    proptest::collection::vec(in_order, 1..4)
}

proptest! {
    /// The forecast of the running box knows the same water.
    #[test]
    fn it_agrees_with_the_forecast(bytes in proptest::collection::vec(1u64..2_000_000_000, 1..4), kbit in 64u64..20_000) {
        let calendar = Calendar::parse("00:10-00:20 512kbit\n00:40-00:45 pause", &jiff::tz::TimeZone::UTC).expect("sound");
        let plain = Rate::from_bits(kbit * 1000).ok();
        let schedule = Schedule { plain, calendar, once: None };
        let own = Schedule::plain(None);
        let loads: Vec<Load> = bytes.iter().map(|bytes| Load { bytes: *bytes, schedule: &own, line: None }).collect();
        let foretold = forecast(at(0), &schedule, &loads);
        let sent: Vec<Vec<Due>> = bytes.iter().map(|bytes| vec![due(0, *bytes)]).collect();
        let replayed = replay(&Line::under(&schedule, at(0), Timestamp(40 * 24 * HOUR)), &sent);
        for (foretold, replayed) in foretold.iter().zip(&replayed) {
            let (Arrival::At(foretold), [(arrived, _)]) = (foretold, replayed.arrived()) else { panic!("{foretold:?} {replayed:?}") };
            // It gives the bits that don't divide to somebody; of the slowest line those are a 20,000th.
            let off = (foretold.0 - arrived.0).abs();
            prop_assert!(off <= foretold.0 / 10_000, "{foretold:?} {arrived:?}");
        }
    }

    /// A faster line is never worse for anybody, and no byte is lost or made.
    #[test]
    fn more_is_never_worse(datasets in datasets(), kbit in 64u64..5_000, more in 1u64..5_000) {
        let on = |kbit: u64| {
            let schedule = Schedule::plain(Rate::from_bits(kbit * 1000).ok());
            replay(&Line::under(&schedule, at(0), at(7200)), &datasets)
        };
        for ((slow, fast), due) in on(kbit).iter().zip(on(kbit + more)).zip(&datasets) {
            prop_assert!(fast.arrived().len() >= slow.arrived().len() && fast.left <= slow.left);
            prop_assert!(slow.arrived().iter().zip(fast.arrived()).all(|(slow, fast)| fast.0 <= slow.0));
            for age in [0, 60, 600, 3600] {
                let age = Duration::from_secs(age);
                prop_assert!(fast.kept(age) >= slow.kept(age));
                let broken: u128 = slow.violations(age).iter().map(|v| nanos_between(v.from, v.until)).sum();
                prop_assert!((slow.kept(age) + broken as f64 / 7200e9 - 1.0).abs() < 1e-9);
            }
            let waiting: u64 = due[slow.arrived().len()..].iter().map(|due| due.bytes).sum();
            prop_assert!(slow.left <= waiting);
            prop_assert!(slow.arrived().windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 < two[1].1));
            prop_assert!(slow.arrived().iter().all(|(there, made)| there >= made));
        }
    }
}
