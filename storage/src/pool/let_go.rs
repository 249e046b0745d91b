//! Giving room back, a few containers a step: one without anything that is needed goes, a thin one has what is needed moved out
//! of it first.
//!
//! ```text
//! hidden (door shut) ─▶ moved, synced, in the index ─▶ names and container leave the index ─▶ file removed ─▶ folder synced
//! ```
//!
//! * Nodes that nobody needs have left the index before (`condemn.rs`).
//! * A chunk that somebody asks for is safe until its container is looked at with the door shut, and is unknown from then on:
//!   then it is stored again.
//! * A crash leaves the container as it was, or copies of what is needed in another one, or a file that the index does not know, whose
//!   chunks come back and whose nodes only with all that they refer to.
//! * What can't be read whole is neither moved nor removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::chunk::Sketch;
use crate::container::codec::{self, Codec};
use crate::container::format::{SLOT_BYTES, Slot};
use crate::container::reader::{self, Directory};
use crate::container::{Class, dir, path};
use crate::error::{Damage, Error, Result, io_error};
use crate::id::ContainerId;
use crate::index::{Location, Record};
use crate::media::answers::unreadable;
use crate::name::Name;

use super::condemn::pays;
use super::put::{Present, Ready};
use super::streams::DENSE;
use super::watch::Watch;
use super::{Inner, Pool, Put, StreamId};

/// What is moved lies together: it was written at about one time and is of about one age.
const MOVED: StreamId = StreamId(u64::MAX);

/// What letting go of containers came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct LetGo {
    /// Containers without anything that was needed, removed.
    pub removed: u64,
    /// Thin ones, removed after what was needed was moved.
    pub rewritten: u64,
    /// Bytes of files that are gone.
    pub removed_bytes: u64,
    /// Bytes of slots that were written anew.
    pub moved_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Objects that are gone.
    pub objects: u64,
    /// Why containers were left as they are.
    pub damage: Vec<Damage>,
}

/// What became of a step.
pub(crate) enum Step {
    /// So many of the containers were dealt with.
    Did(usize),
    /// A check is under way.
    Checked,
}

/// A container that is about to go.
pub(super) struct Going {
    pub id: ContainerId,
    pub record: Record,
    /// What is needed of it.
    pub kept: Vec<(Slot, Sketch)>,
    /// What is not.
    pub dead: Vec<(Name, Location)>,
    /// What is kept is compressed with zstd on the way, where that is smaller.
    pub densely: bool,
}

impl Going {
    fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|(slot, _)| slot.total_bytes()).sum()
    }
}

impl Pool {
    /// Deals with some of these containers, in their order, until `bytes` were moved or `most` of them are done.
    pub(crate) fn let_go(
        &self,
        watch: &Watch,
        containers: &[ContainerId],
        most: usize,
        bytes: u64,
        sum: &mut LetGo,
    ) -> Result<Step> {
        let inner = &*self.0;
        let Some(_no_check) = self.no_check() else { return Ok(Step::Checked) };
        let mut going: BTreeMap<ContainerId, Going> = BTreeMap::new();
        let (mut done, mut moving) = (0, 0);
        for id in containers.iter().take(most) {
            match unreadable(inner.media.as_ref(), inner.look_into(watch, *id, sum)) {
                Ok(Some(found)) => {
                    moving += found.kept_bytes();
                    going.insert(*id, found);
                }
                Ok(None) => {}
                Err(Error::Damage(damage)) => sum.damage.push(damage),
                Err(error) => return Err(inner.give_back(error)),
            }
            done += 1;
            if moving >= bytes {
                break;
            }
        }
        inner.empty(&mut going, sum).and_then(|()| inner.remove(going, sum)).map_err(|error| inner.give_back(error))?;
        Ok(Step::Did(done))
    }
}

impl Inner {
    /// Nothing more goes: what was hidden is found again.
    fn give_back(&self, error: Error) -> Error {
        self.door.write().unwrap_or_else(PoisonError::into_inner).hidden.clear();
        error
    }

    /// What is needed of a container, and what is not and hidden from now on; `None` where it stays.
    fn look_into(&self, watch: &Watch, id: ContainerId, sum: &mut LetGo) -> Result<Option<Going>> {
        let record = self.indexed.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        let Some(record) = record.filter(|_| id < watch.end()) else { return Ok(None) };
        let (slots, read_bytes) = self.led_to_slots(id, record.class)?;
        sum.read_bytes += read_bytes;
        let mut going = Going { id, record, kept: Vec::new(), dead: Vec::new(), densely: false };
        let mut door = self.door.write().unwrap_or_else(PoisonError::into_inner);
        for (slot, sketch) in slots {
            match watch.is_needed(slot.kind, &slot.name) || slot.kind.is_node() {
                true => going.kept.push((slot, sketch)),
                false => going.dead.push((slot.name, Location::of(id, &slot))),
            }
        }
        if !pays(going.kept_bytes(), &record) {
            return Ok(None);
        }
        door.hidden.extend(going.dead.iter().copied());
        self.distrust(&BTreeSet::from([id]));
        Ok(Some(going))
    }

    /// The slots of a container that the index leads to, with their sketches, and how many bytes were read for that. Of what has another
    /// copy, or none that counts, this one does not.
    pub(super) fn led_to_slots(&self, id: ContainerId, class: Class) -> Result<(Vec<(Slot, Sketch)>, u64)> {
        let (file, path) = (self.files.open(self.media.as_ref(), id, class)?, path(id, class));
        let Directory { slots, footer } = reader::read_directory(file.as_ref(), &path, id)?;
        // Hints: what can't be read is computed anew by nobody, and is missed by nobody much.
        let sketches = reader::read_sketches(file.as_ref(), &path, &footer).unwrap_or_default();
        let names: Vec<Name> = slots.iter().map(|slot| slot.name).collect();
        let places = self.index.probe(&names)?;
        let is_here = |(slot, place): &(Slot, Option<Location>)| *place == Some(Location::of(id, slot));
        let sketched = |(nth, pair): (usize, (Slot, Option<Location>))| {
            is_here(&pair).then(|| (pair.0, sketches.get(nth).copied().unwrap_or_default()))
        };
        let here = slots.into_iter().zip(places).enumerate().filter_map(sketched).collect();
        Ok((here, footer.file_bytes() - footer.slots_end()))
    }

    /// Moves what is needed of these containers, so that the index has it elsewhere, durably. Those that can't be read stay.
    pub(super) fn empty(&self, going: &mut BTreeMap<ContainerId, Going>, sum: &mut LetGo) -> Result<()> {
        let mut moved_to = BTreeSet::new();
        let mut staying = Vec::new();
        // With the names that lead elsewhere from now on the index is told that these containers' directories don't count any more: one
        // that stays, because it can't be read or the disk is full, would vouch for what was moved out of it.
        going.keys().for_each(|id| self.amend(*id));
        for (id, container) in going.iter().filter(|(_, container)| !container.kept.is_empty()) {
            match unreadable(self.media.as_ref(), self.move_all(container, &mut moved_to, sum)) {
                Ok(()) => {}
                Err(Error::Damage(damage)) => {
                    sum.damage.push(damage);
                    staying.push(*id);
                }
                Err(error) => return Err(error),
            }
        }
        for id in staying {
            if going.remove(&id).is_some() {
                let mut door = self.door.write().unwrap_or_else(PoisonError::into_inner);
                door.hidden.retain(|_, place| place.container != id);
            }
        }
        if moved_to.is_empty() { Ok(()) } else { self.settle_moved(&moved_to) }
    }

    fn move_all(&self, container: &Going, moved_to: &mut BTreeSet<ContainerId>, sum: &mut LetGo) -> Result<()> {
        let class = container.record.class;
        for (slot, sketch) in &container.kept {
            let place = Location::of(container.id, slot);
            let file = path(container.id, class);
            let (found, payload) = self.fetch(&place)?;
            sum.read_bytes += slot.total_bytes();
            if found != *slot {
                let expected = format!("{:?} {}", slot.kind, slot.name);
                return Err(Damage::new(file, slot.offset.into(), expected, format!("{found:?}")).into());
            }
            // Its last look before the other copy goes.
            let content = self.open_payload(&file, &found, payload.clone())?;
            let frame = container.densely.then(|| codec::compress_densely(&content, payload.len())).flatten();
            let (codec, payload) = frame.map_or((slot.codec, payload), |frame| (Codec::Zstd, frame));
            let stream = if codec == Codec::Zstd || container.densely { DENSE } else { MOVED };
            let (name, raw_len, range) = (slot.name, slot.raw_len, 0..payload.len());
            let ready = Ready { nth: 0, name, codec, raw_len, sketch: *sketch, range };
            let mut puts = [Put { name, new: false, stored_bytes: 0 }];
            self.append(stream, slot.kind, &[ready], &payload, Present::Replace, &mut puts)?;
            sum.moved_bytes += (SLOT_BYTES + payload.len()) as u64;
            moved_to.extend(self.recent.get(slot.kind, &slot.name).map(|place| place.container));
        }
        Ok(())
    }

    /// Seals these containers, and moves their names into the index.
    fn settle_moved(&self, containers: &BTreeSet<ContainerId>) -> Result<()> {
        for writer in containers.iter().filter_map(|id| self.streams.find(*id)) {
            let mut appender = writer.lock();
            self.appends.fetch_add(1, Ordering::SeqCst);
            appender.close();
            self.streams.retire(writer.id());
        }
        self.sync()?;
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut batch = self.sealed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        batch.retain(|id, _| containers.contains(id));
        self.index_containers(batch)
    }

    /// Removes containers that hold nothing any more that the index leads to.
    pub(super) fn remove(&self, going: BTreeMap<ContainerId, Going>, sum: &mut LetGo) -> Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        for container in going.values() {
            self.refuse_if_led_to(container)?;
        }
        let ids: BTreeSet<ContainerId> = going.keys().copied().collect();
        let gone: Vec<ContainerId> = ids.iter().copied().collect();
        let mut names: Vec<(Name, Location)> = going.values().flat_map(|container| &container.dead).copied().collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        sum.objects += self.index.remove_names(&names, &[], &gone, self.streams.next_id())?;
        self.open_door(&ids);
        for (name, place) in &names {
            self.wounds.remove(place.kind, name);
        }
        self.indexed.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !ids.contains(id));
        self.amended.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !ids.contains(id));
        let mut dirs = BTreeSet::new();
        for container in going.values() {
            let (id, record) = (container.id, container.record);
            let path = path(id, record.class);
            // Handles that are open stay readable; whoever opens it now looks again where its object is.
            self.files.forget(id);
            match self.media.remove(&path) {
                // One that was worn may be gone already.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(|error| io_error("remove", &path, error))?,
            }
            dirs.insert(dir(id));
            self.counters.gone(record.raw_bytes, record.stored_bytes);
            match container.kept.is_empty() {
                true => sum.removed += 1,
                false => sum.rewritten += 1,
            }
            sum.removed_bytes += record.file_bytes;
        }
        dirs.iter().try_for_each(|dir| self.media.sync_dir(dir).map_err(|error| io_error("sync", dir, error)))
    }

    /// The last look: nothing that was needed of a container may be led to there any more.
    fn refuse_if_led_to(&self, container: &Going) -> Result<()> {
        let names: Vec<Name> = container.kept.iter().map(|(slot, _)| slot.name).collect();
        let places = self.index.probe(&names)?;
        for (name, place) in names.iter().zip(places) {
            if place.is_none_or(|place| place.container == container.id) {
                let expected = format!("another place for {name}, which was moved");
                let file = path(container.id, container.record.class);
                return Err(Damage::new(file, SLOT_BYTES as u64, expected, format!("{place:?}")).into());
            }
        }
        Ok(())
    }
}
