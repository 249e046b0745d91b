//! What passed and when, counted by nobody but the tests.

use std::ops::{Add, Range};
use std::time::Duration;

/// Bytes and when they passed, in the order in which they did. `T` is a moment: of a world's time, or of this machine's.
#[derive(Clone, Debug)]
pub struct Ledger<T>(Vec<(T, u64)>);

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Ledger(Vec::new())
    }
}

impl<T: Copy + PartialOrd + Add<Duration, Output = T>> Ledger<T> {
    /// Notes that bytes pass now, which is not before anything noted earlier.
    pub fn note(&mut self, now: T, bytes: u64) {
        self.0.push((now, bytes));
    }

    /// The most bytes in any second, wherever it begins.
    pub fn worst_second(&self) -> u64 {
        self.worst(Duration::from_secs(1))
    }

    /// The most bytes in any time of this length, wherever it begins.
    pub fn worst(&self, length: Duration) -> u64 {
        let (mut worst, mut sum, mut from) = (0, 0, 0);
        for (at, bytes) in &self.0 {
            sum += bytes;
            while self.0[from].0 + length <= *at {
                sum -= self.0[from].1;
                from += 1;
            }
            worst = worst.max(sum);
        }
        worst
    }

    /// What passed between two moments.
    pub fn between(&self, when: Range<T>) -> Ledger<T> {
        Ledger(self.0.iter().filter(|(at, _)| when.contains(at)).copied().collect())
    }

    /// Bytes that passed between two moments.
    pub fn bytes_within(&self, when: Range<T>) -> u64 {
        self.0.iter().filter(|(at, _)| when.contains(at)).map(|(_, bytes)| bytes).sum()
    }
}
