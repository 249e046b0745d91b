//! How much is waiting to be drained, and who has to wait for it.
//!
//! Below `freeze_bytes` of overlay in a dataset nothing happens. Above it the dataset's active layer is frozen and the
//! pump gets work. Above `block_bytes` in the whole store, writers wait until the pump has made room: memory stays
//! within its bound whatever clients do. Where the pump cannot work (a full disk, a fault), waiting writers get its error
//! instead of waiting for ever.

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
}

impl Default for PressureOptions {
    fn default() -> Self {
        PressureOptions { freeze_bytes: 64 << 20, block_bytes: 128 << 20, owed_bytes: 256 << 20 }
    }
}

#[derive(Debug, Default)]
struct Load {
    bytes: u64,
    work: bool,
    /// Why the pump stands still, if it does: true for want of room on the disk.
    stalled: Option<(bool, String)>,
    closed: bool,
}

/// The store-wide account of overlay memory.
#[derive(Debug)]
pub(crate) struct Pressure {
    pub options: PressureOptions,
    load: Mutex<Load>,
    changed: Condvar,
}

impl Pressure {
    pub fn new(options: PressureOptions) -> Self {
        Pressure { options, load: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for another write.
    pub fn wait_for_room(&self) -> Result<()> {
        let mut load = self.lock();
        while load.bytes >= self.options.block_bytes && !load.closed {
            match &load.stalled {
                Some((true, _)) => return Err(Environment::Full.into()),
                Some((false, why)) => return Err(Environment::Poisoned(why.clone()).into()),
                None => {}
            }
            load.work = true;
            self.changed.notify_all();
            load = self.changed.wait(load).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Notes that layers grew or shrank from `before` to `after` bytes.
    pub fn moved(&self, before: u64, after: u64) {
        let mut load = self.lock();
        load.bytes = (load.bytes + after).saturating_sub(before);
        if after < before {
            self.changed.notify_all();
        }
    }

    /// True where writers wait, or will soon.
    pub fn is_crowded(&self) -> bool {
        self.bytes() >= self.options.block_bytes - self.options.block_bytes / 4
    }

    /// Overlay memory of all datasets, in bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Tells the pump that there is work.
    pub fn call_pump(&self) {
        self.lock().work = true;
        self.changed.notify_all();
    }

    /// The pump worked, or could not: then writers that would have to wait get an error until it can again.
    pub fn pump_did(&self, outcome: &Result<bool>) {
        let mut load = self.lock();
        load.stalled = match outcome {
            Ok(_) => None,
            Err(error) => Some((matches!(error, crate::Error::Environment(Environment::Full)), error.to_string())),
        };
        self.changed.notify_all();
    }

    /// Waits until there is work for the pump, at most `patience`. False once the store is closed.
    pub fn wait_for_work(&self, patience: Duration) -> bool {
        let load = self.lock();
        let idle = |load: &mut Load| !load.work && !load.closed;
        let (mut load, _) =
            self.changed.wait_timeout_while(load, patience, idle).unwrap_or_else(PoisonError::into_inner);
        load.work = false;
        !load.closed
    }

    /// Wakes everybody for the last time.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}
