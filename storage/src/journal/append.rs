//! Putting records in order, into room that is there.

use std::sync::MutexGuard;

use bytes::Bytes;

#[cfg(doc)]
use super::JournalOptions;
use super::buffer::Draft;
use super::format::{HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES};
use super::{Appended, Journal, KIND_OWN, State};
#[cfg(doc)]
use crate::error::Environment;
use crate::error::{Refusal, Result};
use crate::id::DatasetId;
use crate::steady::RACE_NANOSECONDS;
use crate::units::{Lsn, Timestamp};

/// Bytes of the record that a step of the clock leaves.
const STEP_RECORD_BYTES: u64 = RECORD_HEADER_BYTES + 16;

/// Which room a record may use.
#[derive(Clone, Copy)]
enum Room {
    /// All but what is kept back.
    ForAll,
    /// All there is.
    ForFreeing,
}

impl Journal {
    /// Puts a record behind all others. It is safe only once [`Journal::commit`] of its LSN returned. The order of LSNs
    /// is that of the calls.
    ///
    /// `kind` is 1 to 255; `head` has at most [`HEAD_BYTES_MAX`] and `payload` at most [`PAYLOAD_BYTES_MAX`] bytes.
    /// Pieces of more than a kilobyte are not copied: they stay alive until the record is safe.
    ///
    /// Where it fails nothing was appended: [`Environment::Full`] without room on the disk for the record;
    /// [`Refusal::Busy`] where too much is not safe yet: commit, then try again; [`Environment::Poisoned`] after a commit
    /// failed.
    pub fn append(
        &self,
        time: Timestamp,
        dataset: DatasetId,
        kind: u8,
        head: Bytes,
        payload: Vec<Bytes>,
    ) -> Result<Appended> {
        self.put(time, Draft::new(dataset, kind, head, payload), Room::ForAll)
    }

    /// Like [`Journal::append`], for a record whose effect frees room on the disk: a removal, a truncation. It may use the
    /// room that is kept back from others ([`JournalOptions::kept_back_bytes`]), so that people can make room on a disk
    /// that is full.
    pub fn append_freeing(
        &self,
        time: Timestamp,
        dataset: DatasetId,
        kind: u8,
        head: Bytes,
        payload: Vec<Bytes>,
    ) -> Result<Appended> {
        self.put(time, Draft::new(dataset, kind, head, payload), Room::ForFreeing)
    }

    fn put(&self, time: Timestamp, draft: Draft, room: Room) -> Result<Appended> {
        self.check(&draft)?;
        let mut state = self.make_room(self.lock(), time, draft.bytes(), room)?;
        if let Some(step) = state.step_back(time) {
            state.clock.steps_back += 1;
            let at = state.buffer.time;
            state.push(&step, at);
        }
        let latest = state.buffer.time;
        let steady = state.steady.time(time, latest);
        state.clock.clamped += u64::from(steady > time);
        let (lsn, place) = state.push(&draft, steady);
        Ok(Appended { lsn, time: steady, place, unsafe_bytes: state.buffer.unsafe_bytes() })
    }

    fn check(&self, draft: &Draft) -> Result<()> {
        let invalid = |text: String| Err(Refusal::Invalid(text).into());
        if draft.kind == KIND_OWN {
            return invalid("record kind 0 is the journal's own".into());
        }
        if draft.head.len() > HEAD_BYTES_MAX || draft.payload_len > PAYLOAD_BYTES_MAX {
            return invalid(format!(
                "a record has at most {HEAD_BYTES_MAX} bytes of head and {PAYLOAD_BYTES_MAX} of payload; this one {} and {}",
                draft.head.len(),
                draft.payload_len
            ));
        }
        let room = self.options.segment_bytes - SEGMENT_HEADER_BYTES - STEP_RECORD_BYTES;
        if draft.bytes() > room {
            return invalid(format!("a record of {} bytes does not fit into a segment", draft.bytes()));
        }
        Ok(())
    }

    /// Sees to it that the open segment has room for a record, and for one about the clock where it stepped.
    fn make_room<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        time: Timestamp,
        bytes: u64,
        room: Room,
    ) -> Result<MutexGuard<'a, State>> {
        loop {
            state.check_poison()?;
            let needed = bytes + state.step_back(time).map_or(0, |step| step.bytes());
            let waiting = state.buffer.unsafe_bytes();
            if waiting > 0 && waiting + needed > self.options.buffer_bytes_max {
                return Err(Refusal::Busy.into());
            }
            let kept_back = match room {
                // Where a spare stands by, what is left of the open segment need not be saved.
                Room::ForAll if state.buffer.spare.is_none() => self.options.kept_back_bytes,
                Room::ForAll | Room::ForFreeing => 0,
            };
            if state.buffer.has_room(needed + kept_back) {
                return Ok(state);
            }
            if !state.buffer.has_room(needed) && state.buffer.roll() {
                continue;
            }
            state = if state.making_spare { self.wait(state) } else { self.make_spare(state)? };
        }
    }

    /// Leaves a voucher behind the last record where no later one vouches for it yet, so that bit rot in the last batch is
    /// told apart from a torn tail. For quiet moments and before closing: it costs a sync. Does nothing while records
    /// wait for a commit, or without room.
    ///
    /// `safe_first` is as in [`Journal::commit`]: by the time the voucher is synced others may have written out more.
    pub fn vouch(&self, safe_first: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut state = self.lock();
        state.check_poison()?;
        let voucher = Draft::new(DatasetId::default(), KIND_OWN, Bytes::new(), Vec::new());
        let quiet = !state.leader && !state.syncing && state.buffer.runs.is_empty() && state.stable == state.last();
        if !quiet || state.stable == Lsn(0) || state.vouched == state.stable || !state.buffer.has_room(voucher.bytes())
        {
            return Ok(());
        }
        let time = state.buffer.time;
        let (lsn, _) = state.push(&voucher, time);
        state.vouched = lsn;
        // Nothing but the voucher is in this batch, which refers to nothing.
        let state = self.lead(state, &|_| Ok(()))?;
        drop(state);
        self.commit_upto(lsn, safe_first)
    }
}

impl State {
    /// The record that a clock leaves that is told to be earlier than before.
    fn step_back(&self, time: Timestamp) -> Option<Draft> {
        let shown = self.steady.shown();
        if time.0.saturating_add(RACE_NANOSECONDS) >= shown.0 {
            return None;
        }
        let head = [shown.0.to_le_bytes(), time.0.to_le_bytes()].concat();
        Some(Draft::new(DatasetId::default(), KIND_OWN, head.into(), Vec::new()))
    }
}
