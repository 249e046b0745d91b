//! What all values of the namespace have in common: a tag in front, and checked reading.

use std::fmt;

use bytes::Bytes;

use super::damaged;
use crate::codec::{Malformed, Reader};
use crate::error::{Refusal, Result};
use crate::units::Inode;

/// The first byte of every value. A changed layout takes a new tag, so the tag is the version, too.
pub mod tag {
    /// The record of an inode, version 1.
    pub const RECORD: u8 = 0x01;
    /// An entry by name, version 1.
    pub const ENTRY: u8 = 0x02;
    /// An entry by cookie, version 1.
    pub const LISTED: u8 = 0x03;
    /// A piece of a symlink's target, version 1.
    pub const TARGET: u8 = 0x04;
    /// The totals, version 1.
    pub const TOTALS: u8 = 0x05;
    /// The content of a file, which drain owns.
    pub const CONTENT: u8 = crate::tree::CONTENT_TAG;
    /// All that is not a newer version's: the tags above, and 0, which never is one.
    pub const KNOWN: [u8; 7] = [0, RECORD, ENTRY, LISTED, TARGET, TOTALS, CONTENT];
}

/// Which value is being read; completes the sentence "damage in namespace, …".
#[derive(Clone, Copy)]
pub enum Place {
    /// The record of an inode.
    Record(Inode),
    /// An entry of a directory.
    Entry(Inode),
    /// A listing of a directory.
    Listed(Inode),
    /// A piece of a symlink's target.
    Target(Inode),
    /// The totals.
    Totals,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Record(inode) => write!(f, "inode {inode}"),
            Place::Entry(dir) => write!(f, "entry of directory {dir}"),
            Place::Listed(dir) => write!(f, "listing of directory {dir}"),
            Place::Target(inode) => write!(f, "target of symlink {inode}"),
            Place::Totals => f.write_str("totals"),
        }
    }
}

/// Reads a value that must carry `tag`, to its last byte. Bytes that no writer makes are damage; a tag that is not known
/// was written by a newer version and is refused.
pub fn decode<T>(
    value: &Bytes,
    tag: u8,
    place: Place,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<T> {
    let mut reader = Reader::new(value, "value");
    let malformed = |malformed: Malformed| damaged(place, "a sound value", format_args!("{malformed}"));
    match reader.u8().map_err(malformed)? {
        found if found == tag => {}
        found if !tag::KNOWN.contains(&found) => {
            return Err(Refusal::Unsupported(format!(
                "{place} was written by a newer version (value tag {found:#04x}): update the box"
            ))
            .into());
        }
        found => return Err(damaged(place, format_args!("value tag {tag:#04x}"), format_args!("{found:#04x}"))),
    }
    let read = read(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(read)
}
