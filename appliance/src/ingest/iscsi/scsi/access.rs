//! Asymmetric access (ALUA, SPC-4 section 5.15): one target port group, whose state can be another, so that a second box
//! can take over under the same names.
//!
//! Only the box changes the state ([`super::LogicalUnit::set_access`]). SET TARGET PORT GROUPS is not known: with one group there is
//! no other way that an initiator could prefer, and one of them would take the unit from all.

use super::cdb::{put16, put32};
use super::identify::{GROUP, PORT};
use super::operations::Call;
use super::{Reply, Sense};

/// How well the unit can be reached through this box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AccessState {
    /// The way to take.
    #[default]
    Optimized = 0x0,
    /// A way that works.
    NonOptimized = 0x1,
    /// Reads and writes go elsewhere for now.
    Standby = 0x2,
    /// Nothing goes this way for now.
    Unavailable = 0x3,
}

impl AccessState {
    /// Refuses commands that need the medium where it cannot be reached.
    pub(super) fn admit(self) -> Result<(), Sense> {
        match self {
            AccessState::Optimized | AccessState::NonOptimized => Ok(()),
            AccessState::Standby => Err(Sense::STANDBY),
            AccessState::Unavailable => Err(Sense::UNAVAILABLE),
        }
    }
}

/// REPORT TARGET PORT GROUPS.
pub(super) fn report_groups(call: &Call) -> Result<Reply, Sense> {
    let extended = match call.cdb.u8(1) >> 5 {
        0 => false,
        1 => true,
        _ => return Err(Sense::INVALID_FIELD),
    };
    let mut data = if extended { vec![0, 0, 0, 0, 0x10, 0, 0, 0] } else { vec![0; 4] };
    let mut group = [0; 12];
    group[0] = 0x80 | call.unit.state().access as u8; // Preferred: there is no other here.
    group[1] = 0x0f; // All four states.
    put16(&mut group, 2, GROUP);
    group[5] = 0x02; // Changed by the box, if ever.
    group[7] = 1;
    put16(&mut group, 10, PORT);
    data.extend(group);
    let len = data.len() as u32 - 4;
    put32(&mut data, 0, len);
    Ok(Reply::data(data, call.cdb.u32(6) as usize))
}
