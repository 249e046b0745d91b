//! What a share holds in sum, kept exact by every operation so that nobody has to walk to know it.

use super::entry::{Cursor, Place, tag};
use super::key::Key;
use super::{Table, View, damaged};
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
        for number in [self.files, self.directories, self.logical_bytes] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        value
    }

    /// Reads the value.
    pub fn decode(value: &[u8]) -> Result<Totals> {
        let mut cursor = Cursor::open(value, tag::TOTALS, Place::Totals)?;
        let totals = Totals {
            files: u64::from_le_bytes(cursor.array()?),
            directories: u64::from_le_bytes(cursor.array()?),
            logical_bytes: u64::from_le_bytes(cursor.array()?),
        };
        cursor.finish()?;
        Ok(totals)
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
