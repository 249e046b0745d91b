//! The passes over the roots: what is below each is there, its namespace holds together, and its trees are those of their entries.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use bytes::Bytes;

use super::check_names;
use super::roots::{Pass, Root};
use crate::dataset::namespace::{self, Key, Record};
use crate::dataset::state::{State, content_of};
use crate::dataset::table::Transaction;
use crate::error::{Damage, Result};
use crate::id::DatasetId;
use crate::name::{Kind, Name, Realm};
use crate::pool::PoolStream;
use crate::tree::{map, verify_content, walk};
use crate::units::Inode;

/// So many inodes in which a root differs from the one before are looked at one by one; where there are more, all are.
const DIFFER_MAX: usize = 1 << 20;
/// Chunks that are looked for together.
const CHUNKS_TOGETHER: usize = 1024;

/// Every node below a root is there and decodes, and every chunk that one names is there.
#[derive(Default)]
pub(super) struct Reach {
    /// Nodes that were reached.
    reached: HashSet<(Kind, Name)>,
}

impl Pass for Reach {
    fn look(&mut self, objects: &PoolStream, root: &Root, wrong: &mut Vec<String>) -> Result<u64> {
        let reached = &mut self.reached;
        let mut named = Vec::with_capacity(CHUNKS_TOGETHER);
        let mut look_for = |named: &mut Vec<Name>| -> Result<()> {
            let there = objects.pool().contains_batch(Kind::Chunk, named)?;
            let missing = named.drain(..).zip(there).filter(|(_, there)| !there);
            wrong.extend(missing.map(|(name, _)| format!("the chunk {name} is named and not there")));
            Ok(())
        };
        let walked = walk(objects, Kind::MapNode, &root.name, &mut |kind, name| {
            if kind.is_node() {
                return Ok(reached.insert((kind, *name)));
            }
            named.push(*name);
            if named.len() == CHUNKS_TOGETHER {
                look_for(&mut named)?;
            }
            Ok(false)
        });
        look_for(&mut named)?;
        walked.map(|()| 0)
    }
}

/// The map of a root, and every content in it, are the trees of their entries.
pub(super) struct Shapes<'a> {
    realm: &'a Realm,
    /// Nodes of maps, and contents, that are known to be.
    maps: HashSet<Name>,
    contents: HashSet<(Name, u64, u64)>,
}

impl<'a> Shapes<'a> {
    pub fn new(realm: &'a Realm) -> Self {
        Shapes { realm, maps: HashSet::new(), contents: HashSet::new() }
    }
}

impl Pass for Shapes<'_> {
    fn look(&mut self, objects: &PoolStream, root: &Root, _: &mut Vec<String>) -> Result<u64> {
        let Shapes { realm, maps, contents } = self;
        let mut maps = map::Canonical::of_several(objects, realm, maps);
        maps.verify(&root.name, &mut |_, content| {
            let known = content.root().map(|name| (name, content.len(), content.data_len()));
            if !known.is_some_and(|known| contents.contains(&known)) {
                verify_content(objects, realm, &content)?;
                contents.extend(known);
            }
            Ok(())
        })?;
        Ok(0)
    }
}

/// The namespace of a root holds together, and contents are as long as records say. Of a root that follows one whose namespace does, only what
/// differs is looked at.
#[derive(Default)]
pub(super) struct Names {
    /// The last root whose namespace holds together, and whose it is.
    last: Option<(DatasetId, Name)>,
}

impl Pass for Names {
    fn look(&mut self, objects: &PoolStream, root: &Root, _: &mut Vec<String>) -> Result<u64> {
        let like = self.last.filter(|(of, _)| *of == root.dataset).map(|(_, root)| root);
        let files = namespace(objects, &root.name, like)?;
        self.last = Some((root.dataset, root.name));
        Ok(files)
    }
}

/// Looks at the namespace below a root, or at what differs in it from a sound one that is `like` it; returns how many files it has.
fn namespace(objects: &PoolStream, root: &Name, like: Option<Name>) -> Result<u64> {
    let state = State::at(Some(*root));
    let view = Transaction::new(&state, objects);
    let differs = match like {
        Some(like) if !namespace::is_volume(&view)? => differs(objects, &like, root)?.map(|differs| (like, differs)),
        _ => None,
    };
    let totals = match &differs {
        None => {
            let totals = check_names(&view)?;
            lengths(objects, root, None)?;
            totals
        }
        Some((like, differs)) => {
            let state = State::at(Some(*like));
            let before = Transaction::new(&state, objects);
            let totals = namespace::check_changed(&before, &view, differs.clone())?;
            differs.iter().try_for_each(|inode| lengths(objects, root, Some(*inode)))?;
            totals
        }
    };
    Ok(totals.files)
}

/// The inodes in which two roots differ; nothing where they are too many to be remembered.
fn differs(objects: &PoolStream, one: &Name, other: &Name) -> Result<Option<BTreeSet<Inode>>> {
    let mut inodes = BTreeSet::new();
    for change in map::diff(objects, Some(one), Some(other)) {
        inodes.extend(namespace::owner_of(&change?.key)?);
        if inodes.len() > DIFFER_MAX {
            return Ok(None);
        }
    }
    Ok(Some(inodes))
}

/// Contents are as long as records say: of one file, or of all.
fn lengths(objects: &PoolStream, root: &Name, of: Option<Inode>) -> Result<()> {
    let mut size: Option<(Inode, u64)> = None;
    let (from, to) = match of.map(namespace::keys_of) {
        Some((from, to)) => (Bound::Included(from), Bound::Excluded(to)),
        None => (Bound::Unbounded, Bound::Unbounded),
    };
    for pair in map::range::<Vec<u8>>(objects, Some(root), (from, to)) {
        let (key, value) = pair?;
        match Key::parse(&key) {
            Some(Key::Record(inode)) => size = Some((inode, Record::decode(inode, &value)?.size)),
            Some(Key::Content(inode)) => check_length(inode, &value, size)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_length(inode: Inode, value: &Bytes, size: Option<(Inode, u64)>) -> Result<()> {
    let len = content_of(inode, value)?.len();
    match size {
        Some((owner, size)) if owner == inode && size == len => Ok(()),
        _ => {
            let found = format!("a content of {len} bytes");
            Err(Damage::new(format!("inode {inode}"), 0, "a content as long as its record says", found).into())
        }
    }
}
