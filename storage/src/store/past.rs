//! Where a dataset's past lies and what it takes: its own history, and behind that its own records in the journal.
//!
//! ```text
//!        from                      upto                                  now
//!   gone  │ history: files of this  │ journal: shared, and its records are  │
//!         │ dataset alone           │ counted in steps                      │
//! ```
//!
//! A segment that is split off and not yet trimmed is in both; whoever reads goes by `upto`.

use std::sync::atomic::Ordering;

use super::Store;
use crate::catalogue::{Change, History, HistoryFile, Step};
use crate::dataset::record::Record;
use crate::error::{Damage, Result, io_error};
use crate::history::{self, FOLDER, parse_file_name};
use crate::id::DatasetId;
use crate::journal;
use crate::name::Name;
use crate::units::Lsn;

/// Beyond so many steps every two become one.
const STEPS_MAX: usize = 1024;

/// Names of chunks that are handed on together.
const NAMES_TOGETHER: usize = 4096;

/// What is kept of a dataset's past, and what it costs.
pub(super) struct Past {
    /// The record behind which all of it is there.
    pub from: Lsn,
    /// Up to here it lies in history files, behind in the journal.
    pub upto: Lsn,
    /// Pieces, oldest first: the last record of each, and the bytes of it and of all behind it.
    pieces: Vec<(Lsn, u64)>,
    /// Of these, bytes in history files.
    history: Vec<(Lsn, u64)>,
    /// Bytes of its largest file: what windows let go of goes by files.
    pub grain_bytes: u64,
    /// False where nobody counted the dataset's own part of the journal: then all of it counts.
    counted: bool,
}

impl Past {
    /// Bytes of history files that have records behind `lsn`.
    pub fn history_bytes_behind(&self, lsn: Lsn) -> u64 {
        behind(&self.history, lsn)
    }
}

/// Bytes of the pieces that have records behind `lsn`.
fn behind(pieces: &[(Lsn, u64)], lsn: Lsn) -> u64 {
    pieces.get(pieces.partition_point(|(last, _)| *last <= lsn)).map_or(0, |(_, bytes)| *bytes)
}

/// Sums pieces from the newest to the oldest.
fn summed(mut pieces: Vec<(Lsn, u64)>) -> Vec<(Lsn, u64)> {
    let mut sum = 0;
    for (_, bytes) in pieces.iter_mut().rev() {
        sum += *bytes;
        *bytes = sum;
    }
    pieces
}

impl Store {
    /// What is kept of a dataset's past.
    pub(super) fn past(&self, id: DatasetId) -> Past {
        let before_journal = self.before_journal();
        let history = self.history(id).unwrap_or_default();
        let upto = history.upto.max(before_journal);
        let steps = self.stages.catalogue.steps(id);
        let counted = steps.is_some();
        let files: Vec<(Lsn, u64)> = history.files.iter().map(|file| (file.last, file.bytes)).collect();
        let steps = steps.into_iter().flatten().filter(|step| step.upto > upto);
        let pieces = files.iter().copied().chain(steps.map(|step| (step.upto, step.bytes))).collect();
        let from = if history.upto > history.from { history.from } else { upto };
        let grain_bytes = files.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        Past { from, upto, pieces: summed(pieces), history: summed(files), grain_bytes, counted }
    }

    /// A dataset's history, if the journal goes on where it ends.
    pub(super) fn history(&self, id: DatasetId) -> Option<History> {
        // In this order: what goes from the journal is in the history before.
        let before_journal = self.before_journal();
        self.stages.catalogue.history(id).filter(|history| history.upto >= before_journal)
    }

    /// The last record that the journal does not have any more.
    fn before_journal(&self) -> Lsn {
        Lsn(self.stages.journal.first().0 - 1)
    }

    /// Bytes that a past takes behind a record, of which the last that is not owed to the drain anyway: never too few, and too
    /// many by a file of history or a step of the journal at the most.
    pub(super) fn past_bytes(&self, past: &Past, lsn: Lsn) -> u64 {
        let counted = behind(&past.pieces, lsn);
        if past.counted { counted } else { counted + self.stages.journal.bytes_since(lsn.max(past.upto)) }
    }

    /// The change that notes what the layer up to `upto` has in the journal.
    pub(super) fn note_steps(&self, id: DatasetId, upto: Lsn, steps: &[Step]) -> Change {
        let past = self.past(id);
        let mut all = match self.stages.catalogue.steps(id) {
            Some(mut all) => {
                all.retain(|step| step.upto > past.upto);
                all.extend_from_slice(steps);
                all
            }
            // An older version wrote what is there: nobody knows whose it is.
            None => vec![Step { upto, bytes: self.stages.journal.bytes_since(past.upto) }],
        };
        if all.len() > STEPS_MAX {
            let pair = |pair: &[Step]| Step {
                upto: pair.last().map_or(upto, |step| step.upto),
                bytes: pair.iter().map(|step| step.bytes).sum(),
            };
            all = all.chunks(2).map(pair).collect();
        }
        Change::steps(id, Some(&all))
    }

    /// Hands the records of a dataset behind `after` to `visit`, in order, from its history and then from the journal, where those
    /// of others are among them. The first error ends it. The caller has pinned the journal behind `after`, and has found
    /// [`Past::from`] at or before it under the same administration.
    pub(super) fn replay_past(
        &self,
        id: DatasetId,
        history: Option<&History>,
        after: Lsn,
        visit: &mut dyn FnMut(journal::Record) -> Result<()>,
    ) -> Result<()> {
        let mut from = after;
        if let Some(history) = history {
            for file in history.files.iter().filter(|file| file.last > after) {
                history::read(&*self.stages.media, self.id, id, file, after, visit)?;
            }
            from = from.max(history.upto);
        }
        self.stages.journal.replay(from, visit)
    }

    /// The files of a dataset's history, oldest first.
    pub(crate) fn history_files(&self, id: DatasetId) -> Vec<HistoryFile> {
        self.history(id).map_or(Vec::new(), |history| history.files)
    }

    /// Reads a file of a dataset's history and hands the names of the chunks that its records refer to to `visit`, at most a few
    /// thousand at a time, some of them more than once: these are in use. Damage where the file is not what was written.
    pub(crate) fn history_chunks(
        &self,
        id: DatasetId,
        file: &HistoryFile,
        visit: &mut dyn FnMut(&[Name]) -> Result<()>,
    ) -> Result<()> {
        let mut names = Vec::new();
        history::read(&*self.stages.media, self.id, id, file, Lsn(0), &mut |record| {
            let malformed =
                |error| Damage::new(history::path(id, file.first), 0, format!("record {}", record.lsn), error);
            names.extend(Record::decode(record.kind, &record.head).map_err(malformed)?.chunks());
            if names.len() >= NAMES_TOGETHER {
                visit(&names)?;
                names.clear();
            }
            Ok(())
        })?;
        visit(&names)
    }

    /// The record behind which the journal itself is kept for a dataset's window: what its history has can go.
    pub(super) fn journal_kept_from(&self, id: DatasetId) -> Option<Lsn> {
        let kept = self.kept_from(id)?;
        let past = self.past(id);
        Some(if kept >= past.from { kept.max(past.upto) } else { kept })
    }

    /// The change that lets go of the history that a dataset's window does not need; `None` where it needs all.
    pub(super) fn forget_history(&self, id: DatasetId) -> Option<Change> {
        let before_journal = self.before_journal();
        let mut history = self.stages.catalogue.history(id)?;
        let kept = self.kept_from(id).filter(|kept| *kept < history.upto && history.upto >= before_journal);
        let Some(kept) = kept else { return Some(Change::history(id, None)) };
        let gone = history.files.iter().take_while(|file| file.last <= kept).count();
        history.from = history.files.drain(..gone).next_back()?.last;
        Some(Change::history(id, Some(&history)))
    }

    /// True where some window needs less history than there is.
    pub(super) fn forgets_history(&self) -> bool {
        self.stages.catalogue.histories().iter().any(|(id, _)| self.forget_history(*id).is_some())
    }

    /// Removes history files that the catalogue does not know (any more). Not while one is being written, or while
    /// somebody reads history: then it stays owed ([`Store::owes_sweep`]), and the next one does it. The caller holds the
    /// administration.
    pub(super) fn sweep_history(&self) -> Result<()> {
        self.owe_sweep();
        let Some(_none_is_written) = self.try_splitting() else { return Ok(()) };
        self.sweep_history_unwritten()
    }

    /// The same for whoever splits.
    pub(super) fn sweep_history_unwritten(&self) -> Result<()> {
        self.owe_sweep();
        let media = &self.stages.media;
        if self.is_history_read() {
            return Ok(());
        }
        for name in media.list(FOLDER).map_err(|error| io_error("list", FOLDER, error))? {
            let Some((dataset, first)) = parse_file_name(&name) else { continue };
            let history = self.stages.catalogue.history(dataset);
            if !history.is_some_and(|history| history.files.iter().any(|file| file.first == first)) {
                let path = history::path(dataset, first);
                media.remove(&path).map_err(|error| io_error("remove", &path, error))?;
            }
        }
        self.sweep_owed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// True where files may be left that the catalogue does not know any more: their room is not free yet.
    pub(super) fn owes_sweep(&self) -> bool {
        self.sweep_owed.load(Ordering::Relaxed)
    }

    /// The caller holds the administration, without which no sweep ends.
    pub(super) fn owe_sweep(&self) {
        self.sweep_owed.store(true, Ordering::Relaxed);
    }

    /// The right to write history files, of which there is one.
    pub(super) fn try_splitting(&self) -> Option<std::sync::MutexGuard<'_, ()>> {
        match self.splitting.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Bytes of all history files.
    pub(super) fn history_bytes(&self) -> u64 {
        let histories = self.stages.catalogue.histories();
        histories.iter().flat_map(|(_, history)| &history.files).map(|file| file.bytes).sum()
    }

    /// The record up to which windows may have to let go for want of room.
    pub(super) fn window_floor(&self) -> Lsn {
        Lsn(self.window_floor.load(Ordering::Relaxed))
    }
}
