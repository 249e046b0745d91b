//! What was deleted and can be had back, as the box looks after it: what is due goes, and, where the config says so, some of it before
//! its time when the disk is nearly full. Without that word it keeps its room, and people are told what giving it up would free.

use std::sync::{Mutex, PoisonError};

use narrowboat_storage::Error;
use narrowboat_storage::store::{Emptied, Quarantined};

use crate::clock;
use crate::ledger;
use crate::node::Node;
use crate::replicas;

/// Less free room than this part of the disk is nearly full.
const NEARLY_FULL: u64 = 50;

/// How the box gives up room that is kept for what was deleted.
#[derive(Debug, Default)]
pub struct Quarantine {
    /// The end of the run of reclaim behind which something was given up last: what that freed is known with the next one.
    given_up_behind: Mutex<Option<Option<i64>>>,
}

impl Quarantine {
    /// Removes what is due, and what has to give way. To be called every few seconds.
    pub fn look(&self, node: &Node) {
        match node.store.expire_quarantine(clock::now()) {
            Ok(emptied) => settle(node, &emptied, "its time in quarantine is over"),
            Err(error) => tracing::warn!(%error, "what has been in quarantine for its time could not be removed"),
        }
        if node.config.retention.empty_quarantine_when_full {
            self.give_way(node);
        }
    }

    fn give_way(&self, node: &Node) {
        let nearly_full = node.store.space().is_ok_and(|space| space.free_bytes < space.total_bytes / NEARLY_FULL);
        let behind = node.reclaims.last().map(|last| last.ended_nanoseconds);
        let mut given_up = self.given_up_behind.lock().unwrap_or_else(PoisonError::into_inner);
        if !nearly_full || *given_up == Some(behind) {
            return;
        }
        let mut all = node.store.quarantined();
        all.sort_by_key(|one| one.deleted.until);
        // Half of it each time, so that what was deleted last is there the longest, also where it was deleted at one time.
        all.truncate(all.len().div_ceil(2));
        if all.is_empty() {
            return;
        }
        match node.store.empty_quarantine(&|one| all.contains(one), clock::now()) {
            Ok(emptied) => {
                settle(node, &emptied, "the disk is nearly full");
                *given_up = Some(behind);
                node.reclaims.hurry();
            }
            Err(error) => tracing::warn!(%error, "the quarantine could not give way on a disk that is nearly full"),
        }
    }
}

/// Empties the quarantine, or the part of it that is called `what`.
pub fn empty(node: &Node, what: Option<&str>) -> Result<Emptied, Error> {
    let emptied = node.store.empty_quarantine(&|one| is_called(one, what), clock::now())?;
    settle(node, &emptied, "somebody asked for it");
    Ok(emptied)
}

/// True for what is called so, or for everything where nothing is named.
pub fn is_called(one: &Quarantined, what: Option<&str>) -> bool {
    what.is_none_or(|what| one.label() == what || (one.snapshot.is_none() && one.dataset.id.to_string() == what))
}

/// What the box knew of datasets that are gone goes, too.
fn settle(node: &Node, emptied: &Emptied, why: &str) {
    for row in &emptied.datasets {
        tracing::info!(dataset = row.name, why, "a deleted dataset is gone for good");
        // A replica that came back meanwhile keeps what is said of it.
        if node.store.dataset_row(row.id).is_none()
            && let Err(error) = forget(node, row.id)
        {
            tracing::warn!(dataset = row.name, %error, "what was set for a dataset that is gone could not be removed");
        }
    }
    if emptied.snapshots > 0 {
        tracing::info!(count = emptied.snapshots, why, "deleted snapshots are gone for good");
    }
}

/// Forgets what was set for a dataset that is gone.
pub fn forget(node: &Node, id: narrowboat_storage::id::DatasetId) -> Result<(), Error> {
    for peer in node.store.peers() {
        ledger::forget(&node.store, &peer.0, &id, clock::now())?;
    }
    node.plans.forget(id)?;
    node.retention.set(id, None)?;
    replicas::forget(&node.store, id)
}
