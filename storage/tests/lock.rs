//! Locks: what nobody can delete, by which clock, and through which power cuts.

mod common;

use std::time::Duration;

use common::*;
use narrowboat_storage::catalogue::{DeletedBy, Policy};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::{KEPT_EVERY, LONGEST, LockScope};
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};

const DAY: Duration = Duration::from_secs(86_400);
/// A clock that somebody has set a century ahead.
const FUTURE: Timestamp = Timestamp(100 * 366 * 86_400 * 1_000_000_000);

fn with_snapshots(names: &[&str]) -> (SimDisk, Store) {
    let disk = SimDisk::new(9);
    let (store, _) = open(&disk).expect("an empty disk");
    store.create_volume("disk", 1 << 20, Policy::Inline, Timestamp(1)).expect("room");
    for name in names {
        store.create_snapshot("disk", name, Timestamp(2)).expect("room");
    }
    (disk, store)
}

/// Asserts that the whole store refuses to delete that snapshot, and says why.
fn is_locked(store: &Store, name: &str) {
    let id = store.snapshot_named("disk", name).expect("there").id;
    let refusals = [
        store.delete_snapshot("disk", name, FUTURE),
        store.delete_snapshot_by_id(id, DeletedBy::Retention, FUTURE),
        store.delete_dataset("disk", FUTURE),
    ];
    for refused in refusals {
        let Err(Error::Refused(Refusal::Invalid(why))) = refused else { panic!("{refused:?}") };
        assert!(why.contains(&format!("disk@{name} is locked")), "{why}");
    }
}

#[test]
fn no_clock_that_is_set_ends_a_lock() {
    let (_, store) = with_snapshots(&["one"]);
    store.lock_snapshot("disk", "one", DAY, Timestamp(3)).expect("there");
    is_locked(&store, "one");
    store.run_on(DAY - Duration::from_secs(1), FUTURE).expect("room");
    is_locked(&store, "one");
    store.hold_snapshot("disk", "one", true, FUTURE).expect("there");
    store.hold_snapshot("disk", "one", false, FUTURE).expect("there");
    is_locked(&store, "one");
    store.run_on(Duration::from_secs(2), FUTURE).expect("room");
    store.delete_snapshot("disk", "one", FUTURE).expect("its time is over");
    store.delete_dataset("disk", FUTURE).expect("nothing is locked");
}

#[test]
fn a_lock_is_made_longer_and_never_shorter() {
    let (_, store) = with_snapshots(&["one"]);
    store.lock_snapshot("disk", "one", 2 * DAY, Timestamp(3)).expect("there");
    assert!(store.lock_snapshot("disk", "one", DAY, Timestamp(3)).is_err(), "shorter");
    store.run_on(DAY + DAY / 2, Timestamp(4)).expect("room");
    store.lock_snapshot("disk", "one", DAY, Timestamp(5)).expect("longer than what is left");
    let id = store.snapshot_named("disk", "one").expect("there").id;
    assert!(store.lock_left(id).expect("locked") >= DAY);
    for odd in [Duration::ZERO, LONGEST + DAY] {
        assert!(store.lock_snapshot("disk", "one", odd, Timestamp(5)).is_err(), "{odd:?}");
    }
    assert!(store.lock_snapshot("disk", "two", DAY, Timestamp(5)).is_err(), "it is not there");
}

#[test]
fn a_rule_locks_what_comes_and_its_end_unlocks_nothing() {
    let (_, store) = with_snapshots(&["before"]);
    let scope = LockScope::Dataset(store.dataset_named("disk").expect("there").row.id);
    store.set_lock_rule(scope, Some(DAY), Timestamp(3)).expect("room");
    store.set_lock_rule(LockScope::Replicas, Some(DAY), Timestamp(3)).expect("room");
    store.create_snapshot("disk", "one", Timestamp(4)).expect("room");
    is_locked(&store, "one");
    store.set_lock_rule(scope, None, Timestamp(5)).expect("room");
    store.create_snapshot("disk", "two", Timestamp(6)).expect("room");
    is_locked(&store, "one");
    store.delete_snapshot("disk", "two", Timestamp(7)).expect("no rule, and no replica");
    store.delete_snapshot("disk", "before", Timestamp(7)).expect("older than the rule");
    assert!(store.set_lock_rule(scope, Some(LONGEST + DAY), Timestamp(8)).is_err());
}

/// Cut at any moment, what was answered is locked, and for no shorter than was said.
#[test]
fn locks_outlive_power_cuts_and_only_grow_by_them() {
    for lost_catalogue in [false, true] {
        let (disk, store) = with_snapshots(&[]);
        let scope = LockScope::Dataset(store.dataset_named("disk").expect("there").row.id);
        store.run_on(100 * DAY, Timestamp(2)).expect("room");
        store.set_lock_rule(scope, Some(DAY), Timestamp(3)).expect("room");
        store.create_snapshot("disk", "one", Timestamp(4)).expect("room");
        let mut store = store;
        let mut ran = Duration::ZERO;
        while ran < DAY {
            let steps = 37 * KEPT_EVERY / 10;
            (0..10).for_each(|_| store.run_on(steps / 10, Timestamp(5)).expect("room"));
            ran += steps;
            drop(store);
            disk.power_cut();
            disk.power_on();
            if lost_catalogue {
                disk.lose("catalogue.redb").expect("there");
            }
            store = open(&disk).expect("sound").0;
            if ran < DAY {
                is_locked(&store, "one");
            }
        }
        let id = store.snapshot_named("disk", "one").expect("there").id;
        let left = store.lock_left(id).map_or(0, |left| left.as_secs());
        let cuts = ran.as_secs() / (37 * KEPT_EVERY.as_secs() / 10);
        assert!(left <= cuts * KEPT_EVERY.as_secs() + 1, "{left} s are left after {cuts} cuts");
        store.run_on(Duration::from_secs(left + 1), Timestamp(6)).expect("room");
        store.delete_snapshot("disk", "one", Timestamp(7)).expect("its time is over at last");
    }
}

/// A box that is stopped in order keeps how long it ran, however soon that is.
#[test]
fn orderly_stops_do_not_make_locks_longer() {
    let (disk, store) = with_snapshots(&["one"]);
    store.lock_snapshot("disk", "one", Duration::from_secs(3600), Timestamp(3)).expect("there");
    let mut store = store;
    for stops in 0..7 {
        is_locked(&store, "one");
        store.run_on(Duration::from_secs(540), Timestamp(4)).expect("room");
        store.close(Timestamp(4)).expect("room");
        drop(store);
        store = open(&disk).expect("sound").0;
        assert_eq!(store.run_seconds(), (stops + 1) * 540);
    }
    store.delete_snapshot("disk", "one", Timestamp(5)).expect("the box ran for an hour and three minutes");
}
