//! A share without a store: answers everything as fast as it can, so that the cost of the protocol alone is measured.
//!
//! One directory with any file that is asked for. Reads give the bytes of a fixed pattern, writes are thrown away, every
//! change succeeds and changes nothing. Never for anybody's data.

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::Result;
use narrowboat_storage::dataset::{
    Access, Attributes, Call, CallTag, Changed, Create, Credentials, DirEntry, FileTree, FileType, Listing, Made, Node,
    ReadData, SetAttributes,
};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::{Inode, Lsn, Space, Timestamp};

use super::export::{Export, ExportInfo, Exports, Rules, SnapshotEntry, Snapshots, Squash};

/// Every file but the root.
const FILE: Inode = Inode(2);
/// Bytes are handed out in slices of this length, about as long as a store's chunks.
const PIECE_BYTES: usize = 64 << 10;

/// The tree.
pub struct NullTree {
    pattern: Bytes,
    file_bytes: u64,
}

impl NullTree {
    /// Every file has `file_bytes` bytes.
    pub fn new(file_bytes: u64) -> Self {
        NullTree { pattern: (0..PIECE_BYTES).map(|at| at as u8).collect(), file_bytes }
    }

    fn now(&self, inode: Inode) -> Attributes {
        let root = inode == Inode::ROOT;
        let (file_type, size) = if root { (FileType::Directory, 4096) } else { (FileType::Regular, self.file_bytes) };
        let time = Timestamp::new(1_700_000_000, 0);
        Attributes {
            inode,
            file_type,
            mode: if root { 0o777 } else { 0o666 },
            links: if root { 2 } else { 1 },
            uid: 0,
            gid: 0,
            size,
            used: size,
            device: (0, 0),
            accessed: time,
            modified: time,
            changed: time,
        }
    }

    fn changed(&self, inode: Inode) -> Changed {
        Changed { before: self.now(inode), after: self.now(inode), lsn: Lsn(0) }
    }

    fn made(&self) -> Made {
        Made { file: self.now(FILE), dir: self.changed(Inode::ROOT) }
    }
}

impl FileTree for NullTree {
    fn attributes(&self, inode: Inode) -> Result<Attributes> {
        Ok(self.now(inode))
    }
    fn set_attributes(&self, _: &Call, inode: Inode, _: &SetAttributes, _: Option<Timestamp>) -> Result<Changed> {
        Ok(self.changed(inode))
    }
    fn lookup(&self, _: &Credentials, _: Inode, name: &[u8]) -> Result<Attributes> {
        Ok(self.now(if matches!(name, b"." | b"..") { Inode::ROOT } else { FILE }))
    }
    fn access(&self, _: &Credentials, _: Inode, wanted: Access) -> Result<Access> {
        Ok(wanted)
    }
    fn read_link(&self, _: &Credentials, _: Inode) -> Result<Bytes> {
        Err(Refusal::WrongType.into())
    }
    fn read(&self, _: &Credentials, inode: Inode, offset: u64, len: u32) -> Result<ReadData> {
        let end = self.file_bytes.min(offset.saturating_add(u64::from(len)));
        let mut left = end.saturating_sub(offset) as usize;
        let mut pieces = Vec::with_capacity(left.div_ceil(PIECE_BYTES));
        while left > 0 {
            let piece = self.pattern.slice(..left.min(PIECE_BYTES));
            left -= piece.len();
            pieces.push(piece);
        }
        Ok(ReadData { pieces, end: end == self.file_bytes, attributes: self.now(inode) })
    }
    fn write(&self, _: &Call, inode: Inode, _: u64, _: Bytes) -> Result<Changed> {
        Ok(self.changed(inode))
    }
    fn commit(&self, inode: Inode) -> Result<Changed> {
        Ok(self.changed(inode))
    }
    fn create(&self, _: &Call, _: Inode, _: &[u8], _: &Create) -> Result<Made> {
        Ok(self.made())
    }
    fn make_dir(&self, _: &Call, _: Inode, _: &[u8], _: &SetAttributes) -> Result<Made> {
        Err(Refusal::NotPermitted.into())
    }
    fn make_symlink(&self, _: &Call, _: Inode, _: &[u8], _: &[u8], _: &SetAttributes) -> Result<Made> {
        Err(Refusal::NotPermitted.into())
    }
    fn make_node(&self, _: &Call, _: Inode, _: &[u8], _: Node, _: &SetAttributes) -> Result<Made> {
        Err(Refusal::NotPermitted.into())
    }
    fn remove(&self, _: &Call, dir: Inode, _: &[u8]) -> Result<Changed> {
        Ok(self.changed(dir))
    }
    fn remove_dir(&self, _: &Call, dir: Inode, _: &[u8]) -> Result<Changed> {
        Ok(self.changed(dir))
    }
    fn rename(&self, _: &Call, from: (Inode, &[u8]), to: (Inode, &[u8])) -> Result<(Changed, Changed)> {
        Ok((self.changed(from.0), self.changed(to.0)))
    }
    fn link(&self, _: &Call, _: Inode, _: Inode, _: &[u8]) -> Result<Made> {
        Ok(self.made())
    }
    fn read_dir(&self, _: &Credentials, _: Inode, cookie: u64, _: usize) -> Result<Listing> {
        let entry =
            |cookie, name, inode| DirEntry { name: Bytes::from_static(name), cookie, attributes: self.now(inode) };
        let all = [entry(1, b".", Inode::ROOT), entry(2, b"..", Inode::ROOT), entry(3, b"file", FILE)];
        Ok(Listing { entries: all.into_iter().filter(|entry| entry.cookie > cookie).collect(), end: true })
    }
    fn space(&self) -> Result<Space> {
        Ok(Space { total_bytes: 1 << 50, free_bytes: 1 << 50 })
    }
    fn make_stable(&self, _: Lsn) -> Result<()> {
        Ok(())
    }
    fn write_verifier(&self) -> [u8; 8] {
        *b"nullnull"
    }
    fn remembered(&self, _: &CallTag) -> Option<(Inode, Lsn)> {
        None
    }
    fn read_only(&self) -> bool {
        false
    }
}

/// One export, `/share`, of a [`NullTree`], for everyone, without snapshots.
pub struct NullExports(Arc<Export>);

impl NullExports {
    /// Exports a tree whose files have `file_bytes` bytes.
    pub fn new(file_bytes: u64) -> Self {
        NullExports(Arc::new(Export {
            id: DatasetId([1; 16]),
            name: "/share".into(),
            rules: Rules { squash: Squash::None, ..Rules::default() },
            tree: Arc::new(NullTree::new(file_bytes)),
            snapshots: Arc::new(NoSnapshots),
        }))
    }
}

impl Exports for NullExports {
    fn list(&self) -> Vec<ExportInfo> {
        vec![ExportInfo { name: self.0.name.clone(), clients: self.0.rules.clients.clone() }]
    }
    fn by_name(&self, path: &str) -> Option<Arc<Export>> {
        (path == self.0.name).then(|| self.0.clone())
    }
    fn by_id(&self, id: DatasetId) -> Option<Arc<Export>> {
        (id == self.0.id).then(|| self.0.clone())
    }
}

/// No snapshots at all.
pub struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn list(&self) -> Result<Vec<SnapshotEntry>> {
        Ok(Vec::new())
    }
    fn open(&self, _: SnapshotId) -> Result<Arc<dyn FileTree>> {
        Err(Refusal::Stale.into())
    }
}
