//! The interface for programs: `/api/v1`, with the same requests as the command line; `/metrics` and `/health` for those who watch.
//!
//! - Who asks is proved by a token in the head of the request, and by nothing else: a session's cookie is not even looked at, so no other page can have
//!   a browser ask in somebody's name. What the token may, the box decides, as for the page.
//! - One table ([`operations`]) says which operations there are. The router and the document of the interface are both made from it.
//! - Whatever goes wrong is told as a [`problem`], by its sort, in a sentence, and by the field that it is about.
//! - What one token asks at once and in a second is bounded, so that one program does not take all the ways to the box.
//!
//! `docs/api.md` is for those who use it.

mod health;
mod human;
mod input;
mod metrics;
mod openapi;
mod operations;
mod pace;
mod parts;
mod problem;
mod repeats;
mod table;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get};
use serde_json::Value;

use super::pages::Web;
use super::visitor::Seen;
use crate::control::door::{Ask, Call, Proof};
use crate::control::{Failed, Request as BoxRequest};
use crate::repeats::Once;
use parts::Part;
use problem::{Problem, Sort};
use table::{Operation, Place, Shape};

/// Where all operations are.
const BASE: &str = "/api/v1";
/// Where their document is.
const DOCUMENT: &str = "/api/v1/openapi.json";
/// Requests of one token at once.
const AT_ONCE_MAX: usize = 8;
/// Most entries of the audit log that the box gives at once.
const NUMBERED_MAX: u32 = 500;
/// Longest part of an address, in bytes.
const PART_BYTES_MAX: usize = 1024;

/// What the interface remembers between requests.
#[derive(Default)]
pub(super) struct Api {
    health: health::Known,
    /// Requests under way, by the hash of their token.
    under_way: Mutex<HashMap<blake3::Hash, usize>>,
    paces: pace::Paces,
}

/// An answer as it is sent.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn response(self) -> Response {
        let kind = if self.status < 400 { "application/json" } else { problem::MEDIA_TYPE };
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}

/// A row of the table, with the schema that its input is held against.
struct Row {
    operation: Operation,
    input: Value,
}

/// The table.
fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let row = |operation: Operation| Row { input: openapi::input(&operation), operation };
        operations::all().into_iter().map(row).collect()
    })
}

/// All addresses that are for programs.
pub(super) fn routes() -> Router<Arc<Web>> {
    Router::new()
        .route("/api", get(human::page))
        .route("/api/", any(answer))
        .route("/api/{*rest}", any(answer))
        .route("/metrics", any(metrics::answer))
        .route("/health", any(health::answer))
}

async fn answer(State(web): State<Arc<Web>>, request: Request) -> Response {
    match answered(&web, request).await {
        Ok(response) => response,
        Err(problem) => problem.response(),
    }
}

async fn answered(web: &Arc<Web>, request: Request) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    // A HEAD is a GET of which hyper sends the head alone.
    let method = if head.method == Method::HEAD { Method::GET } else { head.method };
    let path = head.uri.path();
    if path == DOCUMENT {
        return match method == Method::GET {
            true => Ok(Answer { status: 200, body: openapi::document().to_vec() }.response()),
            false => Err(no_method(["GET"].into_iter())),
        };
    }
    let (row, place) = found(&method, path)?;
    place.check()?;
    let asker = asker_of(web, &head.headers, &head.extensions)?;
    let _place = web.api.enter(&asker.token)?;
    let mut pairs = input::pairs(head.uri.query().unwrap_or_default())?;
    let mut part = Part::whole();
    if row.operation.has_pages() {
        part = Part::take(&mut pairs, row.operation.shape)?;
    }
    if !row.operation.takes_query() {
        if let Some((name, _)) = pairs.first() {
            return Err(Problem::bad(name, format!("{name} is no parameter here: fields stand in the body")));
        }
        let bytes = input::body(&head.headers, body).await?;
        let fields = input::of_body(&bytes, &row.input)?;
        let ask = row.operation.make(&place, fields)?;
        let key = if method == Method::POST { repeats::key(&head.headers)? } else { None };
        let once = key.map(|key| once(key, &row.operation, &place, &bytes));
        return Ok(asker.outcome(&row.operation, &place, &part, ask, once).await?.response());
    }
    let fields = input::of_query(pairs, &row.input)?;
    let mut ask = row.operation.make(&place, fields)?;
    if let Ask::Box { request: BoxRequest::Audit { before, limit } } = &mut ask {
        part.limit = part.limit.min(NUMBERED_MAX);
        (*before, *limit) = (part.number()?, part.limit);
    }
    Ok(asker.outcome(&row.operation, &place, &part, ask, None).await?.response())
}

/// The row for a method and an address.
fn found(method: &Method, path: &str) -> Result<(&'static Row, Place), Problem> {
    let nothing =
        || Problem::of(Sort::NoOperation, format!("there is nothing at this address; {DOCUMENT} says what there is"));
    let rest = path.strip_prefix(BASE).and_then(|rest| rest.strip_prefix('/')).ok_or_else(nothing)?;
    let path = rest.split('/').map(decoded).collect::<Result<Vec<String>, Problem>>()?;
    let mut allowed = Vec::new();
    for row in rows() {
        let Some(place) = row.operation.matches(&path) else { continue };
        if row.operation.method == *method {
            return Ok((row, place));
        }
        allowed.push(row.operation.method.as_str());
    }
    if allowed.is_empty() { Err(nothing()) } else { Err(no_method(allowed.into_iter())) }
}

fn no_method<'a>(allowed: impl Iterator<Item = &'a str>) -> Problem {
    let mut all: Vec<&str> = allowed.collect();
    if all.contains(&"GET") {
        all.push("HEAD");
    }
    let allow = all.join(", ");
    Problem { allow: Some(allow.clone()), ..Problem::of(Sort::NoMethod, format!("this address is for {allow}")) }
}

/// A part of an address as text (RFC 3986, 2.1).
fn decoded(part: &str) -> Result<String, Problem> {
    let wrong = || Problem::of(Sort::BadRequest, "this address can't be read: a part of it is no text");
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        bytes.push(match byte {
            b'%' => match (digit(), digit()) {
                (Some(high), Some(low)) => (high << 4 | low) as u8,
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    if bytes.len() > PART_BYTES_MAX {
        return Err(Problem::of(Sort::NoOperation, "no name is that long"));
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// The token that a request shows (RFC 6750, 2.1). What does not look like one of a box is none.
fn token(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = all.next()?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_one =
        scheme.eq_ignore_ascii_case("bearer") && token.starts_with("narrowboat_") && is_plain && token.len() < 256;
    (is_one && all.next().is_none()).then(|| token.to_owned())
}

impl Api {
    /// A place for one more request of a token.
    fn enter(&self, token: &str) -> Result<UnderWay<'_>, Problem> {
        let token = blake3::hash(token.as_bytes());
        if let Err(seconds) = self.paces.take(token, Instant::now()) {
            let sentence = format!("this token asks more than {} things a second: wait", pace::RATE);
            return Err(Problem { again: Some(seconds), ..Problem::of(Sort::TooMany, sentence) });
        }
        let mut under_way = self.lock();
        let own = under_way.entry(token).or_default();
        if *own >= AT_ONCE_MAX {
            return Err(Problem::of(Sort::TooMany, format!("{AT_ONCE_MAX} requests of this token are under way")));
        }
        *own += 1;
        Ok(UnderWay { api: self, token })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<blake3::Hash, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request of a token that counts until this is dropped.
struct UnderWay<'a> {
    api: &'a Api,
    token: blake3::Hash,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = self.api.lock();
        match under_way.get_mut(&self.token) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(under_way.remove(&self.token)),
        }
    }
}

/// Who sends a request, as far as the worker can tell.
fn asker_of<'a>(web: &'a Web, headers: &HeaderMap, extensions: &Extensions) -> Result<Asker<'a>, Problem> {
    let sentence = "a token is needed, as in `Authorization: Bearer narrowboat_…`";
    let token = token(headers).ok_or_else(|| Problem::of(Sort::Unauthenticated, sentence))?;
    let seen = extensions.get::<Seen>();
    let from = seen.map_or(IpAddr::from([0, 0, 0, 0]), |seen| seen.from);
    Ok(Asker { web, token, from, at: seen.and_then(|seen| seen.at) })
}

/// Whoever shows a token.
struct Asker<'a> {
    web: &'a Web,
    token: String,
    from: IpAddr,
    at: Option<IpAddr>,
}

impl Asker<'_> {
    async fn ask(&self, ask: Ask, once: Option<Once>) -> Result<Value, Failed> {
        let proof = Some(Proof::Token(self.token.clone()));
        self.web.door.ask(&Call { proof, from: self.from, at: self.at, by_itself: false, once, ask }).await
    }

    /// Asks the box, and shows what it says.
    async fn outcome(
        &self,
        operation: &Operation,
        place: &Place,
        part: &Part,
        ask: Ask,
        once: Option<Once>,
    ) -> Result<Answer, Problem> {
        let report = self.ask(ask, once).await;
        if operation.method != Method::GET {
            self.web.live.forget();
        }
        let shown = match operation.shape {
            Shape::One(field, parameter) => {
                let wanted = place.text(parameter);
                let missing = || Problem::of(Sort::Missing, format!("{wanted} does not exist"));
                parts::one(report?, field, &wanted).ok_or_else(missing)?
            }
            shape => parts::shown(report?, shape, part),
        };
        let body = serde_json::to_vec(&shown).map_err(|error| Failed::environment(error.to_string()))?;
        Ok(Answer { status: operation.done, body })
    }
}

/// What a request with a key is, so that it is told from another with the same.
fn once(key: String, operation: &Operation, place: &Place, bytes: &[u8]) -> Once {
    let mut request = blake3::Hasher::new();
    request.update(operation.id.as_bytes()).update(format!("{place:?}").as_bytes()).update(bytes);
    Once { key, request: request.finalize().to_hex().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_of_a_box_is_one() {
        let sent = |values: &[&str]| {
            token(&values.iter().map(|value| (AUTHORIZATION, value.parse().expect("a value"))).collect::<HeaderMap>())
        };
        assert_eq!(sent(&["Bearer narrowboat_a_b"]).as_deref(), Some("narrowboat_a_b"));
        assert_eq!(sent(&["bearer  narrowboat_a_b "]).as_deref(), Some("narrowboat_a_b"));
        for wrong in [
            &["Basic narrowboat_a_b"][..],
            &["narrowboat_a_b"],
            &["Bearer a-session"],
            &["Bearer narrowboat_a\"b"],
            &[],
        ] {
            assert_eq!(sent(wrong), None, "{wrong:?}");
        }
        assert_eq!(sent(&["Bearer narrowboat_a_b", "Bearer narrowboat_c_d"]), None, "which of the two?");
    }

    #[test]
    fn an_address_finds_its_row_or_says_why_not() {
        let status = |method: Method, path: &str| found(&method, path).err().map_or(200, |problem| problem.status());
        assert_eq!(status(Method::GET, "/api/v1/datasets/%D0%B0%20b"), 200);
        let cases = [
            ("/api/v1/datasets/%ff", 400),
            ("/api/v1/datasets/%4", 400),
            ("/api/v1/datasets/%zz", 400),
            ("/api/v1/datasets/", 404),
            ("/api/v1/datasets//snapshots", 404),
            ("/api/v1", 404),
            ("/api/v2/datasets", 404),
            ("/api/v1x/datasets", 404),
        ];
        for (path, expected) in cases {
            assert_eq!(status(Method::GET, path), expected, "{path}");
        }
        let problem = found(&Method::PUT, "/api/v1/datasets/office").err().expect("not by this method");
        assert_eq!((problem.status(), problem.allow.as_deref()), (405, Some("GET, PATCH, DELETE, HEAD")));
    }

    #[test]
    fn one_token_does_not_take_every_way_to_the_box() {
        let api = Api::default();
        let held: Vec<_> = (0..AT_ONCE_MAX).map(|_| api.enter("a").expect("a place")).collect();
        assert_eq!(api.enter("a").map(drop).map_err(|problem| problem.status()), Err(429));
        assert!(api.enter("b").is_ok());
        drop(held);
        assert!(api.enter("a").is_ok() && api.lock().is_empty());
    }
}
