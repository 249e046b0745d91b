//! A file tree in memory: small, correct, and able to misbehave on demand. Permissions are the owner's, group's and
//! others' bits and nothing more; the real ones are storage's and tested there.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use narrowboat_storage::dataset::*;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::{Inode, Lsn, Space, Timestamp};
use narrowboat_storage::{Error, Result};

use crate::ingest::nfs::export::*;

type Hook = Box<dyn Fn(&'static str) -> Result<()> + Send + Sync>;

#[derive(Clone)]
struct File {
    attributes: Attributes,
    content: Vec<u8>,
    /// Of a directory: cookie to name and inode.
    entries: BTreeMap<u64, (Bytes, Inode)>,
    parent: Inode,
    exclusive: Option<[u8; 8]>,
}

#[derive(Clone)]
struct Inner {
    files: BTreeMap<Inode, File>,
    next: u64,
    remembered: HashMap<CallTag, Inode>,
}

/// The tree.
pub(crate) struct MemTree {
    inner: Mutex<Inner>,
    lsn: AtomicU64,
    pub stable: AtomicU64,
    pub verifier: AtomicU64,
    pub read_only: AtomicBool,
    /// Asked before each operation by its name: may block, may fail it.
    pub hook: Mutex<Option<Arc<Hook>>>,
}

fn refused<T>(refusal: Refusal) -> Result<T> {
    Err(refusal.into())
}

fn not_found(name: &[u8]) -> Error {
    Refusal::NotFound(String::from_utf8_lossy(name).into_owned()).into()
}

fn allowed(file: &File, who: &Credentials, bit: u32) -> bool {
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

impl Inner {
    fn get(&self, inode: Inode) -> Result<&File> {
        self.files.get(&inode).ok_or_else(|| Refusal::Stale.into())
    }
    fn get_mut(&mut self, inode: Inode) -> Result<&mut File> {
        self.files.get_mut(&inode).ok_or_else(|| Refusal::Stale.into())
    }
    fn dir(&self, dir: Inode, who: &Credentials, bit: u32) -> Result<&File> {
        let file = self.get(dir)?;
        if file.attributes.file_type != FileType::Directory {
            return refused(Refusal::NotDirectory);
        }
        if allowed(file, who, bit) { Ok(file) } else { refused(Refusal::Access) }
    }
    fn find(&self, dir: Inode, name: &[u8]) -> Option<(u64, Inode)> {
        let entries = &self.files.get(&dir)?.entries;
        entries.iter().find(|(_, (there, _))| there == name).map(|(cookie, (_, inode))| (*cookie, *inode))
    }
    /// Applies `act` to a directory and says how its attributes changed.
    fn change(&mut self, dir: Inode, now: Timestamp, lsn: Lsn, act: impl FnOnce(&mut File)) -> Result<Changed> {
        let file = self.get_mut(dir)?;
        let before = file.attributes.clone();
        act(file);
        (file.attributes.modified, file.attributes.changed) = (now, now);
        file.attributes.size = file.content.len() as u64 + 64 * file.entries.len() as u64;
        Ok(Changed { before, after: file.attributes.clone(), lsn })
    }
    fn unlink(&mut self, inode: Inode) {
        if let Some(file) = self.files.get_mut(&inode) {
            file.attributes.links -= 1;
            if file.attributes.links == 0 || file.attributes.file_type == FileType::Directory {
                self.files.remove(&inode);
            }
        }
    }
    fn add_name(&mut self, dir: Inode, name: &[u8], inode: Inode, now: Timestamp, lsn: Lsn) -> Result<Changed> {
        self.next += 1;
        let cookie = self.next;
        self.change(dir, now, lsn, |file| {
            file.entries.insert(cookie, (Bytes::copy_from_slice(name), inode));
        })
    }
}

impl MemTree {
    pub fn new() -> Self {
        let mut inner = Inner { files: BTreeMap::new(), next: 10, remembered: HashMap::new() };
        inner.files.insert(Inode::ROOT, blank(Inode::ROOT, FileType::Directory, 0o777, Inode::ROOT));
        MemTree::with(inner)
    }
    fn with(inner: Inner) -> Self {
        MemTree {
            inner: Mutex::new(inner),
            lsn: AtomicU64::new(0),
            stable: AtomicU64::new(0),
            verifier: AtomicU64::new(1),
            read_only: AtomicBool::new(false),
            hook: Mutex::new(None),
        }
    }
    /// The same tree as it is now, read-only.
    pub fn snapshot(&self) -> MemTree {
        let copy = MemTree::with(self.inner.lock().unwrap().clone());
        copy.read_only.store(true, SeqCst);
        copy
    }
    /// The tree as a process finds it that starts after a crash: what was stable, with a new verifier.
    pub fn restarted(&self) -> MemTree {
        let copy = MemTree::with(self.inner.lock().unwrap().clone());
        copy.verifier.store(self.verifier.load(SeqCst) + 1, SeqCst);
        copy
    }
    pub fn set_hook(&self, hook: impl Fn(&'static str) -> Result<()> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Some(Arc::new(Box::new(hook)));
    }
    pub fn all_is_stable(&self) -> bool {
        self.stable.load(SeqCst) >= self.lsn.load(SeqCst)
    }
    pub fn attributes_of(&self, inode: Inode) -> Option<Attributes> {
        self.inner.lock().unwrap().files.get(&inode).map(|file| file.attributes.clone())
    }
    pub fn content(&self, inode: Inode) -> Vec<u8> {
        self.inner.lock().unwrap().files[&inode].content.clone()
    }
    fn enter(&self, operation: &'static str) -> Result<MutexGuard<'_, Inner>> {
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(operation)?;
        }
        Ok(self.inner.lock().unwrap())
    }
    fn lsn(&self) -> Lsn {
        Lsn(self.lsn.fetch_add(1, SeqCst) + 1)
    }
    fn make(
        &self,
        op: &'static str,
        call: &Call,
        dir: Inode,
        name: &[u8],
        fill: impl FnOnce(&mut File),
    ) -> Result<Made> {
        let mut inner = self.enter(op)?;
        inner.dir(dir, call.caller, 3)?;
        if inner.find(dir, name).is_some() {
            return refused(Refusal::Exists(String::from_utf8_lossy(name).into_owned()));
        }
        self.make_in(&mut inner, call, dir, name, fill)
    }
    fn make_in(
        &self,
        inner: &mut Inner,
        call: &Call,
        dir: Inode,
        name: &[u8],
        fill: impl FnOnce(&mut File),
    ) -> Result<Made> {
        inner.next += 1;
        let inode = Inode(inner.next);
        let mut file = blank(inode, FileType::Regular, 0o644, dir);
        (file.attributes.uid, file.attributes.gid) = (call.caller.uid, call.caller.gid);
        let a = &mut file.attributes;
        (a.accessed, a.modified, a.changed) = (call.now, call.now, call.now);
        fill(&mut file);
        let attributes = file.attributes.clone();
        inner.files.insert(inode, file);
        let changed = inner.add_name(dir, name, inode, call.now, self.lsn())?;
        call.tag.map(|tag| inner.remembered.insert(tag, inode));
        Ok(Made { file: attributes, dir: changed })
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

fn apply(file: &mut File, set: &SetAttributes, now: Timestamp) {
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
        let mut inner = self.enter("set_attributes")?;
        let file = inner.get_mut(inode)?;
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
        call.tag.map(|tag| inner.remembered.insert(tag, inode));
        Ok(changed)
    }
    fn lookup(&self, caller: &Credentials, dir: Inode, name: &[u8]) -> Result<Attributes> {
        let inner = self.enter("lookup")?;
        let directory = inner.dir(dir, caller, 1)?;
        let inode = match name {
            b"." => dir,
            b".." => directory.parent,
            _ => inner.find(dir, name).ok_or_else(|| not_found(name))?.1,
        };
        Ok(inner.get(inode)?.attributes.clone())
    }
    fn access(&self, caller: &Credentials, inode: Inode, wanted: Access) -> Result<Access> {
        let inner = self.enter("access")?;
        let file = inner.get(inode)?;
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
        let inner = self.enter("read_link")?;
        let file = inner.get(inode)?;
        match file.attributes.file_type {
            FileType::Symlink => Ok(Bytes::from(file.content.clone())),
            _ => refused(Refusal::WrongType),
        }
    }
    fn read(&self, caller: &Credentials, inode: Inode, offset: u64, len: u32) -> Result<ReadData> {
        let inner = self.enter("read")?;
        let file = inner.get(inode)?;
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
        let mut inner = self.enter("write")?;
        let file = inner.get_mut(inode)?;
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
        let inner = self.enter("commit")?;
        let now = inner.get(inode)?.attributes.clone();
        Ok(Changed { before: now.clone(), after: now, lsn: self.lsn() })
    }
    fn create(&self, call: &Call, dir: Inode, name: &[u8], how: &Create) -> Result<Made> {
        let mut inner = self.enter("create")?;
        inner.dir(dir, call.caller, 3)?;
        if let Some((_, inode)) = inner.find(dir, name) {
            let own = inner.get(dir)?.attributes.clone();
            let file = inner.get_mut(inode)?;
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
            return Ok(Made { file: file.attributes.clone(), dir });
        }
        self.make_in(&mut inner, call, dir, name, |file| match how {
            Create::Unchecked(set) | Create::Guarded(set) => apply(file, set, call.now),
            Create::Exclusive(verifier) => file.exclusive = Some(*verifier),
        })
    }
    fn make_dir(&self, call: &Call, dir: Inode, name: &[u8], set: &SetAttributes) -> Result<Made> {
        self.make("make_dir", call, dir, name, |file| {
            file.attributes.file_type = FileType::Directory;
            file.attributes.mode = 0o755;
            apply(file, set, call.now);
        })
    }
    fn make_symlink(&self, call: &Call, dir: Inode, name: &[u8], target: &[u8], set: &SetAttributes) -> Result<Made> {
        self.make("make_symlink", call, dir, name, |file| {
            file.attributes.file_type = FileType::Symlink;
            apply(file, set, call.now);
            file.content = target.to_vec();
            file.attributes.size = target.len() as u64;
        })
    }
    fn make_node(&self, call: &Call, dir: Inode, name: &[u8], node: Node, set: &SetAttributes) -> Result<Made> {
        self.make("make_node", call, dir, name, |file| {
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
        let mut inner = self.enter("remove")?;
        inner.dir(dir, call.caller, 3)?;
        let (cookie, inode) = inner.find(dir, name).ok_or_else(|| not_found(name))?;
        if inner.get(inode)?.attributes.file_type == FileType::Directory {
            return refused(Refusal::IsDirectory);
        }
        inner.unlink(inode);
        call.tag.map(|tag| inner.remembered.insert(tag, inode));
        inner.change(dir, call.now, self.lsn(), |file| drop(file.entries.remove(&cookie)))
    }
    fn remove_dir(&self, call: &Call, dir: Inode, name: &[u8]) -> Result<Changed> {
        let mut inner = self.enter("remove_dir")?;
        inner.dir(dir, call.caller, 3)?;
        let (cookie, inode) = inner.find(dir, name).ok_or_else(|| not_found(name))?;
        let file = inner.get(inode)?;
        if file.attributes.file_type != FileType::Directory {
            return refused(Refusal::NotDirectory);
        }
        if !file.entries.is_empty() {
            return refused(Refusal::NotEmpty);
        }
        inner.unlink(inode);
        call.tag.map(|tag| inner.remembered.insert(tag, inode));
        inner.change(dir, call.now, self.lsn(), |file| drop(file.entries.remove(&cookie)))
    }
    fn rename(&self, call: &Call, from: (Inode, &[u8]), to: (Inode, &[u8])) -> Result<(Changed, Changed)> {
        let mut inner = self.enter("rename")?;
        inner.dir(from.0, call.caller, 3)?;
        inner.dir(to.0, call.caller, 3)?;
        let (old_cookie, inode) = inner.find(from.0, from.1).ok_or_else(|| not_found(from.1))?;
        let replaced = inner.find(to.0, to.1);
        let lsn = self.lsn();
        if let Some((cookie, other)) = replaced.filter(|(_, other)| *other != inode) {
            if !inner.get(other)?.entries.is_empty() {
                return refused(Refusal::NotEmpty);
            }
            inner.unlink(other);
            inner.change(to.0, call.now, lsn, |file| drop(file.entries.remove(&cookie)))?;
        }
        let first = inner.change(from.0, call.now, lsn, |file| drop(file.entries.remove(&old_cookie)))?;
        let second = inner.add_name(to.0, to.1, inode, call.now, lsn)?;
        inner.get_mut(inode)?.parent = to.0;
        call.tag.map(|tag| inner.remembered.insert(tag, inode));
        Ok((first, second))
    }
    fn link(&self, call: &Call, inode: Inode, dir: Inode, name: &[u8]) -> Result<Made> {
        let mut inner = self.enter("link")?;
        inner.dir(dir, call.caller, 3)?;
        if inner.find(dir, name).is_some() {
            return refused(Refusal::Exists(String::new()));
        }
        let file = inner.get_mut(inode)?;
        if file.attributes.file_type == FileType::Directory {
            return refused(Refusal::IsDirectory);
        }
        file.attributes.links += 1;
        file.attributes.changed = call.now;
        let file = file.attributes.clone();
        let dir = inner.add_name(dir, name, inode, call.now, self.lsn())?;
        call.tag.map(|tag| inner.remembered.insert(tag, inode));
        Ok(Made { file, dir })
    }
    fn read_dir(&self, caller: &Credentials, dir: Inode, cookie: u64, entries_max: usize) -> Result<Listing> {
        let inner = self.enter("read_dir")?;
        let directory = inner.dir(dir, caller, 4)?;
        let dots = [(1, (Bytes::from_static(b"."), dir)), (2, (Bytes::from_static(b".."), directory.parent))];
        let stored = directory.entries.iter().map(|(cookie, entry)| (*cookie, entry.clone()));
        let mut all = dots.into_iter().chain(stored).filter(|(at, _)| *at > cookie);
        let mut entries = Vec::new();
        for (cookie, (name, inode)) in all.by_ref().take(entries_max) {
            entries.push(DirEntry { name, cookie, attributes: inner.get(inode)?.attributes.clone() });
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
        let made = self.inner.lock().unwrap().remembered.get(tag).copied();
        made.map(|inode| (inode, Lsn(self.lsn.load(SeqCst))))
    }
    fn read_only(&self) -> bool {
        self.read_only.load(SeqCst)
    }
}

/// Snapshots that a test took.
#[derive(Default)]
pub(crate) struct MemSnapshots(pub Mutex<BTreeMap<SnapshotId, (SnapshotEntry, Arc<MemTree>)>>);

impl MemSnapshots {
    pub fn add(&self, number: u8, name: &str, tree: MemTree) {
        let id = SnapshotId([number; 16]);
        let entry = SnapshotEntry { id, name: name.into(), time: Timestamp::new(1_650_000_000, 0) };
        self.0.lock().unwrap().insert(id, (entry, Arc::new(tree)));
    }
}

impl Snapshots for MemSnapshots {
    fn list(&self) -> Result<Vec<SnapshotEntry>> {
        Ok(self.0.lock().unwrap().values().map(|(entry, _)| entry.clone()).collect())
    }
    fn open(&self, id: SnapshotId) -> Result<Arc<dyn FileTree>> {
        match self.0.lock().unwrap().get(&id) {
            Some((_, tree)) => Ok(tree.clone()),
            None => refused(Refusal::Stale),
        }
    }
}

/// One share in memory.
pub(crate) struct MemExports {
    pub tree: Arc<MemTree>,
    pub snapshots: Arc<MemSnapshots>,
    pub export: Mutex<Option<Arc<Export>>>,
}

impl MemExports {
    pub fn new(tree: MemTree, rules: Rules) -> Arc<Self> {
        let (tree, snapshots) = (Arc::new(tree), Arc::<MemSnapshots>::default());
        let export = Export {
            id: DatasetId([0x11; 16]),
            name: "/share".into(),
            rules,
            tree: tree.clone(),
            snapshots: snapshots.clone(),
        };
        Arc::new(MemExports { tree, snapshots, export: Mutex::new(Some(Arc::new(export))) })
    }
}

impl Exports for MemExports {
    fn list(&self) -> Vec<ExportInfo> {
        let export = self.export.lock().unwrap();
        export.iter().map(|e| ExportInfo { name: e.name.clone(), clients: e.rules.clients.clone() }).collect()
    }
    fn by_name(&self, path: &str) -> Option<Arc<Export>> {
        self.export.lock().unwrap().clone().filter(|export| export.name == path)
    }
    fn by_id(&self, id: DatasetId) -> Option<Arc<Export>> {
        self.export.lock().unwrap().clone().filter(|export| export.id == id)
    }
}
