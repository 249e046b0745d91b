//! PERSISTENT RESERVE IN (SPC-4 section 6.15): who is registered, who holds what.

use crate::ingest::iscsi::scsi::cdb::{put16, put32, put64};
use crate::ingest::iscsi::scsi::identify::PORT;
use crate::ingest::iscsi::scsi::operations::Call;
use crate::ingest::iscsi::scsi::{Reply, Sense};

fn headed(call: &Call, generation: u32, body: &[u8]) -> Reply {
    let mut data = vec![0; 8];
    put32(&mut data, 0, generation);
    put32(&mut data, 4, body.len() as u32);
    data.extend(body);
    Reply::data(data, call.cdb.u16(7).into())
}

/// READ KEYS.
pub(in super::super) fn read_keys(call: &Call) -> Result<Reply, Sense> {
    let state = call.unit.state();
    let keys: Vec<u8> = state.reservations.registrations.values().flat_map(|key| key.to_be_bytes()).collect();
    Ok(headed(call, state.reservations.generation, &keys))
}

/// READ RESERVATION.
pub(in super::super) fn read_reservation(call: &Call) -> Result<Reply, Sense> {
    let state = call.unit.state();
    let all = &state.reservations;
    let Some((holder, kind)) = &all.holder else { return Ok(headed(call, all.generation, &[])) };
    let mut body = [0; 16];
    // A reservation that all registrants hold is nobody's key's.
    let key = if kind.is_for_all() { 0 } else { all.registrations.get(holder).copied().unwrap_or(0) };
    put64(&mut body, 0, key);
    body[13] = *kind as u8;
    Ok(headed(call, all.generation, &body))
}

/// REPORT CAPABILITIES.
pub(in super::super) fn report_capabilities(call: &Call) -> Result<Reply, Sense> {
    let mut data = [0; 8];
    put16(&mut data, 0, 8);
    // Specifying initiator ports, all target ports (there is one), persistence through power loss.
    data[2] = 0x08 | 0x04 | 0x01;
    // The type mask is valid; persistence is active.
    data[3] = 0x80 | u8::from(call.unit.state().reservations.kept);
    // Types 7, 6, 5, 3, 1; and in the next byte 8.
    data[4] = 0xea;
    data[5] = 0x01;
    Ok(Reply::data(data.to_vec(), call.cdb.u16(7).into()))
}

/// READ FULL STATUS.
pub(in super::super) fn read_full_status(call: &Call) -> Result<Reply, Sense> {
    let state = call.unit.state();
    let all = &state.reservations;
    let mut body = Vec::new();
    for (nexus, key) in &all.registrations {
        let mut status = [0; 24];
        put64(&mut status, 0, *key);
        if all.holds(nexus) {
            status[12] = 0x01;
            status[13] = all.holder.as_ref().map_or(0, |(_, kind)| *kind as u8);
        }
        put16(&mut status, 18, PORT);
        let port = nexus.transport_id();
        put32(&mut status, 20, port.len() as u32);
        body.extend(status);
        body.extend(port);
    }
    Ok(headed(call, all.generation, &body))
}
