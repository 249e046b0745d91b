//! What belongs to whoever is signed in: his password, second factor, sessions and tokens.

use askama::Template;
use axum::response::Response;
use serde_json::Value;

use super::{Frame, done, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::Failed;
use crate::control::door::{Ask, NewToken, SessionRow, TokenRow, TotpOffer};
use crate::qr;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed};

#[derive(Template)]
#[template(path = "security.html")]
struct Page {
    frame: Frame,
    sessions: Vec<SessionRow>,
    tokens: Vec<TokenRow>,
    roles: Vec<(&'static str, bool)>,
    second_factor: bool,
    /// A token that was made just now.
    made: Option<NewToken>,
    form: Form,
}

#[derive(Template)]
#[template(path = "second_factor.html")]
struct Factor {
    frame: Frame,
    secret: String,
    url: String,
    picture: Option<String>,
    form: Form,
}

/// The days for which a token is good where nothing else is said.
const DAYS: u32 = 90;

pub(super) async fn page(signed: Signed) -> Response {
    let form = signed.form();
    answer(&signed, form, None).await
}

async fn answer(signed: &Signed, form: Form, made: Option<NewToken>) -> Response {
    let both = async {
        let sessions: Vec<SessionRow> = signed.ask(Ask::Sessions).await?;
        Ok::<_, Failed>((sessions, signed.ask::<Vec<TokenRow>>(Ask::Tokens).await?))
    };
    let (sessions, tokens) = match both.await {
        Ok(both) => both,
        Err(failed) => return refused(&failed),
    };
    let own = [Role::Viewer, Role::Operator, Role::Administrator].into_iter().filter(|role| signed.may(*role));
    let page = Page {
        frame: Frame::of(signed, "security", "Security"),
        roles: own.map(|role| (role.name(), form.is("role", role.name()))).collect(),
        second_factor: signed.person.second_factor,
        sessions,
        tokens,
        made,
        form,
    };
    show_page(of_form(&page.form), &page)
}

/// Does something, and goes back to the page; what is refused stands beside `field`.
async fn act(signed: Signed, mut form: Form, ask: Ask, field: &'static str, word: &'static str) -> Response {
    if form.is_good() {
        match signed.ask::<Value>(ask).await {
            Ok(_) => return done(&signed, "/security", word),
            Err(failed) if failed.kind == "signed-out" => return refused(&failed),
            Err(failed) => form.failed(field, &failed),
        }
    }
    answer(&signed, form, None).await
}

pub(super) async fn password(Change { signed, mut form }: Change) -> Response {
    let (old, new) = (form.value("old").to_owned(), form.value("new").to_owned());
    if old.is_empty() {
        form.wrong("old", "The password that you have now is missing.");
    }
    if new.is_empty() {
        form.wrong("new", "Choose a new password.");
    } else if new != form.value("again") {
        form.wrong("again", "This is not what was typed above.");
    }
    act(signed, form, Ask::PasswordChange { old, new }, "new", "password").await
}

pub(super) async fn offer(Change { signed, form }: Change) -> Response {
    match signed.ask::<TotpOffer>(Ask::TotpOffer).await {
        Ok(offer) => factor(&signed, &offer, Form::new(&form.token)),
        Err(failed) => refused(&failed),
    }
}

fn factor(signed: &Signed, offer: &TotpOffer, form: Form) -> Response {
    let page = Factor {
        frame: Frame::of(signed, "security", "Second factor"),
        picture: qr::svg(&offer.url, "The secret, for the telephone’s camera"),
        secret: offer.secret.clone(),
        url: offer.url.clone(),
        form,
    };
    show_page(of_form(&page.form), &page)
}

/// A wrong code comes back with the same secret, which the form brings along: the telephone has it already.
pub(super) async fn confirm(Change { signed, mut form }: Change) -> Response {
    let code = form.needs("code", "Six digits that the telephone shows.").replace(' ', "");
    if form.is_good() {
        match signed.ask::<Value>(Ask::TotpConfirm { code }).await {
            Ok(_) => return done(&signed, "/security", "factor"),
            Err(failed) if failed.kind == "signed-out" => return refused(&failed),
            Err(failed) => form.failed("code", &failed),
        }
    }
    let offer = TotpOffer { secret: form.value("secret").to_owned(), url: form.value("url").to_owned() };
    factor(&signed, &offer, form)
}

pub(super) async fn drop_factor(Change { signed, mut form }: Change) -> Response {
    let password = form.value("password").to_owned();
    if password.is_empty() {
        form.wrong("password", "The password is missing.");
    }
    act(signed, form, Ask::TotpRemove { password }, "password", "unfactored").await
}

pub(super) async fn end_session(Change { signed, form }: Change) -> Response {
    let id = form.text("id").to_owned();
    act(signed, form, Ask::SessionEnd { id }, WHOLE, "ended").await
}

pub(super) async fn add_token(Change { signed, mut form }: Change) -> Response {
    let label = form.needs("label", "Say what it is for.");
    let days = form.some("days").map_or(Ok(DAYS), |days| days.parse::<u32>());
    let role = Role::named(form.value("role"));
    let (Ok(days), Some(role), true) = (days, role, form.is_good()) else {
        form.wrong("days", "Say for how many days, in digits.");
        return answer(&signed, form, None).await;
    };
    match signed.ask::<NewToken>(Ask::TokenAdd { label, role, days }).await {
        Ok(made) => {
            let form = signed.form();
            answer(&signed, form, Some(made)).await
        }
        Err(failed) if failed.kind == "signed-out" => refused(&failed),
        Err(failed) => {
            form.failed("label", &failed);
            answer(&signed, form, None).await
        }
    }
}

pub(super) async fn remove_token(Change { signed, form }: Change) -> Response {
    let id = form.text("id").to_owned();
    act(signed, form, Ask::TokenRemove { id }, WHOLE, "ended").await
}
