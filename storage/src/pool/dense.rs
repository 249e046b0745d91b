//! Dense containers: chunks that were stored a while ago are compressed with zstd, which takes time that nobody waits for, where that gives
//! room back. A container is rewritten as a thin one is (`let_go.rs`): moved, synced, in the index, and only then removed.
//!
//! What was looked at is remembered in the index, so no container is tried twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::chunk::Sketch;
use crate::container::codec::{Codec, compress_densely};
use crate::container::format::Slot;
use crate::container::{Class, path};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::index::{Location, Record};
use crate::media::answers::unreadable;

use super::let_go::{Going, LetGo};
use super::{Inner, Pool};

/// So many chunks of a container are tried before all of it is.
const TRIED: usize = 24;
/// It pays where it saves at least this part of what the chunks take.
const PAYS: u64 = 10;

/// What became of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Densified {
    /// Which.
    pub container: ContainerId,
    /// Bytes of its file before; it is gone, where it was rewritten.
    pub before_bytes: u64,
    /// Bytes of its chunks as they lie now, with their slots, where it was rewritten. `None` where that would not pay.
    pub after_bytes: Option<u64>,
}

impl Pool {
    /// The number that the next container gets: what is stored from now on lies in containers from there on.
    pub fn next_container(&self) -> ContainerId {
        ContainerId(self.0.streams.next_id())
    }

    /// Looks at the next container of chunks below `upto` that is not dense yet, and makes it so where that pays. `None` where there is none, or
    /// while somebody checks. What can't be read is left to scrubs. [`Full`](crate::error::Environment::Full) where there is no room for the copy.
    pub fn densify(&self, upto: ContainerId) -> Result<Option<Densified>> {
        let inner = &*self.0;
        let Some(_no_check) = self.no_check() else { return Ok(None) };
        // What is moved while a run of reclaim watches would be kept by that, needed or not.
        if inner.watching().is_some() {
            return Ok(None);
        }
        let Some((id, record)) = inner.next_loose(upto) else { return Ok(None) };
        let done = match unreadable(inner.media.as_ref(), inner.densify(id, record)) {
            // It is told by whoever reads it.
            Err(Error::Damage(_)) => Densified { container: id, before_bytes: record.file_bytes, after_bytes: None },
            done => done?,
        };
        inner.dense_from.store(id.0 + 1, Ordering::Relaxed);
        Ok(Some(done))
    }
}

impl Inner {
    /// The first container from where the last look ended that is neither dense nor known to gain nothing.
    fn next_loose(&self, upto: ContainerId) -> Option<(ContainerId, Record)> {
        let from = ContainerId(self.dense_from.load(Ordering::Relaxed));
        let indexed = self.indexed.read().unwrap_or_else(PoisonError::into_inner);
        let mut range = indexed.range(from.min(upto)..upto);
        range.find(|(_, record)| record.class == Class::Data && !record.dense).map(|(id, record)| (*id, *record))
    }

    fn densify(&self, id: ContainerId, record: Record) -> Result<Densified> {
        let (kept, _) = self.led_to_slots(id, record.class)?;
        let mut done = Densified { container: id, before_bytes: record.file_bytes, after_bytes: None };
        if kept.is_empty() || !self.would_pay(id, &kept)? {
            self.note_dense(id)?;
            return Ok(done);
        }
        self.distrust(&BTreeSet::from([id]));
        let mut going = BTreeMap::from([(id, Going { id, record, kept, dead: Vec::new(), densely: true })]);
        let mut sum = LetGo::default();
        self.empty(&mut going, &mut sum)?;
        if let Some(damage) = sum.damage.pop() {
            return Err(damage.into());
        }
        self.remove(going, &mut sum)?;
        done.after_bytes = Some(sum.moved_bytes);
        Ok(done)
    }

    /// Notes that a container is not to be looked at again.
    fn note_dense(&self, id: ContainerId) -> Result<()> {
        // What is noted of it meanwhile, by whoever moves names, must not be written over.
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let record = {
            let mut indexed = self.indexed.write().unwrap_or_else(PoisonError::into_inner);
            let Some(record) = indexed.get_mut(&id) else { return Ok(()) };
            record.dense = true;
            *record
        };
        self.index.insert(&[(id, record)], &[], self.streams.next_id())
    }

    /// Tries some of the chunks, from all over the container.
    fn would_pay(&self, id: ContainerId, kept: &[(Slot, Sketch)]) -> Result<bool> {
        let (mut before, mut after) = (0, 0);
        for (slot, _) in kept.iter().step_by(kept.len().div_ceil(TRIED)).filter(|(slot, _)| slot.codec != Codec::Zstd) {
            let (found, payload) = self.fetch(&Location::of(id, slot))?;
            let content = self.open_payload(&path(id, Class::of(slot.kind)), &found, payload)?;
            before += u64::from(slot.stored_len);
            let frame = compress_densely(&content, slot.stored_len as usize);
            after += frame.map_or(u64::from(slot.stored_len), |frame| frame.len() as u64);
        }
        Ok((before - after) * PAYS >= before && before > 0)
    }
}
