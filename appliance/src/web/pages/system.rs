//! The box itself: its versions, its doors, its disk.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::{Frame, refused, show_page};
use crate::control::reports::Status;
use crate::web::show;
use crate::web::visitor::Signed;

#[derive(Template)]
#[template(path = "system.html")]
struct System {
    frame: Frame,
    status: Arc<Status>,
    parts: Vec<(&'static str, u64)>,
    zone: String,
}

pub(super) async fn page(signed: Signed) -> Response {
    match signed.web.live.for_page(&signed).await {
        Ok(status) => {
            let parts = parts(&status);
            let frame = Frame::of(&signed, "system", "System");
            show_page(StatusCode::OK, &System { frame, status, parts, zone: show::zone() })
        }
        Err(failed) => refused(&failed),
    }
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
