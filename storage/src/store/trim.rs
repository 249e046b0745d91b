//! What of the journal and the histories is owed to nobody goes: when that is due, and in which order.

use std::sync::Arc;

use super::Store;
use super::split::{Leave, Split};
use crate::catalogue::{Change, Head};
use crate::dataset::live::Dataset;
use crate::error::{Environment, Error, Result};
use crate::units::Timestamp;

impl Store {
    /// Keeps the journal from growing while there is always something to drain, and room on a disk that is nearly full: first what
    /// loses nothing, then what is oldest of what windows keep.
    pub(super) fn make_room_for_windows(&self, now: Timestamp) -> Result<()> {
        if !self.is_short_of_room()? {
            return self.split_and_trim(Leave::Twice, now).map(drop);
        }
        self.trim_if_room()?;
        if !self.is_short_of_room()? {
            return Ok(());
        }
        match self.split_if_due(Leave::Nothing, now) {
            Split::Done => self.trim_if_room(),
            // Whoever is at it makes room, or finds that there is none to be had.
            Split::Busy => Ok(()),
            Split::Nothing if self.let_windows_go()? => self.trim_if_room(),
            Split::Nothing => Ok(()),
        }
    }

    /// Splits a segment of the journal if one is due, and lets it go, or what windows need no more; true where it did split one.
    pub(super) fn split_and_trim(&self, leave: Leave, now: Timestamp) -> Result<bool> {
        let split = self.split_if_due(leave, now) == Split::Done;
        if split || self.owes_sweep() || self.forgets_history() {
            self.trim_if_room()?;
        }
        Ok(split)
    }

    /// Trims if that is due. Where the disk has no room even for that, it is tried again later.
    pub(super) fn trim_if_room(&self) -> Result<()> {
        match self.trim_journal_if_due() {
            Err(Error::Environment(Environment::Full)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Trims once at least a segment, or a file of history, could go.
    fn trim_journal_if_due(&self) -> Result<()> {
        let journal = &self.stages.journal;
        let kept = |dataset: &Arc<Dataset>| {
            // What a window keeps of a dataset that rests moves up when it is trimmed.
            let resting = dataset.owed_from().is_none() && self.usable_checkpoints(dataset.id).len() < 2;
            self.journal_kept_from(dataset.id).filter(|_| !resting).into_iter().chain(dataset.owed_from()).min()
        };
        let owed = self.open_datasets().iter().filter_map(kept).chain(self.pinned_from()).min();
        let owed_bytes = owed.map_or(0, |lsn| journal.bytes_since(lsn));
        if journal.disk_bytes() > owed_bytes + self.segment_bytes || self.forgets_history() {
            return self.trim_journal();
        }
        if self.owes_sweep() {
            let _administration = self.administration();
            // No reason to stand still. Where it fails for long, trimming says why.
            let _ = self.sweep_history();
        }
        Ok(())
    }

    /// Removes what of the journal is owed to nobody. Before that, an image of the catalogue takes over what the removed
    /// records knew of it, and heads of datasets that rest move up to what is kept.
    pub(super) fn trim_journal(&self) -> Result<()> {
        let _no_changes = self.administration();
        // In this order: the record is at least as late as the time.
        let time = self.stages.journal.time();
        let last = self.stages.journal.last();
        let mut keep_after = self.pinned_from().map_or(last, |pinned| pinned.min(last));
        let mut changes = vec![Change::applied(last)];
        let mut resting = Vec::new();
        for dataset in self.open_datasets().into_iter().filter(|dataset| !dataset.read_only) {
            // Claimed until the catalogue has the head: a drain step in between would see its newer one overwritten.
            match self.claim_drain(dataset.id).filter(|_| dataset.rests_at(last)) {
                Some(claim) => {
                    let base = dataset.base();
                    let head = Head { root: base.root, lsn: base.lsn.max(last), next_inode: dataset.next_inode() };
                    changes.push(Change::head(dataset.id, head));
                    changes.push(Change::calls(dataset.id, &dataset.calls()));
                    changes.extend(self.note_rest(&dataset, last, time));
                    resting.push((dataset, claim));
                }
                None => keep_after = keep_after.min(dataset.base().lsn),
            }
        }
        // Behind all that was looked at: neither a number nor a call may be remembered that a power cut undoes.
        self.stages.make_stable(self.stages.journal.last())?;
        self.stages.catalogue.apply(&changes)?;
        for (dataset, claim) in resting {
            dataset.move_up(last);
            drop(claim);
        }
        for row in self.stages.catalogue.all_datasets() {
            keep_after = self.journal_kept_from(row.id).map_or(keep_after, |kept| keep_after.min(kept));
        }
        let histories = self.stages.catalogue.histories();
        let forgotten: Vec<Change> = histories.iter().filter_map(|(id, _)| self.forget_history(*id)).collect();
        if !forgotten.is_empty() {
            // Whatever fails from here on: they are removed later.
            self.owe_sweep();
            self.stages.catalogue.apply(&forgotten)?;
        }
        self.stages.catalogue.write_image(last)?;
        self.stages.journal.trim(keep_after)?;
        self.sweep_history()
    }
}
