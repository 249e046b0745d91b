//! Reservations: which initiators may read and write (SPC-4 section 5.13, and RESERVE and RELEASE of SPC-2).
//!
//! [`Reservations`] is a value: who registered which key, and who holds what. A change is made on a copy, kept by the
//! owner's [`Keeper`] where initiators asked for that (APTPL), and only then put in place and answered, so that a restart
//! never brings back less than was promised. The bytes that are kept are described in `docs/formats/reservations.md`.

mod format;
mod persistent_in;
mod persistent_out;
mod state;

use super::operations::Call;
use super::{Reply, Sense};

pub(super) use persistent_in::{read_full_status, read_keys, read_reservation, report_capabilities};
pub(super) use persistent_out::out;
pub use state::{Kind, Reservations};

/// Most registrations of one unit.
pub const REGISTRATIONS_MAX: usize = 1024;

/// Keeps reservations over restarts.
pub trait Keeper: Send + Sync {
    /// Returns when `state` survives a power cut, in place of what was kept before. [`Reservations::decode`] reads it.
    fn keep(&self, state: &[u8]) -> narrowboat_storage::Result<()>;
}

/// Reserving for others, or a part of the unit, which SPC-2 had and nobody has: third party, long identifier, extent.
fn for_itself(call: &Call) -> Result<(), Sense> {
    if call.cdb.flag(1, 0x13) { Err(Sense::INVALID_FIELD.at(1)) } else { Ok(()) }
}

/// RESERVE (6) and (10): refused while anybody is registered, or another initiator has the unit.
pub(super) fn reserve(call: &Call) -> Result<Reply, Sense> {
    for_itself(call)?;
    let mut state = call.unit.state();
    let taken = state.reserved.as_ref().is_some_and(|holder| holder != call.nexus);
    if taken || !state.reservations.is_empty() {
        return Err(Sense::CONFLICT);
    }
    state.reserved = Some(call.nexus.clone());
    Ok(Reply::good())
}

/// RELEASE (6) and (10): does nothing for those who do not hold it.
pub(super) fn release(call: &Call) -> Result<Reply, Sense> {
    for_itself(call)?;
    let mut state = call.unit.state();
    if !state.reservations.is_empty() {
        return Err(Sense::CONFLICT);
    }
    if state.reserved.as_ref() == Some(call.nexus) {
        state.reserved = None;
    }
    Ok(Reply::good())
}
