//! Whom damage hits: which files of which datasets and snapshots hold objects that are damaged here.
//!
//! Reads the trees of all heads and snapshots, each content once however many snapshots share it. Nobody asks
//! while all is sound.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;

use bytes::Bytes;

use crate::catalogue::SnapshotRow;
use crate::compare::Side;
use crate::dataset::namespace::Key;
use crate::dataset::state::content_of;
use crate::error::{Damage, Error, Result};
use crate::name::{Kind, Name};
use crate::pool::{PoolStream, StreamId, Wound};
use crate::store::Store;
use crate::tree::sequence::{self, Content, Entry};
use crate::tree::{Objects, map, spans};
use crate::units::Inode;

/// A file, or a volume, some bytes of which are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// The name of its dataset.
    pub dataset: String,
    /// The snapshot; `None` for what the dataset holds now, but for what waits for the drain.
    pub snapshot: Option<String>,
    /// Where it is, without a leading slash; empty for a volume. `None` where part of the directory tree itself is
    /// damaged, so that more may be hit than is told.
    pub path: Option<Vec<u8>>,
    /// The first of its bytes that can't be read, and the first behind the last such; what lies between may be sound.
    pub range: Range<u64>,
    /// How many of them can't.
    pub bytes: u64,
}

/// What of a content can't be read.
#[derive(Clone, Default)]
struct Hit {
    range: Range<u64>,
    bytes: u64,
}

impl Hit {
    fn add(&mut self, range: Range<u64>) {
        self.bytes += range.end - range.start;
        self.range = match self.range.is_empty() {
            true => range,
            false => self.range.start.min(range.start)..self.range.end.max(range.end),
        };
    }
}

/// Objects as the disk has them: what a cache still holds of a wounded one is gone with the next restart.
struct AsTheyLie<'a> {
    objects: &'a PoolStream,
    wounds: &'a BTreeSet<(Kind, Name)>,
}

impl Objects for AsTheyLie<'_> {
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        match self.wounds.contains(&(kind, *name)) {
            true => Err(Damage::new(format!("{kind:?} {name}"), 0, "an object that is sound", "a wound").into()),
            false => self.objects.read(kind, name),
        }
    }
    fn put(&self, kind: Kind, content: &[u8]) -> Result<Name> {
        self.objects.put(kind, content)
    }
    fn contains(&self, kind: Kind, name: &Name) -> Result<bool> {
        self.objects.contains(kind, name)
    }
}

/// Looks for wounds in contents.
struct Search<'a> {
    objects: &'a dyn Objects,
    wounds: &'a BTreeSet<(Kind, Name)>,
    /// Sequence nodes below which all is sound.
    sound: HashSet<Name>,
}

impl Store {
    /// The files that hold these objects, dataset by dataset, snapshots oldest first and then what is there now; at most so
    /// many. What was deleted and can be had back is among them, and says so in its name.
    pub fn affected(&self, wounds: &[Wound], most: usize) -> Result<Vec<Affected>> {
        let objects = self.stages().pool.on(StreamId::MISC);
        let _in_use = self.stages().pool.in_use();
        let names: BTreeSet<_> = wounds.iter().map(|wound| (wound.kind, wound.name)).collect();
        let objects = AsTheyLie { objects: &objects, wounds: &names };
        let mut search = Search { objects: &objects, wounds: &names, sound: HashSet::new() };
        let mut found = Vec::new();
        if wounds.is_empty() {
            return Ok(found);
        }
        for row in self.rows_with_deleted() {
            let snapshots = self.snapshots_with_deleted(Some(row.id)).into_iter();
            let told = |row: &SnapshotRow| match self.stages().catalogue.snapshot_deleted(row.id) {
                Some(_) => format!("{} (deleted)", row.name),
                None => row.name.clone(),
            };
            let sealed = snapshots.filter_map(|snapshot| Some((snapshot.sealed?.root?, Some(told(&snapshot)))));
            let now = self.base_root(row.id)?.map(|root| (root, None));
            for (root, snapshot) in sealed.chain(now) {
                for (path, hit) in search.tree(root)? {
                    let (dataset, snapshot) = (row.name.clone(), snapshot.clone());
                    found.push(Affected { dataset, snapshot, path, range: hit.range, bytes: hit.bytes });
                    if found.len() >= most {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The files below a root that can't be read whole for these nodes; `None` for part of the directory tree itself.
pub(crate) fn paths_below(
    objects: &PoolStream,
    lost: &BTreeSet<(Kind, Name)>,
    root: Name,
) -> Result<Vec<Option<Vec<u8>>>> {
    let objects = AsTheyLie { objects, wounds: lost };
    let mut search = Search { objects: &objects, wounds: lost, sound: HashSet::new() };
    Ok(search.tree(root)?.into_iter().map(|(path, _)| path).collect())
}

impl Search<'_> {
    /// The files below a root that are hit.
    fn tree(&mut self, root: Name) -> Result<Vec<(Option<Vec<u8>>, Hit)>> {
        let mut hits: BTreeMap<Inode, Hit> = BTreeMap::new();
        let mut told = Vec::new();
        let torn = |error: Error| match error.is_of_one() {
            true => Ok((None, Hit::default())),
            false => Err(error),
        };
        for pair in map::range::<&[u8]>(self.objects, Some(&root), ..) {
            let (key, value) = match pair {
                Ok(pair) => pair,
                Err(error) => {
                    told.push(torn(error)?);
                    break;
                }
            };
            let Some(Key::Content(inode)) = Key::parse(&key) else { continue };
            match content_of(inode, &value).and_then(|content| self.content(&content)) {
                Ok(hit) if hit.bytes > 0 => drop(hits.insert(inode, hit)),
                Ok(_) => {}
                Err(error) => told.push(torn(error)?),
            }
        }
        if !hits.is_empty() {
            match self.named(root, &hits) {
                Ok(files) => told.extend(files.into_iter().map(|(path, hit)| (Some(path), hit))),
                Err(error) => told.push(torn(error)?),
            }
        }
        Ok(told)
    }

    /// The files by their paths.
    fn named(&self, root: Name, hits: &BTreeMap<Inode, Hit>) -> Result<Vec<(Vec<u8>, Hit)>> {
        let mut side = Side::new(self.objects, Some(root));
        let wanted: BTreeMap<&Inode, ()> = hits.keys().map(|inode| (inode, ())).collect();
        let places = side.names_of(&wanted)?;
        places.into_iter().map(|(inode, place)| Ok((side.path(&place)?, hits[&inode].clone()))).collect()
    }

    fn content(&mut self, content: &Content) -> Result<Hit> {
        let mut hit = Hit::default();
        if let Some(root) = content.root() {
            self.node(root, 0..content.len(), &mut hit)?;
            return Ok(hit);
        }
        for entry in sequence::entries(self.objects, content, 0) {
            let (at, entry) = entry?;
            if let Entry::Chunk { name, .. } = &entry
                && self.wounds.contains(&(Kind::Chunk, *name))
            {
                hit.add(at..at + entry.len());
            }
        }
        Ok(hit)
    }

    /// Goes through the tree below a node that stands for these bytes.
    fn node(&mut self, name: Name, range: Range<u64>, hit: &mut Hit) -> Result<()> {
        if self.sound.contains(&name) {
            return Ok(());
        }
        let bytes = match self.objects.read(Kind::SequenceNode, &name) {
            Ok(bytes) => bytes,
            Err(error) if error.is_of_one() => {
                hit.add(range);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let before = hit.bytes;
        for span in spans(Kind::SequenceNode, &bytes).map_err(|fault| fault.of(Kind::SequenceNode, &name))? {
            let from = range.start.saturating_add(span.from);
            let part = from..from.saturating_add(span.len);
            match span.at {
                (Kind::Chunk, _) if self.wounds.contains(&span.at) => hit.add(part),
                (Kind::SequenceNode, child) => self.node(child, part, hit)?,
                _ => {}
            }
        }
        if hit.bytes == before {
            self.sound.insert(name);
        }
        Ok(())
    }
}
