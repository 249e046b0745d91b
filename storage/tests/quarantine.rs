//! What is deleted can be had back: for how long, by which clock, through which power cuts, beside reclaim, and on a full disk.
//! `NARROWBOAT_SEEDS` gives the number of worlds.

mod common;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "common/received.rs"]
mod received;
#[allow(dead_code, reason = "a part of it is used")]
#[path = "common/sending.rs"]
mod sending;
#[path = "common/world/mod.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::*;
use narrowboat_storage::catalogue::{DeletedBy, Policy, Window};
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::Kind;
use narrowboat_storage::reclaim::Stepped;
use narrowboat_storage::store::{KEPT_EVERY, Moment, OpenReport};
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store};
use received::Branch;
use world::World;

const DAY: Duration = Duration::from_secs(86_400);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// A clock that somebody has set a century ahead.
const FUTURE: Timestamp = Timestamp(100 * 366 * 86_400 * 1_000_000_000);

fn seeds(default: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// A share with one file of these bytes, and a snapshot of it; then the file has others.
fn with_monday(disk: &SimDisk, bytes: &[u8]) -> Store {
    let (store, _) = open_keeping(disk, WEEK).expect("an empty disk");
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    let file = create(&*tree, Inode::ROOT, "file", 2);
    write(&*tree, file, 0, bytes, 3);
    commit(&*tree, file).expect("room");
    store.create_snapshot("share", "monday", Timestamp(4)).expect("room");
    write(&*tree, file, 0, &noise(99, bytes.len()), 5);
    commit(&*tree, file).expect("room");
    store.close(Timestamp(6)).expect("room");
    store
}

fn file_of(store: &Store, dataset: &str, snapshot: &str) -> Vec<u8> {
    let row = store.snapshot_named(dataset, snapshot).expect("there");
    let tree = store.snapshot_tree(row.id).expect("sound");
    let found = tree.lookup(&narrowboat_storage::dataset::Credentials::ROOT, Inode::ROOT, b"file").expect("there");
    read(&*tree, found.inode)
}

fn reclaim(store: &Store) {
    Beside::default().finish(store, Timestamp(9));
}

/// What emptying the quarantine would free, and what is free to go anyway.
fn preview(store: &Store) -> u64 {
    let mut run = store.reclaim_preview_without(&|_| true).expect("no other run");
    while run.step(store, Timestamp(9)).expect("a sound disk") != Stepped::Done {}
    run.report().freeable_bytes
}

fn labels(store: &Store) -> Vec<String> {
    store.quarantined().iter().map(|one| one.label()).collect()
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Refused(refusal)) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deleted_snapshot_is_gone_for_everybody_and_comes_back_as_it_was() {
    let (disk, bytes) = (SimDisk::new(1), noise(1, 700_000));
    let store = with_monday(&disk, &bytes);
    let id = store.snapshot_named("share", "monday").expect("there").id;
    store.delete_snapshot("share", "monday", Timestamp(7)).expect("not held");
    assert!(store.snapshots(None).is_empty() && store.snapshot(id).is_err() && store.snapshot_tree(id).is_err());
    assert!(store.delete_snapshot_by_id(id, DeletedBy::Person, Timestamp(8)).is_err(), "twice");
    assert!(store.hold_snapshot("share", "monday", true, Timestamp(8)).is_err());
    assert!(store.clone_snapshot("share", "monday", "clone", Timestamp(8)).is_err());
    let kept = &store.quarantined()[0];
    assert_eq!((kept.label().as_str(), kept.deleted.by), ("share@monday", DeletedBy::Person));
    assert!(kept.left > WEEK - Duration::from_secs(1) && kept.left <= WEEK + Duration::from_secs(1));
    reclaim(&store);
    let row = store.undelete_snapshot("share", "monday", None, Timestamp(9)).expect("in quarantine");
    assert_eq!(row.id, id);
    assert!(file_of(&store, "share", "monday") == bytes, "other bytes");
    assert!(store.quarantined().is_empty());
    refused(store.undelete_snapshot("share", "monday", None, Timestamp(9)));
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

#[test]
fn names_are_free_at_once_and_what_comes_back_takes_another() {
    let (disk, bytes) = (SimDisk::new(2), noise(1, 100_000));
    let store = with_monday(&disk, &bytes);
    store.delete_snapshot("share", "monday", Timestamp(7)).expect("not held");
    let second = store.create_snapshot("share", "monday", Timestamp(8)).expect("the name is free");
    assert!(refused(store.undelete_snapshot("share", "monday", None, Timestamp(9))).contains("exists already"));
    store.undelete_snapshot("share", "monday", Some("first"), Timestamp(9)).expect("a free name");
    assert!(file_of(&store, "share", "first") == bytes);
    // Of two that were called so, one is meant.
    store.delete_snapshot("share", "monday", Timestamp(10)).expect("not held");
    store.create_snapshot("share", "monday", Timestamp(11)).expect("free");
    store.delete_snapshot("share", "monday", Timestamp(12)).expect("not held");
    let why = refused(store.undelete_snapshot("share", "monday", None, Timestamp(13)));
    assert!(why.contains(&second.id.to_string()), "{why}");
    let back = store.undelete_snapshot("share", &second.id.to_string(), None, Timestamp(13)).expect("by its id");
    assert_eq!((back.id, back.name.as_str()), (second.id, "monday"));
    // The same of datasets.
    store.delete_dataset("share", Timestamp(14)).expect("nothing is held");
    let other = store.create_share("share", Policy::Inline, Timestamp(15)).expect("the name is free");
    assert!(refused(store.undelete_dataset("share", None, Timestamp(16))).contains("exists already"));
    let back = store.undelete_dataset("share", Some("share-then"), Timestamp(16)).expect("a free name");
    assert_ne!(back.row.id, other.row.id);
    assert!(file_of(&store, "share-then", "first") == bytes);
    assert_eq!(labels(&store), ["share-then@monday"], "what was deleted before it stays deleted");
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

#[test]
fn a_deleted_dataset_stops_at_once_and_comes_back_with_its_past() {
    let disk = SimDisk::new(3);
    let store = with_monday(&disk, &noise(1, 100_000));
    let hour = 3_600_000_000_000;
    let window = Window { nanoseconds: hour as u64, bytes: 1 << 30 };
    store.set_window("share", Some(window), Timestamp(10)).expect("room");
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("there");
    let file = create(&*tree, Inode::ROOT, "other", 20);
    for step in 0..5 {
        write(&*tree, file, 0, &noise(200 + step, 50_000), 100 + 10 * step as i64);
        commit(&*tree, file).expect("room");
    }
    // Not in any layer that was drained: it is to be found behind the deletion, too.
    store.delete_dataset("share", Timestamp(200)).expect("nothing is held");
    let stale = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Refused(Refusal::Stale)));
    assert!(stale(tree.attributes(file).map(drop)) && stale(tree.commit(file).map(drop)));
    assert!(stale(tree.write(&at(201), file, 0, bytes::Bytes::from_static(b"late")).map(drop)));
    assert!(
        store.dataset_rows().is_empty()
            && store.snapshots(None).is_empty()
            && store.mark(&["share"], "m", false, Timestamp(201)).is_err()
    );
    // Much longer than its window, with a journal that others fill, splits, trims, and runs of reclaim.
    let other = store.create_share("other", Policy::Inline, Timestamp(202)).expect("room");
    let others = store.tree(other.row.id).expect("there");
    let churn = create(&*others, Inode::ROOT, "churn", 203);
    for round in 0..6 {
        let now = 10 * hour + round;
        write(&*others, churn, 0, &noise(300 + round as u64, 3 << 20), now);
        commit(&*others, churn).expect("room");
        store.drain_all(Timestamp(now)).expect("room");
        while store.drain_step(Timestamp(now)).expect("room") {}
    }
    store.close(Timestamp(11 * hour)).expect("room");
    reclaim(&store);
    drop((store, tree, others));
    let (store, _) = open_keeping(&disk, WEEK).expect("sound");
    let back = store.undelete_dataset("share", None, Timestamp(12 * hour)).expect("in quarantine");
    let tree = store.tree(back.row.id).expect("there");
    assert!(read(&*tree, file) == noise(204, 50_000), "what was written last");
    for step in [1, 3] {
        let moment = Moment::Time(Timestamp(105 + 10 * step));
        let name = format!("then-{step}");
        let then = store.clone_at("share", &moment, &name, Timestamp(12 * hour));
        // Its window goes on behind it: what is older goes then, but not before the next trimming.
        let then = store.tree(then.expect("its past is as it was").row.id).expect("there");
        assert!(read(&*then, file) == noise(200 + step as u64, 50_000), "step {step}");
    }
    write(&*tree, file, 0, b"goes on", 12 * hour + 1);
    commit(&*tree, file).expect("room");
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

#[test]
fn no_clock_that_is_set_empties_the_quarantine() {
    let disk = SimDisk::new(4);
    let store = with_monday(&disk, &noise(1, 300_000));
    store.delete_snapshot("share", "monday", Timestamp(7)).expect("not held");
    store.delete_dataset("share", Timestamp(8)).expect("not held");
    store.run_on(WEEK - Duration::from_secs(1), FUTURE).expect("room");
    store.expire_quarantine(FUTURE).expect("room");
    assert_eq!(labels(&store), ["share", "share@monday"]);
    // A shorter setting counts for what is deleted from now on.
    store.close(FUTURE).expect("room");
    drop(store);
    let (store, _) = open_keeping(&disk, Duration::ZERO).expect("sound");
    store.expire_quarantine(FUTURE).expect("room");
    assert_eq!(labels(&store), ["share", "share@monday"]);
    store.run_on(Duration::from_secs(3), FUTURE).expect("room");
    let emptied = store.expire_quarantine(FUTURE).expect("room");
    assert_eq!((emptied.datasets.len(), emptied.snapshots), (1, 1));
    assert!(labels(&store).is_empty());
    refused(store.undelete_dataset("share", None, FUTURE));
    reclaim(&store);
    store.close(FUTURE).expect("room");
    reclaim(&store);
    assert_eq!(store.stats().expect("readable").pool.objects, 0, "nothing is left of it");
}

#[test]
fn power_cuts_and_a_lost_catalogue_leave_it_and_only_make_it_longer() {
    for lost in [false, true] {
        let (disk, bytes) = (SimDisk::new(5), noise(1, 300_000));
        let mut store = with_monday(&disk, &bytes);
        store.create_snapshot("share", "tuesday", Timestamp(7)).expect("room");
        store.delete_snapshot("share", "monday", Timestamp(8)).expect("not held");
        let mut ran = Duration::ZERO;
        while ran < WEEK - DAY {
            let step = DAY / 2;
            (0..100).for_each(|_| store.run_on(step / 100, Timestamp(9)).expect("room"));
            ran += step;
            store.expire_quarantine(Timestamp(9)).expect("room");
            drop(store);
            disk.power_cut();
            disk.power_on();
            if lost {
                disk.lose("catalogue.redb").expect("there");
            }
            store = open_keeping(&disk, WEEK).expect("sound").0;
            assert_eq!(labels(&store), ["share@monday"]);
            assert!(store.snapshot_named("share", "tuesday").is_ok());
        }
        let left = store.quarantined()[0].left;
        let cuts = ran.as_secs() / (DAY / 2).as_secs();
        let most = WEEK - ran + KEPT_EVERY * cuts as u32 + Duration::from_secs(2);
        assert!(left >= WEEK - ran && left <= most, "{left:?} after {cuts} cuts");
        reclaim(&store);
        store.undelete_snapshot("share", "monday", None, Timestamp(10)).expect("in quarantine");
        assert!(file_of(&store, "share", "monday") == bytes);
    }
}

#[test]
fn a_full_disk_refuses_no_deletion() {
    let disk = SimDisk::new(6);
    let store = with_monday(&disk, &noise(1, 3_000_000));
    disk.fill(100_000);
    store.delete_snapshot("share", "monday", Timestamp(7)).expect("it gives room in the end");
    store.delete_dataset("share", Timestamp(8)).expect("it gives room in the end");
    assert_eq!(labels(&store), ["share", "share@monday"]);
    let free = || narrowboat_storage::media::Media::space(&disk).expect("on").free_bytes;
    // Index, catalogue and journal give room back, too, or not: nobody can tell that before.
    let containers = || store.disk_parts().map(|parts| parts.objects_bytes + parts.directories_bytes).expect("on");
    let (before, containers_before) = (free(), containers());
    reclaim(&store);
    assert!(free() < before + 1_000_000, "what can be had back keeps its room");
    let told = preview(&store);
    let emptied = store.empty_quarantine(&|one| one.snapshot.is_none(), Timestamp(9)).expect("room");
    assert_eq!((emptied.datasets.len(), emptied.snapshots), (1, 0));
    assert!(labels(&store).is_empty(), "its snapshots went with it");
    let _ = store.drain_step(Timestamp(9));
    reclaim(&store);
    let freed = containers_before - containers();
    assert!(freed > 5_500_000 && told.abs_diff(freed) * 10 < freed, "{told} bytes told, {freed} freed");
}

#[test]
fn what_a_peer_sends_again_comes_back_and_what_was_deleted_with_it_stays_deleted() {
    let disk = SimDisk::new(7);
    let (store, _) = open_keeping(&disk, WEEK).expect("an empty disk");
    let mut branch = Branch::new(7);
    let now = Timestamp(10);
    while store.snapshots(None).len() < 2 {
        branch.send(&store, 1, now).expect("a sound disk");
    }
    let row = store.dataset_rows().pop().expect("a replica");
    let old = store.snapshots(Some(row.id));
    store.delete_dataset(&row.name, now).expect("not held");
    assert!(store.dataset_rows().is_empty());
    store.create_share(&row.name, Policy::Inline, now).expect("the name is free");
    while store.snapshots(None).is_empty() {
        branch.send(&store, 1, now).expect("a sound disk");
    }
    let back = store.dataset_row(row.id).expect("it came back");
    assert!(back.name != row.name && back.origin == row.origin, "{back:?}");
    assert_eq!(store.snapshots(Some(row.id)).len(), 1, "what arrived, alone");
    let kept: Vec<_> = store.quarantined().into_iter().filter_map(|one| Some(one.snapshot?.id)).collect();
    assert!(old.iter().all(|old| kept.contains(&old.id)), "{kept:?}");
    reclaim(&store);
    for old in &old {
        store.undelete_snapshot(&back.name, &old.id.to_string(), None, now).expect("each for itself");
    }
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

/// A store in which what is deleted can be had back for a day.
fn open_a_day(disk: &SimDisk) -> Result<(Store, OpenReport), Error> {
    open_keeping(disk, DAY)
}

/// The power is off and on again; where the planned cut was not reached, it is now.
fn crash(disk: &SimDisk) {
    if disk.is_on() {
        disk.power_cut();
    }
    disk.cut_power_at_sync(0);
    disk.power_on();
}

const STEPS: u64 = 80;

/// A workload with a quarantine whose power is cut at one sync. False where it had fewer.
fn cut_at(seed: u64, sync: u64) -> (bool, u64) {
    let disk = SimDisk::new(seed ^ sync << 32);
    let mut world = World::keeping(open_a_day, DAY, disk.clone(), seed).expect("a sound disk");
    world.run(30);
    disk.cut_power_at_sync(disk.syncs() + sync);
    for _ in 0..STEPS / 8 {
        if disk.is_on() {
            world.snapshot("main");
            world.delete_snapshot();
            world.delete_clone();
            world.quarantine_step();
            world.run_on(4);
        }
    }
    let cut = !disk.is_on();
    crash(&disk);
    world.reopen();
    world.run_on(5);
    world.undelete_all();
    world.expect_all();
    (cut, world.had_back)
}

#[test]
fn a_power_cut_at_every_sync_leaves_what_was_deleted_or_had_back_as_it_was_told() {
    let (mut cuts, mut had_back) = (0, 0);
    for seed in 0..seeds(1) {
        for sync in 1.. {
            let outcome = catch_unwind(AssertUnwindSafe(|| cut_at(seed, sync)));
            let Ok((cut, back)) = outcome else { panic!("seed {seed}, sync {sync}: see above") };
            had_back += back;
            if !cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 30 && had_back > 30, "{cuts} cuts, {had_back} had back");
}

#[test]
fn beside_runs_of_reclaim_all_that_can_be_had_back_is_whole() {
    let (mut freed, mut had_back) = (0, 0);
    for seed in 0..seeds(8) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::keeping(open_a_day, DAY, SimDisk::new(seed), seed).expect("a sound disk");
            world.run(20);
            let mut beside = Beside::default();
            for round in 0..60 {
                let now = world.now();
                let steps = world.roll(12);
                beside.step(world.store(), now, steps);
                world.snapshot("main");
                world.delete_snapshot();
                match world.roll(6) {
                    0 => world.delete_clone(),
                    1 => world.quarantine_step(),
                    2 => drop(world.write_again("main")),
                    _ => world.run_on(2),
                }
                if round % 20 == 19 {
                    world.expect_all();
                }
            }
            world.undelete_all();
            world.expect_all();
            beside.finish(world.store(), Timestamp(1 << 40));
            world.expect_all();
            beside.stop();
            world.reopen();
            world.expect_all();
            (beside.freed, world.had_back)
        }));
        let Ok((more, back)) = outcome else { panic!("seed {seed}: see above") };
        (freed, had_back) = (freed + more, had_back + back);
    }
    assert!(freed > 0 && had_back > 20, "{freed} freed, {had_back} had back");
}

/// What only a deleted snapshot, or a deleted dataset, has is told like all else where it is damaged, and is torn where it is lost.
#[test]
fn damage_of_what_is_in_quarantine_is_told() {
    for whole in [false, true] {
        let disk = SimDisk::new(9);
        let store = with_monday(&disk, &noise(1, 300_000));
        let id = store.snapshot_named("share", "monday").expect("there").id;
        match whole {
            true => store.delete_dataset("share", Timestamp(7)).expect("nothing is held"),
            false => store.delete_snapshot("share", "monday", Timestamp(7)).expect("not held"),
        }
        store.close(Timestamp(8)).expect("room");
        let mut slots = Vec::new();
        store.pool().for_each_slot(|container, slot| slots.push((path(container, Class::of(slot.kind)), *slot)));
        for (file, slot) in slots.iter().filter(|(_, slot)| slot.kind == Kind::Chunk) {
            disk.rot(file, u64::from(slot.offset) + 90, 1).expect("there");
        }
        store.pool().scrub(None, u64::MAX).expect("a disk");
        let told = store.affected(&store.pool().wounds(), 100).expect("a disk");
        let told: Vec<_> = told.into_iter().map(|one| (one.dataset, one.snapshot)).collect();
        let monday = match whole {
            true => ("share (deleted)".to_owned(), Some("monday".to_owned())),
            false => ("share".to_owned(), Some("monday (deleted)".to_owned())),
        };
        assert!(told.contains(&monday), "{told:?}");
        drop(store);
        slots.iter().for_each(|(file, _)| drop(disk.lose(file)));
        let (store, _) = open_keeping(&disk, WEEK).expect("it opens");
        assert_eq!(store.torn_snapshots().expect("a disk"), [id]);
    }
}
