//! Random operations with data on whole stores, against a model tree with byte contents: writes of every shape, sparse
//! files, truncation, names, commits, snapshots, clones, drain steps at random moments, closing and opening, and power
//! cuts once everything was made stable. One seed is one world; `NARROWBOAT_SEEDS` sets how many are run.

mod common;
#[path = "model/compare.rs"]
mod compare;
#[path = "model/tree.rs"]
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use common::{at, noise, small};
use compare::{compare_content, compare_tree};
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Create, FileTree, Made, SetAttributes};
use narrowboat_storage::id::{IdSource, SnapshotId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tree::{Body, Content, Tree};

const SEEDS: u64 = 12;
const STEPS: usize = 160;

/// A live dataset and what it should hold.
struct Live {
    name: String,
    tree: Arc<dyn FileTree>,
    model: Tree,
}

/// A snapshot and what it should hold for ever.
struct Moment {
    dataset: String,
    name: String,
    id: SnapshotId,
    model: Tree,
}

struct World {
    rng: StdRng,
    disk: SimDisk,
    store: Store,
    live: Vec<Live>,
    moments: Vec<Moment>,
    /// Every inode number that was ever given: none may come again in the same dataset.
    given: BTreeSet<(String, u64)>,
    stable: Lsn,
    now: i64,
    /// Bytes that were written earlier, to be written again elsewhere.
    known: Vec<Bytes>,
}

/// Opens the store. Nobody drains while a write waits, so no write must ever wait.
fn open(disk: &SimDisk) -> narrowboat_storage::Result<(Store, OpenReport)> {
    let mut options = small();
    options.ids = IdSource::seeded(disk.syncs());
    options.pressure.block_bytes = u64::MAX;
    Store::open(Arc::new(disk.clone()), options)
}

fn seeds() -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn stores_hold_what_was_written_to_them() {
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            let operation = world.step();
            let place = format!("seed {seed}, step {step}: {operation}");
            world.compare_something(&place);
        }
        world.finish(&format!("seed {seed}, at the end"));
    }
}

#[test]
#[should_panic(expected = "content")]
fn the_harness_sees_one_wrong_byte() {
    let mut world = World::new(1);
    let inode = world.create(0);
    world.write_at(0, inode, 0, Bytes::from(noise(5, 100_000)));
    world.live[0].model.content(inode).write(77_777, b"!");
    world.compare_all("canary");
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let (store, _) = open(&disk).expect("an empty disk");
        let policy = [Policy::Inline, Policy::Inline, Policy::Deferred, Policy::Off][(seed % 4) as usize];
        let share = store.create_share("share", policy, Timestamp(1)).expect("room");
        let tree = store.tree(share.row.id).expect("just created");
        let live = vec![Live { name: "share".into(), tree, model: Tree::new(1) }];
        let rng = StdRng::seed_from_u64(seed);
        let given = BTreeSet::from([("share".to_string(), 1)]);
        World { rng, disk, store, live, moments: Vec::new(), given, stable: Lsn(0), now: 1, known: Vec::new() }
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.rng.random_range(0..sides)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.choose(&mut self.rng).copied()
    }

    fn step(&mut self) -> &'static str {
        self.now += 1 + self.roll(3) as i64;
        let live = self.roll(self.live.len() as u64) as usize;
        match self.roll(100) {
            0..30 => self.write(live),
            30..36 => self.write_much(live),
            36..42 => self.truncate(live),
            42..54 => {
                self.create(live);
                "create"
            }
            54..60 => self.make_other(live),
            60..66 => self.remove(live),
            66..74 => self.rename(live),
            74..80 => self.commit(live),
            80..86 => {
                self.store.drain_step(Timestamp(self.now)).expect("room");
                "drain step"
            }
            86..89 => {
                self.store.drain_all(Timestamp(self.now)).expect("room");
                "drain all"
            }
            89..93 => self.snapshot(live),
            93..94 => self.forget_snapshot(),
            94..96 => self.clone_snapshot(),
            96..98 => self.reopen(),
            _ => self.power_cut(),
        }
    }

    // ---- data

    fn data(&mut self) -> Bytes {
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
    fn offset(&mut self, size: u64) -> u64 {
        match self.roll(20) {
            0..7 => size,
            7..10 => 0,
            10..12 => size + self.roll(200_000),
            12..14 => (self.roll(size + 1) / 4096) * 4096,
            14 => (1 << 40) + self.roll(1 << 20),
            _ => self.roll(size + 1),
        }
    }

    fn write_at(&mut self, live: usize, inode: u64, offset: u64, data: Bytes) {
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
    fn some_file(&mut self, live: usize) -> u64 {
        let files = self.live[live].model.regular();
        match self.one_of(&files) {
            Some(inode) => inode,
            None => self.create(live),
        }
    }

    fn write(&mut self, live: usize) -> &'static str {
        let inode = self.some_file(live);
        let size = self.live[live].model.content(inode).size;
        let (offset, data) = (self.offset(size), self.data());
        self.write_at(live, inode, offset, data);
        "write"
    }

    /// As a client copies a file: pieces one behind the other, now and then out of order, perhaps a commit.
    fn write_much(&mut self, live: usize) -> &'static str {
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

    fn truncate(&mut self, live: usize) -> &'static str {
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

    fn commit_file(&mut self, live: usize, inode: u64) {
        let tree = &self.live[live].tree;
        let changed = tree.commit(Inode(inode)).expect("room");
        tree.make_stable(changed.lsn).expect("a sound disk");
    }

    fn commit(&mut self, live: usize) -> &'static str {
        let inode = self.some_file(live);
        self.commit_file(live, inode);
        "commit"
    }

    // ---- names

    fn some_dir(&mut self, live: usize) -> u64 {
        let dirs = self.live[live].model.dirs();
        self.one_of(&dirs).expect("the root is there")
    }

    /// A directory and a name that is free in it.
    fn vacancy(&mut self, live: usize) -> (u64, Vec<u8>) {
        let dir = self.some_dir(live);
        let mut number = self.roll(30);
        while self.live[live].model.entries(dir).contains_key(number.to_string().as_bytes()) {
            number += 1;
        }
        (dir, number.to_string().into_bytes())
    }

    /// A directory and a name that is in it, if there is any.
    fn entry(&mut self, live: usize) -> Option<(u64, Vec<u8>, u64)> {
        let dir = self.some_dir(live);
        let entries: Vec<_> = self.live[live].model.entries(dir).iter().collect();
        let (name, inode) = entries.choose(&mut self.rng)?;
        Some((dir, (*name).clone(), **inode))
    }

    fn made(&mut self, live: usize, dir: u64, name: &[u8], made: Made, body: Body) -> u64 {
        let Live { name: dataset, model, .. } = &mut self.live[live];
        let inode = made.file.inode.0;
        assert!(self.given.insert((dataset.clone(), inode)), "inode {inode} of {dataset} was given before");
        model.add(dir, name, inode, body, self.now);
        self.stable = self.stable.max(made.dir.lsn);
        inode
    }

    fn create(&mut self, live: usize) -> u64 {
        let (dir, name) = self.vacancy(live);
        let how = Create::Guarded(SetAttributes { mode: Some(0o644), ..SetAttributes::default() });
        let made = self.live[live].tree.create(&at(self.now), Inode(dir), &name, &how).expect("room");
        self.made(live, dir, &name, made, Body::Regular(Content::default()))
    }

    fn make_other(&mut self, live: usize) -> &'static str {
        let (dir, name) = self.vacancy(live);
        let (call, none, tree) = (at(self.now), SetAttributes::default(), self.live[live].tree.clone());
        match self.roll(4) {
            0 => {
                let target = vec![b't'; 1 + self.roll(1500) as usize];
                let made = tree.make_symlink(&call, Inode(dir), &name, &target, &none).expect("room");
                self.made(live, dir, &name, made, Body::Symlink(target));
                "symlink"
            }
            1 => {
                let files = self.live[live].model.regular();
                let Some(inode) = self.one_of(&files) else { return "no link" };
                let made = tree.link(&call, Inode(inode), Inode(dir), &name).expect("room");
                self.live[live].model.link(dir, &name, inode, self.now);
                self.stable = self.stable.max(made.dir.lsn);
                "link"
            }
            _ => {
                let made = tree.make_dir(&call, Inode(dir), &name, &none).expect("room");
                self.made(live, dir, &name, made, Body::Dir(BTreeMap::new()));
                "mkdir"
            }
        }
    }

    fn remove(&mut self, live: usize) -> &'static str {
        let Some((dir, name, inode)) = self.entry(live) else { return "nothing to remove" };
        let (tree, call) = (self.live[live].tree.clone(), at(self.now));
        let model = &mut self.live[live].model;
        if !model.is_dir(inode) {
            let changed = tree.remove(&call, Inode(dir), &name).expect("it is there");
            model.remove(dir, &name, self.now);
            self.stable = self.stable.max(changed.lsn);
        } else if model.entries(inode).is_empty() {
            let changed = tree.remove_dir(&call, Inode(dir), &name).expect("it is empty");
            model.remove(dir, &name, self.now);
            self.stable = self.stable.max(changed.lsn);
        } else {
            tree.remove_dir(&call, Inode(dir), &name).expect_err("it has entries");
        }
        "remove"
    }

    fn rename(&mut self, live: usize) -> &'static str {
        let Some((dir, name, inode)) = self.entry(live) else { return "nothing to rename" };
        let (to, to_name) = match self.entry(live) {
            Some((to, to_name, _)) if self.rng.random_bool(0.4) => (to, to_name),
            _ => self.vacancy(live),
        };
        let Live { tree, model, .. } = &mut self.live[live];
        let over = model.entries(to).get(&to_name).copied();
        let fits = match over {
            Some(over) if over == inode => true,
            Some(over) if model.is_dir(inode) => model.is_dir(over) && model.entries(over).is_empty(),
            Some(over) => !model.is_dir(over),
            None => true,
        };
        let loops = model.is_dir(inode) && model.below(to, inode) || over.is_some_and(|over| model.below(dir, over));
        let result = tree.rename(&at(self.now), (Inode(dir), &name), (Inode(to), &to_name));
        if fits && !loops {
            let (_, changed) = result.expect("it may");
            model.rename((dir, &name), (to, &to_name), self.now);
            self.stable = self.stable.max(changed.lsn);
        } else {
            result.expect_err("it may not");
        }
        "rename"
    }

    // ---- moments

    fn snapshot(&mut self, live: usize) -> &'static str {
        let name = format!("s{}", self.now);
        let Live { name: dataset, model, .. } = &self.live[live];
        let row = self.store.create_snapshot(dataset, &name, Timestamp(self.now)).expect("room");
        self.moments.push(Moment { dataset: dataset.clone(), name, id: row.id, model: model.clone() });
        "snapshot"
    }

    fn forget_snapshot(&mut self) -> &'static str {
        if self.moments.is_empty() {
            return "no snapshot to forget";
        }
        let index = self.roll(self.moments.len() as u64) as usize;
        let Moment { dataset, name, .. } = self.moments.swap_remove(index);
        self.store.delete_snapshot(&dataset, &name, Timestamp(self.now)).expect("not held");
        "forget snapshot"
    }

    fn clone_snapshot(&mut self) -> &'static str {
        if self.moments.is_empty() || self.live.len() >= 3 {
            return "no clone";
        }
        let index = self.roll(self.moments.len() as u64) as usize;
        let Moment { dataset, name, model, .. } = &self.moments[index];
        let clone = format!("clone{}", self.live.len());
        let made = self.store.clone_snapshot(dataset, name, &clone, Timestamp(self.now)).expect("room");
        let tree = self.store.tree(made.row.id).expect("just made");
        let inherited: Vec<_> = model.files.keys().map(|inode| (clone.clone(), *inode)).collect();
        self.given.extend(inherited);
        self.live.push(Live { name: clone, tree, model: model.clone() });
        "clone"
    }

    /// Opens the store again; the caller has made sure that everything may be expected back.
    fn open_again(&mut self) {
        let (store, report) = open(&self.disk).expect("sound");
        assert!(!report.created);
        for live in &mut self.live {
            live.tree = store.tree(store.dataset_named(&live.name).expect("there").row.id).expect("open");
        }
        self.store = store;
    }

    fn reopen(&mut self) -> &'static str {
        self.store.close(Timestamp(self.now)).expect("room");
        self.let_go();
        self.open_again();
        "reopen"
    }

    /// Everything is made stable, then the power goes without a close.
    fn power_cut(&mut self) -> &'static str {
        for live in 0..self.live.len() {
            for inode in self.live[live].model.regular() {
                self.commit_file(live, inode);
            }
        }
        self.live[0].tree.make_stable(self.stable).expect("a sound disk");
        self.let_go();
        self.disk.power_cut();
        self.open_again();
        "power cut"
    }

    /// Closes all handles: one store at a time on a disk.
    fn let_go(&mut self) {
        let elsewhere = SimDisk::new(0);
        let (spare, _) = open(&elsewhere).expect("an empty disk");
        let share = spare.create_share("spare", Policy::Inline, Timestamp(1)).expect("room");
        let tree = spare.tree(share.row.id).expect("just created");
        self.live.iter_mut().for_each(|live| live.tree = tree.clone());
        self.store = spare;
    }

    // ---- comparing

    /// Mostly one file, sometimes all there is.
    fn compare_something(&mut self, place: &str) {
        if self.roll(12) == 0 {
            return self.compare_all(place);
        }
        let live = self.roll(self.live.len() as u64) as usize;
        let Live { tree, model, .. } = &self.live[live];
        let tree = tree.clone();
        if let Some(inode) = model.regular().choose(&mut self.rng).copied() {
            let content = self.live[live].model.content(inode).clone();
            compare_content(&*tree, inode, &content, &mut self.rng, place);
        }
    }

    fn compare_all(&mut self, place: &str) {
        for Live { name, tree, model } in &self.live {
            compare_tree(&**tree, model, &mut self.rng, &format!("{place}, {name}"));
            let totals = self.store.dataset_named(name).expect("there").totals;
            let dirs = model.dirs().len() as u64;
            let sizes =
                model.files.values().map(|file| if let Body::Regular(content) = &file.body { content.size } else { 0 });
            let expected = (model.files.len() as u64 - dirs, dirs, sizes.sum::<u64>());
            assert_eq!((totals.files, totals.directories, totals.logical_bytes), expected, "{place}, {name}: totals");
        }
        if let Some(moment) = self.moments.choose(&mut self.rng) {
            let tree = self.store.snapshot_tree(moment.id).expect("sealed");
            let place = format!("{place}, {}@{}", moment.dataset, moment.name);
            compare_tree(&*tree, &moment.model, &mut self.rng, &place);
        }
    }

    /// Every live tree and every snapshot, before and after a last restart; a moment that did not change has one root.
    fn finish(&mut self, place: &str) {
        for round in ["before", "after"] {
            self.compare_all(&format!("{place}, {round} the restart"));
            for Moment { dataset, name, id, model } in &self.moments {
                let tree = self.store.snapshot_tree(*id).expect("sealed");
                compare_tree(&*tree, model, &mut self.rng, &format!("{place}, {round} the restart, {dataset}@{name}"));
            }
            self.store.drain_all(Timestamp(self.now)).expect("room");
            let check = self.store.check(true, &mut |_| true).expect("a sound disk");
            assert!(check.is_sound(), "{place}, {round} the restart: {:#?}", check.problems);
            self.reopen();
        }
        let root = |name| {
            let row = self.store.create_snapshot("share", name, Timestamp(self.now)).expect("room");
            self.store.seal(row.id).expect("room").root
        };
        assert_eq!(root("last"), root("last again"), "{place}");
    }
}
