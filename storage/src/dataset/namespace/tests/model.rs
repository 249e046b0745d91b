//! A second, independent telling of POSIX: a handful of structs in memory and rules written down from the manual pages
//! and the order of Linux's checks, sharing no code with what it judges.

mod names;

use std::collections::{BTreeMap, HashMap};

use crate::dataset::{Credentials, FileType, SetAttributes, SetTime};
use crate::error::{Error, Refusal};

/// Error numbers, by their POSIX names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::upper_case_acronyms)]
pub enum Errno {
    ENOENT,
    EEXIST,
    ENOTDIR,
    EISDIR,
    ENOTEMPTY,
    EACCES,
    EPERM,
    ENAMETOOLONG,
    EFBIG,
    ESTALE,
    EINVAL,
    EBADCOOKIE,
    ENOTSYNC,
    /// Not for this type of file.
    ETYPE,
}
use Errno::*;

impl Errno {
    /// The number that stands for a refusal; anything else is no answer that a client may get here.
    pub fn of(error: &Error) -> Errno {
        match error {
            Error::Refused(refusal) => match refusal {
                Refusal::NotFound(_) => ENOENT,
                Refusal::Exists(_) => EEXIST,
                Refusal::NotDirectory => ENOTDIR,
                Refusal::IsDirectory => EISDIR,
                Refusal::NotEmpty => ENOTEMPTY,
                Refusal::Access => EACCES,
                Refusal::NotPermitted => EPERM,
                Refusal::NameTooLong => ENAMETOOLONG,
                Refusal::FileTooLarge => EFBIG,
                Refusal::Stale => ESTALE,
                Refusal::Invalid(_) => EINVAL,
                Refusal::BadCookie => EBADCOOKIE,
                Refusal::NotSync => ENOTSYNC,
                Refusal::WrongType => ETYPE,
                other => panic!("unexpected refusal: {other}"),
            },
            other => panic!("unexpected error: {other}"),
        }
    }
}

pub type Answer<T> = Result<T, Errno>;

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub kind: FileType,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// At least how many bytes are not holes.
    pub used: u64,
    pub rdev: (u32, u32),
    pub atime: i64,
    pub mtime: i64,
    pub ctime: i64,
    pub verifier: Option<[u8; 8]>,
    pub target: Vec<u8>,
    pub parent: u64,
    pub cookies_given: u64,
    /// Cookie to name and file.
    pub children: BTreeMap<u64, (Vec<u8>, u64)>,
}

/// A whole file system.
#[derive(Clone, Debug)]
pub struct Model {
    pub files: HashMap<u64, File>,
    pub last: u64,
}

type Who<'a> = &'a Credentials;
/// Cookie, name and file.
type Listed = (u64, Vec<u8>, u64);

impl Model {
    pub fn new(now: i64) -> Self {
        let mut root = blank(FileType::Directory, now);
        (root.mode, root.parent) = (0o1777, 1);
        Model { files: HashMap::from([(1, root)]), last: 1 }
    }

    pub fn get(&self, ino: u64) -> Answer<&File> {
        self.files.get(&ino).ok_or(ESTALE)
    }
    fn file(&mut self, ino: u64) -> &mut File {
        self.files.get_mut(&ino).expect("the model is consistent")
    }
    fn child(&self, dir: u64, name: &[u8]) -> Option<(u64, u64)> {
        self.files[&dir].children.iter().find(|(_, (own, _))| own == name).map(|(cookie, (_, ino))| (*cookie, *ino))
    }
    /// path_resolution(7): the directory of the last component, which must be searchable.
    fn walk(&self, who: Who<'_>, dir: u64) -> Answer<()> {
        let file = self.get(dir)?;
        if file.kind != FileType::Directory {
            return Err(ENOTDIR);
        }
        file.may(who, 1)
    }

    pub fn lookup(&self, who: Who<'_>, dir: u64, name: &[u8]) -> Answer<u64> {
        self.walk(who, dir)?;
        if name == b"." {
            return Ok(dir);
        }
        if name == b".." {
            return Ok(self.files[&dir].parent);
        }
        component(name)?;
        self.child(dir, name).map(|(_, ino)| ino).ok_or(ENOENT)
    }

    pub fn access(&self, who: Who<'_>, ino: u64, wanted: u32) -> Answer<u32> {
        let file = self.get(ino)?;
        let mut granted = 0;
        for bit in (0..6).map(|shift| 1 << shift) {
            let needs = match (file.kind == FileType::Directory, bit) {
                (_, 0x01) => 4,
                (true, 0x02) => 1,
                (true, 0x04 | 0x08 | 0x10) => 3,
                (false, 0x04 | 0x08) => 2,
                (false, 0x20) => 1,
                _ => continue,
            };
            if file.may(who, needs).is_ok() {
                granted |= bit;
            }
        }
        Ok(granted & wanted)
    }

    pub fn set(&mut self, who: Who<'_>, now: i64, ino: u64, set: &SetAttributes, guard: Option<i64>) -> Answer<()> {
        let file = self.get(ino)?;
        if guard.is_some_and(|guard| guard != file.ctime) {
            return Err(ENOTSYNC);
        }
        let root = who.uid == 0;
        let own = who.uid == file.uid;
        if set.size.is_some() && file.kind != FileType::Regular {
            return Err(if file.kind == FileType::Directory { EISDIR } else { ETYPE });
        }
        let explicit = [set.accessed, set.modified].iter().any(|time| matches!(time, Some(SetTime::To(_))));
        let touch = !explicit && (set.accessed.is_some() || set.modified.is_some());
        if (set.size.is_some() || touch) && !own {
            file.may(who, 2)?;
        }
        if set.size > Some(1 << 44) {
            return Err(EFBIG);
        }
        if let (Some(uid), false) = (set.uid, root)
            && (!own || uid != file.uid)
        {
            return Err(EPERM);
        }
        if let (Some(gid), false) = (set.gid, root)
            && !(own && (gid == file.gid || gid == who.gid || who.groups.contains(&gid)))
        {
            return Err(EPERM);
        }
        if (set.mode.is_some() || explicit) && !own && !root {
            return Err(EPERM);
        }
        if *set == SetAttributes::default() {
            return Ok(());
        }
        let chown = set.uid.is_some() || set.gid.is_some();
        let file = self.file(ino);
        let is_dir = file.kind == FileType::Directory;
        // truncate(2), chown(2): the set-id bits go; chmod(2) comes last.
        if (set.size.is_some() && !root) || (chown && !is_dir) {
            file.kill_set_ids(who);
        }
        if let Some(size) = set.size {
            file.size = size;
            file.used = file.used.min(size);
            file.mtime = now;
        }
        file.uid = set.uid.unwrap_or(file.uid);
        file.gid = set.gid.unwrap_or(file.gid);
        if let Some(mode) = set.mode {
            file.mode = mode & 0o7777;
            if !root && !who.is_member(file.gid) {
                file.mode &= !0o2000;
            }
            if chown && !root && !is_dir {
                file.kill_set_ids(who);
            }
        }
        match set.accessed {
            Some(SetTime::Now) => file.atime = now,
            Some(SetTime::To(time)) => file.atime = time.0,
            None => {}
        }
        match set.modified {
            Some(SetTime::Now) => file.mtime = now,
            Some(SetTime::To(time)) => file.mtime = time.0,
            None => {}
        }
        file.ctime = now;
        file.verifier = None;
        Ok(())
    }

    pub fn may_read(&self, who: Who<'_>, ino: u64) -> Answer<()> {
        let file = self.get(ino)?.regular()?;
        if who.uid == file.uid { Ok(()) } else { file.may(who, 4).or_else(|_| file.may(who, 1)) }
    }

    /// Every other byte that is overwritten was in a hole.
    pub fn write(&mut self, who: Who<'_>, now: i64, ino: u64, offset: u64, len: u64) -> Answer<()> {
        let Some(end) = offset.checked_add(len) else { return Err(EFBIG) };
        let file = self.get(ino)?.regular()?;
        if who.uid != file.uid {
            file.may(who, 2)?;
        }
        if end > 1 << 44 {
            return Err(EFBIG);
        }
        let file = self.file(ino);
        if len > 0 {
            let behind_end = end.saturating_sub(file.size).min(len);
            let in_holes = if file.used == file.size { 0 } else { (len - behind_end) / 2 };
            file.size = file.size.max(end);
            file.used = (file.used + behind_end + in_holes).min(file.size);
            (file.mtime, file.ctime, file.verifier) = (now, now, None);
            if who.uid != 0 {
                file.kill_set_ids(who);
            }
        }
        Ok(())
    }

    /// Cookie, name and file of what follows `cookie`, and whether that is all.
    pub fn list(&self, who: Who<'_>, dir: u64, cookie: u64, max: usize) -> Answer<(Vec<Listed>, bool)> {
        let file = self.get(dir)?;
        if file.kind != FileType::Directory {
            return Err(ENOTDIR);
        }
        file.may(who, 4)?;
        if cookie >= 3 + file.cookies_given {
            return Err(EBADCOOKIE);
        }
        let mut all = vec![(1, b".".to_vec(), dir), (2, b"..".to_vec(), file.parent)];
        all.extend(file.children.iter().map(|(cookie, (name, ino))| (*cookie, name.clone(), *ino)));
        all.retain(|(own, ..)| *own > cookie);
        let end = all.len() <= max;
        all.truncate(max);
        Ok((all, end))
    }
}

impl File {
    fn regular(&self) -> Answer<&File> {
        match self.kind {
            FileType::Regular => Ok(self),
            FileType::Directory => Err(EISDIR),
            _ => Err(ETYPE),
        }
    }

    /// access(2) with effective ids; `rwx` as in a mode digit.
    fn may(&self, who: Who<'_>, rwx: u32) -> Answer<()> {
        let digit = if who.uid == 0 {
            let anyone = self.kind == FileType::Directory || self.mode & 0o111 != 0;
            if anyone { 7 } else { 6 }
        } else if who.uid == self.uid {
            (self.mode / 64) % 8
        } else if who.gid == self.gid || who.groups.contains(&self.gid) {
            (self.mode / 8) % 8
        } else {
            self.mode % 8
        };
        if digit & rwx == rwx { Ok(()) } else { Err(EACCES) }
    }

    fn kill_set_ids(&mut self, who: Who<'_>) {
        self.mode &= !0o4000;
        let locks_only = self.mode & 0o010 == 0;
        if !(locks_only && (who.uid == 0 || who.gid == self.gid || who.groups.contains(&self.gid))) {
            self.mode &= !0o2000;
        }
    }
}

fn component(name: &[u8]) -> Answer<()> {
    if name.len() > 255 {
        Err(ENAMETOOLONG)
    } else if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
        Err(EINVAL)
    } else {
        Ok(())
    }
}

fn blank(kind: FileType, now: i64) -> File {
    File {
        kind,
        mode: 0,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid: 0,
        gid: 0,
        size: 0,
        used: 0,
        rdev: (0, 0),
        atime: now,
        mtime: now,
        ctime: now,
        verifier: None,
        target: Vec::new(),
        parent: 0,
        cookies_given: 0,
        children: BTreeMap::new(),
    }
}
