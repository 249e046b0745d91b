//! Splitting the journal off into histories on a disk that is full: nothing is lost, and windows give up only what makes room.

#[path = "common/blocks.rs"]
mod blocks;
mod common;
#[path = "common/known.rs"]
mod known;
#[path = "common/sticky.rs"]
mod sticky;

use std::sync::Arc;

use blocks::*;
use common::*;
use known::*;
use narrowboat_storage::id::IdSource;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store, StoreOptions};
use sticky::Sticky;

#[test]
fn a_full_disk_splits_nothing_and_loses_nothing() {
    let (ripe, known) = ripe(5);
    let now = Timestamp(1000);
    let mut split = 0;
    for free in [0, 3_000, 20_000, 60_000, 150_000, 400_000] {
        let disk = ripe.fork(free);
        let store = open_splitting(&disk).expect("sound").0;
        disk.fill(free);
        // Windows may give way: what they still say they have is there.
        for _ in 0..5 {
            let _ = store.drain_step(now);
        }
        disk.set_capacity(1 << 40);
        for volume in &known {
            expect(&*device(&store, volume.name), &volume.writer.image, "the present");
            let first = store.timeline(volume.name).expect("there").reach.expect("a window").first;
            let last = volume.log.len() - 1;
            for nth in [0, last / 3, last / 2, last] {
                let (lsn, _) = volume.log[nth];
                match store.clone_at(volume.name, &Moment::Lsn(lsn), "past", now) {
                    Ok(_) => {
                        expect(&*device(&store, "past"), &volume.image(nth + 1), &format!("{free} bytes free"));
                        store.delete_dataset("past", now).expect("just made");
                    }
                    Err(Error::Refused(_)) => assert!(nth < last && first > Timestamp(1), "{free} bytes free: {nth}"),
                    Err(error) => panic!("{free} bytes free: {error}"),
                }
            }
        }
        drain(&store, now);
        split += store.stats().expect("measured").history_bytes;
        sound(&store, &format!("{free} bytes free"));
        drop(store);
        drop(open_splitting(&disk).expect("sound"));
    }
    assert!(split > 0, "with room again it is split");
}

/// So much of a disk stays free that windows have to make room of so many bytes.
fn fill_but(disk: &SimDisk, missing: u64) {
    let options = splitting();
    disk.fill(4 * options.reserve_bytes + 2 * options.journal.segment_bytes - missing);
}

/// What is there of a ripe store, on a disk whose history can hang.
fn open_sticky(disk: &SimDisk) -> (Sticky, Store) {
    let sticky = Sticky::in_history(disk.clone());
    let options = StoreOptions { ids: IdSource::seeded(disk.syncs()), ..splitting() };
    let media = Arc::new(sticky.clone()) as Arc<dyn Media>;
    (sticky, Store::open(media, options).expect("sound").0)
}

#[test]
fn a_full_disk_costs_no_history_while_that_makes_no_room() {
    let (disk, known) = ripe(9);
    let now = Timestamp(1000);
    let (sticky, store) = open_sticky(&disk);
    drain(&store, now);
    let bytes = || store.stats().expect("measured").history_bytes;
    let (had, files) = (bytes(), history_files(&disk).len());
    assert!(files >= 3, "{files} files");
    fill_but(&disk, 100_000);
    let (lsn, _) = known[0].log[0];
    std::thread::scope(|scope| {
        let held = sticky.stick();
        let reader = scope.spawn(|| store.clone_at("first", &Moment::Lsn(lsn), "read", now));
        sticky.wait_until_stuck();
        (0..30).for_each(|_| drop(store.drain_step(now)));
        assert_eq!((bytes(), history_files(&disk).len()), (had, files), "it is being read");
        // Not even what nobody needs any more goes from under a reader.
        store.set_window("first", None, now).expect("room");
        (0..30).for_each(|_| drop(store.drain_step(now)));
        assert_eq!(history_files(&disk).len(), files, "it is being read");
        drop(held);
        reader.join().expect("no panic").expect("its files are there");
    });
    expect(&*device(&store, "read"), &known[0].image(1), "what was read meanwhile");
    let others = known[1].log.len() - 1;
    // What was owed goes first, and is enough.
    drain(&store, now);
    assert!(history_files(&disk).len() < files, "swept");
    known[1].look(&store, others / 2, "the other one's window");
    assert!(bytes() > 0);
    // And where it is not, windows give way.
    disk.set_capacity(1 << 40);
    let had = bytes();
    fill_but(&disk, 2 * MIB);
    drain(&store, now);
    assert!(bytes() < had, "{} bytes of {had}", bytes());
}

#[test]
fn a_full_disk_costs_no_history_while_the_journal_is_being_split() {
    let (disk, known) = ripe(10);
    let now = Timestamp(1000);
    let (sticky, store) = open_sticky(&disk);
    let first = || store.timeline("first").expect("there").reach.expect("a window").first;
    let begun = first();
    // Some of it is in history already: that could go at once.
    store.drain_step(now).expect("room");
    assert!(!history_files(&disk).is_empty());
    fill_but(&disk, 100_000);
    std::thread::scope(|scope| {
        let held = sticky.stick();
        let splitter = scope.spawn(|| store.drain_step(now));
        sticky.wait_until_stuck();
        (0..30).for_each(|_| drop(store.drain_step(now)));
        assert_eq!(first(), begun, "splitting is under way");
        drop(held);
        splitter.join().expect("no panic").expect("room");
    });
    assert_eq!(first(), begun, "what could be split made room enough");
    known[0].look_at(&store, 5, "split for want of room");
}
