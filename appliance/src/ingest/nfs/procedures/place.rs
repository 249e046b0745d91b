//! Where a call acts: the file that a handle leads to, in the tree that it is in, as the caller who may be there.
//!
//! A share's root holds a virtual directory, `.snapshot`, with one directory for each snapshot. It is found by name and
//! listed only where the export says so. Everything below it is read-only.

use std::sync::Arc;

use narrowboat_storage::dataset::{Attributes, Credentials, FileTree, NAME_BYTES_MAX};
use narrowboat_storage::units::Inode;

use super::super::export::Export;
use super::super::handle::{HANDLE_BYTES, Handle, HandleKey, Region, fsid};
use super::super::status::Status;
use super::super::wire::FileAttributes;
use super::Context;
use snapshots::SnapshotDirectory;

mod snapshots;

/// The name of the virtual directory in a share's root.
pub(crate) const SNAPSHOT_DIRECTORY: &[u8] = b".snapshot";
/// Its number, out of reach of real ones, and within what clients with signed numbers bear.
pub(crate) const SNAPSHOT_INODE: Inode = Inode(0x7fff_ffff_ffff_fffe);

/// A file that a call acts on.
pub(crate) struct Place {
    /// The export that it belongs to.
    pub export: Arc<Export>,
    /// The tree that it is in.
    pub tree: Arc<dyn FileTree>,
    /// Which tree of the dataset that is.
    pub region: Region,
    /// The file.
    pub inode: Inode,
    /// The tree's file system id.
    pub fsid: u64,
    /// As whom the caller acts here.
    pub caller: Credentials,
}

/// A file that was looked up.
pub(crate) struct Found {
    /// What the client is given to name it.
    pub handle: Handle,
    /// Its attributes.
    pub attributes: FileAttributes,
}

impl Context<'_> {
    /// Opens a handle. Refused with `BadHandle` where it was never given out, `Stale` where the dataset or snapshot is
    /// gone, `Access` where the client's network may not use the export.
    pub fn place(&self, handle: &[u8]) -> Result<Place, Status> {
        let handle = self.handles.open(handle)?;
        let export = self.exports.by_id(handle.dataset).ok_or(Status::Stale)?;
        self.enter(export, handle.region, handle.inode)
    }

    /// Enters a tree of an export, checking that the client may.
    pub fn enter(&self, export: Arc<Export>, region: Region, inode: Inode) -> Result<Place, Status> {
        if !export.rules.admit(&self.client) {
            return Err(Status::Access);
        }
        let tree = match region {
            Region::Live => export.tree.clone(),
            Region::SnapshotDirectory => Arc::new(SnapshotDirectory::new(export.clone())),
            Region::Snapshot(id) => export.snapshots.open(id)?,
        };
        if region == Region::Live {
            self.users.note(export.id, self.client.ip());
        }
        let caller = export.rules.credentials(self.identity);
        Ok(Place { tree, region, inode, fsid: fsid(export.id, region), caller, export })
    }
}

impl Place {
    /// The file's attributes now; `None` where they cannot be had, which no reply is refused for.
    pub fn attributes(&self) -> Option<FileAttributes> {
        self.tree.attributes(self.inode).ok().map(|attributes| self.with(attributes))
    }

    /// Attributes of a file in this tree.
    pub fn with(&self, attributes: Attributes) -> FileAttributes {
        FileAttributes { fsid: self.fsid, attributes }
    }

    /// The sealed handle of a file in this tree.
    pub fn seal(&self, key: &HandleKey, inode: Inode) -> [u8; HANDLE_BYTES] {
        key.seal(&self.handle(inode))
    }

    fn handle(&self, inode: Inode) -> Handle {
        Handle { dataset: self.export.id, region: self.region, inode }
    }

    /// True where no change is let through.
    pub fn read_only(&self) -> bool {
        self.export.rules.read_only || self.region != Region::Live || self.tree.read_only()
    }

    /// Refuses changes where nothing may change.
    pub fn writable(&self) -> Result<(), Status> {
        if self.read_only() { Err(Status::ReadOnly) } else { Ok(()) }
    }

    fn is_root(&self, region: Region) -> bool {
        self.region == region && self.inode == Inode::ROOT
    }

    /// True where the virtual directory hangs below this directory.
    pub fn has_snapshot_directory(&self) -> bool {
        self.is_root(Region::Live)
    }

    /// The file that `name` stands for in this directory, virtual ones included.
    pub fn lookup(&self, name: &[u8]) -> Result<Found, Status> {
        check_name(name)?;
        match self.region {
            Region::Live if self.has_snapshot_directory() && name == SNAPSHOT_DIRECTORY => {
                self.found_in(Region::SnapshotDirectory, &SnapshotDirectory::new(self.export.clone()), SNAPSHOT_INODE)
            }
            Region::SnapshotDirectory if name == b".." => {
                self.found_in(Region::Live, self.export.tree.as_ref(), Inode::ROOT)
            }
            Region::SnapshotDirectory if name != b"." => {
                let entries = self.export.snapshots.list()?;
                let entry = entries.iter().find(|entry| entry.name.as_bytes() == name).ok_or(Status::NoEntry)?;
                let tree = self.export.snapshots.open(entry.id)?;
                self.found_in(Region::Snapshot(entry.id), tree.as_ref(), Inode::ROOT)
            }
            Region::Snapshot(_) if self.inode == Inode::ROOT && name == b".." => {
                self.found_in(Region::SnapshotDirectory, &SnapshotDirectory::new(self.export.clone()), SNAPSHOT_INODE)
            }
            _ => {
                let attributes = self.tree.lookup(&self.caller, self.inode, name)?;
                Ok(Found { handle: self.handle(attributes.inode), attributes: self.with(attributes) })
            }
        }
    }

    /// The root of another region of the same export.
    fn found_in(&self, region: Region, tree: &dyn FileTree, inode: Inode) -> Result<Found, Status> {
        let attributes = FileAttributes { fsid: fsid(self.export.id, region), attributes: tree.attributes(inode)? };
        Ok(Found { handle: Handle { dataset: self.export.id, region, inode }, attributes })
    }

    /// Checks a name that is to be made here.
    pub fn check_new_name(&self, name: &[u8]) -> Result<(), Status> {
        check_name(name)?;
        let taken = matches!(name, b"." | b"..") || (self.has_snapshot_directory() && name == SNAPSHOT_DIRECTORY);
        if taken { Err(Status::Exists) } else { Ok(()) }
    }

    /// Checks a name that is to be removed from here (RFC 1813 section 3.3.13 for the two dots).
    pub fn check_old_name(&self, name: &[u8]) -> Result<(), Status> {
        check_name(name)?;
        match name {
            b"." => Err(Status::Invalid),
            b".." => Err(Status::Exists),
            SNAPSHOT_DIRECTORY if self.has_snapshot_directory() => Err(Status::ReadOnly),
            _ => Ok(()),
        }
    }
}

/// Checks what holds for every name: 1 to 255 bytes, neither `/` nor NUL.
fn check_name(name: &[u8]) -> Result<(), Status> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Status::NameTooLong);
    }
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Status::Invalid);
    }
    Ok(())
}
