//! Range locks: commands that touch the same blocks take turns, in the order in which they came.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A command's claim to some bytes.
#[derive(Clone, Copy, Debug)]
struct Claim {
    ticket: u64,
    from: u64,
    to: u64,
    exclusive: bool,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they came.
    claims: Vec<Claim>,
    next_ticket: u64,
    waiting: usize,
}

/// The locks of one disk.
#[derive(Debug, Default)]
pub struct RangeLocks {
    queue: Mutex<Queue>,
    freed: Condvar,
}

/// A claim that is held until it is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    locks: &'a RangeLocks,
    ticket: u64,
}

impl RangeLocks {
    /// Waits until no change to the range is under way that came before.
    pub fn shared(&self, offset: u64, len: u64) -> Held<'_> {
        self.take(offset, len, false)
    }

    /// Waits until nothing that came before touches the range.
    pub fn exclusive(&self, offset: u64, len: u64) -> Held<'_> {
        self.take(offset, len, true)
    }

    fn take(&self, from: u64, len: u64, exclusive: bool) -> Held<'_> {
        let mut queue = self.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        let claim = Claim { ticket, from, to: from.saturating_add(len), exclusive };
        queue.claims.push(claim);
        while queue.is_blocked(&claim) {
            queue.waiting += 1;
            queue = self.freed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.waiting -= 1;
        }
        Held { locks: self, ticket }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// True where a claim that came earlier stands in the way. Who waits stands in the way too, so that nobody starves.
    fn is_blocked(&self, claim: &Claim) -> bool {
        self.claims
            .iter()
            .take_while(|other| other.ticket < claim.ticket)
            .any(|other| (claim.exclusive || other.exclusive) && claim.from < other.to && other.from < claim.to)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut queue = self.locks.lock();
        queue.claims.retain(|claim| claim.ticket != self.ticket);
        if queue.waiting > 0 {
            self.locks.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;

    #[test]
    fn readers_share_and_writers_do_not() {
        let locks = RangeLocks::default();
        let (a, b) = (locks.shared(0, 10), locks.shared(5, 10));
        let apart = locks.exclusive(15, 5);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _held = locks.exclusive(9, 1);
                inside.fetch_add(1, SeqCst);
            });
            while locks.lock().waiting == 0 {
                std::thread::yield_now();
            }
            // A reader that comes behind the writer waits for it.
            scope.spawn(|| {
                let _held = locks.shared(9, 1);
                assert_eq!(inside.load(SeqCst), 1);
            });
            while locks.lock().waiting < 2 {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(inside.load(SeqCst), 0);
            drop((a, b));
        });
        assert_eq!(inside.load(SeqCst), 1);
        drop(apart);
        assert!(locks.lock().claims.is_empty());
    }
}
