//! `window`, `mark`, `thaw`, `timeline` and `rewind`.

mod chart;

use std::process::ExitCode;

use super::show::{or_dash, size, table};
use super::{Context, HOOK_FAILED, Outcome};
use crate::control::reports::{Acknowledged, HookCall, Marked, Moment, Rewound, Timeline, Window};
use crate::control::{Failed, Request};
use crate::units::{ByteSize, duration};

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

pub(super) fn rewind(context: &Context, dataset: String, to: String, new: Option<String>, force: bool) -> Outcome {
    if let Some(name) = new {
        return super::dataset::clone(context, format!("{dataset}@{to}"), name);
    }
    let anew = format!("narrowboat rewind {dataset} --to '{to}' --as NEW");
    let done = context.ask::<Rewound>(&Request::Rewind { dataset, to, force }).map_err(|failed| {
        match failed.field.as_deref() {
            Some("force") => {
                let message = format!("{} (`{anew}`); `--force` takes it back all the same", failed.message);
                Failed { message, ..failed }
            }
            _ => failed,
        }
    })?;
    if let Some(done) = done {
        say!("{} is as it was at {}", done.dataset, done.to);
        say!("what it was before is {}@{}", done.dataset, done.before);
        if !done.users.is_empty() {
            say!("PROBLEM: it was in use by {}: what they remember is of the time before,", done.users.join(", "));
            say!("  so let nothing be written there until it is unmounted and mounted anew");
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn timeline(context: &Context, dataset: String) -> Outcome {
    if let Some(timeline) = context.ask::<Timeline>(&Request::Timeline { dataset })? {
        show_window(&timeline);
        if !timeline.moments.is_empty() {
            say!();
            let rows: Vec<_> = timeline.moments.iter().map(row_of).collect();
            table(&["TIME", "KIND", "CONSISTENCY", "NAME"], &rows);
        }
        chart::show(&timeline);
    }
    Ok(ExitCode::SUCCESS)
}

fn row_of(moment: &Moment) -> Vec<String> {
    let consistency = or_dash(moment.consistency.clone());
    vec![moment.time.clone(), moment.kind.clone(), consistency, moment.name.clone()]
}

fn show_window(timeline: &Timeline) {
    let Some(window) = &timeline.window else {
        return say!("{} has no window: only its snapshots are kept (`narrowboat window --help`)", timeline.dataset);
    };
    say!("{} can be taken back {}, to any moment", timeline.dataset, duration(window.seconds));
    say!("  from   {}", window.first);
    say!("  to     {}", window.last);
    let (all, history) = (size(window.journal_bytes), size(window.history_bytes));
    say!("  keeps  {all} for that, {history} of it as history and the rest in the journal");
    say!("  asked  {} or {}, whichever ends first", duration(window.asked_seconds as f64), size(window.asked_bytes));
    say!("  ends   {}", why_it_ends(window));
}

/// Why a window reaches back no further, as a sentence goes on behind "it ends".
pub(super) fn why_it_ends(window: &Window) -> String {
    match window.limit.as_str() {
        "begun" => "there because nothing was kept before".into(),
        "age" => "there because that is as long as was asked for".into(),
        "bytes" => format!("there because more would cost over {}", size(window.asked_bytes)),
        "disk" => "there because the disk has no room for more".into(),
        _ => "there because what was before was let go, for want of room or by a smaller window".into(),
    }
}
