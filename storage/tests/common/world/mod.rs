//! A seeded workload on a store, and a model that knows what must survive a crash and what may.
//!
//! The namespace is observed after every change: what a crash leaves must be one of the states since the last stable one,
//! for the journal keeps order. File contents are modelled byte by byte: each byte must be from the stable state or
//! from a later one, in a file whose length some such state had.

mod locks;
mod quarantine;
mod recovery;
mod share;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::Name;
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::{Lsn, Timestamp};
use narrowboat_storage::{Result, Store};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::open;
use locks::Locks;
use share::Share;
pub use share::{Image, Names, image};

/// What is known of one snapshot.
#[derive(Clone)]
pub struct Snapshot {
    pub share: String,
    pub image: Image,
    pub root: Option<Option<Name>>,
}

/// How a world's store is opened.
pub type Opens = fn(&SimDisk) -> Result<(Store, OpenReport)>;

/// The store under test, and the model of it.
pub struct World {
    pub disk: SimDisk,
    pub store: Option<Store>,
    pub shares: BTreeMap<String, Share>,
    pub snapshots: BTreeMap<String, Snapshot>,
    pub settings: BTreeMap<String, u64>,
    /// Names of shares, snapshots (`share@name`) and settings whose change failed: it may have happened.
    pub unsure: BTreeSet<String>,
    /// Snapshots whose creation failed, as they must be if they are there.
    pub unsure_snapshots: BTreeMap<String, Snapshot>,
    pub locks: Locks,
    opens: Opens,
    /// How long what is deleted can be had back.
    pub quarantine: Duration,
    /// Snapshots and shares that were deleted and can be had back.
    pub deleted: BTreeMap<String, Snapshot>,
    pub deleted_shares: BTreeMap<String, (Share, BTreeMap<String, Snapshot>)>,
    /// Times that something was had back.
    pub had_back: u64,
    rng: Xoshiro256PlusPlus,
    clock: i64,
    /// Changes that were stable.
    pub stable_changes: u64,
}

impl World {
    /// A new store with one share on a disk.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn new(disk: SimDisk, seed: u64) -> Option<World> {
        World::opened_by(open, disk, seed)
    }

    /// The same where what is deleted can be had back for so long, in a store that `opens` opens so.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn keeping(opens: Opens, quarantine: Duration, disk: SimDisk, seed: u64) -> Option<World> {
        Some(World { quarantine, ..World::opened_by(opens, disk, seed)? })
    }

    /// The same, with a store that is opened in another way.
    pub fn opened_by(opens: Opens, disk: SimDisk, seed: u64) -> Option<World> {
        let (store, _) = opens(&disk).ok()?;
        Some(World {
            disk,
            store: Some(store),
            shares: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            settings: BTreeMap::new(),
            unsure: BTreeSet::new(),
            unsure_snapshots: BTreeMap::new(),
            locks: Locks::default(),
            opens,
            quarantine: Duration::ZERO,
            deleted: BTreeMap::new(),
            deleted_shares: BTreeMap::new(),
            had_back: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            clock: 1,
            stable_changes: 0,
        })
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    pub fn roll(&mut self, below: u64) -> u64 {
        self.rng.random_range(0..below)
    }

    pub fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp(self.clock)
    }

    /// Somebody sets the clock.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn set_clock(&mut self, to: Timestamp) {
        self.clock = to.0;
    }

    /// Makes up to `steps` random steps; ends early where the power is gone. Errors are fine: the model then knows of
    /// nothing that must have happened.
    pub fn run(&mut self, steps: u64) {
        self.create_share("main");
        self.run_on(steps);
    }

    /// Goes on with random steps.
    pub fn run_on(&mut self, steps: u64) {
        for _ in 0..steps {
            if !self.disk.is_on() {
                return;
            }
            let names: Vec<String> = self.shares.keys().cloned().collect();
            if names.is_empty() {
                return;
            }
            let share = names[self.roll(names.len() as u64) as usize].clone();
            match self.roll(100) {
                0..=54 => drop(self.change(&share)),
                55..=69 => drop(self.commit(&share)),
                70..=77 => drop(self.drain()),
                78..=85 => self.snapshot(&share),
                86..=88 => self.delete_snapshot(),
                89..=95 if !self.quarantine.is_zero() && self.roll(2) == 0 => self.quarantine_step(),
                89..=91 => self.clone_snapshot(),
                92 => self.delete_clone(),
                93..=95 => self.set(),
                _ => drop(self.seal()),
            }
        }
    }

    fn create_share(&mut self, name: &str) {
        let now = self.now();
        match self.store().create_share(name, Policy::Inline, now) {
            Ok(info) => drop(self.shares.insert(name.to_owned(), Share::new(name, info.row.id, &Image::new()))),
            Err(_) => drop(self.unsure.insert(name.to_owned())),
        }
    }

    fn stable(&mut self, lsn: Lsn) {
        self.stable_changes += 1;
        self.shares.values_mut().for_each(|share| share.stable(lsn));
    }
}
