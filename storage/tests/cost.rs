//! What operations cost, in counted reads, writes and syncs: a fact that can only get worse by a failing test.

mod common;

use std::sync::Arc;

use common::*;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::media::tally::Counts;
use narrowboat_storage::media::{Media, SimDisk, Tally};
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Store, StoreOptions};

const MIB: u64 = 1 << 20;

fn counted() -> (SimDisk, Tally, Store, Arc<dyn FileTree>) {
    let disk = SimDisk::new(1);
    let (tally, store) = reopen(&disk);
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    (disk, tally, store, tree)
}

/// The store with its default options, as on a real box.
fn reopen(disk: &SimDisk) -> (Tally, Store) {
    let tally = Tally::new(Arc::new(disk.clone()));
    let media: Arc<dyn Media> = Arc::new(tally.clone());
    (tally, Store::open(media, StoreOptions::default()).expect("sound").0)
}

fn cost(tally: &Tally, work: impl FnOnce()) -> Counts {
    let before = tally.total();
    work();
    let cost = tally.total() - before;
    println!("{cost:?}");
    cost
}

#[test]
fn bulk_data_is_written_once() {
    let (_disk, tally, store, tree) = counted();
    let data = noise(1, 64 << 20);
    let file = create(&*tree, Inode::ROOT, "bulk", 2);
    let written = cost(&tally, || {
        write(&*tree, file, 0, &data, 3);
        commit(&*tree, file).expect("room");
    });
    assert!(written.written_bytes < 64 * MIB * 105 / 100, "{} bytes", written.written_bytes);
    assert!(written.syncs + written.dir_syncs < 40, "{} syncs", written.syncs + written.dir_syncs);
    assert!(written.read_bytes < MIB, "{} bytes read", written.read_bytes);
    let drained = cost(&tally, || store.drain_all(Timestamp(4)).expect("room"));
    assert!(drained.written_bytes < 2 * MIB, "{} bytes to drain references", drained.written_bytes);
}

#[test]
fn data_that_is_known_is_not_written_again() {
    let (_disk, tally, store, tree) = counted();
    let data = noise(2, 32 << 20);
    let first = create(&*tree, Inode::ROOT, "first", 2);
    write(&*tree, first, 0, &data, 3);
    commit(&*tree, first).expect("room");
    store.drain_all(Timestamp(4)).expect("room");
    let second = create(&*tree, Inode::ROOT, "second", 5);
    let again = cost(&tally, || {
        write(&*tree, second, 0, &data, 6);
        commit(&*tree, second).expect("room");
    });
    assert!(again.written_bytes < MIB, "{} bytes", again.written_bytes);
}

#[test]
fn a_small_file_costs_one_sync_of_the_journal() {
    let (_disk, tally, _store, tree) = counted();
    let file = create(&*tree, Inode::ROOT, "warm", 2);
    write(&*tree, file, 0, b"warm", 2);
    commit(&*tree, file).expect("room");
    let file = create(&*tree, Inode::ROOT, "small", 3);
    let small = cost(&tally, || {
        write(&*tree, file, 0, &noise(3, 1000), 3);
        commit(&*tree, file).expect("room");
    });
    assert_eq!((small.syncs, small.dir_syncs), (1, 0));
    assert!(small.written_bytes < 2048, "{} bytes", small.written_bytes);
    let idle = cost(&tally, || {
        commit(&*tree, file).expect("nothing to do");
    });
    assert_eq!(idle, Counts::default(), "committing again costs nothing");
}

#[test]
fn a_random_overwrite_costs_its_neighbourhood() {
    let (_disk, tally, store, tree) = counted();
    let file = create(&*tree, Inode::ROOT, "disk", 2);
    write(&*tree, file, 0, &noise(4, 64 << 20), 3);
    commit(&*tree, file).expect("room");
    store.drain_all(Timestamp(4)).expect("room");
    let changed = cost(&tally, || {
        write(&*tree, file, 33_333_333, &noise(5, 4096), 5);
        commit(&*tree, file).expect("room");
        store.drain_all(Timestamp(6)).expect("room");
    });
    // Journal record, a few chunks of 16 KiB on average, one path of nodes in both trees, a page or so of the catalogue.
    assert!(changed.written_bytes < 512 << 10, "{} bytes written", changed.written_bytes);
    assert!(changed.read_bytes < 512 << 10, "{} bytes read", changed.read_bytes);
}

#[test]
fn a_snapshot_of_nothing_new_costs_its_record() {
    let (_disk, tally, store, tree) = counted();
    let file = create(&*tree, Inode::ROOT, "bulk", 2);
    write(&*tree, file, 0, &noise(6, 16 << 20), 3);
    commit(&*tree, file).expect("room");
    let first = store.create_snapshot("share", "one", Timestamp(4)).expect("room");
    let root = store.seal(first.id).expect("room").root;
    let again = cost(&tally, || {
        let second = store.create_snapshot("share", "two", Timestamp(5)).expect("room");
        assert_eq!(store.seal(second.id).expect("room").root, root);
    });
    assert!(again.written_bytes < 128 << 10, "{} bytes written", again.written_bytes);
}

#[test]
fn cold_reading_reads_what_is_asked_for() {
    let (disk, _, store, tree) = counted();
    let file = create(&*tree, Inode::ROOT, "bulk", 2);
    let data = noise(7, 32 << 20);
    write(&*tree, file, 0, &data, 3);
    commit(&*tree, file).expect("room");
    store.close(Timestamp(4)).expect("room");
    drop((store, tree));
    let (tally, store) = reopen(&disk);
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    let all = cost(&tally, || assert!(read(&*tree, file) == data));
    assert!(all.read_bytes < 32 * MIB * 115 / 100, "{} bytes for 32 MiB", all.read_bytes);
    assert_eq!(all.written_bytes, 0);
    drop((store, tree));
    let (tally, store) = reopen(&disk);
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    let one = cost(&tally, || {
        let root = narrowboat_storage::dataset::Credentials::ROOT;
        let found = tree.read(&root, file, 20_000_000, 4096).expect("readable");
        assert!(found.pieces.concat() == data[20_000_000..20_004_096]);
    });
    assert!(one.read_bytes < 256 << 10, "{} bytes for 4 KiB", one.read_bytes);
}

/// Brings a run of reclaim to its end.
fn reclaim(store: &Store) -> narrowboat_storage::reclaim::Reclaimed {
    let mut run = store.reclaim().expect("no other run");
    while run.step(store, Timestamp(9)).expect("a sound disk") != narrowboat_storage::reclaim::Stepped::Done {}
    run.report().clone()
}

#[test]
fn to_give_back_one_percent_a_run_reads_and_writes_little() {
    let (disk, _, store, tree) = counted();
    let file = |nth: u64| format!("file-{nth}");
    for nth in 0..100 {
        let inode = create(&*tree, Inode::ROOT, &file(nth), 2);
        write(&*tree, inode, 0, &noise(nth, 2 << 20), 3);
        commit(&*tree, inode).expect("room");
    }
    let quiet = |store: &Store| store.close(Timestamp(5)).expect("room");
    quiet(&store);
    reclaim(&store);
    // One percent of it, in a piece each: it may stay, among what is needed.
    for nth in [7, 50] {
        tree.remove(&at(6), Inode::ROOT, file(nth).as_bytes()).expect("there");
    }
    quiet(&store);
    drop((tree, store));
    let (tally, store) = reopen(&disk);
    let mut report = Default::default();
    let spent = cost(&tally, || report = reclaim(&store));
    println!("{report:?}");
    let kept = 200 * MIB;
    assert!(spent.read_bytes * 100 < kept * 2, "{} bytes read for a look at {kept}", spent.read_bytes);
    let written = spent.written_bytes.saturating_sub(report.moved_bytes);
    assert!(written < 8 * MIB, "{written} bytes written beside what was moved");
    let found = report.freed_bytes + report.left_bytes;
    assert!(found > 4 * MIB * 95 / 100, "{report:?}");
    // A quarter here and there: it goes, but for a twentieth.
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    for nth in (1..100).step_by(4) {
        tree.remove(&at(7), Inode::ROOT, file(nth).as_bytes()).expect("there");
    }
    quiet(&store);
    let report = reclaim(&store);
    println!("{report:?}");
    assert!(report.left_bytes <= kept / 20, "{report:?}");
    assert!(report.freed_bytes > 40 * MIB, "{report:?}");
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}
