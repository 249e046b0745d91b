//! File handles: what a client holds to name a file, across restarts and failover.
//!
//! A handle says which dataset, which snapshot of it (or the live tree), and which inode. It carries a keyed checksum,
//! so that a client cannot reach a file by counting inode numbers upwards: where permissions on a parent directory
//! keep it out, it has no handle. The key is derived from the store's id, or from whatever the caller hands in that
//! lives as long as handles have to; nothing in a handle depends on a process or its start.
//!
//! It never says what the file is: attributes are looked up. `docs/formats/nfs-file-handle.md` owns the bytes.

use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::Inode;

use super::status::Status;

/// Length of every handle that we give out, in bytes; NFSv3 allows up to 64.
pub const HANDLE_BYTES: usize = 56;
/// Longest handle that NFSv3 knows (`NFS3_FHSIZE`).
pub const HANDLE_BYTES_MAX: usize = 64;

const VERSION: u8 = 1;
const BODY_BYTES: usize = 44;

/// Which tree of a dataset a handle leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// The live tree.
    Live,
    /// The virtual directory that holds the snapshots.
    SnapshotDirectory,
    /// A snapshot's tree.
    Snapshot(SnapshotId),
}

/// A file, named for as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// The dataset.
    pub dataset: DatasetId,
    /// Which tree of it.
    pub region: Region,
    /// The file in that tree.
    pub inode: Inode,
}

/// The secret that handles are checked with.
#[derive(Clone)]
pub struct HandleKey([u8; 32]);

impl HandleKey {
    /// Derives the key from something that stays the same for as long as handles are to be valid, such as a store's id
    /// or a secret kept with it. Whoever knows `secret` can make handles.
    pub fn new(secret: &[u8]) -> Self {
        HandleKey(blake3::derive_key("narrowboat 2026 v1 nfs file handle", secret))
    }

    /// The bytes that a client is given.
    pub fn seal(&self, handle: &Handle) -> [u8; HANDLE_BYTES] {
        let mut bytes = [0; HANDLE_BYTES];
        bytes[0] = VERSION;
        let snapshot = match handle.region {
            Region::Live => SnapshotId::default(),
            Region::SnapshotDirectory => {
                bytes[1] = 1;
                SnapshotId::default()
            }
            Region::Snapshot(id) => {
                bytes[1] = 2;
                id
            }
        };
        bytes[4..20].copy_from_slice(&handle.dataset.0);
        bytes[20..36].copy_from_slice(&snapshot.0);
        bytes[36..44].copy_from_slice(&handle.inode.0.to_le_bytes());
        let check = self.check(&bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&check);
        bytes
    }

    /// Reads what a client gave back. Refused with `BadHandle` unless this key sealed it.
    pub fn open(&self, bytes: &[u8]) -> Result<Handle, Status> {
        let bytes: &[u8; HANDLE_BYTES] = bytes.try_into().map_err(|_| Status::BadHandle)?;
        let (body, check) = bytes.split_at(BODY_BYTES);
        // All bytes are compared whatever they are, so that the time it takes says nothing about the right ones.
        let difference = self.check(body).iter().zip(check).fold(0, |all, (a, b)| all | (a ^ b));
        if difference != 0 || bytes[0] != VERSION || bytes[2..4] != [0, 0] {
            return Err(Status::BadHandle);
        }
        let sixteen = |at: usize| {
            let mut id = [0; 16];
            id.copy_from_slice(&bytes[at..at + 16]);
            id
        };
        let mut inode = [0; 8];
        inode.copy_from_slice(&bytes[36..44]);
        let region = match bytes[1] {
            0 => Region::Live,
            1 => Region::SnapshotDirectory,
            2 => Region::Snapshot(SnapshotId(sixteen(20))),
            _ => return Err(Status::BadHandle),
        };
        Ok(Handle { dataset: DatasetId(sixteen(4)), region, inode: Inode(u64::from_le_bytes(inode)) })
    }

    /// A keyed hash over anything, for what else must stay the same across restarts (see `replies`).
    pub(crate) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }

    fn check(&self, body: &[u8]) -> [u8; HANDLE_BYTES - BODY_BYTES] {
        let mut check = [0; HANDLE_BYTES - BODY_BYTES];
        let hash = blake3::keyed_hash(&self.0, body);
        check.copy_from_slice(&hash.as_bytes()[..HANDLE_BYTES - BODY_BYTES]);
        check
    }
}

impl std::fmt::Debug for HandleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandleKey(…)")
    }
}

/// The file system id of one tree: live trees and snapshots differ, and each stays what it is (RFC 1813 `fsid`).
/// Clients take a change of it for a mount point, which is what a snapshot is.
pub fn fsid(dataset: DatasetId, region: Region) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&dataset.0);
    if let Region::Snapshot(id) = region {
        hasher.update(&id.0);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../../docs/formats/nfs-file-handle.md");

    fn example(region: Region) -> Handle {
        Handle { dataset: DatasetId([0x11; 16]), region, inode: Inode(0x0102_0304) }
    }

    #[test]
    fn handles_come_back_whole_and_nothing_else_does() {
        let key = HandleKey::new(b"a store");
        for region in [Region::Live, Region::SnapshotDirectory, Region::Snapshot(SnapshotId([0x22; 16]))] {
            let handle = example(region);
            let sealed = key.seal(&handle);
            assert_eq!(key.open(&sealed), Ok(handle));
            assert_eq!(HandleKey::new(b"another").open(&sealed), Err(Status::BadHandle));
            for bit in 0..HANDLE_BYTES * 8 {
                let mut harmed = sealed;
                harmed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(&harmed), Err(Status::BadHandle), "bit {bit}");
            }
            for len in 0..HANDLE_BYTES {
                assert_eq!(key.open(&sealed[..len]), Err(Status::BadHandle));
            }
        }
    }

    #[test]
    fn the_pages_examples_decode() {
        let key = HandleKey::new(b"narrowboat example store");
        // The first fenced block; an empty line between examples.
        let block = PAGE.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let bytes = |text: &str| -> Vec<u8> {
            text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
        };
        let examples: Vec<Vec<u8>> = block.split("\n\n").map(bytes).collect();
        let expected = [Region::Live, Region::Snapshot(SnapshotId([0x22; 16]))];
        assert_eq!(examples.len(), expected.len());
        for (bytes, region) in examples.iter().zip(expected) {
            assert_eq!(key.open(bytes), Ok(example(region)), "sealed is {:02x?}", key.seal(&example(region)));
        }
    }

    #[test]
    fn trees_differ_in_their_file_system_id() {
        let dataset = DatasetId([1; 16]);
        let live = fsid(dataset, Region::Live);
        assert_eq!(live, fsid(dataset, Region::SnapshotDirectory));
        assert_ne!(live, fsid(dataset, Region::Snapshot(SnapshotId([1; 16]))));
        assert_ne!(
            fsid(dataset, Region::Snapshot(SnapshotId([2; 16]))),
            fsid(dataset, Region::Snapshot(SnapshotId([1; 16])))
        );
        assert_ne!(live, fsid(DatasetId([2; 16]), Region::Live));
    }
}
