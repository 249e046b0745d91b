//! One layer of what changed since a dataset's base root: edits of its map, and bytes of its files.
//!
//! A dataset is a base root, frozen layers over it (oldest first) that wait for the drain, and one active layer on top
//! that takes every change. Freezing is how a moment is held fast: a snapshot freezes the active layer and is sealed
//! when the drain has merged everything up to it into a root.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::extents::Extents;
use super::namespace::Key;
use crate::catalogue::Step;
use crate::id::SnapshotId;
use crate::units::{Inode, Lsn, Timestamp};

/// What an edit costs in memory beside its key and value.
const EDIT_OVERHEAD_BYTES: u64 = 96;

/// How finely a layer remembers what its records take in the journal.
const STEP_BYTES: u64 = 1 << 20;

/// Changes over the layer below.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    /// Keys with their new values, or with none where they were deleted.
    pub edits: BTreeMap<Bytes, Option<Bytes>>,
    /// What was written to files.
    pub files: BTreeMap<Inode, Extents>,
    /// The first journal record in this layer, and its time.
    pub first: Option<(Lsn, Timestamp)>,
    /// The last journal record in this layer.
    pub last: Lsn,
    /// Its time.
    pub time: Timestamp,
    /// Bytes that clients wrote into this layer.
    pub written_bytes: u64,
    /// What its records take in the journal: up to which record, and how many bytes behind the entry before.
    pub steps: Vec<Step>,
    /// Snapshots that hold the state at the end of this layer.
    pub snapshots: Vec<SnapshotId>,
    edit_bytes: u64,
    file_bytes: u64,
    open_bytes: u64,
}

impl Layer {
    /// An empty layer behind the record `last`.
    pub fn behind(last: Lsn, time: Timestamp) -> Self {
        Layer { last, time, ..Layer::default() }
    }

    /// Notes that a record of so many bytes of journal belongs to this layer.
    pub fn takes(&mut self, lsn: Lsn, time: Timestamp, bytes: u64) {
        self.first.get_or_insert((lsn, time));
        (self.last, self.time) = (lsn, time);
        match self.steps.last_mut().filter(|step| step.bytes < STEP_BYTES) {
            Some(step) => *step = Step { upto: lsn, bytes: step.bytes + bytes },
            None => self.steps.push(Step { upto: lsn, bytes }),
        }
    }

    /// Applies one edit. Deleting an inode's record drops what was written to it.
    pub fn apply(&mut self, key: Bytes, value: Option<Bytes>) {
        if value.is_none()
            && let Some(inode) = record_of(&key)
        {
            self.drop_file(inode);
        }
        self.edit_bytes += edit_bytes((&key, &value));
        // The key stays; it costs the same again.
        let again = key.clone();
        if let Some(old) = self.edits.insert(key, value) {
            self.edit_bytes -= edit_bytes((&again, &old));
        }
    }

    /// Changes what was written to a file, keeping count of memory.
    pub fn with_file<T>(&mut self, inode: Inode, change: impl FnOnce(&mut Extents) -> T) -> T {
        let extents = self.files.entry(inode).or_default();
        let (before, open_before) = (extents.memory_bytes(), extents.open_bytes());
        let result = change(extents);
        self.file_bytes = self.file_bytes + extents.memory_bytes() - before;
        self.open_bytes = self.open_bytes + extents.open_bytes() - open_before;
        result
    }

    /// Forgets what was written to a file.
    pub fn drop_file(&mut self, inode: Inode) {
        if let Some(extents) = self.files.remove(&inode) {
            self.file_bytes -= extents.memory_bytes();
            self.open_bytes -= extents.open_bytes();
        }
    }

    /// Memory that the layer holds.
    pub fn memory_bytes(&self) -> u64 {
        self.edit_bytes + self.file_bytes
    }

    /// Bytes that nobody has cut, or is cutting, and no journal record describes.
    pub fn open_bytes(&self) -> u64 {
        self.open_bytes
    }

    /// True where nothing changed and no snapshot waits.
    pub fn is_empty(&self) -> bool {
        !self.has_changes() && self.snapshots.is_empty()
    }

    /// True where something changed.
    pub fn has_changes(&self) -> bool {
        !self.edits.is_empty() || !self.files.is_empty()
    }
}

/// What an edit costs in memory.
pub(crate) fn edit_bytes((key, value): (&Bytes, &Option<Bytes>)) -> u64 {
    EDIT_OVERHEAD_BYTES + (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64
}

/// The inode whose record a key stands for.
pub(crate) fn record_of(key: &[u8]) -> Option<Inode> {
    match Key::parse(key) {
        Some(Key::Record(inode)) => Some(inode),
        _ => None,
    }
}

/// True for the key of the sums over a share.
pub(crate) fn is_totals(key: &[u8]) -> bool {
    Key::parse(key) == Some(Key::Totals)
}
