//! What a pool holds, what it uses, and how look-ups went.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::container::Class;
use crate::error::Result;

use super::{Inner, Pool};

/// Facts about a pool. All counts of look-ups are since opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Objects that are present. A repaired or twice stored object may count twice until its names are in the index.
    pub objects: u64,
    /// Their lengths before compression, in bytes.
    pub raw_bytes: u64,
    /// Their lengths as stored, in bytes, without slot headers and directories.
    pub stored_bytes: u64,
    /// Container files.
    pub containers: u64,
    /// Names in the index.
    pub indexed: u64,
    /// Length of the index on disk, in bytes.
    pub index_bytes: u64,
    /// Names that wait in memory for the index.
    pub recent: u64,
    /// Memory of the filter, in bytes.
    pub filter_bytes: u64,
    /// Memory of cached objects, in bytes.
    pub cache_bytes: u64,
    /// Memory of directories met lately, in bytes.
    pub locality_bytes: u64,
    /// How look-ups went.
    pub lookups: Lookups,
}

/// How look-ups were answered, in the order in which they are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lookups {
    /// Found among names that are not in the index yet.
    pub recent: u64,
    /// The filter said surely new: no disk was asked.
    pub filter_new: u64,
    /// Found in a directory met lately.
    pub locality: u64,
    /// Directories read for that.
    pub directories: u64,
    /// Names asked of the index itself.
    pub probes: u64,
    /// How many of these were there.
    pub probes_found: u64,
    /// 256ths of the index that were gone through for something else than a look-up.
    pub scans: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    raw_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    recent: AtomicU64,
    filter_new: AtomicU64,
    locality: AtomicU64,
    directories: AtomicU64,
    probes: AtomicU64,
    probes_found: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}
fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    pub fn stored(&self, raw_len: u32, stored_len: u32) {
        add(&self.raw_bytes, raw_len as usize);
        add(&self.stored_bytes, stored_len as usize);
    }
    /// What lies in containers that were there already.
    pub fn found(&self, raw_bytes: u64, stored_bytes: u64) {
        self.raw_bytes.fetch_add(raw_bytes, Ordering::Relaxed);
        self.stored_bytes.fetch_add(stored_bytes, Ordering::Relaxed);
    }
    /// What lay in a container that is gone.
    pub fn gone(&self, raw_bytes: u64, stored_bytes: u64) {
        self.raw_bytes.fetch_sub(raw_bytes, Ordering::Relaxed);
        self.stored_bytes.fetch_sub(stored_bytes, Ordering::Relaxed);
    }
    pub fn filtered(&self, recent: usize, new: usize) {
        add(&self.recent, recent);
        add(&self.filter_new, new);
    }
    pub fn locality_hits(&self, count: usize) {
        add(&self.locality, count);
    }
    pub fn directory_read(&self) {
        add(&self.directories, 1);
    }
    pub fn probed(&self, asked: usize, found: usize) {
        add(&self.probes, asked);
        add(&self.probes_found, found);
    }
}

impl Pool {
    /// How many names were looked up since opening, by whoever puts or reads something that no cache has. Costs nothing.
    pub fn lookups(&self) -> u64 {
        let counters = &self.0.counters;
        [&counters.recent, &counters.filter_new, &counters.locality, &counters.probes].map(get).iter().sum()
    }

    /// Bytes of the index's sorted files. Asks no disk.
    pub(crate) fn sorted_bytes(&self) -> u64 {
        self.0.index.sorted_bytes()
    }

    /// What this pool holds and uses.
    pub fn stats(&self) -> Result<PoolStats> {
        let inner = &*self.0;
        let (recent, counters) = (inner.recent.len() as u64, &inner.counters);
        Ok(PoolStats {
            objects: inner.index.len() + recent,
            raw_bytes: get(&counters.raw_bytes),
            stored_bytes: get(&counters.stored_bytes),
            containers: inner.container_count(),
            indexed: inner.index.len(),
            index_bytes: inner.index.file_bytes()?,
            recent,
            filter_bytes: inner.index.filter().bytes() as u64,
            cache_bytes: inner.objects.bytes() as u64,
            locality_bytes: inner.locality.bytes() as u64,
            lookups: Lookups {
                recent: get(&counters.recent),
                filter_new: get(&counters.filter_new),
                locality: get(&counters.locality),
                directories: get(&counters.directories),
                probes: get(&counters.probes),
                probes_found: get(&counters.probes_found),
                scans: inner.index.scans(),
            },
        })
    }
}

/// Bytes of containers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ContainerBytes {
    /// Their files.
    pub files: u64,
    /// Objects in them, as they are stored.
    pub objects: u64,
    /// Files that were set aside.
    pub aside: u64,
}

impl Pool {
    /// What containers take on the disk, by what is known of each; of open ones with what waits to be written.
    pub(crate) fn container_bytes(&self) -> ContainerBytes {
        let inner = &*self.0;
        let indexed = inner.indexed.read().unwrap_or_else(PoisonError::into_inner);
        let mut files: u64 = indexed.values().map(|record| record.file_bytes).sum();
        drop(indexed);
        let sealed = inner.sealed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files += sealed.values().map(|record| record.file_bytes).sum::<u64>();
        // One that is sealed and waits for the index may be among those that are not safe yet.
        let open = Class::ALL.into_iter().flat_map(|class| inner.streams.unsafe_writers(class));
        let open = open.filter(|writer| !sealed.contains_key(&writer.id()));
        files += open.map(|writer| writer.lock().len()).sum::<u64>();
        let aside = inner.aside.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
        ContainerBytes { files, objects: get(&inner.counters.stored_bytes), aside }
    }
}

impl Inner {
    fn container_count(&self) -> u64 {
        let indexed = self.indexed.read().unwrap_or_else(PoisonError::into_inner).len();
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner).len();
        let open: usize = Class::ALL.iter().map(|class| self.streams.unsafe_writers(*class).len()).sum();
        (indexed + sealed + open) as u64
    }
}
