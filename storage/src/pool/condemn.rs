//! Finding out what nobody needs: watching the door, walking what is needed, and condemning what is left of the nodes.
//!
//! ```text
//! watch ─▶ (roots: `crate::reclaim`) ─▶ walk ─▶ survey ─▶ walk what was asked for meanwhile ─▶ condemn ─▶ `let_go.rs`
//! ```
//!
//! What must hold when nodes are condemned: every node that is present was met by the walk, or is condemned. So what stays is
//! whole below, and what goes, goes in one transaction of the index: at every crash whatever is found is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use crate::container::format::{ENTRY_BYTES, SLOT_BYTES};
use crate::container::{Class, path, reader};
use crate::error::{Damage, Error, Refusal, Result};
use crate::id::ContainerId;
use crate::index::{INDEX_FILE, Location, Record};
use crate::name::{Kind, Name};

use super::watch::{Watch, WatchOptions};
use super::{Inner, Pool};

/// What is known of containers before anything goes: nodes that nobody needs, and how much of each container is needed.
#[derive(Default)]
pub(crate) struct Survey {
    /// Nodes that were not needed when they were looked at.
    dead_nodes: Vec<(Name, Location)>,
    /// Bytes of slots that are needed in each container.
    live: BTreeMap<ContainerId, u64>,
    /// Names that were looked at.
    pub names: u64,
}

impl Survey {
    /// How many nodes nobody needed when they were looked at.
    pub fn dead_nodes(&self) -> u64 {
        self.dead_nodes.len() as u64
    }
}

/// Nodes that are needed and can't be walked, and why.
pub(crate) type Obstacles = BTreeMap<(Kind, Name), Damage>;

/// Which containers are to go, and what for.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Those without anything that is needed, then those of which less than half is, and of others those that give back most, until little is
    /// left; each in the order of their numbers, which is that of the disk.
    pub containers: Vec<ContainerId>,
    /// Bytes of their files that are needed by nobody.
    pub freeable_bytes: u64,
    /// Bytes of slots in other containers that are needed by nobody.
    pub left_bytes: u64,
}

/// What became of an attempt to condemn nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condemned {
    /// So many have left the index.
    Nodes(u64),
    /// Something that was asked for has to be walked first.
    WalkFirst,
    /// A check is under way.
    Checked,
}

impl Pool {
    /// Begins to watch the door: from now on whatever is asked for or put is noted. Containers that are open are sealed, and
    /// all names go into the index. Refused while another run watches.
    pub(crate) fn watch(&self) -> Result<Arc<Watch>> {
        let inner = &*self.0;
        let names = inner.index.len() + inner.recent.len() as u64;
        let watch = {
            let mut door = inner.door.write().unwrap_or_else(PoisonError::into_inner);
            if door.watch.is_some() {
                return Err(Refusal::Busy.into());
            }
            // Before any container is closed: what is put into one of these meanwhile is noted.
            let floor = ContainerId(inner.streams.next_id());
            let salt = names.rotate_left(32) ^ floor.0;
            let watch = Arc::new(Watch::new(&WatchOptions::default(), names, salt, floor));
            door.watch = Some(watch.clone());
            watch
        };
        inner.close_all();
        match inner.settle(true) {
            Ok(()) => Ok(watch),
            Err(error) => {
                self.end_watch();
                Err(error)
            }
        }
    }

    /// Ends it.
    pub(crate) fn end_watch(&self) {
        let mut door = self.0.door.write().unwrap_or_else(PoisonError::into_inner);
        door.watch = None;
        door.hidden.clear();
    }

    /// Whatever is put from now on lies in this container or in a later one.
    pub(crate) fn next_place(&self) -> ContainerId {
        let streams = &self.0.streams;
        // First, for what is created meanwhile has a higher number.
        let next = ContainerId(streams.next_id());
        let open = Class::ALL.into_iter().flat_map(|class| streams.unsafe_writers(class));
        open.map(|writer| writer.id()).fold(next, ContainerId::min)
    }

    /// Notes the nodes of containers from `from` on as needed: nothing names them yet, and they are to stay.
    pub(crate) fn need_from(&self, watch: &Watch, from: ContainerId) -> Result<()> {
        let inner = &*self.0;
        watch.keep_from(from);
        let indexed = inner.indexed.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (id, _) in indexed.range(from..).filter(|(_, record)| record.class == Class::Node) {
            let (file, path) = (inner.files.open(inner.media.as_ref(), *id, Class::Node)?, path(*id, Class::Node));
            let slots = reader::read_directory(file.as_ref(), &path, *id)?.slots;
            let names: Vec<Name> = slots.iter().map(|slot| slot.name).collect();
            for (slot, _) in slots.iter().zip(inner.index.probe(&names)?).filter(|(_, place)| place.is_some()) {
                watch.need(slot.kind, &slot.name);
            }
        }
        Ok(())
    }

    /// Begins a new epoch of those who use the pool; false where that must wait ([`Pool::in_use`]).
    pub(crate) fn turn_epoch(&self) -> bool {
        self.0.epochs.turn()
    }

    /// True where everybody has ended who used the pool before the last turn.
    pub(crate) fn is_epoch_over(&self) -> bool {
        self.0.epochs.is_over()
    }

    /// Walks up to `most` nodes that are needed, in the order in which they lie, and notes what they name. Returns how many
    /// bytes were read. A node that is not what was written, or not there, is added to `obstacles`: nobody knows what is below it.
    pub(crate) fn walk(&self, watch: &Watch, most: usize, obstacles: &mut Obstacles) -> Result<u64> {
        let inner = &*self.0;
        let nodes = watch.take(most);
        let mut bytes = 0;
        let mut places: Vec<(Location, Name)> = Vec::with_capacity(nodes.len());
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_node()) {
            let names: Vec<Name> = nodes.iter().filter(|(of, _)| *of == kind).map(|(_, name)| *name).collect();
            for (name, place) in names.iter().zip(inner.find(kind, &names)?) {
                match place {
                    Some(place) => places.push((place, *name)),
                    None => {
                        let expected = format!("{kind:?} {name}, which is named above it");
                        obstacles.insert((kind, *name), Damage::new(INDEX_FILE, 0, expected, "no entry"));
                    }
                }
            }
        }
        places.sort_unstable_by_key(|(place, _)| (place.container, place.offset));
        for (place, name) in places {
            match inner.references_of(&place, &name, &mut bytes) {
                Ok(references) => watch.need_all(&references),
                Err(Error::Damage(damage)) => drop(obstacles.insert((place.kind, name), damage)),
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// Looks at the names of one 256th of the index.
    pub(crate) fn survey(&self, watch: &Watch, part: u8, survey: &mut Survey) -> Result<()> {
        let mut rotten = None;
        self.0.index.scan(part, |name, place| {
            survey.names += 1;
            let Some(place) = place else {
                rotten = Some(*name);
                return;
            };
            if place.container >= watch.end() {
                return;
            }
            if watch.is_needed(place.kind, name) {
                *survey.live.entry(place.container).or_default() += SLOT_BYTES as u64 + u64::from(place.stored_len);
            } else if place.kind.is_node() {
                survey.dead_nodes.push((*name, place));
            }
        })?;
        match rotten {
            None => Ok(()),
            Some(name) => Err(Damage::new(INDEX_FILE, 0, format!("a sound entry for {name}"), "a rotten one").into()),
        }
    }

    /// Seals open containers and has the index know all that was put before.
    pub(crate) fn index_everything(&self) -> Result<()> {
        self.0.settle_all()
    }

    /// Tells what the objects of one 256th of the index take on the disk, with their slots and their entries in directories; returns how many
    /// that were.
    pub(crate) fn sizes(&self, part: u8, visit: &mut dyn FnMut(Kind, &Name, u64)) -> Result<u64> {
        let mut names = 0;
        self.0.index.scan(part, |name, place| {
            names += 1;
            // An entry that is rotten is told of by whoever needs it.
            if let Some(place) = place {
                visit(place.kind, name, (SLOT_BYTES + ENTRY_BYTES) as u64 + u64::from(place.stored_len));
            }
        })?;
        Ok(names)
    }

    /// What a survey comes to.
    pub(crate) fn plan(&self, watch: &Watch, survey: &Survey) -> Plan {
        let (mut plan, mut thin, mut mixed) = (Plan::default(), Vec::new(), Vec::new());
        let mut needed = 0;
        let indexed = self.0.indexed.read().unwrap_or_else(PoisonError::into_inner);
        for (id, record) in indexed.range(..watch.end()) {
            let live = survey.live.get(id).copied().unwrap_or_default();
            needed += live;
            let dead = slots_bytes(record).saturating_sub(live);
            match live {
                0 => plan.containers.push(*id),
                _ if 2 * live < slots_bytes(record) => thin.push(*id),
                _ => {
                    plan.left_bytes += dead;
                    if pays(live, record) {
                        // In thousandths: what gives back most for what has to be moved goes first.
                        mixed.push((dead.saturating_mul(1000) / slots_bytes(record).max(1), *id, dead));
                    }
                    continue;
                }
            }
            plan.freeable_bytes += record.file_bytes.saturating_sub(live);
        }
        mixed.sort_unstable_by(|one, other| other.cmp(one));
        for (_, id, dead) in mixed {
            if plan.left_bytes <= needed / LEFT_SHARE {
                break;
            }
            plan.left_bytes -= dead;
            plan.freeable_bytes += dead;
            thin.push(id);
        }
        thin.sort_unstable();
        plan.containers.append(&mut thin);
        plan
    }

    /// Takes all nodes out of the index that the survey found and nobody has asked for since, durably and all at once.
    pub(crate) fn condemn_nodes(&self, watch: &Watch, survey: &mut Survey) -> Result<Condemned> {
        let inner = &*self.0;
        let Some(_no_check) = self.no_check() else { return Ok(Condemned::Checked) };
        let _turn = inner.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let mut condemned = std::mem::take(&mut survey.dead_nodes);
        condemned.sort_unstable_by_key(|(name, _)| *name);
        let containers: BTreeSet<ContainerId> = condemned.iter().map(|(_, place)| place.container).collect();
        let records = {
            let mut door = inner.door.write().unwrap_or_else(PoisonError::into_inner);
            // A node that is not in the index yet is one that was put since, or mended: what is below it stays.
            for (kind, name) in inner.recent.nodes(|kind, name| !watch.is_needed(kind, name)) {
                watch.need(kind, &name);
            }
            if !watch.is_walked() {
                survey.dead_nodes = condemned;
                return Ok(Condemned::WalkFirst);
            }
            condemned.retain(|(name, place)| !watch.is_needed(place.kind, name));
            door.hidden = condemned.iter().copied().collect();
            inner.distrust(&containers)
        };
        let gone = match condemned.is_empty() {
            true => 0,
            false => {
                inner.let_go.store(true, Ordering::Relaxed);
                inner.index.remove_names(&condemned, &records, &[], inner.streams.next_id())?
            }
        };
        inner.open_door(&containers);
        for (name, place) in &condemned {
            inner.wounds.remove(place.kind, name);
        }
        Ok(Condemned::Nodes(gone))
    }

    /// Keeps checks away for a step, if none is under way.
    pub(super) fn no_check(&self) -> Option<MutexGuard<'_, usize>> {
        let checks = self.0.checks.lock().unwrap_or_else(PoisonError::into_inner);
        (*checks == 0).then_some(checks)
    }

    /// To be held by whoever looks whether everything that is named is there: nothing is let go of meanwhile.
    pub(crate) fn checking(&self) -> Checking {
        *self.0.checks.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Checking(self.clone())
    }
}

/// Bytes of all slots of a container.
pub(super) fn slots_bytes(record: &Record) -> u64 {
    record.stored_bytes + u64::from(record.slots) * SLOT_BYTES as u64
}

/// Of what is needed, this part at most may lie beside it unneeded: more containers are emptied until it is so.
const LEFT_SHARE: u64 = 20;

/// True where at least a tenth of a container's slots, in bytes, is not needed: else moving the rest costs more than it is worth.
pub(super) fn pays(live_bytes: u64, record: &Record) -> bool {
    10 * live_bytes <= 9 * slots_bytes(record)
}

/// See [`Pool::checking`].
pub(crate) struct Checking(Pool);

impl Drop for Checking {
    fn drop(&mut self) {
        *self.0.0.checks.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

impl Inner {
    /// What a node names; adds what was read of the disk to `bytes`.
    fn references_of(&self, place: &Location, name: &Name, bytes: &mut u64) -> Result<Vec<(Kind, Name)>> {
        let content = match self.objects.get(place.kind, name) {
            Some(content) => content,
            None => {
                *bytes += SLOT_BYTES as u64 + u64::from(place.stored_len);
                self.read_from_disk(place.kind, name)?
            }
        };
        let file = || path(place.container, Class::Node);
        let malformed = |error| Damage::new(file(), place.offset.into(), "a well-formed node", error).into();
        (self.options.references)(place.kind, &content).map_err(malformed)
    }

    /// The run of reclaim that watches, if there is one.
    pub(super) fn watching(&self) -> Option<Arc<Watch>> {
        self.door.read().unwrap_or_else(PoisonError::into_inner).watch.clone()
    }

    /// The directories of these containers are not taken at their word any more. Returns what the index is to be told of them. The
    /// door is shut.
    pub(super) fn distrust(&self, containers: &BTreeSet<ContainerId>) -> Vec<(ContainerId, Record)> {
        let mut records = Vec::with_capacity(containers.len());
        let mut indexed = self.indexed.write().unwrap_or_else(PoisonError::into_inner);
        for id in containers {
            if let Some(record) = indexed.get_mut(id) {
                record.complete = false;
                records.push((*id, *record));
            }
            self.locality.forget(*id);
        }
        records
    }

    /// The index does not have any more what was hidden: nobody finds it now, neither there nor in a directory that was read before.
    pub(super) fn open_door(&self, containers: &BTreeSet<ContainerId>) {
        let mut door = self.door.write().unwrap_or_else(PoisonError::into_inner);
        // Look-ups that are under way have ended, and those of directories with them.
        self.settles.fetch_add(1, Ordering::AcqRel);
        containers.iter().for_each(|id| self.locality.forget(*id));
        door.hidden.clear();
    }
}
