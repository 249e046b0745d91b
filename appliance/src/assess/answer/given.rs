//! What a line does that is there, or thought of.

use std::time::Duration;

use narrowboat_storage::units::Timestamp;
use narrowboat_wan::assess::{Due, Measured, Replayed, SLOT, replay};
use narrowboat_wan::shape::Rate;
use serde::Serialize;

use super::{DAY, Question};
use crate::units::rfc3339;

/// Violations that are listed: of more, the worst.
const LISTED_MAX: usize = 100;
/// Points of the curve of what waits.
const POINTS_MAX: usize = 480;
/// Outages that are tried, and so many days of them at most.
const OUTAGES: [Duration; 3] = [Duration::from_secs(3600), Duration::from_secs(8 * 3600), DAY];
const OUTAGE_DAYS_MAX: usize = 14;
/// For what shares of the time the recovery point is told.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 1.0];

/// What a line does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Given {
    /// The line, in bits per second.
    pub bits: u64,
    /// For what share of the time each recovery point is kept, of the worst dataset: seconds, and the share.
    pub kept: Vec<(u64, f64)>,
    /// The recovery point that is kept for a share of the time: of each dataset, the shares and the seconds.
    pub points: Vec<(String, Vec<(f64, u64)>)>,
    /// When the longest of the recovery points that were asked for, and an hour, were not kept.
    pub violations: Vec<Violation>,
    /// How many there were in all.
    pub violations_total: usize,
    /// What waits: when, in seconds since 1970, and bytes.
    pub backlog: Vec<(u64, u64)>,
    /// How long an outage is felt.
    pub outages: Vec<Outage>,
    /// How much of what may flow is used.
    pub used: f64,
    /// Bytes that were left at the end.
    pub left: u64,
}

/// A while in which a recovery point was not kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Violation {
    /// Whose.
    pub dataset: String,
    /// The recovery point.
    pub age_seconds: u64,
    /// When it began.
    pub from: String,
    /// How long it lasted.
    pub seconds: u64,
    /// How old it became.
    pub worst_seconds: u64,
}

/// What an outage from eight in the morning on comes to, on the worst of the days that were tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outage {
    /// How long it lasts.
    pub hours: u64,
    /// From its end until everything is as if it had not been; none where that never was, in what was measured.
    pub catch_up_seconds: Option<u64>,
}

pub(super) fn given(measured: &Measured, question: &Question, line: Rate) -> Given {
    let ceiling = question.ceiling(measured.start, measured.end()).of(line);
    let snapshots = measured.snapshots(SLOT, 0);
    let replayed = replay(&ceiling, &snapshots);
    let kept = question
        .ages
        .iter()
        .map(|age| (age.as_secs(), replayed.iter().map(|replayed| replayed.kept(*age)).fold(1.0, f64::min)));
    let points = measured.series.iter().zip(&replayed).map(|(series, replayed)| {
        let points = QUANTILES.map(|share| (share, replayed.at_share(share).as_secs()));
        (series.dataset.clone(), points.to_vec())
    });
    let mut violations = violations(measured, question, &replayed);
    let violations_total = violations.len();
    violations.sort_by_key(|violation| std::cmp::Reverse(violation.seconds));
    violations.truncate(LISTED_MAX);
    violations.sort_by(|a, b| a.from.cmp(&b.from));
    Given {
        bits: line.bits(),
        kept: kept.collect(),
        points: points.collect(),
        violations,
        violations_total,
        backlog: backlog(measured, &snapshots, &replayed),
        outages: OUTAGES
            .iter()
            .filter_map(|length| outage(measured, &ceiling, &snapshots, &replayed, *length))
            .collect(),
        used: used(measured, &ceiling),
        left: replayed.iter().map(|replayed| replayed.left).fold(0, u64::saturating_add),
    }
}

fn violations(measured: &Measured, question: &Question, replayed: &[Replayed]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (series, replayed) in measured.series.iter().zip(replayed) {
        for age in &question.ages {
            found.extend(replayed.violations(*age).into_iter().map(|violation| Violation {
                dataset: series.dataset.clone(),
                age_seconds: age.as_secs(),
                from: rfc3339(violation.from),
                seconds: ((violation.until.0 - violation.from.0) / 1_000_000_000) as u64,
                worst_seconds: violation.worst.as_secs(),
            }));
        }
    }
    found
}

/// Bytes of snapshots that were made and are not all there.
fn backlog(measured: &Measured, snapshots: &[Vec<Due>], replayed: &[Replayed]) -> Vec<(u64, u64)> {
    let mut changes: Vec<(Timestamp, i128)> = Vec::new();
    for (due, replayed) in snapshots.iter().zip(replayed) {
        changes.extend(due.iter().map(|due| (due.at, i128::from(due.bytes))));
        let arrived = replayed.arrived().iter().zip(due).map(|((at, _), due)| (*at, -i128::from(due.bytes)));
        changes.extend(arrived);
    }
    changes.sort_unstable();
    let (mut points, mut waiting, mut next) = (Vec::new(), 0i128, changes.iter().peekable());
    let step = measured.slots().div_ceil(POINTS_MAX).max(1);
    for slot in (0..=measured.slots()).step_by(step) {
        let at = measured.at(slot);
        // What waited longest of this step, so that no peak is lost.
        let mut most = waiting;
        while let Some((_, change)) = next.next_if(|(when, _)| *when <= at) {
            waiting += change;
            most = most.max(waiting);
        }
        points.push((at.seconds().max(0) as u64, u64::try_from(most.max(0)).unwrap_or(u64::MAX)));
    }
    points
}

fn outage(
    measured: &Measured,
    line: &narrowboat_wan::assess::Line,
    snapshots: &[Vec<Due>],
    undisturbed: &[Replayed],
    length: Duration,
) -> Option<Outage> {
    let days = measured.slots() / 288;
    let hours = length.as_secs() / 3600;
    let step = days.div_ceil(OUTAGE_DAYS_MAX).max(1);
    let felt = (0..days).step_by(step).filter_map(|day| {
        let from = measured.at(day * 288 + 8 * 12);
        let until = Timestamp(from.0.saturating_add(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)));
        (until < measured.end()).then(|| {
            let disturbed = replay(&line.without(from, until), snapshots);
            let felt = disturbed
                .iter()
                .zip(undisturbed)
                .map(|(disturbed, undisturbed)| catch_up(disturbed, undisturbed, until));
            felt.max_by_key(|felt| felt.unwrap_or(u64::MAX)).flatten()
        })
    });
    let all: Vec<Option<u64>> = felt.collect();
    let worst = all.iter().copied().max_by_key(|felt| felt.unwrap_or(u64::MAX))?;
    Some(Outage { hours, catch_up_seconds: worst })
}

/// From when on what is there is what would be there without the outage.
fn catch_up(disturbed: &Replayed, undisturbed: &Replayed, end: Timestamp) -> Option<u64> {
    let mut without = undisturbed.arrived().iter().peekable();
    let mut newest = None;
    // What had arrived when the outage ended.
    while let Some((_, made)) = without.next_if(|(at, _)| *at <= end) {
        newest = Some(*made);
    }
    for (at, made) in disturbed.arrived() {
        while let Some((_, made)) = without.next_if(|(when, _)| when <= at) {
            newest = Some(*made);
        }
        if *at >= end && newest.is_none_or(|newest| *made >= newest) {
            return Some(((at.0 - end.0) / 1_000_000_000) as u64);
        }
    }
    None
}

fn used(measured: &Measured, line: &narrowboat_wan::assess::Line) -> f64 {
    let room: f64 = line
        .stretches()
        .iter()
        .map(|stretch| stretch.bits.unwrap_or_default() as f64 * (stretch.until.0 - stretch.from.0) as f64 / 8e9)
        .sum();
    if room > 0.0 { measured.bytes() as f64 / room } else { 0.0 }
}
