//! Whether a store is sound.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Instant;

use narrowboat_storage::check::Check;
use narrowboat_storage::{Error, Store};

use super::{Failed, reports};
use crate::jobs::{Meter, PATIENCE, Progress};

/// Proves every invariant of a store, on all processors.
pub fn check_store(
    store: &Store,
    deep: bool,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Check, Failed> {
    let begun = Instant::now();
    let check = store.begin_check(deep)?;
    step_on_all_processors(&check, gone, tell)?;
    let mut meter = None;
    let found = check.end(&mut |now| {
        let meter = meter.get_or_insert_with(|| Meter::new("walking trees", "roots", Some(now.roots_total)));
        if let Some(progress) = meter.at(now.roots) {
            tell(progress);
        }
        !gone.load(Ordering::Relaxed)
    })?;
    Ok(reports::Check {
        sound: found.is_sound(),
        containers: found.progress.containers,
        objects: found.progress.objects,
        bytes: found.progress.bytes,
        roots: found.progress.roots,
        files: found.progress.files,
        deep,
        seconds: begun.elapsed().as_secs_f64(),
        problems: found.problems,
        problems_unnamed: found.problems_unnamed,
    })
}

/// Looks at all containers, each processor at one at a time.
fn step_on_all_processors(check: &Check, gone: &AtomicBool, tell: &mut dyn FnMut(Progress)) -> Result<(), Failed> {
    let mut meter = Meter::new("checking", "containers", Some(check.progress().containers_total));
    let failed = AtomicBool::new(false);
    // Holds its end of the channel until it is over.
    let work = |_ended: Sender<()>| {
        while !gone.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
            if !check.step().inspect_err(|_| failed.store(true, Ordering::Relaxed))? {
                break;
            }
        }
        Ok(())
    };
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let (ended, waits) = channel::<()>();
        let worker = |ended: Sender<()>| scope.spawn(|| work(ended));
        let workers: Vec<_> = (0..processors).map(|_| worker(ended.clone())).collect();
        drop(ended);
        while waits.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            if let Some(progress) = meter.at(check.progress().containers) {
                tell(progress);
            }
        }
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.collect::<Result<(), Error>>()
    })?;
    Ok(())
}
