//! How the disk does, for whoever looks after the box: faults, and a disk that is slow or does not answer.
//!
//! [`watch`] notes it of every operation; here is what of that is worth a word, and the log's share of it: the first fault at once, then no
//! more than one line a minute with how many there were; that the disk is slow, and that it is quick again.

pub mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use watch::{Asked, Health, Notes};

/// How often it is looked at.
pub const EVERY: Duration = Duration::from_secs(1);
/// What is asked for longer than this and has no answer is told of.
pub const WAITS: Duration = Duration::from_secs(5);
/// A disk that takes so long for operations of one kind on average is slow.
const SLOW_MEAN: Duration = Duration::from_millis(150);
/// The same for syncs, which bring to the disk what writes left in memory: a sound disk under load takes tenths of a second.
const SLOW_SYNC: Duration = Duration::from_secs(1);
/// Of fewer operations nothing is concluded.
const OPERATIONS_MIN: u64 = 5;
/// The log says no more than one line of faults in this time.
const LOG_REST: Duration = Duration::from_secs(60);

/// A disk that is slow, or does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slowness {
    /// It has not answered this for so long.
    Waits(Duration, Asked),
    /// What operations of one kind took on average in the last minute, and the longest of them.
    Slow {
        /// On average.
        mean: Duration,
        /// How many there were.
        operations: u64,
        /// The longest.
        longest: Duration,
        /// And what that was.
        asked: Asked,
    },
}

/// What is to be said of how long the disk takes, if anything.
pub fn slowness(health: &Health) -> Option<Slowness> {
    if let Some((waited, asked)) = health.waits.clone().filter(|(waited, _)| *waited >= WAITS) {
        return Some(Slowness::Waits(waited, asked));
    }
    let slow = health.paces.iter().filter_map(|(operation, pace)| {
        let (longest, asked) = pace.longest.clone()?;
        let bound = if *operation == "sync" { SLOW_SYNC } else { SLOW_MEAN };
        let (mean, operations) = (pace.mean(), pace.operations);
        let is_slow = longest >= WAITS || operations >= OPERATIONS_MIN && mean >= bound;
        is_slow.then_some(Slowness::Slow { mean, operations, longest, asked })
    });
    // What took most of the time says most.
    slow.max_by_key(|slow| match slow {
        Slowness::Slow { mean, operations, .. } => mean.saturating_mul(u32::try_from(*operations).unwrap_or(u32::MAX)),
        Slowness::Waits(waited, _) => *waited,
    })
}

/// What the log has said.
#[derive(Debug, Default)]
struct Said {
    faults: u64,
    at: Option<Instant>,
    slow: bool,
}

/// The disk of a box.
#[derive(Debug, Default)]
pub struct Disk {
    notes: Arc<Notes>,
    said: Mutex<Said>,
}

impl Disk {
    /// What is noted of it.
    pub fn notes(&self) -> Arc<Notes> {
        self.notes.clone()
    }

    /// How it does.
    pub fn health(&self) -> Health {
        self.notes.health()
    }

    /// Tells the log what is new. Asks the disk nothing.
    pub fn look(&self) {
        let health = self.health();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = said.at.is_none_or(|at| at.elapsed() >= LOG_REST);
        if let Some(last) = health.last.as_ref().filter(|_| health.faults > said.faults && rested) {
            let Asked { operation, file } = &last.asked;
            let more = health.faults - said.faults - 1;
            tracing::error!(operation, %file, error = last.error, more, "the disk fails: `narrowboat status` says what to do");
            (said.faults, said.at) = (health.faults, Some(Instant::now()));
        }
        match slowness(&health) {
            Some(slowness) if !said.slow => {
                said.slow = true;
                match slowness {
                    Slowness::Waits(waited, Asked { operation, file }) => {
                        tracing::warn!(operation, %file, ?waited, "the disk does not answer");
                    }
                    Slowness::Slow { mean, operations, longest, asked: Asked { operation, file } } => {
                        tracing::warn!(?mean, operations, ?longest, operation, %file, "the disk is slow");
                    }
                }
            }
            None if said.slow => {
                said.slow = false;
                tracing::info!("the disk is as quick as it should be again");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::watch::{Pace, Paces};
    use super::*;

    fn asked(operation: &'static str) -> Asked {
        Asked { operation, file: "journal/1".into() }
    }

    fn paces(all: &[(&'static str, u64, u64, u64)]) -> Health {
        let pace = |(operation, operations, mean_ms, longest_ms): (&'static str, u64, u64, u64)| {
            let longest = Some((Duration::from_millis(longest_ms), asked(operation)));
            (operation, Pace { operations, took: Duration::from_millis(operations * mean_ms), longest })
        };
        Health { paces: all.iter().copied().map(pace).collect::<Paces>(), ..Health::default() }
    }

    #[test]
    fn slow_is_what_takes_long_on_average_or_once_very_long() {
        let slow = |all: &[_]| match slowness(&paces(all)) {
            Some(Slowness::Slow { asked, .. }) => asked.operation,
            other => panic!("{other:?}"),
        };
        assert_eq!(slowness(&Health::default()), None);
        assert_eq!(slowness(&paces(&[("sync", 1000, 300, 900), ("read", 1000, 20, 900)])), None, "a disk under load");
        assert_eq!(slowness(&paces(&[("read", 4, 400, 900)])), None, "too little to tell");
        assert_eq!(slow(&[("read", 5, 150, 300), ("open", 100_000, 0, 1)]), "read", "quick ones say nothing of others");
        assert_eq!(slow(&[("read", 5, 150, 300), ("sync", 5, 1000, 1000)]), "sync");
        assert_eq!(slow(&[("write", 1000, 6, 5000)]), "write");
        let waits =
            |seconds| Health { waits: Some((Duration::from_secs(seconds), asked("sync"))), ..Health::default() };
        assert_eq!(slowness(&waits(4)), None);
        assert_eq!(slowness(&waits(5)), Some(Slowness::Waits(WAITS, asked("sync"))));
    }
}
