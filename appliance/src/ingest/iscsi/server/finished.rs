//! Tasks that are done, and whose answers wait for one another: what is settled and sent together costs less.
//!
//! They are the connection's and not their worker's, so that another one sends them where theirs is held by its next task.

use std::time::{Duration, Instant};

use super::pace::OVERDUE;
use crate::ingest::iscsi::session::Done;

/// Most tasks that are settled and answered together.
const TASKS_MAX: usize = 32;
/// Most bytes of their answers.
const BYTES_MAX: usize = 128 << 10;
/// How long the first of them waits for the others, beside one task.
const PATIENCE: Duration = Duration::from_micros(250);

/// Tasks of one connection.
#[derive(Default)]
pub(super) struct Finished {
    /// With what room was taken for before they were begun.
    done: Vec<(Done, usize)>,
    bytes: usize,
    since: Option<Instant>,
}

impl Finished {
    /// Adds one. True where it is the first.
    pub fn add(&mut self, done: Done, reply_bytes: usize, now: Instant) -> bool {
        self.bytes += done.bytes();
        self.since.get_or_insert(now);
        self.done.push((done, reply_bytes));
        self.done.len() == 1
    }

    /// True where they are to be sent before another task is begun.
    pub fn is_due(&self, now: Instant) -> bool {
        self.done.len() >= TASKS_MAX || self.bytes >= BYTES_MAX || self.have_waited(PATIENCE, now)
    }

    /// True where another worker is to send them. Settling may hold that one, too, which is for `admitted` ones.
    pub fn are_overdue(&self, now: Instant, admitted: bool) -> bool {
        self.have_waited(OVERDUE, now) && (admitted || self.done.iter().any(|(done, _)| done.is_settled()))
    }

    /// True where none waits.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// True where some have to be settled first.
    pub fn has_unsettled(&self) -> bool {
        self.done.iter().any(|(done, _)| !done.is_settled())
    }

    /// Takes all of them, or those that need no settling; and what room was taken for.
    pub fn take(&mut self, all: bool) -> (Vec<Done>, usize) {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.done).into_iter().partition(|(done, _)| all || done.is_settled());
        self.bytes = left.iter().map(|(done, _)| done.bytes()).sum();
        self.since = self.since.filter(|_| !left.is_empty());
        self.done = left;
        let reply_bytes = taken.iter().map(|(_, reply_bytes)| reply_bytes).sum();
        (taken.into_iter().map(|(done, _)| done).collect(), reply_bytes)
    }

    fn have_waited(&self, patience: Duration, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }
}
