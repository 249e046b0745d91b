//! What is known of one share: the states that a crash may leave, and what all of them have in common.

use std::collections::BTreeMap;
use std::rc::Rc;

use narrowboat_storage::Result;
use narrowboat_storage::dataset::{CallTag, Create, Credentials, FileTree, FileType, SetAttributes};
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::units::{Inode, Lsn};

use super::super::{at as call_at, read};

/// What is compared of one file: number, type, mode, links.
pub type Node4 = (Inode, FileType, u32, u32);
/// All paths of a share.
pub type Names = BTreeMap<String, Node4>;
/// All paths and the bytes of regular files.
pub type Image = BTreeMap<String, (Node4, Rc<Vec<u8>>)>;

/// A content that a file had, and the record that makes it stable where there is one.
pub type State = (Option<Lsn>, Rc<Vec<u8>>);

/// A state of the namespace that may be what a crash leaves.
#[derive(Clone)]
pub struct Version {
    pub lsn: Lsn,
    pub names: Names,
    pub tag: Option<CallTag>,
}

/// What is known of one share.
pub struct Share {
    pub name: String,
    pub id: DatasetId,
    /// The last stable version, then those that may have survived.
    pub versions: Vec<Version>,
    /// For each file the stable content, then those that followed, each with the record that makes it stable.
    pub contents: BTreeMap<Inode, Vec<State>>,
    /// Calls that must be remembered.
    pub tags: Vec<CallTag>,
    pub newest: Inode,
}

fn paths_below(tree: &dyn FileTree, dir: Inode, prefix: &str, names: &mut Names) -> Result<()> {
    let listing = tree.read_dir(&Credentials::ROOT, dir, 2, 10_000)?;
    for entry in listing.entries {
        let path = format!("{prefix}/{}", String::from_utf8_lossy(&entry.name));
        let a = entry.attributes;
        names.insert(path.clone(), (a.inode, a.file_type, a.mode, a.links));
        if a.file_type == FileType::Directory {
            paths_below(tree, a.inode, &path, names)?;
        }
    }
    Ok(())
}

/// Everything that has a name.
pub fn observe(tree: &dyn FileTree) -> Result<Names> {
    let mut names = Names::new();
    paths_below(tree, Inode::ROOT, "", &mut names)?;
    Ok(names)
}

/// Everything that has a name, with its bytes.
pub fn image(tree: &dyn FileTree) -> Image {
    let names = observe(tree).expect("readable");
    let bytes = |node: &Node4| if node.1 == FileType::Regular { read(tree, node.0) } else { Vec::new() };
    names.into_iter().map(|(path, node)| (path, (node, Rc::new(bytes(&node))))).collect()
}

impl Share {
    pub fn new(name: &str, id: DatasetId, image: &Image) -> Share {
        let names: Names = image.iter().map(|(path, (node, _))| (path.clone(), *node)).collect();
        let contents = image.values().map(|(node, bytes)| (node.0, vec![(None, bytes.clone())])).collect();
        let newest = image.values().map(|(node, _)| node.0).max().unwrap_or(Inode::ROOT);
        let versions = vec![Version { lsn: Lsn(0), names, tag: None }];
        Share { name: name.to_owned(), id, versions, contents, tags: Vec::new(), newest }
    }

    pub fn names(&self) -> &Names {
        &self.versions[self.versions.len() - 1].names
    }

    pub fn bytes(&self, inode: Inode) -> Rc<Vec<u8>> {
        self.contents.get(&inode).and_then(|states| states.last()).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    /// What a snapshot taken now holds.
    pub fn image(&self) -> Image {
        let bytes = |node: &Node4| if node.1 == FileType::Regular { self.bytes(node.0) } else { Rc::default() };
        self.names().iter().map(|(path, node)| (path.clone(), (*node, bytes(node)))).collect()
    }

    /// Everything up to `lsn` is stable.
    pub fn stable(&mut self, lsn: Lsn) {
        let last = self.versions.iter().rposition(|version| version.lsn <= lsn).unwrap_or(0);
        for version in self.versions.drain(..last) {
            self.tags.extend(version.tag);
        }
        if let Some(tag) = self.versions[0].tag.take() {
            self.tags.push(tag);
        }
        let newest = self.versions[0].names.values().map(|node| node.0).max();
        self.newest = self.newest.max(newest.unwrap_or(Inode::ROOT));
        for states in self.contents.values_mut() {
            if let Some(last) = states.iter().rposition(|(safe, _)| safe.is_some_and(|safe| safe <= lsn)) {
                states.drain(..last);
                states[0].0 = None;
            }
        }
    }

    /// Checks what a crash left, and takes it for the truth from here on.
    pub fn recovered(&mut self, tree: &dyn FileTree) {
        self.adopt(tree);
        let how = Create::Guarded(SetAttributes::default());
        if let Ok(made) = tree.create(&call_at(1), Inode::ROOT, b"probe", &how) {
            assert!(made.file.inode > self.newest, "{}: an inode number went back", self.name);
            self.newest = made.file.inode;
            let removed = tree.remove(&call_at(1), Inode::ROOT, b"probe").expect("just made");
            tree.make_stable(removed.lsn).expect("a sound disk");
        }
    }

    /// Checks what is there, which is one of the states that may be, and takes it for the truth from here on.
    pub fn adopt(&mut self, tree: &dyn FileTree) {
        let found = image(tree);
        let names: Names = found.iter().map(|(path, (node, _))| (path.clone(), *node)).collect();
        for tag in self.tags.iter().rev().take(1000) {
            assert!(tree.remembered(tag).is_some(), "{}: a stable call is forgotten", self.name);
        }
        let known = |version: &Version| version.tag.is_none_or(|tag| tree.remembered(&tag).is_some());
        let fits = |at: usize| {
            self.versions[at].names == names
                && self
                    .versions
                    .iter()
                    .enumerate()
                    .all(|(nth, version)| version.tag.is_none() || nth == 0 || known(version) == (nth <= at))
        };
        let at = (0..self.versions.len()).find(|at| fits(*at));
        let at = at.unwrap_or_else(|| {
            let expected: Vec<_> = self.versions.iter().map(|version| &version.names).collect();
            panic!("{}: found {names:#?}\nexpected one of {expected:#?}", self.name)
        });
        for (path, (node, bytes)) in &found {
            let states = self.contents.get(&node.0).cloned().unwrap_or_default();
            if node.1 != FileType::Regular {
                continue;
            }
            let sizes: Vec<_> = states.iter().map(|(_, state)| state.len()).collect();
            assert!(
                sizes.contains(&bytes.len()),
                "{}{path}: {} bytes, one of {sizes:?} expected",
                self.name,
                bytes.len()
            );
            let odd = bytes
                .iter()
                .enumerate()
                .position(|(nth, byte)| !states.iter().any(|(_, state)| state.get(nth) == Some(byte)));
            assert!(odd.is_none(), "{}{path}: a wrong byte at {odd:?} of {}", self.name, bytes.len());
        }
        let (newest, mut tags) = (self.newest, std::mem::take(&mut self.tags));
        tags.extend(self.versions[..=at].iter().filter_map(|version| version.tag));
        let ever = self.versions[..=at].iter().flat_map(|version| version.names.values()).map(|node| node.0).max();
        *self = Share { tags, ..Share::new(&self.name, self.id, &found) };
        self.newest = self.newest.max(newest).max(ever.unwrap_or(Inode::ROOT));
    }
}
