//! Reclaim: what nobody needs gives its room back, every day and when it is asked for.
//!
//! Of a box that runs one thread steps runs, paced; a command in between is the same run, unpaced, and waits for the other to end. When
//! the last run ended, and what came of it, is in the setting `reclaim.last`, so that a start does not begin a new one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::Store;
use narrowboat_storage::error::Error;
use narrowboat_storage::in_the_way::InTheWay;
use narrowboat_storage::reclaim::{Phase, Reclaim, Stepped};
use narrowboat_storage::store::{KeptRoot, Quarantined, RootOf};

use crate::clock;
use crate::config::Config;
use crate::control::{Failed, reports};
use crate::jobs::{Meter, PATIENCE, Progress, alone};
use crate::units::rfc3339;

/// How often it is looked whether a run is due.
pub const EVERY: Duration = Duration::from_secs(30);
/// A run begins so long after the one before it has ended, in nanoseconds.
const REST_NANOSECONDS: i64 = 24 * 3_600_000_000_000;
/// The same where the disk is nearly full, and after a run that failed.
const SHORT_REST_NANOSECONDS: i64 = 3_600_000_000_000;
/// Less free room than this part of the disk is little.
const LITTLE_ROOM: u64 = 10;
/// No run begins by itself so soon after a start.
const SETTLING: Duration = Duration::from_secs(300);
/// What a run by itself reads and moves in a second, where the config says nothing.
const PACE_BYTES: u64 = 64 << 20;
/// Whose it is that can't be read is told and kept of so many.
const IN_THE_WAY_MAX: usize = 20;
/// What came of the last run.
const LAST: &str = "reclaim.last";

/// The runs of a box.
pub struct Reclaims {
    store: Arc<Store>,
    pace_bytes: u64,
    /// Held by whoever runs.
    running: Mutex<()>,
    now: Mutex<Option<Progress>>,
    failed: Mutex<Option<String>>,
    /// When a run by itself failed last: a whole walk is not tried again at once.
    came_to_nothing: Mutex<Option<Instant>>,
    /// The next look begins a run.
    hurried: AtomicBool,
    started: Instant,
}

impl Reclaims {
    /// Those of the box that keeps `store`.
    pub fn new(store: Arc<Store>, config: &Config) -> Reclaims {
        let pace_bytes = config.store.reclaim_pace.map_or(PACE_BYTES, |pace| pace.0.max(1));
        let (running, now, came_to_nothing, hurried) = Default::default();
        let failed = Mutex::new(last(&store).and_then(|last| last.stopped));
        Reclaims { store, pace_bytes, running, now, failed, came_to_nothing, hurried, started: Instant::now() }
    }

    /// What came of the last run that was not a preview, if there was one.
    pub fn last(&self) -> Option<reports::Reclaim> {
        last(&self.store)
    }

    /// How far the run is that is under way, if one is.
    pub fn progress(&self) -> Option<Progress> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last run came to no end, if so it was.
    pub fn failed(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs if that is due, at the pace that was set; `stop` ends it.
    pub fn look(&self, stop: &dyn Fn() -> bool) {
        // A box that has just started has other things to do.
        let hurried = self.hurried.swap(false, Ordering::Relaxed);
        if !hurried && (self.started.elapsed() < SETTLING || !self.is_due()) {
            return;
        }
        match self.run(false, Some(self.pace_bytes), stop, &mut |_| {}) {
            Ok(report) => tracing::info!(freed = report.freed_bytes, seconds = report.seconds, "reclaimed"),
            Err(failed) if !stop() => {
                tracing::warn!(why = failed.message, "reclaim came to no end: it is tried again in an hour");
                *self.came_to_nothing.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            Err(_) => {}
        }
    }

    /// Has the next look begin a run: there is room to be given back that is needed.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        let failed = *self.came_to_nothing.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|at| at.elapsed().as_nanos() < SHORT_REST_NANOSECONDS as u128) {
            return false;
        }
        let little = self.store.space().is_ok_and(|space| space.free_bytes < space.total_bytes / LITTLE_ROOM);
        let rest = if little || self.failed().is_some() { SHORT_REST_NANOSECONDS } else { REST_NANOSECONDS };
        let ended = self.last().map(|last| last.ended_nanoseconds);
        // A clock that is set back must not make it wait.
        ended.is_none_or(|ended| clock::now().0.abs_diff(ended) >= rest as u64)
    }

    /// Runs to the end, or (a preview) tells what that would free. Waits for one that is under way.
    pub fn run(
        &self,
        preview: bool,
        pace_bytes: Option<u64>,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<reports::Reclaim, Failed> {
        let run = || if preview { self.store.reclaim_preview() } else { self.store.reclaim() };
        self.run_alone(&run, preview, pace_bytes, stop, tell)
    }

    /// Tells what a run would free if part of the quarantine were empty. Waits for one that is under way.
    pub fn preview_without(
        &self,
        gone: &dyn Fn(&Quarantined) -> bool,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<reports::Reclaim, Failed> {
        self.run_alone(&|| self.store.reclaim_preview_without(gone), true, None, stop, tell)
    }

    fn run_alone(
        &self,
        begin: &dyn Fn() -> Result<Reclaim, Error>,
        preview: bool,
        pace_bytes: Option<u64>,
        stop: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<reports::Reclaim, Failed> {
        let waiting = &mut || self.progress().into_iter().for_each(&mut *tell);
        let _alone = alone(&self.running, stop, waiting).ok_or_else(stopped)?;
        let mut note = |progress: Progress| {
            *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
            tell(progress);
        };
        let outcome = begin()
            .map_err(Failed::from)
            .and_then(|run| step_to_the_end(&self.store, run, preview, pace_bytes, stop, &mut note));
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if !preview && !stop() {
            let failed = outcome.as_ref().err().map(|failed| failed.message.clone());
            let stopped = outcome.as_ref().ok().and_then(|report| report.stopped.clone());
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed.or(stopped);
        }
        outcome
    }
}

fn last(store: &Store) -> Option<reports::Reclaim> {
    serde_json::from_slice(&store.setting(LAST)?).ok()
}

fn stopped() -> Failed {
    Failed::refused("reclaim was stopped before its end; what it let go of is gone, the rest goes with the next run")
}

/// Reclaims what a store holds that nobody needs, or tells what that would be. `pace_bytes` are read and moved in a second at most.
pub fn reclaim(
    store: &Store,
    preview: bool,
    pace_bytes: Option<u64>,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Reclaim, Failed> {
    let run = if preview { store.reclaim_preview()? } else { store.reclaim()? };
    step_to_the_end(store, run, preview, pace_bytes, stop, tell)
}

fn step_to_the_end(
    store: &Store,
    mut run: Reclaim,
    preview: bool,
    pace_bytes: Option<u64>,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Reclaim, Failed> {
    let begun = Instant::now();
    let mut walked = Meter::new("looking", "nodes", None);
    let mut freed: Option<Meter> = None;
    let mut bytes = 0;
    loop {
        if stop() {
            return Err(stopped());
        }
        match run.step(store, clock::now())? {
            Stepped::Done => break,
            Stepped::Waiting => std::thread::sleep(PATIENCE),
            Stepped::Worked => {}
        }
        progress(&run, &mut walked, &mut freed).into_iter().for_each(&mut *tell);
        let report = run.report();
        let now = report.read_bytes + report.moved_bytes;
        if let Some(pace) = pace_bytes {
            std::thread::sleep(Duration::from_secs_f64((now - bytes) as f64 / pace as f64).min(Duration::from_secs(2)));
        }
        bytes = now;
    }
    let mut report = report(&run, preview, begun.elapsed());
    let obstacles = run.report().obstacles.clone();
    drop(run);
    let in_the_way = store.in_the_way(&obstacles, stop)?;
    report.in_the_way = in_the_way.into_iter().take(IN_THE_WAY_MAX).map(told).collect();
    if !preview {
        let text = serde_json::to_vec(&report).map_err(|error| Failed::refused(error.to_string()))?;
        match store.set_setting(LAST, Some(&text), clock::now()) {
            // On a full disk it has made room all the same.
            Ok(()) | Err(Error::Environment(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(report)
}

fn progress(run: &Reclaim, walked: &mut Meter, freed: &mut Option<Meter>) -> Option<Progress> {
    let report = run.report();
    match run.phase() {
        Phase::LetGo | Phase::Done => {
            let meter = freed.get_or_insert_with(|| Meter::new("freeing", "containers", Some(report.containers_total)));
            meter.at(report.containers_removed + report.containers_rewritten)
        }
        _ => walked.at(report.nodes_needed),
    }
}

fn report(run: &Reclaim, preview: bool, took: Duration) -> reports::Reclaim {
    let report = run.report();
    let now = clock::now();
    reports::Reclaim {
        preview,
        ended: rfc3339(now),
        ended_nanoseconds: now.0,
        seconds: took.as_secs_f64(),
        freeable_bytes: report.freeable_bytes,
        freed_bytes: report.freed_bytes,
        left_bytes: report.left_bytes,
        moved_bytes: report.moved_bytes,
        read_bytes: report.read_bytes,
        containers_removed: report.containers_removed,
        containers_rewritten: report.containers_rewritten,
        nodes_needed: report.nodes_needed,
        nodes_freed: report.nodes_freed,
        chunks_freed: report.chunks_freed,
        stopped: report.stopped.clone(),
        in_the_way: Vec::new(),
        problems: report.damage.iter().map(ToString::to_string).collect(),
    }
}

/// What can't be read, and what lets go of it.
fn told(one: InTheWay) -> reports::InTheWay {
    let InTheWay { of: KeptRoot { dataset, dataset_deleted, of, .. }, paths, torn } = one;
    let named = |snapshot: &str| format!("{dataset}@{snapshot}");
    let empty = |what: &str| format!("narrowboat quarantine empty {what}");
    let (what, snapshot, deleted) = match of {
        RootOf::Snapshot { name, deleted } => ("snapshot", Some(name), deleted),
        RootOf::Now => ("now", None, false),
        RootOf::Past => ("past", None, false),
    };
    let commands = match (&snapshot, what) {
        _ if dataset_deleted => vec![empty(&dataset)],
        (Some(snapshot), _) if deleted => vec![empty(&named(snapshot))],
        (Some(snapshot), _) => {
            vec![format!("narrowboat snapshot delete {}", named(snapshot)), empty(&named(snapshot))]
        }
        (None, "past") => vec![format!("narrowboat window {dataset} --off")],
        // Single files are written again or deleted by whoever uses them.
        _ if torn || paths.is_empty() => vec![format!("narrowboat dataset delete {dataset}"), empty(&dataset)],
        _ => Vec::new(),
    };
    let paths = paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    let deleted = deleted || dataset_deleted;
    reports::InTheWay { snapshot, what: what.to_owned(), deleted, paths, torn, commands, dataset }
}
