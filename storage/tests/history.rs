//! What the past costs, in counted bytes: history beside what was written, and a moment of it made writable.

mod common;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use common::*;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::BlockDevice;
use narrowboat_storage::media::tally::Counts;
use narrowboat_storage::media::{Media, SimDisk, Tally};
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Store, StoreOptions};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

const MIB: u64 = 1 << 20;
const FOR_EVER: Window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };

/// A store with its default options, as on a real box, that counts.
fn counted() -> (Tally, Store) {
    let tally = Tally::new(Arc::new(SimDisk::new(1)));
    let media: Arc<dyn Media> = Arc::new(tally.clone());
    (tally, Store::open(media, StoreOptions::default()).expect("an empty disk").0)
}

fn volume(store: &Store, name: &str, size: u64) -> Arc<dyn BlockDevice> {
    let id = store.create_volume(name, size, Policy::Inline, Timestamp(1)).expect("room").row.id;
    store.set_window(name, Some(FOR_EVER), Timestamp(1)).expect("room");
    store.volume(id).expect("just created")
}

/// Bytes of journal that the window of a dataset keeps, once all of it is drained.
fn history(store: &Store, name: &str) -> u64 {
    store.drain_all(Timestamp(1_000_000)).expect("room");
    store.timeline(name).expect("there").reach.expect("a window").journal_bytes
}

#[test]
fn history_of_bulk_is_references_and_that_of_small_writes_is_what_was_written() {
    println!("written       history of 64 MiB");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    // Beyond 128 KiB a write is cut before it is a record.
    for (len, most_percent) in [(4 << 10, 105), (64 << 10, 101), (128 << 10, 30), (256 << 10, 15), (1 << 20, 2)] {
        let (_tally, store) = counted();
        let disk = volume(&store, "disk", 256 * MIB);
        for nth in 0..64 * MIB / len {
            let offset = rng.random_range(0..256 * MIB / len) * len;
            disk.write(Timestamp(2 + nth as i64), offset, noise(nth, len as usize).into()).expect("room");
        }
        let kept = history(&store, "disk");
        let percent = kept as f64 * 100.0 / (64 * MIB) as f64;
        println!("{:>4} KiB  {percent:>7.2} %", len >> 10);
        assert!(percent < f64::from(most_percent), "{kept} bytes of history for 64 MiB in pieces of {len}");
    }
    let (_tally, store) = counted();
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    store.set_window("share", Some(FOR_EVER), Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    for nth in 0..4 {
        let file = create(&*tree, Inode::ROOT, &format!("f{nth}"), 2);
        write(&*tree, file, 0, &noise(nth, 16 << 20), 3);
        commit(&*tree, file).expect("room");
    }
    let kept = history(&store, "share");
    println!("files of 16 MiB over NFS  {:.2} %", kept as f64 * 100.0 / (64 * MIB) as f64);
    assert!(kept < MIB, "{kept} bytes of history for files of 64 MiB");
}

/// What a writable clone of a moment cost.
#[derive(Debug)]
struct Cloned {
    containers: Counts,
    journal: Counts,
    first_write: Counts,
}

/// Makes a clone where so many blocks, far from one another, are on a volume of a TiB.
fn clone_of(blocks: u64) -> Cloned {
    let (tally, store) = counted();
    let size = 1 << 40;
    let disk = volume(&store, "disk", size);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let stamp = |number: u64| -> Bytes { number.to_le_bytes().repeat(512).into() };
    let mut written = Vec::new();
    let mut now = 2;
    for number in 0..blocks {
        now += 1;
        let offset = rng.random_range(0..size / 4096) * 4096;
        disk.write(Timestamp(now), offset, stamp(number)).expect("room");
        written.push((offset, number));
        if number % 8192 == 0 {
            while store.drain_step(Timestamp(now)).expect("room") {}
        }
    }
    store.drain_all(Timestamp(now)).expect("room");
    // A little behind the last checkpoint, as there always is.
    for number in blocks..blocks + 256 {
        now += 1;
        let offset = rng.random_range(0..size / 4096) * 4096;
        disk.write(Timestamp(now), offset, stamp(number)).expect("room");
        written.push((offset, number));
    }
    let (containers, journal) = (tally.folder("containers"), tally.folder("journal"));
    let begun = Instant::now();
    let moment = Moment::Time(Timestamp(now - 128));
    let past = store.clone_at("disk", &moment, "new", Timestamp(now)).expect("within the window");
    let past = store.volume(past.row.id).expect("just made");
    let took = begun.elapsed();
    let (containers, journal) = (tally.folder("containers") - containers, tally.folder("journal") - journal);
    // The last block before the moment is there, and the first behind it is not.
    let (at, number) = written[written.len() - 129];
    assert_eq!(past.read(at, 4096).expect("there").concat(), stamp(number));
    let (at, _) = written[written.len() - 128];
    assert!(past.read(at, 4096).expect("there").concat().iter().all(|byte| *byte == 0));
    let before = tally.total();
    past.write(Timestamp(now), 12345 * 4096, stamp(7)).expect("writable at once");
    past.flush().expect("a sound disk");
    let cloned = Cloned { containers, journal, first_write: tally.total() - before };
    println!("{blocks} blocks: {took:?}, {cloned:?}");
    cloned
}

#[test]
fn a_clone_of_a_moment_costs_the_same_however_much_the_volume_holds() {
    let many = std::env::var("NARROWBOAT_BLOCKS").ok().and_then(|n| n.parse().ok()).unwrap_or(40_000);
    let (few, cloned) = (clone_of(2_000), clone_of(many));
    // What lies behind the checkpoint is replayed from the start of its segment; where it belongs in the tree is as deep as
    // the tree is.
    let segment = StoreOptions::default().journal.segment_bytes;
    assert!(cloned.journal.read_bytes < segment + 8 * MIB, "{cloned:?}");
    assert!(cloned.containers.reads < 2 * few.containers.reads + 100, "{cloned:?} beside {few:?}");
    assert!(cloned.containers.read_bytes < MIB && cloned.containers.written_bytes < 2 * MIB, "{cloned:?}");
    assert!(cloned.first_write.written_bytes < MIB, "{cloned:?}");
}
