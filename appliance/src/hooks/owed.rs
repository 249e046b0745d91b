//! Thaws that are owed: what is known of each, as a value without clocks, and as the store keeps it.

use std::time::Duration;

use narrowboat_storage::units::Timestamp;
use serde::{Deserialize, Serialize};

use super::call::Ended;

/// How long is waited before a thaw is tried again, at first and at the most. Each wait is twice the one before.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// For how long a thaw is tried that answers "no" where nobody knows whether anything is frozen.
const DOUBT: Duration = Duration::from_secs(600);

/// What became of the freeze that a thaw is owed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Freeze {
    /// It ended well: the application stands still.
    Done,
    /// It answered that it failed. It may have done a part.
    Refused,
    /// It was begun, and nobody knows how it ended: it may even be at it still.
    Begun,
}

/// A thaw that is owed, as it is kept in the store from before the freeze until the thaw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Debt {
    /// The datasets that were to be marked.
    pub(super) datasets: Vec<String>,
    /// The mark.
    pub(super) mark: String,
    /// Since when, in nanoseconds since 1970.
    pub(super) since: i64,
    /// What is known of the freeze.
    pub(super) freeze: Freeze,
    /// Why the last try failed, if it did.
    #[serde(skip)]
    pub(super) problem: Option<String>,
    /// How often it was tried.
    #[serde(skip)]
    pub(super) tries: u32,
    /// When it answered "no" first.
    #[serde(skip)]
    refused_since: Option<Timestamp>,
    /// A thaw has ended well, and another follows for a freeze that may have ended behind it.
    #[serde(skip)]
    once_more: bool,
}

/// What follows from how a thaw ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is owed no longer.
    Settled,
    /// Another, after so long.
    After(Duration),
}

impl Debt {
    /// What is owed from before the freeze on.
    pub(super) fn new(datasets: Vec<String>, mark: String, now: Timestamp) -> Debt {
        let freeze = Freeze::Begun;
        Debt { datasets, mark, since: now.0, freeze, problem: None, tries: 0, refused_since: None, once_more: false }
    }

    /// What the store kept, after a restart; `None` where that says nothing.
    pub(super) fn read(bytes: &[u8]) -> Option<Debt> {
        serde_json::from_slice(bytes).ok()
    }

    /// What the store keeps.
    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// True while something may be frozen that a thaw has not reached.
    pub(super) fn is_pressing(&self) -> bool {
        !self.once_more
    }

    /// Notes how a thaw ended. `freeze_lasts` is how long a freeze of which nobody knows the end may still be at it.
    pub(super) fn thawed(&mut self, ended: &Ended, freeze_lasts: Duration, now: Timestamp) -> Next {
        self.tries = self.tries.saturating_add(1);
        self.problem = ended.problem().map(str::to_owned);
        let sure = self.freeze == Freeze::Done;
        match ended {
            // A freeze that was left to itself may take hold behind this thaw: once more, when it can't be at it any longer.
            Ended::Done if self.freeze == Freeze::Begun && !self.once_more => {
                self.once_more = true;
                Next::After(freeze_lasts)
            }
            Ended::Done => Next::Settled,
            // The first thaw ended well and this one finds nothing: so it was.
            Ended::Refused { .. } if self.freeze == Freeze::Refused || self.once_more => Next::Settled,
            Ended::Refused { .. } if !sure && self.doubted_for(now) >= DOUBT => Next::Settled,
            Ended::Refused { .. } | Ended::Unknown(_) | Ended::NotBegun(_) => Next::After(self.patience()),
        }
    }

    fn doubted_for(&mut self, now: Timestamp) -> Duration {
        let since = *self.refused_since.get_or_insert(now);
        Duration::from_nanos(u64::try_from(now.0.saturating_sub(since.0)).unwrap_or_default())
    }

    fn patience(&self) -> Duration {
        let (first, most) = RETRY;
        first.saturating_mul(1 << self.tries.saturating_sub(1).min(16)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(30);

    fn debt(freeze: Freeze) -> Debt {
        Debt { freeze, ..Debt::new(vec!["disk".into()], "noon".into(), Timestamp(5)) }
    }

    fn no() -> Ended {
        Ended::Refused { code: Some(1), why: "not frozen".into() }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    #[test]
    fn a_thaw_that_ended_well_settles_what_surely_was_frozen() {
        assert_eq!(debt(Freeze::Done).thawed(&Ended::Done, LASTS, at(1)), Next::Settled);
        assert_eq!(debt(Freeze::Refused).thawed(&Ended::Done, LASTS, at(1)), Next::Settled);
        assert_eq!(debt(Freeze::Refused).thawed(&no(), LASTS, at(1)), Next::Settled);
    }

    #[test]
    fn what_is_frozen_is_thawed_for_ever_ever_more_slowly() {
        let mut debt = debt(Freeze::Done);
        let mut waited = Vec::new();
        for nth in 0..12 {
            let ended = if nth % 2 == 0 { no() } else { Ended::Unknown("the line broke".into()) };
            let Next::After(wait) = debt.thawed(&ended, LASTS, at(nth * 100_000)) else { panic!("it is frozen") };
            waited.push(wait.as_secs());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!((debt.tries, debt.problem.as_deref()), (12, Some("the line broke")));
        assert_eq!(debt.thawed(&Ended::Done, LASTS, at(9)), Next::Settled);
        assert_eq!(debt.problem, None);
    }

    #[test]
    fn a_freeze_of_unknown_end_is_thawed_twice() {
        let mut debt = debt(Freeze::Begun);
        assert!(debt.is_pressing());
        assert_eq!(debt.thawed(&Ended::Done, LASTS, at(1)), Next::After(LASTS));
        assert!(!debt.is_pressing());
        let mut other = debt.clone();
        assert_eq!(debt.thawed(&no(), LASTS, at(31)), Next::Settled, "it was thawed, and nothing came behind");
        assert!(matches!(other.thawed(&Ended::Unknown("line".into()), LASTS, at(31)), Next::After(_)));
        assert_eq!(other.thawed(&Ended::Done, LASTS, at(33)), Next::Settled);
    }

    #[test]
    fn where_nobody_knows_a_no_is_believed_after_a_while() {
        let mut debt = debt(Freeze::Begun);
        assert!(matches!(debt.thawed(&Ended::Unknown("line".into()), LASTS, at(1)), Next::After(_)));
        assert!(matches!(debt.thawed(&no(), LASTS, at(1000)), Next::After(_)));
        assert!(matches!(debt.thawed(&no(), LASTS, at(1500)), Next::After(_)));
        assert_eq!(debt.thawed(&no(), LASTS, at(1600)), Next::Settled);
    }

    #[test]
    fn the_store_keeps_what_a_restart_needs() {
        let kept = debt(Freeze::Done);
        assert_eq!(Debt::read(&kept.write()), Some(kept));
        assert_eq!(Debt::read(b"{}"), None);
    }
}
