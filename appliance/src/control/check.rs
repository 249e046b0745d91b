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
    let found = check.end(&mut |_| !gone.load(Ordering::Relaxed))?;
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

/// Looks at all containers and along all trees, each processor at one thing at a time.
fn step_on_all_processors(check: &Check, gone: &AtomicBool, tell: &mut dyn FnMut(Progress)) -> Result<(), Failed> {
    let begun = check.progress();
    let mut containers = Meter::new("checking", "containers", Some(begun.containers_total));
    let mut roots = Meter::new("walking trees", "roots", Some(begun.roots_total));
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
            let now = check.progress();
            let met = match now.containers < now.containers_total {
                true => containers.at(now.containers),
                false => roots.at(now.roots),
            };
            met.into_iter().for_each(&mut *tell);
        }
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.collect::<Result<(), Error>>()
    })?;
    Ok(())
}
