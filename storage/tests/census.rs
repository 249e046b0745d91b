//! What a census says against what deleting, emptying and reclaim really free, on the disk, to within one in a hundred.

#[path = "common/blocks.rs"]
mod blocks;
mod common;
#[path = "common/known.rs"]
mod known;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::census::{CensusOptions, Freeable};
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::media::{SimDisk, Tally};
use narrowboat_storage::reclaim::{Reclaimed, Stepped};
use narrowboat_storage::units::{Inode, Timestamp};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn census(store: &Store, options: CensusOptions) -> Freeable {
    let mut census = store.census(options, Timestamp(50)).expect("sound");
    while census.step(store).expect("a sound disk") != Stepped::Done {}
    census.report().clone()
}

fn reclaim(store: &Store) -> Reclaimed {
    store.close(Timestamp(60)).expect("a sound disk");
    let mut run = store.reclaim().expect("no other run");
    while run.step(store, Timestamp(60)).expect("a sound disk") != Stepped::Done {}
    run.report().clone()
}

fn container_bytes(disk: &SimDisk) -> u64 {
    let containers = disk.paths().into_iter().filter(|path| path.starts_with("containers/"));
    containers.map(|path| disk.contents(&path).expect("a file").len() as u64).sum()
}

fn put(tree: &dyn FileTree, name: &str, seed: u64, len: usize) {
    let file = create(tree, Inode::ROOT, name, 2);
    write(tree, file, 0, &noise(seed, len), 3);
    commit(tree, file).expect("room");
}

fn remove(tree: &dyn FileTree, name: &str) {
    let removed = tree.remove(&at(4), Inode::ROOT, name.as_bytes()).expect("there");
    tree.make_stable(removed.lsn).expect("a sound disk");
}

/// Two shares that have much in common, each with snapshots that have some of it alone; one file comes, goes and comes again.
fn two_shares(quarantine: Duration) -> (SimDisk, Store) {
    let disk = SimDisk::new(3);
    let (store, _) = open_keeping(&disk, quarantine).expect("an empty disk");
    for (nth, name) in ["one", "two"].into_iter().enumerate() {
        let share = store.create_share(name, Policy::Inline, Timestamp(1)).expect("room");
        let tree = store.tree(share.row.id).expect("just created");
        let nth = nth as u64;
        put(&*tree, "common", 7, 3 << 20);
        put(&*tree, "own", 100 + nth, 2 << 20);
        put(&*tree, "now-and-then", 200 + nth, 1 << 20);
        for round in 0..4 {
            put(&*tree, "passing", 1000 * (nth + 1) + round, (1 + round as usize) << 20);
            store.create_snapshot(name, &format!("s{round}"), Timestamp(3)).expect("room");
            remove(&*tree, "passing");
            match round {
                0 => remove(&*tree, "now-and-then"),
                1 => put(&*tree, "now-and-then", 200 + nth, 1 << 20),
                _ => {}
            }
        }
        remove(&*tree, "own");
    }
    store.close(Timestamp(5)).expect("room");
    // The journal names what it has until it is trimmed.
    let filler = store.create_share("filler", Policy::Inline, Timestamp(6)).expect("room");
    let tree = store.tree(filler.row.id).expect("there");
    let file = create(&*tree, Inode::ROOT, "zeros", 6);
    for round in 0..3 {
        write(&*tree, file, 0, &vec![round + 1; 4 << 20], 7);
        commit(&*tree, file).expect("room");
        store.close(Timestamp(7)).expect("room");
    }
    (disk, store)
}

/// Deletes something by itself, and asserts that reclaim frees what the census had said.
fn expect_freed(disk: &SimDisk, store: &Store, what: &str, said: u64, delete: impl FnOnce()) {
    let left = reclaim(store).left_bytes;
    let before = container_bytes(disk);
    delete();
    let report = reclaim(store);
    let freed = before - container_bytes(disk);
    // What reclaim leaves among what is needed is named in its report.
    let freed = freed + report.left_bytes - left.min(report.left_bytes);
    assert!(freed.abs_diff(said) * 100 <= said.max(200_000), "{what}: {said} said, {freed} freed: {report:?}");
}

#[test]
fn each_snapshot_and_each_dataset_frees_what_was_said() {
    for victim in ["one@s0", "one@s1", "two@s3", "one", "two"] {
        let (disk, store) = two_shares(Duration::ZERO);
        let said = census(&store, CensusOptions::default());
        assert_eq!(said.one_in, 1);
        let (dataset, snapshot) = victim.split_once('@').unwrap_or((victim, ""));
        let bytes = match snapshot {
            "" => said.datasets[&store.dataset_named(dataset).expect("there").row.id],
            name => said.snapshots[&store.snapshot_named(dataset, name).expect("there").id],
        };
        assert!(bytes > 1 << 20, "{victim}: {bytes}");
        expect_freed(&disk, &store, victim, bytes, || match snapshot {
            "" => store.delete_dataset(dataset, Timestamp(9)).expect("not held"),
            name => store.delete_snapshot(dataset, name, Timestamp(9)).expect("not held"),
        });
    }
}

#[test]
fn emptying_the_quarantine_frees_what_was_said_and_deleting_changes_no_figure() {
    let (disk, store) = two_shares(WEEK);
    let before = census(&store, CensusOptions::default());
    assert_eq!(before.quarantine_bytes, 0);
    for name in ["s1", "s2"] {
        store.delete_snapshot("one", name, Timestamp(9)).expect("not held");
    }
    store.delete_dataset("two", Timestamp(9)).expect("not held");
    store.close(Timestamp(9)).expect("room");
    let said = census(&store, CensusOptions::default());
    assert_eq!((&said.snapshots, &said.datasets), (&before.snapshots, &before.datasets));
    // More than the sum of what each alone would free: what they share goes, too.
    assert!(said.quarantine_bytes > 10 << 20, "{}", said.quarantine_bytes);
    expect_freed(&disk, &store, "the quarantine", said.quarantine_bytes, || {
        store.empty_quarantine(&|_| true, Timestamp(10)).expect("room");
    });
    let after = census(&store, CensusOptions::default());
    assert_eq!(after.quarantine_bytes, 0);
}

#[test]
fn what_is_needed_and_what_is_not_add_up_to_what_the_disk_has() {
    let (disk, store) = two_shares(Duration::ZERO);
    reclaim(&store);
    store.delete_snapshot("one", "s3", Timestamp(9)).expect("not held");
    let said = census(&store, CensusOptions::default());
    let (sum, disk) = (said.needed_bytes + said.unneeded_bytes, container_bytes(&disk));
    assert!(sum <= disk && (disk - sum) * 100 <= disk, "{sum} of {disk}: {said:?}");
    assert!(said.unneeded_bytes >= 4 << 20, "{said:?}");
}

#[test]
fn with_little_memory_it_counts_some_and_is_about_right() {
    let (_disk, store) = two_shares(Duration::ZERO);
    let exact = census(&store, CensusOptions::default());
    let rough = census(&store, CensusOptions { chunks_max: 500, ..CensusOptions::default() });
    assert!(rough.one_in > 1, "{rough:?}");
    assert!(rough.needed_bytes.abs_diff(exact.needed_bytes) * 5 < exact.needed_bytes, "{rough:?} {exact:?}");
    let refused = store.census(CensusOptions { nodes_max: 3, ..CensusOptions::default() }, Timestamp(1));
    let mut refused = refused.expect("it can begin");
    let outcome = (0..100_000).map(|_| refused.step(&store)).find(|step| !matches!(step, Ok(Stepped::Worked)));
    assert!(matches!(outcome, Some(Err(_))), "{outcome:?}");
}

/// A tree that is not here whole is left out and named, and the rest is counted; nothing else can be counted before it is healed.
#[test]
fn what_is_torn_is_left_out_and_told() {
    let (disk, store, _) = filled();
    store.close(Timestamp(7)).expect("room");
    drop(store);
    let containers: Vec<String> = disk.paths().into_iter().filter(|path| path.starts_with("containers/")).collect();
    let mut torn = 0;
    for (nth, file) in containers.iter().enumerate() {
        let disk = disk.fork(nth as u64);
        disk.lose(file).expect("there");
        let (store, _) = open(&disk).expect("it opens");
        let is_torn = !store.torn_snapshots().expect("a disk").is_empty();
        let said = census(&store, CensusOptions::default());
        assert_eq!(said.left_out.contains(&"share@monday".to_owned()), is_torn, "{file}: {said:?}");
        torn += usize::from(is_torn);
    }
    assert!(torn > 0, "{containers:?}");
}

#[test]
fn a_step_reads_one_file_of_a_history_at_the_most() {
    let (disk, _) = known::ripe(6);
    known::drain(&open_splitting(&disk).expect("sound").0, Timestamp(1000));
    let files = known::history_files(&disk).len() as u64;
    let tally = Tally::new(Arc::new(disk));
    let store = Store::open(Arc::new(tally.clone()), splitting()).expect("sound").0;
    let mut census = store.census(CensusOptions::default(), Timestamp(1001)).expect("sound");
    let (mut reading, mut stepped) = (0, Stepped::Worked);
    while stepped != Stepped::Done {
        let before = tally.folder("history").reads;
        stepped = census.step(&store).expect("a sound disk");
        reading += u64::from(tally.folder("history").reads > before);
    }
    assert!(files > 2 && reading == files, "{files} files in {reading} steps");
}
