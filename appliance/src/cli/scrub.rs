//! `scrub`.

use std::process::ExitCode;

use clap::Subcommand;

use super::show::{count, size, table};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::reports::{Acknowledged, AffectedFile, Scrub};
use crate::scrub::Run;
use crate::units::duration;

/// Files that are listed; the JSON has more.
const FILES_MAX: usize = 40;

#[derive(Subcommand)]
pub(super) enum ScrubCommand {
    /// How far it is, what past ones found, what is damaged now, and which files of which snapshots that hits.
    Show,
    /// Begin one now. It goes on by itself, over restarts, as slowly as the config file says.
    Start,
    /// Ask the peers that are connected for what is damaged, now. The box does so by itself when damage is met, when a peer comes that was not asked yet,
    /// and then again and again, at most once an hour and at least once a day.
    Heal,
    /// Stop reading until `scrub resume`.
    Pause,
    /// Go on where it was.
    Resume,
}

pub(super) fn scrub(context: &Context, command: &ScrubCommand) -> Outcome {
    let request = match command {
        ScrubCommand::Show => {
            if let Some(scrub) = context.ask::<Scrub>(&Request::ScrubShow)? {
                show(&scrub);
            }
            return Ok(ExitCode::SUCCESS);
        }
        ScrubCommand::Start => Request::ScrubStart,
        ScrubCommand::Heal => Request::ScrubHeal,
        ScrubCommand::Pause => Request::ScrubPause { paused: true },
        ScrubCommand::Resume => Request::ScrubPause { paused: false },
    };
    if let Some(done) = context.ask::<Acknowledged>(&request)? {
        say!("{}", done.message);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(scrub: &Scrub) {
    let hours = scrub.hours.as_ref().map_or_else(String::new, |hours| format!(", {hours}"));
    say!("{} (at most {} a second{hours})", scrub.state, size(scrub.rate));
    if let Some(problem) = &scrub.problem {
        say!("PROBLEM: {problem}");
    }
    if let Some(run) = &scrub.running {
        let all = run.containers + run.left;
        say!("{} of {} containers since {}: {}", count(run.containers), count(all), run.began, found(run));
        let left = run.bytes as f64 / run.containers.max(1) as f64 * run.left as f64;
        say!("about {} left, at the least", duration(left / scrub.rate as f64));
    } else if let Some(seconds) = scrub.due_in_seconds {
        say!("the next begins when the box has run for another {}", duration(seconds as f64));
    }
    if !scrub.history.is_empty() {
        say!();
        let row = |run: &Run| vec![run.began.clone(), run.ended.clone().unwrap_or_default(), found(run)];
        table(&["BEGAN", "ENDED", "FOUND"], &scrub.history.iter().map(row).collect::<Vec<_>>());
    }
    show_damage(scrub);
}

fn found(run: &Run) -> String {
    let damage = match run.damaged {
        0 => "all sound".to_owned(),
        places => format!("{} places DAMAGED", count(places)),
    };
    format!("{} objects, {}, {damage}", count(run.objects), size(run.bytes))
}

fn show_healing(scrub: &Scrub) {
    for (peer, came) in &scrub.healing.from {
        say!("healed from {peer}: {} objects, {}", count(came.objects), size(came.bytes));
    }
    if scrub.heals {
        say!("peers are being asked for what is damaged");
    }
    let Some(last) = &scrub.healing.last else { return };
    for (peer, problem) in &last.asked {
        if let Some(problem) = problem {
            say!("{peer} was asked at {}: {problem}", last.ended);
        }
    }
    if last.left + last.torn > 0 {
        let torn =
            if last.torn > 0 { format!(", {} snapshots are not whole", count(last.torn)) } else { String::new() };
        say!("NOT HEALED by the peers that were asked at {}: {} objects{torn}", last.ended, count(last.left));
    }
}

fn show_damage(scrub: &Scrub) {
    say!();
    if scrub.healed > 0 {
        say!("{} objects were damaged, came again, and are sound", count(scrub.healed as u64));
    }
    show_healing(scrub);
    if scrub.damaged.is_empty() {
        say!("nothing is known to be damaged");
        return;
    }
    say!(
        "{} objects are DAMAGED; who backs up the same data once more heals them, and so does a peer that has them:",
        count(scrub.damaged.len() as u64)
    );
    for damaged in scrub.damaged.iter().take(FILES_MAX) {
        say!("  {}", damaged.what);
    }
    say!();
    let row = |file: &AffectedFile| {
        let moment = file.snapshot.as_ref().map_or_else(|| "(now)".to_owned(), |name| format!("@{name}"));
        let path = match file.path.as_deref() {
            None => "(part of the directory tree: more may be hit)",
            Some("") => "(the volume)",
            Some(path) => path,
        };
        vec![
            format!("{} {moment}", file.dataset),
            path.to_owned(),
            size(file.bytes),
            format!("{} to {}", file.from, file.to),
        ]
    };
    let rows: Vec<_> = scrub.affected.iter().take(FILES_MAX).map(row).collect();
    table(&["DATASET", "FILE", "LOST", "BYTES"], &rows);
    if scrub.affected.len() > FILES_MAX {
        say!("and {} more; --json lists them", scrub.affected.len() - FILES_MAX);
    }
}
