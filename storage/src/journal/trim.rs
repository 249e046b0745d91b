//! Forgetting: whole segments, oldest first.

use std::io;
use std::sync::PoisonError;

use super::format::SEGMENT_HEADER_BYTES;
use super::segment::path;
use super::{DIR, Journal, Span};
use crate::error::{Result, io_error};
use crate::units::Lsn;

impl Journal {
    /// Removes the segments in which every record is at or before `keep_after`, and returns how many bytes of disk that
    /// freed. Where nothing at all is owed any more and the newest segment is at least half full, a new one is begun,
    /// so that the old one can go, too; without room for a new one it stays.
    ///
    /// The caller no longer needs the removed records, nor any [`super::Place`] in them.
    pub fn trim(&self, keep_after: Lsn) -> Result<u64> {
        let _one_at_a_time = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut freed = self.remove_upto(keep_after)?;
        if self.roll_if_done(keep_after)? {
            freed += self.remove_upto(keep_after)?;
        }
        Ok(freed)
    }

    /// The segments in which every record is at or before `keep_after`, oldest first: those that [`Journal::trim`] would remove.
    pub fn done(&self, keep_after: Lsn) -> Vec<Span> {
        let state = self.lock();
        let mut behind_bytes: u64 = state.segments.values().sum();
        let nexts = state.segments.keys().skip(1);
        let mut spans = Vec::new();
        for ((first, bytes), next) in
            state.segments.iter().zip(nexts).take_while(|(_, next)| next.0 <= keep_after.0 + 1)
        {
            behind_bytes -= bytes;
            spans.push(Span { first: *first, last: Lsn(next.0 - 1), bytes: *bytes, behind_bytes });
        }
        spans
    }

    fn remove_upto(&self, keep_after: Lsn) -> Result<u64> {
        let mut freed = 0;
        while let Some((first, bytes)) = self.oldest_done(keep_after) {
            let path = path(first);
            match self.media.remove(&path) {
                // An earlier attempt got this far and failed behind it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| io_error("remove", &path, error))?,
            }
            // One by one: after a power cut the segments that are left must follow one another.
            self.media.sync_dir(DIR).map_err(|error| io_error("sync", DIR, error))?;
            let mut state = self.lock();
            state.segments.remove(&first);
            let oldest = state.segments.keys().next().copied();
            if let Some(oldest) = oldest {
                state.ruler.trimmed(oldest);
            }
            drop(state);
            self.handles.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&first);
            freed += bytes;
        }
        Ok(freed)
    }

    /// The oldest segment and its bytes, if it is not the newest and all its records are at or before `keep_after`.
    fn oldest_done(&self, keep_after: Lsn) -> Option<(Lsn, u64)> {
        let state = self.lock();
        let mut segments = state.segments.iter();
        let (first, bytes) = segments.next()?;
        let (next, _) = segments.next()?;
        (next.0 <= keep_after.0.saturating_add(1)).then_some((*first, *bytes))
    }

    /// Begins a new segment where the newest is well used and nothing in it is owed. True where that was done.
    fn roll_if_done(&self, keep_after: Lsn) -> Result<bool> {
        let mut state = self.lock();
        if state.buffer.spare.is_none() && state.nothing_owed(keep_after) {
            if state.making_spare {
                return Ok(false);
            }
            state = match self.make_spare(state) {
                Ok(state) => state,
                Err(_without_room_it_stays) => return Ok(false),
            };
        }
        if !state.nothing_owed(keep_after) || !state.buffer.roll() {
            return Ok(false);
        }
        drop(self.lead(state, &|_| Ok(()))?);
        self.keep_spare();
        Ok(true)
    }
}

impl super::State {
    fn nothing_owed(&self, keep_after: Lsn) -> bool {
        let used = self.buffer.end - SEGMENT_HEADER_BYTES;
        let quiet = !self.leader && !self.syncing && self.buffer.runs.is_empty() && self.poison.is_none();
        quiet && self.stable == self.last() && keep_after >= self.stable && used >= self.buffer.open.len / 2
    }
}
