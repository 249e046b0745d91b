//! A store in memory: what was synced survives a restart, and of the rest an arbitrary prefix.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use narrowboat_storage::container::codec;
use narrowboat_storage::error::{Environment, Error, Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_wan::sync::seam::{Codec, Mark, Ref, Sink, Sketch, SnapshotOffer, Source, Stored};

pub use narrowboat_wan::sync::OwnSnapshots as OwnOnly;
use narrowboat_wan::sync::Possessions;

use crate::common::tree::references;

#[derive(Default)]
struct Inner {
    objects: HashMap<Ref, Stored>,
    /// Of what was put here, how many had been put before.
    births: HashMap<Ref, u64>,
    /// Admitted and not synced, in order.
    volatile: Vec<Ref>,
    published: BTreeMap<SnapshotId, SnapshotOffer>,
    admitted: BTreeMap<Ref, u64>,
    syncs: u64,
    /// Objects that there is room for; any number where it is none.
    room: Option<usize>,
    dead: bool,
    /// How many bytes of a prefix are looked at, where not all: so that different chunks begin alike.
    prefix_bytes: Option<u32>,
    /// Chunks that are or were here.
    chunks: HashMap<u64, Name>,
}

impl Inner {
    fn alive(&self) -> Result<()> {
        if self.dead { Err(Environment::Poisoned("the power is gone".into()).into()) } else { Ok(()) }
    }

    fn insert(&mut self, at: Ref, object: Stored) -> bool {
        if at.0 == Kind::Chunk {
            self.chunks.insert(at.1.prefix(), at.1);
        }
        self.objects.insert(at, object).is_none()
    }
}

/// See the module.
pub struct MemoryStore {
    pub realm: Realm,
    /// What peers have shown to have.
    pub possessions: Arc<Possessions>,
    inner: Mutex<Inner>,
}

impl MemoryStore {
    pub fn new(realm: &Realm) -> Arc<Self> {
        Arc::new(MemoryStore { realm: realm.clone(), possessions: Arc::default(), inner: Mutex::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Keeps an object of this side's own, durably.
    pub fn put(&self, kind: Kind, content: &[u8]) -> Ref {
        let at = (kind, self.realm.name(kind, content));
        let packed = lz4_flex::block::compress(content);
        let stored = if packed.len() < content.len() {
            Stored { codec: Codec::Lz4, raw_len: content.len() as u32, bytes: packed.into() }
        } else {
            Stored { codec: Codec::Raw, raw_len: content.len() as u32, bytes: Bytes::copy_from_slice(content) }
        };
        let mut inner = self.inner();
        let birth = inner.births.len() as u64;
        inner.births.entry(at).or_insert(birth);
        inner.insert(at, stored);
        at
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark { next: self.inner().births.len() as u64, open: BTreeMap::new() }
    }

    /// The machine is dead: nothing is written any more until [`MemoryStore::restart`].
    #[allow(dead_code, reason = "each test file uses a part")]
    pub fn die(&self) {
        self.inner().dead = true;
    }

    /// From now on the disk is full once so many more objects came; with none, it never is.
    #[allow(dead_code, reason = "each test file uses a part")]
    pub fn fill(&self, more: Option<usize>) {
        let mut inner = self.inner();
        inner.room = more.map(|more| inner.objects.len() + more);
    }

    /// Forgets an object, as damage would.
    pub fn withdraw(&self, at: &Ref) {
        self.inner().objects.remove(at);
    }

    pub fn len(&self) -> usize {
        self.inner().objects.len()
    }

    /// Takes chunks for the same whose names agree in so many bytes.
    pub fn look_at(&self, prefix_bytes: u32) {
        self.inner().prefix_bytes = Some(prefix_bytes);
    }

    pub fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    pub fn refs(&self) -> BTreeSet<Ref> {
        self.inner().objects.keys().copied().collect()
    }

    /// How often each object was admitted.
    pub fn admissions(&self) -> BTreeMap<Ref, u64> {
        self.inner().admitted.clone()
    }

    pub fn published(&self, snapshot: &SnapshotId) -> Option<SnapshotOffer> {
        self.inner().published.get(snapshot).cloned()
    }

    /// The power goes: of what was not synced, the first `keep` objects remain.
    pub fn restart(&self, keep: usize) {
        let mut inner = self.inner();
        inner.dead = false;
        let volatile = std::mem::take(&mut inner.volatile);
        for lost in volatile.into_iter().skip(keep) {
            inner.objects.remove(&lost);
        }
    }

    pub fn unsynced(&self) -> usize {
        self.inner().volatile.len()
    }

    /// Every invariant of a store: names fit contents, what is present is complete, what is published is present.
    pub fn check(&self) -> Result<(), String> {
        let inner = self.inner();
        for ((kind, name), stored) in &inner.objects {
            let bytes = unpack(stored).ok_or(format!("{kind:?} {name} does not unpack"))?;
            if self.realm.name(*kind, &bytes) != *name {
                return Err(format!("{kind:?} {name} has other content"));
            }
            for below in references(*kind, &bytes).map_err(|error| error.to_string())? {
                if !inner.objects.contains_key(&below) {
                    return Err(format!("{kind:?} {name} refers to {below:?}, which is not here"));
                }
            }
        }
        for snapshot in inner.published.values() {
            if snapshot.root.is_some_and(|root| !inner.objects.contains_key(&(Kind::MapNode, root))) {
                return Err(format!("snapshot {} was published without its root", snapshot.snapshot));
            }
        }
        Ok(())
    }

    /// Everything that a root refers to, directly and indirectly, itself included.
    pub fn closure(&self, root: Option<Name>) -> BTreeSet<Ref> {
        let mut found = BTreeSet::new();
        let mut open: Vec<Ref> = root.map(|root| (Kind::MapNode, root)).into_iter().collect();
        while let Some(at) = open.pop() {
            if found.insert(at) {
                let bytes = self.read(at.0, &at.1).unwrap();
                open.extend(references(at.0, &bytes).unwrap());
            }
        }
        found
    }
}

fn unpack(stored: &Stored) -> Option<Bytes> {
    codec::decompress(stored.codec, stored.raw_len as usize, &stored.bytes).ok().map(Bytes::from)
}

fn missing(kind: Kind, name: &Name) -> Error {
    Refusal::NotFound(format!("{kind:?} {name}")).into()
}

impl Source for MemoryStore {
    fn stored(&self, kind: Kind, name: &Name) -> Result<Stored> {
        self.inner().objects.get(&(kind, *name)).cloned().ok_or_else(|| missing(kind, name))
    }
    fn kept_since(&self, mark: &Mark, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let inner = self.inner();
        Ok(names.iter().map(|name| inner.births.get(&(kind, *name)).is_some_and(|birth| *birth >= mark.next)).collect())
    }
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        unpack(&self.stored(kind, name)?).ok_or_else(|| missing(kind, name))
    }
    fn sketches(&self, names: &[Name]) -> Result<Vec<Sketch>> {
        let inner = self.inner();
        let sketch =
            |name: &Name| inner.objects.get(&(Kind::Chunk, *name)).and_then(unpack).map(|bytes| Sketch::of(&bytes));
        Ok(names.iter().map(|name| sketch(name).unwrap_or_default()).collect())
    }
}

impl Sink for MemoryStore {
    fn fetch(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.read(kind, name)
    }
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let inner = self.inner();
        Ok(names.iter().map(|name| inner.objects.contains_key(&(kind, *name))).collect())
    }
    fn named_by_prefix(&self, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let inner = self.inner();
        inner.alive()?;
        let here = |name: &&Name| inner.objects.contains_key(&(Kind::Chunk, **name));
        if inner.prefix_bytes.is_none() {
            return Ok(prefixes.iter().map(|prefix| inner.chunks.get(prefix).filter(here).copied()).collect());
        }
        let mask = u64::MAX >> (64 - 8 * inner.prefix_bytes.unwrap_or(8));
        let mut names: HashMap<u64, Option<Name>> = HashMap::new();
        for (_, name) in inner.objects.keys().filter(|(kind, _)| *kind == Kind::Chunk) {
            names.entry(name.prefix() & mask).and_modify(|name| *name = None).or_insert(Some(*name));
        }
        Ok(prefixes.iter().map(|prefix| names.get(&(prefix & mask)).copied().flatten()).collect())
    }
    fn admit(&self, kind: Kind, name: &Name, object: Stored) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        let at = (kind, *name);
        if inner.room.is_some_and(|room| inner.objects.len() >= room) && !inner.objects.contains_key(&at) {
            return Err(Environment::Full.into());
        }
        *inner.admitted.entry(at).or_default() += 1;
        if inner.insert(at, object) {
            inner.volatile.push(at);
        }
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        inner.volatile.clear();
        inner.syncs += 1;
        Ok(())
    }
    fn shows(&self, dataset: &DatasetId, root: &Name) -> Result<bool> {
        let inner = self.inner();
        Ok(inner.published.values().any(|snapshot| snapshot.dataset == *dataset && snapshot.root == Some(*root)))
    }
    fn newest_shared(
        &self,
        source: &StoreId,
        dataset: &DatasetId,
        offered: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>> {
        let foreign = |snapshot: &SnapshotOffer| snapshot.dataset == *dataset && snapshot.source != *source;
        if self.inner().published.values().any(foreign) {
            return Err(Refusal::NotPermitted.into());
        }
        let inner = self.inner();
        let here: HashSet<(SnapshotId, Name)> = inner
            .published
            .values()
            .filter(|snapshot| snapshot.dataset == *dataset)
            .filter_map(|snapshot| Some((snapshot.snapshot, snapshot.root?)))
            .collect();
        Ok(offered.iter().find(|base| here.contains(base)).copied())
    }
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        let mut inner = self.inner();
        inner.alive()?;
        if let Some(known) = inner.published.get(&snapshot.snapshot)
            && known != snapshot
        {
            return Err(Refusal::Exists(format!("another snapshot {}", snapshot.snapshot)).into());
        }
        inner.published.insert(snapshot.snapshot, snapshot.clone());
        Ok(())
    }
}
