//! `window`, `mark`, `timeline` and `rewind`.

use std::process::ExitCode;

use super::show::{size, table};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Rewound, Timeline, Written};
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

pub(super) fn mark(context: &Context, dataset: String, name: String, with: Vec<String>, quiet: bool) -> Outcome {
    let datasets = std::iter::once(dataset).chain(with).collect();
    if let Some(done) = context.ask::<Acknowledged>(&Request::Mark { datasets, name, quiet })? {
        say!("{}", done.message);
    }
    Ok(ExitCode::SUCCESS)
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
                    Some(true) => "mark, quiet".to_owned(),
                    _ => moment.kind.clone(),
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
