//! What changed between two snapshots.

use askama::Template;
use axum::response::Response;

use super::{Frame, of_form, refused, show_page};
use crate::control::reports::{Changed, Diff, Snapshot};
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Path, Signed};

/// Changes that are shown.
const CHANGES_MAX: usize = 500;

#[derive(Template)]
#[template(path = "changes.html")]
struct Changes {
    frame: Frame,
    name: String,
    href: String,
    snapshots: Vec<Snapshot>,
    changes: Option<Vec<Changed>>,
    more: usize,
    bytes: u64,
    form: Form,
}

pub(super) async fn page(Path(name): Path<String>, signed: Signed) -> Response {
    let listed: Result<Vec<Snapshot>, Failed> =
        signed.request(Request::SnapshotList { dataset: Some(name.clone()) }).await;
    let mut snapshots = match listed {
        Ok(snapshots) => snapshots,
        Err(failed) => return refused(&failed),
    };
    snapshots.sort_by(|a, b| b.time.cmp(&a.time));
    let mut form = choice(&signed, &snapshots);
    let mut found = None;
    if !form.text("from").is_empty() && !form.text("to").is_empty() && !signed.query.text("from").is_empty() {
        let at = |field: &str| format!("{name}@{}", form.text(field));
        match signed.request::<Diff>(Request::Diff { from: at("from"), to: at("to") }).await {
            Ok(diff) => found = Some(diff.changes),
            Err(failed) if failed.kind == "signed-out" => return refused(&failed),
            Err(failed) => form.failed(WHOLE, &failed),
        }
    }
    let more = found.as_ref().map_or(0, |changes| changes.len().saturating_sub(CHANGES_MAX));
    let bytes = found.iter().flatten().map(|change| change.bytes).sum();
    found.iter_mut().for_each(|changes| changes.truncate(CHANGES_MAX));
    let frame = Frame::of(&signed, "datasets", format!("What changed in {name}"));
    let href = format!("/datasets/{}", show::part(&name));
    show_page(of_form(&form), &Changes { frame, name, href, snapshots, changes: found, more, bytes, form })
}

/// The two snapshots that were chosen, or the two newest.
fn choice(signed: &Signed, snapshots: &[Snapshot]) -> Form {
    let asked = |field: &str, place: usize| {
        let newest = || snapshots.get(place).map(|snapshot| snapshot.name.clone()).unwrap_or_default();
        signed.query.some(field).unwrap_or_else(newest)
    };
    signed.form().with("from", asked("from", 1)).with("to", asked("to", 0))
}
