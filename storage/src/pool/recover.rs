//! Opening a pool: what the index does not know is replayed from containers; an index that is gone or not sound is
//! built anew from all of them.
//!
//! Chunks are admitted first, then nodes, each only when everything it refers to is present. What is not admitted was
//! never acknowledged, or lost something below it; it stays where it lies and is not found.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::io::IoSlice;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::container::format::{Header, Slot};
use crate::container::{CONTAINERS_DIR, Class, dir, parse_file_name, path, reader};
use crate::error::{Damage, Environment, Error, Result, io_error};
use crate::id::{ContainerId, StoreId};
use crate::index::locality::Locality;
use crate::index::{INDEX_FILE, Index, IndexOptions, Location, Record};
use crate::media::{Media, MediaFile};
use crate::name::{Kind, Name, Realm};

use super::cache::{FileCache, ObjectCache};
use super::recent::Recent;
use super::stats::Counters;
use super::streams::Streams;
use super::{Inner, Pool, PoolOptions};

/// What opening a pool found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// Container files that are there.
    pub containers: u64,
    /// Why the index was built anew, where it was.
    pub index_rebuilt: Option<String>,
    /// Containers whose names were not in the index.
    pub replayed: u64,
    /// Those of them that had never been sealed, and are now.
    pub sealed: u64,
    /// Bytes of unsealed containers that belonged to no whole object and were cut or left out: the torn end of what was
    /// not synced.
    pub torn_bytes: u64,
    /// Files of containers that were created but never held anything, removed.
    pub removed: u64,
    /// Nodes that are there but refer to what is not. After a crash that is unsynced, unacknowledged work.
    pub not_admitted: u64,
    /// What is not as it was written.
    pub damage: Vec<Damage>,
}

/// The filter is filled on opening for at most so many names; for more, settling does it bit by bit.
const WARM_NAMES_MAX: u64 = 2_000_000;
/// Largest container that can be addressed and is sensible.
const CONTAINER_BYTES_MAX: u64 = 1 << 30;

impl Pool {
    /// Opens the pool in a data folder, creating it where there is none. Unsealed containers are scanned and sealed,
    /// names that the index lacks are replayed; an index that is missing, damaged or of another version is rebuilt.
    /// Damage that was found is in the report; only what the machine cannot do, or a newer format, is an error.
    pub fn open(
        media: Arc<dyn Media>,
        store: StoreId,
        realm: Realm,
        mut options: PoolOptions,
    ) -> Result<(Pool, PoolReport)> {
        options.container_bytes = options.container_bytes.clamp(64 << 10, CONTAINER_BYTES_MAX);
        media.create_dir_all(CONTAINERS_DIR).map_err(|error| io_error("create", CONTAINERS_DIR, error))?;
        let mut report = PoolReport::default();
        let found = list_containers(media.as_ref())?;
        report.containers = found.classes.len() as u64;
        let (index, indexed, next) = open_index(&media, store, &realm, &options, &found, &mut report)?;
        let next = next.max(found.next);
        let replay: BTreeMap<_, _> = found.classes.into_iter().filter(|(id, _)| !indexed.contains_key(id)).collect();
        let streams = Streams::new(media.clone(), store, realm.id(), options.streams_max, next);
        let counters = Counters::default();
        indexed.values().for_each(|record| counters.found(record.raw_bytes, record.stored_bytes));
        let inner = Inner {
            recent: Recent::new(),
            index,
            locality: Locality::new(options.locality_bytes),
            streams,
            objects: ObjectCache::new(options.cache_bytes),
            files: FileCache::new(options.files_max.max(1)),
            indexed: RwLock::new(indexed),
            sealed: Mutex::default(),
            amended: Mutex::default(),
            appends: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            syncing: Mutex::default(),
            settling: Mutex::default(),
            settles: AtomicU64::new(0),
            poison: OnceLock::new(),
            counters,
            media,
            store,
            realm,
            options,
        };
        inner.warm_filter()?;
        Replay { inner: &inner, report: &mut report, waiting: HashMap::new(), undecided: BTreeMap::new() }
            .run(&replay)?;
        Ok((Pool(Arc::new(inner)), report))
    }
}

/// Containers by their files.
struct Found {
    classes: BTreeMap<ContainerId, Class>,
    /// Above every id that any file name has, set aside ones included.
    next: u64,
}

fn list_containers(media: &dyn Media) -> Result<Found> {
    let list = |dir: &str| media.list(dir).map_err(|error| io_error("list", dir, error));
    let mut found = Found { classes: BTreeMap::new(), next: 1 };
    for folder in list(CONTAINERS_DIR)? {
        let Some(folder) = folder.strip_suffix('/') else { continue };
        let folder = format!("{CONTAINERS_DIR}/{folder}");
        for file in list(&folder)? {
            let plain = file.strip_suffix(SET_ASIDE);
            let Some((id, class)) = parse_file_name(plain.unwrap_or(&file)) else { continue };
            found.next = found.next.max(id.0.saturating_add(1));
            if plain.is_none() && dir(id) == folder {
                found.classes.insert(id, class);
            }
        }
    }
    Ok(found)
}

/// How files end that are no containers any more but may hold something that a person wants to look at.
const SET_ASIDE: &str = ".damaged";

type Opened = (Index, BTreeMap<ContainerId, Record>, u64);

/// Opens the index; one that is not sound, or knows containers that are gone, is replaced by an empty one.
fn open_index(
    media: &Arc<dyn Media>,
    store: StoreId,
    realm: &Realm,
    options: &PoolOptions,
    found: &Found,
    report: &mut PoolReport,
) -> Result<Opened> {
    let index_options = IndexOptions {
        cache_bytes: options.index_cache_bytes,
        filter_bits_per_name: options.filter_bits_per_name,
        filter_bytes_max: options.filter_bytes_max,
        verify_bytes_max: options.index_verify_bytes_max,
    };
    let open = || -> Result<Opened> {
        let (index, next) = Index::open(media.clone(), store, &realm.id(), &index_options)?;
        let indexed = index.containers()?;
        for (id, record) in &indexed {
            if found.classes.get(id) != Some(&record.class) {
                return Err(Damage::new(path(*id, record.class), 0, "a container", "no such file").into());
            }
        }
        Ok((index, indexed, next))
    };
    let missing = !found.classes.is_empty() && !crate::database::Database::exists(media.as_ref(), INDEX_FILE)?;
    if missing {
        report.index_rebuilt = Some(format!("{INDEX_FILE} was not there"));
    }
    match open() {
        Err(Error::Damage(damage)) => {
            report.index_rebuilt = Some(damage.to_string());
            report.damage.push(damage);
            Index::remove(media.as_ref())?;
            open()
        }
        other => other,
    }
}

/// Admits what containers hold that the index does not know.
struct Replay<'a> {
    inner: &'a Inner,
    report: &'a mut PoolReport,
    /// Nodes that wait for an object, by its name.
    waiting: HashMap<Name, Vec<(ContainerId, Slot)>>,
    /// Node containers, until it is known which of their nodes are admitted.
    undecided: BTreeMap<ContainerId, Record>,
}

impl Replay<'_> {
    fn run(&mut self, containers: &BTreeMap<ContainerId, Class>) -> Result<()> {
        self.report.replayed = containers.len() as u64;
        for class in Class::ALL {
            for (id, _) in containers.iter().filter(|(_, of)| **of == class) {
                self.container(*id, class)?;
            }
        }
        self.report.not_admitted = self.waiting.values().map(|nodes| nodes.len() as u64).sum();
        let undecided = std::mem::take(&mut self.undecided);
        self.inner.sealed.lock().unwrap_or_else(PoisonError::into_inner).extend(undecided);
        self.index_full_batches()?;
        Ok(())
    }

    fn container(&mut self, id: ContainerId, class: Class) -> Result<()> {
        let path = path(id, class);
        let file = self.inner.media.open(&path).map_err(|error| io_error("open", &path, error))?;
        let Some((slots, record)) = self.slots(id, class, &path, &file)? else { return Ok(()) };
        self.inner.counters.found(
            slots.iter().map(|slot| u64::from(slot.raw_len)).sum(),
            slots.iter().map(|slot| u64::from(slot.stored_len)).sum(),
        );
        match class {
            Class::Data => {
                for slot in slots.iter().filter(|slot| !slot.kind.is_node()) {
                    self.admit(id, slot)?;
                }
                let mut sealed = self.inner.sealed.lock().unwrap_or_else(PoisonError::into_inner);
                sealed.extend(record.map(|record| (id, record)));
                drop(sealed);
                self.index_full_batches()
            }
            Class::Node => {
                self.undecided.extend(record.map(|record| (id, record)));
                slots.iter().filter(|slot| slot.kind.is_node()).try_for_each(|slot| self.node(id, *slot))
            }
        }
    }

    /// Points a name to this copy of its object; of several, the one that is met last counts.
    fn admit(&mut self, id: ContainerId, slot: &Slot) -> Result<()> {
        let place = Location { container: id, offset: slot.offset, stored_len: slot.stored_len, kind: slot.kind };
        if self.inner.index.filter().may_have(&slot.name)
            && let Some(older) = self.inner.index.probe(&[slot.name])?[0]
        {
            self.inner.amend(older.container);
        }
        self.inner.recent.point(&slot.name, place);
        Ok(())
    }

    /// Admits a node, and what waited for it, or lets it wait for the first thing that is missing.
    fn node(&mut self, id: ContainerId, slot: Slot) -> Result<()> {
        let mut ready = vec![(id, slot)];
        while let Some((id, slot)) = ready.pop() {
            match self.missing(id, &slot) {
                Ok(None) => {
                    self.admit(id, &slot)?;
                    ready.extend(self.waiting.remove(&slot.name).unwrap_or_default());
                }
                Ok(Some(missing)) => self.waiting.entry(missing).or_default().push((id, slot)),
                Err(Error::Environment(error)) => return Err(error.into()),
                Err(Error::Damage(damage)) => self.report.damage.push(damage),
                Err(Error::Refused(refusal)) => self.report.damage.push(Damage::new(
                    path(id, Class::Node),
                    slot.offset.into(),
                    "a well-formed node",
                    refusal,
                )),
            }
        }
        Ok(())
    }

    fn missing(&self, id: ContainerId, slot: &Slot) -> Result<Option<Name>> {
        let place = Location { container: id, offset: slot.offset, stored_len: slot.stored_len, kind: slot.kind };
        let (found, payload) = self.inner.fetch(&place)?;
        let content = self.inner.open_payload(&path(id, Class::Node), &found, payload)?;
        let references = (self.inner.options.references)(slot.kind, &content)?;
        Ok(self.inner.first_missing(references)?.map(|(_, name)| name))
    }

    fn index_full_batches(&mut self) -> Result<()> {
        loop {
            let (batch, enough) = self.inner.next_batch();
            if !enough {
                return Ok(());
            }
            self.inner.index_containers(batch)?;
        }
    }

    /// The slots of a container that are there, sealing it where it was not; none where it is no container of ours. The
    /// record is missing where it could not be sealed for want of room: it is served as it is, and looked at again.
    fn slots(
        &mut self,
        id: ContainerId,
        class: Class,
        path: &str,
        file: &Arc<dyn MediaFile>,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let ours = Header { id, class, store: self.inner.store, realm: self.inner.realm.id() };
        let header = damage_or(reader::read_header(file.as_ref(), path))?;
        if let Ok(header) = &header
            && *header != ours
        {
            let (expected, found) = (format!("{ours:?}"), format!("{header:?}"));
            self.report.damage.push(Damage::new(path, 0, expected, found));
            return Ok(None);
        }
        match (&header, damage_or(reader::read_directory(file.as_ref(), path, id))?) {
            (Ok(_), Ok(directory)) => {
                // Whoever wrote it may have been killed before syncing it.
                sync(self.inner.media.as_ref(), id, path, file)?;
                Ok(Some((directory.slots, Some(record(class, &directory.footer)))))
            }
            (_, directory) => self.salvage(&ours, path, file, header.err(), directory.is_ok()),
        }
    }

    /// Makes a sound, sealed container of one that has no sound header or end.
    fn salvage(
        &mut self,
        ours: &Header,
        path: &str,
        file: &Arc<dyn MediaFile>,
        header: Option<Damage>,
        was_sealed: bool,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let name_of = |kind: Kind, content: &[u8]| self.inner.realm.name(kind, content);
        let len = file.len().map_err(|error| io_error("measure", path, error))?;
        let scan = reader::scan(file.as_ref(), path, &name_of)?;
        if scan.slots.is_empty() {
            return self.nothing_in(ours, path, file, len);
        }
        if let Some(damage) = header.filter(|_| was_sealed) {
            self.report.damage.push(damage);
        }
        self.report.torn_bytes += scan.gap_bytes + len.saturating_sub(scan.end);
        // What was read may be nowhere but in memory yet; a footer may only vouch for what is safe.
        sync(self.inner.media.as_ref(), ours.id, path, file)?;
        let sealed = file
            .write_at(&[IoSlice::new(&ours.encode())], 0)
            .map_err(|error| io_error("write", path, error))
            .and_then(|()| reader::seal_at(file.as_ref(), path, ours.id, &scan.slots, scan.end));
        match sealed {
            Ok(footer) => {
                sync(self.inner.media.as_ref(), ours.id, path, file)?;
                self.report.sealed += 1;
                Ok(Some((scan.slots, Some(record(ours.class, &footer)))))
            }
            Err(Error::Environment(Environment::Full)) => Ok(Some((scan.slots, None))),
            Err(error) => Err(error),
        }
    }

    /// A container without a single whole object: a creation that a crash interrupted is removed, anything else is set
    /// aside under another name.
    fn nothing_in(
        &mut self,
        ours: &Header,
        path: &str,
        file: &Arc<dyn MediaFile>,
        len: u64,
    ) -> Result<Option<(Vec<Slot>, Option<Record>)>> {
        let media = self.inner.media.as_ref();
        if is_only_header(file.as_ref(), &ours.encode(), len).map_err(|error| io_error("read", path, error))? {
            media.remove(path).map_err(|error| io_error("remove", path, error))?;
            self.report.removed += 1;
        } else {
            let aside = format!("{path}{SET_ASIDE}");
            media.rename(path, &aside).map_err(|error| io_error("rename", path, error))?;
            self.report.damage.push(Damage::new(path, 0, "a container", format!("no sound object; kept as {aside}")));
        }
        let dir = dir(ours.id);
        media.sync_dir(&dir).map_err(|error| io_error("sync", &dir, error))?;
        Ok(None)
    }
}

/// True where a file holds nothing but (a part of) its header and zeros.
fn is_only_header(file: &dyn MediaFile, header: &[u8], len: u64) -> io::Result<bool> {
    let mut window = vec![0; 64 << 10];
    let mut at = 0;
    while at < len {
        let got = file.read_at(&mut window, at)?;
        if got == 0 {
            break;
        }
        let sound = |(nth, byte): (usize, &u8)| {
            *byte == 0 || usize::try_from(at).ok().and_then(|at| header.get(at + nth)) == Some(byte)
        };
        if !window[..got].iter().enumerate().all(sound) {
            return Ok(false);
        }
        at += got as u64;
    }
    Ok(true)
}

fn record(class: Class, footer: &crate::container::format::Footer) -> Record {
    Record {
        class,
        complete: true,
        slots: footer.slots,
        raw_bytes: footer.raw_bytes,
        stored_bytes: footer.stored_bytes,
        file_bytes: footer.file_bytes(),
    }
}

fn sync(media: &dyn Media, id: ContainerId, path: &str, file: &Arc<dyn MediaFile>) -> Result<()> {
    file.sync().map_err(|error| io_error("sync", path, error))?;
    let dir = dir(id);
    media.sync_dir(&dir).map_err(|error| io_error("sync", &dir, error))
}

/// Keeps damage apart from what makes opening impossible.
fn damage_or<T>(result: Result<T>) -> Result<Result<T, Damage>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Damage(damage)) => Ok(Err(damage)),
        Err(error) => Err(error),
    }
}

impl Inner {
    /// Fills the filter, where that takes no time that anyone notices.
    fn warm_filter(&self) -> Result<()> {
        while self.index.len() <= WARM_NAMES_MAX && self.index.warm_filter()? {}
        Ok(())
    }
}
