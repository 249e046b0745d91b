//! The names on a simulated disk: what the platter has, what the program sees, and the operations between.
//!
//! An operation is safe once the folder it touches was synced. When the power goes, each one that is not safe is kept or
//! lost on its own; a rename is one operation. Folders are safe as soon as they are made, as the medium promises.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::content::Fate;
use crate::media::path::split;

/// Names a file's bytes for as long as a name or a handle leads to them.
pub(super) type FileId = u64;

#[derive(Clone)]
enum NameOp {
    Create { path: String, file: FileId },
    Remove { path: String, file: FileId },
    Rename { from: String, to: String, file: FileId },
}

impl NameOp {
    fn touches(&self, dir: &str) -> bool {
        let within = |path: &str| split(path).is_ok_and(|(folder, _)| folder == dir);
        match self {
            NameOp::Create { path, .. } | NameOp::Remove { path, .. } => within(path),
            NameOp::Rename { from, to, .. } => within(from) || within(to),
        }
    }

    fn file(&self) -> FileId {
        match self {
            NameOp::Create { file, .. } | NameOp::Remove { file, .. } | NameOp::Rename { file, .. } => *file,
        }
    }

    /// Applies to names among which earlier operations may be missing.
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        let mut forget = |path: &String, file: FileId| {
            if names.get(path) == Some(&file) {
                names.remove(path);
            }
        };
        match self {
            NameOp::Create { path, file } => {
                names.insert(path.clone(), *file);
            }
            NameOp::Remove { path, file } => forget(path, *file),
            NameOp::Rename { from, to, file } => {
                forget(from, *file);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// All names of a disk.
#[derive(Clone, Default)]
pub(super) struct Names {
    now: BTreeMap<String, FileId>,
    synced: BTreeMap<String, FileId>,
    unsynced: Vec<NameOp>,
    dirs: BTreeSet<String>,
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<FileId> {
        self.now.get(path).copied()
    }

    /// Every path, with its file.
    pub(super) fn files(&self) -> &BTreeMap<String, FileId> {
        &self.now
    }

    pub(super) fn is_dir(&self, dir: &str) -> bool {
        dir.is_empty() || self.dirs.contains(dir)
    }

    /// Makes a folder and those above it. False where a file is in the way.
    pub(super) fn make_dirs(&mut self, dir: &str) -> bool {
        let ends: Vec<usize> = dir.match_indices('/').map(|(at, _)| at).chain([dir.len()]).collect();
        if ends.iter().any(|&end| self.now.contains_key(&dir[..end])) {
            return false;
        }
        self.dirs.extend(ends.iter().map(|&end| dir[..end].to_owned()).filter(|dir| !dir.is_empty()));
        true
    }

    pub(super) fn list(&self, dir: &str) -> Vec<String> {
        let here = |path: &str| split(path).ok().filter(|(folder, _)| *folder == dir).map(|(_, name)| name.to_owned());
        let folders = self.dirs.iter().filter_map(|path| Some(here(path)? + "/"));
        let mut names: Vec<String> = self.now.keys().filter_map(|path| here(path)).chain(folders).collect();
        names.sort_unstable();
        names
    }

    pub(super) fn create(&mut self, path: &str, file: FileId) {
        self.change(NameOp::Create { path: path.to_owned(), file });
    }

    /// Forgets a name; `None` where it is not there.
    pub(super) fn remove(&mut self, path: &str) -> Option<FileId> {
        let file = self.get(path)?;
        self.change(NameOp::Remove { path: path.to_owned(), file });
        Some(file)
    }

    /// Renames; `None` where the name is not there.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Option<FileId> {
        let file = self.get(from)?;
        if from != to {
            self.change(NameOp::Rename { from: from.to_owned(), to: to.to_owned(), file });
        }
        Some(file)
    }

    fn change(&mut self, op: NameOp) {
        op.apply(&mut self.now);
        self.unsynced.push(op);
    }

    /// Makes safe what touches `dir`, and the earlier operations on the same files: a file that was moved here is not
    /// also left where it was.
    pub(super) fn sync_dir(&mut self, dir: &str) {
        let files: BTreeSet<FileId> = self.unsynced.iter().filter(|op| op.touches(dir)).map(|op| op.file()).collect();
        let (safe, rest) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|op| op.touches(dir) || files.contains(&op.file()));
        self.unsynced = rest;
        let safe: Vec<NameOp> = safe;
        safe.iter().for_each(|op| op.apply(&mut self.synced));
    }

    /// The power goes.
    pub(super) fn power_cut(&mut self, fate: Fate, rng: &mut Xoshiro256PlusPlus) {
        for op in std::mem::take(&mut self.unsynced) {
            let kept = match fate {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Torn => rng.random_bool(0.5),
            };
            if kept {
                op.apply(&mut self.synced);
            }
        }
        self.now = self.synced.clone();
    }

    /// True where a name leads to the file, or would after some power cut.
    pub(super) fn leads_to(&self, file: FileId) -> bool {
        let named = |names: &BTreeMap<String, FileId>| names.values().any(|&named| named == file);
        named(&self.now) || named(&self.synced) || self.unsynced.iter().any(|op| op.file() == file)
    }

    /// Removes a name, safe at once: damage, not a program's removal.
    pub(super) fn lose(&mut self, path: &str) {
        self.now.remove(path);
        self.synced.remove(path);
    }
}
