//! Stage 4: cutting. Bytes become chunks and holes, and where the cuts fall is a pure function of the bytes.
//!
//! * A *hole* is a run of zero bytes, at least [`ZERO_RUN_BYTES`] long where it begins behind a cut. It is described,
//!   never stored. It reaches as far as the zeros do.
//! * A *chunk* is what lies between: FastCDC (Xia et al., USENIX ATC 2016) decides where it ends, or the beginning of a
//!   hole, or the end of the content.
//!
//! What is promised, and relied on by `tree::sequence` (its splice) and by replication:
//!
//! * **Canonical.** A content has one sequence of chunks and holes, however its bytes arrived.
//! * **No memory.** A cut depends on the bytes behind the cut before it, and on nothing else. Cutting that starts anew
//!   at any cut gives the same cuts from there on.
//! * **Settled by its own bytes.** Where FastCDC ends a chunk, it was the chunk's own bytes that said so: the byte which
//!   triggered the cut is the chunk's last one. No byte behind it can undo that cut, so a chunk that was cut once is
//!   known to be a chunk wherever cutting reaches its beginning. [`Ending`] says so.
//! * **Bounded.** [`Cutter::window_bytes`] bytes are always enough to decide.
//!
//! A chunk never has a run of [`ZERO_RUN_BYTES`] zeros inside. Cuts never look at a clock, a setting other than
//! [`ChunkSizes`], or at what is stored already. `docs/formats/cutting.md` owns the rules.

mod cut;
mod feed;
mod sketch;
#[cfg(test)]
mod tests;
mod zeros;

pub use cut::{Cut, Cutter, Ending};
pub use feed::{Fed, Feed};
pub use sketch::{FEATURES, SKETCH_BYTES, Sketch};
pub use zeros::{ZERO_RUN_BYTES, leading_zeros};

use crate::error::{Refusal, Result};

/// The largest chunk that any setting may give, in bytes. Whoever holds one chunk in memory holds at most this.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// How long chunks may be and are on average, in bytes. A setting of the store: two stores that differ in it share
/// little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    min: usize,
    avg: usize,
    max: usize,
}

impl ChunkSizes {
    /// What `docs/decisions/0002-chunk-size.md` chose: 16 KiB on average.
    pub const DEFAULT: ChunkSizes = ChunkSizes { min: 4 << 10, avg: 16 << 10, max: 64 << 10 };

    /// The sizes around an average of 4, 8, 16, … 256 KiB: a quarter of it at least, four times it at most. Refused
    /// where `avg_bytes` is none of these.
    pub fn around(avg_bytes: usize) -> Result<Self> {
        if !avg_bytes.is_power_of_two() || !(4 << 10..=256 << 10).contains(&avg_bytes) {
            return Err(Refusal::Invalid(format!(
                "an average chunk size of {avg_bytes} bytes: it must be a power of two from 4096 to 262144"
            ))
            .into());
        }
        Ok(ChunkSizes { min: avg_bytes / 4, avg: avg_bytes, max: avg_bytes * 4 })
    }
    /// Sizes so small that small contents make deep trees.
    #[cfg(test)]
    pub(crate) const TINY: ChunkSizes = ChunkSizes { min: 256, avg: 512, max: 4096 };

    /// A chunk that FastCDC ends is longer than this.
    pub fn min_bytes(&self) -> usize {
        self.min
    }
    /// What FastCDC aims at.
    pub fn avg_bytes(&self) -> usize {
        self.avg
    }
    /// No chunk is longer.
    pub fn max_bytes(&self) -> usize {
        self.max
    }
}

impl Default for ChunkSizes {
    fn default() -> Self {
        ChunkSizes::DEFAULT
    }
}
