//! When it pays to call another worker to a connection.
//!
//! Waking a thread costs about as much as carrying out a small command. So a worker that reads a connection's commands also
//! carries them out, one after the other, as long as they end quickly; where they take long, or many wait, it calls
//! another before each. What ends quickly as a rule and hangs for once (a disk that has to catch up) must not hold up what
//! is behind it: the acceptor looks after workers that have called nobody ([`OVERDUE`]).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// From this average on, another worker is called before each task: tasks may be waiting for a disk.
const LONG: Duration = Duration::from_micros(200);
/// Where the tasks that are ready will take so long together, another worker is called once to share them.
const MUCH: Duration = Duration::from_micros(500);
/// A worker that has carried out tasks for so long, and called nobody, gets company.
pub(super) const OVERDUE: Duration = Duration::from_millis(4);
/// Each task moves the average by one part in this many.
const SMOOTHING: u64 = 8;

/// How long tasks of one connection have taken lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    average_ns: AtomicU64,
}

/// Whether to call another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    /// The tasks will be done before another worker is awake.
    None,
    /// Once: what is ready is worth two workers.
    Once,
    /// Before each task.
    Always,
}

impl Pace {
    /// Notes how long a task took. Workers may note at the same time; losing a note harms nobody.
    pub fn took(&self, time: Duration) {
        let (time, average) = (u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), self.average_ns.load(Relaxed));
        self.average_ns.store(average - average / SMOOTHING + time / SMOOTHING, Relaxed);
    }

    /// What is right where so many tasks are ready beside the one that is about to be run.
    pub fn company(&self, ready: usize) -> Company {
        let average = Duration::from_nanos(self.average_ns.load(Relaxed));
        let together = average.saturating_mul(u32::try_from(ready).unwrap_or(u32::MAX));
        match () {
            () if average >= LONG => Company::Always,
            () if together >= MUCH => Company::Once,
            () => Company::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_tasks_stay_with_one_worker_and_slow_ones_spread() {
        let pace = Pace::default();
        assert_eq!(pace.company(100), Company::None, "nothing is known yet");
        (0..50).for_each(|_| pace.took(Duration::from_micros(10)));
        assert_eq!((pace.company(0), pace.company(10)), (Company::None, Company::None));
        assert_eq!(pace.company(60), Company::Once);
        pace.took(Duration::from_millis(5));
        assert_eq!(pace.company(0), Company::Always, "one that hung is enough to be careful");
        (0..60).for_each(|_| pace.took(Duration::from_micros(10)));
        assert_eq!(pace.company(0), Company::None, "and forgotten when it was the only one");
        pace.took(Duration::MAX);
        pace.took(Duration::MAX);
    }
}
