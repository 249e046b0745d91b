use narrowboat_storage::catalogue::Sealed;
use narrowboat_storage::id::{DatasetId, IdSource};
use narrowboat_storage::units::Lsn;

use super::*;

const HOUR: i64 = 3600 * SECOND;

/// Seconds since Monday, 23 November 2026, 00:00 UTC.
fn at(seconds: i64) -> Timestamp {
    Timestamp(1_795_392_000_000_000_000 + seconds * SECOND)
}

fn snapshots(names: &[(&str, i64)]) -> Vec<SnapshotRow> {
    let ids = IdSource::seeded(7);
    let dataset = DatasetId::new(&ids);
    let row = |(name, time): &(&str, i64)| SnapshotRow {
        id: SnapshotId::new(&ids),
        dataset,
        name: (*name).to_owned(),
        time: at(*time),
        lsn: Lsn(1),
        sealed: Some(Sealed::default()),
        held: false,
    };
    names.iter().map(row).collect()
}

fn plan(every: Option<u64>) -> Plan {
    Plan { every, class: "normal".into(), ..Plan::default() }
}

fn step(plan: &Plan, past: &Past, facts: &Facts<'_>, now: i64) -> Step {
    next(plan, past, facts, at(now), at(now), &TimeZone::UTC)
}

#[test]
fn the_example_of_the_format_page_is_a_plan() {
    let page = include_str!("../../../docs/formats/catalogue.md");
    let example = page.split('`').find(|part| part.starts_with("{\"every\"")).expect("an example");
    assert_eq!(serde_json::from_str::<Plan>(example).expect("a plan"), plan(Some(3600)));
    assert_eq!(serde_json::to_string(&plan(Some(3600))).expect("text"), example);
    let later: Plan = serde_json::from_str(r#"{"class":"urgent","keep":7}"#).expect("a plan");
    assert_eq!((later.class(), later.every, later.paused), (Class::Urgent, None, false));
}

#[test]
fn a_dataset_without_snapshots_gets_one() {
    let facts = Facts { snapshots: &[], there: None, changed: true, ..Facts::default() };
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 0), Step::Snapshot);
}

#[test]
fn a_first_copy_begins_with_the_newest() {
    let rows = snapshots(&[("monday", 0), ("auto-2026-11-23-00-00-01Z", 10), ("auto-2026-11-23-00-00-02Z", 20)]);
    let facts = Facts { snapshots: &rows, there: None, changed: true, ..Facts::default() };
    assert_eq!(step(&plan(None), &Past::default(), &facts, 30), Step::Send(rows[2].id));
}

#[test]
fn what_people_made_is_sent_one_by_one_and_of_the_rest_the_newest() {
    let rows = snapshots(&[
        ("auto-2026-11-23-00-00-01Z", 0),
        ("auto-2026-11-23-00-00-02Z", 10),
        ("before", 20),
        ("after", 30),
        ("auto-2026-11-23-00-00-03Z", 40),
        ("auto-2026-11-23-00-00-04Z", 50),
    ]);
    let mut facts = Facts { snapshots: &rows, there: Some(rows[0].id), changed: false, ..Facts::default() };
    for expected in [2, 3, 5] {
        assert_eq!(step(&plan(None), &Past::default(), &facts, 60), Step::Send(rows[expected].id));
        facts.there = Some(rows[expected].id);
    }
    assert_eq!(step(&plan(None), &Past::default(), &facts, 60), Step::Rest);
}

#[test]
fn a_snapshot_is_due_after_its_time_and_only_where_something_changed() {
    let rows = snapshots(&[("auto-2026-11-23-00-00-01Z", 0)]);
    let mut facts = Facts { snapshots: &rows, there: Some(rows[0].id), changed: false, ..Facts::default() };
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 10_000), Step::Rest);
    facts.changed = true;
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 899), Step::Until(at(900)));
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 900), Step::Snapshot);
    assert_eq!(
        step(&plan(None), &Past::default(), &facts, 4),
        Step::Until(at(5)),
        "it does not follow every single write"
    );
    assert_eq!(step(&plan(None), &Past::default(), &facts, 5), Step::Snapshot);
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, -3600), Step::Snapshot, "the clock was wrong once");
    assert_eq!(step(&plan(Some(u64::MAX)), &Past::default(), &facts, 900), Step::Until(Timestamp(i64::MAX)));
}

#[test]
fn what_is_not_sealed_yet_is_waited_for() {
    let mut rows = snapshots(&[("auto-2026-11-23-00-00-01Z", 0)]);
    rows[0].sealed = None;
    let facts = Facts { snapshots: &rows, there: None, changed: false, ..Facts::default() };
    assert_eq!(step(&plan(None), &Past::default(), &facts, 1), Step::Seal);
}

#[test]
fn nothing_begins_while_it_is_paused_or_outside_its_hours() {
    let rows = snapshots(&[("auto-2026-11-23-00-00-01Z", 0)]);
    let facts = Facts { snapshots: &rows, there: None, changed: true, ..Facts::default() };
    let paused = Plan { paused: true, ..plan(None) };
    assert_eq!(step(&paused, &Past::default(), &facts, 10), Step::Off);
    let nights = Plan { hours: Some("22:00-06:00".into()), ..plan(None) };
    assert_eq!(step(&nights, &Past::default(), &facts, 5 * HOUR / SECOND), Step::Send(rows[0].id));
    assert_eq!(step(&nights, &Past::default(), &facts, 7 * HOUR / SECOND), Step::Off);
    let unreadable = Plan { hours: Some("sometimes".into()), ..plan(None) };
    assert_eq!(step(&unreadable, &Past::default(), &facts, 0), Step::Off);
}

#[test]
fn failures_are_tried_again_less_and_less_often() {
    let rows = snapshots(&[("auto-2026-11-23-00-00-01Z", 0)]);
    let facts = Facts { snapshots: &rows, there: None, changed: true, ..Facts::default() };
    let (mut past, mut now, mut waits) = (Past::default(), 0, Vec::new());
    for _ in 0..10 {
        past.failed("away".into(), at(now));
        let Step::Until(then) = step(&plan(None), &past, &facts, now) else { panic!("it waits") };
        waits.push((then.0 - at(now).0) / SECOND);
        now = (then.0 - at(0).0) / SECOND;
        assert_eq!(step(&plan(None), &past, &facts, now), Step::Send(rows[0].id));
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
}

#[test]
fn what_was_cancelled_is_not_sent_but_the_next_is() {
    let rows = snapshots(&[("auto-2026-11-23-00-00-01Z", 0), ("auto-2026-11-23-00-00-02Z", 10)]);
    let past = Past { cancelled: Some(rows[1].id), ..Past::default() };
    let facts = Facts { snapshots: &rows, there: Some(rows[0].id), changed: true, ..Facts::default() };
    assert_eq!(step(&plan(Some(60)), &past, &facts, 20), Step::Until(at(70)));
    assert_eq!(step(&plan(Some(60)), &past, &facts, 70), Step::Snapshot);
}

#[test]
fn spent_snapshots_are_those_that_nothing_is_sent_from() {
    let mut rows = snapshots(&[
        ("auto-2026-11-23-00-00-01Z", 0),
        ("monday", 5),
        ("auto-2026-11-23-00-00-02Z", 10),
        ("auto-2026-11-23-00-00-03Z", 20),
        ("auto-2026-11-23-00-00-04Z", 30),
        ("auto-2026-11-23-00-00-05Z", 40),
    ]);
    rows[3].held = true;
    let (proved, busy) = ([rows[2].id], ["auto-2026-11-23-00-00-04Z".to_owned()]);
    let spent: Vec<_> = spent(&rows, 0, &proved, &busy).map(|row| row.name.as_str()).collect();
    assert_eq!(spent, ["auto-2026-11-23-00-00-01Z"]);
    assert_eq!(super::spent(&rows, 4, &proved, &busy).count(), 1, "the newest four and what is needed");
    assert_eq!(super::spent(&rows, 5, &proved, &busy).count(), 0);
}

#[test]
fn a_slow_plan_does_not_send_what_a_fast_one_takes() {
    let rows = snapshots(&[
        ("auto-2026-11-23-00-00-01Z", 0),
        ("auto-2026-11-23-00-00-02Z", 10),
        ("auto-2026-11-23-00-00-03Z", 20),
    ]);
    let mut facts = Facts { snapshots: &rows, there: Some(rows[0].id), changed: true, ..Facts::default() };
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 30), Step::Until(at(900)));
    assert_eq!(step(&plan(None), &Past::default(), &facts, 30), Step::Send(rows[2].id));
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 900), Step::Send(rows[2].id));
    let rows = snapshots(&[("auto-2026-11-23-00-00-01Z", 0), ("auto-2026-11-23-00-00-02Z", 10), ("monday", 20)]);
    facts.snapshots = &rows;
    facts.there = Some(rows[0].id);
    assert_eq!(step(&plan(Some(900)), &Past::default(), &facts, 30), Step::Send(rows[2].id), "people don't wait");
}

#[test]
fn a_clock_that_was_set_back_leaves_plans_their_pace() {
    let rows = snapshots(&[("early", 365 * 86_400)]);
    let facts = Facts { snapshots: &rows, there: Some(rows[0].id), changed: true, ..Facts::default() };
    let past = |taken| Past { taken, ..Past::default() };
    assert_eq!(step(&plan(Some(3600)), &past(None), &facts, 0), Step::Snapshot, "after a start at once");
    assert_eq!(step(&plan(Some(3600)), &past(Some(at(0))), &facts, 10), Step::Until(at(3600)));
    assert_eq!(step(&plan(Some(3600)), &past(Some(at(0))), &facts, 3600), Step::Snapshot);
    assert_eq!(step(&plan(None), &past(Some(at(0))), &facts, 1), Step::Until(at(SECONDS_MIN as i64)));
}

#[test]
fn what_people_made_goes_one_by_one_also_where_the_newest_there_is_here_no_more() {
    let rows = snapshots(&[("monday", 0), ("tuesday", 20), ("auto-2026-11-23-00-00-03Z", 30), ("wednesday", 40)]);
    let gone = SnapshotId::new(&IdSource::seeded(8));
    let facts = Facts { snapshots: &rows, there: Some(gone), moment: Some(at(10)), ..Facts::default() };
    assert_eq!(step(&plan(None), &Past::default(), &facts, 60), Step::Send(rows[1].id));
    let all: Vec<_> = owed(&facts, None).map(|row| row.name.as_str()).collect();
    assert_eq!(all, ["tuesday", "wednesday"]);
    assert_eq!(owed(&facts, Some(rows[1].id)).count(), 1, "but what a person cancelled");
    assert_eq!(owed(&Facts { there: None, moment: None, ..facts.clone() }, None).count(), 0, "nor before a first copy");
    let all_there = Facts { moment: Some(at(40)), ..facts };
    assert_eq!(step(&plan(None), &Past::default(), &all_there, 60), Step::Rest);
}

#[test]
fn a_peer_is_asked_now_and_then_whether_it_still_has_what_it_had() {
    let rows = snapshots(&[("monday", 0), ("tuesday", 20)]);
    let facts = Facts { snapshots: &rows, there: Some(rows[1].id), ask: true, ..Facts::default() };
    assert_eq!(step(&plan(None), &Past::default(), &facts, 60), Step::Send(rows[1].id));
    let waits = Facts { changed: true, ..facts.clone() };
    assert_eq!(step(&plan(Some(900)), &Past::default(), &waits, 60), Step::Send(rows[1].id), "while it waits");
    let (mut past, paused) = (Past::default(), Plan { paused: true, ..plan(None) });
    assert_eq!(step(&paused, &past, &facts, 60), Step::Off);
    past.failed("away".into(), at(60));
    assert_eq!(step(&plan(None), &past, &facts, 61), Step::Until(at(65)));
    let behind = Facts { there: Some(rows[0].id), ..facts };
    assert_eq!(step(&plan(None), &Past::default(), &behind, 60), Step::Send(rows[1].id), "what is new asks as well");
}
