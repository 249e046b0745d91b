//! Any moment back: windows, marks, and datasets as they were.
//!
//! A moment is a root and the journal behind it, replayed up to the moment into layers that nobody sees, which are then drained like
//! any others. That costs what was written between the checkpoint and the moment, however large the dataset is.

use std::sync::Arc;

use super::datasets::{DatasetInfo, check_label, mode_of};
use super::open::NO_DATASET;
use super::{Reach, Store};
use crate::catalogue::{
    Change, Checkpoint, DatasetKind, DatasetRow, Head, History, Mark, Sealed, SnapshotRow, Window, encode_changes,
};
use crate::dataset::live::Dataset;
use crate::dataset::record::Record;
use crate::dataset::state::Base;
use crate::error::{Error, Refusal, Result};
use crate::id::DatasetId;
use crate::journal;
use crate::units::{Lsn, Timestamp};

/// A moment of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// That of a snapshot, by its name.
    Snapshot(String),
    /// That of a mark, by its label.
    Mark(String),
    /// All that was written up to this time, and nothing later. Refused where it is still to come.
    Time(Timestamp),
    /// All that the journal has up to this record. Refused where there is no such record yet.
    Lsn(Lsn),
    /// All that has been written; of a replica, its newest snapshot.
    Newest,
}

/// How much was written to a dataset from one moment to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// From when.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Bytes.
    pub bytes: u64,
}

/// Where marks that were set together lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marked {
    /// Their record: what was written up to it is in them.
    pub lsn: Lsn,
    /// The time of the moment: that of the last write in them, or that of the call where it is later.
    pub time: Timestamp,
}

/// What a dataset can be taken back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// Its window, and what [`Moment::Time`] can name of it; `None` without a window.
    pub reach: Option<Reach>,
    /// Snapshots, oldest first. They can be named however old they are.
    pub snapshots: Vec<SnapshotRow>,
    /// Marks within the window, oldest first.
    pub marks: Vec<Mark>,
    /// What was written within the window, oldest first, in steps of the drain; the last step reaches up to now.
    pub written: Vec<Written>,
}

/// A dataset at a moment: its root, and what goes with it.
struct Then {
    base: Base,
    sealed: Sealed,
}

/// What of the journal belongs to a moment.
#[derive(Clone, Copy)]
enum Upto {
    Time(Timestamp),
    Lsn(Lsn),
}

impl Upto {
    fn has(self, lsn: Lsn, time: Timestamp) -> bool {
        match self {
            Upto::Time(upto) => time <= upto,
            Upto::Lsn(upto) => lsn <= upto,
        }
    }
}

impl Store {
    /// Sets how long a dataset can be rewound, or (`None`) that it can't. What was written before is not in a new window.
    pub fn set_window(&self, dataset: &str, window: Option<Window>, now: Timestamp) -> Result<()> {
        if self.row_named(dataset)?.read_only {
            return Err(Refusal::ReadOnly.into());
        }
        self.administer_at_rest(dataset, |row| {
            let live = self.dataset(row.id)?;
            let mut changes = vec![Change::window(row.id, window)];
            if window.is_none() {
                changes.extend([
                    Change::checkpoints(row.id, &[]),
                    Change::history(row.id, None),
                    Change::steps(row.id, None),
                ]);
            } else if self.usable_checkpoints(row.id).is_empty() {
                // Later than all that is in this root, and no later than what comes: from here on all is kept.
                let time = self.stages.journal.time();
                let base = live.base();
                changes.push(Change::steps(row.id, Some(&[])));
                changes.push(Change::checkpoints(
                    row.id,
                    &[Checkpoint {
                        lsn: base.lsn,
                        time,
                        until_lsn: base.lsn,
                        until_time: time,
                        root: base.root,
                        next_inode: live.next_inode(),
                        written_bytes: 0,
                    }],
                ));
            }
            self.administer(&changes, now)?;
            // What is left over goes with the next trimming.
            let _ = self.sweep_history();
            Ok(())
        })
    }

    /// Marks this moment of several datasets at once, in one record: all that was written to them before is in it, nothing
    /// later is. `quiet` says that the applications had nothing under way. Refused where one has no window, or has the
    /// mark already; one that its window has left behind gives its name back.
    pub fn mark(&self, datasets: &[&str], label: &str, quiet: bool, now: Timestamp) -> Result<Marked> {
        // Once before anybody has to wait for it: what was written much may take long.
        for row in self.markable(datasets, label)? {
            self.dataset(row.id)?.settle_in_journal(now)?;
        }
        let _administration = self.administration();
        let mut changes = Vec::new();
        let mut marks: Vec<Mark> = Vec::new();
        for row in self.markable(datasets, label)? {
            // What can be named no more is forgotten here, so that marks by the hour do not pile up for years.
            let within = self.marks_within(row.id);
            let gone = |mark: &Mark| !within.contains(mark);
            let old = self.stages.catalogue.marks(row.id).into_iter().filter(gone);
            changes.extend(old.map(|mark| Change::no_mark(row.id, &mark.label)));
            marks.push(Mark { dataset: row.id, label: label.to_owned(), time: now, lsn: Lsn(0), quiet });
        }
        for mark in &marks {
            self.dataset(mark.dataset)?.settle_in_journal(now)?;
        }
        // That of the moment, not of the call: what is in it has this time or an earlier one.
        let time = self.stages.journal.time().max(now);
        let placed_at = |lsn| marks.iter().map(move |mark| Change::mark(&Mark { lsn, time, ..mark.clone() }));
        let changes = |lsn| changes.iter().cloned().chain(placed_at(lsn)).collect::<Vec<_>>();
        let (kind, head) = Record::Catalogue(encode_changes(&changes(Lsn(0)))).encode();
        let appended = self.stages.append(now, NO_DATASET, kind, head, Vec::new())?;
        self.stages.make_stable(appended.lsn)?;
        let mut changes = changes(appended.lsn);
        changes.push(Change::applied(appended.lsn));
        self.stages.catalogue.apply_journaled(&changes)?;
        Ok(Marked { lsn: appended.lsn, time })
    }

    /// Refuses what [`Store::mark`] would refuse, for those who have something to do before.
    pub fn refuse_mark(&self, datasets: &[&str], label: &str) -> Result<()> {
        self.markable(datasets, label).map(drop)
    }

    /// Says of a mark that was set that the applications had nothing under way then. Of marks that are gone, or that
    /// were set anew since, it says nothing.
    pub fn confirm_mark(&self, datasets: &[&str], label: &str, lsn: Lsn, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        let mut changes = Vec::new();
        for name in datasets {
            let marks = self.stages.catalogue.marks(self.row_named(name)?.id);
            let found = marks.into_iter().find(|mark| mark.label == label && mark.lsn == lsn);
            changes.extend(found.map(|mark| Change::mark(&Mark { quiet: true, ..mark })));
        }
        if changes.is_empty() { Ok(()) } else { self.administer(&changes, now) }
    }

    /// The datasets that a mark is to be set in.
    fn markable(&self, datasets: &[&str], label: &str) -> Result<Vec<DatasetRow>> {
        check_label("mark", label, 1)?;
        let mut rows: Vec<DatasetRow> = Vec::new();
        for name in datasets {
            let row = self.row_named(name)?;
            if rows.iter().any(|other| other.id == row.id) {
                continue;
            }
            let no_window = || Refusal::Invalid(format!("{name} has no window, so a mark would lead nowhere"));
            self.stages.catalogue.window(row.id).ok_or_else(no_window)?;
            self.refuse_taken_moment(&row, label)?;
            rows.push(row);
        }
        Ok(rows)
    }

    /// The marks of a dataset that its window still reaches, oldest first.
    pub(super) fn marks_within(&self, id: DatasetId) -> Vec<Mark> {
        let first = self.usable_checkpoints(id).first().map(|first| first.lsn);
        let mut marks = self.stages.catalogue.marks(id);
        marks.retain(|mark| first.is_some_and(|first| mark.lsn >= first));
        marks
    }

    /// What a dataset can be taken back to.
    pub fn timeline(&self, dataset: &str) -> Result<Timeline> {
        let row = self.row_named(dataset)?;
        let checkpoints = self.usable_checkpoints(row.id);
        let last = self.stages.journal.time();
        let mut written: Vec<Written> = checkpoints
            .windows(2)
            .map(|pair| Written { from: pair[0].until_time, until: pair[1].time, bytes: pair[1].written_bytes })
            .collect();
        if let Some(newest) = checkpoints.last() {
            let bytes = self.dataset(row.id)?.written_bytes();
            written.push(Written { from: newest.until_time, until: last, bytes });
        }
        Ok(Timeline {
            reach: self.reach(row.id),
            snapshots: self.snapshots(Some(row.id)),
            marks: self.marks_within(row.id),
            written,
        })
    }

    /// A new writable dataset that starts as another one was at a moment.
    pub fn clone_at(&self, dataset: &str, moment: &Moment, name: &str, now: Timestamp) -> Result<DatasetInfo> {
        check_label("dataset", name, 2)?;
        self.refuse_taken(name)?;
        let source = self.row_named(dataset)?;
        let _in_use = self.stages.pool.in_use();
        let then = self.then(&source, moment, now)?;
        let _administration = self.administration();
        self.refuse_taken(name)?;
        let row = DatasetRow {
            id: DatasetId::new(&self.stages.ids),
            name: name.to_owned(),
            read_only: false,
            created: now,
            origin: None,
            size: then.sealed.volume_bytes(source.kind),
            ..source
        };
        let head = Head { root: then.base.root, lsn: Lsn(0), next_inode: then.sealed.next_inode };
        self.add_dataset(row, head, &[], now)
    }

    /// Takes a dataset back to a moment. The present is held fast by a snapshot called `before` first, so nothing is lost,
    /// and this can be undone in the same way. While it lasts, whoever writes is told that the dataset is busy.
    pub fn rewind(&self, dataset: &str, moment: &Moment, before: &str, now: Timestamp) -> Result<SnapshotRow> {
        let row = self.row_named(dataset)?;
        let live = self.dataset(row.id)?;
        let _in_use = self.stages.pool.in_use();
        let then = self.then(&row, moment, now)?;
        let _nobody_writes = live.hold()?;
        let snapshot = self.create_snapshot(dataset, before, now)?;
        self.seal(snapshot.id)?;
        self.administer_at_rest(dataset, |row| {
            if row.id != live.id {
                return Err(Refusal::Busy.into());
            }
            self.refuse_lost(then.base.root.as_ref())?;
            let base = live.rewind_to(then.base, then.sealed.next_inode, now)?;
            let time = self.stages.journal.time();
            self.stages.make_stable(base.lsn)?;
            let head = Head { root: base.root, lsn: base.lsn, next_inode: live.next_inode() };
            let mut changes = vec![Change::head(live.id, head)];
            changes.extend(self.note_checkpoint(&live, head, None, time, 0, &[]));
            if row.kind == DatasetKind::Volume {
                changes.push(Change::dataset(&DatasetRow { size: live.learn_size()?, ..row }));
            }
            self.stages.catalogue.apply(&changes)
        })?;
        self.snapshot(snapshot.id)
    }

    /// Brings about the root of a dataset at a moment.
    fn then(&self, row: &DatasetRow, moment: &Moment, now: Timestamp) -> Result<Then> {
        let live = self.dataset(row.id)?;
        let upto = match moment {
            Moment::Snapshot(name) => {
                let snapshot = self.snapshot_named(&row.name, name)?;
                let sealed = self.seal(snapshot.id)?;
                return Ok(Then { base: Base { root: sealed.root, lsn: snapshot.lsn }, sealed });
            }
            Moment::Mark(label) => {
                let found = self.stages.catalogue.marks(row.id).into_iter().find(|mark| mark.label == *label);
                let mark = found.ok_or_else(|| Refusal::NotFound(format!("mark {label} of {}", row.name)))?;
                Upto::Lsn(mark.lsn)
            }
            Moment::Time(time) => Upto::Time(*time),
            Moment::Lsn(lsn) => Upto::Lsn(*lsn),
            Moment::Newest if row.read_only => {
                let base = live.base();
                return Ok(Then { base, sealed: self.sealed_at(base, live.next_inode())? });
            }
            Moment::Newest => {
                live.settle_in_journal(now)?;
                Upto::Lsn(self.stages.journal.last())
            }
        };
        self.refuse_what_is_to_come(upto, now)?;
        if upto.has(self.stages.journal.last(), now) {
            live.settle_in_journal(now)?;
        }
        self.stages.make_stable(self.stages.journal.last())?;
        let (checkpoint, history, _pin) = {
            let _no_trimming = self.administration();
            let checkpoints = self.usable_checkpoints(row.id);
            let found = checkpoints.iter().rev().find(|checkpoint| upto.has(checkpoint.lsn, checkpoint.time));
            let found = *found.ok_or_else(|| out_of_reach(row, checkpoints.first()))?;
            let history = self.history(row.id);
            let pin = self.pin(found.until_lsn, history.as_ref());
            (found, history, pin)
        };
        let base = Base { root: checkpoint.root, lsn: checkpoint.until_lsn };
        let row = DatasetRow { size: 0, ..row.clone() };
        let past = Dataset::new(&row, self.stages.clone(), mode_of(&row), base, checkpoint.next_inode);
        let outcome = self.replay_into(&past, &checkpoint, history.as_ref(), upto, now);
        let base = past.base();
        let next_inode = past.next_inode().max(live.next_inode());
        // Whatever came of it, its layers give their memory back.
        past.retire();
        outcome?;
        self.stages.pool.settle()?;
        Ok(Then { base, sealed: self.sealed_at(base, next_inode)? })
    }

    /// Refuses moments that have not been: what will be written up to them is not there yet. After the box's clock was set back,
    /// the journal's time is ahead of it, and can be named.
    fn refuse_what_is_to_come(&self, upto: Upto, now: Timestamp) -> Result<()> {
        let latest = now.max(self.stages.journal.time());
        let why = match upto {
            Upto::Time(time) if time > latest => format!("{time} is still to come: for this box it is {latest}"),
            Upto::Lsn(lsn) if lsn > self.stages.journal.last() => {
                format!("record {lsn} is still to come: the newest is {}", self.stages.journal.last())
            }
            Upto::Time(_) | Upto::Lsn(_) => return Ok(()),
        };
        Err(Refusal::Invalid(why).into())
    }

    /// Applies what history and journal have of a dataset behind a checkpoint, up to a moment, and merges it into a root.
    fn replay_into(
        &self,
        past: &Dataset,
        from: &Checkpoint,
        history: Option<&History>,
        upto: Upto,
        now: Timestamp,
    ) -> Result<()> {
        // Between these two nothing changed, and the journal there may be gone.
        if upto.has(from.until_lsn, from.until_time) {
            let mut done = false;
            let mut visit = |record: journal::Record| {
                if !upto.has(record.lsn, record.time) {
                    done = true;
                    return Err(Refusal::Busy.into());
                }
                if record.dataset == past.id {
                    past.replay(record, &mut |_| Ok(None))?;
                    past.freeze_journaled_if_large();
                    past.drain_privately()?;
                }
                Ok(())
            };
            let outcome = self.replay_past(past.id, history, from.until_lsn, &mut visit);
            match outcome {
                Err(Error::Refused(Refusal::Busy)) if done => {}
                outcome => outcome?,
            }
        }
        past.end_at_moment()?;
        past.freeze_if_large(now, true)?;
        past.drain_privately()
    }
}

fn out_of_reach(row: &DatasetRow, first: Option<&Checkpoint>) -> Error {
    let name = &row.name;
    let why = match first {
        None => format!("{name} has no window: only its snapshots are left of what it was"),
        Some(first) => format!("the window of {name} begins at {}, behind record {}", first.time, first.lsn),
    };
    Refusal::Invalid(why).into()
}

/// Kept with the dataset's other answers about time.
impl Dataset {
    /// Bytes that clients wrote and that no root has yet.
    fn written_bytes(self: &Arc<Self>) -> u64 {
        self.read_state().layers().map(|layer| layer.written_bytes).sum()
    }
}
