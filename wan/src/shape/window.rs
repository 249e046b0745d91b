//! The bytes of the last while, whenever one asks: a ring of short slots and their sum.
//!
//! Both the guard of a bucket and the "highest rate in any second" of a report are sums over a second that may begin
//! anywhere. A log of every datagram would be exact and unbounded; slots are bounded and err by less than one slot, to
//! the side that the owner chooses through the number of slots.

use std::time::Duration;

/// A sliding sum over `slots` slots of equal length, the newest of them still filling.
#[derive(Clone, Debug)]
pub struct Window {
    slots: Box<[u64]>,
    slot: Duration,
    newest: u64,
    sum: u64,
}

impl Window {
    /// A window of `slots` slots of length `slot`. With `n + 1` slots every stretch of `n · slot` that ends now is
    /// covered whole, and up to one slot more: right for a guard. With `n` slots at most `n · slot` are covered: right
    /// for a measurement.
    ///
    /// # Panics
    /// Where either is zero: both are constants of their owners.
    pub fn new(slots: usize, slot: Duration) -> Self {
        assert!(slots > 0 && !slot.is_zero(), "a window has slots, and slots have a length");
        Window { slots: vec![0; slots].into_boxed_slice(), slot, newest: 0, sum: 0 }
    }

    /// Adds bytes at `now` and returns the sum. Time that runs backwards is taken as the newest time seen.
    pub fn add(&mut self, now: Duration, bytes: u64) -> u64 {
        self.advance(now);
        let at = self.place(self.newest);
        self.slots[at] += bytes;
        self.sum += bytes;
        self.sum
    }

    /// The sum at `now`.
    pub fn sum(&mut self, now: Duration) -> u64 {
        self.advance(now);
        self.sum
    }

    /// The first moment, not before `now`, at which the sum is at most `bytes` if nothing is added meanwhile.
    pub fn falls_to(&mut self, now: Duration, bytes: u64) -> Duration {
        self.advance(now);
        let mut left = self.sum;
        let len = self.slots.len() as u64;
        for age in (0..len).rev() {
            if left <= bytes {
                break;
            }
            // A slot that is `age` slots old leaves when the newest has grown by `len - age`.
            let Some(index) = self.newest.checked_sub(age) else { continue };
            left -= self.slots[self.place(index)];
            if left <= bytes {
                return self.start_of(index + len).max(now);
            }
        }
        now
    }

    fn advance(&mut self, now: Duration) {
        let newest = u64::try_from(now.as_nanos() / self.slot.as_nanos()).unwrap_or(u64::MAX);
        let steps = newest.saturating_sub(self.newest);
        if steps >= self.slots.len() as u64 {
            self.slots.fill(0);
            self.sum = 0;
        } else {
            for index in self.newest + 1..=self.newest + steps {
                let at = self.place(index);
                self.sum -= std::mem::take(&mut self.slots[at]);
            }
        }
        self.newest = self.newest.max(newest);
    }

    fn place(&self, index: u64) -> usize {
        (index % self.slots.len() as u64) as usize
    }

    fn start_of(&self, index: u64) -> Duration {
        let nanos = self.slot.as_nanos() * u128::from(index);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    const SLOT: Duration = Duration::from_millis(10);

    #[test]
    fn the_sum_is_that_of_a_log() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut window = Window::new(7, SLOT);
        let mut log: Vec<(u64, u64)> = Vec::new();
        let mut now = Duration::ZERO;
        for _ in 0..20_000 {
            now += Duration::from_micros(rng.random_range(0..30_000));
            let bytes = rng.random_range(0..2000);
            let slot = (now.as_micros() / SLOT.as_micros()) as u64;
            log.push((slot, bytes));
            let want: u64 = log.iter().rev().take_while(|(at, _)| at + 7 > slot).map(|(_, bytes)| bytes).sum();
            assert_eq!(window.add(now, bytes), want);
            let limit = rng.random_range(0..8000);
            let when = window.falls_to(now, limit);
            let mut later = window.clone();
            assert!(later.sum(when) <= limit);
            if when > now {
                assert!(window.clone().sum(when - Duration::from_nanos(1)) > limit, "not a moment too late");
            }
        }
    }

    #[test]
    fn a_jump_of_the_clock_empties_it_and_a_step_back_is_ignored() {
        let mut window = Window::new(3, SLOT);
        window.add(Duration::from_secs(5), 100);
        assert_eq!(window.sum(Duration::from_secs(1)), 100);
        assert_eq!(window.sum(Duration::MAX), 0);
    }
}
