//! Stage 6: finding. Which container an object lies in; a cache that can be rebuilt from containers at any time.
//!
//! ```text
//! look-up:  recent names (pool) → filter: surely new? → locality: a directory read lately? → redb
//! ```
//!
//! Promises:
//! * Names come in only with the containers they lie in, whole containers at a time, in one durable transaction.
//! * A name that is in the index is never called new by the filter.
//! * An entry that rotted is damage of the index, never a wrong place.
//!
//! It never decides which names may be admitted, and never reads a container. `docs/formats/index.md` owns the bytes.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::{ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::container::Class;
use crate::database::{Database, Settings};
use crate::error::{Damage, Environment, Result, io_error};
use crate::id::{ContainerId, StoreId};
use crate::media::Media;
use crate::media::answers::unreadable;
use crate::name::{Kind, Name};

pub use filter::Filter;

/// Which names are surely new.
pub mod filter;
mod format;
/// Directories that were read lately.
pub mod locality;

/// The database's file.
pub const INDEX_FILE: &str = "index.redb";
/// The saved filter's file.
pub const FILTER_FILE: &str = "index.filter";
/// Says that the index was found damaged while in use: the next opening builds it anew, also where it is too large to be
/// verified whole each time.
const SUSPECT_FILE: &str = "index.suspect";
const FILTER_TEMPORARY: &str = "index.filter.new";

const NAMES: TableDefinition<&[u8; 32], &[u8; format::LOCATION_BYTES]> = TableDefinition::new("names");
const CONTAINERS: TableDefinition<u64, &[u8; format::RECORD_BYTES]> = TableDefinition::new("containers");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

pub use format::CONTAINER_ID_MAX;

/// Where an object lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// In which container.
    pub container: ContainerId,
    /// Where its slot header begins.
    pub offset: u32,
    /// Length of its payload.
    pub stored_len: u32,
    /// What it is.
    pub kind: Kind,
}

/// What the index knows about a container whose names it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub class: Class,
    /// Every slot is admitted, and the index points to this very container for it.
    pub complete: bool,
    /// How many slots it has.
    pub slots: u32,
    /// Sum of the objects' lengths.
    pub raw_bytes: u64,
    /// Sum of the payloads' lengths.
    pub stored_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
}

/// How much memory the index may use.
#[derive(Clone, Copy, Debug)]
pub struct IndexOptions {
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// Size of the filter, in bits for each name.
    pub filter_bits_per_name: usize,
    /// The filter never grows beyond this, in bytes.
    pub filter_bytes_max: usize,
    /// An index of at most so many bytes is verified whole on opening.
    pub verify_bytes_max: u64,
}

/// The index of one store.
pub struct Index {
    database: Database,
    media: Arc<dyn Media>,
    store: StoreId,
    filter: Filter,
    names: AtomicU64,
    generation: AtomicU64,
    scans: AtomicU64,
}

/// What an index says about itself on opening.
struct Meta {
    fits: bool,
    next_container: u64,
    generation: u64,
    names: u64,
}

impl Index {
    /// Opens the index, creating it where there is none. Damage, or an index of another store or version, is an error:
    /// the caller removes it ([`Index::remove`]) and rebuilds. Returns the next container id that was never used.
    pub fn open(
        media: Arc<dyn Media>,
        store: StoreId,
        realm: &[u8; 16],
        options: &IndexOptions,
    ) -> Result<(Index, u64)> {
        if Database::exists(media.as_ref(), SUSPECT_FILE)? {
            return Err(Damage::new(
                INDEX_FILE,
                0,
                "a sound index",
                "one that was damaged, or failed to sync, while in use",
            )
            .into());
        }
        let created = !Database::exists(media.as_ref(), INDEX_FILE)?;
        let verify = !created && file_bytes(media.as_ref())? <= options.verify_bytes_max;
        let settings = Settings { cache_bytes: options.cache_bytes, verify, quick_repair: true, is_cache: true };
        let database = Database::open(media.clone(), INDEX_FILE, settings)?;
        let filter = Filter::new(options.filter_bits_per_name, options.filter_bytes_max);
        let index = Index {
            database,
            media,
            store,
            filter,
            names: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            scans: AtomicU64::new(0),
        };
        // A power cut may come between the creation of a database and that of its tables.
        if index.database.read(|transaction| Ok(transaction.list_tables()?.next().is_none()))? {
            // Before anything else: the filter of an index that is gone must not be taken for that of a new one.
            remove(index.media.as_ref(), FILTER_FILE)?;
            index.create_tables(realm)?;
        }
        let meta = index.read_meta(realm)?;
        if !meta.fits {
            let found = "one of another store, realm or version";
            return Err(Damage::new(INDEX_FILE, 0, "the index of this store", found).into());
        }
        index.names.store(meta.names, Ordering::Relaxed);
        index.generation.store(meta.generation, Ordering::Relaxed);
        index.load_filter()?;
        Ok((index, meta.next_container))
    }

    /// Removes the index, so that the next [`Index::open`] creates an empty one.
    pub fn remove(media: &dyn Media) -> Result<()> {
        remove(media, FILTER_FILE)?;
        remove(media, INDEX_FILE)?;
        remove(media, SUSPECT_FILE)
    }

    fn create_tables(&self, realm: &[u8; 16]) -> Result<()> {
        self.database.write(|transaction| {
            transaction.open_table(NAMES)?;
            transaction.open_table(CONTAINERS)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("header", format::encode_header(self.store, realm).as_slice())?;
            Ok(())
        })
    }

    fn read_meta(&self, realm: &[u8; 16]) -> Result<Meta> {
        self.database.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let number = |key: &str| -> Result<u64, redb::Error> {
                let bytes = meta.get(key)?.and_then(|bytes| bytes.value().try_into().ok());
                Ok(u64::from_le_bytes(bytes.unwrap_or_default()))
            };
            let header = meta.get("header")?;
            Ok(Meta {
                fits: header.is_some_and(|header| format::header_fits(header.value(), self.store, realm)),
                next_container: number("next container")?,
                generation: number("generation")?,
                names: transaction.open_table(NAMES)?.len()?,
            })
        })
    }

    /// How many names are in the index.
    pub fn len(&self) -> u64 {
        self.names.load(Ordering::Relaxed)
    }
    /// True where no name is in the index.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Length of the index on disk, in bytes.
    pub fn file_bytes(&self) -> Result<u64> {
        file_bytes(self.media.as_ref())
    }
    /// The filter over the names that are in the index.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Where objects lie, by looking into the database, whatever the filter says.
    pub fn probe(&self, names: &[Name]) -> Result<Vec<Option<Location>>> {
        self.noted(self.probe_all(names))
    }

    fn probe_all(&self, names: &[Name]) -> Result<Vec<Option<Location>>> {
        let mut rotten = None;
        let found = self.database.read(|transaction| {
            let table = transaction.open_table(NAMES)?;
            let mut found = Vec::with_capacity(names.len());
            for name in names {
                let location = table.get(&name.0)?.map(|value| format::decode_location(name, value.value()));
                if location == Some(None) {
                    rotten = Some(*name);
                }
                found.push(location.flatten());
            }
            Ok(found)
        })?;
        match rotten {
            None => Ok(found),
            Some(name) => Err(rotten_entry(&name).into()),
        }
    }

    /// The first two names that begin with each of the prefixes, with their places, by looking into the database, whatever the
    /// filter says. Two are enough to see that a prefix is no name.
    pub fn probe_prefixes(&self, prefixes: &[u64]) -> Result<Vec<Vec<(Name, Location)>>> {
        let mut rotten = None;
        let found = self.database.read(|transaction| {
            let table = transaction.open_table(NAMES)?;
            let mut all = Vec::with_capacity(prefixes.len());
            for prefix in prefixes {
                let (mut low, mut high) = ([0; 32], [0xFF; 32]);
                low[..8].copy_from_slice(&prefix.to_le_bytes());
                high[..8].copy_from_slice(&prefix.to_le_bytes());
                let mut found = Vec::new();
                for entry in table.range::<&[u8; 32]>(&low..=&high)?.take(2) {
                    let (name, value) = entry?;
                    let name = Name(*name.value());
                    match format::decode_location(&name, value.value()) {
                        Some(location) => found.push((name, location)),
                        None => rotten = Some(name),
                    }
                }
                all.push(found);
            }
            Ok(all)
        });
        self.noted(match (found, rotten) {
            (Ok(_), Some(name)) => Err(rotten_entry(&name).into()),
            (found, _) => found,
        })
    }

    /// Puts containers with their names into the index, in one durable transaction. `names` must be sorted, and
    /// everything that the containers hold and refer to must be synced. A name that is there is moved.
    pub fn insert(
        &self,
        containers: &[(ContainerId, Record)],
        names: &[(Name, Location)],
        next_container: u64,
    ) -> Result<()> {
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let written = self.database.write(|transaction| {
            let mut table = transaction.open_table(NAMES)?;
            for (name, location) in names {
                table.insert(&name.0, &format::encode_location(name, location))?;
            }
            let mut records = transaction.open_table(CONTAINERS)?;
            for (id, record) in containers {
                records.insert(id.0, &format::encode_record(record))?;
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert("next container", next_container.to_le_bytes().as_slice())?;
            meta.insert("generation", generation.to_le_bytes().as_slice())?;
            Ok(table.len()?)
        });
        let len = self.noted(written)?;
        self.names.store(len, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        for part in self.filter.insert(names.iter().map(|(name, _)| *name)) {
            self.fill_filter(part)?;
        }
        Ok(())
    }

    /// Takes names out that still lead to these places, notes `records` of containers anew, and forgets the containers `gone`, in
    /// one durable transaction. `names` must be sorted. Returns how many names went.
    pub fn remove_names(
        &self,
        names: &[(Name, Location)],
        records: &[(ContainerId, Record)],
        gone: &[ContainerId],
        next_container: u64,
    ) -> Result<u64> {
        let generation = self.generation.load(Ordering::Relaxed) + 1;
        let written = self.database.write(|transaction| {
            let mut table = transaction.open_table(NAMES)?;
            let mut removed = 0;
            for (name, location) in names {
                let leads_there = table
                    .get(&name.0)?
                    .is_some_and(|value| format::decode_location(name, value.value()) == Some(*location));
                if leads_there {
                    table.remove(&name.0)?;
                    removed += 1;
                }
            }
            let mut kept = transaction.open_table(CONTAINERS)?;
            for (id, record) in records {
                kept.insert(id.0, &format::encode_record(record))?;
            }
            for id in gone {
                kept.remove(id.0)?;
            }
            let mut meta = transaction.open_table(META)?;
            // The numbers of what is gone are never given out again.
            meta.insert("next container", next_container.to_le_bytes().as_slice())?;
            meta.insert("generation", generation.to_le_bytes().as_slice())?;
            Ok((removed, table.len()?))
        });
        let (removed, len) = self.noted(written)?;
        self.names.store(len, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        Ok(removed)
    }

    /// The containers whose names are in the index.
    pub fn containers(&self) -> Result<BTreeMap<ContainerId, Record>> {
        let mut rotten = None;
        let containers = self.database.read(|transaction| {
            let mut containers = BTreeMap::new();
            for entry in transaction.open_table(CONTAINERS)?.iter()? {
                let (id, record) = entry?;
                match format::decode_record(record.value()) {
                    Some(record) => drop(containers.insert(ContainerId(id.value()), record)),
                    None => rotten = Some(id.value()),
                }
            }
            Ok(containers)
        })?;
        match rotten {
            None => Ok(containers),
            Some(id) => {
                Err(Damage::new(INDEX_FILE, 0, format!("a sound record of container {id:016x}"), "none").into())
            }
        }
    }

    /// Visits every name whose first byte is `first`, in order. `None` as location marks an entry that rotted.
    pub fn scan(&self, first: u8, mut visit: impl FnMut(&Name, Option<Location>)) -> Result<()> {
        let (mut low, mut high) = ([0; 32], [0xFF; 32]);
        (low[0], high[0]) = (first, first);
        self.scans.fetch_add(1, Ordering::Relaxed);
        let read = self.database.read(|transaction| {
            for entry in transaction.open_table(NAMES)?.range::<&[u8; 32]>(&low..=&high)? {
                let (name, value) = entry?;
                let name = Name(*name.value());
                visit(&name, format::decode_location(&name, value.value()));
            }
            Ok(())
        });
        self.noted(read)
    }

    /// How many 256ths of it were visited since it was opened.
    pub fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    /// Remembers damage beyond this process, as well as the disk allows.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        let result = unreadable(self.media.as_ref(), result);
        // After a failed sync, pages that were written may be gone while later ones are there.
        if let Err(crate::Error::Damage(_) | crate::Error::Environment(Environment::Poisoned(_))) = &result {
            self.suspect();
        }
        result
    }

    /// Has the next opening build the index anew: it lacks what it should have, or is otherwise not to be believed.
    pub fn suspect(&self) {
        if self.media.create(SUSPECT_FILE).is_ok() {
            let _ = self.media.sync_dir("");
        }
    }

    /// Reads and verifies every page of the database.
    pub fn check(&self) -> Result<bool> {
        self.database.check()
    }

    /// Fills the next cold part of the filter. False where none was cold.
    pub fn warm_filter(&self) -> Result<bool> {
        match self.filter.cold() {
            None => Ok(false),
            Some(part) => self.fill_filter(part).map(|()| true),
        }
    }

    fn fill_filter(&self, part: usize) -> Result<()> {
        let expected = self.filter.names(part).max((self.len() / filter::PARTS as u64) as usize);
        self.filter.fill(part, expected, |visit| self.scan(part as u8, |name, _| visit(name)))
    }

    /// Saves the filter beside the index, for the next opening. Nothing is saved while a part is cold.
    pub fn save_filter(&self) -> Result<()> {
        let Some(saved) = self.filter.save(self.store, self.generation.load(Ordering::Relaxed)) else { return Ok(()) };
        let io = |operation| move |error| io_error(operation, FILTER_FILE, error);
        if Database::exists(self.media.as_ref(), FILTER_TEMPORARY)? {
            self.media.remove(FILTER_TEMPORARY).map_err(io("remove"))?;
        }
        let file = self.media.create(FILTER_TEMPORARY).map_err(io("create"))?;
        file.write_at(&[IoSlice::new(&saved)], 0).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        self.media.rename(FILTER_TEMPORARY, FILTER_FILE).map_err(io("rename"))?;
        self.media.sync_dir("").map_err(io("sync folder of"))
    }

    /// Takes over the saved filter. It is used only once: the next one to be saved is another.
    fn load_filter(&self) -> Result<()> {
        self.read_filter()?;
        remove(self.media.as_ref(), FILTER_FILE)
    }

    fn read_filter(&self) -> Result<()> {
        if !Database::exists(self.media.as_ref(), FILTER_FILE)? {
            return Ok(());
        }
        let io = |operation| move |error| io_error(operation, FILTER_FILE, error);
        let file = self.media.open(FILTER_FILE).map_err(io("open"))?;
        let len = file.len().map_err(io("measure"))?;
        // Far more than any sound filter of so many names: not worth reading.
        if len > 64 * self.len() + (1 << 20) {
            return Ok(());
        }
        let mut bytes = vec![0; len as usize];
        let got = file.read_at(&mut bytes, 0).map_err(io("read"))?;
        bytes.truncate(got);
        self.filter.load(&Bytes::from(bytes), self.store, self.generation.load(Ordering::Relaxed));
        Ok(())
    }
}

/// Removes a file for good, where it is there.
fn remove(media: &dyn Media, file: &str) -> Result<()> {
    if Database::exists(media, file)? {
        media.remove(file).map_err(|error| io_error("remove", file, error))?;
        media.sync_dir("").map_err(|error| io_error("sync", "", error))?;
    }
    Ok(())
}

fn rotten_entry(name: &Name) -> Damage {
    Damage::new(INDEX_FILE, 0, format!("a sound entry for {name}"), "one whose checksum is wrong")
}

fn file_bytes(media: &dyn Media) -> Result<u64> {
    let file = media.open(INDEX_FILE).map_err(|error| io_error("open", INDEX_FILE, error))?;
    file.len().map_err(|error| io_error("measure", INDEX_FILE, error))
}
