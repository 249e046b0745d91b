//! Lets snapshots flow over a line, as water would, and says how old at each moment is what the peer has.
//!
//! Datasets with something left share the line equally; each sends its snapshots in the order of their making, and one counts once
//! all of it is there. The recovery point at a moment is the age of the newest snapshot that counts.

use std::time::Duration;

use narrowboat_storage::units::Timestamp;

use super::line::{Line, Stretch};

/// Water is counted in billionths of a bit, so that nothing is rounded away.
const UNITS_PER_BYTE: u128 = 8_000_000_000;

/// A snapshot that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When it was made.
    pub at: Timestamp,
    /// Bytes on the wire.
    pub bytes: u64,
}

/// What a replay came to for one dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    start: Timestamp,
    end: Timestamp,
    /// When which snapshot counted: the moment at which it was there, and at which it had been made. Both ascend.
    arrived: Vec<(Timestamp, Timestamp)>,
    /// Bytes that were left at the end.
    pub left: u64,
}

/// A while in which the recovery point was older than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When it became too old,
    pub from: Timestamp,
    /// and when a newer one was there, or the replay ended.
    pub until: Timestamp,
    /// How old it became.
    pub worst: Duration,
}

/// Replays the snapshots of several datasets, each list in the order of its making, on a line from its beginning to its end. What
/// was there before the beginning counts as made at the beginning. One result a dataset, in their order.
pub fn replay(line: &Line, datasets: &[Vec<Due>]) -> Vec<Replayed> {
    let (start, end) = match line.stretches() {
        [] => (Timestamp(0), Timestamp(0)),
        [first, .., last] => (first.from, last.until),
        [only] => (only.from, only.until),
    };
    let mut queues: Vec<Queue> = datasets.iter().map(|due| Queue::new(due)).collect();
    for stretch in line.stretches() {
        flow(stretch, &mut queues);
    }
    queues.into_iter().map(|queue| queue.end(start, end)).collect()
}

/// Lets water flow through one stretch.
fn flow(stretch: &Stretch, queues: &mut [Queue]) {
    let mut at = stretch.from;
    loop {
        let active = queues.iter_mut().map(|queue| queue.wake(at)).filter(|awake| *awake).count() as u128;
        let next = queues.iter().filter_map(Queue::next_due).min().unwrap_or(stretch.until).min(stretch.until);
        let rate = match stretch.bits {
            None => {
                // Nothing holds it up: what is due is there at once.
                queues.iter_mut().for_each(|queue| queue.finish_all(at));
                0
            }
            Some(bits) => u128::from(bits).checked_div(active).unwrap_or(0),
        };
        let done = queues.iter().filter_map(|queue| queue.nanos_at(rate)).min();
        let nanos = done.map_or(u128::MAX, |nanos| nanos).min(nanos_between(at, next));
        let until = Timestamp(at.0.saturating_add(i64::try_from(nanos).unwrap_or(i64::MAX)));
        // Where nothing flows, what has no bytes does not arrive either.
        if rate > 0 {
            queues.iter_mut().for_each(|queue| queue.run(until, rate.saturating_mul(nanos)));
        }
        at = until;
        if at >= stretch.until {
            return;
        }
    }
}

/// The snapshots of one dataset on their way.
struct Queue<'a> {
    due: &'a [Due],
    /// How many of them are there,
    arrived: Vec<(Timestamp, Timestamp)>,
    /// and of the one behind, what is left, where it is on its way.
    left: Option<u128>,
}

impl<'a> Queue<'a> {
    fn new(due: &'a [Due]) -> Queue<'a> {
        Queue { due, arrived: Vec::with_capacity(due.len()), left: None }
    }

    /// Takes up the next snapshot where it was made by now; true where one is on its way.
    fn wake(&mut self, now: Timestamp) -> bool {
        if self.left.is_none() {
            let due = self.due.get(self.arrived.len()).filter(|due| due.at <= now);
            self.left = due.map(|due| u128::from(due.bytes) * UNITS_PER_BYTE);
        }
        self.left.is_some()
    }

    /// When the next one is made, where none is on its way.
    fn next_due(&self) -> Option<Timestamp> {
        self.left.is_none().then(|| self.due.get(self.arrived.len()).map(|due| due.at)).flatten()
    }

    fn nanos_at(&self, rate: u128) -> Option<u128> {
        let left = self.left?;
        (rate > 0).then(|| left.div_ceil(rate))
    }

    fn run(&mut self, until: Timestamp, units: u128) {
        let Some(left) = self.left else { return };
        self.left = Some(left.saturating_sub(units));
        if self.left == Some(0) {
            self.arrive(until);
        }
    }

    fn arrive(&mut self, at: Timestamp) {
        if let Some(due) = self.due.get(self.arrived.len()) {
            self.arrived.push((at, due.at));
        }
        self.left = None;
    }

    fn finish_all(&mut self, now: Timestamp) {
        while self.wake(now) {
            self.arrive(now);
        }
    }

    fn end(self, start: Timestamp, end: Timestamp) -> Replayed {
        let waiting = self.due.get(self.arrived.len()..).unwrap_or_default().iter().filter(|due| due.at <= end);
        let all = waiting.map(|due| u128::from(due.bytes)).sum::<u128>();
        let first = self.due.get(self.arrived.len()).map_or(0, |due| u128::from(due.bytes));
        let sent = self.left.map_or(0, |left| first.saturating_sub(left.div_ceil(UNITS_PER_BYTE)));
        Replayed { start, end, arrived: self.arrived, left: u64::try_from(all - sent.min(all)).unwrap_or(u64::MAX) }
    }
}

impl Replayed {
    /// The whiles in which one snapshot is the newest that counts: from, until, and when it had been made.
    fn whiles(&self) -> impl Iterator<Item = (Timestamp, Timestamp, Timestamp)> + '_ {
        let begins = std::iter::once((self.start, self.start)).chain(self.arrived.iter().copied());
        let ends = self.arrived.iter().map(|(at, _)| *at).chain([self.end]);
        begins.zip(ends).map(|((from, made), until)| (from, until, made)).filter(|(from, until, _)| from < until)
    }

    /// For how much of the time the recovery point is at most so old; 1 where there is no time.
    pub fn kept(&self, target: Duration) -> f64 {
        let target = i64::try_from(target.as_nanos()).unwrap_or(i64::MAX);
        let kept = |(from, until, made): (Timestamp, Timestamp, Timestamp)| {
            nanos_between(from, until.min(Timestamp(made.0.saturating_add(target))))
        };
        match nanos_between(self.start, self.end) {
            0 => 1.0,
            all => self.whiles().map(kept).sum::<u128>() as f64 / all as f64,
        }
    }

    /// The oldest that the recovery point becomes.
    pub fn worst(&self) -> Duration {
        self.whiles().map(|(_, until, made)| between(made, until)).max().unwrap_or_default()
    }

    /// The recovery point that is kept for this share of the time, to the second, rounded up.
    pub fn at_share(&self, share: f64) -> Duration {
        let (mut low, mut high) = (0, self.worst().as_secs() + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.kept(Duration::from_secs(middle)) >= share {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        Duration::from_secs(low)
    }

    /// Every while in which the recovery point is older than this, in order.
    pub fn violations(&self, target: Duration) -> Vec<Violation> {
        let nanos = i64::try_from(target.as_nanos()).unwrap_or(i64::MAX);
        let mut found: Vec<Violation> = Vec::new();
        for (from, until, made) in self.whiles() {
            let from = from.max(Timestamp(made.0.saturating_add(nanos)));
            if from >= until {
                continue;
            }
            let worst = between(made, until);
            match found.last_mut().filter(|last| last.until == from) {
                Some(last) => (last.until, last.worst) = (until, last.worst.max(worst)),
                None => found.push(Violation { from, until, worst }),
            }
        }
        found
    }

    /// When which snapshot was there: the moment, and that at which it had been made.
    pub fn arrived(&self) -> &[(Timestamp, Timestamp)] {
        &self.arrived
    }
}

fn nanos_between(from: Timestamp, until: Timestamp) -> u128 {
    u128::try_from(i128::from(until.0) - i128::from(from.0)).unwrap_or(0)
}

fn between(from: Timestamp, until: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(nanos_between(from, until)).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
