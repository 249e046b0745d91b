//! Locks: snapshots that nobody deletes before their time, and the rules by which new ones are locked.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::{Frame, done, of_form, refused, retention, show_page};
use crate::accounts::Role;
use crate::control::reports::{Acknowledged, Dataset, LockRule, Snapshot};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

/// The rule by which new snapshots of a dataset are locked: its own, or for a copy that of all copies.
pub(super) async fn rule_of(signed: &Signed, dataset: &Dataset) -> Result<Option<LockRule>, Failed> {
    let rules: Vec<LockRule> = signed.request(Request::LockList).await?;
    let own = rules.iter().find(|rule| rule.dataset.as_ref() == Some(&dataset.name));
    let of_copies = || rules.iter().find(|rule| rule.dataset.is_none() && dataset.read_only);
    Ok(own.or_else(of_copies).cloned())
}

#[derive(Template)]
#[template(path = "lock.html")]
struct LockPage {
    frame: Frame,
    dataset: String,
    href: String,
    snapshot: Snapshot,
    form: Form,
}

fn place(dataset: &str) -> String {
    format!("/datasets/{}", show::part(dataset))
}

pub(super) async fn lock_page(Path((name, snapshot)): Path<(String, String)>, signed: Signed) -> Response {
    let form = signed.form();
    ask_lock(&signed, &name, &snapshot, form).await
}

async fn ask_lock(signed: &Signed, name: &str, snapshot: &str, form: Form) -> Response {
    let request = Request::SnapshotList { dataset: Some(name.to_owned()) };
    let found = match signed.request::<Vec<Snapshot>>(request).await {
        Ok(snapshots) => snapshots.into_iter().find(|found| found.name == snapshot),
        Err(failed) => return refused(&failed),
    };
    let Some(snapshot) = found else { return super::missing("there is no such snapshot; it may have been deleted") };
    let page = LockPage {
        frame: Frame::of(signed, "datasets", format!("Lock {}", show::snapshot(&snapshot.name))),
        dataset: name.to_owned(),
        href: place(name),
        snapshot,
        form,
    };
    show_page(of_form(&page.form), &page)
}

pub(super) async fn lock(
    Path((name, snapshot)): Path<(String, String)>,
    Change { signed, mut form }: Change,
) -> Response {
    let seconds = form.length("length", "Say how long, as in 30d.");
    if !form.is("sure", "yes") {
        form.wrong("sure", "Say that you mean it: there is no way back.");
    }
    if let Some(seconds) = seconds.filter(|_| form.is_good()) {
        let request = Request::SnapshotLock { snapshot: format!("{name}@{snapshot}"), seconds };
        match signed.request::<Acknowledged>(request).await {
            Ok(_) => return done(&signed, &place(&name), "locked"),
            Err(failed) if failed.kind == "refused" => form.failed("length", &failed),
            Err(failed) => return refused(&failed),
        }
    }
    ask_lock(&signed, &name, &snapshot, form).await
}

/// Has new snapshots of one dataset locked, or not any more.
pub(super) async fn set(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let on = !form.is("off", "yes");
    let seconds = if on { form.length("length", "Say how long, as in 30d.") } else { None };
    if on && seconds.is_none() {
        return retention::answer(&signed, &name, form, None).await;
    }
    match signed.request::<Value>(Request::LockSet { dataset: Some(name.clone()), seconds }).await {
        Ok(_) => done(&signed, &format!("{}/retention", place(&name)), if on { "lock-rule" } else { "no-lock-rule" }),
        Err(failed) if failed.kind == "refused" => {
            form.failed("length", &failed);
            retention::answer(&signed, &name, form, None).await
        }
        Err(failed) => refused(&failed),
    }
}

#[derive(Template)]
#[template(path = "locks.html")]
struct Locks {
    frame: Frame,
    rules: Vec<LockRule>,
    form: Form,
    governs: bool,
}

impl Locks {
    fn of_copies(&self) -> Option<&LockRule> {
        self.rules.iter().find(|rule| rule.dataset.is_none())
    }
}

pub(super) async fn list(signed: Signed) -> Response {
    let form = signed.form();
    answer(&signed, form).await
}

async fn answer(signed: &Signed, form: Form) -> Response {
    match signed.request::<Vec<LockRule>>(Request::LockList).await {
        Ok(rules) => {
            let (frame, governs) = (Frame::of(signed, "datasets", "Locks"), signed.may(Role::Administrator));
            show_page(of_form(&form), &Locks { frame, rules, form, governs })
        }
        Err(failed) => refused(&failed),
    }
}

/// The same for all copies of other boxes' datasets that have no rule of their own.
pub(super) async fn set_of_copies(Change { signed, mut form }: Change) -> Response {
    let on = !form.is("off", "yes");
    let seconds = if on { form.length("length", "Say how long, as in 30d.") } else { None };
    if on && seconds.is_none() {
        return answer(&signed, form).await;
    }
    match signed.request::<Value>(Request::LockSet { dataset: None, seconds }).await {
        Ok(_) => done(&signed, "/locks", if on { "lock-rule" } else { "no-lock-rule" }),
        Err(failed) if failed.kind == "refused" => {
            form.failed(if on { "length" } else { WHOLE }, &failed);
            answer(&signed, form).await
        }
        Err(failed) => refused(&failed),
    }
}
