//! Who holds names of objects outside of what reclaim can see: on the way into a layer, a record, a tree or the catalogue, or
//! between a plan and the reading of what it names.
//!
//! An epoch at a time, as in read-copy-update (McKenney and Slingwine, "Read-Copy Update: Using Execution History to Solve
//! Concurrency Problems", PDCS 1998): whoever begins is counted in the epoch of the day; the epoch is turned; once nobody is
//! counted in the one before, everybody who had begun before the turn has ended. Nobody waits for anybody here: whoever turned
//! the epoch asks again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Refusal, Result};
use crate::name::{Kind, Name};

use super::{Inner, Pool};

/// Counts of those who are at it, in this epoch and in the one before.
#[derive(Default)]
pub(super) struct Epochs {
    epoch: AtomicUsize,
    counts: [AtomicUsize; 2],
}

impl Epochs {
    fn enter(&self) -> usize {
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            self.counts[epoch % 2].fetch_add(1, Ordering::SeqCst);
            // Turned in between: nobody may have seen this one counted.
            if self.epoch.load(Ordering::SeqCst) == epoch {
                return epoch % 2;
            }
            self.counts[epoch % 2].fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn leave(&self, slot: usize) {
        self.counts[slot].fetch_sub(1, Ordering::SeqCst);
    }

    /// Begins a new epoch. False, and nothing done, while somebody is at it who began in the one before this.
    pub fn turn(&self) -> bool {
        let over = self.is_over();
        if over {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        over
    }

    /// True where everybody has ended who began before the last turn.
    pub fn is_over(&self) -> bool {
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.counts[(epoch + 1) % 2].load(Ordering::SeqCst) == 0
    }
}

/// Says, while it lives, that names are held which no root, layer or record tells of. Reclaim lets go of nothing meanwhile that
/// was there when this began. For as long as a call takes, not for longer: reclaim waits for it.
pub struct InUse {
    inner: Arc<Inner>,
    slot: usize,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.inner.epochs.leave(self.slot);
    }
}

/// Trees that are read for long, whatever becomes of the snapshots that they are of.
pub(super) type Held = Mutex<BTreeMap<Name, usize>>;

/// A tree that stays, whole, while this lives: for whoever reads a snapshot that may be deleted meanwhile.
pub struct HeldTree {
    inner: Arc<Inner>,
    root: Name,
}

impl Drop for HeldTree {
    fn drop(&mut self) {
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.root);
            }
        }
    }
}

impl Pool {
    /// To be called by whoever gets names of objects (from the pool, or from what can be seen of a store) and goes on using them,
    /// or makes them visible later, and dropped when that is done.
    pub fn in_use(&self) -> InUse {
        InUse { inner: self.0.clone(), slot: self.0.epochs.enter() }
    }

    /// Keeps the tree of a root of a map, whole, until the result is dropped. Refused where it is not here (any more).
    pub fn hold(&self, root: &Name) -> Result<HeldTree> {
        let held = self.enter(root);
        // In this order: a run that did not find it among the held ones watches the door by now.
        match self.contains(Kind::MapNode, root)? {
            true => Ok(held),
            false => Err(Refusal::NotFound(format!("the tree {root}")).into()),
        }
    }

    /// The same, of whatever is here of it: to be asked afterwards, in one batch for many. Costs nothing.
    pub(crate) fn enter(&self, root: &Name) -> HeldTree {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner).entry(*root).or_default() += 1;
        HeldTree { inner: self.0.clone(), root: *root }
    }

    /// The roots of all trees that are held.
    pub(crate) fn held_roots(&self) -> Vec<Name> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_over_when_all_who_began_in_it_have_ended() {
        let epochs = Epochs::default();
        let first = epochs.enter();
        assert!(epochs.is_over(), "nobody began before the first turn");
        assert!(epochs.turn());
        let second = epochs.enter();
        assert_ne!(first, second);
        assert!(!epochs.is_over() && !epochs.turn());
        epochs.leave(first);
        assert!(epochs.is_over(), "who began later does not count");
        assert!(epochs.turn() && !epochs.is_over());
        epochs.leave(second);
        assert!(epochs.is_over());
    }
}
