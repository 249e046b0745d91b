//! What a peer would have been sent of a dataset since it was looked at before, by rehearsing it. What a peer would have by now is remembered in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::pool::Mark;
use narrowboat_storage::tree::spans;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};
use narrowboat_wan::assess::{Ghost, Path as WirePath, Rehearsal, Rehearsed, Sampling, rehearse};
use narrowboat_wan::sync::{Failure, Limits, Replication, Source};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::spans::Row;
use crate::clock;

/// The setting of the store that it is kept in.
pub const SETTING: &str = "assessment";
/// What a look's snapshot is called; behind it comes a moment in nanoseconds.
const PREFIX: &str = "assessment-";
/// Packed whole, in a round of one dataset; of more, one group in so many.
const SAMPLING: Sampling = Sampling { whole_bytes: 64 << 20, one_in: 16 };

/// What is known of the line before anything is measured: how hard a sender packs depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Bits a second.
    pub bits: u64,
    /// There and back.
    pub round_trip: Duration,
}

impl Default for Path {
    /// Where nobody says: a line of an office within a country.
    fn default() -> Self {
        Path { bits: 20_000_000, round_trip: Duration::from_millis(30) }
    }
}

/// Why a look came to no end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// Looking at the path did.
    #[error(transparent)]
    Scan(#[from] super::scan::Broken),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// The rehearsal did.
    #[error("what a peer would be sent can't be told: {0}")]
    Rehearsal(#[from] Failure),
    /// What is remembered of earlier looks is not understood.
    #[error("what was kept of earlier looks is not understood ({0}); begin anew in another folder with --work")]
    State(String),
}

/// The last look at one dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Last {
    /// The snapshot that a peer would show, when it was made, and when it had all been put.
    snapshot: String,
    seen: i64,
    mark: String,
}

/// What is remembered from look to look.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// By what it is called in rows.
    seen: BTreeMap<String, Last>,
    /// A peer would have what was in the pool before.
    before: Option<String>,
}

/// True for a snapshot's name as looks give them. People can't give such names.
pub fn is_of_look(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() > 9 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// See the module.
pub struct Looks {
    store: Arc<Store>,
    ghost: Arc<Ghost>,
    state: State,
    path: Path,
}

impl Looks {
    /// Goes on where it was, or begins anew.
    ///
    /// # Errors
    /// Where what is remembered is not understood, or not there any more.
    pub fn of(store: Arc<Store>, path: Path) -> Result<Looks, Broken> {
        let state: State = match store.setting(SETTING) {
            Some(kept) => serde_json::from_slice(&kept).map_err(|error| Broken::State(error.to_string()))?,
            None => State::default(),
        };
        let ghost = Arc::new(ghost(&store, &state)?);
        // What a crash has left of a look that came to no end.
        let is_stray = |name: &str, id: SnapshotId| {
            is_of_look(name) && !state.seen.values().any(|last| last.snapshot == id.to_string())
        };
        for stray in store.snapshots(None).iter().filter(|row| is_stray(&row.name, row.id)) {
            store.discard_snapshot(stray.id, clock::now())?;
        }
        Ok(Looks { store, ghost, state, path })
    }

    /// Looks at a dataset, which is called `key` in rows: what a peer would be sent of it now.
    pub fn look(&mut self, key: &str, dataset: &str) -> Result<Row, Broken> {
        if let Some(row) = self.unchanged(key)? {
            return Ok(row);
        }
        // Everything that came up to here is in the snapshot, and what comes of sealing it is sent by name.
        let before = self.store.pool().mark();
        let now = clock::now();
        let snapshot = self.store.create_snapshot(dataset, &format!("{PREFIX}{}", now.0), now)?;
        let rehearsed = self.rehearse_since(key, snapshot.id, now);
        let (row, kept) = match rehearsed {
            Ok(done) => done,
            Err(broken) => {
                // Tried again with the next; this one is nobody's.
                self.store.discard_snapshot(snapshot.id, now)?;
                return Err(broken);
            }
        };
        self.ghost.advance(before.clone());
        let last = Last { snapshot: snapshot.id.to_string(), seen: now.0, mark: kept };
        let old = self.state.seen.insert(key.to_owned(), last).map(|last| last.snapshot);
        self.state.before = Some(before.to_string());
        self.keep()?;
        if let Some(old) = old.and_then(|old| old.parse::<SnapshotId>().ok()) {
            self.store.discard_snapshot(old, now)?;
        }
        Ok(row)
    }

    /// What is as it was is not sent at all.
    fn unchanged(&mut self, key: &str) -> Result<Option<Row>, Broken> {
        let Some(last) = self.state.seen.get_mut(key) else { return Ok(None) };
        let snapshot = self.store.snapshot(id(last)?)?;
        if self.store.changed_since(&snapshot)? {
            return Ok(None);
        }
        let (from, now) = (Timestamp(last.seen), clock::now());
        last.seen = now.0;
        self.keep()?;
        let (logical, files) = snapshot.sealed.map_or((0, 0), |sealed| (sealed.logical_bytes, sealed.files));
        Ok(Some(Row { logical, files, ..Row::new(key.to_owned(), from, now) }))
    }

    fn rehearse_since(&self, key: &str, snapshot: SnapshotId, now: Timestamp) -> Result<(Row, String), Broken> {
        let mut what = Replication::of(&self.store, snapshot)?;
        let last = self.state.seen.get(key);
        if let Some(last) = last {
            what.shared = Some((id(last)?, Arc::new(mark(&last.mark)?)));
        }
        let kept = what.mark.as_ref().map(ToString::to_string).unwrap_or_default();
        let (logical, files) = (what.snapshot.logical_bytes, what.snapshot.files);
        let began = processor_seconds();
        let rehearsed = self.rehearse(what)?;
        let from = last.map_or(now, |last| Timestamp(last.seen));
        let row = Row { logical, files, seconds: processor_seconds() - began, ..row(key, from, now, &rehearsed) };
        Ok((row, kept))
    }

    fn rehearse(&self, what: Replication) -> Result<Rehearsed, Broken> {
        let (rate, round_trip) = (self.path.bits / 8, self.path.round_trip);
        let how = Rehearsal {
            realm: self.store.realm().clone(),
            references: spans,
            limits: Limits::default().on_line(Some(rate), round_trip, 0),
            bytes_per_second: Some(rate),
            round_trip,
            sampling: SAMPLING,
        };
        let source: Arc<dyn Source> = Arc::new(self.store.pool().clone());
        Ok(rehearse(&source, &self.ghost, what, &how)?)
    }

    fn keep(&self) -> Result<(), Broken> {
        let text = serde_json::to_vec(&self.state).map_err(|error| Broken::State(error.to_string()))?;
        Ok(self.store.set_setting(SETTING, Some(&text), clock::now())?)
    }
}

/// What a peer would have, by what is remembered.
fn ghost(store: &Store, state: &State) -> Result<Ghost, Broken> {
    let pool = store.pool().clone();
    let Some(before) = &state.before else { return Ok(Ghost::new(pool)) };
    let mut shows = Vec::new();
    for last in state.seen.values() {
        let row = store.snapshot(id(last)?)?;
        if let Some(root) = row.sealed.and_then(|sealed| sealed.root) {
            shows.push((row.dataset, row.id, root));
        }
    }
    Ok(Ghost::with(pool, mark(before)?, shows))
}

fn id(last: &Last) -> Result<SnapshotId, Broken> {
    last.snapshot.parse().map_err(|_| Broken::State(last.snapshot.clone()))
}

fn mark(text: &str) -> Result<Mark, Broken> {
    text.parse().map_err(|_| Broken::State(format!("{text:?} is no mark")))
}

fn row(key: &str, from: Timestamp, until: Timestamp, rehearsed: &Rehearsed) -> Row {
    let report = &rehearsed.report;
    let [wire, back] = WirePath::PLAIN.bytes(rehearsed);
    Row {
        changed: report.raw_bytes.saturating_add(rehearsed.known_bytes),
        unique: report.raw_bytes,
        unknown: report.raw_bytes,
        compressed: report.stored_bytes,
        packed: report.payload_bytes,
        wire,
        back,
        error: rehearsed.sampled.error,
        ..Row::new(key.to_owned(), from, until)
    }
}

/// Of this thread, which is the one that packs.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
