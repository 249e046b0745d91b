//! What of the journal is kept for rewinding.
//!
//! Each dataset with a window has *checkpoints*: roots that it had, with the records between which it had them. The window begins
//! with a checkpoint, and the dataset's records are kept from there on: the older ones in a history of its own (`split.rs`), the
//! younger ones in the journal. Bulk data is in the journal by reference, and in history what is small, too, where the next
//! checkpoint has it; so keeping both costs little more than what was written over before it was drained.
//!
//! A window is as long as the time that passed. What the clock jumped over does not count ([`Store::jumps`]): a clock that is set a
//! year ahead lets go of nothing.
//!
//! Where the disk gets full, windows give up what is oldest in them before writes are refused ([`Limit::Disk`]). What is given up does
//! not come back when there is room again; from then on the window grows as before.
//!
//! **In use** are chunks and nodes that a usable checkpoint's root reaches ([`Store::usable_checkpoints`]), and what a record that
//! is kept refers to: chunks, and roots that were rewound to. Kept are all records of the journal, and of each dataset those in
//! its history's files ([`Store::history_chunks`]). Whoever reclaims starts from these as from heads and snapshots. A record refers to
//! a chunk only while it is in use otherwise: what is split off names chunks of a usable checkpoint.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Store;
use super::past::Past;
use crate::catalogue::{Change, Checkpoint, Head, History, Step, Window};
use crate::dataset::live::Dataset;
use crate::error::Result;
use crate::id::DatasetId;
use crate::jumps::Jump;
use crate::units::{Lsn, Timestamp};

/// Checkpoints of one dataset, at most. Beyond, every other one of the older half goes: replaying then begins further back.
const CHECKPOINTS_MAX: usize = 512;

/// Why a window reaches back no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// It was set then; what was before was not kept.
    Begun,
    /// It is as long as was asked for.
    Age,
    /// It costs as many bytes of journal as it may.
    Bytes,
    /// The disk has no room for more.
    Disk,
    /// What was before was let go of while the window, or the room on the disk, was smaller.
    LetGo,
}

/// How far a dataset can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Its window as it was set.
    pub window: Window,
    /// The first moment that a time can name.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// Nanoseconds that passed between them: jumps of the clock do not count.
    pub passed_nanoseconds: u64,
    /// Bytes that are kept behind the first moment for it: its history, and its own records in the journal as far as they are
    /// drained. Never too few; too many by 16 MiB at the most, for its history is counted by files.
    pub journal_bytes: u64,
    /// Of these, bytes of its history: records that were split off the journal.
    pub history_bytes: u64,
    /// What keeps it from reaching further.
    pub limit: Limit,
}

impl Store {
    /// How far a dataset can be taken back to any moment; `None` where it has no window.
    pub fn reach(&self, id: DatasetId) -> Option<Reach> {
        let window = self.stages.catalogue.window(id)?;
        let checkpoints = self.stages.catalogue.checkpoints(id);
        let past = self.past(id);
        let (begin, limit) = self.window_begins(id, &past, &window, &checkpoints);
        let first = checkpoints.get(begin)?;
        let last = self.stages.journal.time().max(first.time);
        let journal_bytes = self.past_bytes(&past, first.until_lsn);
        let history_bytes = past.history_bytes_behind(first.until_lsn);
        let passed_nanoseconds = self.stages.jumps().passed(first.time, last);
        Some(Reach { window, first: first.time, last, passed_nanoseconds, journal_bytes, history_bytes, limit })
    }

    /// The time of the newest record: none that comes is of an earlier one. Ahead of the clock where that was set back.
    pub fn time(&self) -> Timestamp {
        self.stages.journal.time()
    }

    /// Steps of more than five minutes that the time made that the store was told: its clock was set forward, or the box did not run.
    /// They do not count for the length of windows. Oldest first; the last 256.
    pub fn jumps(&self) -> Vec<Jump> {
        self.stages.jumps().list()
    }

    /// Nanoseconds that passed between two moments while the store was told the time: neither a clock that was set forward nor a time
    /// when the box was off counts for more than five minutes a step.
    pub fn passed_nanoseconds(&self, from: Timestamp, to: Timestamp) -> u64 {
        self.stages.jumps().passed(from, to)
    }

    /// Measures the room that windows have. True where less is free than is ample.
    pub(super) fn is_short_of_room(&self) -> Result<bool> {
        let (free, ample) = (self.stages.space()?.free_bytes, self.stages.ample_bytes());
        self.spare_room.store(free.saturating_sub(ample), Ordering::Relaxed);
        Ok(free < ample)
    }

    /// Has windows let go of what is oldest in them, whosever it is: of as much as is missing, and no more than it takes. Files of
    /// history go whole, and so do segments of the journal. False where nothing is let go of, for it would make no room: history
    /// that somebody reads stays on the disk until then, and so does what was let go of before and could not be removed yet.
    pub(super) fn let_windows_go(&self) -> Result<bool> {
        // What another thread lets go of has left the catalogue and the disk, or neither.
        let _administration = self.administration();
        if self.owes_sweep() || self.is_history_read() {
            return Ok(false);
        }
        let missing = self.stages.ample_bytes().saturating_sub(self.stages.space()?.free_bytes);
        let histories = self.stages.catalogue.histories();
        let catalogue = &self.stages.catalogue;
        let there = histories.iter().filter(|(id, _)| catalogue.dataset_deleted(*id).is_none());
        let files = there.flat_map(|(_, history)| &history.files).map(|file| (file.last, file.bytes));
        let owed = self.owed_after();
        // What a dataset in quarantine keeps of the journal stays, whatever others let go of.
        let quarantined = catalogue.deleted_datasets().into_iter();
        let kept_from = quarantined.filter_map(|(row, _)| self.journal_kept_from(row.id)).min();
        let mut spans = self.stages.journal.done(owed);
        spans.retain(|span| kept_from.is_none_or(|kept| span.last <= kept));
        let mut kept: Vec<(Lsn, u64)> = files.chain(spans.iter().map(|span| (span.last, span.bytes))).collect();
        kept.sort_unstable();
        let mut freed = 0;
        for (last, bytes) in kept {
            if freed < missing {
                freed += bytes;
                self.window_floor.fetch_max(last.0, Ordering::Relaxed);
            }
        }
        // All that nobody owes is still too little: then the newest segment may be begun anew, too.
        if freed < missing {
            // What is in quarantine keeps the journal from there on: nobody's past is given up for room that does not come.
            let owed = kept_from.map_or(owed, |kept| kept.min(owed));
            self.window_floor.fetch_max(owed.0, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// The checkpoints of a dataset with which its window can begin, oldest first; none where it has no window.
    pub(super) fn usable_checkpoints(&self, id: DatasetId) -> Vec<Checkpoint> {
        let Some(window) = self.stages.catalogue.window(id) else { return Vec::new() };
        let mut checkpoints = self.stages.catalogue.checkpoints(id);
        let (begin, _) = self.window_begins(id, &self.past(id), &window, &checkpoints);
        checkpoints.drain(..begin);
        checkpoints
    }

    /// The same and the one before them, which tells what ends the window.
    fn noted_checkpoints(&self, id: DatasetId) -> Vec<Checkpoint> {
        let Some(window) = self.stages.catalogue.window(id) else { return Vec::new() };
        let mut checkpoints = self.stages.catalogue.checkpoints(id);
        let (begin, _) = self.window_begins(id, &self.past(id), &window, &checkpoints);
        checkpoints.drain(..begin.saturating_sub(1));
        checkpoints
    }

    /// The record behind which the journal is kept for a dataset's window; `None` where it has none.
    pub(super) fn kept_from(&self, id: DatasetId) -> Option<Lsn> {
        self.usable_checkpoints(id).first().map(|checkpoint| checkpoint.until_lsn)
    }

    /// Which checkpoint a window begins with, and why with none before: the newest that is as old as the window is long, and, from
    /// there on, the first that has no more behind it than the window allows, and that all of what is behind it is kept of.
    /// The newest costs nothing: what is behind it is owed anyway.
    /// The past of a dataset that was deleted stays as it was then, also where the disk gets full.
    fn window_begins(&self, id: DatasetId, past: &Past, window: &Window, checkpoints: &[Checkpoint]) -> (usize, Limit) {
        let deleted = self.stages.catalogue.dataset_deleted(id);
        let now = deleted.map_or_else(|| self.stages.journal.time(), |deleted| deleted.time);
        let oldest = self.stages.jumps().before(now, window.nanoseconds);
        let floor = if deleted.is_some() { Lsn(0) } else { self.window_floor() };
        let from = checkpoints.partition_point(|checkpoint| checkpoint.time <= oldest).saturating_sub(1);
        let reached = |checkpoint: &Checkpoint| checkpoint.until_lsn >= past.from;
        let cost = |checkpoint: &Checkpoint| self.past_bytes(past, checkpoint.until_lsn);
        let fits = |checkpoint: &Checkpoint| {
            reached(checkpoint) && checkpoint.until_lsn >= floor && cost(checkpoint) <= window.bytes
        };
        let begin = checkpoints.iter().skip(from).position(fits).map(|nth| from + nth);
        let newest = checkpoints.iter().rposition(reached).unwrap_or(checkpoints.len());
        let begin = begin.unwrap_or(newest);
        if checkpoints.get(begin).is_some_and(|begins| begins.time <= oldest) {
            return (begin, Limit::Age);
        }
        let Some(before) = begin.checked_sub(1).and_then(|before| checkpoints.get(before)) else {
            return (begin, Limit::Begun);
        };
        // Of what is gone nobody can say what it would cost: at least a segment or a file, and about as much as the step behind it.
        let costs = |nth: usize| checkpoints.get(nth).map_or(0, cost);
        let guessed = (2 * costs(begin)).saturating_sub(costs(begin + 1)) + self.segment_bytes.max(past.grain_bytes);
        let room = costs(begin).saturating_add(self.spare_room.load(Ordering::Relaxed));
        let limit = match if reached(before) { cost(before) } else { guessed } {
            cost if cost > room => Limit::Disk,
            cost if cost > window.bytes => Limit::Bytes,
            _ => Limit::LetGo,
        };
        (begin, limit)
    }

    /// The changes that note a new root of a dataset as a checkpoint, and let go of those that its window no longer needs. Up to
    /// the `first` record that is in it and was not in the one before, nothing changed; `steps` is what it has in the journal. The caller has claimed its drain.
    pub(super) fn note_checkpoint(
        &self,
        dataset: &Dataset,
        head: Head,
        first: Option<(Lsn, Timestamp)>,
        time: Timestamp,
        written: u64,
        steps: &[Step],
    ) -> Vec<Change> {
        if self.stages.catalogue.window(dataset.id).is_none() {
            return Vec::new();
        }
        let mut checkpoints = self.noted_checkpoints(dataset.id);
        // A crash may have taken the checkpoint of a rewind: then the last one is not what this root was made of.
        let base = dataset.base();
        if let (Some(before), Some((lsn, time))) = (checkpoints.last_mut(), first)
            && (before.root == base.root && base.lsn <= before.until_lsn && before.until_lsn < lsn)
        {
            before.until_lsn = Lsn(lsn.0 - 1);
            before.until_time = time.max(before.until_time);
        }
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
        vec![Change::checkpoints(dataset.id, &checkpoints), self.note_steps(dataset.id, head.lsn, steps)]
    }

    /// The change that notes that a dataset rests at its root up to the record `last` of `time`. The caller has claimed its drain.
    pub(super) fn note_rest(&self, dataset: &Dataset, last: Lsn, time: Timestamp) -> Option<Change> {
        let mut checkpoints = self.noted_checkpoints(dataset.id);
        let base = dataset.base();
        let newest = checkpoints.last_mut().filter(|newest| newest.root == base.root && newest.until_lsn <= last)?;
        newest.until_lsn = last;
        newest.until_time = time.max(newest.until_time);
        Some(Change::checkpoints(dataset.id, &checkpoints))
    }

    /// Keeps the journal behind `lsn`, and the files of `history` that have records behind it, until the result is dropped. The
    /// caller holds the administration, so that no trimming is under way that has not seen it.
    pub(super) fn pin(&self, lsn: Lsn, history: Option<&History>) -> Pin<'_> {
        let reads_history = history.is_some_and(|history| history.files.iter().any(|file| file.last > lsn));
        let pinned = Pinned { lsn, reads_history };
        self.lock_pins().push(pinned);
        Pin { store: self, pinned }
    }

    /// The first record behind which somebody reads the journal.
    pub(super) fn pinned_from(&self) -> Option<Lsn> {
        self.lock_pins().iter().map(|pinned| pinned.lsn).min()
    }

    /// True where somebody reads files of history: none is removed meanwhile, be it known or not.
    pub(super) fn is_history_read(&self) -> bool {
        self.lock_pins().iter().any(|pinned| pinned.reads_history)
    }

    fn lock_pins(&self) -> std::sync::MutexGuard<'_, Vec<Pinned>> {
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

/// What somebody reads of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    /// The journal behind this record.
    lsn: Lsn,
    /// And files of history. Which ones, the catalogue may not know any more.
    reads_history: bool,
}

/// The right to read the journal behind a record, and maybe history.
pub(super) struct Pin<'a> {
    store: &'a Store,
    pinned: Pinned,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = self.store.lock_pins();
        if let Some(at) = pins.iter().position(|pinned| *pinned == self.pinned) {
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
