//! Many callers at once: nothing waits for ever, nothing panics, and what is there at the end is right.

mod common;
#[path = "common/sticky.rs"]
mod sticky;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::*;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::BlockDevice;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store};
use sticky::Sticky;

/// Runs `work` and fails where it takes longer than two minutes.
fn within_two_minutes(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match finished.recv_timeout(Duration::from_secs(120)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("somebody waits for ever"),
        _ => worker.join().expect("no panic"),
    }
}

fn pump(store: &Store, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        store.wait_for_work(Duration::from_millis(5));
        while store.drain_step(Timestamp(5)).expect("room") {}
    }
}

#[test]
fn datasets_are_deleted_under_writers_and_drains() {
    within_two_minutes(|| {
        let (_disk, store, _) = with_share(1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| pump(&store, &stop))));
            let makers: Vec<_> = (0..2)
                .map(|maker| {
                    scope.spawn({
                        let store = &store;
                        move || (0..15).for_each(|round| make_and_delete(store, maker, round))
                    })
                })
                .collect();
            makers.into_iter().for_each(|maker| maker.join().expect("no panic"));
            stop.store(true, Ordering::Release);
        });
        store.drain_all(Timestamp(9)).expect("room");
        assert_eq!(store.stats().expect("sound").overlay_bytes, 0, "deleted datasets gave their memory back");
        assert!(store.check(true, &mut |_| true).expect("sound").is_sound());
        assert_eq!(store.snapshots(None).len(), 0);
    });
}

fn make_and_delete(store: &Store, maker: u64, round: u64) {
    let name = format!("share-{maker}-{round}");
    let share = store.create_share(&name, Policy::Inline, Timestamp(2)).expect("room");
    let tree = store.tree(share.row.id).expect("there");
    let file = create(&*tree, Inode::ROOT, "file", 3);
    write(&*tree, file, 0, &noise(round, 1_500_000), 3);
    store.create_snapshot(&name, "s", Timestamp(3)).expect("room");
    write(&*tree, file, 700_000, &noise(round + 1, 300_000), 4);
    store.create_snapshot(&name, "t", Timestamp(4)).expect("room");
    store.delete_snapshot(&name, "s", Timestamp(5)).expect("not held");
    store.delete_dataset(&name, Timestamp(6)).expect("not held");
    let late = tree.write(&at(7), file, 0, bytes::Bytes::from_static(b"late"));
    assert!(matches!(late, Err(Error::Refused(Refusal::Stale))), "{late:?}");
    assert!(matches!(tree.attributes(file), Err(Error::Refused(Refusal::Stale))));
}

#[test]
fn a_pump_that_waits_is_called_to_every_snapshot() {
    within_two_minutes(|| {
        let (_disk, store, tree) = with_share(3);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // It looks up by itself only when the test has failed.
            let waiting = scope.spawn(|| {
                while !stop.load(Ordering::Acquire) && store.wait_for_work(Duration::from_secs(60)) {
                    while store.drain_step(Timestamp(5)).expect("room") {}
                }
            });
            let began = Instant::now();
            for round in 0..20 {
                write(&*tree, create(&*tree, Inode::ROOT, &format!("file-{round}"), 5), 0, b"bytes", 5);
                let snapshot = store.create_snapshot("share", &format!("{round}"), Timestamp(5)).expect("room");
                while store.snapshots(None).iter().any(|row| row.id == snapshot.id && row.sealed.is_none()) {
                    assert!(began.elapsed() < Duration::from_secs(30), "round {round}: nobody drains");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            stop.store(true, Ordering::Release);
            store.stop_waiting();
            waiting.join().expect("no panic");
        });
    });
}

#[test]
fn many_small_layers_do_not_stop_writers_for_ever() {
    within_two_minutes(|| {
        let (_disk, store, _) = with_share(1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| pump(&store, &stop));
            // Each stays below the size at which it is drained; together they are far above what may wait.
            for nth in 0..14 {
                let share = store.create_share(&format!("share-{nth}"), Policy::Deferred, Timestamp(2)).expect("room");
                let tree = store.tree(share.row.id).expect("there");
                let file = create(&*tree, Inode::ROOT, "file", 3);
                write(&*tree, file, 0, &noise(nth, 900_000), 3);
            }
            stop.store(true, Ordering::Release);
        });
    });
}

/// A store with a volume, on a disk that can stick.
fn with_sticky_volume() -> (SimDisk, Sticky, Store, Arc<dyn BlockDevice>) {
    let disk = SimDisk::new(1);
    let media = Sticky::new(disk.clone());
    let store = Store::open(Arc::new(media.clone()), small()).expect("an empty disk").0;
    let id = store.create_volume("disk", 1 << 20, Policy::Inline, Timestamp(1)).expect("room").row.id;
    let volume = store.volume(id).expect("just created");
    (disk, media, store, volume)
}

fn put(volume: &dyn BlockDevice, time: i64, byte: u8) {
    volume.write(Timestamp(time), 0, vec![byte; 4096].into()).expect("room");
}

fn first_block(volume: &dyn BlockDevice) -> Vec<u8> {
    volume.read(0, 4096).expect("there").concat()
}

/// The drain hangs in the middle of a step. A snapshot is there at once all the same, and has the time of its moment; nobody waits for it.
#[test]
fn a_snapshot_waits_for_no_drain_step() {
    within_two_minutes(|| {
        let (_disk, media, store, volume) = with_sticky_volume();
        put(&*volume, 10, 1);
        std::thread::scope(|scope| {
            let stuck = media.stick();
            let draining = scope.spawn(|| store.drain_all(Timestamp(20)));
            media.wait_until_stuck();
            put(&*volume, 30, 2);
            // Asked for at 25, and after what was written at 30.
            let snapshot = store.create_snapshot("disk", "now", Timestamp(25)).expect("nothing is waited for");
            assert!(!draining.is_finished() && snapshot.sealed.is_none());
            assert_eq!(snapshot.time, Timestamp(30), "that of the moment");
            put(&*volume, 40, 3);
            store.set_setting("x", Some(b"y"), Timestamp(41)).expect("nothing is waited for");
            drop(stuck);
            draining.join().expect("no panic").expect("room");
            store.seal(snapshot.id).expect("drained");
            let then = store.snapshot_volume(snapshot.id).expect("sealed");
            assert_eq!(first_block(&*then), [2; 4096]);
            assert_eq!(first_block(&*volume), [3; 4096]);
        });
        store.drain_all(Timestamp(50)).expect("room");
        assert!(store.check(true, &mut |_| true).expect("sound").is_sound());
    });
}

/// What was answered while a drain step was under way is there whatever becomes of the step: it finds the disk full, or the
/// power is cut in the middle of it.
#[test]
fn a_snapshot_outlives_the_drain_step_that_it_did_not_wait_for() {
    within_two_minutes(|| {
        for power_cut in [false, true] {
            let (disk, media, mut store, mut volume) = with_sticky_volume();
            put(&*volume, 10, 1);
            let snapshot = std::thread::scope(|scope| {
                let stuck = media.stick();
                let draining = scope.spawn(|| store.drain_all(Timestamp(20)));
                media.wait_until_stuck();
                put(&*volume, 30, 2);
                let snapshot = store.create_snapshot("disk", "kept", Timestamp(30)).expect("nothing is waited for");
                put(&*volume, 40, 3);
                if power_cut {
                    disk.power_cut()
                } else {
                    disk.fill(0)
                }
                drop(stuck);
                draining.join().expect("no panic").expect_err("the step has failed");
                snapshot.id
            });
            if power_cut {
                drop((store, volume));
                disk.power_on();
                store = open(&disk).expect("sound").0;
                volume = store.volume(store.dataset_named("disk").expect("there").row.id).expect("there");
            }
            disk.set_capacity(1 << 40);
            assert!(store.snapshot(snapshot).expect("it was answered").sealed.is_none(), "power cut: {power_cut}");
            store.seal(snapshot).expect("room");
            assert_eq!(first_block(&*store.snapshot_volume(snapshot).expect("sealed")), [2; 4096]);
            // What was written behind it was not stable when the power was cut.
            let left = first_block(&*volume);
            assert!(left == [3; 4096] || power_cut && left == [2; 4096], "power cut: {power_cut}");
            store.drain_all(Timestamp(50)).expect("room");
            assert!(store.check(true, &mut |_| true).expect("sound").is_sound());
        }
    });
}

/// The drain of one dataset hangs, and what waits for it: its deletion, a new window, a rewind. Nobody else waits with them.
#[test]
fn what_waits_for_a_drain_step_keeps_nobody_else_waiting() {
    type Work = fn(&Store) -> Result<(), Error>;
    let works: [Work; 4] = [
        |store| store.set_window("disk", None, Timestamp(30)),
        |store| store.set_window("disk", Some(Window { nanoseconds: 100, bytes: 1 << 20 }), Timestamp(30)),
        |store| store.rewind("disk", &Moment::Snapshot("empty".into()), "before", Timestamp(30)).map(drop),
        |store| store.delete_dataset("disk", Timestamp(30)),
    ];
    within_two_minutes(move || {
        let window = Some(Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 });
        for work in works {
            let (_disk, media, store, volume) = with_sticky_volume();
            store.create_volume("other", 1 << 20, Policy::Inline, Timestamp(1)).expect("room");
            ["disk", "other"].iter().for_each(|name| store.set_window(name, window, Timestamp(1)).expect("room"));
            let empty = store.create_snapshot("disk", "empty", Timestamp(2)).expect("room");
            store.seal(empty.id).expect("room");
            put(&*volume, 10, 1);
            std::thread::scope(|scope| {
                let stuck = media.stick();
                let draining = scope.spawn(|| store.drain_all(Timestamp(20)));
                media.wait_until_stuck();
                let waiting = scope.spawn(|| work(&store));
                // Again and again, since nobody can tell when the other has begun to wait.
                for nth in 0..100 {
                    let (now, name) = (Timestamp(30 + nth), nth.to_string());
                    store.set_setting(&name, Some(b"value"), now).expect("nothing is waited for");
                    store.mark(&["other"], &format!("mark {nth}"), false, now).expect("nothing is waited for");
                    store.create_snapshot("other", &name, now).expect("nothing is waited for");
                    std::thread::sleep(Duration::from_millis(1));
                }
                assert!(!draining.is_finished() && !waiting.is_finished(), "they wait");
                drop(stuck);
                draining.join().expect("no panic").expect("room");
                waiting.join().expect("no panic").expect("room");
            });
            store.drain_all(Timestamp(200)).expect("room");
            assert!(store.check(true, &mut |_| true).expect("sound").is_sound());
        }
    });
}

/// The block that a write of this number puts down: of two hundred, each in its turn.
fn turn(number: u64) -> (u64, bytes::Bytes) {
    (number % 200 * 4096, noise(number, 4096).into())
}

#[test]
fn moments_are_right_while_the_journal_is_split_under_their_readers() {
    within_two_minutes(|| {
        let disk = SimDisk::new(1);
        let (store, _) = open_splitting(&disk).expect("an empty disk");
        let for_ever = Some(Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 });
        for name in ["disk", "comes and goes", "noisy"] {
            store.create_volume(name, 1 << 20, Policy::Inline, Timestamp(1)).expect("room");
        }
        store.set_window("disk", for_ever, Timestamp(1)).expect("room");
        let device = |name: &str| store.volume(store.dataset_named(name).expect("there").row.id).expect("a volume");
        let stop = AtomicBool::new(false);
        let log = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| pump(&store, &stop))));
            let writer = scope.spawn(|| {
                let volume = device("disk");
                for number in 0..2500 {
                    let (offset, bytes) = turn(number);
                    let lsn = volume.write(Timestamp(2), offset, bytes).expect("room");
                    log.lock().expect("no panic").push(lsn);
                    if number % 100 == 0 {
                        store.create_snapshot("disk", &format!("s{number}"), Timestamp(2)).expect("room");
                    }
                }
            });
            let beside = scope.spawn(|| {
                for round in 0..25 {
                    store.set_window("comes and goes", for_ever, Timestamp(2)).expect("room");
                    for number in 0..60 {
                        let (offset, bytes) = turn(round * 1000 + number);
                        device("comes and goes").write(Timestamp(2), offset, bytes.clone()).expect("room");
                        device("noisy").write(Timestamp(2), offset, bytes).expect("room");
                    }
                    store.set_window("comes and goes", None, Timestamp(2)).expect("room");
                }
            });
            let reader = || {
                let mut looks = 0;
                while !(writer.is_finished() && beside.is_finished() && looks > 20) {
                    let known: Vec<_> = log.lock().expect("no panic").clone();
                    if known.len() < 400 {
                        std::thread::yield_now();
                        continue;
                    }
                    let nth = (looks as usize * 7919) % known.len();
                    store.clone_at("disk", &Moment::Lsn(known[nth]), "past", Timestamp(3)).expect("within the window");
                    let past = device("past");
                    for back in 0..200.min(nth as u64 + 1) {
                        let (offset, bytes) = turn(nth as u64 - back);
                        assert!(past.read(offset, 4096).expect("readable").concat() == bytes, "{back} before {nth}");
                    }
                    store.delete_dataset("past", Timestamp(3)).expect("just made");
                    looks += 1;
                }
            };
            reader();
            [writer, beside].into_iter().for_each(|thread| thread.join().expect("no panic"));
            stop.store(true, Ordering::Release);
        });
        store.drain_all(Timestamp(9)).expect("room");
        while store.drain_step(Timestamp(9)).expect("room") {}
        let stats = store.stats().expect("measured");
        assert!(stats.history_bytes > 0 && stats.journal_bytes < 8 << 20, "{stats:?}");
        let check = store.check(true, &mut |_| true).expect("a sound machine");
        assert!(check.is_sound(), "{:?}", check.problems);
    });
}
