//! What NFS clients may mount: every share of the store, with the rules of the config file. Replicas read-only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetKind, DatasetRow};
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId};

use super::nfs::export::{Export, ExportInfo, Exports, Network, Rules, SnapshotEntry, Snapshots, Squash};
use crate::config::Config;

/// Snapshot trees that are kept at hand.
const OPEN_SNAPSHOTS_MAX: usize = 64;

/// The shares of a store as exports.
pub struct StoreExports {
    store: Arc<Store>,
    config: Config,
    open: Arc<OpenSnapshots>,
}

impl StoreExports {
    /// Exports the shares of `store` by the rules of `config`, whose networks must be sound ([`check_networks`]).
    pub fn new(store: Arc<Store>, config: Config) -> Self {
        let open = Arc::new(OpenSnapshots { store: store.clone(), trees: Mutex::default() });
        StoreExports { store, config, open }
    }

    fn rules(&self, row: &DatasetRow) -> Rules {
        let general = &self.config.nfs;
        let special = self.config.share.get(&row.name).cloned().unwrap_or_default();
        let clients = special.allow.as_ref().unwrap_or(&general.allow);
        Rules {
            clients: clients.iter().filter_map(|text| text.parse().ok()).collect(),
            read_only: row.read_only || special.read_only.unwrap_or(general.read_only),
            squash: if special.root_squash.unwrap_or(general.root_squash) { Squash::Root } else { Squash::None },
            secure_port: general.privileged_ports,
            ..Rules::default()
        }
    }

    fn export(&self, row: &DatasetRow) -> Option<Arc<Export>> {
        let tree = self.store.tree(row.id).ok()?;
        let snapshots = Arc::new(DatasetSnapshots { dataset: row.id, open: self.open.clone() });
        Some(Arc::new(Export { id: row.id, name: path_of(row), rules: self.rules(row), tree, snapshots }))
    }

    fn rows(&self) -> impl Iterator<Item = DatasetRow> {
        self.store.dataset_rows().into_iter().filter(|row| row.kind == DatasetKind::Share)
    }
}

fn path_of(row: &DatasetRow) -> String {
    format!("/{}", row.name)
}

/// The first network in a config file that is none, with what is wrong.
pub fn check_networks(config: &Config) -> std::result::Result<(), String> {
    let special = config.share.values().filter_map(|rules| rules.allow.as_ref());
    for text in std::iter::once(&config.nfs.allow).chain(special).flatten() {
        text.parse::<Network>().map_err(|refusal| format!("allow = [{text:?}]: {refusal}"))?;
    }
    Ok(())
}

impl Exports for StoreExports {
    fn list(&self) -> Vec<ExportInfo> {
        self.rows().map(|row| ExportInfo { name: path_of(&row), clients: self.rules(&row).clients }).collect()
    }

    fn by_name(&self, path: &str) -> Option<Arc<Export>> {
        self.rows().find(|row| path_of(row) == path).and_then(|row| self.export(&row))
    }

    fn by_id(&self, id: DatasetId) -> Option<Arc<Export>> {
        self.store.dataset_row(id).filter(|row| row.kind == DatasetKind::Share).and_then(|row| self.export(&row))
    }
}

/// Trees by snapshot, each with the number of its last use.
type Trees = BTreeMap<SnapshotId, (u64, Arc<dyn FileTree>)>;

/// Snapshot trees, the ones used last.
struct OpenSnapshots {
    store: Arc<Store>,
    trees: Mutex<Trees>,
}

impl OpenSnapshots {
    fn tree(&self, dataset: DatasetId, id: SnapshotId) -> Result<Arc<dyn FileTree>> {
        // Asked every time: a snapshot that was deleted must not be served from here.
        let row = self.store.snapshot(id).map_err(|_| {
            self.forget_deleted();
            Refusal::Stale
        })?;
        if row.dataset != dataset {
            return Err(Refusal::Stale.into());
        }
        if let Some(tree) = self.used(id) {
            return Ok(tree);
        }
        let tree = self.store.snapshot_tree(id)?;
        self.forget_deleted();
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if trees.len() >= OPEN_SNAPSHOTS_MAX
            && let Some(oldest) = trees.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id)
        {
            trees.remove(&oldest);
        }
        let next = next_use(&trees);
        Ok(trees.entry(id).or_insert((next, tree)).1.clone())
    }

    /// An open tree keeps its room: those of snapshots that are gone are closed.
    fn forget_deleted(&self) {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.retain(|id, _| self.store.snapshot(*id).is_ok());
    }

    fn used(&self, id: SnapshotId) -> Option<Arc<dyn FileTree>> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next_use(&trees);
        trees.get_mut(&id).map(|(used, tree)| {
            *used = next;
            tree.clone()
        })
    }
}

fn next_use(trees: &Trees) -> u64 {
    trees.values().map(|(used, _)| used + 1).max().unwrap_or_default()
}

struct DatasetSnapshots {
    dataset: DatasetId,
    open: Arc<OpenSnapshots>,
}

impl Snapshots for DatasetSnapshots {
    fn list(&self) -> Result<Vec<SnapshotEntry>> {
        let rows = self.open.store.snapshots(Some(self.dataset));
        Ok(rows.into_iter().map(|row| SnapshotEntry { id: row.id, name: row.name, time: row.time }).collect())
    }

    fn open(&self, id: SnapshotId) -> Result<Arc<dyn FileTree>> {
        self.open.tree(self.dataset, id)
    }
}
