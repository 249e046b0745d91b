//! A tree node that nobody can bring back: reclaim lets nothing go that could hang below it, names whose it is, and goes on once that is gone.

mod common;
#[path = "common/garbage.rs"]
mod garbage;

use std::time::Duration;

use common::*;
use garbage::*;
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::in_the_way::InTheWay;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::{StreamId, Wound};
use narrowboat_storage::reclaim::{Phase, Reclaimed, Stepped};
use narrowboat_storage::store::RootOf;
use narrowboat_storage::tree::references;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Result, Store};

/// Harms an object, wherever its copies lie.
fn rot(disk: &SimDisk, store: &Store, kind: Kind, name: Name) {
    store.pool().for_each_slot(|id, slot| {
        if (slot.kind, slot.name) == (kind, name) {
            disk.rot(&path(id, Class::of(kind)), u64::from(slot.offset) + 90, 1).expect("there");
        }
    });
}

fn snapshot_root(store: &Store, name: &str) -> Name {
    store.snapshot_named("share", name).expect("there").sealed.and_then(|sealed| sealed.root).expect("sealed")
}

/// The tops of large files below a root.
fn files(store: &Store, root: Name) -> Vec<Name> {
    let bytes = store.pool().read(Kind::MapNode, &root).expect("sound");
    let below = references(Kind::MapNode, &bytes).expect("a node");
    let mut tops = Vec::new();
    for (kind, name) in below {
        match kind {
            Kind::MapNode => tops.extend(files(store, name)),
            Kind::SequenceNode => tops.push(name),
            Kind::Chunk => {}
        }
    }
    tops
}

/// A store with a file that the snapshot `monday` alone has, a node of which is damaged, and with garbage. The damage is on the disk
/// alone: nobody has it in memory.
fn damaged(quarantine: Duration) -> (SimDisk, Store, Name) {
    let (disk, store, tree) = filled();
    let dir =
        tree.lookup(&narrowboat_storage::dataset::Credentials::ROOT, Inode::ROOT, b"folder").expect("there").inode;
    tree.remove(&at(7), dir, b"big").expect("there");
    let garbage = create(&*tree, Inode::ROOT, "garbage", 8);
    write(&*tree, garbage, 0, &noise(99, 2 << 20), 8);
    commit(&*tree, garbage).expect("room");
    let row = store.create_snapshot("share", "tuesday", Timestamp(9)).expect("room");
    store.seal(row.id).expect("room");
    tree.remove(&at(10), Inode::ROOT, b"garbage").expect("there");
    let lost: Vec<Name> = {
        let then = files(&store, snapshot_root(&store, "monday"));
        let later = files(&store, snapshot_root(&store, "tuesday"));
        then.into_iter().filter(|name| !later.contains(name)).collect()
    };
    assert_eq!(lost.len(), 1, "one large file went");
    // The journal names what it has until it is trimmed.
    let filler = create(&*tree, Inode::ROOT, "filler", 11);
    write(&*tree, filler, 0, &vec![1; 4 << 20], 11);
    commit(&*tree, filler).expect("room");
    store.close(Timestamp(12)).expect("room");
    rot(&disk, &store, Kind::SequenceNode, lost[0]);
    drop((store, tree));
    let (store, _) = open_keeping(&disk, quarantine).expect("sound");
    store.discard("tuesday");
    (disk, store, lost[0])
}

trait Discard {
    fn discard(&self, snapshot: &str);
}

impl Discard for Store {
    /// Deletes a snapshot for good.
    fn discard(&self, snapshot: &str) {
        self.delete_snapshot("share", snapshot, Timestamp(13)).expect("not held");
        let of = |one: &narrowboat_storage::store::Quarantined| one.label() == format!("share@{snapshot}");
        self.empty_quarantine(&of, Timestamp(13)).expect("room");
    }
}

fn in_the_way(store: &Store, report: &Reclaimed) -> Result<Vec<InTheWay>> {
    store.in_the_way(&report.obstacles, &|| false)
}

fn bytes(disk: &SimDisk) -> u64 {
    let containers = disk.paths().into_iter().filter(|path| path.starts_with("containers/"));
    containers.map(|path| disk.contents(&path).expect("a file").len() as u64).sum()
}

/// Nothing goes, the snapshot is named with the file that is hit, and when it is gone for good the rest goes.
#[test]
fn what_stands_in_the_way_is_named_and_gone_reclaim_goes_on() {
    let (disk, store, lost) = damaged(Duration::from_secs(86_400));
    let before = bytes(&disk);
    let report = reclaim(&store);
    assert!(report.stopped.as_ref().is_some_and(|why| why.contains("containers/")), "{report:?}");
    assert_eq!((report.nodes_freed, report.chunks_freed, report.containers_removed), (0, 0, 0), "{report:?}");
    assert_eq!(report.obstacles.iter().map(|wound| wound.name).collect::<Vec<_>>(), [lost]);
    let told = in_the_way(&store, &report).expect("a disk");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].of.of, RootOf::Snapshot { name: "monday".into(), deleted: false });
    assert_eq!((&told[0].paths, told[0].torn), (&vec![b"folder/big".to_vec()], false), "{told:?}");

    // What was deleted and can be had back is kept, too.
    store.delete_snapshot("share", "monday", Timestamp(20)).expect("not held");
    let report = reclaim(&store);
    let told = in_the_way(&store, &report).expect("a disk");
    let of: Vec<_> = told.iter().map(|one| &one.of.of).collect();
    assert_eq!(of, [&RootOf::Snapshot { name: "monday".into(), deleted: true }], "{report:?}");
    assert!(bytes(&disk) >= before);

    store.empty_quarantine(&|_| true, Timestamp(21)).expect("room");
    let report = reclaim(&store);
    assert_eq!((&report.stopped, &report.obstacles[..]), (&None, &[][..]), "{report:?}");
    assert!(before - bytes(&disk) > 2 << 20, "{before} - {}: {report:?}", bytes(&disk));
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

/// Several nodes of several snapshots are found in one run, a root and a node that is not there at all among them.
#[test]
fn all_that_stands_in_the_way_is_told_at_once() {
    let (disk, store, lost) = damaged(Duration::ZERO);
    let (_, tree) = (&disk, store.tree(store.dataset_named("share").expect("there").row.id).expect("there"));
    create(&*tree, Inode::ROOT, "new", 30);
    let row = store.create_snapshot("share", "wednesday", Timestamp(31)).expect("room");
    store.seal(row.id).expect("room");
    create(&*tree, Inode::ROOT, "newer", 32);
    store.close(Timestamp(33)).expect("room");
    let root = snapshot_root(&store, "wednesday");
    rot(&disk, &store, Kind::MapNode, root);
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    let report = reclaim(&store);
    let mut names: Vec<Name> = report.obstacles.iter().map(|wound| wound.name).collect();
    names.sort_unstable();
    let mut expected = vec![lost, root];
    expected.sort_unstable();
    assert_eq!(names, expected, "{report:?}");
    let told = in_the_way(&store, &report).expect("a disk");
    let of: Vec<_> = told.iter().map(|one| (&one.of.of, one.torn)).collect();
    let named = |name: &str| RootOf::Snapshot { name: name.into(), deleted: false };
    assert_eq!(of, [(&named("monday"), false), (&named("wednesday"), true)]);
    ["monday", "wednesday"].iter().for_each(|name| store.discard(name));
    assert_eq!(reclaim(&store).stopped, None);
}

/// Brought back while a run is under way, a node is in nobody's way.
#[test]
fn what_is_healed_meanwhile_does_not_end_a_run() {
    let (disk, store, lost) = damaged(Duration::ZERO);
    let sound = disk.fork(1);
    let healthy = |name: Name| {
        let (store, _) = open(&sound).expect("sound");
        rot(&sound, &store, Kind::SequenceNode, name);
        store.pool().read_stored(Kind::SequenceNode, &name).expect("mended")
    };
    let stored = healthy(lost);
    let mut run = store.reclaim().expect("no other run");
    let mut healed = false;
    loop {
        let stepped = run.step(&store, Timestamp(30)).expect("a disk");
        if run.phase() == Phase::Walk && store.pool().is_wounded(Kind::SequenceNode, &lost) {
            store.pool().put_stored(StreamId(5), Kind::SequenceNode, &lost, &stored).expect("room");
            healed = true;
        }
        if stepped == Stepped::Done {
            break;
        }
    }
    assert!(healed && run.report().stopped.is_none() && run.report().nodes_freed > 0, "{:?}", run.report());
    drop(run);
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

/// A node that nobody needed, and that is asked for when all else was walked, is walked then: where it is damaged nothing goes.
#[test]
fn what_is_asked_for_at_last_and_is_damaged_stops_a_run() {
    let (disk, store, tree) = filled();
    let root = snapshot_root(&store, "monday");
    tree.remove(&at(20), Inode::ROOT, b"later").expect("there");
    store.delete_snapshot("share", "monday", Timestamp(21)).expect("there");
    store.close(Timestamp(22)).expect("room");
    rot(&disk, &store, Kind::MapNode, root);
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    let before = bytes(&disk);
    let mut run = store.reclaim().expect("no other run");
    while run.phase() != Phase::Condemn {
        assert_ne!(run.step(&store, Timestamp(30)).expect("a disk"), Stepped::Done, "{:?}", run.report());
    }
    assert!(store.pool().contains(Kind::MapNode, &root).expect("a disk"), "nobody read it yet");
    while run.step(&store, Timestamp(30)).expect("a disk") != Stepped::Done {}
    let report = run.report().clone();
    assert!(report.stopped.is_some() && report.nodes_freed == 0 && bytes(&disk) >= before, "{report:?}");
    let names: Vec<Wound> = report.obstacles.clone();
    assert_eq!(names.iter().map(|wound| wound.name).collect::<Vec<_>>(), [root]);
    assert_eq!(in_the_way(&store, &report).expect("a disk"), [], "no snapshot and no dataset has it");
}
