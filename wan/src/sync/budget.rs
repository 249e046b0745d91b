//! One budget of memory for all that sends: who packs takes what that needs and gives it back; who can do with less does without.
//!
//! Packing a group takes its bytes, its bases and zstd's tables, up to some 100 MiB at the hardest; the table of what a base looks like takes up to
//! 80 MiB for as long as a session lasts. Each session has its bounds, but a box may have a session for each of many peers. So they share this:
//!
//! * **Packing waits its turn**, first come first served. It holds nothing else meanwhile, so it always comes to an end; a session that waits finds its line
//!   idle and packs less hard. What is more than everything goes alone.
//! * **Tables do not wait**: one that gets no more stays as it is, which costs bytes on the line and nothing else. Together they have half of the budget,
//!   and one packing goes beside them even where the two are more than all of it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a box has for packing where nothing else is said.
const BYTES: u64 = 192 << 20;

/// Memory that is shared out.
#[derive(Debug)]
pub struct Budget {
    max: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    packing: u64,
    held: u64,
    /// The most that was ever out.
    peak: u64,
    next_ticket: u64,
    waiting: VecDeque<u64>,
}

impl State {
    fn out(&self) -> u64 {
        self.packing + self.held
    }

    fn note(&mut self) {
        self.peak = self.peak.max(self.out());
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(BYTES)
    }
}

impl Budget {
    /// Of so many bytes.
    pub fn new(max: u64) -> Self {
        Budget { max, state: Mutex::default(), freed: Condvar::new() }
    }

    /// The most bytes that were out at a time.
    pub fn peak(&self) -> u64 {
        self.state().peak
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain numbers: a panic elsewhere does not make them less true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for so many bytes, or nobody else packs.
    pub(super) fn take(&self, bytes: u64) -> Taken<'_> {
        let mut state = self.state();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        while state.waiting.front() != Some(&ticket) || (state.packing > 0 && state.out() + bytes > self.max) {
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.pop_front();
        state.packing += bytes;
        state.note();
        drop(state);
        // The next one may fit beside this.
        self.freed.notify_all();
        Taken { budget: self, bytes }
    }

    /// A part that grows as far as there is room.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }
}

/// What one packing has taken.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.budget.state().packing -= self.bytes;
        self.budget.freed.notify_all();
    }
}

/// What a table holds.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    /// True where it may have so many bytes altogether.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let mut state = self.budget.state();
        if more > 0 && (state.held + more > self.budget.max / 2 || state.out() + more > self.budget.max) {
            return false;
        }
        state.held += more;
        state.note();
        self.bytes += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.state().held -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn however_many_pack_they_stay_within_it_and_all_have_their_turn() {
        let budget = Budget::new(100);
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for number in 0..16u64 {
                let (budget, done) = (&budget, &done);
                scope.spawn(move || {
                    for turn in 0..200 {
                        let _taken = budget.take(1 + (number * 7 + turn) % 60);
                        done.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 16 * 200);
        assert!(budget.peak() <= 100 && budget.peak() > 50, "{}", budget.peak());
        assert_eq!(budget.state().out(), 0);
    }

    #[test]
    fn what_is_more_than_everything_goes_alone() {
        let budget = Budget::new(100);
        drop(budget.take(1000));
        let small = budget.take(10);
        std::thread::scope(|scope| {
            let large = scope.spawn(|| drop(budget.take(1000)));
            while budget.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            assert!(!large.is_finished());
            drop(small);
        });
        assert_eq!(budget.peak(), 1000);
    }

    #[test]
    fn tables_have_half_and_never_wait() {
        let budget = Arc::new(Budget::new(100));
        let (mut one, mut other) = (budget.hold(), budget.hold());
        assert!(one.grow_to(30) && other.grow_to(20) && one.grow_to(10) && !other.grow_to(21));
        drop(one);
        assert!(other.grow_to(50) && !other.grow_to(51));
        let taken = budget.take(50);
        drop(other);
        let mut third = budget.hold();
        assert!(third.grow_to(50));
        drop((taken, third));
        let full = budget.take(90);
        assert!(!budget.hold().grow_to(20), "packing has it");
        drop(full);
        assert_eq!(budget.state().out(), 0);
    }
}
