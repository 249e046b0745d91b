//! A volume of the store as a [`Disk`].

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::Result;
use narrowboat_storage::dataset::BlockDevice;
use narrowboat_storage::units::{Lsn, Timestamp};

use super::scsi::{Disk, Extent};

/// A volume or a snapshot of one. Every write and every discard is one record: whole or not at all, also after a crash.
pub struct VolumeDisk {
    volume: Arc<dyn BlockDevice>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl VolumeDisk {
    /// Presents `volume`; changes have the time of `clock`, the box's guarded one.
    pub fn new(volume: Arc<dyn BlockDevice>, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        VolumeDisk { volume, clock }
    }

    /// What has to be so before a change is answered: an initiator that is told of it never sends it again, even if the box is
    /// killed and started anew meanwhile.
    fn settle(&self, lsn: Lsn, stable: bool) -> Result<()> {
        if stable { self.volume.make_stable(lsn) } else { self.volume.write_out(lsn) }
    }
}

impl Disk for VolumeDisk {
    fn size_bytes(&self) -> u64 {
        self.volume.size_bytes()
    }

    fn read_only(&self) -> bool {
        self.volume.read_only()
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        self.volume.read(offset, len)
    }

    fn write(&self, offset: u64, data: Bytes, stable: bool) -> Result<()> {
        let lsn = self.volume.write((self.clock)(), offset, data)?;
        self.settle(lsn, stable)
    }

    fn begin_write(&self, offset: u64, data: Vec<Bytes>) -> Result<u64> {
        Ok(self.volume.write_pieces((self.clock)(), offset, data)?.0)
    }

    fn settle(&self, upto: u64) -> Result<()> {
        VolumeDisk::settle(self, Lsn(upto), false)
    }

    fn discard(&self, ranges: &[(u64, u64)], stable: bool) -> Result<()> {
        let lsn = self.volume.discard((self.clock)(), ranges)?;
        self.settle(lsn, stable)
    }

    fn sync(&self) -> Result<()> {
        self.volume.flush()
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        let allocation = self.volume.allocation(offset)?;
        Ok(Extent { allocated: allocation.allocated, len: allocation.len })
    }
}
