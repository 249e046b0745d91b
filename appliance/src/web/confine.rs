//! What the worker gives away before it reads the first byte from anybody. It has its sockets then, and nothing to reach anything else with.
//!
//! The order matters: who gives up his user first may not choose his groups any more, and a new user clears the signal that comes when the box dies.
//! Everything here holds for the one thread that there is, so it comes before tokio.

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid, set_dumpable_behavior, set_parent_process_death_signal,
    setrlimit,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::start::Start;

/// Files that the worker may have open: one a connection, two a request to the box while it is handed over, and some of its own.
const FILES_MAX: u64 = 512;
/// The newest rules of Landlock that are known here; an older kernel keeps those that it has.
const RULES: ABI = ABI::V6;

/// Gives everything away but what the worker needs. What an old kernel can't do is told and left; to stay somebody who should have been left is an error.
pub(super) fn confine(start: &Start) -> io::Result<()> {
    become_nobody(start)?;
    let tried = [
        ("no new privileges", set_no_new_privs(true)),
        ("to end with the box", set_parent_process_death_signal(Some(Signal::KILL))),
        ("no traces and dumps", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        ("no core file", limit(Resource::Core, 0)),
        ("few open files", limit(Resource::Nofile, FILES_MAX)),
        // It is one thread, and stays one.
        ("no process or thread", limit(Resource::Nproc, 0)),
    ];
    for (what, error) in tried.into_iter().filter_map(|(what, outcome)| Some((what, outcome.err()?))) {
        tracing::warn!(%error, what, "the page worker could not be confined in this");
    }
    match give_away_files() {
        Ok(RulesetStatus::FullyEnforced) => tracing::debug!("the page worker reaches no file and no address"),
        Ok(RulesetStatus::PartiallyEnforced) => {
            tracing::info!("this kernel keeps the page worker from files, but not from all else that newer kernels do");
        }
        Ok(RulesetStatus::NotEnforced) => {
            tracing::warn!("this kernel has no Landlock, or it is off: only its user keeps the page worker from files");
        }
        Err(error) => tracing::warn!(%error, "the page worker could not be kept from files"),
    }
    Ok(())
}

fn become_nobody(start: &Start) -> io::Result<()> {
    if let Some(group) = start.group.map(Gid::from_raw) {
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
    }
    if let Some(user) = start.user.map(Uid::from_raw) {
        set_thread_res_uid(user, user, user)?;
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> rustix::io::Result<()> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}

/// No right to any file, and, where the kernel can say so, to no address and no process outside.
fn give_away_files() -> Result<RulesetStatus, landlock::RulesetError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?;
    Ok(rules.restrict_self()?.ruleset)
}
