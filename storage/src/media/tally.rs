//! A medium that counts what is asked of another one: what an operation costs is a fact, tested like any other.
//!
//! Counts are kept per top-level folder (files in the data folder itself under their own name), and only of operations
//! that succeeded. It never changes, delays or repeats an operation.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Media, MediaFile};
use crate::units::Space;

/// How often what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that read a file.
    pub reads: u64,
    /// Bytes that they read.
    pub read_bytes: u64,
    /// Calls that said what is read soon.
    pub hints: u64,
    /// Calls that wrote to a file.
    pub writes: u64,
    /// Bytes that they wrote.
    pub written_bytes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of folders.
    pub dir_syncs: u64,
}

impl Counts {
    fn zip(self, other: Counts, with: impl Fn(u64, u64) -> u64) -> Counts {
        Counts {
            reads: with(self.reads, other.reads),
            read_bytes: with(self.read_bytes, other.read_bytes),
            hints: with(self.hints, other.hints),
            writes: with(self.writes, other.writes),
            written_bytes: with(self.written_bytes, other.written_bytes),
            syncs: with(self.syncs, other.syncs),
            dir_syncs: with(self.dir_syncs, other.dir_syncs),
        }
    }
}

impl Add for Counts {
    type Output = Counts;
    fn add(self, other: Counts) -> Counts {
        self.zip(other, u64::wrapping_add)
    }
}

/// What was done between two moments: the later counts less the earlier ones.
impl Sub for Counts {
    type Output = Counts;
    fn sub(self, other: Counts) -> Counts {
        self.zip(other, u64::saturating_sub)
    }
}

#[derive(Debug, Default)]
struct Meter {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    hints: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
    dir_syncs: AtomicU64,
}

impl Meter {
    fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            reads: of(&self.reads),
            read_bytes: of(&self.read_bytes),
            hints: of(&self.hints),
            writes: of(&self.writes),
            written_bytes: of(&self.written_bytes),
            syncs: of(&self.syncs),
            dir_syncs: of(&self.dir_syncs),
        }
    }
}

/// Counts what passes through it to another medium. Clones count together.
#[derive(Clone)]
pub struct Tally {
    inner: Arc<dyn Media>,
    meters: Arc<Mutex<BTreeMap<String, Arc<Meter>>>>,
}

impl Tally {
    /// Counts, from zero, what is asked of `inner` by way of this value.
    pub fn new(inner: Arc<dyn Media>) -> Tally {
        Tally { inner, meters: Arc::default() }
    }

    /// Counts so far, by top-level folder.
    pub fn by_folder(&self) -> BTreeMap<String, Counts> {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().map(|(folder, meter)| (folder.clone(), meter.counts())).collect()
    }

    /// Counts so far below one top-level folder.
    pub fn folder(&self, folder: &str) -> Counts {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.get(folder).map(|meter| meter.counts()).unwrap_or_default()
    }

    /// Counts so far of the whole medium.
    pub fn total(&self) -> Counts {
        self.by_folder().into_values().fold(Counts::default(), Add::add)
    }

    fn meter(&self, path: &str) -> Arc<Meter> {
        let folder = path.split('/').next().unwrap_or_default();
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(meters.entry(folder.to_owned()).or_default())
    }

    fn watch(&self, path: &str, inner: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        Arc::new(Watched { inner, meter: self.meter(path) })
    }
}

impl Media for Tally {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.watch(path, self.inner.create(path)?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.watch(path, self.inner.open(path)?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.sync_dir(dir)?;
        self.meter(dir).dir_syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn space(&self) -> io::Result<Space> {
        self.inner.space()
    }
}

struct Watched {
    inner: Arc<dyn MediaFile>,
    meter: Arc<Meter>,
}

impl MediaFile for Watched {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.inner.read_at(buffer, offset)?;
        self.meter.reads.fetch_add(1, Ordering::Relaxed);
        self.meter.read_bytes.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
    fn will_read(&self, offset: u64, len: u64) {
        self.meter.hints.fetch_add(1, Ordering::Relaxed);
        self.inner.will_read(offset, len);
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.inner.write_at(parts, offset)?;
        self.meter.writes.fetch_add(1, Ordering::Relaxed);
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.meter.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()?;
        self.meter.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.inner.reserve(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{SimDisk, read_exact_at};

    #[test]
    fn everything_is_counted_by_folder_and_failures_are_not() {
        let disk = SimDisk::new(1);
        let tally = Tally::new(Arc::new(disk.clone()));
        tally.create_dir_all("journal").unwrap();
        let file = tally.create("journal/a").unwrap();
        file.write_at(&[IoSlice::new(b"abc"), IoSlice::new(b"de")], 0).unwrap();
        file.sync().unwrap();
        tally.sync_dir("journal").unwrap();
        let before = tally.folder("journal");
        assert_eq!(read_exact_at(file.as_ref(), 1, 3).unwrap(), b"bcd");
        let single = tally.create("single").unwrap();
        single.sync().unwrap();
        let expected = Counts { writes: 1, written_bytes: 5, syncs: 1, dir_syncs: 1, ..Counts::default() };
        assert_eq!(before, expected);
        assert_eq!(tally.folder("journal") - before, Counts { reads: 1, read_bytes: 3, ..Counts::default() });
        assert_eq!(tally.total().syncs, 2);
        assert_eq!(tally.by_folder().keys().collect::<Vec<_>>(), ["journal", "single"]);
        disk.power_cut();
        assert!(file.sync().is_err());
        assert_eq!(tally.total().syncs, 2);
    }
}
