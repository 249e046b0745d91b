//! The POSIX namespace of a share, as pure logic over a table of keys and values.
//!
//! Every operation is a function from the table and the call to a result. It reads through [`View`], it writes through
//! [`Table`], and it holds nothing between two calls. The share embeds it: under its lock it hands in a transaction over
//! the layered state, and when the operation returns `Ok` it journals the edits as one record and applies them; when it
//! returns `Err` it throws the transaction away. So an operation happens whole or not at all.
//!
//! ```text
//! lookup  access  read_link  read_dir        read.rs, permission.rs     View   -> facts
//! create  make_dir  make_symlink  make_node  make.rs       \
//! remove  remove_dir  link                   unlink.rs, link.rs  } Table  -> Outcome { value, effect }
//! rename                                     rename.rs     /
//! set_attributes  wrote                      attributes.rs /
//! ```
//!
//! Promises, after every operation that returned `Ok`:
//!
//! * every entry names an inode that is there, and every inode but the root has as many entries as its link count says
//!   (a directory: one entry, and two links plus one for each subdirectory);
//! * every entry stands in its directory twice: by name, and by cookie with the same inode and name; a cookie is never
//!   given out twice in a directory, and a name that is replaced by `rename` keeps its cookie;
//! * a directory's `parent` is where its entry is, its `size` is how many entries it has, and no directory is below itself;
//! * the [`Totals`] are exact.
//!
//! A volume has the same table with nothing in it but a root that is a regular file (`volume.rs`).
//!
//! [`check`] proves these of any table. Errors come in the order in which Linux makes its checks: first what it takes to
//! walk to the name (type, search permission, length), then whether the name is there, then permission to change the
//! directory, then the type of the victim, then the rest.
//!
//! What is never done here: file contents are neither read nor written. Where an operation cuts, extends or drops a
//! file, its outcome says so ([`Effect`]) and the share does it in the same step.
//!
//! `docs/formats/namespace.md` owns the bytes of keys and values.

mod attributes;
mod check;
mod entry;
mod inode;
mod key;
mod link;
mod make;
mod permission;
mod read;
mod rename;
#[cfg(test)]
mod tests;
mod totals;
mod unlink;
mod value;
mod volume;

use bytes::Bytes;

use super::Attributes;
use crate::error::{Damage, Error, Refusal, Result};
use crate::units::Inode;

pub use attributes::{set_attributes, wrote};
pub use check::{check, check_changed, owner_of};
pub use entry::{Entry, Listed};
pub use inode::{Body, Record};
pub use key::{KEY_BYTES_MAX, Key, all_of as keys_of};
pub use link::link;
pub use make::{create, format, make_dir, make_node, make_symlink};
pub use permission::{access, allow_read, allow_write};
pub use read::{attributes, lookup, read_dir, read_link};
pub use rename::rename;
pub use totals::{Totals, totals, totals_after};
pub use unlink::{remove, remove_dir};
pub use volume::{check_volume, format_volume, is_volume, resize_volume, volume_size};

/// The largest link count, of a file as of a directory: what fits a signed 32-bit number, as XFS has it. NFS reports it
/// as `linkmax`.
pub const LINKS_MAX: u32 = i32::MAX as u32;

/// A readable state of a share: ordered keys to values.
pub trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;
    /// The first `limit` pairs of `from..to` (without `to`), in the order of their keys.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>>;
}

/// A transaction over a state: reads see the edits that were made so far.
pub trait Table: View {
    /// Sets the value of a key.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);
    /// Removes a key; one that is not there is no error.
    fn delete(&mut self, key: Vec<u8>);
    /// A number that no file of this dataset ever had.
    fn next_inode(&mut self) -> Inode;
}

/// What an operation found or made, and what it asks the share to do to file contents in the same atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome<T> {
    /// What the caller is told.
    pub value: T,
    /// What the share must do.
    pub effect: Option<Effect>,
}

impl<T> Outcome<T> {
    fn plain(value: T) -> Self {
        Outcome { value, effect: None }
    }
}

/// A consequence for the content of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The file's length is now `size`: cut what lies behind, or extend with a hole.
    Truncate {
        /// The file.
        inode: Inode,
        /// Its new length in bytes.
        size: u64,
    },
    /// The last name of a regular file is gone, and its record and content key with it: forget its data.
    Dropped {
        /// The file that was.
        inode: Inode,
    },
}

/// The attributes of one inode before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub before: Attributes,
    /// After.
    pub after: Attributes,
}

/// A file that has a new name (or had it already), and what that did to its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The file.
    pub file: Attributes,
    /// Its directory.
    pub dir: Change,
}

/// One component of a path, as POSIX tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Component<'a> {
    /// `.`
    Current,
    /// `..`
    Parent,
    /// Any other: 1 to 255 bytes without `/` and NUL.
    Normal(&'a [u8]),
}

impl<'a> Component<'a> {
    /// Refuses what cannot be a name: empty, over 255 bytes, with a `/` or a NUL in it.
    fn parse(name: &'a [u8]) -> Result<Self> {
        match name {
            b"" => Err(Refusal::Invalid("a file name has at least one byte".into()).into()),
            b"." => Ok(Component::Current),
            b".." => Ok(Component::Parent),
            _ if name.len() > super::NAME_BYTES_MAX => Err(Refusal::NameTooLong.into()),
            _ if name.iter().any(|byte| matches!(byte, 0 | b'/')) => {
                Err(Refusal::Invalid("a file name has neither a slash nor a zero byte in it".into()).into())
            }
            _ => Ok(Component::Normal(name)),
        }
    }
}

/// How a name is written in an error message.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A value of the namespace that contradicts another one, or itself.
fn damaged(place: impl std::fmt::Display, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Error {
    Damage::new(format!("namespace, {place}"), 0, expected, found).into()
}
