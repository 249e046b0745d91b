//! Directories of containers that were met lately.
//!
//! Chunks of one stream lie next to one another, so when one is found in a container, the chunks that follow are
//! likely in the same one: one read of its directory answers for a thousand look-ups. Directories come in when a
//! container was met twice among the last probes; the least recently useful one goes first.
//!
//! It only answers "present" for slots that the caller gave it as admitted; absence here means nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::container::format::Slot;
use crate::id::ContainerId;
use crate::index::Location;
use crate::name::{Kind, Name};

/// Estimated memory for one slot: itself, and its entry in the map with room to grow.
const SLOT_COST_BYTES: usize = 52 + 32;
/// How many probes a container is remembered for.
const MET_MAX: usize = 64;

/// A bounded cache of directories.
pub struct Locality {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    directories: HashMap<ContainerId, Held>,
    /// When each directory was useful last.
    by_use: BTreeMap<u64, ContainerId>,
    /// Name prefix to container and place in its directory.
    places: HashMap<u64, (ContainerId, u32)>,
    met: VecDeque<ContainerId>,
    clock: u64,
    bytes: usize,
}

struct Held {
    slots: Vec<Slot>,
    used: u64,
}

impl Locality {
    /// A cache of at most `bytes_max`.
    pub fn new(bytes_max: usize) -> Locality {
        Locality { inner: Mutex::default(), bytes_max }
    }

    /// Where objects lie, as far as a directory that is held says so.
    pub fn find(&self, kind: Kind, names: &[Name], found: &mut [Option<Location>]) {
        let mut inner = self.lock();
        for (name, found) in names.iter().zip(found) {
            if found.is_none() {
                *found = inner.find(kind, name);
            }
        }
    }

    /// The name that begins with `prefix`, as far as a directory that is held says so, and its place. Others may begin so, too.
    pub fn find_prefix(&self, kind: Kind, prefix: u64) -> Option<Name> {
        let mut inner = self.lock();
        let (id, at) = *inner.places.get(&prefix)?;
        let name = inner.directories.get(&id)?.slots.get(at as usize)?.name;
        inner.find(kind, &name).map(|_| name)
    }

    /// Notes that a probe led to `id`. True where its directory should now be read and given to [`Locality::hold`].
    pub fn met(&self, id: ContainerId) -> bool {
        let mut inner = self.lock();
        if inner.directories.contains_key(&id) {
            return false;
        }
        let again = inner.met.contains(&id);
        if inner.met.len() == MET_MAX {
            inner.met.pop_front();
        }
        inner.met.push_back(id);
        again
    }

    /// Holds the admitted slots of a container. One that alone is larger than the bound is not held.
    pub fn hold(&self, id: ContainerId, slots: Vec<Slot>) {
        let cost = slots.len() * SLOT_COST_BYTES;
        let mut inner = self.lock();
        if cost > self.bytes_max || inner.directories.contains_key(&id) {
            return;
        }
        while inner.bytes + cost > self.bytes_max {
            let Some((_, oldest)) = inner.by_use.pop_first() else { break };
            inner.drop_directory(oldest);
        }
        for (at, slot) in slots.iter().enumerate() {
            inner.places.insert(slot.name.prefix(), (id, at as u32));
        }
        inner.clock += 1;
        let used = inner.clock;
        inner.by_use.insert(used, id);
        inner.directories.insert(id, Held { slots, used });
        inner.bytes += cost;
    }

    /// Forgets a container, because not all of its slots count any more.
    pub fn forget(&self, id: ContainerId) {
        let mut inner = self.lock();
        if let Some(used) = inner.directories.get(&id).map(|held| held.used) {
            inner.by_use.remove(&used);
            inner.drop_directory(id);
        }
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&mut self, kind: Kind, name: &Name) -> Option<Location> {
        let (id, at) = *self.places.get(&name.prefix())?;
        let held = self.directories.get_mut(&id)?;
        let slot = held.slots.get(at as usize).filter(|slot| slot.name == *name && slot.kind == kind)?;
        let found = Location::of(id, slot);
        if held.used != self.clock {
            self.by_use.remove(&held.used);
            self.clock += 1;
            held.used = self.clock;
            self.by_use.insert(self.clock, id);
        }
        Some(found)
    }

    fn drop_directory(&mut self, id: ContainerId) {
        let Some(held) = self.directories.remove(&id) else { return };
        self.bytes -= held.slots.len() * SLOT_COST_BYTES;
        for slot in &held.slots {
            if self.places.get(&slot.name.prefix()).is_some_and(|(place, _)| *place == id) {
                self.places.remove(&slot.name.prefix());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::codec::Codec;

    fn slots(container: u64, count: u32) -> Vec<Slot> {
        let slot = |at: u32| Slot {
            name: Name(*blake3::hash(&[container, at.into()].map(u64::to_le_bytes).concat()).as_bytes()),
            offset: at * 100,
            stored_len: 20,
            raw_len: 30,
            key_id: 0,
            kind: Kind::Chunk,
            codec: Codec::Lz4,
        };
        (0..count).map(slot).collect()
    }
    fn found(locality: &Locality, kind: Kind, slot: &Slot) -> Option<Location> {
        let mut found = [None];
        locality.find(kind, &[slot.name], &mut found);
        found[0]
    }

    #[test]
    fn held_directories_answer_and_the_least_useful_goes() {
        let locality = Locality::new(25 * SLOT_COST_BYTES);
        for id in [1, 2] {
            assert!(!locality.met(ContainerId(id)));
            assert!(locality.met(ContainerId(id)), "met twice, worth reading");
            locality.hold(ContainerId(id), slots(id, 10));
            assert!(!locality.met(ContainerId(id)), "held already");
        }
        let place = found(&locality, Kind::Chunk, &slots(1, 10)[7]).unwrap();
        assert_eq!((place.container, place.offset, place.stored_len), (ContainerId(1), 700, 20));
        assert_eq!(found(&locality, Kind::MapNode, &slots(1, 10)[7]), None, "the kind counts");
        locality.hold(ContainerId(3), slots(3, 10));
        assert!(found(&locality, Kind::Chunk, &slots(1, 10)[0]).is_some());
        assert!(found(&locality, Kind::Chunk, &slots(2, 10)[0]).is_none(), "not used the longest");
        assert!(found(&locality, Kind::Chunk, &slots(3, 10)[9]).is_some());
        assert!(locality.bytes() <= 25 * SLOT_COST_BYTES);
        locality.forget(ContainerId(3));
        assert!(found(&locality, Kind::Chunk, &slots(3, 10)[9]).is_none());
        locality.hold(ContainerId(4), slots(4, 26));
        assert!(found(&locality, Kind::Chunk, &slots(4, 26)[0]).is_none(), "too large to hold");
    }
}
