//! EXTENDED COPY of the short list identifier kind and RECEIVE COPY RESULTS (SPC-4 sections 5.17, 6.4 and 6.17): copies
//! blocks between units of the box without the initiator moving a byte. This is what ESXi clones machines with.
//!
//! Copies are carried out before the command is answered. Units are named by their NAA names; both sides' reservations
//! count. Deduplication makes such a copy cost no room.
//!
//! A copy takes long, and whoever is fenced off meanwhile must not go on writing: it passes the gates of all units that it
//! names, and before each piece, with the piece's blocks locked, looks whether it was ended and whether both sides still
//! admit it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::block::Extent;
use super::cdb::{put16, put32};
use super::operations::Call;
use super::tasks::Pass;
use super::{Cdb, LogicalUnit, Reply, Sense};

/// Most units that one command names.
const TARGETS_MAX: usize = 16;
/// Most runs that one command copies.
const SEGMENTS_MAX: usize = 64;
/// Longest list of units and runs.
const LIST_BYTES_MAX: usize = TARGETS_MAX * TARGET_BYTES + SEGMENTS_MAX * SEGMENT_BYTES;
/// A unit, by its name (type E4h).
const TARGET_BYTES: usize = 32;
/// A run from blocks to blocks (type 02h).
const SEGMENT_BYTES: usize = 28;
/// Most bytes of one run.
const SEGMENT_BYTES_COPIED_MAX: u64 = 32 << 20;
/// Bytes that are held at once.
const HELD_BYTES: u64 = 1 << 20;
/// Results that are kept for one initiator port.
const RESULTS_MAX: usize = 16;

/// Copies that one initiator port asked for.
pub(super) type Results = VecDeque<Outcome>;

/// How a copy ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    list: u8,
    failed: Option<Sense>,
    segments: u16,
    bytes: u64,
}

/// A unit that is copied from or to, and the pass to it.
struct Side<'a> {
    unit: &'a LogicalUnit,
    pass: Pass<'a>,
}

/// A run of blocks.
struct Segment<'a> {
    call: &'a Call<'a>,
    source: &'a Side<'a>,
    target: &'a Side<'a>,
    from: u64,
    to: u64,
    len: u64,
}

/// EXTENDED COPY.
pub(super) fn extended_copy(call: &Call) -> Result<Reply, Sense> {
    let list_len = call.cdb.u32(10) as usize;
    if list_len == 0 {
        return Ok(Reply::good());
    }
    if list_len < 16 || call.data.len() < list_len {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let list = &call.data[..list_len];
    let header = Cdb(list);
    let (targets_len, segments_len) = (usize::from(header.u16(2)), header.u32(8) as usize);
    let inline_len = header.u32(12) as usize;
    if targets_len + segments_len > LIST_BYTES_MAX {
        return Err(Sense::PARAMETER_LENGTH);
    }
    if targets_len / TARGET_BYTES > TARGETS_MAX {
        return Err(Sense::TOO_MANY_TARGETS);
    }
    if segments_len / SEGMENT_BYTES > SEGMENTS_MAX {
        return Err(Sense::TOO_MANY_SEGMENTS);
    }
    if targets_len % TARGET_BYTES != 0 || inline_len != 0 || 16 + targets_len + segments_len > list_len {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let (targets, segments) = list[16..16 + targets_len + segments_len].split_at(targets_len);
    // Nobody can ask for the result where the list has no identifier (usage 11b).
    let kept = header.u8(1) >> 3 & 3 != 3;
    if kept && call.unit.state().copies(call.nexus).is_none() {
        return Err(Sense::BUSY);
    }
    let units: Vec<Option<Arc<LogicalUnit>>> =
        targets.chunks_exact(TARGET_BYTES).map(|descriptor| find(call, descriptor)).collect::<Result<_, _>>()?;
    let side = |unit| Side { unit, pass: unit.gate.visit(call.nexus) };
    let sides: Vec<Option<Side>> = units.iter().map(|unit| unit.as_deref().map(side)).collect();
    let segments = resolve(call, &sides, segments)?;
    let mut outcome = Outcome { list: header.u8(0), failed: None, segments: 0, bytes: 0 };
    for segment in segments {
        match segment.copy(&mut outcome.bytes) {
            Ok(()) => outcome.segments += 1,
            Err(sense) => {
                outcome.failed = Some(sense);
                break;
            }
        }
    }
    if kept && let Some(results) = call.unit.state().copies(call.nexus) {
        results.retain(|other| other.list != outcome.list);
        results.truncate(RESULTS_MAX - 1);
        results.push_front(outcome);
    }
    match outcome.failed {
        Some(sense) => Err(sense),
        None => Ok(Reply::good()),
    }
}

/// Checks runs, all before anything is copied.
fn resolve<'a>(
    call: &'a Call<'a>,
    sides: &'a [Option<Side<'a>>],
    mut segments: &[u8],
) -> Result<Vec<Segment<'a>>, Sense> {
    let side = |index: u16| match sides.get(usize::from(index)) {
        Some(Some(side)) => Ok(side),
        Some(None) | None => Err(Sense::COPY_UNREACHABLE),
    };
    let mut all = Vec::new();
    while !segments.is_empty() {
        let fields = Cdb(segments);
        if fields.u8(0) != 0x02 {
            return Err(Sense::UNSUPPORTED_SEGMENT);
        }
        if usize::from(fields.u16(2)) != SEGMENT_BYTES - 4 || segments.len() < SEGMENT_BYTES {
            return Err(Sense::INVALID_PARAMETER);
        }
        let (source, target) = (side(fields.u16(4))?, side(fields.u16(6))?);
        // The count is in blocks of the source, or of the destination where DC says so (SPC-4 section 6.4.6.2).
        let counted = if fields.flag(1, 0x02) { target.unit } else { source.unit };
        let len = u64::from(fields.u16(10)) * counted.block_bytes();
        let run = |unit: &LogicalUnit, block: u64| {
            let aligned = len.is_multiple_of(unit.block_bytes());
            let blocks = len / unit.block_bytes();
            let range = if aligned { unit.range(Extent { block, blocks }) } else { Err(Sense::INVALID_PARAMETER) };
            range.map_err(|_| Sense::COPY_FAILED)
        };
        if len > SEGMENT_BYTES_COPIED_MAX {
            return Err(Sense::INVALID_PARAMETER);
        }
        let (from, _) = run(source.unit, fields.u64(12))?;
        let (to, _) = run(target.unit, fields.u64(20))?;
        let segment = Segment { call, source, target, from, to, len };
        segment.may_read()?;
        segment.may_write()?;
        all.push(segment);
        segments = &segments[SEGMENT_BYTES..];
    }
    Ok(all)
}

/// The unit that a descriptor names; an inner `None` where it names one that is not here.
fn find(call: &Call, descriptor: &[u8]) -> Result<Option<Arc<LogicalUnit>>, Sense> {
    let fields = Cdb(descriptor);
    // Identification descriptor, of a block device, by its unit number of no other kind.
    if fields.u8(0) != 0xe4 {
        return Err(Sense::UNSUPPORTED_TARGET);
    }
    if fields.u8(1) & 0x1f != 0 {
        return Err(Sense::INVALID_PARAMETER);
    }
    if fields.flag(1, 0x20) {
        return Ok(None); // Deliberately no unit.
    }
    let (set, kind, len) = (fields.u8(4) & 0x0f, fields.u8(5) & 0x3f, fields.u8(7));
    if (set, kind, len) != (1, 3, 16) {
        return Ok(None);
    }
    let name: Option<&[u8; 16]> = descriptor.get(8..24).and_then(|name| name.try_into().ok());
    let unit = name.and_then(|name| call.device.by_name(call.nexus, name));
    let given = fields.u24(29);
    match unit {
        Some(unit) if given != 0 && u64::from(given) != unit.block_bytes() => Err(Sense::INVALID_PARAMETER),
        unit => Ok(unit),
    }
}

impl Side<'_> {
    /// Refuses where the copy was ended, or the unit does not admit it any more.
    fn proceed(&self, call: &Call, writes: bool) -> Result<(), Sense> {
        call.proceed()?;
        if self.pass.is_barred() {
            return Err(Sense::ABORTED);
        }
        self.unit.state().admit(call.nexus, writes)
    }
}

impl Segment<'_> {
    fn may_read(&self) -> Result<(), Sense> {
        self.source.proceed(self.call, false)
    }

    fn may_write(&self) -> Result<(), Sense> {
        self.target.proceed(self.call, true)?;
        self.target.unit.writable()
    }

    /// Copies the run, forwards or backwards so that a run may overlap itself.
    fn copy(&self, copied: &mut u64) -> Result<(), Sense> {
        let (source, target) = (self.source.unit, self.target.unit);
        let backwards = std::ptr::eq(source, target) && self.from < self.to;
        let mut done = 0;
        while done < self.len {
            let len = (self.len - done).min(HELD_BYTES);
            let at = if backwards { self.len - done - len } else { done };
            let data: Bytes = {
                let _held = source.locks.shared(self.from + at, len);
                self.may_read()?;
                source.read_whole(self.from + at, len)?.into()
            };
            let _held = target.locks.exclusive(self.to + at, len);
            // What was ended at the source stays out of the target too.
            self.may_read()?;
            self.may_write()?;
            if data.iter().all(|byte| *byte == 0) {
                target.discard(self.to + at, &[(self.to + at, len)])?;
            } else {
                target.put_bytes(self.to + at, data, target.stable(false))?;
            }
            done += len;
            *copied += len;
        }
        Ok(())
    }
}

/// RECEIVE COPY RESULTS, operating parameters.
pub(super) fn parameters(call: &Call) -> Result<Reply, Sense> {
    let codes = [0x02, 0xe4];
    let mut data = vec![0; 44];
    data[4] = 0x01; // Lists without an identifier are taken.
    put16(&mut data, 8, TARGETS_MAX as u16);
    put16(&mut data, 10, SEGMENTS_MAX as u16);
    put32(&mut data, 12, LIST_BYTES_MAX as u32);
    put32(&mut data, 16, SEGMENT_BYTES_COPIED_MAX as u32);
    put16(&mut data, 34, 1);
    data[36] = 1;
    data[37] = call.unit.block_bytes().ilog2() as u8;
    data[43] = codes.len() as u8;
    data.extend(codes);
    let len = data.len() as u32 - 4;
    put32(&mut data, 0, len);
    Ok(Reply::data(data, call.cdb.u32(10) as usize))
}

/// The result of the list that the command names.
fn asked(call: &Call) -> Result<Outcome, Sense> {
    let list = call.cdb.u8(2);
    let mut state = call.unit.state();
    let found = state.copies(call.nexus).and_then(|results| results.iter().find(|own| own.list == list).copied());
    found.ok_or(Sense::INVALID_FIELD)
}

/// RECEIVE COPY RESULTS, copy status.
pub(super) fn status(call: &Call) -> Result<Reply, Sense> {
    let outcome = asked(call)?;
    let mut data = vec![0; 12];
    put32(&mut data, 0, 8);
    data[4] = if outcome.failed.is_some() { 0x02 } else { 0x01 };
    put16(&mut data, 5, outcome.segments);
    // Counted in bytes while they fit, then in KiB.
    let (units, count) = match u32::try_from(outcome.bytes) {
        Ok(bytes) => (0, bytes),
        Err(_) => (1, (outcome.bytes >> 10) as u32),
    };
    data[7] = units;
    put32(&mut data, 8, count);
    Ok(Reply::data(data, call.cdb.u32(10) as usize))
}

/// RECEIVE COPY RESULTS, failed segment details.
pub(super) fn failed_segment(call: &Call) -> Result<Reply, Sense> {
    let outcome = asked(call)?;
    let mut data = vec![0; 4];
    if let Some(sense) = outcome.failed {
        let sense = sense.encode(false);
        data.resize(60, 0);
        data[56] = sense_status(&outcome);
        put16(&mut data, 58, sense.len() as u16);
        data.extend(sense);
        let len = data.len() as u32 - 4;
        put32(&mut data, 0, len);
    }
    Ok(Reply::data(data, call.cdb.u32(10) as usize))
}

fn sense_status(outcome: &Outcome) -> u8 {
    outcome.failed.map_or(0, |sense| sense.status as u8)
}
