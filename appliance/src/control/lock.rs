//! What is asked about locks: snapshots that nobody deletes before their time.

use std::time::Duration;

use narrowboat_storage::id::DatasetId;
use narrowboat_storage::store::LockScope;

use super::Failed;
use super::reports::{Acknowledged, LockRule};
use super::snapshot::split;
use crate::clock;
use crate::node::Node;
use crate::units::duration;

/// Locks one snapshot.
pub(super) fn snapshot(node: &Node, snapshot: &str, seconds: u64) -> Result<Acknowledged, Failed> {
    let (dataset, name) = split(snapshot)?;
    let length = node.store.lock_snapshot(dataset, name, Duration::from_secs(seconds), clock::now())?;
    let until = duration(length.as_secs_f64());
    Ok(Acknowledged { message: format!("nobody can delete {snapshot} before this box has run for {until}") })
}

/// Says for how long snapshots to come are locked.
pub(super) fn set(node: &Node, dataset: Option<&str>, seconds: Option<u64>) -> Result<Vec<LockRule>, Failed> {
    let scope = match dataset {
        Some(name) => LockScope::Dataset(node.store.dataset_named(name)?.row.id),
        None => LockScope::Replicas,
    };
    node.store.set_lock_rule(scope, seconds.map(Duration::from_secs), clock::now())?;
    Ok(list(node))
}

/// All rules: those of replicas first, then by dataset.
pub(super) fn list(node: &Node) -> Vec<LockRule> {
    let locked = |id: DatasetId| {
        let snapshots = node.store.snapshots(Some(id));
        snapshots.iter().filter(|snapshot| node.store.lock_left(snapshot.id).is_some()).count()
    };
    let rows = node.store.dataset_rows();
    let own = |id| node.store.lock_rule(LockScope::Dataset(id));
    let replicas = node.store.lock_rule(LockScope::Replicas).map(|length| {
        let theirs = rows.iter().filter(|row| row.origin.is_some() && own(row.id).is_none());
        LockRule { dataset: None, seconds: length.as_secs(), locked: theirs.map(|row| locked(row.id)).sum() }
    });
    let of = |row: &narrowboat_storage::catalogue::DatasetRow| {
        Some(LockRule { dataset: Some(row.name.clone()), seconds: own(row.id)?.as_secs(), locked: locked(row.id) })
    };
    replicas.into_iter().chain(rows.iter().filter_map(of)).collect()
}
