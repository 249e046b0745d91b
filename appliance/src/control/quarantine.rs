//! What is asked about what was deleted and can be had back.

use narrowboat_storage::catalogue::{DatasetKind, DeletedBy};
use narrowboat_storage::error::{Error, Refusal};
use narrowboat_storage::store::{Emptied, Quarantined};

use super::Failed;
use super::reports::{self, Acknowledged};
use crate::backlog::on_the_wall;
use crate::clock;
use crate::jobs::Progress;
use crate::node::Node;
use crate::quarantine;
use crate::units::{duration, rfc3339};

/// Deleted datasets.
pub(super) fn datasets(node: &Node) -> Vec<reports::Deleted> {
    let all = node.store.quarantined();
    all.iter().filter(|one| one.snapshot.is_none()).map(|one| report(node, one)).collect()
}

/// Deleted snapshots, of one dataset or of all.
pub(super) fn snapshots(node: &Node, dataset: Option<&str>) -> Result<Vec<reports::Deleted>, Failed> {
    let wanted = dataset.map(|name| node.store.dataset_named(name)).transpose()?.map(|info| info.row.id);
    let all = node.store.quarantined();
    let here = |one: &&Quarantined| one.snapshot.is_some() && wanted.is_none_or(|id| one.dataset.id == id);
    Ok(all.iter().filter(here).map(|one| report(node, one)).collect())
}

fn report(node: &Node, one: &Quarantined) -> reports::Deleted {
    let (name, id) = match &one.snapshot {
        Some(snapshot) => (snapshot.name.clone(), snapshot.id.to_string()),
        None => (one.dataset.name.clone(), one.dataset.id.to_string()),
    };
    let kind = match (&one.snapshot, one.dataset.kind) {
        (Some(_), _) => "snapshot",
        (None, DatasetKind::Share) => "share",
        (None, DatasetKind::Volume) => "volume",
    };
    reports::Deleted {
        kind: kind.into(),
        dataset: one.dataset.name.clone(),
        name,
        id,
        time: one.snapshot.as_ref().map(|snapshot| rfc3339(snapshot.time)),
        snapshots: one.snapshots,
        deleted: rfc3339(on_the_wall(node, one.deleted.time)),
        by: match one.deleted.by {
            DeletedBy::Person => "a person",
            DeletedBy::Retention => "retention",
            DeletedBy::Plan => "a plan",
        }
        .into(),
        seconds_left: one.left.as_secs(),
        within_deleted: one.within_deleted,
    }
}

/// What a deletion is answered with.
pub(super) fn deleted(node: &Node, what: &str, back: &str) -> Acknowledged {
    let period = node.config.retention.quarantine();
    let message = match period.is_zero() {
        true => format!("deleted {what}"),
        false => format!(
            "deleted {what}; it keeps its room, and `narrowboat {back}` has it back, until the box has run for {}",
            duration(period.as_secs_f64())
        ),
    };
    Acknowledged { message }
}

/// Has a dataset back.
pub(super) fn undelete_dataset(node: &Node, which: &str, new: Option<&str>) -> Result<Acknowledged, Failed> {
    let info = node.store.undelete_dataset(which, new, clock::now()).map_err(or_as)?;
    Ok(Acknowledged { message: format!("{} is there again, as it was when it was deleted", info.row.name) })
}

/// Has a snapshot back.
pub(super) fn undelete_snapshot(node: &Node, snapshot: &str, new: Option<&str>) -> Result<Acknowledged, Failed> {
    let (dataset, which) = super::snapshot::split(snapshot)?;
    let row = node.store.undelete_snapshot(dataset, which, new, clock::now()).map_err(or_as)?;
    Ok(Acknowledged { message: format!("{dataset}@{} is there again", row.name) })
}

/// Where the name is another's by now, says how a new one is given.
fn or_as(error: Error) -> Failed {
    match &error {
        Error::Refused(Refusal::Exists(_)) => Failed::refused(format!("{error}: give this one a new name with --as")),
        _ => error.into(),
    }
}

/// Gives up the quarantine, or what is called `what` in it, or tells what that would free. The one who asks is root.
pub(super) fn empty(
    node: &Node,
    what: Option<&str>,
    dry_run: bool,
    stop: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Emptied, Failed> {
    let wanted = |one: &Quarantined| quarantine::is_called(one, what);
    if let Some(what) = what
        && !node.store.quarantined().iter().any(wanted)
    {
        return Err(Failed::refused(format!("nothing in quarantine is called {what}")));
    }
    if dry_run {
        let all: Vec<_> = node.store.quarantined().into_iter().filter(wanted).collect();
        let datasets = all.iter().filter(|one| one.snapshot.is_none()).count();
        let found = node.reclaims.preview_without(&wanted, stop, tell)?;
        let freeable_bytes = Some(found.freeable_bytes).filter(|_| found.stopped.is_none());
        return Ok(reports::Emptied {
            preview: true,
            datasets,
            snapshots: all.len() - datasets,
            freeable_bytes,
            stayed: found.stopped.into_iter().collect(),
        });
    }
    let Emptied { datasets, snapshots, stayed } = quarantine::empty(node, what)?;
    Ok(reports::Emptied { preview: false, datasets: datasets.len(), snapshots, freeable_bytes: None, stayed })
}

/// How much is in quarantine.
pub(super) fn sum(node: &Node) -> reports::QuarantineSum {
    let all = node.store.quarantined();
    let datasets = all.iter().filter(|one| one.snapshot.is_none()).count();
    reports::QuarantineSum { datasets, snapshots: all.len() - datasets }
}
