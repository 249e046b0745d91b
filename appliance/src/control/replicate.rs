//! Sending a snapshot when somebody asks for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use narrowboat_wan::shape::Class;

use super::peer::link;
use super::{Failed, reports, snapshot};
use crate::jobs::{Meter, Progress};
use crate::node::Node;
use crate::replicas::{refuse_return, replication};

/// What is to be sent, and how.
pub(super) struct Asked {
    pub(super) source: String,
    pub(super) peer: String,
    pub(super) class: Option<String>,
    /// Whether somebody waits for its end.
    pub(super) wait: bool,
}

/// Begins to send, and waits for the end where that is wanted.
pub(super) fn replicate(
    node: &Arc<Node>,
    asked: &Asked,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::Replication, Failed> {
    let peer = link(node)?.find(&asked.peer)?.name.to_string();
    let class = asked.class.as_deref().map_or(Ok(Class::Normal), str::parse)?;
    let (dataset, name) = match asked.source.split_once('@') {
        Some((dataset, name)) => (dataset, name.to_owned()),
        None => (asked.source.as_str(), newest_or_new(node, &asked.source)?),
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
            "running" if asked.wait && !gone.load(Ordering::Relaxed) => {
                meter.expect(report.differing_bytes.map(|total| total.max(report.raw_bytes)));
                meter.at(report.raw_bytes).into_iter().for_each(&mut *tell);
            }
            "failed" | "cancelled" => {
                let why = report.error.unwrap_or_default();
                return Err(Failed::of("link", format!("{dataset}@{name} was not replicated: {why}")));
            }
            _ => return Ok(report),
        }
    }
}

fn newest_or_new(node: &Node, dataset: &str) -> Result<String, Failed> {
    let info = node.store.dataset_named(dataset)?;
    match node.store.snapshots(Some(info.row.id)).pop() {
        Some(row) => Ok(row.name),
        None => Ok(snapshot::create(node, dataset, None)?.name),
    }
}

/// One replication, by its number.
pub(super) fn show(node: &Node, id: u64) -> Result<reports::Replication, Failed> {
    node.transfers.find(id).ok_or_else(|| {
        Failed::missing(format!("number {id} is not known: `narrowboat replication list` shows those that are"))
    })
}
