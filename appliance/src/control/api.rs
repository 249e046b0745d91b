//! What each request does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use narrowboat_storage::catalogue::{DatasetKind, Policy, SnapshotRow};
use narrowboat_storage::dataset::{BlockDevice, FileTree};
use narrowboat_storage::store::{DatasetInfo, Moment};
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::link::{Link, PeerStatus};
use narrowboat_wan::shape::{Class, Rate};
use serde::Serialize;
use serde_json::Value;

use super::reports::{self, Acknowledged};
use super::{Failed, Request, limit, lock, peer, plan, retention, scrub, time};
use crate::backlog::on_the_wall;
use crate::caps::{Change, Way};
use crate::clock;
use crate::ingest::volumes::place_of;
use crate::jobs::image::restore_image;
use crate::jobs::restore::restore;
use crate::jobs::{Meter, Progress};
use crate::ledger;
use crate::node::Node;
use crate::plans::is_auto;
use crate::refusals::{Record, Refused};
use crate::replicas::{self, refuse_return, replication};
use crate::units::rfc3339;

/// With less room than a container takes, what comes next may be refused.
const ROOM_BYTES: u64 = 16 << 20;

/// Does what was asked. `gone` is set once nobody waits for the answer any more: long work that changes nothing ends then.
pub fn handle(
    node: &Arc<Node>,
    request: Request,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Value, Failed> {
    match request {
        Request::Status => done(status(node)?),
        Request::ShareCreate { name, dedup } => {
            done(dataset(node, &node.store.create_share(&name, policy(&dedup)?, clock::now())?))
        }
        Request::VolumeCreate { name, size, dedup } => {
            done(dataset(node, &node.store.create_volume(&name, size, policy(&dedup)?, clock::now())?))
        }
        Request::VolumeResize { name, size } => {
            done(dataset(node, &node.store.resize_volume(&name, size, clock::now())?))
        }
        Request::DatasetList => done(datasets(node)?),
        Request::DatasetDelete { name } => {
            let id = node.store.dataset_named(&name)?.row.id;
            node.store.delete_dataset(&name, clock::now())?;
            for peer in node.store.peers() {
                ledger::forget(&node.store, &peer.0, &id, clock::now())?;
            }
            node.plans.forget(id)?;
            node.retention.set(id, None)?;
            replicas::forget(&node.store, id)?;
            done(Acknowledged { message: format!("deleted {name} and its snapshots") })
        }
        Request::SnapshotCreate { dataset, name } => done(snapshot_create(node, &dataset, name)?),
        Request::SnapshotList { dataset } => done(snapshots(node, dataset.as_deref())?),
        Request::SnapshotDelete { snapshot } => {
            let (dataset, name) = split(&snapshot)?;
            node.store.delete_snapshot(dataset, name, clock::now())?;
            done(Acknowledged { message: format!("deleted {snapshot}") })
        }
        Request::SnapshotHold { snapshot, held } => {
            let (dataset, name) = split(&snapshot)?;
            let row = node.store.hold_snapshot(dataset, name, held, clock::now())?;
            done(snapshot_report(node, dataset, &row))
        }
        Request::Window { dataset, seconds, bytes, off } => {
            done(time::set_window(&node.store, &dataset, seconds, bytes, off)?)
        }
        Request::Mark { datasets, name, quiet, hooks } => done(time::mark(node, &datasets, &name, quiet, &hooks)?),
        Request::Thaw { hook, forget: true } => {
            node.hooks.forget(&hook)?;
            done(Acknowledged { message: format!("no thaw of {hook} is owed any more") })
        }
        Request::Thaw { hook, forget: false } => done(node.hooks.thaw(&hook)?),
        Request::Timeline { dataset } => done(time::timeline(&node.store, &dataset)?),
        Request::Rewind { dataset, to, force } => done(time::rewind(node, &dataset, &to, force)?),
        Request::Clone { snapshot, name } => {
            let (source, moment) = split(&snapshot)?;
            let moment = time::moment(&node.store, source, moment)?;
            done(dataset(node, &node.store.clone_at(source, &moment, &name, clock::now())?))
        }
        Request::Diff { from, to } => done(diff(node, from, to)?),
        Request::Restore { source, dest } => done(restore_files(node, &source, Path::new(&dest), gone, tell)?),
        Request::PeerInvite { name } => done(invite(node, name)?),
        Request::PeerJoin { code, address } => done(join(node, &code, &address)?),
        Request::PeerList => done(peers(node)),
        Request::PeerRefusals => {
            done(node.refusals.all().iter().flat_map(|record| refusals(record).into_iter().rev()).collect::<Vec<_>>())
        }
        Request::PeerAddresses { peer, change } => done(peer::addresses(node, &peer, change.as_ref())?),
        Request::PeerRemove { name } => {
            let record = link(node)?.remove(&name)?;
            node.store.set_peer(record.name.as_str(), None, clock::now())?;
            node.caps.change(Way::Sent, Some(&record), Change::Forget)?;
            node.caps.change(Way::Received, Some(&record), Change::Forget)?;
            // Another box may get this name one day, and has nothing of it.
            for row in node.store.dataset_rows() {
                node.plans.set(row.id, &record, None)?;
                ledger::forget(&node.store, record.name.as_str(), &row.id, clock::now())?;
            }
            done(Acknowledged { message: format!("{} is no peer any more", record.name) })
        }
        Request::Replicate { source, peer, wait, class } => {
            done(replicate(node, &source, &peer, class.as_deref(), wait, gone, tell)?)
        }
        Request::ReplicationList => done(node.transfers.list()),
        Request::ReplicationShow { id } => done(node.transfers.find(id).ok_or_else(|| {
            Failed::refused(format!("number {id} is not known: `narrowboat replication list` shows those that are"))
        })?),
        Request::ReplicationCancel { id } => done(plan::cancel(node, id)?),
        Request::PlanSet { dataset, peer, seconds, follow, hours, class } => {
            done(plan::set(node, &dataset, &peer, &plan::Asked { seconds, follow, hours, class })?)
        }
        Request::PlanList => done(plan::list(node)?),
        Request::PlanPause { dataset, peer, paused } => done(plan::pause(node, &dataset, peer.as_deref(), paused)?),
        Request::PlanRemove { dataset, peer } => done(plan::remove(node, &dataset, peer.as_deref())?),
        Request::SnapshotLock { snapshot, seconds } => {
            let (dataset, name) = split(&snapshot)?;
            done(lock::snapshot(node, dataset, name, seconds)?)
        }
        Request::LockSet { dataset, seconds } => done(lock::set(node, dataset.as_deref(), seconds)?),
        Request::LockList => done(lock::list(node)),
        Request::RetentionSet { dataset, rules, dry_run } => done(retention::set(node, &dataset, &rules, dry_run)?),
        Request::RetentionShow { dataset } => done(retention::show(node, &dataset)?),
        Request::RetentionList => done(retention::list(node)),
        Request::RetentionRemove { dataset } => done(retention::remove(node, &dataset)?),
        Request::Limit { peer, rate, seconds, calendar, resume, as_configured, receive } => {
            let way = if receive { Way::Received } else { Way::Sent };
            let asked = limit::Asked { way, rate, seconds, calendar, resume, as_configured };
            done(limit::limit(node, peer, &asked)?)
        }
        Request::LimitExplain { peer } => done(limit::explain(node, peer.as_deref())?),
        Request::Probe { peer } => done(probe(node, &peer)?),
        Request::ScrubShow => done(scrub::show(node)?),
        Request::ScrubStart => done(scrub::start(node)?),
        Request::ScrubPause { paused } => done(scrub::pause(node, paused)?),
        Request::Check { deep } => done(check(&node.store, deep, gone, tell)?),
        Request::Reclaim { dry_run } => {
            let stop = || node.is_stopping() || gone.load(Ordering::Relaxed);
            done(node.reclaims.run(dry_run, None, &stop, tell)?)
        }
        Request::Stop => {
            node.ask_to_stop();
            done(Acknowledged { message: "the box is stopping".into() })
        }
    }
}

fn done(report: impl Serialize) -> Result<Value, Failed> {
    serde_json::to_value(report).map_err(|error| Failed { kind: "environment".into(), message: error.to_string() })
}

pub(super) fn link(node: &Node) -> Result<&Link, Failed> {
    let off =
        || Failed::refused("replication is off on this box: set wan.listen in its config file and start it again");
    node.link.as_ref().ok_or_else(off)
}

/// `DATASET@NAME` in its two parts.
fn split(snapshot: &str) -> Result<(&str, &str), Failed> {
    let wrong = || Failed::refused(format!("{snapshot:?} is no snapshot: write it as DATASET@NAME"));
    snapshot.split_once('@').ok_or_else(wrong)
}

fn policy(text: &str) -> Result<Policy, Failed> {
    match text {
        "inline" => Ok(Policy::Inline),
        "deferred" => Ok(Policy::Deferred),
        "off" => Ok(Policy::Off),
        other => Err(Failed::refused(format!("dedup is inline, deferred or off, not {other:?}"))),
    }
}

fn dataset(node: &Node, info: &DatasetInfo) -> reports::Dataset {
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
    }
}

/// What a volume takes; `None` for shares, and where damage keeps it from being counted.
fn used_bytes(node: &Node, info: &DatasetInfo) -> Option<u64> {
    let counted = info.row.kind == DatasetKind::Volume && info.damage.is_none();
    counted.then(|| node.store.volume(info.row.id).and_then(|volume| volume.used_bytes()).ok()).flatten()
}

fn datasets(node: &Node) -> Result<Vec<reports::Dataset>, Failed> {
    Ok(node.store.datasets()?.iter().map(|info| dataset(node, info)).collect())
}

/// The sum of sizes some of which peers have told us: no more than the largest number, whatever they say.
fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

fn status(node: &Node) -> Result<reports::Status, Failed> {
    let stats = node.store.stats()?;
    let datasets = datasets(node)?;
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
        reclaim: node.reclaims.last(),
        reclaiming: node.reclaims.progress(),
        unreclaimed: node.reclaims.failed(),
        owed_thaws: node.hooks.owed(),
        ahead_seconds: time::ahead_seconds(&node.store),
        datasets,
        peers: peers(node),
        replications: node.transfers.list(),
        damaged_objects: node.store.pool().wounded(),
        plans: node.link.as_ref().map_or_else(Vec::new, |link| node.plans.reports(node, link)),
    })
}

fn snapshot_report(node: &Node, dataset: &str, row: &SnapshotRow) -> reports::Snapshot {
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
    }
}

fn snapshot_create(node: &Node, dataset: &str, name: Option<String>) -> Result<reports::Snapshot, Failed> {
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
    Ok(snapshot_report(node, dataset, &row))
}

fn snapshots(node: &Node, dataset: Option<&str>) -> Result<Vec<reports::Snapshot>, Failed> {
    let wanted = dataset.map(|name| node.store.dataset_named(name)).transpose()?.map(|info| info.row.id);
    let rows = node.store.dataset_rows();
    let name_of = |row: &SnapshotRow| rows.iter().find(|dataset| dataset.id == row.dataset);
    let snapshots = node.store.snapshots(wanted);
    Ok(snapshots.iter().filter_map(|row| Some(snapshot_report(node, &name_of(row)?.name, row))).collect())
}

fn diff(node: &Node, from: String, to: String) -> Result<reports::Diff, Failed> {
    use narrowboat_storage::compare::What;
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

/// What is to be restored.
enum Origin {
    /// A path in a tree, and the bytes below, where they are known.
    Files { tree: Arc<dyn FileTree>, path: String, bytes: Option<u64> },
    /// A volume.
    Volume(Arc<dyn BlockDevice>),
}

/// A dataset that is there for as long as something is read from it.
struct Temporary<'a> {
    store: &'a narrowboat_storage::Store,
    name: String,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.delete_dataset(&self.name, clock::now()) {
            tracing::warn!(dataset = self.name, %error, "what a restore was read from could not be removed");
        }
    }
}

/// Finds what `DATASET[@MOMENT][:PATH]` stands for.
fn find_origin<'a>(
    store: &'a narrowboat_storage::Store,
    source: &str,
) -> Result<(Origin, Option<Temporary<'a>>), Failed> {
    let name_end = source.find(['@', ':']).unwrap_or(source.len());
    let (dataset, rest) = source.split_at(name_end);
    let info = store.dataset_named(dataset)?;
    let (moment, path) = match rest.strip_prefix('@') {
        Some(rest) => time::moment_and_path(store, dataset, rest).map(|(moment, path)| (Some(moment), path))?,
        None => (None, rest.trim_start_matches(':')),
    };
    if info.row.kind == DatasetKind::Volume && !path.is_empty() {
        return Err(Failed::refused(format!("{dataset} is a volume: it is restored whole, without a path")));
    }
    match moment {
        Some(Moment::Snapshot(name)) => Ok((of_snapshot(store, &info, &name, path)?, None)),
        Some(moment) => {
            let name = format!("restore-{:016x}", rand::random::<u64>());
            let then = store.clone_at(dataset, &moment, &name, clock::now())?;
            let temporary = Temporary { store, name };
            Ok((of_present(store, &then, path)?, Some(temporary)))
        }
        None => Ok((of_present(store, &info, path)?, None)),
    }
}

fn of_present(store: &narrowboat_storage::Store, info: &DatasetInfo, path: &str) -> Result<Origin, Failed> {
    Ok(match info.row.kind {
        DatasetKind::Volume => Origin::Volume(store.volume(info.row.id)?),
        DatasetKind::Share => files(store.tree(info.row.id)?, path, info.totals.logical_bytes),
    })
}

fn of_snapshot(
    store: &narrowboat_storage::Store,
    info: &DatasetInfo,
    name: &str,
    path: &str,
) -> Result<Origin, Failed> {
    let row = store.snapshot_named(&info.row.name, name)?;
    Ok(match info.row.kind {
        DatasetKind::Volume => Origin::Volume(store.snapshot_volume(row.id)?),
        DatasetKind::Share => files(store.snapshot_tree(row.id)?, path, store.seal(row.id)?.logical_bytes),
    })
}

fn files(tree: Arc<dyn FileTree>, path: &str, bytes: u64) -> Origin {
    Origin::Files { tree, path: path.to_owned(), bytes: path.is_empty().then_some(bytes) }
}

/// Restores files to a folder of this machine, or a volume to an image.
pub fn restore_from(
    store: &narrowboat_storage::Store,
    source: &str,
    dest: &Path,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::RestoreReport, Failed> {
    if !dest.is_absolute() {
        return Err(Failed::refused("the destination must be an absolute path"));
    }
    let (origin, _until_it_is_read) = find_origin(store, source)?;
    match origin {
        Origin::Files { tree, path, bytes } => Ok(restore(&tree, &path, dest, bytes, gone, tell)?),
        Origin::Volume(device) => Ok(restore_image(&*device, dest, gone, tell)?),
    }
}

fn restore_files(
    node: &Node,
    source: &str,
    dest: &Path,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::RestoreReport, Failed> {
    restore_from(&node.store, source, dest, gone, tell)
}

fn invite(node: &Node, name: Option<String>) -> Result<reports::Invitation, Failed> {
    let link = link(node)?;
    let name = name.map(|name| name.parse()).transpose()?;
    let (code, good_for) = link.invite(name);
    let listen = link.local_address()?.to_string();
    Ok(reports::Invitation { code: code.to_string(), seconds: good_for.as_secs(), listen })
}

fn join(node: &Node, code: &str, address: &str) -> Result<reports::Peer, Failed> {
    let link = link(node)?;
    let (code, address) = (code.parse()?, address.parse()?);
    let record = node.block_on(link.join(&code, &address))?;
    let paired = peers(node).into_iter().find(|peer| peer.name == record.name.as_str());
    paired.ok_or_else(|| Failed::refused("the peer was removed at once"))
}

pub(super) fn peers(node: &Node) -> Vec<reports::Peer> {
    let Some(link) = &node.link else { return Vec::new() };
    link.peers().iter().map(|peer| peer_report(node, peer)).collect()
}

/// The latest one last.
fn refusals(record: &Record) -> Vec<reports::Refusal> {
    let report = |refused: &Refused| reports::Refusal {
        peer: record.peer.clone(),
        first: rfc3339(Timestamp(refused.first)),
        last: rfc3339(Timestamp(refused.last)),
        count: refused.count,
        why: refused.why.clone(),
    };
    record.refused.iter().map(report).collect()
}

fn peer_report(node: &Node, peer: &PeerStatus) -> reports::Peer {
    let refused = node.refusals.of(&peer.record);
    reports::Peer {
        name: peer.record.name.to_string(),
        id: peer.record.id.to_string(),
        addresses: peer.record.addresses.iter().map(ToString::to_string).collect(),
        paired: rfc3339(peer.record.paired_at),
        connected_from: peer.connected_from.map(|address| address.to_string()),
        path: peer.path.as_ref().map(|(path, used)| reports::PeerPath {
            address: path.address.as_ref().map(ToString::to_string),
            why: path.why.to_string(),
            seconds: used.as_secs_f64(),
        }),
        last_error: peer.last_error.clone().filter(|_| peer.connected_from.is_none()),
        limit: peer.limit.map(Rate::bits),
        granted: peer.granted.map(Rate::bits),
        sending: peer.bits_per_second,
        receiving: peer.received_bits_per_second,
        round_trip_ms: peer.line.map(|line| line.round_trip.as_secs_f64() * 1e3),
        wire_bytes_sent: peer.counters.sent.bytes,
        wire_bytes_received: peer.counters.received.bytes,
        lag: lag(node, peer.record.name.as_str()),
        software: peer.greeting.as_ref().map(|greeting| greeting.software.clone()),
        proves: peer.greeting.as_ref().map(|greeting| greeting.proves),
        refusals: refused.count(),
        last_refusal: refusals(&refused).pop(),
    }
}

pub(super) fn lag(node: &Node, peer: &str) -> Vec<reports::Lag> {
    let now = clock::wall();
    let rows = node.store.dataset_rows();
    // Replicas too, where they are passed on.
    let known = rows.iter().filter_map(|row| {
        let id = ledger::proof(&node.store, peer, &row.id)?.snapshot;
        let snapshots = node.store.snapshots(Some(row.id));
        let there = snapshots.iter().find(|snapshot| snapshot.id == id)?;
        Some(reports::Lag {
            dataset: row.name.clone(),
            newest_there: there.name.clone(),
            time: rfc3339(there.time),
            seconds: now.0.saturating_sub(on_the_wall(node, there.time).0).max(0) as f64 / 1e9,
            snapshots_behind: snapshots.iter().filter(|snapshot| snapshot.time > there.time).count(),
        })
    });
    known.collect()
}

fn replicate(
    node: &Arc<Node>,
    source: &str,
    peer: &str,
    class: Option<&str>,
    wait: bool,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Replication, Failed> {
    let peer = link(node)?.find(peer)?.name.to_string();
    let class = class.map_or(Ok(Class::Normal), str::parse)?;
    let (dataset, name) = match source.split_once('@') {
        Some((dataset, name)) => (dataset, name.to_owned()),
        None => (source, newest_or_new(node, source)?),
    };
    refuse_return(&node.store.dataset_named(dataset)?.row, &peer)?;
    let what = replication(&node.store, dataset, &name)?;
    let id = node.transfers.begin(node, format!("{dataset}@{name}"), peer, class, what)?;
    let mut meter = Meter::new("sending", "bytes", None);
    loop {
        let vanished = || Failed::refused("the replication was forgotten");
        let report = node.transfers.wait(id).ok_or_else(vanished)?;
        match report.state.as_str() {
            // It goes on by itself; who no longer waits for it must not keep one of the few places for requests.
            "running" if wait && !gone.load(Ordering::Relaxed) => {
                meter.expect(report.differing_bytes.map(|total| total.max(report.raw_bytes)));
                meter.at(report.raw_bytes).into_iter().for_each(&mut *tell);
            }
            "failed" | "cancelled" => {
                let why = report.error.unwrap_or_default();
                return Err(Failed {
                    kind: "link".into(),
                    message: format!("{dataset}@{name} was not replicated: {why}"),
                });
            }
            _ => return Ok(report),
        }
    }
}

fn newest_or_new(node: &Node, dataset: &str) -> Result<String, Failed> {
    let info = node.store.dataset_named(dataset)?;
    match node.store.snapshots(Some(info.row.id)).pop() {
        Some(row) => Ok(row.name),
        None => Ok(snapshot_create(node, dataset, None)?.name),
    }
}

fn probe(node: &Node, peer: &str) -> Result<reports::Line, Failed> {
    let narrowboat_wan::link::Probed { line, survey } = node.block_on(link(node)?.probe(peer))?;
    Ok(reports::Line {
        peer: peer.to_owned(),
        round_trip_ms: line.round_trip.as_secs_f64() * 1e3,
        round_trip_min_ms: line.round_trip_min.as_secs_f64() * 1e3,
        sent_packets: line.sent_packets,
        lost_packets: line.lost_packets,
        mtu: line.mtu,
        bits_per_second: line.bits_per_second,
        unmeasured: survey.as_ref().err().map(ToString::to_string),
        measured: survey.ok().as_ref().map(reports::Measured::from),
    })
}

/// Proves every invariant of a store.
pub fn check(
    store: &narrowboat_storage::Store,
    deep: bool,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Check, Failed> {
    let begun = std::time::Instant::now();
    let total = store.stats()?.pool.containers;
    let mut meter = Meter::new("checking", "containers", Some(total));
    let found = store.check(deep, &mut |now| {
        if let Some(progress) = meter.at(now.containers) {
            tell(progress);
        }
        !gone.load(Ordering::Relaxed)
    })?;
    Ok(reports::Check {
        sound: found.is_sound(),
        containers: found.progress.containers,
        objects: found.progress.objects,
        bytes: found.progress.bytes,
        roots: found.progress.roots,
        files: found.progress.files,
        deep,
        seconds: begun.elapsed().as_secs_f64(),
        problems: found.problems,
        problems_unnamed: found.problems_unnamed,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_peers_claim_does_not_overflow() {
        assert_eq!(super::total([1, 2, 3].into_iter()), 6);
        assert_eq!(super::total([u64::MAX, 1, u64::MAX].into_iter()), u64::MAX);
    }
}
