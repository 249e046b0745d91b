//! A real folder on a real file system.
//!
//! It promises what [`Media`] asks for on every Linux file system that obeys POSIX: positioned vectored writes,
//! `fdatasync` for bytes (`fsync` where the length was set apart from a write), `fsync` of the folder for names, and
//! `fallocate` for room. Files are made readable by their owner alone, for backups hold other people's secrets.
//!
//! It never follows a symbolic link in the last part of a path, and never retries a sync that failed: what such a sync
//! covered may be lost although a second one would succeed, so the failure goes up.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use super::path::{self, LOCK};
use super::{Media, MediaFile};
use crate::error::{Environment, Result, io_error};
use crate::units::Space;

/// Most parts that one system call takes: `UIO_MAXIOV` of Linux.
const PARTS_MAX: usize = 1024;

/// A data folder, held exclusively for as long as this value or a clone of it lives.
#[derive(Debug, Clone)]
pub struct FileMedia {
    root: Arc<PathBuf>,
    /// Keeps the lock; the kernel drops it with the last descriptor, also when the process is killed.
    _lock: Arc<File>,
}

impl FileMedia {
    /// Takes the folder `root`, which is created where it is missing. Refused with [`Environment::InUse`] while another
    /// process, or another value in this one, holds it.
    pub fn open(root: &Path) -> Result<FileMedia> {
        let shown = root.display().to_string();
        make_root(root).map_err(|error| io_error("create", &shown, error))?;
        let lock = private_file()
            .write(true)
            .create(true)
            .truncate(false)
            .open(root.join(LOCK))
            .map_err(|error| io_error("open", LOCK, error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(FileMedia { root: Arc::new(root.to_owned()), _lock: Arc::new(lock) }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Environment::InUse(shown).into()),
            Err(error) => Err(io_error("lock", LOCK, error.into())),
        }
    }

    fn at(&self, path: &str) -> io::Result<PathBuf> {
        path::split(path)?;
        Ok(self.root.join(path))
    }

    fn dir_at(&self, dir: &str) -> io::Result<PathBuf> {
        path::check_dir(dir)?;
        Ok(if dir.is_empty() { self.root.to_path_buf() } else { self.root.join(dir) })
    }
}

/// Makes the data folder where it is missing, and makes its name safe.
fn make_root(root: &Path) -> io::Result<()> {
    match fs::metadata(root) {
        Ok(facts) if facts.is_dir() => return Ok(()),
        // A disk that does not answer is not one that has no such folder.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => private_dirs().create(root)?,
    }
    match root.parent() {
        Some(above) if above != Path::new("") => File::open(above)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn private_dirs() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    options
}

impl Media for FileMedia {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        let file = private_file().read(true).write(true).create_new(true).open(self.at(path)?)?;
        Ok(Arc::new(RealFile { file, length_set: AtomicBool::new(false) }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        let file = private_file().read(true).write(true).open(self.at(path)?)?;
        // A process that was killed may have left a length behind that no sync covers yet: the first one is a full one.
        Ok(Arc::new(RealFile { file, length_set: AtomicBool::new(true) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.at(from)?, self.at(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.at(path)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.dir_at(dir)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not UTF-8 was not made by this crate, and no path could say it.
            let Ok(mut name) = entry.file_name().into_string() else { continue };
            if dir.is_empty() && name == LOCK {
                continue;
            }
            if entry.file_type()?.is_dir() {
                name.push('/');
            }
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        private_dirs().create(self.dir_at(dir)?)?;
        // Every folder on the way, not only those made now: an earlier call may have been cut off before its sync.
        for (at, _) in dir.match_indices('/') {
            self.sync_dir(dir.get(..at).unwrap_or_default())?;
        }
        self.sync_dir("")
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.dir_at(dir)?)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let facts = rustix::fs::statvfs(self.root.as_path())?;
        Ok(Space {
            total_bytes: facts.f_blocks.saturating_mul(facts.f_frsize),
            free_bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
        })
    }
}

/// One open file of a real folder.
#[derive(Debug)]
struct RealFile {
    file: File,
    /// The length was set without a write since the last sync. POSIX has `fdatasync` cover a length that a write
    /// extended; what it does about `ftruncate` and `fallocate` is left to each file system.
    length_set: AtomicBool,
}

impl MediaFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn will_read(&self, offset: u64, len: u64) {
        // A system that can't is none the worse for it.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), rustix::fs::Advice::WillNeed);
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for batch in parts.chunks(PARTS_MAX) {
            let mut batch = batch.to_vec();
            let mut left: &mut [IoSlice<'_>] = &mut batch;
            // Empty parts in front would make a write of nothing look like a full disk.
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                match rustix::io::pwritev(&self.file, left, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(wrote) => {
                        offset += wrote as u64;
                        IoSlice::advance_slices(&mut left, wrote);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if !self.length_set.swap(false, Ordering::AcqRel) {
            return self.file.sync_data();
        }
        self.file.sync_all().inspect_err(|_| self.length_set.store(true, Ordering::Release))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let result = self.file.set_len(len);
        self.length_set.store(true, Ordering::Release);
        result
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let before = self.len()?;
        if len == 0 {
            return Ok(());
        }
        let result = match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => self.fill_with_zeros(before, len),
            // A failed fallocate may have taken a part; give back what this call added.
            Err(error) => self.file.set_len(before).and(Err(error.into())),
        };
        self.length_set.store(true, Ordering::Release);
        result
    }
}

impl RealFile {
    /// The slow way to take room, where the file system has no fast one. Holes below `from` stay holes; files that are
    /// reserved here are only ever extended by reservation.
    fn fill_with_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut at = from;
        while at < to {
            let part = zeros.get(..(to - at).min(zeros.len() as u64) as usize).unwrap_or_default();
            if let Err(error) = self.file.write_all_at(part, at) {
                return self.file.set_len(from).and(Err(error));
            }
            at += part.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::error::Error;
    use crate::media::read_exact_at;

    #[test]
    fn writes_of_many_parts_land_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let media = FileMedia::open(dir.path()).unwrap();
        let file = media.create("many").unwrap();
        let pieces: Vec<Vec<u8>> = (0..3000u32).map(|i| vec![i as u8; (i % 7) as usize]).collect();
        let parts: Vec<IoSlice> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        file.write_at(&parts, 5).unwrap();
        file.sync().unwrap();
        let expected: Vec<u8> = [vec![0; 5], pieces.concat()].concat();
        assert_eq!(read_exact_at(file.as_ref(), 0, expected.len()).unwrap(), expected);
        assert_eq!(file.len().unwrap(), expected.len() as u64);
        assert_eq!(file.read_at(&mut [0; 10], expected.len() as u64 - 3).unwrap(), 3);
        file.write_at(&[IoSlice::new(b""), IoSlice::new(b"")], 0).unwrap();
    }

    #[test]
    fn a_folder_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let media = FileMedia::open(dir.path()).unwrap();
        let second = FileMedia::open(dir.path());
        assert!(matches!(second, Err(Error::Environment(Environment::InUse(_)))));
        drop(media);
        FileMedia::open(dir.path()).unwrap();
    }

    #[test]
    fn others_cannot_read_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let media = FileMedia::open(&root).unwrap();
        media.create_dir_all("a/b").unwrap();
        media.create("a/b/c").unwrap();
        for (path, mode) in [("", 0o700), ("a", 0o700), ("a/b", 0o700), ("a/b/c", 0o600), ("lock", 0o600)] {
            assert_eq!(fs::metadata(root.join(path)).unwrap().mode() & 0o777, mode, "{path}");
        }
    }

    #[test]
    fn names_come_sorted_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let media = FileMedia::open(dir.path()).unwrap();
        for name in ["b", "a", "c"] {
            media.create(name).unwrap();
        }
        media.create_dir_all("folder").unwrap();
        media.rename("c", "folder/c").unwrap();
        media.sync_dir("folder").unwrap();
        assert_eq!(media.list("").unwrap(), ["a", "b", "folder/"]);
        assert_eq!(media.list("folder").unwrap(), ["c"]);
        assert!(media.list("nowhere").unwrap().is_empty());
        assert_eq!(media.create("a").err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(media.open("nowhere").err().unwrap().kind(), io::ErrorKind::NotFound);
        assert!(media.open("../a").is_err());
        symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(media.open("link").is_err());
        media.remove("a").unwrap();
        assert_eq!(media.list("").unwrap(), ["b", "folder/", "link"]);
    }

    #[test]
    fn reserved_room_is_really_taken_and_keeps_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let media = FileMedia::open(dir.path()).unwrap();
        let file = media.create("room").unwrap();
        file.write_at(&[IoSlice::new(b"kept")], 0).unwrap();
        file.reserve(1 << 20).unwrap();
        file.sync().unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert_eq!(read_exact_at(file.as_ref(), 0, 6).unwrap(), b"kept\0\0");
        assert!(fs::metadata(dir.path().join("room")).unwrap().blocks() * 512 >= 1 << 20);
        let before = media.space().unwrap();
        assert!(before.free_bytes <= before.total_bytes);
        let error = file.reserve(before.total_bytes.saturating_mul(2)).err().unwrap();
        assert!(matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge), "{error}");
        assert_eq!(file.len().unwrap(), 1 << 20);
        file.set_len(2).unwrap();
        assert_eq!(read_exact_at(file.as_ref(), 0, 2).unwrap(), b"ke");
    }
}
