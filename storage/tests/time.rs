//! Any moment back: volumes and shares as they were at random moments, against a log of what was done, also right after
//! a crash; rewinding in place, marks, windows that end, and what is kept of the journal for them.

#[path = "common/blocks.rs"]
mod blocks;
mod common;

use std::collections::{BTreeMap, BTreeSet};

use blocks::*;
use bytes::Bytes;
use common::*;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::{Credentials, FileTree, FileType, SetAttributes};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::{Limit, Moment};
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 4096;
/// So long and so much that nothing ends it.
const FOR_EVER: Window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };

fn with_volume(seed: u64, window: Window) -> (SimDisk, Store) {
    let disk = SimDisk::new(seed);
    let (store, _) = open(&disk).expect("an empty disk");
    store.create_volume("disk", MIB, Policy::Inline, Timestamp(1)).expect("room");
    store.set_window("disk", Some(window), Timestamp(1)).expect("room");
    (disk, store)
}

/// One stamped block: when, by which record, where, and with which number.
#[derive(Clone, Copy)]
struct Stamp {
    time: Timestamp,
    lsn: Lsn,
    block: u64,
    number: u64,
}

/// A block that says which write it is from, whole, and does not compress.
fn stamped(number: u64) -> Bytes {
    noise(number, BLOCK as usize).into()
}

/// The volume after these writes.
fn image_of(stamps: impl IntoIterator<Item = Stamp>) -> Vec<u8> {
    let mut image = vec![0; MIB as usize];
    for stamp in stamps {
        image[(stamp.block * BLOCK) as usize..][..BLOCK as usize].copy_from_slice(&stamped(stamp.number));
    }
    image
}

/// Writes stamped blocks; several may be of one moment.
fn stamp_blocks(store: &Store, rng: &mut Xoshiro256PlusPlus, log: &mut Vec<Stamp>, count: u64) {
    stamp_within(MIB / BLOCK, store, rng, log, count);
}

/// The same within the first blocks of the volume: the fewer, the more is written over before it is drained.
fn stamp_within(blocks: u64, store: &Store, rng: &mut Xoshiro256PlusPlus, log: &mut Vec<Stamp>, count: u64) {
    let volume = device(store, "disk");
    for _ in 0..count {
        let number = log.len() as u64 + 1;
        let time = Timestamp(log.last().map_or(10, |last| last.time.0) + rng.random_range(0..3));
        let block = rng.random_range(0..blocks);
        let lsn = volume.write(time, block * BLOCK, stamped(number)).expect("room");
        log.push(Stamp { time, lsn, block, number });
        if rng.random_range(0..50) == 0 {
            store.drain_all(time).expect("room");
        }
        while store.drain_step(time).expect("room") {}
    }
}

/// Compares the volume at a random moment with the log.
fn look_back(store: &Store, rng: &mut Xoshiro256PlusPlus, log: &[Stamp]) {
    let nth = rng.random_range(0..log.len());
    let (moment, upto) = match rng.random_range(0..2) {
        0 => {
            let time = log[nth].time;
            (Moment::Time(time), log.partition_point(|stamp| stamp.time <= time))
        }
        _ => (Moment::Lsn(log[nth].lsn), nth + 1),
    };
    let now = log[log.len() - 1].time;
    store.clone_at("disk", &moment, "past", now).expect("within the window");
    expect(&*device(store, "past"), &image_of(log[..upto].iter().copied()), &format!("{moment:?}"));
    store.delete_dataset("past", now).expect("just made");
}

fn sound(store: &Store) {
    let check = store.check(true, &mut |_| true).expect("a sound machine");
    assert!(check.is_sound(), "{:?}", check.problems);
}

#[test]
fn five_hundred_random_moments_hold_exactly_the_writes_up_to_them() {
    let moments: u64 = std::env::var("NARROWBOAT_MOMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let (disk, mut store) = with_volume(1, FOR_EVER);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
    let mut log = Vec::new();
    let mut reclaim = Beside::default();
    for round in 0..5 {
        stamp_blocks(&store, &mut rng, &mut log, 600);
        for _ in 0..moments / 10 {
            look_back(&store, &mut rng, &log);
            reclaim.step(&store, log[log.len() - 1].time, 3);
        }
        let stable = log[log.len() - 1 - rng.random_range(0..5)].lsn;
        device(&store, "disk").make_stable(stable).expect("a sound disk");
        reclaim.stop();
        drop(store);
        if round % 2 == 0 {
            disk.power_cut();
            disk.power_on();
        }
        store = open(&disk).expect("sound").0;
        // What the crash left is a prefix that has all that was stable.
        let found = all(&*device(&store, "disk"));
        let left = (0..=log.len()).rev().find(|upto| image_of(log[..*upto].iter().copied()) == found);
        let left = left.expect("order is kept");
        assert!(log[..left].last().is_some_and(|last| last.lsn >= stable), "what was stable is there");
        log.truncate(left);
        reclaim.finish(&store, log[log.len() - 1].time);
        for _ in 0..moments / 10 {
            look_back(&store, &mut rng, &log);
        }
    }
    assert!(reclaim.runs >= 10 && reclaim.freed > 0, "{} runs, {} objects", reclaim.runs, reclaim.freed);
    let timeline = store.timeline("disk").expect("there");
    assert_eq!(timeline.written.iter().map(|step| step.bytes).sum::<u64>(), log.len() as u64 * BLOCK);
    sound(&store);
}

#[test]
fn a_window_ends_and_lets_the_journal_go() {
    let bytes = 24 * MIB;
    let (_disk, store) = with_volume(1, Window { bytes, ..FOR_EVER });
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
    let mut log = Vec::new();
    let mut limits = BTreeSet::new();
    for _ in 0..12 {
        stamp_within(12, &store, &mut rng, &mut log, 1000);
        // A later time would be that of all that follows: the journal's never runs backwards.
        let now = log[log.len() - 1].time;
        let timeline = store.timeline("disk").expect("there");
        let reach = timeline.reach.expect("a window");
        assert!(reach.journal_bytes <= bytes, "{} bytes of journal in the window", reach.journal_bytes);
        let first = reach.first;
        limits.insert(format!("{:?}", reach.limit));
        let reached: Vec<Stamp> = log.iter().copied().filter(|stamp| stamp.time >= first).collect();
        assert!(!reached.is_empty() && reached.len() < 8000, "{} writes", reached.len());
        let time = reached[rng.random_range(0..reached.len())].time;
        store.clone_at("disk", &Moment::Time(time), "past", now).expect("within the window");
        let image = image_of(log.iter().copied().filter(|stamp| stamp.time <= time));
        expect(&*device(&store, "past"), &image, "a moment within");
        store.delete_dataset("past", now).expect("just made");
        let before = Moment::Time(Timestamp(first.0 - 1));
        assert!(store.clone_at("disk", &before, "past", now).is_err(), "before the window");
    }
    assert_eq!(limits, ["Begun", "Bytes"].map(String::from).into(), "and it says why");
    let stats = store.stats().expect("measured");
    let kept = stats.journal_bytes + stats.history_bytes;
    assert!(stats.history_bytes > 8 * MIB && kept <= bytes + 16 * MIB, "{stats:?}");
    store.set_window("disk", None, Timestamp(99_999)).expect("room");
    assert!(store.clone_at("disk", &Moment::Time(Timestamp(99_999)), "past", Timestamp(99_999)).is_err());
    store.close(Timestamp(99_999)).expect("room");
    let stats = store.stats().expect("measured");
    assert!(stats.journal_bytes <= 8 * MIB && stats.history_bytes == 0, "nothing is kept for nobody");
}

#[test]
fn a_window_in_time_ends_too_and_a_resting_dataset_keeps_nothing() {
    let (_disk, store) = with_volume(1, Window { nanoseconds: 1000, ..FOR_EVER });
    store.create_volume("busy", MIB, Policy::Inline, Timestamp(1)).expect("room");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
    let mut log = Vec::new();
    stamp_blocks(&store, &mut rng, &mut log, 500);
    let busy = device(&store, "busy");
    let from = log[log.len() - 1].time.0;
    for step in 0..20_000 {
        let now = Timestamp(from + step);
        busy.write(now, step as u64 % 256 * BLOCK, stamped(step as u64)).expect("room");
        while store.drain_step(now).expect("room") {}
    }
    store.close(Timestamp(from + 20_000)).expect("room");
    let kept = store.stats().expect("measured").journal_bytes;
    assert!(kept <= 16 * MIB, "{kept} bytes are kept for a dataset that rests");
    let reach = store.timeline("disk").expect("there").reach.expect("a window");
    let (first, last) = (reach.first, reach.last);
    assert!(first.0 <= last.0 - 1000 && reach.limit == Limit::Age, "{reach:?}");
    store.clone_at("disk", &Moment::Time(last), "past", last).expect("within");
    expect(&*device(&store, "past"), &image_of(log), "what rests is what it was");
}

#[test]
fn a_window_gives_up_its_oldest_before_writes_are_refused() {
    let (disk, store) = with_volume(1, FOR_EVER);
    let volume = device(&store, "disk");
    disk.set_capacity(64 * MIB);
    // Two contents in turn: history grows, and hardly anything else.
    let mut now = 10;
    let pass = |now: &mut i64| {
        for block in 0..MIB / BLOCK {
            *now += 1;
            volume
                .write(Timestamp(*now), block * BLOCK, stamped(block + *now as u64 / 256 % 2))
                .expect("windows give way");
        }
        while store.drain_step(Timestamp(*now)).expect("room") {}
    };
    let reach = || store.timeline("disk").expect("there").reach.expect("a window");
    (0..20).for_each(|_| pass(&mut now));
    assert_eq!(reach().limit, Limit::Begun);
    (0..180).for_each(|_| pass(&mut now));
    let (full, free) = (reach(), store.space().expect("measured").free_bytes);
    assert!(full.limit == Limit::Disk && full.first.0 > 10_000, "{full:?}");
    assert!(full.journal_bytes > 8 * MIB && free >= 4 * MIB, "no more than has to be: {full:?}, {free} bytes are free");
    for time in [full.first.0, (full.first.0 + full.last.0) / 2, full.last.0] {
        store.clone_at("disk", &Moment::Time(Timestamp(time)), "past", Timestamp(now)).expect("within the window");
        let block = device(&store, "past").read(0, BLOCK).expect("there").concat();
        let (passes, into) = ((time - 11) / 256, (time - 11) % 256);
        assert!(into >= 0 && block == stamped((11 + passes * 256) as u64 / 256 % 2), "at {time}");
        store.delete_dataset("past", Timestamp(now)).expect("just made");
    }
    // With room again it grows, and does not claim what is gone.
    disk.set_capacity(512 * MIB);
    (0..40).for_each(|_| pass(&mut now));
    let later = reach();
    assert!(
        later.limit == Limit::LetGo && later.first >= full.first && later.journal_bytes > full.journal_bytes,
        "{later:?}"
    );
    sound(&store);
}

#[test]
fn what_defers_waits_for_no_more_than_the_disk_could_take_once_more() {
    let (disk, store) = with_volume(1, FOR_EVER);
    let info = store.create_volume("later", 64 * MIB, Policy::Deferred, Timestamp(1)).expect("room");
    disk.set_capacity(48 * MIB);
    let volume = device(&store, "later");
    let mut drained = false;
    for nth in 0..20 {
        volume.write(Timestamp(2), nth % 16 * MIB, noise(nth % 16, MIB as usize).into()).expect("room");
        drained |= store.drain_step(Timestamp(2)).expect("room");
    }
    assert!(drained, "its bound is 32 MiB, and the disk has less: {:?}", store.deferral(info.row.id));
}

#[test]
fn moments_that_are_still_to_come_are_refused() {
    let (_disk, store) = with_volume(1, FOR_EVER);
    let volume = device(&store, "disk");
    let lsn = volume.write(Timestamp(100), 0, stamped(1)).expect("room");
    let refused = |moment: Moment, now| {
        let cloned = store.clone_at("disk", &moment, "past", now).map(drop);
        let rewound = store.rewind("disk", &moment, "before", now).map(drop);
        for outcome in [cloned, rewound] {
            let why = outcome.expect_err("it is still to come").to_string();
            assert!(why.contains("still to come"), "{why}");
        }
        assert!(store.snapshot_named("disk", "before").is_err(), "nothing was done");
    };
    refused(Moment::Time(Timestamp(151)), Timestamp(150));
    refused(
        Moment::Lsn(Lsn(store.mark(&["disk"], "m", false, Timestamp(150)).expect("a window").lsn.0 + 1)),
        Timestamp(150),
    );
    for moment in [Moment::Time(Timestamp(150)), Moment::Lsn(lsn)] {
        store.clone_at("disk", &moment, "past", Timestamp(150)).expect("this has been");
        store.delete_dataset("past", Timestamp(150)).expect("just made");
    }
    // The clock was set back: what was written before that can be named by the times that it has.
    store.clone_at("disk", &Moment::Time(Timestamp(150)), "past", Timestamp(20)).expect("it is in the journal");
    store.delete_dataset("past", Timestamp(20)).expect("just made");
    refused(Moment::Time(Timestamp(9000)), Timestamp(20));
}

#[test]
fn a_rewind_destroys_nothing_and_can_be_undone() {
    for sync in 0..40 {
        let (disk, store) = with_volume(sync, FOR_EVER);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(sync);
        let mut log = Vec::new();
        stamp_blocks(&store, &mut rng, &mut log, 60);
        let volume = device(&store, "disk");
        volume.flush().expect("a sound disk");
        let now = Timestamp(500);
        let then = log[20].time;
        let past = image_of(log.iter().copied().filter(|stamp| stamp.time <= then));
        let present = image_of(log.iter().copied());
        if sync > 0 {
            // The power goes somewhere in the middle of it: either it has happened or it has not.
            disk.cut_power_at_sync(disk.syncs() + sync);
        }
        let done = store.rewind("disk", &Moment::Time(then), "before", now).is_ok();
        if done {
            expect(&*volume, &past, "rewound");
        }
        drop((volume, store));
        disk.cut_power_at_sync(0);
        if !disk.is_on() || sync > 0 {
            disk.power_cut();
            disk.power_on();
        }
        let (store, _) = open(&disk).expect("opens");
        let volume = device(&store, "disk");
        let found = all(&*volume);
        assert!(found == past || !done && found == present, "sync {sync}: neither before nor after");
        if found == past {
            let before = store.snapshot_named("disk", "before").expect("the present was held fast");
            expect(&*store.snapshot_volume(before.id).expect("sealed"), &present, "the present");
            // On from there, and back to what was undone, through the moment of the rewind.
            volume.write(Timestamp(600), 0, stamped(77)).expect("nobody holds it");
            let moment = Moment::Time(log[log.len() - 1].time);
            store.rewind("disk", &moment, "again", Timestamp(700)).expect("undone");
            expect(&*volume, &present, "undone");
            store.clone_at("disk", &Moment::Time(Timestamp(600)), "between", Timestamp(800)).expect("within");
            let mut between = past.clone();
            between[..BLOCK as usize].copy_from_slice(&stamped(77));
            expect(&*device(&store, "between"), &between, "between two rewinds");
        }
        sound(&store);
    }
}

/// Everything in the root of a share: names, sizes, bytes.
fn listing(tree: &dyn FileTree) -> BTreeMap<String, (FileType, Vec<u8>)> {
    let entries = tree.read_dir(&Credentials::ROOT, Inode::ROOT, 2, 1000).expect("readable").entries;
    let of = |entry: narrowboat_storage::dataset::DirEntry| {
        let bytes = match entry.attributes.file_type {
            FileType::Regular => read(tree, entry.attributes.inode),
            _ => Vec::new(),
        };
        (String::from_utf8_lossy(&entry.name).into_owned(), (entry.attributes.file_type, bytes))
    };
    entries.into_iter().map(of).collect()
}

/// One random change of a share, committed.
fn change(tree: &dyn FileTree, rng: &mut Xoshiro256PlusPlus, now: i64) {
    let (name, other) = (format!("f{}", rng.random_range(0..6)), format!("f{}", rng.random_range(0..6)));
    let found = tree.lookup(&Credentials::ROOT, Inode::ROOT, name.as_bytes());
    let root = Inode::ROOT;
    match (rng.random_range(0..8), found) {
        (0..=4, found) => {
            let inode = found.map_or_else(|_| create(tree, root, &name, now), |file| file.inode);
            let len = [100, 5000, 300_000][rng.random_range(0..3)];
            write(tree, inode, rng.random_range(0..3) * 4000, &noise(rng.random_range(0..1000), len), now);
            commit(tree, inode).expect("room");
        }
        (5, Ok(_)) => drop(tree.rename(&at(now), (root, name.as_bytes()), (root, other.as_bytes()))),
        (6, Ok(_)) => drop(tree.remove(&at(now), root, name.as_bytes()).expect("there")),
        (_, Ok(file)) => {
            let set = SetAttributes { size: Some(rng.random_range(0..10_000)), ..SetAttributes::default() };
            tree.set_attributes(&at(now), file.inode, &set, None).expect("root may");
        }
        _ => {}
    }
}

#[test]
fn shares_come_back_with_renames_and_deletions() {
    let moments: u64 = std::env::var("NARROWBOAT_MOMENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let (disk, mut store, _) = with_share(3);
    store.set_window("share", Some(FOR_EVER), Timestamp(1)).expect("room");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let mut log: Vec<(i64, BTreeMap<_, _>)> = Vec::new();
    let share = |store: &Store| store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    let look_back = |store: &Store, rng: &mut Xoshiro256PlusPlus, log: &[(i64, BTreeMap<_, _>)], times: u64| {
        let now = Timestamp(log[log.len() - 1].0);
        for _ in 0..times {
            let (time, expected) = &log[rng.random_range(0..log.len())];
            store.clone_at("share", &Moment::Time(Timestamp(*time)), "past", now).expect("within");
            let past = store.tree(store.dataset_named("past").expect("there").row.id).expect("open");
            assert!(listing(&*past) == *expected, "at {time}");
            drop(past);
            store.delete_dataset("past", now).expect("just made");
        }
    };
    let mut crashes = 0;
    let mut reclaim = Beside::default();
    for now in 10..250 {
        reclaim.step(&store, Timestamp(now), rng.random_range(0..3));
        let tree = share(&store);
        change(&*tree, &mut rng, now);
        log.push((now, listing(&*tree)));
        match rng.random_range(0..25) {
            0 => store.drain_all(Timestamp(now)).expect("room"),
            1 => drop(store.create_snapshot("share", &format!("s{now}"), Timestamp(now)).expect("room")),
            2 => {
                drop(tree);
                reclaim.stop();
                store.close(Timestamp(now)).expect("room");
                drop(store);
                store = open(&disk).expect("sound").0;
            }
            3 => {
                // Names are stable when they are answered. The last change is not, so it may be there or not; and right behind
                // the crash every earlier moment is as it was.
                reclaim.stop();
                drop((tree, store));
                disk.power_cut();
                disk.power_on();
                store = open(&disk).expect("sound").0;
                let found = listing(&*share(&store));
                let left = log.iter().rposition(|(_, listing)| *listing == found).expect("order is kept");
                log.truncate(left + 1);
                crashes += 1;
                look_back(&store, &mut rng, &log, 5);
            }
            _ => {}
        }
    }
    assert!(crashes >= 3, "{crashes} crashes");
    reclaim.finish(&store, Timestamp(250));
    look_back(&store, &mut rng, &log, moments / 2);
    reclaim.finish(&store, Timestamp(251));
    assert!(reclaim.freed > 0, "{} runs", reclaim.runs);
    look_back(&store, &mut rng, &log, moments / 4);
    let (time, expected) = &log[log.len() / 2];
    let live = share(&store);
    let newest = create(&*live, Inode::ROOT, "newest", 301);
    store.rewind("share", &Moment::Time(Timestamp(*time)), "before", Timestamp(302)).expect("within");
    assert!(listing(&*live) == *expected, "in place");
    assert!(create(&*live, Inode::ROOT, "newer", 303) > newest, "inode numbers never go back");
    sound(&store);
}

#[test]
fn a_mark_holds_one_moment_of_several_datasets() {
    let (disk, store) = with_volume(1, FOR_EVER);
    store.create_volume("log", MIB, Policy::Inline, Timestamp(1)).expect("room");
    assert!(store.mark(&["disk", "log"], "tuesday", true, Timestamp(2)).is_err(), "one has no window");
    store.set_window("log", Some(FOR_EVER), Timestamp(2)).expect("room");
    // All calls of one moment: the mark parts them all the same.
    let now = Timestamp(3);
    device(&store, "disk").write(now, 0, stamped(1)).expect("room");
    device(&store, "log").write(now, 0, stamped(2)).expect("room");
    let lsn = store.mark(&["disk", "log"], "tuesday", true, now).expect("both have windows").lsn;
    device(&store, "disk").write(now, 0, stamped(3)).expect("room");
    device(&store, "log").write(now, BLOCK, stamped(4)).expect("room");
    assert!(store.mark(&["disk"], "tuesday", false, now).is_err(), "taken");
    assert!(store.create_snapshot("disk", "tuesday", now).is_err(), "whoever names it means one moment");
    store.create_snapshot("disk", "monday", now).expect("room");
    assert!(store.mark(&["log", "disk"], "monday", false, now).is_err(), "taken by a snapshot");
    for odd in ["", "a:b", "a@b", "a/b", "..", "line\nbreak", &"x".repeat(256)] {
        assert!(store.mark(&["disk"], odd, false, now).is_err(), "{odd:?}");
    }
    disk.power_cut();
    drop(store);
    disk.power_on();
    // The catalogue is lost, too: marks and windows are in the journal.
    narrowboat_storage::media::Media::remove(&disk, "catalogue.redb").expect("there");
    let (store, report) = open(&disk).expect("mends itself");
    assert!(report.catalogue.rebuilt.is_some());
    assert_eq!(store.timeline("disk").expect("there").marks[0].lsn, lsn);
    for (name, number) in [("disk", 1), ("log", 2)] {
        let timeline = store.timeline(name).expect("there");
        assert!(timeline.marks.len() == 1 && timeline.marks[0].quiet);
        store.clone_at(name, &Moment::Mark("tuesday".into()), "past", Timestamp(9)).expect("within");
        let block = device(&store, "past").read(0, BLOCK).expect("there").concat();
        assert_eq!(block, stamped(number), "{name}");
        store.delete_dataset("past", Timestamp(9)).expect("just made");
    }
    sound(&store);
}

#[test]
fn a_deferred_dataset_waits_for_its_hours_and_is_overrun_beyond_its_bound() {
    let (_disk, store) = with_volume(1, FOR_EVER);
    let info = store.create_volume("later", 64 * MIB, Policy::Deferred, Timestamp(1)).expect("room");
    let volume = device(&store, "later");
    let write = |nth: u64| {
        volume.write(Timestamp(2), nth % 64 * MIB, noise(nth, MIB as usize).into()).expect("room");
        store.drain_step(Timestamp(2)).expect("room")
    };
    let unique = || store.stats().expect("measured").pool.raw_bytes;
    for nth in 0..16 {
        assert!(!write(nth), "nothing is drained outside its hours");
    }
    let deferral = || store.deferral(info.row.id).expect("there").expect("it defers");
    assert!(!deferral().overrun && !deferral().hours && deferral().waiting_bytes >= 16 * MIB, "{:?}", deferral());
    let before = unique();
    store.set_deferred_hours(info.row.id, true).expect("there");
    while store.drain_step(Timestamp(3)).expect("room") {}
    assert!(unique() > before, "its hours have come");
    store.set_deferred_hours(info.row.id, false).expect("there");
    let drained = (16..64).any(write);
    assert!(drained, "more than its bound waits");
    while store.drain_step(Timestamp(4)).expect("room") {}
    assert!(!deferral().overrun && deferral().waiting_bytes < MIB, "and then it waits again: {:?}", deferral());
}
