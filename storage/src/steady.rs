//! A time that neither runs backwards nor stands still, out of a clock that may be set back.
//!
//! A box can start with a clock that is years ahead, and be told the right time a minute later. What is kept in the order of its time
//! (the journal, attributes that clients compare) needs a time that grows. So where the clock shows less than the latest time
//! that was given out, time goes on from there at half the speed of the clock, until that has caught up: every moment
//! keeps a time of its own, and a small correction is soon over (a minute back takes two).
//!
//! Nothing here looks at a clock: what it shows comes in.

use crate::units::Timestamp;

/// A clock that shows less than before by no more than this was not set back: threads race to whoever asks.
pub const RACE_NANOSECONDS: i64 = 1_000_000_000;
/// So much time can have passed since the clock that is behind was looked at last. What it moved beyond that, it was set.
const UNSEEN_NANOSECONDS_MAX: i64 = 60_000_000_000;

/// What is remembered of a clock so that its time never runs backwards.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// What the clock showed last.
    shown: Timestamp,
    /// While it is behind: what it showed at some moment, and the time that it was then.
    behind: Option<(Timestamp, Timestamp)>,
}

impl Steady {
    /// Begins where the clock showed `shown` last.
    pub const fn new(shown: Timestamp) -> Self {
        Steady { shown, behind: None }
    }

    /// What the clock showed when it was looked at last.
    pub fn shown(&self) -> Timestamp {
        self.shown
    }

    /// The time when the clock shows `shown`, `latest` being the last that was given out: never less than either.
    pub fn time(&mut self, shown: Timestamp, latest: Timestamp) -> Timestamp {
        let moved = shown.0.saturating_sub(self.shown.0);
        self.shown = shown;
        if shown >= latest {
            self.behind = None;
            return shown;
        }
        let (since, then) = match self.behind {
            Some(behind) if (-RACE_NANOSECONDS..=UNSEEN_NANOSECONDS_MAX).contains(&moved) => behind,
            // It was set forward, and not far enough, or nobody has looked at it for long.
            Some(_) if moved > 0 => (shown, Timestamp(latest.0.saturating_add(UNSEEN_NANOSECONDS_MAX / 2))),
            // It falls behind now, or was set back once more.
            _ => (shown, latest),
        };
        self.behind = Some((since, then));
        // From a fixed moment on, so that threads that race do not push it ahead.
        let passed = shown.0.saturating_sub(since.0).max(0);
        latest.max(Timestamp(then.0.saturating_add(passed / 2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Gives out times one after the other.
    struct Clock {
        steady: Steady,
        latest: Timestamp,
    }

    impl Clock {
        fn new(seconds: i64) -> Self {
            let latest = Timestamp(seconds * SECOND);
            Clock { steady: Steady::new(latest), latest }
        }

        fn at(&mut self, nanoseconds: i64) -> i64 {
            let time = self.steady.time(Timestamp(nanoseconds), self.latest);
            assert!(time >= self.latest && time.0 >= nanoseconds, "it never runs backwards");
            self.latest = time;
            time.0
        }
    }

    #[test]
    fn a_clock_that_is_right_is_believed() {
        let mut clock = Clock::new(100);
        assert_eq!(clock.at(100 * SECOND), 100 * SECOND);
        assert_eq!(clock.at(5000 * SECOND), 5000 * SECOND);
        assert_eq!(clock.at(5000 * SECOND - 7), 5000 * SECOND, "threads race");
        assert_eq!(clock.at(5000 * SECOND + 1), 5000 * SECOND + 1);
    }

    #[test]
    fn every_moment_has_a_time_of_its_own_until_a_clock_that_was_set_back_has_caught_up() {
        let mut clock = Clock::new(1000);
        let mut last = clock.at(940 * SECOND);
        assert_eq!(last, 1000 * SECOND);
        for second in 941..1059 {
            let time = clock.at(second * SECOND);
            assert!(time > last, "at {second}");
            last = time;
        }
        assert_eq!(last, 1059 * SECOND);
        assert_eq!(clock.at(1060 * SECOND), 1060 * SECOND, "a minute took two");
    }

    #[test]
    fn threads_that_race_do_not_push_time_ahead() {
        let mut clock = Clock::new(1000);
        for nth in 0..100_000 {
            clock.at(500 * SECOND + nth * 10);
            clock.at(500 * SECOND + nth * 10 - SECOND / 2);
        }
        assert!(clock.latest.0 - 1000 * SECOND <= SECOND / 1000, "{:?}", clock.latest);
    }

    #[test]
    fn a_clock_that_is_set_while_it_is_behind_moves_time_by_little() {
        let mut clock = Clock::new(1_000_000);
        clock.at(1000 * SECOND);
        let before = clock.latest.0;
        assert_eq!(clock.at(500_000 * SECOND) - before, UNSEEN_NANOSECONDS_MAX / 2);
        let before = clock.latest.0;
        assert_eq!(clock.at(2000 * SECOND), before);
        assert_eq!(clock.at(2002 * SECOND), before + SECOND);
        assert_eq!(clock.at(i64::MIN), before + SECOND);
        assert_eq!(clock.at(i64::MAX), i64::MAX);
    }
}
