//! Group commit: whoever comes first writes for all who wait.
//!
//! ```text
//!          append: buffered          commit: the first caller becomes leader
//!   A ───────●─────────────────●══ takes A ══ before_write ══ write ══ sync ══●── returns
//!   B ──────────────●──────────────● waits ································· ● becomes leader, takes B and C …
//!   C ───────────────────●────────────● waits ······························ ● waits ……
//! ```
//!
//! While a leader works, others append; all that gathered in that time is the next leader's batch. So a slow disk makes
//! larger batches, and the journal starts no thread.
//!
//! A write or sync that fails poisons the journal: what it covered may be on the disk or not, a later sync would not say,
//! and what callers have told their clients cannot be taken back. Only recovery, after a restart, knows what is there.

use std::io::{self, IoSlice};
use std::sync::{Arc, MutexGuard};

use super::buffer::{Run, Spare};
use super::segment::Segment;
use super::{DIR, Journal, SPARE_SUFFIX, State};
use crate::error::{Environment, Refusal, Result, io_error};
use crate::units::Lsn;

impl Journal {
    /// Returns when every record up to `lsn` is safe.
    pub(super) fn commit_upto(&self, lsn: Lsn, before_write: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        loop {
            if lsn <= state.stable {
                return Ok(());
            }
            state.check_poison()?;
            if lsn >= state.buffer.next {
                let text = format!("record {lsn} was not appended yet, so it cannot be committed");
                return Err(Refusal::Invalid(text).into());
            }
            if !state.leader {
                break;
            }
            state = self.wait(state);
        }
        self.lead(state, before_write)?;
        self.keep_spare();
        Ok(())
    }

    /// Writes everything buffered. The caller has seen that nobody else leads and that nothing is poisoned.
    pub(super) fn lead(&self, mut state: MutexGuard<'_, State>, before_write: &dyn Fn() -> Result<()>) -> Result<()> {
        state.leader = true;
        let mut batch = Batch { journal: self, runs: std::mem::take(&mut state.buffer.runs), fate: Fate::Unknown };
        drop(state);
        // Taken before the call: what a record refers to was handed over before the record was appended.
        if let Err(error) = before_write() {
            batch.fate = Fate::NotBegun;
            return Err(error);
        }
        match self.write(&mut batch.runs) {
            Ok(()) => {
                batch.fate = Fate::Safe;
                Ok(())
            }
            Err(error) => {
                batch.fate = Fate::Failed(error.to_string());
                Err(Environment::Poisoned(error.to_string()).into())
            }
        }
    }

    /// Writes and syncs runs in order. A segment is complete and safe before the next one gets its name.
    fn write(&self, runs: &mut [Run]) -> Result<()> {
        let mut unsynced: Option<Arc<Segment>> = None;
        for run in runs {
            if let Some(spare) = run.begins.clone() {
                if let Some(segment) = unsynced.take() {
                    sync(&segment)?;
                }
                write_run(run)?;
                sync(&run.segment)?;
                let path = run.segment.path();
                self.media.rename(&spare, &path).map_err(|error| io_error("rename", &path, error))?;
                self.media.sync_dir(DIR).map_err(|error| io_error("sync", DIR, error))?;
            } else {
                write_run(run)?;
                unsynced = Some(Arc::clone(&run.segment));
            }
        }
        unsynced.map_or(Ok(()), |segment| sync(&segment))
    }

    /// Takes room for one segment more, unless that is done. Failing is no harm: the next append that needs it tries
    /// again, and says what is wrong.
    pub(super) fn keep_spare(&self) {
        let state = self.lock();
        if state.buffer.spare.is_none() && !state.making_spare && state.poison.is_none() {
            let _tried_again_by_append = self.make_spare(state);
        }
    }

    /// Takes room for one segment more. The lock is not held meanwhile; `making_spare` keeps others from doing the same.
    pub(super) fn make_spare<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>> {
        state.making_spare = true;
        let path = format!("{DIR}/{:016x}{SPARE_SUFFIX}", state.spares_made);
        state.spares_made += 1;
        drop(state);
        let made = self.reserve(&path);
        let mut state = self.lock();
        state.making_spare = false;
        self.changed.notify_all();
        state.buffer.spare = Some(made.map_err(|error| io_error("reserve", &path, error))?);
        Ok(state)
    }

    fn reserve(&self, path: &str) -> io::Result<Spare> {
        let file = self.media.create(path)?;
        let len = self.options.segment_bytes;
        match file.reserve(len) {
            Ok(()) => Ok(Spare { path: path.to_owned(), file, len }),
            Err(error) => {
                // A file that cannot be removed either is removed by the next opening.
                let _also_on_opening = self.media.remove(path);
                Err(error)
            }
        }
    }
}

fn write_run(run: &mut Run) -> Result<()> {
    let offset = run.offset;
    let file = Arc::clone(&run.segment.file);
    let slices: Vec<IoSlice> = run.parts().iter().map(|part| IoSlice::new(part)).collect();
    file.write_at(&slices, offset).map_err(|error| io_error("write", &run.segment.path(), error))
}

fn sync(segment: &Segment) -> Result<()> {
    segment.file.sync().map_err(|error| io_error("sync", &segment.path(), error))
}

/// What became of a batch.
enum Fate {
    /// Nothing was written: it goes back to the buffer.
    NotBegun,
    /// Everything is safe.
    Safe,
    /// Nobody knows.
    Failed(String),
    /// The leader panicked: as bad as a failure.
    Unknown,
}

/// The runs that a leader took. However the leader ends, others learn of it and go on.
struct Batch<'a> {
    journal: &'a Journal,
    runs: Vec<Run>,
    fate: Fate,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut state = self.journal.lock();
        match std::mem::replace(&mut self.fate, Fate::Unknown) {
            Fate::NotBegun => state.buffer.put_back(std::mem::take(&mut self.runs)),
            Fate::Safe => state.batch_is_safe(&self.runs),
            Fate::Failed(reason) => state.poison = Some(reason),
            Fate::Unknown => state.poison = Some("a commit was cut off by a panic".to_owned()),
        }
        state.leader = false;
        self.journal.changed.notify_all();
    }
}
