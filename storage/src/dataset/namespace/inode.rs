//! The record of one inode: all its attributes in one value. `docs/formats/namespace.md` owns the bytes.

use bytes::Bytes;

use super::key::Key;
use super::value::{self, Place, tag};
use super::{Table, View, damaged};
use crate::codec::{Malformed, Put, Reader};
use crate::dataset::{Attributes, FILE_BYTES_MAX, FileType, TARGET_BYTES_MAX, VOLUME_BYTES_MAX};
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

/// Longest symlink target that lies in the record itself.
pub(super) const INLINE_TARGET_BYTES_MAX: usize = 255;
/// Bytes of a longer target in one piece of its own; keeps a value below the 1,024 bytes that map trees allow.
pub(super) const TARGET_PIECE_BYTES: usize = 1000;
/// The first cookie of a directory: 1 and 2 are `.` and `..`.
pub(super) const FIRST_COOKIE: u64 = 3;

/// The permission bits that mean something: rwx three times, set-user-id, set-group-id, sticky.
pub(super) const MODE_MASK: u32 = 0o7777;

/// What an inode is, with what only that type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A regular file.
    Regular {
        /// How many bytes were written, at most `size`: never less than the bytes that are not holes, exact for what was
        /// written once, and too much for a sparse file that is written over.
        used: u64,
        /// The verifier of the exclusive creation, until the file is first written or its attributes are set.
        verifier: Option<[u8; 8]>,
    },
    /// A directory.
    Directory {
        /// Where its entry is; the root is its own.
        parent: Inode,
        /// The cookie that the next new entry gets.
        next_cookie: u64,
    },
    /// A block device node with its major and minor number.
    BlockDevice(u32, u32),
    /// A character device node with its major and minor number.
    CharDevice(u32, u32),
    /// A symlink.
    Symlink {
        /// The target where it has at most 255 bytes; empty where it is longer and lies in pieces of its own.
        inline: Bytes,
    },
    /// A socket.
    Socket,
    /// A named pipe.
    Fifo,
}

impl Body {
    /// The type that clients are told.
    pub fn file_type(&self) -> FileType {
        match self {
            Body::Regular { .. } => FileType::Regular,
            Body::Directory { .. } => FileType::Directory,
            Body::BlockDevice(..) => FileType::BlockDevice,
            Body::CharDevice(..) => FileType::CharDevice,
            Body::Symlink { .. } => FileType::Symlink,
            Body::Socket => FileType::Socket,
            Body::Fifo => FileType::Fifo,
        }
    }
}

/// All that is known of one inode but its names and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The low twelve mode bits.
    pub mode: u32,
    /// Link count.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Regular file: length in bytes. Symlink: length of the target. Directory: number of entries. Others: 0.
    pub size: u64,
    /// Access time.
    pub accessed: Timestamp,
    /// Time of the last change of the content.
    pub modified: Timestamp,
    /// Time of the last change of content or attributes.
    pub changed: Timestamp,
    /// The type, and what belongs to it.
    pub body: Body,
}

impl Record {
    /// Reads the record of `inode`; refused with `Stale` where the inode is gone.
    pub fn load(view: &dyn View, inode: Inode) -> Result<Record> {
        match view.get(&Key::Record(inode).encode())? {
            Some(value) => Record::decode(inode, &value),
            None => Err(Refusal::Stale.into()),
        }
    }

    /// Reads the record that an entry of `dir` names: if it is missing, the table is damaged.
    pub(super) fn load_named(view: &dyn View, dir: Inode, inode: Inode) -> Result<Record> {
        match view.get(&Key::Record(inode).encode())? {
            Some(value) => Record::decode(inode, &value),
            None => Err(damaged(format_args!("directory {dir}"), format_args!("inode {inode} to be there"), "none")),
        }
    }

    /// Puts the record into the table.
    pub(super) fn store(&self, table: &mut dyn Table, inode: Inode) {
        table.put(Key::Record(inode).encode(), self.encode());
    }

    /// What clients are told.
    pub fn attributes(&self, inode: Inode) -> Attributes {
        let (used, device) = match self.body {
            Body::Regular { used, .. } => (used, (0, 0)),
            Body::BlockDevice(major, minor) | Body::CharDevice(major, minor) => (0, (major, minor)),
            Body::Directory { .. } | Body::Symlink { .. } | Body::Socket | Body::Fifo => (0, (0, 0)),
        };
        Attributes {
            inode,
            file_type: self.body.file_type(),
            mode: self.mode,
            links: self.links,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            used,
            device,
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
        }
    }

    /// True for directories.
    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    /// The value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(64);
        value.put_u8(tag::RECORD);
        value.put_u8(self.body.file_type() as u8);
        value.put_u16((self.mode & MODE_MASK) as u16);
        [self.links, self.uid, self.gid].into_iter().for_each(|number| value.put_u32(number));
        value.put_u64(self.size);
        [self.accessed, self.modified, self.changed].into_iter().for_each(|time| value.put_i64(time.0));
        match &self.body {
            Body::Regular { used, verifier } => {
                value.put_u64(*used);
                value.extend_from_slice(verifier.as_ref().map_or(&[][..], |bytes| bytes));
            }
            Body::Directory { parent, next_cookie } => {
                value.put_u64(parent.0);
                value.put_u64(*next_cookie);
            }
            Body::BlockDevice(major, minor) | Body::CharDevice(major, minor) => {
                value.put_u32(*major);
                value.put_u32(*minor);
            }
            Body::Symlink { inline } => value.extend_from_slice(inline),
            Body::Socket | Body::Fifo => {}
        }
        value
    }

    /// Reads the value of `inode`. Bytes that no writer makes are damage; those of a newer version are refused.
    pub fn decode(inode: Inode, value: &Bytes) -> Result<Record> {
        value::decode(value, tag::RECORD, Place::Record(inode), |reader| {
            let file_type = reader.u8()?;
            let mode = u32::from(reader.u16()?);
            let (links, uid, gid) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let size = reader.u64()?;
            let mut time = || reader.i64().map(Timestamp);
            let (accessed, modified, changed) = (time()?, time()?, time()?);
            let body = decode_body(reader, file_type)?;
            let record = Record { mode, links, uid, gid, size, accessed, modified, changed, body };
            if record.is_sound(inode) { Ok(record) } else { Err(reader.malformed()) }
        })
    }

    /// True where size, links and mode are possible for the type. A root that is a regular file is a volume.
    fn is_sound(&self, inode: Inode) -> bool {
        let size = self.size;
        let longest = if inode == Inode::ROOT { VOLUME_BYTES_MAX } else { FILE_BYTES_MAX };
        let possible = match &self.body {
            Body::Regular { used, .. } => size <= longest && *used <= size,
            Body::Directory { parent, next_cookie } => {
                let given_out = next_cookie.checked_sub(FIRST_COOKIE);
                parent.0 != 0 && self.links >= 2 && given_out.is_some_and(|cookies| size <= cookies)
            }
            Body::Symlink { inline } if size > INLINE_TARGET_BYTES_MAX as u64 => {
                inline.is_empty() && size <= TARGET_BYTES_MAX as u64
            }
            Body::Symlink { inline } => size == inline.len() as u64 && size > 0,
            Body::BlockDevice(..) | Body::CharDevice(..) | Body::Socket | Body::Fifo => size == 0,
        };
        possible && self.links >= 1 && self.mode & !MODE_MASK == 0
    }
}

fn decode_body(reader: &mut Reader<'_>, file_type: u8) -> Result<Body, Malformed> {
    Ok(match file_type {
        1 => Body::Regular {
            used: reader.u64()?,
            verifier: if reader.left() == 0 { None } else { Some(reader.array()?) },
        },
        2 => Body::Directory { parent: Inode(reader.u64()?), next_cookie: reader.u64()? },
        3 => Body::BlockDevice(reader.u32()?, reader.u32()?),
        4 => Body::CharDevice(reader.u32()?, reader.u32()?),
        5 => Body::Symlink { inline: reader.take(reader.left())? },
        6 => Body::Socket,
        7 => Body::Fifo,
        _ => return Err(reader.malformed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;

    fn sample(body: Body, size: u64) -> Record {
        Record {
            mode: 0o4755,
            links: 2,
            uid: 1000,
            gid: 100,
            size,
            accessed: Timestamp(-1),
            modified: Timestamp(i64::MAX),
            changed: Timestamp(1_700_000_000_123_456_789),
            body,
        }
    }

    fn every_body() -> Vec<Record> {
        vec![
            sample(Body::Regular { used: 10, verifier: None }, 20),
            sample(Body::Regular { used: 0, verifier: Some(*b"verifier") }, 0),
            sample(Body::Directory { parent: Inode(1), next_cookie: 9 }, 6),
            sample(Body::BlockDevice(8, 1), 0),
            sample(Body::CharDevice(u32::MAX, 0), 0),
            sample(Body::Symlink { inline: Bytes::from_static(b"../target") }, 9),
            sample(Body::Symlink { inline: Bytes::new() }, 4096),
            sample(Body::Socket, 0),
            sample(Body::Fifo, 0),
        ]
    }

    #[test]
    fn every_type_comes_back_as_it_was() -> Result<()> {
        for record in every_body() {
            assert_eq!(Record::decode(Inode(5), &record.encode().into())?, record);
        }
        Ok(())
    }

    #[test]
    fn a_cut_or_longer_value_is_damage() {
        for record in every_body() {
            let value = Bytes::from(record.encode());
            for len in 0..value.len() {
                // Cutting the verifier off whole leaves a sound record without one.
                if len == 56 && matches!(record.body, Body::Regular { verifier: Some(_), .. }) {
                    continue;
                }
                assert!(
                    matches!(Record::decode(Inode(5), &value.slice(..len)), Err(Error::Damage(_))),
                    "{record:?} cut to {len}"
                );
            }
            let longer = Bytes::from([&value[..], &[0]].concat());
            assert!(matches!(Record::decode(Inode(5), &longer), Err(Error::Damage(_))), "{record:?} and one byte");
        }
    }

    #[test]
    fn sizes_that_contradict_the_type_are_damage() {
        for record in [
            sample(Body::Regular { used: 0, verifier: None }, FILE_BYTES_MAX + 1),
            sample(Body::Regular { used: 21, verifier: None }, 20),
            sample(Body::Directory { parent: Inode(1), next_cookie: 3 }, 1),
            sample(Body::Directory { parent: Inode(1), next_cookie: 2 }, 0),
            sample(Body::Directory { parent: Inode(0), next_cookie: 3 }, 0),
            sample(Body::Symlink { inline: Bytes::from_static(b"abc") }, 4),
            sample(Body::Symlink { inline: Bytes::new() }, 0),
            sample(Body::Symlink { inline: Bytes::new() }, 4097),
            sample(Body::Fifo, 1),
            Record { links: 0, ..sample(Body::Fifo, 0) },
            Record { links: 1, ..sample(Body::Directory { parent: Inode(1), next_cookie: 3 }, 0) },
        ] {
            assert!(matches!(Record::decode(Inode(5), &record.encode().into()), Err(Error::Damage(_))), "{record:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(
            file_type in 0u8..9, size in prop_oneof![0u64..300, any::<u64>()],
            head in any::<[u8; 14]>(), tail in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut value = vec![tag::RECORD, file_type];
            value.extend(head);
            value[3] &= 0x0f;
            value.extend(size.to_le_bytes());
            value.extend([0; 24]);
            value.extend(tail);
            let value = Bytes::from(value);
            if let Ok(record) = Record::decode(Inode(5), &value) {
                prop_assert_eq!(record.encode(), value);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Record::decode(Inode(5), &value.into());
        }
    }
}
