//! What was written to one file since the layer below: non-overlapping extents over the older content.
//!
//! A pure value: it holds where bytes are, reads nothing, and asks nobody. Invariants:
//! * extents are sorted, do not overlap, and none is empty;
//! * below [`Extents::base_limit`] the layer below shows through the gaps, beyond it gaps are zeros;
//! * a run of memory that a cutter *claimed* is replaced by chunks only where no later write or truncation touched it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::chunk::Ending;
use crate::journal;
use crate::name::Name;

/// Where the bytes of an extent are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In memory; `stamp` tells this write from every other one, `claimed` that a cutter works on it. `buffer` is the
    /// length of what these bytes are a slice of and keep alive.
    Memory { bytes: Bytes, buffer: usize, stamp: u64, claimed: bool },
    /// In a payload of the journal, from byte `skip` of it.
    Journal { place: journal::Place, skip: u32 },
    /// In a chunk, from byte `skip` of it.
    Chunk { chunk: ChunkRef, skip: u32 },
    /// Nowhere: zeros.
    Hole,
}

/// A chunk that the drain may take over as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    pub name: Name,
    pub len: u32,
    /// What ended it when it was cut, so that the drain knows whether it would be cut again; `None` where its beginning
    /// is not sure either.
    pub cut: Option<Ending>,
}

/// One extent; its offset is its key.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub len: u64,
    pub place: Place,
    /// True once a journal record describes it.
    pub journaled: bool,
}

impl Place {
    /// Bytes as they came with a write.
    pub fn memory(bytes: Bytes, stamp: u64) -> Place {
        Place::Memory { buffer: bytes.len(), bytes, stamp, claimed: false }
    }
}

impl Extent {
    /// The part `[from, to)` of this extent, in bytes from its start.
    fn part(&self, from: u64, to: u64) -> Extent {
        let place = match &self.place {
            Place::Memory { bytes, buffer, stamp, claimed } => {
                let bytes = bytes.slice(from as usize..to as usize);
                Place::Memory { bytes, buffer: *buffer, stamp: *stamp, claimed: *claimed }
            }
            Place::Journal { place, skip } => Place::Journal { place: *place, skip: skip + from as u32 },
            Place::Chunk { chunk, skip } => Place::Chunk { chunk: *chunk, skip: skip + from as u32 },
            Place::Hole => Place::Hole,
        };
        Extent { len: to - from, place, journaled: self.journaled }
    }

    /// The same with bytes of its own where less than half of their buffer is left: a slice keeps the whole buffer alive,
    /// which nobody counts. So memory is at most twice what is counted, and a buffer that is overwritten piece by piece is
    /// copied at most once in all (halves, quarters, and so on), not once for each piece.
    fn lean(mut self) -> Extent {
        if let Place::Memory { bytes, buffer, .. } = &mut self.place
            && bytes.len() < *buffer / 2
        {
            *bytes = Bytes::copy_from_slice(bytes);
            *buffer = bytes.len();
        }
        self
    }

    fn memory_bytes(&self) -> u64 {
        if let Place::Memory { .. } = self.place { self.len } else { 0 }
    }

    /// What it costs in memory: its bytes, if that is where they are, and the rest.
    pub fn cost_bytes(&self) -> u64 {
        self.memory_bytes() + EXTENT_OVERHEAD_BYTES
    }

    /// True for memory that no cutter has taken and no journal record describes.
    fn is_open(&self) -> bool {
        matches!(self.place, Place::Memory { claimed: false, .. }) && !self.journaled
    }

    /// True where a cutter was, or is.
    fn is_cut(&self) -> bool {
        matches!(self.place, Place::Chunk { .. } | Place::Hole | Place::Memory { claimed: true, .. })
    }
}

/// A run of memory that a cutter took: what it is to cut, and the stamps that prove later that it is still there.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Offset in the file where the run begins.
    pub offset: u64,
    /// The run's bytes, in order.
    pub pieces: Vec<Bytes>,
    /// The writes that the bytes are from.
    pub stamps: Vec<u64>,
    /// True where the run reaches the end of the file.
    pub to_end: bool,
}

/// How long a run of memory has to be, and may be, to be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunBytes {
    /// At least, where it begins at a cut.
    pub anchored: u64,
    /// At least, anywhere else.
    pub loose: u64,
    /// At most, but for the last extent.
    pub max: u64,
}

impl Claim {
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// Everything written to one file in one layer.
#[derive(Debug)]
pub(crate) struct Extents {
    map: BTreeMap<u64, Extent>,
    base_limit: u64,
    memory_bytes: u64,
    /// Offsets of the extents that no journal record describes yet.
    pending: BTreeSet<u64>,
    /// Those of them that are memory which no cutter has taken. A large file has many that wait as chunks.
    open: BTreeSet<u64>,
    /// Together so long.
    open_bytes: u64,
}

/// What an extent costs in memory beside its bytes; measured as a B-tree slot with its share of the node.
pub(crate) const EXTENT_OVERHEAD_BYTES: u64 = 128;

impl Default for Extents {
    fn default() -> Self {
        Extents {
            map: BTreeMap::new(),
            base_limit: u64::MAX,
            memory_bytes: 0,
            pending: BTreeSet::new(),
            open: BTreeSet::new(),
            open_bytes: 0,
        }
    }
}

impl Extents {
    /// Bytes of the layer below that still show through gaps; `u64::MAX` where nothing was cut off.
    pub fn base_limit(&self) -> u64 {
        self.base_limit
    }

    /// Bytes held in memory, with what the extents themselves cost.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes + self.map.len() as u64 * EXTENT_OVERHEAD_BYTES
    }

    /// Bytes in memory that no cutter has taken and no journal record describes.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// True where some extent is not in the journal yet.
    pub fn has_unjournaled(&self) -> bool {
        !self.pending.is_empty()
    }

    /// All extents in order.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Extent)> {
        self.map.iter().map(|(offset, extent)| (*offset, extent))
    }

    /// The parts of extents within `[from, to)`, in order.
    pub fn range(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Extent)> + '_ {
        let first = self.map.range(..=from).next_back().map_or(from, |(offset, _)| *offset);
        self.map.range(first..to).filter_map(move |(offset, extent)| {
            let start = from.max(*offset);
            let end = to.min(offset + extent.len);
            (start < end).then(|| (start, extent.part(start - offset, end - offset)))
        })
    }

    /// The chunks that extents lie in, in order, with repetitions.
    pub fn chunks(&self) -> impl Iterator<Item = Name> + '_ {
        self.map.values().filter_map(|extent| match &extent.place {
            Place::Chunk { chunk, .. } => Some(chunk.name),
            _ => None,
        })
    }

    /// Puts an extent over whatever was there.
    pub fn insert(&mut self, offset: u64, extent: Extent) {
        if extent.len == 0 {
            return;
        }
        self.clear(offset, offset + extent.len, Extent::lean);
        self.add(offset, extent);
    }

    /// Cuts the file off at `size`: nothing of this or a lower layer shows beyond, even if the file grows again.
    pub fn truncate(&mut self, size: u64) {
        self.clear(size, u64::MAX, Extent::lean);
        self.base_limit = self.base_limit.min(size);
    }

    /// Lets go of what lies behind `size` in this layer, without hiding the layer below. Returns whether there was any.
    pub fn drop_beyond(&mut self, size: u64) -> bool {
        let any = self.map.last_key_value().is_some_and(|(offset, extent)| offset + extent.len > size);
        if any {
            self.clear(size, u64::MAX, Extent::lean);
        }
        any
    }

    /// The extents that no journal record describes yet, in order. Claimed memory is among them: it must not be missing
    /// from the journal if its cutter comes too late.
    pub fn pending(&self) -> Vec<(u64, Extent)> {
        let extent = |offset: &u64| self.map.get(offset).map(|extent| (*offset, extent.clone()));
        self.pending.iter().filter_map(extent).collect()
    }

    /// Notes that a journal record describes `[from, to)` now.
    pub fn set_journaled(&mut self, from: u64, to: u64) {
        let done: Vec<u64> = self.pending.range(from..to).copied().collect();
        for offset in done {
            self.pending.remove(&offset);
            if let Some(extent) = self.map.get_mut(&offset) {
                if self.open.remove(&offset) {
                    self.open_bytes -= extent.len;
                }
                extent.journaled = true;
            }
        }
    }

    /// Remembers where the journal keeps a payload, and lets go of the memory.
    pub fn moved_to_journal(&mut self, offset: u64, len: u64, place: journal::Place) {
        if let Some(extent) = self.map.get_mut(&offset)
            && extent.len == len
            && let Place::Memory { .. } = extent.place
        {
            self.memory_bytes -= len;
            extent.place = Place::Journal { place, skip: 0 };
        }
    }

    /// Finds the run of unclaimed, unjournaled memory around `near`, if it is long enough to be cut: `min.anchored`
    /// bytes where it begins at the file's start or directly behind what was cut or claimed before (there cuts are
    /// known to be met again), else `min.loose` bytes, by which writes that came out of order have found their place.
    /// A longer run is taken in parts of `min.max` bytes, from its beginning. Marks nothing: see
    /// [`Extents::set_claimed`]. Looks at no extent outside the run but its neighbours.
    pub fn find_run(&self, near: u64, min: RunBytes, file_size: u64) -> Option<Claim> {
        let mut start = *self.map.range(..=near).next_back()?.0;
        if !self.map.get(&start).is_some_and(Extent::is_open) {
            return None;
        }
        let mut anchored = start == 0;
        for (offset, extent) in self.map.range(..start).rev() {
            if offset + extent.len != start {
                break;
            }
            if !extent.is_open() {
                anchored = extent.is_cut();
                break;
            }
            start = *offset;
            anchored = start == 0;
        }
        let mut claim = Claim { offset: start, pieces: Vec::new(), stamps: Vec::new(), to_end: false };
        let mut end = start;
        for (offset, extent) in self.map.range(start..) {
            let Place::Memory { bytes, stamp, .. } = &extent.place else { break };
            if *offset != end || !extent.is_open() || end - start >= min.max {
                break;
            }
            claim.pieces.push(bytes.clone());
            claim.stamps.push(*stamp);
            end += extent.len;
        }
        claim.to_end = end == file_size;
        (end - start >= if anchored { min.anchored } else { min.loose }).then_some(claim)
    }

    /// The end of the run of memory around `near` that could still be cut.
    pub fn open_end(&self, near: u64) -> u64 {
        let mut end = near + 1;
        for (offset, extent) in self.map.range(near..) {
            if *offset > end || !extent.is_open() {
                break;
            }
            end = end.max(offset + extent.len);
        }
        end
    }

    /// The offset of the first extent at or behind `from` that could still be cut before it is journaled.
    pub fn next_open(&self, from: u64) -> Option<u64> {
        self.open.range(from..).next().copied()
    }

    /// Marks the memory in `[from, to)` as being cut, or (with `claimed` false) gives it back; extents are split at the
    /// edges. Only memory of the writes in `stamps` is touched. What is given back does not keep a large buffer: it may wait
    /// long, and what it was split off from is about to become a chunk.
    pub fn set_claimed(&mut self, from: u64, to: u64, stamps: &[u64], claimed: bool) {
        let parts: Vec<_> = self.range(from, to).collect();
        for (offset, mut extent) in parts {
            if let Place::Memory { claimed: flag, stamp, .. } = &mut extent.place
                && stamps.contains(stamp)
            {
                *flag = claimed;
                self.clear(offset, offset + extent.len, std::convert::identity);
                self.add(offset, if claimed { extent } else { extent.lean() });
            }
        }
    }

    /// Replaces claimed memory by the chunk (or hole) that was cut from it. Only where every byte of the range is still the claimed
    /// memory with one of `stamps`; otherwise a later change won and nothing happens. Returns whether it was replaced.
    pub fn replace_claimed(&mut self, offset: u64, len: u64, place: Place, stamps: &[u64]) -> bool {
        let mut covered = 0;
        let mut all_journaled = true;
        for (_, extent) in self.range(offset, offset + len) {
            match extent.place {
                Place::Memory { stamp, claimed: true, .. } if stamps.contains(&stamp) => covered += extent.len,
                _ => return false,
            }
            all_journaled &= extent.journaled;
        }
        if covered == len && len > 0 {
            // What is left beside it waits for the next of its chunks.
            self.clear(offset, offset + len, std::convert::identity);
            self.add(offset, Extent { len, place, journaled: all_journaled });
        }
        covered == len
    }

    fn add(&mut self, offset: u64, extent: Extent) {
        self.memory_bytes += extent.memory_bytes();
        if !extent.journaled {
            self.pending.insert(offset);
        }
        if extent.is_open() {
            self.open.insert(offset);
            self.open_bytes += extent.len;
        }
        self.map.insert(offset, extent);
    }

    fn take(&mut self, offset: u64) -> Option<Extent> {
        let extent = self.map.remove(&offset)?;
        self.memory_bytes -= extent.memory_bytes();
        self.pending.remove(&offset);
        if self.open.remove(&offset) {
            self.open_bytes -= extent.len;
        }
        Some(extent)
    }

    /// Removes everything in `[from, to)`, keeping what sticks out on either side, passed through `keep`.
    fn clear(&mut self, from: u64, to: u64, keep: fn(Extent) -> Extent) {
        let first = self.map.range(..=from).next_back().map_or(from, |(offset, _)| *offset);
        let touched: Vec<u64> = self.map.range(first..to).map(|(offset, _)| *offset).collect();
        for offset in touched {
            let Some(extent) = self.take(offset) else { continue };
            let end = offset + extent.len;
            if offset < from {
                self.add(offset, keep(extent.part(0, extent.len.min(from - offset))));
            }
            if end > to {
                self.add(to, keep(extent.part(to.max(offset) - offset, extent.len)));
            }
        }
    }
}

#[cfg(test)]
#[path = "extents_tests.rs"]
mod tests;
