//! The rows of the catalogue and how they are written. `docs/formats/catalogue.md` owns the bytes.

use bytes::Bytes;

use super::deleted::Deleted;
use super::locks::{self, Lock};
use super::moments::{self, Checkpoint, Mark, Window};
use super::past::{self, History, Step};
use crate::codec::{Malformed, Put, Reader};
use crate::dataset::CallTag;
use crate::id::{DatasetId, SnapshotId, StoreId};
use crate::name::Name;
use crate::units::{Inode, Lsn, Timestamp};

/// What a dataset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DatasetKind {
    /// A file tree.
    Share = 1,
    /// A block device.
    Volume = 2,
}

/// When a dataset's data is deduplicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// While it is being written.
    Inline = 1,
    /// In hours set for it; until then it lies in the journal.
    Deferred = 2,
    /// Never: stored whole.
    Off = 3,
}

/// A dataset, without what changes by the minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetRow {
    /// Its id, on every box that has it.
    pub id: DatasetId,
    /// Its name on this box, unique here.
    pub name: String,
    /// Share or volume.
    pub kind: DatasetKind,
    /// When it is deduplicated.
    pub policy: Policy,
    /// True where clients may not write.
    pub read_only: bool,
    /// When it was created here.
    pub created: Timestamp,
    /// The store that it is a replica of; `None` where it was made here.
    pub origin: Option<StoreId>,
    /// The size of a volume in bytes; 0 for shares.
    pub size: u64,
}

/// The newest root of a dataset: a checkpoint of its journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The root of its map; `None` for the empty map.
    pub root: Option<Name>,
    /// The last journal record in that root.
    pub lsn: Lsn,
    /// The inode number that the next new file gets, at the least.
    pub next_inode: u64,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its id, on every box that has it.
    pub id: SnapshotId,
    /// Of which dataset.
    pub dataset: DatasetId,
    /// Its name, unique in its dataset.
    pub name: String,
    /// The moment it holds.
    pub time: Timestamp,
    /// The journal record that made it, in the store that made it.
    pub lsn: Lsn,
    /// What it holds, once the drain got there.
    pub sealed: Option<Sealed>,
    /// True where it must not be deleted.
    pub held: bool,
}

/// What a sealed snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// The root of its map; `None` for the empty map.
    pub root: Option<Name>,
    /// The next inode number at that moment.
    pub next_inode: u64,
    /// Sum of the lengths of all files.
    pub logical_bytes: u64,
    /// How many files, directories not counted.
    pub files: u64,
}

impl Sealed {
    /// The size in bytes of a volume at that moment; 0 for a share.
    pub fn volume_bytes(&self, kind: DatasetKind) -> u64 {
        match kind {
            DatasetKind::Volume => self.logical_bytes,
            DatasetKind::Share => 0,
        }
    }
}

/// A key with its new value, or with none where the row goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
}

const VERSION: u8 = 1;
const DATASET: u8 = 1;
const HEAD: u8 = 2;
const SNAPSHOT: u8 = 3;
const PEER: u8 = 4;
const SETTING: u8 = 5;
const CALLS: u8 = 6;
pub(super) const WINDOW: u8 = 7;
pub(super) const CHECKPOINTS: u8 = 8;
pub(super) const MARK: u8 = 9;
pub(super) const HISTORY: u8 = 10;
pub(super) const STEPS: u8 = 11;
pub(super) const LOCK: u8 = 12;
pub(super) const DELETED_SNAPSHOT: u8 = 13;
pub(super) const DELETED_DATASET: u8 = 14;

/// A decoded row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Row {
    Dataset(DatasetRow),
    Head(DatasetId, Head),
    Snapshot(SnapshotRow),
    Peer(String, Bytes),
    Setting(String, Bytes),
    Calls(DatasetId, Vec<(CallTag, Inode)>),
    Window(DatasetId, Window),
    Checkpoints(DatasetId, Vec<Checkpoint>),
    Mark(Mark),
    History(DatasetId, History),
    Steps(DatasetId, Vec<Step>),
    Lock(Lock),
    DeletedSnapshot(SnapshotId, Deleted),
    DeletedDataset(DatasetId, Deleted),
    Unknown,
}

/// Which row a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RowKey {
    Dataset(DatasetId),
    Head(DatasetId),
    Snapshot(SnapshotId),
    Peer(String),
    Setting(String),
    Calls(DatasetId),
    Window(DatasetId),
    Checkpoints(DatasetId),
    Mark(DatasetId, String),
    History(DatasetId),
    Steps(DatasetId),
    Lock(SnapshotId),
    DeletedSnapshot(SnapshotId),
    DeletedDataset(DatasetId),
    Unknown,
}

pub(super) fn key(kind: u8, rest: &[u8]) -> Bytes {
    let mut key = vec![kind];
    key.extend_from_slice(rest);
    key.into()
}

pub(super) fn value(write: impl FnOnce(&mut Vec<u8>)) -> Option<Bytes> {
    let mut value = vec![VERSION];
    write(&mut value);
    Some(value.into())
}

pub(super) fn put_root(value: &mut Vec<u8>, root: Option<Name>) {
    value.put_u8(u8::from(root.is_some()));
    value.extend_from_slice(&root.unwrap_or_default().0);
}

pub(super) fn root(reader: &mut Reader) -> Result<Option<Name>, Malformed> {
    let present = flag(reader)?;
    let name = Name(reader.array()?);
    Ok(present.then_some(name))
}

pub(super) fn flag(reader: &mut Reader) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reader.malformed()),
    }
}

fn text(reader: &mut Reader) -> Result<String, Malformed> {
    let bytes = reader.bytes(4096)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| reader.malformed())
}

impl Change {
    /// Creates or changes a dataset.
    pub fn dataset(row: &DatasetRow) -> Change {
        let value = value(|value| {
            value.put_bytes(row.name.as_bytes());
            value.put_u8(row.kind as u8);
            value.put_u8(row.policy as u8);
            value.put_u8(u8::from(row.read_only));
            value.put_i64(row.created.0);
            value.extend_from_slice(&row.origin.unwrap_or_default().0);
            value.put_u64(row.size);
        });
        Change { key: key(DATASET, &row.id.0), value }
    }

    /// Removes a dataset, its head, its remembered calls, its window, its checkpoints, its history and that it was deleted; its
    /// snapshots and marks have rows of their own.
    pub fn no_dataset(id: DatasetId) -> [Change; 8] {
        [DATASET, HEAD, CALLS, WINDOW, CHECKPOINTS, HISTORY, STEPS, DELETED_DATASET]
            .map(|kind| Change { key: key(kind, &id.0), value: None })
    }

    /// Moves a dataset's head.
    pub fn head(dataset: DatasetId, head: Head) -> Change {
        let value = value(|value| {
            put_root(value, head.root);
            value.put_u64(head.lsn.0);
            value.put_u64(head.next_inode);
        });
        Change { key: key(HEAD, &dataset.0), value }
    }

    /// Creates or changes a snapshot.
    pub fn snapshot(row: &SnapshotRow) -> Change {
        let sealed = row.sealed.unwrap_or_default();
        let value = value(|value| {
            value.extend_from_slice(&row.dataset.0);
            value.put_bytes(row.name.as_bytes());
            value.put_i64(row.time.0);
            value.put_u64(row.lsn.0);
            value.put_u8(u8::from(row.sealed.is_some()));
            put_root(value, sealed.root);
            value.put_u64(sealed.next_inode);
            value.put_u64(sealed.logical_bytes);
            value.put_u64(sealed.files);
            value.put_u8(u8::from(row.held));
        });
        Change { key: key(SNAPSHOT, &row.id.0), value }
    }

    /// Removes a snapshot.
    pub fn no_snapshot(id: SnapshotId) -> Change {
        Change { key: key(SNAPSHOT, &id.0), value: None }
    }

    /// Sets or removes a peer.
    pub fn peer(name: &str, record: Option<&[u8]>) -> Change {
        Change { key: key(PEER, name.as_bytes()), value: record.and_then(|record| value(|value| value.extend(record))) }
    }

    /// Sets or removes a setting.
    pub fn setting(name: &str, setting: Option<&[u8]>) -> Change {
        Change { key: key(SETTING, name.as_bytes()), value: setting.and_then(|set| value(|value| value.extend(set))) }
    }

    /// Replaces the remembered calls of a dataset.
    pub fn calls(dataset: DatasetId, calls: &[(CallTag, Inode)]) -> Change {
        let value = value(|value| {
            for (tag, inode) in calls {
                value.extend_from_slice(&tag.0);
                value.put_u64(inode.0);
            }
        });
        Change { key: key(CALLS, &dataset.0), value }
    }

    /// True where a row goes.
    pub fn removes(&self) -> bool {
        self.value.is_none()
    }

    /// The snapshot that this creates or changes, if it does.
    pub fn snapshot_id(&self) -> Option<SnapshotId> {
        match (self.row_key(), &self.value) {
            (Ok(RowKey::Snapshot(id)), Some(_)) => Some(id),
            _ => None,
        }
    }

    /// Gives a new snapshot or mark the LSN of the journal record that this change was found in: it could not know it before.
    pub fn set_missing_lsn(&mut self, lsn: Lsn) {
        match self.row() {
            Ok(Some(Row::Snapshot(row))) if row.lsn == Lsn(0) && row.sealed.is_none() => {
                *self = Change::snapshot(&SnapshotRow { lsn, ..row });
            }
            Ok(Some(Row::Mark(mark))) if mark.lsn == Lsn(0) => *self = Change::mark(&Mark { lsn, ..mark }),
            _ => {}
        }
    }

    /// The roots that the row names, once this change is made.
    pub fn roots(&self) -> Result<Vec<Name>, Malformed> {
        Ok(match self.row()? {
            Some(Row::Head(_, head)) => head.root.into_iter().collect(),
            Some(Row::Snapshot(row)) => row.sealed.and_then(|sealed| sealed.root).into_iter().collect(),
            Some(Row::Checkpoints(_, all)) => all.iter().filter_map(|checkpoint| checkpoint.root).collect(),
            _ => Vec::new(),
        })
    }

    pub(super) fn row_key(&self) -> Result<RowKey, Malformed> {
        row_key(&self.key)
    }

    pub(super) fn row(&self) -> Result<Option<Row>, Malformed> {
        self.value.as_ref().map(|value| row(&self.key, value)).transpose()
    }
}

fn rest_as_text(reader: &mut Reader) -> Result<String, Malformed> {
    let text = reader.take(reader.left())?;
    String::from_utf8(text.to_vec()).map_err(|_| reader.malformed())
}

pub(super) fn row_key(key: &Bytes) -> Result<RowKey, Malformed> {
    let mut reader = Reader::new(key, "a catalogue key");
    let kind = reader.u8()?;
    let row_key = match kind {
        DATASET => RowKey::Dataset(DatasetId(reader.array()?)),
        HEAD => RowKey::Head(DatasetId(reader.array()?)),
        SNAPSHOT => RowKey::Snapshot(SnapshotId(reader.array()?)),
        CALLS => RowKey::Calls(DatasetId(reader.array()?)),
        WINDOW => RowKey::Window(DatasetId(reader.array()?)),
        CHECKPOINTS => RowKey::Checkpoints(DatasetId(reader.array()?)),
        HISTORY => RowKey::History(DatasetId(reader.array()?)),
        STEPS => RowKey::Steps(DatasetId(reader.array()?)),
        LOCK => RowKey::Lock(SnapshotId(reader.array()?)),
        DELETED_SNAPSHOT => RowKey::DeletedSnapshot(SnapshotId(reader.array()?)),
        DELETED_DATASET => RowKey::DeletedDataset(DatasetId(reader.array()?)),
        MARK => RowKey::Mark(DatasetId(reader.array()?), rest_as_text(&mut reader)?),
        PEER | SETTING => {
            let name = rest_as_text(&mut reader)?;
            if kind == PEER { RowKey::Peer(name) } else { RowKey::Setting(name) }
        }
        _ => return Ok(RowKey::Unknown),
    };
    reader.end().map(|()| row_key)
}

pub(super) fn row(key: &Bytes, value: &Bytes) -> Result<Row, Malformed> {
    let row_key = row_key(key)?;
    let mut reader = Reader::new(value, "a catalogue row");
    if reader.u8()? != VERSION && row_key != RowKey::Unknown {
        return Err(reader.malformed());
    }
    let row = match row_key {
        RowKey::Dataset(id) => Row::Dataset(dataset(id, &mut reader)?),
        RowKey::Head(id) => {
            let head = Head { root: root(&mut reader)?, lsn: Lsn(reader.u64()?), next_inode: reader.u64()? };
            Row::Head(id, head)
        }
        RowKey::Snapshot(id) => Row::Snapshot(snapshot(id, &mut reader)?),
        RowKey::Peer(name) => Row::Peer(name, reader.take(reader.left())?),
        RowKey::Setting(name) => Row::Setting(name, reader.take(reader.left())?),
        RowKey::Calls(id) => {
            let mut calls = Vec::with_capacity(reader.left() / 24);
            while reader.left() > 0 {
                calls.push((CallTag(reader.array()?), Inode(reader.u64()?)));
            }
            Row::Calls(id, calls)
        }
        RowKey::Window(id) => Row::Window(id, moments::window(&mut reader)?),
        RowKey::Checkpoints(id) => Row::Checkpoints(id, moments::checkpoints(&mut reader)?),
        RowKey::Mark(id, label) => Row::Mark(moments::mark(id, label, &mut reader)?),
        RowKey::History(id) => Row::History(id, past::history(&mut reader)?),
        RowKey::Steps(id) => Row::Steps(id, past::steps(&mut reader)?),
        RowKey::Lock(id) => Row::Lock(locks::lock(id, &mut reader)?),
        RowKey::DeletedSnapshot(id) => Row::DeletedSnapshot(id, Deleted::decode(&mut reader)?),
        RowKey::DeletedDataset(id) => Row::DeletedDataset(id, Deleted::decode(&mut reader)?),
        RowKey::Unknown => return Ok(Row::Unknown),
    };
    reader.end().map(|()| row)
}

fn dataset(id: DatasetId, reader: &mut Reader) -> Result<DatasetRow, Malformed> {
    let name = text(reader)?;
    let kind = match reader.u8()? {
        1 => DatasetKind::Share,
        2 => DatasetKind::Volume,
        _ => return Err(reader.malformed()),
    };
    let policy = match reader.u8()? {
        1 => Policy::Inline,
        2 => Policy::Deferred,
        3 => Policy::Off,
        _ => return Err(reader.malformed()),
    };
    let read_only = flag(reader)?;
    let created = Timestamp(reader.i64()?);
    let origin = StoreId(reader.array()?);
    let origin = (origin != StoreId::default()).then_some(origin);
    Ok(DatasetRow { id, name, kind, policy, read_only, created, origin, size: reader.u64()? })
}

fn snapshot(id: SnapshotId, reader: &mut Reader) -> Result<SnapshotRow, Malformed> {
    let dataset = DatasetId(reader.array()?);
    let name = text(reader)?;
    let (time, lsn) = (Timestamp(reader.i64()?), Lsn(reader.u64()?));
    let is_sealed = flag(reader)?;
    let sealed =
        Sealed { root: root(reader)?, next_inode: reader.u64()?, logical_bytes: reader.u64()?, files: reader.u64()? };
    let held = flag(reader)?;
    Ok(SnapshotRow { id, dataset, name, time, lsn, sealed: is_sealed.then_some(sealed), held })
}

/// Several changes as one run of bytes, for the journal and for images.
pub fn encode_changes(changes: &[Change]) -> Bytes {
    let mut bytes = Vec::new();
    bytes.put_u32(changes.len() as u32);
    for change in changes {
        bytes.put_bytes(&change.key);
        bytes.put_u8(u8::from(change.value.is_some()));
        if let Some(value) = &change.value {
            bytes.put_bytes(value);
        }
    }
    bytes.into()
}

/// Reads what [`encode_changes`] wrote. Rows are looked at, too: what can be applied is what is returned.
pub fn decode_changes(bytes: &Bytes) -> Result<Vec<Change>, Malformed> {
    let mut reader = Reader::new(bytes, "a list of catalogue changes");
    let count = reader.count(5)?;
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let left = reader.left();
        let key = reader.bytes(left)?;
        let left = reader.left();
        let value = if flag(&mut reader)? { Some(reader.bytes(left)?) } else { None };
        let change = Change { key, value };
        change.row_key()?;
        change.row()?;
        changes.push(change);
    }
    reader.end().map(|()| changes)
}
