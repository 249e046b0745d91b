//! What the round has shown in which little was under way: the round trip without a queue of ours.

use std::time::{Duration, Instant};

/// Packets of a draining round that tell the usual round trip.
pub(super) const DRAIN_PACKETS: u32 = 4;

/// The packets that were sent in the last draining round.
#[derive(Clone, Debug, Default)]
pub(super) struct Drain {
    /// It is to show the shortest round trip anew.
    pub deep: bool,
    /// Nothing waited in the probing round: there is nothing to drain.
    pub needless: bool,
    began: Option<Instant>,
    pub ended: Option<Instant>,
    round_trips: Duration,
    pub shortest: Option<Duration>,
    packets: u32,
}

impl Drain {
    /// A draining round that begins now.
    pub fn begin(now: Instant, deep: bool, needless: bool) -> Drain {
        Drain { deep, needless, began: Some(now), ..Drain::default() }
    }

    /// A packet that was sent then has been acknowledged.
    pub fn see(&mut self, sent: Instant, now: Instant) {
        if self.began.is_some_and(|began| sent >= began) && self.ended.is_none_or(|ended| sent < ended) {
            let round_trip = now.saturating_duration_since(sent);
            self.round_trips += round_trip;
            self.shortest = Some(self.shortest.map_or(round_trip, |shortest| shortest.min(round_trip)));
            self.packets = self.packets.saturating_add(1);
        }
    }

    /// The usual round trip, where there were enough packets to tell.
    pub fn mean(&self) -> Option<Duration> {
        (self.packets >= DRAIN_PACKETS).then(|| self.round_trips / self.packets)
    }
}
