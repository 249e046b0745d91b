//! What may be asked of the tree. A call that changes names is a [`Step`].

use std::sync::MutexGuard;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use narrowboat_storage::Result;
use narrowboat_storage::dataset::*;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::{Inode, Lsn, Space, Timestamp};

use super::MemTree;
use super::files::{File, Files, allowed, apply, not_found, refused};

/// A call that changes names, under way: nobody else sees the tree, the caller may write in its directories, and what it
/// makes or changes is remembered by its tag.
struct Step<'a> {
    tree: &'a MemTree,
    files: MutexGuard<'a, Files>,
    call: &'a Call<'a>,
}

impl MemTree {
    fn step<'a>(&'a self, operation: &'static str, call: &'a Call, dirs: &[Inode]) -> Result<Step<'a>> {
        let files = self.enter(operation)?;
        dirs.iter().try_for_each(|dir| files.dir(*dir, call.caller, 3).map(drop))?;
        Ok(Step { tree: self, files, call })
    }
}

impl Step<'_> {
    fn refuse_if_named(&self, dir: Inode, name: &[u8]) -> Result<()> {
        match self.files.find(dir, name) {
            Some(_) => refused(Refusal::Exists(String::from_utf8_lossy(name).into_owned())),
            None => Ok(()),
        }
    }
    fn named(&self, dir: Inode, name: &[u8]) -> Result<(u64, Inode)> {
        self.files.find(dir, name).ok_or_else(|| not_found(name))
    }
    fn remember(&mut self, inode: Inode) {
        self.call.tag.map(|tag| self.files.remembered.insert(tag, inode));
    }
    fn add(mut self, dir: Inode, name: &[u8], fill: impl FnOnce(&mut File)) -> Result<Made> {
        self.refuse_if_named(dir, name)?;
        let made = self.files.add(self.call, dir, name, self.tree.lsn(), fill)?;
        self.remember(made.file.inode);
        Ok(made)
    }
    fn remove(mut self, dir: Inode, name: &[u8], allow: impl FnOnce(&File) -> Result<()>) -> Result<Changed> {
        let (cookie, inode) = self.named(dir, name)?;
        allow(self.files.get(inode)?)?;
        self.files.unlink(inode);
        self.remember(inode);
        self.files.change(dir, self.call.now, self.tree.lsn(), |file| drop(file.entries.remove(&cookie)))
    }
}

impl FileTree for MemTree {
    fn attributes(&self, inode: Inode) -> Result<Attributes> {
        Ok(self.enter("attributes")?.get(inode)?.attributes.clone())
    }
    fn set_attributes(
        &self,
        call: &Call,
        inode: Inode,
        set: &SetAttributes,
        guard: Option<Timestamp>,
    ) -> Result<Changed> {
        let mut files = self.enter("set_attributes")?;
        let file = files.get_mut(inode)?;
        if call.caller.uid != 0 && call.caller.uid != file.attributes.uid {
            return refused(Refusal::NotPermitted);
        }
        if guard.is_some_and(|guard| guard != file.attributes.changed) {
            return refused(Refusal::NotSync);
        }
        if set.size.is_some_and(|size| size > 8 << 20) {
            return refused(Refusal::FileTooLarge);
        }
        let before = file.attributes.clone();
        apply(file, set, call.now);
        let changed = Changed { before, after: file.attributes.clone(), lsn: self.lsn() };
        call.tag.map(|tag| files.remembered.insert(tag, inode));
        Ok(changed)
    }
    fn lookup(&self, caller: &Credentials, dir: Inode, name: &[u8]) -> Result<Attributes> {
        let files = self.enter("lookup")?;
        let directory = files.dir(dir, caller, 1)?;
        let inode = match name {
            b"." => dir,
            b".." => directory.parent,
            _ => files.find(dir, name).ok_or_else(|| not_found(name))?.1,
        };
        Ok(files.get(inode)?.attributes.clone())
    }
    fn access(&self, caller: &Credentials, inode: Inode, wanted: Access) -> Result<Access> {
        let files = self.enter("access")?;
        let file = files.get(inode)?;
        let mut granted = 0;
        for (bit, rights) in [
            (4, Access::READ.0),
            (2, Access::MODIFY.0 | Access::EXTEND.0 | Access::DELETE.0),
            (1, Access::LOOKUP.0 | Access::EXECUTE.0),
        ] {
            granted |= if allowed(file, caller, bit) { rights } else { 0 };
        }
        Ok(Access(granted & wanted.0))
    }
    fn read_link(&self, _: &Credentials, inode: Inode) -> Result<Bytes> {
        let files = self.enter("read_link")?;
        let file = files.get(inode)?;
        match file.attributes.file_type {
            FileType::Symlink => Ok(Bytes::from(file.content.clone())),
            _ => refused(Refusal::WrongType),
        }
    }
    fn read(&self, caller: &Credentials, inode: Inode, offset: u64, len: u32) -> Result<ReadData> {
        let files = self.enter("read")?;
        let file = files.get(inode)?;
        match file.attributes.file_type {
            FileType::Regular => {}
            FileType::Directory => return refused(Refusal::IsDirectory),
            _ => return refused(Refusal::WrongType),
        }
        if !allowed(file, caller, 4) && caller.uid != file.attributes.uid {
            return refused(Refusal::Access);
        }
        let size = file.content.len();
        let from = usize::try_from(offset).map_or(size, |from| from.min(size));
        let to = size.min(from + len as usize);
        let pieces = file.content[from..to].chunks(1000).map(Bytes::copy_from_slice).collect();
        Ok(ReadData { pieces, end: to == size, attributes: file.attributes.clone() })
    }
    fn write(&self, call: &Call, inode: Inode, offset: u64, data: Bytes) -> Result<Changed> {
        let mut files = self.enter("write")?;
        let file = files.get_mut(inode)?;
        if file.attributes.file_type != FileType::Regular {
            return refused(Refusal::WrongType);
        }
        if !allowed(file, call.caller, 2) && call.caller.uid != file.attributes.uid {
            return refused(Refusal::Access);
        }
        let end = offset + data.len() as u64;
        if end > 8 << 20 {
            return refused(Refusal::FileTooLarge);
        }
        let before = file.attributes.clone();
        file.content.resize(file.content.len().max(end as usize), 0);
        file.content[offset as usize..end as usize].copy_from_slice(&data);
        let a = &mut file.attributes;
        (a.size, a.used) = (file.content.len() as u64, file.content.len() as u64);
        (a.modified, a.changed) = (call.now, call.now);
        Ok(Changed { before, after: a.clone(), lsn: self.lsn() })
    }
    fn commit(&self, inode: Inode) -> Result<Changed> {
        let files = self.enter("commit")?;
        let now = files.get(inode)?.attributes.clone();
        Ok(Changed { before: now.clone(), after: now, lsn: self.lsn() })
    }
    fn create(&self, call: &Call, dir: Inode, name: &[u8], how: &Create) -> Result<Made> {
        let mut step = self.step("create", call, &[dir])?;
        let Some((_, inode)) = step.files.find(dir, name) else {
            return step.add(dir, name, |file| match how {
                Create::Unchecked(set) | Create::Guarded(set) => apply(file, set, call.now),
                Create::Exclusive(verifier) => file.exclusive = Some(*verifier),
            });
        };
        let own = step.files.get(dir)?.attributes.clone();
        let file = step.files.get_mut(inode)?;
        match how {
            Create::Unchecked(set) if file.attributes.file_type == FileType::Regular => {
                if set.size == Some(0) {
                    apply(file, &SetAttributes { size: Some(0), ..Default::default() }, call.now);
                }
            }
            Create::Exclusive(verifier) if file.exclusive == Some(*verifier) => {}
            _ => return refused(Refusal::Exists(String::new())),
        }
        let dir = Changed { before: own.clone(), after: own, lsn: self.lsn() };
        Ok(Made { file: file.attributes.clone(), dir })
    }
    fn make_dir(&self, call: &Call, dir: Inode, name: &[u8], set: &SetAttributes) -> Result<Made> {
        self.step("make_dir", call, &[dir])?.add(dir, name, |file| {
            file.attributes.file_type = FileType::Directory;
            file.attributes.mode = 0o755;
            apply(file, set, call.now);
        })
    }
    fn make_symlink(&self, call: &Call, dir: Inode, name: &[u8], target: &[u8], set: &SetAttributes) -> Result<Made> {
        self.step("make_symlink", call, &[dir])?.add(dir, name, |file| {
            file.attributes.file_type = FileType::Symlink;
            apply(file, set, call.now);
            file.content = target.to_vec();
            file.attributes.size = target.len() as u64;
        })
    }
    fn make_node(&self, call: &Call, dir: Inode, name: &[u8], node: Node, set: &SetAttributes) -> Result<Made> {
        self.step("make_node", call, &[dir])?.add(dir, name, |file| {
            let (file_type, device) = match node {
                Node::BlockDevice(major, minor) => (FileType::BlockDevice, (major, minor)),
                Node::CharDevice(major, minor) => (FileType::CharDevice, (major, minor)),
                Node::Socket => (FileType::Socket, (0, 0)),
                Node::Fifo => (FileType::Fifo, (0, 0)),
            };
            (file.attributes.file_type, file.attributes.device) = (file_type, device);
            apply(file, set, call.now);
        })
    }
    fn remove(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed> {
        self.step("remove", call, &[dir])?.remove(dir, name, |file| match file.attributes.file_type {
            FileType::Directory => refused(Refusal::IsDirectory),
            _ => Ok(()),
        })
    }
    fn remove_dir(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed> {
        self.step("remove_dir", call, &[dir])?.remove(dir, name, |file| match file.attributes.file_type {
            FileType::Directory if file.entries.is_empty() => Ok(()),
            FileType::Directory => refused(Refusal::NotEmpty),
            _ => refused(Refusal::NotDirectory),
        })
    }
    fn rename(&self, call: &Call, from: (Inode, &[u8]), to: (Inode, &[u8])) -> Result<(Changed, Changed)> {
        let mut step = self.step("rename", call, &[from.0, to.0])?;
        let (old_cookie, inode) = step.named(from.0, from.1)?;
        let replaced = step.files.find(to.0, to.1).filter(|(_, other)| *other != inode);
        let lsn = self.lsn();
        if let Some((cookie, other)) = replaced {
            if !step.files.get(other)?.entries.is_empty() {
                return refused(Refusal::NotEmpty);
            }
            step.files.unlink(other);
            step.files.change(to.0, call.now, lsn, |file| drop(file.entries.remove(&cookie)))?;
        }
        let first = step.files.change(from.0, call.now, lsn, |file| drop(file.entries.remove(&old_cookie)))?;
        let second = step.files.add_name(to.0, to.1, inode, call.now, lsn)?;
        step.files.get_mut(inode)?.parent = to.0;
        step.remember(inode);
        Ok((first, second))
    }
    fn link(&self, call: &Call, inode: Inode, dir: Inode, name: &[u8]) -> Result<Made> {
        let mut step = self.step("link", call, &[dir])?;
        step.refuse_if_named(dir, name)?;
        let file = step.files.get_mut(inode)?;
        if file.attributes.file_type == FileType::Directory {
            return refused(Refusal::IsDirectory);
        }
        file.attributes.links += 1;
        file.attributes.changed = call.now;
        let file = file.attributes.clone();
        let dir = step.files.add_name(dir, name, inode, call.now, self.lsn())?;
        step.remember(inode);
        Ok(Made { file, dir })
    }
    fn read_dir(&self, caller: &Credentials, dir: Inode, cookie: u64, entries_max: usize) -> Result<Listing> {
        let files = self.enter("read_dir")?;
        let directory = files.dir(dir, caller, 4)?;
        let dots = [(1, (Bytes::from_static(b"."), dir)), (2, (Bytes::from_static(b".."), directory.parent))];
        let stored = directory.entries.iter().map(|(cookie, entry)| (*cookie, entry.clone()));
        let mut all = dots.into_iter().chain(stored).filter(|(at, _)| *at > cookie);
        let mut entries = Vec::new();
        for (cookie, (name, inode)) in all.by_ref().take(entries_max) {
            entries.push(DirEntry { name, cookie, attributes: files.get(inode)?.attributes.clone() });
        }
        Ok(Listing { entries, end: all.next().is_none() })
    }
    fn space(&self) -> Result<Space> {
        drop(self.enter("space")?);
        Ok(Space { total_bytes: 1 << 40, free_bytes: 1 << 39 })
    }
    fn make_stable(&self, lsn: Lsn) -> Result<()> {
        drop(self.enter("make_stable")?);
        self.stable.fetch_max(lsn.0, SeqCst);
        Ok(())
    }
    fn write_verifier(&self) -> [u8; 8] {
        self.verifier.load(SeqCst).to_be_bytes()
    }
    fn remembered(&self, tag: &CallTag) -> Option<(Inode, Lsn)> {
        let made = self.files.lock().unwrap().remembered.get(tag).copied();
        made.map(|inode| (inode, Lsn(self.lsn.load(SeqCst))))
    }
    fn read_only(&self) -> bool {
        self.read_only.load(SeqCst)
    }
}
