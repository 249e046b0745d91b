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

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::catalogue::SnapshotRow;
use crate::dataset::live::Dataset;
use crate::dataset::namespace::{self, Key, Record, Totals, View};
use crate::dataset::state::{State, content_of};
use crate::dataset::table::Transaction;
use crate::error::{Damage, Error, Result};
use crate::id::DatasetId;
use crate::name::{Kind, Name, Realm};
use crate::pool::{self, PoolStream, StreamId, Verifying};
use crate::store::Store;
use crate::tree::{Objects, map, verify_content, walk};
use crate::units::Inode;

/// So many inodes in which a root differs from the one before are looked at one by one; where there are more, all are.
const DIFFER_MAX: usize = 1 << 20;
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
    /// Of how many; known when all containers were looked at.
    pub roots_total: u64,
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

    fn count(&self) -> u64 {
        self.problems.len() as u64 + self.problems_unnamed
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

/// A check under way. Its first part is steps, which several threads may take at once: see [`Check::step`].
pub struct Check<'a> {
    store: &'a Store,
    deep: bool,
    found: StoreCheck,
    pool: Verifying,
}

impl Check<'_> {
    /// Looks at one container; false where all were looked at.
    pub fn step(&self) -> Result<bool> {
        self.pool.step()
    }

    /// How far it is.
    pub fn progress(&self) -> CheckProgress {
        with_pool(self.found.progress, &self.pool.progress())
    }

    /// Looks at the catalogue and at all trees, and ends the check. `tell` hears how far it is, and ends the check by returning false.
    pub fn end(mut self, tell: &mut dyn FnMut(&CheckProgress) -> bool) -> Result<StoreCheck> {
        // What trees name is to be there until they are walked.
        let _stays = self.store.stages().pool.checking();
        let pool = self.pool.end()?;
        let check = &mut self.found;
        check.progress = with_pool(check.progress, &pool.progress);
        pool.damage.iter().for_each(|damage| check.add(damage));
        check.problems_unnamed += pool.damage_left_out;
        self.store.check_catalogue(check);
        self.store.check_trees(self.deep, check, tell)?;
        Ok(self.found)
    }
}

fn with_pool(progress: CheckProgress, pool: &pool::Progress) -> CheckProgress {
    CheckProgress {
        containers: pool.containers,
        containers_total: pool.containers_total,
        objects: pool.objects,
        bytes: pool.bytes,
        ..progress
    }
}

impl Store {
    /// Checks every invariant. Damage is collected; only what the machine can't do is an error. `tell` hears how far it
    /// is, and ends the check by returning false.
    pub fn check(&self, deep: bool, tell: &mut dyn FnMut(&CheckProgress) -> bool) -> Result<StoreCheck> {
        let check = self.begin_check(deep)?;
        while check.step()? && tell(&check.progress()) {}
        check.end(tell)
    }

    /// Begins to check every invariant: journal and histories at once, the rest in steps.
    ///
    /// Memory: buffers for a MiB and an object for each thread that takes steps; 33 bytes a tree node that is reached, with `deep` as many
    /// again, and 48 more a file that has a tree of its own; 20 to 40 MiB for a million files in which a snapshot differs from the one before
    /// it. Everything else goes on meanwhile.
    pub fn begin_check(&self, deep: bool) -> Result<Check<'_>> {
        let mut found = StoreCheck::default();
        let _stays = self.stages().pool.checking();
        let journal = self.stages().journal.verify();
        found.note("journal", journal)?;
        self.check_histories(&mut found)?;
        Ok(Check { store: self, deep, found, pool: self.stages().pool.verify(deep)? })
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
        let objects = self.stages().pool.on(StreamId::MISC);
        let mut walk = Walk {
            objects: &objects,
            realm: self.realm(),
            reached: HashSet::new(),
            maps: deep.then(|| map::Canonical::of_several(&objects, self.realm())),
            contents: HashSet::new(),
            sound: HashSet::new(),
            last: None,
        };
        let mut done = HashSet::new();
        let mut roots = self.roots_to_check()?;
        roots.retain(|root| done.insert(root.name));
        check.progress.roots_total = roots.len() as u64;
        for Root { dataset, name, place } in roots {
            check.progress.files += walk.root(dataset, &name, &place, check)?;
            check.progress.roots += 1;
            if !tell(&check.progress) {
                break;
            }
        }
        for dataset in self.open_datasets() {
            // One that was deleted answers nothing; what it has was looked at above.
            if let Some(row) = self.dataset_row(dataset.id) {
                check.note(&format!("dataset {}", row.name), dataset.check_live(&walk.sound))?;
            }
        }
        Ok(())
    }

    /// All roots that are kept: those of a dataset one after the other in the order of their making, for neighbours differ little.
    fn roots_to_check(&self) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        for row in self.rows_with_deleted() {
            let mut snapshots = self.stages().catalogue.all_snapshots(Some(row.id));
            snapshots.sort_by_key(|snapshot| snapshot.lsn);
            let sealed =
                |snapshot: &SnapshotRow| Some((snapshot.sealed?.root?, format!("{}@{}", row.name, snapshot.name)));
            let head = self.base_root(row.id)?.map(|root| (root, row.name.clone()));
            let kept = snapshots.iter().filter_map(sealed).chain(head);
            roots.extend(kept.map(|(name, place)| Root { dataset: row.id, name, place }));
        }
        Ok(roots)
    }
}

/// A root that is kept.
struct Root {
    dataset: DatasetId,
    name: Name,
    /// What it is called where something is wrong with it.
    place: String,
}

/// A walk over all roots: what several of them share is looked at once.
struct Walk<'a> {
    objects: &'a PoolStream,
    realm: &'a Realm,
    /// Nodes that were reached.
    reached: HashSet<(Kind, Name)>,
    /// Where trees are built again: what is known of maps,
    maps: Option<map::Canonical<'a>>,
    /// and contents that are the trees of their entries.
    contents: HashSet<(Name, u64, u64)>,
    /// Roots that were found sound,
    sound: HashSet<Name>,
    /// and the last of them, and whose it is.
    last: Option<(DatasetId, Name)>,
}

impl Walk<'_> {
    /// Looks at everything below a root; returns how many files that has.
    fn root(&mut self, dataset: DatasetId, root: &Name, place: &str, check: &mut StoreCheck) -> Result<u64> {
        let before = check.count();
        let reached = self.reach(root, check);
        if check.note(place, reached)?.is_some() {
            let canonical = self.canonical(root);
            check.note(place, canonical)?;
        }
        let like = self.last.filter(|(of, _)| *of == dataset).map(|(_, root)| root);
        let files = self.namespace(root, like);
        let files = check.note(place, files)?;
        if files.is_some() && check.count() == before {
            self.sound.insert(*root);
            self.last = Some((dataset, *root));
        }
        Ok(files.unwrap_or(0))
    }

    /// Walks everything below a root that was not walked before.
    fn reach(&mut self, root: &Name, check: &mut StoreCheck) -> Result<()> {
        let mut missing = Vec::new();
        let (objects, reached) = (self.objects, &mut self.reached);
        walk(objects, Kind::MapNode, root, &mut |kind, name| {
            if kind.is_node() {
                return Ok(reached.insert((kind, *name)));
            }
            if !objects.contains(kind, name)? {
                missing.push(*name);
            }
            Ok(false)
        })?;
        missing.iter().for_each(|name| check.add(format!("the chunk {name} is named and not there")));
        Ok(())
    }

    /// Verifies that the map of a root, and every content in it, are the trees of their entries, where they were not verified before.
    fn canonical(&mut self, root: &Name) -> Result<()> {
        let (objects, realm, contents) = (self.objects, self.realm, &mut self.contents);
        let Some(maps) = &mut self.maps else { return Ok(()) };
        maps.verify(root, &mut |_, content| {
            let known = content.root().map(|name| (name, content.len(), content.data_len()));
            if !known.is_some_and(|known| contents.contains(&known)) {
                verify_content(objects, realm, &content)?;
                contents.extend(known);
            }
            Ok(())
        })
    }

    /// The namespace below a root: its own invariants, and contents as long as records say. Where a sound root is `like` it, only what differs
    /// is looked at.
    fn namespace(&self, root: &Name, like: Option<Name>) -> Result<u64> {
        let (state, objects) = (State::at(Some(*root)), self.objects);
        let view = Transaction::new(&state, objects);
        let differs = match like {
            Some(like) if !namespace::is_volume(&view)? => self.differs(&like, root)?.map(|differs| (like, differs)),
            _ => None,
        };
        let totals = match &differs {
            None => {
                let totals = check_names(&view)?;
                self.lengths(root, None)?;
                totals
            }
            Some((like, differs)) => {
                let state = State::at(Some(*like));
                let before = Transaction::new(&state, objects);
                let totals = namespace::check_changed(&before, &view, differs.clone())?;
                differs.iter().try_for_each(|inode| self.lengths(root, Some(*inode)))?;
                totals
            }
        };
        Ok(totals.files)
    }

    /// The inodes in which two roots differ; nothing where they are too many to be remembered.
    fn differs(&self, one: &Name, other: &Name) -> Result<Option<BTreeSet<Inode>>> {
        let mut inodes = BTreeSet::new();
        for change in map::diff(self.objects, Some(one), Some(other)) {
            inodes.extend(namespace::owner_of(&change?.key)?);
            if inodes.len() > DIFFER_MAX {
                return Ok(None);
            }
        }
        Ok(Some(inodes))
    }

    /// Contents are as long as records say: of one file, or of all.
    fn lengths(&self, root: &Name, of: Option<Inode>) -> Result<()> {
        let mut size: Option<(Inode, u64)> = None;
        let (from, to) = match of.map(namespace::keys_of) {
            Some((from, to)) => (Bound::Included(from), Bound::Excluded(to)),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        for pair in map::range::<Vec<u8>>(self.objects, Some(root), (from, to)) {
            let (key, value) = pair?;
            match Key::parse(&key) {
                Some(Key::Record(inode)) => size = Some((inode, Record::decode(inode, &value)?.size)),
                Some(Key::Content(inode)) => check_length(inode, &value, size)?,
                _ => {}
            }
        }
        Ok(())
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
    /// The namespace as clients see it now, layers included. Whoever writes waits meanwhile, so over a root that is known to be `sound` only what
    /// the layers change is looked at.
    fn check_live(&self, sound: &HashSet<Name>) -> Result<()> {
        let objects = self.objects();
        let state = self.read_state();
        state.refuse_if_shut()?;
        let now = Transaction::new(&state, &objects);
        let base = state.base.root.filter(|root| sound.contains(root));
        match (now.get(&Key::Totals.encode())?, state.base.root, base) {
            (None, None, _) => Ok(()),
            (_, _, Some(root)) if !namespace::is_volume(&now)? => {
                let mut changed = BTreeSet::new();
                for key in state.layers().flat_map(|layer| layer.edits.keys()) {
                    changed.extend(namespace::owner_of(key)?);
                }
                let below = State::at(Some(root));
                namespace::check_changed(&Transaction::new(&below, &objects), &now, changed).map(drop)
            }
            _ => check_names(&now).map(drop),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
