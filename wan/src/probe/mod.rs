//! What a line is like, measured with little traffic: the reckoning, without sockets and without a clock.
//!
//! ```text
//!   trains:  ▮▮▮▮            ▮▮▮▮▮▮▮▮▮▮▮▮▮▮     how far the line pulls them apart says its rate   (train)
//!   a row:   ▮    ▮    ▮    ▮    ▮    ▮    ▮     which numbers are missing says its loss           (loss)
//!            and each brings back the last number of the other side: round trips                  (round_trip)
//! ```
//!
//! Numbers and times of arrival go in, a [`Survey`] comes out. [`crate::link`] sends and hears the packets;
//! `docs/formats/replication-protocol.md` ("Probes") owns their bytes, and `docs/decisions/0024-probe.md` says why so.
//!
//! What it promises: nothing here grows with what a peer sends beyond the bounds of its own plan; numbers that were not sent, or
//! come twice, count for nothing. What it never does: take what it saw for more than it is: a figure comes with its confidence, and a rate
//! that something else bounded is called "at least".

mod loss;
mod round_trip;
#[cfg(test)]
mod tests;
mod train;

pub use loss::Loss;
pub use round_trip::RoundTrips;
pub use train::{Capacity, Dispersion, Plan};

use std::time::Duration;

use crate::shape::Rate;

/// Most wire bytes that the trains of one probe take in each direction.
pub const TRAIN_BYTES_MAX: u64 = 256_000;
/// Most packets of one train.
pub const TRAIN_PACKETS_MAX: u32 = 256;
/// Most packets of a row.
pub const ROW_PACKETS_MAX: u32 = 500;
/// Fewest packets of a row, however thin the line is.
const ROW_PACKETS_MIN: u32 = 40;
/// For how long a row is spread out.
const ROW_LASTS: Duration = Duration::from_secs(5);
/// Packets of a row are at least so far apart.
pub const ROW_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// And at most so far.
pub const ROW_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// Of the slower direction, a row takes at most so much.
const ROW_PERCENT: u64 = 20;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Survey {
    /// Round trips of small packets; None where none came back.
    pub round_trips: Option<RoundTrips>,
    /// From here to the peer.
    pub there: Way,
    /// From the peer to here.
    pub back: Way,
    /// Wire bytes that were sent to the peer meanwhile, whatever they were for, headers included.
    pub sent_bytes: u64,
    /// Wire bytes that came from the peer meanwhile, likewise.
    pub received_bytes: u64,
    /// Much more passed meanwhile than the probe itself: rates are what was left.
    pub busy: bool,
    /// How long it took.
    pub took: Duration,
}

/// One direction of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// Its rate; None where too little arrived to tell.
    pub capacity: Option<Capacity>,
    /// What was lost.
    pub loss: Loss,
    /// The cap in force of whoever sends.
    pub cap: Option<Rate>,
}

impl Way {
    /// True where the cap, and not the line, bounded the rate: the line carries at least as much.
    pub fn held_by_cap(&self) -> bool {
        let near = |capacity: Capacity| self.cap.is_some_and(|cap| capacity.bits_per_second >= cap.bits() * 85 / 100);
        self.capacity.is_some_and(near)
    }

    /// The rate to be told, in bits per second on the wire, and whether the line may carry more.
    pub fn rate(&self) -> Option<(u64, bool)> {
        let capacity = self.capacity?;
        match self.cap.filter(|_| self.held_by_cap()) {
            Some(cap) => Some((cap.bits(), true)),
            None => Some((capacity.bits_per_second, capacity.at_least)),
        }
    }
}

/// How a row is spread out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// How many packets.
    pub packets: u32,
    /// From one to the next.
    pub interval: Duration,
}

impl Row {
    /// A row of packets of `wire_bytes` for a line whose slower direction carries so much: five seconds long, dense enough to
    /// see bursts, and thin enough to leave the line to others. Where nothing is known of the line, as thin as can be.
    pub fn over(bits_per_second: Option<u64>, wire_bytes: u64) -> Row {
        let share = (u128::from(bits_per_second.unwrap_or(0)) * u128::from(ROW_PERCENT) / 100) as u64;
        let nanos = (wire_bytes * 8).saturating_mul(1_000_000_000).checked_div(share).unwrap_or(u64::MAX);
        let interval = Duration::from_nanos(nanos).clamp(ROW_INTERVAL_MIN, ROW_INTERVAL_MAX);
        // Whole milliseconds: timers know no others.
        let interval = Duration::from_millis(u64::try_from(interval.as_micros().div_ceil(1000)).unwrap_or(250));
        let packets = u32::try_from(ROW_LASTS.as_nanos() / interval.as_nanos().max(1)).unwrap_or(ROW_PACKETS_MAX);
        Row { packets: packets.clamp(ROW_PACKETS_MIN, ROW_PACKETS_MAX), interval }
    }
}
