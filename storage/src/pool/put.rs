//! Storing: name, look for a duplicate, compress, append. Only the last step holds a lock, that of the stream's
//! container; two threads that put the same object at once meet in `recent`, where one of them wins. Names leave `recent` for the index
//! at any time; who looked before that, and claims after, looks again.

use std::ops::Range;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::chunk::Sketch;
use crate::container::Class;
use crate::container::codec::{self, Codec};
use crate::container::format::{OBJECT_BYTES_MAX, SLOT_BYTES, Slot};
use crate::container::writer::{Appender, Writer};
use crate::error::{Environment, Refusal, Result};
use crate::index::Location;
use crate::name::{Kind, Name};

use super::recent::Claim;
use super::{Inner, Pool, Put, Stored, StreamId};

/// An object that is ready to be appended.
pub(super) struct Ready {
    /// Which of the objects of a batch it is.
    pub nth: usize,
    pub name: Name,
    pub codec: Codec,
    pub raw_len: u32,
    pub sketch: Sketch,
    /// Where its stored bytes are in the batch's buffer.
    pub range: Range<usize>,
}

/// What an append does with a name that is present.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Present {
    /// Leaves it. Names were looked up when so many moves of names into the index had been counted.
    Keep { settles: u64 },
    /// Stores the object again and points the name to the new place.
    Replace,
}

impl Pool {
    /// Keeps one object of at most 4 MiB. It is safe after the next [`Pool::sync`]. Everything that a node refers to
    /// must have been put before. [`Environment::Full`] where no room is left, and then nothing was kept.
    pub fn put(&self, stream: StreamId, kind: Kind, content: &[u8]) -> Result<Put> {
        self.put_batch(stream, kind, &[content]).map(|puts| puts[0])
    }

    /// Keeps a run of objects of one kind, in order: one look-up and one turn at the container for all of them. Where
    /// it fails, some of the first may have been kept, which does no harm.
    pub fn put_batch(&self, stream: StreamId, kind: Kind, contents: &[&[u8]]) -> Result<Vec<Put>> {
        let inner = &*self.0;
        let _in_use = self.in_use();
        let names = inner.name_all(kind, contents)?;
        let settles = inner.settles.load(Ordering::Acquire);
        let known = inner.known(kind, &names);
        inner.put_named(stream, kind, contents, &names, &known, settles)
    }

    /// Keeps one object without looking for a duplicate on disk, for contents that never repeat (encrypted ones). A
    /// second copy does no harm but takes room.
    pub fn put_whole(&self, stream: StreamId, kind: Kind, content: &[u8]) -> Result<Put> {
        let inner = &*self.0;
        let _in_use = self.in_use();
        let names = inner.name_all(kind, &[content])?;
        let settles = inner.settles.load(Ordering::Acquire);
        let known = [inner.is_recent(kind, &names[0])];
        inner.put_named(stream, kind, &[content], &names, &known, settles).map(|puts| puts[0])
    }

    /// Keeps an object that a peer sent as it lies. Refused where it is not what its name says, or a node that refers
    /// to what is not here.
    pub fn put_stored(&self, stream: StreamId, kind: Kind, name: &Name, stored: &Stored) -> Result<Put> {
        let inner = &*self.0;
        let _in_use = self.in_use();
        let raw_len = stored.raw_len as usize;
        let content = inner.open_stored(kind, name, stored)?;
        let settles = inner.settles.load(Ordering::Acquire);
        let place = inner.locate(kind, &[*name])?[0];
        if place.is_some_and(|place| inner.is_credited(name, &place)) {
            return Ok(Put { name: *name, new: false, stored_bytes: 0 });
        }
        if kind.is_node() && !inner.closed(kind, &content)? {
            return Err(Refusal::Invalid(format!("node {name} refers to what is not here")).into());
        }
        if stored.codec == Codec::Lz4 && stored.bytes.len() >= raw_len {
            return self.put(stream, kind, &content);
        }
        let len = stored.bytes.len();
        let sketch = Sketch::of_object(kind, &content);
        let ready = Ready { nth: 0, name: *name, codec: stored.codec, raw_len: stored.raw_len, sketch, range: 0..len };
        let mut puts = [Put { name: *name, new: false, stored_bytes: 0 }];
        inner.append_new(stream, kind, vec![ready], &stored.bytes, settles, &mut puts)?;
        inner.keep_node(kind, name, content);
        Ok(puts[0])
    }
}

fn check_length(len: usize) -> Result<()> {
    if len > OBJECT_BYTES_MAX {
        return Err(Refusal::Invalid(format!("an object of {len} bytes; at most {OBJECT_BYTES_MAX} are kept")).into());
    }
    Ok(())
}

impl Pool {
    /// The bytes of an object that a peer sent as it lies. Refused where it is not what its name says. Nothing is kept.
    pub fn verified(&self, kind: Kind, name: &Name, stored: &Stored) -> Result<Bytes> {
        self.0.open_stored(kind, name, stored).map(Bytes::from)
    }
}

impl Inner {
    fn open_stored(&self, kind: Kind, name: &Name, stored: &Stored) -> Result<Vec<u8>> {
        let raw_len = stored.raw_len as usize;
        check_length(raw_len)?;
        if stored.codec == Codec::Zstd {
            return Err(Refusal::Invalid(format!("{name} came in a form that nobody sends")).into());
        }
        let content = codec::decompress(stored.codec, raw_len, &stored.bytes).map_err(Refusal::Invalid)?;
        match self.realm.name(kind, &content) == *name {
            true => Ok(content),
            false => Err(Refusal::Invalid(format!("what was sent as {name} is something else")).into()),
        }
    }

    /// Refused where an earlier failure makes every later write unbelievable.
    pub(super) fn check_poison(&self) -> Result<()> {
        match self.poison.get() {
            None => Ok(()),
            Some(why) => Err(Environment::Poisoned(why.clone()).into()),
        }
    }

    fn name_all(&self, kind: Kind, contents: &[&[u8]]) -> Result<Vec<Name>> {
        self.check_poison()?;
        contents.iter().try_for_each(|content| check_length(content.len()))?;
        Ok(contents.iter().map(|content| self.realm.name(kind, content)).collect())
    }

    /// Which names are present. An index that cannot be read makes them new: storing again is safe, losing is not.
    fn known(&self, kind: Kind, names: &[Name]) -> Vec<bool> {
        match self.locate(kind, names) {
            Ok(places) => {
                let sound = |(place, name): (&Option<Location>, &Name)| {
                    place.is_some_and(|place| self.is_credited(name, &place))
                };
                places.iter().zip(names).map(sound).collect()
            }
            Err(_) => names.iter().map(|name| self.is_recent(kind, name)).collect(),
        }
    }

    /// True where an object is present and not in the index yet.
    fn is_recent(&self, kind: Kind, name: &Name) -> bool {
        let found = self.recent.get(kind, name).is_some();
        if found && let Some(watch) = self.watching() {
            watch.note(kind, name);
        }
        found
    }

    /// Compresses and appends what is not known. `settles` was read before the look-up.
    fn put_named(
        &self,
        stream: StreamId,
        kind: Kind,
        contents: &[&[u8]],
        names: &[Name],
        known: &[bool],
        settles: u64,
    ) -> Result<Vec<Put>> {
        let mut puts: Vec<_> = names.iter().map(|name| Put { name: *name, new: false, stored_bytes: 0 }).collect();
        let new = || (0..names.len()).filter(|nth| !known[*nth]);
        if new().next().is_none() {
            return Ok(puts);
        }
        let patience = self.streams.patience(Class::of(kind), stream);
        let mut stored = Vec::with_capacity(new().map(|nth| contents[nth].len() + 64).sum());
        let mut ready = Vec::with_capacity(new().count());
        for nth in new() {
            let (start, raw_len) = (stored.len(), contents[nth].len() as u32);
            let codec = codec::compress(contents[nth], &mut stored, &patience);
            let sketch = Sketch::of_object(kind, contents[nth]);
            ready.push(Ready { nth, name: names[nth], codec, raw_len, sketch, range: start..stored.len() });
        }
        self.append_new(stream, kind, ready, &stored, settles, &mut puts)?;
        if kind.is_node() {
            new().for_each(|nth| self.keep_node(kind, &names[nth], contents[nth].to_vec()));
        }
        Ok(puts)
    }

    /// Appends what is still not known when its turn comes. `settles` was read before the look-up that did not find it.
    fn append_new(
        &self,
        stream: StreamId,
        kind: Kind,
        mut ready: Vec<Ready>,
        stored: &[u8],
        mut settles: u64,
        puts: &mut [Put],
    ) -> Result<()> {
        loop {
            let unsure = self.append(stream, kind, &ready, stored, Present::Keep { settles }, puts)?.len();
            if unsure == 0 {
                return Ok(());
            }
            ready.drain(..ready.len() - unsure);
            settles = self.settles.load(Ordering::Acquire);
            let names: Vec<_> = ready.iter().map(|ready| ready.name).collect();
            let mut known = self.known(kind, &names).into_iter();
            ready.retain(|_| !known.next().unwrap_or_default());
        }
    }

    /// A node that was just stored is likely read soon: the next edit of the tree goes through it.
    fn keep_node(&self, kind: Kind, name: &Name, content: Vec<u8>) {
        if kind.is_node() {
            self.objects.keep(kind, name, &Bytes::from(content));
        }
    }

    /// Appends in order; returns those that have to be looked up again first.
    pub(super) fn append<'a>(
        &self,
        stream: StreamId,
        kind: Kind,
        ready: &'a [Ready],
        stored: &[u8],
        present: Present,
        puts: &mut [Put],
    ) -> Result<&'a [Ready]> {
        let class = Class::of(kind);
        let mut left = ready;
        let mut unsure = false;
        while !left.is_empty() && !unsure {
            let writer = self.streams.writer(class, stream)?;
            let mut appender = writer.lock();
            if appender.is_closed() {
                continue;
            }
            // Counted before the names can be seen: who finds one and syncs then waits for this append.
            self.appends.fetch_add(1, Ordering::SeqCst);
            (left, unsure) = self.append_to(&writer, &mut appender, kind, left, stored, present, puts)?;
            if appender.len() >= self.options.container_bytes {
                appender.close();
                self.streams.retire(writer.id());
            }
        }
        self.wounds.take_left().into_iter().for_each(|container| self.amend(container));
        self.bound_unsafe()?;
        Ok(left)
    }

    /// Appends until the container is full, or a name has to be looked up again. Returns what is left, and whether the
    /// latter is why.
    #[allow(clippy::too_many_arguments)]
    fn append_to<'a>(
        &self,
        writer: &Writer,
        appender: &mut Appender<'_>,
        kind: Kind,
        ready: &'a [Ready],
        stored: &[u8],
        present: Present,
        puts: &mut [Put],
    ) -> Result<(&'a [Ready], bool)> {
        // Whoever puts is in use of the pool: a watch that begins later waits until he has ended, and then sees what he made.
        let watch = self.watching();
        for (nth, item) in ready.iter().enumerate() {
            if appender.len() >= self.options.container_bytes {
                return Ok((&ready[nth..], false));
            }
            appender.make_room()?;
            let payload = &stored[item.range.clone()];
            let (offset, stored_len) = (appender.len() as u32, payload.len() as u32);
            let location = Location { container: writer.id(), offset, stored_len, kind };
            watch.iter().for_each(|watch| watch.note(kind, &item.name));
            // A damaged copy is replaced, wherever its name is.
            let present = if self.wounds.has(kind, &item.name) { Present::Replace } else { present };
            match present {
                Present::Keep { settles } => {
                    let moved = || self.settles.load(Ordering::Acquire) != settles;
                    match self.recent.claim(&item.name, location, moved) {
                        Claim::Made => {}
                        Claim::Taken => continue,
                        Claim::Unsure => return Ok((&ready[nth..], true)),
                    }
                }
                Present::Replace => self.recent.point(&item.name, location),
            }
            let Ready { name, codec, raw_len, sketch, .. } = *item;
            appender.append(Slot { name, offset, stored_len, raw_len, key_id: 0, kind, codec }, sketch, payload);
            self.counters.stored(raw_len, stored_len);
            self.wounds.heal(kind, &name);
            puts[item.nth] = Put { name, new: true, stored_bytes: stored_len + SLOT_BYTES as u32 };
        }
        Ok((&[], false))
    }

    /// Closed containers that nobody syncs must not pile up: each holds a file open and its slots in memory. Neither
    /// must names that nobody settles.
    fn bound_unsafe(&self) -> Result<()> {
        if self.recent.len() > 2 * self.index_batch() {
            return self.settle(false);
        }
        if self.streams.unsafe_count() > 2 * self.options.streams_max + 32 { self.sync() } else { Ok(()) }
    }
}
