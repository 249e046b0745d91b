//! Rounds of a line that is shorter than what a processor and its timers take: how long they last, and what they tell.

use std::time::Duration;

use super::{DRAIN, Phase, Round, Steady};

/// No round is shorter: on a fast local network acknowledgements come in lumps that would look like rates.
pub(super) const ROUND_MIN: Duration = Duration::from_millis(20);
/// But for one that drains, which lasts until it has: no higher rate is believed of it than was known. The same for one at the start in
/// which much was lost, of which the next one would send twice as much.
const ROUND_MIN_URGENT: Duration = Duration::from_millis(2);

impl Steady {
    /// What the line delivered in a round that took so long, in bytes per second. In a short one acknowledgements of the one before may
    /// have come in a lump, so it is the rate of both; and a round that drains tells nothing new.
    pub(super) fn rate_of(&mut self, round: &Round, took: Duration) -> u64 {
        let rate = |bytes: u64, took: Duration| {
            u64::try_from(u128::from(bytes) * 1_000_000_000 / took.as_nanos().max(1)).unwrap_or(u64::MAX)
        };
        let (bytes_before, took_before) = std::mem::replace(&mut self.before, (round.delivered, took));
        let seen = rate(round.delivered, took);
        match self.phase {
            Phase::Cycle { place: DRAIN, .. } if took < ROUND_MIN => seen.min(self.bytes_per_second()),
            Phase::Cycle { .. } if took < 2 * ROUND_MIN && !took_before.is_zero() => {
                rate(round.delivered + bytes_before, took + took_before).min(seen)
            }
            _ => seen,
        }
    }

    /// How long the present round is at least.
    pub(super) fn round_min(&self) -> Duration {
        let urgent = match self.phase {
            Phase::Start { .. } => self.is_much_lost(&self.round, self.past.usual_loss_milli()),
            Phase::Cycle { place, .. } => place == DRAIN,
            Phase::Settle { .. } => false,
        };
        if urgent { ROUND_MIN_URGENT } else { ROUND_MIN }
    }
}
