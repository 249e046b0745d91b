//! Lets a redb database live on any medium, so that index and catalogue meet the same simulated disk, the same faults
//! and the same counters as everything else.
//!
//! Growth takes room at once: a database that grew never meets a full disk in the middle of a write, only while it grows,
//! where nothing has been changed yet. Locks are not redb's business here: the medium holds the whole data folder.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::{Media, MediaFile, path};

/// Opens the database at `path`, or makes an empty one where there is none; its folder must exist.
///
/// redb's own creation of a file is not safe against a power cut (it can leave a file that it refuses to open), so an
/// empty database is made under another name, closed, and renamed. A half-made one from an earlier attempt is removed.
pub fn open_database(media: &dyn Media, path: &str, builder: &Builder) -> Result<Database, DatabaseError> {
    let storage = |error: io::Error| DatabaseError::Storage(StorageError::from(error));
    let (dir, _) = path::split(path).map_err(storage)?;
    let file = match media.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let new = format!("{path}.new");
            create_empty(media, &new, builder)?;
            media.rename(&new, path).and_then(|()| media.open(path))
        }
        file => file,
    };
    // Also for one that was there: a process may have been killed between the rename and this sync.
    let file = file.and_then(|file| media.sync_dir(dir).map(|()| file)).map_err(storage)?;
    builder.create_with_backend(RedbFile::new(file))
}

fn create_empty(media: &dyn Media, path: &str, builder: &Builder) -> Result<(), DatabaseError> {
    let storage = |error: io::Error| DatabaseError::Storage(StorageError::from(error));
    match media.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(storage(error)),
        _ => {}
    }
    let file = media.create(path).map_err(storage)?;
    drop(builder.create_with_backend(RedbFile::new(Arc::clone(&file)))?);
    file.sync().map_err(storage)
}

/// One file of a medium, as redb's storage.
pub struct RedbFile {
    file: Arc<dyn MediaFile>,
}

impl RedbFile {
    /// A database that lives in `file`, which is its alone.
    pub fn new(file: Arc<dyn MediaFile>) -> RedbFile {
        RedbFile { file }
    }
}

impl fmt::Debug for RedbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbFile").field("len", &self.file.len().ok()).finish()
    }
}

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let wanted = out.len();
        if self.file.read_at(out, offset)? < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.file.len()? { self.file.reserve(len) } else { self.file.set_len(len) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(data)], offset)
    }
}

#[cfg(test)]
mod tests {
    use redb::{ReadableDatabase, TableDefinition};

    use super::*;
    use crate::media::SimDisk;

    const TABLE: TableDefinition<u64, u64> = TableDefinition::new("t");
    const ROUNDS: u64 = 6;

    fn open(disk: &SimDisk) -> Result<Database, DatabaseError> {
        open_database(disk, "db", Builder::new().set_cache_size(1 << 20))
    }

    /// Commits rounds, each of which rewrites all keys; returns how many were acknowledged.
    fn work(disk: &SimDisk, from: u64) -> u64 {
        let round = |db: &Database, round: u64| -> Result<(), Box<dyn std::error::Error>> {
            let transaction = db.begin_write()?;
            let mut table = transaction.open_table(TABLE)?;
            for key in 0..200 {
                table.insert(key, round)?;
            }
            drop(table);
            Ok(transaction.commit()?)
        };
        let Ok(db) = open(disk) else { return from };
        let failed = (from..ROUNDS).find(|&done| round(&db, done + 1).is_err());
        failed.unwrap_or(ROUNDS)
    }

    /// The round that the database holds, which must be one whole round.
    fn found(disk: &SimDisk) -> u64 {
        let db = open(disk).unwrap();
        let transaction = db.begin_read().unwrap();
        let Ok(table) = transaction.open_table(TABLE) else { return 0 };
        let values: Vec<u64> = (0..200).filter_map(|key| Some(table.get(key).unwrap()?.value())).collect();
        assert!(values.len() == 200 && values.iter().all(|value| *value == values[0]), "a torn round");
        values[0]
    }

    #[test]
    fn a_database_survives_a_power_cut_at_every_sync() {
        let calm = SimDisk::new(0);
        assert_eq!(work(&calm, 0), ROUNDS);
        for n in 1..=calm.syncs() {
            let disk = SimDisk::new(n);
            disk.cut_power_at_sync(n);
            let acknowledged = work(&disk, 0);
            disk.power_on();
            let held = found(&disk);
            assert!(held == acknowledged || held == acknowledged + 1, "sync {n}: {acknowledged} said, {held} held");
            assert_eq!(work(&disk, held), ROUNDS, "sync {n}");
            assert_eq!(found(&disk), ROUNDS, "sync {n}");
        }
    }

    #[test]
    fn a_full_disk_refuses_growth_and_harms_nothing() {
        let disk = SimDisk::new(1);
        assert_eq!(work(&disk, 0), ROUNDS);
        disk.fill(0);
        let db = open(&disk).unwrap();
        let transaction = db.begin_write().unwrap();
        let mut table = transaction.open_table(TABLE).unwrap();
        let full = (0..1_000_000u64).any(|key| table.insert(key, 77).is_err());
        drop(table);
        assert!(full || transaction.commit().is_err());
        drop(db);
        assert_eq!(found(&disk), ROUNDS);
    }
}
