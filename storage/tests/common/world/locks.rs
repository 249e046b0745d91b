//! Locks of a world's snapshots, and for how long its store ran.

#![allow(dead_code, reason = "not every test needs it")]

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;

/// Which snapshots are surely locked. A store that lost power may have forgotten some of the time that it ran, which makes its
/// locks longer, never shorter.
#[derive(Default)]
pub struct Locks {
    /// For so many seconds the store ran, since it was created.
    pub ran: u64,
    /// The snapshots that were locked, and at which of these seconds that ends.
    until: BTreeMap<String, u64>,
}

impl Locks {
    /// True where a snapshot can't be deleted.
    pub fn holds(&self, snapshot: &str) -> bool {
        self.until.get(snapshot).is_some_and(|until| *until > self.ran)
    }

    /// The snapshots that can't be deleted.
    pub fn held(&self) -> impl Iterator<Item = &String> {
        self.until.keys().filter(|key| self.holds(key))
    }
}

impl World {
    /// Locks some snapshot for up to two hours.
    pub fn lock(&mut self) {
        let (seconds, now) = (1 + self.roll(7200), self.now());
        let Some((key, share, label)) = self.any_snapshot() else { return };
        if self.store().lock_snapshot(&share, &label, Duration::from_secs(seconds), now).is_ok() {
            let until = self.locks.ran + seconds;
            let known = self.locks.until.entry(key).or_default();
            *known = until.max(*known);
        }
    }

    /// The store runs for so long, by the clock that nobody can set.
    pub fn run_for(&mut self, seconds: u64) {
        let now = self.now();
        self.locks.ran += seconds;
        // What could not be kept now is kept later, or forgotten, which makes locks longer.
        let _ = self.store().run_on(Duration::from_secs(seconds), now);
    }
}
