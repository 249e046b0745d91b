//! When a certificate is ordered, and when one counts: functions of the time, without a clock.

use serde::{Deserialize, Serialize};

/// How long is waited after the first order that failed, at most; it doubles with each that follows.
const FIRST_MAX: u64 = 60;
/// How long is waited in the end, at most.
const LAST_MAX: u64 = 6 * 3600;
/// How long an authority may have the box wait.
const ASKED_MAX: u64 = 86_400;

/// From when to when a certificate counts, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first second.
    pub from: u64,
    /// The first second after it.
    pub until: u64,
}

impl Life {
    /// Whether it counts.
    pub fn is_good(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// From when on it is renewed: two thirds of its life are over.
    pub fn renews(&self) -> u64 {
        self.from + self.length() / 3 * 2
    }

    /// Whether a quarter of its life is left, or less: somebody should know by then why it was not renewed.
    pub fn is_short(&self, now: u64) -> bool {
        now >= self.until - self.length() / 4
    }

    fn length(&self) -> u64 {
        self.until.saturating_sub(self.from)
    }
}

/// Orders that failed since the last one that did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failing {
    /// How many.
    pub tries: u32,
    /// When the first was, in seconds since 1970.
    pub since: u64,
    /// When the last was.
    pub at: u64,
    /// When the next will be.
    pub next: u64,
    /// What the last failed with.
    pub why: String,
    /// What somebody can do about it.
    pub remedy: String,
}

/// When is ordered next: once the certificate there is wants to be renewed, and not before the time that was set after a failure. `life` is that of a
/// certificate which is from this authority, for these names.
pub fn next(life: Option<Life>, failing: Option<&Failing>, now: u64) -> u64 {
    let wanted = life.map_or(0, |life| life.renews());
    // A clock that was set back since is no reason to wait for what it showed.
    let pause = failing.filter(|failing| failing.at <= now).map_or(0, |failing| failing.next);
    wanted.max(pause)
}

/// How long is waited after so many failures in a row. What lives shortly is tried more often. `asked`: how long the authority wants the box to wait;
/// `dice`: 0 to 1, so that many boxes do not come at once.
pub fn pause(tries: u32, life: Option<Life>, asked: Option<u64>, dice: f64) -> u64 {
    let length = life.map_or(u64::MAX, |life| life.length());
    let first = (length / 60).clamp(1, FIRST_MAX);
    let last = (length / 12).clamp(first, LAST_MAX);
    let doubled = first.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(last);
    let spread = (doubled as f64 * (0.75 + dice.clamp(0.0, 1.0) / 2.0)).ceil() as u64;
    spread.max(asked.unwrap_or(0).min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;
    const LIFE: Life = Life { from: 1000 * DAY, until: 1090 * DAY };

    fn failing(at: u64, next: u64) -> Failing {
        Failing { tries: 1, since: at, at, next, why: String::new(), remedy: String::new() }
    }

    #[test]
    fn it_is_renewed_at_two_thirds_and_short_in_the_last_quarter() {
        assert_eq!(next(Some(LIFE), None, 0), 1060 * DAY);
        assert_eq!(next(None, None, 0), 0, "there is none: at once");
        let short: Vec<bool> = [1060, 1067, 1068, 1090].map(|day| LIFE.is_short(day * DAY)).into();
        assert_eq!(short, [false, false, true, true]);
        let good: Vec<bool> = [999, 1000, 1089, 1090].map(|day| LIFE.is_good(day * DAY)).into();
        assert_eq!(good, [false, true, true, false]);
    }

    #[test]
    fn a_failure_puts_it_off_but_never_for_a_clock_that_was_wrong() {
        let failed = failing(1061 * DAY, 1061 * DAY + 60);
        assert_eq!(next(Some(LIFE), Some(&failed), 1061 * DAY + 1), 1061 * DAY + 60);
        assert_eq!(next(Some(LIFE), Some(&failed), 5 * DAY), 1060 * DAY);
        assert_eq!(next(None, Some(&failing(9, 70)), 9), 70);
    }

    #[test]
    fn pauses_double_to_six_hours_and_are_spread() {
        let pauses: Vec<u64> = [1, 2, 3, 9, 10, 40].map(|tries| pause(tries, Some(LIFE), None, 0.5)).into();
        assert_eq!(pauses, [60, 120, 240, 15_360, 21_600, 21_600]);
        assert_eq!((pause(1, None, None, 0.0), pause(1, None, None, 1.0)), (45, 75));
        // One that lives for six hours has an hour and a half from its renewal to the quarter that is told of.
        let hours = Life { from: 0, until: 6 * 3600 };
        assert!(pause(40, Some(hours), None, 1.0) < 6 * 3600 / 8);
        assert_eq!((pause(1, None, Some(3600), 0.5), pause(1, None, Some(u64::MAX), 0.5)), (3600, DAY));
    }
}
