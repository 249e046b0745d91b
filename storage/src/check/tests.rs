use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::catalogue::{DatasetKind, Policy, Sealed};
use crate::chunk::ChunkSizes;
use crate::container::CONTAINERS_DIR;
use crate::dataset::namespace::Record;
use crate::dataset::{Call, Create, Credentials, SetAttributes};
use crate::id::{DatasetId, SnapshotId, StoreId};
use crate::media::SimDisk;
use crate::pool::StreamId;
use crate::store::{ReplicaSnapshot, StoreOptions};
use crate::tree::sequence::Content;
use crate::tree::{map, wrong};
use crate::units::{Inode, Timestamp};

/// A store with a share of a file whose content is a tree of several nodes; and the snapshot of it.
fn store() -> (Store, Sealed) {
    store_on(&SimDisk::new(1), ChunkSizes::TINY)
}

fn open(disk: &SimDisk, chunk_sizes: ChunkSizes) -> Store {
    let options = StoreOptions { reserve_bytes: 1 << 20, chunk_sizes, ..StoreOptions::default() };
    Store::open(Arc::new(disk.clone()), options).unwrap().0
}

fn store_on(disk: &SimDisk, chunk_sizes: ChunkSizes) -> (Store, Sealed) {
    let store = open(disk, chunk_sizes);
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).unwrap();
    let tree = store.tree(share.row.id).unwrap();
    let call = Call { caller: &Credentials::ROOT, now: Timestamp(2), tag: None };
    let how = Create::Guarded(SetAttributes { mode: Some(0o644), ..SetAttributes::default() });
    let file = tree.create(&call, Inode::ROOT, b"file", &how).unwrap().file.inode;
    let mut noise = vec![0; 8 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    for (nth, piece) in noise.chunks(1 << 20).enumerate() {
        tree.write(&call, file, (nth as u64) << 20, Bytes::copy_from_slice(piece)).unwrap();
    }
    let snapshot = store.create_snapshot("share", "s", Timestamp(3)).unwrap();
    let sealed = store.seal(snapshot.id).unwrap();
    (store, sealed)
}

/// Publishes a root as a peer's that holds what `sealed` holds, and returns what a check says of all that it was given.
fn problems_with(store: &Store, sealed: Sealed, root: Name, deep: bool) -> Vec<String> {
    let replica = ReplicaSnapshot {
        dataset: DatasetId([1; 16]),
        dataset_name: "peer/share".into(),
        kind: DatasetKind::Share,
        size: 0,
        origin: StoreId([2; 16]),
        snapshot: SnapshotId(root.0[..16].try_into().unwrap()),
        name: format!("{root}"),
        time: Timestamp(3),
        sealed: Sealed { root: Some(root), ..sealed },
    };
    store.publish(&replica, Timestamp(4)).unwrap();
    store.check(deep, &mut |_| true).unwrap().problems
}

#[test]
fn a_deep_check_tells_a_map_that_is_not_the_tree_of_its_entries() {
    let (store, sealed) = store();
    let objects = store.pool().on(StreamId::MISC);
    let root = wrong::two_leaves(&objects, store.realm(), &sealed.root.unwrap());
    assert!(store.check(true, &mut |_| true).unwrap().is_sound());
    // Every node is as it should be, and so is the namespace.
    assert_eq!(problems_with(&store, sealed, root, false), [""; 0]);
    let problems = problems_with(&store, sealed, root, true);
    assert!(problems.len() == 1 && problems[0].contains(&format!("{root}")), "{problems:?}");
}

#[test]
fn a_deep_check_tells_a_content_that_is_not_the_tree_of_its_entries() {
    let (store, sealed) = store();
    let objects = store.pool().on(StreamId::MISC);
    let key = Key::Content(Inode(2)).encode();
    let value = map::get(&objects, sealed.root.as_ref(), &key).unwrap().unwrap();
    let content = wrong::too_high(&objects, &Content::decode(&value).unwrap());
    let edits = [(key, Some(content.encode()))];
    let root = map::merge(&objects, store.realm(), sealed.root.as_ref(), edits).unwrap().unwrap();
    assert_eq!(problems_with(&store, sealed, root, false), [""; 0]);
    let problems = problems_with(&store, sealed, root, true);
    assert!(problems.len() == 1 && problems[0].contains(&format!("{}", content.root().unwrap())), "{problems:?}");
}

#[test]
fn harm_in_what_a_snapshot_differs_in_from_the_one_before_is_told() {
    let (store, sealed) = store();
    let objects = store.pool().on(StreamId::MISC);
    let root = sealed.root.unwrap();
    let with = |root: &Name, key: Key, value: Vec<u8>| {
        map::merge(&objects, store.realm(), Some(root), [(key.encode(), Some(value))]).unwrap().unwrap()
    };
    let value = map::get(&objects, Some(&root), &Key::Record(Inode(2)).encode()).unwrap().unwrap();
    let record = Record::decode(Inode(2), &value).unwrap();
    let touched = with(&root, Key::Record(Inode(2)), Record { modified: Timestamp(77), ..record.clone() }.encode());
    let linked = with(&root, Key::Record(Inode(2)), Record { links: 2, ..record.clone() }.encode());
    let longer = with(&root, Key::Content(Inode(2)), Content::empty().encode());
    let stray = with(&root, Key::Content(Inode::ROOT), Content::empty().encode());
    // One after the other in one dataset, so each is looked at by what it differs in from a sound one.
    assert_eq!(problems_with(&store, sealed, root, false), [""; 0]);
    assert_eq!(problems_with(&store, sealed, touched, true), [""; 0]);
    for (wrong, says) in [(linked, "2 names"), (longer, "a content"), (stray, "a key")] {
        let problems = problems_with(&store, sealed, wrong, true);
        let told = |of: Name| problems.iter().find(|problem| problem.starts_with(&format!("peer/share@{of}: ")));
        assert!(told(wrong).is_some_and(|problem| problem.contains(says)), "{problems:?}");
        assert_eq!((told(root), told(touched)), (None, None));
    }
}

#[test]
fn harm_in_the_layers_over_a_sound_root_is_told() {
    let (store, _) = store();
    let tree = store.tree(store.dataset_rows()[0].id).unwrap();
    let call = Call { caller: &Credentials::ROOT, now: Timestamp(5), tag: None };
    let how = Create::Guarded(SetAttributes { mode: Some(0o644), ..SetAttributes::default() });
    let file = tree.create(&call, Inode::ROOT, b"another", &how).unwrap().file.inode;
    tree.write(&call, file, 0, Bytes::from_static(b"something")).unwrap();
    assert!(store.check(true, &mut |_| true).unwrap().is_sound());
    let dataset = &store.open_datasets()[0];
    let lost = Key::Listed(Inode::ROOT, 4).encode().into();
    dataset.write_state().active.apply(lost, None);
    let problems = store.check(true, &mut |_| true).unwrap().problems;
    assert!(problems.len() == 1 && problems[0].starts_with("dataset share: "), "{problems:?}");
}

#[test]
fn several_threads_find_what_one_finds() {
    let (disk, sizes) = (SimDisk::new(1), ChunkSizes::around(4096).unwrap());
    let (store, sealed) = store_on(&disk, sizes);
    let objects = store.pool().on(StreamId::MISC);
    let root = sealed.root.unwrap();
    let with = |key: Key, value: Vec<u8>| {
        map::merge(&objects, store.realm(), Some(&root), [(key.encode(), Some(value))]).unwrap().unwrap()
    };
    let value = map::get(&objects, Some(&root), &Key::Record(Inode(2)).encode()).unwrap().unwrap();
    let record = Record::decode(Inode(2), &value).unwrap();
    let many = (2..60).map(|links| with(Key::Record(Inode(2)), Record { links, ..record.clone() }.encode()));
    let two_leaves = wrong::two_leaves(&objects, store.realm(), &root);
    let roots: Vec<Name> = many.chain([two_leaves]).collect();
    roots.iter().for_each(|root| drop(problems_with(&store, sealed, *root, false)));
    drop(objects);
    drop(store);
    // What some chunks were, and some nodes.
    let class = |file: &str, end: &str| file.starts_with(CONTAINERS_DIR) && file.ends_with(end);
    for end in [".data", ".node"] {
        let file = disk.paths().into_iter().find(|file| class(file, end)).unwrap();
        let len = disk.contents(&file).unwrap().len() as u64;
        disk.rot(&file, len / 2, 1).unwrap();
    }
    let found = |threads: usize| {
        let store = open(&disk, sizes);
        let check = store.begin_check(true).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| while check.step().unwrap() {});
            }
        });
        let mut found = check.end(&mut |_| true).unwrap();
        found.problems.sort();
        found
    };
    let alone = found(1);
    assert!(alone.problems.len() > roots.len() && alone.progress.roots == alone.progress.roots_total, "{alone:?}");
    for _ in 0..5 {
        assert_eq!(found(4), alone);
    }
    // Nobody but the end takes a step.
    assert_eq!(found(0).progress.roots, alone.progress.roots);
}
