//! Looks after datasets that deduplicate later: tells the store when their hours have come, and people when too much waits.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetKind, DatasetRow, Policy};
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::shape::Hours;

use crate::config::Config;
use crate::units::ByteSize;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(1);

/// What was last told, and when.
#[derive(Default)]
struct Told {
    looked: Option<Instant>,
    datasets: BTreeMap<DatasetId, State>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct State {
    overrun: bool,
    overruns: u64,
    overrun_at: Option<Timestamp>,
}

/// The hours of a box's datasets, and what was made of them so far.
pub struct Policies {
    zone: TimeZone,
    told: Mutex<Told>,
}

impl Policies {
    /// For a box of this config; a time zone that is not known is refused when the config is read.
    pub fn new(config: &Config) -> Policies {
        Policies { zone: config.zone(), told: Mutex::default() }
    }

    /// The hours of a dataset, if it has the policy to deduplicate later.
    pub fn hours(config: &Config, row: &DatasetRow) -> Option<Hours> {
        let own = match row.kind {
            DatasetKind::Share => config.share.get(&row.name).and_then(|rules| rules.drain_hours.clone()),
            DatasetKind::Volume => config.volume.get(&row.name).and_then(|rules| rules.drain_hours.clone()),
        };
        let hours = || own.or_else(|| config.store.drain_hours.clone()).unwrap_or_else(Hours::nights);
        (row.policy == Policy::Deferred && !row.read_only).then(hours)
    }

    /// When too much waited of a dataset the last time, since the box started.
    pub fn overrun_at(&self, dataset: DatasetId) -> Option<Timestamp> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.datasets.get(&dataset).and_then(|state| state.overrun_at)
    }

    /// Tells the store whose hours have come, and the log what changed. Does nothing where that was done within the last second.
    pub fn look(&self, store: &Store, config: &Config, now: Timestamp) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return;
        }
        told.looked = Some(Instant::now());
        let before = std::mem::take(&mut told.datasets);
        for row in store.dataset_rows() {
            let Some(hours) = Policies::hours(config, &row) else { continue };
            // A dataset that is set aside defers nothing.
            let Ok(Some(deferral)) = store.deferral(row.id) else { continue };
            let was = before.get(&row.id).copied().unwrap_or_default();
            let come = hours.contain(now, &self.zone);
            let begun = deferral.overruns != was.overruns;
            let overrun_at = if begun { Some(now) } else { was.overrun_at };
            let is = State { overrun: deferral.overrun, overruns: deferral.overruns, overrun_at };
            if come != deferral.hours {
                tracing::info!(dataset = row.name, %hours, come, "hours for deduplication");
                // It was there a moment ago; where it is no more, there is nothing to tell.
                let _ = store.set_deferred_hours(row.id, come);
            }
            let (waiting, bound) = (ByteSize(deferral.waiting_bytes), ByteSize(deferral.bound_bytes));
            if begun {
                let what = "too much waits for its hours: it is deduplicated while it is written";
                tracing::warn!(dataset = row.name, %waiting, %bound, "{what}");
            }
            if !is.overrun && (was.overrun || begun) {
                tracing::info!(dataset = row.name, %waiting, %bound, "deduplication waits for its hours again");
            }
            told.datasets.insert(row.id, is);
        }
    }
}
