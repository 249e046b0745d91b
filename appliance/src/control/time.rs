//! What requests about time do: windows, marks, rewinds, and what a moment's name stands for.

use std::time::{Duration, Instant};

use narrowboat_storage::catalogue::{DatasetKind, DatasetRow, Window};
use narrowboat_storage::store::{Limit, Moment, Reach, Timeline};
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Jump, Store};

use super::Failed;
use super::reports;
use crate::clock;
use crate::node::Node;
use crate::policies::Policies;
use crate::units::{parse_rfc3339, rfc3339};

/// How much history and journal a window keeps where only its length was said.
const WINDOW_BYTES: u64 = 32 << 30;
/// How long a window is where only its bytes were said.
const WINDOW_SECONDS: u64 = 7 * 24 * 3600;
/// By so much a clock that was set back may be behind the box's times before people are told.
const AHEAD_SECONDS: f64 = 60.0;
/// How long those who leave a dataset may take until they are gone.
const LEAVING: Duration = Duration::from_secs(2);

/// Sets, changes or removes a dataset's window.
pub(super) fn set_window(
    store: &Store,
    dataset: &str,
    seconds: Option<u64>,
    bytes: Option<u64>,
    off: bool,
) -> Result<reports::Timeline, Failed> {
    let present = store.timeline(dataset)?.reach.map(|reach| reach.window);
    let wanted = Window {
        nanoseconds: match (seconds, present) {
            (Some(seconds), _) => seconds.saturating_mul(1_000_000_000),
            (None, Some(present)) => present.nanoseconds,
            (None, None) => WINDOW_SECONDS * 1_000_000_000,
        },
        bytes: bytes.or(present.map(|present| present.bytes)).unwrap_or(WINDOW_BYTES),
    };
    if off {
        store.set_window(dataset, None, clock::now())?;
    } else if seconds.is_some() || bytes.is_some() {
        store.set_window(dataset, Some(wanted), clock::now())?;
    }
    timeline(store, dataset)
}

/// How far a dataset can be taken back.
pub(super) fn window(reach: &Reach) -> reports::Window {
    reports::Window {
        asked_seconds: reach.window.nanoseconds / 1_000_000_000,
        asked_bytes: reach.window.bytes,
        // Cut to milliseconds, the first moment would lie before the window, and the last before what was written last.
        first: reach.first.to_string(),
        last: reach.last.to_string(),
        seconds: reach.passed_nanoseconds as f64 / 1e9,
        journal_bytes: reach.journal_bytes,
        history_bytes: reach.history_bytes,
        limit: match reach.limit {
            Limit::Begun => "begun",
            Limit::Age => "age",
            Limit::Bytes => "bytes",
            Limit::Disk => "disk",
            Limit::LetGo => "let-go",
        }
        .into(),
    }
}

/// What waits of a dataset that is deduplicated later.
pub(super) fn deferred(node: &Node, row: &DatasetRow) -> Option<reports::Deferred> {
    let hours = Policies::hours(&node.config, row)?;
    let deferral = node.store.deferral(row.id).ok()??;
    Some(reports::Deferred {
        hours: hours.to_string(),
        now: deferral.hours,
        waiting_bytes: deferral.waiting_bytes,
        bound_bytes: deferral.bound_bytes,
        overrun: deferral.overrun,
        overrun_at: node.policies.overrun_at(row.id).map(rfc3339),
    })
}

/// What a dataset can be taken back to.
pub(super) fn timeline(store: &Store, dataset: &str) -> Result<reports::Timeline, Failed> {
    let Timeline { reach, snapshots, marks, written } = store.timeline(dataset)?;
    Ok(reports::Timeline {
        dataset: dataset.to_owned(),
        window: reach.as_ref().map(window),
        moments: {
            let snapshots = snapshots.into_iter().map(|row| (row.time, "snapshot", row.name, None));
            let marks = marks.into_iter().map(|mark| (mark.time, "mark", mark.label, Some(mark.quiet)));
            let mut moments: Vec<_> = snapshots.chain(marks).collect();
            moments.sort_by_key(|(time, ..)| *time);
            let moment = |(time, kind, name, quiet): (_, &str, _, _)| reports::Moment {
                kind: kind.into(),
                name,
                time: rfc3339(time),
                quiet,
                consistency: quiet.map(|quiet| reports::consistency(quiet).to_owned()),
            };
            moments.into_iter().map(moment).collect()
        },
        written: written
            .into_iter()
            .map(|step| reports::Written {
                from: rfc3339(step.from),
                until: rfc3339(step.until),
                bytes: step.bytes,
                bytes_per_second: step.bytes as f64 / (step.until.0.saturating_sub(step.from.0).max(1) as f64 / 1e9),
            })
            .collect(),
    })
}

/// Marks a moment, with hooks or without.
pub(super) fn mark(
    node: &Node,
    datasets: &[String],
    name: &str,
    quiet: bool,
    hooks: &[String],
) -> Result<reports::Marked, Failed> {
    if !hooks.is_empty() && quiet {
        return Err(Failed::refused("whether the applications are quiet is what the hooks say"));
    }
    if !hooks.is_empty() {
        return node.hooks.mark(datasets, name, hooks);
    }
    let names: Vec<&str> = datasets.iter().map(String::as_str).collect();
    let placed = node.store.mark(&names, name, quiet, clock::now())?;
    Ok(reports::Marked {
        datasets: datasets.to_vec(),
        name: name.to_owned(),
        time: rfc3339(placed.time),
        lsn: placed.lsn.0,
        quiet,
        consistency: reports::consistency(quiet).to_owned(),
        hooks: Vec::new(),
    })
}

/// Forgets that a thaw is owed.
pub(super) fn forget_thaw(node: &Node, hook: &str) -> Result<reports::Acknowledged, Failed> {
    node.hooks.forget(hook)?;
    Ok(reports::Acknowledged { message: format!("no thaw of {hook} is owed any more") })
}

/// The moment that `text` names: a snapshot, a mark, a time, or `now`.
pub(super) fn moment(store: &Store, dataset: &str, text: &str) -> Result<Moment, Failed> {
    if store.snapshot_named(dataset, text).is_ok() {
        return Ok(Moment::Snapshot(text.to_owned()));
    }
    if store.timeline(dataset)?.marks.iter().any(|mark| mark.label == text) {
        return Ok(Moment::Mark(text.to_owned()));
    }
    if text == "now" {
        return Ok(Moment::Newest);
    }
    let time = parse_rfc3339(text).ok_or_else(|| {
        let time = "a time is written as in 2026-11-22T07:30:00Z";
        Failed::missing(format!("the snapshot {dataset}@{text} does not exist, nor does a mark of that name; {time}"))
    })?;
    match passed_over(time, clock::wall(), &store.jumps()) {
        None => Ok(Moment::Time(time)),
        Some(Jump { from, to }) => Err(Failed::refused(format!(
            "the box's clock jumped from {from} to {to}, and was set back later: what was written since then has times from {to} \
             on, as `narrowboat timeline {dataset}` shows. `now` names the newest moment"
        ))),
    }
}

/// By how much the times that the box gives out are ahead of the system's clock; `None` where that is little.
pub(super) fn ahead_seconds(store: &Store) -> Option<f64> {
    let ahead = store.time().0.saturating_sub(clock::wall().0) as f64 / 1e9;
    (ahead > AHEAD_SECONDS).then_some(ahead)
}

/// The jump of the clock that a time lies in, where the clock was wrong behind it: the time shown on the `wall` is still to come to
/// its end. Records of that time are elsewhere.
fn passed_over(time: Timestamp, wall: Timestamp, jumps: &[Jump]) -> Option<Jump> {
    jumps.iter().copied().find(|jump| jump.from < time && time < jump.to && wall < jump.to)
}

/// Divides `MOMENT[:PATH]`: times have colons of their own, so the longest moment counts.
pub(super) fn moment_and_path<'a>(store: &Store, dataset: &str, text: &'a str) -> Result<(Moment, &'a str), Failed> {
    let ends = text.rmatch_indices(':').map(|(at, _)| at);
    for end in std::iter::once(text.len()).chain(ends) {
        let (name, path) = (&text[..end], text[end..].trim_start_matches(':'));
        if let Ok(found) = moment(store, dataset, name) {
            return Ok((found, path));
        }
    }
    Err(moment(store, dataset, text.split(':').next().unwrap_or_default())
        .err()
        .unwrap_or_else(|| Failed::refused(format!("{dataset}@{text} names no moment"))))
}

/// Takes a dataset back to a moment. Refused while somebody uses it, except by `force`: then whoever can be told is told.
pub(super) fn rewind(node: &Node, dataset: &str, to: &str, force: bool) -> Result<reports::Rewound, Failed> {
    let row = node.store.dataset_named(dataset)?.row;
    let moment = moment(&node.store, dataset, to)?;
    let users = users(node, &row, force);
    if !users.is_empty() && !force {
        return Err(in_use(&row, &users));
    }
    let now = clock::now();
    let before = format!("before-rewind-{}", rfc3339(now).replace(':', "-"));
    let kept = node.store.rewind(dataset, &moment, &before, now)?;
    // Also whoever came meanwhile: what it has read may be of the time before.
    node.users.tell_replaced(row.id);
    // Whoever takes it back knows what was lost, and what it is compared with begins anew.
    node.losses.accept(&row, clock::now());
    Ok(reports::Rewound { dataset: dataset.to_owned(), to: to.to_owned(), before: kept.name, users })
}

/// Who uses a dataset. Where that matters, those who are about to leave have the time for it: who has logged out, or closed
/// his connection, a moment ago is seen to be gone a moment later.
fn users(node: &Node, row: &DatasetRow, force: bool) -> Vec<String> {
    let since = Instant::now();
    loop {
        let users = node.users.of(row.id);
        if users.is_empty() || force || since.elapsed() >= LEAVING {
            return users;
        }
        std::thread::sleep(LEAVING / 20);
    }
}

fn in_use(row: &DatasetRow, users: &[String]) -> Failed {
    let (name, who) = (&row.name, users.join(", "));
    let (harm, remedy) = match row.kind {
        DatasetKind::Volume => (
            "a file system that is mounted there would write what it remembers over the disk as it was then",
            "unmount it there and log out first",
        ),
        DatasetKind::Share => (
            "what clients remember of its files, and have not written yet, would be of another time",
            "unmount it there first",
        ),
    };
    Failed::about(
        "force",
        format!("{name} is in use by {who}: {harm}. Either {remedy}, or leave it and make a new one as it was"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_that_a_wrong_clock_passed_over_are_refused() {
        let jump = |from, to| Jump { from: Timestamp(from), to: Timestamp(to) };
        // A night in which the box was off; then a clock that is far ahead.
        let jumps = [jump(100, 200), jump(300, 9000)];
        let refused = |time, wall| passed_over(Timestamp(time), Timestamp(wall), &jumps);
        assert_eq!(refused(150, 400), None, "it was as it was in the evening");
        assert_eq!(refused(350, 9500), None, "as far as anybody knows the clock was right");
        assert_eq!(refused(350, 400), Some(jumps[1]));
        for time in [250, 300, 9000, 9001] {
            assert_eq!(refused(time, 400), None, "{time}");
        }
    }
}
