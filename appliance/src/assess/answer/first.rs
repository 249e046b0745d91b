//! The first copy, growth, and what goes over the line in a month.

use std::time::Duration;

use narrowboat_storage::units::Timestamp;
use narrowboat_wan::assess::resample::{Days, quantile};
use narrowboat_wan::assess::{Due, Measured, Path, SLOT, replay};
use narrowboat_wan::shape::Rate;
use serde::Serialize;

use super::{DAY, Needed, Question};
use crate::assess::spans::Rows;
use crate::units::rfc3339;

/// A first copy that is not there by then is told to take longer.
const WEEKS_MAX: usize = 104;
/// Days of a month.
const MONTH_DAYS: f64 = 30.44;
/// Whole weeks that growth is read from at least.
const WEEKS_FOR_GROWTH: usize = 4;
/// Beyond this many years a date is no use.
const YEARS_MAX: f64 = 20.0;

/// What it takes until the other box has everything for the first time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstCopy {
    /// Bytes on the wire.
    pub bytes: u64,
    /// Two standard errors of them.
    pub error: u64,
    /// By the line that was named, with what changes meanwhile: seconds; none where none was named, or where it takes more than two years.
    pub seconds: Option<u64>,
    /// When that would be, if it began now.
    pub done: Option<String>,
    /// On a disk that is carried: seconds until it is there and what changed meanwhile, too.
    pub carried_seconds: Option<u64>,
    /// The first copy from which on carrying is sooner, in bytes.
    pub break_even_bytes: Option<u64>,
}

/// How it grows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Growth {
    /// Of what travels, a month, as a share; none where it is not known.
    pub a_month: Option<f64>,
    /// Two standard errors of it.
    pub error: Option<f64>,
    /// Whether somebody typed it in.
    pub is_assumed: bool,
    /// Whether it is more than weeks differ by anyway.
    pub is_clear: bool,
    /// When the line that was named is not enough any more for an hour's recovery point in 99 % of the time: most likely, and at the earliest.
    pub line_full: Option<String>,
    /// At the earliest.
    pub line_full_earliest: Option<String>,
}

/// What goes over the line in a month, both ways, with what keeps the connection alive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Volume {
    /// All bytes.
    pub bytes_a_month: u64,
    /// Between what nine in ten drawn months take.
    pub band: Option<[u64; 2]>,
}

pub(super) fn first_copy(rows: &Rows, measured: Option<&Measured>, question: &Question) -> Option<FirstCopy> {
    let firsts = || rows.rows.iter().filter(|row| row.is_first());
    firsts().next()?;
    let bytes = firsts().map(|row| row.wire).fold(0, u64::saturating_add);
    let error = firsts().map(|row| (row.error as f64).powi(2)).sum::<f64>().sqrt() as u64;
    let over = |first: u64, wait: Duration| {
        let line = question.line?;
        takes(first, wait, measured, question, line)
    };
    let seconds = over(bytes, Duration::ZERO);
    let carried_seconds = over(0, question.carry);
    let done = seconds.map(|seconds| rfc3339(later(question.now, seconds as f64)));
    let break_even_bytes = question.line.map(|line| line.bytes_in(question.carry));
    Some(FirstCopy { bytes, error, seconds, done, carried_seconds, break_even_bytes })
}

/// Seconds until a line has carried `first` bytes and everything that changed meanwhile, where nothing is sent before `wait`.
fn takes(first: u64, wait: Duration, measured: Option<&Measured>, question: &Question, line: Rate) -> Option<u64> {
    let start = question.now;
    let wait = i64::try_from(wait.as_nanos()).ok()?;
    for weeks in [1, 8, WEEKS_MAX] {
        let length = i64::try_from(DAY.as_nanos()).ok()? * 7 * weeks as i64;
        let until = Timestamp(start.0.saturating_add(wait).saturating_add(length));
        let begin = Timestamp(start.0 + wait);
        let line = question.ceiling(begin, until).of(line);
        // What changed while the disk was carried goes with the first snapshot behind it.
        let mut all = vec![vec![Due { at: begin, bytes: first }]];
        all.extend(measured.map(|measured| repeated(measured, start, begin, until)).unwrap_or_default());
        let replayed = replay(&line, &all);
        let first_there = replayed[0].arrived().first().map(|(at, _)| *at);
        // And with it everything that had changed until then.
        let there = first_there.and_then(|first_there| {
            let each = replayed[1..].iter().zip(&all[1..]).map(|(replayed, due)| {
                let made = due.partition_point(|due| due.at <= first_there);
                match made.checked_sub(1) {
                    None => Some(first_there),
                    Some(last) => replayed.arrived().get(last).map(|(at, _)| *at),
                }
            });
            each.collect::<Option<Vec<_>>>().map(|all| all.into_iter().fold(first_there, Timestamp::max))
        });
        if let Some(there) = there {
            return Some(((there.0 - start.0) / 1_000_000_000) as u64);
        }
    }
    None
}

/// The measured days again and again, from `start` on; what comes before `begin` is due then, all at once.
fn repeated(measured: &Measured, start: Timestamp, begin: Timestamp, until: Timestamp) -> Vec<Vec<Due>> {
    let slot = SLOT.as_nanos() as i64;
    // So that the hour of the day stays what it is.
    let offset = ((start.0 - measured.start.0).div_euclid(slot)).rem_euclid(measured.slots().max(1) as i64) as usize;
    let one = |bytes: &[Option<u64>]| {
        let mut due: Vec<Due> = Vec::new();
        for nth in 0usize.. {
            let at = Timestamp(start.0 + slot * (nth as i64 + 1));
            if at > until {
                break;
            }
            let bytes = bytes.get((offset + nth) % measured.slots()).copied().flatten().unwrap_or_default();
            match due.first_mut().filter(|_| at <= begin) {
                Some(first) => first.bytes = first.bytes.saturating_add(bytes),
                None => due.push(Due { at: at.max(begin), bytes }),
            }
        }
        due
    };
    measured.series.iter().filter(|series| !series.bytes.is_empty()).map(|series| one(&series.bytes)).collect()
}

pub(super) fn growth(measured: &Measured, question: &Question, needed: &[Needed]) -> Growth {
    let seen = slope(measured);
    let (a_month, error) = match question.growth {
        Some(assumed) => (Some(assumed), None),
        None => (seen.map(|seen| seen.0), seen.map(|seen| seen.1)),
    };
    let is_clear = a_month.is_some_and(|a_month| error.is_none_or(|error| a_month.abs() > error));
    let is_assumed = question.growth.is_some();
    let mut growth = Growth { a_month, error, is_assumed, is_clear, line_full: None, line_full_earliest: None };
    if !is_clear {
        return growth;
    }
    let wanted = needed.iter().find(|needed| needed.age_seconds == 3600 && needed.share == 0.99);
    if let (Some(line), Some(Needed { bits: Some(bits), .. })) = (question.line, wanted) {
        let full = |a_month: f64| {
            let months = (line.bits() as f64 / *bits as f64).ln() / a_month.ln_1p();
            let years = months / 12.0;
            (a_month > 0.0 && years <= YEARS_MAX)
                .then(|| rfc3339(later(question.now, years.max(0.0) * 365.25 * 86_400.0)))
        };
        growth.line_full = a_month.and_then(full);
        growth.line_full_earliest = a_month.zip(error).and_then(|(a_month, error)| full(a_month + error));
    }
    growth
}

/// By how much the weeks grow, a month, and two standard errors of that (least squares).
fn slope(measured: &Measured) -> Option<(f64, f64)> {
    let week = |nth: usize| {
        let of = |series: &narrowboat_wan::assess::Series| -> f64 {
            let slots = series.bytes.iter().skip(nth * 2016).take(2016);
            slots.flatten().map(|bytes| *bytes as f64).sum()
        };
        measured.series.iter().map(of).sum::<f64>()
    };
    let weeks: Vec<f64> = (0..measured.slots() / 2016).map(week).collect();
    let count = weeks.len() as f64;
    let mean = weeks.iter().sum::<f64>() / count;
    if weeks.len() < WEEKS_FOR_GROWTH || mean <= 0.0 {
        return None;
    }
    let middle = (count - 1.0) / 2.0;
    let spread: f64 = (0..weeks.len()).map(|nth| (nth as f64 - middle).powi(2)).sum();
    let slope = weeks.iter().enumerate().map(|(nth, bytes)| (nth as f64 - middle) * bytes).sum::<f64>() / spread;
    let off = |(nth, bytes): (usize, &f64)| (bytes - mean - slope * (nth as f64 - middle)).powi(2);
    let residual = weeks.iter().enumerate().map(off).sum::<f64>() / (count - 2.0);
    let months = MONTH_DAYS / 7.0;
    Some((slope * months / mean, 2.0 * (residual / spread).sqrt() * months / mean))
}

pub(super) fn volume(measured: &Measured, bands: Option<&Days>, question: &Question) -> Volume {
    let days = (measured.slots() as f64 / 288.0).max(1.0 / 288.0);
    let idle = Path::PLAIN.idle_bytes_per_second() * 86_400.0;
    let a_month = |bytes: f64, days: f64| (bytes / days + idle) * MONTH_DAYS;
    let band = bands.and_then(|bands| {
        let drawn = (0..40).filter_map(|seed| bands.draw(question.now, 4, seed));
        let months: Vec<f64> = drawn.map(|drawn| a_month(drawn.bytes() as f64, 28.0)).collect();
        let [low, high] = [0.05, 0.95].map(|share| quantile(&months, share));
        Some([low? as u64, high? as u64])
    });
    Volume { bytes_a_month: a_month(measured.bytes() as f64, days) as u64, band }
}

fn later(now: Timestamp, seconds: f64) -> Timestamp {
    Timestamp(now.0.saturating_add((seconds * 1e9) as i64))
}
