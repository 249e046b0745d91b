//! How much is waiting to be drained, and who has to wait for it.
//!
//! Below `freeze_bytes` of overlay in a dataset nothing happens. Above it the dataset's active layer is frozen and the
//! pump gets work. A layer is let go only as a whole, when its root is safe. If writers waited for that, they would rush into the room that
//! it leaves, and then stand still for the whole of the next one. So they go by what the pump has *merged*: where more waits to be
//! merged than [`PressureOptions::pace_bytes`], writers are let in, in the order in which they came, as fast as the pump merges. What
//! is merged and not yet let go has room between that and `block_bytes`, the bound of all layers together: memory stays within it
//! whatever clients do.
//!
//! While the pump syncs what it merged it merges nothing. Then a writer is let in now and then ([`TRICKLE`]), so that nobody takes the
//! box for dead. Where the pump cannot work (a full disk, a fault), waiting writers get its error instead of waiting for ever.
//!
//! What damage keeps from being merged in one dataset is set aside: others are neither paced nor bounded by it. It has the bound of its
//! own datasets (`dataset/stuck.rs`) and, over all of them, `block_bytes` once more; what is beyond that counts as everybody's.
//!
//! Every write passes here, so that as long as nobody has to wait nobody is locked out or woken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::error::{Environment, Error, Result};

/// The first of those who wait is let in after this time even where the pump merged nothing.
const TRICKLE: Duration = Duration::from_millis(20);

/// Bounds of the overlay, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PressureOptions {
    /// A dataset's active layer is frozen when it holds this much.
    pub freeze_bytes: u64,
    /// Writers wait while the layers of all datasets hold this much. What can't be drained because of damage may take as much
    /// again.
    pub block_bytes: u64,
    /// A dataset is drained, however little of it is in memory, when it keeps this much of the journal from going.
    pub owed_bytes: u64,
    /// The same for a dataset whose policy is to deduplicate later, outside its hours. Beyond, it is treated as an inline one
    /// until half of that is drained.
    pub deferred_bytes: u64,
}

impl PressureOptions {
    /// Writers are let in as fast as the pump merges where more than this waits for it. A layer that is being merged fits in between
    /// this and `block_bytes`.
    pub fn pace_bytes(&self) -> u64 {
        self.block_bytes - self.freeze_bytes.min(self.block_bytes / 2)
    }
}

impl Default for PressureOptions {
    fn default() -> Self {
        PressureOptions {
            freeze_bytes: 64 << 20,
            block_bytes: 128 << 20,
            owed_bytes: 256 << 20,
            deferred_bytes: 16 << 30,
        }
    }
}

/// Who waits for the pump, and why it does not work.
#[derive(Debug, Default)]
struct Load {
    /// Why the pump stands still, if it does: true for want of room on the disk.
    stalled: Option<(bool, String)>,
    closed: bool,
    /// Writers that wait for room, in the order in which they came.
    queue: VecDeque<Waiter>,
    /// Names the next of them.
    next_ticket: u64,
}

/// A writer that waits for room.
#[derive(Debug)]
struct Waiter {
    ticket: u64,
    thread: Thread,
}

/// The store-wide account of overlay memory.
#[derive(Debug)]
pub(crate) struct Pressure {
    pub options: PressureOptions,
    bytes: AtomicU64,
    /// Of these, what can't be merged because of damage.
    aside: AtomicU64,
    /// Of the others, what the pump has merged and not yet let go.
    merged: AtomicU64,
    /// Layers that are being merged, or about to be let go.
    merges: AtomicUsize,
    /// Writers that wait for room. Raised before they look whether there is any: whoever makes room sees them, or they see the room.
    waiting: AtomicUsize,
    /// There is work for the pump. Lowered by the pump before it looks for it.
    work: AtomicBool,
    load: Mutex<Load>,
    pump_called: Condvar,
}

/// What the pump has merged of a layer. Dropped when the layer is let go, or when the step came to nothing.
#[derive(Debug)]
pub(crate) struct Merging {
    pressure: Arc<Pressure>,
    bytes: AtomicU64,
    /// False where the layer is set aside.
    counts: bool,
}

impl Merging {
    /// Notes that so many bytes more of the layer are merged.
    pub fn advance(&self, bytes: u64) {
        if !self.counts {
            return;
        }
        self.bytes.fetch_add(bytes, SeqCst);
        self.pressure.merged.fetch_add(bytes, SeqCst);
        self.pressure.let_in();
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.pressure.merged.fetch_sub(*self.bytes.get_mut(), SeqCst);
        self.pressure.merges.fetch_sub(1, SeqCst);
    }
}

impl Pressure {
    pub fn new(options: PressureOptions) -> Self {
        Pressure {
            options,
            bytes: AtomicU64::new(0),
            aside: AtomicU64::new(0),
            merged: AtomicU64::new(0),
            merges: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            work: AtomicBool::new(false),
            load: Mutex::default(),
            pump_called: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count what is merged of a layer, if it `counts`: what is merged of a layer that is set aside lets nobody in.
    pub fn merging(self: &Arc<Self>, counts: bool) -> Merging {
        self.merges.fetch_add(1, SeqCst);
        Merging { pressure: self.clone(), bytes: AtomicU64::new(0), counts }
    }

    /// Waits until there is room for another write, behind all who came before.
    pub fn wait_for_room(&self) -> Result<()> {
        if self.waiting.load(SeqCst) == 0 && self.has_room() {
            return Ok(());
        }
        if self.merges.load(SeqCst) == 0 {
            self.call_pump();
        }
        let mut load = self.lock();
        let ticket = load.next_ticket;
        load.next_ticket += 1;
        load.queue.push_back(Waiter { ticket, thread: std::thread::current() });
        self.waiting.fetch_add(1, SeqCst);
        let mut first_since = None;
        loop {
            let is_first = load.queue.front().is_some_and(|first| first.ticket == ticket);
            let first_since = is_first.then(|| *first_since.get_or_insert_with(Instant::now));
            let outcome = self.outcome(&load, first_since.map(|since| since.elapsed()));
            if let Some(outcome) = outcome {
                load.queue.retain(|waiter| waiter.ticket != ticket);
                self.waiting.fetch_sub(1, SeqCst);
                // There may be room for the next, too.
                wake_first(&load);
                return outcome;
            }
            drop(load);
            match first_since {
                Some(_) => std::thread::park_timeout(TRICKLE),
                None => std::thread::park(),
            }
            load = self.lock();
        }
    }

    /// What a writer is told that waits, and that has been the first of those who wait for so long; `None` where it is to wait on.
    fn outcome(&self, load: &Load, first_for: Option<Duration>) -> Option<Result<()>> {
        let bounded = self.shared_bytes() < self.options.block_bytes;
        match &load.stalled {
            _ if load.closed => Some(Ok(())),
            Some(_) if bounded => Some(Ok(())),
            Some((true, _)) => Some(Err(Environment::Full.into())),
            Some((false, why)) => Some(Err(Environment::Poisoned(why.clone()).into())),
            None => {
                let first_for = first_for?;
                (self.has_room() || bounded && first_for >= TRICKLE).then_some(Ok(()))
            }
        }
    }

    /// True where a writer need not wait, if nobody else does.
    fn has_room(&self) -> bool {
        self.shared_bytes() < self.options.block_bytes && self.unmerged_bytes() < self.options.pace_bytes()
    }

    /// Wakes the first of those who wait where there is room for it.
    fn let_in(&self) {
        if self.waiting.load(SeqCst) > 0 && self.has_room() {
            wake_first(&self.lock());
        }
    }

    /// Notes that layers grew or shrank from `before` to `after` bytes.
    pub fn moved(&self, before: u64, after: u64) {
        if after >= before {
            self.bytes.fetch_add(after - before, SeqCst);
            return;
        }
        lower(&self.bytes, before - after);
        self.let_in();
    }

    /// Notes that of what layers hold, what is set aside grew or shrank from `before` to `after` bytes.
    pub fn set_aside(&self, before: u64, after: u64) {
        if after < before {
            return lower(&self.aside, before - after);
        }
        self.aside.fetch_add(after - before, SeqCst);
        self.let_in();
    }

    /// True where more is set aside than may be: others wait for the rest of it.
    pub fn aside_is_full(&self) -> bool {
        self.aside.load(SeqCst) > self.options.block_bytes
    }

    /// True where writers wait, or will soon.
    pub fn is_crowded(&self) -> bool {
        let pace = self.options.pace_bytes();
        self.unmerged_bytes() >= pace - pace / 4
    }

    /// Overlay memory of all datasets, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    /// What of it everybody is bounded by.
    fn shared_bytes(&self) -> u64 {
        self.bytes().saturating_sub(self.aside.load(SeqCst).min(self.options.block_bytes))
    }

    /// What of that the pump has not merged.
    fn unmerged_bytes(&self) -> u64 {
        self.shared_bytes().saturating_sub(self.merged.load(SeqCst))
    }

    /// Tells the pump that there is work.
    pub fn call_pump(&self) {
        if !self.work.swap(true, SeqCst) {
            let _load = self.lock();
            self.pump_called.notify_all();
        }
    }

    /// The pump worked, or could not because of `failure`: then writers that would have to wait get an error until it can again.
    pub fn pump_did(&self, failure: Option<&Error>) {
        let mut load = self.lock();
        load.stalled = failure.map(|error| (matches!(error, Error::Environment(Environment::Full)), error.to_string()));
        if load.stalled.is_some() {
            wake_all(&load);
        }
    }

    /// True where the pump could not work when it tried last.
    pub fn is_stalled(&self) -> bool {
        self.lock().stalled.is_some()
    }

    /// Waits until there is work for the pump, at most `patience`. False once the store is closed.
    pub fn wait_for_work(&self, patience: Duration) -> bool {
        let load = self.lock();
        let idle = |load: &mut Load| !self.work.load(SeqCst) && !load.closed;
        let (load, _) =
            self.pump_called.wait_timeout_while(load, patience, idle).unwrap_or_else(PoisonError::into_inner);
        self.work.store(false, SeqCst);
        !load.closed
    }

    /// Wakes everybody for the last time.
    pub fn close(&self) {
        let mut load = self.lock();
        load.closed = true;
        wake_all(&load);
        self.pump_called.notify_all();
    }
}

fn lower(account: &AtomicU64, bytes: u64) {
    // It never fails: there is always a new value.
    let _ = account.fetch_update(SeqCst, SeqCst, |held| Some(held.saturating_sub(bytes)));
}

fn wake_first(load: &Load) {
    if let Some(first) = load.queue.front() {
        first.thread.unpark();
    }
}

fn wake_all(load: &Load) {
    load.queue.iter().for_each(|waiter| waiter.thread.unpark());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure() -> Arc<Pressure> {
        let options = PressureOptions { freeze_bytes: 10, block_bytes: 40, ..PressureOptions::default() };
        assert_eq!(options.pace_bytes(), 30);
        Arc::new(Pressure::new(options))
    }

    /// What the first of those who wait is told, for so long already.
    fn told(pressure: &Pressure, first_for: Duration) -> Option<bool> {
        pressure.outcome(&pressure.lock(), Some(first_for)).map(|outcome| outcome.is_ok())
    }

    #[test]
    fn writers_are_let_in_as_the_pump_merges() {
        let pressure = pressure();
        pressure.moved(0, 29);
        pressure.wait_for_room().expect("room");
        pressure.moved(29, 30);
        assert_eq!(told(&pressure, Duration::ZERO), None, "as much waits as may");
        assert_eq!(told(&pressure, TRICKLE), Some(true), "now and then, also where the pump is syncing");
        let merging = pressure.merging(true);
        merging.advance(1);
        assert_eq!(told(&pressure, Duration::ZERO), Some(true));
        pressure.moved(30, 31);
        assert_eq!(told(&pressure, Duration::ZERO), None, "one for one");
        merging.advance(9);
        pressure.moved(31, 40);
        assert_eq!(told(&pressure, TRICKLE), None, "all layers together have a bound");
        pressure.moved(10, 0);
        drop(merging);
        assert_eq!(told(&pressure, Duration::ZERO), None, "what was merged is gone from both accounts");
        assert_eq!((pressure.bytes(), pressure.unmerged_bytes()), (30, 30));
        let failed = pressure.merging(true);
        failed.advance(20);
        drop(failed);
        assert_eq!(told(&pressure, Duration::ZERO), None, "a step that failed has merged nothing");
    }

    #[test]
    fn a_pump_that_stands_still_keeps_nobody() {
        let pressure = pressure();
        pressure.moved(0, 40);
        pressure.pump_did(Some(&Environment::Full.into()));
        assert_eq!(told(&pressure, Duration::ZERO), Some(false));
        assert!(pressure.wait_for_room().is_err());
        pressure.moved(40, 35);
        assert_eq!(
            told(&pressure, Duration::ZERO),
            Some(true),
            "below the bound there is room for what the disk has room for"
        );
        pressure.moved(35, 40);
        pressure.pump_did(None);
        assert_eq!(told(&pressure, Duration::ZERO), None);
        pressure.close();
        pressure.wait_for_room().expect("nobody waits in a store that closes");
    }

    #[test]
    fn what_is_set_aside_keeps_nobody_within_its_bound() {
        let pressure = pressure();
        pressure.moved(0, 40);
        assert_eq!(told(&pressure, TRICKLE), None);
        pressure.set_aside(0, 40);
        pressure.wait_for_room().expect("others have all of their room");
        pressure.merging(false).advance(40);
        pressure.moved(0, 30);
        assert_eq!(told(&pressure, Duration::ZERO), None, "as much of others waits as may");
        assert!(!pressure.aside_is_full());
        pressure.set_aside(40, 55);
        pressure.moved(0, 15);
        assert!(pressure.aside_is_full());
        assert_eq!((pressure.bytes(), pressure.shared_bytes()), (85, 45), "memory has a bound in the whole");
        pressure.set_aside(55, 0);
        pressure.moved(55, 0);
        assert_eq!((pressure.shared_bytes(), pressure.unmerged_bytes()), (30, 30));
    }

    #[test]
    fn who_comes_later_waits_behind_those_who_wait() {
        let pressure = pressure();
        let early = Waiter { ticket: u64::MAX, thread: std::thread::current() };
        pressure.lock().queue.push_back(early);
        pressure.waiting.store(1, SeqCst);
        let later = std::thread::spawn({
            let pressure = pressure.clone();
            move || pressure.wait_for_room()
        });
        while pressure.waiting.load(SeqCst) < 2 {
            std::thread::yield_now();
        }
        let mut load = pressure.lock();
        assert_eq!(load.queue.len(), 2, "there is room, but not for the second");
        load.queue.pop_front();
        pressure.waiting.store(1, SeqCst);
        wake_first(&load);
        drop(load);
        later.join().expect("no panic").expect("room");
        assert_eq!((pressure.waiting.load(SeqCst), pressure.lock().queue.len()), (0, 0));
    }
}
