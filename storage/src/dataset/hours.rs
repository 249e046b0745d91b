//! When a dataset whose policy is to deduplicate later does so.
//!
//! Its writes go into the journal whole, and wait there for its hours. Two things end the waiting before: a layer that has no
//! more room in memory, and a journal that has grown beyond [`PressureOptions::deferred_bytes`], or beyond the free room of the
//! disk, for what waits may need as much again before it gives back what it had. In the latter case the
//! dataset is treated as an inline one until half of what waited is drained, and says so ([`Deferral`]).
//!
//! [`PressureOptions::deferred_bytes`]: crate::PressureOptions::deferred_bytes

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::live::{Dataset, Mode};
use crate::catalogue::Policy;

/// What waits of a dataset whose policy is to deduplicate later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// Its hours have come.
    pub hours: bool,
    /// Bytes of journal that are kept for what waits, of all datasets.
    pub waiting_bytes: u64,
    /// Beyond this it is treated as an inline one.
    pub bound_bytes: u64,
    /// It is so treated, until half of the bound is left.
    pub overrun: bool,
    /// How often it came to that since the store was opened.
    pub overruns: u64,
}

/// Whether deferred work may be done.
#[derive(Debug, Default)]
pub(crate) struct Hours {
    /// The hours that were set for it have come.
    come: AtomicBool,
    /// Too much waits.
    overrun: AtomicBool,
    overruns: AtomicU64,
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

    /// How often too much waited.
    pub fn overruns(&self) -> u64 {
        self.hours.overruns.load(Ordering::Relaxed)
    }

    /// True where its hours have come.
    pub fn has_hours(&self) -> bool {
        self.hours.come.load(Ordering::Relaxed)
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
        if overrun && !self.hours.overrun.swap(overrun, Ordering::Relaxed) {
            self.hours.overruns.fetch_add(1, Ordering::Relaxed);
        }
        self.hours.overrun.store(overrun, Ordering::Relaxed);
        overrun || self.has_hours() && waiting_bytes > 0
    }
}
