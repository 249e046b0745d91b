//! Volumes with windows, what was done to them, and stores whose journal is ripe to be split off into histories.

#![allow(dead_code, reason = "each test file uses a part")]

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Lsn, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::blocks::*;
use super::common::*;

pub const MIB: u64 = 1 << 20;
pub const SIZE: u64 = 2 * MIB;
/// So long and so much that nothing ends it.
pub const FOR_EVER: Window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };

/// A volume, what was done to it, and by which records.
pub struct Known {
    pub name: &'static str,
    pub writer: Writer,
    pub log: Vec<(Lsn, Patch)>,
}

impl Known {
    pub fn new(name: &'static str, seed: u64) -> Known {
        Known { name, writer: Writer::new(SIZE, seed), log: Vec::new() }
    }

    /// Makes a change, mostly a small one: those are what the journal has whole.
    pub fn change(&mut self, store: &Store, now: Timestamp) {
        let volume = device(store, self.name);
        if self.writer.roll(8) == 0 {
            let (patch, lsn) = self.writer.change(&*volume, now).expect("room");
            if lsn > Lsn(0) {
                self.log.push((lsn, patch));
            }
            return;
        }
        let len = 512 * (1 + self.writer.roll(24));
        let offset = 512 * self.writer.roll((SIZE - len) / 512);
        let data = noise(self.writer.roll(1 << 40), len as usize);
        let lsn = volume.write(now, offset, data.clone().into()).expect("room");
        let patch = Patch { ranges: vec![(offset, data.into())] };
        patch.apply(&mut self.writer.image);
        self.log.push((lsn, patch));
    }

    /// The volume behind its first `count` changes.
    pub fn image(&self, count: usize) -> Vec<u8> {
        let mut image = vec![0; SIZE as usize];
        self.log[..count].iter().for_each(|(_, patch)| patch.apply(&mut image));
        image
    }

    /// Compares the moment behind the change `nth` with what it must be.
    pub fn look(&self, store: &Store, nth: usize, what: &str) {
        let (lsn, _) = self.log[nth];
        let now = Timestamp(1);
        store.clone_at(self.name, &Moment::Lsn(lsn), "past", now).expect("within the window");
        expect(&*device(store, "past"), &self.image(nth + 1), &format!("{what}: {} at record {lsn}", self.name));
        store.delete_dataset("past", now).expect("just made");
    }

    /// Looks at so many moments, spread over all, the first and the last among them.
    pub fn look_at(&self, store: &Store, count: usize, what: &str) {
        let last = self.log.len() - 1;
        (0..count).for_each(|nth| self.look(store, last * nth / (count - 1), what));
    }
}

pub fn drain(store: &Store, now: Timestamp) {
    while store.drain_step(now).expect("room") {}
}

pub fn sound(store: &Store, what: &str) {
    let check = store.check(true, &mut |_| true).expect("a sound machine");
    assert!(check.is_sound(), "{what}: {:?}", check.problems);
}

pub fn history_files(disk: &SimDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.starts_with("history/")).collect()
}

/// Two volumes with windows and a noisy one without.
pub fn volumes(store: &Store) {
    for name in ["first", "second", "noisy"] {
        store.create_volume(name, SIZE, Policy::Inline, Timestamp(1)).expect("room");
    }
    store.set_window("first", Some(FOR_EVER), Timestamp(1)).expect("room");
    store.set_window("second", Some(FOR_EVER), Timestamp(1)).expect("room");
}

/// Writes of nobody's interest.
pub fn noise_beside(store: &Store, rng: &mut Xoshiro256PlusPlus, now: Timestamp) {
    let offset = 4096 * rng.random_range(0..SIZE / 4096);
    device(store, "noisy").write(now, offset, noise(rng.random(), 4096).into()).expect("room");
}

/// A store with much to split, all of it drained, and closed without having been split.
pub fn ripe(seed: u64) -> (SimDisk, [Known; 2]) {
    let disk = SimDisk::new(seed);
    let store = open_splitting(&disk).expect("an empty disk").0;
    volumes(&store);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut known = [Known::new("first", seed), Known::new("second", seed + 1000)];
    for step in 0..1500 {
        let now = Timestamp(2 + step / 3);
        match step % 5 {
            0..=2 => known[0].change(&store, now),
            3 if step % 50 < 10 => known[1].change(&store, now),
            _ => noise_beside(&store, &mut rng, now),
        }
        if step % 150 == 149 {
            store.drain_all(now).expect("room");
        }
    }
    device(&store, "first").flush().expect("a sound disk");
    drop(store);
    (disk, known)
}
