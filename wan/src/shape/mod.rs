//! How fast, and when: the bucket tree that every datagram passes before it leaves the box.
//!
//! This module is arithmetic. It has no clock, no socket and no task: the time comes in as a [`Duration`] since any fixed
//! origin, a decision comes out, and the socket at the rim ([`crate::link`]) does the waiting.
//!
//! What it promises:
//!
//! * In no second, wherever it begins, do the charged bytes exceed the cap that is in force when that second ends
//!   (promise 9). The test in [`bucket`] slides a window over every instant of thousands of seeded days.
//! * Bytes are bytes on the wire: whoever charges adds the IP and UDP headers. Retransmissions, acknowledgements,
//!   handshakes and probes are charged like everything else, because shaping sits below QUIC.
//! * A new cap counts from the next datagram on. After a lowering nothing leaves until the second that has just passed
//!   fits under the new cap, so at most for one second.
//! * A saturated sender reaches 98 % of the cap; the rest is left for the jitter between this code and the wire.
//! * Peers that compete for the box's cap get equal shares of it, classes of one peer the shares that they may count on ([`class`]).
//!
//! ```text
//!                box            the cap of the line (None: unlimited, 0: paused)
//!          ┌──────┼──────┐
//!       strangers peer  peer    the cap of one peer; strangers are addresses that have not proved a key yet
//!                  │
//!               classes        control, restore, urgent, normal, scavenger: guaranteed shares, lent where not used; ceilings
//! ```
//!
//! What the caps are changes with the hours: [`calendar`] says which rate counts when, [`schedule`] what outranks it, and [`forecast`] what
//! follows for what is left to send. These, too, are arithmetic; their time is the clock on the wall.
//!
//! Decisions and reasons: `docs/decisions/0004-shaping.md`, `0013-calendars.md`.
//!
//! [`Duration`]: std::time::Duration

pub mod bucket;
pub mod calendar;
pub mod class;
pub mod forecast;
pub mod hours;
pub mod mark;
pub mod meter;
pub mod rate;
pub mod receive;
pub mod schedule;
pub mod tree;
pub mod window;

pub use bucket::{Bucket, Verdict, filling};
pub use calendar::{Calendar, Rule, zone_named};
pub use class::Class;
pub use forecast::{Arrival, Load, Slowest, forecast, slowest};
pub use hours::Hours;
pub use mark::{Dscp, Marks};
pub use meter::{Meter, Tally, WatchId};
pub use rate::{Rate, parse_limit, print_limit};
pub use receive::Receive;
pub use schedule::{Override, Reason, Ruling, Schedule};
pub use tree::{NodeId, Tree};
