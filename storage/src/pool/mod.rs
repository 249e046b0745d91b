//! Objects by name: containers and index as one thing.
//!
//! ```text
//! put ─▶ name ─▶ known? ─▶ LZ4 ─▶ append to the stream's container ─▶ recent ─ sync, settle ─▶ index
//! read ─▶ cache ─▶ where? ─▶ container (or its buffer) ─▶ decompress ─▶ verify against the name
//! ```
//!
//! Promises:
//! * What [`Pool::read`] returns was verified against its name. Anything else is damage, named with its place.
//! * After [`Pool::sync`], everything put before survives a power cut.
//! * **Presence implies closure**, across crashes and rebuilds too: a node is admitted only when everything that it
//!   refers to is. `put` relies on its caller for that; what comes from a peer ([`Pool::put_stored`]) or is found after a
//!   crash is looked into.
//! * Equal objects that are put at the same time are stored once.
//! * A full disk refuses what is new and loses nothing; once there is room, work goes on.
//! * Memory stays within [`PoolOptions`], whatever is put and read.
//!
//! It deletes nothing but what a run of reclaim condemned (`condemn.rs`, `let_go.rs`; the story is told in `crate::reclaim`), and
//! starts no threads: many may call it at once.
//!
//! Who may run beside whom:
//!
//! | | put | read | sync | settle | check |
//! | --- | --- | --- | --- | --- | --- |
//! | put | yes; one stream's appends take turns | yes | yes | yes | yes |
//! | read | | yes | yes | yes | yes |
//! | sync | | | they share work | yes | yes |
//! | settle | | | | one after the other | yes |
//!
//! Letting go runs beside all of them but the check; `docs/concurrency.md` has its table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use bytes::Bytes;

use crate::container::codec::Codec;
use crate::error::Result;
use crate::id::{ContainerId, StoreId};
use crate::index::locality::Locality;
use crate::index::{Index, Record};
use crate::media::Media;
use crate::name::{Kind, Name, Realm};
use crate::tree::Objects;
use crate::tree::{map, sequence};

use cache::{FileCache, ObjectCache};
use recent::Recent;
use run::Scratch;
use stats::Counters;
use streams::Streams;
use unread::Unread;
use usage::{Epochs, Held};
use watch::Door;
use wounds::Wounds;

pub use check::{CheckReport, Progress};
pub(crate) use condemn::{Condemned, Obstacles, Survey};
pub use dense::Densified;
pub(crate) use let_go::{LetGo, Step as LetGoStep};
pub use mark::Mark;
pub use recover::PoolReport;
pub use scrub::Scrubbed;
pub use stats::{Lookups, PoolStats};
pub use usage::{HeldTree, InUse};
pub use verify::Verifying;
pub(crate) use watch::Watch;
pub use wounds::Wound;

mod cache;
mod check;
mod condemn;
mod dense;
mod let_go;
mod mark;
mod put;
mod read;
mod recent;
mod recover;
mod renew;
mod replay;
mod run;
mod scrub;
mod sketches;
mod stats;
mod streams;
mod sync;
mod unread;
mod usage;
mod verify;
mod watch;
mod wounds;

/// Whose data lies together: each stream has an open container of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl StreamId {
    /// For whatever belongs to no stream.
    pub const MISC: StreamId = StreamId(0);
}

/// Says what a node refers to, in any order. An error where the bytes are not a node.
pub type References = fn(Kind, &[u8]) -> Result<Vec<(Kind, Name)>>;

/// How a pool works and what it may use.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// A container is sealed once it is at least this long; at most 1 GiB.
    pub container_bytes: u64,
    /// Memory for objects that were read lately.
    pub cache_bytes: usize,
    /// Memory for directories of containers that were met lately.
    pub locality_bytes: usize,
    /// Memory for pages of the index.
    pub index_cache_bytes: usize,
    /// How many containers of each class are open at once, each with up to about 1 MiB of buffer.
    pub streams_max: usize,
    /// Names wait in memory (about 100 bytes each) until at least so many can go into the index at once.
    pub index_batch: usize,
    /// As the index grows, an eighth of it goes in at once, but never more than this. Every batch rewrites most pages of
    /// a large index, so larger batches cost less; this many names wait in memory, and at most twice as many.
    pub index_batch_max: usize,
    /// So many names stay in the index's database, whose pages change with each batch; what is more moves into sorted files.
    pub index_fresh_max: u64,
    /// Memory for the filter, per name.
    pub filter_bits_per_name: usize,
    /// The filter never grows beyond this.
    pub filter_bytes_max: usize,
    /// An index of at most so many bytes is verified whole on opening; a larger one when it is used.
    pub index_verify_bytes_max: u64,
    /// How many containers' files are kept open for reading.
    pub files_max: usize,
    /// What a node refers to.
    pub references: References,
}

impl PoolOptions {
    /// The defaults: some 100 MiB for a small store, some 300 MiB for one of a unique TB, where a million names wait for
    /// the index and the filter takes about 80 MiB.
    pub fn new(references: References) -> PoolOptions {
        PoolOptions {
            container_bytes: 16 << 20,
            cache_bytes: 32 << 20,
            locality_bytes: 16 << 20,
            index_cache_bytes: 32 << 20,
            streams_max: 8,
            index_batch: 128 << 10,
            index_batch_max: 512 << 10,
            index_fresh_max: 1 << 20,
            filter_bits_per_name: 10,
            filter_bytes_max: 128 << 20,
            index_verify_bytes_max: 32 << 20,
            files_max: 128,
            references,
        }
    }
}

/// What became of an object that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its name.
    pub name: Name,
    /// False where it was there already.
    pub new: bool,
    /// What it takes in its container, slot header included; 0 where it was there already.
    pub stored_bytes: u32,
}

/// An object as it lies, for the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How `bytes` are compressed.
    pub codec: Codec,
    /// Length of the object.
    pub raw_len: u32,
    /// The compressed bytes.
    pub bytes: Bytes,
}

/// All objects of a store. Clones are handles of the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    media: Arc<dyn Media>,
    store: StoreId,
    realm: Realm,
    options: PoolOptions,
    recent: Recent,
    index: Index,
    locality: Locality,
    streams: Streams,
    objects: ObjectCache,
    files: FileCache,
    scratch: Scratch,
    /// Containers whose names are in the index.
    indexed: RwLock<BTreeMap<ContainerId, Record>>,
    /// Containers that are sealed and synced, and wait for the index.
    sealed: Mutex<BTreeMap<ContainerId, Record>>,
    /// Indexed containers some of whose names lead elsewhere since; the index is told with the next batch.
    amended: Mutex<BTreeSet<ContainerId>>,
    /// Counts runs of appends; each is counted before its names can be seen.
    appends: AtomicU64,
    /// Every run up to this one is safe.
    synced: AtomicU64,
    syncing: Mutex<()>,
    settling: Mutex<()>,
    /// Counts moves of names from `recent` into the index.
    settles: AtomicU64,
    /// Why nothing is written any more, once a sync failed.
    poison: OnceLock<String>,
    counters: Counters,
    wounds: Wounds,
    /// Containers that nobody has read since the index was built again.
    unread: Unread,
    /// Files of containers that were set aside, with their lengths.
    aside: Mutex<BTreeMap<String, u64>>,
    /// Containers that are damaged themselves, not only objects in them.
    worn: Mutex<BTreeSet<ContainerId>>,
    /// Containers below were looked at since opening, whether they should be dense.
    dense_from: AtomicU64,
    /// Something was let go of since the pool was opened: who comes too late for it finds nothing, and nothing is wrong.
    let_go: AtomicBool,
    /// Who holds names that no root tells of.
    epochs: Epochs,
    /// Trees that are read whatever becomes of their snapshots.
    held: Held,
    /// What every "present" goes through.
    door: RwLock<Door>,
    /// How many checks are under way; held by whoever lets go of something.
    checks: Mutex<usize>,
}

impl Pool {
    /// A view of this pool whose puts go to one stream: what trees are built on.
    pub fn on(&self, stream: StreamId) -> PoolStream {
        PoolStream { pool: self.clone(), stream }
    }

    /// The realm that names are keyed in.
    pub fn realm(&self) -> &Realm {
        &self.0.realm
    }
}

/// A [`Pool`] bound to one stream.
#[derive(Clone)]
pub struct PoolStream {
    pool: Pool,
    stream: StreamId,
}

impl PoolStream {
    /// The pool behind it.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
    /// The stream that puts go to.
    pub fn stream(&self) -> StreamId {
        self.stream
    }
}

impl Objects for PoolStream {
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.pool.read(kind, name)
    }
    fn sequence_node(&self, name: &Name) -> Result<Arc<sequence::Node>> {
        self.pool.sequence_node(name)
    }
    fn map_node(&self, name: &Name) -> Result<Arc<map::Node>> {
        self.pool.map_node(name)
    }
    fn read_run(&self, kind: Kind, names: &[Name]) -> Result<Vec<Bytes>> {
        self.pool.read_run(kind, names)
    }
    fn put(&self, kind: Kind, content: &[u8]) -> Result<Name> {
        Ok(self.pool.put(self.stream, kind, content)?.name)
    }
    fn contains(&self, kind: Kind, name: &Name) -> Result<bool> {
        self.pool.contains(kind, name)
    }
}

#[cfg(test)]
mod tests;
