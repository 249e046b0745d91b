//! Which line an office needs: measured days, replayed against lines.
//!
//! This module is arithmetic: it has no clock, no socket and no task, and the same input gives the same answer. Days come in as
//! [`Measured`], bytes on the wire of every five minutes; a [`Line`] says what may flow when, by the product's own calendar and
//! shaper; [`replay()`] lets one flow through the other; [`needed()`] asks for the slowest line that keeps a recovery point. How sure
//! an answer is follows from weeks drawn anew from the measured days ([`resample`]).
//!
//! What was not measured is never made up: a gap stays one, and answers say how much of the time they speak of.

pub mod line;
pub mod measured;
pub mod needed;
pub mod rehearse;
pub mod replay;
pub mod resample;
pub mod wire;

pub use line::Line;
pub use measured::{Measured, SLOT, Series};
pub use needed::{Needed, Target, needed};
pub use rehearse::{Ghost, Rehearsal, Rehearsed, Sampling, rehearse};
pub use replay::{Due, Replayed, Violation, replay};
pub use wire::Path;
