//! Splitting the journal: what only windows still need of its oldest segment goes into their datasets' histories.
//!
//! ```text
//!  plan (administration) ─► read the segment, write history (no lock) ─► files synced ─► folder synced ─► catalogue
//!                                                                                            (administration) │
//!                                                                                    segment trimmed ◄───────┘
//! ```
//!
//! * One segment at a time, by one thread; it is pinned meanwhile.
//! * A crash leaves the segment, and maybe bytes that the catalogue does not count: the next attempt overwrites them.
//! * A segment that can't be split, because its records can't be read or a disk fails, stays whole until no window needs it, and
//!   with it all behind it: that costs room, and no moment but those that need what is damaged. The store says so
//!   ([`Store::split_problem`]); what may be over by then is tried again a minute later.
//! * Memory: [`BATCH_BYTES`] of records and what they become, and a file handle for each dataset that has records in the segment.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::Store;
use super::retain::Pin;
use crate::catalogue::{Change, Checkpoint, History, HistoryFile};
use crate::error::{Environment, Error, Result, io_error};
use crate::history::{FOLDER, Referrer, Writer};
use crate::id::DatasetId;
use crate::journal::{Record, Span};
use crate::pool::StreamId;
use crate::units::{Lsn, Timestamp};

/// Records that are looked up together: the more, the more of what lies together in the tree is met together.
const BATCH_BYTES: usize = 8 << 20;
/// A file that has so many bytes takes no more. What windows let go of goes by files.
const FILE_BYTES: u64 = 16 << 20;

/// What failed is tried again after so long, in nanoseconds.
const RETRY_NANOSECONDS: u64 = 60_000_000_000;

/// What became of an attempt to split a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    Done,
    /// No segment is due, or the one that is can't be split.
    Nothing,
    /// Another thread is at it.
    Busy,
}

/// A segment that could not be split.
#[derive(Debug)]
pub(super) struct Unsplit {
    /// Its first record.
    first: Lsn,
    why: String,
    /// When it is tried again is counted from here; `None` where it is not, for damage stays.
    tried: Option<Timestamp>,
}

/// A segment, and for whom it is to be split.
struct Plan<'a> {
    span: Span,
    going: BTreeMap<DatasetId, Going>,
    _pin: Pin<'a>,
}

/// What goes into the history of one dataset.
struct Going {
    /// Its history before; `None` where there is none that goes on here.
    history: Option<History>,
    /// Its records behind this one.
    after: Lsn,
    checkpoints: Vec<Checkpoint>,
    batch: Vec<Record>,
    writer: Option<Writer>,
    /// The file that the writer goes on with.
    before: Option<HistoryFile>,
}

/// What is to be left whole of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// As much as was set.
    Usual,
    /// Twice that: for those who have other work to do.
    Twice,
    /// Nothing: the disk is nearly full.
    Nothing,
}

impl Store {
    /// Splits the oldest segment that is due, if any. On a full disk it is tried again with the next call, after damage not before
    /// the next start, and after any other failure when a minute has passed.
    pub(super) fn split_if_due(&self, leave: Leave, now: Timestamp) -> Split {
        let whole_bytes = match leave {
            Leave::Usual => self.whole_bytes(),
            Leave::Twice => self.whole_bytes().saturating_mul(2),
            Leave::Nothing => 0,
        };
        if self.stages.journal.disk_bytes() <= whole_bytes {
            return Split::Nothing;
        }
        let Some(_alone) = self.try_splitting() else { return Split::Busy };
        // Until the catalogue knows of the records that name chunks of a checkpoint.
        let _in_use = self.stages.pool.in_use();
        let Some(mut plan) = self.plan_split(whole_bytes, now) else { return Split::Nothing };
        let first = plan.span.first;
        match self.split(&mut plan).and_then(|files| self.note_split(&plan, files)) {
            Ok(()) => {
                *self.lock_unsplit() = None;
                return Split::Done;
            }
            Err(Error::Environment(Environment::Full)) => {}
            // Not worth stopping the drain for: writing goes on, and the journal grows.
            Err(error) => {
                let tried = (!matches!(error, Error::Damage(_))).then_some(now);
                *self.lock_unsplit() = Some(Unsplit { first, why: error.to_string(), tried });
            }
        }
        abandon(plan.going);
        Split::Nothing
    }

    /// Why the oldest part of the journal could not be split off for the windows that need it, if so it is: it stays whole then, and
    /// all of the journal behind it. `None` once it was split, or is gone.
    pub fn split_problem(&self) -> Option<String> {
        let unsplit = self.lock_unsplit();
        unsplit
            .as_ref()
            .filter(|unsplit| unsplit.first >= self.stages.journal.first())
            .map(|unsplit| unsplit.why.clone())
    }

    /// True where a segment could not be split, and it is too early to try again.
    fn is_unsplittable(&self, span: &Span, now: Timestamp) -> bool {
        let unsplit = self.lock_unsplit();
        // A clock that is set back must not make it wait.
        let over = |tried: Timestamp| now.0.abs_diff(tried.0) >= RETRY_NANOSECONDS;
        unsplit.as_ref().is_some_and(|unsplit| unsplit.first == span.first && !unsplit.tried.is_some_and(over))
    }

    fn lock_unsplit(&self) -> std::sync::MutexGuard<'_, Option<Unsplit>> {
        self.unsplit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of the journal is left as it is: a window that may not cost as much should not be spent on that.
    fn whole_bytes(&self) -> u64 {
        let windows =
            self.stages.catalogue.all_datasets().into_iter().filter_map(|row| self.stages.catalogue.window(row.id));
        windows.map(|window| window.bytes / 4).fold(self.whole_journal_bytes, u64::min)
    }

    /// The record up to which the journal is owed to nobody but windows.
    pub(super) fn owed_after(&self) -> Lsn {
        let owed = self.open_datasets().into_iter().filter_map(|dataset| dataset.owed_from());
        owed.chain(self.pinned_from()).fold(self.stages.journal.stable(), Lsn::min)
    }

    /// The oldest segment with `whole_bytes` behind it that only windows need, and that some of their histories lack.
    fn plan_split(&self, whole_bytes: u64, now: Timestamp) -> Option<Plan<'_>> {
        let _no_trimming = self.administration();
        let mut spans = self.stages.journal.done(self.owed_after());
        spans.retain(|span| span.behind_bytes >= whole_bytes);
        if spans.is_empty() {
            return None;
        }
        let kept = |row: crate::catalogue::DatasetRow| Some((row.id, self.kept_from(row.id)?));
        let windows: Vec<(DatasetId, Lsn)> =
            self.stages.catalogue.all_datasets().into_iter().filter_map(kept).collect();
        for span in spans {
            let going = windows.iter().filter_map(|(id, kept)| Some((*id, self.going(*id, *kept, &span)?)));
            let going: BTreeMap<DatasetId, Going> = going.collect();
            if !going.is_empty() {
                if self.is_unsplittable(&span, now) {
                    return None;
                }
                let _pin = self.pin(Lsn(span.first.0 - 1), None);
                return Some(Plan { span, going, _pin });
            }
        }
        None
    }

    /// What of a segment goes into the history of a dataset whose window begins behind `kept`.
    fn going(&self, id: DatasetId, kept: Lsn, span: &Span) -> Option<Going> {
        let before = Lsn(span.first.0 - 1);
        let history = self.stages.catalogue.history(id).filter(|history| history.upto >= before);
        let after = history.as_ref().map_or(kept.max(before), |history| history.upto);
        (kept < span.last && after < span.last).then(|| Going {
            before: history.as_ref().and_then(|history| history.files.last().copied()),
            history,
            after,
            checkpoints: self.stages.catalogue.checkpoints(id),
            batch: Vec::new(),
            writer: None,
        })
    }

    /// Writes what the plan says; safe when it returns, and nobody knows of it yet.
    fn split(&self, plan: &mut Plan<'_>) -> Result<Vec<(DatasetId, HistoryFile)>> {
        let going = &mut plan.going;
        let mut batch_bytes = 0;
        self.stages.journal.replay_span(&plan.span, &mut |record| {
            let Some(takes) = going.get_mut(&record.dataset).filter(|takes| record.lsn > takes.after) else {
                return Ok(());
            };
            batch_bytes += record.head.len() + record.payload.len() + size_of::<Record>();
            takes.batch.push(record);
            if batch_bytes >= BATCH_BYTES {
                batch_bytes = 0;
                going.iter_mut().try_for_each(|(id, takes)| self.write_batch(*id, takes))?;
            }
            Ok(())
        })?;
        going.iter_mut().try_for_each(|(id, takes)| self.write_batch(*id, takes))?;
        let mut files = Vec::with_capacity(going.len());
        let mut created = false;
        for (id, takes) in going.iter_mut() {
            let Some(writer) = takes.writer.take() else { continue };
            created |= writer.is_new();
            files.push((*id, writer.finish()?));
        }
        if created {
            self.stages.media.sync_dir(FOLDER).map_err(|error| io_error("sync", FOLDER, error))?;
        }
        Ok(files)
    }

    /// Writes what was gathered for one dataset, with what lies in chunks by reference.
    fn write_batch(&self, id: DatasetId, takes: &mut Going) -> Result<()> {
        if takes.batch.is_empty() {
            return Ok(());
        }
        let objects = self.stages.pool.on(StreamId::MISC);
        Referrer::new(&objects, &self.stages.realm, &takes.checkpoints).refer(&mut takes.batch)?;
        let writer = match &mut takes.writer {
            Some(writer) => writer,
            none => none.insert(self.writer_of(id, takes.after, takes.before.as_ref())?),
        };
        writer.write(&takes.batch)?;
        takes.batch.clear();
        Ok(())
    }

    /// The file that takes the records of a dataset behind `after`: the last one while it is small and sound, or a new one.
    fn writer_of(&self, id: DatasetId, after: Lsn, last: Option<&HistoryFile>) -> Result<Writer> {
        let media = &*self.stages.media;
        if let Some(last) = last.filter(|last| last.bytes < FILE_BYTES.min(self.segment_bytes))
            && let Some(writer) = Writer::append_to(media, self.id, id, last)?
        {
            return Ok(writer);
        }
        Writer::create(media, self.id, id, Lsn(after.0 + 1))
    }

    /// Tells the catalogue. Of a dataset that is gone meanwhile, or whose window is, nothing counts.
    fn note_split(&self, plan: &Plan<'_>, files: Vec<(DatasetId, HistoryFile)>) -> Result<()> {
        let _administration = self.administration();
        let mut files: BTreeMap<DatasetId, HistoryFile> = files.into_iter().collect();
        let mut changes = Vec::with_capacity(plan.going.len());
        for (id, going) in &plan.going {
            let history = self.grown(*id, going, plan.span.last, files.get(id));
            if history.is_some() {
                files.remove(id);
            }
            changes.extend(history.map(|history| Change::history(*id, Some(&history))));
        }
        self.stages.catalogue.apply(&changes)?;
        if files.is_empty() { Ok(()) } else { self.sweep_history_unwritten() }
    }

    /// The history of a dataset with what was split off for it; `None` where it does not fit any more.
    fn grown(&self, id: DatasetId, going: &Going, upto: Lsn, file: Option<&HistoryFile>) -> Option<History> {
        self.stages.catalogue.window(id)?;
        let mut history = match &going.history {
            // Its beginning may be gone meanwhile, and with it the file that this one should go on with.
            Some(before) => self.stages.catalogue.history(id).filter(|now| now.upto == before.upto)?,
            None => History { from: going.after, upto: going.after, files: Vec::new() },
        };
        history.upto = upto;
        if let Some(file) = file {
            match history.files.last_mut().filter(|last| last.first == file.first) {
                Some(last) => *last = *file,
                None if file.first <= going.after => return None,
                None => history.files.push(*file),
            }
        }
        Some(history)
    }
}

/// Gives back the room of what will not count.
fn abandon(going: BTreeMap<DatasetId, Going>) {
    for takes in going.into_values() {
        if let Some(writer) = takes.writer {
            writer.abandon();
        }
    }
}
