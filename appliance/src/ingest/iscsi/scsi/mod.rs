//! The SCSI device server: commands as functions over a [`Disk`].
//!
//! ```text
//! Device ── LUN ──▶ LogicalUnit ──▶ operations ──▶ one function a command ──▶ Disk
//!                     │  │  │            │
//!      unit attentions┘  │  └ tasks      └ table: code, length, usage, who may while reserved
//!              reservations
//! ```
//!
//! What it promises:
//!
//! * One command is one change under one range lock: a COMPARE AND WRITE, an ORWRITE, a write of many blocks happens whole
//!   towards all initiators, and across a crash where [`Disk::write`] keeps that promise. Only EXTENDED COPY, and WRITE SAME
//!   of anything but zeros beyond [`TRANSFER_BYTES_MAX`], are several changes.
//! * The write cache is honest: a write without FUA may be lost until SYNCHRONIZE CACHE answers GOOD, and the caching mode
//!   page says so. With the cache switched off every write is stable when it is answered.
//! * Every field of a command is checked before it is believed; a command that is refused changes nothing.
//! * Sense data is chosen in one function for each family of errors ([`Sense::of_error`]).
//!
//! What it never does: hold data, look at a clock, start threads, or know how commands came in. It is called from many
//! threads at once and blocks while the disk does.
//!
//! Sources: SPC-4, SBC-3 and SAM-5 (T10), whose section names the functions cite; where newer ones differ they say so.

mod access;
mod block;
mod cdb;
mod compare;
mod copy;
mod data;
mod device;
mod identify;
mod join;
mod lock;
mod manage;
mod mode;
mod operations;
mod provision;
pub mod reserve;
mod sense;
mod tasks;
mod unit;

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::Result;

pub use access::AccessState;
pub use cdb::Cdb;
pub use data::Data;
pub use device::{Asked, Device, LUN_MAX, Neighbours};
pub use identify::Identity;
pub use lock::RangeLocks;
pub use operations::{Direction, data_out_bytes, is_brief};
pub use reserve::Keeper;
pub use sense::{Sense, Status};
pub use tasks::{DRAIN, TaskGate};
pub use unit::{LogicalUnit, Shape};

/// Smallest disk: 1 MiB.
pub const DISK_BYTES_MIN: u64 = 1 << 20;
/// Largest disk: 256 TiB.
pub const DISK_BYTES_MAX: u64 = 256 << 40;
/// Most bytes that one command moves, as the block limits page says (VPD B0h): what one change of a volume takes.
pub const TRANSFER_BYTES_MAX: u64 = narrowboat_storage::dataset::WRITE_BYTES_MAX as u64;

/// Where the bytes of a logical unit lie. Offsets and lengths are in bytes; callers keep them within the size and aligned
/// to the block size. Called from many threads at once; calls may block. Overlapping changes never run at the same time:
/// the logical unit's range lock keeps them apart.
///
/// Errors: damage becomes MEDIUM ERROR, a full disk DATA PROTECT (which stuns a virtual machine instead of breaking it),
/// what may pass BUSY, everything else HARDWARE ERROR.
pub trait Disk: Send + Sync {
    /// Its size now. It may change while in use; initiators are told.
    fn size_bytes(&self) -> u64;
    /// True where nothing may be changed: snapshots and replicas.
    fn read_only(&self) -> bool {
        false
    }
    /// Reads exactly `len` bytes, as slices that together are that long. What was never written or was discarded is zeros.
    fn read(&self, offset: u64, len: u64) -> Result<Vec<Bytes>>;
    /// Writes all of `data` or nothing, visible at once to every read. With `stable` it survives a power cut when this returns;
    /// without, after a later [`Disk::sync`].
    fn write(&self, offset: u64, data: Bytes, stable: bool) -> Result<()>;
    /// Writes like [`Disk::write`] without `stable`, but for one thing: the initiator must not be told before [`Disk::settle`]
    /// of the result returned. So one settling serves many writes. Of several results the largest stands for all.
    fn begin_write(&self, offset: u64, data: Vec<Bytes>) -> Result<u64> {
        self.write(offset, Bytes::clone(&Data::new(data)), false).map(|()| 0)
    }
    /// Returns when everything up to what [`Disk::begin_write`] returned is as safe as a write that is answered has to be.
    fn settle(&self, _upto: u64) -> Result<()> {
        Ok(())
    }
    /// Makes ranges `(offset, len)` read as zeros and gives their room back, in one step.
    fn discard(&self, ranges: &[(u64, u64)], stable: bool) -> Result<()>;
    /// Returns when everything written before survives a power cut. Callers that wait at the same time share one sync.
    fn sync(&self) -> Result<()>;
    /// Whether the byte at `offset` takes room, and for how many bytes from there that answer holds: at least one block
    /// within the size, at most up to its end. A shorter answer than the truth is allowed.
    fn extent(&self, offset: u64) -> Result<Extent>;
}

/// A run of bytes that take room, or take none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// True where they take room.
    pub allocated: bool,
    /// How many bytes.
    pub len: u64,
}

/// An initiator port in relation to the target's one port: the I_T nexus (SAM-5 section 4.7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nexus {
    /// The initiator's name, in lower case.
    pub initiator: String,
    /// The initiator session id, which tells ports of one initiator apart (RFC 7143 section 11.12.5).
    pub isid: [u8; 6],
}

impl Nexus {
    /// The port as a TransportID (SPC-4 section 7.6.4.6): protocol 5, format 1, name and session id.
    pub fn transport_id(&self) -> Vec<u8> {
        let isid = self.isid.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let name = format!("{},i,0x{isid}\0", self.initiator);
        let mut id = vec![0x45, 0, 0, 0];
        id.extend(name.as_bytes());
        id.resize(id.len().next_multiple_of(4).max(24), 0);
        let len = (id.len() - 4) as u16;
        id[2..4].copy_from_slice(&len.to_be_bytes());
        id
    }

    /// Reads a TransportID at the front of `bytes`, and says how long it is. Of format 0, which names all ports of an
    /// initiator, nothing is made: registrations are kept by port.
    pub fn from_transport_id(bytes: &[u8]) -> Option<(Nexus, usize)> {
        let [0x45, _, high, low, rest @ ..] = bytes else { return None };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let text = rest.get(..len)?.split(|byte| *byte == 0).next()?;
        let (name, isid) = std::str::from_utf8(text).ok()?.split_once(",i,0x")?;
        let digits = u64::from_str_radix(isid, 16).ok().filter(|_| isid.len() <= 12)?.to_be_bytes();
        let initiator = super::target::normal_name(name)?;
        let [_, _, isid @ ..] = digits;
        Some((Nexus { initiator, isid }, len + 4))
    }
}

/// What comes of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// GOOD, CHECK CONDITION, …
    pub status: Status,
    /// Data for the initiator, already cut to the allocation length.
    pub data: Vec<Bytes>,
    /// Sense data, in the format that the control mode page chose.
    pub sense: Vec<u8>,
    /// What has to be done before it is sent.
    pub unsettled: Option<Unsettled>,
}

/// A write that was made and must not be answered before its disk has settled it.
#[derive(Clone)]
pub struct Unsettled {
    unit: Arc<LogicalUnit>,
    upto: u64,
}

impl std::fmt::Debug for Unsettled {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(out, "up to {}", self.upto)
    }
}

impl PartialEq for Unsettled {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.unit, &other.unit) && self.upto == other.upto
    }
}

impl Eq for Unsettled {}

/// Does what has to be done before replies are sent: once for all that concern one unit. Those that fail say so.
pub fn settle<'a>(replies: impl IntoIterator<Item = &'a mut Reply>) {
    let mut open: Vec<&mut Reply> = replies.into_iter().filter(|reply| reply.unsettled.is_some()).collect();
    while let Some(Unsettled { unit, .. }) = open.last().and_then(|reply| reply.unsettled.clone()) {
        let is_same = |reply: &&mut Reply| reply.unsettled.as_ref().is_some_and(|own| Arc::ptr_eq(&own.unit, &unit));
        let (same, others): (Vec<_>, Vec<_>) = open.into_iter().partition(is_same);
        let upto = same.iter().filter_map(|reply| reply.unsettled.as_ref()).map(|own| own.upto).max().unwrap_or(0);
        let outcome = unit.disk.settle(upto).and_then(|()| unit.catch_up(false));
        for reply in same {
            reply.unsettled = None;
            if let Err(error) = &outcome {
                *reply = unit.refusal(&Sense::of_error(error, 0));
            }
        }
        open = others;
    }
}

impl Reply {
    /// GOOD without data.
    pub fn good() -> Self {
        Reply::default()
    }

    /// GOOD with data, cut to what the initiator has room for.
    pub fn data(data: impl Into<Bytes>, allocation_bytes: usize) -> Self {
        let mut data = data.into();
        data.truncate(allocation_bytes);
        Reply { data: vec![data], ..Reply::default() }
    }

    /// A status alone.
    pub fn status(status: Status) -> Self {
        Reply { status, ..Reply::default() }
    }
}
