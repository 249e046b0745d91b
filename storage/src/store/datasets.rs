//! Datasets: creating, finding, deleting them, and the tree that front doors serve.

use std::sync::{Arc, PoisonError};

use super::Store;
use super::disk::DiskParts;
use super::open::NO_DATASET;
use crate::catalogue::{Change, DatasetKind, DatasetRow, Head, Policy, SnapshotRow, encode_changes};
use crate::dataset::FileTree;
use crate::dataset::live::{Dataset, Mode};
use crate::dataset::namespace::{self, Key, Totals};
use crate::dataset::record::Record;
use crate::dataset::state::{Base, State};
use crate::dataset::table::Transaction;
use crate::error::{Damage, Error, Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::name::{Kind, Name};
use crate::pool::{PoolStats, StreamId};
use crate::tree::map;
use crate::units::{Inode, Lsn, Space, Timestamp};

/// Longest name of a dataset or snapshot, in bytes.
pub const LABEL_BYTES_MAX: usize = 255;

/// What is seen of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetInfo {
    /// What it is.
    pub row: DatasetRow,
    /// Its newest root and the journal record up to which it reaches.
    pub head: Head,
    /// What it holds now, also what no root holds yet; zeros where it is damaged.
    pub totals: Totals,
    /// Why it can't be served, or not counted.
    pub damage: Option<Damage>,
}

/// Sizes and counts of everything that a store keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Containers, index and caches.
    pub pool: PoolStats,
    /// What the data folder holds, by parts.
    pub parts: DiskParts,
    /// The journal on disk.
    pub journal_bytes: u64,
    /// What was split off the journal for windows.
    pub history_bytes: u64,
    /// Memory of what waits for the drain.
    pub overlay_bytes: u64,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Free on the disk, without the reserve.
    pub disk_free_bytes: u64,
}

/// Checks a dataset's or snapshot's name: 1 to 255 bytes of UTF-8 without `@`, `:` and control characters, no part between
/// slashes empty or made of dots alone; snapshots (`parts_max` 1) have no slash either.
pub(super) fn check_label(what: &str, name: &str, parts_max: usize) -> Result<()> {
    let odd = |c: char| c == '@' || c == ':' || c.is_control();
    let parts: Vec<&str> = name.split('/').collect();
    let empty = |part: &&str| part.chars().all(|c| c == '.');
    if name.len() > LABEL_BYTES_MAX || name.contains(odd) || parts.len() > parts_max || parts.iter().any(empty) {
        let rule = "1 to 255 bytes, no '@', ':' or control characters";
        return Err(Refusal::Invalid(format!("{name:?} can't be the name of a {what}: {rule}")).into());
    }
    Ok(())
}

impl Store {
    /// Creates an empty share.
    pub fn create_share(&self, name: &str, policy: Policy, now: Timestamp) -> Result<DatasetInfo> {
        check_label("share", name, 2)?;
        self.create_dataset(DatasetKind::Share, name, 0, policy, now, &|table| namespace::format(table, now))
    }

    /// Creates a dataset whose first root is what `format` writes.
    pub(super) fn create_dataset(
        &self,
        kind: DatasetKind,
        name: &str,
        size: u64,
        policy: Policy,
        now: Timestamp,
        format: &dyn Fn(&mut Transaction),
    ) -> Result<DatasetInfo> {
        self.refuse_taken(name)?;
        let _in_use = self.stages.pool.in_use();
        let id = DatasetId::new(&self.stages.ids);
        let stream = self.stages.pool.on(StreamId(stream_of(id)));
        let state = State { next_inode: Inode::ROOT.0 + 1, ..State::default() };
        let mut transaction = Transaction::new(&state, &stream);
        format(&mut transaction);
        let (edits, next_inode) = transaction.finish();
        let root = map::merge(&stream, &self.stages.realm, None, edits)?;
        self.stages.pool.sync()?;
        let _administration = self.administration();
        self.refuse_taken(name)?;
        let (name, origin) = (name.to_owned(), None);
        let row = DatasetRow { id, name, kind, policy, read_only: false, created: now, origin, size };
        self.add_dataset(row, Head { root, lsn: Lsn(0), next_inode }, &[], now)
    }

    /// Makes a dataset that starts at a root, known to the catalogue and open. The caller holds the administration.
    pub(super) fn add_dataset(
        &self,
        row: DatasetRow,
        head: Head,
        more: &[Change],
        now: Timestamp,
    ) -> Result<DatasetInfo> {
        // From here on the tree is in use, or it is found out now that it is gone.
        self.refuse_lost(head.root.as_ref())?;
        let head = Head { lsn: self.stages.journal.last(), ..head };
        let mut changes = vec![Change::dataset(&row), Change::head(row.id, head)];
        changes.extend_from_slice(more);
        self.administer(&changes, now)?;
        let base = Base { root: head.root, lsn: head.lsn };
        let dataset = Dataset::new(&row, self.stages.clone(), mode_of(&row), base, head.next_inode);
        self.datasets.write().unwrap_or_else(PoisonError::into_inner).insert(row.id, Arc::new(dataset));
        self.info(row)
    }

    /// Refuses a root that is not here any more. To be asked, while using the pool, before a root is named anew.
    pub(super) fn refuse_lost(&self, root: Option<&Name>) -> Result<()> {
        match root {
            Some(root) if !self.stages.pool.contains(Kind::MapNode, root)? => {
                Err(Refusal::NotFound(format!("the tree {root}")).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn refuse_taken(&self, name: &str) -> Result<()> {
        match self.stages.catalogue.dataset_named(name) {
            Some(_) => Err(Refusal::Exists(format!("dataset {name}")).into()),
            None => Ok(()),
        }
    }

    /// Makes changes of the catalogue that a person or peer asked for: in the journal, then in the catalogue, durable
    /// when it returns. The caller holds the administration.
    pub(super) fn administer(&self, changes: &[Change], now: Timestamp) -> Result<()> {
        self.administer_as(changes, changes.iter().all(Change::removes), now)
    }

    /// The same for what gives room in the end, although it makes rows: a full disk must not refuse it.
    pub(super) fn administer_freeing(&self, changes: &[Change], now: Timestamp) -> Result<()> {
        self.administer_as(changes, true, now)
    }

    fn administer_as(&self, changes: &[Change], freeing: bool, now: Timestamp) -> Result<()> {
        let (kind, head) = Record::Catalogue(encode_changes(changes)).encode();
        let lsn = match freeing {
            true => self.stages.append_freeing(now, NO_DATASET, kind, head)?.lsn,
            false => self.stages.append(now, NO_DATASET, kind, head, Vec::new())?.lsn,
        };
        self.stages.make_stable(lsn)?;
        self.stages.catalogue.apply_journaled(&[changes, &[Change::applied(lsn)]].concat())
    }

    /// All datasets, in the order of their names, damaged ones among them.
    pub fn datasets(&self) -> Result<Vec<DatasetInfo>> {
        self.stages.catalogue.datasets().into_iter().map(|row| self.info(row)).collect()
    }

    /// What is known of all datasets without looking into them, in the order of their names.
    pub fn dataset_rows(&self) -> Vec<DatasetRow> {
        self.stages.catalogue.datasets()
    }

    /// What is known of a dataset without looking into it.
    pub fn dataset_row(&self, id: DatasetId) -> Option<DatasetRow> {
        self.stages.catalogue.dataset(id)
    }

    /// A dataset by its name.
    pub fn dataset_named(&self, name: &str) -> Result<DatasetInfo> {
        self.info(self.row_named(name)?)
    }

    pub(super) fn row_named(&self, name: &str) -> Result<DatasetRow> {
        let row = self.stages.catalogue.dataset_named(name);
        row.ok_or_else(|| Refusal::NotFound(format!("dataset {name}")).into())
    }

    fn info(&self, row: DatasetRow) -> Result<DatasetInfo> {
        let head = self.stages.catalogue.head(row.id);
        let (totals, damage) = match self.dataset(row.id)?.totals() {
            Ok(totals) => (totals, None),
            Err(Error::Damage(damage)) => (Totals::default(), Some(damage)),
            Err(error) => return Err(error),
        };
        Ok(DatasetInfo { row, head, totals, damage })
    }

    /// An open dataset that is there.
    pub(super) fn dataset(&self, id: DatasetId) -> Result<Arc<Dataset>> {
        match self.stages.catalogue.dataset_deleted(id) {
            Some(_) => Err(Refusal::NotFound(format!("dataset {id}")).into()),
            None => self.any_dataset(id),
        }
    }

    /// An open dataset, also one that was deleted and is kept.
    pub(super) fn any_dataset(&self, id: DatasetId) -> Result<Arc<Dataset>> {
        let datasets = self.datasets.read().unwrap_or_else(PoisonError::into_inner);
        datasets.get(&id).cloned().ok_or_else(|| Refusal::NotFound(format!("dataset {id}")).into())
    }

    /// The live tree of a share, or the newest snapshot's of a replica. It stays of use while the dataset exists.
    /// Refused for a volume.
    pub fn tree(&self, id: DatasetId) -> Result<Arc<dyn FileTree>> {
        let dataset = self.dataset(id)?;
        match dataset.kind {
            DatasetKind::Share => Ok(dataset),
            DatasetKind::Volume => Err(Refusal::WrongType.into()),
        }
    }

    /// Lets go of a dataset that is gone from the catalogue.
    pub(super) fn close_dataset(&self, id: DatasetId) {
        let removed = self.datasets.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Some(dataset) = removed {
            dataset.retire();
        }
    }

    /// Refuses where a snapshot of the dataset is held or locked.
    pub(super) fn refuse_deletion(&self, row: &DatasetRow) -> Result<()> {
        let snapshots = self.stages.catalogue.all_snapshots(Some(row.id));
        let then = format!(", then delete {}", row.name);
        snapshots.iter().try_for_each(|snapshot| self.refuse_kept(snapshot, &then))
    }

    /// Snapshots of one dataset, or of all, oldest first.
    pub fn snapshots(&self, dataset: Option<DatasetId>) -> Vec<SnapshotRow> {
        self.stages.catalogue.snapshots(dataset)
    }

    /// A snapshot by its id.
    pub fn snapshot(&self, id: SnapshotId) -> Result<SnapshotRow> {
        let row = self.stages.catalogue.snapshot(id);
        row.ok_or_else(|| Refusal::NotFound(format!("snapshot {id}")).into())
    }

    /// Sizes and counts of everything that is kept.
    pub fn stats(&self) -> Result<StoreStats> {
        let space = self.stages.space()?;
        Ok(StoreStats {
            pool: self.stages.pool.stats()?,
            parts: self.disk_parts()?,
            journal_bytes: self.stages.journal.disk_bytes(),
            history_bytes: self.history_bytes(),
            overlay_bytes: self.stages.pressure.bytes(),
            disk_bytes: space.total_bytes,
            disk_free_bytes: space.free_bytes,
        })
    }

    /// Makes sure that `len` bytes more of what a peer sends have room above the reserve, which is for what clients wrote and was accepted, for deleting, and for
    /// publishing. Refused with [`Environment::Full`](crate::error::Environment::Full); windows give way before it comes to that.
    pub fn admit_received(&self, len: u64) -> Result<()> {
        self.stages.admit_objects(len)
    }

    /// Room on the disk; what is kept in reserve does not count as free. Cheap: one question to the file system.
    pub fn space(&self) -> Result<Space> {
        self.stages.space()
    }

    /// All peers: name and record, opaque here.
    pub fn peers(&self) -> Vec<(String, bytes::Bytes)> {
        self.stages.catalogue.peers()
    }

    /// Sets or removes a peer's record.
    pub fn set_peer(&self, name: &str, record: Option<&[u8]>, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        self.administer(&[Change::peer(name, record)], now)
    }

    /// A setting, opaque here.
    pub fn setting(&self, name: &str) -> Option<bytes::Bytes> {
        self.stages.catalogue.setting(name)
    }

    /// Settings whose names begin with `prefix`, in the order of their names.
    pub fn settings(&self, prefix: &str) -> Vec<(String, bytes::Bytes)> {
        self.stages.catalogue.settings(prefix)
    }

    /// Sets or removes a setting.
    pub fn set_setting(&self, name: &str, value: Option<&[u8]>, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        self.administer(&[Change::setting(name, value)], now)
    }
}

/// What a dataset does with what is written to it.
pub(super) fn mode_of(row: &DatasetRow) -> Mode {
    if row.read_only { Mode::ReadOnly } else { Mode::Live(row.policy) }
}

/// The stream of a dataset's small files and nodes.
pub(crate) fn stream_of(id: DatasetId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(first)
}

impl Dataset {
    fn totals(&self) -> Result<Totals> {
        let objects = self.objects();
        let state = self.read_state();
        state.refuse_if_shut()?;
        let value = state.get(&objects, &Key::Totals.encode())?;
        value.map_or(Ok(Totals::default()), |value| Totals::decode(&value))
    }
}
