//! The types of NFSv3 and MOUNT as they travel (RFC 1813 section 2.6 and appendix I).

use narrowboat_storage::dataset::{Attributes, Changed, FileType, SetAttributes, SetTime};
use narrowboat_storage::units::Timestamp;

use super::handle::HANDLE_BYTES_MAX;
use super::status::Status;
use super::xdr::{Decoder, Encoder, Malformed};

/// The program number of NFS.
pub const NFS_PROGRAM: u32 = 100_003;
/// The version of NFS that is spoken.
pub const NFS_VERSION: u32 = 3;
/// The program number of MOUNT.
pub const MOUNT_PROGRAM: u32 = 100_005;
/// The version of MOUNT that goes with NFSv3. Versions 1 and 2 are answered where they say the same.
pub const MOUNT_VERSION: u32 = 3;

/// The program number of NLM, which locks files.
pub const NLM_PROGRAM: u32 = 100_021;
/// The version of NLM that goes with NFSv3.
pub const NLM_VERSION: u32 = 4;

/// Most bytes of data in one READ or WRITE (`rtmax`, `wtmax`).
pub const TRANSFER_BYTES_MAX: u32 = 1 << 20;
/// How large a directory reply is best (`dtpref`).
pub const DIRECTORY_BYTES_PREFERRED: u32 = 64 << 10;
/// Longest path in MOUNT (`MNTPATHLEN`).
pub const MOUNT_PATH_BYTES_MAX: usize = 1024;

/// Length of an encoded `fattr3` in bytes.
pub const ATTRIBUTES_BYTES: usize = 84;

/// A file's attributes and the file system that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAttributes {
    /// The file system.
    pub fsid: u64,
    /// The attributes.
    pub attributes: Attributes,
}

impl Encoder {
    /// `nfsstat3`.
    pub fn status(&mut self, status: Status) {
        self.u32(status as u32);
    }

    /// `nfstime3`: seconds are unsigned 32-bit, so that times outside 1970–2106 are held to its ends.
    pub fn time(&mut self, time: Timestamp) {
        let (seconds, nanoseconds) = match u32::try_from(time.seconds()) {
            Ok(seconds) => (seconds, time.subsec_nanos()),
            Err(_) if time.0 < 0 => (0, 0),
            Err(_) => (u32::MAX, 999_999_999),
        };
        self.u32(seconds);
        self.u32(nanoseconds);
    }

    /// `fattr3`.
    pub fn attributes(&mut self, file: &FileAttributes) {
        let attributes = &file.attributes;
        self.u32(attributes.file_type as u32);
        self.u32(attributes.mode & 0o7777);
        self.u32(attributes.links);
        self.u32(attributes.uid);
        self.u32(attributes.gid);
        self.u64(attributes.size);
        self.u64(attributes.used);
        self.u32(attributes.device.0);
        self.u32(attributes.device.1);
        self.u64(file.fsid);
        self.u64(attributes.inode.0);
        self.time(attributes.accessed);
        self.time(attributes.modified);
        self.time(attributes.changed);
    }

    /// `post_op_attr`.
    pub fn post_attributes(&mut self, file: Option<&FileAttributes>) {
        self.bool(file.is_some());
        if let Some(file) = file {
            self.attributes(file);
        }
    }

    /// `wcc_data` of a change that was made.
    pub fn changed(&mut self, changed: &Changed, fsid: u64) {
        self.bool(true);
        self.u64(changed.before.size);
        self.time(changed.before.modified);
        self.time(changed.before.changed);
        self.post_attributes(Some(&FileAttributes { fsid, attributes: changed.after.clone() }));
    }

    /// `wcc_data` where nothing was changed, or where what was before is not known.
    pub fn unchanged(&mut self, after: Option<&FileAttributes>) {
        self.bool(false);
        self.post_attributes(after);
    }

    /// `post_op_fh3`.
    pub fn post_handle(&mut self, handle: Option<&[u8]>) {
        self.bool(handle.is_some());
        if let Some(handle) = handle {
            self.opaque(handle);
        }
    }
}

/// `ftype3`.
pub fn file_type(number: u32) -> Result<FileType, Malformed> {
    Ok(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::BlockDevice,
        4 => FileType::CharDevice,
        5 => FileType::Symlink,
        6 => FileType::Socket,
        7 => FileType::Fifo,
        _ => return Err(Malformed),
    })
}

/// `stable_how`: when written data must be stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stable {
    /// At the next COMMIT.
    Unstable = 0,
    /// The data before the reply.
    Data = 1,
    /// Data and attributes before the reply.
    File = 2,
}

impl<'a> Decoder<'a> {
    /// `nfs_fh3`, not opened yet.
    pub fn handle(&mut self) -> Result<&'a [u8], Malformed> {
        self.opaque(HANDLE_BYTES_MAX)
    }

    /// `filename3` or `nfspath3`: bounded by the record alone, so that too long a name gets its own error.
    pub fn name(&mut self) -> Result<&'a [u8], Malformed> {
        self.opaque(self.remaining())
    }

    /// `nfstime3`. More than 999,999,999 nanoseconds are malformed.
    pub fn time(&mut self) -> Result<Timestamp, Malformed> {
        let (seconds, nanoseconds) = (self.u32()?, self.u32()?);
        if nanoseconds > 999_999_999 {
            return Err(Malformed);
        }
        Ok(Timestamp::new(i64::from(seconds), nanoseconds))
    }

    /// `sattr3`.
    pub fn set_attributes(&mut self) -> Result<SetAttributes, Malformed> {
        Ok(SetAttributes {
            mode: self.optional(Decoder::u32)?.map(|mode| mode & 0o7777),
            uid: self.optional(Decoder::u32)?,
            gid: self.optional(Decoder::u32)?,
            size: self.optional(Decoder::u64)?,
            accessed: self.set_time()?,
            modified: self.set_time()?,
        })
    }

    /// A value behind a boolean that says whether it is there.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    fn set_time(&mut self) -> Result<Option<SetTime>, Malformed> {
        match self.u32()? {
            0 => Ok(None),
            1 => Ok(Some(SetTime::Now)),
            2 => self.time().map(|time| Some(SetTime::To(time))),
            _ => Err(Malformed),
        }
    }

    /// `stable_how`.
    pub fn stable(&mut self) -> Result<Stable, Malformed> {
        match self.u32()? {
            0 => Ok(Stable::Unstable),
            1 => Ok(Stable::Data),
            2 => Ok(Stable::File),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use narrowboat_storage::units::Inode;

    #[test]
    fn times_are_held_to_what_the_protocol_can_say() {
        let cases = [
            (Timestamp::new(5, 6), (5, 6)),
            (Timestamp::new(-1, 999_999_999), (0, 0)),
            (Timestamp(-1), (0, 0)),
            (Timestamp::new(i64::from(u32::MAX), 7), (u32::MAX, 7)),
            (Timestamp::new(i64::from(u32::MAX) + 1, 7), (u32::MAX, 999_999_999)),
        ];
        for (time, (seconds, nanoseconds)) in cases {
            let mut out = Encoder::new();
            out.time(time);
            let bytes = out.finish_datagram().to_bytes();
            let mut input = Decoder::new(&bytes);
            assert_eq!((input.u32().unwrap(), input.u32().unwrap()), (seconds, nanoseconds), "{time:?}");
        }
    }

    #[test]
    fn attributes_have_their_length() {
        let mut out = Encoder::new();
        let attributes = Attributes {
            inode: Inode(1),
            file_type: FileType::Directory,
            mode: 0o100755,
            links: 2,
            uid: 0,
            gid: 0,
            size: 0,
            used: 0,
            device: (0, 0),
            accessed: Timestamp(0),
            modified: Timestamp(0),
            changed: Timestamp(0),
        };
        out.attributes(&FileAttributes { fsid: 1, attributes });
        assert_eq!(out.len(), ATTRIBUTES_BYTES);
    }

    #[test]
    fn new_attributes_are_read() {
        let words: Vec<u32> = vec![1, 0o100644, 0, 1, 7, 1, 1, 2, 1, 2, 5, 6];
        let bytes: Bytes = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let set = Decoder::new(&bytes).set_attributes().unwrap();
        assert_eq!(
            set,
            SetAttributes {
                mode: Some(0o644),
                uid: None,
                gid: Some(7),
                size: Some(1 << 32 | 2),
                accessed: Some(SetTime::Now),
                modified: Some(SetTime::To(Timestamp::new(5, 6))),
            }
        );
        for wrong in [&[2][..], &[0, 0, 0, 0, 3], &[0, 0, 0, 0, 2, 0, 1_000_000_000], &[0, 0, 0, 0, 0]] {
            let bytes: Bytes = wrong.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
            assert_eq!(Decoder::new(&bytes).set_attributes(), Err(Malformed), "{wrong:?}");
        }
    }
}
