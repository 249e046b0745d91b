//! What keeps objects, by dataset and snapshot: where a census begins.

use std::collections::BTreeSet;

use super::Store;
use crate::census::{Keeper, Kept};
use crate::error::Result;
use crate::id::DatasetId;
use crate::name::Name;
use crate::pool::HeldTree;

impl Store {
    /// Every dataset's present, past and snapshots with their roots, and these roots held. What only layers and the journal name is left out: the
    /// drain makes trees of it soon.
    pub(crate) fn everything_kept(&self) -> Result<(Vec<Kept>, Vec<HeldTree>)> {
        let _administration = self.administration();
        let catalogue = &self.stages.catalogue;
        let mut all = Vec::new();
        for row in catalogue.all_datasets() {
            let deleted = catalogue.dataset_deleted(row.id).is_some();
            let kept = |keeper, quarantined, roots: Vec<Name>| Kept {
                dataset: row.id,
                keeper,
                quarantined,
                roots,
                files: Vec::new(),
            };
            let head = catalogue.head(row.id).root;
            let present: BTreeSet<Name> = head.into_iter().chain(self.base_root(row.id)?).collect();
            all.push(kept(Keeper::Present, deleted, present.into_iter().collect()));
            let past: BTreeSet<Name> = catalogue.checkpoints(row.id).iter().filter_map(|point| point.root).collect();
            all.push(Kept {
                files: self.history_of(row.id),
                ..kept(Keeper::Past, deleted, past.into_iter().collect())
            });
            for snapshot in catalogue.all_snapshots(Some(row.id)) {
                let quarantined = deleted || catalogue.snapshot_deleted(snapshot.id).is_some();
                if let Some(sealed) = snapshot.sealed {
                    all.push(kept(Keeper::Snapshot(snapshot.id), quarantined, sealed.root.into_iter().collect()));
                }
            }
        }
        let roots: BTreeSet<&Name> = all.iter().flat_map(|kept| &kept.roots).collect();
        let held = roots.into_iter().map(|root| self.stages.pool.hold(root)).collect::<Result<Vec<_>>>()?;
        Ok((all, held))
    }

    fn history_of(&self, id: DatasetId) -> Vec<crate::catalogue::HistoryFile> {
        self.stages.catalogue.history(id).map_or_else(Vec::new, |history| history.files)
    }
}
