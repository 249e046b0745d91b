//! Volumes: creating, finding and resizing them, and the block device that front doors serve.

use std::sync::Arc;

use super::Store;
use super::datasets::{DatasetInfo, check_label};
use crate::catalogue::{Change, DatasetKind, DatasetRow, Policy};
use crate::dataset::BlockDevice;
use crate::dataset::live::Dataset;
use crate::dataset::namespace;
use crate::dataset::volume::check_volume_size;
use crate::error::{Error, Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::units::Timestamp;

impl Store {
    /// Creates a volume of zeros, which takes no room. `size` is 1 MiB to 256 TiB, a multiple of 4096 bytes.
    pub fn create_volume(&self, name: &str, size: u64, policy: Policy, now: Timestamp) -> Result<DatasetInfo> {
        check_label("volume", name, 2)?;
        check_volume_size(size)?;
        self.create_dataset(DatasetKind::Volume, name, size, policy, now, &|table| {
            namespace::format_volume(table, size, now);
        })
    }

    /// The live block device of a volume, or the newest snapshot's of a replica. It stays of use while the dataset exists.
    /// Refused for a share.
    pub fn volume(&self, id: DatasetId) -> Result<Arc<dyn BlockDevice>> {
        Ok(only_volume(self.dataset(id)?)?)
    }

    /// A snapshot of a volume, read-only. Seals the snapshot first if need be.
    pub fn snapshot_volume(&self, id: SnapshotId) -> Result<Arc<dyn BlockDevice>> {
        Ok(only_volume(self.snapshot_dataset(id)?)?)
    }

    /// Makes a volume larger, while it is in use. Durable when it returns. Refused where it would shrink.
    pub fn resize_volume(&self, name: &str, size: u64, now: Timestamp) -> Result<DatasetInfo> {
        let _administration = self.administration();
        let row = self.row_named(name)?;
        let dataset = only_volume(self.dataset(row.id)?)?;
        // The record of the volume is the truth; the row follows it, at the next start if need be.
        self.stages.make_stable(dataset.resize(size, now)?)?;
        self.administer(&[Change::dataset(&DatasetRow { size, ..row })], now)?;
        self.dataset_named(name)
    }

    /// Brings the sizes that the catalogue has of volumes up to their records, after a start.
    pub(super) fn learn_sizes(&self) -> Result<()> {
        for row in self.stages.catalogue.all_datasets().into_iter().filter(|row| row.kind == DatasetKind::Volume) {
            match self.any_dataset(row.id)?.learn_size() {
                Ok(size) if size == row.size => {}
                Ok(size) => self.stages.catalogue.apply(&[Change::dataset(&DatasetRow { size, ..row })])?,
                // It was set aside, or answers with its damage when it is used.
                Err(Error::Damage(_) | Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn only_volume(dataset: Arc<Dataset>) -> Result<Arc<Dataset>> {
    match dataset.kind {
        DatasetKind::Volume => Ok(dataset),
        DatasetKind::Share => Err(Refusal::WrongType.into()),
    }
}
