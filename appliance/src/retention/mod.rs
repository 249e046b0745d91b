//! Retention: which snapshots of a dataset stay, and for how long. Rules are previewed before they count, and every snapshot that
//! stays or goes has its reasons.
//!
//! Rules are kept in the store's settings, as `retention/DATASET` with the dataset's id and the JSON of [`Rules`]. A replica has rules
//! of its own, whatever the box says that it comes from. What goes is derived anew at each look ([`judge`]); nothing else is kept.
//! Rules that can't be read let nothing go, and say so.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use narrowboat_storage::catalogue::{DatasetRow, DeletedBy, SnapshotRow};
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::{Error, Store};

use crate::clock;
use crate::config::Config;
use crate::control::reports;
use crate::ledger;
use crate::node::Node;
use crate::units::{duration, rfc3339};

mod rules;

pub use rules::{Facts, Rules, Verdict, judge};

/// How often is looked what may go.
const EVERY: Duration = Duration::from_secs(10);

fn setting(dataset: DatasetId) -> String {
    format!("retention/{dataset}")
}

/// The rules of a box's datasets.
pub struct Retention {
    store: Arc<Store>,
    zone: TimeZone,
    looked: Mutex<Option<Instant>>,
}

/// Why the box itself needs a snapshot: what is on its way or still to go there, and what the next difference to a peer is taken from.
struct Needs {
    reasons: Vec<(NeededBy, String)>,
}

enum NeededBy {
    Id(narrowboat_storage::id::SnapshotId),
    Name(String),
}

impl Needs {
    fn of(node: &Node, row: &DatasetRow) -> Needs {
        let mut reasons = Vec::new();
        let peers = node.link.as_ref().map_or_else(Vec::new, |link| link.peers());
        let label = format!("{}@", row.name);
        for peer in peers.iter().map(|peer| peer.record.name.as_str()) {
            if let Some(proof) = ledger::proof(&node.store, peer, &row.id) {
                reasons.push((NeededBy::Id(proof.snapshot), format!("the next difference to {peer} is taken from it")));
            }
            for sent in node.transfers.running(peer) {
                if let Some(name) = sent.snapshot.strip_prefix(&label) {
                    reasons.push((NeededBy::Name(name.to_owned()), format!("on its way to {peer}")));
                }
            }
        }
        for (id, peer) in node.link.as_ref().map_or_else(Vec::new, |link| node.plans.owed(link, row.id)) {
            reasons.push((NeededBy::Id(id), format!("not at {peer} yet")));
        }
        Needs { reasons }
    }

    fn reason(&self, snapshot: &SnapshotRow) -> Option<String> {
        let needs = |by: &NeededBy| match by {
            NeededBy::Id(id) => *id == snapshot.id,
            NeededBy::Name(name) => *name == snapshot.name,
        };
        self.reasons.iter().find(|(by, _)| needs(by)).map(|(_, why)| why.clone())
    }
}

impl Retention {
    /// Those of the box that keeps `store`.
    pub fn new(store: Arc<Store>, config: &Config) -> Retention {
        Retention { store, zone: config.zone(), looked: Mutex::default() }
    }

    /// Sets the rules of a dataset, or drops them: then nothing goes by itself but what plans made.
    pub fn set(&self, dataset: DatasetId, rules: Option<&Rules>) -> Result<(), Error> {
        let setting = setting(dataset);
        if rules.is_none() && self.store.setting(&setting).is_none() {
            return Ok(());
        }
        let text = rules.map(|rules| serde_json::to_string(rules).unwrap_or_default());
        self.store.set_setting(&setting, text.as_deref().map(str::as_bytes), clock::now())?;
        // They count at once.
        *self.lock() = None;
        Ok(())
    }

    /// The rules of a dataset, if it has any; the inner error says why they can't be read.
    pub fn find(&self, dataset: DatasetId) -> Option<Result<Rules, String>> {
        let text = self.store.setting(&setting(dataset))?;
        let wrong = |error: serde_json::Error| format!("{error}: `narrowboat retention set` sets them again");
        Some(serde_json::from_slice(&text).map_err(wrong))
    }

    /// What becomes of each snapshot of a dataset by these rules, the oldest first.
    pub fn preview(&self, node: &Node, row: &DatasetRow, rules: &Rules) -> Vec<reports::Verdict> {
        let snapshots = self.store.snapshots(Some(row.id));
        let tell = |verdict: Verdict<'_>| reports::Verdict {
            snapshot: verdict.snapshot.name.clone(),
            time: rfc3339(verdict.snapshot.time),
            stays: !verdict.stays.is_empty(),
            why: if verdict.stays.is_empty() { vec!["no rule wants it".into()] } else { verdict.stays },
        };
        self.judged(node, row, rules, &snapshots).into_iter().map(tell).collect()
    }

    fn judged<'a>(
        &self,
        node: &Node,
        row: &DatasetRow,
        rules: &Rules,
        snapshots: &'a [SnapshotRow],
    ) -> Vec<Verdict<'a>> {
        let needs = Needs::of(node, row);
        let now = self.store.time().max(clock::now());
        let facts = Facts {
            age: &|time| self.store.passed_nanoseconds(time, now) / 1_000_000_000,
            needed: &|snapshot| needs.reason(snapshot),
            locked: &|snapshot| self.store.lock_left(snapshot.id).map(|left| duration(left.as_secs_f64())),
            zone: &self.zone,
        };
        judge(rules, snapshots, &facts)
    }

    /// Deletes what no rule wants. Does nothing where that was done lately.
    pub fn look(&self, node: &Node) {
        {
            let mut looked = self.lock();
            if looked.is_some_and(|then| then.elapsed() < EVERY) {
                return;
            }
            *looked = Some(Instant::now());
        }
        for row in self.store.dataset_rows() {
            match self.find(row.id) {
                None => {}
                Some(Ok(rules)) => self.apply(node, &row, &rules),
                Some(Err(error)) => {
                    tracing::error!(dataset = row.name, error, "rules of retention can't be read: nothing goes")
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, node: &Node, row: &DatasetRow, rules: &Rules) {
        let snapshots = self.store.snapshots(Some(row.id));
        for verdict in self.judged(node, row, rules, &snapshots) {
            if !verdict.stays.is_empty() {
                continue;
            }
            let (dataset, snapshot) = (&row.name, &verdict.snapshot.name);
            match self.store.delete_snapshot_by_id(verdict.snapshot.id, DeletedBy::Retention, clock::now()) {
                Ok(()) => tracing::info!(dataset, snapshot, "no rule of retention wants it: deleted"),
                // Somebody may have held or deleted it meanwhile; otherwise it is tried again at the next look.
                Err(error) => tracing::debug!(dataset, snapshot, %error, "a snapshot that no rule wants stays"),
            }
        }
    }
}
