//! Which workers of a rim may do what may hold them for long, and for whom.
//!
//! A copy, a sync, or a write that waits for room may hold its worker for long. Were all workers held, nobody would read what
//! others send. So a worker has to hold a place before it begins such work, and there are fewer places than workers.
//!
//! An address gets a place while it has fewer than are free: one alone gets half of them, two a third each, and whoever comes
//! next finds some free (dynamic thresholds; Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", 1998). No worker waits for a place: it notes the connection, and whoever gives a place back calls a worker to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The places for one kind of work.
#[derive(Debug)]
pub(crate) struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    free: usize,
    parties: BTreeMap<IpAddr, usize>,
    /// Connections that got none, and their addresses.
    refused: BTreeMap<u64, IpAddr>,
}

impl Places {
    /// So many, and at least one.
    pub(crate) fn new(places: usize) -> Self {
        Places(Mutex::new(Taken { free: places.max(1), parties: BTreeMap::new(), refused: BTreeMap::new() }))
    }

    /// Takes a place, or notes who wants one.
    pub(crate) fn enter(&self, connection: u64, address: IpAddr) -> bool {
        let mut taken = self.lock();
        let admits = taken.admits(address);
        if admits {
            taken.free -= 1;
            *taken.parties.entry(address).or_default() += 1;
        } else {
            taken.refused.insert(connection, address);
        }
        admits
    }

    /// Gives a place back, and says who may try again.
    pub(crate) fn leave(&self, address: IpAddr) -> Vec<u64> {
        let mut taken = self.lock();
        taken.free += 1;
        if let Some(own) = taken.parties.get_mut(&address) {
            *own -= 1;
        }
        taken.parties.retain(|_, own| *own > 0);
        let refused = std::mem::take(&mut taken.refused);
        let (admitted, refused) = refused.into_iter().partition(|(_, address)| taken.admits(*address));
        taken.refused = refused;
        let admitted: BTreeMap<u64, IpAddr> = admitted;
        admitted.into_keys().collect()
    }

    /// A connection that is closed wants none any more.
    pub(crate) fn forget(&self, connection: u64) {
        self.lock().refused.remove(&connection);
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn admits(&self, address: IpAddr) -> bool {
        self.parties.get(&address).copied().unwrap_or(0) < self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Takes as many as there are to be had.
    fn fill(places: &Places, last: u8) -> usize {
        (0..1000).take_while(|_| places.enter(last.into(), from(last))).count()
    }

    #[test]
    fn nobody_takes_what_the_next_one_needs() {
        let places = Places::new(96);
        let got: Vec<usize> = (1..=6).map(|last| fill(&places, last)).collect();
        assert_eq!(got, [48, 24, 12, 6, 3, 2]);
        // The smallest of those who were refused comes first.
        assert!(places.leave(from(1)).is_empty());
        assert_eq!(places.leave(from(1)), [6]);
        assert!(places.enter(6, from(6)));
        for _ in 0..20 {
            places.leave(from(1));
        }
        assert!(!places.enter(1, from(1)) && places.enter(3, from(3)));
    }

    #[test]
    fn a_small_server_has_a_place_too_and_who_is_gone_is_not_called() {
        for number in 0..2 {
            let places = Places::new(number);
            assert!(places.enter(1, from(1)) && !places.enter(2, from(2)) && !places.enter(3, from(2)));
            places.forget(3);
            assert_eq!(places.leave(from(1)), [2], "called once");
            assert!(places.enter(2, from(2)));
        }
    }
}
