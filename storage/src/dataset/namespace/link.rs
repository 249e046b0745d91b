//! One more name for a file.

use super::entry;
use super::inode::Record;
use super::make::vacancy;
use super::{Change, LINKS_MAX, NewEntry, Outcome, Table};
use crate::dataset::Call;
use crate::error::{Refusal, Result};
use crate::units::Inode;

/// Gives a file one more name. Directories have one name: `NotPermitted`. Moves the file's `changed`, and the
/// directory's times.
pub fn link(table: &mut dyn Table, call: &Call, inode: Inode, dir: Inode, name: &[u8]) -> Result<Outcome<NewEntry>> {
    let mut record = Record::load(table, inode)?;
    let (name, mut dir_record) = vacancy(table, call, dir, name)?;
    if record.is_dir() {
        return Err(Refusal::NotPermitted.into());
    }
    if record.links >= LINKS_MAX {
        return Err(Refusal::TooManyLinks.into());
    }
    let before = dir_record.attributes(dir);
    entry::add(table, dir, &mut dir_record, name, inode, call.now)?;
    record.links += 1;
    record.changed = call.now;
    record.store(table, inode);
    dir_record.store(table, dir);
    let dir = Change { before, after: dir_record.attributes(dir) };
    Ok(Outcome::plain(NewEntry { file: record.attributes(inode), dir }))
}
