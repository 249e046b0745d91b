//! A medium that is like the simulated disk, but for one thing.

use std::io;
use std::io::IoSlice;
use std::sync::Arc;

use crate::media::{Media, MediaFile, SimDisk};
use crate::units::Space;

/// What is called before a sync.
pub type Hook = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
pub struct OddMedia {
    pub disk: SimDisk,
    /// Reservations succeed and take nothing: thin provisioning. Writes may fail for want of room.
    pub thin: bool,
    pub before_sync: Hook,
}

impl OddMedia {
    /// Not odd yet.
    pub fn on(disk: &SimDisk) -> OddMedia {
        OddMedia { disk: disk.clone(), thin: false, before_sync: Arc::new(|| {}) }
    }
    fn file(&self, file: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        Arc::new(OddFile { file, media: self.clone() })
    }
}

impl Media for OddMedia {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.file(self.disk.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.file(self.disk.open(path)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

struct OddFile {
    file: Arc<dyn MediaFile>,
    media: OddMedia,
}

impl MediaFile for OddFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_at(parts, offset)
    }
    fn sync(&self) -> io::Result<()> {
        (self.media.before_sync)();
        self.file.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        match self.media.thin {
            true => self.file.set_len(len.max(self.file.len()?)),
            false => self.file.reserve(len),
        }
    }
}
