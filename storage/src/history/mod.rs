//! Stage 2b: what was split off the journal for one dataset's window. `docs/formats/history.md` owns the bytes,
//! `docs/decisions/0015-history.md` says why.
//!
//! The journal is shared, and kept as it is while it is young. What only windows still need of it goes into files of the dataset
//! whose window it is: the same records, without those of other datasets, and without payload that lies in chunks anyway.
//!
//! ```text
//!   segment of the journal ──┬─ records of A ─▶ payload that A's next checkpoint has: by reference ─▶ block ─▶ A's file
//!   (every record drained)   └─ records of B ─▶ (B has no window) gone with the segment
//! ```
//!
//! It promises:
//! * What is read is what was split off: the same records with the same numbers, times and meaning, in order. Anything else is
//!   damage, named by file and offset.
//! * A file is safe when [`Writer::finish`] returns, but for its name, which is the caller's to sync.
//! * Memory: a block of at most 5.3 MiB while reading; while writing, what the caller hands in beside it.
//!
//! It never says which files there are: the catalogue does ([`crate::catalogue::History`]), and a byte that it does not count was
//! never written.

mod format;
mod read;
mod refer;
#[cfg(test)]
mod tests;
mod write;

use format::file_name;
pub(crate) use format::{FOLDER, parse_file_name};
pub(crate) use read::read;
pub(crate) use refer::Referrer;
pub(crate) use write::Writer;

/// The path of the file of a dataset that begins with a record.
pub(crate) fn path(dataset: crate::id::DatasetId, first: crate::units::Lsn) -> String {
    format!("{FOLDER}/{}", file_name(dataset, first))
}
