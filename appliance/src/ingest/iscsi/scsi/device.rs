//! A target's logical units, by their numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::{Cdb, Data, Direction, LogicalUnit, Nexus, Reply, Sense, Status, data_out_bytes, identify, manage};

/// Highest logical unit number (flat space addressing, SAM-5 section 4.6.7.3).
pub const LUN_MAX: u16 = 0x3fff;

/// Finds logical units of other targets of the box by their NAA name, for EXTENDED COPY between them.
pub trait Neighbours: Send + Sync {
    /// The unit of a name; `None` too where the initiator that asks has no access to it.
    fn find(&self, asking: &Nexus, naa: &[u8; 16]) -> Option<Arc<LogicalUnit>>;
}

/// The logical units of one target.
#[derive(Default)]
pub struct Device {
    state: RwLock<State>,
    neighbours: Option<Arc<dyn Neighbours>>,
}

#[derive(Default)]
struct State {
    units: BTreeMap<u16, Arc<LogicalUnit>>,
    /// Initiator ports with a session: a unit that comes later has to know of them.
    nexuses: BTreeSet<Nexus>,
}

/// Which command, of whom, for whom.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub nexus: &'a Arc<Nexus>,
    /// The logical unit number, as the transport carries it.
    pub lun: [u8; 8],
    /// The command.
    pub cdb: &'a [u8],
    /// [`Device::epoch`] at its arrival.
    pub epoch: u64,
    /// How many bytes the initiator said that it has for it, whatever the command wants.
    pub announced_bytes: u64,
    /// Becomes true where its initiator had it aborted, or its session is gone: from then on it begins nothing more.
    pub aborted: &'a AtomicBool,
}

impl Device {
    /// A target with units. Numbers over [`LUN_MAX`] are left out.
    pub fn new(units: BTreeMap<u16, Arc<LogicalUnit>>, neighbours: Option<Arc<dyn Neighbours>>) -> Self {
        let device = Device { state: RwLock::default(), neighbours };
        device.replace(units);
        device
    }

    /// Sets which units there are, while the target is used, and tells initiators where they are others than before.
    /// Numbers over [`LUN_MAX`] are left out.
    pub fn replace(&self, mut units: BTreeMap<u16, Arc<LogicalUnit>>) {
        units.retain(|lun, _| *lun <= LUN_MAX);
        let mut state = self.write();
        let same = |lun: &u16, unit| state.units.get(lun).is_some_and(|own| Arc::ptr_eq(own, unit));
        if state.units.len() == units.len() && units.iter().all(|(lun, unit)| same(lun, unit)) {
            return;
        }
        let old = std::mem::replace(&mut state.units, units);
        for unit in state.units.values() {
            if old.values().any(|other| Arc::ptr_eq(other, unit)) {
                unit.luns_changed();
            } else {
                state.nexuses.iter().for_each(|nexus| unit.nexus_begins(nexus, false));
            }
        }
    }

    /// All units.
    pub fn units(&self) -> BTreeMap<u16, Arc<LogicalUnit>> {
        self.read().units.clone()
    }

    /// The unit of a number, in peripheral or flat space addressing.
    pub fn unit(&self, lun: [u8; 8]) -> Option<Arc<LogicalUnit>> {
        let [high, low, 0, 0, 0, 0, 0, 0] = lun else { return None };
        let number = match high >> 6 {
            0 if high == 0 => u16::from(low),
            1 => u16::from_be_bytes([high & 0x3f, low]),
            _ => return None,
        };
        self.read().units.get(&number).cloned()
    }

    /// Finds a unit of this target or a neighbour by its NAA name.
    pub fn by_name(&self, asking: &Nexus, naa: &[u8; 16]) -> Option<Arc<LogicalUnit>> {
        let own = self.read().units.values().find(|unit| unit.identity().naa_name() == *naa).cloned();
        own.or_else(|| self.neighbours.as_ref().and_then(|neighbours| neighbours.find(asking, naa)))
    }

    /// What a command for `lun` that arrives now is to bring.
    pub fn epoch(&self, lun: [u8; 8]) -> u64 {
        self.unit(lun).map_or(0, |unit| unit.epoch())
    }

    /// How many bytes a command wants from the initiator.
    pub fn data_out_bytes(&self, lun: [u8; 8], cdb: &[u8]) -> u64 {
        let Some(unit) = self.unit(lun) else { return 0 };
        match data_out_bytes(cdb, unit.block_bytes()) {
            Direction::Out(bytes) => bytes,
            Direction::In => 0,
        }
    }

    /// Carries a command out, to its end.
    pub fn execute(&self, asked: &Asked, data: Bytes) -> Reply {
        let mut reply = self.begin(asked, data.into());
        super::settle([&mut reply]);
        reply
    }

    /// Carries a command out. The reply is not to be sent before [`super::settle`], which serves many replies at once.
    pub fn begin(&self, asked: &Asked, data: Data) -> Reply {
        match self.unit(asked.lun) {
            Some(unit) => unit.execute(self, asked, data),
            None => self.without_unit(&Cdb(asked.cdb)),
        }
    }

    /// What a number answers that has no unit (SPC-4 section 6.6 and SAM-5 section 5.12).
    fn without_unit(&self, cdb: &Cdb) -> Reply {
        let refusal =
            |sense: Sense| Reply { status: Status::CheckCondition, sense: sense.encode(false), ..Reply::default() };
        let done = match cdb.opcode() {
            0x12 => identify::absent(cdb),
            0xa0 => manage::list_luns(self, cdb),
            0x03 => Ok(Reply::data(Sense::NO_SUCH_UNIT.encode(cdb.flag(1, 1)), cdb.u8(4).into())),
            _ => Err(Sense::NO_SUCH_UNIT),
        };
        done.unwrap_or_else(refusal)
    }

    /// An initiator port has begun a session. `again`: it took its own old session's place.
    pub fn nexus_begins(&self, nexus: &Nexus, again: bool) {
        let mut state = self.write();
        state.nexuses.insert(nexus.clone());
        state.units.values().for_each(|unit| unit.nexus_begins(nexus, again));
    }

    /// An initiator port's session is gone.
    pub fn nexus_ends(&self, nexus: &Nexus) {
        let mut state = self.write();
        state.nexuses.remove(nexus);
        state.units.values().for_each(|unit| unit.nexus_ends(nexus));
    }

    /// Resets every unit. Returns when no task that came before changes anything any more; false where storage holds one.
    #[must_use]
    pub fn reset(&self) -> bool {
        // All of them, whatever becomes of the first.
        self.units().values().filter(|unit| !unit.reset()).count() == 0
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
