//! What was deleted and can be had back.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::{Frame, done, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::reports::Deleted;
use crate::control::{Failed, Request};
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed};

#[derive(Template)]
#[template(path = "deleted.html")]
struct Page {
    frame: Frame,
    rows: Vec<Deleted>,
    form: Form,
    may: bool,
}

/// What a row is called in a form.
fn what(row: &Deleted) -> String {
    match row.kind.as_str() {
        "snapshot" => format!("{}@{}", row.dataset, row.id),
        _ => row.id.clone(),
    }
}

impl Page {
    /// Whether the form that came back is about this row.
    fn is_meant(&self, row: &Deleted) -> bool {
        self.form.is("what", &what(row)) && self.form.is("kind", &row.kind)
    }

    /// Whether it is about something that is not here any more: what was typed is shown by itself then.
    fn is_stray(&self) -> bool {
        self.may
            && !self.form.value("what").is_empty()
            && !self.rows.iter().any(|row| self.is_meant(row) && !row.within_deleted)
    }
}

pub(super) async fn list(signed: Signed) -> Response {
    let form = signed.form();
    page(&signed, form).await
}

async fn page(signed: &Signed, form: Form) -> Response {
    let both = async {
        let mut rows: Vec<Deleted> = signed.request(Request::DatasetListDeleted).await?;
        rows.extend(signed.request::<Vec<Deleted>>(Request::SnapshotListDeleted { dataset: None }).await?);
        Ok::<_, Failed>(rows)
    };
    match both.await {
        Ok(rows) => {
            let may = signed.may(Role::Operator);
            show_page(of_form(&form), &Page { frame: Frame::of(signed, "datasets", "Deleted"), rows, form, may })
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn restore(Change { signed, mut form }: Change) -> Response {
    let (what, new) = (form.text("what").to_owned(), form.some("new"));
    let request = match form.value("kind") {
        "snapshot" => Request::SnapshotUndelete { snapshot: what, new },
        _ => Request::DatasetUndelete { name: what, new },
    };
    match signed.request::<Value>(request).await {
        Ok(_) => done(&signed, "/deleted", "restored"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            page(&signed, form).await
        }
        Err(failed) => refused(&failed),
    }
}
