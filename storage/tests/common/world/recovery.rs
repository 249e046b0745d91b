//! Opening after a crash: what is found against what is known.

use std::rc::Rc;
use std::sync::Arc;

use narrowboat_storage::Store;
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::units::Inode;

use super::{Image, Names, Snapshot, World, image};

impl World {
    /// Opens the store again, without a look at what is in it; it may fail.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn try_to_open(&mut self) {
        self.store = None;
        self.store = (self.opens)(&self.disk).ok().map(|opened| opened.0);
    }

    /// Opens the store again after a crash and compares it with what is known. Panics on any difference.
    pub fn reopen(&mut self) {
        self.store = None;
        let (store, _) = (self.opens)(&self.disk).expect("a crashed store opens");
        let check = store.check(true, &mut |_| true).expect("a sound machine");
        assert!(check.is_sound(), "{:#?}", check.problems);
        for name in self.unsure.iter().filter(|name| !self.settings.contains_key(*name)) {
            // It may have happened. What is there is whole (checked above); it is of no further interest.
            if let Ok(info) = store.dataset_named(name) {
                let tree = store.tree(info.row.id).expect("there");
                image(&*tree);
            }
        }
        self.shares.values_mut().for_each(|share| {
            let info = store.dataset_named(&share.name).expect("a share that was created is there");
            share.recovered(&*store.tree(info.row.id).expect("open"));
        });
        for (name, value) in &self.settings {
            let found = store.setting(name).expect("a setting that was made is there");
            assert!(found[..] == value.to_le_bytes() || self.unsure.contains(name), "{name} is another");
        }
        for (key, snapshot) in &self.unsure_snapshots {
            let (share, label) = key.split_once('@').expect("a key");
            if let Ok(row) = store.snapshot_named(share, label) {
                expect_image(&store, row.id, snapshot, key);
            }
        }
        for (key, snapshot) in &mut self.snapshots {
            let (share, label) = key.split_once('@').expect("a key");
            let row = store.snapshot_named(share, label).expect("a snapshot that was made is there");
            match (snapshot.root, row.sealed) {
                (Some(known), Some(sealed)) => assert_eq!(sealed.root, known, "{key} changed its root"),
                // A catalogue that went back to an older state, behind a sync that failed, seals it again: as it was.
                (known, _) => {
                    expect_image(&store, row.id, snapshot, key);
                    let sealed = store.snapshot(row.id).expect("there").sealed.map(|sealed| sealed.root);
                    assert!(known.is_none() || sealed == known, "{key} was sealed again as something else");
                    snapshot.root = sealed;
                }
            }
        }
        // Names of shares and snapshots never come twice in a world, so what is unsure needs no further thought; a
        // setting is now what it is.
        for name in self.unsure.iter().filter(|name| name.starts_with("setting")) {
            let found = store.setting(name).and_then(|value| <[u8; 8]>::try_from(&value[..]).ok());
            match found {
                Some(value) => drop(self.settings.insert(name.clone(), u64::from_le_bytes(value))),
                None => drop(self.settings.remove(name)),
            }
        }
        self.expect_quarantined(&store);
        self.unsure.clear();
        self.unsure_snapshots.clear();
        self.store = Some(store);
    }

    /// Compares everything that the open store shows with what is known, and checks every invariant. Panics on any difference.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn expect_all(&self) {
        let store = self.store();
        self.expect_quarantined(store);
        let check = store.check(true, &mut |_| true).expect("a sound machine");
        assert!(check.is_sound(), "{:#?}", check.problems);
        for share in self.shares.values() {
            let (found, known) = (image(&*store.tree(share.id).expect("open")), share.image());
            let names = |image: &Image| image.iter().map(|(path, (node, _))| (path.clone(), *node)).collect::<Names>();
            assert_eq!(names(&found), names(&known), "{}", share.name);
            for (path, (_, bytes)) in &found {
                assert!(*bytes == known[path].1, "{}{path} has other bytes", share.name);
            }
        }
        for (key, snapshot) in &self.snapshots {
            let (share, label) = key.split_once('@').expect("a key");
            let row = store.snapshot_named(share, label).expect("a snapshot that was made is there");
            expect_image(store, row.id, snapshot, key);
        }
    }

    #[allow(dead_code, reason = "not every test needs it")]
    /// Changes one byte of what is believed to be stable: a harness that does not notice is worth nothing.
    pub fn lie(&mut self) -> bool {
        for share in self.shares.values_mut() {
            let live: Vec<Inode> = share.versions[0].names.values().map(|node| node.0).collect();
            for (inode, states) in &mut share.contents {
                if live.contains(inode) && states.len() == 1 && !states[0].1.is_empty() {
                    Rc::make_mut(&mut states[0].1)[0] ^= 1;
                    return true;
                }
            }
        }
        false
    }
}

fn expect_image(store: &Store, id: SnapshotId, snapshot: &Snapshot, key: &str) {
    let tree: Arc<dyn FileTree> = store.snapshot_tree(id).expect("a snapshot can be sealed");
    let found = image(&*tree);
    let names = |image: &Image| image.iter().map(|(path, (node, _))| (path.clone(), *node)).collect::<Names>();
    assert_eq!(names(&found), names(&snapshot.image), "{key}");
    for (path, (_, bytes)) in &found {
        assert!(*bytes == snapshot.image[path].1, "{key}{path} has other bytes");
    }
}
