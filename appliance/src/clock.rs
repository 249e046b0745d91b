//! The box's clock: the only place that asks the system for the time. It never runs backwards within a process; the
//! journal takes care of the time between two.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use narrowboat_storage::units::Timestamp;

static LATEST: AtomicI64 = AtomicI64::new(0);

/// The present moment, never before one that was given out earlier.
pub fn now() -> Timestamp {
    let now = wall().0;
    Timestamp(LATEST.fetch_max(now, Ordering::AcqRel).max(now))
}

/// What the system's clock shows, which may have been set back: for calendars, which follow the clock on the wall, and for
/// nothing that is kept in an order.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
        assert!(last.seconds() > 1_700_000_000, "it is after 2023");
    }
}
