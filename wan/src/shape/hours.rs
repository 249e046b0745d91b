//! Hours of the week, as people write them: the one notion of "when" that caps and deferred work share.
//!
//! `22:00-06:00` is every night; `mon-fri 20:00-06:00, sat 00:00-24:00` has days, on which the hours begin; `sat-sun` alone is
//! all of these days. Time is what the clock on the wall shows in a time zone, so a change to summer time moves nothing but the sun:
//!
//! * Where the clock skips an hour, hours within it are not there on that day, and hours that begin within it begin behind it.
//! * Where the clock shows an hour twice, hours within it are there twice.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp as Instant;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::Timestamp;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
pub(super) const DAY_MINUTES: u16 = 24 * 60;

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
    /// Every night: what applies to deferred work where nothing is said.
    pub fn nights() -> Hours {
        let span = Span { days: [true; 7], from: 22 * 60, until: 6 * 60 };
        Hours { spans: vec![span], text: "22:00-06:00".into() }
    }

    /// The whole week.
    pub fn always() -> Hours {
        Hours { spans: vec![Span { days: [true; 7], from: 0, until: DAY_MINUTES }], text: "00:00-24:00".into() }
    }

    /// True at a moment within them, by the clocks of this time zone. False at a moment that no calendar names.
    pub fn contain(&self, now: Timestamp, zone: &TimeZone) -> bool {
        civil(now, zone).is_some_and(|there| self.hold(there, &|_| true))
    }

    /// True where the clock on the wall shows a time within those of them that begin on a date that counts.
    pub(super) fn hold(&self, there: DateTime, counts: &dyn Fn(Date) -> bool) -> bool {
        let minute = there.hour() as u16 * 60 + there.minute() as u16;
        let days = [Some(there.date()), there.date().yesterday().ok()];
        self.begun(minute, |span, ago| days[ago].is_some_and(|date| span.days[weekday(date)] && counts(date)))
    }

    /// True at a minute of the week, Monday 00:00 being the first.
    pub(super) fn hold_at(&self, minute_of_week: u16) -> bool {
        let (day, minute) = (usize::from(minute_of_week / DAY_MINUTES), minute_of_week % DAY_MINUTES);
        self.begun(minute, |span, ago| span.days[(day + 7 - ago) % 7])
    }

    /// True at a minute of the day within a span that `begins` today (0) or began yesterday (1).
    fn begun(&self, minute: u16, begins: impl Fn(&Span, usize) -> bool) -> bool {
        self.spans.iter().any(|span| {
            let over_midnight = span.until <= span.from;
            let since_today = minute >= span.from && (over_midnight || minute < span.until) && begins(span, 0);
            since_today || over_midnight && minute < span.until && begins(span, 1)
        })
    }

    /// Each span of them: on which days it begins (Monday first), from which minute of the day, and until which; at or before the first it lies on the
    /// next day.
    pub fn spans(&self) -> impl Iterator<Item = ([bool; 7], u16, u16)> + '_ {
        self.spans.iter().map(|span| (span.days, span.from, span.until))
    }

    /// The minutes of the day at which some of them begin or end.
    pub(super) fn edges(&self) -> impl Iterator<Item = u16> + '_ {
        self.spans.iter().flat_map(|span| [span.from, span.until % DAY_MINUTES])
    }
}

/// What the clock on the wall shows.
pub(super) fn civil(now: Timestamp, zone: &TimeZone) -> Option<DateTime> {
    Instant::from_nanosecond(i128::from(now.0)).ok().map(|instant| zone.to_datetime(instant))
}

fn weekday(date: Date) -> usize {
    usize::from(date.weekday().to_monday_zero_offset().unsigned_abs()) % 7
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Hours {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = || {
            Refusal::Invalid(format!(
                "{text:?} are no hours: write them as in 22:00-06:00, or mon-fri 20:00-06:00, sat 00:00-24:00, or sat-sun"
            ))
        };
        let spans: Option<Vec<Span>> = text.split(',').map(|part| span_of(part.trim())).collect();
        Ok(Hours { spans: spans.ok_or_else(wrong)?, text: text.split_whitespace().collect::<Vec<_>>().join(" ") })
    }
}

/// "22:00-06:00", "mon-fri 20:00-06:00" or "sat-sun".
fn span_of(part: &str) -> Option<Span> {
    if let Some(days) = days_of(part) {
        return Some(Span { days, from: 0, until: DAY_MINUTES });
    }
    let (days, times) = match part.split_once(char::is_whitespace) {
        Some((days, times)) => (days_of(days)?, times.trim()),
        None => ([true; 7], part),
    };
    let (from, until) = times.split_once('-')?;
    let (from, until) = (minutes_of(from)?, minutes_of(until)?);
    (from != until && from < DAY_MINUTES).then_some(Span { days, from, until })
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
    let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let digits = |part: &str| two_digits(part).then(|| part.parse::<u16>().ok()).flatten();
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

    /// A minute of the week.
    fn at(day: u16, hour: u16, minute: u16) -> u16 {
        day * DAY_MINUTES + hour * 60 + minute
    }

    #[test]
    fn nights_go_over_midnight() {
        assert_eq!(hours("22:00-06:00"), Hours::nights());
        for (minute, within) in [(0, true), (359, true), (360, false), (1319, false), (1320, true), (1439, true)] {
            assert_eq!(Hours::nights().hold_at(at(2, 0, minute)), within, "{minute}");
        }
        assert!((0..7 * DAY_MINUTES).all(|minute| Hours::always().hold_at(minute)));
    }

    #[test]
    fn days_are_those_on_which_the_hours_begin() {
        let week = hours("mon-fri 20:00-06:00, Sat 12:00-13:00");
        for (day, hour, within) in
            [(0, 5, false), (0, 20, true), (5, 5, true), (5, 12, true), (5, 20, false), (6, 5, false)]
        {
            assert_eq!(week.hold_at(at(day, hour, 0)), within, "{day} {hour}");
        }
        assert!(hours("sat-mon 01:00-02:00").hold_at(at(6, 1, 0)));
        assert!(!hours("sat-mon 01:00-02:00").hold_at(at(1, 1, 0)));
        assert!(hours("sun 23:00-01:00").hold_at(at(0, 0, 30)), "from Sunday into Monday");
    }

    #[test]
    fn days_alone_are_whole_days() {
        let weekend = hours("sat-sun");
        let within: Vec<bool> =
            (0..7).map(|day| weekend.hold_at(at(day, 0, 0)) && weekend.hold_at(at(day, 23, 59))).collect();
        assert_eq!(within, [false, false, false, false, false, true, true]);
    }

    #[test]
    fn time_is_that_of_the_zone_in_summer_and_winter() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule");
        for (time, within) in [
            ("2026-01-15T21:30:00Z", true),
            ("2026-01-15T20:30:00Z", false),
            ("2026-07-15T20:30:00Z", true),
            ("2026-07-16T04:30:00Z", false),
            ("2026-01-16T04:30:00Z", true),
        ] {
            let instant: Instant = time.parse().expect(time);
            let now = Timestamp(i64::try_from(instant.as_nanosecond()).expect("in range"));
            assert_eq!(Hours::nights().contain(now, &zone), within, "{time}");
        }
    }

    #[test]
    fn both_ways_of_asking_agree() {
        for text in ["22:00-06:00", "mon-fri 20:00-06:00, sat 12:00-13:00", "sun 23:30-01:15", "fri-mon", "00:00-24:00"]
        {
            let hours = hours(text);
            // 2026-11-23 is a Monday.
            let monday = jiff::civil::datetime(2026, 11, 23, 0, 0, 0, 0);
            for minute in 0..7 * DAY_MINUTES {
                let there = monday + jiff::Span::new().minutes(i64::from(minute));
                assert_eq!(hours.hold(there, &|_| true), hours.hold_at(minute), "{text} {there}");
            }
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
            "+7:00-08:00",
            "06:00-06:00",
            "06:60-07:00",
            "mo 06:00-07:00",
            "22:00-06:00,",
            "sat-sun-mon",
        ] {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }
}
