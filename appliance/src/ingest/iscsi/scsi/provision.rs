//! Room that is given back, and blocks that are all alike: UNMAP, WRITE SAME, GET LBA STATUS (SBC-3 sections 4.7, 5.35, 5.43
//! and 5.7).

use bytes::Bytes;

use super::block::{self, Extent};
use super::cdb::{put32, put64};
use super::operations::Call;
use super::{Cdb, Reply, Sense};

/// Most blocks that one UNMAP gives back.
pub(super) const UNMAP_BLOCKS_MAX: u32 = 1 << 20;
/// Most runs that one UNMAP names.
pub(super) const DESCRIPTORS_MAX: u32 = 256;
/// Most bytes that one WRITE SAME writes.
pub(super) const SAME_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of a repeated block that are written at once.
const REPEATED_BYTES: u64 = super::TRANSFER_BYTES_MAX;
/// Most runs that one GET LBA STATUS tells.
const RUNS_MAX: usize = 256;

/// UNMAP.
pub(super) fn unmap(call: &Call) -> Result<Reply, Sense> {
    let (unit, list) = (call.unit, Cdb(&call.data));
    let list_len: usize = call.cdb.u16(7).into();
    if call.cdb.flag(1, 0x01) {
        return Err(Sense::INVALID_FIELD); // Anchored blocks are not supported.
    }
    if list_len == 0 {
        return Ok(Reply::good());
    }
    if list_len < 8 || call.data.len() < list_len {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let described = usize::from(list.u16(2)).min(list_len - 8) / 16;
    if described > DESCRIPTORS_MAX as usize {
        return Err(Sense::INVALID_PARAMETER);
    }
    let extent = |at: usize| Extent { block: list.u64(8 + 16 * at), blocks: list.u32(16 + 16 * at).into() };
    let extents: Vec<Extent> = (0..described).map(extent).collect();
    if extents.iter().map(|extent| extent.blocks).sum::<u64>() > UNMAP_BLOCKS_MAX.into() {
        return Err(Sense::INVALID_PARAMETER);
    }
    let ranges: Vec<(u64, u64)> = extents.into_iter().map(|extent| unit.range(extent)).collect::<Result<_, _>>()?;
    unit.writable()?;
    let ranges: Vec<(u64, u64)> = ranges.into_iter().filter(|(_, len)| *len > 0).collect();
    let from = ranges.iter().map(|(offset, _)| *offset).min();
    let to = ranges.iter().map(|(offset, len)| offset + len).max();
    if let (Some(from), Some(to)) = (from, to) {
        // One lock around all runs: several would have to be taken in one order by everybody.
        let _held = unit.locks.exclusive(from, to - from);
        unit.discard(from, &ranges)?;
    }
    Ok(Reply::good())
}

/// WRITE SAME. Zeros give room back whether or not that was asked for; other blocks are written although it was asked for,
/// because unmapped blocks read as zeros (SBC-3 section 5.43.2).
pub(super) fn write_same(call: &Call) -> Result<Reply, Sense> {
    let (unit, cdb) = (call.unit, &call.cdb);
    block::unprotected(cdb)?;
    let long = cdb.opcode() == 0x93;
    let (anchor, no_data) = (cdb.flag(1, 0x10), long && cdb.flag(1, 0x01));
    let extent = Extent::of(cdb);
    // 0x06: a block's own number in its data, which SBC-3 has given up.
    if anchor || cdb.flag(1, 0x06) || (!long && cdb.flag(1, 0x01)) || extent.blocks == 0 {
        return Err(Sense::INVALID_FIELD);
    }
    let wanted = if no_data { 0 } else { unit.block_bytes() };
    if call.announced_bytes != wanted {
        return Err(Sense::INVALID_FIELD);
    }
    let (offset, len) = unit.range(extent)?;
    if len > SAME_BYTES_MAX {
        return Err(Sense::INVALID_FIELD);
    }
    unit.writable()?;
    if !no_data && (call.data.len() as u64) < unit.block_bytes() {
        return Err(Sense::SHORT_DATA);
    }
    let stable = unit.stable(false);
    let _held = unit.locks.exclusive(offset, len);
    if no_data || call.data.iter().all(|byte| *byte == 0) {
        unit.discard(offset, &[(offset, len)])?;
        return Ok(Reply::good());
    }
    let pattern: Bytes = call.data.repeat((len.min(REPEATED_BYTES) / unit.block_bytes()) as usize).into();
    let mut done = 0;
    while done < len {
        let piece = pattern.slice(..(len - done).min(pattern.len() as u64) as usize);
        let piece_len = piece.len() as u64;
        unit.put_bytes(offset + done, piece, stable)?;
        done += piece_len;
    }
    Ok(Reply::good())
}

/// GET LBA STATUS: which blocks take room, from one on.
pub(super) fn get_status(call: &Call) -> Result<Reply, Sense> {
    let (unit, block_bytes) = (call.unit, call.unit.block_bytes());
    let (first, allocation) = (call.cdb.u64(2), call.cdb.u32(10) as usize);
    let end = unit.blocks();
    if first >= end {
        return Err(Sense::OUT_OF_RANGE);
    }
    let room = (allocation.saturating_sub(8) / 16).clamp(1, RUNS_MAX);
    let mut runs: Vec<(u64, u64, bool)> = Vec::new();
    let mut block = first;
    // Each look costs the disk a little, and a short answer is allowed.
    for _ in 0..2 * RUNS_MAX {
        let extent = unit.disk.extent(block * block_bytes).map_err(|error| Sense::of_error(&error, block))?;
        let blocks = (extent.len / block_bytes).clamp(1, end - block);
        let full = runs.len() == room;
        match runs.last_mut() {
            Some((_, count, allocated)) if *allocated == extent.allocated && *count + blocks <= u32::MAX.into() => {
                *count += blocks;
            }
            Some(_) if full => break,
            _ => runs.push((block, blocks.min(u32::MAX.into()), extent.allocated)),
        }
        block += blocks;
        if block >= end {
            break;
        }
    }
    let mut data = vec![0; 8 + 16 * runs.len()];
    put32(&mut data, 0, 4 + 16 * runs.len() as u32);
    for (number, (block, blocks, allocated)) in runs.into_iter().enumerate() {
        let at = 8 + 16 * number;
        put64(&mut data, at, block);
        put32(&mut data, at + 8, blocks as u32);
        data[at + 12] = u8::from(!allocated);
    }
    Ok(Reply::data(data, allocation))
}
