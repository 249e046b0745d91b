//! What the box keeps things on: its disk, what takes room there and how to have it back, and whether all of it can be read.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;

use super::protection::Mark;
use super::trends::{Over, charts, report};
use super::{Frame, done, of_form, refused, show_page};
use crate::accounts::Role;
use crate::clock;
use crate::control::reports::{Acknowledged, Dataset, Reclaim, Scrub, Status};
use crate::control::{Failed, Request};
use crate::disks::state::Health;
use crate::scrub::Run;
use crate::trends::Report;
use crate::trends::forecast::DAYS_MIN;
use crate::web::chart::Chart;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed};

/// Files that damage hits and objects that are damaged, as far as they are listed.
const LISTED_MAX: usize = 100;
const DAY: f64 = 86_400.0;

#[derive(Template)]
#[template(path = "storage.html")]
struct Storage {
    frame: Frame,
    status: Arc<Status>,
    used: u64,
    leads: String,
    parts: Vec<(&'static str, u64)>,
    array: Option<(Mark, &'static str)>,
    over: Over,
    charts: Vec<Chart>,
    freed: Vec<Freed>,
    scrub: Scrub,
    scrub_word: (Mark, String),
    runs: Vec<RunRow>,
    /// What a run of reclaim would give back, where that was asked just now.
    preview: Option<Reclaim>,
    form: Form,
    operates: bool,
    rules: bool,
}

/// What deleting a dataset would free.
struct Freed {
    name: String,
    href: String,
    bytes: Option<u64>,
}

/// A scrub that has ended.
struct RunRow {
    began: String,
    ended: String,
    bytes: u64,
    damaged: u64,
    by: &'static str,
}

pub(super) async fn page(signed: Signed) -> Response {
    let form = signed.form();
    whole(&signed, form, None).await
}

async fn whole(signed: &Signed, form: Form, preview: Option<Reclaim>) -> Response {
    let over = Over::named(signed.query.text("span"));
    let asked = async {
        let status = signed.web.live.for_page(signed).await?;
        let trends = report(signed, over).await?;
        let scrub: Scrub = signed.request(Request::ScrubShow).await?;
        Ok::<_, Failed>((status, trends, scrub))
    };
    let (status, trends, scrub) = match asked.await {
        Ok(known) => known,
        Err(failed) => return refused(&failed),
    };
    let page = Storage {
        frame: Frame::of(signed, "storage", "Storage"),
        used: show::percent(&status.disk_bytes.saturating_sub(status.disk_free_bytes), &status.disk_bytes),
        leads: leads(&trends),
        parts: parts(&status),
        array: status.array.as_ref().map(|array| health(array.health)),
        charts: charts(&trends, &status, over),
        over,
        freed: freed(&status.datasets),
        scrub_word: scrub_word(&scrub),
        runs: scrub.history.iter().map(RunRow::of).collect(),
        scrub,
        status,
        preview,
        operates: signed.may(Role::Operator),
        rules: signed.may(Role::Administrator),
        form,
    };
    show_page(of_form(&page.form), &page)
}

impl Storage {
    fn fullness(&self) -> &'static str {
        if self.status.full { "bad" } else { "plain" }
    }

    /// How a disk of an array is, in words for what the kernel says.
    fn states(&self, states: &[String]) -> String {
        let word = |state: &String| match state.as_str() {
            "in_sync" => "in use".to_owned(),
            "spare" => "being filled, or waiting for it".to_owned(),
            "faulty" => "failed".to_owned(),
            other => other.replace('_', " "),
        };
        states.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// How far a scrub is, in percent.
    fn read(&self, run: &Run) -> u64 {
        show::percent(&run.containers, &(run.containers + run.left))
    }

    fn damaged(&self) -> impl Iterator<Item = &crate::control::reports::Damaged> {
        self.scrub.damaged.iter().take(LISTED_MAX)
    }

    fn affected(&self) -> impl Iterator<Item = &crate::control::reports::AffectedFile> {
        self.scrub.affected.iter().take(LISTED_MAX)
    }

    /// What is damaged or hit beyond what is listed.
    fn unlisted(&self) -> usize {
        self.scrub.damaged.len().saturating_sub(LISTED_MAX) + self.scrub.affected.len().saturating_sub(LISTED_MAX)
    }
}

impl RunRow {
    fn of(run: &Run) -> RunRow {
        RunRow {
            began: show::when(&run.began),
            ended: run.ended.as_deref().map_or_else(|| "–".into(), show::when),
            bytes: run.bytes,
            damaged: run.damaged,
            by: match (run.by_hand, run.after_rebuild) {
                (true, _) => "by hand",
                (_, true) => "after the index was built again",
                _ => "by itself",
            },
        }
    }
}

/// Where the disk leads, in sentences that claim no more than is known.
fn leads(trends: &Report) -> String {
    let Some(known) = &trends.forecast else {
        return format!("When the disk is full is said once there are {DAYS_MIN} days to go by.");
    };
    let per_day = |bytes: f64| {
        let sign = if bytes < 0.0 { "−" } else { "" };
        format!("{sign}{}", show::size(&(bytes.abs() as u64)))
    };
    let (low, high) = known.bytes_per_day_between;
    let pace = format!(
        "In the last {} days it took {} more a day (between {} and {}).",
        known.days,
        per_day(known.bytes_per_day),
        per_day(low),
        per_day(high)
    );
    let now = clock::wall().seconds() as f64;
    let date = |days: f64| show::at((now + days * DAY).max(0.0) as u64, "%-d %b %Y");
    let full = match (known.full_in_days, known.earliest_in_days, known.latest_in_days) {
        (Some(full), Some(early), Some(late)) => {
            format!(
                "If that goes on, it is full around {}: {} at the earliest, {} at the latest.",
                date(full),
                date(early),
                date(late)
            )
        }
        (Some(full), Some(early), None) => {
            format!(
                "If that goes on, it is full around {}, {} at the earliest; it may also not fill at all.",
                date(full),
                date(early)
            )
        }
        (None, Some(early), _) => format!(
            "If that goes on, it does not fill within ten years; at the fastest pace it could be full by {}.",
            date(early)
        ),
        _ => "If that goes on, it does not fill within ten years.".into(),
    };
    format!("{pace} {full}")
}

/// What the data folder holds, the largest first.
fn parts(status: &Status) -> Vec<(&'static str, u64)> {
    let parts = &status.parts;
    let mut all = vec![
        ("Deduplicated data", parts.objects_bytes),
        ("Directories of containers", parts.directories_bytes),
        ("Set aside: nothing in it could be read", parts.aside_bytes),
        ("Index", parts.index_bytes),
        ("Catalogue", parts.catalogue_bytes),
        ("Journal", parts.journal_bytes),
        ("History for windows", parts.history_bytes),
        ("Everything else", parts.other_bytes),
    ];
    all.retain(|(_, bytes)| *bytes > 0);
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    all
}

fn health(health: Health) -> (Mark, &'static str) {
    match health {
        Health::Healthy => (Mark::Good, "Complete"),
        Health::Building => (Mark::Busy, "Being built"),
        Health::Checking => (Mark::Busy, "Being compared"),
        Health::Rebuilding => (Mark::Warn, "A disk is being filled"),
        Health::Degraded => (Mark::Warn, "A disk is missing"),
        Health::Broken => (Mark::Bad, "Too many disks are missing"),
    }
}

/// What deleting each would free, the most first.
fn freed(datasets: &[Dataset]) -> Vec<Freed> {
    let row = |dataset: &Dataset| Freed {
        name: dataset.name.clone(),
        href: format!("/datasets/{}", show::part(&dataset.name)),
        bytes: dataset.frees_bytes,
    };
    let mut rows: Vec<Freed> = datasets.iter().map(row).collect();
    rows.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    rows
}

fn scrub_word(scrub: &Scrub) -> (Mark, String) {
    let mark = match scrub.state.as_str() {
        _ if !scrub.damaged.is_empty() => return (Mark::Bad, "Damage was found".into()),
        "failing" => Mark::Bad,
        "paused" => Mark::Warn,
        "running" => Mark::Busy,
        _ if scrub.history.is_empty() => Mark::Still,
        _ => Mark::Good,
    };
    (mark, show::capital(&scrub.state))
}

/// Gives room back, or says how much that would be.
pub(super) async fn reclaim(Change { signed, mut form }: Change) -> Response {
    if form.is("what", "preview") {
        return match signed.request::<Reclaim>(Request::Reclaim { dry_run: true }).await {
            Ok(preview) => whole(&signed, form, Some(preview)).await,
            Err(failed) if failed.kind == "slow" => {
                form.wrong(
                    WHOLE,
                    "Counting that takes longer than a page waits. What nobody needs is counted once a day: see above.",
                );
                whole(&signed, form, None).await
            }
            Err(failed) => refused(&failed),
        };
    }
    match signed.request::<Acknowledged>(Request::ReclaimBegin).await {
        Ok(_) => done(&signed, "/storage", "reclaiming"),
        Err(failed) => refused(&failed),
    }
}

/// Has it counted anew what deleting would free.
pub(super) async fn count(Change { signed, .. }: Change) -> Response {
    match signed.request::<Acknowledged>(Request::FreeableBegin).await {
        Ok(_) => done(&signed, "/storage", "counting"),
        Err(failed) => refused(&failed),
    }
}

/// Has everything read, or not, and damage healed.
pub(super) async fn scrub(Change { signed, form }: Change) -> Response {
    let (request, word) = match form.value("what") {
        "pause" => (Request::ScrubPause { paused: true }, "scrub-paused"),
        "resume" => (Request::ScrubPause { paused: false }, "scrub-resumed"),
        "heal" => (Request::ScrubHeal, "healing"),
        _ => (Request::ScrubStart, "scrubbing"),
    };
    match signed.request::<Acknowledged>(request).await {
        Ok(_) => done(&signed, "/storage", word),
        Err(failed) => refused(&failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trends::forecast::Forecast;

    fn trends(forecast: Option<Forecast>) -> String {
        leads(&Report { step_seconds: 3600, points: Vec::new(), forecast, full_in_days: None })
    }

    #[test]
    fn no_more_is_claimed_than_is_known() {
        assert!(trends(None).contains("once there are 7 days"));
        let known = Forecast {
            days: 30,
            bytes_per_day: 1e9,
            bytes_per_day_between: (-1e9, 2e9),
            full_in_days: Some(100.0),
            earliest_in_days: Some(50.0),
            latest_in_days: None,
        };
        let text = trends(Some(known));
        assert!(
            text.contains("full around") && text.contains("may also not fill") && text.contains("−953.7 MiB"),
            "{text}"
        );
        let both = trends(Some(Forecast { latest_in_days: Some(200.0), ..known }));
        assert!(both.contains("at the earliest") && both.contains("at the latest"), "{both}");
        let rests = Forecast { full_in_days: None, earliest_in_days: None, ..known };
        assert!(trends(Some(rests)).contains("does not fill within ten years."));
    }
}
