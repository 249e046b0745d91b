//! A disk in memory that behaves as badly as a real one may, and always the same way for the same seed.
//!
//! ```
//! use narrowboat_storage::media::{Media, MediaFile, SimDisk};
//! use std::io::IoSlice;
//!
//! let disk = SimDisk::new(7);
//! let file = disk.create("a").unwrap();
//! file.write_at(&[IoSlice::new(b"safe")], 0).unwrap();
//! file.sync().unwrap();
//! disk.sync_dir("").unwrap();
//! file.write_at(&[IoSlice::new(b"gone")], 0).unwrap(); // perhaps
//! disk.power_cut();
//! assert!(file.len().is_err());
//! let now = disk.contents("a").unwrap();
//! assert!(now == b"safe" || now == b"gone");
//! ```
//!
//! To try a workload with a power cut at every sync, run it once and read [`SimDisk::syncs`]; then, for each of them,
//! run it on a new disk with [`SimDisk::cut_power_at_sync`] until it fails, call [`SimDisk::power_on`], and look at what
//! is there. What exactly may be lost is said in `content.rs` (bytes) and `names.rs` (names); it is all that
//! [`Media`] allows, and no more.
//!
//! It promises determinism for one thread. It never sleeps, and never forgets what was synced except where a test asks
//! for damage ([`SimDisk::rot`], [`SimDisk::truncate`], [`SimDisk::overwrite`], [`SimDisk::lose`]) or for a disk that
//! lies ([`SimDisk::ignore_syncs`], for canaries).

mod content;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use self::content::{Content, Fate};
use self::names::{FileId, Names};
use super::{Media, MediaFile, path};
use crate::units::Space;

/// How large a disk is that was not given a capacity.
const CAPACITY_BYTES: u64 = 1 << 40;

/// A simulated disk. Clones are the same disk; [`SimDisk::fork`] makes another one.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Clone)]
struct World {
    rng: Xoshiro256PlusPlus,
    names: Names,
    files: BTreeMap<FileId, Content>,
    next_file: FileId,
    open: BTreeMap<FileId, u32>,
    /// Counts power cuts: handles of an earlier boot are dead.
    boot: u64,
    powered: bool,
    syncs: u64,
    capacity: u64,
    faults: Faults,
}

/// What is planned to go wrong.
#[derive(Clone, Default)]
struct Faults {
    failing_syncs: BTreeSet<u64>,
    power_cut_at: Option<u64>,
    unreadable: Vec<(FileId, Range<u64>)>,
    /// Files that can't be opened, and how that is called.
    unopenable: Vec<(FileId, i32)>,
    /// The reads of a file that fail, and how many there were.
    hiccup: Option<(FileId, Range<u64>, u64)>,
    ignore_syncs: bool,
}

/// What Linux calls a disk that could not read.
const EIO: i32 = 5;

impl Faults {
    /// True where a read of these bytes is to fail.
    fn fail_read(&mut self, file: FileId, touched: &Range<u64>) -> bool {
        let mut hiccups = false;
        if let Some((_, reads, so_far)) = self.hiccup.as_mut().filter(|(of, ..)| *of == file) {
            hiccups = reads.contains(so_far);
            *so_far += 1;
        }
        let bad =
            |(of, range): &(FileId, Range<u64>)| *of == file && range.start < touched.end && touched.start < range.end;
        hiccups || self.unreadable.iter().any(bad)
    }
}

impl SimDisk {
    /// An empty disk; everything that it decides follows from `seed`.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_world(World {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 1,
            open: BTreeMap::new(),
            boot: 0,
            powered: true,
            syncs: 0,
            capacity: CAPACITY_BYTES,
            faults: Faults::default(),
        })
    }

    fn from_world(world: World) -> SimDisk {
        SimDisk { world: Arc::new(Mutex::new(world)) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk in the same state, unsynced changes and planned faults included, that from here on decides by
    /// `seed`. Equal contents are shared in memory, so this is cheap. Open handles stay with the old disk.
    pub fn fork(&self, seed: u64) -> SimDisk {
        let mut world = self.world().clone();
        world.rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        world.open.clear();
        world.sweep();
        SimDisk::from_world(world)
    }

    /// Cuts the power and turns it on again: unsynced changes are kept, lost or torn, and every open handle is dead.
    pub fn power_cut(&self) {
        self.world().power_cut();
    }

    /// The `n`-th sync from the disk's first one (files, folders, and the making of folders count, see
    /// [`SimDisk::syncs`]) does or does not take effect and then the power is cut; everything fails until
    /// [`SimDisk::power_on`].
    pub fn cut_power_at_sync(&self, n: u64) {
        self.world().faults.power_cut_at = Some(n);
    }

    /// Turns the power on again.
    pub fn power_on(&self) {
        self.world().powered = true;
    }

    /// False between a planned power cut and [`SimDisk::power_on`].
    pub fn is_on(&self) -> bool {
        self.world().powered
    }

    /// How many syncs of files and folders there were so far, failed ones included.
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The `n`-th sync fails, as an I/O error does on Linux: a later sync that succeeds does not cover what this one lost.
    pub fn fail_sync_at(&self, n: u64) {
        self.world().faults.failing_syncs.insert(n);
    }

    /// Sets the size of the disk in bytes. Writes that find no room fail with `StorageFull` after what fits.
    pub fn set_capacity(&self, bytes: u64) {
        self.world().capacity = bytes;
    }

    /// Leaves no more than `bytes` of room.
    pub fn fill(&self, bytes: u64) {
        let mut world = self.world();
        world.capacity = world.used().saturating_add(bytes);
    }

    /// Bytes that files take.
    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// From now on syncs succeed and do nothing: a disk that lies. For canaries, which show that a harness can see.
    pub fn ignore_syncs(&self) {
        self.world().faults.ignore_syncs = true;
    }

    /// Reads that touch `range` of a file fail, for as long as the file lives.
    pub fn fail_reads(&self, path: &str, range: Range<u64>) -> io::Result<()> {
        let mut world = self.world();
        let file = world.find(path)?;
        world.faults.unreadable.push((file, range));
        Ok(())
    }

    /// Some of the next reads of a file fail, wherever they are: the first of them is read 0.
    pub fn fail_next_reads(&self, path: &str, reads: Range<u64>) -> io::Result<()> {
        let mut world = self.world();
        let file = world.find(path)?;
        world.faults.hiccup = Some((file, reads, 0));
        Ok(())
    }

    /// Opening a file fails with this error number.
    pub fn fail_opens(&self, path: &str, errno: i32) -> io::Result<()> {
        let mut world = self.world();
        let file = world.find(path)?;
        world.faults.unopenable.push((file, errno));
        Ok(())
    }

    /// From now on everything can be opened and read again.
    pub fn mend_reads(&self) {
        let mut world = self.world();
        world.faults.unopenable.clear();
        world.faults.unreadable.clear();
        world.faults.hiccup = None;
    }

    /// Flips the bits of `mask` in one byte of a file; a place behind its end is left alone.
    pub fn rot(&self, path: &str, offset: u64, mask: u8) -> io::Result<()> {
        self.world().content(path)?.flip(offset, mask);
        Ok(())
    }

    /// Cuts or extends a file from outside, safe at once.
    pub fn truncate(&self, path: &str, len: u64) -> io::Result<()> {
        self.world().content(path)?.cut(len);
        Ok(())
    }

    /// Overwrites bytes of a file from outside, safe at once.
    pub fn overwrite(&self, path: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.world().content(path)?.overwrite(bytes, offset);
        Ok(())
    }

    /// Removes a file from outside, safe at once.
    pub fn lose(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.find(path)?;
        world.names.lose(path);
        Ok(())
    }

    /// Every file's path, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.world().names.files().keys().cloned().collect()
    }

    /// The bytes of a file as a program would see them, planned read errors left aside.
    pub fn contents(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut world = self.world();
        let pages = world.content(path)?.now();
        let mut bytes = vec![0; pages.len() as usize];
        pages.read(&mut bytes, 0);
        Ok(bytes)
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power was cut")
}

impl World {
    fn find(&self, path: &str) -> io::Result<FileId> {
        path::split(path)?;
        self.names.get(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn content(&mut self, path: &str) -> io::Result<&mut Content> {
        let file = self.find(path)?;
        self.file(file)
    }

    fn file(&mut self, file: FileId) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Bytes that named or open files take. Unsafe removals have freed their room, as far as a program can see.
    fn used(&self) -> u64 {
        let named = self.names.files().values().chain(self.open.keys()).collect::<BTreeSet<_>>();
        named.into_iter().filter_map(|file| self.files.get(file)).map(Content::allocated).sum()
    }

    fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    fn power_cut(&mut self) {
        let World { rng, names, files, .. } = self;
        // Now and then the disk treats everything alike; otherwise each file has a fate of its own.
        let common = (rng.random_range(0..4u8) == 0).then(|| Fate::choose(rng));
        names.power_cut(common.unwrap_or_else(|| Fate::choose(rng)), rng);
        for content in files.values_mut() {
            content.power_cut(common.unwrap_or_else(|| Fate::choose(rng)), rng);
        }
        self.open.clear();
        self.boot += 1;
        self.sweep();
    }

    /// Forgets the bytes of files that nothing leads to.
    fn sweep(&mut self) {
        let World { names, files, open, .. } = self;
        files.retain(|file, _| open.contains_key(file) || names.leads_to(*file));
    }

    /// One sync, with what is planned for it; `apply` is what it does where nothing is.
    fn sync(&mut self, apply: impl FnOnce(&mut World), fail: impl FnOnce(&mut World)) -> io::Result<()> {
        self.syncs += 1;
        if self.faults.power_cut_at == Some(self.syncs) {
            if self.rng.random_bool(0.5) && !self.faults.ignore_syncs {
                apply(self);
            }
            self.power_cut();
            self.powered = false;
            return Err(power_is_off());
        }
        if self.faults.failing_syncs.contains(&self.syncs) {
            fail(self);
            return Err(io::Error::other("the disk could not write"));
        }
        if !self.faults.ignore_syncs {
            apply(self);
        }
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(power_is_off()) }
    }
}

impl SimDisk {
    fn handle(&self, world: &mut World, file: FileId) -> Arc<dyn MediaFile> {
        *world.open.entry(file).or_default() += 1;
        Arc::new(SimFile { disk: self.clone(), file, boot: world.boot })
    }
}

impl Media for SimDisk {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        let mut world = self.world();
        world.powered()?;
        let (dir, _) = path::split(path)?;
        if !world.names.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if world.names.get(path).is_some() || world.names.is_dir(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = world.next_file;
        world.next_file += 1;
        world.files.insert(file, Content::default());
        world.names.create(path, file);
        Ok(self.handle(&mut world, file))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        let mut world = self.world();
        world.powered()?;
        let file = world.find(path)?;
        if let Some((_, errno)) = world.faults.unopenable.iter().find(|(of, _)| *of == file) {
            return Err(io::Error::from_raw_os_error(*errno));
        }
        Ok(self.handle(&mut world, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.powered()?;
        world.find(from)?;
        let (dir, _) = path::split(to)?;
        if !world.names.is_dir(dir) || world.names.is_dir(to) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.names.rename(from, to).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut world = self.world();
        world.powered()?;
        world.find(path)?;
        world.names.remove(path);
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        path::check_dir(dir)?;
        let world = self.world();
        world.powered()?;
        Ok(world.names.list(dir))
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        path::check_dir(dir)?;
        let mut world = self.world();
        world.powered()?;
        let mut free = true;
        world.sync(|world| free = world.names.make_dirs(dir), |_| {})?;
        if free { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        path::check_dir(dir)?;
        let mut world = self.world();
        world.powered()?;
        if !world.names.is_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        // A folder's failed sync leaves its operations as unsafe as they were: file systems journal them.
        world.sync(|world| world.names.sync_dir(dir), |_| {})?;
        world.sweep();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let world = self.world();
        world.powered()?;
        Ok(Space { total_bytes: world.capacity, free_bytes: world.room() })
    }
}

/// An open file of a simulated disk.
struct SimFile {
    disk: SimDisk,
    file: FileId,
    boot: u64,
}

impl SimFile {
    fn alive(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.disk.world();
        world.powered()?;
        if world.boot == self.boot { Ok(world) } else { Err(power_is_off()) }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut world = self.disk.world();
        if world.boot != self.boot {
            return;
        }
        let left = world.open.get(&self.file).copied().unwrap_or_default().saturating_sub(1);
        if left > 0 {
            world.open.insert(self.file, left);
            return;
        }
        world.open.remove(&self.file);
        if !world.names.leads_to(self.file) {
            world.files.remove(&self.file);
        }
    }
}

impl MediaFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.alive()?;
        let touched = offset..offset.saturating_add(buffer.len() as u64);
        if world.faults.fail_read(self.file, &touched) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(world.file(self.file)?.now().read(buffer, offset))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut world = self.alive()?;
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
        offset.checked_add(bytes.len() as u64).filter(|end| *end < 1 << 62).ok_or(io::ErrorKind::InvalidInput)?;
        let room = if world.capacity < CAPACITY_BYTES { world.room() } else { CAPACITY_BYTES };
        let content = world.file(self.file)?;
        let fits = content.fits(offset, bytes.len(), room);
        content.write(&bytes[..fits], offset);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let file = self.file;
        self.alive()?.sync(
            |world| {
                if let Ok(content) = world.file(file) {
                    content.sync();
                }
            },
            |world| {
                let World { rng, files, .. } = world;
                if let Some(content) = files.get_mut(&file) {
                    content.fail_sync(rng);
                }
            },
        )
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.alive()?.file(self.file)?.now().len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?.file(self.file)?.set_len(len);
        Ok(())
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        let mut world = self.alive()?;
        let room = world.room();
        let content = world.file(self.file)?;
        let mut after = content.clone();
        after.reserve(len);
        if after.allocated() > content.allocated() && after.allocated() - content.allocated() > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *content = after;
        Ok(())
    }
}
