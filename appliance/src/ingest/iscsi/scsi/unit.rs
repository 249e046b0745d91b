//! A logical unit: a disk with what initiators know and agree about it.
//!
//! The state is locked for moments, never over the disk. A command passes, in this order: the gate (aborted?), the table
//! (known?), unit attentions, reservations, access state; then its own function.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::units::Space;

use super::operations::{self, Call, Class};
use super::reserve::{Keeper, Reservations};
use super::{AccessState, Asked, Cdb, Data, Device, Disk, Identity, Nexus, RangeLocks, Reply, Sense, TaskGate};
use super::{copy, mode};

/// Most unit attentions that wait for one initiator; of more, the oldest are told and the rest are of no more use.
const ATTENTIONS_MAX: usize = 16;

/// How blocks are presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of a logical block: 512 or 4096.
    pub block_bytes: u32,
    /// Logical blocks of a physical block, as a power of two: 3 with blocks of 512 is "512e".
    pub physical_exponent: u8,
    /// How full the disk below may be, in percent, before initiators are warned. 0 never warns.
    pub threshold_percent: u8,
    /// Writes may be stable only after SYNCHRONIZE CACHE. Where not, every write is when it is answered, and initiators cannot
    /// change that; where so, they can switch the cache off, and on again.
    pub write_cache: bool,
}

impl Shape {
    /// Blocks of 512 bytes, eight of them in a physical one.
    pub const EMULATED_512: Shape =
        Shape { block_bytes: 512, physical_exponent: 3, threshold_percent: 90, write_cache: true };
    /// Blocks of 4096 bytes.
    pub const NATIVE_4096: Shape = Shape { block_bytes: 4096, physical_exponent: 0, ..Shape::EMULATED_512 };
}

/// What an initiator port and the unit know of each other.
#[derive(Debug, Default)]
struct NexusState {
    attentions: VecDeque<Sense>,
    /// Copies that it asked for, by their list identifier.
    copies: copy::Results,
}

/// What changes while the unit is used.
pub(super) struct State {
    nexuses: BTreeMap<Nexus, NexusState>,
    pub reservations: Reservations,
    /// The holder of a reservation of the old kind (RESERVE, SPC-2).
    pub reserved: Option<Nexus>,
    pub mode: mode::Mode,
    pub access: AccessState,
    pub stopped: bool,
    size_bytes: u64,
    warned: bool,
}

/// A disk as initiators see it.
pub struct LogicalUnit {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) identity: Identity,
    pub(super) shape: Shape,
    pub(super) locks: RangeLocks,
    pub(super) gate: TaskGate,
    pub(super) keeper: Arc<dyn Keeper>,
    /// Held while reservations are changed and kept; never while `state` is locked.
    pub(super) reserving: Mutex<()>,
    state: Mutex<State>,
}

impl LogicalUnit {
    /// Presents a disk. `reservations` are those that `keeper` kept when the unit was last served. All ways to one disk
    /// have to share one unit: its locks and reservations are what keeps initiators apart.
    pub fn new(
        disk: Arc<dyn Disk>,
        identity: Identity,
        shape: Shape,
        keeper: Arc<dyn Keeper>,
        reservations: Reservations,
    ) -> Self {
        let state = State {
            nexuses: BTreeMap::new(),
            reservations,
            reserved: None,
            mode: mode::Mode::of(&shape),
            access: AccessState::default(),
            stopped: false,
            size_bytes: disk.size_bytes(),
            warned: false,
        };
        let (locks, gate) = (RangeLocks::default(), TaskGate::default());
        LogicalUnit { disk, identity, shape, locks, gate, keeper, reserving: Mutex::new(()), state: Mutex::new(state) }
    }

    /// Bytes of a logical block.
    pub fn block_bytes(&self) -> u64 {
        self.shape.block_bytes.into()
    }

    /// Its names.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What a command that arrives now is to bring to [`LogicalUnit::execute`].
    pub fn epoch(&self) -> u64 {
        self.gate.epoch()
    }

    /// Carries a command out. `data` is what [`super::data_out_bytes`] asked for, or less where the initiator has less. The
    /// reply is not to be sent before [`super::settle`].
    pub fn execute(self: &Arc<Self>, device: &Device, asked: &Asked, data: Data) -> Reply {
        let (nexus, cdb, announced_bytes) = (asked.nexus, Cdb(asked.cdb), asked.announced_bytes);
        let done = match self.gate.enter(nexus, asked.epoch) {
            None => Err(Sense::ABORTED),
            Some(pass) => operations::find(&cdb).and_then(|operation| {
                let (pass, aborted) = (&pass, asked.aborted);
                let call = Call { device, unit: self, nexus, cdb, data, announced_bytes, pass, aborted };
                call.proceed()?;
                self.admit(operation.class, nexus)?;
                (operation.run)(&call)
            }),
        };
        done.unwrap_or_else(|sense| self.refusal(&sense))
    }

    /// The reply that tells of a failure.
    pub fn refusal(&self, sense: &Sense) -> Reply {
        if sense.key == 0 {
            return Reply::status(sense.status);
        }
        let descriptors = self.state().mode.descriptor_sense;
        Reply { status: sense.status, sense: sense.encode(descriptors), ..Reply::default() }
    }

    /// Refuses a command that may not be carried out now.
    fn admit(&self, class: Class, nexus: &Nexus) -> Result<(), Sense> {
        self.notice_size();
        if class == Class::Always {
            return Ok(());
        }
        let mut state = self.state();
        if let Some(attention) = state.nexuses.get_mut(nexus).and_then(|own| own.attentions.pop_front()) {
            return Err(attention);
        }
        match class {
            Class::Always | Class::Own => Ok(()),
            Class::Free => state.unreserved(nexus),
            Class::Read => state.admit(nexus, false),
            Class::Write => state.admit(nexus, true),
        }
    }

    /// Tells everybody where the size is another than before. Every command looks, too.
    pub fn notice_size(&self) {
        let size = self.disk.size_bytes();
        let mut state = self.state();
        if std::mem::replace(&mut state.size_bytes, size) != size {
            state.tell_all(Sense::CAPACITY_CHANGED, None);
        }
    }

    /// Says how much room the disk below has. Warns initiators once when the threshold is passed, and again only after
    /// it was not passed for a while (SBC-3 section 4.7.3.7).
    pub fn notice_space(&self, space: Space) {
        let used = space.total_bytes.saturating_sub(space.free_bytes);
        let percent = u128::from(used) * 100 / u128::from(space.total_bytes.max(1));
        let passed = self.shape.threshold_percent > 0 && percent >= u128::from(self.shape.threshold_percent);
        let mut state = self.state();
        if passed && !std::mem::replace(&mut state.warned, passed) {
            state.tell_all(Sense::SOFT_THRESHOLD, None);
        }
        state.warned = passed;
    }

    /// An initiator port has begun a session. `again`: its session before was lost.
    pub(super) fn nexus_begins(&self, nexus: &Nexus, again: bool) {
        if again {
            // What the old session had handed out and nobody has begun must not take what the new one is to be told.
            self.gate.bar(nexus);
        }
        let mut state = self.state();
        let warned = state.warned;
        let own = state.nexuses.entry(nexus.clone()).or_default();
        own.attentions.clear();
        own.attentions.push_back(if again { Sense::NEXUS_LOSS } else { Sense::POWER_ON });
        if warned {
            // The others were told when it happened.
            own.attentions.push_back(Sense::SOFT_THRESHOLD);
        }
    }

    /// True where a port of an initiator has a session.
    pub fn has_session_of(&self, initiator: &str) -> bool {
        self.state().nexuses.keys().any(|nexus| nexus.initiator == initiator)
    }

    /// The names of the initiators that have a session.
    pub fn initiators(&self) -> BTreeSet<String> {
        self.state().nexuses.keys().map(|nexus| nexus.initiator.clone()).collect()
    }

    /// Says that the disk holds something else than what was written to it last, as after a rewind: tasks that came before are
    /// ended, and every initiator port is told that it begins anew (POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, the
    /// attention of which the others are special cases: SPC-4 section 5.14.1). What initiators remember of the disk is theirs to
    /// forget; most only note it. Reservations and mode pages stay.
    pub fn content_replaced(&self) {
        // Nobody is told here that all have ended. One that storage holds meanwhile is barred, and begins no further step.
        let _ = self.gate.drain(&self.gate.end_all());
        self.state().tell_all(Sense::POWER_ON, None);
    }

    /// An initiator port's session is gone: what is bound to it goes too, persistent reservations stay.
    pub(super) fn nexus_ends(&self, nexus: &Nexus) {
        let mut state = self.state();
        state.nexuses.remove(nexus);
        if state.reserved.as_ref() == Some(nexus) {
            state.reserved = None;
        }
        drop(state);
        self.gate.forget(nexus);
    }

    /// A logical unit reset, or the part of a target reset that concerns this unit (SAM-5 section 6.3.3): every task is
    /// ended, the old kind of reservation and changed mode pages are gone, persistent reservations stay. False where storage
    /// holds a task that may still change something.
    #[must_use]
    pub fn reset(&self) -> bool {
        let drained = self.gate.drain(&self.gate.end_all());
        let mut state = self.state();
        state.reserved = None;
        state.mode = mode::Mode::of(&self.shape);
        state.stopped = false;
        state.tell_all(Sense::DEVICE_RESET, None);
        drained
    }

    /// Ends every task of every initiator (CLEAR TASK SET) and tells the others. False as of [`LogicalUnit::reset`].
    #[must_use]
    pub fn clear_tasks(&self, by: &Nexus) -> bool {
        let drained = self.gate.drain(&self.gate.end_all());
        self.state().tell_all(Sense::COMMANDS_CLEARED, Some(by));
        drained
    }

    /// Says that logical units came or went.
    pub(super) fn luns_changed(&self) {
        self.state().tell_all(Sense::LUNS_CHANGED, None);
    }

    /// Sets the access state of the way that leads here (failover), and tells initiators.
    pub fn set_access(&self, access: AccessState, by: Option<&Nexus>) {
        let mut state = self.state();
        if std::mem::replace(&mut state.access, access) != access {
            state.tell_all(Sense::ACCESS_CHANGED, by);
        }
    }

    /// How long aborts wait, in tests.
    #[cfg(test)]
    pub fn set_drain(&self, drain: std::time::Duration) {
        self.gate.set_drain(drain);
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Whole between any two statements of its users, none of which can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// True where a write of this port would be neither refused nor told of anything.
    pub fn would_admit_write(&self, nexus: &Nexus) -> bool {
        self.nexuses.get(nexus).is_some_and(|own| own.attentions.is_empty()) && self.admit(nexus, true).is_ok()
    }

    /// Refuses where another initiator holds a reservation of the old kind.
    fn unreserved(&self, nexus: &Nexus) -> Result<(), Sense> {
        let taken = self.reserved.as_ref().is_some_and(|holder| holder != nexus);
        if taken { Err(Sense::CONFLICT) } else { Ok(()) }
    }

    /// Refuses where an initiator port may not read, or write, what the unit holds.
    pub fn admit(&self, nexus: &Nexus, writes: bool) -> Result<(), Sense> {
        self.unreserved(nexus)?;
        if !self.reservations.admits(nexus, writes) {
            return Err(Sense::CONFLICT);
        }
        self.access.admit()?;
        if self.stopped { Err(Sense::STOPPED) } else { Ok(()) }
    }

    /// Raises a unit attention for every initiator port, but for `but`.
    pub fn tell_all(&mut self, attention: Sense, but: Option<&Nexus>) {
        for (nexus, own) in &mut self.nexuses {
            if Some(nexus) != but {
                own.tell(attention);
            }
        }
    }

    /// Raises a unit attention for one initiator port, where it is there.
    pub fn tell(&mut self, nexus: &Nexus, attention: Sense) {
        if let Some(own) = self.nexuses.get_mut(nexus) {
            own.tell(attention);
        }
    }

    /// True where a port has a session.
    pub fn knows(&self, nexus: &Nexus) -> bool {
        self.nexuses.contains_key(nexus)
    }

    /// Takes the oldest unit attention of a port.
    pub fn take_attention(&mut self, nexus: &Nexus) -> Option<Sense> {
        self.nexuses.get_mut(nexus).and_then(|own| own.attentions.pop_front())
    }

    /// The copies that a port asked for.
    pub fn copies(&mut self, nexus: &Nexus) -> Option<&mut copy::Results> {
        self.nexuses.get_mut(nexus).map(|own| &mut own.copies)
    }
}

impl NexusState {
    fn tell(&mut self, attention: Sense) {
        // One of a kind is enough (SAM-5 section 5.14).
        if self.attentions.len() < ATTENTIONS_MAX && !self.attentions.contains(&attention) {
            self.attentions.push_back(attention);
        }
    }
}
