//! Deleting with a way back: what is known of what can be had back.

use std::collections::BTreeSet;

use narrowboat_storage::Store;
use narrowboat_storage::dataset::FileType;

use super::super::commit;
use super::World;
use super::share::observe;

impl World {
    /// Has something back, or lets the time of the quarantine pass.
    pub fn quarantine_step(&mut self) {
        match self.roll(8) {
            0..=3 => self.undelete_snapshot(),
            4..=6 => self.undelete_share(),
            _ => self.expire(),
        }
    }

    pub fn undelete_snapshot(&mut self) {
        let now = self.now();
        let there = |key: &&String| key.split_once('@').is_some_and(|(share, _)| self.shares.contains_key(share));
        let Some(key) = self.deleted.keys().find(there).cloned() else { return };
        let (share, label) = key.split_once('@').expect("a key");
        let outcome = self.store().undelete_snapshot(share, label, None, now);
        let snapshot = self.deleted.remove(&key).expect("just found");
        match outcome {
            Ok(row) => {
                assert_eq!(row.name, label);
                self.had_back += 1;
                self.snapshots.insert(key, snapshot);
            }
            Err(_) => drop(self.unsure_snapshots.insert(key, snapshot)),
        }
    }

    pub fn undelete_share(&mut self) {
        let now = self.now();
        let Some(name) = self.deleted_shares.keys().next().cloned() else { return };
        let outcome = self.store().undelete_dataset(&name, None, now);
        let (mut share, snapshots) = self.deleted_shares.remove(&name).expect("just found");
        let Ok(info) = outcome else {
            self.unsure.insert(name);
            return;
        };
        assert_eq!(info.row.id, share.id);
        let tree = self.store().tree(share.id).expect("just had back");
        // What was not stable is as it was before; from here on all of it is. With the power gone nothing is known.
        let files = observe(&*tree).unwrap_or_default();
        let files = files.values().filter(|node| node.1 == FileType::Regular).map(|node| node.0);
        let stable = files.map(|file| commit(&*tree, file)).collect::<narrowboat_storage::Result<Vec<_>>>();
        if stable.is_err() || !self.disk.is_on() {
            self.unsure.insert(name);
            return;
        }
        share.adopt(&*tree);
        self.had_back += 1;
        self.shares.insert(name, share);
        self.snapshots.extend(snapshots);
    }

    /// Lets as much time pass as the quarantine lasts, and removes what is due.
    pub fn expire(&mut self) {
        let now = self.now();
        let passed = self.quarantine + std::time::Duration::from_secs(1);
        self.locks.ran += passed.as_secs();
        let store = self.store();
        let outcome = store.run_on(passed, now).and_then(|()| store.expire_quarantine(now));
        // Where it failed, each of them may be gone, and none need be.
        let known = (std::mem::take(&mut self.deleted), std::mem::take(&mut self.deleted_shares));
        if let Ok(emptied) = outcome {
            assert!(emptied.datasets.len() >= known.1.len(), "{emptied:?}");
            assert!(self.store().quarantined().is_empty(), "its time is over");
        }
    }

    /// What is known to be in quarantine is there.
    pub fn expect_quarantined(&self, store: &Store) {
        let there: BTreeSet<String> = store.quarantined().iter().map(|one| one.label()).collect();
        for name in self.deleted.keys().chain(self.deleted_shares.keys()) {
            // Those of a share that went with it are told with it, or went with its time.
            let share = name.split_once('@').map_or(name.as_str(), |(share, _)| share);
            let known = self.shares.contains_key(share) || self.deleted_shares.contains_key(share);
            assert!(!known || there.contains(name), "{name} can't be had back any more: {there:?}");
        }
    }

    /// Has everything back.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn undelete_all(&mut self) {
        while !self.deleted_shares.is_empty() {
            self.undelete_share();
        }
        for _ in 0..self.deleted.len() {
            self.undelete_snapshot();
        }
    }
}
