//! Locks: snapshots that nobody deletes before their time, not whoever has the administrator's password, and no peer.
//!
//! A lock is an amount of time in which the store *runs*, as its owner saw pass by a clock that can't be set
//! ([`Store::run_on`]). The time of day is not asked: whoever sets it a year ahead ends no lock. While a box is off, no
//! lock grows shorter, and after a power cut one is longer by at most [`KEPT_EVERY`]; an end in order takes nothing back.
//!
//! There is a way to lock and to lock for longer, and none back. A dataset's *lock rule* locks each snapshot from the moment at which it
//! is made, or arrives, in the same change of the catalogue; a rule that goes away, or becomes shorter, counts for snapshots to come.

use std::time::Duration;

use super::Store;
use crate::catalogue::{Change, DatasetRow, Lock, SnapshotRow};
use crate::error::{Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::units::Timestamp;

/// The setting that has how long the store was seen running: seconds, u64.
const RUN: &str = "clock.run";
/// The rule of a dataset follows: `lock/` and its id; seconds in text.
const RULE: &str = "lock/";
/// The rule of replicas that have none of their own.
const REPLICAS: &str = "lock/replicas";
/// How much of the time that the store ran a power cut may take back: locks last for so much longer then.
pub const KEPT_EVERY: Duration = Duration::from_secs(600);
/// The same while nothing is locked or kept of what was deleted, and only scrubs are measured by it.
const KEPT_EVERY_IDLE: Duration = Duration::from_secs(3600);
/// So long after it could not be made durable it is tried again.
const RETRIED_AFTER: Duration = Duration::from_secs(60);
/// The longest lock. Nobody can take one back, so a slip of the keyboard must not last for ever.
pub const LONGEST: Duration = Duration::from_secs(30 * 366 * 24 * 3600);

/// For which snapshots a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockScope {
    /// Those of one dataset.
    Dataset(DatasetId),
    /// Those of every replica that has no rule of its own, also of one that is still to come.
    Replicas,
}

impl LockScope {
    fn setting(self) -> String {
        match self {
            LockScope::Dataset(id) => format!("{RULE}{id}"),
            LockScope::Replicas => REPLICAS.to_owned(),
        }
    }
}

/// How long the store was seen running.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    seen: Duration,
    /// So much of it is durable.
    kept: Duration,
}

impl Run {
    /// As the catalogue has it. What can't be read counts as nothing: locks become longer, none shorter.
    fn from_setting(value: Option<&[u8]>) -> Run {
        let seconds = value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes);
        let seen = Duration::from_secs(seconds);
        Run { seen, kept: seen }
    }

    fn change(self) -> Change {
        Change::setting(RUN, Some(&self.seen.as_secs().to_le_bytes()))
    }
}

impl Store {
    /// So much time has passed since this was called last (or the store was opened), by a clock that nobody can set and that stands
    /// while the box is off. Durable every [`KEPT_EVERY`] while anything is locked, or kept of what was deleted, and else every hour.
    pub fn run_on(&self, passed: Duration, now: Timestamp) -> Result<()> {
        let owed = {
            let mut run = self.run();
            run.seen = run.seen.saturating_add(passed);
            run.seen.saturating_sub(run.kept)
        };
        let idle = || self.stages.catalogue.locks().is_empty() && self.stages.catalogue.keeps_nothing_deleted();
        if owed < KEPT_EVERY || (owed < KEPT_EVERY_IDLE && idle()) {
            return Ok(());
        }
        self.keep_run(now).inspect_err(|_| {
            // A full disk is asked again in a minute, not at once.
            let mut run = self.run();
            run.kept = run.kept.max(run.seen.saturating_sub(KEPT_EVERY - RETRIED_AFTER));
        })
    }

    /// Has the catalogue know how long the store ran.
    pub(super) fn keep_run(&self, now: Timestamp) -> Result<()> {
        let _administration = self.administration();
        let run = *self.run();
        if run.seen.as_secs() > run.kept.as_secs() {
            self.administer(&[run.change()], now)?;
            self.run().kept = run.seen;
        }
        Ok(())
    }

    /// How long the store was seen running, since it was created: what locks are measured by.
    pub fn run_seconds(&self) -> u64 {
        self.run().seen.as_secs()
    }

    /// How long a snapshot is still locked; `None` where it is not.
    pub fn lock_left(&self, snapshot: SnapshotId) -> Option<Duration> {
        let left = self.stages.catalogue.lock(snapshot)?.until.saturating_sub(self.run_seconds());
        (left > 0).then_some(Duration::from_secs(left))
    }

    /// Locks a snapshot for so long from now on. Refused where it is locked for longer already, and beyond [`LONGEST`].
    pub fn lock_snapshot(&self, dataset: &str, name: &str, length: Duration, now: Timestamp) -> Result<Duration> {
        check_length(length)?;
        let _administration = self.administration();
        let snapshot = self.snapshot_named(dataset, name)?;
        if self.lock_left(snapshot.id).is_some_and(|left| left > length) {
            let why = format!("{dataset}@{name} is locked for longer than that already: a lock is never made shorter");
            return Err(Refusal::Invalid(why).into());
        }
        self.administer(&self.locked_for(snapshot.id, length), now)?;
        Ok(length)
    }

    /// How long snapshots to come are locked; `None`: not at all.
    pub fn lock_rule(&self, scope: LockScope) -> Option<Duration> {
        let text = self.stages.catalogue.setting(&scope.setting())?;
        let seconds = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        // One that can't be read is no reason to keep for ever what nobody can delete: it is as if there were none.
        seconds.map(Duration::from_secs)
    }

    /// Says how long snapshots to come are locked, from the moment they are made or arrive. What is locked stays so.
    pub fn set_lock_rule(&self, scope: LockScope, length: Option<Duration>, now: Timestamp) -> Result<()> {
        length.map_or(Ok(()), check_length)?;
        let text = length.map(|length| length.as_secs().to_string());
        self.set_setting(&scope.setting(), text.as_deref().map(str::as_bytes), now)
    }

    /// What locks a new snapshot of a dataset, by the rule that counts for it. The caller holds the administration.
    pub(super) fn locks_of_new(&self, row: &DatasetRow, snapshot: SnapshotId) -> Vec<Change> {
        let own = self.lock_rule(LockScope::Dataset(row.id));
        let replicas = || row.origin.and_then(|_| self.lock_rule(LockScope::Replicas));
        own.or_else(replicas).map_or_else(Vec::new, |length| self.locked_for(snapshot, length).to_vec())
    }

    /// A lock, and with it the clock that it counts by: else what ran before it would count twice after a power cut.
    fn locked_for(&self, snapshot: SnapshotId, length: Duration) -> [Change; 2] {
        let (run, until) = self.run_until(length);
        [run, Change::lock(&Lock { snapshot, until })]
    }

    /// How long the store will have run when so much more has passed, and the change that keeps the clock by which that is told.
    pub(super) fn run_until(&self, length: Duration) -> (Change, u64) {
        let run = *self.run();
        (run.change(), run.seen.saturating_add(length).as_secs() + 1)
    }

    /// Refuses to delete a snapshot that is held or locked; the sentence says what to do. `then` is what was asked for, where it is
    /// more than the snapshot itself.
    pub(super) fn refuse_kept(&self, snapshot: &SnapshotRow, then: &str) -> Result<()> {
        let dataset =
            self.stages.catalogue.any_dataset(snapshot.dataset).map_or_else(String::new, |dataset| dataset.name);
        let name = format!("{dataset}@{}", snapshot.name);
        let why = match self.lock_left(snapshot.id) {
            Some(left) => format!("{name} is locked: nobody can delete it before the box has run for {}", days(left)),
            None if snapshot.held => format!("{name} is held: release it first{then}"),
            None => return Ok(()),
        };
        Err(Refusal::Invalid(why).into())
    }

    /// Begins where the catalogue says that the store came.
    pub(super) fn learn_run(&self) {
        *self.run() = Run::from_setting(self.stages.catalogue.setting(RUN).as_deref());
    }

    fn run(&self) -> std::sync::MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn check_length(length: Duration) -> Result<()> {
    if length > LONGEST || length.as_secs() == 0 {
        return Err(Refusal::Invalid("a lock lasts for a second at least, and 30 years at most".into()).into());
    }
    Ok(())
}

/// As people say it: "1 minute", "5 hours", "30 days", rounded up but for a second.
fn days(left: Duration) -> String {
    let seconds = left.as_secs().saturating_sub(1).max(1);
    let (count, unit) = match seconds {
        0..3600 => (seconds.div_ceil(60), "minute"),
        3600..172_800 => (seconds.div_ceil(3600), "hour"),
        _ => (seconds.div_ceil(86_400), "day"),
    };
    format!("another {count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_round_figures_and_never_as_less_by_more_than_a_second() {
        let told = |seconds| days(Duration::from_secs(seconds));
        assert_eq!([told(1), told(62), told(3601)], ["another 1 minute", "another 2 minutes", "another 1 hour"]);
        assert_eq!([told(172_799), told(172_802)], ["another 48 hours", "another 3 days"]);
    }

    #[test]
    fn a_clock_that_cannot_be_read_makes_locks_longer() {
        assert_eq!(Run::from_setting(Some(&7_u64.to_le_bytes())).seen, Duration::from_secs(7));
        for odd in [None, Some(&b"7"[..]), Some(&[0; 9])] {
            assert_eq!(Run::from_setting(odd).seen, Duration::ZERO);
        }
    }
}
