//! The store through its public door, on a simulated disk.

mod common;

use common::*;
use narrowboat_storage::catalogue::{DatasetKind, Policy};
use narrowboat_storage::dataset::{Credentials, FileTree, SetAttributes};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::store::{Moment, ReplicaSnapshot};
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store};

const ROOT: Inode = Inode::ROOT;

fn lookup(tree: &dyn FileTree, name: &str) -> Inode {
    tree.lookup(&Credentials::ROOT, ROOT, name.as_bytes()).expect("an entry").inode
}

#[test]
fn bytes_come_back_before_and_after_the_drain_and_after_a_restart() {
    let (disk, store, tree) = with_share(1);
    let data = noise(1, 3 << 20);
    let file = create(&*tree, ROOT, "file", 2);
    write(&*tree, file, 0, &data, 3);
    assert!(read(&*tree, file) == data, "before anything");
    commit(&*tree, file).expect("room");
    assert!(read(&*tree, file) == data, "after commit");
    store.drain_all(Timestamp(4)).expect("room");
    assert!(read(&*tree, file) == data, "after the drain");
    drop((store, tree));
    let (store, report) = open(&disk).expect("sound");
    assert!(!report.created);
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    assert!(read(&*tree, lookup(&*tree, "file")) == data, "after a restart");
}

#[test]
fn sequential_bulk_data_is_written_once() {
    let (disk, store, tree) = with_share(1);
    let file = create(&*tree, ROOT, "bulk", 2);
    let before = disk.used();
    let data = noise(2, 8 << 20);
    write(&*tree, file, 0, &data, 3);
    commit(&*tree, file).expect("room");
    store.drain_all(Timestamp(4)).expect("room");
    let written = disk.used() - before;
    // Segments of the journal take their room at once, so what counts is that the data is not there a second time.
    assert!(written < (8 << 20) + (5 << 20), "{written} bytes for 8 MiB");
}

#[test]
fn a_snapshot_holds_its_moment_also_when_it_is_sealed_late() {
    let (disk, store, tree) = with_share(1);
    let file = create(&*tree, ROOT, "file", 2);
    write(&*tree, file, 0, b"monday", 3);
    let monday = store.create_snapshot("share", "monday", Timestamp(4)).expect("room");
    assert!(monday.sealed.is_none(), "instant: nothing was drained yet");
    write(&*tree, file, 0, b"tuesday", 5);
    create(&*tree, ROOT, "new", 5);
    let tuesday = store.create_snapshot("share", "tuesday", Timestamp(6)).expect("room");
    write(&*tree, file, 0, b"later", 7);
    let look = |store: &Store| {
        let monday_tree = store.snapshot_tree(monday.id).expect("sealed");
        assert_eq!(read(&*monday_tree, file), b"monday");
        let new = monday_tree.lookup(&Credentials::ROOT, ROOT, b"new");
        assert!(matches!(new, Err(Error::Refused(Refusal::NotFound(_)))), "{new:?}");
        assert_eq!(read(&*store.snapshot_tree(tuesday.id).expect("sealed"), file), b"tuesday");
    };
    look(&store);
    assert_eq!(read(&*tree, file), b"lateray");
    let refused = store.snapshot_tree(monday.id).expect("sealed").remove(&at(9), ROOT, b"file");
    assert!(matches!(refused, Err(Error::Refused(Refusal::ReadOnly))));
    drop((store, tree));
    look(&open(&disk).expect("sound").0);
}

#[test]
fn a_snapshot_that_was_not_sealed_is_sealed_after_a_restart() {
    let (disk, store, tree) = with_share(1);
    let file = create(&*tree, ROOT, "file", 2);
    write(&*tree, file, 0, &noise(5, 300_000), 3);
    let snapshot = store.create_snapshot("share", "s", Timestamp(4)).expect("room");
    write(&*tree, file, 1000, b"changed", 5);
    commit(&*tree, file).expect("room");
    drop((store, tree));
    disk.power_cut();
    let (store, _) = open(&disk).expect("sound");
    assert!(read(&*store.snapshot_tree(snapshot.id).expect("sealed"), file) == noise(5, 300_000));
    let tree = store.tree(snapshot.dataset).expect("open");
    assert_eq!(read(&*tree, file)[1000..1007], *b"changed");
}

#[test]
fn equal_trees_have_equal_roots_however_they_were_written() {
    let root = |pieces: usize, drains: bool| {
        let (_disk, store, tree) = with_share(1);
        let file = create(&*tree, ROOT, "file", 2);
        let data = noise(7, 2 << 20);
        for (index, piece) in data.chunks(pieces).enumerate() {
            write(&*tree, file, (index * pieces) as u64, piece, 3);
            if drains && index % 3 == 0 {
                store.drain_all(Timestamp(3)).expect("room");
            }
        }
        let snapshot = store.create_snapshot("share", "s", Timestamp(4)).expect("room");
        store.seal(snapshot.id).expect("room").root
    };
    let once = root(2 << 20, false);
    assert!(once.is_some());
    assert_eq!(once, root(128 << 10, true));
    assert_eq!(once, root(77_777, false));
    assert_eq!(once, root(300_000, true));
}

#[test]
fn a_clone_starts_as_the_snapshot_and_goes_its_own_way() {
    let (_disk, store, tree) = with_share(1);
    let file = create(&*tree, ROOT, "file", 2);
    write(&*tree, file, 0, b"shared", 3);
    store.create_snapshot("share", "s", Timestamp(4)).expect("room");
    let clone = store.clone_snapshot("share", "s", "copy", Timestamp(5)).expect("room");
    let copy = store.tree(clone.row.id).expect("open");
    write(&*copy, file, 0, b"copied", 6);
    assert_eq!(read(&*tree, file), b"shared");
    assert_eq!(read(&*copy, file), b"copied");
    assert!(create(&*copy, ROOT, "new", 7) > file, "inode numbers never go back");
    assert_eq!(clone.totals.files, 1);
}

#[test]
fn space_that_is_overwritten_is_not_counted_again() {
    let (_disk, store, tree) = with_share(8);
    let file = create(&*tree, ROOT, "disk image", 2);
    let used = || tree.attributes(file).expect("there").used;
    tree.set_attributes(&at(2), file, &SetAttributes { size: Some(1 << 30), ..SetAttributes::default() }, None)
        .expect("room");
    assert_eq!(used(), 0);
    // The same places again and again: in memory, in the journal and in the tree.
    for round in 0..4 {
        for place in 0..3 {
            write(&*tree, file, place << 28, &noise(round * 3 + place, 300_000), 3);
        }
        assert_eq!(used(), 900_000, "round {round}");
        match round {
            0 => drop(commit(&*tree, file).expect("room")),
            _ => store.drain_all(Timestamp(4)).expect("room"),
        }
    }
    // Half of it over what is there; and behind the end.
    write(&*tree, file, 150_000, &noise(20, 300_000), 5);
    assert_eq!(used(), 1_050_000);
    write(&*tree, file, (1 << 30) - 1000, &noise(21, 3000), 6);
    assert_eq!(used(), 1_053_000);
}

#[test]
fn truncation_does_not_show_old_bytes_again() {
    let (_disk, store, tree) = with_share(1);
    let file = create(&*tree, ROOT, "file", 2);
    let data = noise(9, 200_000);
    write(&*tree, file, 0, &data, 3);
    store.drain_all(Timestamp(4)).expect("room");
    let size = |size| SetAttributes { size: Some(size), ..SetAttributes::default() };
    tree.set_attributes(&at(5), file, &size(50_000), None).expect("sound");
    tree.set_attributes(&at(6), file, &size(150_000), None).expect("sound");
    let mut expected = data[..50_000].to_vec();
    expected.resize(150_000, 0);
    assert!(read(&*tree, file) == expected, "in the layer");
    store.drain_all(Timestamp(7)).expect("room");
    assert!(read(&*tree, file) == expected, "in the tree");
}

#[test]
fn a_sparse_file_of_16_tib_costs_nothing() {
    let (disk, store, tree) = with_share(1);
    let file = create(&*tree, ROOT, "sparse", 2);
    let end = 16_u64 << 40;
    let used = disk.used();
    write(&*tree, file, end - 7, b"the end", 3);
    commit(&*tree, file).expect("room");
    store.drain_all(Timestamp(4)).expect("room");
    assert!(disk.used() - used < 1 << 20, "{} bytes", disk.used() - used);
    assert_eq!(tree.attributes(file).expect("there").size, end);
    let tail = tree.read(&Credentials::ROOT, file, end - 100, 200).expect("readable");
    assert_eq!(tail.pieces.concat()[93..], *b"the end");
    assert!(tail.end);
    let data = |from| tree.next_data(&Credentials::ROOT, file, from).expect("readable");
    assert_eq!((data(0), data(end - 1), data(end)), (Some(end - 7..end), Some(end - 1..end), None));
    tree.set_attributes(&at(5), file, &SetAttributes { size: Some(end - 7), ..SetAttributes::default() }, None)
        .expect("cut");
    assert_eq!(data(0), None, "nothing but a hole is left");
    let beyond = tree.write(&at(5), file, end, bytes::Bytes::from_static(b"x"));
    assert!(matches!(beyond, Err(Error::Refused(Refusal::FileTooLarge))));
}

#[test]
fn names_of_datasets_and_snapshots_are_checked() {
    let (_disk, store, _tree) = with_share(1);
    for wrong in ["", ".", "..", "a@b", "a:b", "a//b", "/a", "a\nb", &"x".repeat(256)] {
        assert!(store.create_share(wrong, Policy::Inline, Timestamp(2)).is_err(), "{wrong:?}");
    }
    for wrong in ["", "a/b", "..", "a@b"] {
        assert!(store.create_snapshot("share", wrong, Timestamp(2)).is_err(), "{wrong:?}");
    }
    let taken = store.create_share("share", Policy::Inline, Timestamp(2));
    assert!(matches!(taken, Err(Error::Refused(Refusal::Exists(_)))));
    let missing = store.create_snapshot("none", "s", Timestamp(2));
    assert!(matches!(missing, Err(Error::Refused(Refusal::NotFound(_)))));
}

#[test]
fn what_is_held_can_not_be_deleted() {
    let (disk, store, tree) = with_share(1);
    create(&*tree, ROOT, "file", 2);
    store.create_snapshot("share", "s", Timestamp(3)).expect("room");
    store.hold_snapshot("share", "s", true, Timestamp(4)).expect("room");
    assert!(store.delete_snapshot("share", "s", Timestamp(5)).is_err());
    assert!(store.delete_dataset("share", Timestamp(5)).is_err());
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    assert!(store.delete_snapshot("share", "s", Timestamp(5)).is_err(), "held after a restart, too");
    store.hold_snapshot("share", "s", false, Timestamp(6)).expect("room");
    store.delete_snapshot("share", "s", Timestamp(7)).expect("released");
    store.delete_dataset("share", Timestamp(8)).expect("nothing is held");
    drop(store);
    let (store, _) = open(&disk).expect("sound");
    assert!(store.datasets().expect("readable").is_empty());
    assert!(store.snapshots(None).is_empty());
}

#[test]
fn the_journal_is_trimmed_and_idle_datasets_do_not_pin_it() {
    let (disk, store, tree) = with_share(1);
    let idle = store.create_share("idle", Policy::Inline, Timestamp(1)).expect("room");
    create(&*store.tree(idle.row.id).expect("open"), ROOT, "once", 1);
    for round in 0..30 {
        let file = create(&*tree, ROOT, &format!("file-{round}"), 2);
        for part in 0..20 {
            // Small and scattered, so that it goes through the journal inline.
            write(&*tree, file, part * 50_000, &noise(round * 100 + part, 40_000), 3);
            commit(&*tree, file).expect("room");
        }
        while store.drain_step(Timestamp(4)).expect("room") {}
    }
    let journal: u64 = disk
        .paths()
        .iter()
        .filter(|path| path.starts_with("journal/"))
        .map(|path| disk.contents(path).expect("a file").len() as u64)
        .sum();
    assert!(journal < 24 << 20, "{journal} bytes of journal for 24 MiB written");
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    let last = read(&*tree, lookup(&*tree, "file-29"));
    assert!(last[19 * 50_000..] == noise(29 * 100 + 19, 40_000));
    let idle = store.tree(idle.row.id).expect("open");
    lookup(&*idle, "once");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = SimDisk::new(3);
    disk.set_capacity(40 << 20);
    let (store, _) = open(&disk).expect("room");
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("open");
    let mut whole = 0;
    for number in 0..100_u64 {
        let how = narrowboat_storage::dataset::Create::Guarded(SetAttributes::default());
        let Ok(made) = tree.create(&at(2), ROOT, format!("f{number}").as_bytes(), &how) else { break };
        let data = noise(number, 1 << 20);
        let written = data.chunks(128 << 10).enumerate().all(|(index, piece)| {
            let offset = (index * (128 << 10)) as u64;
            tree.write(&at(3), made.file.inode, offset, bytes::Bytes::copy_from_slice(piece)).is_ok()
        });
        if !written || commit(&*tree, made.file.inode).is_err() {
            break;
        }
        whole = number + 1;
        let _ = store.drain_step(Timestamp(4));
    }
    assert!((5..40).contains(&whole), "{whole} MiB fitted on a disk of 40");
    let expect_whole = |tree: &dyn FileTree| {
        for number in 0..whole {
            let inode = lookup(tree, &format!("f{number}"));
            assert!(read(tree, inode) == noise(number, 1 << 20), "file {number}");
        }
    };
    expect_whole(&*tree);
    let removed = tree.remove(&at(5), ROOT, b"f0").expect("deletion goes on");
    tree.make_stable(removed.lsn).expect("deletion is stable");
    drop((store, tree));
    let (store, _) = open(&disk).expect("a full disk can be opened");
    let tree = store.tree(share.row.id).expect("open");
    assert!(tree.lookup(&Credentials::ROOT, ROOT, b"f0").is_err());
    (1..whole).for_each(|number| {
        let inode = lookup(&*tree, &format!("f{number}"));
        assert!(read(&*tree, inode) == noise(number, 1 << 20), "file {number} after a restart");
    });
}

#[test]
fn snapshots_drains_and_writes_at_once_do_not_wait_for_one_another_for_ever() {
    let (_disk, store, tree) = with_share(4);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (finished, watch) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    store.drain_step(Timestamp(4)).expect("room");
                }
            });
        }
        scope.spawn(|| {
            for round in 0..60_u64 {
                let file = create(&*tree, ROOT, &format!("f{round}"), 2);
                write(&*tree, file, 0, &noise(round, 400_000), 3);
                commit(&*tree, file).expect("room");
                let snapshot = store.create_snapshot("share", &format!("s{round}"), Timestamp(5)).expect("room");
                if round % 7 == 0 {
                    store.seal(snapshot.id).expect("room");
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            finished.send(()).expect("somebody waits");
        });
        // A deadlock would hang the test run: end it with a word instead.
        if watch.recv_timeout(std::time::Duration::from_secs(120)).is_err() {
            eprintln!("a deadlock between snapshots and drains");
            std::process::abort();
        }
    });
    assert_eq!(store.snapshots(None).len(), 60);
}

/// Overwrites the end of every data container, footer and all, so that no chunk in its second half is what it was.
fn harm_data(disk: &SimDisk) {
    for folder in disk.list("containers").expect("a folder") {
        let folder = format!("containers/{}", folder.trim_end_matches('/'));
        for name in disk.list(&folder).expect("a folder").iter().filter(|name| name.ends_with(".data")) {
            let file = disk.open(&format!("{folder}/{name}")).expect("listed");
            let len = file.len().expect("open");
            file.write_at(&[std::io::IoSlice::new(&vec![0xA5; len as usize / 2])], len / 4).expect("room");
            file.sync().expect("sound");
        }
    }
}

#[test]
fn what_is_damaged_in_one_dataset_does_not_keep_others_from_being_drained() {
    let (disk, store, tree) = with_share(5);
    let file = create(&*tree, ROOT, "file", 2);
    write(&*tree, file, 0, &noise(5, 4 << 20), 3);
    commit(&*tree, file).expect("room");
    store.close(Timestamp(4)).expect("room");
    drop((store, tree));
    harm_data(&disk);
    let (store, _) = open(&disk).expect("its names are still known");
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    // To cut around these changes, the drain has to read chunks that are damaged.
    (8..24_u64).for_each(|place| write(&*tree, file, place * 131_072 + 5, b"changed", 5));
    store.create_snapshot("share", "never sealed", Timestamp(6)).expect("room in the journal");
    let other = store.create_share("other", Policy::Inline, Timestamp(7)).expect("room");
    let other_tree = store.tree(other.row.id).expect("open");
    for round in 0..4 {
        create(&*other_tree, ROOT, &format!("f{round}"), 8);
        store.create_snapshot("other", &format!("s{round}"), Timestamp(9)).expect("room");
    }
    (0..4).for_each(|_| assert!(store.drain_step(Timestamp(10)).expect("the other one can be drained")));
    assert!(store.snapshots(Some(other.row.id)).iter().all(|snapshot| snapshot.sealed.is_some()));
    assert!(matches!(store.drain_step(Timestamp(11)), Err(Error::Damage(_))), "and then it says what is wrong");
    // Nor from being closed: what the others hold is in their roots, and not only in the journal.
    let last = create(&*other_tree, ROOT, "last", 12);
    write(&*other_tree, last, 0, b"last", 12);
    assert!(matches!(store.close(Timestamp(13)), Err(Error::Damage(_))));
    let root = store.dataset_named("other").expect("there").head.root;
    let snapshot = store.create_snapshot("other", "closed", Timestamp(14)).expect("room");
    assert_eq!(snapshot.sealed.expect("nothing was left to drain").root, root);
}

#[test]
fn a_peer_can_not_make_numbers_of_files_run_out_or_come_again() {
    let (_disk, store, tree) = with_share(6);
    let file = create(&*tree, ROOT, "file", 2);
    let snapshot = store.create_snapshot("share", "s", Timestamp(3)).expect("room");
    let sealed = store.seal(snapshot.id).expect("room");
    let arrived = |next_inode| ReplicaSnapshot {
        dataset: DatasetId([7; 16]),
        dataset_name: "peer/share".into(),
        kind: DatasetKind::Share,
        size: 0,
        origin: StoreId([8; 16]),
        snapshot: SnapshotId([9; 16]),
        name: "s".into(),
        time: Timestamp(3),
        sealed: narrowboat_storage::catalogue::Sealed { next_inode, ..sealed },
    };
    for odd in [0, 1, file.0, u64::MAX] {
        let refused = store.publish(&arrived(odd), Timestamp(4));
        assert!(matches!(refused, Err(Error::Refused(Refusal::Invalid(_)))), "{odd}: {refused:?}");
    }
    store.publish(&arrived(sealed.next_inode), Timestamp(4)).expect("as it was sealed");
    // A replica is as it arrived: that is its newest moment.
    let copy = store.clone_at("peer/share", &Moment::Newest, "copy", Timestamp(5)).expect("it needs no window");
    assert_eq!(copy.head.root, sealed.root);
    assert!(store.clone_at("share", &Moment::Newest, "other", Timestamp(5)).is_err(), "this does");
    let clone = store.clone_snapshot("peer/share", "s", "clone", Timestamp(5)).expect("sealed");
    assert!(create(&*store.tree(clone.row.id).expect("open"), ROOT, "new", 6) > file);
}

#[test]
fn a_name_that_is_used_again_refuses_nothing_that_arrives() {
    let (disk, store, tree) = with_share(6);
    create(&*tree, ROOT, "file", 2);
    let snapshot = store.create_snapshot("share", "s", Timestamp(3)).expect("room");
    let sealed = store.seal(snapshot.id).expect("room");
    let arrived = |dataset: u8, id: u8, name: &str| ReplicaSnapshot {
        dataset: DatasetId([dataset; 16]),
        dataset_name: "peer/share".into(),
        kind: DatasetKind::Share,
        size: 0,
        origin: StoreId([8; 16]),
        snapshot: SnapshotId([id; 16]),
        name: name.into(),
        time: Timestamp(i64::from(id)),
        sealed,
    };
    let long = format!("{}é", "x".repeat(253));
    let all = [(7, 1, "latest"), (7, 2, "latest"), (7, 3, "latest"), (7, 4, &long), (7, 5, &long), (9, 6, "latest")];
    for round in 0..2 {
        for (dataset, id, name) in all {
            let outcome = store.publish(&arrived(dataset, id, name), Timestamp(20));
            outcome.unwrap_or_else(|error| panic!("{name} in round {round}: {error}"));
        }
    }
    let names = |store: &Store, dataset| -> Vec<String> {
        let row = store.dataset_named(dataset).expect("a replica").row;
        store.snapshots(Some(row.id)).into_iter().map(|snapshot| snapshot.name).collect()
    };
    let cut = format!("{}-2", "x".repeat(253));
    assert_eq!(names(&store, "peer/share"), ["latest", "latest-2", "latest-3", &long, &cut]);
    assert_eq!(names(&store, "peer/share-2"), ["latest"], "made anew under its name, it is another dataset");
    let lie = ReplicaSnapshot { time: Timestamp(19), ..arrived(7, 2, "latest") };
    assert!(matches!(store.publish(&lie, Timestamp(21)), Err(Error::Refused(Refusal::Exists(_)))), "the same, and not");
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    assert_eq!(names(&store, "peer/share").len(), 5);
}
