//! The bytes of one simulated file: what the platter has, what the program sees, and what lies between.
//!
//! The unit of loss is a sector of 512 bytes. When the power goes, each sector that was written since the last sync ends
//! in any one of the states it went through, independently of every other: so a later write may be there while an
//! earlier one is lost, and one write may be torn. A state that the sector never had (the second write without the
//! first, in one sector) does not occur, as it does not behind a page cache. Changes of the length are metadata: they
//! are kept in the order in which they were made, and a kept cut really forgets what was cut off.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

/// Unit of allocation.
const PAGE: u64 = 4096;
/// Unit of loss and tearing.
const SECTOR: u64 = 512;

type Page = [u8; PAGE as usize];

/// Sparse bytes whose copies share what is equal.
#[derive(Clone, Default)]
pub(super) struct Pages {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset` as far as the file reaches; returns how far.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let len = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (page, within, part) in pieces(offset, len) {
            match self.pages.get(&page) {
                Some(bytes) => buffer[part].copy_from_slice(&bytes[within]),
                None => buffer[part].fill(0),
            }
        }
        len
    }

    /// Writes without a look at the length.
    fn put(&mut self, bytes: &[u8], offset: u64) {
        for (page, within, part) in pieces(offset, bytes.len()) {
            let target = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(target)[within].copy_from_slice(&bytes[part]);
        }
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        self.pages.split_off(&len.div_ceil(PAGE));
        let within = (len % PAGE) as usize;
        if within > 0
            && let Some(last) = self.pages.get_mut(&(len / PAGE))
        {
            Arc::make_mut(last)[within..].fill(0);
        }
    }

    fn flip(&mut self, offset: u64, mask: u8) {
        let mut byte = [0];
        if self.read(&mut byte, offset) == 1 {
            self.put(&[byte[0] ^ mask], offset);
        }
    }
}

/// Splits a run of bytes at pages: page number, place in the page, place in the run.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    split(offset, len, PAGE)
}

fn split(offset: u64, len: usize, unit: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let from = at;
        at = end.min((from / unit + 1) * unit);
        let within = (from % unit) as usize;
        let taken = (at - from) as usize;
        let part = (from - offset) as usize;
        Some((from / unit, within..within + taken, part..part + taken))
    })
}

/// One change that no sync covers yet.
#[derive(Clone)]
enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Length { len: u64, reserved: u64 },
}

/// What becomes of unsynced changes when the power goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The disk had written nothing yet.
    Lost,
    /// The disk had written everything.
    Kept,
    /// The disk stopped anywhere, in any order.
    Torn,
}

impl Fate {
    pub(super) fn choose(rng: &mut Xoshiro256PlusPlus) -> Fate {
        match rng.random_range(0..6u8) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            _ => Fate::Torn,
        }
    }
}

/// One simulated file.
#[derive(Clone, Default)]
pub(super) struct Content {
    now: Pages,
    /// Bytes from the start for which room is taken.
    reserved: u64,
    synced: Pages,
    synced_reserved: u64,
    unsynced: Vec<Change>,
}

impl Content {
    pub(super) fn now(&self) -> &Pages {
        &self.now
    }

    /// Bytes of disk that the file takes.
    pub(super) fn allocated(&self) -> u64 {
        let reserved = self.reserved.div_ceil(PAGE);
        (reserved + self.now.pages.range(reserved..).count() as u64) * PAGE
    }

    /// How many bytes of a write find room when `room` bytes are left on the disk.
    pub(super) fn fits(&self, offset: u64, len: usize, mut room: u64) -> usize {
        let reserved = self.reserved.div_ceil(PAGE);
        for (page, _, part) in pieces(offset, len) {
            if page >= reserved && !self.now.pages.contains_key(&page) {
                if room < PAGE {
                    return part.start;
                }
                room -= PAGE;
            }
        }
        len
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.now.put(bytes, offset);
        self.unsynced.push(Change::Write { offset, bytes: bytes.into() });
        let end = offset + bytes.len() as u64;
        if end > self.now.len {
            self.length(end, self.reserved);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.length(len, self.reserved.min(len));
    }

    pub(super) fn reserve(&mut self, len: u64) {
        self.length(self.now.len.max(len), self.reserved.max(len));
    }

    fn length(&mut self, len: u64, reserved: u64) {
        self.now.set_len(len);
        self.reserved = reserved;
        self.unsynced.push(Change::Length { len, reserved });
    }

    /// Everything written so far becomes safe.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { offset, bytes } => self.synced.put(&bytes, offset),
                Change::Length { len, reserved } => {
                    self.synced.set_len(len);
                    self.synced_reserved = reserved;
                }
            }
        }
    }

    /// A sync fails as it does on Linux: the disk keeps any part of the changes, the program goes on seeing all of them,
    /// and no later sync covers them.
    pub(super) fn fail_sync(&mut self, rng: &mut Xoshiro256PlusPlus) {
        let fate = Fate::choose(rng);
        self.settle(fate, rng);
    }

    /// The power goes.
    pub(super) fn power_cut(&mut self, fate: Fate, rng: &mut Xoshiro256PlusPlus) {
        self.settle(fate, rng);
        self.now = self.synced.clone();
        self.reserved = self.synced_reserved;
    }

    /// Decides what of the unsynced changes is on the platter.
    fn settle(&mut self, fate: Fate, rng: &mut Xoshiro256PlusPlus) {
        match fate {
            Fate::Lost => self.unsynced.clear(),
            Fate::Kept => self.sync(),
            Fate::Torn => self.tear(rng),
        }
    }

    fn tear(&mut self, rng: &mut Xoshiro256PlusPlus) {
        let changes = std::mem::take(&mut self.unsynced);
        let lengths = changes.iter().filter(|change| matches!(change, Change::Length { .. })).count();
        let mut lengths_kept = rng.random_range(0..=lengths);
        let mut writes_kept = BTreeMap::<u64, u32>::new();
        for change in &changes {
            if let Change::Write { offset, bytes } = change {
                for (sector, _, _) in split(*offset, bytes.len(), SECTOR) {
                    *writes_kept.entry(sector).or_default() += 1;
                }
            }
        }
        for count in writes_kept.values_mut() {
            *count = rng.random_range(0..=*count);
        }
        for change in changes {
            match change {
                Change::Write { offset, bytes } => {
                    for (sector, _, part) in split(offset, bytes.len(), SECTOR) {
                        let Some(left @ 1..) = writes_kept.get_mut(&sector) else { continue };
                        *left -= 1;
                        self.synced.put(&bytes[part.clone()], offset + part.start as u64);
                    }
                }
                Change::Length { len, reserved } if lengths_kept > 0 => {
                    lengths_kept -= 1;
                    self.synced.set_len(len);
                    self.synced_reserved = reserved;
                }
                Change::Length { .. } => {}
            }
        }
        // Sectors behind the kept length were never part of the file.
        self.synced.set_len(self.synced.len);
    }

    /// Bits rot, below whatever syncs promise.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        self.now.flip(offset, mask);
        self.synced.flip(offset, mask);
    }

    /// Sets the bytes from `offset` on, safe at once: damage, not a program's write.
    pub(super) fn overwrite(&mut self, bytes: &[u8], offset: u64) {
        self.sync();
        self.write(bytes, offset);
        self.sync();
    }

    /// Cuts the file, safe at once: damage, not a program's cut.
    pub(super) fn cut(&mut self, len: u64) {
        self.sync();
        self.set_len(len);
        self.sync();
    }
}
