//! What of the journal is kept for rewinding.
//!
//! Each dataset with a window has *checkpoints*: roots that it had, with the records between which it had them. The window begins
//! with a checkpoint, and the journal is kept from there on. Bulk data is in the journal by reference, so keeping it
//! costs only what was written in small pieces.
//!
//! Chunks and nodes that a checkpoint's root reaches, or that a kept record refers to, are in use: whoever reclaims
//! starts from these roots as from snapshots, and from all records behind the oldest checkpoint ([`Store::kept_from`]).

use std::sync::PoisonError;

use super::Store;
use crate::catalogue::{Change, Checkpoint, Head, Window};
use crate::dataset::live::Dataset;
use crate::id::DatasetId;
use crate::units::{Lsn, Timestamp};

/// Checkpoints of one dataset, at most. Beyond, every other one of the older half goes: replaying then begins further back.
const CHECKPOINTS_MAX: usize = 512;

impl Store {
    /// The checkpoints of a dataset with which its window can begin, oldest first; none where it has no window.
    pub(super) fn usable_checkpoints(&self, id: DatasetId) -> Vec<Checkpoint> {
        let Some(window) = self.stages.catalogue.window(id) else { return Vec::new() };
        let mut checkpoints = self.stages.catalogue.checkpoints(id);
        let begin = self.window_begins(&window, &checkpoints);
        checkpoints.drain(..begin);
        checkpoints
    }

    /// The record behind which the journal is kept for a dataset's window; `None` where it has none.
    pub(super) fn kept_from(&self, id: DatasetId) -> Option<Lsn> {
        self.usable_checkpoints(id).first().map(|checkpoint| checkpoint.until_lsn)
    }

    /// Which checkpoint a window begins with: the newest that is as old as the window is long, and, from there on, the first
    /// that has no more journal behind it than the window allows and that the journal still reaches back to. The newest
    /// costs nothing: what is behind it is owed anyway.
    fn window_begins(&self, window: &Window, checkpoints: &[Checkpoint]) -> usize {
        let journal = &self.stages.journal;
        let oldest = Timestamp(journal.time().0.saturating_sub_unsigned(window.nanoseconds));
        let first = journal.first();
        let from = checkpoints.partition_point(|checkpoint| checkpoint.time <= oldest).saturating_sub(1);
        let reached = |checkpoint: &Checkpoint| checkpoint.until_lsn.0 + 1 >= first.0;
        let fits =
            |checkpoint: &Checkpoint| reached(checkpoint) && journal.bytes_since(checkpoint.until_lsn) <= window.bytes;
        let begin = checkpoints.iter().skip(from).position(fits).map(|nth| from + nth);
        let newest = checkpoints.iter().rposition(reached).unwrap_or(checkpoints.len());
        begin.unwrap_or(newest)
    }

    /// The change that notes a new root of a dataset as a checkpoint, and lets go of those that its window no longer needs. The
    /// caller has claimed its drain.
    pub(super) fn note_checkpoint(
        &self,
        dataset: &Dataset,
        head: Head,
        time: Timestamp,
        written: u64,
    ) -> Option<Change> {
        self.stages.catalogue.window(dataset.id)?;
        let mut checkpoints = self.usable_checkpoints(dataset.id);
        // The order of records is that of their times.
        let time = checkpoints.last().map_or(time, |last| time.max(last.until_time));
        checkpoints.push(Checkpoint {
            lsn: head.lsn,
            time,
            until_lsn: head.lsn,
            until_time: time,
            root: head.root,
            next_inode: head.next_inode,
            written_bytes: written,
        });
        thin(&mut checkpoints);
        Some(Change::checkpoints(dataset.id, &checkpoints))
    }

    /// The change that notes that a dataset rests at its root up to the record `last` of `time`. The caller has claimed its drain.
    pub(super) fn note_rest(&self, dataset: &Dataset, last: Lsn, time: Timestamp) -> Option<Change> {
        let mut checkpoints = self.usable_checkpoints(dataset.id);
        let base = dataset.base();
        let newest = checkpoints.last_mut().filter(|newest| newest.root == base.root && newest.until_lsn <= last)?;
        newest.until_lsn = last;
        newest.until_time = time.max(newest.until_time);
        Some(Change::checkpoints(dataset.id, &checkpoints))
    }

    /// Keeps the journal behind `lsn` until the result is dropped. The caller holds the administration, so that no trimming
    /// is under way that has not seen it.
    pub(super) fn pin(&self, lsn: Lsn) -> Pin<'_> {
        self.lock_pins().push(lsn);
        Pin { store: self, lsn }
    }

    /// The first record behind which somebody reads the journal.
    pub(super) fn pinned_from(&self) -> Option<Lsn> {
        self.lock_pins().iter().min().copied()
    }

    fn lock_pins(&self) -> std::sync::MutexGuard<'_, Vec<Lsn>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where there are too many, drops every other one of the older half; what was written counts with the next.
fn thin(checkpoints: &mut Vec<Checkpoint>) {
    if checkpoints.len() <= CHECKPOINTS_MAX {
        return;
    }
    let half = checkpoints.len() / 2;
    let mut kept: Vec<Checkpoint> = Vec::with_capacity(checkpoints.len());
    let mut written = 0;
    for (nth, checkpoint) in checkpoints.drain(..).enumerate() {
        written += checkpoint.written_bytes;
        if nth >= half || nth % 2 == 0 {
            kept.push(Checkpoint { written_bytes: std::mem::take(&mut written), ..checkpoint });
        }
    }
    *checkpoints = kept;
}

/// The right to read the journal behind a record.
pub(super) struct Pin<'a> {
    store: &'a Store,
    lsn: Lsn,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = self.store.lock_pins();
        if let Some(at) = pins.iter().position(|lsn| *lsn == self.lsn) {
            pins.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_first_the_newer_half_and_the_sum_of_what_was_written() {
        let checkpoint = |nth: u64| Checkpoint {
            lsn: Lsn(nth),
            time: Timestamp(nth as i64),
            until_lsn: Lsn(nth),
            until_time: Timestamp(nth as i64),
            root: None,
            next_inode: 2,
            written_bytes: 10,
        };
        let mut checkpoints: Vec<_> = (0..CHECKPOINTS_MAX as u64).map(checkpoint).collect();
        thin(&mut checkpoints);
        assert_eq!(checkpoints.len(), CHECKPOINTS_MAX);
        checkpoints.push(checkpoint(CHECKPOINTS_MAX as u64));
        thin(&mut checkpoints);
        assert!(checkpoints.len() < CHECKPOINTS_MAX && checkpoints.len() > CHECKPOINTS_MAX / 2);
        assert_eq!(checkpoints[0].lsn, Lsn(0));
        assert_eq!(checkpoints.iter().map(|checkpoint| checkpoint.written_bytes).sum::<u64>(), 10 * 513);
        assert!(checkpoints.is_sorted_by_key(|checkpoint| checkpoint.lsn));
    }
}
