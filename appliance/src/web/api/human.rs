//! The interface as people read of it: what there is, and how it is called.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::response::Response;

use super::{BASE, DOCUMENT, Row, rows};
use crate::web::pages::{Frame, Web, show_page};
use crate::web::visitor::{Signed, Visitor};

#[derive(Template)]
#[template(path = "api.html")]
struct Page {
    frame: Frame,
    base: &'static str,
    document: &'static str,
    host: String,
    rows: &'static [Row],
}

/// For anybody: it holds nothing of this box but its name.
pub(super) async fn page(State(web): State<Arc<Web>>, visitor: Visitor) -> Response {
    let host = visitor.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("HOST").to_owned();
    let title = "Interface for programs";
    let frame = match Signed::of(visitor).await {
        Ok(signed) => Frame::of(&signed, "api", title),
        Err(_) => Frame::open(&web.name, title),
    };
    show_page(StatusCode::OK, &Page { frame, base: BASE, document: DOCUMENT, host, rows: rows() })
}
