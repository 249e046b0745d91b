//! Random operations by several users, on the namespace and on the model: every answer, every attribute, every listing
//! and every promise after every step. `NARROWBOAT_SEEDS` sets how many worlds are run.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::model::{Answer, Errno, Model};
use super::table::Ram;
use crate::dataset::namespace::{self, Change, Effect, Key, NewEntry, Outcome};
use crate::dataset::{Access, Attributes, Call, Create, Credentials, FileType, Node, SetAttributes, SetTime};
use crate::error::Result;
use crate::units::{Inode, Timestamp};

const SEEDS: u64 = 300;
const STEPS: usize = 400;

struct World {
    rng: StdRng,
    table: Ram,
    /// As it was checked last.
    checked: Ram,
    model: Model,
    users: Vec<Credentials>,
    now: i64,
}

/// How many worlds: more by `NARROWBOAT_SEEDS`.
pub fn seeds() -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn random_operations_agree_with_the_model() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        for step in 0..STEPS {
            let (operation, answer) = world.step();
            *seen.entry((operation, answer)).or_insert(0u64) += 1;
            world.compare(&format!("seed {seed}, step {step}: {operation}"));
        }
    }
    // The worlds are worth nothing if everything is refused: each operation must have succeeded often.
    for operation in OPERATIONS {
        let successes = seen.get(&(operation, None)).copied().unwrap_or(0);
        assert!(successes > seeds(), "{operation} succeeded {successes} times: {seen:?}");
    }
}

#[test]
#[should_panic(expected = "attributes")]
fn the_harness_sees_a_wrong_attribute() {
    let mut world = World::new(1);
    for _ in 0..50 {
        world.step();
    }
    world.model.files.get_mut(&1).expect("root").ctime += 1;
    world.compare("canary");
}

const OPERATIONS: [&str; 14] = [
    "lookup", "access", "set", "read", "write", "create", "mkdir", "symlink", "mknod", "link", "unlink", "rmdir",
    "rename", "list",
];

impl World {
    fn new(seed: u64) -> Self {
        let user = |uid, gid, groups: &[u32]| Credentials { uid, gid, groups: groups.to_vec() };
        let users = vec![Credentials::ROOT, user(1, 10, &[20]), user(2, 10, &[]), user(3, 30, &[10, 20])];
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            table: Ram::new(Timestamp(100)),
            checked: Ram::new(Timestamp(100)),
            model: Model::new(100),
            users,
            now: 100,
        };
        // Most worlds have an open root; in the others only root can begin.
        if !seed.is_multiple_of(4) {
            let mode = if seed % 4 == 1 { 0o1777 } else { 0o2777 };
            let set = SetAttributes { mode: Some(mode), gid: Some(20), ..SetAttributes::default() };
            world.model.set(&Credentials::ROOT, 100, 1, &set, None).expect("root may");
            let call = Call { caller: &Credentials::ROOT, now: Timestamp(100), tag: None };
            let _ = world
                .table
                .run(|table| namespace::set_attributes(table, &call, Inode::ROOT, &set, None))
                .expect("root may");
        }
        world
    }

    fn roll(&mut self, sides: u32) -> u32 {
        self.rng.random_range(0..sides)
    }

    /// A file: mostly one that is there, sometimes one that was or never was.
    fn pick(&mut self) -> u64 {
        if self.roll(25) == 0 {
            return u64::from(self.roll(self.model.last as u32 + 3));
        }
        let mut all: Vec<u64> = self.model.files.keys().copied().collect();
        all.sort_unstable();
        *all.choose(&mut self.rng).expect("the root is there")
    }

    /// A directory mostly.
    fn pick_dir(&mut self) -> u64 {
        if self.roll(12) == 0 {
            return self.pick();
        }
        let dirs = self.model.files.iter().filter(|(_, file)| file.kind == FileType::Directory);
        let mut dirs: Vec<u64> = dirs.map(|(ino, _)| *ino).collect();
        dirs.sort_unstable();
        *dirs.choose(&mut self.rng).expect("the root is there")
    }

    /// A name out of few, so that they meet.
    fn name(&mut self) -> Vec<u8> {
        match self.roll(40) {
            0 => b".".to_vec(),
            1 => b"..".to_vec(),
            2 => b"".to_vec(),
            3 => b"a/b".to_vec(),
            4 => b"a\0".to_vec(),
            5 => vec![b'x'; 255],
            6 => vec![b'x'; 256],
            7 => vec![0xff, 0xfe, b' ', b'\n'],
            _ => vec![b'a' + self.roll(6) as u8],
        }
    }

    /// A name that is in the directory, mostly.
    fn name_in(&mut self, dir: u64) -> Vec<u8> {
        let names: Vec<Vec<u8>> = match self.model.files.get(&dir) {
            Some(file) => file.children.values().map(|(name, _)| name.clone()).collect(),
            None => Vec::new(),
        };
        match names.choose(&mut self.rng) {
            Some(name) if self.rng.random_bool(0.8) => name.clone(),
            _ => self.name(),
        }
    }

    /// Where an empty directory is, two times out of three.
    fn empty_dir(&mut self) -> Option<(u64, Vec<u8>)> {
        let files = &self.model.files;
        let entries = files.iter().flat_map(|(dir, file)| file.children.values().map(|child| (*dir, child)));
        let empty = |ino: &u64| files[ino].kind == FileType::Directory && files[ino].children.is_empty();
        let mut all: Vec<(u64, Vec<u8>)> =
            entries.filter(|(_, (_, ino))| empty(ino)).map(|(dir, (name, _))| (dir, name.clone())).collect();
        all.sort_unstable();
        all.choose(&mut self.rng).cloned().filter(|_| self.rng.random_bool(0.67))
    }

    fn mode(&mut self) -> u32 {
        match self.roll(4) {
            0 => self.rng.random_range(0..0o10000),
            1 => *[0o4755, 0o2755, 0o6777, 0o2644, 0o1777, 0o3777].choose(&mut self.rng).expect("not empty"),
            _ => *[0o777, 0o755, 0o700, 0o770].choose(&mut self.rng).expect("not empty"),
        }
    }

    fn time(&mut self) -> Option<SetTime> {
        match self.roll(6) {
            0 => Some(SetTime::Now),
            1 => Some(SetTime::To(Timestamp(self.rng.random()))),
            _ => None,
        }
    }

    fn size(&mut self) -> u64 {
        match self.roll(8) {
            0 => 0,
            1 => 1 << 44,
            2 => (1 << 44) + 1,
            3 => self.rng.random(),
            _ => u64::from(self.roll(5000)),
        }
    }

    fn attributes(&mut self) -> SetAttributes {
        let owner = [1, 2, 3, 0].choose(&mut self.rng).copied();
        let group = [10, 20, 30, 0].choose(&mut self.rng).copied();
        SetAttributes {
            mode: if self.roll(2) == 0 { Some(self.mode()) } else { None },
            uid: owner.filter(|_| self.roll(6) == 0),
            gid: group.filter(|_| self.roll(5) == 0),
            size: if self.roll(5) == 0 { Some(self.size()) } else { None },
            accessed: self.time(),
            modified: self.time(),
        }
    }

    fn target(&mut self) -> Vec<u8> {
        let len = match self.roll(6) {
            0 => *[0, 255, 256, 1000, 1001, 2000, 4000, 4096, 4097].choose(&mut self.rng).expect("not empty"),
            _ => self.roll(40) as usize,
        };
        (0..len).map(|_| self.rng.random_range(1..=255)).collect()
    }

    /// One operation by one user on both; returns its name and what both answered.
    fn step(&mut self) -> (&'static str, Option<Errno>) {
        self.now += i64::from(self.roll(3));
        let user = [0, 0, 1, 1, 2, 3][self.roll(6) as usize];
        let who = self.users[user].clone();
        let operation = *OPERATIONS.choose(&mut self.rng).expect("not empty");
        let before = self.table.pairs.clone();
        let answer = match operation {
            "lookup" | "access" | "read" | "list" => self.ask(operation, &who),
            "unlink" | "rmdir" | "rename" | "link" => self.change_names(operation, &who),
            "set" | "write" => self.change_file(operation, &who),
            _ => self.make(operation, &who),
        };
        if answer.is_err() {
            assert_eq!(before, self.table.pairs, "{operation} was refused and changed something");
        }
        (operation, answer.err())
    }

    fn ask(&mut self, operation: &str, who: &Credentials) -> Answer<()> {
        let (expected, found) = match operation {
            "lookup" => {
                let dir = self.pick_dir();
                let name = self.name_in(dir);
                let found = namespace::lookup(&self.table, who, Inode(dir), &name).map(|found| found.inode.0);
                (self.model.lookup(who, dir, &name).map(|ino| ino.to_string()), found.map(|ino| ino.to_string()))
            }
            "access" => {
                let (ino, wanted) = (self.pick(), self.roll(64));
                let found = namespace::access(&self.table, who, Inode(ino), Access(wanted));
                (self.model.access(who, ino, wanted).map(|bits| bits.to_string()), found.map(|bits| bits.0.to_string()))
            }
            "read" => {
                let ino = self.pick();
                let found = namespace::allow_read(&self.table, who, Inode(ino));
                (self.model.may_read(who, ino).map(|()| ino.to_string()), found.map(|found| found.inode.to_string()))
            }
            _ => {
                let (dir, cookie, max) = (self.pick_dir(), u64::from(self.roll(7)), self.roll(6) as usize);
                let found = namespace::read_dir(&self.table, who, Inode(dir), cookie, max).map(|listing| {
                    let entries = listing.entries.into_iter();
                    let entries: Vec<_> =
                        entries.map(|entry| (entry.cookie, entry.name.to_vec(), entry.attributes.inode.0)).collect();
                    format!("{:?}", (entries, listing.end))
                });
                (self.model.list(who, dir, cookie, max).map(|listing| format!("{listing:?}")), found)
            }
        };
        same(operation, expected, found)
    }

    fn change_names(&mut self, operation: &str, who: &Credentials) -> Answer<()> {
        let now = self.now;
        let call = Call { caller: who, now: Timestamp(now), tag: None };
        let dir = self.pick_dir();
        let old = self.model.clone();
        let (expected, found, dirs) = match operation {
            "unlink" => {
                let name = self.name_in(dir);
                let found = self.table.run(|table| namespace::remove(table, &call, Inode(dir), &name));
                (self.model.unlink(who, now, dir, &name), found.map(changed_dir), vec![dir])
            }
            "rmdir" => {
                let (dir, name) = self.empty_dir().unwrap_or_else(|| (dir, self.name_in(dir)));
                let found = self.table.run(|table| namespace::remove_dir(table, &call, Inode(dir), &name));
                (self.model.rmdir(who, now, dir, &name), found.map(changed_dir), vec![dir])
            }
            "link" => {
                let (ino, name) = (self.pick(), self.name());
                let found = self.table.run(|table| namespace::link(table, &call, Inode(ino), Inode(dir), &name));
                let expected = self.model.link(who, now, ino, dir, &name);
                (expected, found.map(|made| (vec![made.value.dir], made.effect)), vec![dir])
            }
            _ => {
                let (from_name, to) = (self.name_in(dir), if self.roll(2) == 0 { dir } else { self.pick_dir() });
                let to_name = if self.roll(2) == 0 { self.name() } else { self.name_in(to) };
                let (from, onto) = ((Inode(dir), &from_name[..]), (Inode(to), &to_name[..]));
                let found = self.table.run(|table| namespace::rename(table, &call, from, onto));
                let expected = self.model.rename(who, now, (dir, &from_name), (to, &to_name));
                let found = found.map(|Outcome { value: (from, to), effect }| (vec![from, to], effect));
                (expected, found, vec![dir, to])
            }
        };
        let (changes, effect) = both(operation, expected, found)?;
        for (change, dir) in changes.iter().zip(dirs) {
            assert_eq!(change.before, attributes_of(&old, dir), "{operation}: before");
            assert_eq!(change.after, attributes_of(&self.model, dir), "{operation}: after");
        }
        let regular = |ino: &u64| old.files[ino].kind == FileType::Regular;
        let gone: Vec<u64> = old.files.keys().filter(|ino| !self.model.files.contains_key(ino)).copied().collect();
        let dropped = gone.into_iter().find(regular).map(|ino| Effect::Dropped { inode: Inode(ino) });
        assert_eq!(effect, dropped, "{operation}: what becomes of the data");
        Ok(())
    }

    fn change_file(&mut self, operation: &str, who: &Credentials) -> Answer<()> {
        let (ino, now) = (self.pick(), self.now);
        let call = Call { caller: who, now: Timestamp(now), tag: None };
        let old = self.model.clone();
        let (expected, found) = if operation == "set" {
            let set = self.attributes();
            let ctime = self.model.files.get(&ino).map_or(0, |file| file.ctime);
            let guard = [None, None, None, Some(ctime), Some(ctime - 1)].choose(&mut self.rng).copied().flatten();
            let found =
                self.table.run(|table| namespace::set_attributes(table, &call, Inode(ino), &set, guard.map(Timestamp)));
            (self.model.set(who, now, ino, &set, guard), found)
        } else {
            let (offset, len) = (self.size(), u64::from(self.roll(3000)));
            // Every other byte that is overwritten was in a hole.
            let holes = |from: u64, to: u64| Ok((to - from) / 2);
            let found = self.table.run(|table| namespace::wrote(table, &call, Inode(ino), (offset, len), &holes));
            let end = offset.saturating_add(len);
            let may = namespace::allow_write(&self.table, who, Inode(ino), end).map_err(|error| Errno::of(&error));
            assert_eq!(may.err(), found.as_ref().err().map(Errno::of), "what may be written can be written");
            if found.is_ok() {
                // Drain leaves content under the inode's number; it must go when the inode goes.
                self.table.pairs.insert(Key::Content(Inode(ino)).encode().into(), Bytes::from_static(&[0xC0]));
            }
            (self.model.write(who, now, ino, offset, len), found)
        };
        let Outcome { value: change, effect } = both(operation, expected, found)?;
        assert_eq!(change.before, attributes_of(&old, ino), "{operation}: before");
        assert_eq!(change.after, attributes_of(&self.model, ino), "{operation}: after");
        let cut = (operation == "set" && change.before.size != change.after.size)
            .then_some(Effect::Truncate { inode: Inode(ino), size: change.after.size });
        assert_eq!(effect, cut, "{operation}: what becomes of the data");
        Ok(())
    }

    fn make(&mut self, operation: &str, who: &Credentials) -> Answer<()> {
        let now = self.now;
        let call = Call { caller: who, now: Timestamp(now), tag: None };
        let (dir, name, set) = (self.pick_dir(), self.name(), self.attributes());
        let old = self.model.clone();
        let (table, model, at) = (&mut self.table, &mut self.model, Inode(dir));
        let (expected, found) = match operation {
            "create" => {
                let how = match self.rng.random_range(0..4) {
                    0 => Create::Unchecked(SetAttributes { size: Some(0), ..set }),
                    1 => Create::Unchecked(set),
                    2 => Create::Guarded(set),
                    _ => Create::Exclusive([self.rng.random_range(0..2); 8]),
                };
                let found = table.run(|table| namespace::create(table, &call, at, &name, &how));
                (model.create(who, now, dir, &name, &how), found)
            }
            "mkdir" => {
                let found = table.run(|table| namespace::make_dir(table, &call, at, &name, &set));
                (model.mkdir(who, now, dir, &name, &set), found)
            }
            "symlink" => {
                let target = self.target();
                let (table, model) = (&mut self.table, &mut self.model);
                let found = table.run(|table| namespace::make_symlink(table, &call, at, &name, &target, &set));
                (model.symlink(who, now, (dir, &name), &target, &set), found)
            }
            _ => {
                let nodes = [Node::Fifo, Node::Socket, Node::BlockDevice(8, 1), Node::CharDevice(u32::MAX, 3)];
                let node = *nodes.choose(&mut self.rng).expect("not empty");
                let found = table.run(|table| namespace::make_node(table, &call, at, &name, node, &set));
                (model.mknod(who, now, (dir, &name), node, &set), found)
            }
        };
        let (ino, Outcome { value: NewEntry { file, dir: change }, effect }) = pair(operation, expected, found)?;
        assert_eq!(file, attributes_of(&self.model, ino), "{operation}: file");
        assert_eq!(change.before, attributes_of(&old, dir), "{operation}: before");
        assert_eq!(change.after, attributes_of(&self.model, dir), "{operation}: after");
        let was = old.files.get(&ino).map_or(0, |file| file.size);
        let resized = file.file_type == FileType::Regular && file.size != was;
        let cut = resized.then_some(Effect::Truncate { inode: file.inode, size: file.size });
        assert_eq!(effect, cut, "{operation}: what becomes of the data");
        Ok(())
    }

    /// Whoever looks at what differs from the table that was checked last comes to the same.
    fn compare_with_before(&mut self, totals: namespace::Totals, place: &str) {
        let before = std::mem::replace(&mut self.checked, self.table.clone());
        let keys = before.pairs.keys().chain(self.table.pairs.keys());
        let differ = keys.filter(|key| before.pairs.get(*key) != self.table.pairs.get(*key));
        let touched = differ.filter_map(|key| namespace::owner_of(key).expect("a key")).collect();
        let found = namespace::check_changed(&before, &self.table, touched);
        assert_eq!(found.unwrap_or_else(|error| panic!("{place}: {error}")), totals, "{place}: by what differs");
    }

    /// The whole state, seen through the public operations, is the model's; and every promise holds.
    fn compare(&mut self, place: &str) {
        let bytes = self.model.files.values().filter(|file| file.kind == FileType::Regular).map(|file| file.size).sum();
        let directories = self.model.files.values().filter(|file| file.kind == FileType::Directory).count() as u64;
        let files = self.model.files.len() as u64 - directories;
        let totals = namespace::check(&self.table).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(totals, namespace::Totals { files, directories, logical_bytes: bytes }, "{place}: totals");
        self.compare_with_before(totals, place);
        for (ino, file) in &self.model.files {
            let found = namespace::attributes(&self.table, Inode(*ino)).expect("it is there");
            assert_eq!(found, attributes_of(&self.model, *ino), "{place}: attributes");
            match file.kind {
                FileType::Directory => {
                    let listing = namespace::read_dir(&self.table, &Credentials::ROOT, Inode(*ino), 2, usize::MAX);
                    let entries = listing.expect("root may").entries.into_iter();
                    let found: Vec<_> =
                        entries.map(|entry| (entry.cookie, (entry.name, entry.attributes.inode.0))).collect();
                    let expected = file.children.iter();
                    let expected: Vec<_> =
                        expected.map(|(cookie, (name, ino))| (*cookie, (Bytes::from(name.clone()), *ino))).collect();
                    assert_eq!(found, expected, "{place}: listing of {ino}");
                }
                FileType::Symlink => {
                    assert_eq!(
                        namespace::read_link(&self.table, Inode(*ino)).expect("a symlink"),
                        file.target,
                        "{place}"
                    );
                }
                _ => assert!(namespace::read_link(&self.table, Inode(*ino)).is_err()),
            }
        }
    }
}

fn changed_dir(outcome: Outcome<Change>) -> (Vec<Change>, Option<Effect>) {
    (vec![outcome.value], outcome.effect)
}

/// Both answers, where both succeeded; the error, where both failed with it.
fn pair<A, B>(operation: &str, expected: Answer<A>, found: Result<B>) -> Answer<(A, B)> {
    match (expected, found) {
        (Ok(expected), Ok(found)) => Ok((expected, found)),
        (Err(expected), Err(found)) => {
            assert_eq!(Errno::of(&found), expected, "{operation}");
            Err(expected)
        }
        (expected, found) => {
            panic!("{operation}: expected {:?}, found {:?}", expected.err(), found.err().map(|error| Errno::of(&error)))
        }
    }
}

fn both<B>(operation: &str, expected: Answer<()>, found: Result<B>) -> Answer<B> {
    pair(operation, expected, found).map(|(_, found)| found)
}

fn same(operation: &str, expected: Answer<String>, found: Result<String>) -> Answer<()> {
    let (expected, found) = pair(operation, expected, found)?;
    assert_eq!(found, expected, "{operation}");
    Ok(())
}

/// A model's file as the namespace shows it.
fn attributes_of(model: &Model, ino: u64) -> Attributes {
    let file = &model.files[&ino];
    Attributes {
        inode: Inode(ino),
        file_type: file.kind,
        mode: file.mode,
        links: file.nlink,
        uid: file.uid,
        gid: file.gid,
        size: file.size,
        used: file.used,
        device: file.rdev,
        accessed: Timestamp(file.atime),
        modified: Timestamp(file.mtime),
        changed: Timestamp(file.ctime),
    }
}
