//! How much is waiting to be drained, and who has to wait for it.
//!
//! Below `freeze_bytes` of overlay in a dataset nothing happens. Above it the dataset's active layer is frozen and the
//! pump gets work. Above `block_bytes` in the whole store, writers wait until the pump has made room: memory stays
//! within its bound whatever clients do. They go on together when there is room worth the waking ([`Pressure::resume_bytes`]).
//! Where the pump cannot work (a full disk, a fault), waiting writers get its error instead of waiting for ever.
//!
//! Every write passes here, so that as long as nobody has to wait nobody is locked out or woken.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Environment, Result};

/// Bounds of the overlay, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PressureOptions {
    /// A dataset's active layer is frozen when it holds this much.
    pub freeze_bytes: u64,
    /// Writers wait while the layers of all datasets hold this much.
    pub block_bytes: u64,
    /// A dataset is drained, however little of it is in memory, when it keeps this much of the journal from going.
    pub owed_bytes: u64,
    /// The same for a dataset whose policy is to deduplicate later, outside its hours. Beyond, it is treated as an inline one
    /// until half of that is drained.
    pub deferred_bytes: u64,
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

/// What is asked of the pump, and why it does not do it.
#[derive(Debug, Default)]
struct Load {
    /// Why the pump stands still, if it does: true for want of room on the disk.
    stalled: Option<(bool, String)>,
    closed: bool,
}

/// The store-wide account of overlay memory.
#[derive(Debug)]
pub(crate) struct Pressure {
    pub options: PressureOptions,
    bytes: AtomicU64,
    /// Writers that wait for room. Raised before they look at `bytes`: whoever makes room sees them, or they see the room.
    waiting: AtomicUsize,
    /// There is work for the pump. Lowered by the pump before it looks for it.
    work: AtomicBool,
    load: Mutex<Load>,
    room_made: Condvar,
    pump_called: Condvar,
}

impl Pressure {
    pub fn new(options: PressureOptions) -> Self {
        Pressure {
            options,
            bytes: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            work: AtomicBool::new(false),
            load: Mutex::default(),
            room_made: Condvar::new(),
            pump_called: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for another write.
    pub fn wait_for_room(&self) -> Result<()> {
        if self.bytes() < self.options.block_bytes {
            return Ok(());
        }
        self.call_pump();
        let load = self.lock();
        self.waiting.fetch_add(1, SeqCst);
        let blocked = |load: &mut Load| self.bytes() >= self.resume_bytes() && !load.closed && load.stalled.is_none();
        let load = self.room_made.wait_while(load, blocked).unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, SeqCst);
        match &load.stalled {
            _ if load.closed || self.bytes() < self.options.block_bytes => Ok(()),
            Some((true, _)) => Err(Environment::Full.into()),
            Some((false, why)) => Err(Environment::Poisoned(why.clone()).into()),
            None => Ok(()),
        }
    }

    /// Writers that wait go on below this. More than what is crowded: so far the pump works by itself.
    fn resume_bytes(&self) -> u64 {
        self.options.block_bytes - self.options.block_bytes / 16
    }

    /// Notes that layers grew or shrank from `before` to `after` bytes.
    pub fn moved(&self, before: u64, after: u64) {
        if after >= before {
            self.bytes.fetch_add(after - before, SeqCst);
            return;
        }
        let less = |bytes: u64| Some(bytes.saturating_sub(before - after));
        let was = self.bytes.fetch_update(SeqCst, SeqCst, less).unwrap_or_default();
        if self.waiting.load(SeqCst) > 0 && was.saturating_sub(before - after) < self.resume_bytes() {
            self.wake_writers(&self.lock());
        }
    }

    fn wake_writers(&self, _load: &Load) {
        self.room_made.notify_all();
    }

    /// True where writers wait, or will soon.
    pub fn is_crowded(&self) -> bool {
        self.bytes() >= self.options.block_bytes - self.options.block_bytes / 4
    }

    /// Overlay memory of all datasets, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(SeqCst)
    }

    /// Tells the pump that there is work.
    pub fn call_pump(&self) {
        if !self.work.swap(true, SeqCst) {
            let _load = self.lock();
            self.pump_called.notify_all();
        }
    }

    /// The pump worked, or could not: then writers that would have to wait get an error until it can again.
    pub fn pump_did(&self, outcome: &Result<bool>) {
        let mut load = self.lock();
        load.stalled = match outcome {
            Ok(_) => None,
            Err(error) => Some((matches!(error, crate::Error::Environment(Environment::Full)), error.to_string())),
        };
        if load.stalled.is_some() {
            self.wake_writers(&load);
        }
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
        self.wake_writers(&load);
        self.pump_called.notify_all();
    }
}
