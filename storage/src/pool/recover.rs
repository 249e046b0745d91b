//! Opening a pool: what the index does not know is replayed from containers; an index that is gone or not sound is
//! built anew from all of them.
//!
//! What is not admitted was never acknowledged, or lost something below it; it stays where it lies and is not found.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use crate::container::{CONTAINERS_DIR, Class, dir, parse_file_name, path};
use crate::error::{Damage, Environment, Error, Result, io_error};
use crate::id::{ContainerId, StoreId};
use crate::index::locality::Locality;
use crate::index::{INDEX_FILE, Index, IndexOptions, Record};
use crate::media::Media;
use crate::media::answers::unreadable;
use crate::name::Realm;

use super::cache::{FileCache, ObjectCache};
use super::recent::Recent;
use super::replay::Replay;
use super::run::Scratch;
use super::stats::Counters;
use super::streams::Streams;
use super::unread::Unread;
use super::usage::{Epochs, Held};
use super::wounds::format::{self, Kept};
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
    /// Files of containers that were not in the index and hold bytes but no whole object, renamed to `….aside`: torn by
    /// a power cut before anything in them was safe, or harmed beyond recognition.
    pub set_aside: u64,
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
        let mut kept = read_wounds(media.as_ref(), store, &found, &mut report)?;
        // Before anything of the old one goes: whoever is killed in between knows it, too.
        let mut is_written = true;
        let mut all_unread = || {
            kept.unread = 0..found.next;
            match format::write(media.as_ref(), store, &kept) {
                // There is no room to say so, and the index has to be built all the same.
                Err(Error::Environment(Environment::Full)) => {
                    is_written = false;
                    Ok(())
                }
                written => written,
            }
        };
        let (index, indexed, next) = open_index(&media, store, &realm, &options, &found, &mut report, &mut all_unread)?;
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
            scratch: Scratch::default(),
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
            wounds: super::Wounds::default(),
            unread: Unread::new(kept.unread.clone()),
            worn: Mutex::default(),
            dense_from: AtomicU64::new(0),
            aside: Mutex::new(found.aside),
            let_go: Default::default(),
            epochs: Epochs::default(),
            held: Held::default(),
            door: RwLock::default(),
            checks: Mutex::default(),
            media,
            store,
            realm,
            options,
        };
        inner.warm_filter()?;
        Replay::new(&inner, &mut report).run(&replay)?;
        inner.take_up_wounds(&kept);
        if !is_written {
            inner.wounds.changed();
        }
        Ok((Pool(Arc::new(inner)), report))
    }
}

/// Containers by their files.
struct Found {
    classes: BTreeMap<ContainerId, Class>,
    /// Above every id that any file name has, set aside ones included.
    next: u64,
    /// Files that were set aside, with their lengths.
    aside: BTreeMap<String, u64>,
}

fn list_containers(media: &dyn Media) -> Result<Found> {
    let list = |dir: &str| media.list(dir).map_err(|error| io_error("list", dir, error));
    let mut found = Found { classes: BTreeMap::new(), next: 1, aside: BTreeMap::new() };
    for folder in list(CONTAINERS_DIR)? {
        let Some(folder) = folder.strip_suffix('/') else { continue };
        let folder = format!("{CONTAINERS_DIR}/{folder}");
        for file in list(&folder)? {
            let plain = file.strip_suffix(SET_ASIDE);
            let Some((id, class)) = parse_file_name(plain.unwrap_or(&file)) else { continue };
            found.next = found.next.max(id.0.saturating_add(1));
            if plain.is_some() {
                let path = format!("{folder}/{file}");
                let len = media.open(&path).and_then(|file| file.len()).unwrap_or(0);
                found.aside.insert(path, len);
            } else if dir(id) == folder {
                found.classes.insert(id, class);
            }
        }
    }
    Ok(found)
}

/// How files end that are no containers any more but may hold something that a person wants to look at.
pub(super) const SET_ASIDE: &str = ".aside";

type Opened = (Index, BTreeMap<ContainerId, Record>, u64);

/// Opens the index; one that is not sound, or knows containers that are gone, is replaced by an empty one.
fn open_index(
    media: &Arc<dyn Media>,
    store: StoreId,
    realm: &Realm,
    options: &PoolOptions,
    found: &Found,
    report: &mut PoolReport,
    rebuild: &mut dyn FnMut() -> Result<()>,
) -> Result<Opened> {
    let index_options = IndexOptions {
        cache_bytes: options.index_cache_bytes,
        filter_bits_per_name: options.filter_bits_per_name,
        filter_bytes_max: options.filter_bytes_max,
        verify_bytes_max: options.index_verify_bytes_max,
        fresh_max: options.index_fresh_max,
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
        rebuild()?;
    }
    match unreadable(media.as_ref(), open()) {
        Err(Error::Damage(damage)) => {
            report.index_rebuilt = Some(damage.to_string());
            report.damage.push(damage);
            rebuild()?;
            Index::remove(media.as_ref())?;
            open()
        }
        other => other,
    }
}

/// What was known to be damaged. Where that can't be read, nobody knows what was read since an index was built again.
fn read_wounds(media: &dyn Media, store: StoreId, found: &Found, report: &mut PoolReport) -> Result<Kept> {
    match unreadable(media, format::read(media, store)) {
        Err(Error::Damage(damage)) => {
            report.damage.push(damage);
            Ok(Kept { unread: 0..found.next, ..Kept::default() })
        }
        kept => kept,
    }
}

impl Inner {
    /// Fills the filter, where that takes no time that anyone notices.
    fn warm_filter(&self) -> Result<()> {
        while self.index.len() <= WARM_NAMES_MAX && self.index.warm_filter()? {}
        Ok(())
    }
}
