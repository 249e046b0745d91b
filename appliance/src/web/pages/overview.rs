//! The overview: whether everything is safe, and what to do where it is not.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::access::show_claim;
use super::jobs::{Job, running};
use super::protection::{self, Mark, Problem, Protection};
use super::trends::{Over, few, report};
use super::{Frame, refused, show_page, to_sign_in};
use crate::accounts::Role;
use crate::control::door::{Ask, State};
use crate::control::reports::{Dataset, Status};
use crate::web::chart::Chart;
use crate::web::show;
use crate::web::visitor::{Signed, Visitor};

/// What is shown live.
#[derive(Template)]
#[template(path = "overview_live.html")]
struct Now {
    verdict: (Mark, String, String),
    problems: Vec<Problem>,
    steps: Vec<Step>,
    rows: Vec<Row>,
    jobs: Vec<Job>,
    status: Arc<Status>,
    /// What clients have written, without what of volumes nobody wrote to.
    written: u64,
    saved: String,
    used: u64,
}

/// A dataset in the list.
pub(super) struct Row {
    pub name: String,
    pub href: String,
    pub kind: &'static str,
    pub protection: Protection,
    pub snapshot: String,
    pub size: u64,
}

/// A step of somebody who begins.
struct Step {
    done: bool,
    what: &'static str,
    why: &'static str,
    href: &'static str,
    link: &'static str,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    now: Now,
    /// How the last week was.
    charts: Vec<Chart>,
}

/// The first page: of who is signed in, or else the way in.
pub(super) async fn home(visitor: Visitor) -> Response {
    if visitor.session.is_none() {
        return match visitor.ask::<State>(Ask::State).await {
            Ok(state) if state.claimed => to_sign_in(),
            Ok(_) => show_claim(&visitor),
            Err(failed) => refused(&failed),
        };
    }
    let signed = match Signed::of(visitor).await {
        Ok(signed) => signed,
        Err(response) => return response,
    };
    match signed.web.live.for_page(&signed).await {
        Ok(status) => {
            // What was is worth less than what is: without it, the page goes without.
            let report = report(&signed, Over::Week).await;
            let charts = report.map_or_else(|_| Vec::new(), |report| few(&report, &status, Over::Week));
            let now = Now::of(status, signed.may(Role::Administrator));
            show_page(StatusCode::OK, &Overview { frame: Frame::of(&signed, "overview", "Overview"), now, charts })
        }
        Err(failed) => refused(&failed),
    }
}

/// The part of it that changes.
pub(super) async fn live(visitor: Visitor) -> Response {
    let live = &visitor.web.live;
    let person = match live.person(&visitor).await {
        Ok(person) => person,
        Err(failed) => return refused(&failed),
    };
    match live.status(&visitor, &person).await {
        Ok(status) => show_page(StatusCode::OK, &Now::of(status, person.role >= Role::Administrator)),
        Err(failed) => refused(&failed),
    }
}

impl Row {
    pub(super) fn of(status: &Status, dataset: &Dataset) -> Row {
        Row {
            name: dataset.name.clone(),
            href: format!("/datasets/{}", show::part(&dataset.name)),
            kind: if dataset.kind == "share" { "share" } else { "volume" },
            protection: protection::of(status, dataset),
            snapshot: dataset.newest_snapshot.as_deref().map_or_else(|| "none yet".into(), show::snapshot),
            size: dataset.used_bytes.unwrap_or(dataset.logical_bytes),
        }
    }
}

impl Now {
    fn of(status: Arc<Status>, rules: bool) -> Now {
        let problems = protection::problems(&status);
        let mut rows: Vec<Row> = status.datasets.iter().map(|dataset| Row::of(&status, dataset)).collect();
        rows.sort_by(|a, b| b.protection.mark.cmp(&a.protection.mark).then_with(|| a.name.cmp(&b.name)));
        let written = status.written_bytes();
        let whole = status.protected_bytes.max(written);
        let saved = match status.stored_bytes {
            0 => "nothing yet".into(),
            stored => format!("{:.1} to 1", whole as f64 / stored as f64),
        };
        Now {
            verdict: verdict(&status, &problems),
            steps: if rules { steps(&status) } else { Vec::new() },
            used: show::percent(&status.disk_bytes.saturating_sub(status.disk_free_bytes), &status.disk_bytes),
            jobs: running(&status),
            problems,
            rows,
            status,
            written,
            saved,
        }
    }
}

/// All of it in a word and a sentence.
fn verdict(status: &Status, problems: &[Problem]) -> (Mark, String, String) {
    let own = status.datasets.iter().filter(|dataset| !dataset.read_only).count();
    let worst = problems.first().map_or(Mark::Good, |problem| problem.mark);
    let count = problems.iter().filter(|problem| problem.mark >= Mark::Warn).count();
    let (needs, look) = if count == 1 { ("needs", "thing") } else { ("need", "things") };
    match worst {
        Mark::Bad => (Mark::Bad, "Something is wrong".into(), format!("{count} {look} {needs} somebody.")),
        Mark::Warn => (Mark::Warn, "Not everything is protected".into(), format!("{count} {look} {needs} a look.")),
        _ if own == 0 && status.datasets.is_empty() => (
            Mark::Still,
            "Nothing to protect yet".into(),
            "Backups are written to a share or a volume: make the first one.".into(),
        ),
        _ if own == 0 => (Mark::Good, "All is well".into(), "This box keeps copies for others.".into()),
        _ => {
            (Mark::Good, "Everything is protected".into(), format!("Another box has {}.", show::many(&own, "dataset")))
        }
    }
}

/// What is left of setting the box up; nothing once all of it is done.
fn steps(status: &Status) -> Vec<Step> {
    let replicas = status.datasets.iter().any(|dataset| dataset.read_only);
    let dataset = status.datasets.iter().any(|dataset| !dataset.read_only);
    let (paired, planned) = (!status.peers.is_empty(), !status.plans.is_empty());
    if replicas && !dataset || dataset && paired && planned {
        return Vec::new();
    }
    vec![
        Step {
            done: dataset,
            what: "Make a share or a volume",
            why: "It is where backups are written to: a folder over NFS, or a disk over iSCSI.",
            href: "/datasets/new",
            link: "Make one",
        },
        Step {
            done: paired,
            what: "Pair with the box at head office",
            why: "A code is read out over the telephone once. From then on the boxes know one another.",
            href: "/peers",
            link: "Pair",
        },
        Step {
            done: planned,
            what: "Say what is copied there, and how often",
            why: "Only what is new goes over the line.",
            href: "/datasets",
            link: "Choose",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_box_tells_how_to_begin_and_only_to_who_may() {
        let status = Arc::new(Status::default());
        let now = Now::of(status.clone(), true);
        assert_eq!((now.verdict.0, now.steps.len(), now.used), (Mark::Still, 3, 0));
        assert!(Now::of(status, false).steps.is_empty());
    }

    #[test]
    fn an_empty_volume_saves_nothing() {
        let value = serde_json::json!({
            "name": "disk", "id": "0", "kind": "volume", "dedup": "inline", "read_only": false, "origin": null, "created": "",
            "logical_bytes": 1u64 << 40, "used_bytes": 2_000, "files": 0, "directories": 0, "snapshots": 0, "newest_snapshot": null, "export": null,
            "target": null, "lun": null, "damage": null, "window": null, "deferred": null
        });
        let datasets = vec![serde_json::from_value(value).expect("a dataset")];
        let status = Status { datasets, logical_bytes: 1 << 40, stored_bytes: 1_000, ..Status::default() };
        let now = Now::of(Arc::new(status), true);
        assert_eq!((now.saved.as_str(), now.written), ("2.0 to 1", 2_000));
    }

    #[test]
    fn names_are_escaped() {
        let value = serde_json::json!({
            "name": "<script>alert('x')</script>\"&", "id": "0", "kind": "share", "dedup": "inline", "read_only": false, "origin": null, "created": "",
            "logical_bytes": 0, "used_bytes": null, "files": 0, "directories": 0, "snapshots": 0, "newest_snapshot": null, "export": null,
            "target": null, "lun": null, "damage": null, "window": null, "deferred": null
        });
        let dataset: Dataset = serde_json::from_value(value).expect("a dataset");
        let text =
            Now::of(Arc::new(Status { datasets: vec![dataset], ..Status::default() }), true).render().expect("a page");
        assert!(!text.contains("<script") && text.contains("&#60;script&#62;"), "{text}");
    }
}
