//! What changed between two snapshots, told in paths: everything that did, and nothing else.

mod common;

use std::sync::Arc;

use common::*;
use narrowboat_storage::Store;
use narrowboat_storage::compare::{PathChange, What};
use narrowboat_storage::dataset::{FileTree, SetAttributes, SetTime};
use narrowboat_storage::units::{Inode, Timestamp};

const ROOT: Inode = Inode::ROOT;

/// Paths, and what happened to them.
type Told = Vec<(String, What)>;

/// Two snapshots around a change, compared in both directions.
fn around(before: impl FnOnce(&dyn FileTree), change: impl FnOnce(&dyn FileTree)) -> (Told, Told) {
    let (_disk, store, tree): (_, Store, Arc<dyn FileTree>) = with_share(1);
    before(&*tree);
    let old = store.create_snapshot("share", "old", Timestamp(100)).expect("room").id;
    change(&*tree);
    let new = store.create_snapshot("share", "new", Timestamp(200)).expect("room").id;
    let told = |changes: Vec<PathChange>| {
        let pair = |change: PathChange| (String::from_utf8(change.path).expect("UTF-8"), change.what);
        changes.into_iter().map(pair).collect()
    };
    assert_eq!(store.compare(new, new).expect("sound"), []);
    (told(store.compare(old, new).expect("sound")), told(store.compare(new, old).expect("sound")))
}

fn dir(tree: &dyn FileTree, above: Inode, name: &str) -> Inode {
    tree.make_dir(&at(2), above, name.as_bytes(), &SetAttributes::default()).expect("made").file.inode
}

fn find(tree: &dyn FileTree, above: Inode, name: &str) -> Inode {
    tree.lookup(at(1).caller, above, name.as_bytes()).expect("there").inode
}

fn is(path: &str, what: What) -> (String, What) {
    (path.to_owned(), what)
}

#[test]
fn new_and_gone_files_are_told_with_their_folders() {
    let (there, back) = around(
        |tree| {
            create(tree, ROOT, "kept", 1);
        },
        |tree| {
            let deep = dir(tree, dir(tree, ROOT, "a"), "b");
            write(tree, create(tree, deep, "file", 3), 0, &noise(1, 50_000), 3);
        },
    );
    assert_eq!(there, [is("a", What::Added), is("a/b", What::Added), is("a/b/file", What::Added)]);
    assert_eq!(back, [is("a", What::Removed), is("a/b", What::Removed), is("a/b/file", What::Removed)]);
}

#[test]
fn changed_bytes_are_counted() {
    let (there, back) = around(
        |tree| write(tree, create(tree, ROOT, "file", 1), 0, &noise(1, 1 << 20), 1),
        |tree| write(tree, find(tree, ROOT, "file"), 500_000, b"otherwise", 150),
    );
    assert_eq!(there, back);
    let [(path, What::Content { bytes })] = &there[..] else { panic!("{there:?}") };
    assert_eq!(path, "file");
    assert!((9..=128 << 10).contains(bytes), "{bytes} bytes: the chunks around nine");
}

#[test]
fn a_renamed_folder_is_one_change_however_much_is_in_it() {
    let (there, back) = around(
        |tree| {
            let folder = dir(tree, ROOT, "folder");
            for number in 0..50 {
                create(tree, folder, &format!("file{number}"), 3);
            }
            dir(tree, ROOT, "elsewhere");
        },
        |tree| {
            let elsewhere = find(tree, ROOT, "elsewhere");
            tree.rename(&at(150), (ROOT, b"folder"), (elsewhere, b"moved")).expect("moved");
        },
    );
    assert_eq!(there, [is("elsewhere/moved", What::Renamed { was: b"folder".to_vec() })]);
    assert_eq!(back, [is("folder", What::Renamed { was: b"elsewhere/moved".to_vec() })]);
}

#[test]
fn a_file_that_got_one_more_name_may_have_changed_too() {
    let (there, back) = around(
        |tree| {
            write(tree, create(tree, ROOT, "linked", 1), 0, b"before", 1);
            create(tree, ROOT, "only linked", 1);
        },
        |tree| {
            let file = find(tree, ROOT, "linked");
            write(tree, file, 0, b"after!", 150);
            tree.link(&at(150), file, ROOT, b"too").expect("linked");
            tree.link(&at(150), find(tree, ROOT, "only linked"), ROOT, b"zoo").expect("linked");
        },
    );
    let content = |list: &[(String, What)]| list.iter().any(|(_, what)| matches!(what, What::Content { .. }));
    assert!(content(&there) && content(&back), "the new bytes are told beside the new name: {there:?}, {back:?}");
    assert_eq!(there.len(), 3, "and a link count is no change of its own: {there:?}");
    assert!(there.contains(&is("too", What::Added)) && there.contains(&is("zoo", What::Added)), "{there:?}");
    assert!(back.contains(&is("too", What::Removed)) && back.contains(&is("zoo", What::Removed)), "{back:?}");
}

#[test]
fn attributes_alone_are_told_as_such() {
    let (there, _) = around(
        |tree| {
            for name in ["mode", "time", "read"] {
                create(tree, ROOT, name, 1);
            }
        },
        |tree| {
            let set = |name, set| {
                tree.set_attributes(&at(150), find(tree, ROOT, name), &set, None).expect("set");
            };
            set("mode", SetAttributes { mode: Some(0o600), ..Default::default() });
            set("time", SetAttributes { modified: Some(SetTime::To(Timestamp(7))), ..Default::default() });
            set("read", SetAttributes { accessed: Some(SetTime::To(Timestamp(8))), ..Default::default() });
        },
    );
    assert_eq!(there, [is("mode", What::Attributes), is("time", What::Attributes)]);
}

#[test]
fn another_file_under_the_same_name_is_another_file() {
    let (there, _) = around(
        |tree| write(tree, create(tree, ROOT, "name", 1), 0, b"one", 1),
        |tree| {
            tree.remove(&at(150), ROOT, b"name").expect("removed");
            write(tree, create(tree, ROOT, "name", 151), 0, b"two", 151);
        },
    );
    assert_eq!(there, [is("name", What::Added), is("name", What::Removed)]);
}
