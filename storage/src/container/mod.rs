//! Stage 5: keeping. Files that hold objects, each written once from front to back, sealed, and never changed.
//!
//! ```text
//! Writer (open: buffered, read through it) ── seal ──▶ file with directory and footer, read by `reader`
//!        └─ crash ─▶ scan slot by slot ─▶ seal ─┘
//! ```
//!
//! Promises: a slot says everything about its object (name, kind, codec, lengths, checksums), so the index can be
//! rebuilt from containers alone. Bytes are handed out as they lie, with their slot; it is the pool that verifies them
//! against the name. This module never decides which names are present and never looks for duplicates.
//!
//! `docs/formats/container.md` owns the bytes.

use std::fmt;

use crate::id::ContainerId;
use crate::name::Kind;

/// LZ4 or raw, and back within bounds.
pub mod codec;
/// The bytes of headers, slots, directories and footers.
pub mod format;
/// Reading containers, and making sense of those that were never sealed.
pub mod reader;
/// A container that is being written.
pub mod writer;

/// Folder of all containers, within the data folder.
pub const CONTAINERS_DIR: &str = "containers";

/// What lives together: content in one sort of container, tree nodes in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Chunks of content.
    Data = 1,
    /// Nodes of trees.
    Node = 2,
}

impl Class {
    /// Both, in the order in which they are synced and admitted.
    pub const ALL: [Class; 2] = [Class::Data, Class::Node];

    /// Where objects of a kind live.
    pub fn of(kind: Kind) -> Class {
        if kind.is_node() { Class::Node } else { Class::Data }
    }
    /// Reads the number that stands for a class on disk.
    pub fn from_u8(number: u8) -> Option<Class> {
        Class::ALL.into_iter().find(|class| *class as u8 == number)
    }
    /// How files of this class end.
    pub fn extension(self) -> &'static str {
        match self {
            Class::Data => "data",
            Class::Node => "node",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

/// The folder of a container. 256 containers that follow one another share one, so that syncing folders is rare work.
pub fn dir(id: ContainerId) -> String {
    format!("{CONTAINERS_DIR}/{:02x}", (id.0 >> 8) & 0xff)
}

/// The file of a container, within the data folder.
pub fn path(id: ContainerId, class: Class) -> String {
    format!("{}/{id}.{class}", dir(id))
}

/// Reads a file name as [`path`] writes it (its last part).
pub fn parse_file_name(name: &str) -> Option<(ContainerId, Class)> {
    let (stem, extension) = name.split_once('.')?;
    let class = Class::ALL.into_iter().find(|class| class.extension() == extension)?;
    let id = ContainerId(u64::from_str_radix(stem, 16).ok()?);
    (id.to_string() == stem).then_some((id, class))
}

#[cfg(test)]
mod tests;
