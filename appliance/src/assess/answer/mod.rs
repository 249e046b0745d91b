//! What rows of an assessment say about lines: the numbers that every form of the report shows.
//!
//! What is not known is left out, and [`Answer::missing`] says what would be needed to know it.

mod first;
mod given;
mod targets;

use std::time::Duration;

use jiff::tz::TimeZone;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::assess::{Line, Measured, resample::Days};
use narrowboat_wan::shape::{Calendar, Rate, Schedule};
use serde::Serialize;

pub use first::{FirstCopy, Growth, Volume};
pub use given::{Given, Outage, Violation};
pub use targets::Needed;

use super::spans::{Row, Rows};
use crate::units::{duration, rfc3339};

/// Recovery points that are asked for where nobody says otherwise.
pub const AGES: [Duration; 4] = [minutes(15), minutes(60), minutes(240), minutes(1440)];
/// For what share of the time they are to be kept.
pub const SHARES: [f64; 4] = [0.9, 0.95, 0.99, 1.0];
/// Measured days below which nothing is said of how sure an answer is.
const DAYS_FOR_BANDS: usize = 7;
const DAY: Duration = minutes(1440);

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What the office is called.
    pub office: String,
    /// The line that is there or thought of.
    pub line: Option<Rate>,
    /// When how much of it may be used.
    pub calendar: Calendar,
    /// The text of that calendar.
    pub calendar_text: String,
    /// How old what the peer has may be.
    pub ages: Vec<Duration>,
    /// Growth a month that is assumed, as a share; measured where nothing is.
    pub growth: Option<f64>,
    /// Change a day that is assumed, in bytes on the wire, where nothing was measured.
    pub change: Option<u64>,
    /// How long it takes to carry a disk to the peer.
    pub carry: Duration,
    /// When it is asked.
    pub now: Timestamp,
}

impl Question {
    /// With nothing assumed.
    pub fn new(office: String, now: Timestamp) -> Question {
        let calendar = Calendar::empty(TimeZone::system());
        Question {
            office,
            line: None,
            calendar,
            calendar_text: String::new(),
            ages: AGES.to_vec(),
            growth: None,
            change: None,
            carry: 3 * DAY,
            now,
        }
    }

    /// What may flow under the calendar, however fast the line is.
    fn ceiling(&self, from: Timestamp, until: Timestamp) -> Line {
        let schedule = Schedule { plain: None, calendar: self.calendar.clone(), once: None };
        Line::under(&schedule, from, until)
    }
}

/// One step of the waterfall: what of the data is left to travel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// What it is.
    pub name: &'static str,
    /// In a sentence.
    pub meaning: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// A dataset, as it was looked at last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Source {
    /// What it is called.
    pub name: String,
    /// What it holds.
    pub logical_bytes: u64,
    /// In so many files.
    pub files: u64,
    /// Files that could not be read.
    pub unread: u64,
    /// Bytes on the wire of its first copy, if that was looked at.
    pub first_bytes: Option<u64>,
    /// Bytes on the wire a day, of what was measured.
    pub bytes_a_day: Option<u64>,
}

/// Everything that a report says.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The answer in one sentence.
    pub sentence: String,
    /// What the office is called.
    pub office: String,
    /// When it was asked.
    pub asked: String,
    /// The first moment that was looked at.
    pub from: Option<String>,
    /// The last of them.
    pub until: Option<String>,
    /// Days between them.
    pub days: f64,
    /// The share of their time that was looked at.
    pub coverage: f64,
    /// How far looks are apart, in seconds.
    pub coarseness: Option<u64>,
    /// What was looked at.
    pub sources: Vec<Source>,
    /// Of everything that changed while it was looked at, from what the datasets hold to the wire.
    pub waterfall: Vec<Step>,
    /// The same of the first copy.
    pub first_waterfall: Vec<Step>,
    /// The line that is needed, by recovery point and share of the time.
    pub needed: Vec<Needed>,
    /// What the line that was given does.
    pub given: Option<Given>,
    /// What it takes until everything is there for the first time.
    pub first_copy: Option<FirstCopy>,
    /// How it grows.
    pub growth: Growth,
    /// What goes over the line in a month.
    pub volume: Option<Volume>,
    /// Mean rate on the wire by hour of the week, from Monday on, in bits per second; none where that hour was never looked at.
    pub hours: Vec<Option<f64>>,
    /// Bytes on the wire, hour by hour: when it began, and how many.
    pub hourly: Vec<(u64, Option<u64>)>,
    /// Bytes that packing took in a second of one processor here, before compression.
    pub packed_a_second: Option<f64>,
    /// The calendar, as it was given.
    pub calendar: String,
    /// The line that was named, in bits per second.
    pub line_bits: Option<u64>,
    /// What was taken to be so and not measured.
    pub assumptions: Vec<String>,
    /// What is not answered, and what would be needed for it.
    pub missing: Vec<String>,
}

/// Answers a question by rows.
pub fn answer(rows: &Rows, question: &Question) -> Answer {
    let known = rows.measured();
    let measured = known.clone().map(filled);
    let coarse = rows.coarseness();
    let mut answer = Answer {
        sentence: String::new(),
        office: question.office.clone(),
        asked: rfc3339(question.now),
        from: rows.rows.iter().map(|row| row.from).min().map(rfc3339),
        until: rows.rows.iter().map(|row| row.until).max().map(rfc3339),
        days: 0.0,
        coverage: known.as_ref().map_or(0.0, Measured::coverage),
        coarseness: coarse,
        sources: sources(rows),
        waterfall: waterfall(rows.changes()),
        first_waterfall: waterfall(rows.rows.iter().filter(|row| row.is_first())),
        needed: Vec::new(),
        given: None,
        first_copy: None,
        growth: Growth::default(),
        volume: None,
        hours: Vec::new(),
        hourly: Vec::new(),
        packed_a_second: packed_a_second(rows),
        calendar: question.calendar_text.clone(),
        line_bits: question.line.map(Rate::bits),
        assumptions: Vec::new(),
        missing: Vec::new(),
    };
    let assumed = question.change.map(|bytes| assume(bytes, question));
    if let Some(measured) = measured.or(assumed) {
        answer.days = measured.slots() as f64 / 288.0;
        let days = Days::of(&measured, question.calendar.zone());
        let bands = (days.count() >= DAYS_FOR_BANDS && known.is_some()).then_some(&days);
        answer.needed = targets::needed_for(&measured, question, coarse, bands);
        answer.given = question.line.map(|line| given::given(&measured, question, line));
        answer.growth = first::growth(&measured, question, &answer.needed);
        answer.volume = Some(first::volume(&measured, bands, question));
        (answer.hours, answer.hourly) = hours(&measured, known.as_ref(), question.calendar.zone());
        answer.first_copy = first::first_copy(rows, Some(&measured), question);
    } else {
        answer.first_copy = first::first_copy(rows, None, question);
    }
    answer.assumptions = assumptions(&answer, rows, question);
    answer.missing = missing(&answer, rows, known.is_some(), question);
    answer.sentence = sentence(&answer);
    answer
}

/// In gaps nothing is taken to have changed; that is told among the assumptions.
fn filled(mut measured: Measured) -> Measured {
    let slots = measured.slots();
    for series in &mut measured.series {
        series.bytes.resize(slots, None);
        series.bytes.iter_mut().for_each(|bytes| *bytes = Some(bytes.unwrap_or_default()));
    }
    measured
}

/// A week in which as much changes every day as was typed in: in the working hours of Monday to Friday, where an office has people.
fn assume(bytes_a_day: u64, question: &Question) -> Measured {
    use narrowboat_wan::assess::Series;
    const WORK: std::ops::Range<usize> = 8 * 12..18 * 12;
    let zone = question.calendar.zone();
    let monday = jiff::Timestamp::from_nanosecond(i128::from(question.now.0))
        .map(|now| now.to_zoned(zone.clone()))
        .and_then(|now| {
            let back = i64::from(now.weekday().to_monday_zero_offset());
            now.start_of_day()?.checked_sub(jiff::Span::new().days(back))
        });
    let start = monday.map_or(question.now, |monday| {
        Timestamp(i64::try_from(monday.timestamp().as_nanosecond()).unwrap_or(question.now.0))
    });
    let each = bytes_a_day * 7 / 5 / WORK.len() as u64;
    let of = |slot: usize| if slot / 288 < 5 && WORK.contains(&(slot % 288)) { each } else { 0 };
    let bytes = (0..7 * 288).map(|slot| Some(of(slot))).collect();
    Measured { start, series: vec![Series { dataset: "assumed".to_owned(), bytes }] }
}

fn sources(rows: &Rows) -> Vec<Source> {
    let source = |(name, row): (&str, &Row)| {
        let own = || rows.rows.iter().filter(|row| row.dataset == name);
        let (bytes, nanos) = own().filter(|row| !row.is_first()).fold((0u64, 0i64), |(bytes, nanos), row| {
            (bytes.saturating_add(row.wire), nanos.saturating_add(row.until.0 - row.from.0))
        });
        Source {
            name: name.to_owned(),
            logical_bytes: row.logical,
            files: row.files,
            unread: row.unread,
            first_bytes: own().find(|row| row.is_first()).map(|row| row.wire),
            bytes_a_day: (nanos > 0).then(|| (bytes as f64 / (nanos as f64 / DAY.as_nanos() as f64)) as u64),
        }
    };
    rows.latest().into_iter().map(source).collect()
}

fn waterfall<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Vec<Step> {
    let sum = |of: fn(&Row) -> u64| rows.clone().map(of).fold(0u64, u64::saturating_add);
    let logical = {
        let mut latest = std::collections::BTreeMap::new();
        latest.extend(rows.clone().map(|row| (&row.dataset, row.logical)));
        latest.values().fold(0u64, |sum, bytes| sum.saturating_add(*bytes))
    };
    if rows.clone().next().is_none() {
        return Vec::new();
    }
    let step = |name, meaning, bytes| Step { name, meaning, bytes };
    vec![
        step("Logical", "what the datasets hold", logical),
        step("Changed", "bytes in files that are new or changed, each time that they did", sum(|row| row.changed)),
        step("Unique", "of these, what was not there before, in any file", sum(|row| row.unique)),
        step("Unknown to the peer", "of these, what the other box does not have", sum(|row| row.unknown)),
        step("Compressed", "the same, compressed as it is stored", sum(|row| row.compressed)),
        step("Packed", "the same, as differences from what the other box has", sum(|row| row.packed)),
        step("On the wire", "with everything that replication says, and all headers", sum(|row| row.wire)),
    ]
}

fn packed_a_second(rows: &Rows) -> Option<f64> {
    let seconds: f64 = rows.rows.iter().map(|row| row.seconds).sum();
    let bytes: u64 = rows.rows.iter().map(|row| row.unique).sum();
    (seconds > 1.0 && bytes > 0).then(|| bytes as f64 / seconds)
}

/// By hour of the week, and hour by hour.
#[allow(clippy::type_complexity)] // two lists of the report, made in one pass
fn hours(
    measured: &Measured,
    known: Option<&Measured>,
    zone: &TimeZone,
) -> (Vec<Option<f64>>, Vec<(u64, Option<u64>)>) {
    let mut week = vec![(0u64, 0u64); 168];
    let mut hourly: Vec<(u64, Option<u64>)> = Vec::new();
    for slot in 0..measured.slots() {
        let at = measured.at(slot);
        let Ok(moment) = jiff::Timestamp::from_nanosecond(i128::from(at.0)) else { continue };
        let there = moment.to_zoned(zone.clone());
        let hour = there.weekday().to_monday_zero_offset() as usize * 24 + there.hour() as usize;
        let is_known = known
            .as_ref()
            .is_none_or(|known| known.series.iter().any(|series| series.bytes.get(slot).copied().flatten().is_some()));
        let bytes = measured.series.iter().filter_map(|series| series.bytes[slot]).fold(0u64, u64::saturating_add);
        if is_known {
            week[hour].0 += bytes;
            week[hour].1 += 300;
        }
        let begun = (at.seconds().max(0) as u64) / 3600 * 3600;
        match hourly.last_mut().filter(|last| last.0 == begun) {
            Some(last) if is_known => last.1 = Some(last.1.unwrap_or_default() + bytes),
            Some(_) => {}
            None => hourly.push((begun, is_known.then_some(bytes))),
        }
    }
    let rate = |(bytes, seconds): &(u64, u64)| (*seconds > 0).then(|| *bytes as f64 * 8.0 / *seconds as f64);
    (week.iter().map(rate).collect(), hourly)
}

fn assumptions(answer: &Answer, rows: &Rows, question: &Question) -> Vec<String> {
    let mut all = vec![
        "Datasets that wait share the line evenly, and a snapshot counts at the other box once all of it is there."
            .into(),
        "Of a line 63 parts in 64 are used, headers included, as the product's own shaper does.".into(),
        "The other box keeps what it was sent; it has nothing else that this office could use.".into(),
        "Its processor and this one pack at least as fast as the line carries.".into(),
    ];
    if question.change.is_some() && answer.coverage == 0.0 {
        all.push(
            "ASSUMED, not measured: how much changes in a day, spread over 8 to 18 o'clock from Monday to Friday."
                .into(),
        );
    }
    if let Some(growth) = question.growth {
        all.push(format!("ASSUMED, not measured: it grows by {:.1} % a month.", growth * 100.0));
    }
    if answer.coverage > 0.0 && answer.coverage < 0.999 {
        let gap = (1.0 - answer.coverage) * 100.0;
        all.push(format!("{gap:.1} % of the time was not looked at; nothing is taken to have changed in it."));
    }
    if let Some(coarse) = answer.coarseness.filter(|coarse| *coarse > 600) {
        all.push(format!("Looks were {} apart; what changed is spread evenly between them.", duration(coarse as f64)));
    }
    let error: u64 = rows.rows.iter().map(|row| row.error).sum();
    let wire: u64 = rows.rows.iter().map(|row| row.wire).sum();
    if error > 0 {
        let share = error as f64 / wire.max(1) as f64 * 100.0;
        all.push(format!("Of large rounds only a sample was packed: {share:.1} % of all bytes on the wire at most, for 19 of 20 samples."));
    }
    all
}

fn missing(answer: &Answer, rows: &Rows, is_measured: bool, question: &Question) -> Vec<String> {
    let mut all = Vec::new();
    if rows.rows.is_empty() {
        all.push("Nothing was looked at yet: run `narrowboat assess PATH`.".into());
    } else if !is_measured {
        all.push(
            "Each path was looked at once: what changes is not known. Look again with --every, for a week or more."
                .into(),
        );
    } else if answer.days < 7.0 {
        all.push(format!("Only {:.1} days were looked at: a week has days that are not in it, and nothing can be said of how sure this is.", answer.days));
    }
    if let Some(coarse) = answer.coarseness
        && question.ages.iter().any(|age| age.as_secs() < coarse)
    {
        all.push(format!(
            "Looks were {} apart: shorter recovery points can't be answered. Look more often with --every 5min.",
            duration(coarse as f64)
        ));
    }
    let unread: u64 = rows.latest().values().map(|row| row.unread).sum();
    if unread > 0 {
        all.push(format!("{unread} files could not be read; what they hold is in none of the numbers. Run it as somebody who may read them."));
    }
    if rows.strange > 0 {
        all.push(format!("{} lines of {} are not understood and were passed over.", rows.strange, super::spans::FILE));
    }
    if rows.backwards > 0 {
        all.push(format!("{} looks were not counted, for the clock had been set back between them.", rows.backwards));
    }
    if question.line.is_none() {
        all.push("No line was named: with --line 20Mbit the report says what that line does.".into());
    }
    all
}

/// The first thing that is read.
fn sentence(answer: &Answer) -> String {
    let wanted = answer.needed.iter().find(|needed| needed.age_seconds == 3600 && needed.share == 0.99);
    let wanted = wanted.or_else(|| answer.needed.iter().find(|needed| needed.bits.is_some()));
    match (wanted, &answer.first_copy) {
        (Some(Needed { bits: Some(bits), band, age_seconds, share, .. }), _) => {
            let rate = crate::units::bit_rate(*bits as f64);
            let band = band.map_or(String::new(), |[low, high]| {
                let [low, high] = [low, high].map(|bits| crate::units::bit_rate(bits as f64));
                format!(" (between {low} and {high} in 9 of 10 months)")
            });
            let of = if *share >= 1.0 { "always".to_owned() } else { format!("{:.0} % of the time", share * 100.0) };
            let age = duration(*age_seconds as f64);
            format!("{} needs {rate}{band} for the other box to be at most {age} behind, {of}.", answer.office)
        }
        (Some(Needed { no_line: Some(share), age_seconds, .. }), _) => format!(
            "No line keeps {} within {} under this calendar: at best {:.0} % of the time.",
            answer.office,
            duration(*age_seconds as f64),
            share * 100.0
        ),
        (_, Some(first)) => format!(
            "{} sends {} once; what changes from then on is not known yet.",
            answer.office,
            crate::units::ByteSize(first.bytes)
        ),
        _ => format!("Nothing is known of {} yet.", answer.office),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
