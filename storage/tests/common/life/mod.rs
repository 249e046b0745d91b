//! The whole life of a store on a simulated disk: clients write to shares and to a volume, snapshots come and go, are cloned, sealed and
//! locked, the pump drains, a branch sends to it, it sends to a peer, reclaim and scrubs run beside all of that; and the disk
//! loses power, fails syncs, fills up, rots, and somebody sets the clock. One seed is one life.
//!
//! What is known of shares and snapshots is the `World`'s; this adds everybody else, the faults, and what is checked.

mod disk;
mod faults;
mod finale;
mod peer;

use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::id::IdSource;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::reclaim::{Reclaim, Stepped};
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Result, Store, StoreOptions};

use self::disk::Disk;
use self::faults::{Fault, Rotten};
use self::peer::Peer;
use super::common::{open_splitting, splitting};
use super::received::Branch;
use super::world::World;

/// What a life saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub checks: u64,
    pub restarts: u64,
    pub power_cuts: u64,
    pub failed_syncs: u64,
    pub full_disks: u64,
    pub wounds: u64,
    pub reclaims: u64,
    pub containers_freed: u64,
    pub scrubs: u64,
    pub received: u64,
    pub sent: u64,
    pub moments: u64,
    pub locks_kept: u64,
    pub had_back: u64,
    pub in_the_way: u64,
}

impl Tally {
    /// Adds what another life saw.
    pub fn add(&mut self, other: &Tally) {
        let pairs = [
            (&mut self.steps, other.steps),
            (&mut self.checks, other.checks),
            (&mut self.restarts, other.restarts),
            (&mut self.power_cuts, other.power_cuts),
            (&mut self.failed_syncs, other.failed_syncs),
            (&mut self.full_disks, other.full_disks),
            (&mut self.wounds, other.wounds),
            (&mut self.reclaims, other.reclaims),
            (&mut self.containers_freed, other.containers_freed),
            (&mut self.scrubs, other.scrubs),
            (&mut self.received, other.received),
            (&mut self.sent, other.sent),
            (&mut self.moments, other.moments),
            (&mut self.locks_kept, other.locks_kept),
            (&mut self.had_back, other.had_back),
            (&mut self.in_the_way, other.in_the_way),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
    }
}

/// What a life is made to do wrong, for canaries: a harness that does not see it is worth nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// Nothing.
    #[default]
    None,
    /// Runs of reclaim do not see what is acquired beside them.
    BlindDoor,
    /// The disk says that it synced, and did not.
    LyingDisk,
}

pub struct Life {
    world: World,
    disk: Disk,
    branch: Branch,
    peer: Peer,
    run: Option<Reclaim>,
    scrubbed: Option<u64>,
    fault: Fault,
    /// What was damaged once.
    healed: Vec<Rotten>,
    canary: Canary,
    pub tally: Tally,
    /// What happened, in order.
    pub trace: Vec<String>,
}

/// How long what is deleted can be had back, in every other life.
const QUARANTINE: Duration = Duration::from_secs(6 * 3600);

/// A store whose journal is split soon and often, and that keeps what is deleted.
fn open_keeping(disk: &SimDisk) -> Result<(Store, OpenReport)> {
    let options = StoreOptions { ids: IdSource::seeded(disk.syncs()), quarantine: QUARANTINE, ..splitting() };
    Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options)
}

impl Life {
    pub fn new(seed: u64, canary: Canary) -> Life {
        let disk = SimDisk::new(seed);
        let world = match seed % 2 {
            0 => World::keeping(open_keeping, QUARANTINE, disk, seed),
            _ => World::opened_by(open_splitting, disk, seed),
        };
        let mut world = world.expect("a sound disk");
        world.run(5);
        let disk = Disk::new(world.store(), seed);
        Life {
            world,
            disk,
            branch: Branch::new(seed ^ 0xB0A7),
            peer: Peer::new(seed ^ 0x9EE6),
            run: None,
            scrubbed: None,
            fault: Fault::None,
            healed: Vec::new(),
            canary,
            tally: Tally::default(),
            trace: Vec::new(),
        }
    }

    /// So many steps, with a look at everything every now and then.
    pub fn live(&mut self, steps: u64) {
        for step in 1..=steps {
            self.step();
            self.watch();
            if step % 40 == 0 && self.fault.is_none() {
                self.expect_all();
            }
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if std::env::var_os("NARROWBOAT_TRACE").is_some() {
            println!("{:4} {what}", self.tally.steps);
        }
        self.trace.push(format!("{:4} {what}", self.tally.steps));
    }

    /// Something happens.
    fn step(&mut self) {
        self.tally.steps += 1;
        match self.world.roll(100) {
            0..=25 => self.change(),
            26..=35 => self.write(),
            36..=45 => self.receive(),
            46..=52 => self.send(),
            53..=76 => self.reclaim(),
            77..=82 => self.scrub(),
            83..=84 => self.look_back(),
            85..=87 => {
                self.note("lock");
                self.world.lock();
            }
            88..=89 => {
                let seconds = self.world.roll(4000);
                self.note(format!("run for {seconds} s"));
                self.world.run_for(seconds);
            }
            90 => self.set_clock(),
            91..=92 if !self.fault.is_damage() && !self.world.quarantine.is_zero() => {
                self.note("have something back, or let it go");
                self.world.quarantine_step();
                self.tally.had_back = self.world.had_back;
            }
            _ => self.trouble(),
        }
        self.bear();
    }

    /// One step of what clients of the shares and the administrator do.
    fn change(&mut self) {
        // While something is damaged, an answer may fail behind a change that was made: then nobody knows which it was.
        if self.fault.is_damage() {
            return;
        }
        match self.world.roll(4) {
            0 => {
                let shares: Vec<String> = self.world.shares.keys().cloned().collect();
                let share = &shares[self.world.roll(shares.len() as u64) as usize];
                self.note(format!("write again to {share}"));
                self.expect_sound(|life| life.world.write_again(share));
            }
            _ => {
                self.note("change");
                self.world.run_on(1);
            }
        }
    }

    fn write(&mut self) {
        let now = self.world.now();
        let done = self.disk.step(self.world.store(), now);
        self.note(format!("disk: {done}"));
    }

    fn receive(&mut self) {
        let (steps, now) = (1 + self.world.roll(25), self.world.now());
        self.note(format!("receive {steps}"));
        self.expect_sound(|life| life.branch.send(life.world.store.as_ref().expect("open"), steps, now));
        self.tally.received = self.branch.shown();
    }

    fn send(&mut self) {
        let (steps, now) = (1 + self.world.roll(25), self.world.now());
        if self.peer.is_idle()
            && let Some((key, share, label)) = self.world.any_snapshot()
        {
            self.note(format!("begin to send {key}"));
            let image = self.world.snapshots[&key].image.clone();
            self.expect_sound(|life| {
                let store = life.world.store.as_ref().expect("open");
                let row = store.snapshot_named(&share, &label)?;
                life.peer.begin(store, &row, image, now)
            });
        }
        self.note(format!("send {steps}"));
        self.expect_sound(|life| life.peer.take(life.world.store.as_ref().expect("open"), steps, now));
        self.tally.sent = self.peer.shown();
    }

    /// Some steps of a run of reclaim.
    fn reclaim(&mut self) {
        let steps = 1 + self.world.roll(4);
        for _ in 0..steps {
            let now = self.world.now();
            let store = self.world.store.as_ref().expect("open");
            if self.run.is_none() {
                self.run = store.reclaim().ok();
                match (&self.run, self.canary) {
                    (Some(run), Canary::BlindDoor) => run.blind_the_door(),
                    (Some(_), _) => {}
                    (None, _) => return self.expect_trouble("a run of reclaim does not begin"),
                }
            }
            let Some(run) = &mut self.run else { return };
            let (stepped, phase) = (run.step(store, now), run.phase());
            self.note(format!("reclaim: {phase:?}"));
            match stepped {
                Ok(Stepped::Done) => self.reclaimed(),
                Ok(_) => {}
                Err(error) => {
                    self.run = None;
                    self.expect_trouble(&error.to_string());
                }
            }
        }
    }

    fn reclaimed(&mut self) {
        let Some(run) = self.run.take() else { return };
        let report = run.report();
        if report.stopped.is_some() || !report.damage.is_empty() {
            assert!(self.may_see_damage(), "{report:?}");
        }
        if !report.obstacles.is_empty() && self.world.disk.is_on() {
            assert_eq!((report.nodes_freed, report.containers_removed, report.containers_rewritten), (0, 0, 0));
            let told = self.world.store().in_the_way(&report.obstacles, &|| false).expect("a disk");
            self.tally.in_the_way += u64::from(!told.is_empty());
        }
        self.tally.reclaims += 1;
        self.tally.containers_freed += report.containers_removed + report.containers_rewritten;
    }

    /// A piece of a scrub.
    fn scrub(&mut self) {
        let bytes = 1 + self.world.roll(1 << 20);
        match self.world.store().pool().scrub(self.scrubbed, bytes) {
            Ok(piece) => {
                self.note(format!("scrub up to {:?}", piece.upto));
                if !piece.damage.is_empty() {
                    assert!(self.may_see_damage(), "{:?}", piece.damage);
                }
                self.tally.scrubs += u64::from(piece.upto.is_none());
                self.scrubbed = piece.upto;
            }
            Err(error) => self.expect_trouble(&error.to_string()),
        }
    }

    fn look_back(&mut self) {
        if !self.fault.is_none() {
            return;
        }
        self.note("look back");
        let salt = self.world.roll(1000);
        self.tally.moments += self.disk.look_back(self.world.store(), salt);
    }

    fn set_clock(&mut self) {
        const DAY: u64 = 86_400 * 1_000_000_000;
        let (now, by) = (self.world.now().0, (self.world.roll(400 * DAY) + 1) as i64);
        let to = if self.world.roll(2) == 0 { now.saturating_sub(by).max(1) } else { now.saturating_add(by) };
        self.note(format!("the clock says {to}"));
        self.world.set_clock(Timestamp(to));
    }

    /// True where something is damaged, or nothing can be read at all.
    fn may_see_damage(&self) -> bool {
        self.fault.is_damage() || !self.world.disk.is_on()
    }

    /// What does not succeed although nothing is wrong with the disk is wrong itself.
    fn expect_sound(&mut self, work: impl FnOnce(&mut Life) -> Result<()>) {
        if let Err(error) = work(self) {
            self.expect_trouble(&error.to_string());
        }
    }

    fn expect_trouble(&mut self, what: &str) {
        self.note(what);
        assert!(!self.fault.is_none(), "the disk is sound: {what}");
    }

    /// What is seen after every step: locks hold, no snapshot is missing, and the clock that counts for locks does not run ahead.
    fn watch(&mut self) {
        let store = self.world.store();
        for key in self.world.snapshots.keys() {
            let (share, label) = key.split_once('@').expect("a key");
            assert!(store.snapshot_named(share, label).is_ok(), "{key} is gone");
        }
        let held = self.world.locks.held().filter(|key| self.world.snapshots.contains_key(*key)).count();
        assert!(store.run_seconds() <= self.world.locks.ran, "the store ran for longer than there was time");
        self.tally.locks_kept += held as u64;
    }

    /// Everything is as the model says.
    fn expect_all(&mut self) {
        self.note("everything is as the model says");
        self.tally.checks += 1;
        self.world.expect_all();
        let store = self.world.store();
        self.disk.expect(store, "now");
        self.branch.expect_all(store);
        self.peer.expect_all();
    }
}
