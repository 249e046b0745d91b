//! Sequence trees: the contents of files and volumes, as chunks, holes and inline bytes in order.
//!
//! A [`Content`] is a value that lies in a map: a short one carries its entries itself, a long one names the root of a
//! tree whose inner nodes sum up the lengths below them. What is promised:
//!
//! * **Canonical.** One content, cut by one cutter, is one [`Content`], byte for byte: equal contents have equal roots,
//!   and [`splice`] gives what cutting the whole new content from scratch would give.
//! * **Local.** [`read`] and [`splice`] cost one path and the neighbourhood of what is asked for; node ends depend on
//!   the node's own entries alone, so a change leaves the nodes behind it as they were. Holes cost nothing, whatever
//!   their length.
//! * **Bounded.** Memory is a few nodes, one window of the cutter and one batch of chunks, also for a terabyte.
//! * Nothing read is trusted: lengths, levels and sums are checked, and no length is believed before.
//!
//! Never here: which chunks are stored already (the pool knows), and byte-shifting edits: bytes stay at their offsets.
//!
//! `docs/formats/sequence-tree.md` owns the bytes.

mod build;
mod content;
mod cursor;
mod diff;
mod format;
#[cfg(test)]
mod page;
mod read;
mod splice;
#[cfg(test)]
mod tests;

pub(super) use build::rebuild;
#[cfg(test)]
pub(super) use build::wrap_for_tests;
pub use content::Content;
pub use diff::{Differences, diff};
pub use format::{CONTENT_BYTES_MAX, Child, Entry, INLINE_BYTES_MAX, Items, Node};
pub use read::{Entries, Piece, Pieces, entries, read};
pub use splice::{Patch, PutChunks, Source, SpliceStats, splice};
