//! What is asked about scrubs.

use narrowboat_storage::affected::Affected;
use narrowboat_storage::pool::Wound;

use super::Failed;
use super::reports::{self, Acknowledged};
use crate::clock;
use crate::node::Node;
use crate::scrub::Told;

/// How far it is, what is damaged, and whom that hits.
pub(super) fn show(node: &Node) -> Result<reports::Scrub, Failed> {
    let told = node.scrubs.told(clock::now());
    let (wounds, affected) = node.scrubs.damage()?;
    let (healing, heals) = node.healings.told();
    let state = state(&told).to_owned();
    let damaged = |wound: &Wound| reports::Damaged { name: wound.name.to_string(), what: wound.damage.to_string() };
    Ok(reports::Scrub {
        state,
        problem: told.problem,
        rate: told.rate,
        hours: told.hours,
        due_in_seconds: told.due_in,
        running: told.course.running,
        history: told.course.history,
        damaged: wounds.iter().map(damaged).collect(),
        affected: affected.into_iter().map(file).collect(),
        healed: node.store.pool().healed(),
        heals,
        healing,
    })
}

fn state(told: &Told) -> &'static str {
    match (&told.course, &told.problem) {
        (course, _) if course.paused => "paused",
        (course, _) if course.running.is_none() => "idle",
        (_, Some(_)) => "failing",
        _ if !told.in_hours => "waiting for its hours",
        _ => "running",
    }
}

fn file(hit: Affected) -> reports::AffectedFile {
    reports::AffectedFile {
        dataset: hit.dataset,
        snapshot: hit.snapshot,
        path: hit.path.map(|path| String::from_utf8_lossy(&path).into_owned()),
        from: hit.range.start,
        to: hit.range.end,
        bytes: hit.bytes,
    }
}

/// Begins one.
pub(super) fn start(node: &Node) -> Result<Acknowledged, Failed> {
    node.scrubs.start(clock::now())?;
    Ok(Acknowledged { message: "everything is read now: `narrowboat scrub show` tells how far it is".into() })
}

/// Asks peers for what is damaged.
pub(super) fn heal(node: &Node) -> Result<Acknowledged, Failed> {
    if node.link.is_none() {
        return Err(Failed::refused("this box has no link to peers (`wan.listen` in the config file)"));
    }
    node.healings.start();
    let message =
        "peers that are connected are asked for what is damaged: `narrowboat scrub show` tells what comes of it";
    Ok(Acknowledged { message: message.into() })
}

/// Stops them, or lets them go on.
pub(super) fn pause(node: &Node, paused: bool) -> Result<Acknowledged, Failed> {
    node.scrubs.pause(paused, clock::now())?;
    let message = match paused {
        true => "nothing is scrubbed until `narrowboat scrub resume`",
        false => "scrubs go on",
    };
    Ok(Acknowledged { message: message.into() })
}
