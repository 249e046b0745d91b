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
const SEGMENT: u64 = 8 * MIB;
const FOR_EVER: Window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };

/// A store with its default options, as on a real box, that counts.
fn counted() -> (Tally, Store) {
    let tally = Tally::new(Arc::new(SimDisk::new(1)));
    let media: Arc<dyn Media> = Arc::new(tally.clone());
    (tally, Store::open(media, StoreOptions::default()).expect("an empty disk").0)
}

/// The same, with a journal that is split as soon as that can be done.
fn split() -> (Tally, Store) {
    let tally = Tally::new(Arc::new(SimDisk::new(1)));
    let mut options = StoreOptions { whole_journal_bytes: 0, ..StoreOptions::default() };
    options.journal.segment_bytes = SEGMENT;
    let media: Arc<dyn Media> = Arc::new(tally.clone());
    (tally, Store::open(media, options).expect("an empty disk").0)
}

fn volume(store: &Store, name: &str, size: u64) -> Arc<dyn BlockDevice> {
    let id = store.create_volume(name, size, Policy::Inline, Timestamp(1)).expect("room").row.id;
    store.set_window(name, Some(FOR_EVER), Timestamp(1)).expect("room");
    store.volume(id).expect("just created")
}

/// What the window of a dataset keeps of `written` bytes, in percent: before its records are split off the journal, and after.
fn history(store: &Store, name: &str, written: u64) -> (f64, f64) {
    let now = Timestamp(1_000_000);
    store.drain_all(now).expect("room");
    let percent = |bytes: u64| bytes as f64 * 100.0 / written as f64;
    let reach = || store.timeline(name).expect("there").reach.expect("a window");
    let whole = reach().journal_bytes;
    // Until nothing of it is in the newest segment of the journal.
    let other = store.create_volume("other", 64 * MIB, Policy::Inline, now).expect("room").row.id;
    let other = store.volume(other).expect("just made");
    for nth in 0..16 * SEGMENT / MIB {
        other.write(now, nth % 1024 * 65536, noise(nth, 65536).into()).expect("room");
    }
    store.drain_all(now).expect("room");
    let journal_bytes = store.stats().expect("measured").journal_bytes;
    let begun = processor_time();
    while store.drain_step(now).expect("room") {}
    let took = (processor_time() - begun) as f64 / 1e9;
    println!("  splitting {} MiB: {took:.2} CPU seconds", journal_bytes >> 20);
    let split = reach();
    assert_eq!(split.journal_bytes, split.history_bytes, "all of it is split off");
    (percent(whole), percent(split.journal_bytes))
}

/// Nanoseconds that this thread has computed; 0 where the kernel does not say.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

#[test]
fn history_is_references_and_what_was_written_over_before_it_was_drained() {
    println!("written                              in the journal   in history");
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    // Length of the writes, size of the volume in MiB, every how many MiB it is drained, and the bound in percent.
    for (len, size, drained, most_percent) in [
        (4 << 10, 256, 64, 16.0),
        (4 << 10, 256, 8, 6.0),
        (4 << 10, 1024, 64, 8.0),
        (4 << 10, 8192, 64, 4.0),
        (64 << 10, 256, 64, 16.0),
        (128 << 10, 256, 64, 30.0),
        (256 << 10, 256, 64, 15.0),
        (1 << 20, 256, 64, 2.0),
    ] {
        let (_tally, store) = split();
        let disk = volume(&store, "disk", size * MIB);
        for nth in 0..64 * MIB / len {
            let offset = rng.random_range(0..size * MIB / len) * len;
            disk.write(Timestamp(2 + nth as i64), offset, noise(nth, len as usize).into()).expect("room");
            if (nth + 1) * len % (drained * MIB) == 0 {
                store.drain_all(Timestamp(2 + nth as i64)).expect("room");
            }
        }
        let (whole, split) = history(&store, "disk", 64 * MIB);
        println!(
            "{:>4} KiB in {size:>4} MiB, drained every {drained:>2} MiB  {whole:>6.2} %  {split:>6.2} %",
            len >> 10
        );
        assert!(split < most_percent, "{split} % of history for pieces of {len} in {size} MiB");
    }
    let (_tally, store) = split();
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    store.set_window("share", Some(FOR_EVER), Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    for nth in 0..4096 {
        let file = create(&*tree, Inode::ROOT, &format!("f{nth}"), 2);
        write(&*tree, file, 0, &noise(nth, 16 << 10), 3);
        commit(&*tree, file).expect("room");
    }
    let (whole, split) = history(&store, "share", 64 * MIB);
    println!("files of 16 KiB over NFS                {whole:>6.2} %  {split:>6.2} %");
    assert!(split < 5.0, "{split} % of history for small files");
}

#[test]
fn history_of_bulk_is_references_from_the_beginning() {
    let (_tally, store) = split();
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    store.set_window("share", Some(FOR_EVER), Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    for nth in 0..4 {
        let file = create(&*tree, Inode::ROOT, &format!("f{nth}"), 2);
        write(&*tree, file, 0, &noise(nth, 16 << 20), 3);
        commit(&*tree, file).expect("room");
    }
    let (whole, split) = history(&store, "share", 64 * MIB);
    println!("files of 16 MiB over NFS                {whole:>6.2} %  {split:>6.2} %");
    assert!(whole < 1.5 && split < 1.5, "{whole} % and {split} % of history for files of 64 MiB");
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
