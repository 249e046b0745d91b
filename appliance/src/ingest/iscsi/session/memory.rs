//! Memory that sessions promise to initiators before it is used: slots of the command window and bursts that were asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// A bound that all sessions of a server share.
#[derive(Debug)]
pub struct Memory {
    used: AtomicUsize,
    max: usize,
    lent: AtomicBool,
}

impl Memory {
    /// At most `max` bytes, and what [`Memory::take`] adds: a few slots a session, without which it could not go on, and
    /// one write at a time ([`Memory::borrow`]).
    pub fn new(max: usize) -> Self {
        Memory { used: AtomicUsize::new(0), max, lent: AtomicBool::new(false) }
    }

    /// Takes memory where there is some.
    pub fn reserve(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Takes memory in any case.
    pub fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Relaxed);
    }

    /// Gives memory back.
    pub fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Lets one command of all sessions take what it needs beyond the bound. Without that, writes that each have half of
    /// their data could hold all memory and wait for each other for ever. False where another command has that leave.
    pub fn borrow(&self) -> bool {
        !self.lent.swap(true, Relaxed)
    }

    /// The command is over that had the leave.
    pub fn pay_back(&self) {
        self.lent.store(false, Relaxed);
    }

    /// What is taken.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}
