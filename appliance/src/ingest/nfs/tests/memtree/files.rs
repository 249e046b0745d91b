//! Files and directories as a value: what [`MemTree`](super::MemTree) serves. No locks, no permissions but the bits.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use narrowboat_storage::dataset::*;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use narrowboat_storage::{Error, Result};

#[derive(Clone)]
pub(super) struct File {
    pub attributes: Attributes,
    pub content: Vec<u8>,
    /// Of a directory: cookie to name and inode.
    pub entries: BTreeMap<u64, (Bytes, Inode)>,
    pub parent: Inode,
    pub exclusive: Option<[u8; 8]>,
}

/// All of them.
#[derive(Clone)]
pub(super) struct Files {
    files: BTreeMap<Inode, File>,
    next: u64,
    /// What calls with these tags made or changed.
    pub remembered: HashMap<CallTag, Inode>,
}

pub(super) fn refused<T>(refusal: Refusal) -> Result<T> {
    Err(refusal.into())
}

pub(super) fn not_found(name: &[u8]) -> Error {
    Refusal::NotFound(String::from_utf8_lossy(name).into_owned()).into()
}

pub(super) fn allowed(file: &File, who: &Credentials, bit: u32) -> bool {
    let a = &file.attributes;
    let shift = if who.uid == a.uid {
        6
    } else if who.is_member(a.gid) {
        3
    } else {
        0
    };
    who.uid == 0 || a.mode >> shift & bit == bit
}

impl Files {
    /// A root directory and nothing else.
    pub fn new() -> Self {
        let root = blank(Inode::ROOT, FileType::Directory, 0o777, Inode::ROOT);
        Files { files: BTreeMap::from([(Inode::ROOT, root)]), next: 10, remembered: HashMap::new() }
    }
    pub fn get(&self, inode: Inode) -> Result<&File> {
        self.files.get(&inode).ok_or_else(|| Refusal::Stale.into())
    }
    pub fn get_mut(&mut self, inode: Inode) -> Result<&mut File> {
        self.files.get_mut(&inode).ok_or_else(|| Refusal::Stale.into())
    }
    pub fn dir(&self, dir: Inode, who: &Credentials, bit: u32) -> Result<&File> {
        let file = self.get(dir)?;
        if file.attributes.file_type != FileType::Directory {
            return refused(Refusal::NotDirectory);
        }
        if allowed(file, who, bit) { Ok(file) } else { refused(Refusal::Access) }
    }
    pub fn find(&self, dir: Inode, name: &[u8]) -> Option<(u64, Inode)> {
        let entries = &self.files.get(&dir)?.entries;
        entries.iter().find(|(_, (there, _))| there == name).map(|(cookie, (_, inode))| (*cookie, *inode))
    }
    /// Applies `act` to a directory and says how its attributes changed.
    pub fn change(&mut self, dir: Inode, now: Timestamp, lsn: Lsn, act: impl FnOnce(&mut File)) -> Result<Changed> {
        let file = self.get_mut(dir)?;
        let before = file.attributes.clone();
        act(file);
        (file.attributes.modified, file.attributes.changed) = (now, now);
        file.attributes.size = file.content.len() as u64 + 64 * file.entries.len() as u64;
        Ok(Changed { before, after: file.attributes.clone(), lsn })
    }
    pub fn unlink(&mut self, inode: Inode) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.attributes.links -= 1;
            if file.attributes.links == 0 || file.attributes.file_type == FileType::Directory {
                self.files.remove(&inode);
            }
        }
    }
    pub fn add_name(&mut self, dir: Inode, name: &[u8], inode: Inode, now: Timestamp, lsn: Lsn) -> Result<Changed> {
        self.next += 1;
        let cookie = self.next;
        self.change(dir, now, lsn, |file| {
            file.entries.insert(cookie, (Bytes::copy_from_slice(name), inode));
        })
    }
    /// A new file in a directory, where that has no such name.
    pub fn add(
        &mut self,
        call: &Call,
        dir: Inode,
        name: &[u8],
        lsn: Lsn,
        fill: impl FnOnce(&mut File),
    ) -> Result<Made> {
        self.next += 1;
        let inode = Inode(self.next);
        let mut file = blank(inode, FileType::Regular, 0o644, dir);
        (file.attributes.uid, file.attributes.gid) = (call.caller.uid, call.caller.gid);
        let a = &mut file.attributes;
        (a.accessed, a.modified, a.changed) = (call.now, call.now, call.now);
        fill(&mut file);
        let attributes = file.attributes.clone();
        self.files.insert(inode, file);
        let dir = self.add_name(dir, name, inode, call.now, lsn)?;
        Ok(Made { file: attributes, dir })
    }
}

fn blank(inode: Inode, file_type: FileType, mode: u32, parent: Inode) -> File {
    let time = Timestamp::new(1_600_000_000, 5);
    let attributes = Attributes {
        inode,
        file_type,
        mode,
        links: 1,
        uid: 0,
        gid: 0,
        size: 0,
        used: 0,
        device: (0, 0),
        accessed: time,
        modified: time,
        changed: time,
    };
    File { attributes, content: Vec::new(), entries: BTreeMap::new(), parent, exclusive: None }
}

pub(super) fn apply(file: &mut File, set: &SetAttributes, now: Timestamp) {
    let time = |time: SetTime| match time {
        SetTime::Now => now,
        SetTime::To(time) => time,
    };
    if let Some(size) = set.size {
        file.content.resize(size as usize, 0);
        (file.attributes.size, file.attributes.used, file.attributes.modified) = (size, size, now);
    }
    let a = &mut file.attributes;
    a.mode = set.mode.unwrap_or(a.mode);
    a.uid = set.uid.unwrap_or(a.uid);
    a.gid = set.gid.unwrap_or(a.gid);
    a.accessed = set.accessed.map_or(a.accessed, time);
    a.modified = set.modified.map_or(a.modified, time);
    a.changed = now;
}
