//! Clocks that are set: forward, back, while the box runs and while it is off. Windows keep what they are there to keep, and every
//! moment can be named.

#[path = "common/blocks.rs"]
mod blocks;
mod common;

use blocks::*;
use common::*;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::{Limit, Moment};
use narrowboat_storage::units::Timestamp;

const MIB: u64 = 1 << 20;
const MINUTE: i64 = 60_000_000_000;
const YEAR: i64 = 365 * 24 * 60 * MINUTE;
/// When the tests begin: no clock of a box begins at nought.
const BEGIN: i64 = 50 * YEAR;

fn with_window(minutes: i64) -> (SimDisk, Store) {
    let disk = SimDisk::new(3);
    let (store, _) = open(&disk).expect("an empty disk");
    store.create_volume("disk", MIB, Policy::Inline, Timestamp(BEGIN)).expect("room");
    let window = Window { nanoseconds: (minutes * MINUTE) as u64, bytes: u64::MAX / 4 };
    store.set_window("disk", Some(window), Timestamp(BEGIN)).expect("room");
    (disk, store)
}

/// A minute of the box: something is written, and its drain is called as ever. The first block says which minute it is.
fn minute(store: &Store, now: i64, number: u64) {
    device(store, "disk").write(Timestamp(now), 0, number.to_le_bytes().repeat(512).into()).expect("room");
    store.drain_all(Timestamp(now)).expect("room");
    while store.drain_step(Timestamp(now)).expect("room") {}
}

/// The minute that the volume's first block was written in, as it was at a moment.
fn minute_at(store: &Store, moment: &Moment, now: i64) -> u64 {
    store.clone_at("disk", moment, "past", Timestamp(now)).unwrap_or_else(|error| panic!("{moment:?}: {error}"));
    let bytes = device(store, "past").read(0, 8).expect("there").concat();
    store.delete_dataset("past", Timestamp(now)).expect("just made");
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

fn first(store: &Store) -> i64 {
    store.timeline("disk").expect("there").reach.expect("a window").first.0
}

#[test]
fn a_jump_of_the_clock_lets_go_of_no_history() {
    for (off, cut) in [(false, false), (true, false), (true, true)] {
        let (disk, mut store) = with_window(60);
        (1..=50).for_each(|nth| minute(&store, BEGIN + nth * MINUTE, nth as u64));
        let before = first(&store);
        if off {
            store.close(Timestamp(BEGIN + 50 * MINUTE)).expect("room");
            drop(store);
            store = open(&disk).expect("sound").0;
        }
        let jumped = BEGIN + YEAR;
        minute(&store, jumped, 51);
        if cut {
            drop(store);
            disk.power_cut();
            disk.power_on();
            store = open(&disk).expect("sound").0;
            minute(&store, jumped + MINUTE, 51);
        }
        assert_eq!(first(&store), before, "off: {off}, cut: {cut}: nothing is let go of");
        let kept = Moment::Time(Timestamp(BEGIN + 20 * MINUTE + 1));
        assert_eq!(minute_at(&store, &kept, jumped + MINUTE), 20);
        let jumps = store.jumps();
        assert_eq!((jumps.len(), jumps[0].from.0, jumps[0].to.0), (1, BEGIN + 50 * MINUTE, jumped));

        // Time goes on, and the window with it: an hour later nothing is left of what was before, and little too much.
        (2..=8).for_each(|nth| minute(&store, jumped + nth * MINUTE, 50 + nth as u64));
        let reach = store.timeline("disk").expect("there").reach.expect("a window");
        assert!((58..=60).contains(&(reach.passed_nanoseconds as i64 / MINUTE)), "{reach:?}");
        (9..=30).for_each(|nth| minute(&store, jumped + nth * MINUTE, 50 + nth as u64));
        let begin = first(&store);
        assert!((BEGIN + 18 * MINUTE..=BEGIN + 20 * MINUTE).contains(&begin), "{} minutes", (begin - BEGIN) / MINUTE);
        (31..=62).for_each(|nth| minute(&store, jumped + nth * MINUTE, 50 + nth as u64));
        let reach = store.timeline("disk").expect("there").reach.expect("a window");
        assert!(reach.first.0 >= jumped && reach.limit == Limit::Age, "{reach:?}");
        assert!(store.clone_at("disk", &kept, "past", Timestamp(jumped + 62 * MINUTE)).is_err(), "it is too long ago");
    }
}

#[test]
fn a_box_at_which_nobody_writes_grows_older_all_the_same() {
    let (_disk, store) = with_window(60);
    minute(&store, BEGIN, 1);
    minute(&store, BEGIN + MINUTE, 2);
    for nth in 2..600 {
        store.drain_step(Timestamp(BEGIN + nth * MINUTE)).expect("room");
    }
    minute(&store, BEGIN + 600 * MINUTE, 3);
    assert!(store.jumps().is_empty(), "{:?}", store.jumps());
    let reach = store.timeline("disk").expect("there").reach.expect("a window");
    assert_eq!(reach.limit, Limit::Age, "{reach:?}");
}

#[test]
fn a_jump_that_a_power_cut_took_has_not_been() {
    let (disk, store) = with_window(60);
    minute(&store, BEGIN + MINUTE, 1);
    // It is told, and nothing of that time is written.
    store.drain_step(Timestamp(BEGIN + YEAR)).expect("room");
    assert_eq!(store.jumps().len(), 1);
    drop(store);
    disk.power_cut();
    disk.power_on();
    let store = open(&disk).expect("sound").0;
    minute(&store, BEGIN + 2 * MINUTE, 2);
    assert!(store.jumps().is_empty(), "{:?}", store.jumps());
}

/// The box has started with a clock that is years ahead, and it is set right a minute later.
#[test]
fn after_the_clock_was_set_back_every_moment_can_still_be_named() {
    for restarted in [false, true] {
        let (disk, mut store) = with_window(600);
        minute(&store, BEGIN + MINUTE, 1);
        minute(&store, BEGIN + 5 * YEAR, 2);
        if restarted {
            store.close(Timestamp(BEGIN + 5 * YEAR)).expect("room");
            drop(store);
            store = open(&disk).expect("sound").0;
        }
        let mut times = Vec::new();
        for nth in 3..20 {
            let now = BEGIN + nth * MINUTE;
            minute(&store, now, nth as u64);
            assert_eq!(minute_at(&store, &Moment::Newest, now), nth as u64, "the newest");
            let last = store.timeline("disk").expect("there").reach.expect("a window").last;
            assert!(times.last().is_none_or(|(before, _)| *before < last), "every moment has a time of its own");
            times.push((last, nth as u64));
        }
        let now = BEGIN + 20 * MINUTE;
        for (time, number) in &times {
            assert_eq!(minute_at(&store, &Moment::Time(*time), now), *number, "restarted: {restarted}");
        }
        // Marks and snapshots have the times of their moments.
        let marked = store.mark(&["disk"], "mark", false, Timestamp(now)).expect("a window");
        let mark = store.timeline("disk").expect("there").marks.remove(0);
        assert_eq!((mark.time, mark.lsn), (marked.time, marked.lsn));
        let snapshot = store.create_snapshot("disk", "snapshot", Timestamp(now)).expect("room");
        assert!(mark.time >= times[times.len() - 1].0 && snapshot.time >= mark.time);
        assert_eq!(minute_at(&store, &Moment::Time(mark.time), now), 19);
        assert!(store.clone_at("disk", &Moment::Time(Timestamp(BEGIN + 9 * YEAR)), "past", Timestamp(now)).is_err());
        assert_eq!(first(&store), BEGIN, "and nothing is let go of");
    }
}

/// What clients have written and not committed is part of the newest moment.
#[test]
fn the_newest_moment_has_all_that_was_written() {
    let (_disk, store, tree) = with_share(4);
    let window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };
    store.set_window("share", Some(window), Timestamp(BEGIN)).expect("room");
    let file = create(&*tree, narrowboat_storage::units::Inode::ROOT, "file", BEGIN + YEAR);
    write(&*tree, file, 0, &noise(1, 300_000), BEGIN);
    let past = store.clone_at("share", &Moment::Newest, "past", Timestamp(BEGIN)).expect("it is now");
    let copy = store.tree(past.row.id).expect("there");
    assert_eq!(copy.attributes(file).expect("there").size, 300_000);
}
