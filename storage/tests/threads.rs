//! Many callers at once: nothing waits for ever, nothing panics, and what is there at the end is right.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::*;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store};

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
