//! Files out of a tree, into a folder: contents (holes stay holes), hard links, symlinks, special files, modes, owners
//! and times. What can't be restored is named, and everything else is.
//!
//! Trees come from peers, too. What a hostile one could hold is refused and named: a name that would lead out of the
//! folder, a name that is there twice (the second would go through what the first made), a directory inside itself.
//! Until a file is finished its owner alone can read it.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use narrowboat_storage::dataset::{Attributes, Credentials, FileTree, FileType};
use narrowboat_storage::units::{Inode, Timestamp};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, mknodat, utimensat};
use serde::{Deserialize, Serialize};

use super::{Meter, Progress, safe_name};
use content::Task;

/// Entries listed at once.
const LIST_ENTRIES: usize = 1000;
/// Failures that are named; more are only counted.
const NAMED_FAILURES: usize = 100;
/// While one waits for the disk, another verifies and decompresses. Each holds a few MiB.
const WORKERS_PER_PROCESSOR: usize = 2;
/// Stretches of files that wait for a worker.
const QUEUE: usize = 256;

/// What was restored: files, or a volume as one image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// Files that are not directories, each inode once.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Further names of files.
    pub hard_links: u64,
    /// Sum of file lengths.
    pub logical_bytes: u64,
    /// Bytes written; the rest are holes.
    pub written_bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// What could not be restored, and why.
    pub failures: Vec<String>,
    /// How many more failures there were than are named.
    pub failures_unnamed: u64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store could not give the tree, or has no such path.
    #[error(transparent)]
    Store(#[from] narrowboat_storage::Error),
    /// The folder can't take it.
    #[error("{0}")]
    Destination(String),
    /// It was told to stop; what was restored until then is there.
    #[error("the restore was stopped before its end; the destination is incomplete")]
    Stopped,
}

struct Restore<'a> {
    tree: &'a dyn FileTree,
    owners: bool,
    written: AtomicU64,
    /// Bytes of files that are behind us, holes included.
    passed: AtomicU64,
    report: Mutex<RestoreReport>,
    stop: &'a AtomicBool,
}

/// Restores what `path` stands for in the tree (the whole tree where it is empty) to `dest`, which must not exist or be an
/// empty folder. Owners are restored where this process may. `tell` hears how far it is; it ends early once `stop` is set.
pub fn restore(
    tree: &Arc<dyn FileTree>,
    path: &str,
    dest: &Path,
    total_bytes: Option<u64>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, RestoreError> {
    let begun = std::time::Instant::now();
    let top = find(&**tree, path)?;
    let is_dir = top.file_type == FileType::Directory;
    prepare(dest, is_dir)?;
    let restore = Restore {
        tree: &**tree,
        owners: rustix::process::geteuid().is_root(),
        written: AtomicU64::new(0),
        passed: AtomicU64::new(0),
        report: Mutex::default(),
        stop,
    };
    let workers = WORKERS_PER_PROCESSOR * std::thread::available_parallelism().map_or(2, usize::from);
    let (sender, receiver) = sync_channel::<Task>(QUEUE);
    let receiver = Mutex::new(receiver);
    let mut meter = Meter::new("restoring", "bytes", total_bytes);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| restore.work(&receiver));
        }
        let mut walk = Walk {
            restore: &restore,
            sender,
            links: BTreeMap::new(),
            dirs: Vec::new(),
            unlisted: Vec::new(),
            met: BTreeSet::new(),
        };
        match is_dir {
            true => walk.directory_at(dest.to_owned(), &top),
            false => walk.entry(&top, dest.to_owned()),
        }
        while let Some(position) = walk.next_dir() {
            walk.directory(position);
            if let Some(progress) = meter.at(restore.passed.load(Ordering::Relaxed)) {
                tell(progress);
            }
        }
        let dirs = walk.end();
        while !restore.idle(&receiver, tell, &mut meter) {}
        dirs
    })
    .into_iter()
    .rev()
    .for_each(|(path, attributes)| restore.finish(&path, &attributes));
    let mut report = restore.report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.written_bytes = restore.written.load(Ordering::Relaxed);
    report.seconds = begun.elapsed().as_secs_f64();
    match stop.load(Ordering::Relaxed) {
        true => Err(RestoreError::Stopped),
        false => Ok(report),
    }
}

/// The file that a path stands for; symlinks on the way are not followed.
fn find(tree: &dyn FileTree, path: &str) -> Result<Attributes, narrowboat_storage::Error> {
    let mut found = tree.attributes(Inode::ROOT)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        found = tree.lookup(&Credentials::ROOT, found.inode, part.as_bytes())?;
    }
    Ok(found)
}

fn prepare(dest: &Path, is_dir: bool) -> Result<(), RestoreError> {
    let failed = |why: String| RestoreError::Destination(format!("can't restore to {}: {why}", dest.display()));
    match fs::symlink_metadata(dest) {
        Ok(metadata) if metadata.is_dir() && is_dir => match fs::read_dir(dest).map(|mut entries| entries.next()) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(failed("the folder is not empty".into())),
            Err(error) => Err(failed(error.to_string())),
        },
        Ok(_) => Err(failed("it exists already".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = dest.parent().map_or(Ok(()), fs::create_dir_all);
            let made = above.and_then(|()| if is_dir { private_dir(dest) } else { Ok(()) });
            made.map_err(|error| failed(error.to_string()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Walks the tree in this thread and hands contents to the workers.
struct Walk<'r, 'a> {
    restore: &'r Restore<'a>,
    sender: SyncSender<Task>,
    links: BTreeMap<Inode, PathBuf>,
    /// Directories met so far; their times are set last, for what is made in them moves these.
    dirs: Vec<(PathBuf, Attributes)>,
    /// Positions in `dirs` of those whose entries are still to be restored.
    unlisted: Vec<usize>,
    /// Directories met so far: a second name of one would be a loop.
    met: BTreeSet<Inode>,
}

impl Walk<'_, '_> {
    fn next_dir(&mut self) -> Option<usize> {
        if self.restore.stop.load(Ordering::Relaxed) {
            return None;
        }
        // The newest first, so that the walk goes deep and few wait.
        self.unlisted.pop()
    }

    fn directory(&mut self, position: usize) {
        let (path, attributes) = &self.dirs[position];
        let (path, inode) = (path.clone(), attributes.inode);
        let mut cookie = 2;
        loop {
            let listing = match self.restore.tree.read_dir(&Credentials::ROOT, inode, cookie, LIST_ENTRIES) {
                Ok(listing) => listing,
                Err(error) => return self.restore.fail(&path, error),
            };
            for entry in &listing.entries {
                cookie = entry.cookie;
                match safe_name(&entry.name) {
                    Some(name) => self.entry(&entry.attributes, path.join(name)),
                    None => self.restore.fail(&path, "an entry's name would lead out of its folder"),
                }
            }
            if listing.end || listing.entries.is_empty() {
                return;
            }
        }
    }

    fn entry(&mut self, attributes: &Attributes, path: PathBuf) {
        let inode = attributes.inode;
        if attributes.file_type == FileType::Directory {
            // What is there already came from this tree, and may be a symlink: never go on below it.
            return match private_dir(&path) {
                Ok(()) => self.directory_at(path, attributes),
                Err(error) => self.restore.fail(&path, error),
            };
        }
        if let Some(first) = self.links.get(&inode) {
            match fs::hard_link(first, &path) {
                Ok(()) => self.restore.count(|report| report.hard_links += 1),
                Err(error) => self.restore.fail(&path, error),
            }
            return;
        }
        if attributes.links > 1 {
            self.links.insert(inode, path.clone());
        }
        self.restore.count(|report| report.files += 1);
        if attributes.file_type != FileType::Regular {
            return self.restore.special(&path, attributes);
        }
        // Made here, so that hard links to it can be; filled by a worker.
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => content::stretches(path, attributes).for_each(|task| drop(self.sender.send(task))),
            Err(error) => self.restore.fail(&path, error),
        }
    }

    /// Notes a directory that was made; its entries follow.
    fn directory_at(&mut self, path: PathBuf, attributes: &Attributes) {
        if !self.met.insert(attributes.inode) {
            return self.restore.fail(&path, "the directory has a second name, which would make a loop");
        }
        self.restore.count(|report| report.directories += 1);
        self.unlisted.push(self.dirs.len());
        self.dirs.push((path, attributes.clone()));
    }

    fn end(self) -> Vec<(PathBuf, Attributes)> {
        self.dirs
    }
}

impl Restore<'_> {
    fn work(&self, receiver: &Mutex<Receiver<Task>>) {
        loop {
            let task = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            content::carry_out(self, &task);
        }
    }

    /// Waits a moment for the workers; true once nothing is queued.
    fn idle(&self, receiver: &Mutex<Receiver<Task>>, tell: &mut dyn FnMut(Progress), meter: &mut Meter) -> bool {
        if let Some(progress) = meter.at(self.passed.load(Ordering::Relaxed)) {
            tell(progress);
        }
        match receiver.try_lock() {
            Ok(queue) => match queue.try_recv() {
                Ok(task) => {
                    drop(queue);
                    content::carry_out(self, &task);
                    false
                }
                Err(_) => true,
            },
            Err(_) => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                false
            }
        }
    }

    fn special(&self, path: &Path, attributes: &Attributes) {
        let node = |file_type, (major, minor): (u32, u32)| {
            let device = rustix::fs::makedev(major, minor);
            mknodat(CWD, path, file_type, Mode::RUSR | Mode::WUSR, device).map_err(io::Error::from)
        };
        let outcome = match attributes.file_type {
            FileType::Symlink => match self.tree.read_link(&Credentials::ROOT, attributes.inode) {
                Ok(target) => std::os::unix::fs::symlink(OsStr::from_bytes(&target), path),
                Err(error) => return self.fail(path, error),
            },
            FileType::Fifo => node(rustix::fs::FileType::Fifo, (0, 0)),
            FileType::Socket => node(rustix::fs::FileType::Socket, (0, 0)),
            FileType::BlockDevice => node(rustix::fs::FileType::BlockDevice, attributes.device),
            FileType::CharDevice => node(rustix::fs::FileType::CharacterDevice, attributes.device),
            FileType::Regular | FileType::Directory => Ok(()),
        };
        match outcome {
            Ok(()) => self.finish(path, attributes),
            Err(error) => self.fail(path, error),
        }
    }

    /// Owner, mode and times, in this order: a change of owner takes set-id bits away.
    fn finish(&self, path: &Path, attributes: &Attributes) {
        let is_link = attributes.file_type == FileType::Symlink;
        let (uid, gid) = (Some(attributes.uid), Some(attributes.gid));
        let owner = match (self.owners, is_link) {
            (false, _) => Ok(()),
            (true, true) => lchown(path, uid, gid),
            (true, false) => chown(path, uid, gid),
        };
        let mode = || match is_link {
            true => Ok(()),
            false => fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(attributes.mode)),
        };
        let times =
            Timestamps { last_access: timespec(attributes.accessed), last_modification: timespec(attributes.modified) };
        let times = || utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from);
        if let Err(error) = owner.and_then(|()| mode()).and_then(|()| times()) {
            self.fail(path, error);
        }
    }

    fn count(&self, count: impl FnOnce(&mut RestoreReport)) {
        count(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn fail(&self, path: &Path, why: impl std::fmt::Display) {
        self.count(|report| match report.failures.len() < NAMED_FAILURES {
            true => report.failures.push(format!("{}: {why}", path.display())),
            false => report.failures_unnamed += 1,
        });
    }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds(), tv_nsec: time.subsec_nanos().into() }
}
