//! Work that takes its time: each tells how far it is, and can be told to stop.

/// What deleting would free.
pub mod census;
/// Whether the store is sound, in the background.
pub mod checks;
pub mod download;
/// A volume as a raw image.
pub mod image;
/// Room that nobody needs.
pub mod reclaim;
/// What is old, compressed once more.
pub mod recompress;
/// Files out of a snapshot, into a folder.
pub mod restore;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A name that stays in its folder.
pub(crate) fn safe_name(name: &[u8]) -> Option<&OsStr> {
    let odd = name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0));
    (!odd).then(|| OsStr::from_bytes(name))
}

/// How far a piece of work is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Progress {
    /// What is being done, as in "restoring".
    pub what: String,
    /// Units done.
    pub done: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
    /// What is counted: "bytes" or "objects".
    pub unit: String,
    /// Units per second, lately.
    pub per_second: f64,
    /// Seconds left at that rate, where the total is known.
    pub seconds_left: Option<f64>,
}

/// Turns counts into [`Progress`], a few times a second at most, with a rate that is smoothed over some seconds.
pub struct Meter {
    what: &'static str,
    unit: &'static str,
    total: Option<u64>,
    begun: Instant,
    told: Option<Instant>,
    last: (Instant, u64),
    rate: f64,
}

/// How long whoever waits sleeps between two looks.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);

/// Waits until nobody else does what is done by one at a time, calling `waiting` now and then; none where it is to `stop`.
fn alone<'a>(running: &'a Mutex<()>, stop: &dyn Fn() -> bool, waiting: &mut dyn FnMut()) -> Option<MutexGuard<'a, ()>> {
    loop {
        match running.try_lock() {
            Ok(alone) => return Some(alone),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if stop() => return None,
            Err(TryLockError::WouldBlock) => {
                waiting();
                std::thread::sleep(PATIENCE);
            }
        }
    }
}

const TELL_EVERY: Duration = Duration::from_millis(200);
/// Weight of the newest sample: at five a second, what is older than some seconds fades.
const SMOOTHING: f64 = 0.1;

impl Meter {
    /// Begins to measure.
    pub fn new(what: &'static str, unit: &'static str, total: Option<u64>) -> Self {
        let now = Instant::now();
        Meter { what, unit, total, begun: now, told: None, last: (now, 0), rate: 0.0 }
    }

    /// Says how much there is to be done, once that is known.
    pub fn expect(&mut self, total: Option<u64>) {
        self.total = total.or(self.total);
    }

    /// Notes that `done` units are done; `Some` where it is time to tell somebody.
    pub fn at(&mut self, done: u64) -> Option<Progress> {
        let now = Instant::now();
        if self.told.is_some_and(|told| now - told < TELL_EVERY) {
            return None;
        }
        let seconds = (now - self.last.0).as_secs_f64();
        let sample = done.saturating_sub(self.last.1) as f64 / seconds.max(1e-3);
        let early = now - self.begun < Duration::from_secs(2);
        let average = done as f64 / (now - self.begun).as_secs_f64().max(1e-3);
        self.rate = if early { average } else { self.rate + SMOOTHING * (sample - self.rate) };
        self.last = (now, done);
        self.told = Some(now);
        Some(self.progress(done))
    }

    fn progress(&self, done: u64) -> Progress {
        let left = self.total.map(|total| total.saturating_sub(done) as f64 / self.rate.max(1e-9));
        Progress {
            what: self.what.to_owned(),
            done,
            total: self.total,
            unit: self.unit.to_owned(),
            per_second: self.rate,
            seconds_left: left.filter(|_| self.rate > 0.0),
        }
    }
}
