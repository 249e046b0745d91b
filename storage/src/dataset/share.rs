//! A share as front doors see it: [`FileTree`] over the layers of a dataset. Also serves snapshots and replicas, read-only.

use std::ops::Range;
use std::sync::RwLockReadGuard;

use bytes::Bytes;

use super::extents::{Extent, Place};
use super::live::{Dataset, Effects};
use super::namespace::{self, Change, Effect, NewEntry, Outcome, View};
use super::read::{holes, runs};
use super::state::{Plan, State};
use super::table::Transaction;
use super::{
    Access, Attributes, Call, CallTag, Changed, Create, Credentials, FileTree, Listing, Made, Node, ReadData,
    SetAttributes,
};
use crate::error::Result;
use crate::units::{Inode, Lsn, Space, Timestamp};

/// One journal payload takes at most this much; longer writes are divided.
const EXTENT_BYTES_MAX: usize = 1 << 20;
/// How far the first look for data in a file goes.
const LOOK_BYTES: u64 = 64 << 20;

impl Dataset {
    /// Looks at the namespace as it is now.
    fn view<T>(&self, look: impl FnOnce(&dyn View) -> Result<T>) -> Result<T> {
        let objects = self.objects();
        let state = self.look()?;
        look(&Transaction::new(&state, &objects))
    }

    /// The state for looking at. Refused once the dataset is deleted or set aside.
    pub(super) fn look(&self) -> Result<RwLockReadGuard<'_, State>> {
        let state = self.read_state();
        state.refuse_if_shut()?;
        Ok(state)
    }

    /// The attributes of a file, and where the bytes of a range of it are.
    fn plan(&self, caller: &Credentials, inode: Inode, offset: u64, len: u64) -> Result<(Attributes, bool, Plan)> {
        let objects = self.objects();
        let state = self.look()?;
        let transaction = Transaction::new(&state, &objects);
        let attributes = namespace::allow_read(&transaction, caller, inode)?;
        let end = offset.saturating_add(len).min(attributes.size);
        let plan = state.plan(&objects, inode, offset.min(end), end)?;
        Ok((attributes.clone(), end == attributes.size || offset >= attributes.size, plan))
    }

    /// Makes a namespace change that concerns the inode that `inode_of` finds in its result.
    fn make<T>(
        &self,
        call: &Call,
        inode_of: impl FnOnce(&T) -> Inode,
        operation: impl FnOnce(&mut Transaction) -> Result<Outcome<T>>,
    ) -> Result<(T, Lsn)> {
        self.change(call, |transaction| {
            let Outcome { value, effect } = operation(transaction)?;
            let truncated = match effect {
                Some(Effect::Truncate { inode, size }) => Some((inode, size)),
                // The deleted record among the edits drops the data.
                Some(Effect::Dropped { .. }) | None => None,
            };
            let effects = Effects { inode: inode_of(&value), truncated };
            Ok((value, effects))
        })
    }

    fn make_entry(
        &self,
        call: &Call,
        operation: impl FnOnce(&mut Transaction) -> Result<Outcome<NewEntry>>,
    ) -> Result<Made> {
        let (entry, lsn) = self.make(call, |entry: &NewEntry| entry.file.inode, operation)?;
        Ok(Made { file: entry.file, dir: changed(entry.dir, lsn) })
    }

    fn make_change(
        &self,
        call: &Call,
        operation: impl FnOnce(&mut Transaction) -> Result<Outcome<Change>>,
    ) -> Result<Changed> {
        let (change, lsn) = self.make(call, |change: &Change| change.after.inode, operation)?;
        Ok(changed(change, lsn))
    }
}

fn changed(change: Change, lsn: Lsn) -> Changed {
    Changed { before: change.before, after: change.after, lsn }
}

impl FileTree for Dataset {
    fn attributes(&self, inode: Inode) -> Result<Attributes> {
        self.view(|view| namespace::attributes(view, inode))
    }

    fn set_attributes(
        &self,
        call: &Call,
        inode: Inode,
        set: &SetAttributes,
        guard: Option<Timestamp>,
    ) -> Result<Changed> {
        // A full disk does not refuse to cut a file shorter.
        if let Some(size) = set.size
            && size > self.attributes(inode)?.size
        {
            self.admit(0)?;
        }
        self.make_change(call, |transaction| namespace::set_attributes(transaction, call, inode, set, guard))
    }

    fn lookup(&self, caller: &Credentials, dir: Inode, name: &[u8]) -> Result<Attributes> {
        self.view(|view| namespace::lookup(view, caller, dir, name))
    }

    fn access(&self, caller: &Credentials, inode: Inode, wanted: Access) -> Result<Access> {
        self.view(|view| namespace::access(view, caller, inode, wanted))
    }

    fn read_link(&self, _caller: &Credentials, inode: Inode) -> Result<Bytes> {
        self.view(|view| namespace::read_link(view, inode))
    }

    fn read(&self, caller: &Credentials, inode: Inode, offset: u64, len: u32) -> Result<ReadData> {
        let ((attributes, end), pieces) = self.fetch_patiently(|| {
            let (attributes, end, plan) = self.plan(caller, inode, offset, len.into())?;
            Ok(((attributes, end), plan))
        })?;
        Ok(ReadData { pieces, end, attributes })
    }

    fn next_data(&self, caller: &Credentials, inode: Inode, offset: u64) -> Result<Option<Range<u64>>> {
        let objects = self.objects();
        let _in_use = self.stages.pool.in_use();
        let (mut at, mut len) = (offset, LOOK_BYTES);
        loop {
            let (attributes, _, plan) = self.plan(caller, inode, at, len)?;
            if at >= attributes.size {
                return Ok(None);
            }
            let mut data = at..at;
            runs(&objects, &plan, |takes_room, len| {
                let over = !takes_room && !data.is_empty();
                match (over, takes_room) {
                    (true, _) => {}
                    (false, true) => data.end += len,
                    (false, false) => data = data.end + len..data.end + len,
                }
                !over
            })?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
            // A hole that long may be longer by far.
            (at, len) = (data.end, len.saturating_mul(2));
        }
    }

    fn write(&self, call: &Call, inode: Inode, offset: u64, data: Bytes) -> Result<Changed> {
        self.refuse_if_read_only()?;
        self.admit(data.len() as u64)?;
        let objects = self.objects();
        let change = {
            let mut state = self.grow_state()?;
            let mut transaction = Transaction::new(&state, &objects);
            let outcome = namespace::wrote(&mut transaction, call, inode, (offset, data.len() as u64), &|from, to| {
                holes(&objects, &state.plan(&objects, inode, from, to)?)
            })?;
            let (edits, _) = transaction.finish();
            if !edits.is_empty() {
                state.unjournaled.insert(inode);
            }
            self.apply_unjournaled(&mut state, edits);
            self.account(&mut state, |layer| {
                layer.written_bytes += data.len() as u64;
                layer.with_file(inode, |extents| {
                    let mut at = 0;
                    while at < data.len() {
                        let bytes = data.slice(at..data.len().min(at + EXTENT_BYTES_MAX));
                        let len = bytes.len();
                        let place = Place::memory(bytes, self.stages.stamp());
                        extents.insert(offset + at as u64, Extent { len: len as u64, place, journaled: false });
                        at += len;
                    }
                });
            });
            outcome.value
        };
        // The write has happened. What could not be cut (a full disk) stays in memory and is cut or journaled later.
        self.cut_while_writing(inode, offset, change.after.size, call.now);
        self.call_pump_if_full();
        Ok(changed(change, Lsn(0)))
    }

    fn commit(&self, inode: Inode) -> Result<Changed> {
        let attributes = self.attributes(inode)?;
        if self.read_only {
            return Ok(Changed { before: attributes.clone(), after: attributes, lsn: Lsn(0) });
        }
        // What can't be cut now goes into the journal inline, where there is room of its own; a disk that is broken tells
        // whoever makes this stable.
        let _inline_instead = self.cut_before_commit(inode, attributes.size);
        let mut state = self.change_state()?;
        // The inode's own time of change: bytes that wait for the journal are as old as that.
        let lsn = self.journal_file(&mut state, inode, attributes.changed)?;
        drop(state);
        let after = self.attributes(inode)?;
        Ok(Changed { before: after.clone(), after, lsn })
    }

    fn create(&self, call: &Call, dir: Inode, name: &[u8], how: &Create) -> Result<Made> {
        self.admit(0)?;
        self.make_entry(call, |transaction| namespace::create(transaction, call, dir, name, how))
    }

    fn make_dir(&self, call: &Call, dir: Inode, name: &[u8], set: &SetAttributes) -> Result<Made> {
        self.admit(0)?;
        self.make_entry(call, |transaction| namespace::make_dir(transaction, call, dir, name, set))
    }

    fn make_symlink(&self, call: &Call, dir: Inode, name: &[u8], target: &[u8], set: &SetAttributes) -> Result<Made> {
        self.admit(0)?;
        self.make_entry(call, |transaction| namespace::make_symlink(transaction, call, dir, name, target, set))
    }

    fn make_node(&self, call: &Call, dir: Inode, name: &[u8], node: Node, set: &SetAttributes) -> Result<Made> {
        self.admit(0)?;
        self.make_entry(call, |transaction| namespace::make_node(transaction, call, dir, name, node, set))
    }

    fn remove(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed> {
        self.make_change(call, |transaction| namespace::remove(transaction, call, dir, name))
    }

    fn remove_dir(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed> {
        self.make_change(call, |transaction| namespace::remove_dir(transaction, call, dir, name))
    }

    fn rename(&self, call: &Call, from: (Inode, &[u8]), to: (Inode, &[u8])) -> Result<(Changed, Changed)> {
        let ((source, target), lsn) = self.make(
            call,
            |(_, target): &(Change, Change)| target.after.inode,
            |transaction| namespace::rename(transaction, call, from, to),
        )?;
        Ok((changed(source, lsn), changed(target, lsn)))
    }

    fn link(&self, call: &Call, inode: Inode, dir: Inode, name: &[u8]) -> Result<Made> {
        self.make_entry(call, |transaction| namespace::link(transaction, call, inode, dir, name))
    }

    fn read_dir(&self, caller: &Credentials, dir: Inode, cookie: u64, entries_max: usize) -> Result<Listing> {
        self.view(|view| namespace::read_dir(view, caller, dir, cookie, entries_max))
    }

    fn space(&self) -> Result<Space> {
        self.stages.space()
    }

    fn make_stable(&self, lsn: Lsn) -> Result<()> {
        if self.read_only { Ok(()) } else { self.stages.make_stable(lsn) }
    }

    fn write_verifier(&self) -> [u8; 8] {
        self.stages.write_verifier()
    }

    fn remembered(&self, tag: &CallTag) -> Option<(Inode, Lsn)> {
        // The call's own LSN is not kept; it is not above that of the last change.
        Dataset::remembered(self, tag).map(|inode| (inode, self.read_state().active.last))
    }

    fn read_only(&self) -> bool {
        self.read_only
    }
}
