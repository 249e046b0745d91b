//! A dataset that is open: its layers behind one lock, and the ways in which they change.
//!
//! Every change is made under the write lock and gets its journal record there, so the order of the journal is the
//! order in which changes became visible. Nothing waits for a disk under the lock but look-ups of tree nodes that are
//! not cached; hashing, compressing and syncing happen outside.
//!
//! Invariants:
//! * A record that carries an inode's record is appended after records of all bytes that its size counts.
//! * What was applied to the layers is in the journal, or is data of a file that has pending extents.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use super::extents::{Extent, Extents, Place};
use super::hours::Hours;
use super::layer::{Layer, is_totals, record_of};
use super::namespace::{self, Key};
use super::record::{Edit, Record};
use super::state::{Base, Shut, State};
use super::table::Transaction;
use super::{Call, CallTag};
use crate::catalogue::{DatasetKind, DatasetRow, Policy};
use crate::chunk::Cutter;
use crate::error::{Damage, Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::journal::{self, Appended};
use crate::name::Name;
use crate::pool::{HeldTree, StreamId};
use crate::stages::Stages;
use crate::store::stream_of;
use crate::tree::Objects;
use crate::units::{Inode, Lsn, Timestamp};

/// Calls remembered per dataset, so that a repetition gets its first answer also after a restart.
pub(crate) const REMEMBERED_CALLS: usize = 1024;
/// Adjacent chunks that share one journal record, at most.
const RUNS_PER_RECORD: usize = 4096;

/// An open dataset: live, a read-only replica, or a snapshot's frozen state.
pub(crate) struct Dataset {
    pub id: DatasetId,
    pub stages: Arc<Stages>,
    pub read_only: bool,
    pub mode: Mode,
    pub kind: DatasetKind,
    /// Of a volume; its record in the map is the truth.
    size: AtomicU64,
    state: RwLock<State>,
    pub(super) cutters: Cutters,
    pub(super) hours: Hours,
    calls: Mutex<Calls>,
    /// Of a snapshot: keeps its tree while this is read.
    _held_tree: Option<HeldTree>,
}

/// What a dataset does with what is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing: it can't be written.
    ReadOnly,
    /// What [`Policy`] says.
    Live(Policy),
}

/// Which files are being cut.
#[derive(Default)]
pub(super) struct Cutters {
    pub files: Mutex<HashMap<Inode, usize>>,
    pub searching: Mutex<HashSet<Inode>>,
    pub done: Condvar,
}

/// The last changing calls, oldest first.
#[derive(Default)]
struct Calls {
    order: VecDeque<CallTag>,
    made: HashMap<CallTag, Inode>,
}

impl Calls {
    fn remember(&mut self, tag: CallTag, inode: Inode) {
        if self.made.insert(tag, inode).is_none() {
            self.order.push_back(tag);
        }
        if self.order.len() > REMEMBERED_CALLS
            && let Some(oldest) = self.order.pop_front()
        {
            self.made.remove(&oldest);
        }
    }
}

/// What a namespace operation did beside its edits.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// The file that the call made or changed: remembered with the call's tag.
    pub inode: Inode,
    /// A file whose content was cut off (or extended with zeros) at a size.
    pub truncated: Option<(Inode, u64)>,
}

impl Dataset {
    /// Opens what `row` describes at a root. What lies above that root comes by replaying.
    pub fn new(row: &DatasetRow, stages: Arc<Stages>, mode: Mode, base: Base, next_inode: u64) -> Self {
        let state = State { base, next_inode, ..State::default() };
        Dataset {
            id: row.id,
            stages,
            read_only: mode == Mode::ReadOnly,
            mode,
            kind: row.kind,
            size: AtomicU64::new(row.size),
            state: RwLock::new(state),
            cutters: Cutters::default(),
            hours: Hours::default(),
            calls: Mutex::default(),
            _held_tree: None,
        }
    }

    /// Keeps a tree for as long as this lives.
    pub fn hold_tree(&mut self, tree: Option<HeldTree>) {
        self._held_tree = tree;
    }

    /// The size of a volume as it is known, without a look at the map.
    pub(super) fn known_size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Learns the size of a volume from its record, and returns it; 0 for a share.
    pub fn learn_size(&self) -> Result<u64> {
        if self.kind == DatasetKind::Volume {
            let objects = self.objects();
            let state = self.read_state();
            let size = namespace::volume_size(&Transaction::new(&state, &objects))?;
            self.size.store(size, Ordering::Release);
        }
        Ok(self.known_size())
    }

    /// What cuts contents of this dataset.
    pub fn cutter(&self) -> &Cutter {
        match self.kind {
            DatasetKind::Share => &self.stages.cutter,
            DatasetKind::Volume => &self.stages.volume_cutter,
        }
    }

    /// The objects below, for look-ups and for what the drain of this dataset writes.
    pub fn objects(&self) -> impl Objects + '_ {
        self.stages.pool.on(StreamId(stream_of(self.id)))
    }

    pub fn read_state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for changing. The guard keeps the store's account of memory.
    pub fn write_state(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a change of what it holds. Refused once the dataset is deleted or set aside.
    pub(super) fn change_state(&self) -> Result<RwLockWriteGuard<'_, State>> {
        self.refuse_if_read_only()?;
        let state = self.write_state();
        state.refuse_if_shut()?;
        if state.held { Err(Refusal::Busy.into()) } else { Ok(state) }
    }

    /// Makes one namespace change: `operation` reads and edits through a transaction; what it did becomes one journal
    /// record and is applied, or it fails and nothing happened. Returns its result and the LSN that makes it stable.
    pub fn change<T>(
        &self,
        call: &Call,
        operation: impl FnOnce(&mut Transaction) -> Result<(T, Effects)>,
    ) -> Result<(T, Lsn)> {
        let objects = self.objects();
        let mut state = self.grow_state()?;
        let mut transaction = Transaction::new(&state, &objects);
        let (result, effects) = operation(&mut transaction)?;
        let (edits, next_inode) = transaction.finish();
        if edits.is_empty() && effects.truncated.is_none() {
            return Ok((result, state.active.last));
        }
        for inode in edits.iter().filter(|(_, value)| value.is_some()).filter_map(|(key, _)| record_of(key)) {
            self.journal_data(&mut state, inode, call.now)?;
        }
        // The sums over the share count unjournaled bytes of other files, too: they stay out of the journal.
        let (sums, edits): (Vec<_>, Vec<_>) = edits.into_iter().partition(|(key, _)| is_totals(key));
        let tag = call.tag.map(|tag| (tag, effects.inode));
        let record = Record::Edits { tag, truncated: effects.truncated, edits };
        let lsn = self.append(&mut state, call.now, &record, Vec::new())?.lsn;
        state.next_inode = next_inode;
        self.apply(&mut state, record);
        self.apply_unjournaled(&mut state, sums);
        drop(state);
        self.call_pump_if_full();
        Ok((result, lsn))
    }

    /// Applies the outcome of a namespace operation to the active layer.
    pub(super) fn apply(&self, state: &mut State, record: Record) {
        let Record::Edits { tag, truncated, edits } = record else { return };
        for inode in edits.iter().filter_map(|(key, _)| record_of(key)) {
            state.unjournaled.remove(&inode);
        }
        self.account(state, |layer| {
            if let Some((inode, size)) = truncated {
                layer.with_file(inode, |extents| extents.truncate(size));
            }
            edits.into_iter().for_each(|(key, value)| layer.apply(key, value));
        });
        if let Some((tag, inode)) = tag {
            self.lock_calls().remember(tag, inode);
        }
    }

    /// Applies edits that the journal learns of later, with the data that they come from.
    pub(super) fn apply_unjournaled(&self, state: &mut State, edits: Vec<Edit>) {
        self.account(state, |layer| edits.into_iter().for_each(|(key, value)| layer.apply(key, value)));
    }

    /// Changes the active layer and tells the store's account of memory.
    pub(super) fn account<T>(&self, state: &mut State, change: impl FnOnce(&mut Layer) -> T) -> T {
        let before = state.active.memory_bytes();
        let result = change(&mut state.active);
        self.moved(state, before, state.active.memory_bytes());
        result
    }

    /// Appends a record of this dataset to the journal.
    pub(super) fn append(
        &self,
        state: &mut State,
        now: Timestamp,
        record: &Record,
        payload: Vec<Bytes>,
    ) -> Result<Appended> {
        if refers(record) {
            self.stages.will_refer();
        }
        let (kind, head) = record.encode();
        let bytes = journal::record_bytes(head.len(), payload.iter().map(Bytes::len).sum());
        let appended = match gives_room(record) {
            true => self.stages.append_freeing(now, self.id, kind, head)?,
            false => self.stages.append(now, self.id, kind, head, payload)?,
        };
        state.active.takes(appended.lsn, appended.time, bytes);
        Ok(appended)
    }

    /// Brings everything pending of one file into the journal: chunks by reference, the rest inline.
    /// The inode's record is not among it.
    pub(super) fn journal_data(&self, state: &mut State, inode: Inode, now: Timestamp) -> Result<()> {
        let pending = state.active.files.get(&inode).map(Extents::pending).unwrap_or_default();
        let mut rest = pending.as_slice();
        while let Some((offset, first)) = rest.first() {
            let mut place = None;
            let end = match &first.place {
                Place::Memory { bytes, .. } => {
                    let record = Record::Data { inode, offset: *offset };
                    place = self.append(state, now, &record, vec![bytes.clone()])?.place;
                    rest = &rest[1..];
                    offset + first.len
                }
                _ => {
                    let (runs, end) = adjacent_runs(rest);
                    rest = &rest[runs.len()..];
                    let record = Record::Chunks { inode, offset: *offset, runs };
                    self.append(state, now, &record, Vec::new())?;
                    end
                }
            };
            let offset = *offset;
            // Data that waits long for the drain must not wait in memory.
            let place = place.filter(|_| self.is_deferred());
            self.account(state, |layer| {
                layer.with_file(inode, |extents| {
                    extents.set_journaled(offset, end);
                    if let Some(place) = place {
                        extents.moved_to_journal(offset, end - offset, place);
                    }
                });
            });
        }
        Ok(())
    }

    /// Brings everything pending of one file, and its inode's record, into the journal.
    pub(super) fn journal_file(&self, state: &mut State, inode: Inode, now: Timestamp) -> Result<Lsn> {
        let pending = state.active.files.get(&inode).is_some_and(Extents::has_unjournaled);
        // An earlier attempt may have brought the bytes into the journal and failed before the record that counts them.
        if !pending && !state.unjournaled.contains(&inode) {
            return Ok(state.active.last);
        }
        self.journal_data(state, inode, now)?;
        let key = Bytes::from(Key::Record(inode).encode());
        let value = state.active.edits.get(&key).cloned().flatten().ok_or(Refusal::Stale)?;
        let record = Record::Edits { tag: None, truncated: None, edits: vec![(key, Some(value))] };
        let lsn = self.append(state, now, &record, Vec::new())?.lsn;
        state.unjournaled.remove(&inode);
        Ok(lsn)
    }

    /// Brings everything pending of all files into the journal.
    pub(super) fn journal_everything(&self, state: &mut State, now: Timestamp) -> Result<()> {
        let pending = state.active.files.iter().filter(|(_, extents)| extents.has_unjournaled());
        let inodes: BTreeSet<Inode> = pending.map(|(inode, _)| *inode).chain(state.unjournaled.clone()).collect();
        inodes.into_iter().try_for_each(|inode| self.journal_file(state, inode, now).map(drop))
    }

    /// Holds the present moment fast under a snapshot: all that was written so far is in it, nothing later is.
    /// `value` makes its record of its time, which is that of the last write before it, or `now` where that is later.
    /// Returns the LSN that makes it stable, and the base where nothing at all lies above it: then it is sealed already.
    pub fn freeze_for(
        &self,
        snapshot: SnapshotId,
        value: impl FnOnce(Timestamp) -> Bytes,
        now: Timestamp,
    ) -> Result<(Lsn, Option<Base>)> {
        self.refuse_if_read_only()?;
        let mut state = self.write_state();
        state.refuse_if_shut()?;
        self.journal_everything(&mut state, now)?;
        // Nobody writes to this dataset meanwhile: what comes later has a later time, or this one.
        let value = value(self.stages.journal.time().max(now));
        let lsn = self.append(&mut state, now, &Record::Snapshot(value), Vec::new())?.lsn;
        Ok((lsn, self.place_snapshot(&mut state, snapshot)))
    }

    /// Freezes the active layer under a snapshot, or finds that the base is the snapshot.
    pub(super) fn place_snapshot(&self, state: &mut State, snapshot: SnapshotId) -> Option<Base> {
        if state.active.is_empty() && state.frozen.is_empty() {
            return Some(state.base);
        }
        state.active.snapshots.push(snapshot);
        freeze(state);
        self.stages.pressure.call_pump();
        None
    }

    /// True where something was written behind the record `lsn` of a snapshot, whose root is `root` as soon as it has one.
    pub fn changed_since(&self, lsn: Lsn, root: Option<Option<Name>>) -> bool {
        let state = self.read_state();
        let drained = state.frozen.is_empty() && root.is_some_and(|root| root != state.base.root);
        // A snapshot freezes what is there, so the active layer is always behind it.
        drained
            || state.active.has_changes()
            || state.frozen.iter().any(|layer| layer.has_changes() && layer.last > lsn)
    }

    /// True where the active layer is large enough to be drained.
    pub fn is_large(&self) -> bool {
        self.read_state().active.memory_bytes() >= self.stages.pressure.options.freeze_bytes
    }

    /// Freezes the active layer for the drain if there is anything in it and (unless `always`) it is large enough.
    pub fn freeze_if_large(&self, now: Timestamp, always: bool) -> Result<()> {
        let mut state = self.write_state();
        let large = state.active.memory_bytes() >= self.stages.pressure.options.freeze_bytes;
        if state.active.is_empty() || !(always || large) {
            return Ok(());
        }
        self.journal_everything(&mut state, now)?;
        freeze(&mut state);
        Ok(())
    }

    /// Freezes the active layer where it is large and the journal has all of it: so that opening takes no more memory than running
    /// does, and no layer is larger than it need be while the pump is busy. Not between bytes and the record that counts them: the
    /// drain takes what no record counts for never written.
    pub fn freeze_journaled_if_large(&self) {
        let mut state = self.write_state();
        if state.unjournaled.is_empty() && state.active.memory_bytes() >= self.stages.pressure.options.freeze_bytes {
            freeze(&mut state);
        }
    }

    /// Lets go of a dataset that was deleted.
    pub fn retire(&self) {
        self.shut(Shut::Deleted);
    }

    /// Stops all answers of a dataset that is deleted and can be had back, or lets them go on. What it has is merged as ever, at
    /// once where it would have waited for its hours.
    pub fn withdraw(&self, withdrawn: bool) {
        self.write_state().withdrawn = withdrawn;
        if withdrawn {
            self.set_hours(true);
            self.stages.pressure.call_pump();
        }
    }

    /// Sets a dataset aside that could not be brought back: it answers with the damage, and the journal behind its head is
    /// kept for the day on which what is damaged is there again.
    pub fn set_aside(&self, damage: Damage) {
        self.shut(Shut::Damaged(damage));
    }

    /// Ends all answers, and gives back the memory of the layers.
    fn shut(&self, why: Shut) {
        let mut state = self.write_state();
        self.unstick(&mut state);
        self.moved(&state, state.memory_bytes(), 0);
        *state = State {
            base: state.base,
            next_inode: state.next_inode,
            withdrawn: state.withdrawn,
            shut: Some(why),
            ..State::default()
        };
    }

    /// Shows another root: for replicas, which have no layers.
    pub fn show(&self, base: Base, next_inode: u64) {
        let mut state = self.write_state();
        assert!(self.read_only && state.frozen.is_empty(), "only a replica changes its root from outside");
        state.base = base;
        state.next_inode = state.next_inode.max(next_inode);
    }

    pub(super) fn call_pump_if_full(&self) {
        if self.is_large() {
            self.stages.pressure.call_pump();
        }
    }

    pub(super) fn refuse_if_read_only(&self) -> Result<()> {
        if self.read_only { Err(Refusal::ReadOnly.into()) } else { Ok(()) }
    }

    fn lock_calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an earlier call with this tag made or changed.
    pub fn remembered(&self, tag: &CallTag) -> Option<Inode> {
        self.lock_calls().made.get(tag).copied()
    }

    /// The remembered calls, oldest first.
    pub fn calls(&self) -> Vec<(CallTag, Inode)> {
        let calls = self.lock_calls();
        calls.order.iter().filter_map(|tag| calls.made.get(tag).map(|inode| (*tag, *inode))).collect()
    }

    /// Puts remembered calls back after a restart.
    pub fn restore_calls(&self, calls: impl IntoIterator<Item = (CallTag, Inode)>) {
        let mut remembered = self.lock_calls();
        calls.into_iter().for_each(|(tag, inode)| remembered.remember(tag, inode));
    }
}

/// True for what names chunks that were put.
fn refers(record: &Record) -> bool {
    match record {
        Record::Chunks { .. } => true,
        Record::Write { parts, .. } => parts.iter().any(|part| matches!(part.place, Some(Place::Chunk { .. }))),
        _ => false,
    }
}

/// True for what removes or cuts off something: a full disk must not refuse it. Such a record has no payload.
fn gives_room(record: &Record) -> bool {
    match record {
        Record::Edits { truncated, edits, .. } => truncated.is_some() || edits.iter().any(|(_, value)| value.is_none()),
        Record::Write { parts, .. } => parts.iter().all(|part| matches!(part.place, Some(Place::Hole))),
        _ => false,
    }
}

/// Moves the active layer behind the frozen ones and starts a new one.
fn freeze(state: &mut State) {
    let next = Layer::behind(state.active.last, state.active.time);
    let layer = std::mem::replace(&mut state.active, next);
    state.frozen.push_back(Arc::new(layer));
}

/// The chunks and holes at the front of `extents` that lie next to one another, and where they end.
fn adjacent_runs(extents: &[(u64, Extent)]) -> (Vec<(u64, Place)>, u64) {
    let mut runs = Vec::new();
    let mut end = extents.first().map_or(0, |(offset, _)| *offset);
    for (offset, extent) in extents.iter().take(RUNS_PER_RECORD) {
        if *offset != end || !matches!(extent.place, Place::Chunk { .. } | Place::Hole) {
            break;
        }
        runs.push((extent.len, extent.place.clone()));
        end += extent.len;
    }
    (runs, end)
}
