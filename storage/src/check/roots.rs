//! What is looked at from every root that is kept, in passes: each goes from root to root in one order, remembers what several of them share,
//! and looks at that once. Passes know nothing of one another, so that several threads may be at them, each at another.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::passes::{Names, Reach, Shapes};
use super::{CheckProgress, PROBLEMS_MAX, StoreCheck};
use crate::catalogue::SnapshotRow;
use crate::error::{Error, Result};
use crate::id::DatasetId;
use crate::name::Name;
use crate::pool::{PoolStream, StreamId};
use crate::store::Store;

/// A root that is kept.
pub(super) struct Root {
    pub dataset: DatasetId,
    pub name: Name,
    /// What it is called where something is wrong with it.
    pub place: String,
}

/// What one pass looks at.
pub(super) trait Pass: Send {
    /// Looks at a root; what is wrong without ending the look goes to `wrong`. Returns how many files it looked at, where it counts them.
    fn look(&mut self, objects: &PoolStream, root: &Root, wrong: &mut Vec<String>) -> Result<u64>;
}

/// All roots, and how far each pass is.
pub(super) struct Roots<'a> {
    objects: PoolStream,
    roots: Vec<Root>,
    passes: Vec<Course<'a>>,
    files: AtomicU64,
    /// Threads that are at a pass.
    busy: AtomicUsize,
}

/// A pass on its way.
struct Course<'a> {
    /// The root that is next.
    next: AtomicUsize,
    at_work: Mutex<AtWork<'a>>,
}

struct AtWork<'a> {
    pass: Box<dyn Pass + 'a>,
    found: Found,
}

/// What a pass found wrong, by the number of the root.
#[derive(Default)]
struct Found {
    problems: Vec<(usize, String)>,
    unnamed: u64,
    /// Roots with anything wrong,
    wrong: BTreeSet<usize>,
    /// and of these, where the look did not come to its end.
    broken_off: BTreeSet<usize>,
}

impl Found {
    fn add(&mut self, root: usize, problem: String) {
        self.wrong.insert(root);
        match self.problems.len() < PROBLEMS_MAX {
            true => self.problems.push((root, problem)),
            false => self.unnamed += 1,
        }
    }
}

impl<'a> Roots<'a> {
    /// All roots that are kept now. With `deep`, each tree is proved to be the one that its entries give.
    pub fn of(store: &'a Store, deep: bool) -> Result<Roots<'a>> {
        let mut passes: Vec<Box<dyn Pass + 'a>> = vec![Box::new(Reach::default()), Box::new(Names::default())];
        if deep {
            passes.push(Box::new(Shapes::new(store.realm())));
        }
        let course =
            |pass| Course { next: AtomicUsize::new(0), at_work: Mutex::new(AtWork { pass, found: Found::default() }) };
        Ok(Roots {
            objects: store.stages().pool.on(StreamId::MISC),
            roots: kept_roots(store)?,
            passes: passes.into_iter().map(course).collect(),
            files: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
        })
    }

    /// Takes one pass to its next root: that which is the furthest behind of those at which nobody is. False where there is none, or where
    /// so many threads as `most` are at passes already.
    pub fn step(&self, most: usize) -> Result<bool> {
        if self.busy.fetch_add(1, Ordering::AcqRel) >= most {
            self.busy.fetch_sub(1, Ordering::AcqRel);
            return Ok(false);
        }
        let stepped = self.free_course().map(|(course, at_work)| self.advance(course, at_work));
        self.busy.fetch_sub(1, Ordering::AcqRel);
        stepped.transpose().map(|stepped| stepped.is_some())
    }

    fn free_course(&self) -> Option<(&Course<'a>, MutexGuard<'_, AtWork<'a>>)> {
        let mut open: Vec<&Course> = self.passes.iter().filter(|course| course.roots() < self.roots.len()).collect();
        open.sort_by_key(|course| course.roots());
        open.into_iter().find_map(|course| {
            let at_work = match course.at_work.try_lock() {
                Ok(at_work) => at_work,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            };
            // Another thread may have taken it to its end meanwhile.
            (course.roots() < self.roots.len()).then_some((course, at_work))
        })
    }

    fn advance(&self, course: &Course<'a>, mut at_work: MutexGuard<'_, AtWork<'a>>) -> Result<()> {
        let (nth, mut wrong) = (course.roots(), Vec::new());
        let root = &self.roots[nth];
        let AtWork { pass, found } = &mut *at_work;
        let looked = pass.look(&self.objects, root, &mut wrong);
        wrong.into_iter().for_each(|problem| found.add(nth, problem));
        match looked {
            Ok(files) => drop(self.files.fetch_add(files, Ordering::Relaxed)),
            Err(Error::Environment(error)) => return Err(error.into()),
            Err(error) => {
                found.add(nth, format!("{}: {error}", root.place));
                found.broken_off.insert(nth);
            }
        }
        course.next.store(nth + 1, Ordering::Release);
        Ok(())
    }

    /// Adds how far it is: a root counts once every pass is behind it.
    pub fn progress(&self, progress: CheckProgress) -> CheckProgress {
        let roots = self.passes.iter().map(Course::roots).min().unwrap_or(0) as u64;
        let files = self.files.load(Ordering::Relaxed);
        CheckProgress { roots, roots_total: self.roots.len() as u64, files, ..progress }
    }

    /// Tells what was found, root by root, and returns the roots that all passes found sound.
    pub fn end(self, check: &mut StoreCheck) -> HashSet<Name> {
        check.progress = self.progress(check.progress);
        let behind = check.progress.roots as usize;
        let mut found: Vec<Found> = self.passes.into_iter().map(Course::end).collect();
        // What can't be reached has no shape: that was said once.
        let torn = found.first().map(|reach| reach.broken_off.clone()).unwrap_or_default();
        if let Some(shapes) = found.get_mut(2) {
            shapes.problems.retain(|(root, _)| !torn.contains(root));
        }
        let mut problems: Vec<_> = found.iter_mut().flat_map(|found| found.problems.drain(..)).collect();
        problems.sort_by_key(|(root, _)| *root);
        problems.into_iter().for_each(|(_, problem)| check.add(problem));
        check.problems_unnamed += found.iter().map(|found| found.unnamed).sum::<u64>();
        let is_sound = |nth: &usize| *nth < behind && !found.iter().any(|found| found.wrong.contains(nth));
        (0..self.roots.len()).filter(is_sound).map(|nth| self.roots[nth].name).collect()
    }
}

impl Course<'_> {
    /// How many roots it is past.
    fn roots(&self) -> usize {
        self.next.load(Ordering::Acquire)
    }

    fn end(self) -> Found {
        self.at_work.into_inner().unwrap_or_else(PoisonError::into_inner).found
    }
}

/// All roots that are kept, each once: those of a dataset one after the other in the order of their making, for neighbours differ little.
fn kept_roots(store: &Store) -> Result<Vec<Root>> {
    let mut roots = Vec::new();
    for row in store.rows_with_deleted() {
        let mut snapshots = store.stages().catalogue.all_snapshots(Some(row.id));
        snapshots.sort_by_key(|snapshot| snapshot.lsn);
        let sealed = |snapshot: &SnapshotRow| Some((snapshot.sealed?.root?, format!("{}@{}", row.name, snapshot.name)));
        let head = store.base_root(row.id)?.map(|root| (root, row.name.clone()));
        let kept = snapshots.iter().filter_map(sealed).chain(head);
        roots.extend(kept.map(|(name, place)| Root { dataset: row.id, name, place }));
    }
    let mut met = HashSet::new();
    roots.retain(|root| met.insert(root.name));
    Ok(roots)
}
