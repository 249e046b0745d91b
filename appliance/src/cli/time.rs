//! `window`, `mark`, `timeline` and `rewind`.

use std::process::ExitCode;

use super::show::{size, table};
use super::{Context, HOOK_FAILED, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, HookCall, Marked, Rewound, Timeline, Written};
use crate::units::{ByteSize, duration};

/// Rows of the chart of what was written.
const CHART_ROWS: usize = 24;
/// Columns of its bars.
const CHART_COLUMNS: f64 = 40.0;

pub(super) fn window(
    context: &Context,
    dataset: String,
    seconds: Option<u64>,
    bytes: Option<ByteSize>,
    off: bool,
) -> Outcome {
    let request = Request::Window { dataset, seconds, bytes: bytes.map(|bytes| bytes.0), off };
    if let Some(timeline) = context.ask::<Timeline>(&request)? {
        show_window(&timeline);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn mark(
    context: &Context,
    dataset: String,
    name: String,
    with: Vec<String>,
    quiet: bool,
    hooks: Vec<String>,
) -> Outcome {
    let datasets = std::iter::once(dataset).chain(with).collect();
    let marked: Marked = context.ask_and_show(&Request::Mark { datasets, name, quiet, hooks }, show_mark)?;
    let failed = marked.hooks.iter().any(|call| !call.done);
    Ok(if failed { ExitCode::from(HOOK_FAILED) } else { ExitCode::SUCCESS })
}

fn show_mark(marked: &Marked) {
    let datasets = marked.datasets.join(", ");
    match (marked.hooks.is_empty(), marked.quiet) {
        (true, _) => say!("marked {datasets} as {}", marked.name),
        (_, true) => say!("marked {datasets} as {}, application-consistent", marked.name),
        (_, false) => say!("marked {datasets} as {}, crash-consistent only", marked.name),
    }
    for call in &marked.hooks {
        let took = duration(call.seconds);
        match &call.problem {
            None => say!("  {} of {} took {took}", call.phase, call.hook),
            Some(problem) => say!("  PROBLEM: {} of {} failed after {took}: {problem}", call.phase, call.hook),
        }
    }
}

pub(super) fn thaw(context: &Context, hook: String, forget: bool) -> Outcome {
    if forget {
        if let Some(done) = context.ask::<Acknowledged>(&Request::Thaw { hook, forget })? {
            say!("{}", done.message);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let show = |call: &HookCall| match &call.problem {
        None => say!("thawed {} in {}", call.hook, duration(call.seconds)),
        Some(problem) => say!("{} is not thawed: {problem}", call.hook),
    };
    let call: HookCall = context.ask_and_show(&Request::Thaw { hook, forget }, show)?;
    Ok(if call.done { ExitCode::SUCCESS } else { ExitCode::from(HOOK_FAILED) })
}

pub(super) fn rewind(context: &Context, dataset: String, to: String, new: Option<String>) -> Outcome {
    if let Some(name) = new {
        return super::dataset::clone(context, format!("{dataset}@{to}"), name);
    }
    if let Some(done) = context.ask::<Rewound>(&Request::Rewind { dataset, to })? {
        say!("{} is as it was at {}", done.dataset, done.to);
        say!("what it was before is {}@{}", done.dataset, done.before);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn timeline(context: &Context, dataset: String) -> Outcome {
    if let Some(timeline) = context.ask::<Timeline>(&Request::Timeline { dataset })? {
        show_window(&timeline);
        if !timeline.moments.is_empty() {
            say!();
            let row = |moment: &crate::control::reports::Moment| {
                let kind = match moment.quiet {
                    Some(true) => "mark, consistent".to_owned(),
                    Some(false) => "mark, as in a crash".to_owned(),
                    None => moment.kind.clone(),
                };
                vec![moment.time.clone(), kind, moment.name.clone()]
            };
            table(&["TIME", "KIND", "NAME"], &timeline.moments.iter().map(row).collect::<Vec<_>>());
        }
        show_written(&timeline.written);
    }
    Ok(ExitCode::SUCCESS)
}

fn show_window(timeline: &Timeline) {
    let (Some(seconds), Some(bytes)) = (timeline.window_seconds, timeline.window_bytes) else {
        return say!("{} has no window: only its snapshots are kept (`narrowboat window --help`)", timeline.dataset);
    };
    say!("{} can be taken back by {} or {} of journal", timeline.dataset, duration(seconds as f64), size(bytes));
    if let (Some(first), Some(last)) = (&timeline.first, &timeline.last) {
        say!("any moment from {first} to {last}; {} of journal are kept for it", size(timeline.journal_bytes));
    }
}

/// A bar for each step, the newest ones, as long as its rate is high.
fn show_written(written: &[Written]) {
    let steps = &written[written.len().saturating_sub(CHART_ROWS)..];
    let most = steps.iter().map(|step| step.bytes_per_second).fold(0.0, f64::max);
    if most == 0.0 {
        return;
    }
    say!();
    say!("written, until the time that is named:");
    for step in steps {
        let bar = "#".repeat((step.bytes_per_second / most * CHART_COLUMNS).round() as usize);
        say!("  {}  {:>10}  {:>10}/s  {bar}", step.until, size(step.bytes), size(step.bytes_per_second as u64));
    }
}
