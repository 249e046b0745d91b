//! What counts of everything that was said about one cap: an override, a calendar, a plain rate.
//!
//! ```text
//! override    until it expires          `narrowboat limit --rate 2Mbit --for 2h`
//!    ▼ else
//! calendar    while a rule holds        exceptions by date, then the week
//!    ▼ else
//! plain rate  always                    `rate` of the config file, or `narrowboat limit --rate`
//! ```
//!
//! A value without a clock, like the calendar in it. Box and peer have one each; both count ([`super::Tree`]).

use narrowboat_storage::units::Timestamp;

use super::calendar::{Calendar, Rule};
use super::rate::Rate;

/// A cap that outranks everything else for a while, and is over by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// The cap: `None` for none, [`Rate::PAUSED`] for silence.
    pub limit: Option<Rate>,
    /// Since when. Before, it does not count: a clock that was wrong when it was made and is put right does not prolong it.
    pub from: Timestamp,
    /// Until when, not included.
    pub until: Timestamp,
}

impl Override {
    fn holds(&self, now: Timestamp) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// Everything that was said about one cap.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// What counts where nothing else does; `None` is no cap.
    pub plain: Option<Rate>,
    /// The week and its exceptions.
    pub calendar: Calendar,
    /// The override, whether it has expired or not.
    pub once: Option<Override>,
}

/// Why a cap counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason<'a> {
    /// The override.
    Override,
    /// A rule of the calendar.
    Rule(&'a Rule),
    /// Nothing else was said about this moment.
    Plain,
}

/// What counts at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ruling<'a> {
    /// The cap.
    pub limit: Option<Rate>,
    /// Why.
    pub reason: Reason<'a>,
    /// When something else counts; `None`: never.
    pub until: Option<Timestamp>,
}

impl Schedule {
    /// One rate, for ever.
    pub fn plain(limit: Option<Rate>) -> Schedule {
        Schedule { plain: limit, calendar: Calendar::empty(jiff::tz::TimeZone::UTC), once: None }
    }

    /// The cap at a moment; what [`Schedule::at`] says, without looking ahead.
    pub fn limit_at(&self, now: Timestamp) -> Option<Rate> {
        match self.once {
            Some(once) if once.holds(now) => once.limit,
            _ => self.calendar.rule_at(now).map_or(self.plain, |rule| rule.limit),
        }
    }

    /// The cap at a moment, why it counts, and until when.
    pub fn at(&self, now: Timestamp) -> Ruling<'_> {
        if let Some(once) = self.once.filter(|once| once.holds(now)) {
            return Ruling { limit: once.limit, reason: Reason::Override, until: Some(once.until) };
        }
        let holding = self.calendar.at(now);
        let begins = self.once.map(|once| once.from).filter(|from| *from > now);
        let until = [holding.until, begins].into_iter().flatten().min();
        match holding.rule {
            Some(rule) => Ruling { limit: rule.limit, reason: Reason::Rule(rule), until },
            None => Ruling { limit: self.plain, reason: Reason::Plain, until },
        }
    }

    /// From this moment on everything repeats itself week by week.
    pub(super) fn repeats_from(&self) -> Option<Timestamp> {
        let once = self.once.map(|once| once.until);
        [once, self.calendar.repeats_from()].into_iter().flatten().max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp(1_795_392_000_000_000_000 + hours * HOUR)
    }

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().expect("a rate"))
    }

    /// From 08:00 to 18:00, at 4 Mbit/s; else 20; from 10:00 to 12:00 once, none. `at(0)` is a Monday's midnight.
    fn schedule() -> Schedule {
        Schedule {
            plain: rate("20Mbit"),
            calendar: Calendar::parse("08:00-18:00 4Mbit", &jiff::tz::TimeZone::UTC).expect("sound"),
            once: Some(Override { limit: None, from: at(10), until: at(12) }),
        }
    }

    #[test]
    fn an_override_outranks_the_calendar_and_the_calendar_the_rate() {
        let schedule = schedule();
        let seen: Vec<_> = [7, 8, 9, 10, 11, 12, 18]
            .map(|hour| schedule.at(at(hour)))
            .map(|ruling| (ruling.limit, ruling.until))
            .into();
        let expected = [
            (rate("20Mbit"), Some(at(8))),
            (rate("4Mbit"), Some(at(10))),
            (rate("4Mbit"), Some(at(10))),
            (None, Some(at(12))),
            (None, Some(at(12))),
            (rate("4Mbit"), Some(at(18))),
            (rate("20Mbit"), Some(at(32))),
        ];
        assert_eq!(seen, expected);
        for hour in 0..48 {
            assert_eq!(schedule.limit_at(at(hour)), schedule.at(at(hour)).limit);
        }
    }

    #[test]
    fn a_plain_rate_is_for_ever() {
        let plain = Schedule::plain(Some(Rate::PAUSED));
        assert_eq!(plain.at(at(0)), Ruling { limit: Some(Rate::PAUSED), reason: Reason::Plain, until: None });
    }
}
