//! The two values of a directory entry, and what all values of the namespace share: their tags and checked reading.

use std::fmt;

use bytes::Bytes;

use super::inode::Record;
use super::key::Key;
use super::{Body, Table, View, damaged};
use crate::dataset::NAME_BYTES_MAX;
use crate::error::{Error, Refusal, Result};
use crate::units::{Inode, Timestamp};

/// The first byte of every value. A changed layout takes a new tag, so the tag is the version, too.
pub(super) mod tag {
    /// [`super::Record`], version 1.
    pub const RECORD: u8 = 0x01;
    /// [`super::Entry`], version 1.
    pub const ENTRY: u8 = 0x02;
    /// [`super::Listed`], version 1.
    pub const LISTED: u8 = 0x03;
    /// A piece of a symlink's target, version 1.
    pub const TARGET: u8 = 0x04;
    /// [`super::super::Totals`], version 1.
    pub const TOTALS: u8 = 0x05;
    /// The largest tag that this version writes, [`CONTENT`] aside.
    pub const LAST: u8 = TOTALS;
    /// The content of a file, which drain owns.
    pub const CONTENT: u8 = 0xC0;
}

/// What stands under `(directory, name)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file.
    pub inode: Inode,
    /// The entry's place in listings.
    pub cookie: u64,
}

impl Entry {
    /// The value's bytes.
    pub fn encode(self) -> Vec<u8> {
        [&[tag::ENTRY][..], &self.inode.0.to_le_bytes(), &self.cookie.to_le_bytes()].concat()
    }

    /// Reads the value of a name in `dir`.
    pub fn decode(dir: Inode, value: &[u8]) -> Result<Entry> {
        let mut cursor = Cursor::open(value, tag::ENTRY, Place::Entry(dir))?;
        let entry =
            Entry { inode: Inode(u64::from_le_bytes(cursor.array()?)), cookie: u64::from_le_bytes(cursor.array()?) };
        cursor.finish()?;
        Ok(entry)
    }

    /// The entry `name` of `dir`, where there is one.
    pub(super) fn find(view: &dyn View, dir: Inode, name: &[u8]) -> Result<Option<Entry>> {
        match view.get(&Key::Entry(dir, name).encode())? {
            Some(value) => Ok(Some(Entry::decode(dir, &value)?)),
            None => Ok(None),
        }
    }

    /// The entry `name` of `dir`; refused with `NotFound` where there is none.
    pub(super) fn get(view: &dyn View, dir: Inode, name: &[u8]) -> Result<Entry> {
        Entry::find(view, dir, name)?.ok_or_else(|| Refusal::NotFound(super::shown(name)).into())
    }
}

/// What stands under `(directory, cookie)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub inode: Inode,
    /// Its name.
    pub name: Bytes,
}

impl Listed {
    /// The value's bytes.
    pub fn encode(inode: Inode, name: &[u8]) -> Vec<u8> {
        [&[tag::LISTED][..], &inode.0.to_le_bytes(), name].concat()
    }

    /// Reads the value of a cookie in `dir`; the name is a slice of `value`.
    pub fn decode(dir: Inode, value: &Bytes) -> Result<Listed> {
        let mut cursor = Cursor::open(value, tag::LISTED, Place::Listed(dir))?;
        let inode = Inode(u64::from_le_bytes(cursor.array()?));
        let name = value.slice_ref(cursor.take_rest());
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(cursor.damage("a name of 1 to 255 bytes", name.len()));
        }
        Ok(Listed { inode, name })
    }
}

/// Adds `name` to a directory and moves the directory's times. The name must be free.
pub(super) fn add(
    table: &mut dyn Table,
    dir: Inode,
    record: &mut Record,
    name: &[u8],
    inode: Inode,
    now: Timestamp,
) -> Result<()> {
    let Body::Directory { next_cookie, .. } = &mut record.body else {
        return Err(Refusal::NotDirectory.into());
    };
    let cookie = *next_cookie;
    // 2^64 entries made in one directory: at a million a second, after half a million years.
    *next_cookie = cookie.checked_add(1).ok_or(Refusal::TooManyLinks)?;
    record.size += 1;
    table.put(Key::Entry(dir, name).encode(), Entry { inode, cookie }.encode());
    table.put(Key::Listed(dir, cookie).encode(), Listed::encode(inode, name));
    (record.modified, record.changed) = (now, now);
    Ok(())
}

/// Lets an existing entry of a directory name another file, under the same cookie, and moves the directory's times.
pub(super) fn replace(
    table: &mut dyn Table,
    dir: Inode,
    record: &mut Record,
    name: &[u8],
    entry: Entry,
    now: Timestamp,
) {
    table.put(Key::Entry(dir, name).encode(), entry.encode());
    table.put(Key::Listed(dir, entry.cookie).encode(), Listed::encode(entry.inode, name));
    (record.modified, record.changed) = (now, now);
}

/// Takes an entry out of a directory and moves the directory's times.
pub(super) fn take(
    table: &mut dyn Table,
    dir: Inode,
    record: &mut Record,
    name: &[u8],
    cookie: u64,
    now: Timestamp,
) -> Result<()> {
    record.size = record.size.checked_sub(1).ok_or_else(|| {
        damaged(format_args!("directory {dir}"), "as many entries as it counts", format_args!("one more, {name:?}"))
    })?;
    table.delete(Key::Entry(dir, name).encode());
    table.delete(Key::Listed(dir, cookie).encode());
    (record.modified, record.changed) = (now, now);
    Ok(())
}

/// Reads a value from its front. Every length is checked before it is believed.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    place: Place,
}

/// Which value is being read; completes the sentence "damage in namespace, …".
#[derive(Clone, Copy)]
pub(super) enum Place {
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

impl<'a> Cursor<'a> {
    /// Opens a value that must carry `expected` as its tag.
    pub fn open(value: &'a [u8], expected: u8, place: Place) -> Result<Self> {
        let cursor = Cursor { rest: value.get(1..).unwrap_or_default(), place };
        match value.first() {
            Some(&found) if found == expected => Ok(cursor),
            Some(&found) if found > tag::LAST && found != tag::CONTENT => Err(Refusal::Unsupported(format!(
                "{place} was written by a newer version (value tag {found:#04x}): update the box"
            ))
            .into()),
            found => Err(cursor.damage(format_args!("value tag {expected:#04x}"), format_args!("{found:02x?}"))),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(*bytes)
            }
            None => Err(self.damage(format_args!("{N} more bytes"), self.rest.len())),
        }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What is left, as read.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Refuses a value that goes on.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.damage("the end of the value", format_args!("{} more bytes", self.rest.len())))
    }

    /// Damage in this value.
    pub fn damage(&self, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        damaged(self.place, expected, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_and_listings_come_back_as_they_were() -> Result<()> {
        let entry = Entry { inode: Inode(77), cookie: u64::MAX };
        assert_eq!(Entry::decode(Inode(1), &entry.encode())?, entry);
        let value = Bytes::from(Listed::encode(Inode(77), b"\xff name"));
        assert_eq!(
            Listed::decode(Inode(1), &value)?,
            Listed { inode: Inode(77), name: Bytes::from_static(b"\xff name") }
        );
        Ok(())
    }

    #[test]
    fn a_newer_tag_is_refused_and_a_wrong_one_is_damage() {
        let mut value = Entry { inode: Inode(77), cookie: 3 }.encode();
        value[0] = 0x60;
        assert!(matches!(Entry::decode(Inode(1), &value), Err(Error::Refused(Refusal::Unsupported(_)))));
        for wrong in [tag::RECORD, tag::CONTENT, 0] {
            value[0] = wrong;
            assert!(matches!(Entry::decode(Inode(1), &value), Err(Error::Damage(_))));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut value in proptest::collection::vec(any::<u8>(), 1..300), expected in 1u8..6) {
            value[0] = expected;
            let value = Bytes::from(value);
            if let Ok(entry) = Entry::decode(Inode(1), &value) {
                prop_assert_eq!(Bytes::from(entry.encode()), value.clone());
            }
            if let Ok(listed) = Listed::decode(Inode(1), &value) {
                prop_assert_eq!(Bytes::from(Listed::encode(listed.inode, &listed.name)), value);
            }
        }
    }
}
