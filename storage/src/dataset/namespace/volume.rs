//! The namespace of a volume: no names at all. Its root inode is a regular file, whose size is the volume's and whose content
//! is what the block device holds.

use super::inode::{Body, Record};
use super::key::Key;
use super::totals::{self, Totals, totals};
use super::{Table, View, damaged};
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

/// Writes the state of a new volume of `size` bytes into an empty table.
pub fn format_volume(table: &mut dyn Table, size: u64, now: Timestamp) {
    let root = Record {
        mode: 0o600,
        links: 1,
        uid: 0,
        gid: 0,
        size,
        accessed: now,
        modified: now,
        changed: now,
        body: Body::Regular { used: 0, verifier: None },
    };
    root.store(table, Inode::ROOT);
    table.put(Key::Totals.encode(), Totals { files: 1, directories: 0, logical_bytes: size }.encode());
}

/// Gives a volume another size.
pub fn resize_volume(table: &mut dyn Table, size: u64, now: Timestamp) -> Result<()> {
    let old = load(table)?;
    let new = Record { size, modified: now, changed: now, ..old.clone() };
    totals::follow(table, Some(&old), Some(&new))?;
    new.store(table, Inode::ROOT);
    Ok(())
}

/// The size of a volume in bytes. Refused with `WrongType` where the table is that of a share.
pub fn volume_size(view: &dyn View) -> Result<u64> {
    load(view).map(|record| record.size)
}

/// True where the table is that of a volume.
pub fn is_volume(view: &dyn View) -> Result<bool> {
    Ok(matches!(Record::load(view, Inode::ROOT)?.body, Body::Regular { .. }))
}

/// Checks that a table holds one volume and nothing beside it. Its content is not looked at.
pub fn check_volume(view: &dyn View) -> Result<Totals> {
    let size = volume_size(view)?;
    let sums = Totals { files: 1, directories: 0, logical_bytes: size };
    let noted = totals(view)?;
    if noted != sums {
        return Err(damaged("the totals of a volume", format_args!("{sums:?}"), format_args!("{noted:?}")));
    }
    let end = [0xff; super::KEY_BYTES_MAX + 1];
    for (key, _) in view.range(&[], &end, 4)? {
        if !matches!(Key::parse(&key), Some(Key::Totals | Key::Record(Inode::ROOT) | Key::Content(Inode::ROOT))) {
            return Err(damaged("a volume", "no key but its own", format_args!("{key:02x?}")));
        }
    }
    Ok(sums)
}

fn load(view: &dyn View) -> Result<Record> {
    let record = Record::load(view, Inode::ROOT)?;
    match record.body {
        Body::Regular { .. } => Ok(record),
        _ => Err(Refusal::WrongType.into()),
    }
}
