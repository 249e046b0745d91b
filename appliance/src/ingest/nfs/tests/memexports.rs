//! One share in memory as what a session serves, with the snapshots that a test took of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use narrowboat_storage::Result;
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::Timestamp;

use super::memtree::MemTree;
use crate::ingest::nfs::export::*;

/// Snapshots that a test took.
#[derive(Default)]
pub(crate) struct MemSnapshots(pub Mutex<BTreeMap<SnapshotId, (SnapshotEntry, Arc<MemTree>)>>);

impl MemSnapshots {
    pub fn add(&self, number: u8, name: &str, tree: MemTree) {
        let id = SnapshotId([number; 16]);
        let entry = SnapshotEntry { id, name: name.into(), time: Timestamp::new(1_650_000_000, 0) };
        self.0.lock().unwrap().insert(id, (entry, Arc::new(tree)));
    }
}

impl Snapshots for MemSnapshots {
    fn list(&self) -> Result<Vec<SnapshotEntry>> {
        Ok(self.0.lock().unwrap().values().map(|(entry, _)| entry.clone()).collect())
    }
    fn open(&self, id: SnapshotId) -> Result<Arc<dyn FileTree>> {
        match self.0.lock().unwrap().get(&id) {
            Some((_, tree)) => Ok(tree.clone()),
            None => Err(Refusal::Stale.into()),
        }
    }
}

/// One share in memory.
pub(crate) struct MemExports {
    pub tree: Arc<MemTree>,
    pub snapshots: Arc<MemSnapshots>,
    pub export: Mutex<Option<Arc<Export>>>,
}

impl MemExports {
    pub fn new(tree: MemTree, rules: Rules) -> Arc<Self> {
        let (tree, snapshots) = (Arc::new(tree), Arc::<MemSnapshots>::default());
        let export = Export {
            id: DatasetId([0x11; 16]),
            name: "/share".into(),
            rules,
            tree: tree.clone(),
            snapshots: snapshots.clone(),
        };
        Arc::new(MemExports { tree, snapshots, export: Mutex::new(Some(Arc::new(export))) })
    }
}

impl Exports for MemExports {
    fn list(&self) -> Vec<ExportInfo> {
        let export = self.export.lock().unwrap();
        export.iter().map(|e| ExportInfo { name: e.name.clone(), clients: e.rules.clients.clone() }).collect()
    }
    fn by_name(&self, path: &str) -> Option<Arc<Export>> {
        self.export.lock().unwrap().clone().filter(|export| export.name == path)
    }
    fn by_id(&self, id: DatasetId) -> Option<Arc<Export>> {
        self.export.lock().unwrap().clone().filter(|export| export.id == id)
    }
}
