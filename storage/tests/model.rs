//! Random operations with data on whole stores, against a model tree with byte contents: writes of every shape, sparse
//! files, truncation, names, commits, snapshots, clones, drain steps at random moments, closing and opening, and power
//! cuts once everything was made stable. One seed is one world; `NARROWBOAT_SEEDS` sets how many are run.

mod common;
#[path = "model/compare.rs"]
mod compare;
#[path = "model/data.rs"]
mod data;
#[path = "model/moments.rs"]
mod moments;
#[path = "model/names.rs"]
mod names;
#[path = "model/tree.rs"]
mod tree;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use common::{noise, small};
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::id::{IdSource, SnapshotId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::{Lsn, Timestamp};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tree::Tree;

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
}
