//! A seeded workload on a volume, and an array that says what it must hold.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::dataset::{BlockDevice, Compared};
use narrowboat_storage::units::{Lsn, Timestamp};
use narrowboat_storage::{Result, Store};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::noise;

/// What one change made of a range.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Ranges with their new bytes.
    pub ranges: Vec<(u64, Bytes)>,
}

impl Patch {
    /// Puts it over an image.
    pub fn apply(&self, image: &mut [u8]) {
        for (offset, bytes) in &self.ranges {
            image[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
    }
}

/// A writer that makes random changes and keeps an image of what there must be.
pub struct Writer {
    pub image: Vec<u8>,
    rng: Xoshiro256PlusPlus,
    /// Where the last write ended: the next one often goes on from there.
    at: u64,
    salt: u64,
}

impl Writer {
    pub fn new(size: u64, seed: u64) -> Writer {
        Writer { image: vec![0; size as usize], rng: Xoshiro256PlusPlus::seed_from_u64(seed), at: 0, salt: seed << 32 }
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.rng.random_range(0..below)
    }

    fn size(&self) -> u64 {
        self.image.len() as u64
    }

    /// A range of whole sectors: mostly small, sometimes long, often behind the one before.
    fn range(&mut self) -> (u64, u64) {
        let len = match self.roll(10) {
            0..=4 => 512 * (1 + self.roll(16)),
            5..=6 => 4096 * (1 + self.roll(40)),
            7..=8 => 4096 * (32 + self.roll(100)),
            _ => (1 << 20) - 4096 * self.roll(4),
        };
        let offset = match self.roll(3) {
            0 => self.at,
            1 => self.roll(self.size() >> 20) << 20,
            _ => 512 * self.roll(self.size() / 512),
        };
        let offset = if offset >= self.size() { 0 } else { offset };
        (offset, len.min(self.size() - offset))
    }

    /// Bytes of which some repeat, some are zeros, and most are new.
    fn bytes(&mut self, len: u64) -> Bytes {
        self.salt += 1;
        let mut bytes = match self.roll(8) {
            0 => noise(self.roll(4), len as usize),
            1 => vec![0; len as usize],
            _ => noise(self.salt, len as usize),
        };
        if self.roll(4) == 0 {
            let from = self.roll(len) as usize;
            let to = (from + 10_000).min(len as usize);
            bytes[from..to].fill(0);
        }
        bytes.into()
    }

    /// Makes one random change of a volume; the image follows where it was answered. Returns what it did and its record.
    pub fn change(&mut self, volume: &dyn BlockDevice, now: Timestamp) -> Result<(Patch, Lsn)> {
        let (offset, len) = self.range();
        let (patch, lsn) = match self.roll(12) {
            0 => {
                let ranges: Vec<_> = (0..1 + self.roll(5)).map(|_| self.range()).collect();
                let zeros = |(offset, len): &(u64, u64)| (*offset, Bytes::from(vec![0; *len as usize]));
                let patch = Patch { ranges: ranges.iter().map(zeros).collect() };
                (patch, volume.discard(now, &ranges))
            }
            1 => {
                let data = self.bytes(len);
                let mut expected = self.image[offset as usize..][..len as usize].to_vec();
                let odd = self.roll(2 * len);
                if let Some(byte) = expected.get_mut(odd as usize) {
                    *byte ^= 0x55;
                    let compared = volume.compare_and_write(now, offset, &expected, data)?;
                    assert_eq!(compared, Compared::Differs(odd));
                    return Ok((Patch { ranges: Vec::new() }, Lsn(0)));
                }
                let compared = volume.compare_and_write(now, offset, &expected, data.clone());
                let lsn = compared.map(|compared| match compared {
                    Compared::Written(lsn) => lsn,
                    Compared::Differs(at) => panic!("{len} bytes at {offset}: byte {at} is another"),
                });
                (Patch { ranges: vec![(offset, data)] }, lsn)
            }
            _ => {
                let data = self.bytes(len);
                self.at = offset + len;
                (Patch { ranges: vec![(offset, data.clone())] }, volume.write(now, offset, data))
            }
        };
        // What was refused left no trace.
        let lsn = lsn?;
        patch.apply(&mut self.image);
        Ok((patch, lsn))
    }
}

/// All bytes of a volume.
pub fn all(volume: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(volume.size_bytes() as usize);
    while (bytes.len() as u64) < volume.size_bytes() {
        let offset = bytes.len() as u64;
        let len = (volume.size_bytes() - offset).min(3_000_000);
        let pieces = volume.read(offset, len).expect("readable");
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>() as u64, len);
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    }
    bytes
}

/// Fails with the first place at which a volume is not what it must be.
pub fn expect(volume: &dyn BlockDevice, image: &[u8], what: &str) {
    let found = all(volume);
    assert_eq!(found.len(), image.len(), "{what}: size");
    if found != image {
        let odd = found.iter().zip(image).position(|(found, expected)| found != expected);
        panic!("{what}: another byte at {odd:?}");
    }
}

/// The live device of a volume.
pub fn device(store: &Store, name: &str) -> Arc<dyn BlockDevice> {
    store.volume(store.dataset_named(name).expect("there").row.id).expect("a volume")
}
