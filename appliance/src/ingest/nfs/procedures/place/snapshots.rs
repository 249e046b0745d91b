//! `.snapshot`: the virtual directory of a share's snapshots, as a read-only tree with nothing but itself in it.
//!
//! Its entries are the roots of other trees, which [`Place::lookup`](super::Place::lookup) leads to. Entries keep their
//! cookies while other snapshots come and go: a cookie is derived from the snapshot's id.

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::dataset::{
    Access, Attributes, Call, CallTag, Changed, Create, Credentials, DirEntry, FileTree, FileType, Listing, Made, Node,
    ReadData, SetAttributes,
};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::units::{Inode, Lsn, Space, Timestamp};
use narrowboat_storage::{Error, Result};

use super::super::super::export::{Export, SnapshotEntry};
use super::SNAPSHOT_INODE;

/// The virtual directory of one export.
pub(super) struct SnapshotDirectory {
    export: Arc<Export>,
}

impl SnapshotDirectory {
    pub(super) fn new(export: Arc<Export>) -> Self {
        SnapshotDirectory { export }
    }

    /// The directory's own attributes. Its times move whenever a snapshot comes or goes, so that clients look again.
    fn own(&self, snapshots: &[SnapshotEntry]) -> Attributes {
        let newest = snapshots.iter().map(|snapshot| snapshot.time.0).max().unwrap_or_default();
        let changed = Timestamp(newest.saturating_add(snapshots.len() as i64));
        directory(SNAPSHOT_INODE, snapshots.len(), changed)
    }
}

fn directory(inode: Inode, entries: usize, time: Timestamp) -> Attributes {
    Attributes {
        inode,
        file_type: FileType::Directory,
        mode: 0o555,
        links: u32::try_from(entries).unwrap_or(u32::MAX).saturating_add(2),
        uid: 0,
        gid: 0,
        size: 4096,
        used: 0,
        device: (0, 0),
        accessed: time,
        modified: time,
        changed: time,
    }
}

/// Where a listing goes on behind a snapshot: at least 3, and no more than clients with signed numbers bear.
fn cookie(id: SnapshotId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    (u64::from_le_bytes(first) >> 2) + 3
}

fn read_only<T>() -> Result<T> {
    Err(Refusal::ReadOnly.into())
}

impl FileTree for SnapshotDirectory {
    fn attributes(&self, _: Inode) -> Result<Attributes> {
        Ok(self.own(&self.export.snapshots.list()?))
    }

    fn lookup(&self, _: &Credentials, _: Inode, name: &[u8]) -> Result<Attributes> {
        match name {
            b"." => self.attributes(SNAPSHOT_INODE),
            _ => Err(Refusal::NotFound(String::from_utf8_lossy(name).into_owned()).into()),
        }
    }

    fn access(&self, _: &Credentials, _: Inode, wanted: Access) -> Result<Access> {
        Ok(Access(wanted.0 & (Access::READ.0 | Access::LOOKUP.0 | Access::EXECUTE.0)))
    }

    fn read_link(&self, _: &Credentials, _: Inode) -> Result<Bytes> {
        Err(Refusal::WrongType.into())
    }

    fn read(&self, _: &Credentials, _: Inode, _: u64, _: u32) -> Result<ReadData> {
        Err(Refusal::IsDirectory.into())
    }

    fn read_dir(&self, _: &Credentials, _: Inode, behind: u64, entries_max: usize) -> Result<Listing> {
        let snapshots = self.export.snapshots.list()?;
        let own = self.own(&snapshots);
        let dots = [(1, b".".as_slice(), own), (2, b"..", self.export.tree.attributes(Inode::ROOT)?)]
            .map(|(cookie, name, attributes)| DirEntry { name: Bytes::from_static(name), cookie, attributes });
        let entry = |snapshot: &SnapshotEntry| DirEntry {
            name: Bytes::copy_from_slice(snapshot.name.as_bytes()),
            cookie: cookie(snapshot.id),
            attributes: directory(Inode::ROOT, 0, snapshot.time),
        };
        let mut entries: Vec<_> = dots.into_iter().chain(snapshots.iter().map(entry)).collect();
        entries.retain(|entry| entry.cookie > behind);
        entries.sort_by_key(|entry| entry.cookie);
        let end = entries.len() <= entries_max;
        entries.truncate(entries_max);
        Ok(Listing { entries, end })
    }

    fn space(&self) -> Result<Space> {
        self.export.tree.space()
    }

    fn read_only(&self) -> bool {
        true
    }

    fn remembered(&self, _: &CallTag) -> Option<(Inode, Lsn)> {
        None
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.export.tree.write_verifier()
    }

    fn make_stable(&self, _: Lsn) -> Result<()> {
        Ok(())
    }

    fn commit(&self, inode: Inode) -> Result<Changed> {
        let now = self.attributes(inode)?;
        Ok(Changed { before: now.clone(), after: now, lsn: Lsn(0) })
    }

    fn set_attributes(&self, _: &Call, _: Inode, _: &SetAttributes, _: Option<Timestamp>) -> Result<Changed> {
        read_only()
    }

    fn write(&self, _: &Call, _: Inode, _: u64, _: Bytes) -> Result<Changed> {
        read_only()
    }

    fn create(&self, _: &Call, _: Inode, _: &[u8], _: &Create) -> Result<Made> {
        read_only()
    }

    fn make_dir(&self, _: &Call, _: Inode, _: &[u8], _: &SetAttributes) -> Result<Made> {
        read_only()
    }

    fn make_symlink(&self, _: &Call, _: Inode, _: &[u8], _: &[u8], _: &SetAttributes) -> Result<Made> {
        read_only()
    }

    fn make_node(&self, _: &Call, _: Inode, _: &[u8], _: Node, _: &SetAttributes) -> Result<Made> {
        read_only()
    }

    fn remove(&self, _: &Call, _: Inode, _: &[u8]) -> Result<Changed> {
        read_only()
    }

    fn remove_dir(&self, _: &Call, _: Inode, _: &[u8]) -> Result<Changed> {
        read_only()
    }

    fn rename(&self, _: &Call, _: (Inode, &[u8]), _: (Inode, &[u8])) -> Result<(Changed, Changed), Error> {
        read_only()
    }

    fn link(&self, _: &Call, _: Inode, _: Inode, _: &[u8]) -> Result<Made> {
        read_only()
    }
}
