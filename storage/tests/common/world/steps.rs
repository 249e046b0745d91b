//! The steps of a workload. Errors are fine: then the model knows of nothing that must have happened.

use std::rc::Rc;

use bytes::Bytes;
use narrowboat_storage::Result;
use narrowboat_storage::dataset::{Call, CallTag, Create, Credentials, FileTree, FileType, Node, SetAttributes};
use narrowboat_storage::units::{Inode, Lsn};
use rand::RngExt;

use super::super::noise;
use super::share::{Node4, Share, Version, observe};
use super::{Snapshot, World};

impl World {
    /// One change of a share's names or bytes.
    pub fn change(&mut self, share: &str) -> Result<()> {
        let id = self.shares[share].id;
        let tree = self.store().tree(id)?;
        let mut tag = [0; 16];
        self.rng.fill(&mut tag);
        let now = self.now();
        let root = Credentials::ROOT;
        let call = Call { caller: &root, now, tag: Some(CallTag(tag)) };
        let names: Vec<(String, Node4)> = self.shares[share].names().iter().map(|(p, n)| (p.clone(), *n)).collect();
        let dirs: Vec<Inode> = std::iter::once(Inode::ROOT)
            .chain(names.iter().filter(|(_, node)| node.1 == FileType::Directory).map(|(_, node)| node.0))
            .collect();
        let files: Vec<Inode> =
            names.iter().filter(|(_, node)| node.1 == FileType::Regular).map(|(_, node)| node.0).collect();
        let dir = dirs[self.roll(dirs.len() as u64) as usize];
        let other = dirs[self.roll(dirs.len() as u64) as usize];
        let (name, target) = (format!("n{}", self.roll(8)), format!("n{}", self.roll(8)));
        let (name, target) = (name.as_bytes(), target.as_bytes());
        let file = (!files.is_empty()).then(|| files[self.roll(files.len() as u64) as usize]);
        let mode = SetAttributes { mode: Some(0o600 + self.roll(64) as u32), ..SetAttributes::default() };
        let lsn = match (self.roll(20), file) {
            (0..=4, _) | (_, None) => tree.create(&call, dir, name, &Create::Guarded(mode))?.dir.lsn,
            (5, _) => tree.make_dir(&call, dir, name, &mode)?.dir.lsn,
            (6, _) => tree.make_symlink(&call, dir, name, b"n1", &mode)?.dir.lsn,
            (7, _) => tree.make_node(&call, dir, name, Node::Fifo, &mode)?.dir.lsn,
            (8, Some(file)) => tree.link(&call, file, dir, name)?.dir.lsn,
            (9, _) => tree.remove(&call, dir, name)?.lsn,
            (10, _) => tree.remove_dir(&call, dir, name)?.lsn,
            (11..=12, _) => tree.rename(&call, (dir, name), (other, target))?.1.lsn,
            (13, Some(file)) => tree.set_attributes(&call, file, &mode, None)?.lsn,
            (14, Some(file)) => return self.truncate(share, &*tree, &call, file),
            (_, Some(file)) => return self.write(share, &*tree, &call, file),
        };
        self.changed(share, &*tree, lsn, tag)
    }

    /// A change of names happened: from now on a crash may leave it, and once its record is stable it must.
    pub fn changed(&mut self, share: &str, tree: &dyn FileTree, lsn: Lsn, tag: [u8; 16]) -> Result<()> {
        let names = observe(tree)?;
        let Some(known) = self.shares.get_mut(share) else { return Ok(()) };
        for node in names.values().filter(|node| node.1 == FileType::Regular) {
            known.contents.entry(node.0).or_insert_with(|| vec![(None, Rc::default())]);
        }
        let tag = CallTag(tag);
        // What changed nothing (a name renamed to itself) leaves no record, so there is nothing to remember.
        let nothing = tree.remembered(&tag).is_none() && names == *known.names();
        assert!(nothing || tree.remembered(&tag).is_some(), "{share}: a call is forgotten at once");
        known.versions.push(Version { lsn, names, tag: (!nothing).then_some(tag) });
        if self.roll(3) > 0 {
            tree.make_stable(lsn)?;
            self.stable(lsn);
        }
        Ok(())
    }

    pub fn wrote(&mut self, share: &str, file: Inode, lsn: Option<Lsn>, bytes: Vec<u8>) {
        if let Some(share) = self.shares.get_mut(share) {
            share.contents.entry(file).or_default().push((lsn, Rc::new(bytes)));
        }
    }

    pub fn truncate(&mut self, share: &str, tree: &dyn FileTree, call: &Call, file: Inode) -> Result<()> {
        let mut bytes = self.shares[share].bytes(file).to_vec();
        let size = match self.roll(3) {
            0 => 0,
            1 => self.roll(bytes.len() as u64 + 1),
            _ => bytes.len() as u64 + self.roll(60_000),
        };
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        let lsn = tree.set_attributes(call, file, &set, None)?.lsn;
        bytes.resize(size as usize, 0);
        self.wrote(share, file, Some(lsn), bytes);
        self.changed(share, tree, lsn, call.tag.unwrap_or(CallTag([0; 16])).0)
    }

    pub fn write(&mut self, share: &str, tree: &dyn FileTree, call: &Call, file: Inode) -> Result<()> {
        let mut bytes = self.shares[share].bytes(file).to_vec();
        let (offset, len) = match self.roll(12) {
            0 => (0, 1_300_000),
            1..=3 => (bytes.len().min(1_000_000), 10_000 + self.roll(150_000) as usize),
            4 => (bytes.len() + self.roll(50_000) as usize, 5_000),
            _ => (self.roll(bytes.len() as u64 + 1) as usize, 1 + self.roll(9_000) as usize),
        };
        let seed = self.rng.random();
        let mut data = noise(seed, len);
        if self.roll(4) == 0 {
            data[len / 4..len / 2].fill(0);
        }
        for (nth, piece) in data.chunks(128 << 10).enumerate() {
            let at = offset + nth * (128 << 10);
            tree.write(call, file, at as u64, Bytes::copy_from_slice(piece))?;
            bytes.resize(bytes.len().max(at + piece.len()), 0);
            bytes[at..at + piece.len()].copy_from_slice(piece);
            self.wrote(share, file, None, bytes.clone());
        }
        Ok(())
    }

    /// Writes to the front of a file what others have, or had, and commits it: the store knows these bytes, maybe as garbage.
    #[allow(dead_code, reason = "not every test needs it")]
    pub fn write_again(&mut self, share: &str) -> Result<()> {
        let Some(file) = self.some_file(share) else { return Ok(()) };
        let tree = self.store().tree(self.shares[share].id)?;
        let (data, now) = (noise(self.roll(3), 250_000), self.now());
        let call = Call { caller: &Credentials::ROOT, now, tag: None };
        let mut bytes = self.shares[share].bytes(file).to_vec();
        bytes.resize(bytes.len().max(data.len()), 0);
        bytes[..data.len()].copy_from_slice(&data);
        tree.write(&call, file, 0, Bytes::from(data))?;
        self.wrote(share, file, None, bytes);
        self.commit_file(share, &*tree, file)
    }

    pub fn commit(&mut self, share: &str) -> Result<()> {
        let Some(file) = self.some_file(share) else { return Ok(()) };
        let tree = self.store().tree(self.shares[share].id)?;
        self.commit_file(share, &*tree, file)
    }

    /// A regular file of a share, if it has one.
    fn some_file(&mut self, share: &str) -> Option<Inode> {
        let names = self.shares[share].names();
        let files: Vec<Inode> = names.values().filter(|node| node.1 == FileType::Regular).map(|node| node.0).collect();
        (!files.is_empty()).then(|| files[self.roll(files.len() as u64) as usize])
    }

    fn commit_file(&mut self, share: &str, tree: &dyn FileTree, file: Inode) -> Result<()> {
        let lsn = tree.commit(file)?.lsn;
        let bytes = self.shares[share].bytes(file).to_vec();
        self.wrote(share, file, Some(lsn), bytes);
        tree.make_stable(lsn)?;
        self.stable(lsn);
        Ok(())
    }

    pub fn drain(&mut self) -> Result<()> {
        let now = self.now();
        match self.roll(3) {
            0 => self.store().drain_all(now),
            _ => self.store().drain_step(now).map(drop),
        }
    }

    pub fn snapshot(&mut self, share: &str) {
        let (label, now) = (format!("s{}", self.roll(1_000_000)), self.now());
        let image = self.shares[share].image();
        let snapshot = Snapshot { share: share.to_owned(), image, root: None };
        let key = format!("{share}@{label}");
        match self.store().create_snapshot(share, &label, now) {
            Ok(row) => {
                self.stable(row.lsn);
                self.snapshots.insert(key, snapshot);
            }
            Err(_) => drop(self.unsure_snapshots.insert(key, snapshot)),
        }
    }

    pub fn any_snapshot(&mut self) -> Option<(String, String, String)> {
        let keys: Vec<String> = self.snapshots.keys().cloned().collect();
        let key = keys.get(self.roll(keys.len().max(1) as u64) as usize)?.clone();
        let (share, label) = key.split_once('@')?;
        Some((key.clone(), share.to_owned(), label.to_owned()))
    }

    pub fn delete_snapshot(&mut self) {
        let now = self.now();
        let Some((key, share, label)) = self.any_snapshot() else { return };
        let outcome = self.store().delete_snapshot(&share, &label, now);
        if self.locks.holds(&key) {
            return assert!(outcome.is_err(), "{key} is locked, and was deleted");
        }
        let snapshot = self.snapshots.remove(&key);
        match outcome {
            Ok(()) if self.quarantine.is_zero() => {}
            Ok(()) => self.deleted.extend(snapshot.map(|snapshot| (key, snapshot))),
            Err(_) => self.unsure_snapshots.extend(snapshot.map(|snapshot| (key, snapshot))),
        }
    }

    pub fn seal(&mut self) -> Result<()> {
        let Some((key, share, label)) = self.any_snapshot() else { return Ok(()) };
        let id = self.store().snapshot_named(&share, &label)?.id;
        let root = self.store().seal(id)?.root;
        if let Some(snapshot) = self.snapshots.get_mut(&key) {
            assert!(snapshot.root.is_none_or(|known| known == root), "{key} changed its root");
            snapshot.root = Some(root);
        }
        Ok(())
    }

    pub fn clone_snapshot(&mut self) {
        let (name, now) = (format!("clone{}", self.roll(1_000_000)), self.now());
        let Some((key, share, label)) = self.any_snapshot() else { return };
        if self.shares.len() > 2 {
            return;
        }
        match self.store().clone_snapshot(&share, &label, &name, now) {
            Ok(info) => {
                let image = &self.snapshots[&key].image;
                self.shares.insert(name.clone(), Share::new(&name, info.row.id, image));
            }
            Err(_) => drop(self.unsure.insert(name)),
        }
    }

    pub fn delete_clone(&mut self) {
        let now = self.now();
        let Some(name) = self.shares.keys().find(|name| *name != "main").cloned() else { return };
        let outcome = self.store().delete_dataset(&name, now);
        if self.snapshots.iter().any(|(key, snapshot)| snapshot.share == name && self.locks.holds(key)) {
            return assert!(outcome.is_err(), "a snapshot of {name} is locked, and the share was deleted");
        }
        let share = self.shares.remove(&name);
        let (theirs, others) = std::mem::take(&mut self.snapshots).into_iter().partition(|(_, it)| it.share == name);
        self.snapshots = others;
        match (outcome, share) {
            (Ok(()), Some(share)) if !self.quarantine.is_zero() => {
                self.deleted_shares.insert(name, (share, theirs));
            }
            (Ok(()), _) => {}
            (Err(_), _) => drop(self.unsure.insert(name)),
        }
    }

    pub fn set(&mut self) {
        let (name, value, now) = (format!("setting{}", self.roll(3)), self.rng.random::<u64>(), self.now());
        match self.store().set_setting(&name, Some(&value.to_le_bytes()), now) {
            Ok(()) => {
                self.unsure.remove(&name);
                self.settings.insert(name, value);
            }
            Err(_) => drop(self.unsure.insert(name)),
        }
    }
}
