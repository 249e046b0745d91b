//! When a dataset whose policy is to deduplicate later does so.
//!
//! Its writes go into the journal whole, and wait there for its hours. Two things end the waiting before: a layer that has no
//! more room in memory, and a journal that has grown beyond [`PressureOptions::deferred_bytes`]. In the latter case the
//! dataset is treated as an inline one until most of what waited is drained, and says so.
//!
//! [`PressureOptions::deferred_bytes`]: crate::PressureOptions::deferred_bytes

use std::sync::atomic::{AtomicBool, Ordering};

use super::live::{Dataset, Mode};
use crate::catalogue::Policy;

/// Whether deferred work may be done.
#[derive(Debug, Default)]
pub(crate) struct Hours {
    /// The hours that were set for it have come.
    come: AtomicBool,
    /// Too much waits.
    overrun: AtomicBool,
}

impl Dataset {
    /// True where the policy is to deduplicate later.
    pub fn is_deferred(&self) -> bool {
        self.mode == Mode::Live(Policy::Deferred)
    }

    /// True where writes are left uncut now.
    pub fn defers(&self) -> bool {
        self.is_deferred() && !self.hours.overrun.load(Ordering::Relaxed)
    }

    /// Says whether its hours have come.
    pub fn set_hours(&self, come: bool) {
        self.hours.come.store(come, Ordering::Relaxed);
    }

    /// True where a deferred dataset is treated as an inline one, because too much waits.
    pub fn is_overrun(&self) -> bool {
        self.hours.overrun.load(Ordering::Relaxed)
    }

    /// Given that so much of the journal waits for this dataset's drain, decides whether it is to be drained now. Of datasets
    /// that do not defer, more than `owed_bytes` is.
    pub fn is_due(&self, waiting_bytes: u64, owed_bytes: u64, deferred_bytes: u64) -> bool {
        if !self.is_deferred() {
            return waiting_bytes > owed_bytes;
        }
        // Once it is too much, it is until half is gone: not in and out with every step.
        let bound = if self.is_overrun() { deferred_bytes / 2 } else { deferred_bytes };
        let overrun = waiting_bytes > bound;
        self.hours.overrun.store(overrun, Ordering::Relaxed);
        overrun || self.hours.come.load(Ordering::Relaxed) && waiting_bytes > 0
    }
}
