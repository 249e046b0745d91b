//! Checks in the background: for whoever can't wait for hours. One at a time; what came of the last is known until the box ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use narrowboat_storage::Store;

use super::Progress;
use crate::clock;
use crate::control::check::check_store;
use crate::control::{Failed, reports};
use crate::units::rfc3339;

/// How often it is looked whether somebody wants one.
pub const EVERY: Duration = Duration::from_secs(5);

/// The checks of a box.
#[derive(Default)]
pub struct Checks(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// One that somebody asked for, and whether it reads every byte.
    wanted: Option<bool>,
    running: Option<Progress>,
    last: Option<reports::CheckEnded>,
}

impl Checks {
    /// Has one begin soon; refused while one is wanted or runs.
    pub fn want(&self, deep: bool) -> Result<(), Failed> {
        let mut known = self.lock();
        if known.wanted.is_some() || known.running.is_some() {
            return Err(Failed::refused("a check is under way: wait for its end"));
        }
        known.wanted = Some(deep);
        Ok(())
    }

    /// How far it is, and what came of the last.
    pub fn state(&self) -> reports::CheckState {
        let known = self.lock();
        let running = known.running.clone().or_else(|| known.wanted.map(|_| Progress::default()));
        reports::CheckState { running, last: known.last.clone() }
    }

    /// Does what somebody wants, to its end or until `stop`.
    pub fn look(&self, store: &Store, stop: &dyn Fn() -> bool) {
        let Some(deep) = self.lock().wanted.take_if(|_| !stop()) else { return };
        let gone = AtomicBool::new(false);
        self.lock().running = Some(Progress::default());
        let outcome = check_store(store, deep, &gone, &mut |progress| {
            gone.store(stop(), Ordering::Relaxed);
            self.lock().running = Some(progress);
        });
        let (report, error) = match outcome {
            // It looked at a part alone.
            Ok(_) if gone.load(Ordering::Relaxed) => (None, Some("the box ended before it did".to_owned())),
            Ok(report) => (Some(report), None),
            Err(failed) => (None, Some(failed.message)),
        };
        let mut known = self.lock();
        known.running = None;
        known.last = Some(reports::CheckEnded { ended: rfc3339(clock::now()), report, error });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
