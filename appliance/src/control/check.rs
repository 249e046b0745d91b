//! Whether a store is sound.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use narrowboat_storage::Store;

use super::{Failed, reports};
use crate::jobs::{Meter, Progress};

/// Proves every invariant of a store.
pub fn check_store(
    store: &Store,
    deep: bool,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Check, Failed> {
    let begun = Instant::now();
    let total = store.stats()?.pool.containers;
    let mut meter = Meter::new("checking", "containers", Some(total));
    let found = store.check(deep, &mut |now| {
        if let Some(progress) = meter.at(now.containers) {
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
