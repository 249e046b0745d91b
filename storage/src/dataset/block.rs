//! The seam between front doors (iSCSI) and a volume or a snapshot of one.
//!
//! A volume is a dataset whose root inode is a file instead of a directory: the same layers, journal, drain and trees as a
//! share, and nothing beside them. Its rules:
//!
//! * A change is atomic: it is one record of the journal, whatever its length and however many ranges it has. It is there
//!   whole or not at all, towards other callers and after a crash.
//! * Changes are in the journal in the order in which they became visible, each with its own time: any moment can be
//!   given back exactly.
//! * A change is visible at once. It *outlives the process* after [`BlockDevice::write_out`] of its LSN or of a later one,
//!   and is *stable* (survives a power cut) after [`BlockDevice::make_stable`] or [`BlockDevice::flush`].
//! * Nothing is answered to an initiator before one of them: initiators wait for a box that was killed and started anew, and go
//!   on as if nothing had been. So the write cache is volatile where the power goes, and only there.
//! * Time comes in with the call; nobody here looks at a clock.

use bytes::Bytes;

use crate::error::Result;
use crate::units::{Lsn, Timestamp};

/// Smallest volume: 1 MiB.
pub const VOLUME_BYTES_MIN: u64 = 1 << 20;
/// Largest volume: 256 TiB.
pub const VOLUME_BYTES_MAX: u64 = 256 << 40;
/// Sizes of volumes are multiples of this many bytes, so that every block size divides them.
pub const VOLUME_BYTES_STEP: u64 = 4096;
/// Most bytes that one write, or one comparison, takes: what one record of the journal holds.
pub const WRITE_BYTES_MAX: usize = crate::journal::PAYLOAD_BYTES_MAX;
/// Most ranges that one discard takes.
pub const DISCARD_RANGES_MAX: usize = 4096;
/// Volumes are also cut at every multiple of this many bytes, so that a cut is always met again soon.
pub const BOUNDARY_BYTES: u64 = 1 << 20;

/// A run of bytes that take room, or that take none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// True where they were written and not discarded since.
    pub allocated: bool,
    /// How many bytes: at least 1.
    pub len: u64,
}

/// What came of a compare-and-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All bytes were as expected, and are replaced; stable once this record is.
    Written(Lsn),
    /// Nothing was written: so many bytes from the beginning were as expected, the next one is not.
    Differs(u64),
}

/// A block device that a front door serves: a live volume, or a snapshot of one (read-only). Offsets and lengths are bytes,
/// of any alignment. What lies outside the size is refused and changes nothing. Called from many threads at once.
pub trait BlockDevice: Send + Sync {
    /// Its size now. It may grow while in use.
    fn size_bytes(&self) -> u64;
    /// True for snapshots and replicas.
    fn read_only(&self) -> bool;
    /// Reads exactly `len` bytes, as slices of verified chunks that together are that long. What was never written, or was
    /// discarded, is zeros.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<Bytes>>;
    /// Writes at most [`WRITE_BYTES_MAX`] bytes. Returns the record that makes them stable.
    fn write(&self, now: Timestamp, offset: u64, data: Bytes) -> Result<Lsn> {
        self.write_pieces(now, offset, vec![data])
    }
    /// The same for bytes that come in pieces, as they come off a network: one write, and none of them is copied.
    fn write_pieces(&self, now: Timestamp, offset: u64, data: Vec<Bytes>) -> Result<Lsn>;
    /// Makes ranges `(offset, len)` read as zeros and stores nothing for them: for UNMAP and for WRITE SAME of zeros. Ranges may
    /// overlap; there are at most [`DISCARD_RANGES_MAX`] of them. A full disk does not refuse it.
    fn discard(&self, now: Timestamp, ranges: &[(u64, u64)]) -> Result<Lsn>;
    /// Writes `data` if the bytes there are `expected`, with no change of anybody in between. Both have the same length, at
    /// most [`WRITE_BYTES_MAX`].
    fn compare_and_write(&self, now: Timestamp, offset: u64, expected: &[u8], data: Bytes) -> Result<Compared>;
    /// Whether the byte at `offset` takes room, and for how many bytes from there that answer holds. A shorter answer than the
    /// truth is allowed. Zeros that were written as other bytes' neighbours may count as allocated until they are drained.
    fn allocation(&self, offset: u64) -> Result<Allocation>;
    /// Returns when everything up to `lsn` is with the kernel: it survives the process, and maybe not a power cut. No sync, but
    /// where a segment of the journal ends. Callers that wait at the same time share one write.
    fn write_out(&self, lsn: Lsn) -> Result<()>;
    /// Returns when everything up to `lsn` survives a power cut. Callers that wait at the same time share one sync.
    fn make_stable(&self, lsn: Lsn) -> Result<()>;
    /// Returns when everything that was written before the call survives a power cut.
    fn flush(&self) -> Result<()>;
    /// Bytes that take room, before deduplication. Never less than the truth; more, and at most the size, where much was
    /// written over or discarded lately.
    fn used_bytes(&self) -> Result<u64>;
}
