//! Steps that change bytes: writes of every shape, truncation, commits.

use bytes::Bytes;
use narrowboat_storage::dataset::SetAttributes;
use narrowboat_storage::units::{Inode, Timestamp};
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::common::{at, noise};
use super::{Live, World};

impl World {
    pub fn data(&mut self) -> Bytes {
        let len = match self.roll(10) {
            0..4 => 1 + self.roll(200),
            4..7 => 1 + self.roll(20_000),
            7..9 => 60_000 + self.roll(300_000),
            _ => 1_000_000 + self.roll(2_000_000),
        } as usize;
        let data = match self.roll(8) {
            0 => Bytes::from(vec![0; len]),
            1 => Bytes::from(vec![b'x'; len]),
            2 if !self.known.is_empty() => {
                let known = self.known.choose(&mut self.rng).cloned().expect("not empty");
                let from = self.rng.random_range(0..known.len());
                known.slice(from..known.len().min(from + len))
            }
            3 => {
                // Noise with a hole in it.
                let mut bytes = noise(self.rng.random(), len);
                let from = self.rng.random_range(0..len);
                let to = (from + 50_000).min(len);
                bytes[from..to].fill(0);
                Bytes::from(bytes)
            }
            _ => Bytes::from(noise(self.rng.random(), len)),
        };
        if self.known.len() < 20 {
            self.known.push(data.clone());
        }
        data
    }

    /// Where to write: often at the end or the front, sometimes behind the end, seldom very far.
    pub fn offset(&mut self, size: u64) -> u64 {
        match self.roll(20) {
            0..7 => size,
            7..10 => 0,
            10..12 => size + self.roll(200_000),
            12..14 => (self.roll(size + 1) / 4096) * 4096,
            14 => (1 << 40) + self.roll(1 << 20),
            _ => self.roll(size + 1),
        }
    }

    pub fn write_at(&mut self, live: usize, inode: u64, offset: u64, data: Bytes) {
        let now = self.now;
        let Live { tree, model, .. } = &mut self.live[live];
        let changed = tree.write(&at(now), Inode(inode), offset, data.clone()).expect("room");
        model.content(inode).write(offset, &data);
        let size = model.content(inode).size;
        let file = model.file(inode);
        (file.modified, file.changed) = (now, now);
        assert_eq!((changed.after.size, changed.after.modified), (size, Timestamp(now)));
        self.stable = self.stable.max(changed.lsn);
    }

    /// A file that is written, made where there is none.
    pub fn some_file(&mut self, live: usize) -> u64 {
        let files = self.live[live].model.regular();
        match self.one_of(&files) {
            Some(inode) => inode,
            None => self.create(live),
        }
    }

    pub fn write(&mut self, live: usize) -> &'static str {
        let inode = self.some_file(live);
        let size = self.live[live].model.content(inode).size;
        let (offset, data) = (self.offset(size), self.data());
        self.write_at(live, inode, offset, data);
        "write"
    }

    /// As a client copies a file: pieces one behind the other, now and then out of order, perhaps a commit.
    pub fn write_much(&mut self, live: usize) -> &'static str {
        let inode = self.create(live);
        let piece = self.one_of(&[8 << 10, 128 << 10, 100_001]).expect("not empty");
        let data = Bytes::from(noise(self.rng.random(), 200_000 + self.rng.random_range(0..3_000_000)));
        let mut starts: Vec<usize> = (0..data.len()).step_by(piece).collect();
        if self.roll(2) == 0 {
            let count = starts.len();
            for _ in 0..count / 4 {
                let at = self.rng.random_range(0..count);
                starts.swap(at, (at + 2).min(count - 1));
            }
        }
        for start in starts {
            self.write_at(live, inode, start as u64, data.slice(start..data.len().min(start + piece)));
        }
        if self.roll(2) == 0 {
            self.commit_file(live, inode);
        }
        "write much"
    }

    pub fn truncate(&mut self, live: usize) -> &'static str {
        let inode = self.some_file(live);
        let old = self.live[live].model.content(inode).size;
        let size = match self.roll(6) {
            0 => 0,
            1 => old + self.roll(300_000),
            2 => old,
            _ => self.roll(old + 1),
        };
        let now = self.now;
        let Live { tree, model, .. } = &mut self.live[live];
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        let changed = tree.set_attributes(&at(now), Inode(inode), &set, None).expect("room");
        model.content(inode).resize(size);
        let file = model.file(inode);
        (file.modified, file.changed) = (now, now);
        self.stable = self.stable.max(changed.lsn);
        "truncate"
    }

    pub fn commit_file(&mut self, live: usize, inode: u64) {
        let tree = &self.live[live].tree;
        let changed = tree.commit(Inode(inode)).expect("room");
        tree.make_stable(changed.lsn).expect("a sound disk");
    }

    pub fn commit(&mut self, live: usize) -> &'static str {
        let inode = self.some_file(live);
        self.commit_file(live, inode);
        "commit"
    }
}
