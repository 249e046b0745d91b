//! Power cuts at every sync of a seeded workload on a volume. Every change is one record in order, so what a crash leaves is
//! the volume as it was after some change, and after none that is older than the last stable one. The volume has a window, and
//! its past is looked at after every crash.

#[path = "common/blocks.rs"]
mod blocks;
mod common;
#[path = "common/versions.rs"]
mod versions;

use std::sync::Arc;

use blocks::*;
use common::*;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::id::IdSource;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::{Lsn, Timestamp};
use narrowboat_storage::{Result, Store, StoreOptions};
use versions::Versions;

const SIZE: u64 = 2 << 20;
const STEPS: u64 = 60;
/// So long and so much that nothing ends it.
const WINDOW: Option<Window> = Some(Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 });

/// Opens a store whose journal is split soon and often: longer records than a segment takes are refused, and leave no trace.
fn open(disk: &SimDisk) -> Result<(Store, OpenReport)> {
    let mut options = StoreOptions { ids: IdSource::seeded(disk.syncs()), ..splitting() };
    options.journal.segment_bytes = 128 << 10;
    Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options)
}

/// Makes changes until the steps are done or the power is gone.
fn run(disk: &SimDisk, writer: &mut Writer, known: &mut Versions, steps: u64, from: i64) {
    let Ok((store, _)) = open(disk) else { return };
    if store.dataset_named("disk").is_err() && store.create_volume("disk", SIZE, Policy::Inline, Timestamp(1)).is_err()
    {
        return;
    }
    if store.timeline("disk").expect("there").reach.is_none() && store.set_window("disk", WINDOW, Timestamp(1)).is_err()
    {
        return;
    }
    let volume = device(&store, "disk");
    writer.image = known.stable.clone();
    for step in 0..steps {
        let now = Timestamp(from + step as i64);
        match writer.roll(16) {
            0 => {
                drop(store.drain_all(now));
                while store.drain_step(now).is_ok_and(|more| more) {}
            }
            1 => drop(store.create_snapshot("disk", &format!("{}", now.0), now)),
            2..=4 => {
                if let Some((_, lsn)) = known.since.last().cloned()
                    && volume.make_stable(lsn).is_ok()
                {
                    known.made_stable(lsn);
                }
            }
            _ => {
                if let Ok((patch, lsn)) = writer.change(&*volume, now)
                    && lsn > Lsn(0)
                {
                    known.since.push((patch, lsn));
                    if writer.roll(2) == 0 && volume.write_out(lsn).is_ok() {
                        known.written = lsn;
                    }
                }
            }
        }
        if !disk.is_on() {
            return;
        }
    }
}

fn crash(disk: &SimDisk) {
    if disk.is_on() {
        disk.power_cut();
    }
    disk.cut_power_at_sync(0);
    disk.power_on();
}

fn look(disk: &SimDisk, known: &mut Versions, world: u64, what: &str) {
    let (store, report) = open(disk).expect("opens");
    assert!(report.set_aside.is_empty(), "{what}: {:?}", report.set_aside);
    if store.dataset_named("disk").is_ok() {
        known.recovered(all(&*device(&store, "disk")), what);
        known.look_back(&store, "disk", world, what);
    } else {
        assert!(known.count == 0, "{what}: the volume is gone");
    }
}

/// Reads every byte, once all crashes of a world are over: nothing mends what they harmed. Returns the bytes of history.
fn check(disk: &SimDisk, what: &str) -> u64 {
    let (store, _) = open(disk).expect("opens");
    let check = store.check(true, &mut |_| true).expect("a sound machine");
    assert!(check.is_sound(), "{what}: {:?}", check.problems);
    store.stats().expect("measured").history_bytes
}

fn cut_at(seed: u64, sync: u64) -> (u64, u64, u64) {
    let disk = SimDisk::new(seed ^ sync << 32);
    disk.cut_power_at_sync(sync);
    let mut writer = Writer::new(SIZE, seed);
    let mut known = Versions::new(SIZE);
    run(&disk, &mut writer, &mut known, STEPS, 2);
    let syncs = disk.syncs();
    crash(&disk);
    look(&disk, &mut known, sync, &format!("seed {seed}, sync {sync}"));
    disk.cut_power_at_sync(disk.syncs() + 1 + sync % 13);
    run(&disk, &mut writer, &mut known, STEPS / 3, 1000);
    crash(&disk);
    look(&disk, &mut known, sync + 7, &format!("seed {seed}, sync {sync}, once more"));
    let history_bytes = check(&disk, &format!("seed {seed}, sync {sync}"));
    (syncs, known.count, history_bytes)
}

#[test]
fn a_power_cut_at_every_sync_leaves_a_volume_as_it_was_at_some_moment() {
    let seeds = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    for seed in 0..seeds {
        let (syncs, stable, _) = cut_at(seed, u64::MAX >> 32);
        assert!(stable > 5, "seed {seed}: a workload that proves nothing");
        let split = (1..=syncs).filter(|sync| cut_at(seed, *sync).2 > 0).count();
        assert!(split > 0, "seed {seed}: the past was in the journal alone");
    }
}

/// After a sync that failed the kernel shows bytes that are not on the disk, and a later sync does not bring them there. The box
/// is started again, and from then on all that it shows is safe.
#[test]
fn what_a_box_shows_after_a_failed_sync_is_really_on_the_disk() {
    let seeds = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    for seed in 0..seeds {
        let fail_at = |sync: u64| {
            let disk = SimDisk::new(seed ^ sync << 32);
            disk.fail_sync_at(sync);
            let mut writer = Writer::new(SIZE, seed);
            let mut known = Versions::new(SIZE);
            run(&disk, &mut writer, &mut known, STEPS / 2, 2);
            let syncs = disk.syncs();
            known.made_stable(known.written);
            look(&disk, &mut known, sync, &format!("seed {seed}, failed sync {sync}"));
            crash(&disk);
            let what = format!("seed {seed}, failed sync {sync}, after a power cut");
            look(&disk, &mut known, sync + 7, &what);
            check(&disk, &what);
            syncs
        };
        for sync in 1..=fail_at(u64::MAX >> 32) {
            fail_at(sync);
        }
    }
}

/// An initiator that waits for a box which was killed goes on as if nothing had been, so nothing may be missing that it was
/// told is written, flushed or not.
#[test]
fn a_kill_takes_nothing_that_was_answered() {
    let seeds = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(10);
    for seed in 0..seeds {
        let disk = SimDisk::new(seed);
        let mut writer = Writer::new(SIZE, seed);
        let mut known = Versions::new(SIZE);
        for life in 0..4 {
            run(&disk, &mut writer, &mut known, STEPS / 2, 2 + 1000 * life);
            known.made_stable(known.written);
            look(&disk, &mut known, seed + life as u64, &format!("seed {seed}, life {life}"));
        }
        check(&disk, &format!("seed {seed}"));
        assert!(known.count > 20, "seed {seed}: a workload that proves nothing");
    }
}
