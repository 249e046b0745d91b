//! Looking at a path: what changed there since it was looked at before goes into a share. The path itself is only read.
//!
//! A file whose length and time of change are those of before is taken to be as it was, as `rsync` does. What changes its content and sets its time back is not
//! seen. A file that changes while it is read is taken as it was read, and read again next time.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use narrowboat_storage::Error;
use narrowboat_storage::dataset::{Attributes, Call, Create, Credentials, FileTree, FileType, SetAttributes, SetTime};
use narrowboat_storage::units::{Inode, Timestamp};

use crate::clock;

/// Read at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Entries of a folder that are listed at a time.
const LISTED: usize = 1000;
/// Folders within folders: what is deeper is not looked at, and told.
const DEPTH_MAX: usize = 256;
/// Files that could not be read of which the names are told.
const TOLD_MAX: usize = 20;

static OWNER: Credentials = Credentials::ROOT;

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Files.
    pub files: u64,
    /// What they hold, in bytes.
    pub logical: u64,
    /// Files that were read because they are new or changed.
    pub changed_files: u64,
    /// Their bytes.
    pub changed: u64,
    /// What could not be read.
    pub unread: u64,
    /// The first few of them, and why.
    pub told: Vec<String>,
    /// Sockets, pipes and devices, which hold nothing.
    pub special: u64,
}

/// Why a look ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The path is not there, or can't be looked at.
    #[error("{} can't be looked at: {}", .0.display(), .1)]
    Path(PathBuf, io::Error),
    /// The store that keeps what was seen failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// It was told to end.
    #[error("stopped")]
    Stopped,
    /// It may take no more room.
    #[error("{0}")]
    Room(String),
}

/// What a look asks again and again: whether to go on.
pub type Going<'a> = &'a mut dyn FnMut(&Found) -> Result<(), Broken>;

/// Looks at `path`, and makes the share be like it.
///
/// # Errors
/// [`Broken`]. What can't be read within the path is counted and left as it was before.
pub fn scan(path: &Path, share: &dyn FileTree, going: Going) -> Result<Found, Broken> {
    let whole = fs::canonicalize(path).and_then(|path| Ok((fs::metadata(&path)?, path)));
    let (metadata, path) = whole.map_err(|error| Broken::Path(path.to_owned(), error))?;
    let path = path.as_path();
    let mut scan = Scan { share, found: Found::default(), going };
    if metadata.is_dir() {
        scan.folder(path, Inode::ROOT, 0)?;
    } else {
        let name = path.file_name().map_or(&b"disk"[..], |name| name.as_bytes());
        let before = scan.listed(Inode::ROOT)?;
        scan.file(path, &metadata, Inode::ROOT, name, before.get(name))?;
    }
    Ok(scan.found)
}

struct Scan<'a> {
    share: &'a dyn FileTree,
    found: Found,
    going: Going<'a>,
}

impl Scan<'_> {
    fn call(&self) -> Call<'static> {
        Call { caller: &OWNER, now: clock::now(), tag: None }
    }

    /// What a folder of the share holds.
    fn listed(&self, dir: Inode) -> Result<HashMap<Vec<u8>, Attributes>, Broken> {
        let (mut all, mut cookie) = (HashMap::new(), 0);
        loop {
            let listing = self.share.read_dir(&OWNER, dir, cookie, LISTED)?;
            for entry in listing.entries {
                cookie = entry.cookie;
                if ![&b"."[..], b".."].contains(&&entry.name[..]) {
                    all.insert(entry.name.to_vec(), entry.attributes);
                }
            }
            if listing.end {
                return Ok(all);
            }
        }
    }

    fn folder(&mut self, path: &Path, dir: Inode, depth: usize) -> Result<(), Broken> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(Broken::Path(path.to_owned(), error)),
            Err(error) => return self.skip(path, &error.to_string()),
        };
        if depth >= DEPTH_MAX {
            return self.skip(path, "too many folders within folders");
        }
        let mut before = self.listed(dir)?;
        for entry in entries {
            (self.going)(&self.found)?;
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.skip(path, &error.to_string())?;
                    continue;
                }
            };
            let name = entry.file_name();
            let known = before.remove(name.as_bytes());
            let at = entry.path();
            match fs::symlink_metadata(&at) {
                Ok(metadata) => self.entry(&at, &metadata, dir, name.as_bytes(), known.as_ref(), depth)?,
                // It went while the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    known.map_or(Ok(()), |known| self.remove(dir, name.as_bytes(), &known))?;
                }
                Err(error) => self.skip(&at, &error.to_string())?,
            }
        }
        before.iter().try_for_each(|(name, gone)| self.remove(dir, name, gone))
    }

    fn entry(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        dir: Inode,
        name: &[u8],
        known: Option<&Attributes>,
        depth: usize,
    ) -> Result<(), Broken> {
        let is = metadata.file_type();
        // What is something else now than it was is new.
        let kind = match () {
            () if is.is_dir() => FileType::Directory,
            () if is.is_symlink() => FileType::Symlink,
            () if is.is_file() => FileType::Regular,
            () => {
                self.found.special += 1;
                return known.map_or(Ok(()), |known| self.remove(dir, name, known));
            }
        };
        let known = match known {
            Some(known) if known.file_type != kind => {
                self.remove(dir, name, known)?;
                None
            }
            known => known,
        };
        match kind {
            FileType::Directory => {
                let below = match known {
                    Some(known) => known.inode,
                    None => self.share.make_dir(&self.call(), dir, name, &SetAttributes::default())?.file.inode,
                };
                self.folder(path, below, depth + 1)
            }
            FileType::Symlink => self.symlink(path, dir, name, known),
            _ => self.file(path, metadata, dir, name, known),
        }
    }

    fn symlink(&mut self, path: &Path, dir: Inode, name: &[u8], known: Option<&Attributes>) -> Result<(), Broken> {
        let target = match fs::read_link(path) {
            Ok(target) => target,
            Err(error) => return self.skip(path, &error.to_string()),
        };
        let target = target.as_os_str().as_bytes();
        if let Some(known) = known {
            if self.share.read_link(&OWNER, known.inode)?[..] == *target {
                return Ok(());
            }
            self.share.remove(&self.call(), dir, name)?;
        }
        self.share.make_symlink(&self.call(), dir, name, target, &SetAttributes::default())?;
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        dir: Inode,
        name: &[u8],
        known: Option<&Attributes>,
    ) -> Result<(), Broken> {
        let modified = modified(metadata);
        let is_disk = metadata.file_type().is_block_device();
        if !is_disk && known.is_some_and(|known| known.size == metadata.len() && known.modified == modified) {
            self.found.files += 1;
            self.found.logical += metadata.len();
            return Ok(());
        }
        let mut file = match open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && known.is_none() => return Ok(()),
            Err(error) => return self.skip(path, &error.to_string()),
        };
        let inode = match known {
            Some(known) => known.inode,
            None => {
                let how = Create::Unchecked(SetAttributes::default());
                self.share.create(&self.call(), dir, name, &how)?.file.inode
            }
        };
        let len = match self.copy(&mut file, inode)? {
            Ok(len) => len,
            Err(error) => return self.skip(path, &error.to_string()),
        };
        let unchanged =
            fs::metadata(path).is_ok_and(|now| self::modified(&now) == modified && (is_disk || now.len() == len));
        // One that changed meanwhile keeps the time of this look, which no file has: it is read again.
        let set = SetAttributes {
            size: Some(len),
            modified: unchanged.then_some(SetTime::To(modified)),
            ..SetAttributes::default()
        };
        self.share.set_attributes(&self.call(), inode, &set, None)?;
        self.found.files += 1;
        self.found.logical += len;
        self.found.changed_files += 1;
        self.found.changed += len;
        Ok(())
    }

    /// Copies what a file holds; the inner error is the file's.
    fn copy(&mut self, file: &mut File, inode: Inode) -> Result<Result<u64, io::Error>, Broken> {
        let (mut offset, read_before) = (0u64, self.found.changed);
        let outcome = loop {
            (self.going)(&self.found)?;
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            match file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece) {
                Ok(0) => break Ok(offset),
                Ok(read) => {
                    self.share.write(&self.call(), inode, offset, Bytes::from(piece))?;
                    offset += read as u64;
                    self.found.changed += read as u64;
                }
                Err(error) => break Err(error),
            }
        };
        self.found.changed = read_before;
        // In order: no crash leaves a file with the time of a content that it does not have.
        self.share.commit(inode)?;
        Ok(outcome)
    }

    fn remove(&mut self, dir: Inode, name: &[u8], gone: &Attributes) -> Result<(), Broken> {
        if gone.file_type != FileType::Directory {
            self.share.remove(&self.call(), dir, name)?;
            return Ok(());
        }
        for (below, attributes) in self.listed(gone.inode)? {
            self.remove(gone.inode, &below, &attributes)?;
        }
        self.share.remove_dir(&self.call(), dir, name)?;
        Ok(())
    }

    fn skip(&mut self, path: &Path, why: &str) -> Result<(), Broken> {
        self.found.unread += 1;
        if self.found.told.len() < TOLD_MAX {
            self.found.told.push(format!("{}: {why}", path.display()));
        }
        Ok(())
    }
}

/// Opened for reading without a trace: no access time is changed where that is allowed, and nobody waits for a pipe.
fn open(path: &Path) -> io::Result<File> {
    let with =
        |flags: rustix::fs::OFlags| fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
    let plain = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    // Only the owner may leave the access time alone.
    with(plain | rustix::fs::OFlags::NOATIME).or_else(|_| with(plain))
}

fn modified(metadata: &Metadata) -> Timestamp {
    Timestamp(metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()))
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
