//! The file system itself: what the kernel asks for is asked of the folder below, after the rules had their say.

#![allow(clippy::redundant_closure_call, reason = "`answer!` needs a closure for `?`, and is also given calls")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};

use super::{Op, Shared};

/// Nothing that was looked up counts for longer than the call.
const NO_TIME: Duration = Duration::ZERO;

/// Which number means which path. A number is given once.
#[derive(Debug)]
struct Names {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    next: u64,
}

impl Names {
    fn number(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.next += 1;
        self.numbers.insert(path.to_owned(), self.next);
        self.paths.insert(self.next, path.to_owned());
        self.next
    }

    fn removed(&mut self, path: &Path) {
        self.numbers.remove(path);
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        self.numbers.remove(to);
        if let Some(number) = self.numbers.remove(from) {
            self.numbers.insert(to.to_owned(), number);
            self.paths.insert(number, to.to_owned());
        }
    }
}

/// Passes everything on.
pub(super) struct Passing {
    below: PathBuf,
    shared: Arc<Shared>,
    names: Mutex<Names>,
    files: Mutex<HashMap<u64, Arc<File>>>,
    handles: AtomicU64,
}

type Outcome<T> = Result<T, Errno>;

fn as_errno(error: io::Error) -> Errno {
    Errno::from(error)
}

fn of_rule(errno: rustix::io::Errno) -> Errno {
    as_errno(errno.into())
}

impl Passing {
    pub(super) fn new(below: PathBuf, shared: Arc<Shared>) -> Passing {
        let root = (INodeNo::ROOT.0, PathBuf::new());
        let names = Names {
            paths: HashMap::from([root.clone()]),
            numbers: HashMap::from([(root.1, root.0)]),
            next: INodeNo::ROOT.0,
        };
        Passing { below, shared, names: Mutex::new(names), files: Mutex::default(), handles: AtomicU64::new(1) }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: INodeNo) -> Outcome<PathBuf> {
        self.names().paths.get(&number.0).cloned().ok_or(Errno::ESTALE)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Outcome<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn pass(&self, op: Op, path: &Path, range: Option<(u64, u64)>) -> Outcome<()> {
        self.shared.pass(op, path, range).map_err(of_rule)
    }

    fn attributes(&self, path: &Path) -> Outcome<FileAttr> {
        let facts = fs::symlink_metadata(self.below.join(path)).map_err(as_errno)?;
        Ok(attributes(self.names().number(path), &facts))
    }

    fn keep(&self, file: File) -> FileHandle {
        let handle = self.handles.fetch_add(1, Ordering::Relaxed);
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    fn file(&self, handle: FileHandle) -> Outcome<Arc<File>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn look(&self, path: &Path, file: Option<FileHandle>, number: INodeNo) -> Outcome<FileAttr> {
        self.pass(Op::Look, path, None)?;
        match file {
            Some(handle) => {
                let facts = self.file(handle)?.metadata().map_err(as_errno)?;
                Ok(attributes(number.0, &facts))
            }
            None => self.attributes(path),
        }
    }

    fn cut(&self, path: &Path, file: Option<FileHandle>, len: u64) -> Outcome<()> {
        self.pass(Op::Change, path, None)?;
        let file = match file {
            Some(handle) => self.file(handle)?,
            None => Arc::new(File::options().write(true).open(self.below.join(path)).map_err(as_errno)?),
        };
        file.set_len(len).map_err(as_errno)
    }

    fn read_at(&self, path: &Path, handle: FileHandle, offset: u64, size: u32) -> Outcome<Vec<u8>> {
        self.pass(Op::Read, path, Some((offset, offset + u64::from(size))))?;
        let file = self.file(handle)?;
        let mut bytes = vec![0; size as usize];
        let mut done = 0;
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], offset + done as u64).map_err(as_errno)? {
                0 => break,
                got => done += got,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn write_at(&self, path: &Path, handle: FileHandle, offset: u64, data: &[u8]) -> Outcome<u32> {
        self.pass(Op::Write, path, Some((offset, offset + data.len() as u64)))?;
        let file = self.file(handle)?;
        // Together, so that no sync comes in between.
        let mut pages = self.shared.pages();
        pages.will_write(path, &file, offset, data.len() as u64);
        file.write_all_at(data, offset).map_err(as_errno)?;
        Ok(data.len() as u32)
    }

    fn sync(&self, path: &Path) -> Outcome<()> {
        let outcome = self.pass(Op::Sync, path, None);
        let mut pages = self.shared.pages();
        match outcome {
            Ok(()) => pages.synced(path),
            Err(_) => pages.sync_failed(path),
        }
        outcome
    }

    fn open_file(&self, path: &Path, options: &mut fs::OpenOptions) -> Outcome<FileHandle> {
        let file = options.open(self.below.join(path)).map_err(as_errno)?;
        Ok(self.keep(file))
    }

    fn list(&self, path: &Path) -> Outcome<Vec<(u64, FileType, std::ffi::OsString)>> {
        self.pass(Op::Look, path, None)?;
        let mut rows = Vec::new();
        for entry in fs::read_dir(self.below.join(path)).map_err(as_errno)? {
            let entry = entry.map_err(as_errno)?;
            let kind = entry.file_type().map_err(as_errno)?;
            let number = self.names().number(&path.join(entry.file_name()));
            rows.push((number, kind_of(kind), entry.file_name()));
        }
        Ok(rows)
    }

    fn remove(&self, path: &Path, remove: impl Fn(PathBuf) -> io::Result<()>) -> Outcome<()> {
        self.pass(Op::Change, path, None)?;
        remove(self.below.join(path)).map_err(as_errno)?;
        self.names().removed(path);
        self.shared.pages().removed(path);
        Ok(())
    }

    fn rename_path(&self, from: &Path, to: &Path) -> Outcome<()> {
        self.pass(Op::Change, to, None)?;
        fs::rename(self.below.join(from), self.below.join(to)).map_err(as_errno)?;
        self.names().renamed(from, to);
        self.shared.pages().renamed(from, to);
        Ok(())
    }

    fn make(&self, path: &Path, make: impl Fn(PathBuf) -> io::Result<()>) -> Outcome<FileAttr> {
        self.pass(Op::Change, path, None)?;
        make(self.below.join(path)).map_err(as_errno)?;
        self.attributes(path)
    }
}

fn kind_of(kind: fs::FileType) -> FileType {
    match kind {
        kind if kind.is_dir() => FileType::Directory,
        kind if kind.is_symlink() => FileType::Symlink,
        kind if kind.is_socket() => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn attributes(number: u64, facts: &Metadata) -> FileAttr {
    let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    FileAttr {
        ino: INodeNo(number),
        size: facts.len(),
        blocks: facts.blocks(),
        atime: time(facts.atime()),
        mtime: time(facts.mtime()),
        ctime: time(facts.ctime()),
        crtime: UNIX_EPOCH,
        kind: kind_of(facts.file_type()),
        perm: (facts.mode() & 0o7777) as u16,
        nlink: facts.nlink() as u32,
        uid: facts.uid(),
        gid: facts.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// Answers with what came of it.
macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:pat => $good:expr) => {
        match (|| $outcome)() {
            Ok($value) => $good,
            Err(errno) => $reply.error(errno),
        }
    };
}

impl Filesystem for Passing {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = || {
            let path = self.child(parent, name)?;
            self.pass(Op::Look, &path, None)?;
            self.attributes(&path)
        };
        answer!(reply, found(), facts => reply.entry(&NO_TIME, &facts, Generation(0)));
    }

    fn getattr(&self, _: &Request, number: INodeNo, file: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.look(&self.path(number)?, file, number), facts => reply.attr(&NO_TIME, &facts));
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        file: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = || {
            let path = self.path(number)?;
            if let Some(len) = size {
                self.cut(&path, file, len)?;
            }
            if let Some(mode) = mode {
                self.pass(Op::Change, &path, None)?;
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777);
                fs::set_permissions(self.below.join(&path), mode).map_err(as_errno)?;
            }
            self.look(&path, file, number)
        };
        answer!(reply, changed(), facts => reply.attr(&NO_TIME, &facts));
    }

    fn mknod(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: u32, reply: ReplyEntry) {
        let kind = rustix::fs::FileType::from_raw_mode(mode);
        let make = |path: PathBuf| {
            rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(mode & 0o7777), 0).map_err(io::Error::from)
        };
        answer!(reply, self.make(&self.child(parent, name)?, make), facts => reply.entry(&NO_TIME, &facts, Generation(0)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let make =
            |path: PathBuf| rustix::fs::mkdir(&path, Mode::from_raw_mode(mode & 0o7777)).map_err(io::Error::from);
        answer!(reply, self.make(&self.child(parent, name)?, make), facts => reply.entry(&NO_TIME, &facts, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(&self.child(parent, name)?, fs::remove_file), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(&self.child(parent, name)?, fs::remove_dir), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = || self.rename_path(&self.child(parent, name)?, &self.child(new_parent, new_name)?);
        answer!(reply, renamed(), () => reply.ok());
    }

    /// The new name is a file of its own in all but its bytes, which is enough for who then removes the old one.
    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = || {
            let from = self.below.join(self.path(number)?);
            self.make(&self.child(parent, name)?, |path| fs::hard_link(&from, path))
        };
        answer!(reply, linked(), facts => reply.entry(&NO_TIME, &facts, Generation(0)));
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = || {
            let path = self.path(number)?;
            self.pass(Op::Open, &path, None)?;
            let flags = OFlags::from_bits_retain(flags.0 as u32);
            let truncates = flags.contains(OFlags::TRUNC);
            self.open_file(&path, File::options().read(true).write(true).truncate(truncates))
        };
        // Nothing is cached: every read comes here.
        answer!(reply, opened(), handle => reply.opened(handle, FopenFlags::FOPEN_DIRECT_IO));
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, flags: i32, reply: ReplyCreate) {
        let created = || {
            let path = self.child(parent, name)?;
            self.pass(Op::Change, &path, None)?;
            let new = OFlags::from_bits_retain(flags as u32).contains(OFlags::EXCL);
            let mut options = File::options();
            options.read(true).write(true).create(true).create_new(new).mode(mode & 0o7777);
            let handle = self.open_file(&path, &mut options)?;
            Ok((handle, self.attributes(&path)?))
        };
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, created(), (handle, facts) => reply.created(&NO_TIME, &facts, Generation(0), handle, direct));
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, self.read_at(&self.path(number)?, handle, offset, size), bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(reply, self.write_at(&self.path(number)?, handle, offset, data), written => reply.written(written));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.sync(&self.path(number)?), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.pass(Op::Sync, &self.path(number)?, None), () => reply.ok());
    }

    fn readdir(&self, _: &Request, number: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let rows = match self.path(number).and_then(|path| self.list(&path)) {
            Ok(rows) => rows,
            Err(errno) => return reply.error(errno),
        };
        for (place, (number, kind, name)) in (1..).zip(rows).skip(offset as usize) {
            if reply.add(INodeNo(number), place, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let facts = || {
            self.pass(Op::Look, Path::new(""), None)?;
            rustix::fs::statvfs(&self.below).map_err(of_rule)
        };
        answer!(reply, facts(), facts => reply.statfs(
            facts.f_blocks, facts.f_bfree, facts.f_bavail, facts.f_files, facts.f_ffree,
            facts.f_bsize as u32, facts.f_namemax as u32, facts.f_frsize as u32,
        ));
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let taken = || {
            self.pass(Op::Reserve, &self.path(number)?, None)?;
            let flags = FallocateFlags::from_bits_retain(mode as u32);
            rustix::fs::fallocate(&*self.file(handle)?, flags, offset, length).map_err(of_rule)
        };
        answer!(reply, taken(), () => reply.ok());
    }
}
