//! Replications of this box: under way, and the last ones that ended.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_wan::link::{Cancel, Link, LinkError, Progress, Stopped};
use narrowboat_wan::peer::PeerId;
use narrowboat_wan::shape::Class;
use narrowboat_wan::sync::{Replication, Report};

use crate::clock;
use crate::control::reports::{self, Tally};
use crate::ledger::{self, Proof};
use crate::node::Node;
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
    /// Which snapshot goes to which box, whatever they are called.
    what: (SnapshotId, PeerId),
    cancel: Cancel,
    /// A person asked for its end.
    unwanted: bool,
}

impl Transfer {
    /// Notes that it ended, and why where it failed.
    fn end(&mut self, error: Option<String>) {
        self.report.state = match (&error, self.unwanted) {
            (None, _) => "done",
            (Some(_), true) => "cancelled",
            (Some(_), false) => "failed",
        }
        .into();
        self.report.error = error;
        self.report.trouble = None;
        self.report.bits_per_second = 0;
        let report = &self.report;
        tracing::info!(
            snapshot = report.snapshot,
            peer = report.peer,
            state = report.state,
            wire_bytes = report.wire_bytes_sent,
            "a replication ended"
        );
    }
}

/// A replication under way. Dropped before it has ended, it failed: nobody would wait for it for ever.
struct Running<'a> {
    transfers: &'a Transfers,
    id: u64,
    ended: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let why = if std::thread::panicking() {
            "it broke off because of a mistake in this program, which the log of the box tells; begin it again, and it goes on \
             where it stopped"
        } else {
            "the box ended before it was done; begin it again, and it goes on where it stopped"
        };
        if let Some(transfer) = self.transfers.lock().iter_mut().find(|transfer| transfer.report.id == self.id) {
            transfer.end(Some(why.into()));
        }
        self.transfers.changed.notify_all();
    }
}

impl Transfers {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Transfer>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, the newest first.
    pub fn list(&self) -> Vec<reports::Replication> {
        self.lock().iter().rev().map(|transfer| transfer.report.clone()).collect()
    }

    /// Those that are under way to a peer.
    pub fn running(&self, peer: &str) -> Vec<reports::Replication> {
        let running = |transfer: &&Transfer| transfer.report.peer == peer && transfer.report.state == "running";
        self.lock().iter().filter(running).map(|transfer| transfer.report.clone()).collect()
    }

    /// One of them, as long as it is remembered.
    pub fn find(&self, id: u64) -> Option<reports::Replication> {
        self.lock().iter().find(|transfer| transfer.report.id == id).map(|transfer| transfer.report.clone())
    }

    /// Ends one that is under way, because a person asked for that. False where it is not.
    pub fn cancel(&self, id: u64) -> bool {
        let mut list = self.lock();
        let running = list.iter_mut().find(|transfer| transfer.report.id == id && transfer.report.state == "running");
        let Some(transfer) = running else { return false };
        transfer.unwanted = true;
        transfer.cancel.cancel();
        true
    }

    /// Ends all that are under way.
    pub fn cancel_all(&self) {
        self.lock().iter().for_each(|transfer| transfer.cancel.cancel());
    }

    /// Begins to send a snapshot to a peer and returns its number. The same snapshot to the same peer is sent once: where it
    /// is under way already, that one's number is returned.
    pub fn begin(
        &self,
        node: &Arc<Node>,
        label: String,
        peer: String,
        class: Class,
        what: Replication,
    ) -> Result<u64, LinkError> {
        let link = node.link.clone().ok_or(LinkError::Closed)?;
        let (key, store) = link.find(&peer).map(|record| (record.id, record.store))?;
        let report = reports::Replication {
            snapshot: label,
            peer: peer.clone(),
            class: class.to_string(),
            state: "running".into(),
            begun: rfc3339(clock::now()),
            logical_bytes: what.snapshot.logical_bytes,
            root: what.snapshot.root.map(|root| root.to_string()),
            ..reports::Replication::default()
        };
        let cancel = Cancel::new();
        let id = match self.enlist(report, (what.snapshot.snapshot, key), &cancel) {
            Ok(id) => id,
            Err(running) => return Ok(running),
        };
        self.measure(node, id, &peer, &what);
        // What is sent, and what differences are taken from, stays to the end of it, whatever is deleted meanwhile.
        let roots = what.snapshot.root.iter().chain(what.bases.iter().map(|(_, root)| root));
        let held: Vec<_> = roots.filter_map(|root| node.store.pool().hold(root).ok()).collect();
        let sending = Sending { owner: node.clone(), link, id, peer, key, store, dataset: what.snapshot.dataset };
        node.spawn(async move {
            let _held = held;
            sending.owner.transfers.follow(id, sending.carry_out(class, what, &cancel)).await;
        });
        Ok(id)
    }

    /// Gives a new one its number; the number of the one that does the same, where that is under way.
    fn enlist(
        &self,
        report: reports::Replication,
        what: (SnapshotId, PeerId),
        cancel: &Cancel,
    ) -> std::result::Result<u64, u64> {
        let mut list = self.lock();
        let same = |transfer: &&Transfer| transfer.report.state == "running" && transfer.what == what;
        if let Some(running) = list.iter().find(same) {
            return Err(running.report.id);
        }
        let id = list.back().map_or(1, |last| last.report.id + 1);
        let report = reports::Replication { id, ..report };
        list.push_back(Transfer { report, what, cancel: cancel.clone(), unwanted: false });
        if list.len() > REMEMBERED
            && let Some(old) = list.iter().position(|transfer| transfer.report.state != "running")
        {
            list.remove(old);
        }
        Ok(id)
    }

    /// Computes beside it how much there is to be sent.
    fn measure(&self, node: &Arc<Node>, id: u64, peer: &str, what: &Replication) {
        let (dataset, snapshot) = (what.snapshot.dataset, what.snapshot.snapshot);
        let there = ledger::proof(&node.store, peer, &dataset).map(|proof| proof.snapshot);
        let owner = node.clone();
        node.spawn(async move {
            let known = |id: &SnapshotId| owner.store.snapshot(*id).is_ok();
            let measure = || owner.differences.between(&owner, there.filter(known), snapshot);
            match tokio::task::block_in_place(measure) {
                Ok(bytes) => owner.transfers.change(id, |report| report.differing_bytes = Some(bytes)),
                Err(error) => tracing::warn!(%error, "how much there is to be sent could not be computed"),
            }
        });
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut reports::Replication)) {
        if let Some(transfer) = self.lock().iter_mut().find(|transfer| transfer.report.id == id) {
            change(&mut transfer.report);
        }
        self.changed.notify_all();
    }

    /// Carries a replication to its end and notes how it ended, also where it panics or is dropped before that.
    async fn follow(&self, id: u64, work: impl Future<Output = Result<Report, Stopped>>) {
        let mut running = Running { transfers: self, id, ended: false };
        let outcome = work.await;
        running.ended = true;
        self.end(id, outcome);
    }

    fn note(&self, id: u64, now: &Progress) {
        self.change(id, |into| {
            fill(into, &now.report);
            into.bits_per_second = now.bits_per_second;
            into.trouble = now.trouble.clone();
        });
    }

    fn end(&self, id: u64, outcome: Result<Report, Stopped>) {
        if let Some(transfer) = self.lock().iter_mut().find(|transfer| transfer.report.id == id) {
            match &outcome {
                Ok(report) => {
                    fill(&mut transfer.report, report);
                    transfer.end(None);
                }
                Err(stopped) => {
                    fill(&mut transfer.report, &stopped.report);
                    transfer.end(Some(stopped.error.to_string()));
                }
            }
        }
        self.changed.notify_all();
    }

    /// Waits until a replication has moved on; returns what is known of it.
    pub fn wait(&self, id: u64) -> Option<reports::Replication> {
        let list = self.lock();
        let patience = std::time::Duration::from_millis(500);
        let (list, _) = self.changed.wait_timeout(list, patience).unwrap_or_else(PoisonError::into_inner);
        list.iter().find(|transfer| transfer.report.id == id).map(|transfer| transfer.report.clone())
    }
}

/// One replication as its task carries it out: between link and ledger.
struct Sending {
    owner: Arc<Node>,
    link: Link,
    id: u64,
    peer: String,
    /// Whose name that is now.
    key: PeerId,
    store: StoreId,
    dataset: DatasetId,
}

impl Sending {
    /// Sends, and keeps in the ledger what the peer has then.
    async fn carry_out(&self, class: Class, what: Replication, cancel: &Cancel) -> Result<Report, Stopped> {
        let (store, peer) = (&self.owner.store, self.peer.as_str());
        let proof = Proof { snapshot: what.snapshot.snapshot, mark: what.mark.clone() };
        let taken = self
            .note("the ledger could not be changed", || ledger::take_mark(store, peer, &self.dataset, clock::now()));
        // Without it everything is asked for, which is as right.
        let shared = taken.flatten();
        let what = Replication { shared: shared.clone(), ..what };
        let progress = |now: Progress| self.owner.transfers.note(self.id, &now);
        let source = Arc::new(store.pool().clone());
        let outcome = self.link.replicate_as(class, peer, what, source, cancel, progress).await;
        if outcome.as_ref().is_err_and(|stopped| stopped.report.payload_bytes == 0)
            && let Some(taken) = &shared
        {
            // Nothing left, so nothing can have arrived.
            self.note("the ledger could not be changed", || {
                ledger::give_back(store, peer, &self.dataset, taken, clock::now())
            });
        }
        if outcome.as_ref().is_ok_and(|report| report.published) {
            self.note("what the peer has could not be noted", || {
                ledger::advance(store, peer, &self.dataset, &proof, shared.as_ref(), clock::now())
            });
        }
        self.forget_strangers();
        outcome
    }

    /// Who removes a peer, or a dataset for good, first does that and then forgets what was noted; what is noted still later is
    /// forgotten here. Another box may get the name one day, and the same one a new store, by being paired anew. A dataset that
    /// can be had back keeps what is said of it.
    fn forget_strangers(&self) {
        let store = &self.owner.store;
        let is_peer =
            self.link.find(&self.peer).is_ok_and(|record| record.id == self.key && record.store == self.store);
        self.note("the ledger could not be changed", || {
            ledger::forget_late(store, &self.peer, is_peer, &self.dataset, clock::now())
        });
    }

    /// Changes the ledger, which may wait for the disk. Where that fails the log says `what`.
    fn note<T>(&self, what: &str, change: impl FnOnce() -> narrowboat_storage::error::Result<T>) -> Option<T> {
        tokio::task::block_in_place(change).inspect_err(|error| tracing::warn!(peer = self.peer, %error, "{what}")).ok()
    }
}

fn fill(into: &mut reports::Replication, from: &Report) {
    let tally =
        |tally: narrowboat_wan::sync::Tally| Tally { offered: tally.offered, known: tally.known, sent: tally.sent };
    into.chunks = tally(from.chunks);
    into.nodes = tally(from.nodes);
    into.shared = from.shared;
    into.payload_bytes = from.payload_bytes;
    into.stored_bytes = from.stored_bytes;
    into.raw_bytes = from.raw_bytes;
    into.differences = from.based;
    into.levels = from.efforts.clone();
    let chosen = from.choices;
    into.choices = reports::Choices {
        compression: chosen.compression.to_string(),
        delta: chosen.delta,
        resemblance: chosen.resemblance,
        resembling: chosen.resembling,
        bundles: chosen.bundles,
        unasked: chosen.unasked,
        base: from.base.map(|base| base.to_string()),
        expected_bits_per_second: chosen.rate_expected.map(|bytes| bytes.saturating_mul(8)),
        harder: chosen.harder,
        easier: chosen.easier,
        incompressible_bytes: chosen.incompressible_bytes,
    };
    into.wire_bytes_sent = from.wire_bytes_forward;
    into.wire_bytes_received = from.wire_bytes_back;
    into.seconds = from.seconds;
    into.peak_bits_per_second = from.peak_bits_per_second;
    into.root_there = from.root_there.map(|root| root.to_string());
    into.proved = from.published && from.root_here == from.root_there;
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_wan::link::Identity;

    fn running() -> Transfers {
        let transfers = Transfers::default();
        let report = reports::Replication {
            id: 1,
            state: "running".into(),
            bits_per_second: 7,
            ..reports::Replication::default()
        };
        let what = (SnapshotId([1; 16]), Identity::from_seed([1; 32]).id());
        transfers.lock().push_back(Transfer { report, what, cancel: Cancel::new(), unwanted: false });
        transfers
    }

    #[tokio::test]
    async fn a_replication_that_panics_has_failed() {
        let transfers = Arc::new(running());
        let followed = transfers.clone();
        let task = tokio::spawn(async move { followed.follow(1, async { panic!("told to") }).await });
        assert!(task.await.expect_err("a panic").is_panic());
        let report = transfers.wait(1).expect("remembered");
        assert_eq!((report.state.as_str(), report.bits_per_second), ("failed", 0));
        assert!(report.error.expect("a sentence").contains("a mistake in this program"));
    }

    #[test]
    fn a_replication_that_is_dropped_has_failed() {
        let transfers = running();
        let mut work = Box::pin(transfers.follow(1, std::future::pending()));
        let polled = work.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        assert!(polled.is_pending());
        drop(work);
        assert_eq!(transfers.list()[0].state, "failed");
        assert!(transfers.list()[0].error.as_ref().is_some_and(|error| error.contains("the box ended")));
    }

    #[tokio::test]
    async fn one_that_ends_is_done() {
        let transfers = running();
        transfers.follow(1, async { Ok(Report::default()) }).await;
        assert_eq!((transfers.list()[0].state.as_str(), &transfers.list()[0].error), ("done", &None));
    }
}
