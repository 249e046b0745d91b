//! Why something was not done, as RFC 9457 has it: `application/problem+json`, whatever went wrong and wherever.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::control::Failed;
use crate::web::show;

/// What a problem is called begins so. It is a name, and nothing is found there.
const URN: &str = "urn:narrowboat:problem:";
/// The media type of problems (RFC 9457, 3).
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// A sort of problem. Programs go by its URN, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// What was sent does not fit the description of the operation.
    BadRequest,
    /// No token, or one that counts no longer.
    Unauthenticated,
    /// The token's role does not allow it.
    Forbidden,
    /// There is no such operation.
    NoOperation,
    /// What it is about is not there.
    Missing,
    /// The address is there, but not for this method.
    NoMethod,
    /// The body took too long.
    TooSlow,
    /// What was to be made is there already.
    Exists,
    /// A request with the same key is under way.
    UnderWay,
    /// The box ended while a request with the same key was done.
    CutOff,
    /// The body is too long.
    TooLarge,
    /// The body is no JSON by its media type.
    NotJson,
    /// The box refuses it as it stands.
    Refused,
    /// The key was used for another request.
    KeyReused,
    /// Too much at once, or too much lately.
    TooMany,
    /// Something is damaged.
    Damage,
    /// A peer or the line to it.
    Link,
    /// The box has too much to do.
    Busy,
    /// The machine can't do it now.
    Unavailable,
    /// The box takes longer than it is waited for.
    Slow,
}

impl Sort {
    /// All of them, for the document.
    pub(super) const ALL: [Sort; 20] = [
        Sort::BadRequest,
        Sort::Unauthenticated,
        Sort::Forbidden,
        Sort::NoOperation,
        Sort::Missing,
        Sort::NoMethod,
        Sort::TooSlow,
        Sort::Exists,
        Sort::UnderWay,
        Sort::CutOff,
        Sort::TooLarge,
        Sort::NotJson,
        Sort::Refused,
        Sort::KeyReused,
        Sort::TooMany,
        Sort::Damage,
        Sort::Link,
        Sort::Busy,
        Sort::Unavailable,
        Sort::Slow,
    ];

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Sort::BadRequest => (400, "bad-request", "What was sent does not fit"),
            Sort::Unauthenticated => (401, "unauthenticated", "A token is needed"),
            Sort::Forbidden => (403, "forbidden", "Not allowed"),
            Sort::NoOperation => (404, "no-operation", "There is nothing at this address"),
            Sort::Missing => (404, "missing", "Not there"),
            Sort::NoMethod => (405, "no-method", "Not by this method"),
            Sort::TooSlow => (408, "too-slow", "The body did not arrive in time"),
            Sort::Exists => (409, "exists", "There already"),
            Sort::UnderWay => (409, "under-way", "Under way already"),
            Sort::CutOff => (409, "cut-off", "The box ended meanwhile"),
            Sort::TooLarge => (413, "too-large", "The body is too long"),
            Sort::NotJson => (415, "not-json", "Bodies are JSON"),
            Sort::Refused => (422, "refused", "The box refuses that"),
            Sort::KeyReused => (422, "key-reused", "The key was used for something else"),
            Sort::TooMany => (429, "too-many", "Too much at once"),
            Sort::Damage => (500, "damage", "Something is damaged"),
            Sort::Link => (502, "link", "The peer was not reached"),
            Sort::Busy => (503, "busy", "The box has much to do"),
            Sort::Unavailable => (503, "unavailable", "The box can't do that now"),
            Sort::Slow => (504, "slow", "The box takes longer"),
        }
    }

    /// The status of answers of this sort.
    pub(super) fn status(self) -> u16 {
        self.row().0
    }

    /// The name that programs go by.
    pub(super) fn urn(self) -> String {
        format!("{URN}{}", self.row().1)
    }

    /// What it is in general.
    pub(super) fn title(self) -> &'static str {
        self.row().2
    }

    /// After how many seconds it is worth another try, where it is by itself.
    fn again_after(self) -> Option<u32> {
        match self {
            Sort::UnderWay | Sort::TooMany | Sort::Busy => Some(1),
            Sort::Unavailable => Some(10),
            _ => None,
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub sort: Sort,
    /// A sentence for people.
    pub detail: String,
    /// What of the request it is about, where it is one thing.
    pub field: Option<String>,
    /// The methods that are there instead.
    pub allow: Option<String>,
    /// After how many seconds it is worth another try, where that is more than its sort says.
    pub again: Option<u32>,
}

/// A problem as it is sent.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct Sent<'a> {
    /// A name for this sort of problem that never changes.
    #[serde(rename = "type")]
    kind: String,
    /// What it is in general.
    title: &'a str,
    /// The status of the answer.
    status: u16,
    /// A sentence for people that says what is wrong here.
    detail: &'a str,
    /// What of the request it is about, where it is one thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Problem {
    /// One of a sort.
    pub(super) fn of(sort: Sort, detail: impl AsRef<str>) -> Problem {
        Problem { sort, detail: show::sentence(detail.as_ref()), field: None, allow: None, again: None }
    }

    /// Something in the request that does not fit.
    pub(super) fn bad(field: &str, detail: impl AsRef<str>) -> Problem {
        Problem { field: Some(field.to_owned()), ..Problem::of(Sort::BadRequest, detail) }
    }

    /// A field that fits by itself, and makes no sense beside the others.
    pub(super) fn refused(field: &str, detail: impl AsRef<str>) -> Problem {
        Problem { field: Some(field.to_owned()), ..Problem::of(Sort::Refused, detail) }
    }

    /// The status of its answer.
    pub(super) fn status(&self) -> u16 {
        self.sort.status()
    }

    /// As JSON.
    pub(super) fn body(&self) -> Vec<u8> {
        let sent = Sent {
            kind: self.sort.urn(),
            title: self.sort.title(),
            status: self.status(),
            detail: &self.detail,
            field: self.field.as_deref(),
        };
        serde_json::to_vec(&sent).unwrap_or_default()
    }

    /// As it goes over the line.
    pub(super) fn response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if self.sort == Sort::Unauthenticated {
            // RFC 6750, 3: what is asked for, and no word of why a token was not taken.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"narrowboat\""));
        }
        if let Some(seconds) = self.again.max(self.sort.again_after()) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl From<Failed> for Problem {
    /// What the box said, as a program sees it.
    fn from(failed: Failed) -> Problem {
        let sort = match (failed.kind.as_str(), failed.reason.as_deref()) {
            ("signed-out", _) => Sort::Unauthenticated,
            ("forbidden", _) => Sort::Forbidden,
            ("wait", _) => Sort::TooMany,
            ("under-way", _) => Sort::UnderWay,
            ("key-reused", _) => Sort::KeyReused,
            ("cut-off", _) => Sort::CutOff,
            ("refused", Some("missing")) => Sort::Missing,
            ("refused", Some("exists")) => Sort::Exists,
            ("refused", _) => Sort::Refused,
            ("link", _) => Sort::Link,
            ("damage", _) => Sort::Damage,
            ("busy", _) => Sort::Busy,
            ("slow", _) => Sort::Slow,
            _ => Sort::Unavailable,
        };
        let detail = match sort {
            Sort::Unauthenticated => "the token is of nobody: it has ended, or never was one",
            _ => &failed.message,
        };
        Problem { field: failed.field.clone(), ..Problem::of(sort, detail) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_sort_has_a_name_of_its_own() {
        let names: BTreeSet<String> = Sort::ALL.into_iter().map(Sort::urn).collect();
        assert_eq!(names.len(), Sort::ALL.len());
        assert!(Sort::ALL.into_iter().all(|sort| (400..600).contains(&sort.status())));
    }

    #[test]
    fn what_the_box_says_has_its_status() {
        let of = |kind: &str, reason: Option<&str>| {
            let failed = Failed { reason: reason.map(str::to_owned), ..Failed::of(kind, "why") };
            Problem::from(failed).status()
        };
        let cases = [
            ("signed-out", None, 401),
            ("forbidden", None, 403),
            ("wait", None, 429),
            ("under-way", None, 409),
            ("key-reused", None, 422),
            ("cut-off", None, 409),
            ("refused", None, 422),
            ("refused", Some("missing"), 404),
            ("refused", Some("exists"), 409),
            ("link", None, 502),
            ("damage", None, 500),
            ("busy", None, 503),
            ("slow", None, 504),
            ("environment", None, 503),
        ];
        for (kind, reason, status) in cases {
            assert_eq!(of(kind, reason), status, "{kind} {reason:?}");
        }
        let waits = Problem::from(Failed::of("wait", "too many tries")).response();
        assert_eq!((waits.status().as_u16(), waits.headers()[RETRY_AFTER].as_bytes()), (429, &b"1"[..]));
        assert!(Problem::from(Failed::of("signed-out", "")).response().headers().contains_key(WWW_AUTHENTICATE));
    }
}
