//! Volumes against an array: random writes, discards and comparisons, with drains, snapshots, clones, growth and restarts.

#[path = "common/blocks.rs"]
mod blocks;
mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use blocks::*;
use bytes::Bytes;
use common::*;
use narrowboat_storage::catalogue::{DatasetKind, Policy};
use narrowboat_storage::dataset::Compared;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::ReplicaSnapshot;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};

const MIB: u64 = 1 << 20;

fn with_volume(seed: u64, size: u64, policy: Policy) -> (SimDisk, Store) {
    let disk = SimDisk::new(seed);
    let (store, _) = open(&disk).expect("an empty disk");
    let info = store.create_volume("disk", size, policy, Timestamp(1)).expect("room");
    assert_eq!((info.row.kind, info.row.size, info.totals.logical_bytes), (DatasetKind::Volume, size, size));
    (disk, store)
}

fn sound(store: &Store) {
    let check = store.check(true, &mut |_| true).expect("a sound machine");
    assert!(check.is_sound(), "{:?}", check.problems);
}

/// One long random life of a volume.
fn life(seed: u64, policy: Policy, steps: u64) {
    let (disk, mut store) = with_volume(seed, 4 * MIB + 4096, policy);
    let mut writer = Writer::new(4 * MIB + 4096, seed);
    let mut snapshots: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut now = 1;
    for step in 0..steps {
        now += 1;
        let volume = device(&store, "disk");
        match writer.roll(40) {
            0 => drop(store.drain_all(Timestamp(now))),
            1 => drop(store.drain_step(Timestamp(now)).expect("room")),
            2 => {
                store.create_snapshot("disk", &format!("s{step}"), Timestamp(now)).expect("room");
                snapshots.insert(format!("s{step}"), writer.image.clone());
            }
            3 if writer.image.len() < 8 << 20 => {
                let size = writer.image.len() as u64 + 4096 * (1 + writer.roll(100));
                store.resize_volume("disk", size, Timestamp(now)).expect("room");
                writer.image.resize(size as usize, 0);
                assert_eq!(volume.size_bytes(), size, "whoever has it open sees it grow");
            }
            4 => {
                drop(volume);
                if writer.roll(2) == 0 {
                    store.close(Timestamp(now)).expect("room");
                } else {
                    volume_flush(&store);
                }
                drop(store);
                store = open(&disk).expect("sound").0;
            }
            5 => expect(&*volume, &writer.image, "in the middle"),
            _ => {
                let (_, lsn) = writer.change(&*volume, Timestamp(now)).expect("room");
                if writer.roll(4) == 0 {
                    volume.make_stable(lsn).expect("sound");
                }
            }
        }
        while store.drain_step(Timestamp(now)).expect("room") {}
    }
    expect(&*device(&store, "disk"), &writer.image, "at the end");
    for (name, image) in &snapshots {
        let snapshot = store.snapshot_named("disk", name).expect("kept");
        let device = store.snapshot_volume(snapshot.id).expect("sealed");
        expect(&*device, image, name);
        assert!(device.write(Timestamp(now), 0, Bytes::from_static(b"no")).is_err());
    }
    if let Some((name, image)) = snapshots.iter().next() {
        store.clone_snapshot("disk", name, "clone", Timestamp(now)).expect("room");
        let clone = device(&store, "clone");
        expect(&*clone, image, "a clone");
        clone.write(Timestamp(now), 0, Bytes::from_static(b"mine")).expect("room");
        expect(&*device(&store, "disk"), &writer.image, "what was cloned");
    }
    same_as_written_at_once(&store, &writer.image, now);
    sound(&store);
}

fn volume_flush(store: &Store) {
    device(store, "disk").flush().expect("sound");
}

/// However a volume came about, its tree is that of its bytes: the same as where they were written in one go.
fn same_as_written_at_once(store: &Store, image: &[u8], now: i64) {
    let before = store.create_snapshot("disk", "last", Timestamp(now)).expect("room");
    store.seal(before.id).expect("room");
    // Once more by one write a MiB, each of which is cut by itself: the same cuts, so the same root.
    let volume = device(store, "disk");
    for (nth, part) in image.chunks(MIB as usize).enumerate() {
        volume.write(Timestamp(now), nth as u64 * MIB, Bytes::copy_from_slice(part)).expect("room");
    }
    let again = store.create_snapshot("disk", "again", Timestamp(now)).expect("room");
    let root = |id| store.seal(id).expect("room").root;
    assert_eq!(root(before.id), root(again.id), "equal bytes, equal trees");
    assert!(store.compare(before.id, again.id).expect("sealed").is_empty());
}

#[test]
fn a_volume_is_what_was_written_to_it() {
    for seed in 0..3 {
        life(seed, Policy::Inline, 250);
    }
}

#[test]
fn other_policies_keep_the_same_bytes() {
    life(10, Policy::Deferred, 150);
    life(11, Policy::Off, 150);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (_disk, store) = with_volume(1, MIB, Policy::Inline);
    let volume = device(&store, "disk");
    let now = Timestamp(2);
    for (offset, len) in [(MIB, 1), (MIB - 511, 512), (u64::MAX, 1), (u64::MAX - 3, 4)] {
        let refused = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Refused(_)));
        assert!(refused(volume.read(offset, len).map(drop)));
        assert!(refused(volume.write(now, offset, vec![1; len as usize].into()).map(drop)));
        assert!(refused(volume.discard(now, &[(0, 512), (offset, len)]).map(drop)));
        let bytes = vec![0; len as usize];
        assert!(refused(volume.compare_and_write(now, offset, &bytes, bytes.clone().into()).map(drop)));
    }
    assert!(volume.compare_and_write(now, 0, &[0; 4], Bytes::from_static(b"longer")).is_err());
    assert!(volume.write(now, 0, vec![1; (4 << 20) + 1].into()).is_err());
    expect(&*volume, &vec![0; MIB as usize], "untouched");
    for size in [0, MIB - 4096, MIB + 512, (256 << 40) + 4096] {
        assert!(store.create_volume("odd", size, Policy::Inline, now).is_err(), "{size}");
    }
    assert!(store.resize_volume("disk", MIB / 2, now).is_err());
    let share = store.create_share("share", Policy::Inline, now).expect("room").row.id;
    assert!(store.volume(share).is_err() && store.resize_volume("share", 2 * MIB, now).is_err());
    assert!(store.tree(store.dataset_named("disk").expect("there").row.id).is_err(), "a volume is no file tree");
}

#[test]
fn the_largest_volume_costs_nothing_and_works_at_its_end() {
    let size = 256 << 40;
    let (disk, store) = with_volume(1, size, Policy::Inline);
    let volume = device(&store, "disk");
    volume.write(Timestamp(2), size - 4096, noise(1, 4096).into()).expect("room");
    volume.write(Timestamp(2), size - 3 * MIB, noise(2, MIB as usize).into()).expect("room");
    let run = volume.allocation(size - 4096).expect("there");
    assert_eq!((run.allocated, run.len), (true, 4096));
    assert_eq!(volume.used_bytes().expect("known"), MIB + 4096);
    store.close(Timestamp(3)).expect("room");
    drop((volume, store));
    let (store, _) = open(&disk).expect("sound");
    let volume = device(&store, "disk");
    assert_eq!(volume.size_bytes(), size);
    assert_eq!(volume.read(size - 4096, 4096).expect("there").concat(), noise(1, 4096));
    assert_eq!(volume.used_bytes().expect("known"), MIB + 4096);
    volume.discard(Timestamp(4), &[(0, size)]).expect("room");
    assert!(!volume.allocation(size - 4096).expect("there").allocated);
    store.drain_all(Timestamp(5)).expect("room");
    assert_eq!(volume.used_bytes().expect("known"), 0, "what was discarded takes no room");
    sound(&store);
}

#[test]
fn allocation_tells_what_was_written_from_what_was_not() {
    let (_disk, store) = with_volume(1, 8 * MIB, Policy::Inline);
    let volume = device(&store, "disk");
    volume.write(Timestamp(2), MIB, noise(1, MIB as usize).into()).expect("room");
    volume.write(Timestamp(2), 3 * MIB, vec![0; 4096].into()).expect("room");
    volume.discard(Timestamp(2), &[(MIB + 65_536, 65_536)]).expect("room");
    for _ in 0..2 {
        let mut at = 0;
        let mut allocated = Vec::new();
        while at < volume.size_bytes() {
            let run = volume.allocation(at).expect("within");
            assert!(run.len > 0);
            if run.allocated {
                allocated.push((at, at + run.len));
            }
            at += run.len;
        }
        let merged = allocated.iter().fold(Vec::<(u64, u64)>::new(), |mut runs, run| {
            match runs.last_mut() {
                Some(last) if last.1 == run.0 => last.1 = run.1,
                _ => runs.push(*run),
            }
            runs
        });
        assert_eq!(merged, [(MIB, MIB + 65_536), (MIB + 131_072, 2 * MIB)]);
        store.drain_all(Timestamp(3)).expect("room");
    }
}

#[test]
fn compare_and_write_is_atomic_towards_other_threads() {
    let (_disk, store) = with_volume(1, MIB, Policy::Inline);
    let volume = device(&store, "disk");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut done = 0;
                while done < 50 {
                    let bytes = volume.read(4000, 512).expect("there").concat();
                    let count = u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
                    let mut next = bytes.clone();
                    next[..8].copy_from_slice(&(count + 1).to_le_bytes());
                    let compared = volume.compare_and_write(Timestamp(2), 4000, &bytes, next.into()).expect("room");
                    done += u64::from(matches!(compared, Compared::Written(_)));
                }
            });
        }
    });
    let bytes = volume.read(4000, 8).expect("there").concat();
    assert_eq!(u64::from_le_bytes(bytes[..].try_into().expect("eight")), 200);
}

#[test]
fn a_replica_of_a_volume_is_the_volume() {
    let (_disk, store) = with_volume(1, 2 * MIB, Policy::Inline);
    let volume = device(&store, "disk");
    volume.write(Timestamp(2), 0, noise(1, MIB as usize).into()).expect("room");
    let monday = store.create_snapshot("disk", "monday", Timestamp(3)).expect("room");
    let sealed = store.seal(monday.id).expect("room");
    let replica = ReplicaSnapshot {
        dataset: narrowboat_storage::id::DatasetId([7; 16]),
        dataset_name: "box/disk".into(),
        kind: DatasetKind::Volume,
        size: 2 * MIB,
        origin: narrowboat_storage::id::StoreId([8; 16]),
        snapshot: narrowboat_storage::id::SnapshotId([9; 16]),
        name: "monday".into(),
        time: Timestamp(3),
        sealed,
    };
    let lies = [
        ReplicaSnapshot { size: 4 * MIB, ..replica.clone() },
        ReplicaSnapshot { kind: DatasetKind::Share, ..replica.clone() },
    ];
    for lie in lies {
        assert!(store.publish(&lie, Timestamp(4)).is_err(), "{:?} of {}", lie.kind, lie.size);
    }
    store.publish(&replica, Timestamp(4)).expect("everything is there");
    let shown = device(&store, "box/disk");
    assert!(shown.read_only());
    expect(&*shown, &[noise(1, MIB as usize), vec![0; MIB as usize]].concat(), "the replica");
    assert!(shown.write(Timestamp(5), 0, Bytes::from_static(b"no")).is_err());
    sound(&store);
}

/// A buffer that says when it is let go.
struct Lent(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

#[test]
fn what_is_left_of_a_long_write_does_not_keep_all_of_it_in_memory() {
    let (_disk, store) = with_volume(1, 8 * MIB, Policy::Inline);
    let volume = device(&store, "disk");
    let dropped = Arc::new(AtomicUsize::new(0));
    for nth in 0..20 {
        // It ends behind its last cut; those bytes wait in the journal for a sync.
        let data = Lent(noise(nth, MIB as usize), dropped.clone());
        volume.write(Timestamp(2), 20_480 + nth * 4096, Bytes::from_owner(data)).expect("room");
    }
    assert_eq!(dropped.load(SeqCst), 20);
}

/// Small writes faster than the drain: writers are let in as it merges, and when all is drained nothing is left in the account.
#[test]
fn writers_go_at_the_pace_of_the_drain_and_leave_nothing_behind() {
    let (disk, store) = with_volume(11, 64 * MIB, Policy::Inline);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    store.wait_for_work(std::time::Duration::from_millis(5));
                    while store.drain_step(Timestamp(5)).expect("room") {}
                }
            });
        }
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let volume = device(&store, "disk");
                scope.spawn(move || {
                    for nth in 0..8_000u64 {
                        let block = (nth * 2_654_435_761 + writer * 40_503) % (64 * 256);
                        let data = Bytes::from(vec![(nth % 251) as u8; 4096]);
                        volume.write(Timestamp(2), block * 4096, data).expect("room");
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        stop.store(true, SeqCst);
    });
    store.drain_all(Timestamp(9)).expect("room");
    assert_eq!(store.stats().expect("sound").overlay_bytes, 0);
    // 8 MiB of writes in a layer; 3,500 to 5,500 syncs where a second pump freezes a few writes while the first is at work.
    assert!(disk.syncs() < 2000, "{} syncs", disk.syncs());
    sound(&store);
}
