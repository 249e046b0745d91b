//! What a box holds, what it saves, and how it is.

use narrowboat_storage::store::DiskParts;

use super::{Failed, census, dataset, limit, peer, quarantine, reports, time};
use crate::caps::Way;
use crate::disks;
use crate::node::Node;

/// With less room than a container takes, what comes next may be refused.
const ROOM_BYTES: u64 = 16 << 20;

/// All of it.
pub(super) fn status(node: &Node) -> Result<reports::Status, Failed> {
    let stats = node.store.stats()?;
    let datasets = dataset::all(node)?;
    let logical_bytes = total(datasets.iter().map(|dataset| dataset.logical_bytes));
    let sealed = node.store.snapshots(None).into_iter().filter_map(|row| row.sealed);
    let protected_bytes = total(sealed.map(|sealed| sealed.logical_bytes));
    let unique = stats.pool.raw_bytes;
    Ok(reports::Status {
        name: node.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        store: node.store.id().to_string(),
        realm: node.store.realm().id().iter().map(|byte| format!("{byte:02x}")).collect(),
        peer_id: node.link.as_ref().map(|link| link.id().to_string()),
        iscsi: node.iscsi_addresses.iter().map(ToString::to_string).collect(),
        nfs: node.nfs_address.map(|address| address.to_string()),
        wan: node.link.as_ref().and_then(|link| link.local_address().ok()).map(|address| address.to_string()),
        cap: node.link.as_ref().map(|_| limit::whole(node, Way::Sent)),
        receive_cap: node.link.as_ref().and_then(|_| limit::received(node, None)),
        logical_bytes,
        protected_bytes,
        unique_bytes: unique,
        stored_bytes: stats.pool.stored_bytes,
        folder_bytes: stats.parts.total_bytes(),
        parts: parts(&stats.parts),
        dedup_ratio: if unique == 0 { 1.0 } else { protected_bytes.max(logical_bytes) as f64 / unique as f64 },
        objects: stats.pool.objects,
        containers: stats.pool.containers,
        index_bytes: stats.pool.index_bytes,
        journal_bytes: stats.journal_bytes,
        history_bytes: stats.history_bytes,
        overlay_bytes: stats.overlay_bytes,
        disk_bytes: stats.disk_bytes,
        disk_free_bytes: stats.disk_free_bytes,
        full: stats.disk_free_bytes < ROOM_BYTES,
        stalled: node.stalled(),
        unsplit: node.store.split_problem(),
        array: disks::below(&node.data),
        quarantine: quarantine::sum(node),
        freeable: census::last(node),
        reclaim: node.reclaims.last(),
        reclaiming: node.reclaims.progress(),
        unreclaimed: node.reclaims.failed(),
        owed_thaws: node.hooks.owed(),
        ahead_seconds: time::ahead_seconds(&node.store),
        datasets,
        peers: peer::all(node),
        replications: node.transfers.list(),
        damaged_objects: node.store.pool().wounded(),
        plans: node.link.as_ref().map_or_else(Vec::new, |link| node.plans.reports(node, link)),
    })
}

fn parts(parts: &DiskParts) -> reports::DiskParts {
    reports::DiskParts {
        objects_bytes: parts.objects_bytes,
        directories_bytes: parts.directories_bytes,
        aside_bytes: parts.aside_bytes,
        index_bytes: parts.index_bytes,
        catalogue_bytes: parts.catalogue_bytes,
        journal_bytes: parts.journal_bytes,
        history_bytes: parts.history_bytes,
        other_bytes: parts.other_bytes,
    }
}

/// The sum of sizes some of which peers have told us: no more than the largest number, whatever they say.
fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_peers_claim_does_not_overflow() {
        assert_eq!(super::total([1, 2, 3].into_iter()), 6);
        assert_eq!(super::total([u64::MAX, 1, u64::MAX].into_iter()), u64::MAX);
    }
}
