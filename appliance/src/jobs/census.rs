//! Counting what would be freed: once a day beside everything else, and when somebody asks for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::Store;
use narrowboat_storage::census::{CensusOptions, Freeable};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::reclaim::Stepped;

use crate::clock;
use crate::control::Failed;
use crate::jobs::{Meter, Progress};

/// Figures that are older are counted again.
const REST: Duration = Duration::from_secs(24 * 3600);
/// None is begun by itself so soon after a start.
const SETTLING: Duration = Duration::from_secs(600);

/// The censuses of a box. What came of the last one is in memory: a box that was started anew counts again.
pub struct Censuses {
    store: Arc<Store>,
    running: Mutex<()>,
    last: Mutex<Option<Freeable>>,
    /// When one was begun by itself last, whatever came of it.
    begun: Mutex<Option<Instant>>,
    started: Instant,
}

impl Censuses {
    /// Those of the box that keeps `store`.
    pub fn new(store: Arc<Store>) -> Censuses {
        let (running, last, begun) = Default::default();
        Censuses { store, running, last, begun, started: Instant::now() }
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
            let mut begun = lock(&self.begun);
            if self.started.elapsed() < SETTLING || begun.is_some_and(|begun| begun.elapsed() < REST) {
                return;
            }
            *begun = Some(Instant::now());
        }
        if let Err(failed) = self.run(true, stop, &mut |_| {})
            && !stop()
        {
            tracing::warn!(why = failed.message, "what deleting would free could not be counted");
        }
    }

    /// Counts now. One that is `gentle` rests for as long as it works.
    pub fn run(
        &self,
        gentle: bool,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Freeable, Failed> {
        let _alone = lock(&self.running);
        let mut meter = Meter::new("counting", "objects", None);
        let mut census = self.store.census(CensusOptions::default(), clock::now())?;
        loop {
            if stop() {
                return Err(Failed::refused("counting was stopped before its end"));
            }
            let begun = Instant::now();
            if census.step(&self.store)? == Stepped::Done {
                break;
            }
            meter.at(census.met()).into_iter().for_each(&mut *tell);
            if gentle {
                std::thread::sleep(begun.elapsed().min(Duration::from_secs(2)));
            }
        }
        let report = census.report().clone();
        *lock(&self.last) = Some(report.clone());
        Ok(report)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
