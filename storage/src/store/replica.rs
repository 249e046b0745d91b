//! What replication needs of a store: objects as they lie, and publishing a snapshot that arrived whole.

use super::Store;
use super::datasets::{LABEL_BYTES_MAX, check_label, stream_of};
use crate::catalogue::{Change, DatasetKind, DatasetRow, Head, Policy, Sealed, SnapshotRow};
use crate::dataset::namespace::{self, Key};
use crate::dataset::state::{Base, State};
use crate::dataset::table::Transaction;
use crate::error::{Refusal, Result};
use crate::id::{DatasetId, SnapshotId, StoreId};
use crate::name::{Kind, Name};
use crate::pool::{Pool, StreamId};
use crate::tree::map;
use crate::units::{Inode, Lsn, Timestamp};

/// No box gets there by counting; what claims to have is not believed, so that counting on never overflows.
const INODE_MAX: u64 = 1 << 62;

/// A snapshot that another box made, as it is published here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaSnapshot {
    /// The dataset's id, the same on every box.
    pub dataset: DatasetId,
    /// The name that the replica gets here where it is new.
    pub dataset_name: String,
    /// Share or volume.
    pub kind: DatasetKind,
    /// The size of a volume in bytes.
    pub size: u64,
    /// The store that made it.
    pub origin: StoreId,
    /// The snapshot's id, the same on every box.
    pub snapshot: SnapshotId,
    /// The snapshot's name.
    pub name: String,
    /// The moment it holds.
    pub time: Timestamp,
    /// What it holds.
    pub sealed: Sealed,
}

/// Parts of a replica's name at most: each box of a chain puts its own before it. All of them together have 255 bytes.
pub const NAME_PARTS_MAX: usize = 16;

/// `wanted`, or the first of `wanted-2`, `wanted-3`, … that is not `taken`, shortened where it would be too long for a label.
fn free_name(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2_u64..).map(|number| {
        let suffix = format!("-{number}");
        let room = wanted.len().min(LABEL_BYTES_MAX - suffix.len());
        let end = (0..=room).rev().find(|end| wanted.is_char_boundary(*end)).unwrap_or(0);
        format!("{}{suffix}", &wanted[..end])
    });
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_else(|| wanted.to_owned())
}

impl Store {
    /// Objects by name: what replication reads from and writes to.
    pub fn pool(&self) -> &Pool {
        &self.stages.pool
    }

    /// The stream that objects of a dataset arrive in.
    pub fn stream(&self, dataset: DatasetId) -> StreamId {
        StreamId(stream_of(dataset))
    }

    /// Shows a snapshot that arrived, durably: whole or not at all. Everything below its root must be present. The
    /// dataset is created as a read-only replica where it does not exist; it shows its newest snapshot.
    ///
    /// Ids tell what is the same; people use names again. So a snapshot, or a new replica, whose name something else has here gets
    /// the first free one of `NAME-2`, `NAME-3`, …, and keeps it. Publishing the same again is fine. Refused where the ids stand
    /// for something else here.
    pub fn publish(&self, replica: &ReplicaSnapshot, now: Timestamp) -> Result<()> {
        check_label("snapshot", &replica.name, 1)?;
        let pool = &self.stages.pool;
        let _in_use = pool.in_use();
        if let Some(root) = &replica.sealed.root
            && !pool.contains(Kind::MapNode, root)?
        {
            return Err(Refusal::NotFound(format!("the root {root} of the snapshot {}", replica.name)).into());
        }
        self.check_kind(replica)?;
        self.check_next_inode(replica)?;
        pool.settle()?;
        let _administration = self.administration();
        let catalogue = &self.stages.catalogue;
        let row = self.replica_row(replica, now)?;
        let mut snapshot = SnapshotRow {
            id: replica.snapshot,
            dataset: replica.dataset,
            name: replica.name.clone(),
            time: replica.time,
            lsn: Lsn(0),
            sealed: Some(replica.sealed),
            held: false,
        };
        if let Some(known) = catalogue.any_snapshot(replica.snapshot) {
            let said = SnapshotRow { held: known.held, name: known.name.clone(), ..snapshot.clone() };
            if known != said {
                return Err(Refusal::Exists(format!("another snapshot with the id {}", replica.snapshot)).into());
            }
            if catalogue.snapshot(known.id).is_some() {
                // It was shown before: nothing more arrives for it.
                return self.received(replica.dataset).map_or(Ok(()), |change| self.administer(&[change], now));
            }
            // It was deleted here, and was sent again.
        }
        let existing = catalogue.snapshots(Some(replica.dataset));
        snapshot.name = free_name(&replica.name, |name| existing.iter().any(|other| other.name == name));
        let newest = existing.iter().all(|other| other.time <= replica.time);
        let head = Head { root: replica.sealed.root, lsn: Lsn(0), next_inode: replica.sealed.next_inode };
        let mut changes = self.returned(&row, snapshot.id, now)?;
        changes.extend(catalogue.snapshot_deleted(snapshot.id).map(|_| Change::deleted_snapshot(snapshot.id, None)));
        changes.push(Change::snapshot(&snapshot));
        changes.extend(self.received(replica.dataset));
        changes.extend(self.locks_of_new(&row, snapshot.id));
        match self.any_dataset(replica.dataset) {
            Err(_) => drop(self.add_dataset(row, head, &changes, now)?),
            Ok(dataset) => {
                if newest {
                    changes.push(Change::head(replica.dataset, head));
                    changes.push(Change::dataset(&DatasetRow { size: replica.size, ..row }));
                }
                self.administer(&changes, now)?;
                dataset.withdraw(false);
                if newest {
                    dataset.show(Base { root: head.root, lsn: head.lsn }, head.next_inode);
                    dataset.learn_size()?;
                }
            }
        }
        Ok(())
    }

    /// Refuses a name that no replica can have, as one of more than [`NAME_PARTS_MAX`] parts. One that is taken is no reason.
    pub fn check_replica_name(name: &str) -> Result<()> {
        check_label("replica", name, NAME_PARTS_MAX)
    }

    /// Refuses a root that is not of the kind, or a volume not of the size, that is said.
    fn check_kind(&self, replica: &ReplicaSnapshot) -> Result<()> {
        let objects = self.stages.pool.on(self.stream(replica.dataset));
        let state = State::at(replica.sealed.root);
        let view = Transaction::new(&state, &objects);
        let sound = match (namespace::is_volume(&view)?, replica.kind) {
            (true, DatasetKind::Volume) => {
                let size = namespace::volume_size(&view)?;
                (size, size) == (replica.size, replica.sealed.logical_bytes)
            }
            (false, DatasetKind::Share) => replica.size == 0,
            _ => false,
        };
        match sound {
            true => Ok(()),
            false => {
                Err(Refusal::Invalid(format!("the snapshot {} does not hold what it is said to", replica.name)).into())
            }
        }
    }

    /// Refuses a next inode number that a file of the snapshot has already, or that leaves none: a clone would count on
    /// from it.
    fn check_next_inode(&self, replica: &ReplicaSnapshot) -> Result<()> {
        let next = Inode(replica.sealed.next_inode);
        let objects = self.stages.pool.on(self.stream(replica.dataset));
        let from = Key::Record(next).encode();
        let taken = || map::range(&objects, replica.sealed.root.as_ref(), from..).next().transpose();
        if replica.kind == DatasetKind::Share && (next <= Inode::ROOT || next.0 > INODE_MAX || taken()?.is_some()) {
            let why = format!("{next} can't be the next inode number of the snapshot {}", replica.name);
            return Err(Refusal::Invalid(why).into());
        }
        Ok(())
    }

    /// The row of the dataset that a snapshot is published in; a new one where there is none.
    fn replica_row(&self, replica: &ReplicaSnapshot, now: Timestamp) -> Result<DatasetRow> {
        let taken = |name: &str| self.stages.catalogue.dataset_named(name).is_some();
        match self.stages.catalogue.any_dataset(replica.dataset) {
            Some(row) if row.origin == Some(replica.origin) && row.kind == replica.kind => {
                // One that was deleted comes back, by its name if that is still free.
                let deleted = self.stages.catalogue.dataset_deleted(row.id).is_some();
                let name = if deleted { free_name(&row.name, taken) } else { row.name };
                Ok(DatasetRow { name, ..row })
            }
            Some(row) => {
                let why = format!("{} is no replica of the store {} here", row.name, replica.origin);
                Err(Refusal::Invalid(why).into())
            }
            None => {
                Self::check_replica_name(&replica.dataset_name)?;
                Ok(DatasetRow {
                    id: replica.dataset,
                    name: free_name(&replica.dataset_name, taken),
                    kind: replica.kind,
                    policy: Policy::Inline,
                    read_only: true,
                    created: now,
                    origin: Some(replica.origin),
                    size: replica.size,
                })
            }
        }
    }

    /// The first of `offered` that is here as a sealed snapshot of the dataset, with the same root.
    pub fn newest_shared(&self, dataset: DatasetId, offered: &[(SnapshotId, Name)]) -> Option<(SnapshotId, Name)> {
        let snapshots = self.stages.catalogue.snapshots(Some(dataset));
        let same = |row: &SnapshotRow, root: &Name| row.sealed.is_some_and(|sealed| sealed.root == Some(*root));
        let here = |(id, root): &&(SnapshotId, Name)| snapshots.iter().any(|row| row.id == *id && same(row, root));
        offered.iter().find(here).copied()
    }
}
