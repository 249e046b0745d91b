//! Commands about the unit as a whole: is it ready, what is there, what can it do (SPC-4 section 6).

use super::cdb::{put16, put32};
use super::device::Device;
use super::operations::{Call, OPERATIONS, Operation};
use super::{Cdb, Reply, Sense};

/// TEST UNIT READY.
pub(super) fn test_unit_ready(call: &Call) -> Result<Reply, Sense> {
    let state = call.unit.state();
    state.access.admit()?;
    if state.stopped { Err(Sense::STOPPED) } else { Ok(Reply::good()) }
}

/// REQUEST SENSE: what would be told with the next command.
pub(super) fn request_sense(call: &Call) -> Result<Reply, Sense> {
    let mut state = call.unit.state();
    let attention = state.take_attention(call.nexus);
    let stopped = if state.stopped { Some(Sense::STOPPED) } else { None };
    let nothing = Sense { status: super::Status::Good, ..Sense::BUSY };
    let sense = attention.or(stopped).unwrap_or(nothing);
    Ok(Reply::data(sense.encode(call.cdb.flag(1, 0x01)), call.cdb.u8(4).into()))
}

/// START STOP UNIT (SBC-3 section 5.25). There is nothing to eject and no power to save: power conditions are accepted and
/// change nothing. Others than those whom a reservation lets write may only start it (section 4.17, table 13).
pub(super) fn start_stop(call: &Call) -> Result<Reply, Sense> {
    let (start, eject, condition) = (call.cdb.flag(4, 0x01), call.cdb.flag(4, 0x02), call.cdb.u8(4) >> 4);
    let starts = start && condition == 0;
    if !starts && !call.unit.state().reservations.admits(call.nexus, true) {
        return Err(Sense::CONFLICT);
    }
    match condition {
        0 if eject => return Err(Sense::INVALID_FIELD),
        0 => {
            if !start {
                call.unit.disk.sync().map_err(|error| Sense::of_error(&error, 0))?;
            }
            call.unit.state().stopped = !start;
        }
        // Active, idle, standby, control to the unit, and the two that force them.
        1 | 2 | 3 | 7 | 10 | 11 => {}
        _ => return Err(Sense::INVALID_FIELD),
    }
    Ok(Reply::good())
}

/// REPORT LUNS of a unit.
pub(super) fn report_luns(call: &Call) -> Result<Reply, Sense> {
    list_luns(call.device, &call.cdb)
}

/// REPORT LUNS (SPC-4 section 6.33).
pub(super) fn list_luns(device: &Device, cdb: &Cdb) -> Result<Reply, Sense> {
    let allocation = cdb.u32(6) as usize;
    if allocation < 16 || !matches!(cdb.u8(2), 0..=2) {
        return Err(Sense::INVALID_FIELD);
    }
    // There are no well-known units, which is what select report 1 asks for.
    let units = if cdb.u8(2) == 1 { Default::default() } else { device.units() };
    let mut data = vec![0; 8];
    put32(&mut data, 0, units.len() as u32 * 8);
    for lun in units.into_keys() {
        let number = if lun < 256 { lun } else { 0x4000 | lun };
        data.extend(number.to_be_bytes());
        data.extend([0; 6]);
    }
    Ok(Reply::data(data, allocation))
}

/// REPORT SUPPORTED OPERATION CODES (SPC-4 section 6.35).
pub(super) fn report_opcodes(call: &Call) -> Result<Reply, Sense> {
    let cdb = &call.cdb;
    let timeouts = cdb.flag(2, 0x80);
    let (opcode, action, allocation) = (cdb.u8(3), cdb.u16(4), cdb.u32(6) as usize);
    let same = || OPERATIONS.iter().filter(|operation| operation.opcode == opcode);
    let has_actions = same().any(|operation| operation.action.is_some());
    let known = || same().find(|own| own.action.is_none_or(|own| u16::from(own) == action));
    let data = match cdb.u8(2) & 0x07 {
        0 => all_opcodes(timeouts),
        1 if has_actions => return Err(Sense::INVALID_FIELD.at(2)),
        1 => one_opcode(same().next(), timeouts),
        2 if same().next().is_some() && !has_actions => return Err(Sense::INVALID_FIELD.at(2)),
        2 => one_opcode(known(), timeouts),
        3 if !has_actions && action != 0 => one_opcode(None, timeouts),
        3 => one_opcode(known(), timeouts),
        _ => return Err(Sense::INVALID_FIELD.at(2)),
    };
    Ok(Reply::data(data, allocation))
}

/// The command timeouts descriptor: no time is promised.
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn all_opcodes(timeouts: bool) -> Vec<u8> {
    let mut data = vec![0; 4];
    for operation in OPERATIONS {
        let mut descriptor = [0; 8];
        descriptor[0] = operation.opcode;
        put16(&mut descriptor, 2, operation.action.unwrap_or(0).into());
        descriptor[5] = u8::from(operation.action.is_some()) | if timeouts { 0x02 } else { 0 };
        put16(&mut descriptor, 6, operation.usage.len() as u16);
        data.extend(descriptor);
        if timeouts {
            data.extend(TIMEOUTS);
        }
    }
    let len = data.len() as u32 - 4;
    put32(&mut data, 0, len);
    data
}

fn one_opcode(operation: Option<&Operation>, timeouts: bool) -> Vec<u8> {
    let Some(operation) = operation else { return vec![0, 0x01, 0, 0] };
    let mut data = vec![0, 0x03 | if timeouts { 0x80 } else { 0 }, 0, 0];
    put16(&mut data, 2, operation.usage.len() as u16);
    let at = data.len();
    data.extend(operation.usage);
    if let Some(action) = operation.action {
        // The service action itself stands where its bits are used.
        data[at + 1] = operation.usage[1] & !0x1f | action;
    }
    if timeouts {
        data.extend(TIMEOUTS);
    }
    data
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 section 6.36).
pub(super) fn report_task_functions(call: &Call) -> Result<Reply, Sense> {
    let allocation = call.cdb.u32(6) as usize;
    if allocation < 4 {
        return Err(Sense::INVALID_FIELD);
    }
    // Abort task, abort task set, clear task set, logical unit reset, target reset; the extended format says no more.
    let mut data = vec![0xd9, 0, 0, 0];
    data[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;
    if call.cdb.flag(2, 0x80) {
        data[3] = 0x0c;
        data.extend([0; 12]);
    }
    Ok(Reply::data(data, allocation))
}
