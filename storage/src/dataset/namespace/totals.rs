//! What a share holds in sum, kept exact by every operation so that nobody has to walk to know it.

use bytes::Bytes;

use super::inode::{Body, Record};
use super::key::Key;
use super::value::{self, Place, tag};
use super::{Table, View, damaged};
use crate::codec::Put;
use crate::error::Result;

/// Sums over a whole share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inodes that are not directories; a file with several names counts once.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Lengths of all regular files, holes included.
    pub logical_bytes: u64,
}

impl Totals {
    /// The value's bytes.
    pub fn encode(self) -> Vec<u8> {
        let mut value = vec![tag::TOTALS];
        [self.files, self.directories, self.logical_bytes].into_iter().for_each(|number| value.put_u64(number));
        value
    }

    /// Reads the value.
    pub fn decode(value: &Bytes) -> Result<Totals> {
        value::decode(value, tag::TOTALS, Place::Totals, |reader| {
            Ok(Totals { files: reader.u64()?, directories: reader.u64()?, logical_bytes: reader.u64()? })
        })
    }
}

/// The totals of a share.
pub fn totals(view: &dyn View) -> Result<Totals> {
    match view.get(&Key::Totals.encode())? {
        Some(value) => Totals::decode(&value),
        None => Err(damaged(Place::Totals, "a record", "none")),
    }
}

/// The totals after one inode's record changed from `old` to `new`; `None` is an inode that is not there.
pub fn totals_after(totals: Totals, old: Option<&Record>, new: Option<&Record>) -> Result<Totals> {
    let (minus, plus) = (old.map_or_else(Totals::default, share_of), new.map_or_else(Totals::default, share_of));
    let moved = |sum: u64, minus: u64, plus: u64| sum.checked_sub(minus)?.checked_add(plus);
    let after = || {
        Some(Totals {
            files: moved(totals.files, minus.files, plus.files)?,
            directories: moved(totals.directories, minus.directories, plus.directories)?,
            logical_bytes: moved(totals.logical_bytes, minus.logical_bytes, plus.logical_bytes)?,
        })
    };
    after().ok_or_else(|| damaged(Place::Totals, "sums that cover what is removed", format_args!("{totals:?}")))
}

/// What one inode adds to the totals.
pub(super) fn share_of(record: &Record) -> Totals {
    let directories = u64::from(record.is_dir());
    let logical_bytes = if matches!(record.body, Body::Regular { .. }) { record.size } else { 0 };
    Totals { files: 1 - directories, directories, logical_bytes }
}

/// Keeps the totals right when one inode's record changes from `old` to `new`. Writes only what moves.
pub(super) fn follow(table: &mut dyn Table, old: Option<&Record>, new: Option<&Record>) -> Result<()> {
    if old.map(share_of) == new.map(share_of) {
        return Ok(());
    }
    let after = totals_after(totals(table)?, old, new)?;
    table.put(Key::Totals.encode(), after.encode());
    Ok(())
}
