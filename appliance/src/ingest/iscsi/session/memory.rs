//! Memory that is promised to initiators before it is used (slots of the command window, bursts that were asked for), or that
//! waits for them to take it (replies). One bound for all, and half of it for each address: whoever takes all that it can get
//! does not take what others need.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A bound that all sessions of a server share.
#[derive(Debug)]
pub struct Memory {
    used: AtomicUsize,
    max: usize,
    parties: Mutex<BTreeMap<IpAddr, Weak<Party>>>,
}

/// What the sessions of one address have together.
#[derive(Debug, Default)]
struct Party {
    used: AtomicUsize,
    lent: AtomicBool,
}

impl Memory {
    /// At most `max` bytes, half of them for one address, and what [`Share::take`] adds: a few slots a session, without which it
    /// could not go on, and one write of each address at a time ([`Share::borrow`]).
    pub fn new(max: usize) -> Self {
        Memory { used: AtomicUsize::new(0), max, parties: Mutex::default() }
    }

    /// The share that a session from an address has.
    pub fn share(self: &Arc<Self>, address: IpAddr) -> Share {
        let mut parties = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
        parties.retain(|_, party| party.strong_count() > 0);
        let address = address.to_canonical();
        let party = parties.get(&address).and_then(Weak::upgrade).unwrap_or_default();
        parties.insert(address, Arc::downgrade(&party));
        Share { memory: self.clone(), party }
    }

    /// What is taken.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

/// A session's access to the memory that it shares with others of its address, and with all.
#[derive(Clone, Debug)]
pub struct Share {
    memory: Arc<Memory>,
    party: Arc<Party>,
}

impl Share {
    /// Takes memory where there is some.
    pub fn reserve(&self, bytes: usize) -> bool {
        self.reserve_below(bytes, self.memory.max)
    }

    /// Takes memory for what may come, and leaves a quarter for what is asked for.
    pub fn reserve_ahead(&self, bytes: usize) -> bool {
        self.reserve_below(bytes, self.memory.max / 4 * 3)
    }

    fn reserve_below(&self, bytes: usize, most: usize) -> bool {
        let below = |max: usize| move |used: usize| used.checked_add(bytes).filter(|sum| *sum <= max);
        if self.party.used.fetch_update(Relaxed, Relaxed, below(most / 2)).is_err() {
            return false;
        }
        let there = self.memory.used.fetch_update(Relaxed, Relaxed, below(most)).is_ok();
        if !there {
            self.party.used.fetch_sub(bytes, Relaxed);
        }
        there
    }

    /// Takes memory in any case.
    pub fn take(&self, bytes: usize) {
        self.party.used.fetch_add(bytes, Relaxed);
        self.memory.used.fetch_add(bytes, Relaxed);
    }

    /// Gives memory back.
    pub fn release(&self, bytes: usize) {
        self.party.used.fetch_sub(bytes, Relaxed);
        self.memory.used.fetch_sub(bytes, Relaxed);
    }

    /// True while neither bound is reached.
    pub fn has_room(&self) -> bool {
        self.memory.used() < self.memory.max && self.party.used.load(Relaxed) < self.memory.max / 2
    }

    /// Lets one command of all sessions of an address take what it needs beyond the bound. Without that, writes that each have
    /// half of their data could hold all memory and wait for each other for ever. False where another command has that leave.
    pub fn borrow(&self) -> bool {
        !self.party.lent.swap(true, Relaxed)
    }

    /// The command is over that had the leave.
    pub fn pay_back(&self) {
        self.party.lent.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_half() {
        let memory = Arc::new(Memory::new(100));
        let [greedy, also, other] = [1, 1, 2].map(|last| memory.share([10, 0, 0, last].into()));
        assert!(!greedy.reserve_ahead(38) && greedy.reserve_ahead(37));
        greedy.release(37);
        assert!(greedy.reserve(30) && also.reserve(20) && !greedy.reserve(1) && !also.has_room());
        assert!(other.has_room() && other.reserve(50) && !other.reserve(1));
        assert_eq!(memory.used(), 100);
        greedy.release(30);
        assert!(!other.reserve(1), "its own half is full");
        assert!(also.reserve(30));
        assert!(greedy.borrow() && !also.borrow() && other.borrow());
        greedy.pay_back();
        assert!(also.borrow());
        other.take(60);
        assert!(!other.has_room());
        other.release(110);
        also.release(50);
        assert_eq!(memory.used(), 0);
        drop((greedy, also));
        memory.share([10, 0, 0, 3].into());
        assert_eq!(memory.parties.lock().unwrap().len(), 2, "who is gone is forgotten");
    }
}
