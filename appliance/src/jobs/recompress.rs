//! Recompression: what was stored a week ago is compressed with zstd while nobody needs the box, where that gives room back.
//!
//! What is old is told by containers: once a day it is noted which number the next one gets ([`Kept::marks`]), by how long the box
//! ran, so that no clock that is set makes anything old. How far one came, and what it gave, is in the setting `recompress`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::error::{Environment, Error};
use narrowboat_storage::id::ContainerId;
use narrowboat_storage::pool::Densified;
use narrowboat_storage::{Result, Store};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::config::Config;
use crate::control::reports;

/// The setting that it is kept in.
const SETTING: &str = "recompress";
/// How often is looked, at the least.
const EVERY: Duration = Duration::from_secs(30);
/// For each second of work so many seconds are rested: a quarter of one processor is used.
const RESTS: u32 = 3;
/// So long is waited after there was no room, or the disk failed.
const AFTER_FAILURE: Duration = Duration::from_secs(3600);
/// Of the time after which something is old, in so many steps is it told.
const MARKS: u64 = 7;

/// Recompression of a box.
pub struct Recompression {
    store: Arc<Store>,
    after: Option<u64>,
    quiet: Duration,
    state: Mutex<State>,
}

struct State {
    kept: Kept,
    /// Look-ups so far, and since when there were no more.
    lookups: (u64, Instant),
    not_before: Instant,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// When it was noted, in seconds that the box had run, and which number the next container was to get.
    marks: VecDeque<(u64, u64)>,
    containers: u64,
    before_bytes: u64,
    after_bytes: u64,
}

impl Kept {
    /// Notes what lies where, if it is time to.
    fn mark(&mut self, run_seconds: u64, next: u64, after: u64) {
        let last = self.marks.back().map(|mark| mark.0);
        // A store that was taken back to an older state has run for less.
        self.marks.retain(|mark| mark.0 <= run_seconds);
        if last.is_none_or(|last| run_seconds.saturating_sub(last) >= after / MARKS) {
            self.marks.push_back((run_seconds, next));
        }
        let is_old = |mark: &(u64, u64)| run_seconds - mark.0 >= after;
        while self.marks.get(1).is_some_and(is_old) {
            self.marks.pop_front();
        }
    }

    /// Containers below hold what is old.
    fn old_upto(&self, run_seconds: u64, after: u64) -> u64 {
        self.marks.front().filter(|mark| run_seconds.saturating_sub(mark.0) >= after).map_or(0, |mark| mark.1)
    }

    fn add(&mut self, done: &Densified) {
        if let Some(after) = done.after_bytes {
            self.containers += 1;
            self.before_bytes += done.before_bytes;
            self.after_bytes += after;
        }
    }
}

impl Recompression {
    /// That of the box that keeps `store`.
    pub fn new(store: Arc<Store>, config: &Config) -> Recompression {
        let kept = store.setting(SETTING).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let rules = &config.recompress;
        let (after, quiet) = (rules.after_seconds().ok().flatten(), rules.quiet().unwrap_or(EVERY));
        let now = Instant::now();
        let state = Mutex::new(State { kept, lookups: (0, now), not_before: now });
        Recompression { store, after, quiet, state }
    }

    /// What it gave so far.
    pub fn told(&self) -> reports::Recompressed {
        let kept = &self.lock().kept;
        let (containers, before_bytes, after_bytes) = (kept.containers, kept.before_bytes, kept.after_bytes);
        reports::Recompressed { containers, before_bytes, after_bytes }
    }

    /// Works on while nobody needs the box and there is something to do; returns how long to wait before this is called again.
    pub fn look(&self, stop: &dyn Fn() -> bool) -> Duration {
        let (Some(after), wait) = (self.after, self.quiet.clamp(Duration::from_secs(1), EVERY)) else { return EVERY };
        let upto = {
            let mut state = self.lock();
            let run_seconds = self.store.run_seconds();
            let marks = state.kept.marks.len();
            state.kept.mark(run_seconds, self.store.pool().next_container().0, after);
            if marks != state.kept.marks.len() {
                self.keep(&state.kept);
            }
            if Instant::now() < state.not_before {
                return wait;
            }
            ContainerId(state.kept.old_upto(run_seconds, after))
        };
        while !stop() && self.is_quiet() {
            match self.step(upto) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    if !matches!(error, Error::Environment(Environment::Full)) {
                        tracing::warn!(%error, "what is old could not be compressed once more: it is tried again in an hour");
                    }
                    self.lock().not_before = Instant::now() + AFTER_FAILURE;
                    break;
                }
            }
        }
        wait
    }

    /// One container; false where there is none.
    fn step(&self, upto: ContainerId) -> Result<bool> {
        let began = Instant::now();
        let done = self.store.pool().densify(upto)?;
        if let Some(done) = done.filter(|done| done.after_bytes.is_some()) {
            let mut state = self.lock();
            state.kept.add(&done);
            self.keep(&state.kept);
        }
        // A box that ends must not wait long for this.
        std::thread::park_timeout((began.elapsed() * RESTS).min(Duration::from_secs(5)));
        Ok(done.is_some())
    }

    /// True where nobody has looked anything up for as long as was said: neither reads nor writes.
    fn is_quiet(&self) -> bool {
        let lookups = self.store.pool().lookups();
        let mut state = self.lock();
        if state.lookups.0 != lookups {
            state.lookups = (lookups, Instant::now());
        }
        state.lookups.1.elapsed() >= self.quiet
    }

    fn keep(&self, kept: &Kept) {
        let text = serde_json::to_vec(kept).unwrap_or_default();
        // On a full disk it is only not told what it gave.
        let _ = self.store.set_setting(SETTING, Some(&text), clock::now());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn what_is_old_is_told_by_how_long_the_box_ran() {
        let mut kept = Kept::default();
        for hour in 0..24 * 20 {
            kept.mark(hour * 3600, hour, 7 * DAY);
            let old = kept.old_upto(hour * 3600, 7 * DAY);
            let exactly = hour.saturating_sub(7 * 24);
            assert!(old <= exactly && exactly - old <= 24, "at hour {hour} containers below {old} are old");
            assert!(kept.marks.len() <= 10);
        }
        // Back to an older state: nothing is old that was stored since.
        kept.mark(3 * DAY, 72, 7 * DAY);
        assert_eq!(kept.old_upto(3 * DAY, 7 * DAY), 0);
        assert_eq!(Kept { marks: [(5, 9)].into(), ..kept }.old_upto(5, 0), 9);
    }
}
