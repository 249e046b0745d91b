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

mod passes;
mod roots;

use std::collections::{BTreeSet, HashSet};

use crate::dataset::live::Dataset;
use crate::dataset::namespace::{self, Key, Totals, View};
use crate::dataset::state::State;
use crate::dataset::table::Transaction;
use crate::error::{Error, Result};
use crate::name::{Kind, Name};
use crate::pool::{self, Verifying};
use crate::store::Store;
use roots::Roots;

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
    /// Roots below which everything was looked at.
    pub roots: u64,
    /// Of how many.
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

/// A check under way: steps, which several threads may take at once, and an end.
pub struct Check<'a> {
    store: &'a Store,
    begun: StoreCheck,
    pool: Verifying,
    roots: Roots<'a>,
}

impl Check<'_> {
    /// Looks at one container, or at one root in one way; false where nothing is left that another thread is not at.
    ///
    /// Containers of nodes come first, for what walks along trees finds them in memory then. One thread walks along trees while there are
    /// containers to be read for the others: the one waits for the processor, the others for the disk.
    pub fn step(&self) -> Result<bool> {
        if !self.pool.nodes_are_read() {
            return self.pool.step();
        }
        Ok(self.roots.step(1)? || self.pool.step()? || self.roots.step(usize::MAX)?)
    }

    /// How far it is.
    pub fn progress(&self) -> CheckProgress {
        with_pool(self.roots.progress(self.begun.progress), &self.pool.progress())
    }

    /// Takes the steps that are left, looks at the catalogue and at what is not in trees yet, and ends the check. `tell` hears how far it is,
    /// and ends the check by returning false.
    pub fn end(self, tell: &mut dyn FnMut(&CheckProgress) -> bool) -> Result<StoreCheck> {
        // What trees name is to be there until they are walked.
        let _stays = self.store.stages().pool.checking();
        while tell(&self.progress()) && self.roots.step(usize::MAX)? {}
        let Check { store, begun: mut check, pool, roots } = self;
        let pool = pool.end()?;
        check.progress = with_pool(check.progress, &pool.progress);
        pool.damage.iter().for_each(|damage| check.add(damage));
        check.problems_unnamed += pool.damage_left_out;
        store.check_catalogue(&mut check);
        let sound = roots.end(&mut check);
        store.check_live(&sound, &mut check)?;
        Ok(check)
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
        let mut begun = StoreCheck::default();
        let _stays = self.stages().pool.checking();
        let journal = self.stages().journal.verify();
        begun.note("journal", journal)?;
        self.check_histories(&mut begun)?;
        // First, so that what they name lies in the containers that are looked at.
        let roots = Roots::of(self, deep)?;
        Ok(Check { store: self, begun, pool: self.stages().pool.verify(deep)?, roots })
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

    fn check_live(&self, sound: &HashSet<Name>, check: &mut StoreCheck) -> Result<()> {
        for dataset in self.open_datasets() {
            // One that was deleted answers nothing; what it has is looked at by its roots.
            if let Some(row) = self.dataset_row(dataset.id) {
                check.note(&format!("dataset {}", row.name), dataset.check_live(sound))?;
            }
        }
        Ok(())
    }
}

/// The invariants of a share's namespace, or of a volume's.
fn check_names(view: &dyn View) -> Result<Totals> {
    if namespace::is_volume(view)? { namespace::check_volume(view) } else { namespace::check(view) }
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
mod tests;
