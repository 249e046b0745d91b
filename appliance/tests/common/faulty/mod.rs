//! A disk whose faults a test turns on and off while a real box uses it: a file system in user space (FUSE) that passes everything on
//! to a folder, but for what its rules say.
//!
//! * A rule names operations, files (by a part of their path) and what becomes of them: an error of the system, or a delay.
//! * Bytes that no sync covered are on no disk. They are kept apart: a sync that fails loses those it should have covered, yet whoever reads goes
//!   on seeing them, as with the kernel's page cache after a failed `fsync`, and no later sync brings them there. [`Disk::cut_power`] shows
//!   what is on the disk.
//! * Names and lengths are on the disk at once: `storage`'s simulated disk tears these, too.
//!
//! Nothing is cached in front of it: what is read comes from here, each time.

pub mod lab;
mod pages;
mod passing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption};
use rustix::io::Errno;

use pages::Pages;
use passing::Passing;

/// What is done to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    Sync,
    /// Taking room.
    Reserve,
    /// Looking at names, lengths and room.
    Look,
    /// Opening what is there.
    Open,
    /// Creating, renaming, removing, cutting.
    Change,
}

/// Every operation.
pub const ALL: &[Op] = &[Op::Read, Op::Write, Op::Sync, Op::Reserve, Op::Look, Op::Open, Op::Change];
/// Those that change what is on the disk.
pub const WRITES: &[Op] = &[Op::Write, Op::Reserve, Op::Change];

/// Those that a disk is asked for: a kernel remembers names, and does not ask for them each time.
pub const TRANSFERS: &[Op] = &[Op::Read, Op::Write, Op::Sync, Op::Reserve, Op::Change];

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Fails(Errno),
    Takes(Duration),
}

/// What becomes of which operations.
#[derive(Clone, Debug)]
pub struct Rule {
    ops: Vec<Op>,
    /// A part of the path; empty: of everything.
    path: String,
    /// Only where the bytes from `.0` to `.1` are touched.
    range: Option<(u64, u64)>,
    fate: Fate,
    /// So often, and then no more.
    times: Option<u64>,
}

impl Rule {
    pub fn new(ops: &[Op], path: &str, fate: Fate) -> Rule {
        Rule { ops: ops.to_vec(), path: path.to_owned(), range: None, fate, times: None }
    }

    /// `EIO`, as a disk gives it.
    pub fn fails(ops: &[Op], path: &str) -> Rule {
        Rule::new(ops, path, Fate::Fails(Errno::IO))
    }

    pub fn within(self, range: (u64, u64)) -> Rule {
        Rule { range: Some(range), ..self }
    }

    pub fn times(self, times: u64) -> Rule {
        Rule { times: Some(times), ..self }
    }

    fn is_for(&self, op: Op, path: &Path, range: Option<(u64, u64)>) -> bool {
        let touches = |(start, end): (u64, u64)| range.is_none_or(|(from, to)| from < end && start < to);
        self.times != Some(0)
            && self.ops.contains(&op)
            && path.to_string_lossy().contains(&self.path)
            && self.range.is_none_or(touches)
    }
}

/// The rules that count now, and how often each operation met one.
#[derive(Debug, Default)]
struct Rules {
    rules: Vec<Rule>,
    met: u64,
    /// How often they were set.
    sets: u64,
}

/// What the file system and the test share.
#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Rules>,
    pages: Mutex<Pages>,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, but not beyond the moment at which other rules are set.
    fn linger(&self, time: Duration, sets: u64) {
        let until = Instant::now() + time;
        while Instant::now() < until && self.rules().sets == sets {
            std::thread::sleep(Duration::from_millis(10).min(time));
        }
    }

    /// Waits and fails as the first rule says that is for it.
    fn pass(&self, op: Op, path: &Path, range: Option<(u64, u64)>) -> Result<(), Errno> {
        let (fate, sets) = {
            let mut rules = self.rules();
            let Some(rule) = rules.rules.iter_mut().find(|rule| rule.is_for(op, path, range)) else { return Ok(()) };
            rule.times = rule.times.map(|times| times - 1);
            let fate = rule.fate;
            rules.met += 1;
            (fate, rules.sets)
        };
        match fate {
            Fate::Fails(errno) => Err(errno),
            Fate::Takes(time) => {
                self.linger(time, sets);
                Ok(())
            }
        }
    }
}

/// A disk of its own that is mounted at a folder.
pub struct Disk {
    below: PathBuf,
    at: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts a disk at `folder/disk` whose bytes are in `folder/below`. `None`, and a word of why, where this machine lets nobody.
    pub fn mount(folder: &Path, test: &str) -> Option<Disk> {
        let (below, at) = (folder.join("below"), folder.join("disk"));
        fs::create_dir_all(&below).expect("a folder");
        fs::create_dir_all(&at).expect("a folder");
        let mut disk = Disk { below, at, shared: Arc::default(), session: None };
        match disk.connect() {
            Ok(()) => Some(disk),
            Err(error) => {
                eprintln!("{test} is skipped: this machine lets nobody mount a file system in user space ({error})");
                None
            }
        }
    }

    fn connect(&mut self) -> std::io::Result<()> {
        let mut config = Config::default();
        let name = MountOption::FSName("faulty".into());
        config.mount_options = vec![name, MountOption::NoAtime, MountOption::DefaultPermissions];
        // As many operations may wait for a slow disk at once.
        config.n_threads = Some(16);
        let passing = Passing::new(self.below.clone(), self.shared.clone());
        self.session = Some(fuser::spawn_mount(passing, &self.at, &config)?);
        Ok(())
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.at
    }

    /// Where its bytes are.
    pub fn below(&self) -> &Path {
        &self.below
    }

    /// From now on this alone.
    pub fn only(&self, rules: impl IntoIterator<Item = Rule>) {
        let mut held = self.shared.rules();
        held.rules = rules.into_iter().collect();
        held.met = 0;
        held.sets += 1;
    }

    /// It is sound again. What it lost stays lost.
    pub fn mend(&self) {
        self.only([]);
    }

    /// How many operations met a rule since the rules were set.
    pub fn met(&self) -> u64 {
        self.shared.rules().met
    }

    /// The disk is taken out: an empty folder is where it was mounted. Whoever has a file of it open has to be gone.
    pub fn take_out(&mut self) {
        let session = self.session.take().expect("it is mounted");
        session.umount_and_join().expect("nobody uses it");
    }

    /// And put back.
    pub fn put_back(&mut self) {
        assert!(self.session.is_none(), "it is mounted");
        self.connect().expect("it could be mounted before");
    }

    /// The power goes: what no sync brought to the disk is gone. No process may be using it.
    pub fn cut_power(&mut self) -> usize {
        self.take_out();
        let lost = self.shared.pages().lose(&self.below);
        self.put_back();
        lost
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.mend();
        if let Some(session) = self.session.take() {
            // Where somebody still uses it, it goes with the namespace of mounts that it is in.
            let _ = session.umount_and_join();
        }
    }
}
