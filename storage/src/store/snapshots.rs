//! Snapshots: making, finding, holding, deleting, cloning and comparing them.

use std::sync::Arc;

use super::Store;
use super::datasets::{DatasetInfo, check_label};
use super::time::Moment;
use crate::catalogue::{Change, DatasetKind, DatasetRow, DeletedBy, SnapshotRow, encode_changes};
use crate::dataset::FileTree;
use crate::dataset::live::{Dataset, Mode};
use crate::dataset::state::Base;
use crate::error::{Refusal, Result};
use crate::id::SnapshotId;
use crate::units::{Lsn, Timestamp};

impl Store {
    /// Holds the present moment of a dataset fast: everything that was written to it before is in, nothing later is.
    /// Durable when it returns, and at once: no drain step is waited for. Its time is that of the moment, not of the call. Its root
    /// follows when the drain gets there ([`Store::seal`]).
    pub fn create_snapshot(&self, dataset: &str, name: &str, now: Timestamp) -> Result<SnapshotRow> {
        check_label("snapshot", name, 1)?;
        let row = self.row_named(dataset)?;
        if row.read_only {
            return Err(Refusal::ReadOnly.into());
        }
        let live = self.dataset(row.id)?;
        // Before anybody has to wait for this: what was written much may take long to be cut.
        live.cut_everything()?;
        let _administration = self.administration();
        let row = self.row_named(dataset)?;
        let _in_use = self.stages.pool.in_use();
        if row.id != live.id {
            return Err(Refusal::Busy.into());
        }
        self.refuse_taken_moment(&row, name)?;
        let mut snapshot = SnapshotRow {
            id: SnapshotId::new(&self.stages.ids),
            dataset: row.id,
            name: name.to_owned(),
            time: now,
            lsn: Lsn(0),
            sealed: None,
            held: false,
        };
        // The drain seals what it finds in the catalogue, so it does not end a step of the frozen layer before that is there.
        let _unrecorded = self.unrecorded(snapshot.id);
        let id = snapshot.id;
        let locks = self.locks_of_new(&row, id);
        let value = |time| {
            snapshot.time = time;
            encode_changes(&[&[Change::snapshot(&snapshot)], locks.as_slice()].concat())
        };
        let (lsn, base) = live.freeze_for(id, value, now)?;
        self.stages.make_stable(lsn)?;
        snapshot.lsn = lsn;
        snapshot.sealed = base.map(|base| self.sealed_at(base, live.next_inode())).transpose()?;
        let changes = [&[Change::snapshot(&snapshot), Change::applied(lsn)], locks.as_slice()].concat();
        self.stages.catalogue.apply_journaled(&changes)?;
        self.snapshot(snapshot.id)
    }

    /// Refuses a name that stands for a moment of a dataset already: snapshots and marks are named in the same places, so
    /// that nobody gets another moment than the one he means.
    pub(super) fn refuse_taken_moment(&self, row: &DatasetRow, name: &str) -> Result<()> {
        let taken = |what: &str| Err(Refusal::Exists(format!("{what} {}@{name}", row.name)).into());
        if self.stages.catalogue.snapshots(Some(row.id)).iter().any(|snapshot| snapshot.name == name) {
            return taken("snapshot");
        }
        if self.marks_within(row.id).iter().any(|mark| mark.label == name) {
            return taken("mark");
        }
        Ok(())
    }

    /// A snapshot by its dataset's name and its own.
    pub fn snapshot_named(&self, dataset: &str, name: &str) -> Result<SnapshotRow> {
        let row = self.row_named(dataset)?;
        let found = self.stages.catalogue.snapshots(Some(row.id)).into_iter().find(|snapshot| snapshot.name == name);
        found.ok_or_else(|| Refusal::NotFound(format!("snapshot {dataset}@{name}")).into())
    }

    /// True where something was written to a dataset since a snapshot of it. Where that came to the same bytes it is none, once it is
    /// drained.
    pub fn changed_since(&self, snapshot: &SnapshotRow) -> Result<bool> {
        let root = snapshot.sealed.map(|sealed| sealed.root);
        Ok(self.dataset(snapshot.dataset)?.changed_since(snapshot.lsn, root))
    }

    /// A snapshot's tree, read-only. Seals the snapshot first if need be. Refused for a snapshot of a volume.
    pub fn snapshot_tree(&self, id: SnapshotId) -> Result<Arc<dyn FileTree>> {
        let dataset = self.snapshot_dataset(id)?;
        match dataset.kind {
            DatasetKind::Share => Ok(dataset),
            DatasetKind::Volume => Err(Refusal::WrongType.into()),
        }
    }

    /// What a snapshot holds, as a dataset of its own that nobody can write.
    pub(super) fn snapshot_dataset(&self, id: SnapshotId) -> Result<Arc<Dataset>> {
        let sealed = self.seal(id)?;
        let snapshot = self.snapshot(id)?;
        let live = self.stages.catalogue.dataset(snapshot.dataset);
        let live = live.ok_or_else(|| Refusal::NotFound(format!("dataset {}", snapshot.dataset)))?;
        let row = DatasetRow { size: sealed.volume_bytes(live.kind), ..live };
        let base = Base { root: sealed.root, lsn: snapshot.lsn };
        let mut dataset = Dataset::new(&row, self.stages.clone(), Mode::ReadOnly, base, sealed.next_inode);
        // Whoever reads it goes on reading when the snapshot is deleted.
        dataset.hold_tree(sealed.root.map(|root| self.stages.pool.hold(&root)).transpose()?);
        Ok(Arc::new(dataset))
    }

    /// Deletes a snapshot, as a person does: until the quarantine is over it can be had back ([`Store::undelete_snapshot`]). Refused
    /// while it is held or locked.
    pub fn delete_snapshot(&self, dataset: &str, name: &str, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        self.delete(&self.snapshot_named(dataset, name)?, DeletedBy::Person, now)
    }

    /// Deletes that very snapshot, whatever has its name by now. Refused while it is held or locked.
    pub fn delete_snapshot_by_id(&self, id: SnapshotId, by: DeletedBy, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        self.delete(&self.snapshot(id)?, by, now)
    }

    fn delete(&self, row: &SnapshotRow, by: DeletedBy, now: Timestamp) -> Result<()> {
        self.refuse_kept(row, "")?;
        self.administer_freeing(&self.deletion(row.id, by, now), now)
    }

    /// Deletes a snapshot for good, at once: one that the box made for itself and that nobody asked for. Refused while it is held or
    /// locked.
    pub fn discard_snapshot(&self, id: SnapshotId, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        self.refuse_kept(&self.snapshot(id)?, "")?;
        self.administer(&[Change::no_snapshot(id), Change::no_lock(id)], now)
    }

    /// Holds a snapshot, so that it can't be deleted, or releases it.
    pub fn hold_snapshot(&self, dataset: &str, name: &str, held: bool, now: Timestamp) -> Result<SnapshotRow> {
        let id = self.snapshot_named(dataset, name)?.id;
        // What is journaled is the whole row: with its root, so that applying it again later does not unseal it.
        self.seal(id)?;
        let _administration = self.administration();
        let mut row = self.snapshot(id)?;
        row.held = held;
        self.administer(&[Change::snapshot(&row)], now)?;
        Ok(row)
    }

    /// A new writable dataset that starts as the snapshot was.
    pub fn clone_snapshot(&self, dataset: &str, snapshot: &str, name: &str, now: Timestamp) -> Result<DatasetInfo> {
        self.clone_at(dataset, &Moment::Snapshot(snapshot.to_owned()), name, now)
    }
}
