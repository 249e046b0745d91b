//! How somebody gets in: the claim of a box that nobody owns yet, signing in, signing out.

use askama::Template;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Frame, of_form, own_page, refused, show_page, to, to_sign_in};
use crate::control::door::{Ask, Person, SignedIn, State, Strength};
use crate::web::form::{Form, WHOLE};
use crate::web::visitor::{Posted, Visitor};
use crate::web::{cookies, guard};

#[derive(Template)]
#[template(path = "claim.html")]
struct Claim {
    frame: Frame,
    form: Form,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    frame: Frame,
    form: Form,
}

/// A form for somebody who is not signed in, and the cookie that goes with it.
fn open_form(visitor: &Visitor) -> (Form, HeaderMap) {
    let mut headers = HeaderMap::new();
    // A session that counts for nothing any more would stand in the way of the form's own cookie.
    if visitor.session.is_some() {
        cookies::forget(&mut headers, cookies::SESSION);
    }
    let number = cookies::read(&visitor.headers, cookies::FORM).unwrap_or_else(|| {
        let number = guard::new_number();
        cookies::set(&mut headers, cookies::FORM, &number);
        number
    });
    (Form::new(&guard::of_form(&number).to_hex()), headers)
}

/// The page for whoever holds the claim code.
pub(super) fn show_claim(visitor: &Visitor) -> Response {
    let (form, headers) = open_form(visitor);
    (headers, claim_form(visitor, form.with("user", "admin"))).into_response()
}

fn claim_form(visitor: &Visitor, form: Form) -> Response {
    let frame = Frame::open(&visitor.web.name, "Set up this box");
    show_page(of_form(&form), &Claim { frame, form })
}

fn sign_in_form(visitor: &Visitor, status: StatusCode, form: Form) -> Response {
    show_page(status, &SignIn { frame: Frame::open(&visitor.web.name, "Sign in"), form })
}

pub(super) async fn claim_page(visitor: Visitor) -> Response {
    match visitor.ask::<State>(Ask::State).await {
        Ok(state) if state.claimed => to_sign_in(),
        Ok(_) => show_claim(&visitor),
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn claim(Posted { visitor, mut form }: Posted) -> Response {
    let code = form.needs("code", "The code stands on the box’s display, its console, and its label.");
    let user = form.needs("user", "Choose a name to sign in with.");
    let password = form.value("password").to_owned();
    if password.is_empty() {
        form.wrong("password", "Choose a password.");
    } else if password != form.value("again") {
        form.wrong("again", "This is not what was typed above.");
    }
    if form.is_good() {
        match visitor.ask::<SignedIn>(Ask::Claim { code, user, password }).await {
            Ok(signed) => return enter(&signed, "/setup/place?done=claimed"),
            Err(failed) => form.failed(if failed.kind == "wait" { "code" } else { WHOLE }, &failed),
        }
    }
    claim_form(&visitor, form)
}

/// How good a password is, for the meter beside it.
pub(super) async fn strength(Posted { visitor, form }: Posted) -> Response {
    let beside = vec![form.text("user").to_owned(), visitor.web.name.clone()];
    match visitor.ask::<Strength>(Ask::Strength { password: form.value("password").to_owned(), beside }).await {
        Ok(strength) => {
            let text = serde_json::to_string(&strength).unwrap_or_default();
            ([(CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

pub(super) async fn sign_in_page(visitor: Visitor) -> Response {
    if visitor.session.is_some() && visitor.ask::<Person>(Ask::Whoami).await.is_ok() {
        return to("/");
    }
    match visitor.ask::<State>(Ask::State).await {
        Ok(state) if !state.claimed => return to("/"),
        Ok(_) => {}
        Err(failed) => return refused(&failed),
    }
    let (form, headers) = open_form(&visitor);
    let form = form.with("to", own_page(visitor.query.value("to")));
    (headers, sign_in_form(&visitor, StatusCode::OK, form)).into_response()
}

pub(super) async fn sign_in(Posted { visitor, mut form }: Posted) -> Response {
    let user = form.needs("user", "Who are you?");
    let password = form.value("password").to_owned();
    if password.is_empty() {
        form.wrong("password", "The password is missing.");
    }
    let code = form.some("code").map(|code| code.replace(' ', ""));
    if !form.is_good() {
        return sign_in_form(&visitor, StatusCode::UNPROCESSABLE_ENTITY, form);
    }
    match visitor.ask::<SignedIn>(Ask::SignIn { user, password, code }).await {
        Ok(signed) => enter(&signed, own_page(form.value("to"))),
        Err(failed) => {
            form.failed(WHOLE, &failed);
            let waits = failed.kind == "wait";
            let status = if waits { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::UNPROCESSABLE_ENTITY };
            sign_in_form(&visitor, status, form)
        }
    }
}

/// Lets somebody in: the browser keeps the session from now on, and the number that forms had before is gone.
fn enter(signed: &SignedIn, path: &str) -> Response {
    let mut response = to(path);
    cookies::set(response.headers_mut(), cookies::SESSION, &signed.session);
    cookies::forget(response.headers_mut(), cookies::FORM);
    response
}

pub(super) async fn sign_out(Posted { visitor, .. }: Posted) -> Response {
    if let Err(failed) = visitor.ask::<serde_json::Value>(Ask::SignOut).await
        && failed.kind != "signed-out"
    {
        return refused(&failed);
    }
    visitor.web.live.forget();
    let mut response = to_sign_in();
    cookies::forget(response.headers_mut(), cookies::SESSION);
    response
}
