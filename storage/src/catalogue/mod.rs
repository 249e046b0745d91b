//! Stage 7b: the small truth. Which datasets there are, where their heads are, snapshots, peers and settings.
//!
//! All of it is in memory, so reading costs nothing and cannot fail; changes go into a redb database first, durably.
//! What the store journals of changes, and the images written here before the journal is trimmed, suffice to build the
//! database again: it can be lost.
//!
//! `docs/formats/catalogue.md` owns the bytes.

mod applied;
mod deleted;
mod image;
mod locks;
mod moments;
mod past;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition};

use crate::database::{Database, Settings};
use crate::dataset::CallTag;
use crate::error::{Damage, Error, Result, io_error};
use crate::id::{DatasetId, SnapshotId, StoreId};
use crate::media::Media;
use crate::media::answers::unreadable;
use crate::units::{Inode, Lsn};

pub use deleted::{Deleted, DeletedBy};
pub use locks::Lock;
pub use moments::{Checkpoint, Mark, Window};
pub use past::{History, HistoryFile, Step};
use rows::{CHECKPOINTS, DELETED_DATASET, DELETED_SNAPSHOT, HISTORY, LOCK, MARK, Row, RowKey, STEPS, WINDOW};
pub use rows::{Change, DatasetKind, DatasetRow, Head, Policy, Sealed, SnapshotRow, decode_changes, encode_changes};

const FILE: &str = "catalogue.redb";
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// redb's cache: the catalogue is read once and kept in memory, so it needs little.
const CACHE_BYTES: usize = 4 << 20;

/// All rows, decoded.
#[derive(Default)]
struct Contents {
    raw: BTreeMap<Bytes, Bytes>,
    datasets: BTreeMap<DatasetId, DatasetRow>,
    heads: BTreeMap<DatasetId, Head>,
    snapshots: BTreeMap<SnapshotId, SnapshotRow>,
    peers: BTreeMap<String, Bytes>,
    settings: BTreeMap<String, Bytes>,
    calls: BTreeMap<DatasetId, Vec<(CallTag, Inode)>>,
    windows: BTreeMap<DatasetId, Window>,
    checkpoints: BTreeMap<DatasetId, Vec<Checkpoint>>,
    marks: BTreeMap<(DatasetId, String), Mark>,
    histories: BTreeMap<DatasetId, History>,
    steps: BTreeMap<DatasetId, Vec<Step>>,
    locks: BTreeMap<SnapshotId, Lock>,
    deleted_datasets: BTreeMap<DatasetId, Deleted>,
    deleted_snapshots: BTreeMap<SnapshotId, Deleted>,
}

/// The catalogue of one store.
pub struct Catalogue {
    media: Arc<dyn Media>,
    store: StoreId,
    database: Database,
    /// Changes that are in the journal and in `contents`, and for which the database had no room yet. The lock also
    /// makes writers take turns.
    owed: Mutex<Vec<Change>>,
    contents: RwLock<Contents>,
}

/// How the catalogue was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogueReport {
    /// The database was lost or damaged and was built again from this image; the journal's records behind that LSN are
    /// still to be applied. The text says what was wrong.
    pub rebuilt: Option<(Lsn, String)>,
}

impl Catalogue {
    /// Opens the catalogue, or makes an empty one where the store is `new`. A database that is lost or damaged, or in an older state
    /// than the newest sound image, is built again from that.
    pub fn open(media: Arc<dyn Media>, store: StoreId, new: bool) -> Result<(Catalogue, CatalogueReport)> {
        media.create_dir_all(image::FOLDER).map_err(|error| io_error("create", image::FOLDER, error))?;
        let names = media.list("").map_err(|error| io_error("list", "", error))?;
        let opened = match names.iter().any(|name| name == FILE) || new {
            true => open_rows(&media).and_then(|(database, contents)| {
                // Images that can't be read are only missed with the database.
                let image = image::newest(&*media, store).ok().flatten().map_or(Lsn(0), |(lsn, _)| lsn);
                contents.expect_newer_than(image).map(|()| (database, contents))
            }),
            false => Err(Damage::new(FILE, 0, "the catalogue", "no file").into()),
        };
        let (database, contents, report) = match unreadable(&*media, opened) {
            Ok((database, contents)) => (database, contents, CatalogueReport::default()),
            Err(Error::Damage(damage)) => rebuild(&media, store, damage)?,
            Err(error) => return Err(error),
        };
        let catalogue = Catalogue { media, store, database, owed: Mutex::default(), contents: RwLock::new(contents) };
        Ok((catalogue, report))
    }

    /// Makes changes, all of them or none, durable when it returns.
    pub fn apply(&self, changes: &[Change]) -> Result<()> {
        self.apply_sealing(changes, &[])
    }

    /// Makes changes and seals snapshots in one step. A snapshot that is gone meanwhile stays so, and one that is
    /// sealed stays as it is.
    pub fn apply_sealing(&self, changes: &[Change], seals: &[(SnapshotId, Sealed)]) -> Result<()> {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = changes.to_vec();
        for (id, sealed) in seals {
            if let Some(row) = self.any_snapshot(*id).filter(|row| row.sealed.is_none()) {
                changes.push(Change::snapshot(&SnapshotRow { sealed: Some(*sealed), ..row }));
            }
        }
        write_rows(&self.database, owed.iter().chain(&changes))?;
        owed.clear();
        self.show(&changes)
    }

    /// Gives back what rows that are gone have left in the file, where that is most of it.
    pub fn give_back_room(&self) -> Result<()> {
        // Whoever changes something waits.
        let _turn = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let row_bytes = |(key, value): (&Bytes, &Bytes)| (key.len() + value.len()) as u64;
        let kept = self.contents.read().unwrap_or_else(PoisonError::into_inner).raw.iter().map(row_bytes).sum();
        self.database.compact(kept).map(drop)
    }

    /// Makes changes that a stable record of the journal tells of already. They have happened, whatever becomes of the
    /// database: where it can't take them now (a full disk), it gets them with the next changes, or from the journal at
    /// the next start.
    pub fn apply_journaled(&self, changes: &[Change]) -> Result<()> {
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.extend_from_slice(changes);
        match write_rows(&self.database, owed.iter()) {
            Ok(()) => owed.clear(),
            Err(Error::Environment(_)) => {}
            Err(error) => return Err(error),
        }
        self.show(changes)
    }

    /// Why it takes no more changes, where that is so.
    pub fn stopped(&self) -> Option<String> {
        self.database.stopped()
    }

    fn show(&self, changes: &[Change]) -> Result<()> {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        changes.iter().try_for_each(|change| contents.apply(change))
    }

    /// Writes an image of all rows, as they are when the journal's last record has `lsn`, up to which it must have been
    /// [applied](Catalogue::applied). Older images but one go.
    pub fn write_image(&self, lsn: Lsn) -> Result<()> {
        let changes = self.read(|contents| {
            let rows = contents.raw.iter();
            rows.map(|(key, value)| Change { key: key.clone(), value: Some(value.clone()) }).collect::<Vec<_>>()
        });
        image::write(&*self.media, self.store, lsn, &changes)
    }

    fn read<T>(&self, look: impl FnOnce(&Contents) -> T) -> T {
        look(&self.contents.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All datasets that are there, in the order of their names.
    pub fn datasets(&self) -> Vec<DatasetRow> {
        let there = |contents: &Contents| {
            let rows = contents.datasets.values().filter(|row| contents.has_dataset(row.id));
            rows.cloned().collect::<Vec<_>>()
        };
        let mut rows = self.read(there);
        rows.sort_by(|a: &DatasetRow, b| a.name.cmp(&b.name));
        rows
    }

    /// A dataset by its id, if it is there.
    pub fn dataset(&self, id: DatasetId) -> Option<DatasetRow> {
        self.read(|contents| contents.datasets.get(&id).filter(|row| contents.has_dataset(row.id)).cloned())
    }

    /// A dataset by its name, if it is there.
    pub fn dataset_named(&self, name: &str) -> Option<DatasetRow> {
        let named = |contents: &Contents| {
            let mut rows = contents.datasets.values();
            rows.find(|row| row.name == name && contents.has_dataset(row.id)).cloned()
        };
        self.read(named)
    }

    /// A dataset's head; the empty one where it has none yet.
    pub fn head(&self, dataset: DatasetId) -> Head {
        self.read(|contents| contents.heads.get(&dataset).copied().unwrap_or_default())
    }

    /// Snapshots of one dataset, or of all, that are there, oldest first.
    pub fn snapshots(&self, dataset: Option<DatasetId>) -> Vec<SnapshotRow> {
        let wanted = |row: &SnapshotRow| dataset.is_none_or(|dataset| row.dataset == dataset);
        self.snapshots_where(|contents, row| wanted(row) && contents.has_snapshot(row))
    }

    /// A snapshot by its id, if it is there.
    pub fn snapshot(&self, id: SnapshotId) -> Option<SnapshotRow> {
        self.read(|contents| contents.snapshots.get(&id).filter(|row| contents.has_snapshot(row)).cloned())
    }

    /// All peers: name and record.
    pub fn peers(&self) -> Vec<(String, Bytes)> {
        self.read(|contents| contents.peers.iter().map(|(name, record)| (name.clone(), record.clone())).collect())
    }

    /// A setting.
    pub fn setting(&self, name: &str) -> Option<Bytes> {
        self.read(|contents| contents.settings.get(name).cloned())
    }

    /// Settings whose names begin with `prefix`, in the order of their names.
    pub fn settings(&self, prefix: &str) -> Vec<(String, Bytes)> {
        let begins = |(name, _): &(&String, &Bytes)| name.starts_with(prefix);
        let all = |contents: &Contents| {
            contents.settings.iter().filter(begins).map(|(name, value)| (name.clone(), value.clone())).collect()
        };
        self.read(all)
    }

    /// How long a dataset can be rewound, if it can.
    pub fn window(&self, dataset: DatasetId) -> Option<Window> {
        self.read(|contents| contents.windows.get(&dataset).copied())
    }

    /// The checkpoints of a dataset, oldest first.
    pub fn checkpoints(&self, dataset: DatasetId) -> Vec<Checkpoint> {
        self.read(|contents| contents.checkpoints.get(&dataset).cloned().unwrap_or_default())
    }

    /// What was split off the journal for a dataset.
    pub fn history(&self, dataset: DatasetId) -> Option<History> {
        self.read(|contents| contents.histories.get(&dataset).cloned())
    }

    /// What is kept of all datasets beside the journal.
    pub fn histories(&self) -> Vec<(DatasetId, History)> {
        self.read(|contents| contents.histories.iter().map(|(id, history)| (*id, history.clone())).collect())
    }

    /// What a dataset has in the journal, oldest first; `None` where nobody counted it.
    pub fn steps(&self, dataset: DatasetId) -> Option<Vec<Step>> {
        self.read(|contents| contents.steps.get(&dataset).cloned())
    }

    /// The lock of a snapshot, if it has one; it may be over.
    pub fn lock(&self, snapshot: SnapshotId) -> Option<Lock> {
        self.read(|contents| contents.locks.get(&snapshot).copied())
    }

    /// All locks, also those that are over.
    pub fn locks(&self) -> Vec<Lock> {
        self.read(|contents| contents.locks.values().copied().collect())
    }

    /// The marks of a dataset, oldest first.
    pub fn marks(&self, dataset: DatasetId) -> Vec<Mark> {
        let mine = |mark: &&Mark| mark.dataset == dataset;
        let mut marks: Vec<Mark> = self.read(|contents| contents.marks.values().filter(mine).cloned().collect());
        marks.sort_by_key(|mark| mark.lsn);
        marks
    }

    /// The remembered calls of a dataset, oldest first.
    pub fn calls(&self, dataset: DatasetId) -> Vec<(CallTag, Inode)> {
        self.read(|contents| contents.calls.get(&dataset).cloned().unwrap_or_default())
    }
}

impl Contents {
    fn apply(&mut self, change: &Change) -> Result<()> {
        let malformed = |error| Damage::new(FILE, 0, "a catalogue row", error);
        match change.row().map_err(malformed)? {
            Some(row) => self.set(row),
            None => self.unset(change.row_key().map_err(malformed)?),
        }
        match &change.value {
            Some(value) => self.raw.insert(change.key.clone(), value.clone()),
            None => self.raw.remove(&change.key),
        };
        Ok(())
    }

    fn set(&mut self, row: Row) {
        match row {
            Row::Dataset(row) => drop(self.datasets.insert(row.id, row)),
            Row::Head(id, head) => drop(self.heads.insert(id, head)),
            Row::Snapshot(row) => drop(self.snapshots.insert(row.id, row)),
            Row::Peer(name, record) => drop(self.peers.insert(name, record)),
            Row::Setting(name, value) => drop(self.settings.insert(name, value)),
            Row::Calls(id, calls) => drop(self.calls.insert(id, calls)),
            Row::Window(id, window) => drop(self.windows.insert(id, window)),
            Row::Checkpoints(id, checkpoints) => drop(self.checkpoints.insert(id, checkpoints)),
            Row::Mark(mark) => drop(self.marks.insert((mark.dataset, mark.label.clone()), mark)),
            Row::History(id, history) => drop(self.histories.insert(id, history)),
            Row::Steps(id, steps) => drop(self.steps.insert(id, steps)),
            Row::Lock(lock) => drop(self.locks.insert(lock.snapshot, lock)),
            Row::DeletedDataset(id, deleted) => drop(self.deleted_datasets.insert(id, deleted)),
            Row::DeletedSnapshot(id, deleted) => drop(self.deleted_snapshots.insert(id, deleted)),
            Row::Unknown => {}
        }
    }

    fn unset(&mut self, key: RowKey) {
        match key {
            RowKey::Dataset(id) => drop(self.datasets.remove(&id)),
            RowKey::Head(id) => drop(self.heads.remove(&id)),
            RowKey::Snapshot(id) => drop(self.snapshots.remove(&id)),
            RowKey::Peer(name) => drop(self.peers.remove(&name)),
            RowKey::Setting(name) => drop(self.settings.remove(&name)),
            RowKey::Calls(id) => drop(self.calls.remove(&id)),
            RowKey::Window(id) => drop(self.windows.remove(&id)),
            RowKey::Checkpoints(id) => drop(self.checkpoints.remove(&id)),
            RowKey::Mark(id, label) => drop(self.marks.remove(&(id, label))),
            RowKey::History(id) => drop(self.histories.remove(&id)),
            RowKey::Steps(id) => drop(self.steps.remove(&id)),
            RowKey::Lock(id) => drop(self.locks.remove(&id)),
            RowKey::DeletedDataset(id) => drop(self.deleted_datasets.remove(&id)),
            RowKey::DeletedSnapshot(id) => drop(self.deleted_snapshots.remove(&id)),
            RowKey::Unknown => {}
        }
    }
}

fn open_rows(media: &Arc<dyn Media>) -> Result<(Database, Contents)> {
    // It is small: every page is verified, so that what redb would trip over later is found now, while it can be mended.
    // And soon walked after a crash, so commits are lean.
    let settings = Settings { cache_bytes: CACHE_BYTES, verify: true, quick_repair: false, is_cache: false };
    let database = Database::open(Arc::clone(media), FILE, settings)?;
    let mut contents = Contents::default();
    let raw = database.read(|transaction| {
        let mut raw = Vec::new();
        let table = match transaction.open_table(ROWS) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(raw),
            table => table?,
        };
        for row in table.iter()? {
            let (key, value) = row?;
            raw.push((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())));
        }
        Ok(raw)
    })?;
    for (key, value) in raw {
        contents.apply(&Change { key, value: Some(value) })?;
    }
    Ok((database, contents))
}

fn write_rows<'a>(database: &Database, changes: impl Iterator<Item = &'a Change>) -> Result<()> {
    database.write(|transaction| {
        let mut table = transaction.open_table(ROWS)?;
        for change in changes {
            match &change.value {
                Some(value) => drop(table.insert(change.key.as_ref(), value.as_ref())?),
                None => drop(table.remove(change.key.as_ref())?),
            }
        }
        Ok(())
    })
}

/// Puts a new database in the place of a lost one, from the newest image.
fn rebuild(media: &Arc<dyn Media>, store: StoreId, damage: Damage) -> Result<(Database, Contents, CatalogueReport)> {
    let (lsn, changes) = image::newest(&**media, store)?.unwrap_or_default();
    let names = media.list("").map_err(|error| io_error("list", "", error))?;
    if names.iter().any(|name| name == FILE) {
        media.rename(FILE, "catalogue.redb.damaged").map_err(|error| io_error("set aside", FILE, error))?;
    }
    let (database, mut contents) = open_rows(media)?;
    write_rows(&database, changes.iter())?;
    changes.iter().try_for_each(|change| contents.apply(change))?;
    Ok((database, contents, CatalogueReport { rebuilt: Some((lsn, damage.to_string())) }))
}
