//! What a share holds in sum, kept exact by every operation so that nobody has to walk to know it.

use bytes::Bytes;

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

/// Moves the totals: so many files, directories and bytes more or less. Nothing is written where nothing moves.
pub(super) fn adjust(table: &mut dyn Table, files: i64, directories: i64, bytes: i128) -> Result<()> {
    if (files, directories, bytes) == (0, 0, 0) {
        return Ok(());
    }
    let old = totals(table)?;
    let new = (|| {
        Some(Totals {
            files: old.files.checked_add_signed(files)?,
            directories: old.directories.checked_add_signed(directories)?,
            logical_bytes: u64::try_from(i128::from(old.logical_bytes).checked_add(bytes)?).ok()?,
        })
    })();
    let new = new.ok_or_else(|| damaged(Place::Totals, "sums that cover what is removed", format_args!("{old:?}")))?;
    table.put(Key::Totals.encode(), new.encode());
    Ok(())
}
