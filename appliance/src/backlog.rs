//! What a peer lacks: the newest snapshots of every dataset that is sent to it, and what it takes at most to send them.
//!
//! An upper bound, before anything is asked of the peer: every byte that differs from what it has proved to have, as if it knew none
//! of it from elsewhere, compressed as well as this store's data is on average, and with headers and repetitions of a fair line.
//!
//! Where plans serve the peer, it lacks what they promise and what is on its way; what somebody once sent by hand is his own affair. Where
//! none does, people and their scripts send, and every dataset counts that was ever sent to it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use narrowboat_storage::Error;
use narrowboat_storage::catalogue::{DatasetRow, SnapshotRow};
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::peer::PeerRecord;

use crate::clock;
use crate::control::reports::Replication;
use crate::ledger;
use crate::node::Node;

/// Wire bytes for a thousand of payload: headers (1.045 at the least), acknowledgements, names, and one packet in a hundred sent again.
const WIRE_PER_MILLE: u128 = 1070;
/// Differences that are remembered.
const REMEMBERED: usize = 256;

/// What a peer lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Datasets of which it lacks the newest snapshot.
    pub datasets: Vec<String>,
    /// Bytes on the wire that this takes at most.
    pub left_bytes: u64,
    /// How many replications to it are under way. What it lacks beyond them is not sent by itself.
    pub under_way: usize,
    /// The first moment of theirs that is held fast here and is not there yet.
    pub oldest: Option<Timestamp>,
}

/// Differences between snapshots, which never change, as far as they were computed.
#[derive(Default)]
pub struct Differences(Mutex<BTreeMap<(Option<SnapshotId>, SnapshotId), u64>>);

impl Differences {
    /// Bytes of contents by which a snapshot differs from another, or all of them.
    pub fn between(&self, node: &Node, from: Option<SnapshotId>, to: SnapshotId) -> Result<u64, Error> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = known().get(&(from, to)) {
            return Ok(*bytes);
        }
        // Without the lock: it may take its time.
        let bytes = node.store.differing_bytes(from, to)?;
        let mut known = known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((from, to), bytes);
        Ok(bytes)
    }
}

/// What a peer lacks of the datasets that were ever sent to it, or are on their way.
pub fn backlog(node: &Node, record: &PeerRecord) -> Result<Backlog, Error> {
    let peer = record.name.as_str();
    let rows = node.store.dataset_rows();
    let promised = |row: &DatasetRow| node.plans.find(row.id, record).is_some_and(|plan| !plan.paused);
    let by_plan = rows.iter().any(promised);
    let running: Vec<Replication> = node.transfers.running(peer);
    let mut backlog = Backlog { under_way: running.len(), ..Backlog::default() };
    for row in rows {
        let label = format!("{}@", row.name);
        let under_way = running.iter().find(|transfer| transfer.snapshot.starts_with(&label));
        if by_plan && under_way.is_none() && !promised(&row) {
            continue;
        }
        let has = ledger::proof(&node.store, peer, &row.id).map(|proof| proof.snapshot);
        let snapshots = node.store.snapshots(Some(row.id));
        // What is not sealed yet will be in a moment.
        let Some(newest) = snapshots.iter().rev().find(|snapshot| snapshot.sealed.is_some()) else { continue };
        let there = has.and_then(|has| snapshots.iter().find(|snapshot| snapshot.id == has));
        if there.is_none() && under_way.is_none() || there.is_some_and(|there| there.id == newest.id) {
            continue;
        }
        let raw = node.differences.between(node, there.map(|there| there.id), newest.id)?;
        let sent = under_way.map_or(0, |transfer| transfer.wire_bytes_sent);
        backlog.left_bytes = backlog.left_bytes.saturating_add(wire_bytes(node, raw)?.saturating_sub(sent));
        let point = point(&snapshots, there).map(|time| on_the_wall(node, time));
        backlog.oldest = [backlog.oldest, point].into_iter().flatten().min();
        backlog.datasets.push(row.name);
    }
    Ok(backlog)
}

/// The first moment that is not at the peer yet.
fn point(snapshots: &[SnapshotRow], there: Option<&SnapshotRow>) -> Option<Timestamp> {
    let behind = snapshots.iter().filter(|snapshot| there.is_none_or(|there| snapshot.time > there.time));
    behind.map(|snapshot| snapshot.time).min()
}

/// When a moment was, by the clock as it is now. The store's time goes on ahead of a clock that was set back; what was a minute ago then
/// still was a minute ago, and not in a year.
pub fn on_the_wall(node: &Node, time: Timestamp) -> Timestamp {
    let passed = node.store.passed_nanoseconds(time, node.store.time().max(clock::now()));
    time.min(Timestamp(clock::wall().0.saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX))))
}

/// What bytes of contents are on the wire.
fn wire_bytes(node: &Node, raw: u64) -> Result<u64, Error> {
    let pool = node.store.pool().stats()?;
    let (stored, whole) = (u128::from(pool.stored_bytes.min(pool.raw_bytes)), u128::from(pool.raw_bytes));
    let payload = (u128::from(raw) * stored.max(1)).checked_div(whole).unwrap_or(u128::from(raw));
    Ok(u64::try_from(payload * WIRE_PER_MILLE / 1000).unwrap_or(u64::MAX).max(1))
}
