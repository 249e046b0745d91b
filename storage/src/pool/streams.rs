//! Which container is open for which stream, and which containers are not yet safe.
//!
//! Lock order: a writer's lock may be held while those here are taken, never the other way round.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::container::codec::Patience;
use crate::container::format::Header;
use crate::container::writer::Writer;
use crate::container::{Class, dir};
use crate::error::{Environment, Result, io_error};
use crate::id::{ContainerId, StoreId};
use crate::index::CONTAINER_ID_MAX;
use crate::media::Media;
use crate::pool::StreamId;

/// What is compressed with zstd goes into containers of its own, which older versions refuse.
pub(super) const DENSE: StreamId = StreamId(u64::MAX - 1);

/// Open containers by stream, and every writer that is open or not yet synced.
pub(super) struct Streams {
    media: Arc<dyn Media>,
    store: StoreId,
    realm: [u8; 16],
    streams_max: usize,
    next: AtomicU64,
    open: Mutex<Open>,
    writers: RwLock<HashMap<ContainerId, Arc<Writer>>>,
}

#[derive(Default)]
struct Open {
    by_stream: BTreeMap<(Class, StreamId), Stream>,
    dirs: BTreeSet<String>,
    clock: u64,
}

struct Stream {
    writer: Option<Arc<Writer>>,
    patience: Arc<Patience>,
    used: u64,
}

impl Streams {
    pub fn new(media: Arc<dyn Media>, store: StoreId, realm: [u8; 16], streams_max: usize, next: u64) -> Streams {
        let streams_max = streams_max.max(1);
        let (open, writers) = (Mutex::default(), RwLock::default());
        Streams { media, store, realm, streams_max, next: AtomicU64::new(next), open, writers }
    }

    /// No container id at or above this was ever given out.
    pub fn next_id(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container that is open for a stream. A stream that has none takes over that of the stream that was quiet the
    /// longest, where there are as many as there may be; so containers fill up, however many streams there are. Those of [`DENSE`]
    /// are its alone.
    pub fn writer(&self, class: Class, stream: StreamId) -> Result<Arc<Writer>> {
        let mut open = self.lock();
        open.touch(class, stream);
        let held = open.by_stream.get(&(class, stream)).and_then(|held| held.writer.clone());
        if let Some(writer) = held {
            return Ok(writer);
        }
        let quietest = if stream == DENSE { None } else { open.take_quietest(class, self.streams_max) };
        let writer = match quietest {
            Some(writer) => writer,
            None => self.create(&mut open, class, stream == DENSE)?,
        };
        if let Some(held) = open.by_stream.get_mut(&(class, stream)) {
            held.writer = Some(writer.clone());
        }
        Ok(writer)
    }

    /// How compressible a stream was lately.
    pub fn patience(&self, class: Class, stream: StreamId) -> Arc<Patience> {
        self.lock().touch(class, stream).patience.clone()
    }

    fn create(&self, open: &mut Open, class: Class, dense: bool) -> Result<Arc<Writer>> {
        let id = ContainerId(self.next.fetch_add(1, Ordering::Relaxed));
        if id.0 >= CONTAINER_ID_MAX {
            return Err(Environment::Full.into());
        }
        let dir = dir(id);
        if !open.dirs.contains(&dir) {
            self.media.create_dir_all(&dir).map_err(|error| io_error("create", &dir, error))?;
            open.dirs.insert(dir);
        }
        let header = Header { id, class, store: self.store, realm: self.realm, dense };
        let writer = Arc::new(Writer::create(self.media.as_ref(), &header)?);
        self.writers.write().unwrap_or_else(PoisonError::into_inner).insert(id, writer.clone());
        Ok(writer)
    }

    /// No stream appends to this container any more.
    pub fn retire(&self, id: ContainerId) {
        for held in self.lock().by_stream.values_mut() {
            if held.writer.as_ref().is_some_and(|writer| writer.id() == id) {
                held.writer = None;
            }
        }
    }

    /// The writer of a container that is open or not yet safe.
    pub fn find(&self, id: ContainerId) -> Option<Arc<Writer>> {
        self.writers.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// The writers of one class, in the order of their ids.
    pub fn unsafe_writers(&self, class: Class) -> Vec<Arc<Writer>> {
        let writers = self.writers.read().unwrap_or_else(PoisonError::into_inner);
        let mut writers: Vec<_> = writers.values().filter(|writer| writer.class() == class).cloned().collect();
        writers.sort_unstable_by_key(|writer| writer.id());
        writers
    }

    /// How many containers are open or not yet safe.
    pub fn unsafe_count(&self) -> usize {
        self.writers.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// This container is sealed and safe: it is read from its file from now on.
    pub fn safe(&self, id: ContainerId) {
        self.writers.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

impl Open {
    fn touch(&mut self, class: Class, stream: StreamId) -> &mut Stream {
        self.clock += 1;
        let clock = self.clock;
        // What is remembered of streams without a container is little, but it must not grow for ever.
        if self.by_stream.len() > 1024 {
            self.by_stream.retain(|_, held| held.writer.is_some());
        }
        let new = || Stream { writer: None, patience: Arc::default(), used: 0 };
        let held = self.by_stream.entry((class, stream)).or_insert_with(new);
        held.used = clock;
        held
    }

    fn take_quietest(&mut self, class: Class, streams_max: usize) -> Option<Arc<Writer>> {
        let holding =
            |(key, held): &(&(Class, StreamId), &mut Stream)| key.0 == class && key.1 != DENSE && held.writer.is_some();
        let count = self.by_stream.iter_mut().filter(holding).count();
        if count < streams_max {
            return None;
        }
        let (_, quietest) = self.by_stream.iter_mut().filter(holding).min_by_key(|(_, held)| held.used)?;
        quietest.writer.take()
    }
}
