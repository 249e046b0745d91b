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
    zone: String,
}

pub(super) async fn page(signed: Signed) -> Response {
    match signed.web.live.for_page(&signed).await {
        Ok(status) => {
            let frame = Frame::of(&signed, "system", "System");
            show_page(StatusCode::OK, &System { frame, status, zone: show::zone() })
        }
        Err(failed) => refused(&failed),
    }
}
