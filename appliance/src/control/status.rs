//! What a box holds, what it saves, and how it is.

//! Most of it comes from the disk, or waits for whoever waits for the disk. So it is put together by a thread of its own, and whoever asks hears within
//! seconds what is known: where the disk does not answer, that it does not, and the figures that it gave last.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::store::DiskParts;

use super::{Failed, census, dataset, limit, peer, quarantine, reports, time};
use crate::caps::Way;
use crate::disk::watch::{Asked, Health};
use crate::disk::{Slowness, slowness};
use crate::disks;
use crate::node::Node;
use crate::page::Page;

/// With less room than a container takes, what comes next may be refused.
const ROOM_BYTES: u64 = 16 << 20;

/// So long it is waited for figures of now.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last status that was put together.
#[derive(Default)]
pub struct Latest {
    round: Mutex<Round>,
    ended: Condvar,
}

#[derive(Default)]
struct Round {
    /// Rounds that came to an end.
    ended: u64,
    under_way: bool,
    last: Option<(Instant, reports::Status)>,
    /// Why the last round came to nothing.
    failed: Option<Failed>,
}

impl Latest {
    fn lock(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: Result<reports::Status, Failed>) {
        let mut round = self.lock();
        match outcome {
            Ok(status) => (round.last, round.failed) = (Some((Instant::now(), status)), None),
            Err(failed) => round.failed = Some(failed),
        }
        round.under_way = false;
        round.ended += 1;
        self.ended.notify_all();
    }
}

/// Ends a round, also one that panics.
struct Ends(Arc<Node>, Option<Result<reports::Status, Failed>>);

impl Drop for Ends {
    fn drop(&mut self) {
        let broken = || Err(Failed::environment("a mistake of the program ended it"));
        self.0.latest.end(self.1.take().unwrap_or_else(broken));
    }
}

/// What a box holds, what it saves, and how it is, within [`PATIENCE`] or little more.
pub(crate) fn status(node: &Arc<Node>) -> reports::Status {
    let asked = Instant::now();
    let mut round = node.latest.lock();
    // One that is under way may have looked before whoever asks now did what he asks about.
    let wanted = round.ended + if round.under_way { 2 } else { 1 };
    while round.ended < wanted && asked.elapsed() < PATIENCE {
        if !round.under_way {
            round.under_way = begin(node);
        }
        let left = PATIENCE.saturating_sub(asked.elapsed());
        round = node.latest.ended.wait_timeout(round, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let is_new = round.ended >= wanted && round.failed.is_none();
    let (last, failed) = (round.last.clone(), round.failed.clone());
    drop(round);
    let age_seconds = last.as_ref().filter(|_| !is_new).map(|(at, _)| at.elapsed().as_secs_f64());
    let known = last.map_or_else(|| unmeasured(node), |(_, status)| status);
    reports::Status {
        disk: disk(node, &node.disk.health()),
        age_seconds: age_seconds.or((!is_new).then_some(0.0)),
        unmeasured: failed.filter(|_| !is_new).map(|failed| failed.message),
        stalled: node.stalled(),
        notices: node.notices.ways_told(),
        losses: node.losses.told(&node.store),
        certificate: node.page.as_ref().map(Page::certificate),
        ..known
    }
}

/// The same where all of it was measured now; nothing where the disk does not answer.
pub(crate) fn measured(node: &Arc<Node>) -> Option<reports::Status> {
    Some(status(node)).filter(|status| status.age_seconds.is_none())
}

/// Whether what the box is given can't be kept now: it has stopped writing, or the disk does not answer. Asks nothing of the disk.
pub(super) fn is_failing(node: &Node) -> bool {
    let waits = matches!(slowness(&node.disk.health()), Some(Slowness::Waits(..)));
    waits || node.store.stopped().is_some()
}

/// Begins a round, if there is a thread for it.
fn begin(node: &Arc<Node>) -> bool {
    let node = node.clone();
    let round = move || {
        let mut ends = Ends(node.clone(), None);
        let _tasks = node.enter();
        ends.1 = Some(measure(&node));
    };
    std::thread::Builder::new().name("status".into()).spawn(round).is_ok()
}

/// What is known without the disk.
fn unmeasured(node: &Node) -> reports::Status {
    reports::Status {
        name: node.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        store: node.store.id().to_string(),
        iscsi: node.iscsi_addresses.iter().map(ToString::to_string).collect(),
        nfs: node.nfs_address.map(|address| address.to_string()),
        wan: node.link.as_ref().and_then(|link| link.local_address().ok()).map(|address| address.to_string()),
        page: node.page.as_ref().map(|page| page.address().to_string()),
        certificate: node.page.as_ref().map(Page::certificate),
        found_as: node.announcer.name(),
        claimed: node.accounts.claimed(),
        ..reports::Status::default()
    }
}

/// How the disk does.
fn disk(node: &Node, health: &Health) -> reports::DiskHealth {
    let wait = |time: Duration, asked: &Asked| reports::DiskWait {
        operation: asked.operation.into(),
        file: asked.file.to_string(),
        seconds: time.as_secs_f64(),
    };
    let slowness = slowness(health);
    reports::DiskHealth {
        faults: health.faults,
        last_fault: health.last.as_ref().map(|fault| reports::DiskFault {
            operation: fault.asked.operation.into(),
            file: fault.asked.file.to_string(),
            error: fault.error.clone(),
            seconds_ago: fault.at.elapsed().as_secs_f64(),
        }),
        waits: match &slowness {
            Some(Slowness::Waits(waited, asked)) => Some(wait(*waited, asked)),
            _ => None,
        },
        slow: match &slowness {
            Some(Slowness::Slow { mean, operations, longest, asked }) => Some(reports::DiskPace {
                operations: *operations,
                mean_seconds: mean.as_secs_f64(),
                longest: wait(*longest, asked),
            }),
            _ => None,
        },
        stopped: node.store.stopped(),
    }
}

/// All of it, as the disk has it.
fn measure(node: &Node) -> Result<reports::Status, Failed> {
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
        page: node.page.as_ref().map(|page| page.address().to_string()),
        certificate: node.page.as_ref().map(Page::certificate),
        found_as: node.announcer.name(),
        claimed: node.accounts.claimed(),
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
        disk: reports::DiskHealth::default(),
        age_seconds: None,
        unmeasured: None,
        stalled: node.stalled(),
        unsplit: node.store.split_problem(),
        array: disks::below(&node.data),
        quarantine: quarantine::sum(node),
        freeable: census::last(node),
        recompressed: node.recompression.told(),
        reclaim: node.reclaims.last(),
        reclaiming: node.reclaims.progress(),
        unreclaimed: node.reclaims.failed(),
        owed_thaws: node.hooks.owed(),
        ahead_seconds: time::ahead_seconds(&node.store),
        notices: node.notices.ways_told(),
        losses: Vec::new(),
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
