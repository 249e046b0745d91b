//! Bounded memory of what was used lately: objects that were read, and file handles.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::container::{Class, path};
use crate::error::{Result, io_error};
use crate::id::ContainerId;
use crate::media::{Media, MediaFile};
use crate::name::{Kind, Name};
use crate::tree::{map, sequence};

/// Shards of the object cache, so that threads seldom wait for one another.
const SHARDS: usize = 16;
/// Memory that an entry takes beside its bytes: key, handle, queue.
const ENTRY_COST_BYTES: usize = 160;

/// A cache that gives everything that was used since it came up for eviction a second chance (the CLOCK algorithm).
struct Clock<K, V> {
    map: HashMap<K, Held<V>>,
    queue: VecDeque<K>,
    used: usize,
    max: usize,
}

struct Held<V> {
    value: V,
    cost: usize,
    referenced: bool,
}

impl<K: Hash + Eq + Copy, V: Clone> Clock<K, V> {
    fn new(max: usize) -> Self {
        Clock { map: HashMap::new(), queue: VecDeque::new(), used: 0, max }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let held = self.map.get_mut(key)?;
        held.referenced = true;
        Some(held.value.clone())
    }

    /// The key may stay in the queue: it is passed over there.
    fn remove(&mut self, key: &K) {
        if let Some(held) = self.map.remove(key) {
            self.used -= held.cost;
        }
    }

    fn insert(&mut self, key: K, value: V, cost: usize) {
        if cost > self.max {
            return;
        }
        let Entry::Vacant(place) = self.map.entry(key) else { return };
        place.insert(Held { value, cost, referenced: false });
        self.queue.push_back(key);
        self.used += cost;
        while self.used > self.max {
            let Some(key) = self.queue.pop_front() else { break };
            let Entry::Occupied(mut held) = self.map.entry(key) else { continue };
            if std::mem::take(&mut held.get_mut().referenced) {
                self.queue.push_back(key);
            } else {
                self.used -= held.remove().cost;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Verified objects that were read or, where they are nodes, written lately. Nodes get three quarters of the room, for
/// every read of a file goes through them; they lie here decoded, too, for finding one key costs less than decoding.
pub(super) struct ObjectCache {
    nodes: Vec<Mutex<Clock<(Kind, Name), Bytes>>>,
    sequences: Vec<Mutex<Clock<Name, Arc<sequence::Node>>>>,
    maps: Vec<Mutex<Clock<Name, Arc<map::Node>>>>,
    chunks: Vec<Mutex<Clock<(Kind, Name), Bytes>>>,
}

fn shards<K: Hash + Eq + Copy, V: Clone>(bytes: usize) -> Vec<Mutex<Clock<K, V>>> {
    (0..SHARDS).map(|_| Mutex::new(Clock::new(bytes / SHARDS))).collect()
}

fn shard_of<'a, K, V>(shards: &'a [Mutex<Clock<K, V>>], name: &Name) -> MutexGuard<'a, Clock<K, V>> {
    lock(&shards[name.prefix() as usize % SHARDS])
}

impl ObjectCache {
    pub fn new(bytes_max: usize) -> ObjectCache {
        let quarter = bytes_max / 4;
        ObjectCache {
            nodes: shards(quarter),
            sequences: shards(quarter),
            maps: shards(quarter),
            chunks: shards(quarter),
        }
    }

    fn shard(&self, kind: Kind, name: &Name) -> MutexGuard<'_, Clock<(Kind, Name), Bytes>> {
        shard_of(if kind.is_node() { &self.nodes } else { &self.chunks }, name)
    }

    pub fn get(&self, kind: Kind, name: &Name) -> Option<Bytes> {
        self.shard(kind, name).get(&(kind, *name))
    }

    /// Keeps an object that was verified. Its bytes must be its own: a slice of something larger would hold that.
    pub fn keep(&self, kind: Kind, name: &Name, content: &Bytes) {
        self.shard(kind, name).insert((kind, *name), content.clone(), content.len() + ENTRY_COST_BYTES);
    }

    pub fn sequence(&self, name: &Name) -> Option<Arc<sequence::Node>> {
        shard_of(&self.sequences, name).get(name)
    }

    /// Keeps what a verified sequence node was decoded to.
    pub fn keep_sequence(&self, name: &Name, node: &Arc<sequence::Node>) {
        shard_of(&self.sequences, name).insert(*name, node.clone(), node.memory_bytes() + ENTRY_COST_BYTES);
    }

    pub fn map(&self, name: &Name) -> Option<Arc<map::Node>> {
        shard_of(&self.maps, name).get(name)
    }

    /// Keeps what a verified map node was decoded to.
    pub fn keep_map(&self, name: &Name, node: &Arc<map::Node>) {
        shard_of(&self.maps, name).insert(*name, node.clone(), node.memory_bytes() + ENTRY_COST_BYTES);
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        let objects = self.nodes.iter().chain(&self.chunks).map(|shard| lock(shard).used);
        let sequences = self.sequences.iter().map(|shard| lock(shard).used);
        let maps = self.maps.iter().map(|shard| lock(shard).used);
        objects.chain(sequences).chain(maps).sum()
    }
}

/// Open files of containers.
pub(super) struct FileCache {
    files: Mutex<Clock<ContainerId, Arc<dyn MediaFile>>>,
}

impl FileCache {
    pub fn new(files_max: usize) -> FileCache {
        FileCache { files: Mutex::new(Clock::new(files_max)) }
    }

    /// The file of a container, opened where it is not open.
    pub fn open(&self, media: &dyn Media, id: ContainerId, class: Class) -> Result<Arc<dyn MediaFile>> {
        if let Some(file) = lock(&self.files).get(&id) {
            return Ok(file);
        }
        let path = path(id, class);
        let file = media.open(&path).map_err(|error| missing_or_io(&path, error))?;
        lock(&self.files).insert(id, file.clone(), 1);
        Ok(file)
    }

    /// Closes the file of a container that is gone, once nobody reads it.
    pub fn forget(&self, id: ContainerId) {
        lock(&self.files).remove(&id);
    }
}

/// A container that is gone is damage; anything else is the machine's trouble.
fn missing_or_io(path: &str, error: std::io::Error) -> crate::Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        return crate::error::Damage::new(path, 0, "a container", "no such file").into();
    }
    io_error("open", path, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_bound_holds() {
        let mut clock = Clock::new(10);
        for key in 0..10 {
            clock.insert(key, key, 1);
        }
        for key in 10..100 {
            assert_eq!(clock.get(&3), Some(3));
            clock.insert(key, key, 1);
            assert!(clock.used <= 10 && clock.map.len() == clock.queue.len());
        }
        clock.insert(200, 0, 11);
        assert_eq!(clock.get(&200), None, "larger than the whole cache");
        clock.insert(3, 7, 5);
        assert_eq!(clock.get(&3), Some(3), "names never change their content");
    }
}
