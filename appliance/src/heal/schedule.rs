//! When the next round of healing begins. It looks at no clock: whoever asks says what time it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The least time between two rounds, unless a person asks for one.
const REST_MIN: Duration = Duration::from_secs(60);
/// A round in vain is followed by another one so much later; later ones by twice as much each time,
const VAIN_MIN: Duration = Duration::from_secs(3_600);
/// and no more than this.
const VAIN_MAX: Duration = Duration::from_secs(86_400);

/// What is known of the rounds so far.
#[derive(Debug)]
pub(super) struct Schedule {
    /// A person wants a round now.
    wanted: bool,
    /// Nothing begins before, unless a person wants it.
    rest_until: Instant,
    /// When what was left is tried again, and how much later after a round in vain.
    again_at: Instant,
    vain: Duration,
    /// How much was damaged when the last round ended.
    left: usize,
    /// Who was asked since something was left.
    tried: BTreeSet<String>,
}

impl Schedule {
    /// That of a box that starts: its first round begins as soon as there is damage.
    pub fn new(now: Instant) -> Schedule {
        Schedule { wanted: false, rest_until: now, again_at: now, vain: VAIN_MIN, left: 0, tried: BTreeSet::new() }
    }

    /// A person wants a round.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether a round is to begin, where so much is known to be damaged and these can be asked.
    pub fn is_due<'a>(&self, now: Instant, wounded: usize, mut peers: impl Iterator<Item = &'a str>) -> bool {
        let more = wounded > self.left;
        let somebody = wounded > 0 && peers.any(|peer| !self.tried.contains(peer));
        self.wanted || now >= self.rest_until && (more || somebody || now >= self.again_at)
    }

    /// One begins.
    pub fn begun(&mut self) {
        self.wanted = false;
    }

    /// A peer was asked.
    pub fn tried(&mut self, peer: &str) {
        self.tried.insert(peer.to_owned());
    }

    /// Nothing is damaged.
    pub fn sound(&mut self, now: Instant) {
        *self = Schedule { rest_until: self.rest_until, again_at: now + VAIN_MIN, ..Schedule::new(now) };
    }

    /// A round that took so long has ended: it healed so much, or was broken off while there was more to come, and so much is still damaged.
    pub fn ended(&mut self, now: Instant, took: Duration, came: bool, left: usize) {
        self.left = left;
        self.rest_until = now + took.max(REST_MIN);
        if came {
            self.vain = VAIN_MIN;
        }
        self.again_at = now + self.vain;
        if !came {
            self.vain = (self.vain * 2).min(VAIN_MAX);
        }
    }

    /// A round came to no end for a fault of this box.
    pub fn failed(&mut self, now: Instant) {
        self.rest_until = now + VAIN_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// After how long the next round begins, to the minute, with the same damage and peers.
    fn next(schedule: &Schedule, now: Instant) -> Duration {
        let minutes = (0..).map(|minutes| Duration::from_secs(60 * minutes));
        minutes.into_iter().find(|later| schedule.is_due(now + *later, 3, ["head"].into_iter())).expect("one day")
    }

    #[test]
    fn rounds_in_vain_come_ever_less_often() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert!(schedule.is_due(now, 3, ["head"].into_iter()));
        schedule.tried("head");
        let mut waits = Vec::new();
        for _ in 0..7 {
            schedule.ended(now, HOUR / 60, false, 3);
            waits.push(next(&schedule, now));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 24, 24].map(|hours| hours * HOUR));
        schedule.ended(now, HOUR / 60, true, 3);
        assert_eq!(next(&schedule, now), HOUR, "something came");
    }

    #[test]
    fn more_damage_or_somebody_new_does_not_wait() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.tried("head");
        schedule.ended(now, 5 * HOUR / 60, false, 3);
        let due = |later: u32, wounded, peer| schedule.is_due(now + later * HOUR / 60, wounded, [peer].into_iter());
        assert!(!due(4, 9, "branch"), "it rests for as long as it worked");
        assert!(due(5, 4, "head") && due(5, 3, "branch") && !due(5, 3, "head"));
    }

    #[test]
    fn whoever_wants_a_round_gets_it() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.sound(now);
        assert!(!schedule.is_due(now, 0, ["head"].into_iter()));
        schedule.want();
        assert!(schedule.is_due(now, 0, ["head"].into_iter()));
        schedule.begun();
        assert!(!schedule.is_due(now, 0, ["head"].into_iter()));
    }
}
