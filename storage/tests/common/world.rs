//! A seeded workload on a store, and a model that knows what must survive a crash and what may.
//!
//! The namespace is observed after every change: what a crash leaves must be one of the states since the last stable one,
//! for the journal keeps order. File contents are modelled byte by byte: each byte must be from the stable state or
//! from a later one, in a file whose length some such state had.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Call, CallTag, Create, Credentials, FileTree, FileType, Node, SetAttributes};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::Name;
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use narrowboat_storage::{Result, Store};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::{at, noise, open, read};

/// What is compared of one file: number, type, mode, links.
pub type Node4 = (Inode, FileType, u32, u32);
/// All paths of a share.
pub type Names = BTreeMap<String, Node4>;
/// All paths and the bytes of regular files.
pub type Image = BTreeMap<String, (Node4, Rc<Vec<u8>>)>;

/// A content that a file had, and the record that makes it stable where there is one.
type State = (Option<Lsn>, Rc<Vec<u8>>);

/// A state of the namespace that may be what a crash leaves.
#[derive(Clone)]
struct Version {
    lsn: Lsn,
    names: Names,
    tag: Option<CallTag>,
}

/// What is known of one share.
pub struct Share {
    pub name: String,
    pub id: DatasetId,
    /// The last stable version, then those that may have survived.
    versions: Vec<Version>,
    /// For each file the stable content, then those that followed, each with the record that makes it stable.
    contents: BTreeMap<Inode, Vec<State>>,
    /// Calls that must be remembered.
    tags: Vec<CallTag>,
    newest: Inode,
}

/// What is known of one snapshot.
#[derive(Clone)]
pub struct Snapshot {
    pub share: String,
    pub image: Image,
    pub root: Option<Option<Name>>,
}

/// The store under test, and the model of it.
pub struct World {
    pub disk: SimDisk,
    pub store: Option<Store>,
    pub shares: BTreeMap<String, Share>,
    pub snapshots: BTreeMap<String, Snapshot>,
    pub settings: BTreeMap<String, u64>,
    /// Names of shares, snapshots (`share@name`) and settings whose change failed: it may have happened.
    pub unsure: BTreeSet<String>,
    /// Snapshots whose creation failed, as they must be if they are there.
    pub unsure_snapshots: BTreeMap<String, Snapshot>,
    rng: Xoshiro256PlusPlus,
    clock: i64,
    /// Changes that were stable.
    pub stable_changes: u64,
}

fn paths_below(tree: &dyn FileTree, dir: Inode, prefix: &str, names: &mut Names) -> Result<()> {
    let listing = tree.read_dir(&Credentials::ROOT, dir, 2, 10_000)?;
    for entry in listing.entries {
        let path = format!("{prefix}/{}", String::from_utf8_lossy(&entry.name));
        let a = entry.attributes;
        names.insert(path.clone(), (a.inode, a.file_type, a.mode, a.links));
        if a.file_type == FileType::Directory {
            paths_below(tree, a.inode, &path, names)?;
        }
    }
    Ok(())
}

/// Everything that has a name.
pub fn observe(tree: &dyn FileTree) -> Result<Names> {
    let mut names = Names::new();
    paths_below(tree, Inode::ROOT, "", &mut names)?;
    Ok(names)
}

/// Everything that has a name, with its bytes.
pub fn image(tree: &dyn FileTree) -> Image {
    let names = observe(tree).expect("readable");
    let bytes = |node: &Node4| if node.1 == FileType::Regular { read(tree, node.0) } else { Vec::new() };
    names.into_iter().map(|(path, node)| (path, (node, Rc::new(bytes(&node))))).collect()
}

impl Share {
    fn new(name: &str, id: DatasetId, image: &Image) -> Share {
        let names: Names = image.iter().map(|(path, (node, _))| (path.clone(), *node)).collect();
        let contents = image.values().map(|(node, bytes)| (node.0, vec![(None, bytes.clone())])).collect();
        let newest = image.values().map(|(node, _)| node.0).max().unwrap_or(Inode::ROOT);
        let versions = vec![Version { lsn: Lsn(0), names, tag: None }];
        Share { name: name.to_owned(), id, versions, contents, tags: Vec::new(), newest }
    }

    fn names(&self) -> &Names {
        &self.versions[self.versions.len() - 1].names
    }

    fn bytes(&self, inode: Inode) -> Rc<Vec<u8>> {
        self.contents.get(&inode).and_then(|states| states.last()).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    /// What a snapshot taken now holds.
    fn image(&self) -> Image {
        let bytes = |node: &Node4| if node.1 == FileType::Regular { self.bytes(node.0) } else { Rc::default() };
        self.names().iter().map(|(path, node)| (path.clone(), (*node, bytes(node)))).collect()
    }

    /// Everything up to `lsn` is stable.
    fn stable(&mut self, lsn: Lsn) {
        let last = self.versions.iter().rposition(|version| version.lsn <= lsn).unwrap_or(0);
        for version in self.versions.drain(..last) {
            self.tags.extend(version.tag);
        }
        if let Some(tag) = self.versions[0].tag.take() {
            self.tags.push(tag);
        }
        let newest = self.versions[0].names.values().map(|node| node.0).max();
        self.newest = self.newest.max(newest.unwrap_or(Inode::ROOT));
        for states in self.contents.values_mut() {
            if let Some(last) = states.iter().rposition(|(safe, _)| safe.is_some_and(|safe| safe <= lsn)) {
                states.drain(..last);
                states[0].0 = None;
            }
        }
    }

    /// Checks what a crash left, and takes it for the truth from here on.
    fn recovered(&mut self, tree: &dyn FileTree) {
        let found = image(tree);
        let names: Names = found.iter().map(|(path, (node, _))| (path.clone(), *node)).collect();
        for tag in self.tags.iter().rev().take(1000) {
            assert!(tree.remembered(tag).is_some(), "{}: a stable call is forgotten", self.name);
        }
        let known = |version: &Version| version.tag.is_none_or(|tag| tree.remembered(&tag).is_some());
        let fits = |at: usize| {
            self.versions[at].names == names
                && self
                    .versions
                    .iter()
                    .enumerate()
                    .all(|(nth, version)| version.tag.is_none() || nth == 0 || known(version) == (nth <= at))
        };
        let at = (0..self.versions.len()).find(|at| fits(*at));
        let at = at.unwrap_or_else(|| {
            let expected: Vec<_> = self.versions.iter().map(|version| &version.names).collect();
            panic!("{}: found {names:#?}\nexpected one of {expected:#?}", self.name)
        });
        for (path, (node, bytes)) in &found {
            let states = self.contents.get(&node.0).cloned().unwrap_or_default();
            if node.1 != FileType::Regular {
                continue;
            }
            let sizes: Vec<_> = states.iter().map(|(_, state)| state.len()).collect();
            assert!(
                sizes.contains(&bytes.len()),
                "{}{path}: {} bytes, one of {sizes:?} expected",
                self.name,
                bytes.len()
            );
            let odd = bytes
                .iter()
                .enumerate()
                .position(|(nth, byte)| !states.iter().any(|(_, state)| state.get(nth) == Some(byte)));
            assert!(odd.is_none(), "{}{path}: a wrong byte at {odd:?} of {}", self.name, bytes.len());
        }
        let (newest, mut tags) = (self.newest, std::mem::take(&mut self.tags));
        tags.extend(self.versions[..=at].iter().filter_map(|version| version.tag));
        let ever = self.versions[..=at].iter().flat_map(|version| version.names.values()).map(|node| node.0).max();
        *self = Share { tags, ..Share::new(&self.name, self.id, &found) };
        self.newest = self.newest.max(newest).max(ever.unwrap_or(Inode::ROOT));
        let how = Create::Guarded(SetAttributes::default());
        if let Ok(made) = tree.create(&at_time(1), Inode::ROOT, b"probe", &how) {
            assert!(made.file.inode > self.newest, "{}: an inode number went back", self.name);
            self.newest = made.file.inode;
            let removed = tree.remove(&at_time(1), Inode::ROOT, b"probe").expect("just made");
            tree.make_stable(removed.lsn).expect("a sound disk");
        }
    }
}

fn at_time(now: i64) -> Call<'static> {
    at(now)
}

impl World {
    /// A new store with one share on a disk.
    pub fn new(disk: SimDisk, seed: u64) -> Option<World> {
        let (store, _) = open(&disk).ok()?;
        Some(World {
            disk,
            store: Some(store),
            shares: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            settings: BTreeMap::new(),
            unsure: BTreeSet::new(),
            unsure_snapshots: BTreeMap::new(),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            clock: 1,
            stable_changes: 0,
        })
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("open")
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.rng.random_range(0..below)
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp(self.clock)
    }

    /// Makes up to `steps` random steps; ends early where the power is gone. Errors are fine: the model then knows of
    /// nothing that must have happened.
    pub fn run(&mut self, steps: u64) {
        self.create_share("main");
        self.run_on(steps);
    }

    /// Goes on with random steps.
    pub fn run_on(&mut self, steps: u64) {
        for _ in 0..steps {
            if !self.disk.is_on() {
                return;
            }
            let names: Vec<String> = self.shares.keys().cloned().collect();
            if names.is_empty() {
                return;
            }
            let share = names[self.roll(names.len() as u64) as usize].clone();
            match self.roll(100) {
                0..=54 => drop(self.change(&share)),
                55..=69 => drop(self.commit(&share)),
                70..=77 => drop(self.drain()),
                78..=85 => self.snapshot(&share),
                86..=88 => self.delete_snapshot(),
                89..=91 => self.clone_snapshot(),
                92 => self.delete_clone(),
                93..=95 => self.set(),
                _ => drop(self.seal()),
            }
        }
    }

    fn create_share(&mut self, name: &str) {
        let now = self.now();
        match self.store().create_share(name, Policy::Inline, now) {
            Ok(info) => drop(self.shares.insert(name.to_owned(), Share::new(name, info.row.id, &Image::new()))),
            Err(_) => drop(self.unsure.insert(name.to_owned())),
        }
    }

    fn stable(&mut self, lsn: Lsn) {
        self.stable_changes += 1;
        self.shares.values_mut().for_each(|share| share.stable(lsn));
    }

    /// One change of a share's names or bytes.
    fn change(&mut self, share: &str) -> Result<()> {
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
    fn changed(&mut self, share: &str, tree: &dyn FileTree, lsn: Lsn, tag: [u8; 16]) -> Result<()> {
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

    fn wrote(&mut self, share: &str, file: Inode, lsn: Option<Lsn>, bytes: Vec<u8>) {
        if let Some(share) = self.shares.get_mut(share) {
            share.contents.entry(file).or_default().push((lsn, Rc::new(bytes)));
        }
    }

    fn truncate(&mut self, share: &str, tree: &dyn FileTree, call: &Call, file: Inode) -> Result<()> {
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

    fn write(&mut self, share: &str, tree: &dyn FileTree, call: &Call, file: Inode) -> Result<()> {
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

    fn commit(&mut self, share: &str) -> Result<()> {
        let tree = self.store().tree(self.shares[share].id)?;
        let names = self.shares[share].names();
        let files: Vec<Inode> = names.values().filter(|node| node.1 == FileType::Regular).map(|node| node.0).collect();
        if files.is_empty() {
            return Ok(());
        }
        let file = files[self.roll(files.len() as u64) as usize];
        let lsn = tree.commit(file)?.lsn;
        let bytes = self.shares[share].bytes(file).to_vec();
        self.wrote(share, file, Some(lsn), bytes);
        tree.make_stable(lsn)?;
        self.stable(lsn);
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let now = self.now();
        match self.roll(3) {
            0 => self.store().drain_all(now),
            _ => self.store().drain_step(now).map(drop),
        }
    }

    fn snapshot(&mut self, share: &str) {
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

    fn any_snapshot(&mut self) -> Option<(String, String, String)> {
        let keys: Vec<String> = self.snapshots.keys().cloned().collect();
        let key = keys.get(self.roll(keys.len().max(1) as u64) as usize)?.clone();
        let (share, label) = key.split_once('@')?;
        Some((key.clone(), share.to_owned(), label.to_owned()))
    }

    fn delete_snapshot(&mut self) {
        let now = self.now();
        let Some((key, share, label)) = self.any_snapshot() else { return };
        let outcome = self.store().delete_snapshot(&share, &label, now);
        let snapshot = self.snapshots.remove(&key);
        if outcome.is_err() {
            self.unsure_snapshots.extend(snapshot.map(|snapshot| (key, snapshot)));
        }
    }

    fn seal(&mut self) -> Result<()> {
        let Some((key, share, label)) = self.any_snapshot() else { return Ok(()) };
        let id = self.store().snapshot_named(&share, &label)?.id;
        let root = self.store().seal(id)?.root;
        if let Some(snapshot) = self.snapshots.get_mut(&key) {
            assert!(snapshot.root.is_none_or(|known| known == root), "{key} changed its root");
            snapshot.root = Some(root);
        }
        Ok(())
    }

    fn clone_snapshot(&mut self) {
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

    fn delete_clone(&mut self) {
        let now = self.now();
        let Some(name) = self.shares.keys().find(|name| *name != "main").cloned() else { return };
        let outcome = self.store().delete_dataset(&name, now);
        self.shares.remove(&name);
        self.snapshots.retain(|_, snapshot| snapshot.share != name);
        if outcome.is_err() {
            self.unsure.insert(name);
        }
    }

    fn set(&mut self) {
        let (name, value, now) = (format!("setting{}", self.roll(3)), self.rng.random::<u64>(), self.now());
        match self.store().set_setting(&name, Some(&value.to_le_bytes()), now) {
            Ok(()) => {
                self.unsure.remove(&name);
                self.settings.insert(name, value);
            }
            Err(_) => drop(self.unsure.insert(name)),
        }
    }

    /// Opens the store again after a crash and compares it with what is known. Panics on any difference.
    pub fn reopen(&mut self) {
        self.store = None;
        let (store, _) = open(&self.disk).expect("a crashed store opens");
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
            if let Some(known) = snapshot.root {
                assert_eq!(row.sealed.map(|sealed| sealed.root), Some(known), "{key} changed its root");
            } else {
                expect_image(&store, row.id, snapshot, key);
                snapshot.root = store.snapshot(row.id).expect("there").sealed.map(|sealed| sealed.root);
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
        self.unsure.clear();
        self.unsure_snapshots.clear();
        self.store = Some(store);
    }

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
