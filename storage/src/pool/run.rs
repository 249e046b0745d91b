//! Reading several objects: one read of a container for all that lie near one another, and the disk asked for all of these at once.
//!
//! What a stream stored in order lies in order, so whoever reads a content from its beginning asks for neighbours; of what changed now and
//! then, for some here and some there. Each object
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
pub(super) const RUN_BYTES_MAX: usize = 1 << 20;
/// What lies between two objects that are wanted is read along where it is not longer than this: a second read would cost more.
const GAP_BYTES_MAX: u64 = 32 << 10;
/// Buffers for runs that are kept while nobody reads.
const SCRATCH_KEPT: usize = 4;

/// Buffers that runs are read into: to make one for each would cost as much as the read.
#[derive(Default)]
pub(super) struct Scratch(Mutex<Vec<Vec<u8>>>);

impl Scratch {
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub fn give_back(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SCRATCH_KEPT {
            kept.push(buffer);
        }
    }
}

/// What is wanted, and where it lies.
type Wanted = (Name, Location);

impl Pool {
    /// The bytes of objects of one kind, in the order of their names, each as [`Pool::read`] gives it. What lies apart is asked of the disk
    /// all at once. Only the last is kept in memory: who goes on reading from there begins with it, and the others are not asked for
    /// again.
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
        let placed = missing.iter().zip(&asked).zip(places);
        let mut wanted: Vec<(usize, Wanted)> =
            placed.filter_map(|((nth, name), place)| Some((*nth, (*name, place?)))).collect();
        wanted.sort_unstable_by_key(|(_, (_, place))| (place.container, place.offset));
        let runs: Vec<&[(usize, Wanted)]> = runs(&wanted).collect();
        inner.hint(kind, runs.get(1..).unwrap_or_default());
        for run in runs {
            let lies: Vec<Wanted> = run.iter().map(|(_, wanted)| *wanted).collect();
            let contents = inner.fetch_run(kind, &lies).unwrap_or_default();
            run.iter().zip(contents).for_each(|((nth, _), content)| found[*nth] = Some(content));
        }
        if let (Some(Some(content)), Some(name)) = (found.last(), names.last()) {
            inner.objects.keep(kind, name, content);
        }
        let content = |(name, found): (&Name, Option<Bytes>)| found.map_or_else(|| self.read(kind, name), Ok);
        names.iter().zip(found).map(content).collect()
    }
}

/// Pieces of what is wanted, in the order of the disk, each of which one read brings.
fn runs(wanted: &[(usize, Wanted)]) -> impl Iterator<Item = &[(usize, Wanted)]> {
    let mut rest = wanted;
    std::iter::from_fn(move || {
        let (_, (_, first)) = rest.first()?;
        let near = |two: &&[(usize, Wanted)]| match two {
            [(_, (_, one)), (_, (_, next))] => {
                next.container == one.container
                    && u64::from(next.offset) <= end_of(one) + GAP_BYTES_MAX
                    && end_of(next) - u64::from(first.offset) <= RUN_BYTES_MAX as u64
            }
            _ => false,
        };
        let (run, behind) = rest.split_at(1 + rest.windows(2).take_while(near).count());
        rest = behind;
        Some(run)
    })
}

fn end_of(place: &Location) -> u64 {
    u64::from(place.offset) + SLOT_BYTES as u64 + u64::from(place.stored_len)
}

impl Inner {
    /// Has the disk fetch runs that are read soon.
    fn hint(&self, kind: Kind, runs: &[&[(usize, Wanted)]]) {
        for run in runs {
            let ([(_, (_, first)), ..], [.., (_, (_, last))]) = (run, run) else { continue };
            if self.streams.find(first.container).is_none()
                && let Ok(file) = self.files.open(self.media.as_ref(), first.container, Class::of(kind))
            {
                file.will_read(first.offset.into(), end_of(last) - u64::from(first.offset));
            }
        }
    }

    /// The verified objects of a run, which lie in one container in this order; `None` where anything is not as it should be, or the
    /// container is being written.
    pub(super) fn fetch_run(&self, kind: Kind, run: &[Wanted]) -> Option<Vec<Bytes>> {
        let (_, first) = run.first()?;
        let (id, class) = (first.container, Class::of(kind));
        if self.streams.find(id).is_some() {
            return None;
        }
        let file = self.files.open(self.media.as_ref(), id, class).ok()?;
        let end = run.iter().map(|(_, place)| end_of(place)).max()?;
        let len = (end - u64::from(first.offset)) as usize;
        let mut scratch = self.scratch.take();
        if scratch.len() < len {
            scratch.resize(len, 0);
        }
        let contents = match file.read_at(&mut scratch[..len], first.offset.into()) {
            Ok(got) if got == len => self.open_run(kind, run, &path(id, class), &scratch[..len]),
            _ => None,
        };
        self.scratch.give_back(scratch);
        contents
    }

    fn open_run(&self, kind: Kind, run: &[Wanted], path: &str, bytes: &[u8]) -> Option<Vec<Bytes>> {
        let (_, first) = run.first()?;
        let open = |(name, place): &Wanted| {
            let from = place.offset.checked_sub(first.offset)? as usize;
            let slot_bytes = bytes.get(from..from + SLOT_BYTES + place.stored_len as usize)?;
            let slot = reader::check_slot(path, place.offset, place.stored_len, slot_bytes).ok()?;
            let content = codec::decompress(slot.codec, slot.raw_len as usize, &slot_bytes[SLOT_BYTES..]).ok()?;
            let sound = slot.name == *name && slot.kind == kind && self.realm.name(kind, &content) == *name;
            sound.then(|| Bytes::from(content))
        };
        run.iter().map(open).collect()
    }
}
