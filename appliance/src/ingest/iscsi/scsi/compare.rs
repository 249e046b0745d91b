//! Changes that depend on what is there, in one step: COMPARE AND WRITE and ORWRITE (SBC-3 sections 5.2 and 5.13).

use super::block::{self, Extent};
use super::operations::Call;
use super::{Reply, Sense};

/// Most blocks of one COMPARE AND WRITE: its field has one byte.
pub(super) const BLOCKS_MAX: u8 = 255;

/// COMPARE AND WRITE: writes the second half of what came where the first half is what is there. Nobody else reads or
/// writes the blocks between the two.
pub(super) fn compare_and_write(call: &Call) -> Result<Reply, Sense> {
    let (unit, cdb) = (call.unit, &call.cdb);
    block::unprotected(cdb)?;
    let (offset, len) = unit.moved(Extent { block: cdb.u64(2), blocks: cdb.u8(13).into() })?;
    if call.announced_bytes != 2 * len {
        // Guessing which half is which could overwrite what should have been compared.
        return Err(Sense::INVALID_FIELD);
    }
    unit.writable()?;
    if len == 0 {
        return Ok(Reply::good());
    }
    let half = len as usize;
    if call.data.len() < 2 * half {
        return Err(Sense::SHORT_DATA);
    }
    let _held = unit.locks.exclusive(offset, len);
    let there = unit.read_pieces(offset, len)?;
    block::compare(&there, std::iter::once(&call.data[..half]))?;
    unit.put_bytes(offset, call.data.slice(half..2 * half), unit.stable(cdb.flag(1, 0x08)))?;
    Ok(Reply::good())
}

/// ORWRITE: sets bits.
pub(super) fn or_write(call: &Call) -> Result<Reply, Sense> {
    let (unit, cdb) = (call.unit, &call.cdb);
    block::unprotected(cdb)?;
    let (offset, len) = unit.moved(Extent::of(cdb))?;
    unit.writable()?;
    if len == 0 {
        return Ok(Reply::good());
    }
    if (call.data.len() as u64) < len {
        return Err(Sense::SHORT_DATA);
    }
    let _held = unit.locks.exclusive(offset, len);
    let mut blocks = unit.read_whole(offset, len)?;
    blocks.iter_mut().zip(call.data.iter()).for_each(|(there, came)| *there |= came);
    unit.put_bytes(offset, blocks.into(), unit.stable(cdb.flag(1, 0x08)))?;
    Ok(Reply::good())
}
