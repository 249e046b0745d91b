//! What is kept and what may go: a value, into which time and facts come.

use std::collections::BTreeSet;
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp as Instant, Zoned};
use narrowboat_storage::catalogue::SnapshotRow;
use narrowboat_storage::units::Timestamp;
use serde::{Deserialize, Serialize};

/// How many snapshots of a dataset are kept, and for how long. A snapshot stays that any of the rules wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Rules {
    /// The newest so many.
    #[serde(skip_serializing_if = "is_zero")]
    pub last: u32,
    /// The newest of each of the last so many hours that have any.
    #[serde(skip_serializing_if = "is_zero")]
    pub hourly: u32,
    /// Of days, by the calendar of the box's time zone.
    #[serde(skip_serializing_if = "is_zero")]
    pub daily: u32,
    /// Of weeks, which begin on Monday (ISO 8601).
    #[serde(skip_serializing_if = "is_zero")]
    pub weekly: u32,
    /// Of months.
    #[serde(skip_serializing_if = "is_zero")]
    pub monthly: u32,
    /// Of years.
    #[serde(skip_serializing_if = "is_zero")]
    pub yearly: u32,
    /// All that are not older than so many seconds in which the box ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<u64>,
    /// Never fewer than so many, whatever the others say.
    #[serde(skip_serializing_if = "is_zero")]
    pub least: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in references")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Rules {
    /// True where no rule keeps anything, so that nearly all would go: surely a mistake.
    pub fn keep_nothing(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        counts.iter().all(|count| *count == 0) && self.within.is_none()
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = PERIODS.iter().map(|period| (period.count(self), period.text()));
        let counts = [(self.last, "last")].into_iter().chain(counts);
        let mut parts: Vec<String> =
            counts.filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        parts.extend(self.within.map(|seconds| format!("all of {}", crate::units::duration(seconds as f64))));
        if self.least > 0 {
            parts.push(format!("at least {}", self.least));
        }
        f.write_str(&parts.join(", "))
    }
}

/// A stretch of the calendar, of which the newest snapshot is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

const PERIODS: [Period; 5] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

impl Period {
    fn count(self, rules: &Rules) -> u32 {
        match self {
            Period::Hour => rules.hourly,
            Period::Day => rules.daily,
            Period::Week => rules.weekly,
            Period::Month => rules.monthly,
            Period::Year => rules.yearly,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        }
    }

    /// Equal for two moments exactly where both are in the same one. Where clocks are set back an hour, both hours count.
    fn of(self, moment: &Zoned) -> String {
        match self {
            Period::Hour => moment.strftime("%Y-%m-%d %H:00%z").to_string(),
            Period::Day => moment.date().to_string(),
            Period::Week => {
                let week = moment.date().iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Period::Month => moment.strftime("%Y-%m").to_string(),
            Period::Year => moment.year().to_string(),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// Which.
    pub snapshot: &'a SnapshotRow,
    /// Why it stays, each reason; goes where there is none.
    pub stays: Vec<String>,
}

/// What is so at the moment.
pub struct Facts<'a> {
    /// Seconds in which the box ran since a moment.
    pub age: &'a dyn Fn(Timestamp) -> u64,
    /// Why the box itself needs a snapshot, if it does.
    pub needed: &'a dyn Fn(&SnapshotRow) -> Option<String>,
    /// For how long a snapshot is locked, if it is.
    pub locked: &'a dyn Fn(&SnapshotRow) -> Option<String>,
    /// Whose days and weeks count.
    pub zone: &'a TimeZone,
}

/// What becomes of each of a dataset's snapshots, which come oldest first. The newest always stays, and so do held ones and those whose root does not stand yet.
pub fn judge<'a>(rules: &Rules, snapshots: &'a [SnapshotRow], facts: &Facts<'_>) -> Vec<Verdict<'a>> {
    let mut verdicts: Vec<Verdict<'a>> =
        snapshots.iter().map(|snapshot| Verdict { snapshot, stays: required(snapshot, facts) }).collect();
    if let Some(newest) = verdicts.last_mut() {
        newest.stays.push("the newest".into());
    }
    for (nth, verdict) in verdicts.iter_mut().rev().take(rules.last as usize).enumerate() {
        verdict.stays.push(format!("{} of the last {}", nth + 1, rules.last));
    }
    for period in PERIODS {
        keep_newest_of_each(&mut verdicts, period, period.count(rules), facts.zone);
    }
    if let Some(within) = rules.within {
        for verdict in verdicts.iter_mut().filter(|verdict| (facts.age)(verdict.snapshot.time) <= within) {
            verdict.stays.push(format!("within {}", crate::units::duration(within as f64)));
        }
    }
    keep_least(&mut verdicts, rules.least as usize);
    verdicts
}

/// What no rule can let go.
fn required(snapshot: &SnapshotRow, facts: &Facts<'_>) -> Vec<String> {
    let mut reasons = Vec::new();
    if snapshot.held {
        reasons.push("held".into());
    }
    reasons.extend((facts.locked)(snapshot).map(|left| format!("locked for {left}")));
    if snapshot.sealed.is_none() {
        reasons.push("not sealed yet".into());
    }
    reasons.extend((facts.needed)(snapshot));
    reasons
}

fn keep_newest_of_each(verdicts: &mut [Verdict<'_>], period: Period, count: u32, zone: &TimeZone) {
    let mut seen = BTreeSet::new();
    for verdict in verdicts.iter_mut().rev() {
        if seen.len() >= count as usize {
            return;
        }
        // A time that no calendar knows is in no period; other rules see to it.
        let Ok(instant) = Instant::from_nanosecond(i128::from(verdict.snapshot.time.0)) else { continue };
        let of = period.of(&instant.to_zoned(zone.clone()));
        if seen.insert(of.clone()) {
            verdict.stays.push(format!("{} {of}", period.text()));
        }
    }
}

/// The newest of those that would go stay until there are enough.
fn keep_least(verdicts: &mut [Verdict<'_>], least: usize) {
    let staying = verdicts.iter().filter(|verdict| !verdict.stays.is_empty()).count();
    let going = verdicts.iter_mut().rev().filter(|verdict| verdict.stays.is_empty());
    for verdict in going.take(least.saturating_sub(staying)) {
        verdict.stays.push(format!("at least {least}"));
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
