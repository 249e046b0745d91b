//! What one client of `kill.rs` has done and may rely on, and how it looks whether that is so.

mod file;

use std::collections::{BTreeMap, VecDeque};

use crate::common::nfs::{
    Args, CREATE, Change, Client, DIRECTORY, Handle, LINK, MKDIR, NO_ENTRY, REMOVE, RENAME, RMDIR, Results, SETATTR,
    SYMLINK, Stable, Trouble, create_args, rename_args,
};
use crate::common::noise;
use crate::common::seeded::Seeded;
use file::File;

/// Names that a worker uses; few, so that they are taken often.
const NAMES: u64 = 12;
/// Largest offset at which is written.
const OFFSET_MAX: u64 = 2 << 20;
/// Answered calls that are repeated after a kill.
const REPEATED: usize = 4;
/// `NF3LNK`.
const SYMBOLIC: u32 = 5;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// A file, by its place in [`Worker::files`]: hard links share it.
    File(usize),
    Directory,
    Symlink,
}

/// A change of the namespace.
#[derive(Clone, Debug)]
enum Op {
    Create(String),
    MakeDir(String),
    Symlink(String),
    Link(String, String),
    Remove(String),
    RemoveDir(String),
    Rename(String, String),
    Truncate(String, u64),
}

/// What has been met.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub answered: u64,
    pub stable_bytes: u64,
    pub under_way: u64,
    pub repeated: u64,
    pub lost_unstable: u64,
}

/// One client: a directory of its own, and what must be in it.
#[derive(Clone)]
pub struct Worker {
    number: u32,
    random: Seeded,
    noise: Vec<u8>,
    dir: Option<Handle>,
    names: BTreeMap<String, Node>,
    files: Vec<File>,
    under_way: Option<(Op, Change)>,
    answered: VecDeque<(Change, Option<Handle>)>,
    next_xid: u32,
    verifier: Option<[u8; 8]>,
    refused: Option<String>,
    pub counts: Counts,
}

impl Worker {
    pub fn new(seed: u64, number: u32) -> Worker {
        Worker {
            number,
            random: Seeded::new(seed * 100 + u64::from(number)),
            noise: noise(seed, 4 << 20),
            dir: None,
            names: BTreeMap::new(),
            files: Vec::new(),
            under_way: None,
            answered: VecDeque::new(),
            next_xid: (number + 1) << 24,
            verifier: None,
            refused: None,
            counts: Counts::default(),
        }
    }

    fn dir(&self) -> &Handle {
        self.dir.as_ref().expect("prepared")
    }

    /// Makes the worker's directory, the first time.
    pub fn prepare(&mut self, client: &mut Client) {
        if self.dir.is_none() {
            let root = client.mount("/share").expect("the share");
            let name = format!("worker-{}", self.number);
            self.dir = Some(client.make_dir(&root, name.as_bytes()).expect("a directory"));
        }
    }

    /// Changes things until the connection is gone.
    pub fn work(&mut self, client: Client) {
        let mut client = client.numbered_from(self.next_xid);
        loop {
            let outcome = match self.random.below(10) {
                0..4 => self.change_names(&mut client),
                4..9 => self.write(&mut client),
                _ => self.commit_one(&mut client),
            };
            self.next_xid = client.next_xid();
            match outcome {
                Ok(()) => self.counts.answered += 1,
                Err(Trouble::Gone(_)) => return,
                // Nothing that a worker asks for may be refused; `verify` tells, when the box's log can be told, too.
                Err(Trouble::Status(status)) => {
                    self.refused = Some(format!("status {status}, with {:?} under way", self.under_way));
                    return;
                }
            }
        }
    }

    /// Makes a file with one write of the given stability; for canaries.
    pub fn write_a_file(&mut self, client: &mut Client, name: &str, stable: Stable) {
        self.apply_over(client, Op::Create(name.into())).expect("created");
        let Some(Node::File(file)) = self.names.get(name) else { panic!("it was just made") };
        let data = noise(99, 100_000);
        self.files[*file].write(client, 0, &data, stable, &mut self.verifier).expect("written");
    }

    /// Makes the model wrong on purpose: whatever is pending is taken for stable.
    pub fn claim_all_is_stable(&mut self) {
        self.files.iter_mut().for_each(File::committed);
    }

    /// Repeats nothing when it verifies.
    pub fn forget_calls(&mut self) {
        self.answered.clear();
    }

    fn change_names(&mut self, client: &mut Client) -> Result<(), Trouble> {
        let name = format!("n{}", self.random.below(NAMES));
        let other = format!("n{}", self.random.below(NAMES));
        let is_file = |node: Option<&Node>| matches!(node, Some(Node::File(_)));
        let op = match (self.names.get(&name), self.random.below(6)) {
            (None, 0) => Op::MakeDir(name),
            (None, 1) => Op::Symlink(name),
            (None, 2) if is_file(self.names.get(&other)) => Op::Link(other, name),
            (None, _) => Op::Create(name),
            (Some(Node::Directory), _) => Op::RemoveDir(name),
            (Some(Node::Symlink), _) => Op::Remove(name),
            (Some(Node::File(_)), 0) => Op::Remove(name),
            (Some(Node::File(file)), 1) => {
                // First committed, so that what the file may hold afterwards is known to the byte.
                self.files[*file].commit(client, &mut self.verifier)?;
                Op::Truncate(name, self.random.below(OFFSET_MAX))
            }
            (Some(Node::File(_)), _) if self.names.get(&other) != Some(&Node::Directory) => Op::Rename(name, other),
            (Some(Node::File(_)), _) => Op::Remove(name),
        };
        self.apply_over(client, op)
    }

    /// Sends a change; what is under way is known in case no answer comes.
    fn apply_over(&mut self, client: &mut Client, op: Op) -> Result<(), Trouble> {
        let (procedure, args) = self.call_of(&op);
        let change = client.change(procedure, args);
        self.under_way = Some((op.clone(), change.clone()));
        let results = client.repeat(&change)?;
        self.happened(op, change, results);
        Ok(())
    }

    fn call_of(&self, op: &Op) -> (u32, Args) {
        let dir = self.dir();
        let named = |name: &String| Args::default().opaque(dir).opaque(name.as_bytes());
        let handle = |name: &String| match self.names.get(name) {
            Some(Node::File(file)) => &self.files[*file].handle,
            node => panic!("{name} is {node:?}"),
        };
        match op {
            Op::Create(name) => (CREATE, create_args(dir, name.as_bytes())),
            Op::MakeDir(name) => (MKDIR, named(name).set(Some(0o755), None)),
            Op::Symlink(name) => (SYMLINK, named(name).set(None, None).opaque(b"somewhere")),
            Op::Link(file, name) => (LINK, Args::default().opaque(handle(file)).opaque(dir).opaque(name.as_bytes())),
            Op::Remove(name) => (REMOVE, named(name)),
            Op::RemoveDir(name) => (RMDIR, named(name)),
            Op::Rename(from, to) => (RENAME, rename_args((dir, from.as_bytes()), (dir, to.as_bytes()))),
            Op::Truncate(name, size) => (SETATTR, Args::default().opaque(handle(name)).set(None, Some(*size)).u32(0)),
        }
    }

    /// An answer came: from now on it must be so.
    fn happened(&mut self, op: Op, change: Change, mut results: Results) {
        self.under_way = None;
        let makes = matches!(op, Op::Create(_) | Op::MakeDir(_) | Op::Symlink(_));
        let handle = (makes && results.u32() == 1).then(|| results.opaque());
        // LINK and SETATTR name the file itself, which may be gone when they are repeated later than at once; and a RENAME
        // between two names of one file (POSIX: it does nothing) leaves nothing behind that could be remembered.
        let later = match &op {
            Op::Link(..) | Op::Truncate(..) => false,
            Op::Rename(from, to) => !self.is_same_file(from, to),
            _ => true,
        };
        if later {
            self.answered.push_back((change, handle.clone()));
            if self.answered.len() > REPEATED {
                self.answered.pop_front();
            }
        }
        match op {
            Op::Create(name) => {
                self.files.push(File::new(handle.expect("a handle")));
                self.names.insert(name, Node::File(self.files.len() - 1));
            }
            Op::MakeDir(name) => drop(self.names.insert(name, Node::Directory)),
            Op::Symlink(name) => drop(self.names.insert(name, Node::Symlink)),
            Op::Link(file, name) => drop(self.names.insert(name, self.names[&file].clone())),
            Op::Remove(name) | Op::RemoveDir(name) => drop(self.names.remove(&name)),
            Op::Rename(from, to) => {
                if !self.is_same_file(&from, &to) {
                    let node = self.names.remove(&from).expect("it was there");
                    self.names.insert(to, node);
                }
            }
            Op::Truncate(name, size) => {
                let Node::File(file) = self.names[&name] else { panic!("{name} is a file") };
                self.files[file].truncated(size);
            }
        }
    }

    fn is_same_file(&self, one: &str, other: &str) -> bool {
        matches!((self.names.get(one), self.names.get(other)), (Some(Node::File(one)), Some(Node::File(other))) if one == other)
    }

    fn some_file(&mut self) -> Option<usize> {
        let files: Vec<usize> = self
            .names
            .values()
            .filter_map(|node| if let Node::File(file) = node { Some(*file) } else { None })
            .collect();
        (!files.is_empty()).then(|| files[self.random.below(files.len() as u64) as usize])
    }

    fn write(&mut self, client: &mut Client) -> Result<(), Trouble> {
        let Some(file) = self.some_file() else { return self.change_names(client) };
        let len = match self.random.below(10) {
            0..4 => 1 + self.random.below(4 << 10),
            4..8 => 1 + self.random.below(64 << 10),
            _ => 1 + self.random.below(512 << 10),
        };
        let from = self.random.below(self.noise.len() as u64 - len) as usize;
        let data = match self.random.one_in(12) {
            true => vec![0; len as usize],
            false => self.noise[from..from + len as usize].to_vec(),
        };
        let stable = match self.random.below(8) {
            0 => Stable::File,
            1 => Stable::Data,
            _ => Stable::Unstable,
        };
        // Half of the writes go on at the end, as backups do.
        let end = self.files[file].visible_len();
        let offset = if self.random.one_in(2) && end < OFFSET_MAX { end } else { self.random.below(OFFSET_MAX) };
        if self.files[file].write(client, offset, &data, stable, &mut self.verifier)? {
            self.counts.stable_bytes += len;
        }
        Ok(())
    }

    fn commit_one(&mut self, client: &mut Client) -> Result<(), Trouble> {
        let Some(file) = self.some_file() else { return self.change_names(client) };
        self.counts.stable_bytes += self.files[file].commit(client, &mut self.verifier)?;
        Ok(())
    }

    /// Looks whether everything is as it must be after a kill. What was pending and is there is relied on from now on.
    pub fn verify(&mut self, client: &mut Client) -> Result<(), String> {
        self.verify_all(client).map_err(|why| format!("worker {}: {why}", self.number))
    }

    fn verify_all(&mut self, client: &mut Client) -> Result<(), String> {
        self.refused.take().map_or(Ok(()), Err)?;
        self.repeat_calls(client)?;
        self.verify_names(client)?;
        let old = self.verifier.take();
        for (name, node) in self.names.clone() {
            let Node::File(file) = node else { continue };
            let file = &mut self.files[file];
            self.counts.lost_unstable += file.verify(client).map_err(|why| format!("{name}: {why}"))?;
            let verifier = client.commit(&file.handle).map_err(|why| format!("COMMIT of {name}: {why:?}"))?;
            if Some(verifier) == old {
                return Err("the write verifier is the same as before".into());
            }
        }
        Ok(())
    }

    /// The call that was under way happens now, once; those that were answered get the same answer and do nothing.
    fn repeat_calls(&mut self, client: &mut Client) -> Result<(), String> {
        if let Some((op, change)) = self.under_way.take() {
            let results = client.repeat(&change).map_err(|why| format!("{op:?} repeated: {why:?}"))?;
            self.happened(op, change, results);
            self.counts.under_way += 1;
        }
        for (change, first) in self.answered.clone() {
            let mut results = client.repeat(&change).map_err(|why| format!("{change:?} again: {why:?}"))?;
            let again = (first.is_some() && results.u32() == 1).then(|| results.opaque());
            if again.is_some() && again != first {
                return Err(format!("{change:?} got another answer"));
            }
            self.counts.repeated += 1;
        }
        Ok(())
    }

    fn verify_names(&mut self, client: &mut Client) -> Result<(), String> {
        let listed = client.list(self.dir()).map_err(|why| match why {
            Trouble::Status(NO_ENTRY) => "the directory is gone".to_owned(),
            why => format!("{why:?}"),
        })?;
        let there: BTreeMap<String, _> =
            listed.into_iter().map(|entry| (String::from_utf8_lossy(&entry.name).into_owned(), entry)).collect();
        for name in there.keys().chain(self.names.keys()) {
            match (self.names.get(name), there.get(name)) {
                (Some(_), None) => return Err(format!("{name} is gone")),
                (None, _) => return Err(format!("{name} is there and must not be")),
                (Some(Node::Directory), Some(entry)) if entry.seen.file_type == DIRECTORY => {}
                (Some(Node::Symlink), Some(entry)) if entry.seen.file_type == SYMBOLIC => {}
                (Some(Node::File(file)), Some(entry)) if entry.handle == self.files[*file].handle => {
                    let links = self.names.values().filter(|node| **node == Node::File(*file)).count();
                    if entry.seen.links as usize != links {
                        return Err(format!("{name} has {} links instead of {links}", entry.seen.links));
                    }
                }
                (Some(node), Some(entry)) => return Err(format!("{name} is {node:?} and became {entry:?}")),
            }
        }
        Ok(())
    }
}
