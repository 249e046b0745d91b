//! Reading objects that lie one behind the other: one read of the container for all of them.
//!
//! What a stream stored in order lies in order, so whoever reads a content from its beginning asks for neighbours. Each object
//! is verified against its name as every other is. Whatever is odd about a run (an open container, a damaged slot, a
//! file that is gone) is left to [`Pool::read`], one object at a time, which says what is wrong and where.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::container::format::SLOT_BYTES;
use crate::container::{Class, codec, path, reader};
use crate::error::Result;
use crate::index::Location;
use crate::name::{Kind, Name};

use super::{Inner, Pool};

/// Most bytes that one read of a container brings.
const RUN_BYTES_MAX: usize = 1 << 20;
/// Buffers for runs that are kept while nobody reads.
const SCRATCH_KEPT: usize = 4;

/// Buffers that runs are read into: to make one for each would cost as much as the read.
#[derive(Default)]
pub(super) struct Scratch(Mutex<Vec<Vec<u8>>>);

impl Scratch {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SCRATCH_KEPT {
            kept.push(buffer);
        }
    }
}

impl Pool {
    /// The bytes of objects of one kind, in the order of their names, each as [`Pool::read`] gives it. Only the last of
    /// a run is kept in memory: who goes on reading from there begins with it, and the others are not asked for again.
    pub fn read_run(&self, kind: Kind, names: &[Name]) -> Result<Vec<Bytes>> {
        let inner = &*self.0;
        if let [name] = names {
            return Ok(vec![self.read(kind, name)?]);
        }
        let mut found: Vec<Option<Bytes>> = names.iter().map(|name| inner.objects.get(kind, name)).collect();
        let missing: Vec<usize> = (0..names.len()).filter(|nth| found[*nth].is_none()).collect();
        let asked: Vec<Name> = missing.iter().map(|nth| names[*nth]).collect();
        // What the index can't answer is answered one by one, with its own error.
        let places = inner.find(kind, &asked).unwrap_or_else(|_| vec![None; asked.len()]);
        let mut from = 0;
        while from < places.len() {
            let run = run_at(&places[from..]);
            let contents = inner.fetch_run(kind, &asked[from..], &run);
            for (nth, content) in missing[from..].iter().zip(contents.into_iter().flatten()) {
                found[*nth] = Some(content);
            }
            from += run.len().max(1);
        }
        let content = |(name, found): (&Name, Option<Bytes>)| found.map_or_else(|| self.read(kind, name), Ok);
        names.iter().zip(found).map(content).collect()
    }
}

/// The places at the front of `places` that follow one another directly in one container.
fn run_at(places: &[Option<Location>]) -> Vec<Location> {
    let mut run: Vec<Location> = Vec::new();
    let mut bytes = 0;
    for place in places.iter().map_while(|place| *place) {
        bytes += SLOT_BYTES + place.stored_len as usize;
        if run.last().is_some_and(|last| !follows(last, &place) || bytes > RUN_BYTES_MAX) {
            break;
        }
        run.push(place);
    }
    run
}

fn follows(last: &Location, next: &Location) -> bool {
    let end = u64::from(last.offset) + (SLOT_BYTES as u64) + u64::from(last.stored_len);
    next.container == last.container && u64::from(next.offset) == end
}

impl Inner {
    /// The verified objects of a run; `None` where anything is not as it should be, or the container is being written.
    pub(super) fn fetch_run(&self, kind: Kind, names: &[Name], run: &[Location]) -> Option<Vec<Bytes>> {
        let first = run.first()?;
        let (id, class) = (first.container, Class::of(kind));
        if self.streams.find(id).is_some() {
            return None;
        }
        let file = self.files.open(self.media.as_ref(), id, class).ok()?;
        let len = run.iter().map(|place| SLOT_BYTES + place.stored_len as usize).sum();
        let mut scratch = self.scratch.take();
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        let read = file.read_at(&mut scratch[..len], first.offset.into());
        let contents = match read {
            Ok(got) if got == len => self.open_run(kind, names, run, &path(id, class), &scratch[..len]),
            _ => None,
        };
        self.scratch.give_back(scratch);
        let contents = contents?;
        if let (Some(content), Some(name)) = (contents.last(), names.get(contents.len() - 1)) {
            self.objects.keep(kind, name, content);
        }
        Some(contents)
    }

    fn open_run(
        &self,
        kind: Kind,
        names: &[Name],
        run: &[Location],
        path: &str,
        mut bytes: &[u8],
    ) -> Option<Vec<Bytes>> {
        let mut contents = Vec::with_capacity(run.len());
        for (name, place) in names.iter().zip(run) {
            let (slot_bytes, rest) = bytes.split_at_checked(SLOT_BYTES + place.stored_len as usize)?;
            bytes = rest;
            let slot = reader::check_slot(path, place.offset, place.stored_len, slot_bytes).ok()?;
            let content = codec::decompress(slot.codec, slot.raw_len as usize, &slot_bytes[SLOT_BYTES..]).ok()?;
            if slot.name != *name || slot.kind != kind || self.realm.name(kind, &content) != *name {
                return None;
            }
            contents.push(Bytes::from(content));
        }
        Some(contents)
    }
}
