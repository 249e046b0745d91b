//! Taking names away, and files with their last name.

use super::entry::{self, Entry};
use super::inode::{Body, Record};
use super::key::Key;
use super::permission::{enter, plain, require_removal};
use super::read::target_pieces;
use super::{Change, Component, Effect, Outcome, Table, damaged, totals};
use crate::dataset::Call;
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

/// Removes a name that is not a directory's, and with the last name the file. Moves the `changed` of a file that has
/// other names, and the directory's times.
pub fn remove(table: &mut dyn Table, call: &Call, dir: Inode, name: &[u8]) -> Result<Outcome<Change>> {
    let mut record = enter(table, call.caller, dir)?;
    let name = plain(name, |_| Refusal::IsDirectory)?;
    let Entry { inode, cookie } = Entry::get(table, dir, name)?;
    let victim = Record::load_named(table, dir, inode)?;
    require_removal(call.caller, &record, &victim)?;
    if victim.is_dir() {
        return Err(Refusal::IsDirectory.into());
    }
    let before = record.attributes(dir);
    entry::take(table, dir, &mut record, name, cookie, call.now)?;
    let effect = drop_link(table, inode, victim, call.now)?;
    record.store(table, dir);
    Ok(Outcome { value: Change { before, after: record.attributes(dir) }, effect })
}

/// Removes an empty directory. `.` is `Invalid` and `..` is `NotEmpty`, as POSIX has them.
pub fn remove_dir(table: &mut dyn Table, call: &Call, dir: Inode, name: &[u8]) -> Result<Outcome<Change>> {
    let mut record = enter(table, call.caller, dir)?;
    let name = plain(name, |dots| match dots {
        Component::Parent => Refusal::NotEmpty,
        _ => Refusal::Invalid("a directory cannot be removed by the name \".\"".into()),
    })?;
    let Entry { inode, cookie } = Entry::get(table, dir, name)?;
    let victim = Record::load_named(table, dir, inode)?;
    require_removal(call.caller, &record, &victim)?;
    if !victim.is_dir() {
        return Err(Refusal::NotDirectory.into());
    }
    if victim.size > 0 {
        return Err(Refusal::NotEmpty.into());
    }
    let before = record.attributes(dir);
    entry::take(table, dir, &mut record, name, cookie, call.now)?;
    drop_empty_dir(table, (dir, &mut record), inode, &victim)?;
    record.store(table, dir);
    Ok(Outcome::plain(Change { before, after: record.attributes(dir) }))
}

/// Takes one link from a file that is no directory. With the last one everything under its number goes.
pub(super) fn drop_link(
    table: &mut dyn Table,
    inode: Inode,
    mut record: Record,
    now: Timestamp,
) -> Result<Option<Effect>> {
    if record.links > 1 {
        record.links -= 1;
        record.changed = now;
        record.store(table, inode);
        return Ok(None);
    }
    totals::follow(table, Some(&record), None)?;
    table.delete(Key::Record(inode).encode());
    match record.body {
        Body::Regular { .. } => {
            table.delete(Key::Content(inode).encode());
            return Ok(Some(Effect::Dropped { inode }));
        }
        Body::Symlink { .. } => {
            (0..target_pieces(record.size)).for_each(|piece| table.delete(Key::Target(inode, piece).encode()));
        }
        _ => {}
    }
    Ok(None)
}

/// Takes an empty directory away, and its `..` from the links of the directory that it was in.
pub(super) fn drop_empty_dir(
    table: &mut dyn Table,
    (parent, parent_record): (Inode, &mut Record),
    dir: Inode,
    record: &Record,
) -> Result<()> {
    table.delete(Key::Record(dir).encode());
    parent_record.links = fewer_links(parent, parent_record.links)?;
    totals::follow(table, Some(record), None)
}

/// One link less for a directory that loses a subdirectory.
pub(super) fn fewer_links(dir: Inode, links: u32) -> Result<u32> {
    if links > 2 {
        return Ok(links - 1);
    }
    Err(damaged(format_args!("directory {dir}"), "a link for each subdirectory", format_args!("{links} links")))
}
