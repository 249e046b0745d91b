//! PERSISTENT RESERVE OUT (SPC-4 sections 5.13 and 6.16).

use std::sync::PoisonError;

use super::state::News;
use super::{Kind, Reservations};
use crate::ingest::iscsi::scsi::identify::PORT;
use crate::ingest::iscsi::scsi::operations::Call;
use crate::ingest::iscsi::scsi::tasks::Ended;
use crate::ingest::iscsi::scsi::{Cdb, Nexus, Reply, Sense};

/// Service actions.
mod action {
    pub const REGISTER: u8 = 0;
    pub const RESERVE: u8 = 1;
    pub const RELEASE: u8 = 2;
    pub const CLEAR: u8 = 3;
    pub const PREEMPT: u8 = 4;
    pub const PREEMPT_AND_ABORT: u8 = 5;
    pub const REGISTER_AND_IGNORE: u8 = 6;
    pub const REGISTER_AND_MOVE: u8 = 7;
}

/// Bytes of the parameter list, but for port names behind it.
const LIST_BYTES: usize = 24;

/// PERSISTENT RESERVE OUT, whatever its service action.
pub(in super::super) fn out(call: &Call) -> Result<Reply, Sense> {
    // The turn is over by then: others of those that are ended may be waiting for it.
    match in_turn(call)? {
        Some(ended) if !call.unit.gate.drain(&ended) => Err(Sense::BUSY),
        Some(_) | None => Ok(Reply::good()),
    }
}

/// Makes the change, and says which commands were ended by it: those are to be waited for.
fn in_turn(call: &Call) -> Result<Option<Ended>, Sense> {
    let unit = call.unit;
    // One at a time, so that what is kept and what holds never differ in their order.
    let _turn = unit.reserving.lock().unwrap_or_else(PoisonError::into_inner);
    // The one before may have been another's, who ended this.
    call.proceed()?;
    let (mut next, before) = {
        let state = unit.state();
        if state.reserved.as_ref().is_some_and(|holder| holder != call.nexus) {
            return Err(Sense::CONFLICT);
        }
        (state.reservations.clone(), state.reservations.clone())
    };
    let mut news = News::default();
    change(call, &mut next, &mut news)?;
    if next != before && (next.kept || before.kept) {
        let kept = if next.kept { next.encode() } else { Reservations::default().encode() };
        unit.keeper.keep(&kept).map_err(|error| Sense::of_error(&error, 0))?;
    }
    let mut state = unit.state();
    state.reservations = next;
    news.told.iter().for_each(|(nexus, sense)| state.tell(nexus, *sense));
    let ends = call.cdb.u8(1) & 0x1f == action::PREEMPT_AND_ABORT;
    Ok(ends.then(|| unit.gate.end(&news.removed, |nexus| state.knows(nexus), call.pass)))
}

/// Makes the change that was asked for.
fn change(call: &Call, all: &mut Reservations, news: &mut News) -> Result<(), Sense> {
    let (cdb, nexus, list) = (&call.cdb, call.nexus, Cdb(&call.data));
    let list_len = cdb.u32(5) as usize;
    let what = cdb.u8(1) & 0x1f;
    let ports = what == action::REGISTER_AND_MOVE || list.flag(20, 0x08);
    if call.data.len() < list_len || list_len < LIST_BYTES || (!ports && list_len != LIST_BYTES) {
        return Err(Sense::PARAMETER_LENGTH);
    }
    let (own, other) = (list.u64(0), list.u64(8));
    let registered = all.registrations.get(nexus).copied();
    // Only who registers for the first time has no key to show; only one action does not ask for it.
    let shown = match what {
        action::REGISTER_AND_IGNORE => true,
        action::REGISTER => own == registered.unwrap_or(0),
        _ => registered == Some(own),
    };
    if !shown {
        return Err(Sense::CONFLICT);
    }
    let scope_fits = cdb.u8(2) >> 4 == 0;
    let kind = || Kind::of(cdb.u8(2) & 0x0f).filter(|_| scope_fits).ok_or(Sense::INVALID_FIELD);
    if ports && !matches!(what, action::REGISTER | action::REGISTER_AND_MOVE) {
        return Err(Sense::INVALID_PARAMETER);
    }
    match what {
        action::REGISTER | action::REGISTER_AND_IGNORE => {
            if ports && (registered.is_some() || what != action::REGISTER) {
                return Err(Sense::INVALID_FIELD);
            }
            all.register(nexus, other, news)?;
            if ports {
                register_others(call, all, other, news)?;
            }
            all.kept = list.flag(20, 0x01);
        }
        action::RESERVE => all.reserve(nexus, kind()?)?,
        action::RELEASE => all.release(nexus, kind()?, news)?,
        action::CLEAR => all.clear(nexus, news),
        action::PREEMPT | action::PREEMPT_AND_ABORT => all.preempt(nexus, other, kind()?, news)?,
        action::REGISTER_AND_MOVE => {
            let (to, len) = Nexus::from_transport_id(&call.data[LIST_BYTES..]).ok_or(Sense::INVALID_PARAMETER)?;
            let fits = list.u32(20) as usize == len && list.u16(18) == PORT && other != 0 && to != *nexus;
            if !fits {
                return Err(Sense::INVALID_PARAMETER);
            }
            all.hand_over(nexus, &to, other, !list.flag(17, 0x02))?;
            all.kept = list.flag(17, 0x01);
        }
        _ => return Err(Sense::INVALID_FIELD),
    }
    Ok(())
}

/// Registers the ports that the list names (SPEC_I_PT).
fn register_others(call: &Call, all: &mut Reservations, key: u64, news: &mut News) -> Result<(), Sense> {
    let named = Cdb(&call.data).0.get(LIST_BYTES..).unwrap_or_default();
    let len = Cdb(named).u32(0) as usize;
    let mut ports = named.get(4..4 + len).ok_or(Sense::PARAMETER_LENGTH)?;
    while !ports.is_empty() {
        let (port, len) = Nexus::from_transport_id(ports).ok_or(Sense::INVALID_PARAMETER)?;
        all.register(&port, key, news)?;
        ports = ports.get(len..).ok_or(Sense::INVALID_PARAMETER)?;
    }
    Ok(())
}
