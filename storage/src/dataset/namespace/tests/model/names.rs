//! The model's operations on names: making, linking, removing, renaming.

use super::Errno::*;
use super::{Answer, File, Model, Who, blank, component};
use crate::dataset::{Create, FileType, Node, SetAttributes, SetTime};

impl Model {
    /// Checks that a new entry may be made.
    fn may_create(&self, who: Who<'_>, dir: u64, name: &[u8]) -> Answer<()> {
        self.walk(who, dir)?;
        if name == b"." || name == b".." {
            return Err(EEXIST);
        }
        component(name)?;
        if self.child(dir, name).is_some() {
            return Err(EEXIST);
        }
        self.files[&dir].may(who, 3)
    }

    fn enter(&mut self, dir: u64, name: &[u8], ino: u64, now: i64) {
        let dir = self.file(dir);
        dir.children.insert(3 + dir.cookies_given, (name.to_vec(), ino));
        dir.cookies_given += 1;
        dir.size += 1;
        (dir.mtime, dir.ctime) = (now, now);
    }

    fn place(&mut self, who: Who<'_>, now: i64, dir: u64, name: &[u8], mut file: File, set: &SetAttributes) -> u64 {
        let parent = &self.files[&dir];
        file.uid = who.uid;
        file.gid = who.gid;
        if parent.mode & 0o2000 != 0 {
            file.gid = parent.gid;
            if file.kind == FileType::Directory {
                file.mode |= 0o2000;
            } else if file.mode & 0o2010 == 0o2010 && who.uid != 0 && !who.is_member(parent.gid) {
                file.mode &= !0o2000;
            }
        }
        if who.uid == 0 {
            file.uid = set.uid.unwrap_or(file.uid);
            file.gid = set.gid.unwrap_or(file.gid);
        }
        if let Some(SetTime::To(time)) = set.accessed {
            file.atime = time.0;
        }
        if let Some(SetTime::To(time)) = set.modified {
            file.mtime = time.0;
        }
        self.last += 1;
        let ino = self.last;
        if file.kind == FileType::Directory {
            (file.nlink, file.parent) = (2, dir);
            self.file(dir).nlink += 1;
        }
        self.files.insert(ino, file);
        self.enter(dir, name, ino, now);
        ino
    }

    pub fn create(&mut self, who: Who<'_>, now: i64, dir: u64, name: &[u8], how: &Create) -> Answer<u64> {
        match self.may_create(who, dir, name) {
            Err(EEXIST) if name != b"." && name != b".." => {
                let (_, ino) = self.child(dir, name).expect("it exists");
                let file = &self.files[&ino];
                let fits = file.kind == FileType::Regular
                    && match how {
                        Create::Unchecked(_) => true,
                        Create::Guarded(_) => false,
                        Create::Exclusive(verifier) => file.verifier == Some(*verifier),
                    };
                if let (true, Create::Unchecked(SetAttributes { size: Some(0), .. })) = (fits, how) {
                    let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
                    self.set(who, now, ino, &cut, None)?;
                }
                return if fits { Ok(ino) } else { Err(EEXIST) };
            }
            other => other?,
        }
        let mut file = blank(FileType::Regular, now);
        let set = match how {
            Create::Unchecked(set) | Create::Guarded(set) => set.clone(),
            Create::Exclusive(verifier) => {
                file.verifier = Some(*verifier);
                SetAttributes::default()
            }
        };
        file.mode = set.mode.map_or(0o600, |mode| mode & 0o7777);
        file.size = set.size.unwrap_or(0);
        if file.size > 1 << 44 {
            return Err(EFBIG);
        }
        Ok(self.place(who, now, dir, name, file, &set))
    }

    pub fn mkdir(&mut self, who: Who<'_>, now: i64, dir: u64, name: &[u8], set: &SetAttributes) -> Answer<u64> {
        self.may_create(who, dir, name)?;
        let mut file = blank(FileType::Directory, now);
        file.mode = set.mode.map_or(0o700, |mode| mode & 0o1777);
        Ok(self.place(who, now, dir, name, file, set))
    }

    pub fn symlink(
        &mut self,
        who: Who<'_>,
        now: i64,
        (dir, name): (u64, &[u8]),
        target: &[u8],
        set: &SetAttributes,
    ) -> Answer<u64> {
        if target.is_empty() || target.contains(&0) {
            return Err(EINVAL);
        }
        if target.len() > 4096 {
            return Err(ENAMETOOLONG);
        }
        self.may_create(who, dir, name)?;
        let mut file = blank(FileType::Symlink, now);
        (file.mode, file.size, file.target) = (0o777, target.len() as u64, target.to_vec());
        Ok(self.place(who, now, dir, name, file, set))
    }

    pub fn mknod(
        &mut self,
        who: Who<'_>,
        now: i64,
        (dir, name): (u64, &[u8]),
        node: Node,
        set: &SetAttributes,
    ) -> Answer<u64> {
        self.may_create(who, dir, name)?;
        let (kind, rdev) = match node {
            Node::BlockDevice(major, minor) => (FileType::BlockDevice, (major, minor)),
            Node::CharDevice(major, minor) => (FileType::CharDevice, (major, minor)),
            Node::Socket => (FileType::Socket, (0, 0)),
            Node::Fifo => (FileType::Fifo, (0, 0)),
        };
        if matches!(kind, FileType::BlockDevice | FileType::CharDevice) && who.uid != 0 {
            return Err(EPERM);
        }
        let mut file = blank(kind, now);
        (file.mode, file.rdev) = (set.mode.map_or(0o600, |mode| mode & 0o7777), rdev);
        Ok(self.place(who, now, dir, name, file, set))
    }

    pub fn link(&mut self, who: Who<'_>, now: i64, ino: u64, dir: u64, name: &[u8]) -> Answer<()> {
        self.get(ino)?;
        self.may_create(who, dir, name)?;
        if self.files[&ino].kind == FileType::Directory {
            return Err(EPERM);
        }
        self.enter(dir, name, ino, now);
        let file = self.file(ino);
        file.nlink += 1;
        file.ctime = now;
        Ok(())
    }

    /// Whether `who` may take `ino` out of `dir`.
    fn may_delete(&self, who: Who<'_>, dir: u64, ino: u64) -> Answer<()> {
        let dir = &self.files[&dir];
        dir.may(who, 3)?;
        let sticky = dir.mode & 0o1000 != 0;
        if sticky && who.uid != 0 && who.uid != self.files[&ino].uid && who.uid != dir.uid {
            return Err(EPERM);
        }
        Ok(())
    }

    fn leave(&mut self, dir: u64, cookie: u64, now: i64) {
        let dir = self.file(dir);
        dir.children.remove(&cookie).expect("it was there");
        dir.size -= 1;
        (dir.mtime, dir.ctime) = (now, now);
    }

    /// One name less; a file without names is gone.
    fn unname(&mut self, ino: u64, now: i64) {
        let file = self.file(ino);
        if file.kind == FileType::Directory {
            let parent = file.parent;
            self.files.remove(&ino);
            self.file(parent).nlink -= 1;
            return;
        }
        file.nlink -= 1;
        file.ctime = now;
        if file.nlink == 0 {
            self.files.remove(&ino);
        }
    }

    pub fn unlink(&mut self, who: Who<'_>, now: i64, dir: u64, name: &[u8]) -> Answer<()> {
        self.walk(who, dir)?;
        if name == b"." || name == b".." {
            return Err(EISDIR);
        }
        component(name)?;
        let (cookie, ino) = self.child(dir, name).ok_or(ENOENT)?;
        self.may_delete(who, dir, ino)?;
        if self.files[&ino].kind == FileType::Directory {
            return Err(EISDIR);
        }
        self.leave(dir, cookie, now);
        self.unname(ino, now);
        Ok(())
    }

    pub fn rmdir(&mut self, who: Who<'_>, now: i64, dir: u64, name: &[u8]) -> Answer<()> {
        self.walk(who, dir)?;
        match name {
            b"." => return Err(EINVAL),
            b".." => return Err(ENOTEMPTY),
            _ => component(name)?,
        }
        let (cookie, ino) = self.child(dir, name).ok_or(ENOENT)?;
        self.may_delete(who, dir, ino)?;
        if self.files[&ino].kind != FileType::Directory {
            return Err(ENOTDIR);
        }
        if !self.files[&ino].children.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.leave(dir, cookie, now);
        self.unname(ino, now);
        Ok(())
    }

    /// True where `ino` is `top` or below it.
    fn below(&self, ino: u64, top: u64) -> bool {
        ino == top || (ino != 1 && self.below(self.files[&ino].parent, top))
    }

    pub fn rename(
        &mut self,
        who: Who<'_>,
        now: i64,
        (old_dir, old_name): (u64, &[u8]),
        (new_dir, new_name): (u64, &[u8]),
    ) -> Answer<()> {
        self.walk(who, old_dir)?;
        self.walk(who, new_dir)?;
        for name in [old_name, new_name] {
            if name == b"." || name == b".." {
                return Err(EINVAL);
            }
            component(name)?;
        }
        let (old_cookie, ino) = self.child(old_dir, old_name).ok_or(ENOENT)?;
        let victim = self.child(new_dir, new_name);
        let is_dir = |ino: u64| self.files[&ino].kind == FileType::Directory;
        if is_dir(ino) && self.below(new_dir, ino) {
            return Err(EINVAL);
        }
        if let Some((_, victim)) = victim
            && new_dir != old_dir
            && is_dir(victim)
            && self.below(old_dir, victim)
        {
            return Err(ENOTEMPTY);
        }
        if victim.is_some_and(|(_, victim)| victim == ino) {
            return Ok(());
        }
        self.may_delete(who, old_dir, ino)?;
        match victim {
            None => self.files[&new_dir].may(who, 3)?,
            Some((_, victim)) => {
                self.may_delete(who, new_dir, victim)?;
                if is_dir(ino) && !is_dir(victim) {
                    return Err(ENOTDIR);
                }
                if !is_dir(ino) && is_dir(victim) {
                    return Err(EISDIR);
                }
            }
        }
        if is_dir(ino) && old_dir != new_dir {
            self.files[&ino].may(who, 2)?;
        }
        if victim.is_some_and(|(_, victim)| !self.files[&victim].children.is_empty()) {
            return Err(ENOTEMPTY);
        }
        self.leave(old_dir, old_cookie, now);
        match victim {
            Some((cookie, victim)) => {
                self.unname(victim, now);
                let dir = self.file(new_dir);
                dir.children.insert(cookie, (new_name.to_vec(), ino));
                (dir.mtime, dir.ctime) = (now, now);
            }
            None => self.enter(new_dir, new_name, ino, now),
        }
        self.file(ino).ctime = now;
        if self.files[&ino].kind == FileType::Directory && old_dir != new_dir {
            self.file(ino).parent = new_dir;
            self.file(old_dir).nlink -= 1;
            self.file(new_dir).nlink += 1;
        }
        Ok(())
    }
}
