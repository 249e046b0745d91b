//! Reading and writing blocks (SBC-3 section 5): READ, WRITE, WRITE AND VERIFY, VERIFY, SYNCHRONIZE CACHE, PRE-FETCH.

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::Error;

use super::operations::Call;
use super::{Cdb, Data, LogicalUnit, Reply, Sense, TRANSFER_BYTES_MAX, Unsettled};

/// Blocks that a command names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub block: u64,
    pub blocks: u64,
}

impl Extent {
    /// Reads the fields that READ, WRITE and their kin share, by the length of the command.
    pub fn of(cdb: &Cdb) -> Extent {
        match cdb.group() {
            0 => {
                let count = u64::from(cdb.u8(4));
                Extent { block: u64::from(cdb.u24(1) & 0x1f_ffff), blocks: if count == 0 { 256 } else { count } }
            }
            1 | 2 => Extent { block: cdb.u32(2).into(), blocks: cdb.u16(7).into() },
            5 => Extent { block: cdb.u32(2).into(), blocks: cdb.u32(6).into() },
            _ => Extent { block: cdb.u64(2), blocks: cdb.u32(10).into() },
        }
    }
}

impl LogicalUnit {
    /// An extent in bytes `(offset, len)`, where it lies within the unit.
    pub(super) fn range(&self, extent: Extent) -> Result<(u64, u64), Sense> {
        let end = extent.block.checked_add(extent.blocks).filter(|end| *end <= self.blocks());
        match end {
            Some(_) => Ok((extent.block * self.block_bytes(), extent.blocks * self.block_bytes())),
            None => Err(Sense::OUT_OF_RANGE),
        }
    }

    /// The same for a command that moves the blocks, of which there is a limit.
    pub(super) fn moved(&self, extent: Extent) -> Result<(u64, u64), Sense> {
        let range = self.range(extent)?;
        if range.1 > TRANSFER_BYTES_MAX { Err(Sense::INVALID_FIELD) } else { Ok(range) }
    }

    /// Refuses where writes are.
    pub(super) fn writable(&self) -> Result<(), Sense> {
        let protected = self.disk.read_only() || self.state().mode.write_protect;
        if protected { Err(Sense::WRITE_PROTECTED) } else { Ok(()) }
    }

    /// Whether a write has to be stable when it is answered: FUA, or the cache is off.
    pub(super) fn stable(&self, fua: bool) -> bool {
        fua || !self.state().mode.write_cache
    }

    pub(super) fn read_pieces(&self, offset: u64, len: u64) -> Result<Vec<Bytes>, Sense> {
        if len == 0 {
            return Ok(Vec::new());
        }
        self.disk.read(offset, len).map_err(|error| {
            let first = Extent { block: offset / self.block_bytes(), blocks: len / self.block_bytes() };
            let block = if is_damage(&error) { self.first_damaged(first) } else { first.block };
            Sense::of_error(&error, block)
        })
    }

    /// The first block that is damaged, of a run that cannot be read for damage: initiators repair or leave out that one, and
    /// read on behind it (SBC-3 section 4.18.1).
    fn first_damaged(&self, Extent { block: mut from, mut blocks }: Extent) -> u64 {
        // Everything before `from` can be read, and what comes after `blocks` more need not be looked at.
        while blocks > 1 {
            let half = blocks / 2;
            let read = self.disk.read(from * self.block_bytes(), half * self.block_bytes());
            if read.is_err_and(|error| is_damage(&error)) {
                blocks = half;
            } else {
                (from, blocks) = (from + half, blocks - half);
            }
        }
        from
    }

    pub(super) fn read_whole(&self, offset: u64, len: u64) -> Result<Vec<u8>, Sense> {
        Ok(self.read_pieces(offset, len)?.concat())
    }

    pub(super) fn put_bytes(&self, offset: u64, data: Bytes, stable: bool) -> Result<(), Sense> {
        let written = self.disk.write(offset, data, stable).and_then(|()| self.catch_up(stable));
        written.map_err(|error| Sense::of_error(&error, offset / self.block_bytes()))
    }

    /// Discards ranges in bytes, all of them behind `offset`.
    pub(super) fn discard(&self, offset: u64, ranges: &[(u64, u64)]) -> Result<(), Sense> {
        let stable = self.stable(false);
        let discarded = self.disk.discard(ranges, stable).and_then(|()| self.catch_up(stable));
        discarded.map_err(|error| Sense::of_error(&error, offset / self.block_bytes()))
    }

    /// Has to follow a change before it is answered. One that began with the cache on may be made after somebody switched it
    /// off and synced; whoever is told so by then believes every answer to be stable. Where the cache is still on, the change
    /// comes before that sync.
    pub(super) fn catch_up(&self, stable: bool) -> narrowboat_storage::Result<()> {
        if !stable && self.stable(false) { self.disk.sync() } else { Ok(()) }
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Damage(_))
}

/// Protection information is not supported: a command that asks for it is refused.
pub(super) fn unprotected(cdb: &Cdb) -> Result<(), Sense> {
    if cdb.group() != 0 && cdb.flag(1, 0xe0) { Err(Sense::INVALID_FIELD) } else { Ok(()) }
}

fn fua(cdb: &Cdb) -> bool {
    cdb.group() != 0 && cdb.flag(1, 0x08)
}

/// READ.
pub(super) fn read(call: &Call) -> Result<Reply, Sense> {
    unprotected(&call.cdb)?;
    let (offset, len) = call.unit.moved(Extent::of(&call.cdb))?;
    let _held = call.unit.locks.shared(offset, len);
    let data = call.unit.read_pieces(offset, len)?;
    if fua(&call.cdb) {
        // What is handed out is to be what the medium holds, so it has to be there first.
        call.unit.disk.sync().map_err(|error| Sense::of_error(&error, offset / call.unit.block_bytes()))?;
    }
    Ok(Reply { data, ..Reply::default() })
}

/// WRITE.
pub(super) fn write(call: &Call) -> Result<Reply, Sense> {
    unprotected(&call.cdb)?;
    put(call, Extent::of(&call.cdb), fua(&call.cdb))
}

/// WRITE ATOMIC (16) (SBC-4): as every write here is. Boundaries within it are not drawn.
pub(super) fn write_atomic(call: &Call) -> Result<Reply, Sense> {
    unprotected(&call.cdb)?;
    let extent = Extent { block: call.cdb.u64(2), blocks: call.cdb.u16(12).into() };
    let whole = extent.blocks * call.unit.block_bytes();
    if call.cdb.u16(10) != 0 {
        return Err(Sense::INVALID_FIELD);
    }
    call.unit.moved(extent)?;
    if (call.data.len() as u64) < whole {
        return Err(Sense::SHORT_DATA);
    }
    put(call, extent, fua(&call.cdb))
}

/// Where a command's bytes go, `(offset, len)`: all of them, but for blocks that did not come whole.
fn came(call: &Call, extent: Extent) -> Result<(u64, u64), Sense> {
    let (offset, len) = call.unit.moved(extent)?;
    let block_bytes = call.unit.block_bytes();
    Ok((offset, (call.data.len() as u64).min(len) / block_bytes * block_bytes))
}

/// Writes what came.
fn put(call: &Call, extent: Extent, fua: bool) -> Result<Reply, Sense> {
    let (offset, len) = came(call, extent)?;
    call.unit.writable()?;
    match len {
        0 => Ok(Reply::good()),
        _ => put_pieces(call.unit, offset, len, call.data.first(len as usize), call.unit.stable(fua)),
    }
}

/// Writes pieces that together have `len` bytes. With `stable` they are that on return; else the reply says what is to be done
/// before it is sent.
///
/// In between the blocks are not locked, and others may read, compare and overwrite what is not settled. That is as it has to be:
/// a write that was not answered may be seen or not (SAM-5 section 5.7), and with a cache what was seen may be lost in a power
/// cut, of which everybody is told (SBC-3 section 4.15). What matters is that nothing is kept that builds on what is lost:
/// the journal keeps a prefix of the changes in their order, so that a COMPARE AND WRITE never outlives what it compared, and
/// whatever settles or syncs a later change does so for this one. Whoever wants to see only what stays reads with FUA, which
/// syncs; without a cache `stable` holds, and the blocks stay locked until they are.
pub(super) fn put_pieces(
    unit: &Arc<LogicalUnit>,
    offset: u64,
    len: u64,
    data: Vec<Bytes>,
    stable: bool,
) -> Result<Reply, Sense> {
    let _held = unit.locks.exclusive(offset, len);
    if stable {
        unit.put_bytes(offset, Bytes::clone(&Data::new(data)), true)?;
        return Ok(Reply::good());
    }
    let begun = unit.disk.begin_write(offset, data);
    let upto = begun.map_err(|error| Sense::of_error(&error, offset / unit.block_bytes()))?;
    Ok(Reply { unsettled: Some(Unsettled { unit: unit.clone(), upto }), ..Reply::default() })
}

/// WRITE AND VERIFY: written, stable, and read back. With BYTCHK also compared.
pub(super) fn write_verify(call: &Call) -> Result<Reply, Sense> {
    unprotected(&call.cdb)?;
    let check = call.cdb.u8(1) >> 1 & 3;
    if check > 1 {
        return Err(Sense::INVALID_FIELD);
    }
    let (offset, len) = came(call, Extent::of(&call.cdb))?;
    put(call, Extent::of(&call.cdb), true)?;
    let _held = call.unit.locks.shared(offset, len);
    let there = call.unit.read_pieces(offset, len)?;
    if check == 1 {
        compare(&there, std::iter::once(&call.data[..len as usize]))?;
    }
    Ok(Reply::good())
}

/// VERIFY: every block is read, and so verified against its name; with BYTCHK compared with what came.
pub(super) fn verify(call: &Call) -> Result<Reply, Sense> {
    unprotected(&call.cdb)?;
    let unit = call.unit;
    let (offset, len) = unit.moved(Extent::of(&call.cdb))?;
    let check = call.cdb.u8(1) >> 1 & 3;
    if check == 2 {
        return Err(Sense::INVALID_FIELD);
    }
    match check {
        // What did not come was not compared: GOOD would say that it was.
        1 if (call.data.len() as u64) < len => return Err(Sense::SHORT_DATA),
        3 if (call.data.len() as u64) < unit.block_bytes() && len > 0 => return Err(Sense::SHORT_DATA),
        _ => {}
    }
    let _held = unit.locks.shared(offset, len);
    let there = unit.read_pieces(offset, len)?;
    match check {
        1 => compare(&there, std::iter::once(&call.data[..len as usize]))?,
        3 => compare(&there, std::iter::repeat_n(&call.data[..], (len / unit.block_bytes()) as usize))?,
        _ => {}
    }
    Ok(Reply::good())
}

/// Compares what is there with what came; the first difference is told by its offset.
pub(super) fn compare<'a>(there: &[Bytes], came: impl Iterator<Item = &'a [u8]>) -> Result<(), Sense> {
    let there = there.iter().flat_map(|piece| piece.iter());
    match there.zip(came.flatten()).position(|(there, came)| there != came) {
        Some(at) => Err(Sense::MISCOMPARED.with(at as u64)),
        None => Ok(()),
    }
}

/// SYNCHRONIZE CACHE: everything written before is stable when it is answered, also where IMMED would allow less.
pub(super) fn synchronize(call: &Call) -> Result<Reply, Sense> {
    let extent = Extent::of(&call.cdb);
    call.unit.range(extent)?;
    call.unit.disk.sync().map_err(|error| Sense::of_error(&error, extent.block))?;
    Ok(Reply::good())
}

/// PRE-FETCH: the range is checked; what is read often is kept at hand below anyway.
pub(super) fn prefetch(call: &Call) -> Result<Reply, Sense> {
    call.unit.range(Extent::of(&call.cdb))?;
    Ok(Reply::good())
}
