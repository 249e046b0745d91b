//! The pump's steps as the store sees them: freeze what is large, drain what is frozen, move heads, trim the journal.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Store;
use super::open::applied_change;
use crate::catalogue::{Change, Head, Sealed};
use crate::dataset::live::Dataset;
use crate::dataset::namespace::{Key, Totals};
use crate::dataset::state::Base;
use crate::drain::Drained;
use crate::error::{Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::tree::map;
use crate::units::{Lsn, Timestamp};

/// What became of an attempt to drain one dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Drained,
    NothingFrozen,
    /// Another thread is at it.
    Busy,
}

impl Store {
    /// Waits until there is something to drain, at most `patience`. False once the store is closing.
    pub fn wait_for_work(&self, patience: Duration) -> bool {
        self.stages.pressure.wait_for_work(patience)
    }

    /// Drains one layer of one dataset, if any waits. True where it did, so that there may be more.
    ///
    /// A failure (a full disk, a fault) changes nothing; call again later. Several threads may call this at once.
    pub fn drain_step(&self, now: Timestamp) -> Result<bool> {
        let outcome = self.drain_any(now);
        self.stages.pressure.pump_did(&outcome);
        outcome
    }

    fn drain_any(&self, now: Timestamp) -> Result<bool> {
        for dataset in self.open_datasets().into_iter().filter(|dataset| !dataset.read_only) {
            let owes_much = self.owes_much(&dataset);
            if owes_much || dataset.is_large() {
                // What can be cut must not go into the journal inline only because the layer is full.
                dataset.cut_everything()?;
            }
            dataset.freeze_if_large(now, owes_much)?;
            if self.drain_one(&dataset)? == Step::Drained {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Drains everything that was written so far, of all datasets: for closing, and for tests.
    pub fn drain_all(&self, now: Timestamp) -> Result<()> {
        for dataset in self.open_datasets().into_iter().filter(|dataset| !dataset.read_only) {
            dataset.freeze_if_large(now, true)?;
            self.drain_while(&dataset, &|| true)?;
        }
        Ok(())
    }

    /// Drains everything and leaves all files as they are best found. The store can be used on.
    pub fn close(&self, now: Timestamp) -> Result<()> {
        self.drain_all(now)?;
        self.stages.make_stable(self.stages.journal.last())?;
        self.trim_journal()?;
        self.stages.journal.vouch()?;
        self.stages.pool.close()
    }

    /// Wakes whoever waits in [`Store::wait_for_work`] or for room, for the last time.
    pub fn stop_waiting(&self) {
        self.stages.pressure.close();
    }

    /// The root below all layers of a dataset.
    pub(crate) fn base_root(&self, dataset: DatasetId) -> Result<Option<crate::name::Name>> {
        Ok(self.dataset(dataset)?.base().root)
    }

    fn owes_much(&self, dataset: &Dataset) -> bool {
        self.stages.journal.bytes_since(dataset.base().lsn) > self.stages.pressure.options.owed_bytes
    }

    /// Drains a dataset while there is something frozen and `wanted` says so.
    fn drain_while(&self, dataset: &Arc<Dataset>, wanted: &dyn Fn() -> bool) -> Result<()> {
        while wanted() {
            match self.drain_one(dataset)? {
                Step::Drained => {}
                Step::NothingFrozen => break,
                Step::Busy => self.wait_for_other_drain(dataset.id),
            }
        }
        Ok(())
    }

    /// Sees to it that a snapshot is sealed, draining for it if need be. Refused where there is no such snapshot.
    pub fn seal(&self, snapshot: SnapshotId) -> Result<Sealed> {
        let find = || self.stages.catalogue.snapshot(snapshot);
        let gone = || Refusal::NotFound(format!("snapshot {snapshot}"));
        let row = find().ok_or_else(gone)?;
        if row.sealed.is_none() {
            let dataset = self.dataset(row.dataset)?;
            self.drain_while(&dataset, &|| find().is_some_and(|row| row.sealed.is_none()))?;
        }
        find().and_then(|row| row.sealed).ok_or_else(|| gone().into())
    }

    /// Does something while no drain step of a dataset is under way.
    pub(super) fn without_drain<T>(&self, dataset: DatasetId, work: impl FnOnce() -> Result<T>) -> Result<T> {
        while !self.lock_draining().insert(dataset) {
            self.wait_for_other_drain(dataset);
        }
        let outcome = work();
        self.lock_draining().remove(&dataset);
        self.drained.notify_all();
        outcome
    }

    fn drain_one(&self, dataset: &Arc<Dataset>) -> Result<Step> {
        if !self.lock_draining().insert(dataset.id) {
            return Ok(Step::Busy);
        }
        let outcome = self.drain_claimed(dataset);
        self.lock_draining().remove(&dataset.id);
        self.drained.notify_all();
        // Only now: whoever holds the administration may be waiting for this dataset's drain to end.
        if matches!(outcome, Ok(Step::Drained)) {
            self.trim_journal_if_due()?;
        }
        outcome
    }

    fn drain_claimed(&self, dataset: &Arc<Dataset>) -> Result<Step> {
        let Some(drained) = dataset.drain_oldest()? else { return Ok(Step::NothingFrozen) };
        self.stages.pool.settle()?;
        self.stages.make_stable(drained.layer.last)?;
        self.stages.catalogue.apply(&self.head_changes(dataset, &drained)?)?;
        dataset.drained(&drained);
        Ok(Step::Drained)
    }

    /// The new head, the snapshots that it seals, and the calls that its journal records would no longer tell of.
    fn head_changes(&self, dataset: &Dataset, drained: &Drained) -> Result<Vec<Change>> {
        let head = Head { root: drained.base.root, lsn: drained.base.lsn, next_inode: dataset.next_inode() };
        let mut changes = vec![Change::head(dataset.id, head), Change::calls(dataset.id, &dataset.calls())];
        for snapshot in &drained.layer.snapshots {
            changes.extend(self.seal_change(*snapshot, drained.base, head.next_inode)?);
        }
        Ok(changes)
    }

    fn seal_change(&self, snapshot: SnapshotId, base: Base, next_inode: u64) -> Result<Option<Change>> {
        let Some(mut row) = self.stages.catalogue.snapshot(snapshot) else { return Ok(None) };
        let objects = self.stages.pool.on(crate::pool::StreamId::MISC);
        let totals = match map::get(&objects, base.root.as_ref(), &Key::Totals.encode())? {
            Some(value) => Totals::decode(&value)?,
            None => Totals::default(),
        };
        let Totals { files, logical_bytes, .. } = totals;
        row.sealed = Some(Sealed { root: base.root, next_inode, logical_bytes, files });
        Ok(Some(Change::snapshot(&row)))
    }

    /// Seals a snapshot that turned out to be equal to a root that there is already.
    pub(super) fn seal_at(&self, snapshot: SnapshotId, base: Base) -> Result<()> {
        let row = self.stages.catalogue.snapshot(snapshot);
        let next_inode = row.map_or(0, |row| self.stages.catalogue.head(row.dataset).next_inode);
        match self.seal_change(snapshot, base, next_inode)? {
            Some(change) => self.stages.catalogue.apply(&[change]),
            None => Ok(()),
        }
    }

    /// Trims once at least a segment could go.
    fn trim_journal_if_due(&self) -> Result<()> {
        let journal = &self.stages.journal;
        let owed = self.open_datasets().iter().filter_map(|dataset| dataset.owed_from()).min();
        let owed_bytes = owed.map_or(0, |lsn| journal.bytes_since(lsn));
        if journal.disk_bytes() > owed_bytes + self.segment_bytes {
            self.trim_journal()?;
        }
        Ok(())
    }

    /// Removes what of the journal is owed to nobody. Before that, an image of the catalogue takes over what the removed
    /// records knew of it, and heads of datasets that rest move up to what is kept.
    fn trim_journal(&self) -> Result<()> {
        let _no_changes = self.administration();
        let last = self.stages.journal.last();
        self.stages.make_stable(last)?;
        let mut keep_after = last;
        let mut changes = vec![applied_change(last)];
        for dataset in self.open_datasets().iter().filter(|dataset| !dataset.read_only) {
            if dataset.move_up_if_idle(last) {
                let base = dataset.base();
                let head = Head { root: base.root, lsn: base.lsn, next_inode: dataset.next_inode() };
                changes.push(Change::head(dataset.id, head));
                changes.push(Change::calls(dataset.id, &dataset.calls()));
            }
            keep_after = keep_after.min(dataset.base().lsn);
        }
        self.stages.catalogue.apply(&changes)?;
        self.stages.catalogue.write_image(last)?;
        self.stages.journal.trim(keep_after)?;
        Ok(())
    }

    fn lock_draining(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<DatasetId>> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_other_drain(&self, dataset: DatasetId) {
        let draining = self.lock_draining();
        drop(self.drained.wait_while(draining, |draining| draining.contains(&dataset)));
    }
}

/// What a dataset still needs of the journal.
impl Dataset {
    /// The base below all layers.
    pub(crate) fn base(&self) -> Base {
        self.read_state().base
    }

    /// The inode number that the next new file gets.
    pub(crate) fn next_inode(&self) -> u64 {
        self.read_state().next_inode
    }

    /// The record behind which the journal is owed to this dataset; `None` where nothing is.
    fn owed_from(&self) -> Option<Lsn> {
        let state = self.read_state();
        let idle = self.read_only || (state.active.is_empty() && state.frozen.is_empty());
        (!idle).then_some(state.base.lsn)
    }

    /// Moves the base of a dataset without layers up to `last`: no record up to there is missing from its root.
    fn move_up_if_idle(&self, last: Lsn) -> bool {
        let mut state = self.write_state();
        let idle = state.active.is_empty() && state.frozen.is_empty() && state.base.lsn < last;
        // A record of this dataset behind `last` would have made a layer.
        if idle {
            state.base.lsn = last;
        }
        idle
    }
}
