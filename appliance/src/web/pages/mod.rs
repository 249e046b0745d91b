//! The pages: which address is whose, and what all of them have in common. One file a noun.

mod access;
mod audit;
mod changes;
mod copies;
mod dataset;
mod datasets;
mod deleted;
mod explained;
mod files;
mod jobs;
mod limits;
mod line;
mod locks;
mod mounts;
mod network;
mod notices;
mod overview;
mod past;
mod peers;
pub(super) mod protection;
mod retention;
mod security;
mod settings;
mod setup;
mod snapshots;
mod storage;
mod system;
mod timeline;
mod trends;
mod users;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use super::api::{self, Api};
use super::door::Door;
use super::live::Live;
use super::visitor::{Signed, Visitor};
use super::{assets, cookies, show};
use crate::control::Failed;
use crate::control::door::Person;

/// What all pages share.
pub(super) struct Web {
    /// How the box calls itself.
    pub name: String,
    /// The way to it.
    pub door: Door,
    /// What is shown live.
    pub live: Live,
    /// What the interface for programs remembers.
    pub api: Api,
    /// Another one in each worker: the box was started again, or its worker was, where it is not the same.
    pub run: String,
}

/// All addresses.
pub(super) fn router(web: Arc<Web>) -> Router {
    let pages = Router::new()
        .route("/", get(overview::home))
        .route("/live/overview", get(overview::live))
        .route("/claim", get(access::claim_page).post(access::claim))
        .route("/strength", post(access::strength))
        .route("/sign-in", get(access::sign_in_page).post(access::sign_in))
        .route("/sign-out", post(access::sign_out))
        .route("/datasets", get(datasets::list))
        .route("/datasets/new", get(datasets::new_page).post(datasets::create))
        .route("/datasets/{name}", get(dataset::page))
        .route("/datasets/{name}/delete", get(dataset::delete_page).post(dataset::delete))
        .route("/datasets/{name}/copies", post(copies::set))
        .route("/datasets/{name}/copies/pause", post(copies::pause))
        .route("/datasets/{name}/copies/remove", post(copies::remove))
        .route("/datasets/{name}/copies/now", post(copies::now))
        .route("/datasets/{name}/snapshots", post(snapshots::create))
        .route("/datasets/{name}/snapshots/{snapshot}/hold", post(snapshots::hold))
        .route("/datasets/{name}/snapshots/{snapshot}/delete", get(snapshots::delete_page).post(snapshots::delete))
        .route("/datasets/{name}/meant", post(dataset::accept))
        .route("/datasets/{name}/changes", get(changes::page))
        .route("/datasets/{name}/files", get(files::page))
        .route("/datasets/{name}/download", get(files::download))
        .route("/datasets/{name}/timeline", get(timeline::page))
        .route("/datasets/{name}/moment", get(timeline::go))
        .route("/datasets/{name}/marks", post(timeline::mark))
        .route("/datasets/{name}/window", post(timeline::set_window))
        .route("/datasets/{name}/window/off", get(timeline::off_page).post(timeline::off))
        .route("/datasets/{name}/clone", get(past::clone_page).post(past::clone))
        .route("/datasets/{name}/rewind", get(past::rewind_page).post(past::rewind))
        .route("/datasets/{name}/larger", get(past::larger_page).post(past::larger))
        .route("/datasets/{name}/snapshots/{snapshot}/lock", get(locks::lock_page).post(locks::lock))
        .route("/datasets/{name}/lock", post(locks::set))
        .route("/locks", get(locks::list).post(locks::set_of_copies))
        .route("/datasets/{name}/retention", get(retention::page).post(retention::set))
        .route("/datasets/{name}/retention/remove", post(retention::remove))
        .route("/datasets/{name}/count", post(retention::count))
        .route("/deleted", get(deleted::list).post(deleted::restore))
        .route("/peers", get(peers::list))
        .route("/peers/invite", get(peers::invite_page).post(peers::invite))
        .route("/peers/join", get(peers::join_page).post(peers::join))
        .route("/peers/{name}", get(peers::page))
        .route("/limits", get(limits::of_box).post(limits::set_box))
        .route("/peers/{name}/limits", get(limits::of_peer).post(limits::set_peer))
        .route("/peers/{name}/addresses", post(peers::addresses))
        .route("/peers/{name}/probe", post(peers::probe))
        .route("/peers/{name}/remove", get(peers::remove_page).post(peers::remove))
        .route("/jobs", get(jobs::page))
        .route("/live/jobs", get(jobs::live))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/security", get(security::page))
        .route("/security/password", post(security::password))
        .route("/security/second-factor", post(security::offer))
        .route("/security/second-factor/confirm", post(security::confirm))
        .route("/security/second-factor/remove", post(security::drop_factor))
        .route("/security/sessions/end", post(security::end_session))
        .route("/security/tokens", post(security::add_token))
        .route("/security/tokens/remove", post(security::remove_token))
        .route("/users", get(users::list).post(users::add))
        .route("/users/{name}/remove", get(users::remove_page).post(users::remove))
        .route("/audit", get(audit::page))
        .route("/notices", get(notices::page).post(notices::set))
        .route("/notices/test", post(notices::test))
        .route("/storage", get(storage::page))
        .route("/storage/reclaim", post(storage::reclaim))
        .route("/storage/count", post(storage::count))
        .route("/storage/scrub", post(storage::scrub))
        .route("/settings", get(settings::page).post(settings::set))
        .route("/system", get(system::page))
        .route("/network", get(network::page).post(network::set))
        .route("/network/keep", post(network::keep))
        .route("/network/back", post(network::back))
        .route("/setup", get(setup::begin))
        .route("/setup/summary", get(setup::summary))
        .route("/setup/apply", post(setup::apply))
        .route("/setup/done", get(setup::done))
        .route("/setup/save", get(setup::save))
        .route("/setup/file", get(setup::file_page).post(setup::load))
        .route("/setup/{step}", get(setup::step).post(setup::next))
        .route("/system/restart", get(system::restart_page).post(system::restart))
        .route("/system/stop", get(system::stop_page).post(system::stop))
        .route("/system/certificate", post(system::certificate))
        .route("/system/support", post(system::support))
        .route("/back", get(system::back))
        .route("/assets/{hash}/{name}", get(assets::serve))
        .merge(api::routes())
        .fallback(|| async { nowhere() })
        .method_not_allowed_fallback(not_so);
    pages.with_state(web)
}

/// What frames every page.
pub(super) struct Frame {
    pub title: String,
    pub name: String,
    pub person: Option<Person>,
    /// The place in the navigation.
    pub here: &'static str,
    /// The token of the form that signs out.
    pub token: String,
    /// What was done just before.
    pub said: Option<&'static str>,
}

impl Frame {
    /// For whoever is signed in.
    pub(super) fn of(signed: &Signed, here: &'static str, title: impl Into<String>) -> Frame {
        Frame {
            title: title.into(),
            name: signed.web.name.clone(),
            person: Some(signed.person.clone()),
            here,
            token: signed.token.clone(),
            said: said(signed.query.text("done")),
        }
    }

    /// For anybody.
    pub(super) fn open(name: &str, title: impl Into<String>) -> Frame {
        Frame { title: title.into(), name: name.to_owned(), person: None, here: "", token: String::new(), said: None }
    }

    /// Where a file of the program is found.
    pub(super) fn asset(&self, name: &str) -> String {
        assets::path(name)
    }

    /// Whether a page only administrators see is linked.
    pub(super) fn rules(&self) -> bool {
        self.person.as_ref().is_some_and(|person| person.role == crate::accounts::Role::Administrator)
    }
}

/// What was done, by a word in the address: nobody can have the page say anything else.
fn said(word: &str) -> Option<&'static str> {
    const ALL: &[(&str, &str)] = &[
        ("notices", "It is saved, and counts after the box was restarted."),
        ("unchanged", "It was like that already."),
        ("claimed", "The box is yours. A few questions are left until it protects something."),
        ("created", "It was created. Below is how to reach it."),
        (
            "deleted",
            "It was deleted. What can be had back, and for how long, stands under “Deleted” on the page of datasets.",
        ),
        ("restored", "It is back."),
        ("snapshot", "The snapshot was made."),
        ("held", "The snapshot is held: nobody can delete it until it is released."),
        ("released", "The snapshot is released."),
        ("marked", "The moment is marked."),
        ("window", "Any moment is kept so from now on."),
        ("unwindowed", "Snapshots alone are kept from now on."),
        ("cloned", "The new one is there. Below is how to reach it."),
        (
            "rewound",
            "It is as it was then. What it was before is held in the snapshot whose name begins with before-rewind.",
        ),
        (
            "meant",
            "It was meant: it is told no longer. What comes after now is compared with snapshots that are still to be made.",
        ),
        ("larger", "It is larger now. Clients may have to look for its new size."),
        ("locked", "The snapshot is locked: nobody can delete it before its time."),
        ("lock-rule", "New snapshots are locked from now on."),
        ("no-lock-rule", "New snapshots are not locked any more by this rule. Those that are locked stay so."),
        ("rules", "Snapshots stay and go by these rules from now on."),
        ("unruled", "No snapshot goes by rules any more."),
        ("counted", "It was counted."),
        ("plan", "It is copied from now on."),
        ("paused", "It is paused."),
        ("resumed", "It goes on."),
        ("unplanned", "It is copied no longer. What is there stays there."),
        ("sent", "It is on its way."),
        ("paired", "The boxes know one another from now on."),
        ("limit", "The limit counts from now on."),
        ("addresses", "Its addresses were changed."),
        ("unpaired", "The peer is forgotten."),
        ("cancelled", "It was stopped."),
        ("password", "The password was changed."),
        ("ordering", "A certificate is being ordered; this page shows what came of it."),
        ("factor", "The second factor counts from now on."),
        ("unfactored", "The second factor was dropped."),
        ("ended", "It was ended."),
        ("reclaiming", "Room is given back from now on. It begins within half a minute."),
        ("counting", "It is counted from now on. The figures stand here once that is done."),
        ("scrubbing", "Everything is read from now on."),
        ("scrub-paused", "Nothing is read until you let it go on."),
        ("scrub-resumed", "It goes on."),
        ("healing", "Peers are asked for what is damaged."),
        ("settings", "The settings are kept. They count from the next start on."),
        ("user", "The user was added."),
        ("unuser", "The user was removed."),
    ];
    ALL.iter().find(|(known, _)| *known == word).map(|(_, sentence)| *sentence)
}

/// Renders a page.
pub(super) fn show_page(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page could not be shown").into_response()
        }
    }
}

/// The status of a page with a form: wrong where something in it is.
pub(super) fn of_form(form: &super::form::Form) -> StatusCode {
    if form.is_good() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }
}

/// A page that only says something.
#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    frame: Frame,
    sentence: &'a str,
}

/// Says something to whoever it is.
pub(super) fn notice(status: StatusCode, title: &str, sentence: &str) -> Response {
    show_page(status, &Notice { frame: Frame::open("", title), sentence: &show::sentence(sentence) })
}

/// Says why the box did not do what a page asked for.
pub(super) fn refused(failed: &Failed) -> Response {
    let (status, title) = match failed.kind.as_str() {
        "signed-out" => {
            let mut response = to_sign_in();
            cookies::forget(response.headers_mut(), cookies::SESSION);
            return response;
        }
        "forbidden" => (StatusCode::FORBIDDEN, "You may not do that"),
        "wait" => (StatusCode::TOO_MANY_REQUESTS, "Too many tries"),
        "refused" => (StatusCode::UNPROCESSABLE_ENTITY, "That can’t be done"),
        "link" => (StatusCode::BAD_GATEWAY, "The peer was not reached"),
        "damage" => (StatusCode::INTERNAL_SERVER_ERROR, "Something is damaged"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "The box can’t do that now"),
    };
    notice(status, title, &failed.message)
}

/// Sends a browser on, after a form too.
pub(super) fn to(path: &str) -> Response {
    let place = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, place)]).into_response()
}

/// Sends a browser on after something was done; what is shown live is asked for anew.
pub(super) fn done(visitor: &Visitor, path: &str, word: &'static str) -> Response {
    debug_assert!(said(word).is_some(), "{word} says nothing");
    visitor.web.live.forget();
    to(&format!("{path}?done={word}"))
}

/// Sends whoever is not signed in to where he can.
pub(super) fn to_sign_in() -> Response {
    to("/sign-in")
}

/// The same, and to the page that he wanted after that.
pub(super) fn to_sign_in_for(visitor: &Visitor) -> Response {
    match visitor.path.as_deref() {
        None | Some("/") => to_sign_in(),
        Some(path) => {
            let wanted: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            to(&format!("/sign-in?to={wanted}"))
        }
    }
}

/// A page of this box, if that is what somebody named: no other box, and nothing that changes anything.
pub(super) fn own_page(path: &str) -> &str {
    let plain = path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n']);
    if plain { path } else { "/" }
}

/// What is not there.
pub(super) fn missing(what: &str) -> Response {
    notice(StatusCode::NOT_FOUND, "Not here", what)
}

/// No page has this address.
pub(super) fn nowhere() -> Response {
    missing("there is no such page on this box")
}

async fn not_so() -> Response {
    notice(StatusCode::METHOD_NOT_ALLOWED, "Not so", "this address is not for that")
}

/// Asks before something is done that takes something away.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm<'a> {
    pub frame: Frame,
    /// What will be, a paragraph each.
    pub says: Vec<String>,
    /// Where the form goes.
    pub action: String,
    /// What the button does.
    pub button: &'a str,
    /// Where nothing is done.
    pub back: String,
    /// What has to be typed for it, if anything.
    pub typed: Option<String>,
    pub form: super::form::Form,
}

impl Confirm<'_> {
    pub(super) fn show(&self) -> Response {
        show_page(of_form(&self.form), self)
    }
}

/// The field in which a name is typed to confirm.
pub(super) const TYPED: &str = "typed";

#[cfg(test)]
mod tests {
    use super::own_page;

    #[test]
    fn sign_in_leads_to_a_page_of_this_box_and_nowhere_else() {
        assert_eq!(own_page("/datasets/office"), "/datasets/office");
        for elsewhere in
            ["", "//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nSet-Cookie: b", "javascript:x"]
        {
            assert_eq!(own_page(elsewhere), "/", "{elsewhere}");
        }
    }
}
