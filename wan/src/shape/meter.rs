//! What was on the wire: totals, and the highest rate in any second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::window::Window;

/// Slots of the sliding second: a second is looked at wherever it begins, in steps of 10 ms.
const SLOT: Duration = Duration::from_millis(10);
const SLOTS: usize = 100;

/// Counts the wire bytes of one direction of one peer, or of the box.
#[derive(Clone, Debug)]
pub struct Meter {
    total: Tally,
    second: Window,
    watches: BTreeMap<WatchId, Watch>,
    next_watch: u64,
}

/// Bytes on the wire over some stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes, IP and UDP headers included.
    pub bytes: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// The most bytes in any second, wherever it begins (in steps of 10 ms). The first second may have begun before
    /// the stretch did.
    pub highest_second_bytes: u64,
}

impl Tally {
    /// The highest rate in any second, in bits per second.
    pub fn highest_bits_per_second(&self) -> u64 {
        self.highest_second_bytes.saturating_mul(8)
    }
}

/// Names a watch of a [`Meter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(u64);

#[derive(Clone, Copy, Debug)]
struct Watch {
    at_start: Tally,
    highest_second_bytes: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Meter { total: Tally::default(), second: Window::new(SLOTS, SLOT), watches: BTreeMap::new(), next_watch: 0 }
    }
}

impl Meter {
    /// Counts `datagrams` datagrams of `bytes` wire bytes in all.
    pub fn count(&mut self, now: Duration, bytes: u64, datagrams: u64) {
        self.total.bytes += bytes;
        self.total.datagrams += datagrams;
        let second = self.second.add(now, bytes);
        self.total.highest_second_bytes = self.total.highest_second_bytes.max(second);
        for watch in self.watches.values_mut() {
            watch.highest_second_bytes = watch.highest_second_bytes.max(second);
        }
    }

    /// Everything since the meter began.
    pub fn total(&self) -> Tally {
        self.total
    }

    /// The bytes of the second that ends now.
    pub fn last_second_bytes(&mut self, now: Duration) -> u64 {
        self.second.sum(now)
    }

    /// Begins a stretch, for the report of one job. [`Meter::unwatch`] ends it; until then it costs a few bytes.
    pub fn watch(&mut self) -> WatchId {
        let id = WatchId(self.next_watch);
        self.next_watch += 1;
        self.watches.insert(id, Watch { at_start: self.total, highest_second_bytes: 0 });
        id
    }

    /// What the stretch has seen so far; zero for a stretch that has ended.
    pub fn seen(&self, id: WatchId) -> Tally {
        let Some(watch) = self.watches.get(&id) else { return Tally::default() };
        Tally {
            bytes: self.total.bytes - watch.at_start.bytes,
            datagrams: self.total.datagrams - watch.at_start.datagrams,
            highest_second_bytes: watch.highest_second_bytes,
        }
    }

    /// Ends a stretch and returns what it saw.
    pub fn unwatch(&mut self, id: WatchId) -> Tally {
        let seen = self.seen(id);
        self.watches.remove(&id);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_second_need_not_be_an_aligned_one() {
        let mut meter = Meter::default();
        // 600 bytes at the end of one second of the clock, 600 at the start of the next.
        meter.count(Duration::from_millis(900), 600, 1);
        meter.count(Duration::from_millis(1100), 600, 1);
        meter.count(Duration::from_millis(5000), 700, 1);
        assert_eq!(meter.total(), Tally { bytes: 1900, datagrams: 3, highest_second_bytes: 1200 });
    }

    #[test]
    fn a_watch_sees_its_own_stretch() {
        let mut meter = Meter::default();
        meter.count(Duration::from_secs(1), 5000, 4);
        let watch = meter.watch();
        meter.count(Duration::from_secs(10), 100, 1);
        meter.count(Duration::from_secs(20), 300, 2);
        let seen = meter.unwatch(watch);
        assert_eq!(seen, Tally { bytes: 400, datagrams: 3, highest_second_bytes: 300 });
        assert_eq!(meter.unwatch(watch), Tally::default());
        assert_eq!(meter.total().bytes, 5400);
    }
}
