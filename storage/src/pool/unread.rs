//! Containers that an index was built again from and that nobody has read since.
//!
//! An index that is built again knows every copy in every container, also one that is damaged, was healed elsewhere and forgotten, and whose
//! sound copy nobody needed any more. So until a scrub has read a container, what is in it is read before anybody is told that it is known:
//! else the next backup of the same content would refer to the damaged copy and store nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::id::ContainerId;

/// Their numbers: none, but after an index was built again.
#[derive(Default)]
pub(super) struct Unread {
    range: Mutex<Range<u64>>,
    /// Where it ends, to be looked at by everybody; it shrinks, but where too much is damaged.
    end: AtomicU64,
}

impl Unread {
    pub fn new(range: Range<u64>) -> Unread {
        let end = AtomicU64::new(range.end);
        Unread { range: Mutex::new(range), end }
    }

    pub fn range(&self) -> Range<u64> {
        self.range.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True where there is none.
    pub fn is_empty(&self) -> bool {
        self.end.load(Ordering::Acquire) == 0
    }

    pub fn has(&self, container: ContainerId) -> bool {
        container.0 < self.end.load(Ordering::Acquire) && self.range().contains(&container.0)
    }

    /// Nothing below `end` counts as read any more.
    pub fn none_was_read(&self, end: u64) {
        let mut range = self.range.lock().unwrap_or_else(PoisonError::into_inner);
        *range = 0..end.max(range.end);
        self.end.store(range.end, Ordering::Release);
    }

    /// All containers behind `after` up to `upto`, which is the last where there is none, were read. True where fewer are left.
    pub fn read(&self, after: Option<u64>, upto: Option<u64>) -> bool {
        let mut range = self.range.lock().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(0, |after| after.saturating_add(1));
        let next = upto.map_or(u64::MAX, |upto| upto.saturating_add(1));
        if range.is_empty() || from > range.start || next <= range.start {
            return false;
        }
        *range = if next < range.end { next..range.end } else { 0..0 };
        self.end.store(range.end, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_from_its_beginning_on_is_read() {
        let unread = Unread::new(1..10);
        assert!(
            !unread.read(Some(4), Some(6)) && unread.has(ContainerId(1)),
            "who begins in the middle has not read the rest"
        );
        assert!(unread.read(None, Some(4)) && !unread.has(ContainerId(4)) && unread.has(ContainerId(5)));
        assert!(!unread.read(None, Some(3)) && unread.range() == (5..10));
        assert!(unread.read(Some(4), Some(7)) && unread.range() == (8..10) && !unread.has(ContainerId(10)));
        assert!(unread.read(Some(7), None) && unread.range().is_empty() && !unread.has(ContainerId(9)));
        assert!(!unread.read(None, None));
        unread.none_was_read(5);
        assert!(unread.has(ContainerId(0)) && unread.range() == (0..5));
    }
}
