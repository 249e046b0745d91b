//! Stage 6: finding. Which container an object lies in; a cache that can be rebuilt from containers at any time.
//!
//! ```text
//! look-up:  recent names (pool) → filter: surely new? → locality: a directory read lately? → redb → sorted files
//! ```
//!
//! New names go into redb, where each change costs a page. Once there are more than some millions, a part of them at a time (those with the
//! same first byte) moves into a *sorted file* (`sorted.rs`, `moves.rs`). So what a name costs does not grow with the index: redb stays
//! small, and files are written and merged in order.
//!
//! Promises:
//! * Names come in only with the containers they lie in, whole containers at a time, in one durable transaction.
//! * A name that is in the index is never called new by the filter.
//! * An entry that rotted is damage of the index, never a wrong place.
//!
//! It never decides which names may be admitted, and never reads a container. `docs/formats/index.md` owns the bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::container::Class;
use crate::container::format::Slot;
use crate::database::{Database, Settings};
use crate::error::{Damage, Environment, Result, io_error};
use crate::id::{ContainerId, StoreId};
use crate::media::Media;
use crate::media::answers::unreadable;
use crate::name::{Kind, Name};

pub use filter::Filter;

use sorted::SortedFile;

mod change;
/// Which names are surely new.
pub mod filter;
mod filter_file;
mod format;
/// Directories that were read lately.
pub mod locality;
mod look_up;
mod moves;
mod sorted;
#[cfg(test)]
mod tests;

pub use sorted::SORTED_DIR;

/// The database's file.
pub const INDEX_FILE: &str = "index.redb";
/// The saved filter's file.
pub const FILTER_FILE: &str = "index.filter";
/// Says that the index was found damaged while in use: the next opening builds it anew, also where it is too large to be
/// verified whole each time.
const SUSPECT_FILE: &str = "index.suspect";

const NAMES: TableDefinition<&[u8; 32], &[u8; format::LOCATION_BYTES]> = TableDefinition::new("names");
const CONTAINERS: TableDefinition<u64, &[u8; format::RECORD_BYTES]> = TableDefinition::new("containers");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const SORTED: TableDefinition<u64, &[u8; format::SORTED_BYTES]> = TableDefinition::new("sorted files");

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

impl Location {
    /// Where the object of a slot lies that `container` has.
    pub fn of(container: ContainerId, slot: &Slot) -> Location {
        Location { container, offset: slot.offset, stored_len: slot.stored_len, kind: slot.kind }
    }
}

/// What the index knows about a container whose names it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub class: Class,
    /// Every slot is admitted, and the index points to this very container for it.
    pub complete: bool,
    /// It is dense, or was found to gain nothing by that.
    pub dense: bool,
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
    /// So many names stay in the database; what is more moves into sorted files.
    pub fresh_max: u64,
}

/// The index of one store.
pub struct Index {
    database: Database,
    media: Arc<dyn Media>,
    store: StoreId,
    realm: [u8; 16],
    filter: Filter,
    files: RwLock<Arc<Files>>,
    /// Held by whoever changes anything.
    writing: Mutex<()>,
    names: AtomicU64,
    /// Rows in the database.
    fresh: AtomicU64,
    fresh_max: u64,
    next_file: AtomicU64,
    /// The part that moves next.
    next_part: AtomicU8,
    generation: AtomicU64,
    scans: AtomicU64,
}

/// The sorted files, by part, the oldest first. What a younger one says of a name counts, and what the database says before all.
///
/// Whoever looks a name up asks the database first and takes these after that: what moved meanwhile is found here then.
#[derive(Clone)]
struct Files(Vec<Vec<Arc<SortedFile>>>);

impl Files {
    fn of(&self, name: &Name) -> &[Arc<SortedFile>] {
        &self.0[usize::from(name.0[0])]
    }
    fn all(&self) -> impl Iterator<Item = &Arc<SortedFile>> {
        self.0.iter().flatten()
    }
}

/// What an index says about itself on opening.
struct Meta {
    fits: bool,
    next_container: u64,
    next_file: u64,
    generation: u64,
    names: u64,
    fresh: u64,
    files: Vec<(u64, u8, u64)>,
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
            realm: *realm,
            filter,
            files: RwLock::new(Arc::new(Files(vec![Vec::new(); filter::PARTS]))),
            writing: Mutex::new(()),
            names: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            fresh_max: options.fresh_max,
            next_file: AtomicU64::new(0),
            next_part: AtomicU8::new(0),
            generation: AtomicU64::new(0),
            scans: AtomicU64::new(0),
        };
        // A power cut may come between the creation of a database and that of its tables.
        if index.database.read(|transaction| Ok(transaction.list_tables()?.next().is_none()))? {
            // Before anything else: the filter of an index that is gone must not be taken for that of a new one.
            remove(index.media.as_ref(), FILTER_FILE)?;
            index.create_tables()?;
        }
        let meta = index.read_meta()?;
        if !meta.fits {
            let found = "one of another store, realm or version";
            return Err(Damage::new(INDEX_FILE, 0, "the index of this store", found).into());
        }
        index.names.store(meta.names, Ordering::Relaxed);
        index.fresh.store(meta.fresh, Ordering::Relaxed);
        index.generation.store(meta.generation, Ordering::Relaxed);
        index.find_files(&meta)?;
        if verify && index.file_bytes()? <= options.verify_bytes_max {
            index.files().all().try_for_each(|file| file.check())?;
        }
        index.load_filter()?;
        Ok((index, meta.next_container))
    }

    /// Removes the index, so that the next [`Index::open`] creates an empty one.
    pub fn remove(media: &dyn Media) -> Result<()> {
        remove(media, FILTER_FILE)?;
        remove(media, INDEX_FILE)?;
        // Sorted files that no database tells of go with the next opening.
        remove(media, SUSPECT_FILE)
    }

    /// Takes the sorted files over that the database tells of, and removes all others: a crash left them, or an index that is gone.
    fn find_files(&self, meta: &Meta) -> Result<()> {
        let known: BTreeMap<_, _> = meta.files.iter().map(|file| (sorted::path(file.0), file)).collect();
        let mut there = 0;
        // Of a folder that can't be read nothing is there.
        for name in self.media.list(SORTED_DIR).unwrap_or_default() {
            let path = format!("{SORTED_DIR}/{name}");
            match known.contains_key(&path) {
                true => there += 1,
                // That one can't be removed harms nobody.
                false => drop(self.media.remove(&path)),
            }
        }
        if there < known.len() {
            let expected = format!("{} sorted files", known.len());
            return Err(Damage::new(SORTED_DIR, 0, expected, format!("{there} of them")).into());
        }
        let mut files = Files(vec![Vec::new(); filter::PARTS]);
        for (id, part, rows) in &meta.files {
            let file = SortedFile::new(self.media.clone(), self.store, *id, *part, *rows);
            files.0[usize::from(*part)].push(Arc::new(file));
        }
        self.set_files(files);
        self.next_file.store(meta.next_file, Ordering::Relaxed);
        Ok(())
    }

    fn files(&self) -> Arc<Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn set_files(&self, files: Files) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    fn create_tables(&self) -> Result<()> {
        self.database.write(|transaction| {
            transaction.open_table(NAMES)?;
            transaction.open_table(CONTAINERS)?;
            let mut meta = transaction.open_table(META)?;
            meta.insert("header", format::encode_header(self.store, &self.realm, false).as_slice())?;
            Ok(())
        })
    }

    fn read_meta(&self) -> Result<Meta> {
        self.database.read(|transaction| {
            let meta = transaction.open_table(META)?;
            let number = |key: &str| -> Result<Option<u64>, redb::Error> {
                let bytes = meta.get(key)?.and_then(|bytes| bytes.value().try_into().ok());
                Ok(bytes.map(u64::from_le_bytes))
            };
            let header = meta.get("header")?;
            let fresh = transaction.open_table(NAMES)?.len()?;
            let files = read_files(transaction)?;
            Ok(Meta {
                fits: header.is_some_and(|header| format::header_fits(header.value(), self.store, &self.realm)),
                next_container: number("next container")?.unwrap_or_default(),
                next_file: number("next sorted file")?.unwrap_or_default(),
                generation: number("generation")?.unwrap_or_default(),
                // An index without sorted files has no more names than rows.
                names: if files.is_empty() { fresh } else { number("names")?.unwrap_or_default() },
                fresh,
                files,
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
        Ok(file_bytes(self.media.as_ref())? + self.sorted_bytes())
    }
    /// Length of its sorted files, in bytes. Asks no disk.
    pub fn sorted_bytes(&self) -> u64 {
        self.files().all().map(|file| file.bytes()).sum()
    }
    /// The filter over the names that are in the index.
    pub fn filter(&self) -> &Filter {
        &self.filter
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

    /// How many 256ths of it were visited since it was opened.
    pub fn scans(&self) -> u64 {
        self.scans.load(Ordering::Relaxed)
    }

    /// Remembers damage beyond this process, as well as the disk allows.
    fn noted<T>(&self, result: Result<T>) -> Result<T> {
        let result = unreadable(self.media.as_ref(), result);
        // After a failed sync, pages that were written may be gone while later ones are there.
        match &result {
            Err(crate::Error::Damage(_)) => self.suspect(),
            Err(crate::Error::Environment(Environment::Poisoned(_))) if self.database.stopped().is_some() => {
                self.suspect()
            }
            _ => {}
        }
        result
    }

    /// Has the next opening build the index anew: it lacks what it should have, or is otherwise not to be believed.
    pub fn suspect(&self) {
        if self.media.create(SUSPECT_FILE).is_ok() {
            let _ = self.media.sync_dir("");
        }
    }

    /// Reads and verifies every page of the database and of the sorted files. False where the database had to be repaired.
    pub fn check(&self) -> Result<bool> {
        let sound = self.noted(self.database.check())?;
        self.noted(self.files().all().try_for_each(|file| file.check()))?;
        Ok(sound)
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

/// Number, part and rows of each sorted file, by number.
fn read_files(transaction: &ReadTransaction) -> Result<Vec<(u64, u8, u64)>, redb::Error> {
    let table = match transaction.open_table(SORTED) {
        // It comes with the first of them.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut files = Vec::new();
    for entry in table.iter()? {
        let (id, value) = entry?;
        let (part, rows) = format::decode_sorted(id.value(), value.value())
            .ok_or_else(|| redb::Error::Corrupted(format!("the row of sorted file {:016x}", id.value())))?;
        files.push((id.value(), part, rows));
    }
    Ok(files)
}

fn rotten_entry(name: &Name) -> Damage {
    Damage::new(INDEX_FILE, 0, format!("a sound entry for {name}"), "one whose checksum is wrong")
}

fn file_bytes(media: &dyn Media) -> Result<u64> {
    let file = media.open(INDEX_FILE).map_err(|error| io_error("open", INDEX_FILE, error))?;
    file.len().map_err(|error| io_error("measure", INDEX_FILE, error))
}
