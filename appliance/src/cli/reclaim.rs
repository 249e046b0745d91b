//! `reclaim`.

use std::process::ExitCode;

use super::show::{count, size};
use super::{Context, DAMAGED, Outcome};
use crate::control::reports::{InTheWay, Reclaim};
use crate::control::{Failed, Request, client};
use crate::jobs;
use crate::units::duration;

pub(super) fn reclaim(context: &Context, dry_run: bool) -> Outcome {
    let mut line = super::ProgressLine::default();
    let asked = client::ask(&context.data, &Request::Reclaim { dry_run }, &mut |progress| line.show(&progress));
    line.clear();
    let value = match asked {
        Err(failed) if failed.kind == "absent" => context.with_store(|store, tell| {
            let report = jobs::reclaim::reclaim(store, dry_run, None, &|| false, tell)?;
            store.close(crate::clock::now())?;
            serde_json::to_value(report).map_err(|error| Failed::refused(error.to_string()))
        })?,
        asked => asked?,
    };
    let sound = value["stopped"].is_null() && value["problems"].as_array().is_none_or(Vec::is_empty);
    if let Some(report) = context.answer::<Reclaim>(value)? {
        show(&report);
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn show(report: &Reclaim) {
    if let Some(why) = &report.stopped {
        say!("nothing was let go of, for not all that is needed can be read: {why}");
        match report.in_the_way.is_empty() {
            true => say!("`narrowboat check --deep` tells what is damaged"),
            false => show_in_the_way(&report.in_the_way, usize::MAX, ""),
        }
        return;
    }
    match report.preview {
        true => say!("{} would be given back", size(report.freeable_bytes)),
        false => say!(
            "{} given back in {}: {} containers removed, {} thin ones emptied ({} moved)",
            size(report.freed_bytes),
            duration(report.seconds),
            count(report.containers_removed),
            count(report.containers_rewritten),
            size(report.moved_bytes)
        ),
    }
    if report.left_bytes > 0 {
        say!("{} more lie among what is needed, and go when that gets less", size(report.left_bytes));
    }
    for problem in &report.problems {
        say!("left as it is: {problem}");
    }
}

/// Whose it is that can't be read, `most` of them, and what to do about it.
pub(super) fn show_in_the_way(all: &[InTheWay], most: usize, indent: &str) {
    if all.is_empty() {
        return;
    }
    say!("{indent}`narrowboat scrub heal` asks peers for it; what none of them has goes with what it is of:");
    for one in all.iter().take(most) {
        let of = match (&one.snapshot, one.what.as_str()) {
            (Some(snapshot), _) => format!("{}@{snapshot}", one.dataset),
            (None, "past") => format!("{} at a moment of its window", one.dataset),
            _ => format!("{} as it is now", one.dataset),
        };
        let deleted = if one.deleted { ", deleted" } else { "" };
        let mut hit: Vec<&str> = one.paths.iter().map(|path| path_or_volume(path)).collect();
        hit.extend(one.torn.then_some("part of the directory tree"));
        let hit = if hit.is_empty() { String::new() } else { format!(" ({})", hit.join(", ")) };
        match one.commands.as_slice() {
            [] => say!("{indent}  {of}{deleted}{hit}: to be written again, or deleted"),
            commands => say!("{indent}  {of}{deleted}{hit}: `{}`", commands.join("`, then `")),
        }
    }
    if all.len() > most {
        say!("{indent}  and {} more: `narrowboat reclaim --dry-run` names them", all.len() - most);
    }
}

fn path_or_volume(path: &str) -> &str {
    if path.is_empty() { "the volume" } else { path }
}
