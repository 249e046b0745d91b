//! Steps of a whole store: snapshots, clones, closing and opening, power cuts; and what all of them must have kept.

use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::Timestamp;
use rand::seq::IndexedRandom;

use super::compare::{compare_content, compare_tree};
use super::tree::Body;
use super::{Live, Moment, World, open};

impl World {
    pub fn snapshot(&mut self, live: usize) -> &'static str {
        let name = format!("s{}", self.now);
        let Live { name: dataset, model, .. } = &self.live[live];
        let row = self.store.create_snapshot(dataset, &name, Timestamp(self.now)).expect("room");
        self.moments.push(Moment { dataset: dataset.clone(), name, id: row.id, model: model.clone() });
        "snapshot"
    }

    pub fn forget_snapshot(&mut self) -> &'static str {
        if self.moments.is_empty() {
            return "no snapshot to forget";
        }
        let index = self.roll(self.moments.len() as u64) as usize;
        let Moment { dataset, name, .. } = self.moments.swap_remove(index);
        self.store.delete_snapshot(&dataset, &name, Timestamp(self.now)).expect("not held");
        "forget snapshot"
    }

    pub fn clone_snapshot(&mut self) -> &'static str {
        if self.moments.is_empty() || self.live.len() >= 3 {
            return "no clone";
        }
        let index = self.roll(self.moments.len() as u64) as usize;
        let Moment { dataset, name, model, .. } = &self.moments[index];
        let clone = format!("clone{}", self.live.len());
        let made = self.store.clone_snapshot(dataset, name, &clone, Timestamp(self.now)).expect("room");
        let tree = self.store.tree(made.row.id).expect("just made");
        let inherited: Vec<_> = model.files.keys().map(|inode| (clone.clone(), *inode)).collect();
        self.given.extend(inherited);
        self.live.push(Live { name: clone, tree, model: model.clone() });
        "clone"
    }

    /// Opens the store again; the caller has made sure that everything may be expected back.
    pub fn open_again(&mut self) {
        let (store, report) = open(&self.disk).expect("sound");
        assert!(!report.created);
        for live in &mut self.live {
            live.tree = store.tree(store.dataset_named(&live.name).expect("there").row.id).expect("open");
        }
        self.store = store;
    }

    pub fn reopen(&mut self) -> &'static str {
        self.store.close(Timestamp(self.now)).expect("room");
        self.let_go();
        self.open_again();
        "reopen"
    }

    /// Everything is made stable, then the power goes without a close.
    pub fn power_cut(&mut self) -> &'static str {
        for live in 0..self.live.len() {
            for inode in self.live[live].model.regular() {
                self.commit_file(live, inode);
            }
        }
        self.live[0].tree.make_stable(self.stable).expect("a sound disk");
        self.let_go();
        self.disk.power_cut();
        self.open_again();
        "power cut"
    }

    /// Closes all handles: one store at a time on a disk.
    pub fn let_go(&mut self) {
        let elsewhere = SimDisk::new(0);
        let (spare, _) = open(&elsewhere).expect("an empty disk");
        let share = spare.create_share("spare", Policy::Inline, Timestamp(1)).expect("room");
        let tree = spare.tree(share.row.id).expect("just created");
        self.live.iter_mut().for_each(|live| live.tree = tree.clone());
        self.store = spare;
    }

    // ---- comparing

    /// Mostly one file, sometimes all there is.
    pub fn compare_something(&mut self, place: &str) {
        if self.roll(12) == 0 {
            return self.compare_all(place);
        }
        let live = self.roll(self.live.len() as u64) as usize;
        let Live { tree, model, .. } = &self.live[live];
        let tree = tree.clone();
        if let Some(inode) = model.regular().choose(&mut self.rng).copied() {
            let content = self.live[live].model.content(inode).clone();
            compare_content(&*tree, inode, &content, &mut self.rng, place);
        }
    }

    pub fn compare_all(&mut self, place: &str) {
        for Live { name, tree, model } in &self.live {
            compare_tree(&**tree, model, &mut self.rng, &format!("{place}, {name}"));
            let totals = self.store.dataset_named(name).expect("there").totals;
            let dirs = model.dirs().len() as u64;
            let sizes =
                model.files.values().map(|file| if let Body::Regular(content) = &file.body { content.size } else { 0 });
            let expected = (model.files.len() as u64 - dirs, dirs, sizes.sum::<u64>());
            assert_eq!((totals.files, totals.directories, totals.logical_bytes), expected, "{place}, {name}: totals");
        }
        if let Some(moment) = self.moments.choose(&mut self.rng) {
            let tree = self.store.snapshot_tree(moment.id).expect("sealed");
            let place = format!("{place}, {}@{}", moment.dataset, moment.name);
            compare_tree(&*tree, &moment.model, &mut self.rng, &place);
        }
    }

    /// Every live tree and every snapshot, before and after a last restart; a moment that did not change has one root.
    pub fn finish(&mut self, place: &str) {
        for round in ["before", "after"] {
            self.compare_all(&format!("{place}, {round} the restart"));
            for Moment { dataset, name, id, model } in &self.moments {
                let tree = self.store.snapshot_tree(*id).expect("sealed");
                compare_tree(&*tree, model, &mut self.rng, &format!("{place}, {round} the restart, {dataset}@{name}"));
            }
            self.store.drain_all(Timestamp(self.now)).expect("room");
            let check = self.store.check(true, &mut |_| true).expect("a sound disk");
            assert!(check.is_sound(), "{place}, {round} the restart: {:#?}", check.problems);
            self.reopen();
        }
        let root = |name| {
            let row = self.store.create_snapshot("share", name, Timestamp(self.now)).expect("room");
            self.store.seal(row.id).expect("room").root
        };
        assert_eq!(root("last"), root("last again"), "{place}");
    }
}
