//! A disk in memory, for tests: sparse, and it knows what would be lost in a power cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use narrowboat_storage::Result;
use narrowboat_storage::error::{Damage, Environment};

use super::{Disk, Extent};

/// Bytes that are allocated together.
const GRAIN: u64 = 4096;

#[derive(Default)]
pub struct MemoryDisk {
    size: AtomicU64,
    grains: Mutex<BTreeMap<u64, Box<[u8]>>>,
    /// Writes since the last sync.
    pub unstable: AtomicU64,
    pub syncs: AtomicU64,
    pub read_only: AtomicBool,
    /// Every write fails for want of room.
    pub full: AtomicBool,
    /// Every read finds damage.
    pub damaged: AtomicBool,
    /// So does every read of this byte.
    pub damaged_at: Mutex<Option<u64>>,
    /// Reads of the first byte wait, for half a minute at most.
    pub hangs: AtomicBool,
    /// To settle a write is a mistake.
    pub breaks: AtomicBool,
    /// How many wait.
    pub hanging: AtomicUsize,
}

impl MemoryDisk {
    pub fn new(size: u64) -> Self {
        MemoryDisk { size: AtomicU64::new(size), ..MemoryDisk::default() }
    }

    pub fn resize(&self, size: u64) {
        self.size.store(size, SeqCst);
    }

    fn grains(&self) -> MutexGuard<'_, BTreeMap<u64, Box<[u8]>>> {
        self.grains.lock().unwrap()
    }

    fn changed(&self, stable: bool) -> Result<()> {
        if self.full.load(SeqCst) {
            return Err(Environment::Full.into());
        }
        if stable {
            return self.sync();
        }
        self.unstable.fetch_add(1, SeqCst);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn size_bytes(&self) -> u64 {
        self.size.load(SeqCst)
    }

    fn read_only(&self) -> bool {
        self.read_only.load(SeqCst)
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        if offset == 0 {
            self.hanging.fetch_add(1, SeqCst);
            let since = Instant::now();
            while self.hangs.load(SeqCst) && since.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.hanging.fetch_sub(1, SeqCst);
        }
        assert!(offset + len <= self.size_bytes(), "beyond the end");
        let hit = |at: u64| (offset..offset + len).contains(&at);
        if self.damaged.load(SeqCst) || self.damaged_at.lock().unwrap().is_some_and(hit) {
            return Err(Damage::new("memory", offset, "what was written", "something else").into());
        }
        let grains = self.grains();
        let mut pieces = Vec::new();
        let mut at = offset;
        while at < offset + len {
            let (grain, within) = (at / GRAIN, (at % GRAIN) as usize);
            let here = (GRAIN - within as u64).min(offset + len - at) as usize;
            pieces.push(match grains.get(&grain) {
                Some(bytes) => Bytes::copy_from_slice(&bytes[within..within + here]),
                None => Bytes::from_static(&[0; GRAIN as usize]).slice(..here),
            });
            at += here as u64;
        }
        Ok(pieces)
    }

    fn write(&self, offset: u64, data: Bytes, stable: bool) -> Result<()> {
        assert!(offset + data.len() as u64 <= self.size_bytes(), "beyond the end");
        self.changed(stable)?;
        let mut grains = self.grains();
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % GRAIN) as usize;
            let here = (GRAIN as usize - within).min(data.len() - done);
            let grain = grains.entry(at / GRAIN).or_insert_with(|| vec![0; GRAIN as usize].into());
            grain[within..within + here].copy_from_slice(&data[done..done + here]);
            done += here;
        }
        Ok(())
    }

    fn settle(&self, _upto: u64) -> Result<()> {
        assert!(!self.breaks.load(SeqCst), "a mistake in the disk");
        Ok(())
    }

    fn discard(&self, ranges: &[(u64, u64)], stable: bool) -> Result<()> {
        self.changed(stable)?;
        let mut grains = self.grains();
        for (offset, len) in ranges {
            let (from, to) = (*offset, offset + len);
            assert!(to <= self.size_bytes(), "beyond the end");
            grains.retain(|grain, bytes| {
                let begin = grain * GRAIN;
                let (a, b) = (from.max(begin), to.min(begin + GRAIN));
                if a < b {
                    bytes[(a - begin) as usize..(b - begin) as usize].fill(0);
                }
                a >= b || bytes.iter().any(|byte| *byte != 0)
            });
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.syncs.fetch_add(1, SeqCst);
        self.unstable.store(0, SeqCst);
        Ok(())
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        let grains = self.grains();
        let grain = offset / GRAIN;
        let end = self.size_bytes();
        if grains.contains_key(&grain) {
            return Ok(Extent { allocated: true, len: ((grain + 1) * GRAIN).min(end) - offset });
        }
        let next = grains.range(grain..).next().map_or(end, |(next, _)| next * GRAIN);
        Ok(Extent { allocated: false, len: next.min(end) - offset })
    }
}
