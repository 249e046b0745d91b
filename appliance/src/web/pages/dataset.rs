//! One dataset: how it is reached, where it is copied to, and its snapshots.

use std::sync::Arc;

use askama::Template;
use axum::response::Response;

use super::mounts::{self, Mount};
use super::protection::{self, Mark, Protection};
use super::{Confirm, Frame, TYPED, done, missing, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::reports::{Acknowledged, Dataset, Loss, Plan, Snapshot, Status};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

/// Snapshots on one page.
const SNAPSHOTS_MAX: usize = 50;

/// A plan as it is shown.
struct Way {
    plan: Plan,
    mark: Mark,
}

#[derive(Template)]
#[template(path = "dataset.html")]
struct Page {
    frame: Frame,
    head: Head,
    dataset: Dataset,
    /// Much of it is gone.
    loss: Option<Loss>,
    /// The address of this page.
    href: String,
    mounts: Vec<Mount>,
    copies: Vec<Way>,
    /// Peers that it does not go to yet.
    peers: Vec<String>,
    /// The newest first.
    snapshots: Vec<Snapshot>,
    /// How many more there are.
    older: usize,
    form: Form,
    operates: bool,
    rules: bool,
}

/// What stands above every page of a dataset.
pub(super) struct Head {
    pub name: String,
    /// "share" or "volume".
    pub kind: String,
    /// A copy that another box keeps here.
    pub is_copy: bool,
    pub href: String,
    pub protection: Protection,
    here: &'static str,
    operates: bool,
}

/// One of its pages.
pub(super) struct Tab {
    pub href: String,
    pub text: &'static str,
    pub here: bool,
}

impl Head {
    /// `here` is the page's part of the address; empty for the first one.
    pub(super) fn of(signed: &Signed, status: &Status, dataset: &Dataset, here: &'static str) -> Head {
        Head {
            name: dataset.name.clone(),
            kind: dataset.kind.clone(),
            is_copy: dataset.read_only,
            href: format!("/datasets/{}", show::part(&dataset.name)),
            protection: protection::of(status, dataset),
            here,
            operates: signed.may(Role::Operator),
        }
    }

    /// What it is, in a word.
    pub(super) fn word(&self) -> &str {
        if self.is_copy { "copy" } else { &self.kind }
    }

    /// Its pages, without those that the visitor may not open.
    pub(super) fn tabs(&self) -> Vec<Tab> {
        const ALL: [(&str, &str); 4] =
            [("", "Overview"), ("files", "Files"), ("timeline", "Timeline"), ("retention", "What stays")];
        let shown = ALL.iter().filter(|(page, _)| self.operates || *page != "files");
        let slash = |page: &str| if page.is_empty() { String::new() } else { format!("/{page}") };
        let tab = |(page, text): &(&str, &'static str)| Tab {
            href: format!("{}{}", self.href, slash(page)),
            text: if *page == "files" && self.kind == "volume" { "Image" } else { text },
            here: *page == self.here,
        };
        shown.map(tab).collect()
    }
}

#[expect(clippy::result_large_err, reason = "one a request")]
/// A dataset among all, or the page that says that there is none.
pub(super) fn find<'a>(status: &'a Status, name: &str) -> Result<&'a Dataset, Response> {
    let found = status.datasets.iter().find(|dataset| dataset.name == name);
    found.ok_or_else(|| missing("there is no such dataset; it may have been deleted or renamed"))
}

pub(super) async fn page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    answer(&signed, &name, form).await
}

/// The page with a form on it as it came back.
pub(super) async fn answer(signed: &Signed, name: &str, form: Form) -> Response {
    gather(signed, name, form).await.unwrap_or_else(|response| response)
}

async fn gather(signed: &Signed, name: &str, form: Form) -> Result<Response, Response> {
    let failed = |failed: Failed| refused(&failed);
    let status: Arc<Status> = signed.web.live.for_page(signed).await.map_err(failed)?;
    let dataset = find(&status, name)?.clone();
    let request = Request::SnapshotList { dataset: Some(name.to_owned()) };
    let mut snapshots: Vec<Snapshot> = signed.request(request).await.map_err(failed)?;
    snapshots.sort_by(|a, b| b.time.cmp(&a.time));
    let older = snapshots.len().saturating_sub(SNAPSHOTS_MAX);
    snapshots.truncate(SNAPSHOTS_MAX);
    let copies: Vec<Way> = status.plans.iter().filter(|plan| plan.dataset == name).map(Way::of).collect();
    let planned = |peer: &str| copies.iter().any(|copy| copy.plan.peer == peer);
    let page = Page {
        frame: Frame::of(signed, "datasets", name),
        head: Head::of(signed, &status, &dataset, ""),
        loss: status.losses.iter().find(|loss| loss.dataset == name).cloned(),
        href: format!("/datasets/{}", show::part(name)),
        mounts: mounts::of(&status, &dataset, &signed.host),
        peers: status.peers.iter().map(|peer| peer.name.clone()).filter(|peer| !planned(peer)).collect(),
        operates: signed.may(Role::Operator),
        rules: signed.may(Role::Administrator),
        copies,
        dataset,
        snapshots,
        older,
        form,
    };
    Ok(show_page(of_form(&page.form), &page))
}

impl Way {
    fn of(plan: &Plan) -> Way {
        let mark = match plan.state.as_str() {
            "failing" => Mark::Bad,
            "retrying" | "paused" => Mark::Warn,
            "up to date" => Mark::Good,
            _ => Mark::Busy,
        };
        Way { plan: plan.clone(), mark }
    }

    /// How it is, in a word.
    fn word(&self) -> String {
        show::capital(&self.plan.state)
    }

    fn is_paused(&self) -> bool {
        self.plan.state == "paused"
    }
}

pub(super) async fn delete_page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    confirm(&signed, &name, form).await
}

async fn confirm(signed: &Signed, name: &str, form: Form) -> Response {
    let status = match signed.web.live.for_page(signed).await {
        Ok(status) => status,
        Err(failed) => return refused(&failed),
    };
    let dataset = match find(&status, name) {
        Ok(dataset) => dataset,
        Err(response) => return response,
    };
    let (size, snapshots) = (show::size(&dataset.logical_bytes), show::many(&dataset.snapshots, "snapshot"));
    let mut says = vec![format!(
        "It holds {size} and has {snapshots}. Clients lose it at once. Where the box keeps what is deleted for a while, it can be had back until then."
    )];
    if let Some(bytes) = dataset.frees_bytes {
        says.push(format!("When it is gone for good that frees {}.", show::size(&bytes)));
    }
    if !status.peers.iter().any(|peer| peer.lag.iter().any(|lag| lag.dataset == name)) && !dataset.read_only {
        says.push("No other box has a copy of it.".into());
    }
    let href = format!("/datasets/{}", show::part(name));
    Confirm {
        frame: Frame::of(signed, "datasets", format!("Delete {name}?")),
        says,
        action: format!("{href}/delete"),
        button: "Delete it",
        back: href,
        typed: Some(name.to_owned()),
        form,
    }
    .show()
}

pub(super) async fn delete(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    if form.text(TYPED) != name.trim() {
        form.wrong(TYPED, "This is not its name: nothing was deleted.");
        return confirm(&signed, &name, form).await;
    }
    match signed.request::<Acknowledged>(Request::DatasetDelete { name: name.clone() }).await {
        Ok(_) => done(&signed, "/datasets", "deleted"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            confirm(&signed, &name, form).await
        }
        Err(failed) => refused(&failed),
    }
}

/// That much of it is gone was meant.
pub(super) async fn accept(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    match signed.request::<Acknowledged>(Request::LossAccept { name: name.clone() }).await {
        Ok(_) => done(&signed, &format!("/datasets/{}", show::part(&name)), "meant"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            answer(&signed, &name, form).await
        }
        Err(failed) => refused(&failed),
    }
}
