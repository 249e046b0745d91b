//! Hours of the week, as people write them: when work that was put off may be done.
//!
//! `22:00-06:00` is every night; `mon-fri 20:00-06:00, sat 00:00-24:00` has days, on which the hours begin. Time is that of the
//! box's time zone, so a change to summer time moves nothing but the sun.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp as Instant;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use narrowboat_storage::units::Timestamp;
use serde::{Deserialize, Deserializer};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;

/// Hours of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    spans: Vec<Span>,
    text: String,
}

/// From one time of the day to another, on some days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// On which days it begins, Monday first.
    days: [bool; 7],
    /// Minutes since midnight.
    from: u16,
    /// The same; at or before `from` it lies on the next day.
    until: u16,
}

impl Hours {
    /// Every night: what applies where nothing is said.
    pub fn nights() -> Hours {
        let span = Span { days: [true; 7], from: 22 * 60, until: 6 * 60 };
        Hours { spans: vec![span], text: "22:00-06:00".into() }
    }

    /// True at a moment within them.
    pub fn contain(&self, now: Timestamp, zone: &TimeZone) -> bool {
        let Ok(instant) = Instant::from_nanosecond(i128::from(now.0)) else { return false };
        let there = instant.to_zoned(zone.clone());
        let minute = there.hour() as u16 * 60 + there.minute() as u16;
        self.have(there.weekday(), minute)
    }

    fn have(&self, day: Weekday, minute: u16) -> bool {
        let today = day.to_monday_zero_offset() as usize % 7;
        let yesterday = (today + 6) % 7;
        self.spans.iter().any(|span| {
            let over_midnight = span.until <= span.from;
            let begun = span.days[today] && minute >= span.from && (over_midnight || minute < span.until);
            begun || over_midnight && span.days[yesterday] && minute < span.until
        })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} are no hours: write them as in 22:00-06:00 or mon-fri 20:00-06:00, sat 00:00-24:00");
        let span = |part: &str| {
            let (days, times) = match part.trim().split_once(' ') {
                Some((days, times)) => (days_of(days)?, times.trim()),
                None => ([true; 7], part.trim()),
            };
            let (from, until) = times.split_once('-')?;
            let (from, until) = (minutes_of(from)?, minutes_of(until)?);
            (from != until && from < DAY_MINUTES).then_some(Span { days, from, until })
        };
        let spans: Option<Vec<Span>> = text.split(',').map(span).collect();
        Ok(Hours { spans: spans.ok_or_else(wrong)?, text: text.trim().to_owned() })
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// "sat" or "mon-fri"; "sat-mon" goes over Sunday.
fn days_of(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    let mut days = [false; 7];
    (0..=(last + 7 - first) % 7).for_each(|step| days[(first + step) % 7] = true);
    Some(days)
}

/// "06:30" in minutes; "24:00" is the end of the day.
fn minutes_of(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY_MINUTES).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().expect(text)
    }

    #[test]
    fn nights_go_over_midnight() {
        assert_eq!(hours("22:00-06:00"), Hours::nights());
        for (minute, within) in [(0, true), (359, true), (360, false), (1319, false), (1320, true), (1439, true)] {
            assert_eq!(Hours::nights().have(Weekday::Wednesday, minute), within, "{minute}");
        }
        assert!((0..DAY_MINUTES).all(|minute| hours("00:00-24:00").have(Weekday::Sunday, minute)));
    }

    #[test]
    fn days_are_those_on_which_the_hours_begin() {
        let week = hours("mon-fri 20:00-06:00, Sat 12:00-13:00");
        for (day, minute, within) in [
            (Weekday::Monday, 5 * 60, false),
            (Weekday::Monday, 20 * 60, true),
            (Weekday::Saturday, 5 * 60, true),
            (Weekday::Saturday, 12 * 60, true),
            (Weekday::Saturday, 20 * 60, false),
            (Weekday::Sunday, 5 * 60, false),
        ] {
            assert_eq!(week.have(day, minute), within, "{day:?} {minute}");
        }
        assert!(hours("sat-mon 01:00-02:00").have(Weekday::Sunday, 60));
        assert!(!hours("sat-mon 01:00-02:00").have(Weekday::Tuesday, 60));
    }

    #[test]
    fn time_is_that_of_the_zone_in_summer_and_winter() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        let at = |text: &str| crate::units::parse_rfc3339(text).expect(text);
        for (time, within) in [
            ("2026-01-15T21:30:00Z", true),
            ("2026-01-15T20:30:00Z", false),
            ("2026-07-15T20:30:00Z", true),
            ("2026-07-16T04:30:00Z", false),
            ("2026-01-16T04:30:00Z", true),
        ] {
            assert_eq!(Hours::nights().contain(at(time), &zone), within, "{time}");
        }
    }

    #[test]
    fn what_are_no_hours_is_refused() {
        for wrong in [
            "",
            "22-6",
            "22:00",
            "25:00-01:00",
            "24:00-01:00",
            "7:00-8:00",
            "06:00-06:00",
            "06:60-07:00",
            "mo 06:00-07:00",
            "22:00-06:00,",
        ] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }
}
