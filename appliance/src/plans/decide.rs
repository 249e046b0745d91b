//! What a plan does next: a value, into which time and facts come.

use std::fmt;

use jiff::tz::TimeZone;
use narrowboat_storage::catalogue::SnapshotRow;
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::shape::{Class, Hours};
use serde::{Deserialize, Serialize};

/// Snapshots that plans make are named so, with the time behind it.
pub const AUTO: &str = "auto-";
/// The shortest time between two snapshots of a plan.
pub const SECONDS_MIN: u64 = 5;
/// How long after the first of several failures a plan tries again; each further one doubles it.
const RETRY_SECONDS: u64 = 5;
/// The longest time between two tries.
const RETRY_SECONDS_MAX: u64 = 300;
const SECOND: i64 = 1_000_000_000;

/// True for a name as plans give them: "auto-2026-11-22-15-04-05Z", perhaps with nine digits behind a point. People can't give
/// such names, so what they made is never taken for a plan's.
pub fn is_auto(name: &str) -> bool {
    let shape = |text: &str, like: &str| {
        let same = |(c, like): (u8, u8)| if like == b'0' { c.is_ascii_digit() } else { c == like };
        text.len() == like.len() && text.bytes().zip(like.bytes()).all(same)
    };
    let Some(time) = name.strip_prefix(AUTO) else { return false };
    shape(time, "0000-00-00-00-00-00Z") || shape(time, "0000-00-00-00-00-00.000000000Z")
}

/// How a dataset gets to a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Seconds between two snapshots; follows every change where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// The hours in which something may begin, as [`Hours`] takes them; always where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
    /// What it is to other traffic to the peer, as [`Class`] takes it; normal where that says nothing.
    pub class: String,
    /// A person has stopped it.
    #[serde(default)]
    pub paused: bool,
    /// The id of the snapshot up to which a person does not want any to be sent: that of the last sending that was cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<String>,
    /// Why what was kept can't be read. Nothing is done then.
    #[serde(skip)]
    pub unreadable: Option<String>,
}

impl Plan {
    /// What stands for a plan that can't be read, and why it can't.
    pub fn unreadable(why: String) -> Plan {
        Plan { paused: true, unreadable: Some(why), ..Plan::default() }
    }

    /// Up to this snapshot a person does not want any to be sent.
    pub fn cancelled(&self) -> Option<SnapshotId> {
        self.cancelled.as_ref()?.parse().ok()
    }

    /// Its class; that of all replication where what was kept can't be read.
    pub fn class(&self) -> Class {
        self.class.parse().unwrap_or_default()
    }

    /// True where something may begin now. Hours that can't be read are no hours.
    fn may_begin(&self, now: Timestamp, zone: &TimeZone) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.parse::<Hours>().is_ok_and(|hours| hours.contain(now, zone)))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every {
            Some(seconds) => write!(f, "every {}", crate::units::duration(seconds as f64))?,
            None => f.write_str("follows every change")?,
        }
        self.hours.as_ref().map_or(Ok(()), |hours| write!(f, ", begins in {hours}"))
    }
}

/// What came of a plan's sendings so far, since the box started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How many failed in a row.
    pub failures: u32,
    /// Nothing is tried before.
    pub retry_at: Option<Timestamp>,
    /// Why the last one failed.
    pub error: Option<String>,
    /// Up to this snapshot a person does not want any to be sent.
    pub cancelled: Option<SnapshotId>,
    /// When the plan took a snapshot last.
    pub taken: Option<Timestamp>,
}

impl Past {
    /// Notes a failure.
    pub fn failed(&mut self, why: String, now: Timestamp) {
        let seconds = RETRY_SECONDS.saturating_mul(1 << self.failures.min(16)).min(RETRY_SECONDS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Timestamp(now.0.saturating_add(seconds as i64 * SECOND)));
        self.error = Some(why);
    }
}

/// What is so at the moment.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// The dataset's snapshots, oldest first.
    pub snapshots: &'a [SnapshotRow],
    /// The newest that the peer has proved to have.
    pub there: Option<SnapshotId>,
    /// The moment of that, also where it is here no more.
    pub moment: Option<Timestamp>,
    /// True where something was written since the newest.
    pub changed: bool,
    /// True where the peer was not heard for long about whether it still has that, and is there to be asked.
    pub ask: bool,
}

/// What a plan does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the peer has everything.
    Rest,
    /// Nothing before that time.
    Until(Timestamp),
    /// Nothing: it is paused, or not its hours.
    Off,
    /// Nothing: the drain is about to seal a snapshot that is to be sent.
    Seal,
    /// Takes a snapshot.
    Snapshot,
    /// Sends a snapshot.
    Send(SnapshotId),
}

/// What a plan does next. `now` never runs backwards, `wall` is what the clock on the wall shows.
///
/// Snapshots that people made since the newest one there are sent one after the other, so that the peer has them, too. Of those that
/// plans made only the newest is sent. A first copy begins with the newest of all. Where nothing else is to be done, the newest one there is
/// offered once more when it is time to ask: next to nothing where the peer has it, and all of it where that was lost.
pub fn next(plan: &Plan, past: &Past, facts: &Facts<'_>, now: Timestamp, wall: Timestamp, zone: &TimeZone) -> Step {
    if plan.paused || !plan.may_begin(wall, zone) {
        return Step::Off;
    }
    if let Some(retry_at) = past.retry_at.filter(|retry_at| *retry_at > now) {
        return Step::Until(retry_at);
    }
    let there = facts.there.and_then(|there| facts.snapshots.iter().find(|snapshot| snapshot.id == there));
    match (onwards(plan, past, facts, now), there) {
        (Step::Rest | Step::Until(_), Some(there)) if facts.ask => Step::Send(there.id),
        (step, _) => step,
    }
}

/// What is next as long as the peer has what it has proved.
fn onwards(plan: &Plan, past: &Past, facts: &Facts<'_>, now: Timestamp) -> Step {
    let there = facts.there.and_then(|there| facts.snapshots.iter().find(|snapshot| snapshot.id == there));
    let moment = there.map(|there| there.time).or(facts.moment);
    if let Some(wanted) = wanted(facts, past.cancelled) {
        // Another plan of the dataset may make them more often.
        let due = moment.map(|moment| later(moment, plan.every.unwrap_or(0)));
        if let Some(due) = due.filter(|due| is_auto(&wanted.name) && *due > now && wanted.time <= now) {
            return Step::Until(due);
        }
        return if wanted.sealed.is_some() { Step::Send(wanted.id) } else { Step::Seal };
    }
    let Some(newest) = facts.snapshots.last() else { return Step::Snapshot };
    if !facts.changed {
        return Step::Rest;
    }
    // A snapshot of a time to come was made by a clock that was wrong: it says nothing about when the next is due.
    let last = if newest.time > now { past.taken } else { Some(newest.time) };
    let due = last.map(|last| later(last, plan.every.unwrap_or(0).max(SECONDS_MIN)));
    due.filter(|due| *due > now).map_or(Step::Snapshot, Step::Until)
}

fn later(time: Timestamp, seconds: u64) -> Timestamp {
    Timestamp(time.0.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND)))
}

/// The snapshot that the peer is to get next.
fn wanted<'a>(facts: &Facts<'a>, cancelled: Option<SnapshotId>) -> Option<&'a SnapshotRow> {
    owed(facts, cancelled).next().or_else(|| left(facts, cancelled).0.last())
}

/// The snapshots that people made and the peer is still to get, one after the other. Before a first copy there are none.
pub fn owed<'a>(facts: &Facts<'a>, cancelled: Option<SnapshotId>) -> impl Iterator<Item = &'a SnapshotRow> {
    let (left, begun) = left(facts, cancelled);
    left.iter().filter(move |snapshot| begun && !is_auto(&snapshot.name))
}

/// The snapshots behind the newest that the peer has, and behind what a person cancelled; and whether the peer has any.
fn left<'a>(facts: &Facts<'a>, cancelled: Option<SnapshotId>) -> (&'a [SnapshotRow], bool) {
    let behind = |id: Option<SnapshotId>| {
        let place = id.and_then(|id| facts.snapshots.iter().position(|snapshot| snapshot.id == id));
        place.map(|place| place + 1)
    };
    let by_time = |moment| facts.snapshots.partition_point(|snapshot| snapshot.time <= moment);
    let there = behind(facts.there).or(facts.moment.map(by_time));
    (facts.snapshots.get(there.max(behind(cancelled)).unwrap_or(0)..).unwrap_or_default(), there.is_some())
}

/// The snapshots of plans that nobody needs any more: neither the newest of all, nor one of the `kept` newest by plans, nor one that a peer was `proved` to have (the next
/// difference is sent from it), nor one that is `busy`, nor one that is held.
pub fn spent<'a>(
    snapshots: &'a [SnapshotRow],
    kept: usize,
    proved: &'a [SnapshotId],
    busy: &'a [String],
) -> impl Iterator<Item = &'a SnapshotRow> {
    let older = snapshots.split_last().map_or(&[][..], |(_newest, older)| older);
    let by_plans = snapshots.iter().filter(|snapshot| is_auto(&snapshot.name)).count();
    let old = older.iter().filter(|snapshot| is_auto(&snapshot.name)).take(by_plans.saturating_sub(kept));
    old.filter(move |snapshot| {
        let needed = snapshot.held || proved.contains(&snapshot.id) || busy.contains(&snapshot.name);
        snapshot.sealed.is_some() && !needed
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
