//! Snapshots that plans take: beside everything else, with the time in their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use narrowboat_storage::catalogue::SnapshotRow;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};

use super::decide::{AUTO, Past};
use super::kept::{self, Entry};
use super::{Plans, Watched};
use crate::clock;
use crate::node::Node;
use crate::units::rfc3339;

impl Plans {
    /// Takes a snapshot beside everything else: of a dataset that is deduplicated later it may take minutes, in which other plans go on.
    pub(super) fn take(&self, node: &Arc<Node>, entry: &Entry) {
        // Several plans of a dataset make do with one.
        let busy = |watched: &BTreeMap<String, Watched>| {
            let plans = kept::of(entry.row.id);
            watched
                .range(plans.clone()..)
                .take_while(|(setting, _)| setting.starts_with(&plans))
                .any(|(_, one)| one.taking)
        };
        if busy(&self.lock()) {
            return;
        }
        self.note(entry, |watched| watched.taking = true);
        let taking = Taking { node: node.clone(), setting: entry.setting.clone() };
        let dataset = entry.row.name.clone();
        node.spawn(async move {
            let taken = tokio::task::block_in_place(|| named(&taking.node.store, &dataset));
            taking.note(|past| match taken {
                Ok(taken) => {
                    past.taken = Some(clock::now());
                    tracing::debug!(dataset, snapshot = taken.name, "a plan took a snapshot");
                }
                Err(error) => past.failed(error.to_string(), clock::now()),
            });
        });
    }
}

/// A snapshot that is being taken for a plan; it is not, once this is dropped, whatever came of it.
struct Taking {
    node: Arc<Node>,
    setting: String,
}

impl Taking {
    fn note(&self, change: impl FnOnce(&mut Past)) {
        if let Some(watched) = self.node.plans.lock().get_mut(&self.setting) {
            change(&mut watched.past);
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        if let Some(watched) = self.node.plans.lock().get_mut(&self.setting) {
            watched.taking = false;
        }
    }
}

/// Takes a snapshot with the time in its name; where that is taken, by a clock that was set back, with more of it.
fn named(store: &Store, dataset: &str) -> Result<SnapshotRow, Error> {
    let now = clock::now();
    let create = |name: &str| store.create_snapshot(dataset, name, now);
    match create(&name_at(now, false)) {
        Err(Error::Refused(Refusal::Exists(_))) => create(&name_at(now, true)),
        outcome => outcome,
    }
}

/// The name of a plan's snapshot, as in "auto-2026-11-22-15-04-05Z".
fn name_at(now: Timestamp, exact: bool) -> String {
    let text = rfc3339(now);
    let seconds = text.get(..19).unwrap_or(&text).replace([':', 'T'], "-");
    match exact {
        false => format!("{AUTO}{seconds}Z"),
        true => format!("{AUTO}{seconds}.{:09}Z", now.0.rem_euclid(1_000_000_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_auto;
    use super::*;

    #[test]
    fn names_tell_the_time_and_differ() {
        let moment = Timestamp(1_795_392_305_000_000_007);
        assert_eq!(name_at(moment, false), "auto-2026-11-23-00-05-05Z");
        assert_eq!(name_at(moment, true), "auto-2026-11-23-00-05-05.000000007Z");
        assert!(is_auto(&name_at(moment, false)) && is_auto(&name_at(moment, true)));
        for by_people in ["auto-", "auto-before-upgrade", "auto-2026-11-23", "auto-2026-11-23-00-05-05Z-2", "monday"] {
            assert!(!is_auto(by_people), "{by_people}");
        }
    }
}
