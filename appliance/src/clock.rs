//! The box's clock: the only place that asks the system for the time. Within a process it never runs backwards, nor stands still where
//! the system's clock was set back; the journal takes care of the time between two.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use narrowboat_storage::steady::Steady;
use narrowboat_storage::units::Timestamp;

/// What was given out, and of which clock.
struct Given {
    steady: Steady,
    latest: Timestamp,
}

static GIVEN: Mutex<Given> = Mutex::new(Given { steady: Steady::new(Timestamp(0)), latest: Timestamp(0) });

/// The present moment, never before one that was given out earlier.
pub fn now() -> Timestamp {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Looked at under the lock, so that threads that race are no clock that was set back.
    let latest = given.latest;
    given.latest = given.steady.time(wall(), latest);
    given.latest
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
