//! redb behind a fence. Index and catalogue are databases of their own; this is what both need of redb.
//!
//! Three things are added:
//! * Errors come out in this crate's families: damage, environment, poisoned.
//! * redb may panic on a damaged file. Such a panic ends here, as [`Damage`].
//! * redb refuses everything, reads too, once an I/O operation failed. The database is then opened again, so that
//!   reading goes on. After a failed *sync* nothing is written any more: what the system said was written may be gone.
//!   Only a cache is read on then.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Builder, ReadTransaction, WriteTransaction};

use crate::error::{Damage, Environment, Result, io_error};
use crate::media::redb::{RedbFile, open_database};
use crate::media::{Media, MediaFile};

/// A file is worth compacting from so many bytes on,
const LOOSE_BYTES: u64 = 4 << 20;
/// and where it is so many times as large as its rows.
const LOOSE_TIMES: u64 = 4;

/// How a database is opened and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Memory for its pages.
    pub cache_bytes: usize,
    /// Reads and checks every page on opening.
    pub verify: bool,
    /// Commits with a little more work, so that opening after a crash need not walk the whole database.
    pub quick_repair: bool,
    /// What is in it can be built anew from elsewhere. Then it is opened again after a failed sync, too, so that reading
    /// goes on. redb writes when it opens; over pages that the failed sync lost this can cost the commits before, which
    /// nothing that is the only truth may risk.
    pub is_cache: bool,
}

/// One redb database in the data folder.
pub(crate) struct Database {
    media: Arc<dyn Media>,
    path: &'static str,
    settings: Settings,
    sync_failed: Arc<AtomicBool>,
    /// What failed last was a read. redb does not tell.
    read_failed: Arc<AtomicBool>,
    live: RwLock<Option<redb::Database>>,
}

impl Database {
    /// Opens the database, creating it where it does not exist.
    pub fn open(media: Arc<dyn Media>, path: &'static str, settings: Settings) -> Result<Database> {
        let sync_failed = Arc::new(AtomicBool::new(false));
        let read_failed = Arc::default();
        let database = Database { media, path, settings, sync_failed, read_failed, live: RwLock::new(None) };
        let live = database.open_live(settings.verify)?;
        *database.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
        Ok(database)
    }

    /// True where a database file is there.
    pub fn exists(media: &dyn Media, path: &str) -> Result<bool> {
        Ok(media.list("").map_err(|error| io_error("list", "", error))?.iter().any(|name| name == path))
    }

    fn open_live(&self, verify: bool) -> Result<redb::Database> {
        let builder = || {
            let mut builder = Builder::new();
            builder.set_cache_size(self.settings.cache_bytes).set_check_integrity_on_open(verify);
            builder
        };
        if !Database::exists(self.media.as_ref(), self.path)? {
            self.fence(|| Ok(open_database(self.media.as_ref(), self.path, &builder())?)).map(drop)?;
        }
        let file = self.media.open(self.path).map_err(|error| io_error("open", self.path, error))?;
        // redb would make a new database of it, and nobody would hear that the old one is gone.
        if file.is_empty().map_err(|error| io_error("measure", self.path, error))? {
            return Err(Damage::new(self.path, 0, "a database", "an empty file").into());
        }
        // Also for one that was there: a process may have been killed between its creation and this sync.
        self.media.sync_dir("").map_err(|error| io_error("sync", "", error))?;
        let watched =
            Arc::new(Watched { file, sync_failed: self.sync_failed.clone(), read_failed: self.read_failed.clone() });
        self.fence(|| Ok(builder().create_with_backend(RedbFile::new(watched))?))
    }

    /// Opens it again where that failed before: a disk that was gone may be back.
    fn revive(&self) {
        if self.live.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.reopen();
        }
    }

    /// Runs `work` on a consistent state.
    pub fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T> {
        self.revive();
        let result = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = live.as_ref() else { return Err(self.unusable()) };
            self.fence(|| work(&redb::ReadableDatabase::begin_read(database)?))
        };
        if result.is_err() {
            self.reopen();
        }
        result
    }

    /// Runs `work` as one transaction: all of it is durable when this returns `Ok`, nothing of it happened otherwise
    /// (but after a failed sync, when [`Environment::Poisoned`] says that nobody knows).
    pub fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>) -> Result<T> {
        self.check_poison()?;
        self.revive();
        let result = {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = live.as_ref() else { return Err(self.unusable()) };
            self.fence(|| {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(self.settings.quick_repair);
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            })
        };
        if result.is_err() {
            self.reopen();
            self.check_poison()?;
        }
        result
    }

    /// Why nothing is written any more, where that is so.
    pub fn stopped(&self) -> Option<String> {
        self.sync_failed.load(Ordering::Acquire).then(|| format!("sync of {} failed", self.path))
    }

    /// Refused after a failed sync.
    fn check_poison(&self) -> Result<()> {
        self.stopped().map_or(Ok(()), |why| Err(Environment::Poisoned(why).into()))
    }

    /// Reads and checks every page. `Ok(false)` where something had to be repaired.
    pub fn check(&self) -> Result<bool> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = live.as_mut() else { return Err(self.unusable()) };
        self.fence(|| Ok(database.check_integrity()?))
    }

    /// Makes the file as small as what it holds needs, where it is much larger than the `kept` bytes of its rows. All of them are moved: for
    /// databases that are small, and at rest. True where it was done.
    pub fn compact(&self, kept: u64) -> Result<bool> {
        self.check_poison()?;
        self.revive();
        let file = self.media.open(self.path).map_err(|error| io_error("open", self.path, error))?;
        let bytes = || file.len().map_err(|error| io_error("measure", self.path, error));
        if bytes()? < LOOSE_BYTES.max(kept.saturating_mul(LOOSE_TIMES)) {
            return Ok(false);
        }
        let result = {
            let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
            let Some(database) = live.as_mut() else { return Err(self.unusable()) };
            self.fence(|| Ok(database.compact()?))
        };
        if result.is_err() {
            self.reopen();
            self.check_poison()?;
        }
        result
    }

    /// Starts over from the file after a failed operation, so that reading goes on.
    fn reopen(&self) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        *live = None;
        if self.settings.is_cache || !self.sync_failed.load(Ordering::Acquire) {
            *live = self.open_live(false).ok();
        }
    }

    fn unusable(&self) -> crate::Error {
        Environment::Poisoned(format!("{} could not be written or opened", self.path)).into()
    }

    fn fence<T>(&self, work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.translate(error)),
            Err(_) => Err(Damage::new(self.path, 0, "a sound database", "pages that contradict one another").into()),
        }
    }

    fn translate(&self, error: redb::Error) -> crate::Error {
        match error {
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
            {
                Damage::new(self.path, 0, "a sound database", error).into()
            }
            redb::Error::Io(error) => {
                let read = self.read_failed.swap(false, Ordering::AcqRel);
                io_error(if read { "read" } else { "write" }, self.path, error)
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => self.unusable(),
            other => Damage::new(self.path, 0, "a sound database", other).into(),
        }
    }
}

/// Remembers whether a sync ever failed, and that a read did, which redb's errors do not tell.
struct Watched {
    file: Arc<dyn MediaFile>,
    sync_failed: Arc<AtomicBool>,
    read_failed: Arc<AtomicBool>,
}

impl MediaFile for Watched {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset).inspect_err(|_| self.read_failed.store(true, Ordering::Release))
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_at(parts, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }
}
