//! `restore`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use super::show::{count, size};
use super::{Context, Outcome};
use crate::control::reports::RestoreReport;
use crate::control::restore::restore_from;
use crate::control::{Failed, Request, client};
use crate::units::duration;

pub(super) fn restore(context: &Context, source: String, dest: &Path) -> Outcome {
    let dest = std::path::absolute(dest).map_err(|error| Failed::refused(error.to_string()))?;
    let Some(text) = dest.to_str() else {
        let why = "is not UTF-8, which a running box can't be told: restore to another path and rename";
        return Err(Failed::refused(format!("the destination {} {why}", dest.display())));
    };
    let request = Request::Restore { source: source.clone(), dest: text.to_owned() };
    let mut line = super::ProgressLine::default();
    let asked = client::ask(&context.data, &request, &mut |progress| line.show(&progress));
    line.clear();
    let value = match asked {
        Err(failed) if failed.kind == "absent" => context.with_store(|store, tell| {
            let report = restore_from(store, &source, &dest, &AtomicBool::new(false), tell)?;
            serde_json::to_value(report).map_err(|error| Failed::refused(error.to_string()))
        })?,
        asked => asked?,
    };
    let failed = value["failures"].as_array().is_some_and(|failures| !failures.is_empty());
    if let Some(report) = context.answer::<RestoreReport>(value)? {
        show(&report, &dest);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(report: &RestoreReport, dest: &Path) {
    say!(
        "restored {} files and {} directories, {}, to {} in {}",
        count(report.files),
        count(report.directories),
        size(report.logical_bytes),
        dest.display(),
        duration(report.seconds)
    );
    for failure in &report.failures {
        say!("not restored: {failure}");
    }
    if report.failures_unnamed > 0 {
        say!("and {} more", report.failures_unnamed);
    }
}
