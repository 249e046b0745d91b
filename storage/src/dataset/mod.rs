//! Stage 1: what clients write to.
//!
//! [`FileTree`] is the seam between front doors (NFS, later SMB) and a share or a snapshot of one; [`BlockDevice`] is that for
//! volumes. The rules of a file tree:
//!
//! * An operation is atomic: it happens whole and is in the journal's order, or it is refused and changes nothing.
//! * POSIX permissions are enforced here, with the caller's credentials, under the same lock as the change itself.
//! * What an operation returned is visible to every later one at once. It is *stable* (survives a power cut) only
//!   after [`FileTree::make_stable`] of the LSN it returned, or of a later one.
//! * Time comes in with the call; nobody here looks at a clock.

mod block;
mod bulk;
pub(crate) mod extents;
mod hours;
pub(crate) mod layer;
pub(crate) mod live;
pub mod namespace;
mod read;
pub(crate) mod record;
mod replay;
mod rewound;
mod share;
pub(crate) mod state;
mod stuck;
pub(crate) mod table;
pub(crate) mod tails;
pub(crate) mod volume;

use std::ops::Range;

use bytes::Bytes;

use crate::error::Result;
use crate::units::{Inode, Lsn, Space, Timestamp};

pub use hours::Deferral;

pub use block::{
    Allocation, BOUNDARY_BYTES, BlockDevice, Compared, DISCARD_RANGES_MAX, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN,
    VOLUME_BYTES_STEP, WRITE_BYTES_MAX,
};

/// Longest name in a directory, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest symlink target, in bytes.
pub const TARGET_BYTES_MAX: usize = 4096;
/// Largest file: 16 TiB.
pub const FILE_BYTES_MAX: u64 = 16 << 40;

/// Who asks: the POSIX credentials that permissions are checked against. uid 0 passes every check but read-only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further group ids, at most 16 from AUTH_SYS.
    pub groups: Vec<u32>,
}

impl Credentials {
    /// The superuser.
    pub const ROOT: Credentials = Credentials { uid: 0, gid: 0, groups: Vec::new() };

    /// True where `gid` is the primary group or among the further ones.
    pub fn is_member(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// Identifies one call of one client, so that a repetition is recognised, also after a restart: a hash over the
/// client's address, the transaction id, the procedure and the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallTag(pub [u8; 16]);

/// The circumstances of one changing call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Who asks.
    pub caller: &'a Credentials,
    /// When, by the box's guarded clock.
    pub now: Timestamp,
    /// Which call, journaled with the change it makes.
    pub tag: Option<CallTag>,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileType {
    /// A regular file.
    Regular = 1,
    /// A directory.
    Directory = 2,
    /// A block device node.
    BlockDevice = 3,
    /// A character device node.
    CharDevice = 4,
    /// A symbolic link.
    Symlink = 5,
    /// A socket.
    Socket = 6,
    /// A named pipe.
    Fifo = 7,
}

/// The attributes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Its number.
    pub inode: Inode,
    /// Its type.
    pub file_type: FileType,
    /// Permission bits, set-id bits and sticky bit: the low twelve.
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes that are not holes, before deduplication. Never less; more, and at most `size`, after a sparse file was cut
    /// off, and while zeros that were written have not become holes.
    pub used: u64,
    /// Major and minor device number of a device node.
    pub device: (u32, u32),
    /// Last read, as far as it is kept (set by clients; reads do not move it).
    pub accessed: Timestamp,
    /// Last change of the content.
    pub modified: Timestamp,
    /// Last change of the content or attributes.
    pub changed: Timestamp,
}

/// A new value for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call. Whoever may write the file may set this.
    Now,
    /// A given time. Only the owner may set this.
    To(Timestamp),
}

/// Which attributes to set; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// New low twelve mode bits.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New length: cuts, or extends with a hole.
    pub size: Option<u64>,
    /// New access time.
    pub accessed: Option<SetTime>,
    /// New modification time.
    pub modified: Option<SetTime>,
}

/// A file's attributes before and after a change, taken in the same atomic step (weak cache consistency, RFC 1813
/// section 2.6), and the LSN that makes the change stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Before.
    pub before: Attributes,
    /// After.
    pub after: Attributes,
    /// Stable once [`FileTree::make_stable`] of this returned.
    pub lsn: Lsn,
}

/// A new or linked file, and what that did to its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The file.
    pub file: Attributes,
    /// Its directory.
    pub dir: Changed,
}

/// How a regular file is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Create {
    /// An existing regular file is fine; only a size of 0 is then applied to it.
    Unchecked(SetAttributes),
    /// Refused where the name exists.
    Guarded(SetAttributes),
    /// Refused where the name exists, unless it was created with the same verifier (a repetition).
    Exclusive([u8; 8]),
}

/// What a special file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A block device with its major and minor number.
    BlockDevice(u32, u32),
    /// A character device with its major and minor number.
    CharDevice(u32, u32),
    /// A socket.
    Socket,
    /// A named pipe.
    Fifo,
}

/// Access rights, as a set of bits (the numbers are those of RFC 1813 section 3.3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(pub u32);

impl Access {
    /// Read a file or list a directory.
    pub const READ: Access = Access(0x01);
    /// Look up a name in a directory.
    pub const LOOKUP: Access = Access(0x02);
    /// Rewrite existing bytes or entries.
    pub const MODIFY: Access = Access(0x04);
    /// Append bytes or add entries.
    pub const EXTEND: Access = Access(0x08);
    /// Remove an entry of a directory.
    pub const DELETE: Access = Access(0x10);
    /// Execute a file.
    pub const EXECUTE: Access = Access(0x20);
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name: any 1 to 255 bytes but `/` and NUL.
    pub name: Bytes,
    /// Where a later listing goes on behind this entry. Stored with the entry, so it never changes. At least 3: 1 and 2
    /// are `.` and `..`.
    pub cookie: u64,
    /// The file.
    pub attributes: Attributes,
}

/// A part of a directory's listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Entries in the order of their cookies, `.` and `..` first.
    pub entries: Vec<DirEntry>,
    /// True where nothing follows.
    pub end: bool,
}

/// Bytes that were read.
#[derive(Clone, Debug)]
pub struct ReadData {
    /// The bytes, as slices of verified chunks: not copied together.
    pub pieces: Vec<Bytes>,
    /// True where the last byte read is the file's last.
    pub end: bool,
    /// The file's attributes at that moment.
    pub attributes: Attributes,
}

/// A file tree that a front door serves: a live share, or a snapshot of one (read-only).
pub trait FileTree: Send + Sync {
    /// Attributes of a file. Refused with `Stale` where it is gone.
    fn attributes(&self, inode: Inode) -> Result<Attributes>;
    /// Sets attributes. With `guard`, refused with `NotSync` unless the file's `changed` is equal to it.
    fn set_attributes(
        &self,
        call: &Call,
        inode: Inode,
        set: &SetAttributes,
        guard: Option<Timestamp>,
    ) -> Result<Changed>;
    /// The file that `name` stands for in `dir`; `.` and `..` work, `..` of the root is the root.
    fn lookup(&self, caller: &Credentials, dir: Inode, name: &[u8]) -> Result<Attributes>;
    /// Which of `wanted` the caller has.
    fn access(&self, caller: &Credentials, inode: Inode, wanted: Access) -> Result<Access>;
    /// The target of a symlink.
    fn read_link(&self, caller: &Credentials, inode: Inode) -> Result<Bytes>;
    /// Reads up to `len` bytes; fewer only at the end of the file. As in NFSv3 the owner may always read.
    fn read(&self, caller: &Credentials, inode: Inode, offset: u64, len: u32) -> Result<ReadData>;
    /// Where the next bytes that take room are, at `offset` or behind it: a run of at least one byte, or `None` where nothing
    /// but a hole follows (`SEEK_DATA` of `lseek`, with the end of the data). The run may end sooner than the data, and zeros may be
    /// among it. A tree that knows of no holes says that all is data.
    fn next_data(&self, caller: &Credentials, inode: Inode, offset: u64) -> Result<Option<Range<u64>>> {
        let _ = caller;
        let size = self.attributes(inode)?.size;
        Ok((offset < size).then_some(offset..size))
    }
    /// Writes bytes, which are visible at once and stable after [`FileTree::commit`]. As in NFSv3 the owner may always write.
    fn write(&self, call: &Call, inode: Inode, offset: u64, data: Bytes) -> Result<Changed>;
    /// Brings all bytes written to a file so far into the journal's order and returns its attributes; they are stable
    /// after [`FileTree::make_stable`] of `after`'s LSN.
    fn commit(&self, inode: Inode) -> Result<Changed>;
    /// Creates a regular file.
    fn create(&self, call: &Call, dir: Inode, name: &[u8], how: &Create) -> Result<Made>;
    /// Creates a directory.
    fn make_dir(&self, call: &Call, dir: Inode, name: &[u8], set: &SetAttributes) -> Result<Made>;
    /// Creates a symlink.
    fn make_symlink(&self, call: &Call, dir: Inode, name: &[u8], target: &[u8], set: &SetAttributes) -> Result<Made>;
    /// Creates a special file.
    fn make_node(&self, call: &Call, dir: Inode, name: &[u8], node: Node, set: &SetAttributes) -> Result<Made>;
    /// Removes a name that is not a directory.
    fn remove(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed>;
    /// Removes an empty directory.
    fn remove_dir(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed>;
    /// Renames, replacing what the target name stood for (POSIX `rename`). Returns the changes of both directories.
    fn rename(&self, call: &Call, from: (Inode, &[u8]), to: (Inode, &[u8])) -> Result<(Changed, Changed)>;
    /// Gives a file one more name.
    fn link(&self, call: &Call, inode: Inode, dir: Inode, name: &[u8]) -> Result<Made>;
    /// Lists entries behind `cookie` (0 from the start), at most `entries_max` of them.
    fn read_dir(&self, caller: &Credentials, dir: Inode, cookie: u64, entries_max: usize) -> Result<Listing>;
    /// Room on the disk below, and what of it is free.
    fn space(&self) -> Result<Space>;
    /// Returns when everything up to `lsn` survives a power cut. Callers that wait at the same time share one sync.
    fn make_stable(&self, lsn: Lsn) -> Result<()>;
    /// Changes whenever written but uncommitted bytes could have been lost: at every start, and after a failed flush.
    fn write_verifier(&self) -> [u8; 8];
    /// What an earlier call with this tag did, where it is still remembered: the inode that it made or changed, and the LSN
    /// that makes it stable, if it is not yet. Remembered across restarts for at least the last 1024 changing calls of
    /// the dataset.
    fn remembered(&self, tag: &CallTag) -> Option<(Inode, Lsn)>;
    /// True for snapshots and replicas.
    fn read_only(&self) -> bool;
}
