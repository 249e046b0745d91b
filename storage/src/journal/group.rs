//! Group commit: whoever comes first writes for all who wait, and whoever comes first then syncs for all.
//!
//! ```text
//!          append: buffered     commit: the first caller writes, then syncs what is written
//!   A ───────●────────────────●══ safe_first ══ write ══●══ safe_first ══ sync ══●── returns
//!   B ──────────────●──────────────● waits ·············●══ writes B, C ══●·· waits ······●══ sync ══●── returns
//!   C ───────────────────●─────────────● write_out: waits ··············●── returns: outlives the process
//! ```
//!
//! While one writes or syncs, others append; all that gathered in that time is the next one's batch. So a slow disk makes
//! larger batches, and the journal starts no thread. Writing goes on beside a sync, so that who only wants his records to
//! outlive the process ([`Journal::write_out`]) does not wait for the disk.
//!
//! A write or sync that fails poisons the journal: what it covered may be on the disk or not, a later sync would not say,
//! and what callers have told their clients cannot be taken back. Only recovery, after a restart, knows what is there.

use std::io::{self, IoSlice};
use std::sync::{Arc, MutexGuard};

use super::buffer::{Reached, Run, Spare};
use super::segment::Segment;
use super::{DIR, Journal, Means, SPARE_SUFFIX, State};
use crate::error::{Result, io_error};
use crate::units::Lsn;

impl Journal {
    /// Why nothing is written any more, where a write or sync failed: until the journal is opened again.
    pub fn stopped(&self) -> Option<String> {
        self.lock().poison.clone()
    }

    /// Returns when every record up to `lsn` is safe.
    pub(super) fn commit_upto(&self, lsn: Lsn, safe_first: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        let mut led = false;
        while lsn > state.stable {
            state.check_appended(lsn)?;
            state = if lsn > state.written.last {
                if state.leader {
                    self.wait(state)
                } else {
                    led = true;
                    self.lead(state, &|_| safe_first())?
                }
            } else if state.syncing {
                self.wait(state)
            } else {
                self.lead_sync(state, safe_first)?
            };
        }
        drop(state);
        if led {
            self.keep_spare();
        }
        Ok(())
    }

    /// Returns when every record up to `lsn` is with the kernel.
    pub(super) fn write_upto(&self, lsn: Lsn, before_write: &dyn Fn(Means) -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        let mut led = false;
        while lsn > state.written.last {
            state.check_appended(lsn)?;
            state = if state.leader {
                self.wait(state)
            } else {
                led = true;
                self.lead(state, before_write)?
            };
        }
        drop(state);
        if led {
            self.keep_spare();
        }
        Ok(())
    }

    /// Writes everything buffered. The caller has seen that nobody else leads and that nothing is poisoned.
    ///
    /// A batch that begins a segment is synced on the way, and waits until nobody else syncs: what a sync says about the
    /// segment before is said once only. `before_write` is told which of the two will be true of the batch.
    pub(super) fn lead<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        before_write: &dyn Fn(Means) -> Result<()>,
    ) -> Result<MutexGuard<'a, State>> {
        state.leader = true;
        while state.syncing && state.buffer.rolls() {
            state = self.wait(state);
        }
        if let Err(poisoned) = state.check_poison() {
            state.leader = false;
            self.changed.notify_all();
            return Err(poisoned);
        }
        let rolls = state.buffer.rolls();
        state.syncing |= rolls;
        let unsynced = (state.written.last > state.stable).then(|| Arc::clone(&state.written.segment));
        let runs = std::mem::take(&mut state.buffer.runs);
        drop(state);
        let mut batch = Batch { journal: self, runs, rolls, fate: Fate::Unknown };
        // Taken before the call: what a record refers to was handed over before the record was appended.
        if let Err(error) = before_write(if rolls { Means::Safe } else { Means::Written }) {
            batch.fate = Fate::NotBegun;
            return Err(error);
        }
        batch.fate = match self.write(&mut batch.runs, unsynced) {
            Ok(()) => Fate::Written,
            Err(error) => Fate::Failed(error.to_string()),
        };
        drop(batch);
        let state = self.lock();
        state.check_poison()?;
        Ok(state)
    }

    /// Writes runs in order. A segment is complete and safe before the next one gets its name.
    fn write(&self, runs: &mut [Run], mut unsynced: Option<Arc<Segment>>) -> Result<()> {
        for run in runs {
            let Some(spare) = run.begins.clone() else {
                write_run(run)?;
                unsynced = Some(Arc::clone(&run.segment));
                continue;
            };
            if let Some(segment) = unsynced.take() {
                sync(&segment)?;
            }
            write_run(run)?;
            sync(&run.segment)?;
            let path = run.segment.path();
            self.media.rename(&spare, &path).map_err(|error| io_error("rename", &path, error))?;
            self.media.sync_dir(DIR).map_err(|error| io_error("sync", DIR, error))?;
        }
        Ok(())
    }

    /// Syncs everything that is written. The caller has seen that nobody else syncs and that nothing is poisoned.
    fn lead_sync<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        safe_first: &dyn Fn() -> Result<()>,
    ) -> Result<MutexGuard<'a, State>> {
        state.syncing = true;
        let reached = state.written.clone();
        drop(state);
        let mut turn = Turn { journal: self, reached, fate: Fate::Unknown };
        // What others have written out may refer to what is not safe yet.
        if let Err(error) = safe_first() {
            turn.fate = Fate::NotBegun;
            return Err(error);
        }
        turn.fate = match sync(&turn.reached.segment) {
            Ok(()) => Fate::Written,
            Err(error) => Fate::Failed(error.to_string()),
        };
        drop(turn);
        let state = self.lock();
        state.check_poison()?;
        Ok(state)
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

/// What became of a batch, or of a sync.
enum Fate {
    /// Nothing was written or synced: a batch goes back to the buffer.
    NotBegun,
    /// It is done.
    Written,
    /// Nobody knows.
    Failed(String),
    /// Who led it panicked: as bad as a failure.
    Unknown,
}

impl Fate {
    /// Why nobody knows, where that is so.
    fn poison(&mut self) -> Option<String> {
        match std::mem::replace(self, Fate::Unknown) {
            Fate::NotBegun | Fate::Written => None,
            Fate::Failed(reason) => Some(reason),
            Fate::Unknown => Some("a commit was cut off by a panic".to_owned()),
        }
    }
}

/// The runs that a leader took. However the leader ends, others learn of it and go on.
struct Batch<'a> {
    journal: &'a Journal,
    runs: Vec<Run>,
    /// It has the turn to sync, too.
    rolls: bool,
    fate: Fate,
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let mut state = self.journal.lock();
        match self.fate {
            Fate::NotBegun => state.buffer.put_back(std::mem::take(&mut self.runs)),
            Fate::Written => state.batch_is_written(&self.runs),
            Fate::Failed(_) | Fate::Unknown => {}
        }
        state.spoil(self.fate.poison());
        state.leader = false;
        state.syncing &= !self.rolls;
        self.journal.changed.notify_all();
    }
}

/// The turn to sync what was written when it began. However it ends, others learn of it and go on.
struct Turn<'a> {
    journal: &'a Journal,
    reached: Reached,
    fate: Fate,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.journal.lock();
        if matches!(self.fate, Fate::Written) {
            state.is_safe(&self.reached);
        }
        state.spoil(self.fate.poison());
        state.syncing = false;
        self.journal.changed.notify_all();
    }
}
