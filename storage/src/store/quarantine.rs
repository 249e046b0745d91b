//! What was deleted and can be had back: datasets with all their snapshots and their past, and single snapshots.
//!
//! ```text
//!            delete                      its time is over, or somebody empties the quarantine
//!   there ───────────▶ in quarantine ──────────────────────────────────────────────▶ gone
//!     ▲                     │
//!     └───── undelete ──────┘
//! ```
//!
//! * Who deletes something makes a row that says so, beside the rows of what is deleted, in one change. From then on nobody finds it by
//!   its name or id, and whoever has it open gets "stale" from it. All else goes on: it is merged, sealed, recovered after a crash, its
//!   roots are roots ([`roots.rs`](super)), and its past stays as it was at that moment.
//! * The time of the quarantine is counted as that of a lock ([`lock.rs`](super)): in seconds in which the store runs, noted with the
//!   deletion. No clock that is set ends it, and a shorter setting counts for deletions to come.
//! * When it is over, the next [`Store::expire_quarantine`] removes the rows; the room is reclaim's. Nothing that is locked or held ever
//!   goes that way, whoever asks.
//! * Names are free as soon as something is deleted. What comes back and finds its name taken needs another one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Store;
use super::datasets::{DatasetInfo, check_label};
use super::replica::NAME_PARTS_MAX;
use crate::catalogue::{Change, DatasetRow, Deleted, DeletedBy, Sealed, SnapshotRow};
use crate::error::{Error, Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::units::Timestamp;

/// How long what is deleted can be had back, where nothing else is said: who deletes by mistake on a Friday finds out after the weekend.
pub const QUARANTINE: Duration = Duration::from_secs(7 * 86_400);
/// Until when a dataset can be had back that is going for good: some of its snapshots may be gone already.
const GOES: u64 = 0;
/// Snapshots that go in one change of the catalogue.
const SNAPSHOTS_TOGETHER: usize = 1000;

/// Something that was deleted and can be had back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The dataset: what was deleted itself, or that the snapshot is of.
    pub dataset: DatasetRow,
    /// The snapshot, where that alone was deleted.
    pub snapshot: Option<SnapshotRow>,
    /// Snapshots that were there when a dataset was deleted; 0 for a snapshot.
    pub snapshots: usize,
    /// When, by whom, and until when.
    pub deleted: Deleted,
    /// How long the store has to run until it is gone; nothing where it goes next.
    pub left: Duration,
    /// True where a snapshot's dataset was deleted after it: that has to come back first.
    pub within_deleted: bool,
}

impl Quarantined {
    /// What it is called, as in `office` or `office@monday`.
    pub fn label(&self) -> String {
        match &self.snapshot {
            Some(snapshot) => format!("{}@{}", self.dataset.name, snapshot.name),
            None => self.dataset.name.clone(),
        }
    }
}

/// What has left the quarantine for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emptied {
    /// Datasets, each with all that was of it.
    pub datasets: Vec<DatasetRow>,
    /// Single snapshots.
    pub snapshots: usize,
    /// Why something stayed although it was asked for: it is locked.
    pub stayed: Vec<String>,
}

impl Store {
    /// Everything that was deleted and can be had back: datasets by name, then snapshots by dataset and time.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let catalogue = &self.stages.catalogue;
        let ran = self.run_seconds();
        let left = |deleted: &Deleted| Duration::from_secs(deleted.until.saturating_sub(ran));
        let dataset = |(dataset, deleted): (DatasetRow, Deleted)| {
            let all = catalogue.all_snapshots(Some(dataset.id));
            let snapshots = all.iter().filter(|row| catalogue.snapshot_deleted(row.id).is_none()).count();
            Quarantined { dataset, snapshot: None, snapshots, left: left(&deleted), deleted, within_deleted: false }
        };
        let snapshot = |(row, deleted): (SnapshotRow, Deleted)| {
            let within_deleted = catalogue.dataset_deleted(row.dataset).is_some();
            let (dataset, left) = (catalogue.any_dataset(row.dataset)?, left(&deleted));
            Some(Quarantined { dataset, snapshot: Some(row), snapshots: 0, left, deleted, within_deleted })
        };
        let mut all: Vec<Quarantined> = catalogue.deleted_datasets().into_iter().map(dataset).collect();
        all.extend(catalogue.deleted_snapshots().into_iter().filter_map(snapshot));
        let time = |one: &Quarantined| one.snapshot.as_ref().map(|snapshot| snapshot.time);
        all.sort_by(|a, b| {
            let whole = |one: &Quarantined| one.snapshot.is_some();
            let key = |one: &Quarantined| (one.dataset.name.clone(), one.dataset.id, time(one));
            whole(a).cmp(&whole(b)).then_with(|| key(a).cmp(&key(b)))
        });
        all
    }

    /// All datasets, those that were deleted and are kept among them, which say so in their names: for whoever proves that all is sound, or heals it.
    pub fn rows_with_deleted(&self) -> Vec<DatasetRow> {
        let catalogue = &self.stages.catalogue;
        let deleted = catalogue.deleted_datasets().into_iter();
        let told = deleted.map(|(row, _)| DatasetRow { name: format!("{} (deleted)", row.name), ..row });
        catalogue.datasets().into_iter().chain(told).collect()
    }

    /// Snapshots of one dataset, or of all, oldest first, those that were deleted and are kept among them.
    pub fn snapshots_with_deleted(&self, dataset: Option<DatasetId>) -> Vec<SnapshotRow> {
        self.stages.catalogue.all_snapshots(dataset)
    }

    /// A dataset by its id, also where it was deleted and can be had back.
    pub fn row_with_deleted(&self, id: DatasetId) -> Option<DatasetRow> {
        self.stages.catalogue.any_dataset(id)
    }

    /// A snapshot by its id, also where it or its dataset was deleted and can be had back.
    pub fn snapshot_with_deleted(&self, id: SnapshotId) -> Option<SnapshotRow> {
        self.stages.catalogue.any_snapshot(id)
    }

    /// The changes that delete a snapshot, for now or, without a quarantine, for good.
    pub(super) fn deletion(&self, id: SnapshotId, by: DeletedBy, now: Timestamp) -> Vec<Change> {
        if self.quarantine.is_zero() {
            return gone(id).to_vec();
        }
        let (run, deleted) = self.deleted_now(by, now);
        vec![run, Change::deleted_snapshot(id, Some(deleted))]
    }

    fn deleted_now(&self, by: DeletedBy, now: Timestamp) -> (Change, Deleted) {
        let (run, until) = self.run_until(self.quarantine);
        // Of what was written before, nothing has a later time.
        (run, Deleted { until, time: self.stages.journal.time().max(now), by })
    }

    /// Deletes a dataset and its snapshots. It stops serving at once; until the quarantine is over it can be had back with its
    /// snapshots and its past. Refused while one of its snapshots is held or locked.
    pub fn delete_dataset(&self, name: &str, now: Timestamp) -> Result<()> {
        if self.quarantine.is_zero() {
            return self.discard_dataset(name, now);
        }
        let _administration = self.administration();
        let row = self.row_named(name)?;
        self.refuse_deletion(&row)?;
        let (run, deleted) = self.deleted_now(DeletedBy::Person, now);
        self.administer_freeing(&[run, Change::deleted_dataset(row.id, Some(deleted))], now)?;
        self.any_dataset(row.id)?.withdraw(true);
        Ok(())
    }

    /// Has a deleted dataset back, as it was when it was deleted; snapshots of it that were deleted before stay so. `which` is its name, or
    /// its id where several were called so. Its name may be another one's by now: then it needs a `new` one.
    pub fn undelete_dataset(&self, which: &str, new: Option<&str>, now: Timestamp) -> Result<DatasetInfo> {
        let _administration = self.administration();
        let deleted = self.stages.catalogue.deleted_datasets().into_iter();
        let deleted = deleted.filter(|(_, deleted)| deleted.until != GOES).map(|(row, _)| row);
        let row = only_one(deleted, "dataset", which, |row| (&row.name, row.id.to_string()))?;
        let name = new.unwrap_or(&row.name).to_owned();
        check_label("dataset", &name, if row.origin.is_some() { NAME_PARTS_MAX } else { 2 })?;
        if self.stages.catalogue.dataset_named(&name).is_some() {
            return Err(taken("dataset", &name));
        }
        let row = DatasetRow { name, ..row };
        self.administer(&[Change::dataset(&row), Change::deleted_dataset(row.id, None)], now)?;
        self.any_dataset(row.id)?.withdraw(false);
        self.dataset_named(&row.name)
    }

    /// Has a deleted snapshot of a dataset back. `which` is its name, or its id where several were called so; with a `new` name where
    /// its own is another one's by now.
    pub fn undelete_snapshot(
        &self,
        dataset: &str,
        which: &str,
        new: Option<&str>,
        now: Timestamp,
    ) -> Result<SnapshotRow> {
        let found = self.deleted_snapshot(dataset, which)?;
        // What is journaled of a new name is the whole row: with its root, so that applying it again later does not unseal it.
        let sealed = new.map(|_| self.seal_kept(found.id)).transpose()?;
        self.have_back(&found, new, sealed, now)
    }

    fn deleted_snapshot(&self, dataset: &str, which: &str) -> Result<SnapshotRow> {
        let of = self.row_named(dataset)?;
        let deleted = self.stages.catalogue.deleted_snapshots().into_iter().map(|(row, _)| row);
        let mine = deleted.filter(|row| row.dataset == of.id);
        only_one(mine, &format!("snapshot of {dataset}"), which, |row| (&row.name, row.id.to_string()))
    }

    /// Has back what was found, and nothing else: its name may be that of another deleted snapshot by now, and its dataset's that of another one.
    fn have_back(
        &self,
        found: &SnapshotRow,
        new: Option<&str>,
        sealed: Option<Sealed>,
        now: Timestamp,
    ) -> Result<SnapshotRow> {
        let _administration = self.administration();
        let catalogue = &self.stages.catalogue;
        let gone = || Refusal::NotFound(format!("a deleted snapshot {} ({})", found.id, found.name));
        let row = catalogue.any_snapshot(found.id).filter(|row| catalogue.snapshot_deleted(row.id).is_some());
        let mut row = row.ok_or_else(gone)?;
        let of = catalogue.dataset(row.dataset).ok_or_else(gone)?;
        if let Some(new) = new {
            check_label("snapshot", new, 1)?;
            row.name = new.to_owned();
            row.sealed = row.sealed.or(sealed);
        }
        if self.refuse_taken_moment(&of, &row.name).is_err() {
            return Err(taken("snapshot or mark", &format!("{}@{}", of.name, row.name)));
        }
        let mut changes = vec![Change::deleted_snapshot(row.id, None)];
        changes.extend(new.map(|_| Change::snapshot(&row)));
        self.administer(&changes, now)?;
        self.snapshot(row.id)
    }

    /// Removes what has been in quarantine for its time. To be called now and then; costs nothing where nothing is due.
    pub fn expire_quarantine(&self, now: Timestamp) -> Result<Emptied> {
        let ran = self.run_seconds();
        if !self.stages.catalogue.has_deletion_due(ran) {
            return Ok(Emptied::default());
        }
        let emptied = self.purge(&|_, deleted| deleted.until <= ran, now)?;
        // What is locked goes later, and that is no news.
        Ok(Emptied { stayed: Vec::new(), ..emptied })
    }

    /// Removes what is in quarantine before its time, as far as it is `wanted`; what is locked stays. Nobody has it back from then on. The
    /// room is given back by the next run of reclaim.
    pub fn empty_quarantine(&self, wanted: &dyn Fn(&Quarantined) -> bool, now: Timestamp) -> Result<Emptied> {
        let wanted = self.quarantined().into_iter().filter(|one| wanted(one));
        let item = |one: &Quarantined| {
            one.snapshot.as_ref().map_or(Item::Dataset(one.dataset.id), |snapshot| Item::Snapshot(snapshot.id))
        };
        let wanted: BTreeMap<Item, Deleted> = wanted.map(|one| (item(&one), one.deleted)).collect();
        // What was had back and deleted again meanwhile is not what was looked at.
        let is = |item: Item, deleted: &Deleted| wanted.get(&item) == Some(deleted);
        self.purge(&is, now)
    }

    fn purge(&self, wanted: &dyn Fn(Item, &Deleted) -> bool, now: Timestamp) -> Result<Emptied> {
        let mut emptied = Emptied::default();
        if self.stages.catalogue.keeps_nothing_deleted() {
            return Ok(emptied);
        }
        self.purge_snapshots(wanted, now, &mut emptied)?;
        for (row, deleted) in self.stages.catalogue.deleted_datasets() {
            if wanted(Item::Dataset(row.id), &deleted) {
                match self.purge_dataset(&row, deleted, now, &mut emptied) {
                    // One that can't go keeps no other.
                    Err(Error::Refused(why)) => emptied.stayed.push(why.to_string()),
                    outcome => outcome?,
                }
            }
        }
        Ok(emptied)
    }

    fn purge_snapshots(
        &self,
        wanted: &dyn Fn(Item, &Deleted) -> bool,
        now: Timestamp,
        emptied: &mut Emptied,
    ) -> Result<()> {
        let _administration = self.administration();
        let stray = self.stages.catalogue.stray_deletions();
        if !stray.is_empty() {
            self.administer(&stray, now)?;
        }
        let mut going = Vec::new();
        for (row, deleted) in self.stages.catalogue.deleted_snapshots() {
            if !wanted(Item::Snapshot(row.id), &deleted) {
                continue;
            }
            match self.refuse_kept(&row, "") {
                Ok(()) => going.push(row.id),
                Err(why) => emptied.stayed.push(why.to_string()),
            }
        }
        for some in going.chunks(SNAPSHOTS_TOGETHER) {
            let changes: Vec<Change> = some.iter().flat_map(|id| gone(*id)).collect();
            self.administer(&changes, now)?;
            emptied.snapshots += some.len();
        }
        Ok(())
    }

    fn purge_dataset(&self, row: &DatasetRow, deleted: Deleted, now: Timestamp, emptied: &mut Emptied) -> Result<()> {
        self.at_rest(row.id, || {
            let _administration = self.administration();
            // Somebody may have had it back meanwhile.
            if self.stages.catalogue.dataset_deleted(row.id) != Some(deleted) {
                return Ok(());
            }
            let snapshots = self.stages.catalogue.all_snapshots(Some(row.id));
            if let Err(why) = snapshots.iter().try_for_each(|snapshot| self.refuse_kept(snapshot, "")) {
                emptied.stayed.push(why.to_string());
                return Ok(());
            }
            self.drop_dataset(row, now)?;
            emptied.datasets.push(row.clone());
            Ok(())
        })
    }

    /// Deletes a dataset and its snapshots for good, at once: for what nobody asked for, as a clone that somebody looks at a moment by.
    /// Refused while one of them is held or locked.
    pub fn discard_dataset(&self, name: &str, now: Timestamp) -> Result<()> {
        self.refuse_deletion(&self.row_named(name)?)?;
        // A drain step under way would find its layers gone, and bring a head back that no dataset has.
        self.administer_at_rest(name, |row| {
            self.refuse_deletion(&row)?;
            self.drop_dataset(&row, now)
        })
    }

    /// Removes all rows of a dataset. The caller keeps drain steps of it away and holds the administration. With the first record it is gone for good;
    /// what a crash leaves of the others, the next [`Store::expire_quarantine`] removes.
    fn drop_dataset(&self, row: &DatasetRow, now: Timestamp) -> Result<()> {
        let (catalogue, id) = (&self.stages.catalogue, row.id);
        let deleted = catalogue.dataset_deleted(id);
        let deleted =
            deleted.unwrap_or(Deleted { until: GOES, time: self.stages.journal.time(), by: DeletedBy::Person });
        let goes = Change::deleted_dataset(id, Some(Deleted { until: GOES, ..deleted }));
        self.administer_freeing(&[goes], now)?;
        self.any_dataset(id)?.withdraw(true);
        // A record holds some thousands of them.
        for some in catalogue.all_snapshots(Some(id)).chunks(SNAPSHOTS_TOGETHER) {
            let changes: Vec<Change> = some.iter().flat_map(|snapshot| gone(snapshot.id)).collect();
            self.administer(&changes, now)?;
        }
        for some in catalogue.marks(id).chunks(SNAPSHOTS_TOGETHER) {
            let changes: Vec<Change> = some.iter().map(|mark| Change::no_mark(id, &mark.label)).collect();
            self.administer(&changes, now)?;
        }
        self.administer(&Change::no_dataset(id), now)?;
        self.close_dataset(id);
        // What is left over goes with the next trimming.
        let _ = self.sweep_history();
        Ok(())
    }

    /// What brings a deleted replica back because a snapshot of it arrives: it shows that one alone, and the snapshots that were deleted
    /// with it stay deleted, each for itself.
    pub(super) fn returned(&self, row: &DatasetRow, but: SnapshotId, now: Timestamp) -> Result<Vec<Change>> {
        let catalogue = &self.stages.catalogue;
        let Some(deleted) = catalogue.dataset_deleted(row.id) else { return Ok(Vec::new()) };
        let others = catalogue.all_snapshots(Some(row.id)).into_iter().map(|snapshot| snapshot.id);
        let others = others.filter(|id| *id != but && catalogue.snapshot_deleted(*id).is_none());
        let others: Vec<Change> = others.map(|id| Change::deleted_snapshot(id, Some(deleted))).collect();
        // A record holds some thousands of them. Those that say it for themselves before the dataset is back are deleted all the same.
        let (last, first) = others.split_at(others.len().min(SNAPSHOTS_TOGETHER));
        first.chunks(SNAPSHOTS_TOGETHER).try_for_each(|some| self.administer(some, now))?;
        Ok([&[Change::dataset(row), Change::deleted_dataset(row.id, None)], last].concat())
    }
}

/// What is in quarantine, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Dataset(DatasetId),
    Snapshot(SnapshotId),
}

/// The changes that remove a snapshot, with its lock, which is over, and with what says that it was deleted.
fn gone(id: SnapshotId) -> [Change; 3] {
    [Change::no_snapshot(id), Change::no_lock(id), Change::deleted_snapshot(id, None)]
}

/// The one of `all` whose name or id is `which`.
fn only_one<T>(
    all: impl Iterator<Item = T>,
    what: &str,
    which: &str,
    named: impl Fn(&T) -> (&String, String),
) -> Result<T> {
    let mut found: Vec<T> = all
        .filter(|one| {
            let (name, id) = named(one);
            name == which || id == which
        })
        .collect();
    match (found.pop(), found.as_slice()) {
        (Some(one), []) => Ok(one),
        (None, _) => Err(Refusal::NotFound(format!("a deleted {what} called {which}")).into()),
        (Some(last), others) => {
            let ids: Vec<String> = others.iter().chain([&last]).map(|one| named(one).1).collect();
            let why = format!("several were deleted that were called {which}: say which by its id: {}", ids.join(", "));
            Err(Refusal::Invalid(why).into())
        }
    }
}

fn taken(what: &str, name: &str) -> crate::Error {
    Refusal::Exists(format!("another {what} called {name}")).into()
}

#[cfg(test)]
mod tests;
