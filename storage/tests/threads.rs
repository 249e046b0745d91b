//! Many callers at once: nothing waits for ever, nothing panics, and what is there at the end is right.

mod common;

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use common::*;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::media::{Media, MediaFile, SimDisk};
use narrowboat_storage::units::{Inode, Space, Timestamp};
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

/// A disk on which no container is written while it is stuck.
struct Sticky {
    disk: SimDisk,
    stuck: Arc<(Mutex<Stuck>, Condvar)>,
}

#[derive(Default)]
struct Stuck {
    is: bool,
    waiting: usize,
}

struct StickyFile {
    file: Arc<dyn MediaFile>,
    stuck: Option<Arc<(Mutex<Stuck>, Condvar)>>,
}

impl Sticky {
    fn watch(&self, path: &str, file: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        let sticks = !path.starts_with("journal") && !path.starts_with("catalogue");
        Arc::new(StickyFile { file, stuck: sticks.then(|| self.stuck.clone()) })
    }
}

impl StickyFile {
    fn pass(&self) {
        let Some(stuck) = &self.stuck else { return };
        let mut state = stuck.0.lock().expect("nobody panics with it");
        state.waiting += 1;
        stuck.1.notify_all();
        state = stuck.1.wait_while(state, |state| state.is).expect("nobody panics with it");
        state.waiting -= 1;
    }
}

impl Media for Sticky {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.watch(path, self.disk.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.watch(path, self.disk.open(path)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl MediaFile for StickyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.pass();
        self.file.write_at(parts, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.pass();
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }
}

/// The drain hangs in the middle of a step. A snapshot is there at once all the same, and has the time of its moment; nobody waits for it.
#[test]
fn a_snapshot_waits_for_no_drain_step() {
    within_two_minutes(|| {
        let stuck = Arc::<(Mutex<Stuck>, Condvar)>::default();
        let media = Sticky { disk: SimDisk::new(1), stuck: stuck.clone() };
        let store = Store::open(Arc::new(media), small()).expect("an empty disk").0;
        let id = store.create_volume("disk", 1 << 20, Policy::Inline, Timestamp(1)).expect("room").row.id;
        let volume = store.volume(id).expect("just created");
        let put = |time, byte| volume.write(Timestamp(time), 0, vec![byte; 4096].into()).expect("room");
        put(10, 1);
        stuck.0.lock().expect("nobody panics with it").is = true;
        std::thread::scope(|scope| {
            let draining = scope.spawn(|| store.drain_all(Timestamp(20)));
            let state = stuck.0.lock().expect("nobody panics with it");
            drop(stuck.1.wait_while(state, |state| state.waiting == 0).expect("nobody panics with it"));
            put(30, 2);
            // Asked for at 25, and after what was written at 30.
            let snapshot = store.create_snapshot("disk", "now", Timestamp(25)).expect("nothing is waited for");
            assert!(!draining.is_finished() && snapshot.sealed.is_none());
            assert_eq!(snapshot.time, Timestamp(30), "that of the moment");
            put(40, 3);
            store.set_setting("x", Some(b"y"), Timestamp(41)).expect("nothing is waited for");
            stuck.0.lock().expect("nobody panics with it").is = false;
            stuck.1.notify_all();
            draining.join().expect("no panic").expect("room");
            store.seal(snapshot.id).expect("drained");
            let then = store.snapshot_volume(snapshot.id).expect("sealed");
            assert_eq!(then.read(0, 4096).expect("there").concat(), [2; 4096]);
            assert_eq!(volume.read(0, 4096).expect("there").concat(), [3; 4096]);
        });
        store.drain_all(Timestamp(50)).expect("room");
        assert!(store.check(true, &mut |_| true).expect("sound").is_sound());
    });
}
