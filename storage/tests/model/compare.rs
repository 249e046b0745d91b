//! A served tree against the model: every entry, attribute and byte.

use std::collections::{BTreeMap, BTreeSet};

use narrowboat_storage::dataset::{Attributes, Credentials, FileTree, FileType};
use narrowboat_storage::units::{Inode, Timestamp};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::tree::{Body, Content, Tree};

const ROOT: &Credentials = &Credentials::ROOT;
/// Files up to this length are compared whole, longer ones (sparse ones) around what was written.
const WHOLE_BYTES_MAX: u64 = 16 << 20;

/// Walks a whole tree and compares every entry, attribute and byte.
pub fn compare_tree(tree: &dyn FileTree, model: &Tree, rng: &mut StdRng, place: &str) {
    let mut seen = BTreeSet::new();
    let mut open = vec![1];
    while let Some(dir) = open.pop() {
        let mut found = BTreeMap::new();
        let mut cookie = 2;
        loop {
            let listing = tree.read_dir(ROOT, Inode(dir), cookie, rng.random_range(1..40)).expect("readable");
            for entry in listing.entries {
                cookie = entry.cookie;
                compare_attributes(&entry.attributes, model, place);
                found.insert(entry.name.to_vec(), entry.attributes.inode.0);
            }
            if listing.end {
                break;
            }
        }
        assert_eq!(&found, model.entries(dir), "{place}: entries of {dir}");
        compare_attributes(&tree.attributes(Inode(dir)).expect("there"), model, place);
        for inode in found.into_values().filter(|inode| seen.insert(*inode)) {
            match &model.files[&inode].body {
                Body::Dir(_) => open.push(inode),
                Body::Symlink(target) => assert_eq!(tree.read_link(ROOT, Inode(inode)).expect("a symlink"), target),
                Body::Regular(content) => compare_content(tree, inode, content, rng, place),
            }
        }
    }
    assert_eq!(seen.len() + 1, model.files.len(), "{place}: files");
}

fn compare_attributes(found: &Attributes, model: &Tree, place: &str) {
    let file = &model.files[&found.inode.0];
    let (kind, size) = match &file.body {
        Body::Regular(content) => (FileType::Regular, content.size),
        Body::Dir(entries) => (FileType::Directory, entries.len() as u64),
        Body::Symlink(target) => (FileType::Symlink, target.len() as u64),
    };
    let expected = (kind, size, file.links, Timestamp(file.modified), Timestamp(file.changed));
    let found_all = (found.file_type, found.size, found.links, found.modified, found.changed);
    assert_eq!(found_all, expected, "{place}: attributes of {}", found.inode);
    let least = if let Body::Regular(content) = &file.body { content.bytes_not_zero() } else { 0 };
    assert!((least..=found.size).contains(&found.used), "{place}: used of {}: {} < {least}", found.inode, found.used);
}

pub fn compare_content(tree: &dyn FileTree, inode: u64, content: &Content, rng: &mut StdRng, place: &str) {
    compare_holes(tree, inode, content, rng, place);
    if content.size <= WHOLE_BYTES_MAX {
        return compare_range(tree, inode, content, (0, content.size + 10), rng, place);
    }
    let written = content.written();
    for from in written.sample(rng, 20) {
        let from = from.saturating_sub(rng.random_range(0..8192));
        compare_range(tree, inode, content, (from, from + 16384), rng, place);
    }
    let end = content.size;
    compare_range(tree, inode, content, (end - 1000, end + 1000), rng, place);
    let anywhere = rng.random_range(0..end);
    compare_range(tree, inode, content, (anywhere, anywhere + 100_000), rng, place);
}

/// What is left out between the runs of data is zeros, from wherever one begins to look.
fn compare_holes(tree: &dyn FileTree, inode: u64, content: &Content, rng: &mut StdRng, place: &str) {
    for from in [0, rng.random_range(0..=content.size)] {
        let mut at = from;
        while let Some(run) = tree.next_data(ROOT, Inode(inode), at).expect("readable") {
            assert!(at <= run.start && run.start < run.end && run.end <= content.size, "{place}: {run:?} of {inode}");
            assert!(content.is_zero(at, run.start), "{place}: a hole of {inode} from {at} to {run:?}");
            at = run.end;
        }
        assert!(content.is_zero(at, content.size), "{place}: the last hole of {inode}, from {at}");
        assert!(tree.next_data(ROOT, Inode(inode), content.size + from).expect("readable").is_none());
    }
}

/// Reads a range in pieces of random lengths.
fn compare_range(
    tree: &dyn FileTree,
    inode: u64,
    content: &Content,
    (from, to): (u64, u64),
    rng: &mut StdRng,
    place: &str,
) {
    let mut at = from;
    while at < to {
        let len = rng.random_range(1..=1_200_000).min(to - at);
        let read = tree.read(ROOT, Inode(inode), at, len as u32).expect("readable");
        let found = read.pieces.concat();
        let expected = content.read(at, len);
        if found != expected {
            let wrong = found.iter().zip(&expected).position(|(found, expected)| found != expected);
            let lengths = (found.len(), expected.len());
            panic!("{place}: content of {inode} from {at}: lengths {lengths:?}, first difference at {wrong:?}");
        }
        assert_eq!(read.end, at + len >= content.size, "{place}: the end of {inode}");
        at += len;
    }
}
