//! A dataset that can't be brought back when the store is opened is set aside: all others are served, and nothing of it is
//! lost that is not damaged.

mod common;

use common::*;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::Credentials;
use narrowboat_storage::error::Damage;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store};

const ROOT: Inode = Inode::ROOT;

/// Two shares with files in their roots, and files that only the journal has.
fn two_shares() -> SimDisk {
    let (disk, store, tree) = with_share(1);
    let other = store.create_share("other", Policy::Inline, Timestamp(2)).expect("room");
    let other = store.tree(other.row.id).expect("open");
    for nth in 0..40 {
        create(&*tree, ROOT, &format!("file-{nth}"), 3);
    }
    store.drain_all(Timestamp(4)).expect("room");
    // In a container of its own.
    store.close(Timestamp(5)).expect("room");
    for nth in 0..40 {
        create(&*other, ROOT, &format!("file-{nth}"), 6);
    }
    store.close(Timestamp(7)).expect("room");
    for tree in [&tree, &other] {
        let late = create(&**tree, ROOT, "late", 8);
        write(&**tree, late, 0, b"only in the journal", 8);
        commit(&**tree, late).expect("room");
    }
    store.create_snapshot("share", "late", Timestamp(9)).expect("room");
    disk
}

fn read_late(store: &Store, share: &str) -> narrowboat_storage::Result<Vec<u8>> {
    let tree = store.tree(store.dataset_named(share).expect("listed").row.id).expect("open");
    let late = tree.lookup(&Credentials::ROOT, ROOT, b"late")?.inode;
    Ok(read(&*tree, late))
}

/// The damage that a refused call names.
fn damage_of<T: std::fmt::Debug>(outcome: narrowboat_storage::Result<T>) -> Damage {
    match outcome {
        Err(Error::Damage(damage)) => damage,
        other => panic!("not named as damage: {other:?}"),
    }
}

/// Damages the container that alone the share's root lies in, and returns its path and what it held.
fn damage_share(disk: &SimDisk) -> (String, Vec<u8>) {
    for path in disk.paths().into_iter().filter(|path| path.ends_with(".node")) {
        let sound = disk.contents(&path).expect("a file");
        let trial = disk.fork(2);
        trial.overwrite(&path, 4096.min(sound.len() as u64 / 8), &vec![0xA5; sound.len() / 2]).expect("a file");
        let (store, _) = open(&trial).expect("a damaged tree node does not keep a store from being opened");
        let damaged = |share| store.dataset_named(share).expect("listed").damage.is_some();
        if damaged("share") && !damaged("other") {
            disk.overwrite(&path, 4096.min(sound.len() as u64 / 8), &vec![0xA5; sound.len() / 2]).expect("a file");
            return (path, sound);
        }
    }
    panic!("no container has nodes of the share alone");
}

/// A sector says the same as damage: it did not let the whole store be opened.
#[test]
fn sectors_of_one_dataset_that_can_not_be_read_keep_no_other_from_being_served() {
    let disk = two_shares();
    let (path, sound) = damage_share(&disk);
    disk.overwrite(&path, 0, &sound).expect("a file");
    let (at, len) = (4096.min(sound.len() as u64 / 8), sound.len() as u64 / 2);
    disk.fail_reads(&path, at..at + len).expect("a file");
    let (store, report) = open(&disk).expect("the other one is sound");
    let [(name, damage)] = &report.set_aside[..] else { panic!("{:?}", report.set_aside) };
    assert_eq!((name.as_str(), &damage.file), ("share", &path));
    assert_eq!(read_late(&store, "other").expect("sound"), b"only in the journal");
    drop(store);
    disk.mend_reads();
    let (store, _) = open(&disk).expect("sound");
    assert_eq!(read_late(&store, "share").expect("nothing of it is lost"), b"only in the journal");
}

/// Index and catalogue are built again where they can't be read, as where they are damaged.
#[test]
fn an_index_or_a_catalogue_that_can_not_be_read_is_built_again() {
    for file in ["index.redb", "catalogue.redb"] {
        let disk = two_shares();
        let len = disk.contents(file).expect("a file").len() as u64;
        disk.fail_reads(file, 0..len).expect("a file");
        let (store, report) = open(&disk).unwrap_or_else(|error| panic!("{file}: {error}"));
        let rebuilt = (report.pool.index_rebuilt.is_some(), report.catalogue.rebuilt.is_some());
        assert_eq!(rebuilt, (file == "index.redb", file == "catalogue.redb"), "{report:?}");
        for share in ["share", "other"] {
            assert_eq!(read_late(&store, share).expect("sound"), b"only in the journal", "{file}: {share}");
        }
    }
}

#[test]
fn a_dataset_that_cannot_be_brought_back_is_set_aside_and_others_are_served() {
    let disk = two_shares();
    let (path, sound) = damage_share(&disk);
    let (store, report) = open(&disk).expect("the other one is sound");
    let [(name, damage)] = &report.set_aside[..] else { panic!("{:?}", report.set_aside) };
    assert_eq!((name.as_str(), &damage.file), ("share", &path));
    // The other one is served, with what only the journal had.
    assert_eq!(read_late(&store, "other").expect("sound"), b"only in the journal");
    let other = store.tree(store.dataset_named("other").expect("there").row.id).expect("open");
    create(&*other, ROOT, "new", 10);
    // The damaged one is listed and answers with its damage, whatever is asked.
    let listed = store.datasets().expect("sound enough");
    let [_, share] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!(share.damage.as_ref(), Some(damage));
    let tree = store.tree(share.row.id).expect("open");
    assert_eq!(damage_of(tree.attributes(ROOT)), *damage);
    assert_eq!(damage_of(tree.read_dir(&Credentials::ROOT, ROOT, 0, 10)), *damage);
    assert_eq!(damage_of(tree.write(&at(11), Inode(2), 0, b"new".as_slice().into())), *damage);
    assert_eq!(damage_of(tree.remove(&at(11), ROOT, b"file-1")), *damage);
    assert_eq!(damage_of(store.create_snapshot("share", "new", Timestamp(11))), *damage);
    assert_eq!(damage_of(store.seal(store.snapshot_named("share", "late").expect("there").id)), *damage);
    let check = store.check(false, &mut |_| true).expect("a sound machine");
    assert!(check.problems.iter().any(|problem| problem.contains("share") && problem.contains(&path)), "{check:?}");
    // Nothing that is sound is lost: the journal is kept, however much others write and are trimmed.
    for round in 0..6 {
        let file = create(&*other, ROOT, &format!("bulk-{round}"), 12);
        (0..90).for_each(|part| write(&*other, file, part << 16, &noise(round * 90 + part, 40_000), 12));
        commit(&*other, file).expect("room");
        store.close(Timestamp(13)).expect("room");
    }
    drop((store, tree, other));
    disk.truncate(&path, 0).and_then(|()| disk.overwrite(&path, 0, &sound)).expect("a file");
    let (store, report) = open(&disk).expect("sound");
    assert_eq!(report.set_aside, []);
    assert_eq!(read_late(&store, "share").expect("sound"), b"only in the journal");
    store.seal(store.snapshot_named("share", "late").expect("there").id).expect("sound");
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

#[test]
fn a_dataset_that_was_set_aside_can_be_deleted_and_owes_nothing_then() {
    let disk = two_shares();
    damage_share(&disk);
    let (store, report) = open(&disk).expect("the other one is sound");
    assert_eq!(report.set_aside.len(), 1);
    store.delete_dataset("share", Timestamp(10)).expect("nobody needs it");
    assert_eq!(store.datasets().expect("sound").len(), 1);
    store.close(Timestamp(11)).expect("room");
    drop(store);
    let (store, report) = open(&disk).expect("sound");
    assert_eq!((report.set_aside.len(), report.replayed), (0, 0));
    assert_eq!(read_late(&store, "other").expect("sound"), b"only in the journal");
}
