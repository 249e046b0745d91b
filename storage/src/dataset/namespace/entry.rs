//! A directory's entries: the two values of each, and how a directory gains, changes and loses them.

use bytes::Bytes;

use super::inode::Record;
use super::key::Key;
use super::value::{self, Place, tag};
use super::{Body, Table, View, damaged, shown};
use crate::dataset::NAME_BYTES_MAX;
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

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
    pub fn decode(dir: Inode, value: &Bytes) -> Result<Entry> {
        value::decode(value, tag::ENTRY, Place::Entry(dir), |reader| {
            Ok(Entry { inode: Inode(reader.u64()?), cookie: reader.u64()? })
        })
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
        Entry::find(view, dir, name)?.ok_or_else(|| Refusal::NotFound(shown(name)).into())
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
        value::decode(value, tag::LISTED, Place::Listed(dir), |reader| {
            let inode = Inode(reader.u64()?);
            match reader.left() {
                len @ 1..=NAME_BYTES_MAX => Ok(Listed { inode, name: reader.take(len)? }),
                _ => Err(reader.malformed()),
            }
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;

    #[test]
    fn entries_and_listings_come_back_as_they_were() -> Result<()> {
        let entry = Entry { inode: Inode(77), cookie: u64::MAX };
        assert_eq!(Entry::decode(Inode(1), &entry.encode().into())?, entry);
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
        assert!(matches!(
            Entry::decode(Inode(1), &Bytes::copy_from_slice(&value)),
            Err(Error::Refused(Refusal::Unsupported(_)))
        ));
        for wrong in [tag::RECORD, tag::CONTENT, 0] {
            value[0] = wrong;
            assert!(matches!(Entry::decode(Inode(1), &Bytes::copy_from_slice(&value)), Err(Error::Damage(_))));
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
