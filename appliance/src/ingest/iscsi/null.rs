//! A disk without a store: answers everything as fast as it can, so that the cost of the protocol alone is measured.
//!
//! Reads give the bytes of a fixed pattern, writes are thrown away. Never for anybody's data.

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::Result;

use super::scsi::reserve::Reservations;
use super::scsi::{Device, Disk, Extent, Identity, Keeper, LogicalUnit, Shape};
use super::{Access, Target, Targets};

/// Bytes are handed out in slices of this length, about as long as a store's chunks.
const PIECE_BYTES: u64 = 64 << 10;

/// The disk.
pub struct NullDisk {
    pattern: Bytes,
    size_bytes: u64,
}

impl NullDisk {
    /// A disk of so many bytes.
    pub fn new(size_bytes: u64) -> Self {
        NullDisk { pattern: (0..PIECE_BYTES).map(|at| at as u8).collect(), size_bytes }
    }
}

impl Disk for NullDisk {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, _: u64, len: u64) -> Result<Vec<Bytes>> {
        let piece = |at: u64| self.pattern.slice(..(len - at * PIECE_BYTES).min(PIECE_BYTES) as usize);
        Ok((0..len.div_ceil(PIECE_BYTES)).map(piece).collect())
    }

    fn write(&self, _: u64, _: Bytes, _: bool) -> Result<()> {
        Ok(())
    }

    fn begin_write(&self, _: u64, _: Vec<Bytes>) -> Result<u64> {
        Ok(0)
    }

    fn discard(&self, _: &[(u64, u64)], _: bool) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { allocated: true, len: self.size_bytes - offset.min(self.size_bytes) })
    }
}

/// Forgets what it is told to keep.
struct Forgetful;

impl Keeper for Forgetful {
    fn keep(&self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// One target, with a [`NullDisk`] as its unit 0, for everyone.
pub struct NullTargets(Arc<Target>);

impl NullTargets {
    /// Names the target and gives its disk a size.
    pub fn new(name: &str, size_bytes: u64) -> Self {
        let disk = Arc::new(NullDisk::new(size_bytes));
        let (identity, keeper) = (Identity::new([1; 16]), Arc::new(Forgetful));
        let unit = LogicalUnit::new(disk, identity, Shape::EMULATED_512, keeper, Reservations::default());
        let device = Arc::new(Device::new([(0, Arc::new(unit))].into(), None));
        NullTargets(Arc::new(Target { name: name.into(), alias: String::new(), access: Access::default(), device }))
    }
}

impl Targets for NullTargets {
    fn list(&self) -> Vec<Arc<Target>> {
        vec![self.0.clone()]
    }
}
