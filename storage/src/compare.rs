//! What changed between two snapshots, by path: the difference of two roots, told in names.
//!
//! Costs the nodes in which the roots differ. Only where a file changed without any entry of it (its content, its
//! attributes) are the later snapshot's entries read once, to learn its name.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::dataset::namespace::{Body, Entry, Key, Listed, Record};
use crate::dataset::state::content_of;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::name::Name;
use crate::pool::StreamId;
use crate::store::Store;
use crate::tree::sequence::{self, Content};
use crate::tree::{Objects, map};
use crate::units::Inode;

/// What happened to a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It was called otherwise before.
    Renamed {
        /// The path before.
        was: Vec<u8>,
    },
    /// Its bytes changed: so many differ, or were added or cut off.
    Content {
        /// How many.
        bytes: u64,
    },
    /// Only its attributes changed: mode, owner, group or, of what is no directory, the time of modification.
    Attributes,
}

/// A path and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathChange {
    /// The path: in the later snapshot, or in the earlier one for what is gone. Without a leading slash.
    pub path: Vec<u8>,
    /// What happened.
    pub what: What,
}

/// One side of a comparison: a root, and the names of directories met so far.
pub(crate) struct Side<'a> {
    objects: &'a dyn Objects,
    root: Option<Name>,
    dirs: BTreeMap<Inode, Vec<u8>>,
}

/// An entry: its directory and its name.
pub(crate) type Place = (Inode, Bytes);

/// What differs, before it has names.
#[derive(Default)]
struct Differences {
    gone: BTreeMap<Inode, BTreeSet<Place>>,
    new: BTreeMap<Inode, BTreeSet<Place>>,
    /// Files that were not there before, under whatever name.
    born: BTreeSet<Inode>,
    /// Files there before and after whose record or content changed; for contents, both.
    changed: BTreeMap<Inode, (Option<Bytes>, Option<Bytes>)>,
}

impl Store {
    /// What changed from the snapshot `from` to `to`, in the order of paths. Both are sealed first if need be.
    pub fn compare(&self, from: SnapshotId, to: SnapshotId) -> Result<Vec<PathChange>> {
        let objects = self.stages().pool.on(StreamId::MISC);
        let side = |root| Side::new(&objects, root);
        let _in_use = self.stages().pool.in_use();
        let mut before = side(self.seal(from)?.root);
        let mut after = side(self.seal(to)?.root);
        let differences = Differences::between(&before, &after)?;
        let mut changes = differences.entries(&mut before, &mut after)?;
        changes.extend(differences.contents(&objects, &mut after)?);
        changes.sort();
        Ok(changes)
    }

    /// How many bytes of contents the snapshot `to` has that differ from `from`, or all of them: what a replication has to move at
    /// most, before compression. Holes of new files count for nothing. Both are sealed first if need be; costs the
    /// nodes in which they differ.
    pub fn differing_bytes(&self, from: Option<SnapshotId>, to: SnapshotId) -> Result<u64> {
        let objects = self.stages().pool.on(StreamId::MISC);
        let _in_use = self.stages().pool.in_use();
        let before = from.map(|from| self.seal(from)).transpose()?.and_then(|sealed| sealed.root);
        let after = self.seal(to)?.root;
        let mut bytes: u64 = 0;
        for change in map::diff(&objects, before.as_ref(), after.as_ref()) {
            let change = change?;
            let (Some(Key::Content(inode)), Some(new)) = (Key::parse(&change.key), change.new) else { continue };
            let new = content_of(inode, &new)?;
            bytes = bytes.saturating_add(match change.old {
                Some(old) => differing(&objects, &content_of(inode, &old)?, &new)?.min(new.data_len()),
                None => new.data_len(),
            });
        }
        Ok(bytes)
    }
}

impl Differences {
    fn between(before: &Side, after: &Side) -> Result<Differences> {
        let mut found = Differences::default();
        for change in map::diff(before.objects, before.root.as_ref(), after.root.as_ref()) {
            let change = change?;
            let (old, new) = (change.old, change.new);
            match Key::parse(&change.key) {
                Some(Key::Entry(dir, name)) => {
                    let place = || (dir, Bytes::copy_from_slice(name));
                    let inode = |value: &Bytes| Entry::decode(dir, value).map(|entry| entry.inode);
                    let (old, new) = (old.as_ref().map(inode).transpose()?, new.as_ref().map(inode).transpose()?);
                    if old != new {
                        old.into_iter().for_each(|inode| found.gone.entry(inode).or_default().extend([place()]));
                        new.into_iter().for_each(|inode| found.new.entry(inode).or_default().extend([place()]));
                    }
                }
                Some(Key::Record(inode)) => match (old, new) {
                    (None, _) => drop(found.born.insert(inode)),
                    (Some(old), Some(new)) if attributes_differ(inode, &old, &new)? => {
                        found.changed.entry(inode).or_default();
                    }
                    _ => {}
                },
                Some(Key::Content(inode)) => drop(found.changed.insert(inode, (old, new))),
                _ => {}
            }
        }
        Ok(found)
    }

    fn entries(&self, before: &mut Side, after: &mut Side) -> Result<Vec<PathChange>> {
        let mut changes = Vec::new();
        for (inode, places) in &self.new {
            let mut gone = self.gone.get(inode).into_iter().flatten();
            for place in places {
                let what = match gone.next() {
                    Some(old) => What::Renamed { was: before.path(old)? },
                    None => What::Added,
                };
                changes.push(PathChange { path: after.path(place)?, what });
            }
            for place in gone {
                changes.push(PathChange { path: before.path(place)?, what: What::Removed });
            }
        }
        for (_, places) in self.gone.iter().filter(|(inode, _)| !self.new.contains_key(inode)) {
            for place in places {
                changes.push(PathChange { path: before.path(place)?, what: What::Removed });
            }
        }
        Ok(changes)
    }

    fn contents(&self, objects: &dyn Objects, after: &mut Side) -> Result<Vec<PathChange>> {
        // What is new as a whole is told as added; a file that was renamed or got one more name may have changed, too.
        let changed: BTreeMap<_, _> = self.changed.iter().filter(|(inode, _)| !self.born.contains(inode)).collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let mut changes = Vec::new();
        for (inode, place) in after.names_of(&changed)? {
            let (old, new) = changed[&inode];
            let content = |value: &Option<Bytes>| match value {
                Some(value) => content_of(inode, value),
                None => Ok(Content::empty()),
            };
            let (old, new) = (content(old)?, content(new)?);
            let what = match old == new {
                true => What::Attributes,
                false => What::Content { bytes: differing(objects, &old, &new)? },
            };
            changes.push(PathChange { path: after.path(&place)?, what });
        }
        Ok(changes)
    }
}

/// How many bytes differ, or are there in one content only.
fn differing(objects: &dyn Objects, old: &Content, new: &Content) -> Result<u64> {
    let mut bytes = 0;
    for range in sequence::diff(objects, old, new) {
        let range = range?;
        bytes += range.end - range.start;
    }
    Ok(bytes)
}

/// Whether attributes differ that a person set or a writer moved. Link counts, and the times and sizes of directories, move
/// with names, which are told by themselves.
fn attributes_differ(inode: Inode, old: &Bytes, new: &Bytes) -> Result<bool> {
    let (old, new) = (Record::decode(inode, old)?, Record::decode(inode, new)?);
    let written = !new.is_dir() && (old.modified, old.size) != (new.modified, new.size);
    Ok(written || (old.mode, old.uid, old.gid) != (new.mode, new.uid, new.gid))
}

impl<'a> Side<'a> {
    /// Nothing is read yet.
    pub(crate) fn new(objects: &'a dyn Objects, root: Option<Name>) -> Side<'a> {
        Side { objects, root, dirs: BTreeMap::from([(Inode::ROOT, Vec::new())]) }
    }

    /// The path of an entry.
    pub(crate) fn path(&mut self, (dir, name): &Place) -> Result<Vec<u8>> {
        let mut path = self.dir_path(*dir)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    fn dir_path(&mut self, dir: Inode) -> Result<Vec<u8>> {
        let mut unknown = Vec::new();
        let mut at = dir;
        while !self.dirs.contains_key(&at) {
            let value = map::get(self.objects, self.root.as_ref(), &Key::Record(at).encode())?;
            let parent = match value.map(|value| Record::decode(at, &value)).transpose()?.map(|record| record.body) {
                Some(Body::Directory { parent, .. }) => parent,
                _ => Inode::ROOT,
            };
            unknown.push((at, self.name_in(parent, at)?));
            at = parent;
            if unknown.len() > 4096 {
                break;
            }
        }
        let mut path = self.dirs.get(&at).cloned().unwrap_or_default();
        for (inode, name) in unknown.into_iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            self.dirs.insert(inode, path.clone());
        }
        Ok(path)
    }

    fn is_dir(&self, inode: Inode) -> Result<bool> {
        let value = map::get(self.objects, self.root.as_ref(), &Key::Record(inode).encode())?;
        Ok(value.map(|value| Record::decode(inode, &value)).transpose()?.is_some_and(|record| record.is_dir()))
    }

    fn name_in(&self, parent: Inode, inode: Inode) -> Result<Bytes> {
        let bounds = Key::Listed(parent, 0).encode()..=Key::Listed(parent, u64::MAX).encode();
        for pair in map::range(self.objects, self.root.as_ref(), bounds) {
            let listed = Listed::decode(parent, &pair?.1)?;
            if listed.inode == inode {
                return Ok(listed.name);
            }
        }
        Ok(Bytes::from_static(b"?"))
    }

    /// One name of each of the files, in one pass over all entries.
    pub(crate) fn names_of<T>(&self, wanted: &BTreeMap<&Inode, T>) -> Result<Vec<(Inode, Place)>> {
        let mut found = BTreeMap::new();
        // A volume has no names: its content is what lies at the empty path.
        if wanted.contains_key(&Inode::ROOT) && !self.is_dir(Inode::ROOT)? {
            found.insert(Inode::ROOT, (Inode::ROOT, Bytes::new()));
        }
        for pair in map::range::<&[u8]>(self.objects, self.root.as_ref(), ..) {
            let (key, value) = pair?;
            if let Some(Key::Entry(dir, name)) = Key::parse(&key) {
                let inode = Entry::decode(dir, &value)?.inode;
                if wanted.contains_key(&inode) {
                    found.entry(inode).or_insert_with(|| (dir, Bytes::copy_from_slice(name)));
                }
            }
            if found.len() == wanted.len() {
                break;
            }
        }
        Ok(found.into_iter().collect())
    }
}
