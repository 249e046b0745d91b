//! What goes wrong, how long the store has to bear it, and how it comes back.

use narrowboat_storage::container::{Class, path};
use narrowboat_storage::id::ContainerId;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::{Pool, Stored, StreamId};

use super::{Canary, Life};

/// Room for whatever comes.
const ROOM: u64 = 1 << 40;
/// Bytes of a container file before its first slot, and of a slot before what it holds.
const SLOT_HEADER: u64 = 80;

/// An object whose only copy was damaged, as it was before.
pub struct Rotten {
    kind: Kind,
    name: Name,
    stored: Stored,
}

impl Rotten {
    /// What a peer that has it would send.
    fn bring_again(&self, pool: &Pool) {
        pool.put_stored(StreamId(8), self.kind, &self.name, &self.stored).expect("a sound disk");
    }
}

/// Reads everything once.
fn scrub(pool: &Pool) {
    let mut upto = None;
    loop {
        upto = pool.scrub(upto, 1 << 20).expect("a disk that can be read").upto;
        if upto.is_none() {
            return;
        }
    }
}

/// What is wrong with the disk.
pub enum Fault {
    None,
    /// The power will go at one of the next syncs.
    PowerCut {
        steps: u64,
    },
    /// One of the next syncs will fail.
    FailedSync {
        steps: u64,
        sync: u64,
    },
    Full {
        steps: u64,
    },
    Damage {
        steps: u64,
        rotten: Box<Rotten>,
    },
}

impl Fault {
    pub fn is_none(&self) -> bool {
        matches!(self, Fault::None)
    }
    pub fn is_damage(&self) -> bool {
        matches!(self, Fault::Damage { .. })
    }
    /// True where it has lasted for long enough.
    fn is_over(&mut self) -> bool {
        match self {
            Fault::None => false,
            Fault::PowerCut { steps }
            | Fault::FailedSync { steps, .. }
            | Fault::Full { steps }
            | Fault::Damage { steps, .. } => {
                *steps = steps.saturating_sub(1);
                *steps == 0
            }
        }
    }
}

impl Life {
    /// Something begins to be wrong, where nothing is yet.
    pub(super) fn trouble(&mut self) {
        if !self.fault.is_none() {
            return;
        }
        let steps = 1 + self.world.roll(20);
        let disk = self.world.disk.clone();
        let in_syncs = disk.syncs() + 1 + self.world.roll(25);
        match self.world.roll(9) {
            0..=2 => {
                self.note(format!("the power will go at sync {in_syncs}"));
                disk.cut_power_at_sync(in_syncs);
                self.fault = Fault::PowerCut { steps };
            }
            3 => {
                self.note(format!("sync {in_syncs} will fail"));
                disk.fail_sync_at(in_syncs);
                self.tally.failed_syncs += 1;
                self.fault = Fault::FailedSync { steps, sync: in_syncs };
            }
            4 => {
                let left = self.world.roll(5) * 300_000;
                self.note(format!("the disk has {left} bytes left"));
                disk.fill(left);
                self.disk.was_full();
                self.tally.full_disks += 1;
                self.fault = Fault::Full { steps };
            }
            5..=6 => self.rot(steps),
            _ => self.restart(),
        }
    }

    /// Some object rots, or can't be read any more.
    fn rot(&mut self, steps: u64) {
        let pool = self.world.store().pool().clone();
        let mut slots = Vec::new();
        pool.for_each_slot(|id, slot| slots.push((id, *slot)));
        if slots.is_empty() {
            return;
        }
        let (id, slot) = slots.swap_remove(self.world.roll(slots.len() as u64) as usize);
        // A copy that nobody refers to, or one that is not written out yet, is no loss.
        let Ok(stored) = pool.read_stored(slot.kind, &slot.name) else { return };
        let class = if slot.kind.is_node() { Class::Node } else { Class::Data };
        let (file, at) = (path(ContainerId(id.0), class), u64::from(slot.offset) + SLOT_HEADER);
        let disk = self.world.disk.clone();
        let harmed = match self.world.roll(2) {
            0 => disk.rot(&file, at, 4),
            _ => disk.fail_reads(&file, at..at + 1),
        };
        if harmed.is_ok() {
            self.note(format!("{file} is damaged at {at}"));
            let rotten = Box::new(Rotten { kind: slot.kind, name: slot.name, stored });
            self.fault = Fault::Damage { steps, rotten };
        }
    }

    /// Goes on with what is wrong, and ends it when its time has come.
    pub(super) fn bear(&mut self) {
        if !self.world.disk.is_on() {
            self.tally.power_cuts += 1;
            return self.lose_power();
        }
        if !self.fault.is_over() {
            return;
        }
        match std::mem::replace(&mut self.fault, Fault::None) {
            Fault::None => {}
            Fault::PowerCut { .. } => {
                self.tally.power_cuts += 1;
                self.lose_power();
            }
            Fault::FailedSync { sync, .. } => self.after_failed_sync(sync),
            Fault::Full { .. } => {
                self.note("there is room again");
                self.world.disk.set_capacity(ROOM);
            }
            Fault::Damage { rotten, .. } => self.heal(*rotten),
        }
    }

    /// A scrub finds what is damaged, it is not taken for known, and whoever brings it again heals it.
    fn heal(&mut self, rotten: Rotten) {
        // Runs of reclaim may have seen the damage.
        self.run = None;
        let pool = self.world.store().pool().clone();
        scrub(&pool);
        let is_wounded = pool.wounds().iter().any(|wound| wound.name == rotten.name);
        let is_here = pool.contains(rotten.kind, &rotten.name).expect("a disk");
        self.note(format!("scrubbed: wounded {is_wounded}, here {is_here}"));
        if is_wounded {
            let sound = pool.sound_batch(rotten.kind, &[rotten.name]).expect("a disk");
            assert_eq!(sound, [false], "what is damaged is taken for known");
            self.tally.wounds += 1;
        }
        // Otherwise it was garbage, and went.
        if is_here {
            rotten.bring_again(&pool);
        }
        pool.settle().expect("a sound disk");
        assert_eq!(pool.wounds(), [], "what was brought again heals it");
        self.healed.push(rotten);
    }

    /// An index that is built again from containers knows damaged copies of what was healed and then let go of. The next scrub finds
    /// them, and they are as any other.
    fn heal_again(&mut self) {
        self.world.try_to_open();
        let Some(store) = &self.world.store else { return };
        let pool = store.pool().clone();
        scrub(&pool);
        let mut found = 0;
        for wound in pool.wounds() {
            let known = self.healed.iter().find(|rotten| (rotten.kind, rotten.name) == (wound.kind, wound.name));
            known.unwrap_or_else(|| panic!("{wound:?} was never damaged")).bring_again(&pool);
            found += 1;
        }
        pool.settle().expect("a sound disk");
        assert_eq!(pool.wounds(), [], "what was brought again heals it");
        self.note(format!("{found} old wounds are back"));
    }

    /// The box is started again; the page cache is lost only now and then.
    fn after_failed_sync(&mut self, sync: u64) {
        self.run = None;
        self.peer.hang_up();
        // Where there were fewer syncs meanwhile, starts meet the failure. They say so, and may be tried again.
        for _ in 0..50 {
            if self.world.disk.syncs() >= sync {
                break;
            }
            self.world.store = None;
            self.world.try_to_open();
        }
        match self.world.roll(2) {
            0 => self.lose_power(),
            _ => self.kill(),
        }
    }

    /// The box is started again, in order or not.
    fn restart(&mut self) {
        if self.world.roll(2) == 0 {
            let now = self.world.now();
            self.note("close");
            self.world.store().close(now).expect("a sound disk");
        }
        self.kill();
    }

    /// The process ends; what it wrote is still in the kernel's cache.
    fn kill(&mut self) {
        self.note("kill");
        self.disk.killed();
        self.reopen();
    }

    pub(super) fn lose_power(&mut self) {
        self.note("power cut");
        let disk = &self.world.disk;
        if disk.is_on() {
            disk.power_cut();
        }
        disk.cut_power_at_sync(0);
        disk.power_on();
        self.reopen();
    }

    fn reopen(&mut self) {
        self.tally.restarts += 1;
        self.run = None;
        self.scrubbed = None;
        self.peer.hang_up();
        self.world.disk.set_capacity(ROOM);
        if let Fault::Damage { rotten, .. } = std::mem::replace(&mut self.fault, Fault::None) {
            self.healed.push(*rotten);
        }
        if !self.healed.is_empty() {
            self.heal_again();
        }
        self.world.reopen();
        self.disk.recovered(self.world.store());
        if self.canary == Canary::LyingDisk {
            self.world.disk.ignore_syncs();
        }
        self.expect_all();
    }
}
