//! Power cuts, failing syncs and full disks, at every sync of seeded workloads: what was stable is there afterwards, what
//! was not is there whole or not at all, and work goes on. `NARROWBOAT_SEEDS` gives the number of workloads.

mod common;
#[path = "common/world/mod.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::*;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::{Inode, Timestamp};
use world::World;

const STEPS: u64 = 60;

fn seeds(default: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// How many syncs a workload makes where nothing goes wrong.
fn syncs(seed: u64) -> u64 {
    let disk = SimDisk::new(seed);
    let mut world = World::new(disk.clone(), seed).expect("a sound disk");
    world.run(STEPS);
    assert!(world.stable_changes > 5, "seed {seed}: a workload that proves nothing");
    world.reopen();
    disk.syncs()
}

/// A workload whose power is cut at one sync; then another one, cut anywhere, on what is left.
fn cut_at(seed: u64, sync: u64) {
    let disk = SimDisk::new(seed ^ sync << 32);
    disk.cut_power_at_sync(sync);
    let Some(mut world) = World::new(disk.clone(), seed) else {
        // Cut while the store was created: it can be created or opened now.
        disk.power_on();
        open(&disk).expect("a store whose creation was cut short");
        return;
    };
    world.run(STEPS);
    crash(&disk);
    world.reopen();
    disk.cut_power_at_sync(disk.syncs() + 1 + sync % 17);
    world.run_on(STEPS / 3);
    crash(&disk);
    world.reopen();
}

/// The power is off and on again; where the planned cut was not reached, it is now.
fn crash(disk: &SimDisk) {
    if disk.is_on() {
        disk.power_cut();
    }
    disk.cut_power_at_sync(0);
    disk.power_on();
}

#[test]
fn one_seed_is_one_world() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let mut world = World::new(disk.clone(), seed).expect("a sound disk");
        world.run(STEPS);
        crash(&disk);
        world.reopen();
        world.run_on(STEPS);
        drop(world);
        disk
    };
    for seed in 0..seeds(5) {
        let (first, second) = (run(seed), run(seed));
        assert_eq!((first.syncs(), first.paths()), (second.syncs(), second.paths()), "seed {seed}");
        for path in first.paths() {
            let same = first.contents(&path).expect("a file") == second.contents(&path).expect("a file");
            assert!(same, "seed {seed}: {path} has other bytes");
        }
    }
}

#[test]
fn a_power_cut_at_every_sync_loses_nothing_stable() {
    for seed in 0..seeds(2) {
        for sync in 1..=syncs(seed) {
            let outcome = catch_unwind(AssertUnwindSafe(|| cut_at(seed, sync)));
            assert!(outcome.is_ok(), "seed {seed}, sync {sync}: see above");
        }
    }
}

#[test]
fn a_power_cut_while_opening_loses_nothing_stable() {
    for seed in 0..seeds(2) {
        let disk = SimDisk::new(seed);
        let mut world = World::new(disk.clone(), seed).expect("a sound disk");
        world.run(STEPS);
        world.store = None;
        disk.power_cut();
        for later in 1.. {
            disk.cut_power_at_sync(disk.syncs() + later);
            let opened = open(&disk).is_ok();
            crash(&disk);
            if opened {
                break;
            }
            assert!(later < 1000, "opening never ends");
        }
        world.reopen();
    }
}

#[test]
fn a_sync_that_fails_is_never_taken_for_one_that_did_not() {
    for seed in 0..seeds(2) {
        let syncs = syncs(seed);
        for sync in (1..=syncs).step_by(2) {
            let disk = SimDisk::new(seed ^ sync << 32);
            disk.fail_sync_at(sync);
            // The next one, too: whoever tries again must not believe the answer.
            disk.fail_sync_at(sync + sync % 3);
            let Some(mut world) = World::new(disk.clone(), seed) else { continue };
            world.run(STEPS);
            world.store = None;
            if sync % 4 > 1 {
                // Not only the process: what the failed sync left in the page cache is gone, too.
                crash(&disk);
            }
            // Where the workload made fewer syncs this time, opening meets the failure. It says so, and may be tried again.
            let opened = (0..50).any(|_| open(&disk).is_ok() && disk.syncs() > sync + 2);
            assert!(opened, "seed {seed}, failing sync {sync}: does not open");
            let outcome = catch_unwind(AssertUnwindSafe(|| world.reopen()));
            assert!(outcome.is_ok(), "seed {seed}, failing sync {sync}: see above");
        }
    }
}

/// After a failed sync the kernel may show bytes that are not on the disk. A box that was started again goes on upon them, trims its
/// journal, and then the power goes.
#[test]
fn what_a_box_does_after_a_failed_sync_outlives_power_cuts() {
    for seed in 0..seeds(2) {
        let syncs = syncs(seed);
        for sync in (1..=syncs).step_by(3) {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let disk = SimDisk::new(seed ^ sync << 32);
                disk.fail_sync_at(sync);
                let Some(mut world) = World::new(disk.clone(), seed) else { return };
                world.run(STEPS);
                world.store = None;
                assert!((0..50).any(|_| open(&disk).is_ok() && disk.syncs() > sync), "does not open");
                world.reopen();
                if world.shares.is_empty() {
                    return;
                }
                for _ in 0..3 {
                    world.run_on(STEPS / 3);
                    let _ = world.write_again("main");
                    let now = world.now();
                    world.store().close(now).expect("a sound disk");
                }
                crash(&disk);
                world.reopen();
            }));
            assert!(outcome.is_ok(), "seed {seed}, failing sync {sync}: see above");
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_stable_and_work_goes_on_when_there_is_room() {
    let mut refused = 0;
    for seed in 0..seeds(12) {
        let disk = SimDisk::new(seed);
        let mut world = World::new(disk.clone(), seed).expect("a sound disk");
        world.run(20);
        for round in 0..4 {
            disk.fill(((seed + round) % 5) * 300_000);
            world.run_on(12);
            refused += u64::from(disk_is_full(&disk));
            if round % 2 == 0 {
                disk.set_capacity(1 << 40);
            }
            world.run_on(6);
        }
        crash(&disk);
        // A full disk can be opened; whoever opened it can make room.
        disk.fill(100_000);
        world.store = None;
        disk.set_capacity(1 << 40);
        world.reopen();
        let before = world.stable_changes;
        world.run_on(40);
        assert!(world.stable_changes > before, "seed {seed}: nothing goes on");
        crash(&disk);
        world.reopen();
    }
    assert!(refused > 0, "the disk never was full");
}

fn disk_is_full(disk: &SimDisk) -> bool {
    use narrowboat_storage::media::Media;
    disk.space().expect("on").free_bytes < 1 << 20
}

/// Runs `work` and says whether it panicked, without the noise.
fn panics(work: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

#[test]
fn the_harness_sees_a_disk_that_lies_about_syncs() {
    let seen = (0..20).filter(|seed| {
        panics(|| {
            let disk = SimDisk::new(*seed);
            let mut world = World::new(disk.clone(), *seed).expect("a sound disk");
            world.run(10);
            disk.ignore_syncs();
            world.run_on(STEPS);
            crash(&disk);
            world.reopen();
        })
    });
    assert!(seen.count() >= 10);
}

#[test]
fn the_harness_sees_one_wrong_byte() {
    let mut lies = 0;
    for seed in 0..5 {
        let disk = SimDisk::new(seed);
        let mut world = World::new(disk.clone(), seed).expect("a sound disk");
        world.run(STEPS);
        crash(&disk);
        world.reopen();
        if world.lie() {
            lies += 1;
            assert!(panics(|| world.reopen()), "seed {seed}");
        }
    }
    assert!(lies > 0);
}

#[test]
fn the_write_verifier_changes_when_unstable_bytes_could_have_been_lost() {
    let (disk, store, tree) = with_share(1);
    let file = create(&*tree, Inode::ROOT, "file", 2);
    write(&*tree, file, 0, b"unstable", 3);
    let before = tree.write_verifier();
    disk.fail_sync_at(disk.syncs() + 1);
    assert!(commit(&*tree, file).is_err());
    let failed = tree.write_verifier();
    assert_ne!(before, failed, "a flush failed");
    assert!(commit(&*tree, file).is_err(), "and is not believed later");
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    let share = store.dataset_named("share").expect("there").row.id;
    let restarted = store.tree(share).expect("open").write_verifier();
    assert!(restarted != failed && restarted != before, "a start");
}

/// Its record gets stable with the next sync that succeeds, when the drain has passed it: it is there and can be read, or it is not there.
#[test]
fn a_snapshot_that_a_full_disk_refused_is_there_or_not() {
    let (mut refused, mut there) = (0, 0);
    for left in (0..48).map(|step| (1 << 20) + (step << 16)) {
        let (disk, store, tree) = with_share(1);
        let file = create(&*tree, Inode::ROOT, "file", 2);
        commit(&*tree, file).expect("room");
        write(&*tree, file, 0, &noise(left, 2 << 20), 3);
        disk.fill(left);
        refused += u64::from(store.create_snapshot("share", "moment", Timestamp(4)).is_err());
        disk.set_capacity(1 << 40);
        store.drain_all(Timestamp(5)).expect("there is room again");
        crash(&disk);
        drop((store, tree));
        let (store, _) = open(&disk).expect("sound");
        if let Ok(row) = store.snapshot_named("share", "moment") {
            there += 1;
            store.snapshot_tree(row.id).expect("what is shown can be read");
        }
    }
    assert!(refused > 0 && there > 0, "{refused} refused, {there} there");
}
