//! Rows that say that a dataset or a snapshot was deleted, and until when it can be had back. `docs/formats/catalogue.md` owns the bytes.
//!
//! Such a row lies beside those of what was deleted, which stay as they are: so all that keeps a tree, seals a snapshot or brings a
//! dataset back after a crash goes on as before, and only who looks for what *is there* passes it over.

use super::rows::{key, value};
use super::{Catalogue, Change, Contents, DELETED_DATASET, DELETED_SNAPSHOT, DatasetRow, SnapshotRow};
use crate::codec::{Malformed, Put, Reader};
use crate::id::{DatasetId, SnapshotId};
use crate::units::Timestamp;

/// Who deleted something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeletedBy {
    /// A person, by a command.
    Person = 1,
    /// A rule of retention.
    Retention = 2,
    /// The box, which let go of a replica's snapshot that its plans no longer need.
    Plan = 3,
}

/// That something was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// It can be had back until the store has been seen running for so many seconds ([`crate::Store::run_seconds`]).
    pub until: u64,
    /// When it was deleted, by the time of the journal.
    pub time: Timestamp,
    /// By whom.
    pub by: DeletedBy,
}

impl Deleted {
    fn encode(self, value: &mut Vec<u8>) {
        value.put_u64(self.until);
        value.put_i64(self.time.0);
        value.put_u8(self.by as u8);
    }

    pub(super) fn decode(reader: &mut Reader) -> Result<Deleted, Malformed> {
        let (until, time) = (reader.u64()?, Timestamp(reader.i64()?));
        let by = match reader.u8()? {
            1 => DeletedBy::Person,
            2 => DeletedBy::Retention,
            3 => DeletedBy::Plan,
            _ => return Err(reader.malformed()),
        };
        Ok(Deleted { until, time, by })
    }
}

impl Change {
    /// Deletes a snapshot, or (`None`) takes that back, or forgets it with the snapshot itself.
    pub fn deleted_snapshot(id: SnapshotId, deleted: Option<Deleted>) -> Change {
        let encode = |deleted: Deleted| value(|value| deleted.encode(value));
        Change { key: key(DELETED_SNAPSHOT, &id.0), value: deleted.and_then(encode) }
    }

    /// The same of a dataset, with all its snapshots.
    pub fn deleted_dataset(id: DatasetId, deleted: Option<Deleted>) -> Change {
        let encode = |deleted: Deleted| value(|value| deleted.encode(value));
        Change { key: key(DELETED_DATASET, &id.0), value: deleted.and_then(encode) }
    }
}

impl Contents {
    /// True where the dataset is there.
    pub(super) fn has_dataset(&self, id: DatasetId) -> bool {
        !self.deleted_datasets.contains_key(&id)
    }

    /// True where the snapshot is there, and its dataset.
    pub(super) fn has_snapshot(&self, row: &SnapshotRow) -> bool {
        !self.deleted_snapshots.contains_key(&row.id) && self.has_dataset(row.dataset)
    }
}

impl Catalogue {
    /// All datasets, deleted ones among them, in the order of their ids.
    pub fn all_datasets(&self) -> Vec<DatasetRow> {
        self.read(|contents| contents.datasets.values().cloned().collect())
    }

    /// A dataset by its id, also a deleted one.
    pub fn any_dataset(&self, id: DatasetId) -> Option<DatasetRow> {
        self.read(|contents| contents.datasets.get(&id).cloned())
    }

    /// Snapshots of one dataset, or of all, oldest first, deleted ones among them.
    pub fn all_snapshots(&self, dataset: Option<DatasetId>) -> Vec<SnapshotRow> {
        self.snapshots_where(|_, row| dataset.is_none_or(|dataset| row.dataset == dataset))
    }

    /// A snapshot by its id, also a deleted one.
    pub fn any_snapshot(&self, id: SnapshotId) -> Option<SnapshotRow> {
        self.read(|contents| contents.snapshots.get(&id).cloned())
    }

    /// That a dataset was deleted, if it was.
    pub fn dataset_deleted(&self, id: DatasetId) -> Option<Deleted> {
        self.read(|contents| contents.deleted_datasets.get(&id).copied())
    }

    /// That a snapshot was deleted by itself, if it was.
    pub fn snapshot_deleted(&self, id: SnapshotId) -> Option<Deleted> {
        self.read(|contents| contents.deleted_snapshots.get(&id).copied())
    }

    /// All datasets that were deleted and are kept.
    pub fn deleted_datasets(&self) -> Vec<(DatasetRow, Deleted)> {
        let rows = |contents: &Contents| {
            let of = |(id, deleted): (&DatasetId, &Deleted)| Some((contents.datasets.get(id)?.clone(), *deleted));
            contents.deleted_datasets.iter().filter_map(of).collect()
        };
        self.read(rows)
    }

    /// All snapshots that were deleted by themselves and are kept, also those whose dataset was deleted later.
    pub fn deleted_snapshots(&self) -> Vec<(SnapshotRow, Deleted)> {
        let rows = |contents: &Contents| {
            let of = |(id, deleted): (&SnapshotId, &Deleted)| Some((contents.snapshots.get(id)?.clone(), *deleted));
            contents.deleted_snapshots.iter().filter_map(of).collect()
        };
        self.read(rows)
    }

    /// True where nothing that was deleted is kept.
    pub fn keeps_nothing_deleted(&self) -> bool {
        self.read(|contents| contents.deleted_datasets.is_empty() && contents.deleted_snapshots.is_empty())
    }

    /// True where something that was deleted is to go, once the store has been seen running for so many seconds. Costs nothing but a look.
    pub fn has_deletion_due(&self, ran: u64) -> bool {
        let due = |deleted: &Deleted| deleted.until <= ran;
        self.read(|contents| {
            contents.deleted_datasets.values().any(due) || contents.deleted_snapshots.values().any(due)
        })
    }

    /// Rows of deletions whose dataset or snapshot is gone: an earlier version, which does not know them, has deleted it for good.
    pub fn stray_deletions(&self) -> Vec<Change> {
        let rows = |contents: &Contents| {
            let datasets = contents.deleted_datasets.keys().filter(|id| !contents.datasets.contains_key(id));
            let snapshots = contents.deleted_snapshots.keys().filter(|id| !contents.snapshots.contains_key(id));
            let datasets = datasets.map(|id| Change::deleted_dataset(*id, None));
            datasets.chain(snapshots.map(|id| Change::deleted_snapshot(*id, None))).collect()
        };
        self.read(rows)
    }

    pub(super) fn snapshots_where(&self, wanted: impl Fn(&Contents, &SnapshotRow) -> bool) -> Vec<SnapshotRow> {
        let all = |contents: &Contents| {
            contents.snapshots.values().filter(|row| wanted(contents, row)).cloned().collect::<Vec<_>>()
        };
        let mut rows = self.read(all);
        rows.sort_by_key(|row| (row.dataset, row.time, row.lsn, row.id));
        rows
    }
}
