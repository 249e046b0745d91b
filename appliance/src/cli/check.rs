//! `check`.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use super::show::{count, size};
use super::{Context, DAMAGED, Outcome};
use crate::control::check::check_store;
use crate::control::reports::Check;
use crate::control::{Failed, Request, client};
use crate::units::duration;

pub(super) fn check(context: &Context, deep: bool) -> Outcome {
    let mut line = super::ProgressLine::default();
    let asked = client::ask(&context.data, &Request::Check { deep }, &mut |progress| line.show(&progress));
    line.clear();
    let value = match asked {
        Err(failed) if failed.kind == "absent" => context.with_store(|store, tell| {
            let report = check_store(store, deep, &AtomicBool::new(false), tell)?;
            serde_json::to_value(report).map_err(|error| Failed::refused(error.to_string()))
        })?,
        asked => asked?,
    };
    let sound = value["sound"].as_bool().unwrap_or(false);
    if let Some(report) = context.answer::<Check>(value)? {
        show(&report);
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn show(report: &Check) {
    let (containers, objects) = (count(report.containers), count(report.objects));
    let read = if report.deep { format!(", {} read and verified", size(report.bytes)) } else { String::new() };
    say!(
        "{containers} containers, {objects} objects{read}, {} roots and {} files in {}",
        report.roots,
        count(report.files),
        duration(report.seconds)
    );
    for problem in &report.problems {
        say!("wrong: {problem}");
    }
    if report.problems_unnamed > 0 {
        say!("and {} more", report.problems_unnamed);
    }
    say!("{}", if report.sound { "everything is as it should be" } else { "DAMAGE was found" });
}
