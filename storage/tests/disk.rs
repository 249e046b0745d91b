//! What the store says that it holds is what lies in its folder, part by part and to within a hundredth.

mod common;
#[path = "common/garbage.rs"]
mod garbage;

use common::*;
use garbage::reclaim;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::DiskParts;
use narrowboat_storage::units::{Inode, Timestamp};

fn bytes(disk: &SimDisk, of: impl Fn(&str) -> bool) -> u64 {
    let paths = disk.paths().into_iter().filter(|path| of(path));
    paths.map(|path| disk.contents(&path).expect("a file").len() as u64).sum()
}

/// Every part is as large as its files, to within a hundredth of all.
fn expect_agreement(disk: &SimDisk, store: &Store) -> DiskParts {
    let parts = store.stats().expect("readable").parts;
    let all = bytes(disk, |_| true);
    let near = |what: &str, said: u64, is: u64| {
        assert!(said.abs_diff(is) * 100 <= all, "{what}: {said} said, {is} on the disk, of {all}: {parts:?}");
    };
    near("all", parts.total_bytes(), all);
    let is_aside = |path: &str| path.ends_with(".aside");
    let containers = bytes(disk, |path| path.starts_with("containers/") && !is_aside(path));
    near("containers", parts.objects_bytes + parts.directories_bytes, containers);
    near("set aside", parts.aside_bytes, bytes(disk, is_aside));
    near("index", parts.index_bytes, bytes(disk, |path| path.starts_with("index")));
    near("catalogue", parts.catalogue_bytes, bytes(disk, |path| path.starts_with("catalogue")));
    near("journal", parts.journal_bytes, bytes(disk, |path| path.starts_with("journal/")));
    near("history", parts.history_bytes, bytes(disk, |path| path.starts_with("history/")));
    parts
}

#[test]
fn what_is_said_of_the_disk_is_what_is_there() {
    let (disk, store, tree) = with_share(3);
    let window = Window { nanoseconds: 1 << 60, bytes: u64::MAX };
    store.set_window("share", Some(window), Timestamp(2)).expect("room");
    expect_agreement(&disk, &store);
    for nth in 0..12 {
        let file = create(&*tree, Inode::ROOT, &format!("f{nth}"), 3);
        write(&*tree, file, 0, &noise(nth, 1_500_000), 3);
        commit(&*tree, file).expect("room");
    }
    // Thousands of small ones, which have the most beside their bytes.
    let small = create(&*tree, Inode::ROOT, "small", 4);
    for nth in 0..500 {
        write(&*tree, small, nth * 8192, &noise(1000 + nth, 100), 4);
    }
    commit(&*tree, small).expect("room");
    expect_agreement(&disk, &store);
    store.create_share("other", Policy::Inline, Timestamp(5)).expect("room");
    store.close(Timestamp(6)).expect("room");
    let full = expect_agreement(&disk, &store);
    assert!(full.objects_bytes > 17 << 20 && full.directories_bytes > 0 && full.journal_bytes > 0, "{full:?}");

    // What goes is counted as gone, and what is opened again as it was.
    for nth in 0..8 {
        tree.remove(&at(7), Inode::ROOT, format!("f{nth}").as_bytes()).expect("there");
    }
    store.set_window("share", None, Timestamp(8)).expect("room");
    let filler = create(&*tree, Inode::ROOT, "filler", 9);
    write(&*tree, filler, 0, &vec![1; 8 << 20], 9);
    commit(&*tree, filler).expect("room");
    store.close(Timestamp(10)).expect("room");
    reclaim(&store);
    let thin = expect_agreement(&disk, &store);
    assert!(thin.objects_bytes + (10 << 20) < full.objects_bytes, "{thin:?}");
    drop((store, tree));
    let (store, _) = open(&disk).expect("opens");
    assert_eq!(expect_agreement(&disk, &store).objects_bytes, thin.objects_bytes);
}

/// A container without anything that can be read is set aside when the index is built again: it takes room, and that is said.
#[test]
fn what_was_set_aside_is_counted() {
    let (disk, store, _) = filled();
    drop(store);
    let file = disk.paths().into_iter().find(|path| path.ends_with(".data")).expect("a container");
    let len = disk.contents(&file).expect("there").len() as u64;
    for at in (0..len).step_by(16) {
        disk.rot(&file, at, 0xA5).expect("there");
    }
    disk.lose("index.redb").expect("there");
    for _ in 0..2 {
        let (store, _) = open(&disk).expect("opens");
        assert_eq!(expect_agreement(&disk, &store).aside_bytes, len);
    }
}
