//! Replications of this box: under way, and the last ones that ended.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::id::SnapshotId;
use narrowboat_wan::link::{Cancel, LinkError, Progress, Stopped};
use narrowboat_wan::sync::{Replication, Report};

use crate::clock;
use crate::control::reports::{self, Tally};
use crate::node::Node;
use crate::replicas::proof_setting;
use crate::units::rfc3339;

/// Ended replications that are remembered.
const REMEMBERED: usize = 50;

/// All replications since the box started.
#[derive(Default)]
pub struct Transfers {
    list: Mutex<VecDeque<Transfer>>,
    changed: Condvar,
}

struct Transfer {
    report: reports::Replication,
    cancel: Cancel,
    rate: u64,
}

impl Transfers {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Transfer>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, the newest first.
    pub fn list(&self) -> Vec<reports::Replication> {
        self.lock().iter().rev().map(|transfer| transfer.report.clone()).collect()
    }

    /// Ends all that are under way.
    pub fn cancel_all(&self) {
        self.lock().iter().for_each(|transfer| transfer.cancel.cancel());
    }

    /// Begins to send a snapshot to a peer and returns its number. The same snapshot to the same peer is sent once: where it
    /// is under way already, that one's number is returned.
    pub fn begin(&self, node: &Arc<Node>, label: String, peer: String, what: Replication) -> Result<u64, LinkError> {
        let link = node.link.clone().ok_or(LinkError::Closed)?;
        link.find(&peer)?;
        let cancel = Cancel::new();
        let id = {
            let mut list = self.lock();
            let same = |transfer: &&Transfer| {
                transfer.report.state == "running" && transfer.report.snapshot == label && transfer.report.peer == peer
            };
            if let Some(running) = list.iter().find(same) {
                return Ok(running.report.id);
            }
            let id = list.back().map_or(1, |last| last.report.id + 1);
            let report = reports::Replication {
                id,
                snapshot: label,
                peer: peer.clone(),
                state: "running".into(),
                begun: rfc3339(clock::now()),
                logical_bytes: what.snapshot.logical_bytes,
                root: what.snapshot.root.map(|root| root.to_string()),
                ..reports::Replication::default()
            };
            list.push_back(Transfer { report, cancel: cancel.clone(), rate: 0 });
            if list.len() > REMEMBERED
                && let Some(old) = list.iter().position(|transfer| transfer.report.state != "running")
            {
                list.remove(old);
            }
            id
        };
        let owner = node.clone();
        let proof = (proof_setting(&peer, &what.snapshot.dataset), what.snapshot.snapshot);
        node.spawn(async move {
            let source = Arc::new(owner.store.pool().clone());
            let progress = |now: Progress| owner.transfers.note(id, &now.report, now.bits_per_second);
            let outcome = link.replicate(&peer, what, source, &cancel, progress).await;
            if outcome.as_ref().is_ok_and(|report| report.published) {
                tokio::task::block_in_place(|| remember(&owner, &proof.0, proof.1));
            }
            owner.transfers.end(id, outcome);
        });
        Ok(id)
    }

    fn note(&self, id: u64, report: &Report, rate: u64) {
        if let Some(transfer) = self.lock().iter_mut().find(|transfer| transfer.report.id == id) {
            fill(&mut transfer.report, report);
            transfer.rate = rate;
        }
        self.changed.notify_all();
    }

    fn end(&self, id: u64, outcome: Result<Report, Stopped>) {
        if let Some(transfer) = self.lock().iter_mut().find(|transfer| transfer.report.id == id) {
            match &outcome {
                Ok(report) => {
                    fill(&mut transfer.report, report);
                    transfer.report.state = "done".into();
                }
                Err(stopped) => {
                    fill(&mut transfer.report, &stopped.report);
                    transfer.report.state = "failed".into();
                    transfer.report.error = Some(stopped.error.to_string());
                }
            }
            transfer.rate = 0;
            let report = &transfer.report;
            tracing::info!(
                snapshot = report.snapshot,
                peer = report.peer,
                state = report.state,
                wire_bytes = report.wire_bytes_sent,
                "a replication ended"
            );
        }
        self.changed.notify_all();
    }

    /// Waits until a replication has moved on; returns what is known of it and its rate in bits per second.
    pub fn wait(&self, id: u64) -> Option<(reports::Replication, u64)> {
        let list = self.lock();
        let patience = std::time::Duration::from_millis(500);
        let (list, _) = self.changed.wait_timeout(list, patience).unwrap_or_else(PoisonError::into_inner);
        let transfer = list.iter().find(|transfer| transfer.report.id == id)?;
        Some((transfer.report.clone(), transfer.rate))
    }
}

/// Notes durably that a peer has proved to have a snapshot.
fn remember(node: &Node, setting: &str, snapshot: SnapshotId) {
    let value = snapshot.to_string();
    if let Err(error) = node.store.set_setting(setting, Some(value.as_bytes()), clock::now()) {
        tracing::warn!(%error, "what the peer has could not be noted");
    }
}

fn fill(into: &mut reports::Replication, from: &Report) {
    let tally =
        |tally: narrowboat_wan::sync::Tally| Tally { offered: tally.offered, known: tally.known, sent: tally.sent };
    into.chunks = tally(from.chunks);
    into.nodes = tally(from.nodes);
    into.shared = from.shared;
    into.payload_bytes = from.payload_bytes;
    into.raw_bytes = from.raw_bytes;
    into.wire_bytes_sent = from.wire_bytes_forward;
    into.wire_bytes_received = from.wire_bytes_back;
    into.seconds = from.seconds;
    into.peak_bits_per_second = from.peak_bits_per_second;
    into.root_there = from.root_there.map(|root| root.to_string());
    into.proved = from.published && from.root_here == from.root_there;
}
