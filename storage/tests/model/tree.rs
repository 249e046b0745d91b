//! What a share should hold: a file tree with byte contents, as simple as can be. Copies share their pages.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: usize = 4096;

/// The bytes of a file, sparse to any length.
#[derive(Clone, Default)]
pub struct Content {
    pub size: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE]>>,
}

impl Content {
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let len = rest.len().min(PAGE - within);
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + len].copy_from_slice(&rest[..len]);
            (at, rest) = (at + len as u64, &rest[len..]);
        }
        if !data.is_empty() {
            self.size = self.size.max(at);
        }
    }

    pub fn resize(&mut self, size: u64) {
        self.size = size;
        self.pages.split_off(&size.div_ceil(PAGE as u64));
        if let Some(page) = self.pages.get_mut(&(size / PAGE as u64)) {
            Arc::make_mut(page)[(size % PAGE as u64) as usize..].fill(0);
        }
    }

    pub fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.size);
        let mut bytes = vec![0; end.saturating_sub(offset) as usize];
        if bytes.is_empty() {
            return bytes;
        }
        for (number, page) in self.pages.range(offset / PAGE as u64..=(end - 1) / PAGE as u64) {
            let start = number * PAGE as u64;
            let (from, to) = (start.max(offset), (start + PAGE as u64).min(end));
            bytes[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        }
        bytes
    }

    /// How many bytes certainly lie in no hole.
    pub fn bytes_not_zero(&self) -> u64 {
        self.pages.values().map(|page| page.iter().filter(|byte| **byte != 0).count() as u64).sum()
    }

    /// True where no byte of `[from, to)` is anything but zero.
    pub fn is_zero(&self, from: u64, to: u64) -> bool {
        let pages = self.pages.range(from / PAGE as u64..to.div_ceil(PAGE as u64));
        pages.map(|(number, page)| (number * PAGE as u64, page)).all(|(start, page)| {
            let within = |at: u64| at.clamp(start, start + PAGE as u64) - start;
            page[within(from) as usize..within(to) as usize].iter().all(|byte| *byte == 0)
        })
    }

    /// Offsets of the pages that were written.
    pub fn written(&self) -> Vec<u64> {
        self.pages.keys().map(|number| number * PAGE as u64).collect()
    }
}

#[derive(Clone)]
pub enum Body {
    Regular(Content),
    Dir(BTreeMap<Vec<u8>, u64>),
    Symlink(Vec<u8>),
}

#[derive(Clone)]
pub struct File {
    pub body: Body,
    pub links: u32,
    pub modified: i64,
    pub changed: i64,
}

/// A whole tree by inode numbers.
#[derive(Clone)]
pub struct Tree {
    pub files: BTreeMap<u64, File>,
}

impl Tree {
    pub fn new(now: i64) -> Self {
        let root = File { body: Body::Dir(BTreeMap::new()), links: 2, modified: now, changed: now };
        Tree { files: BTreeMap::from([(1, root)]) }
    }

    pub fn file(&mut self, inode: u64) -> &mut File {
        self.files.get_mut(&inode).expect("the model is consistent")
    }

    pub fn content(&mut self, inode: u64) -> &mut Content {
        match &mut self.file(inode).body {
            Body::Regular(content) => content,
            _ => panic!("{inode} is no regular file"),
        }
    }

    pub fn entries(&self, dir: u64) -> &BTreeMap<Vec<u8>, u64> {
        match &self.files[&dir].body {
            Body::Dir(entries) => entries,
            _ => panic!("{dir} is no directory"),
        }
    }

    pub fn is_dir(&self, inode: u64) -> bool {
        matches!(self.files[&inode].body, Body::Dir(_))
    }

    pub fn regular(&self) -> Vec<u64> {
        self.files.iter().filter(|(_, file)| matches!(file.body, Body::Regular(_))).map(|(inode, _)| *inode).collect()
    }

    pub fn dirs(&self) -> Vec<u64> {
        self.files.keys().copied().filter(|inode| self.is_dir(*inode)).collect()
    }

    fn edit_dir(&mut self, dir: u64, now: i64) -> &mut BTreeMap<Vec<u8>, u64> {
        let file = self.file(dir);
        (file.modified, file.changed) = (now, now);
        match &mut file.body {
            Body::Dir(entries) => entries,
            _ => panic!("{dir} is no directory"),
        }
    }

    pub fn add(&mut self, dir: u64, name: &[u8], inode: u64, body: Body, now: i64) {
        let is_dir = matches!(body, Body::Dir(_));
        self.edit_dir(dir, now).insert(name.to_vec(), inode);
        self.file(dir).links += u32::from(is_dir);
        let links = if is_dir { 2 } else { 1 };
        assert!(self.files.insert(inode, File { body, links, modified: now, changed: now }).is_none());
    }

    pub fn link(&mut self, dir: u64, name: &[u8], inode: u64, now: i64) {
        self.edit_dir(dir, now).insert(name.to_vec(), inode);
        let file = self.file(inode);
        file.links += 1;
        file.changed = now;
    }

    /// Removes a name, of whatever; directories must be empty.
    pub fn remove(&mut self, dir: u64, name: &[u8], now: i64) {
        let inode = self.edit_dir(dir, now).remove(name).expect("it was there");
        self.unname(dir, inode, now);
    }

    fn unname(&mut self, dir: u64, inode: u64, now: i64) {
        if self.is_dir(inode) {
            self.file(dir).links -= 1;
            self.files.remove(&inode);
            return;
        }
        let file = self.file(inode);
        file.links -= 1;
        file.changed = now;
        if file.links == 0 {
            self.files.remove(&inode);
        }
    }

    /// Renames what may be renamed; two names of one file stay as they are.
    pub fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), now: i64) {
        let inode = self.entries(from.0)[from.1];
        let old = self.entries(to.0).get(to.1).copied();
        if old == Some(inode) {
            return;
        }
        self.edit_dir(from.0, now).remove(from.1);
        if let Some(old) = old {
            self.unname(to.0, old, now);
        }
        self.edit_dir(to.0, now).insert(to.1.to_vec(), inode);
        if self.is_dir(inode) {
            self.file(from.0).links -= 1;
            self.file(to.0).links += 1;
        }
        self.file(inode).changed = now;
    }

    /// True where `inode` is `top` or below it.
    pub fn below(&self, inode: u64, top: u64) -> bool {
        inode == top
            || match &self.files[&top].body {
                Body::Dir(entries) => entries.values().any(|child| self.is_dir(*child) && self.below(inode, *child)),
                _ => false,
            }
    }
}
