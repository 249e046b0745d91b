//! The one public door: a store owns every stage and brings them together.
//!
//! ```text
//! create, open ─► datasets ─► FileTree (shares), BlockDevice (volumes): read, write, commit …
//!                      │ freeze (large, or a snapshot)
//! drain_step ──────────┴─► new root ─► head in the catalogue ─► snapshots sealed ─► journal trimmed
//! ```
//!
//! Nothing here starts a thread or looks at a clock. Whoever owns a store calls [`Store::drain_step`] whenever
//! [`Store::wait_for_work`] says so, from one thread or several.
//!
//! Promises: see `DESIGN` in `ARCHITECTURE.md` ("Invariants"). What an operation of a person changes (datasets,
//! snapshots, peers, settings) is durable when it returns, in the catalogue and in the journal.

mod datasets;
mod disk;
mod format;
mod kept;
mod lock;
mod open;
mod past;
mod pump;
mod quarantine;
mod receiving;
mod replica;
mod retain;
mod roots;
mod snapshots;
mod split;
mod time;
mod trim;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::chunk::ChunkSizes;
use crate::dataset::live::Dataset;
use crate::error::{Refusal, Result};
use crate::id::{DatasetId, IdSource, SnapshotId, StoreId};
use crate::journal::JournalOptions;
use crate::name::{Kind, Name, Realm};
use crate::pool::PoolOptions;
use crate::pressure::PressureOptions;
use crate::stages::Stages;
use crate::tree::references;

pub(crate) use datasets::stream_of;
pub use datasets::{DatasetInfo, LABEL_BYTES_MAX, StoreStats};
pub use disk::DiskParts;
pub use lock::{KEPT_EVERY, LONGEST, LockScope};
pub use open::OpenReport;
pub use quarantine::{Emptied, QUARANTINE, Quarantined};
pub use replica::ReplicaSnapshot;
pub use retain::{Limit, Reach};
pub use roots::{KeptRoot, RootOf};
pub(crate) use roots::{Needed, Without};
pub use time::{Marked, Moment, Timeline, Written};

/// How a store behaves. Every default is meant for use.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Containers, index and caches.
    pub pool: PoolOptions,
    /// The journal.
    pub journal: JournalOptions,
    /// How much may wait for the drain.
    pub pressure: PressureOptions,
    /// So much of the journal, at the least, is kept as it was written, also where only windows need it: what is young may not be
    /// needed for long. What is older is split off into the histories of datasets. A quarter of the smallest window, if that is less.
    pub whole_journal_bytes: u64,
    /// Free disk space below which new data is refused, in bytes, so that deletion always has room.
    pub reserve_bytes: u64,
    /// How long what is deleted from now on can be had back, in time that the store runs. Nothing: it is gone at once.
    pub quarantine: Duration,
    /// Average chunk size; counts when the store is created, and never again.
    pub chunk_sizes: ChunkSizes,
    /// The realm of a new store; counts when the store is created, and never again.
    pub realm: Realm,
    /// Where the ids of the store, of datasets and of snapshots come from, and the first write verifier.
    pub ids: IdSource,
}

/// What an object refers to, for whoever got its bytes from a peer or found them after a crash.
pub fn refers_to(kind: Kind, bytes: &[u8]) -> Result<Vec<(Kind, Name)>> {
    let refused = |fault| Refusal::Invalid(format!("these bytes are no {kind:?}: {fault}")).into();
    references(kind, &Bytes::copy_from_slice(bytes)).map_err(refused)
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            pool: PoolOptions::new(refers_to),
            journal: JournalOptions::default(),
            pressure: PressureOptions::default(),
            whole_journal_bytes: 256 << 20,
            reserve_bytes: 256 << 20,
            quarantine: QUARANTINE,
            chunk_sizes: ChunkSizes::DEFAULT,
            realm: Realm::published(),
            ids: IdSource::unique(),
        }
    }
}

/// A data folder that is open.
pub struct Store {
    id: StoreId,
    stages: Arc<Stages>,
    datasets: RwLock<BTreeMap<DatasetId, Arc<Dataset>>>,
    /// Held while the catalogue and the set of datasets change together, never over more than a sync. Taken behind a claim in
    /// `draining`; who holds it waits for no claim.
    administration: Mutex<()>,
    /// Datasets that a drain step works on.
    draining: Mutex<BTreeSet<DatasetId>>,
    /// Whose turn it is to be drained.
    turn: AtomicUsize,
    /// Snapshots whose layers are frozen and that the catalogue does not have yet.
    unrecorded: Mutex<BTreeSet<SnapshotId>>,
    /// Signals that one of them is settled.
    recorded: Condvar,
    /// Who reads the past, and from where on.
    pins: Mutex<Vec<retain::Pinned>>,
    /// Free room on the disk beyond what is ample, when it was last measured.
    spare_room: AtomicU64,
    /// The record up to which windows let go for want of room.
    window_floor: AtomicU64,
    /// Held by whoever writes history files.
    splitting: Mutex<()>,
    /// The segment that could not be split.
    unsplit: Mutex<Option<split::Unsplit>>,
    /// True while files of history may be left that the catalogue does not know.
    sweep_owed: AtomicBool,
    /// See [`StoreOptions::whole_journal_bytes`].
    whole_journal_bytes: u64,
    /// See [`StoreOptions::quarantine`].
    quarantine: Duration,
    /// Signals that a drain step ended.
    drained: Condvar,
    segment_bytes: u64,
    /// What locks are measured by. Never locked while the administration is waited for.
    run: Mutex<lock::Run>,
}

impl Store {
    /// The store's own id.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// The realm whose names this store uses.
    pub fn realm(&self) -> &Realm {
        &self.stages.realm
    }

    pub(crate) fn stages(&self) -> &Stages {
        &self.stages
    }

    fn administration(&self) -> std::sync::MutexGuard<'_, ()> {
        self.administration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open_datasets(&self) -> Vec<Arc<Dataset>> {
        self.datasets.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
