//! Snapshots that plans made go again once nobody needs them, here and of replicas.

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetRow, DeletedBy, SnapshotRow};
use narrowboat_storage::id::SnapshotId;
use narrowboat_wan::link::Link;

use super::KEPT_HERE;
use super::decide::{is_auto, spent};
use crate::clock;
use crate::ledger;
use crate::node::Node;

/// Deletes them of one dataset: those of a plan here as soon as they are spent, those of a replica beyond the newest [`KEPT_HERE`].
/// Where the dataset has rules of retention, these decide.
pub(super) fn tidy(node: &Node, link: &Link, row: &DatasetRow) {
    if node.retention.find(row.id).is_some() {
        return;
    }
    let snapshots = node.store.snapshots(Some(row.id));
    let kept = if row.origin.is_none() { 0 } else { KEPT_HERE };
    if snapshots.iter().filter(|snapshot| is_auto(&snapshot.name)).count() <= kept {
        return;
    }
    let peers = link.peers();
    let names = || peers.iter().map(|peer| peer.record.name.as_str());
    let proofs = names().filter_map(|peer| ledger::proof(&node.store, peer, &row.id));
    let proved: Vec<SnapshotId> = proofs.map(|proof| proof.snapshot).collect();
    let label = format!("{}@", row.name);
    let running = names().flat_map(|peer| node.transfers.running(peer));
    let busy: Vec<String> = running.filter_map(|sent| Some(sent.snapshot.strip_prefix(&label)?.to_owned())).collect();
    let is_replica = row.origin.is_some();
    delete(&node.store, is_replica, spent(&snapshots, kept, &proved, &busy));
}

/// What a plan here took only to send it, and sent, goes at once. What a replica has no more use for can be had back for a while: it is
/// its maker who decides how fast it comes to that.
fn delete<'a>(store: &Store, is_replica: bool, snapshots: impl Iterator<Item = &'a SnapshotRow>) {
    for snapshot in snapshots {
        // Somebody may have deleted or held it meanwhile; otherwise it is tried again with the next.
        let deleted = match is_replica {
            true => store.delete_snapshot_by_id(snapshot.id, DeletedBy::Plan, clock::now()),
            false => store.discard_snapshot(snapshot.id, clock::now()),
        };
        if let Err(error) = deleted {
            tracing::debug!(snapshot = snapshot.name, %error, "a snapshot that nobody needs stays");
        }
    }
}
