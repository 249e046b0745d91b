//! One decision: where does the first chunk or hole of these bytes end?

use fastcdc::v2020::{Normalization, cut, select_masks};

use super::ChunkSizes;
use super::zeros::{ZERO_RUN_BYTES, first_run, leading_zeros};

/// The first chunk or hole of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A chunk of so many bytes.
    Chunk {
        /// Its length, at least 1.
        len: usize,
        /// What ended it.
        ending: Ending,
    },
    /// So many zero bytes, at least 1. Where they reach the end of what was handed in, the hole may go on: the next
    /// call says so with `open_hole`.
    Hole(usize),
    /// What was handed in does not decide: call again with more of what follows.
    NeedMore,
}

/// What ended a chunk. Whoever remembers it with the chunk knows later whether it would be cut again, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ending {
    /// Its own bytes: it is a chunk whatever follows.
    Own = 1,
    /// A hole: it is a chunk where a hole, a boundary or the end of the content follows.
    Hole = 2,
    /// A forced boundary or the end of the content: it is a chunk where one of these follows. (Before a hole it might end
    /// earlier, where its last bytes are zeros.)
    End = 3,
}

impl Ending {
    /// Reads the number that stands for it on disk.
    pub fn from_u8(number: u8) -> Option<Ending> {
        [Ending::Own, Ending::Hole, Ending::End].into_iter().find(|ending| *ending as u8 == number)
    }
}

/// Decides where chunks and holes end. A plain value: cheap to clone, shared by any number of contents.
#[derive(Clone, Debug)]
pub struct Cutter {
    sizes: ChunkSizes,
    boundary_every: Option<u64>,
    mask_s: u64,
    mask_l: u64,
}

impl Cutter {
    /// A cutter for files.
    pub fn new(sizes: ChunkSizes) -> Self {
        // Or a chunk might be zeros alone, and more zeros behind it would have made it the beginning of a hole: then its
        // own bytes would not settle its end. (That FastCDC does not end a chunk within fewer zeros is tested.)
        assert!(sizes.max >= ZERO_RUN_BYTES, "chunks that are shorter than a hole");
        let (mask_s, mask_l) = select_masks(sizes.avg, Normalization::Level1);
        Cutter { sizes, boundary_every: None, mask_s, mask_l }
    }
    /// A cutter that also cuts at every multiple of `bytes`, absolute in the content: for volumes, so that a cut is
    /// always met again soon. Each such block is cut as if it stood alone; holes on both sides of a boundary are
    /// one hole to whoever joins them. `bytes` must be at least 64 KiB.
    pub fn with_boundary_every(mut self, bytes: u64) -> Self {
        assert!(bytes >= 64 << 10, "a boundary every {bytes} bytes leaves no room for chunks");
        self.boundary_every = Some(bytes);
        self
    }
    /// The sizes it aims at.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }
    /// The distance of forced boundaries, if any.
    pub fn boundary_every(&self) -> Option<u64> {
        self.boundary_every
    }
    /// So many bytes always decide: [`Cutter::next`] never asks for more than this.
    pub fn window_bytes(&self) -> usize {
        self.sizes.max
    }
    /// How far the next forced boundary is from `at`; `u64::MAX` where there is none.
    pub fn to_boundary(&self, at: u64) -> u64 {
        self.boundary_every.map_or(u64::MAX, |every| every - at % every)
    }
    /// True where a cut is forced at `at`, whatever the bytes are.
    pub fn is_boundary(&self, at: u64) -> bool {
        self.boundary_every.is_some_and(|every| at.is_multiple_of(every))
    }

    /// The first chunk or hole of `bytes`, which begin at the cut `at` (an offset in the content, in bytes).
    ///
    /// `open_hole` says that a hole ends at `at` and may go on. `is_end` says that the content ends where `bytes` do;
    /// without it, nothing is ever cut because the bytes end: the answer is the same whatever follows.
    /// Empty `bytes` are [`Cut::NeedMore`].
    pub fn next(&self, bytes: &[u8], at: u64, open_hole: bool, is_end: bool) -> Cut {
        let to_boundary = self.to_boundary(at);
        let (bytes, is_end) = match usize::try_from(to_boundary) {
            Ok(limit) if limit <= bytes.len() => (&bytes[..limit], true),
            _ => (bytes, is_end),
        };
        if bytes.is_empty() {
            return Cut::NeedMore;
        }
        if bytes[0] == 0 {
            let zeros = leading_zeros(bytes);
            if zeros >= ZERO_RUN_BYTES || open_hole && !self.is_boundary(at) {
                return Cut::Hole(zeros);
            }
            if zeros == bytes.len() && !is_end {
                return Cut::NeedMore;
            }
        }
        self.next_chunk(bytes, is_end)
    }

    /// The first chunk of bytes that do not begin with a hole.
    fn next_chunk(&self, bytes: &[u8], is_end: bool) -> Cut {
        let ChunkSizes { min, avg, max } = self.sizes;
        let window = &bytes[..bytes.len().min(max)];
        let (hash, at) = cut(window, min, avg, max, self.mask_s, self.mask_l, self.mask_s << 1, self.mask_l << 1);
        // The crate answers with the offset of the byte that triggered. It becomes the chunk's last byte (not, as in the
        // paper, the first of the next): so that the chunk's own bytes settle its end.
        let found = at < window.len() || self.last_odd_byte_triggers(window.len(), hash);
        let len = window.len().min(at + 1);
        if let Some(run) = first_run(&window[..len]) {
            return Cut::Chunk { len: run, ending: Ending::Hole };
        }
        if found || len == max {
            return Cut::Chunk { len, ending: Ending::Own };
        }
        if is_end { Cut::Chunk { len, ending: Ending::End } } else { Cut::NeedMore }
    }

    /// The crate looks at pairs of bytes: where their number is odd it hashes the last one and leaves the test out. Without it,
    /// every other chunk would need a byte that follows it to be known as a chunk.
    fn last_odd_byte_triggers(&self, len: usize, hash: u64) -> bool {
        let ChunkSizes { min, avg, .. } = self.sizes;
        let mask = if len - 1 < avg { self.mask_s } else { self.mask_l };
        !len.is_multiple_of(2) && len > min && hash & mask == 0
    }
}
