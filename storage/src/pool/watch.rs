//! What a run of reclaim knows: which objects are needed, as far as it has found out, and what was asked for since it began.
//!
//! * **Nodes exactly, chunks nearly.** A node that is taken for a known one is not walked, and what is below it would be let go: so
//!   nodes are remembered by half of their names, which nobody can make equal. Chunks have nothing below them: a filter that
//!   takes one in some thousands for a live one keeps garbage, until another run with another salt.
//! * Whatever the pool answers "present" to, and whatever is put, is noted here while the run lasts; noted nodes wait to be
//!   walked like those that a tree names.
//! * Memory: [`WatchOptions`].

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::ContainerId;
use crate::index::Location;
use crate::name::{Kind, Name};

/// Bits that a chunk sets, all within a block of 512.
const BITS_SET: u32 = 6;
const BLOCK_WORDS: usize = 8;

/// How much memory a run may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WatchOptions {
    /// The filter of chunks: so many bits for each name that there is,
    pub chunk_bits: usize,
    /// and no more bytes than this. Beyond, more garbage is kept.
    pub chunk_bytes_max: usize,
    /// Nodes that are remembered, at some 40 bytes each. A store that needs more can't be reclaimed, and says so.
    pub nodes_max: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions { chunk_bits: 16, chunk_bytes_max: 192 << 20, nodes_max: 6 << 20 }
    }
}

/// Nodes that are needed.
#[derive(Default)]
struct Nodes {
    /// Every one that was met, by half of its name.
    seen: HashSet<u128>,
    /// Those of them that are still to be walked.
    pending: Vec<(Kind, Name)>,
}

/// What is needed, as far as it is known.
pub(crate) struct Watch {
    /// Nothing goes from this container on. Those that were begun after the watch are among them: everything in them was noted.
    end: AtomicU64,
    nodes: Mutex<Nodes>,
    nodes_max: usize,
    chunks: Vec<AtomicU64>,
    salt: u64,
    /// More nodes than may be remembered.
    overflown: AtomicBool,
    /// Notes nothing that is asked for: what must never be, for the test that shows that such a door would lose data.
    blind: AtomicBool,
}

impl Watch {
    pub fn new(options: &WatchOptions, names: u64, salt: u64, floor: ContainerId) -> Watch {
        let bytes = (names as usize).saturating_mul(options.chunk_bits) / 8;
        let words = (bytes.clamp(64 << 10, options.chunk_bytes_max.max(64 << 10)) / 8).next_multiple_of(BLOCK_WORDS);
        Watch {
            end: AtomicU64::new(floor.0),
            nodes: Mutex::default(),
            nodes_max: options.nodes_max,
            chunks: (0..words).map(|_| AtomicU64::new(0)).collect(),
            salt,
            overflown: AtomicBool::new(false),
            blind: AtomicBool::new(false),
        }
    }

    /// The first container that nothing goes from.
    pub fn end(&self) -> ContainerId {
        ContainerId(self.end.load(Ordering::Relaxed))
    }

    /// Nothing goes from this container on. What the nodes in it name must be needed, too.
    pub fn keep_from(&self, container: ContainerId) {
        self.end.fetch_min(container.0, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Someone was told that this object is present, or put it.
    pub fn note(&self, kind: Kind, name: &Name) {
        if !self.blind.load(Ordering::Relaxed) {
            self.need(kind, name);
        }
    }

    /// This object is needed.
    pub fn need(&self, kind: Kind, name: &Name) {
        match kind.is_node() {
            true => self.need_node(&mut self.lock(), kind, name),
            false => self.need_chunk(name),
        }
    }

    /// All of these are needed.
    pub fn need_all(&self, references: &[(Kind, Name)]) {
        let mut nodes = self.lock();
        for (kind, name) in references {
            match kind.is_node() {
                true => self.need_node(&mut nodes, *kind, name),
                false => self.need_chunk(name),
            }
        }
    }

    fn need_node(&self, nodes: &mut Nodes, kind: Kind, name: &Name) {
        if nodes.seen.len() >= self.nodes_max {
            self.overflown.store(true, Ordering::Relaxed);
        } else if nodes.seen.insert(name.half()) {
            nodes.pending.push((kind, *name));
        }
    }

    fn bits(&self, name: &Name) -> (usize, impl Iterator<Item = (usize, u64)>) {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&name.0[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        // Odd factors keep every bit of the salt in play; names are even already.
        let first = (word(0) ^ self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let second = (word(8) ^ self.salt.rotate_left(32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let blocks = self.chunks.len() / BLOCK_WORDS;
        let block = ((u128::from(first) * blocks as u128) >> 64) as usize;
        let bits = (0..BITS_SET).map(move |nth| {
            let bit = (second >> (10 + 9 * nth)) as usize % (BLOCK_WORDS * 64);
            (bit / 64, 1 << (bit % 64))
        });
        (block * BLOCK_WORDS, bits)
    }

    fn need_chunk(&self, name: &Name) {
        let (block, bits) = self.bits(name);
        for (word, bit) in bits {
            self.chunks[block + word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// True where an object is needed, or (a chunk, seldom) looks so.
    pub fn is_needed(&self, kind: Kind, name: &Name) -> bool {
        if kind.is_node() {
            return self.lock().seen.contains(&name.half());
        }
        let (block, mut bits) = self.bits(name);
        bits.all(|(word, bit)| self.chunks[block + word].load(Ordering::Relaxed) & bit != 0)
    }

    /// Up to `most` nodes that nobody has walked yet; the caller does.
    pub fn take(&self, most: usize) -> Vec<(Kind, Name)> {
        let mut nodes = self.lock();
        let from = nodes.pending.len().saturating_sub(most);
        nodes.pending.split_off(from)
    }

    /// These nodes, which were taken, are to be walked once more.
    pub fn put_back(&self, nodes: impl Iterator<Item = (Kind, Name)>) {
        self.lock().pending.extend(nodes);
    }

    /// True where every node that is needed was walked.
    pub fn is_walked(&self) -> bool {
        self.lock().pending.is_empty()
    }

    /// Nodes that were met so far.
    pub fn nodes(&self) -> u64 {
        self.lock().seen.len() as u64
    }

    /// True where there are more nodes than may be remembered: nothing may be let go of.
    pub fn is_overflown(&self) -> bool {
        self.overflown.load(Ordering::Relaxed)
    }

    /// See [`Watch::blind`].
    pub fn make_blind(&self) {
        self.blind.store(true, Ordering::Relaxed);
    }
}

/// What every answer goes by. Shut, for moments, by whoever lets go of names.
#[derive(Default)]
pub(super) struct Door {
    /// Who is told of what was answered.
    pub watch: Option<std::sync::Arc<Watch>>,
    /// Names that are about to leave the index, with their places: they are answered for no more, at these places.
    pub hidden: HashMap<Name, Location>,
}

impl Door {
    /// Goes over an answer: what is hidden is not there, and what is there was asked for.
    pub fn answer(&self, kind: Kind, names: &[Name], found: &mut [Option<Location>]) {
        let Some(watch) = &self.watch else { return };
        for (name, found) in names.iter().zip(found) {
            if found.is_some() && self.hidden.get(name) == found.as_ref() {
                *found = None;
            } else if found.is_some() {
                watch.note(kind, name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Name {
        Name(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn nodes_are_met_once_and_chunks_are_nearly_never_taken_for_others() {
        let watch = Watch::new(&WatchOptions::default(), 100_000, 7, ContainerId(1));
        let again = Watch::new(&WatchOptions::default(), 100_000, 8, ContainerId(1));
        (0..100_000).map(name).for_each(|name| {
            watch.need(Kind::Chunk, &name);
            again.need(Kind::Chunk, &name);
        });
        assert!((0..100_000).all(|number| watch.is_needed(Kind::Chunk, &name(number))));
        let wrong = |watch: &Watch| -> Vec<u64> {
            (200_000..300_000).filter(|number| watch.is_needed(Kind::Chunk, &name(*number))).collect()
        };
        let (first, second) = (wrong(&watch), wrong(&again));
        assert!(first.len() < 400, "{} of 100,000", first.len());
        let both = first.iter().filter(|number| second.contains(number)).count();
        assert!(both <= 20, "{both} are kept by two runs");
        watch.need(Kind::MapNode, &name(1));
        watch.note(Kind::MapNode, &name(1));
        watch.note(Kind::SequenceNode, &name(2));
        assert_eq!(watch.take(1), [(Kind::SequenceNode, name(2))]);
        assert!(!watch.is_walked());
        assert_eq!(watch.take(9), [(Kind::MapNode, name(1))]);
        assert!(watch.is_walked() && watch.nodes() == 2);
        watch.make_blind();
        watch.note(Kind::MapNode, &name(3));
        assert!(!watch.is_needed(Kind::MapNode, &name(3)));
    }

    #[test]
    fn too_many_nodes_are_told() {
        let options = WatchOptions { nodes_max: 2, ..WatchOptions::default() };
        let watch = Watch::new(&options, 1, 7, ContainerId(1));
        (0..3).for_each(|number| watch.need(Kind::MapNode, &name(number)));
        assert!(watch.is_overflown());
    }
}
