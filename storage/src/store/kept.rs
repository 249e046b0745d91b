//! What keeps objects, by dataset and snapshot: where a census begins.

use std::collections::BTreeSet;

use super::Store;
use crate::catalogue::DatasetRow;
use crate::census::{Keeper, Kept};
use crate::error::Result;
use crate::name::{Kind, Name};
use crate::pool::HeldTree;

/// Roots that are looked for at once.
const ROOTS_AT_ONCE: usize = 64;

impl Store {
    /// Every dataset's present, past and snapshots with their roots, and these roots held; and whose trees are not all here, as people call it. What only
    /// layers and the journal name is left out: the drain makes trees of it soon.
    pub(crate) fn everything_kept(&self) -> Result<(Vec<Kept>, Vec<HeldTree>, Vec<String>)> {
        let administration = self.administration();
        let mut all = Vec::new();
        for row in self.stages.catalogue.all_datasets() {
            self.kept_of(&row, &mut all)?;
        }
        let roots: BTreeSet<Name> = all.iter().flat_map(|kept| &kept.roots).copied().collect();
        let roots: Vec<Name> = roots.into_iter().collect();
        let held = roots.iter().map(|root| self.stages.pool.enter(root)).collect();
        // Looking into the index may take a disk's time, and nobody is to wait for that.
        drop(administration);
        let mut here = Vec::with_capacity(roots.len());
        // A few at a time: meanwhile nobody else gets through the pool's door.
        for some in roots.chunks(ROOTS_AT_ONCE) {
            here.extend(self.stages.pool.contains_batch(Kind::MapNode, some)?);
        }
        let torn: BTreeSet<Name> =
            roots.into_iter().zip(here).filter(|(_, here)| !here).map(|(root, _)| root).collect();
        let mut left_out = Vec::new();
        for kept in all.iter_mut().filter(|kept| kept.roots.iter().any(|root| torn.contains(root))) {
            kept.roots.retain(|root| !torn.contains(root));
            left_out.push(self.called(kept));
        }
        Ok((all, held, left_out))
    }

    fn kept_of(&self, row: &DatasetRow, all: &mut Vec<Kept>) -> Result<()> {
        let catalogue = &self.stages.catalogue;
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
        let past = kept(Keeper::Past, deleted, past.into_iter().collect());
        all.push(Kept { files: self.history_files(row.id), ..past });
        for snapshot in catalogue.all_snapshots(Some(row.id)) {
            let quarantined = deleted || catalogue.snapshot_deleted(snapshot.id).is_some();
            if let Some(sealed) = snapshot.sealed {
                all.push(kept(Keeper::Snapshot(snapshot.id), quarantined, sealed.root.into_iter().collect()));
            }
        }
        Ok(())
    }

    /// What people call it.
    fn called(&self, kept: &Kept) -> String {
        let catalogue = &self.stages.catalogue;
        let dataset = catalogue.any_dataset(kept.dataset).map_or_else(|| kept.dataset.to_string(), |row| row.name);
        match kept.keeper {
            Keeper::Present => dataset,
            Keeper::Past => format!("the past of {dataset}"),
            Keeper::Snapshot(id) => {
                let snapshot = catalogue.any_snapshot(id).map_or_else(|| id.to_string(), |row| row.name);
                format!("{dataset}@{snapshot}")
            }
        }
    }
}
