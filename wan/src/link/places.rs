//! A few places for many peers: none takes them all.
//!
//! A peer may hold as many places as are free besides (the dynamic threshold of Choudhury and Hahne, 1998). So one that comes
//! first gets half of them and the next one half of the rest, without anybody having to give one up: a session lasts for
//! hours. The last place that is free is taken by none that holds one already.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::peer::PeerId;

/// Places, and who holds how many.
#[derive(Debug)]
pub(super) struct Places {
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Debug)]
struct Table {
    free: usize,
    held: BTreeMap<PeerId, usize>,
}

/// A place that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    peer: PeerId,
}

impl Places {
    /// So many places, all of them free.
    pub(super) fn new(count: usize) -> Self {
        Places { table: Mutex::new(Table { free: count, held: BTreeMap::new() }), freed: Notify::new() }
    }

    /// Waits until there is a place for this peer.
    pub(super) async fn take(&self, peer: PeerId) -> Place<'_> {
        loop {
            let freed = self.freed.notified();
            // Hears of places that are given back from here on, however late it is waited for.
            if let Some(place) = self.try_take(peer) {
                return place;
            }
            freed.await;
        }
    }

    fn try_take(&self, peer: PeerId) -> Option<Place<'_>> {
        let mut table = self.table();
        let held = table.held.get(&peer).copied().unwrap_or_default();
        if held >= table.free {
            return None;
        }
        table.free -= 1;
        table.held.insert(peer, held + 1);
        Some(Place { places: self, peer })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.places.table();
        table.free += 1;
        if let Some(held) = table.held.get_mut(&self.peer) {
            *held -= 1;
            if *held == 0 {
                table.held.remove(&self.peer);
            }
        }
        drop(table);
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    /// How many places a peer gets when it takes all that it can.
    fn all(places: &Places, number: u8) -> Vec<Place<'_>> {
        std::iter::from_fn(|| places.try_take(peer(number))).collect()
    }

    #[test]
    fn a_greedy_peer_leaves_places_for_others() {
        let places = Places::new(8);
        let first = all(&places, 1);
        assert_eq!(first.len(), 4, "half of them");
        let second = all(&places, 2);
        assert_eq!(second.len(), 2, "half of the rest");
        let others: Vec<_> = (3..=4).flat_map(|number| all(&places, number)).collect();
        assert_eq!(others.len(), 2, "every newcomer gets one as long as there are any");
        assert!(places.try_take(peer(5)).is_none() && places.try_take(peer(1)).is_none());
        drop((first, second, others));
        assert!(places.table().free == 8 && places.table().held.is_empty());
        assert_eq!(all(&places, 5).len(), 4);
    }

    #[test]
    fn who_waits_gets_what_is_given_back() {
        let places = Places::new(2);
        let (one, mut two) = (places.try_take(peer(1)), places.try_take(peer(2)));
        assert!(one.is_some() && two.is_some());
        let mut context = Context::from_waker(Waker::noop());
        let (mut again, mut third) = (pin!(places.take(peer(1))), pin!(places.take(peer(3))));
        assert!(again.as_mut().poll(&mut context).is_pending() && third.as_mut().poll(&mut context).is_pending());
        drop(two.take());
        assert!(again.as_mut().poll(&mut context).is_pending(), "it has one, and one is free");
        let held = third.as_mut().poll(&mut context);
        assert!(held.is_ready(), "the one that has none gets it");
        drop((held, one));
        assert!(again.as_mut().poll(&mut context).is_ready());
    }
}
