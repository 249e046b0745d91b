//! The pump's steps as the store sees them: freeze what is large, drain what is frozen, move heads. What that leaves of the
//! journal goes in `trim`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Store;
use super::split::Leave;
use crate::catalogue::{Change, DatasetRow, Head, Sealed, SnapshotRow};
use crate::dataset::Deferral;
use crate::dataset::layer::Layer;
use crate::dataset::live::Dataset;
use crate::dataset::namespace::{Key, Totals};
use crate::dataset::state::Base;
use crate::error::{Damage, Error, Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::tree::map;
use crate::units::{Lsn, Timestamp};

/// What became of a drain step.
enum Pumped {
    /// True where there may be more to do.
    Did(bool),
    /// There is nothing to do but what damage keeps from being done in one dataset.
    Stuck(Damage),
}

/// Why a drain step could not do all that waits.
#[derive(Default)]
struct Trouble {
    failed: Option<Error>,
    stuck: Option<Damage>,
}

impl Trouble {
    /// Notes why a dataset could not be drained at `now`.
    fn note(&mut self, dataset: &Dataset, now: Timestamp, error: Error) {
        match (&error, dataset.tried(now)) {
            (Error::Damage(_), Some(damage)) => drop(self.stuck.get_or_insert(damage)),
            _ => drop(self.failed.get_or_insert(error)),
        }
    }
}

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
    /// A failure (a full disk, a fault) changes nothing; call again later. Several threads may call this at once. To be called
    /// every few seconds also where nothing waits: it tells the store the time, and time that nobody tells of does not count
    /// as passed ([`Store::jumps`]).
    ///
    /// A dataset that damage keeps from being drained is tried again every half a minute. Until it can be, this returns the damage
    /// whenever there is nothing else to drain.
    pub fn drain_step(&self, now: Timestamp) -> Result<bool> {
        let pressure = &self.stages.pressure;
        let failure = match self.drain_any(now) {
            Ok(Pumped::Did(more)) => {
                pressure.pump_did(None);
                return Ok(more);
            }
            Ok(Pumped::Stuck(damage)) => {
                let damage = Error::from(damage);
                pressure.pump_did(Some(&damage).filter(|_| pressure.aside_is_full()));
                damage
            }
            Err(error) => {
                pressure.pump_did(Some(&error));
                error
            }
        };
        Err(failure)
    }

    /// True where the last drain step failed with what concerns all datasets, so that nothing is gained by another one at once.
    pub fn is_stalled(&self) -> bool {
        self.stages.pressure.is_stalled()
    }

    fn drain_any(&self, now: Timestamp) -> Result<Pumped> {
        self.stages.tell(now)?;
        self.stages.pool.keep_wounds();
        self.make_room_for_windows(now)?;
        let mut datasets = self.open_datasets();
        datasets.retain(|dataset| !dataset.read_only);
        if !datasets.is_empty() {
            // Everybody's turn comes, however busy the first is.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % datasets.len();
            datasets.rotate_left(turn);
        }
        let mut trouble = Trouble::default();
        // What is damaged in one dataset does not keep the others waiting.
        let mut sound = Vec::with_capacity(datasets.len());
        for dataset in &datasets {
            if let Some(damage) = dataset.stuck_for_now(now) {
                trouble.stuck.get_or_insert(damage);
                continue;
            }
            match self.drain_turn(dataset, now, self.owes_much(dataset)) {
                Ok(Step::Drained) => return Ok(Pumped::Did(true)),
                Ok(Step::NothingFrozen | Step::Busy) => sound.push(dataset),
                Err(error) => trouble.note(dataset, now, error),
            }
        }
        // Many small layers can fill the memory as well as a few large ones.
        if self.stages.pressure.is_crowded()
            && let Some(largest) = sound.into_iter().max_by_key(|dataset| dataset.active_bytes())
        {
            match self.drain_turn(largest, now, true) {
                Ok(Step::Drained) => return Ok(Pumped::Did(true)),
                Ok(Step::NothingFrozen | Step::Busy) => {}
                Err(error) => trouble.note(largest, now, error),
            }
        }
        match trouble {
            Trouble { failed: Some(error), .. } => Err(error),
            Trouble { stuck: Some(damage), .. } => Ok(Pumped::Stuck(damage)),
            _ => self.split_and_trim(Leave::Usual, now).map(Pumped::Did),
        }
    }

    /// Drains a layer of one dataset, which is frozen for it if it is large, or if it `must` and none waits yet: many small
    /// layers cost more than a few large ones, in which what is written again and again is merged once.
    fn drain_turn(&self, dataset: &Arc<Dataset>, now: Timestamp, must: bool) -> Result<Step> {
        let must = must && !dataset.has_frozen();
        if must || dataset.is_large() {
            // What can be cut must not go into the journal inline only because the layer is full.
            dataset.cut_everything().inspect_err(|error| dataset.stick(error))?;
        }
        dataset.freeze_if_large(now, must)?;
        let step = self.drain_one(dataset)?;
        if step == Step::NothingFrozen {
            dataset.not_stuck();
        }
        Ok(step)
    }

    /// Drains everything that was written so far, of all datasets: for closing, and for tests. What is damaged in one does
    /// not keep the others from it; the first failure is the result.
    pub fn drain_all(&self, now: Timestamp) -> Result<()> {
        let mut outcome = Ok(());
        for dataset in self.open_datasets().into_iter().filter(|dataset| !dataset.read_only) {
            let drained = dataset.freeze_if_large(now, true).and_then(|()| self.drain_while(&dataset, &|| true));
            outcome = outcome.and(drained);
        }
        outcome
    }

    /// Drains everything and leaves all files as they are best found. The store can be used on.
    pub fn close(&self, now: Timestamp) -> Result<()> {
        self.drain_all(now)?;
        self.keep_run(now)?;
        self.stages.make_stable(self.stages.journal.last())?;
        self.trim_journal()?;
        self.stages.vouch()?;
        self.stages.pool.close()
    }

    /// Wakes whoever waits in [`Store::wait_for_work`] or for room, for the last time.
    pub fn stop_waiting(&self) {
        self.stages.pressure.close();
    }

    /// The root below all layers of a dataset.
    pub(crate) fn base_root(&self, dataset: DatasetId) -> Result<Option<crate::name::Name>> {
        Ok(self.any_dataset(dataset)?.base().root)
    }

    fn owes_much(&self, dataset: &Dataset) -> bool {
        let options = &self.stages.pressure.options;
        let bound = if dataset.is_deferred() { self.deferred_bound() } else { options.deferred_bytes };
        dataset.is_due(self.waiting_bytes(dataset), options.owed_bytes, bound)
    }

    /// Bytes of journal that are kept for what a dataset has not drained.
    fn waiting_bytes(&self, dataset: &Dataset) -> u64 {
        dataset.owed_from().map_or(0, |lsn| self.stages.journal.bytes_since(lsn))
    }

    /// How much may wait of a dataset that defers: as much as was set, and no more than the disk could take once more.
    fn deferred_bound(&self) -> u64 {
        let free = self.stages.space().map_or(u64::MAX, |space| space.free_bytes);
        self.stages.pressure.options.deferred_bytes.min(free)
    }

    /// Says whether the hours of a dataset have come whose policy is to deduplicate later; of others it changes nothing.
    pub fn set_deferred_hours(&self, dataset: DatasetId, come: bool) -> Result<()> {
        self.dataset(dataset)?.set_hours(come);
        if come {
            self.stages.pressure.call_pump();
        }
        Ok(())
    }

    /// What waits of a dataset that deduplicates later; `None` where that is not its policy.
    pub fn deferral(&self, dataset: DatasetId) -> Result<Option<Deferral>> {
        let dataset = self.dataset(dataset)?;
        Ok(dataset.is_deferred().then(|| Deferral {
            hours: dataset.has_hours(),
            waiting_bytes: self.waiting_bytes(&dataset),
            bound_bytes: self.deferred_bound(),
            overrun: dataset.is_overrun(),
            overruns: dataset.overruns(),
        }))
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
        self.seal_found(snapshot, &|| self.stages.catalogue.snapshot(snapshot))
    }

    /// The same also of one that was deleted and is kept; its dataset is there.
    pub(super) fn seal_kept(&self, snapshot: SnapshotId) -> Result<Sealed> {
        self.seal_found(snapshot, &|| self.stages.catalogue.any_snapshot(snapshot))
    }

    fn seal_found(&self, snapshot: SnapshotId, find: &dyn Fn() -> Option<SnapshotRow>) -> Result<Sealed> {
        let gone = || Refusal::NotFound(format!("snapshot {snapshot}"));
        let row = find().ok_or_else(gone)?;
        if row.sealed.is_none() {
            let dataset = self.dataset(row.dataset)?;
            dataset.read_state().refuse_if_shut()?;
            self.drain_while(&dataset, &|| find().is_some_and(|row| row.sealed.is_none()))?;
        }
        find().and_then(|row| row.sealed).ok_or_else(|| gone().into())
    }

    /// Administers a dataset while no drain step of it is under way. The step that is, is waited for before the administration is
    /// taken: nobody else waits for it.
    pub(super) fn administer_at_rest<T>(&self, dataset: &str, work: impl FnOnce(DatasetRow) -> Result<T>) -> Result<T> {
        let id = self.row_named(dataset)?.id;
        self.at_rest(id, || self.administer_named(dataset, id, work))
    }

    /// Does something while no drain step of a dataset is under way. The step that is, is waited for, so the caller holds no
    /// administration.
    pub(super) fn at_rest<T>(&self, id: DatasetId, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let claim = loop {
            match self.claim_drain(id) {
                Some(claim) => break claim,
                None => self.wait_for_other_drain(id),
            }
        };
        let outcome = work();
        drop(claim);
        // A pump that was called meanwhile has turned away from the claim.
        self.stages.pressure.call_pump();
        outcome
    }

    /// Administers a dataset that was looked up before the administration was free. Refused where its name is another one's by now.
    fn administer_named<T>(
        &self,
        dataset: &str,
        id: DatasetId,
        work: impl FnOnce(DatasetRow) -> Result<T>,
    ) -> Result<T> {
        let _administration = self.administration();
        let row = self.row_named(dataset)?;
        if row.id == id { work(row) } else { Err(Refusal::Busy.into()) }
    }

    /// Keeps other drain steps of a dataset away; `None` where one is under way. Whoever holds the administration must not wait
    /// for a claim: its holders wait for the administration.
    pub(super) fn claim_drain(&self, dataset: DatasetId) -> Option<Claim<'_>> {
        self.lock_draining().insert(dataset).then(|| Claim { store: self, dataset })
    }

    fn drain_one(&self, dataset: &Arc<Dataset>) -> Result<Step> {
        let Some(claim) = self.claim_drain(dataset.id) else { return Ok(Step::Busy) };
        let step = self.drain_claimed(dataset)?;
        drop(claim);
        if step == Step::Drained {
            self.trim_if_room()?;
        }
        Ok(step)
    }

    fn drain_claimed(&self, dataset: &Arc<Dataset>) -> Result<Step> {
        // Until its tree is the head: parts of it are old, and named by nothing else meanwhile.
        let _in_use = self.stages.pool.in_use();
        let drained = dataset.drain_oldest().inspect_err(|error| dataset.stick(error))?;
        let Some(drained) = drained else { return Ok(Step::NothingFrozen) };
        self.stages.pool.settle()?;
        let head = Head { root: drained.base.root, lsn: drained.base.lsn, next_inode: dataset.next_inode() };
        let mut changes = vec![Change::head(dataset.id, head), Change::calls(dataset.id, &dataset.calls())];
        let Layer { first, time, written_bytes, ref steps, .. } = *drained.layer;
        changes.extend(self.note_checkpoint(dataset, head, first, time, written_bytes, steps));
        let mut seals = Vec::new();
        if !drained.layer.snapshots.is_empty() {
            let sealed = self.sealed_at(drained.base, head.next_inode)?;
            seals.extend(drained.layer.snapshots.iter().map(|snapshot| (*snapshot, sealed)));
        }
        // Up to the last record, not only the layer's: the catalogue must not remember calls that a power cut undoes.
        self.stages.make_stable(self.stages.journal.last())?;
        self.wait_until_recorded(&drained.layer.snapshots);
        self.stages.catalogue.apply_sealing(&changes, &seals)?;
        dataset.drained(&drained);
        Ok(Step::Drained)
    }

    /// Keeps drain steps from ending that would seal a snapshot, until the result is dropped: by then the catalogue has it, or
    /// it has failed. Its holder waits for a sync at the most, never for a drain step.
    pub(super) fn unrecorded(&self, snapshot: SnapshotId) -> Unrecorded<'_> {
        self.lock_unrecorded().insert(snapshot);
        Unrecorded { store: self, snapshot }
    }

    fn wait_until_recorded(&self, snapshots: &[SnapshotId]) {
        let unrecorded = self.lock_unrecorded();
        let missing = |unrecorded: &mut std::collections::BTreeSet<SnapshotId>| {
            snapshots.iter().any(|snapshot| unrecorded.contains(snapshot))
        };
        drop(self.recorded.wait_while(unrecorded, missing));
    }

    fn lock_unrecorded(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeSet<SnapshotId>> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a snapshot holds whose root is `base`.
    pub(super) fn sealed_at(&self, base: Base, next_inode: u64) -> Result<Sealed> {
        let objects = self.stages.pool.on(crate::pool::StreamId::MISC);
        let totals = match map::get(&objects, base.root.as_ref(), &Key::Totals.encode())? {
            Some(value) => Totals::decode(&value)?,
            None => Totals::default(),
        };
        let Totals { files, logical_bytes, .. } = totals;
        Ok(Sealed { root: base.root, next_inode, logical_bytes, files })
    }

    /// Seals a snapshot that turned out to be equal to a root that there is already.
    pub(super) fn seal_at(&self, snapshot: SnapshotId, base: Base, next_inode: u64) -> Result<()> {
        let sealed = self.sealed_at(base, next_inode)?;
        self.stages.catalogue.apply_sealing(&[], &[(snapshot, sealed)])
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
    pub(super) fn owed_from(&self) -> Option<Lsn> {
        let state = self.read_state();
        let idle = self.read_only || !state.owes();
        (!idle).then_some(state.base.lsn)
    }

    /// True where no record up to `last` is missing from the root: one would have made a layer.
    pub(super) fn rests_at(&self, last: Lsn) -> bool {
        let state = self.read_state();
        !state.owes() && state.base.lsn <= last
    }

    /// Moves the base up to `last`, up to which the dataset rested. Layers that came since are behind that.
    pub(super) fn move_up(&self, last: Lsn) {
        let mut state = self.write_state();
        state.base.lsn = state.base.lsn.max(last);
    }

    /// True where a layer waits to be merged, or is being merged.
    fn has_frozen(&self) -> bool {
        !self.read_state().frozen.is_empty()
    }

    /// Memory of the layer that takes changes.
    fn active_bytes(&self) -> u64 {
        self.read_state().active.memory_bytes()
    }
}

/// A snapshot on its way into the catalogue.
pub(super) struct Unrecorded<'a> {
    store: &'a Store,
    snapshot: SnapshotId,
}

impl Drop for Unrecorded<'_> {
    fn drop(&mut self) {
        self.store.lock_unrecorded().remove(&self.snapshot);
        self.store.recorded.notify_all();
    }
}

/// The right to drain one dataset, or to keep others from it.
pub(super) struct Claim<'a> {
    store: &'a Store,
    dataset: DatasetId,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.store.lock_draining().remove(&self.dataset);
        self.store.drained.notify_all();
    }
}
