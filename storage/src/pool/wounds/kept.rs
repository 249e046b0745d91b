//! What is known to be damaged, over a restart: read on opening, written when it has changed.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::format::{self, Kept, WOUNDS_MAX};
use crate::index::Location;
use crate::pool::{Inner, Pool};

impl Pool {
    /// Writes down what is known to be damaged, and what is to be read since the index was built again, if that has changed. To be called now
    /// and then; costs nothing where nothing has. What the disk does not take is written the next time.
    pub fn keep_wounds(&self) {
        let inner = &*self.0;
        if !inner.wounds.changed.load(Ordering::Acquire) {
            return;
        }
        let _turn = inner.wounds.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is looked at: what changes meanwhile is written the next time.
        inner.wounds.changed.store(false, Ordering::Release);
        if format::write(inner.media.as_ref(), inner.store, &inner.wounds_now()).is_err() {
            inner.wounds.changed();
        }
    }
}

impl Inner {
    fn wounds_now(&self) -> Kept {
        let known = self.wounds.known.read().unwrap_or_else(PoisonError::into_inner);
        // What has no place in the file is found again by reading: until then nothing counts as known unread.
        let unread = if known.len() > WOUNDS_MAX { 0..self.streams.next_id() } else { self.unread.range() };
        let wounds = known.iter().take(WOUNDS_MAX);
        let wounds =
            wounds.map(|((kind, name), (container, damage))| (*kind, *name, *container, damage.clone())).collect();
        drop(known);
        let worn = self.worn.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        Kept { unread, worn, wounds }
    }

    /// Takes up what was known when the store was open before: what lies elsewhere by now was healed, and what is not there is gone.
    /// What can't be looked up is still damaged.
    pub(in crate::pool) fn take_up_wounds(&self, kept: &Kept) {
        let indexed = self.indexed.read().unwrap_or_else(PoisonError::into_inner);
        let worn = kept.worn.iter().filter(|id| indexed.contains_key(id));
        self.worn.lock().unwrap_or_else(PoisonError::into_inner).extend(worn);
        drop(indexed);
        for (kind, name, container, damage) in &kept.wounds {
            let is_gone = |places: Vec<Option<Location>>| places[0].is_none_or(|place| place.container != *container);
            if !self.find(*kind, &[*name]).is_ok_and(is_gone) {
                self.wounds.add(*kind, name, *container, damage);
            }
        }
        // What the file says is what is known, but for what was dropped.
        let same = self.wounds_now() == *kept;
        self.wounds.changed.store(!same, Ordering::Release);
    }
}
