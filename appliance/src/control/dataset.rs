//! What is asked about shares and volumes.

use narrowboat_storage::catalogue::{DatasetKind, Policy};
use narrowboat_storage::store::DatasetInfo;

use super::reports::{self, Acknowledged};
use super::{Failed, quarantine, time};
use crate::clock;
use crate::ingest::volumes::place_of;
use crate::node::Node;
use crate::units::rfc3339;

/// Creates a share.
pub(super) fn create_share(node: &Node, name: &str, dedup: &str) -> Result<reports::Dataset, Failed> {
    Ok(report(node, &node.store.create_share(name, policy(dedup)?, clock::now())?))
}

/// What volumes have a multiple of, in bytes.
const VOLUME_BLOCK_BYTES: u64 = 4096;

/// The size of a volume for whoever wants one of so many bytes: people say 500GB, which is no multiple of a block.
pub(crate) fn volume_bytes(wanted: u64) -> u64 {
    wanted.checked_next_multiple_of(VOLUME_BLOCK_BYTES).unwrap_or(wanted)
}

/// Creates a volume of `size` bytes, or as few more as make whole blocks.
pub(super) fn create_volume(node: &Node, name: &str, size: u64, dedup: &str) -> Result<reports::Dataset, Failed> {
    Ok(report(node, &node.store.create_volume(name, volume_bytes(size), policy(dedup)?, clock::now())?))
}

/// Makes a volume larger.
pub(super) fn resize(node: &Node, name: &str, size: u64) -> Result<reports::Dataset, Failed> {
    Ok(report(node, &node.store.resize_volume(name, volume_bytes(size), clock::now())?))
}

/// Makes a dataset that starts as `source` (`DATASET@MOMENT`) was.
pub(super) fn clone(node: &Node, source: &str, name: &str) -> Result<reports::Dataset, Failed> {
    let (source, moment) = super::snapshot::split(source)?;
    let moment = time::moment(&node.store, source, moment)?;
    Ok(report(node, &node.store.clone_at(source, &moment, name, clock::now())?))
}

/// Deletes a dataset with its snapshots. What is kept about it (plans, rules, what peers have of it) comes back with it, or goes when it is
/// gone for good.
pub(super) fn delete(node: &Node, name: &str) -> Result<Acknowledged, Failed> {
    let id = node.store.dataset_named(name)?.row.id;
    node.store.delete_dataset(name, clock::now())?;
    if node.config.retention.quarantine().is_zero() {
        crate::quarantine::forget(node, id)?;
    }
    let back = format!("dataset undelete {name}");
    Ok(quarantine::deleted(node, &format!("{name} and its snapshots"), &back))
}

/// That much of it is gone was meant.
pub(super) fn accept_loss(node: &Node, name: &str) -> Result<Acknowledged, Failed> {
    let row = node.store.dataset_named(name)?.row;
    match node.losses.accept(&row, clock::now()) {
        true => Ok(Acknowledged { message: format!("what {name} lost was meant: it is told no longer") }),
        false => Err(Failed::refused(format!("nothing is told of {name}"))),
    }
}

/// All of them.
pub(super) fn all(node: &Node) -> Result<Vec<reports::Dataset>, Failed> {
    Ok(node.store.datasets()?.iter().map(|info| report(node, info)).collect())
}

fn report(node: &Node, info: &DatasetInfo) -> reports::Dataset {
    let row = &info.row;
    let snapshots = node.store.snapshots(Some(row.id));
    let is_share = row.kind == DatasetKind::Share;
    let place = (!is_share && !node.iscsi_addresses.is_empty()).then(|| place_of(&node.config, row));
    reports::Dataset {
        name: row.name.clone(),
        id: row.id.to_string(),
        kind: if is_share { "share" } else { "volume" }.into(),
        dedup: match row.policy {
            Policy::Inline => "inline",
            Policy::Deferred => "deferred",
            Policy::Off => "off",
        }
        .into(),
        read_only: row.read_only,
        origin: row.origin.map(|store| store.to_string()),
        created: rfc3339(row.created),
        logical_bytes: if is_share { info.totals.logical_bytes } else { row.size },
        used_bytes: used_bytes(node, info),
        files: info.totals.files,
        directories: info.totals.directories,
        snapshots: snapshots.len(),
        newest_snapshot: snapshots.last().map(|row| row.name.clone()),
        target: place.as_ref().map(|(target, _)| target.clone()),
        lun: place.map(|(_, lun)| lun),
        export: node.nfs_address.filter(|_| is_share).map(|_| format!("/{}", row.name)),
        damage: info.damage.as_ref().map(|damage| damage.to_string()),
        window: node.store.reach(row.id).map(|reach| time::window(&reach)),
        deferred: time::deferred(node, row),
        frees_bytes: node.censuses.dataset(row.id),
    }
}

/// What a volume takes; `None` for shares, and where damage keeps it from being counted.
fn used_bytes(node: &Node, info: &DatasetInfo) -> Option<u64> {
    let counted = info.row.kind == DatasetKind::Volume && info.damage.is_none();
    counted.then(|| node.store.volume(info.row.id).and_then(|volume| volume.used_bytes()).ok()).flatten()
}

fn policy(text: &str) -> Result<Policy, Failed> {
    match text {
        "inline" => Ok(Policy::Inline),
        "deferred" => Ok(Policy::Deferred),
        "off" => Ok(Policy::Off),
        other => Err(Failed::refused(format!("dedup is inline, deferred or off, not {other:?}"))),
    }
}
