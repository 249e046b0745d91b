//! The audit log. For administrators.

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Frame, refused, show_page};
use crate::control::door::Ask;
use crate::web::show;
use crate::web::visitor::Signed;

/// Entries on a page.
const ENTRIES: u32 = 100;

/// An entry, as far as this page knows it; whatever else it holds is passed over.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Entry {
    number: u64,
    time: String,
    user: Option<String>,
    from: Option<String>,
    what: String,
    outcome: Option<String>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Audit {
    frame: Frame,
    entries: Vec<Entry>,
    /// Before which number the next page begins.
    before: Option<u64>,
}

pub(super) async fn page(signed: Signed) -> Response {
    let before = signed.query.text("before").parse().ok();
    match signed.ask::<Vec<Entry>>(Ask::Audit { before, limit: ENTRIES }).await {
        Ok(entries) => {
            let full = entries.len() >= ENTRIES as usize;
            let before = entries.last().map(|entry| entry.number).filter(|_| full);
            show_page(StatusCode::OK, &Audit { frame: Frame::of(&signed, "audit", "Audit log"), entries, before })
        }
        Err(failed) => refused(&failed),
    }
}
