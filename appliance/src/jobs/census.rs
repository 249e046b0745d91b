//! Counting what would be freed: once a day beside everything else, and when somebody asks for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::Store;
use narrowboat_storage::census::{CensusOptions, Freeable};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::reclaim::Stepped;

use crate::clock;
use crate::control::Failed;
use crate::jobs::{Meter, Progress, alone};

/// Figures that are older are counted again.
const REST: Duration = Duration::from_secs(24 * 3600);
/// None is begun by itself so soon after a start.
const SETTLING: Duration = Duration::from_secs(600);

/// The censuses of a box. What came of the last one is in memory: a box that was started anew counts again.
pub struct Censuses {
    store: Arc<Store>,
    running: Mutex<()>,
    now: Mutex<Option<Progress>>,
    last: Mutex<Option<Freeable>>,
    /// When one was begun by itself last, whatever came of it.
    begun: Mutex<Option<Instant>>,
    /// The next look begins one.
    hurried: AtomicBool,
    started: Instant,
}

impl Censuses {
    /// Those of the box that keeps `store`.
    pub fn new(store: Arc<Store>) -> Censuses {
        let (running, now, last, begun, hurried) = Default::default();
        Censuses { store, running, now, last, begun, hurried, started: Instant::now() }
    }

    /// What came of the last one.
    pub fn last(&self) -> Option<Freeable> {
        lock(&self.last).clone()
    }

    /// What a dataset would free, as far as it was counted.
    pub fn dataset(&self, id: DatasetId) -> Option<u64> {
        lock(&self.last).as_ref()?.datasets.get(&id).copied()
    }

    /// What a snapshot would free, as far as it was counted.
    pub fn snapshot(&self, id: SnapshotId) -> Option<u64> {
        lock(&self.last).as_ref()?.snapshots.get(&id).copied()
    }

    /// Counts if that is due, for half of the time; `stop` ends it.
    pub fn look(&self, stop: &dyn Fn() -> bool) {
        {
            let hurried = self.hurried.swap(false, Ordering::Relaxed);
            let mut begun = lock(&self.begun);
            let rests = self.started.elapsed() < SETTLING || begun.is_some_and(|begun| begun.elapsed() < REST);
            if rests && !hurried {
                return;
            }
            *begun = Some(Instant::now());
        }
        if let Err(failed) = self.run(Pace::Half, stop, &mut |_| {})
            && !stop()
        {
            tracing::warn!(why = failed.message, "what deleting would free could not be counted");
        }
    }

    /// Has the next look begin one.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// What was counted last; where nothing was, counts, or waits for a count that is under way.
    pub fn last_or_run(&self, stop: &dyn Fn() -> bool, tell: &mut dyn FnMut(Progress)) -> Result<Freeable, Failed> {
        if let Some(last) = self.last() {
            return Ok(last);
        }
        let _alone = self.alone(stop, tell)?;
        self.last().map_or_else(|| self.count(Pace::Full, stop, tell), Ok)
    }

    /// Counts now, after one that is under way.
    pub fn run(&self, pace: Pace, stop: &dyn Fn() -> bool, tell: &mut dyn FnMut(Progress)) -> Result<Freeable, Failed> {
        let _alone = self.alone(stop, tell)?;
        self.count(pace, stop, tell)
    }

    fn alone(&self, stop: &dyn Fn() -> bool, tell: &mut dyn FnMut(Progress)) -> Result<MutexGuard<'_, ()>, Failed> {
        let waiting = &mut || lock(&self.now).clone().into_iter().for_each(&mut *tell);
        alone(&self.running, stop, waiting).ok_or_else(stopped)
    }

    fn count(&self, pace: Pace, stop: &dyn Fn() -> bool, tell: &mut dyn FnMut(Progress)) -> Result<Freeable, Failed> {
        let mut note = |progress: Progress| {
            *lock(&self.now) = Some(progress.clone());
            tell(progress);
        };
        let outcome = self.steps(pace, stop, &mut note);
        *lock(&self.now) = None;
        outcome
    }

    fn steps(&self, pace: Pace, stop: &dyn Fn() -> bool, tell: &mut dyn FnMut(Progress)) -> Result<Freeable, Failed> {
        let mut meter = Meter::new("counting", "objects", None);
        let mut census = self.store.census(CensusOptions::default(), clock::now())?;
        loop {
            if stop() {
                return Err(stopped());
            }
            let begun = Instant::now();
            if census.step(&self.store)? == Stepped::Done {
                break;
            }
            meter.at(census.met()).into_iter().for_each(&mut *tell);
            if pace == Pace::Half {
                std::thread::sleep(begun.elapsed().min(Duration::from_secs(2)));
            }
        }
        let report = census.report().clone();
        *lock(&self.last) = Some(report.clone());
        Ok(report)
    }
}

/// How much of the time a census works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// All of it: somebody waits.
    Full,
    /// Half of it.
    Half,
}

fn stopped() -> Failed {
    Failed::refused("counting was stopped before its end")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
