//! Datasets in the shape of the real ones: a map tree of files whose contents are sequence trees of chunks, with
//! boundaries that depend on the content. Files and chunks are small, so that a world takes milliseconds.

use std::collections::BTreeMap;

use bytes::Bytes;
use narrowboat_storage::codec::Malformed;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::tree::Span;
use narrowboat_storage::tree::node::NodeFault;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::sync::seam::{DatasetKind, Ref, SnapshotOffer};

use crate::common::rng::Rng;
use crate::common::store::MemoryStore;

const ENTRY: usize = 8 + 1 + 32;
/// About so many entries in a node.
const FANOUT: u64 = 12;

/// The references of a node of these trees: a level, then entries `key, kind, name`.
pub fn references(kind: Kind, bytes: &Bytes) -> Result<Vec<Ref>, NodeFault> {
    if !kind.is_node() {
        return Ok(Vec::new());
    }
    let malformed = || NodeFault::from(Malformed { what: "node", at: 0 });
    let entries = bytes.get(1..).filter(|entries| entries.len() % ENTRY == 0).ok_or_else(malformed)?;
    let entries = entries.chunks_exact(ENTRY).map(|entry| {
        let kind = Kind::from_u8(entry[8]).ok_or_else(malformed)?;
        Ok((kind, Name(entry[9..].try_into().map_err(|_| malformed())?)))
    });
    entries.collect()
}

/// The same with their places: numbers of entries.
pub fn spans(kind: Kind, bytes: &Bytes) -> Result<Vec<Span>, NodeFault> {
    Ok((0..).zip(references(kind, bytes)?).map(|(from, at)| Span { at, from, len: 1 }).collect())
}

fn build(store: &MemoryStore, kind: Kind, mut entries: Vec<(u64, Ref)>) -> Option<Ref> {
    let mut level = 0u8;
    loop {
        let mut above = Vec::new();
        let mut node = vec![level];
        let count = entries.len();
        for (place, (key, (below, name))) in entries.into_iter().enumerate() {
            node.extend_from_slice(&key.to_le_bytes());
            node.push(below as u8);
            node.extend_from_slice(&name.0);
            let boundary =
                if kind == Kind::MapNode { key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8 } else { name.prefix() };
            // Two entries at least, so that each level is smaller than the one below.
            let long_enough = node.len() > 1 + ENTRY;
            if place + 1 == count || (long_enough && (boundary >> level).is_multiple_of(FANOUT)) {
                above.push((key, store.put(kind, &std::mem::replace(&mut node, vec![level + 1]))));
                node[0] = level;
            }
        }
        match above.len() {
            0 => return None,
            1 => return above.pop().map(|(_, root)| root),
            _ => (entries, level) = (above, level + 1),
        }
    }
}

/// Files by number, each a list of chunks.
#[derive(Clone, Default)]
pub struct Dataset {
    pub id: DatasetId,
    pub files: BTreeMap<u64, Vec<Bytes>>,
}

/// How large a dataset is made.
#[derive(Clone, Copy)]
pub struct Size {
    pub files: u64,
    pub chunks_max: u64,
    pub chunk_bytes_max: u64,
}

impl Dataset {
    pub fn random(rng: &mut Rng, size: Size) -> Self {
        let mut dataset = Dataset { id: DatasetId([7; 16]), files: BTreeMap::new() };
        for number in 0..size.files {
            let content = random_file(rng, size);
            dataset.files.insert(number * 3, content);
        }
        dataset
    }

    /// A later day: some files change in some chunks, some come, some go, some are copied.
    pub fn edit(&mut self, rng: &mut Rng, size: Size, edits: u64) {
        for _ in 0..edits {
            let number = rng.below(size.files.max(1) * 3);
            match rng.below(8) {
                0 => {
                    self.files.remove(&number);
                }
                1 => {
                    if let Some(copy) = self.files.values().nth(rng.below(self.files.len() as u64) as usize).cloned() {
                        self.files.insert(number, copy);
                    }
                }
                2 => {
                    let content = random_file(rng, size);
                    self.files.insert(number, content);
                }
                _ => {
                    if let Some(content) = self.files.range_mut(number..).next().map(|(_, content)| content) {
                        let place = rng.below(content.len() as u64 + 1) as usize;
                        let chunk = match content.get(place) {
                            Some(old) if rng.one_in(2) => a_few_bytes_changed(rng, old),
                            _ => random_chunk(rng, size),
                        };
                        if place < content.len() && !rng.one_in(3) {
                            content[place] = chunk;
                        } else {
                            content.insert(place, chunk);
                        }
                    }
                }
            }
        }
    }

    /// Keeps the dataset in a store and describes it as a snapshot.
    pub fn snapshot(&self, store: &MemoryStore, number: u8, source: StoreId) -> SnapshotOffer {
        let mut entries = Vec::new();
        for (number, content) in &self.files {
            let chunks: Vec<(u64, Ref)> = content.iter().map(|chunk| (0, store.put(Kind::Chunk, chunk))).collect();
            let root = match chunks.as_slice() {
                // Small files lie in a chunk without a tree.
                [(_, only)] => Some(*only),
                _ => build(store, Kind::SequenceNode, chunks.clone()),
            };
            entries.extend(root.map(|root| (*number, root)));
        }
        let root = build(store, Kind::MapNode, entries).map(|(_, name)| name);
        SnapshotOffer {
            dataset: self.id,
            dataset_name: "projects".to_owned(),
            kind: DatasetKind::Share,
            size: 0,
            snapshot: SnapshotId([number; 16]),
            snapshot_name: format!("day {number}"),
            time: Timestamp::new(1_800_000_000 + i64::from(number) * 86_400, 0),
            root,
            logical_bytes: self.files.values().flatten().map(|chunk| chunk.len() as u64).sum(),
            files: self.files.len() as u64,
            next_inode: 1 + self.files.len() as u64,
            source,
        }
    }
}

fn random_file(rng: &mut Rng, size: Size) -> Vec<Bytes> {
    let count = rng.below(size.chunks_max + 1);
    (0..count).map(|_| random_chunk(rng, size)).collect()
}

fn a_few_bytes_changed(rng: &mut Rng, old: &Bytes) -> Bytes {
    let mut new = old.to_vec();
    let from = rng.below(new.len() as u64 + 1) as usize;
    let count = rng.below(20) as usize;
    let fresh = rng.bytes(count);
    new.splice(from..(from + count / 2).min(old.len()), fresh.iter().copied());
    if new.is_empty() { vec![1].into() } else { new.into() }
}

fn random_chunk(rng: &mut Rng, size: Size) -> Bytes {
    // Some contents are met again and again, some compress.
    match rng.below(8) {
        0 => vec![rng.below(4) as u8; 100].into(),
        1 => vec![rng.next() as u8; rng.within(1, size.chunk_bytes_max) as usize].into(),
        _ => {
            let len = rng.within(1, size.chunk_bytes_max) as usize;
            rng.bytes(len).into()
        }
    }
}
