//! The calendar of a cap: which rate counts in which hours of the week, and on which dates otherwise.
//!
//! A value without a clock: asked about a moment, it says which rule holds and until when. It promises that the answer "until"
//! is exact, across changes to summer time and back, and it never guesses: a text that it does not understand is
//! refused with the line and a sentence.
//!
//! ```text
//! zone Europe/London                # once, in front; the box's own time zone where nothing is said
//! mon-fri 12:00-13:00      8Mbit    # of several rules that hold, the first counts
//! mon-fri 08:00-18:00      4Mbit
//! sat-sun                  unlimited
//! 2026-12-24..2027-01-01   20Mbit   # exceptions by date outrank the week, wherever they stand
//! 2026-12-31 06:00-12:00   pause
//! ```
//!
//! Where no rule holds, the calendar says nothing; what counts then is [`super::schedule`]'s to know. How hours meet days that are longer or
//! shorter than others is told in [`super::hours`]; the dates of an exception are those on which its hours begin.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp as Instant};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::Timestamp;

use super::hours::{DAY_MINUTES, Hours, civil};
use super::rate::{Rate, parse_limit, print_limit};

/// The most rules of a calendar.
pub const RULES_MAX: usize = 256;
/// A week of rules repeats itself after seven days; once more for hours that a clock skipped; one for either end.
const REPEATS_DAYS: i64 = 16;
/// Dates beyond are typing errors: times end in 2262.
const YEARS: RangeInclusive<i16> = 2000..=2199;

/// One line of a calendar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    dates: Option<RangeInclusive<Date>>,
    hours: Hours,
    /// The cap while it holds: `None` for none, [`Rate::PAUSED`] for silence.
    pub limit: Option<Rate>,
}

impl Rule {
    /// True for an exception by date.
    pub fn is_dated(&self) -> bool {
        self.dates.is_some()
    }

    /// Its hours; an exception's are those of its dates.
    pub fn hours(&self) -> &Hours {
        &self.hours
    }

    fn counts_on(&self, date: Date) -> bool {
        self.dates.as_ref().is_none_or(|dates| dates.contains(&date))
    }
}

impl fmt::Display for Rule {
    /// As a calendar's text has it; [`Calendar::parse`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dates {
            Some(dates) if dates.start() == dates.end() => write!(f, "{} ", dates.start())?,
            Some(dates) => write!(f, "{}..{} ", dates.start(), dates.end())?,
            None => {}
        }
        write!(f, "{} {}", self.hours, print_limit(self.limit))
    }
}

/// Rules of the week and exceptions, in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    zone: TimeZone,
    /// Exceptions first.
    rules: Vec<Rule>,
}

/// What a calendar says about a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holding<'a> {
    /// The rule that counts, if any holds.
    pub rule: Option<&'a Rule>,
    /// When another one counts, or none does any more; `None`: never.
    pub until: Option<Timestamp>,
}

impl Calendar {
    /// A calendar that says nothing.
    pub fn empty(zone: TimeZone) -> Calendar {
        Calendar { zone, rules: Vec::new() }
    }

    /// Reads a calendar. `zone` is the time zone where the text names none.
    pub fn parse(text: &str, zone: &TimeZone) -> Result<Calendar, Refusal> {
        let mut calendar = Calendar::empty(zone.clone());
        let (mut week, mut said) = (Vec::new(), false);
        for (number, line) in text.lines().enumerate() {
            let wrong = |why: String| Refusal::Invalid(format!("line {} of the calendar: {why}", number + 1));
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.split_once(char::is_whitespace) {
                _ if line.is_empty() => {}
                Some(("zone", _)) if said => return Err(wrong("the zone stands once, before all rules".into())),
                Some(("zone", name)) => {
                    calendar.zone = zone_named(name.trim()).map_err(|error| wrong(error.to_string()))?
                }
                _ => {
                    let rule = rule_of(line).map_err(|error| wrong(error.to_string()))?;
                    if rule.is_dated() { calendar.rules.push(rule) } else { week.push((number + 1, rule)) }
                }
            }
            said = said || !line.is_empty();
            if calendar.rules.len() + week.len() > RULES_MAX {
                return Err(wrong(format!("a calendar has at most {RULES_MAX} rules")));
            }
        }
        refuse_shadowed(&week)?;
        calendar.rules.extend(week.into_iter().map(|(_, rule)| rule));
        Ok(calendar)
    }

    /// The time zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The rules, exceptions first.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Which rule counts at a moment, and until when.
    pub fn at(&self, now: Timestamp) -> Holding<'_> {
        let place = self.place(now);
        let until = self.moments_behind(now).find(|moment| self.place(*moment) != place);
        Holding { rule: place.and_then(|place| self.rules.get(place)), until }
    }

    /// Which rule counts at a moment; what [`Calendar::at`] says, without looking ahead.
    pub fn rule_at(&self, now: Timestamp) -> Option<&Rule> {
        self.place(now).and_then(|place| self.rules.get(place))
    }

    /// A moment behind which no exception by date holds any more: from then on the week repeats itself.
    pub(super) fn repeats_from(&self) -> Option<Timestamp> {
        let last = self.rules.iter().filter_map(|rule| rule.dates.as_ref()).map(|dates| *dates.end()).max()?;
        // Its hours may end on the day behind.
        let behind = last.checked_add(Span::new().days(2)).ok()?;
        ours(behind.to_zoned(self.zone.clone()).ok()?.timestamp())
    }

    /// Which of the rules counts.
    fn place(&self, now: Timestamp) -> Option<usize> {
        let there = civil(now, &self.zone)?;
        self.rules.iter().position(|rule| rule.hours.hold(there, &|date| rule.counts_on(date)))
    }

    /// Every moment behind this one at which a rule may begin or end, in order, until all repeats itself for ever.
    fn moments_behind(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let mut edges: BTreeSet<u16> = self.rules.iter().flat_map(|rule| rule.hours.edges()).collect();
        edges.insert(0);
        let today = civil(now, &self.zone).filter(|_| !self.rules.is_empty()).map(|there| there.date());
        let days = today.into_iter().flat_map(|today| self.days_from(today));
        days.flat_map(move |day| self.moments_of(day, &edges)).filter(move |moment| *moment > now)
    }

    /// The days that have to be looked at from one on: those at hand, and then those around the dates of exceptions. A
    /// calendar in which nothing changes on them repeats itself.
    fn days_from(&self, today: Date) -> impl Iterator<Item = Date> + '_ {
        let after =
            |from: Date| (0..=REPEATS_DAYS).filter_map(move |days| from.checked_add(Span::new().days(days)).ok());
        let at_hand = today.yesterday().unwrap_or(today);
        let last = after(at_hand).next_back().unwrap_or(today);
        let later = move || {
            let dates = self.rules.iter().filter_map(|rule| rule.dates.as_ref());
            let ends = dates.flat_map(|dates| [*dates.start(), *dates.end()]);
            ends.flat_map(after).filter(|date| *date > last).collect::<BTreeSet<Date>>()
        };
        after(at_hand).chain(std::iter::once_with(later).flatten())
    }

    /// The moments of a day at which the clock shows an edge or jumps, in order.
    fn moments_of(&self, day: Date, edges: &BTreeSet<u16>) -> BTreeSet<Timestamp> {
        let mut moments = BTreeSet::new();
        for minute in edges {
            let shown = day.at((minute / 60) as i8, (minute % 60) as i8, 0, 0);
            match self.zone.to_ambiguous_timestamp(shown).offset() {
                AmbiguousOffset::Unambiguous { offset } => {
                    moments.extend(offset.to_timestamp(shown).ok().and_then(ours))
                }
                AmbiguousOffset::Fold { before, after } => {
                    moments.extend(
                        [before, after].into_iter().filter_map(|offset| ours(offset.to_timestamp(shown).ok()?)),
                    );
                }
                // Not shown on that day: what begins or ends there does so where the clock jumps.
                AmbiguousOffset::Gap { .. } => {}
            }
        }
        let begin = day.to_zoned(self.zone.clone()).map(|midnight| midnight.timestamp());
        let end = day.tomorrow().and_then(|next| next.to_zoned(self.zone.clone())).map(|midnight| midnight.timestamp());
        if let (Ok(begin), Ok(end)) = (begin, end) {
            // Midnight itself may be what the clock skips.
            moments.extend(ours(begin));
            let jumps = self.zone.following(begin).map(|jump| jump.timestamp()).take_while(|at| *at < end);
            moments.extend(jumps.filter_map(ours));
        }
        moments
    }
}

impl fmt::Display for Calendar {
    /// As [`Calendar::parse`] reads it, without the zone where it has no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.zone.iana_name() {
            writeln!(f, "zone {name}")?;
        }
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

fn ours(instant: Instant) -> Option<Timestamp> {
    i64::try_from(instant.as_nanosecond()).ok().map(Timestamp)
}

/// The time zone of this name in the IANA database.
pub fn zone_named(name: &str) -> Result<TimeZone, Refusal> {
    TimeZone::get(name).map_err(|_| {
        Refusal::Invalid(format!(
            "{name:?} is no time zone: write a place of the IANA database, such as Europe/London, or UTC"
        ))
    })
}

/// `[DATES] [HOURS] RATE`.
fn rule_of(line: &str) -> Result<Rule, Refusal> {
    let shape = || {
        let example = "mon-fri 08:00-18:00 4Mbit, or 2026-12-24..2027-01-01 unlimited";
        Refusal::Invalid(format!("{line:?} is no rule: write dates, hours or both, and then a rate, as in {example}"))
    };
    let (when, limit) = line.rsplit_once(char::is_whitespace).ok_or_else(shape)?;
    let limit = parse_limit(limit)?;
    let when = when.trim();
    let (first, rest) = when.split_once(char::is_whitespace).unwrap_or((when, ""));
    let (dates, hours) = match dates_of(first)? {
        Some(dates) => (Some(dates), rest.trim()),
        None => (None, when),
    };
    let hours = if hours.is_empty() { Hours::always() } else { hours.parse()? };
    Ok(Rule { dates, hours, limit })
}

/// "2026-12-24" or "2026-12-24..2027-01-01"; `None` where the word is about something else.
fn dates_of(word: &str) -> Result<Option<RangeInclusive<Date>>, Refusal> {
    let (first, last) = word.split_once("..").unwrap_or((word, word));
    let looks = first.len() >= 8 && first.bytes().filter(|byte| *byte == b'-').count() == 2;
    if !looks && !word.contains("..") {
        return Ok(None);
    }
    let date = |text: &str| {
        let wrong = || Refusal::Invalid(format!("{text:?} is no date: write it as in 2026-12-24"));
        let date: Date = text.parse().map_err(|_| wrong())?;
        if YEARS.contains(&date.year()) { Ok(date) } else { Err(wrong()) }
    };
    let dates = date(first)?..=date(last)?;
    if dates.is_empty() {
        return Err(Refusal::Invalid(format!("{word} ends before it begins")));
    }
    Ok(Some(dates))
}

/// Refuses a rule of the week that never counts, because earlier ones always do: the order was not meant so.
fn refuse_shadowed(week: &[(usize, Rule)]) -> Result<(), Refusal> {
    let mut counts = vec![false; week.len()];
    for minute in 0..7 * DAY_MINUTES {
        if let Some(first) = week.iter().position(|(_, rule)| rule.hours.hold_at(minute)) {
            counts[first] = true;
        }
    }
    let shadowed = week.iter().zip(counts).find(|(_, counts)| !counts);
    match shadowed {
        None => Ok(()),
        Some(((line, rule), _)) => Err(Refusal::Invalid(format!(
            "line {line} of the calendar: \"{rule}\" would never count, because rules above it hold at all these hours and the first \
             counts: move it up, or remove it"
        ))),
    }
}

#[cfg(test)]
#[path = "calendar_tests.rs"]
mod tests;
