//! What is asked about snapshots.

use narrowboat_storage::catalogue::SnapshotRow;
use narrowboat_storage::compare::What;

use super::reports::{self, Acknowledged};
use super::{Failed, quarantine};
use crate::clock;
use crate::node::Node;
use crate::plans::is_auto;
use crate::units::rfc3339;

/// Deletes a snapshot, unless it is held or locked.
pub(super) fn delete(node: &Node, snapshot: &str) -> Result<Acknowledged, Failed> {
    let (dataset, name) = split(snapshot)?;
    node.store.delete_snapshot(dataset, name, clock::now())?;
    Ok(quarantine::deleted(node, snapshot, &format!("snapshot undelete {snapshot}")))
}

/// Holds or releases a snapshot.
pub(super) fn hold(node: &Node, snapshot: &str, held: bool) -> Result<reports::Snapshot, Failed> {
    let (dataset, name) = split(snapshot)?;
    let row = node.store.hold_snapshot(dataset, name, held, clock::now())?;
    Ok(report(node, dataset, &row))
}

/// Makes a snapshot; its name is the time where none is given.
pub(super) fn create(node: &Node, dataset: &str, name: Option<String>) -> Result<reports::Snapshot, Failed> {
    let now = clock::now();
    // Without colons, which separate a path from a snapshot's name.
    let name = name.unwrap_or_else(|| rfc3339(now).replace(':', "-"));
    if is_auto(&name) {
        let why = format!(
            "{name:?} is a name that plans give, and their snapshots are deleted by themselves: choose another"
        );
        return Err(Failed::refused(why));
    }
    let row = node.store.create_snapshot(dataset, &name, now)?;
    Ok(report(node, dataset, &row))
}

/// All of them, or those of one dataset.
pub(super) fn all(node: &Node, dataset: Option<&str>) -> Result<Vec<reports::Snapshot>, Failed> {
    let wanted = dataset.map(|name| node.store.dataset_named(name)).transpose()?.map(|info| info.row.id);
    let rows = node.store.dataset_rows();
    let name_of = |row: &SnapshotRow| rows.iter().find(|dataset| dataset.id == row.dataset);
    let snapshots = node.store.snapshots(wanted);
    Ok(snapshots.iter().filter_map(|row| Some(report(node, &name_of(row)?.name, row))).collect())
}

/// What changed between two snapshots.
pub(super) fn diff(node: &Node, from: String, to: String) -> Result<reports::Diff, Failed> {
    let ((from_dataset, from_name), (to_dataset, to_name)) = (split(&from)?, split(&to)?);
    let earlier = node.store.snapshot_named(from_dataset, from_name)?;
    let later = node.store.snapshot_named(to_dataset, to_name)?;
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let changes = node.store.compare(earlier.id, later.id)?.into_iter().map(|change| {
        let (what, was, bytes) = match change.what {
            What::Added => ("added", None, 0),
            What::Removed => ("removed", None, 0),
            What::Renamed { was } => ("renamed", Some(text(&was)), 0),
            What::Content { bytes } => ("content", None, bytes),
            What::Attributes => ("attributes", None, 0),
        };
        reports::Changed { what: what.into(), path: text(&change.path), was, bytes }
    });
    let changes = changes.collect();
    Ok(reports::Diff { from, to, changes })
}

fn report(node: &Node, dataset: &str, row: &SnapshotRow) -> reports::Snapshot {
    reports::Snapshot {
        dataset: dataset.to_owned(),
        name: row.name.clone(),
        id: row.id.to_string(),
        time: rfc3339(row.time),
        root: row.sealed.and_then(|sealed| sealed.root).map(|root| root.to_string()),
        sealed: row.sealed.is_some(),
        held: row.held,
        locked_seconds: node.store.lock_left(row.id).map(|left| left.as_secs()),
        logical_bytes: row.sealed.map(|sealed| sealed.logical_bytes),
        files: row.sealed.map(|sealed| sealed.files),
        frees_bytes: node.censuses.snapshot(row.id),
    }
}

/// `DATASET@NAME` in its two parts.
pub(super) fn split(snapshot: &str) -> Result<(&str, &str), Failed> {
    let wrong = || Failed::refused(format!("{snapshot:?} is no snapshot: write it as DATASET@NAME"));
    snapshot.split_once('@').ok_or_else(wrong)
}
