//! Who asks for a page, as far as the worker can tell: what the browser showed. Who that is, the box says.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::form::{Form, TOKEN};
use super::pages::{Web, notice, nowhere, refused, to_sign_in_for};
use super::{cookies, guard};
use crate::accounts::Role;
use crate::control::door::{Ask, Call, Person, Proof};
use crate::control::{Failed, Request as BoxRequest};

/// Longest body of a request, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(20);
/// Addresses below this one are asked for by open pages, not by people.
const LIVE: &str = "/live/";

/// Who asks from here, as the server saw it.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// His address.
    pub from: IpAddr,
    /// The address of the box at which he came.
    pub at: Option<IpAddr>,
}

/// Anybody.
pub(super) struct Visitor {
    pub web: Arc<Web>,
    pub from: IpAddr,
    /// The address of the box at which he came.
    pub at: Option<IpAddr>,
    /// The box as this browser calls it: a name or an address, without a port.
    pub host: String,
    pub session: Option<String>,
    pub headers: HeaderMap,
    /// What stands behind the `?`.
    pub query: Form,
    /// What was asked for, where that is a page.
    pub path: Option<String>,
    /// An open page asks by itself.
    by_itself: bool,
}

impl FromRequestParts<Arc<Web>> for Visitor {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Self::Rejection> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let seen = parts.extensions.get::<Seen>();
        Ok(Visitor {
            web: web.clone(),
            from: seen.map_or(IpAddr::from([0, 0, 0, 0]), |seen| seen.from),
            at: seen.and_then(|seen| seen.at),
            host: host_alone(host),
            session: cookies::read(&parts.headers, cookies::SESSION),
            headers: parts.headers.clone(),
            query: Form::read(parts.uri.query().unwrap_or_default().as_bytes()),
            path: (parts.method == Method::GET).then(|| parts.uri.path().to_owned()),
            by_itself: parts.uri.path().starts_with(LIVE),
        })
    }
}

/// A host as browsers send it, without its port; nothing but what stands in names and addresses.
fn host_alone(host: &str) -> String {
    let end = if host.starts_with('[') { host.find(']').map(|end| end + 1) } else { host.find(':') };
    let plain = |found: &char| found.is_ascii_alphanumeric() || "-_.:[]".contains(*found);
    let alone: String = host[..end.unwrap_or(host.len())].chars().filter(plain).collect();
    if alone.is_empty() { "HOST".into() } else { alone }
}

impl Visitor {
    /// Asks the box, in the name of whoever this is.
    pub(super) async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, Failed> {
        let proof = self.session.clone().map(Proof::Session);
        self.web
            .door
            .ask(&Call { proof, from: self.from, at: self.at, by_itself: self.by_itself, once: None, ask })
            .await
    }

    /// The same as the command line would.
    pub(super) async fn request<T: DeserializeOwned>(&self, request: BoxRequest) -> Result<T, Failed> {
        self.ask(Ask::Box { request }).await
    }
}

/// What an address names between its slashes. One that is no text, or no number where one stands, is the address of no page.
pub(super) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Web>> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        let named = axum::extract::Path::from_request_parts(parts, web).await;
        named.map(|axum::extract::Path(named)| Path(named)).map_err(|_| nowhere())
    }
}

/// Somebody who is signed in, as the box said just now.
pub(super) struct Signed {
    pub visitor: Visitor,
    pub person: Person,
    /// The token of his forms.
    pub token: String,
}

impl Signed {
    /// Asks the box who this is.
    pub(super) async fn of(visitor: Visitor) -> Result<Signed, Response> {
        let Some(session) = visitor.session.as_deref() else { return Err(to_sign_in_for(&visitor)) };
        let token = guard::of_session(session).to_hex().to_string();
        match visitor.ask(Ask::Whoami).await {
            Ok(person) => Ok(Signed { visitor, person, token }),
            Err(failed) if failed.kind == "signed-out" => {
                let mut response = to_sign_in_for(&visitor);
                cookies::forget(response.headers_mut(), cookies::SESSION);
                Err(response)
            }
            Err(failed) => Err(refused(&failed)),
        }
    }

    /// Whether he may do what this role may.
    pub(super) fn may(&self, role: Role) -> bool {
        self.person.role >= role
    }

    /// A form that nobody has filled in.
    pub(super) fn form(&self) -> Form {
        Form::new(&self.token)
    }
}

impl std::ops::Deref for Signed {
    type Target = Visitor;

    fn deref(&self) -> &Visitor {
        &self.visitor
    }
}

impl FromRequestParts<Arc<Web>> for Signed {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        let Ok(visitor) = Visitor::from_request_parts(parts, web).await;
        Signed::of(visitor).await
    }
}

/// A form that a page of this box sent.
pub(super) struct Posted {
    pub visitor: Visitor,
    pub form: Form,
}

impl FromRequest<Arc<Web>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Ok(visitor) = Visitor::from_request_parts(&mut parts, web).await;
        if !guard::is_own(&visitor.headers) {
            let sentence = "this form was not sent from a page of this box, so nothing was done";
            return Err(notice(StatusCode::FORBIDDEN, "Not from here", sentence));
        }
        let kind = visitor.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.trim_start().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            let sentence = "a form is sent as application/x-www-form-urlencoded";
            return Err(notice(StatusCode::UNSUPPORTED_MEDIA_TYPE, "No form", sentence));
        }
        let body = match timeout(BODY, to_bytes(body, BODY_BYTES_MAX)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => {
                let sentence = "nothing that is typed into this page is that long";
                return Err(notice(StatusCode::PAYLOAD_TOO_LARGE, "Too long", sentence));
            }
            Err(_) => return Err(notice(StatusCode::REQUEST_TIMEOUT, "Too slow", "the form did not arrive in time")),
        };
        let form = Form::read(&body);
        if !guard::holds(&visitor.headers, &form.token) {
            let sentence = "this page was open for too long, or somebody signed in meanwhile: nothing was done; go back, load it anew and send it again";
            return Err(notice(StatusCode::FORBIDDEN, "The page is out of date", sentence));
        }
        Ok(Posted { visitor, form })
    }
}

/// The same, from somebody who is signed in.
pub(super) struct Change {
    pub signed: Signed,
    pub form: Form,
}

impl FromRequest<Arc<Web>> for Change {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Response> {
        let Posted { visitor, form } = Posted::from_request(request, web).await?;
        let signed = Signed::of(visitor).await?;
        debug_assert_eq!(form.token, signed.token, "{TOKEN} was checked");
        Ok(Change { signed, form })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let cases = [
            ("box.local:8443", "box.local"),
            ("192.0.2.7", "192.0.2.7"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("a';rm -rf /;'", "arm-rf"),
            ("", "HOST"),
            ("[", "["),
        ];
        for (host, alone) in cases {
            assert_eq!(host_alone(host), alone);
        }
    }
}
