//! `reclaim`.

use std::process::ExitCode;

use super::show::{count, size};
use super::{Context, DAMAGED, Outcome};
use crate::control::reports::Reclaim;
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
        say!("`narrowboat check --deep` tells what is damaged");
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
