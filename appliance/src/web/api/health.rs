//! `/health`: one word for anybody who wants to know whether the box is well. It says nothing else of it, and costs it a question every two seconds.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::no_method;
use crate::control::door::{Ask, Call, State as BoxState};
use crate::web::pages::Web;

/// How old a word may be.
const KEPT: Duration = Duration::from_secs(2);
/// How long the box may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last word.
#[derive(Default)]
pub(super) struct Known(Mutex<Option<(Instant, Word)>>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It keeps what it is given.
    Well,
    /// It answers, and can't keep what it is given.
    Failing,
    /// It does not answer.
    Silent,
}

async fn word(web: &Web) -> Word {
    let mut known = web.api.health.0.lock().await;
    if let Some((_, word)) = known.as_ref().filter(|(since, _)| since.elapsed() < KEPT) {
        return *word;
    }
    let call =
        Call { proof: None, from: IpAddr::from([0, 0, 0, 0]), at: None, by_itself: true, once: None, ask: Ask::State };
    let word = match timeout(PATIENCE, web.door.ask::<BoxState>(&call)).await {
        Ok(Ok(state)) if state.failing => Word::Failing,
        Ok(Ok(_)) => Word::Well,
        _ => Word::Silent,
    };
    *known = Some((Instant::now(), word));
    word
}

/// Answers anybody.
pub(super) async fn answer(State(web): State<Arc<Web>>, request: Request) -> Response {
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return no_method(["GET"].into_iter()).response();
    }
    let (status, text) = match word(&web).await {
        Word::Well => (StatusCode::OK, "ok\n"),
        Word::Failing => (StatusCode::SERVICE_UNAVAILABLE, "failing\n"),
        Word::Silent => (StatusCode::SERVICE_UNAVAILABLE, "silent\n"),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
