//! What is asked about plans.

use std::sync::Arc;

use narrowboat_wan::peer::PeerRecord;
use narrowboat_wan::shape::{Class, Hours};

use super::Failed;
use super::peer::link;
use super::reports::{self, Acknowledged};
use crate::node::Node;
use crate::plans::{Plan, SECONDS_MIN};
use crate::replicas::refuse_return;

/// How a plan shall be; what is not said stays as it is, or is as most people want it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub seconds: Option<u64>,
    pub follow: bool,
    pub hours: Option<String>,
    pub class: Option<String>,
}

/// Makes a plan, or changes it.
pub(super) fn set(node: &Arc<Node>, dataset: &str, peer: &str, asked: &Asked) -> Result<Acknowledged, Failed> {
    let (row, peer) = (node.store.dataset_named(dataset)?.row, record(node, peer)?);
    refuse_return(&row, peer.name.as_str())?;
    let class: Option<Class> = asked.class.as_deref().map(str::parse).transpose()?;
    let hours: Option<Option<Hours>> = match asked.hours.as_deref() {
        None => None,
        Some("always") => Some(None),
        Some(hours) => Some(Some(hours.parse()?)),
    };
    if let Some(seconds) = asked.seconds.filter(|seconds| *seconds < SECONDS_MIN) {
        return Err(Failed::refused(format!("every {seconds} s is too often: {SECONDS_MIN} s is the least")));
    }
    let new = || Plan { class: Class::Normal.to_string(), ..Plan::default() };
    let mut plan = node.plans.find(row.id, &peer).filter(|plan| plan.unreadable.is_none()).unwrap_or_else(new);
    if asked.follow || asked.seconds.is_some() {
        plan.every = asked.seconds;
    }
    if let Some(hours) = hours {
        plan.hours = hours.map(|hours| hours.to_string());
    }
    plan.class = class.map_or(plan.class, |class| class.to_string());
    node.plans.set(row.id, &peer, Some(&plan))?;
    Ok(Acknowledged { message: format!("{} goes to {}: {plan}", row.name, peer.name) })
}

/// Stops plans for a while, or lets them go on: all of a dataset, or that of one peer. What is under way is stopped, too; it goes on where it was.
pub(super) fn pause(node: &Node, dataset: &str, peer: Option<&str>, paused: bool) -> Result<Acknowledged, Failed> {
    each(node, dataset, peer, |plan, id, peer| {
        if plan.unreadable.is_some() {
            let why = format!("the plan to {} can't be read: `narrowboat plan create` sets it again", peer.name);
            return Err(Failed::refused(why));
        }
        node.plans.set(id, peer, Some(&Plan { paused, ..plan }))?;
        if let Some(running) = node.plans.running(id, peer).filter(|_| paused) {
            node.transfers.cancel(running);
        }
        Ok(())
    })?;
    let what = if paused { "is paused: `narrowboat plan resume` lets it go on" } else { "goes on" };
    Ok(Acknowledged { message: format!("what goes to peers of {dataset} by plan {what}") })
}

/// Drops plans: all of a dataset, or that of one peer. What is at the peer stays there.
pub(super) fn remove(node: &Node, dataset: &str, peer: Option<&str>) -> Result<Acknowledged, Failed> {
    each(node, dataset, peer, |_, id, peer| {
        let running = node.plans.running(id, peer);
        node.plans.set(id, peer, None)?;
        running.map(|running| node.transfers.cancel(running));
        Ok(())
    })?;
    Ok(Acknowledged { message: format!("{dataset} goes to nobody by itself any more; what is at peers stays there") })
}

/// Ends a sending for good: a plan that began it goes on with what comes later.
pub(super) fn cancel(node: &Node, id: u64) -> Result<Acknowledged, Failed> {
    // First, so that the plan does not see it end without knowing why.
    let noted = node.plans.give_up(id);
    if !node.transfers.cancel(id) {
        let why = format!("number {id} is not under way: `narrowboat replication list` shows what is");
        return Err(Failed::missing(why));
    }
    noted?;
    Ok(Acknowledged { message: format!("number {id} is not sent any further") })
}

/// All plans.
pub(super) fn list(node: &Node) -> Result<Vec<reports::Plan>, Failed> {
    Ok(node.plans.reports(node, link(node)?))
}

fn record(node: &Node, peer: &str) -> Result<PeerRecord, Failed> {
    Ok(link(node)?.find(peer)?)
}

/// Does something with each plan of a dataset, or with that of one peer. Refused where there is none.
fn each(
    node: &Node,
    dataset: &str,
    peer: Option<&str>,
    mut work: impl FnMut(Plan, narrowboat_storage::id::DatasetId, &PeerRecord) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let row = node.store.dataset_named(dataset)?.row;
    let peers = match peer {
        Some(peer) => vec![record(node, peer)?],
        None => link(node)?.peers().into_iter().map(|peer| peer.record).collect(),
    };
    let mut any = false;
    for peer in &peers {
        if let Some(plan) = node.plans.find(row.id, peer) {
            work(plan, row.id, peer)?;
            any = true;
        }
    }
    let to = peer.map_or(String::new(), |peer| format!(" to {peer}"));
    let none = || Failed::missing(format!("there is no plan for {dataset}{to}: `narrowboat plan create` makes one"));
    if any { Ok(()) } else { Err(none()) }
}
