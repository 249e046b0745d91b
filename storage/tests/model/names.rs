//! Steps that change names: making, linking, removing and renaming files of every type.

use std::collections::BTreeMap;

use narrowboat_storage::dataset::{Create, Made, SetAttributes};
use narrowboat_storage::units::Inode;
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::common::at;
use super::tree::{Body, Content};
use super::{Live, World};

impl World {
    pub fn some_dir(&mut self, live: usize) -> u64 {
        let dirs = self.live[live].model.dirs();
        self.one_of(&dirs).expect("the root is there")
    }

    /// A directory and a name that is free in it.
    pub fn vacancy(&mut self, live: usize) -> (u64, Vec<u8>) {
        let dir = self.some_dir(live);
        let mut number = self.roll(30);
        while self.live[live].model.entries(dir).contains_key(number.to_string().as_bytes()) {
            number += 1;
        }
        (dir, number.to_string().into_bytes())
    }

    /// A directory and a name that is in it, if there is any.
    pub fn entry(&mut self, live: usize) -> Option<(u64, Vec<u8>, u64)> {
        let dir = self.some_dir(live);
        let entries: Vec<_> = self.live[live].model.entries(dir).iter().collect();
        let (name, inode) = entries.choose(&mut self.rng)?;
        Some((dir, (*name).clone(), **inode))
    }

    pub fn made(&mut self, live: usize, dir: u64, name: &[u8], made: Made, body: Body) -> u64 {
        let Live { name: dataset, model, .. } = &mut self.live[live];
        let inode = made.file.inode.0;
        assert!(self.given.insert((dataset.clone(), inode)), "inode {inode} of {dataset} was given before");
        model.add(dir, name, inode, body, self.now);
        self.stable = self.stable.max(made.dir.lsn);
        inode
    }

    pub fn create(&mut self, live: usize) -> u64 {
        let (dir, name) = self.vacancy(live);
        let how = Create::Guarded(SetAttributes { mode: Some(0o644), ..SetAttributes::default() });
        let made = self.live[live].tree.create(&at(self.now), Inode(dir), &name, &how).expect("room");
        self.made(live, dir, &name, made, Body::Regular(Content::default()))
    }

    pub fn make_other(&mut self, live: usize) -> &'static str {
        let (dir, name) = self.vacancy(live);
        let (call, none, tree) = (at(self.now), SetAttributes::default(), self.live[live].tree.clone());
        match self.roll(4) {
            0 => {
                let target = vec![b't'; 1 + self.roll(1500) as usize];
                let made = tree.make_symlink(&call, Inode(dir), &name, &target, &none).expect("room");
                self.made(live, dir, &name, made, Body::Symlink(target));
                "symlink"
            }
            1 => {
                let files = self.live[live].model.regular();
                let Some(inode) = self.one_of(&files) else { return "no link" };
                let made = tree.link(&call, Inode(inode), Inode(dir), &name).expect("room");
                self.live[live].model.link(dir, &name, inode, self.now);
                self.stable = self.stable.max(made.dir.lsn);
                "link"
            }
            _ => {
                let made = tree.make_dir(&call, Inode(dir), &name, &none).expect("room");
                self.made(live, dir, &name, made, Body::Dir(BTreeMap::new()));
                "mkdir"
            }
        }
    }

    pub fn remove(&mut self, live: usize) -> &'static str {
        let Some((dir, name, inode)) = self.entry(live) else { return "nothing to remove" };
        let (tree, call) = (self.live[live].tree.clone(), at(self.now));
        let model = &mut self.live[live].model;
        if !model.is_dir(inode) {
            let changed = tree.remove(&call, Inode(dir), &name).expect("it is there");
            model.remove(dir, &name, self.now);
            self.stable = self.stable.max(changed.lsn);
        } else if model.entries(inode).is_empty() {
            let changed = tree.remove_dir(&call, Inode(dir), &name).expect("it is empty");
            model.remove(dir, &name, self.now);
            self.stable = self.stable.max(changed.lsn);
        } else {
            tree.remove_dir(&call, Inode(dir), &name).expect_err("it has entries");
        }
        "remove"
    }

    pub fn rename(&mut self, live: usize) -> &'static str {
        let Some((dir, name, inode)) = self.entry(live) else { return "nothing to rename" };
        let (to, to_name) = match self.entry(live) {
            Some((to, to_name, _)) if self.rng.random_bool(0.4) => (to, to_name),
            _ => self.vacancy(live),
        };
        let Live { tree, model, .. } = &mut self.live[live];
        let over = model.entries(to).get(&to_name).copied();
        let fits = match over {
            Some(over) if over == inode => true,
            Some(over) if model.is_dir(inode) => model.is_dir(over) && model.entries(over).is_empty(),
            Some(over) => !model.is_dir(over),
            None => true,
        };
        let loops = model.is_dir(inode) && model.below(to, inode) || over.is_some_and(|over| model.below(dir, over));
        let result = tree.rename(&at(self.now), (Inode(dir), &name), (Inode(to), &to_name));
        if fits && !loops {
            let (_, changed) = result.expect("it may");
            model.rename((dir, &name), (to, &to_name), self.now);
            self.stable = self.stable.max(changed.lsn);
        } else {
            result.expect_err("it may not");
        }
        "rename"
    }
}
