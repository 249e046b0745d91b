use narrowboat_storage::catalogue::Sealed;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::Lsn;

use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    crate::units::parse_rfc3339(text).expect("a moment")
}

fn snapshot(number: u8, time: Timestamp) -> SnapshotRow {
    SnapshotRow {
        id: SnapshotId([number; 16]),
        dataset: DatasetId([1; 16]),
        name: format!("number {number}"),
        time,
        lsn: Lsn(u64::from(number) + 1),
        sealed: Some(Sealed::default()),
        held: false,
    }
}

/// So many, one every so many seconds, the last at `end`.
fn row(count: u64, seconds: u64, end: &str) -> Vec<SnapshotRow> {
    let end = at(end).0;
    let before = |nth: u64| Timestamp(end - ((count - 1 - nth) * seconds) as i64 * 1_000_000_000);
    (0..count).map(|nth| snapshot(nth as u8, before(nth))).collect()
}

struct World {
    snapshots: Vec<SnapshotRow>,
    zone: TimeZone,
}

impl World {
    fn new(snapshots: Vec<SnapshotRow>) -> World {
        World { snapshots, zone: TimeZone::UTC }
    }

    fn judge(&self, rules: &Rules) -> Vec<Verdict<'_>> {
        let end = self.snapshots.last().map_or(Timestamp(0), |newest| newest.time);
        judge(
            rules,
            &self.snapshots,
            &Facts {
                locked: &|_| None,
                age: &|time| (end.0.saturating_sub(time.0)).max(0) as u64 / 1_000_000_000,
                needed: &|_| None,
                zone: &self.zone,
            },
        )
    }

    /// The places of those that stay.
    fn kept(&self, rules: &Rules) -> Vec<usize> {
        let verdicts = self.judge(rules);
        verdicts.iter().enumerate().filter(|(_, verdict)| !verdict.stays.is_empty()).map(|(place, _)| place).collect()
    }
}

#[test]
fn the_newest_of_each_period_stays() {
    // Every six hours for ten days; the last at noon of the tenth.
    let world = World::new(row(41, 6 * HOUR, "2026-11-22T12:00:00Z"));
    assert_eq!(world.kept(&Rules { last: 3, ..Rules::default() }), [38, 39, 40]);
    // The last of each day at 18:00, but for today.
    assert_eq!(world.kept(&Rules { daily: 3, ..Rules::default() }), [33, 37, 40]);
    // 22 November 2026 is a Sunday, so the week before ended with the 15th.
    assert_eq!(world.kept(&Rules { weekly: 2, ..Rules::default() }), [13, 40]);
    assert_eq!(world.kept(&Rules { within: Some(DAY), ..Rules::default() }), [36, 37, 38, 39, 40]);
    let both = Rules { last: 2, daily: 2, ..Rules::default() };
    assert_eq!(world.kept(&both), [37, 39, 40]);
    assert_eq!(world.judge(&both)[40].stays, ["the newest", "1 of the last 2", "daily 2026-11-22"]);
}

#[test]
fn months_and_years_stay_for_long() {
    let world = World::new(row(100, 10 * DAY, "2026-11-22T12:00:00Z"));
    let kept = world.kept(&Rules { monthly: 4, yearly: 2, ..Rules::default() });
    let days: Vec<String> =
        kept.iter().map(|place| crate::units::rfc3339(world.snapshots[*place].time)[..10].to_owned()).collect();
    assert_eq!(days, ["2025-12-27", "2026-08-24", "2026-09-23", "2026-10-23", "2026-11-22"]);
}

#[test]
fn periods_without_a_snapshot_do_not_count() {
    let mut all = row(3, DAY, "2026-01-03T08:00:00Z");
    all.push(snapshot(9, at("2026-11-22T12:00:00Z")));
    assert_eq!(
        World::new(all).kept(&Rules { daily: 3, ..Rules::default() }),
        [1, 2, 3],
        "a box that was off loses none"
    );
}

#[test]
fn the_hour_that_comes_twice_counts_twice() {
    // In Berlin clocks go back at 01:00 UTC on 25 October 2026: 02:30 is there twice.
    let mut world = World::new(row(3, HOUR, "2026-10-25T02:30:00Z"));
    world.zone = TimeZone::get("Europe/Berlin").expect("a zone");
    assert_eq!(world.kept(&Rules { hourly: 3, ..Rules::default() }), [0, 1, 2]);
    let day = World { snapshots: row(2, HOUR, "2026-10-24T22:30:00Z"), zone: world.zone.clone() };
    assert_eq!(day.kept(&Rules { daily: 2, ..Rules::default() }), [0, 1], "midnight is that of the wall");
}

#[test]
fn what_is_held_locked_needed_or_not_sealed_stays_whatever_the_rules_say() {
    let mut world = World::new(row(5, DAY, "2026-11-22T12:00:00Z"));
    world.snapshots[0].held = true;
    world.snapshots[1].sealed = None;
    let facts = Facts {
        locked: &|snapshot| (snapshot.id == SnapshotId([3; 16])).then(|| "4 d".to_owned()),
        age: &|_| u64::MAX,
        needed: &|snapshot| (snapshot.id == SnapshotId([2; 16])).then(|| "head builds upon it".into()),
        zone: &world.zone,
    };
    let rules = Rules { within: Some(1), ..Rules::default() };
    let stays: Vec<Vec<String>> =
        judge(&rules, &world.snapshots, &facts).into_iter().map(|verdict| verdict.stays).collect();
    let expected = ["held", "not sealed yet", "head builds upon it", "locked for 4 d", "the newest"];
    assert_eq!(stays, expected.map(|reason| vec![reason]));
}

#[test]
fn a_least_number_stays_however_old() {
    let world = World::new(row(6, 100 * DAY, "2026-11-22T12:00:00Z"));
    assert_eq!(world.kept(&Rules { within: Some(DAY), least: 3, ..Rules::default() }), [3, 4, 5]);
    assert_eq!(world.kept(&Rules { within: Some(DAY), least: 99, ..Rules::default() }), [0, 1, 2, 3, 4, 5]);
    assert!(World::new(Vec::new()).kept(&Rules { last: 1, least: 3, ..Rules::default() }).is_empty());
}

#[test]
fn times_that_no_calendar_knows_harm_nobody() {
    let all = vec![snapshot(0, Timestamp(i64::MIN)), snapshot(1, Timestamp(i64::MAX))];
    assert_eq!(World::new(all).kept(&Rules { daily: 5, ..Rules::default() }), [0, 1]);
}

#[test]
fn rules_are_read_as_they_are_kept_and_told_for_people() {
    let rules = Rules { last: 3, daily: 7, within: Some(14 * DAY), least: 2, ..Rules::default() };
    let text = serde_json::to_string(&rules).unwrap();
    assert_eq!(serde_json::from_str::<Rules>(&text).unwrap(), rules);
    assert_eq!(rules.to_string(), "3 last, 7 daily, all of 14 d, at least 2");
    let page = include_str!("../../../docs/formats/catalogue.md");
    let example =
        page.lines().find_map(|line| line.strip_prefix("`{\"daily\"")).map(|rest| format!("{{\"daily\"{rest}"));
    let example = example.expect("the page's example").split('`').next().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Rules>(&example).unwrap().daily, 7);
    assert!(Rules { least: 5, ..Rules::default() }.keep_nothing() && !rules.keep_nothing());
}
