//! What passed and when.

use std::ops::{Add, Range};
use std::time::Duration;

/// Bytes and when they passed, in any order. `T` is a moment: of a world's time, or of this machine's.
#[derive(Clone, Debug)]
pub struct Ledger<T>(Vec<(T, u64)>);

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        Ledger(Vec::new())
    }
}

impl<T> FromIterator<(T, u64)> for Ledger<T> {
    fn from_iter<I: IntoIterator<Item = (T, u64)>>(passed: I) -> Self {
        Ledger(passed.into_iter().collect())
    }
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Ledger<T> {
    /// Notes bytes that passed at a moment.
    pub fn note(&mut self, at: T, bytes: u64) {
        self.0.push((at, bytes));
    }

    /// The most bytes in any second, wherever it begins.
    pub fn worst_second(&self) -> u64 {
        self.worst(Duration::from_secs(1))
    }

    /// The most bytes in any half-open time of this length, wherever it begins: it may always be slid until it begins with some.
    pub fn worst(&self, length: Duration) -> u64 {
        let mut passed = self.0.clone();
        passed.sort_unstable();
        let (mut worst, mut sum, mut from) = (0, 0, 0);
        for (at, bytes) in &passed {
            sum += bytes;
            while passed[from].0 + length <= *at {
                sum -= passed[from].1;
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

    /// Each thing that passed between two moments, with its bytes.
    pub fn all_within(&self, when: Range<T>) -> Vec<(T, u64)> {
        self.between(when).0
    }

    /// Bytes that passed between two moments.
    pub fn bytes_within(&self, when: Range<T>) -> u64 {
        self.0.iter().filter(|(at, _)| when.contains(at)).map(|(_, bytes)| bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_second_is_found_wherever_it_begins_and_in_whatever_order_it_was_noted() {
        let mut ledger = Ledger::default();
        for (milli, bytes) in [(2500, 7), (0, 5), (900, 4), (1899, 3), (1900, 100)] {
            ledger.note(Duration::from_millis(milli), bytes);
        }
        assert_eq!(ledger.worst_second(), 110, "1899, 1900 and 2500; a second after 900 a new one begins");
        assert_eq!(ledger.worst(Duration::from_millis(2)), 103);
        let early = Duration::ZERO..Duration::from_millis(1900);
        assert_eq!((ledger.between(early.clone()).worst_second(), ledger.bytes_within(early)), (9, 12));
    }
}
