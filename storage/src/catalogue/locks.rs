//! Rows that say until when a snapshot is locked. `docs/formats/catalogue.md` owns the bytes.

use super::rows::{key, value};
use super::{Change, LOCK};
use crate::codec::{Malformed, Put, Reader};
use crate::id::SnapshotId;

/// A snapshot that nobody deletes before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Which.
    pub snapshot: SnapshotId,
    /// Until the store has been seen running for so many seconds ([`crate::Store::run_seconds`]).
    pub until: u64,
}

impl Change {
    /// Locks a snapshot.
    pub fn lock(lock: &Lock) -> Change {
        Change { key: key(LOCK, &lock.snapshot.0), value: value(|value| value.put_u64(lock.until)) }
    }

    /// Removes the lock of a snapshot, which goes with it.
    pub fn no_lock(snapshot: SnapshotId) -> Change {
        Change { key: key(LOCK, &snapshot.0), value: None }
    }
}

pub(super) fn lock(snapshot: SnapshotId, reader: &mut Reader) -> Result<Lock, Malformed> {
    Ok(Lock { snapshot, until: reader.u64()? })
}
