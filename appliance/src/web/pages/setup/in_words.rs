//! What was typed, in words: the rows of the summary.

use super::{STEPS, problem};
use crate::control::reports::SetUpState;
use crate::network::Wanted;
use crate::setup::typed::{self, Typed};
use crate::web::show;

/// What was typed in a step, in words.
pub(super) struct Row {
    pub what: &'static str,
    pub value: String,
    pub href: &'static str,
    pub problem: Option<String>,
}

/// What was typed, in words.
pub(super) fn rows(typed: &Typed, state: &SetUpState) -> Vec<Row> {
    let set_up = typed::set_up(typed);
    let wrong = |place: usize| problem(&STEPS[place], state).map(|(_, sentence)| show::sentence(sentence));
    let row = |place: usize, what, value| Row { what, value, href: HREFS[place], problem: wrong(place) };
    let said = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.to_owned());
    let dataset = set_up.dataset.first();
    let kind = dataset.map_or("None for now".into(), |dataset| match &dataset.size {
        Some(size) => format!("A volume called {}, of {size}", dataset.name),
        None => format!("A share called {}", dataset.name),
    });
    let copied = match dataset.and_then(|dataset| dataset.every.as_deref()) {
        None => "Not by itself".into(),
        Some(_) if set_up.head_office.is_none() => "Once there is a head office: you say it then".into(),
        Some("change") => "Every change, as it is made".into(),
        Some(every) => format!("Every {every}"),
    };
    let kept = if dataset.is_some_and(|dataset| dataset.keep.is_some()) {
        format!("As usual: {}", typed::KEEP)
    } else {
        "All of them, until somebody deletes them".into()
    };
    let networks = if set_up.networks.is_empty() { "This box alone".into() } else { set_up.networks.join(", ") };
    let notices = set_up.notices.clone().unwrap_or_default();
    let mut told = Vec::new();
    told.extend(notices.mail.map(|mail| {
        format!("Mail to {} through {}", mail.to.join(", "), mail.server.unwrap_or_else(|| "no server yet".into()))
    }));
    told.extend(
        notices.webhook.map(|hook| format!("a call to {}", hook.address.split('/').nth(2).unwrap_or("an address"))),
    );
    told.extend(notices.syslog.map(|log| format!("the log server {}", log.server)));
    let told = if told.is_empty() { "Nobody, for now".into() } else { show::capital(&told.join("; ")) };
    vec![
        row(0, "Name", said(&set_up.name, "As it is")),
        row(0, "Time zone", said(&set_up.time_zone, "As it is")),
        row(1, "Where backups lie", lies(state)),
        row(2, "Network", network(set_up.network.as_ref())),
        row(3, "Who may back up", networks),
        row(4, "Where backups go", kind),
        row(4, "Snapshots that stay", kept),
        row(5, "Head office", set_up.head_office.map_or("Later".into(), |head| head.address)),
        row(5, "Copied there", copied),
        row(6, "Of the line", line(set_up.line.as_ref())),
        row(7, "Who gets notices", told),
    ]
}

/// A network set-up in words.
fn network(wanted: Option<&Wanted>) -> String {
    let Some(wanted) = wanted else { return "As it is".into() };
    format!("{}, tried after all else", wanted.words())
}

const HREFS: [&str; 8] = [
    "/setup/place",
    "/setup/disks",
    "/setup/network",
    "/setup/clients",
    "/setup/dataset",
    "/setup/head-office",
    "/setup/line",
    "/setup/notices",
];

fn line(line: Option<&crate::setup::Line>) -> String {
    let Some(line) = line else { return "All that it has".into() };
    let rate = line.rate.as_deref().map_or("all that it has".into(), |rate| format!("at most {rate}"));
    match &line.calendar {
        Some(calendar) => {
            format!("{}; in some hours {}", show::capital(&rate), calendar.lines().collect::<Vec<_>>().join("; "))
        }
        None => show::capital(&rate),
    }
}

/// Where backups lie, in words.
pub(super) fn lies(state: &SetUpState) -> String {
    match (&state.array, &state.lies) {
        (Some(array), _) => format!("On an array of {}", show::many(&(array.disks as usize), "disk")),
        (None, Some(place)) if place.system => "On the disk that the system runs from".into(),
        (None, Some(place)) => format!("On {}, which is mounted for it", place.source),
        (None, None) => "Nobody knows: the system does not say it".into(),
    }
}
