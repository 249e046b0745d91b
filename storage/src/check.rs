//! Every invariant of a store in one function.
//!
//! * The journal: every record that is kept is as it was written.
//! * The histories: every record that was split off the journal is as it was written, and every chunk that it names is present.
//! * The pool: headers and directories of all containers agree with the index, both ways; with `deep`, every object is
//!   read, verified against its name, and everything that nodes refer to is present.
//! * The trees: from every head and every sealed snapshot, each node that is reached is present, decodes, and is
//!   reached by what names it; each chunk that is named is present.
//!   With `deep`, each tree is the one that its entries give: built again from them, it comes to the same root. So equal
//!   contents have equal roots here, whoever built the trees.
//! * The namespaces: link counts, entries, cookies and sums of each head agree with one another, and each file's content
//!   is as long as its record says.
//! * The catalogue: each snapshot's dataset exists, and names are unique.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;

use crate::dataset::live::Dataset;
use crate::dataset::namespace::{self, Key, Record, Totals, View};
use crate::dataset::state::{State, content_of};
use crate::dataset::table::Transaction;
use crate::error::{Damage, Error, Result};
use crate::name::{Kind, Name};
use crate::pool::StreamId;
use crate::store::Store;
use crate::tree::{Objects, map, verify_content, verify_map, walk};
use crate::units::Inode;

/// Problems that are named one by one; more are counted.
const PROBLEMS_MAX: usize = 1000;

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// Containers that were looked at.
    pub containers: u64,
    /// Of how many.
    pub containers_total: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Roots that were walked.
    pub roots: u64,
    /// Files whose records were compared with their contents.
    pub files: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreCheck {
    /// What was looked at.
    pub progress: CheckProgress,
    /// What is wrong, each a sentence that names the place.
    pub problems: Vec<String>,
    /// How many more problems there are.
    pub problems_unnamed: u64,
}

impl StoreCheck {
    /// True where nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, problem: impl std::fmt::Display) {
        match self.problems.len() < PROBLEMS_MAX {
            true => self.problems.push(problem.to_string()),
            false => self.problems_unnamed += 1,
        }
    }

    /// Notes damage and goes on; anything else ends the check.
    fn note<T>(&mut self, place: &str, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(Error::Environment(error)) => Err(error.into()),
            Err(error) => {
                self.add(format!("{place}: {error}"));
                Ok(None)
            }
        }
    }
}

impl Store {
    /// Checks every invariant. Damage is collected; only what the machine can't do is an error. `tell` hears how far it
    /// is, and ends the check by returning false.
    ///
    /// Memory: 33 bytes a tree node that is reached, with `deep` 48 more a file that has a tree of its own. Everything else goes on meanwhile.
    pub fn check(&self, deep: bool, tell: &mut dyn FnMut(&CheckProgress) -> bool) -> Result<StoreCheck> {
        let mut check = StoreCheck::default();
        let _stays = self.stages().pool.checking();
        let journal = self.stages().journal.verify();
        check.note("journal", journal)?;
        self.check_histories(&mut check)?;
        let mut progress = CheckProgress::default();
        let pool = self.stages().pool.check(deep, |now| {
            progress = CheckProgress {
                containers: now.containers,
                containers_total: now.containers_total,
                objects: now.objects,
                bytes: now.bytes,
                ..progress
            };
            tell(&progress)
        })?;
        check.progress = progress;
        pool.damage.iter().for_each(|damage| check.add(damage));
        check.problems_unnamed += pool.damage_left_out;
        self.check_catalogue(&mut check);
        self.check_trees(deep, &mut check, tell)?;
        Ok(check)
    }

    fn check_histories(&self, check: &mut StoreCheck) -> Result<()> {
        for row in self.rows_with_deleted() {
            for file in self.history_files(row.id) {
                let mut missing = Vec::new();
                let read = self.history_chunks(row.id, &file, &mut |names| {
                    let there = self.stages().pool.contains_batch(Kind::Chunk, names)?;
                    missing.extend(names.iter().zip(there).filter(|(_, there)| !there).map(|(name, _)| *name));
                    Ok(())
                });
                // What a window let go of meanwhile is no damage.
                if self.history_files(row.id).iter().any(|now| now.first == file.first) {
                    check.note(&format!("the history of {}", row.name), read)?;
                    let named =
                        |name| format!("the chunk {name} is named by the history of {} and not there", row.name);
                    missing.into_iter().for_each(|name| check.add(named(name)));
                }
            }
        }
        Ok(())
    }

    fn check_catalogue(&self, check: &mut StoreCheck) {
        let rows = self.dataset_rows();
        let mut names = BTreeSet::new();
        for row in &rows {
            if !names.insert(row.name.clone()) {
                check.add(format!("two datasets are called {}", row.name));
            }
        }
        let mut labels = BTreeSet::new();
        for snapshot in self.snapshots(None) {
            if !rows.iter().any(|row| row.id == snapshot.dataset) {
                check.add(format!("the snapshot {} belongs to no dataset", snapshot.name));
            }
            if !labels.insert((snapshot.dataset, snapshot.name.clone())) {
                check.add(format!("two snapshots of one dataset are called {}", snapshot.name));
            }
        }
    }

    fn check_trees(
        &self,
        deep: bool,
        check: &mut StoreCheck,
        tell: &mut dyn FnMut(&CheckProgress) -> bool,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        let mut verified = HashSet::new();
        let mut roots: BTreeMap<Option<Name>, String> = BTreeMap::new();
        for row in self.rows_with_deleted() {
            for snapshot in self.stages().catalogue.all_snapshots(Some(row.id)) {
                let sealed = snapshot.sealed.map(|sealed| (sealed.root, format!("{}@{}", row.name, snapshot.name)));
                roots.extend(sealed);
            }
            roots.insert(self.base_root(row.id)?, row.name);
        }
        for (root, place) in roots {
            let Some(root) = root else { continue };
            let reached = self.check_reach(&root, &mut seen, check);
            let whole = check.note(&place, reached)?.is_some();
            if deep && whole {
                let canonical = self.check_canonical(&root, &mut verified);
                check.note(&place, canonical)?;
            }
            let files = self.check_namespace(root);
            if let Some(files) = check.note(&place, files)? {
                check.progress.files += files;
            }
            check.progress.roots += 1;
            if !tell(&check.progress) {
                break;
            }
        }
        for dataset in self.open_datasets() {
            // One that was deleted answers nothing; what it has was looked at above.
            if let Some(row) = self.dataset_row(dataset.id) {
                check.note(&format!("dataset {}", row.name), dataset.check_live())?;
            }
        }
        Ok(())
    }

    /// Walks everything below a root that was not walked before.
    fn check_reach(&self, root: &Name, seen: &mut HashSet<(Kind, Name)>, check: &mut StoreCheck) -> Result<()> {
        let objects = self.stages().pool.on(StreamId::MISC);
        let mut missing = Vec::new();
        walk(&objects, Kind::MapNode, root, &mut |kind, name| {
            if kind.is_node() {
                return Ok(seen.insert((kind, *name)));
            }
            if !objects.contains(kind, name)? {
                missing.push(*name);
            }
            Ok(false)
        })?;
        missing.iter().for_each(|name| check.add(format!("the chunk {name} is named and not there")));
        Ok(())
    }

    /// Builds the map of a root, and every content in it that was not verified before, again from their entries.
    fn check_canonical(&self, root: &Name, verified: &mut HashSet<(Name, u64, u64)>) -> Result<()> {
        let objects = self.stages().pool.on(StreamId::MISC);
        verify_map(&objects, self.realm(), root, &mut |_, content| {
            let known = content.root().map(|name| (name, content.len(), content.data_len()));
            if !known.is_some_and(|known| verified.contains(&known)) {
                verify_content(&objects, self.realm(), &content)?;
                verified.extend(known);
            }
            Ok(())
        })
    }

    /// The namespace below a root: its own invariants, and contents as long as records say.
    fn check_namespace(&self, root: Name) -> Result<u64> {
        let objects = self.stages().pool.on(StreamId::MISC);
        let state = State::at(Some(root));
        let view = Transaction::new(&state, &objects);
        let totals = check_names(&view)?;
        let mut size: Option<(Inode, u64)> = None;
        for pair in map::range::<&[u8]>(&objects, Some(&root), ..) {
            let (key, value) = pair?;
            match Key::parse(&key) {
                Some(Key::Record(inode)) => size = Some((inode, Record::decode(inode, &value)?.size)),
                Some(Key::Content(inode)) => check_length(inode, &value, size)?,
                _ => {}
            }
        }
        Ok(totals.files)
    }
}

/// The invariants of a share's namespace, or of a volume's.
fn check_names(view: &dyn View) -> Result<Totals> {
    if namespace::is_volume(view)? { namespace::check_volume(view) } else { namespace::check(view) }
}

fn check_length(inode: Inode, value: &Bytes, size: Option<(Inode, u64)>) -> Result<()> {
    let len = content_of(inode, value)?.len();
    match size {
        Some((owner, size)) if owner == inode && size == len => Ok(()),
        _ => {
            let found = format!("a content of {len} bytes");
            Err(Damage::new(format!("inode {inode}"), 0, "a content as long as its record says", found).into())
        }
    }
}

impl Dataset {
    /// The namespace as clients see it now, layers included.
    fn check_live(&self) -> Result<()> {
        let objects = self.objects();
        let state = self.read_state();
        state.refuse_if_shut()?;
        let transaction = Transaction::new(&state, &objects);
        match (transaction.get(&Key::Totals.encode())?, state.base.root) {
            (None, None) => Ok(()),
            _ => check_names(&transaction).map(drop),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
