//! A few places for many peers: none takes them all, and where others wait, they have them in turns.
//!
//! A peer may hold as many places as are free besides (the dynamic threshold of Choudhury and Hahne, 1998). So one that comes
//! first gets half of them and the next one half of the rest. The last place that is free is taken by none that holds one already.
//! Who waits is served in the order in which it came.
//!
//! A session may last for days, and nobody shall wait for that. Who has waited for [`TURN`] and has none wants the place of another,
//! of those that have been held for [`TURN`]: of a peer with the most places, the one held for longest. It is told
//! ([`Place::wanted`]) and gives it back by itself, which costs a session next to nothing: it goes on where it stopped. A peer that has a
//! place already and waits for more makes room for itself.
//!
//! **Windows.** What all sessions hold together is bounded: each gets a fifth of what is left of eight windows, the first ones a whole one,
//! none less than a sixteenth. With so many at once each has a small part of this box's line, and fills it with a small window.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cancel::Cancel;
use crate::peer::PeerId;

/// Who has a place has it for so long, whoever waits; and who has waited for so long wants one.
const TURN: Duration = Duration::from_secs(300);
/// How often who waits looks whether it is time.
const LOOK: Duration = Duration::from_secs(5);
/// Windows that all places share.
const WINDOWS: u64 = 8;
/// Part of what is left that the next place gets, as a divisor.
const PART: u64 = 5;
/// The least part of a window that a place gets, as a divisor.
const LEAST: u64 = 16;

/// Places, and who holds how many.
#[derive(Debug)]
pub(super) struct Places {
    window_bytes: u64,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Debug)]
struct Table {
    free: usize,
    /// By their numbers.
    held: BTreeMap<u64, Held>,
    /// Who waits, in the order in which they came.
    waiting: BTreeMap<u64, PeerId>,
    next: u64,
}

#[derive(Debug)]
struct Held {
    peer: PeerId,
    since: Instant,
    window_bytes: u64,
    wanted: Cancel,
    /// Of who waits, the one that it is wanted for.
    wanted_by: Option<u64>,
}

/// A place that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    places: &'a Places,
    number: u64,
    window_bytes: u64,
    wanted: Cancel,
}

/// One that waits; it no longer does when this is dropped.
struct Waiting<'a> {
    places: &'a Places,
    ticket: u64,
}

impl Places {
    /// So many places, all of them free, for sessions with windows of so many bytes at most.
    pub(super) fn new(count: usize, window_bytes: u64) -> Self {
        let table = Table { free: count, held: BTreeMap::new(), waiting: BTreeMap::new(), next: 0 };
        Places { window_bytes, table: Mutex::new(table), freed: Notify::new() }
    }

    /// Waits until there is a place for this peer.
    pub(super) async fn take(&self, peer: PeerId) -> Place<'_> {
        let began = Instant::now();
        let waiting = self.queue_up(peer);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Hears of places that are given back from here on, however late it is waited for.
            freed.as_mut().enable();
            if let Some(place) = self.try_take(peer, waiting.ticket) {
                return place;
            }
            if began.elapsed() >= TURN {
                self.want(peer, waiting.ticket);
            }
            let _ = tokio::time::timeout(LOOK, freed).await;
        }
    }

    fn queue_up(&self, peer: PeerId) -> Waiting<'_> {
        let mut table = self.table();
        let ticket = table.number();
        table.waiting.insert(ticket, peer);
        Waiting { places: self, ticket }
    }

    fn try_take(&self, peer: PeerId, ticket: u64) -> Option<Place<'_>> {
        let mut table = self.table();
        let may = |peer: &PeerId| table.held_by(peer) < table.free;
        // Nobody overtakes one that could have it.
        if !may(&peer) || table.waiting.range(..ticket).any(|(_, earlier)| may(earlier)) {
            return None;
        }
        let held: u64 = table.held.values().map(|held| held.window_bytes).sum();
        let left = self.window_bytes.saturating_mul(WINDOWS).saturating_sub(held);
        let window_bytes = (left / PART).clamp((self.window_bytes / LEAST).max(1), self.window_bytes.max(1));
        table.free -= 1;
        let (number, wanted) = (table.number(), Cancel::new());
        let since = Instant::now();
        table.held.insert(number, Held { peer, since, window_bytes, wanted: wanted.clone(), wanted_by: None });
        Some(Place { places: self, number, window_bytes, wanted })
    }

    /// Has a place given back for one that has waited for long, unless one is about to be already.
    fn want(&self, peer: PeerId, ticket: u64) {
        let mut table = self.table();
        if table.held.values().any(|held| held.wanted_by == Some(ticket)) {
            return;
        }
        let has_some = table.held_by(&peer) > 0;
        let by_turn = |held: &Held| held.wanted_by.is_none() && held.since.elapsed() >= TURN;
        let candidates = table.held.iter().filter(|(_, held)| by_turn(held) && (!has_some || held.peer == peer));
        let next = candidates.max_by_key(|(_, held)| (table.held_by(&held.peer), held.since.elapsed()));
        let Some(number) = next.map(|(number, _)| *number) else { return };
        if let Some(held) = table.held.get_mut(&number) {
            held.wanted_by = Some(ticket);
            held.wanted.cancel();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn held_by(&self, peer: &PeerId) -> usize {
        self.held.values().filter(|held| held.peer == *peer).count()
    }
}

impl Place<'_> {
    /// Its part of something, as its window is one of a whole window.
    pub(super) fn part_of(&self, whole: u32) -> u32 {
        let part = u128::from(whole) * u128::from(self.window_bytes) / u128::from(self.places.window_bytes.max(1));
        u32::try_from(part).unwrap_or(whole).min(whole)
    }

    /// The window that a session in this place may have.
    pub(super) fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    /// Thrown when its turn is over, because others wait: it is to be given back soon.
    pub(super) fn wanted(&self) -> &Cancel {
        &self.wanted
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.places.table();
        table.free += 1;
        table.held.remove(&self.number);
        drop(table);
        self.places.freed.notify_waiters();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.places.table().waiting.remove(&self.ticket);
        // Who is behind it may have been waiting for this alone.
        self.places.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const WINDOW: u64 = 16 << 20;

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    fn try_take(places: &Places, number: u8) -> Option<Place<'_>> {
        let waiting = places.queue_up(peer(number));
        places.try_take(peer(number), waiting.ticket)
    }

    /// How many places a peer gets when it takes all that it can.
    fn all(places: &Places, number: u8) -> Vec<Place<'_>> {
        std::iter::from_fn(|| try_take(places, number)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_greedy_peer_leaves_places_for_others() {
        let places = Places::new(8, WINDOW);
        let first = all(&places, 1);
        assert_eq!(first.len(), 4, "half of them");
        let second = all(&places, 2);
        assert_eq!(second.len(), 2, "half of the rest");
        let others: Vec<_> = (3..=4).flat_map(|number| all(&places, number)).collect();
        assert_eq!(others.len(), 2, "every newcomer gets one as long as there are any");
        assert!(try_take(&places, 5).is_none() && try_take(&places, 1).is_none());
        drop((first, second, others));
        assert!(places.table().free == 8 && places.table().held.is_empty() && places.table().waiting.is_empty());
        assert_eq!(all(&places, 5).len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_given_back() {
        let places = Places::new(2, WINDOW);
        let (one, mut two) = (try_take(&places, 1), try_take(&places, 2));
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

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_is_served_first() {
        let places = Places::new(1, WINDOW);
        let held = try_take(&places, 1);
        let mut context = Context::from_waker(Waker::noop());
        let (mut second, mut third) = (pin!(places.take(peer(2))), pin!(places.take(peer(3))));
        assert!(second.as_mut().poll(&mut context).is_pending() && third.as_mut().poll(&mut context).is_pending());
        drop(held);
        assert!(third.as_mut().poll(&mut context).is_pending(), "one that has waited longer can have it");
        assert!(second.as_mut().poll(&mut context).is_ready());
    }

    /// Twenty peers with sessions that never end of themselves, and one that wants all it can get.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_and_nobody_is_driven_out_early() {
        let places = std::sync::Arc::new(Places::new(4, WINDOW));
        let turns = std::sync::Arc::new(Mutex::new(BTreeMap::<u8, Vec<Duration>>::new()));
        for session in 0..26_u8 {
            let (places, turns, number) = (places.clone(), turns.clone(), session.min(20));
            tokio::spawn(async move {
                loop {
                    let place = places.take(peer(number)).await;
                    let began = Instant::now();
                    place.wanted().cancelled().await;
                    turns.lock().expect("sole user").entry(number).or_default().push(began.elapsed());
                    drop(place);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
        let turns = turns.lock().expect("sole user");
        assert_eq!(turns.len(), 21, "somebody never had a place");
        let counts: Vec<usize> = turns.values().map(Vec::len).collect();
        // Four places, each for five minutes at a time: 1152 turns in a day, 55 for each peer.
        assert!(counts[..20].iter().all(|count| *count >= 35), "{counts:?}");
        assert!(turns.values().flatten().all(|turn| *turn >= TURN), "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn windows_together_are_bounded_however_many_there_are() {
        let places = Places::new(64, WINDOW);
        let held: Vec<_> = (0..64).filter_map(|number| try_take(&places, number)).collect();
        let windows: Vec<u64> = held.iter().map(Place::window_bytes).collect();
        assert_eq!(windows.len(), 64);
        assert!(windows[..4].iter().all(|window| *window == WINDOW), "{windows:?}");
        assert!(windows.iter().all(|window| *window >= WINDOW / LEAST), "{windows:?}");
        assert!(windows[..16].iter().sum::<u64>() <= WINDOWS * WINDOW, "{windows:?}");
        assert!(windows.iter().sum::<u64>() <= (WINDOWS + 64 / LEAST) * WINDOW, "{windows:?}");
    }
}
