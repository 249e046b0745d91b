//! Finding and reading. Every object is verified against its name, every time that it comes from a container.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use crate::container::codec::{Codec, Patience};
use crate::container::format::Slot;
use crate::container::{Class, codec, path, reader};
use crate::error::{Damage, Error, Result};
use crate::id::ContainerId;
use crate::index::Location;
use crate::name::{Kind, Name};
use crate::tree::{map, sequence};

use super::{Inner, Pool, Stored};

/// How many names are looked up on disk together.
const LOOKUP_RUN: usize = 64;
/// How many of them are probed before directories are asked again.
const PROBE_RUN: usize = 8;

impl Pool {
    /// True where the object is present, and so everything below it.
    pub fn contains(&self, kind: Kind, name: &Name) -> Result<bool> {
        Ok(self.0.locate(kind, &[*name])?[0].is_some())
    }

    /// Which of the objects are present, in their order.
    pub fn contains_batch(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        Ok(self.0.locate(kind, names)?.iter().map(Option::is_some).collect())
    }

    /// Which of the objects are present and not known to be damaged here, in their order: of the others, whoever has them may send them.
    pub fn sound_batch(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let places = self.0.locate(kind, names)?;
        let sound =
            |(name, place): (&Name, &Option<Location>)| place.is_some_and(|place| self.0.is_credited(name, &place));
        Ok(names.iter().zip(&places).map(sound).collect())
    }

    /// The names of the objects of a kind that begin with these prefixes ([`Name::prefix`]), in their order. None where there
    /// is no such object, where it is known to be damaged here, or where what begins so is seen to be more than one name: then only the full name tells. What costs
    /// nothing to overlook is overlooked: another name may begin so, too.
    pub fn named_by_prefix(&self, kind: Kind, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let mut found = Vec::with_capacity(prefixes.len());
        for part in prefixes.chunks(LOOKUP_RUN) {
            let named = self.0.find_prefixes(kind, part)?;
            if self.0.wounds.is_empty() && self.0.unread.is_empty() {
                found.extend(named);
                continue;
            }
            let names: Vec<Name> = named.iter().flatten().copied().collect();
            let mut sound = self.sound_batch(kind, &names)?.into_iter();
            found.extend(named.into_iter().map(|name| name.filter(|_| sound.next() == Some(true))));
        }
        Ok(found)
    }

    /// The bytes of an object, verified against its name. Damage, with the container and the offset, where they are not
    /// what they were or not there.
    pub fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        let inner = &*self.0;
        if let Some(content) = inner.objects.get(kind, name) {
            return Ok(content);
        }
        let place = inner.find(kind, &[*name])?[0];
        if let Some(content) = place.and_then(|place| inner.fetch_run(kind, &[(*name, place)])?.pop()) {
            inner.objects.keep(kind, name, &content);
            return Ok(content);
        }
        let content = inner.read_from_disk(kind, name).inspect_err(|_| {
            let is_gone = || inner.find(kind, &[*name]).is_ok_and(|places| places[0].is_none());
            if !inner.let_go.load(Ordering::Relaxed) && is_gone() {
                // Whoever reads got the name from something that is present, so the index lost it.
                inner.index.suspect();
            }
        })?;
        inner.objects.keep(kind, name, &content);
        Ok(content)
    }

    /// The same as the disk has it, whatever a cache holds, and nothing is put into a cache: for whoever looks for damage.
    pub fn read_as_it_lies(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.0.read_from_disk(kind, name)
    }

    /// A sequence node, verified and decoded.
    pub fn sequence_node(&self, name: &Name) -> Result<Arc<sequence::Node>> {
        if let Some(node) = self.0.objects.sequence(name) {
            return Ok(node);
        }
        let bytes = self.read(Kind::SequenceNode, name)?;
        let node = sequence::Node::decode(&bytes).map_err(|fault| fault.of(Kind::SequenceNode, name))?;
        let node = Arc::new(node);
        self.0.objects.keep_sequence(name, &node);
        Ok(node)
    }

    /// A map node, verified and decoded.
    pub fn map_node(&self, name: &Name) -> Result<Arc<map::Node>> {
        if let Some(node) = self.0.objects.map(name) {
            return Ok(node);
        }
        let bytes = self.read(Kind::MapNode, name)?;
        let node = map::Node::decode(&bytes).map(Arc::new).map_err(|fault| fault.of(Kind::MapNode, name))?;
        self.0.objects.keep_map(name, &node);
        Ok(node)
    }

    /// An object as it lies, for the wire: its slot and both its checksums are sound. Whoever receives it verifies it
    /// against its name.
    pub fn read_stored(&self, kind: Kind, name: &Name) -> Result<Stored> {
        let (location, slot, bytes) = self.0.fetch_named(kind, name)?;
        for_wire(&location, &slot, bytes)
    }

    /// The same, and verified against its name here already: for whoever would be taken for a liar by its own damage. What is found is
    /// remembered as a wound, as when a scrub finds it.
    pub fn read_stored_verified(&self, kind: Kind, name: &Name) -> Result<Stored> {
        let inner = &*self.0;
        let (location, slot, payload) = inner.fetch_named(kind, name)?;
        let opened = inner.open_payload(&path(location.container, Class::of(kind)), &slot, payload.clone());
        inner.note_wound(kind, name, &location, opened)?;
        for_wire(&location, &slot, payload)
    }
}

/// An object as peers take it: what lies here as a zstd frame is one that no peer expects.
fn for_wire(location: &Location, slot: &Slot, payload: Vec<u8>) -> Result<Stored> {
    let (raw_len, mut codec, mut bytes) = (slot.raw_len, slot.codec, payload);
    if codec == Codec::Zstd {
        let content = codec::decompress(codec, raw_len as usize, &bytes).map_err(|wrong| {
            Damage::new(path(location.container, Class::of(location.kind)), slot.offset.into(), slot.name, wrong)
        })?;
        bytes = Vec::with_capacity(content.len());
        codec = codec::compress(&content, &mut bytes, &Patience::default());
    }
    Ok(Stored { codec, raw_len, bytes: Bytes::from(bytes) })
}

/// The one name among those that begin alike, where it is one, of this kind.
fn only(kind: Kind, all: &[(Name, Location)]) -> Option<Name> {
    match all {
        [(name, at)] if at.kind == kind => Some(*name),
        _ => None,
    }
}

impl Inner {
    /// Where objects lie, for whoever goes by it that they are present: the one door. A run of reclaim hears what was asked for,
    /// and keeps it.
    pub(super) fn locate(&self, kind: Kind, names: &[Name]) -> Result<Vec<Option<Location>>> {
        let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = self.find(kind, names)?;
        door.answer(kind, names, &mut found);
        Ok(found)
    }

    /// Where objects lie, for whoever reads them and knows already that they are needed, or does not care. The way of a look-up: recent
    /// names, the filter, directories met lately, the index.
    pub(super) fn find(&self, kind: Kind, names: &[Name]) -> Result<Vec<Option<Location>>> {
        let mut found: Vec<_> = names.iter().map(|name| self.recent.get(kind, name)).collect();
        let asked: Vec<_> = (0..names.len()).filter(|nth| found[*nth].is_none()).collect();
        let maybe: Vec<_> =
            asked.iter().copied().filter(|nth| self.index.filter().may_have(names[*nth].prefix())).collect();
        self.counters.filtered(names.len() - asked.len(), asked.len() - maybe.len());
        for part in maybe.chunks(LOOKUP_RUN) {
            self.locate_on_disk(kind, names, part, &mut found)?;
        }
        Ok(found)
    }

    /// Asks directories met lately and the index in turns: a probe may bring in the directory that answers for the rest.
    fn locate_on_disk(
        &self,
        kind: Kind,
        names: &[Name],
        asked: &[usize],
        found: &mut [Option<Location>],
    ) -> Result<()> {
        let mut open = asked.to_vec();
        while !open.is_empty() {
            let wanted: Vec<_> = open.iter().map(|nth| names[*nth]).collect();
            let mut places = vec![None; wanted.len()];
            self.locality.find(kind, &wanted, &mut places);
            open.iter().zip(&places).for_each(|(nth, place)| found[*nth] = *place);
            let before = open.len();
            open.retain(|nth| found[*nth].is_none());
            self.counters.locality_hits(before - open.len());
            let run: Vec<_> = open.drain(..open.len().min(PROBE_RUN)).collect();
            self.probe(kind, names, &run, found)?;
        }
        Ok(())
    }

    fn probe(&self, kind: Kind, names: &[Name], run: &[usize], found: &mut [Option<Location>]) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = run.iter().map(|nth| names[*nth]).collect();
        let places = self.index.probe(&asked)?;
        self.counters.probed(places.len(), places.iter().flatten().count());
        for (nth, place) in run.iter().zip(places) {
            found[*nth] = place.filter(|place| place.kind == kind);
            if let Some(place) = found[*nth]
                && self.locality.met(place.container)
            {
                self.hold_directory(place.container, Class::of(kind));
            }
        }
        Ok(())
    }

    /// As [`Inner::locate`], by prefix.
    fn find_prefixes(&self, kind: Kind, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let door = self.door.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = self.find_names(kind, prefixes)?;
        if let Some(watch) = &door.watch {
            for found in &mut found {
                *found = found.filter(|name| !door.hidden.contains_key(name));
                found.iter().for_each(|name| watch.note(kind, name));
            }
        }
        Ok(found)
    }

    fn find_names(&self, kind: Kind, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let mut found = vec![None; prefixes.len()];
        let (mut open, mut new) = (Vec::new(), 0);
        for (nth, prefix) in prefixes.iter().enumerate() {
            let recent = self.recent.beginning_with(*prefix);
            found[nth] = only(kind, &recent);
            if !recent.is_empty() {
                continue;
            }
            match self.index.filter().may_have(*prefix) {
                true => open.push(nth),
                false => new += 1,
            }
        }
        self.counters.filtered(prefixes.len() - open.len() - new, new);
        while !open.is_empty() {
            let before = open.len();
            open.retain(|nth| {
                found[*nth] = self.locality.find_prefix(kind, prefixes[*nth]);
                found[*nth].is_none()
            });
            self.counters.locality_hits(before - open.len());
            let run: Vec<_> = open.drain(..open.len().min(PROBE_RUN)).collect();
            let asked: Vec<_> = run.iter().map(|nth| prefixes[*nth]).collect();
            let places = if asked.is_empty() { Vec::new() } else { self.index.probe_prefixes(&asked)? };
            self.counters.probed(places.len(), places.iter().filter(|places| !places.is_empty()).count());
            for (nth, places) in run.into_iter().zip(places) {
                found[nth] = only(kind, &places);
                if let [(_, place)] = places[..]
                    && self.locality.met(place.container)
                {
                    self.hold_directory(place.container, Class::of(place.kind));
                }
            }
        }
        Ok(found)
    }

    /// Brings the directory of a container into the locality cache. That it cannot be read hurts nobody here; checks
    /// and reads of its objects will say so.
    fn hold_directory(&self, id: ContainerId, class: Class) {
        // First: whatever is amended from here on is seen in the end.
        let settles = self.settles.load(Ordering::Acquire);
        let record = self.indexed.read().unwrap_or_else(|poison| poison.into_inner()).get(&id).copied();
        let Some(record) = record else { return };
        let Ok(file) = self.files.open(self.media.as_ref(), id, class) else { return };
        let Ok(directory) = reader::read_directory(file.as_ref(), &path(id, class), id) else { return };
        let mut slots = directory.slots;
        if !record.complete {
            // Some slots were never admitted, or their names lead elsewhere: only those count that the index confirms.
            let names: Vec<_> = slots.iter().map(|slot| slot.name).collect();
            let Ok(places) = self.index.probe(&names) else { return };
            let mut places = places.into_iter();
            slots.retain(|slot| {
                places.next().flatten().is_some_and(|place| (place.container, place.offset) == (id, slot.offset))
            });
        }
        // Names that were healed, or moved, and whose new places the index does not have yet.
        slots.retain(|slot| {
            let recent = self.recent.get(slot.kind, &slot.name);
            recent.is_none_or(|place| (place.container, place.offset) == (id, slot.offset))
        });
        self.counters.directory_read();
        self.locality.hold(id, slots);
        if self.settles.load(Ordering::Acquire) != settles {
            // Some names may lead elsewhere since they were looked at.
            self.locality.forget(id);
        }
    }

    /// The slot and payload at a place, checksums verified.
    pub(super) fn fetch(&self, location: &Location) -> Result<(Slot, Vec<u8>)> {
        let (id, class) = (location.container, Class::of(location.kind));
        if let Some(writer) = self.streams.find(id) {
            return writer.read_slot(location.offset, location.stored_len);
        }
        let file = self.files.open(self.media.as_ref(), id, class)?;
        reader::read_slot(file.as_ref(), &path(id, class), location.offset, location.stored_len)
    }

    fn fetch_named(&self, kind: Kind, name: &Name) -> Result<(Location, Slot, Vec<u8>)> {
        let mut tried = None;
        loop {
            let Some(location) = self.find(kind, &[*name])?[0] else {
                let expected = format!("{kind:?} {name}");
                return Err(Damage::new(crate::container::CONTAINERS_DIR, 0, expected, "no such object").into());
            };
            match self.fetch_as(kind, name, &location) {
                // It may have been moved out of a thin container meanwhile.
                Err(Error::Damage(_)) if tried != Some(location) => tried = Some(location),
                fetched => {
                    let (slot, payload) = self.note_wound(kind, name, &location, fetched)?;
                    return Ok((location, slot, payload));
                }
            }
        }
    }

    /// What lies at a place, where that is the object that it should be.
    fn fetch_as(&self, kind: Kind, name: &Name, location: &Location) -> Result<(Slot, Vec<u8>)> {
        let (slot, payload) = self.fetch(location)?;
        if slot.name != *name || slot.kind != kind {
            let (file, offset) = (path(location.container, Class::of(kind)), location.offset.into());
            let found = format!("{:?} {}", slot.kind, slot.name);
            return Err(Damage::new(file, offset, format!("{kind:?} {name}"), found).into());
        }
        Ok((slot, payload))
    }

    /// True where whoever brings the content of this object may be told that it is known. What was read by nobody since the index was built
    /// again is read now: but nodes, which that looked into.
    pub(super) fn is_credited(&self, name: &Name, place: &Location) -> bool {
        if self.wounds.has(place.kind, name) {
            return false;
        }
        if place.kind.is_node() || !self.unread.has(place.container) {
            return true;
        }
        let file = path(place.container, Class::of(place.kind));
        let read = self.fetch_as(place.kind, name, place);
        let read = read.and_then(|(slot, payload)| self.open_payload(&file, &slot, payload));
        self.note_wound(place.kind, name, place, read).is_ok()
    }

    /// True where an object can be read at this place.
    pub(super) fn is_sound(&self, name: &Name, place: &Location) -> bool {
        let read = self.fetch_as(place.kind, name, place);
        let file = path(place.container, Class::of(place.kind));
        read.and_then(|(slot, payload)| self.open_payload(&file, &slot, payload)).is_ok()
    }

    /// Reads, decompresses and verifies an object, whatever the cache holds.
    pub(super) fn read_from_disk(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        let (location, slot, payload) = self.fetch_named(kind, name)?;
        let opened = self.open_payload(&path(location.container, Class::of(kind)), &slot, payload);
        self.note_wound(kind, name, &location, opened)
    }

    /// The object in a slot, verified against its name.
    pub(super) fn open_payload(&self, file: &str, slot: &Slot, payload: Vec<u8>) -> Result<Bytes> {
        let wrong =
            |found: String| Damage::new(file, slot.offset.into(), format!("{:?} {}", slot.kind, slot.name), found);
        let content = match slot.codec {
            codec::Codec::Raw if payload.len() == slot.raw_len as usize => payload,
            codec => codec::decompress(codec, slot.raw_len as usize, &payload).map_err(wrong)?,
        };
        let found = self.realm.name(slot.kind, &content);
        if found != slot.name {
            return Err(wrong(format!("content named {found}")).into());
        }
        Ok(Bytes::from(content))
    }

    /// True where everything that a node refers to is present; it is needed from now on.
    pub(super) fn closed(&self, kind: Kind, content: &[u8]) -> Result<bool> {
        let references = (self.options.references)(kind, content)?;
        for kind in Kind::ALL {
            let names: Vec<_> = references.iter().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect();
            if self.locate(kind, &names)?.iter().any(Option::is_none) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The first of these objects that is not present.
    pub(super) fn first_missing(&self, references: Vec<(Kind, Name)>) -> Result<Option<(Kind, Name)>> {
        for kind in Kind::ALL {
            let names: Vec<_> = references.iter().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect();
            let places = self.find(kind, &names)?;
            if let Some(missing) = places.iter().position(Option::is_none) {
                return Ok(Some((kind, names[missing])));
            }
        }
        Ok(None)
    }
}
