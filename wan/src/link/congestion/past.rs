//! What rounds have shown that are over: how fast the line was, and what it loses by itself.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::EXCESS_LOSS_MILLI;

/// Rounds whose rate and loss are remembered.
const MEMORY_ROUNDS: usize = 10;
/// They are remembered at least this long, however short the rounds are.
const MEMORY: Duration = Duration::from_secs(1);
/// Most rounds that are ever remembered: a second of the shortest rounds.
const MEMORY_ROUNDS_MAX: usize = 64;

/// The last rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Past(VecDeque<Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    ended: Instant,
    bytes_per_second: u64,
    /// In thousandths; None where there were too few packets to tell.
    loss_milli: Option<u64>,
}

impl Past {
    /// The highest rate of any; zero before the first.
    pub fn bytes_per_second(&self) -> u64 {
        self.0.iter().map(|seen| seen.bytes_per_second).max().unwrap_or(0)
    }

    /// The lowest loss of any, which is taken for the line's own, up to what no line loses by itself.
    pub fn usual_loss_milli(&self) -> u64 {
        self.0.iter().filter_map(|seen| seen.loss_milli).min().unwrap_or(0).min(EXCESS_LOSS_MILLI)
    }

    /// One more is over.
    pub fn remember(&mut self, ended: Instant, bytes_per_second: u64, loss_milli: Option<u64>) {
        self.0.push_back(Seen { ended, bytes_per_second, loss_milli });
        let is_old = |old: &Seen| ended.saturating_duration_since(old.ended) > MEMORY;
        while self.0.len() > MEMORY_ROUNDS && (self.0.len() > MEMORY_ROUNDS_MAX || self.0.front().is_some_and(is_old)) {
            self.0.pop_front();
        }
    }

    /// Forgets the rates of the past for the present one: the line has become slower.
    pub fn believe_only(&mut self, bytes_per_second: u64) {
        if let Some(last) = self.0.back().copied() {
            self.0.clear();
            self.0.push_back(Seen { bytes_per_second, ..last });
        }
    }
}
