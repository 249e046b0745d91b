//! Memory for records: buffers that are used again, and the count of bytes under way.
//!
//! A large buffer that is allocated for each call costs more than the call: the kernel clears every page of it. So
//! buffers come back when the last slice of them is dropped, wherever that is, and a bounded number is kept.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;

use crate::ingest::nfs::record::{Buffers, RECORD_BYTES_MAX};

/// Sizes of kept buffers. Each is at most a third larger than the one before, so that a slice pins little more than its
/// record: the account of what waits for the drain counts slices alone. Records come with a header, so that every third
/// size is a power of two and room for one.
const CLASSES: [usize; 15] = [
    44 << 10,
    56 << 10,
    68 << 10,
    88 << 10,
    108 << 10,
    132 << 10,
    172 << 10,
    212 << 10,
    260 << 10,
    340 << 10,
    424 << 10,
    516 << 10,
    680 << 10,
    848 << 10,
    RECORD_BYTES_MAX,
];
/// Most bytes of buffers that are kept without being used.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: [Mutex<Vec<Vec<u8>>>; CLASSES.len()],
    kept_bytes: AtomicUsize,
}

impl Pool {
    fn class(len: usize) -> Option<usize> {
        // Well below the first class an exact allocation is cheap and pins nothing else.
        (len > CLASSES[0] / 4 * 3).then(|| CLASSES.iter().position(|class| len <= *class)).flatten()
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let Some(free) = CLASSES.iter().position(|class| *class == buffer.len()).and_then(|at| self.free.get(at))
        else {
            return;
        };
        if self.kept_bytes.load(Relaxed) + buffer.len() <= KEPT_BYTES_MAX {
            self.kept_bytes.fetch_add(buffer.len(), Relaxed);
            free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

/// A buffer that goes back to its pool when the last slice of it is dropped.
struct Lent {
    buffer: Vec<u8>,
    len: usize,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

/// Hands out buffers of a pool.
#[derive(Clone)]
pub(crate) struct Lender(pub Arc<Pool>);

impl Buffers for Lender {
    type Buffer = Vec<u8>;

    fn take(&self, len: usize) -> Vec<u8> {
        let Some(class) = Pool::class(len) else { return vec![0; len] };
        let kept = self.0.free[class].lock().unwrap_or_else(PoisonError::into_inner).pop();
        match kept {
            Some(buffer) => {
                self.0.kept_bytes.fetch_sub(buffer.len(), Relaxed);
                buffer
            }
            None => vec![0; CLASSES[class]],
        }
    }

    fn seal(&self, buffer: Vec<u8>, len: usize) -> Bytes {
        let len = len.min(buffer.len());
        Bytes::from_owner(Lent { buffer, len, pool: self.0.clone() })
    }
}

/// Bytes under way: records being received, calls being carried out, replies not yet taken by their clients.
///
/// A host begins more while it has less than is free, as with [`super::places`]: one alone gets half, two a third each, and
/// whoever comes next finds some.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
    parties: Mutex<BTreeMap<IpAddr, Weak<AtomicUsize>>>,
}

/// A connection's access to the budget, which it shares with others of its host, and with all.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    own: Arc<AtomicUsize>,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        Budget { used: AtomicUsize::new(0), max, parties: Mutex::default() }
    }

    /// The share of a connection from a host.
    pub(crate) fn share(self: &Arc<Self>, host: IpAddr) -> Share {
        let mut parties = self.parties.lock().unwrap_or_else(PoisonError::into_inner);
        parties.retain(|_, own| own.strong_count() > 0);
        let own = parties.get(&host).and_then(Weak::upgrade).unwrap_or_default();
        parties.insert(host, Arc::downgrade(&own));
        Share { budget: self.clone(), own }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

impl Share {
    /// True while another record may be begun. What was begun is carried through, so the bound is passed by at most
    /// one call and its reply for each worker that reads at that moment.
    pub(crate) fn has_room(&self) -> bool {
        self.own.load(Relaxed) < self.budget.max.saturating_sub(self.budget.used())
    }

    /// Takes room for a record where there is some left.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        let own = self.own.load(Relaxed);
        let more = |used| (own < self.budget.max.saturating_sub(used)).then_some(used + bytes);
        let there = self.budget.used.fetch_update(Relaxed, Relaxed, more).is_ok();
        if there {
            self.own.fetch_add(bytes, Relaxed);
        }
        there
    }

    pub(crate) fn charge(&self, bytes: usize) {
        self.own.fetch_add(bytes, Relaxed);
        self.budget.used.fetch_add(bytes, Relaxed);
    }

    /// Gives bytes back. That may have made room for anybody.
    pub(crate) fn release(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Relaxed);
        self.budget.used.fetch_sub(bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_when_their_last_slice_goes() {
        let pool = Arc::new(Pool::default());
        let lender = Lender(pool.clone());
        let buffer = lender.take(1 << 20);
        let place = buffer.as_ptr();
        let record = lender.seal(buffer, 1 << 20);
        let slice = record.slice(100..200);
        drop(record);
        assert_eq!(pool.kept_bytes.load(Relaxed), 0, "a slice is still out");
        drop(slice);
        assert_eq!(pool.kept_bytes.load(Relaxed), RECORD_BYTES_MAX);
        let again = lender.take(1 << 20);
        assert_eq!(again.as_ptr(), place, "the same memory again");
        assert_eq!(pool.kept_bytes.load(Relaxed), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_little_is_pinned() {
        let lender = Lender(Arc::new(Pool::default()));
        let many: Vec<_> = (0..100).map(|_| lender.seal(lender.take(RECORD_BYTES_MAX), RECORD_BYTES_MAX)).collect();
        drop(many);
        assert!(lender.0.kept_bytes.load(Relaxed) <= KEPT_BYTES_MAX);
        for len in (1..=RECORD_BYTES_MAX).step_by(997).chain(CLASSES) {
            let room = lender.take(len).len();
            assert!(room >= len && room <= len + len / 3 + 1, "{room} for {len}");
        }
    }

    #[test]
    fn nobody_takes_the_room_that_the_next_one_needs() {
        let budget = Arc::new(Budget::new(120));
        let [one, also, other] = [1, 1, 2].map(|last| budget.share([10, 0, 0, last].into()));
        (0..6).for_each(|_| assert!(one.has_room() && also.reserve(10)));
        assert!(!one.has_room() && !also.reserve(1), "half of it is theirs");
        (0..3).for_each(|_| assert!(other.reserve(10)));
        assert!(!other.reserve(1), "half of the rest");
        also.release(30);
        assert!(one.has_room() && other.has_room());
        assert!(one.reserve(500), "what is begun may be long");
        assert!(!one.reserve(1) && !other.reserve(1), "but nothing more is begun");
        one.release(500);
        other.charge(10);
        assert_eq!(budget.used(), 70);
        drop((one, also));
        budget.share([10, 0, 0, 3].into());
        assert_eq!(budget.parties.lock().unwrap().len(), 2, "who is gone is forgotten");
    }
}
