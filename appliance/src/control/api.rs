//! Which request is whose: each is answered by the module of its noun.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::Value;

use super::check::check_store;
use super::replicate::{self, replicate};
use super::reports::{self, Acknowledged};
use super::restore::restore_from;
use super::{Failed, Request};
use super::{
    account, census, certificate, dataset, disk, limit, lock, network, notice, peer, plan, quarantine, retention,
    scrub, setting, setup, snapshot, status, time,
};
use crate::caps::Way;
use crate::jobs::Progress;
use crate::node::Node;
use crate::recent;

/// Does what was asked. `gone` is set once nobody waits for the answer any more: long work that changes nothing ends then.
pub fn handle(
    node: &Arc<Node>,
    request: Request,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<Value, Failed> {
    match request {
        Request::Status => done(status::status(node)),
        Request::ShareCreate { name, dedup } => done(dataset::create_share(node, &name, &dedup)?),
        Request::VolumeCreate { name, size, dedup } => done(dataset::create_volume(node, &name, size, &dedup)?),
        Request::VolumeResize { name, size } => done(dataset::resize(node, &name, size)?),
        Request::DatasetList => done(dataset::all(node)?),
        Request::DatasetListDeleted => done(quarantine::datasets(node)),
        Request::DatasetUndelete { name, new } => done(quarantine::undelete_dataset(node, &name, new.as_deref())?),
        Request::Freeable { again } => {
            let stop = || node.is_stopping() || gone.load(Ordering::Relaxed);
            done(census::freeable(node, again, &stop, tell)?)
        }
        Request::QuarantineEmpty { what, dry_run } => {
            let stop = || node.is_stopping() || gone.load(Ordering::Relaxed);
            done(quarantine::empty(node, what.as_deref(), dry_run, &stop, tell)?)
        }
        Request::DatasetDelete { name } => done(dataset::delete(node, &name)?),
        Request::SnapshotCreate { dataset, name } => done(snapshot::create(node, &dataset, name)?),
        Request::SnapshotList { dataset } => done(snapshot::all(node, dataset.as_deref())?),
        Request::SnapshotListDeleted { dataset } => done(quarantine::snapshots(node, dataset.as_deref())?),
        Request::SnapshotUndelete { snapshot, new } => {
            done(quarantine::undelete_snapshot(node, &snapshot, new.as_deref())?)
        }
        Request::SnapshotDelete { snapshot } => done(snapshot::delete(node, &snapshot)?),
        Request::SnapshotHold { snapshot, held } => done(snapshot::hold(node, &snapshot, held)?),
        Request::SnapshotLock { snapshot, seconds } => done(lock::snapshot(node, &snapshot, seconds)?),
        Request::LockSet { dataset, seconds } => done(lock::set(node, dataset.as_deref(), seconds)?),
        Request::LockList => done(lock::list(node)),
        Request::Window { dataset, seconds, bytes, off } => {
            done(time::set_window(&node.store, &dataset, seconds, bytes, off)?)
        }
        Request::Mark { datasets, name, quiet, hooks } => done(time::mark(node, &datasets, &name, quiet, &hooks)?),
        Request::Thaw { hook, forget: true } => done(time::forget_thaw(node, &hook)?),
        Request::Thaw { hook, forget: false } => done(node.hooks.thaw(&hook)?),
        Request::Timeline { dataset } => done(time::timeline(&node.store, &dataset)?),
        Request::LossAccept { name } => done(dataset::accept_loss(node, &name)?),
        Request::Rewind { dataset, to, force } => done(time::rewind(node, &dataset, &to, force)?),
        Request::Clone { snapshot, name } => done(dataset::clone(node, &snapshot, &name)?),
        Request::Diff { from, to } => done(snapshot::diff(node, from, to)?),
        Request::Restore { source, dest } => done(restore_from(&node.store, &source, Path::new(&dest), gone, tell)?),
        Request::PeerInvite { name } => done(peer::invite(node, name)?),
        Request::PeerJoin { code, address } => done(peer::join(node, &code, &address)?),
        Request::PeerList => done(peer::all(node)),
        Request::PeerRefusals => done(peer::all_refusals(node)),
        Request::PeerAddresses { peer, change } => done(peer::addresses(node, &peer, change.as_ref())?),
        Request::PeerRemove { name } => done(peer::remove(node, &name)?),
        Request::Replicate { source, peer, wait, class } => {
            done(replicate(node, &replicate::Asked { source, peer, class, wait }, gone, tell)?)
        }
        Request::ReplicationList => done(node.transfers.list()),
        Request::ReplicationShow { id } => done(replicate::show(node, id)?),
        Request::ReplicationCancel { id } => done(plan::cancel(node, id)?),
        Request::PlanSet { dataset, peer, seconds, follow, hours, class } => {
            done(plan::set(node, &dataset, &peer, &plan::Asked { seconds, follow, hours, class })?)
        }
        Request::PlanList => done(plan::list(node)?),
        Request::PlanPause { dataset, peer, paused } => done(plan::pause(node, &dataset, peer.as_deref(), paused)?),
        Request::PlanRemove { dataset, peer } => done(plan::remove(node, &dataset, peer.as_deref())?),
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
        Request::Probe { peer } => done(peer::probe(node, &peer)?),
        Request::ScrubShow => done(scrub::show(node)?),
        Request::ScrubStart => done(scrub::start(node)?),
        Request::ScrubHeal => done(scrub::heal(node)?),
        Request::ScrubPause { paused } => done(scrub::pause(node, paused)?),
        Request::Check { deep } => done(check_store(&node.store, deep, gone, tell)?),
        Request::Reclaim { dry_run } => {
            let stop = || node.is_stopping() || gone.load(Ordering::Relaxed);
            done(node.reclaims.run(dry_run, None, &stop, tell)?)
        }
        Request::ReclaimBegin => {
            node.reclaims.hurry();
            done(Acknowledged { message: "room is given back from now on: the status says how far it is".into() })
        }
        Request::FreeableBegin => {
            node.censuses.hurry();
            done(Acknowledged { message: "it is counted from now on: the status has the figures then".into() })
        }
        Request::Log { limit } => done(recent::newest(limit)),
        Request::AccountClaim => done(account::claim(node)),
        Request::AccountList => done(node.accounts.users()?),
        Request::AccountAdd { user, role, password } => done(account::add(node, &user, role, &password)?),
        Request::AccountRemove { user } => done(account::remove(node, &user)?),
        Request::AccountReset { user, password } => done(account::reset(node, &user, &password)?),
        Request::Audit { before, limit } => done(account::audit(node, before, limit)?),
        Request::Trends { span } => done(node.trends.report(span)?),
        Request::CheckBegin { deep } => {
            node.checks.want(deep)?;
            done(Acknowledged { message: "the store is checked from now on: look again later".into() })
        }
        Request::CheckShow => done(node.checks.state()),
        Request::ReclaimShow => done(reports::ReclaimState {
            running: node.reclaims.progress(),
            last: node.reclaims.last(),
            failed: node.reclaims.failed(),
        }),
        Request::DiskList => done(disk::list(node)),
        Request::NoticeList => done(notice::list(node)),
        Request::NoticeTest { way } => done(notice::test(node, way.as_deref())?),
        Request::SettingList => done(setting::list(node)?),
        Request::SettingSet { changes } => done(setting::set(node, &changes)?),
        Request::SetUpShow => done(setup::show(node)?),
        Request::SetUpType { fields } => done(setup::type_in(node, fields)?),
        Request::SetUpApply { set_up, typed } => done(setup::apply(node, &set_up, typed)?),
        Request::SetUpTest => done(setup::test(node)?),
        Request::NetworkShow => done(network::show(node)),
        Request::NetworkSet { wanted } => done(network::set(node, wanted)?),
        Request::NetworkConfirm { trial } => done(network::confirm_here(node, trial)?),
        Request::NetworkRevert { trial } => done(network::revert(node, trial)?),
        Request::CertificateShow => done(certificate::show(node)?),
        Request::CertificateOrder => done(certificate::order(node)?),
        Request::Restart => {
            node.ask_to_restart();
            done(Acknowledged { message: "the box is restarting".into() })
        }
        Request::Stop => {
            node.ask_to_stop();
            done(Acknowledged { message: "the box is stopping".into() })
        }
    }
}

fn done(report: impl Serialize) -> Result<Value, Failed> {
    serde_json::to_value(report).map_err(|error| Failed::of("environment", error.to_string()))
}
