//! What the threads do that drain.

use std::sync::PoisonError;
use std::time::Duration;

use narrowboat_storage::Error;

use super::Node;
use crate::clock;

/// How long a pump sleeps where nothing calls it.
const PUMP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a pump that could not work waits before it tries again.
const PUMP_RETRY: Duration = Duration::from_secs(2);

impl Node {
    /// Drains whatever waits, until nobody waits for work any more.
    pub(super) fn pump(&self) {
        let mut unsplit = None;
        while self.store.wait_for_work(PUMP_PATIENCE) {
            let outcome = self.drain();
            let stalled = outcome.as_ref().err().map(ToString::to_string);
            let mut known = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
            if *known != stalled {
                match &stalled {
                    Some(why) => tracing::error!(why, "the drain stands still"),
                    None => tracing::info!("the drain goes on"),
                }
                *known = stalled;
            }
            drop(known);
            let problem = self.store.split_problem();
            if unsplit != problem {
                match &problem {
                    Some(why) => tracing::error!(why, "the journal can't be split for windows, and grows"),
                    None => tracing::info!("the journal is split again"),
                }
                unsplit = problem;
            }
            // What is damaged in one dataset must not keep the others waiting. What keeps all of them is not asked for without a rest.
            if outcome.is_err() && self.store.is_stalled() {
                std::thread::sleep(PUMP_RETRY);
            }
        }
    }

    fn drain(&self) -> Result<(), Error> {
        self.policies.look(&self.store, &self.config, clock::now());
        while self.store.drain_step(clock::now())? {
            self.policies.look(&self.store, &self.config, clock::now());
        }
        Ok(())
    }
}
