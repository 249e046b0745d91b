//! The box itself: its versions, where it answers, what it has warned of, and starting it again.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::http::StatusCode;
use axum::response::Response;

use super::{Confirm, Frame, TYPED, done, refused, show_page, to};
use crate::accounts::Role;
use crate::control::door::{Ask, Call, Proof};
use crate::control::reports::{Acknowledged, LogLine, NetworkState, Status};
use crate::control::{Failed, Request};
use crate::web::download::{Line, answer};
use crate::web::form::Form;
use crate::web::show;
use crate::web::visitor::{Change, Signed, Visitor};

/// Lines of the log that are shown.
const LINES: u32 = 100;

#[derive(Template)]
#[template(path = "system.html")]
struct System {
    frame: Frame,
    status: Arc<Status>,
    zone: String,
    network: NetworkState,
    /// What was warned of; nothing for who may not know.
    log: Option<Vec<LogLine>>,
    form: Form,
    rules: bool,
}

/// What is seen while a box starts again, or has ended.
#[derive(Template)]
#[template(path = "waits.html")]
struct Waits {
    frame: Frame,
    /// The worker that a new one is to follow; nothing where none will.
    run: Option<String>,
}

pub(super) async fn page(signed: Signed) -> Response {
    let asked = async {
        let status = signed.web.live.for_page(&signed).await?;
        let log = match signed.may(Role::Operator) {
            true => Some(signed.request(Request::Log { limit: LINES }).await?),
            false => None,
        };
        let network = signed.request(Request::NetworkShow).await?;
        Ok::<_, Failed>((status, log, network))
    };
    match asked.await {
        Ok((status, log, network)) => {
            let frame = Frame::of(&signed, "system", "System");
            let (rules, form) = (signed.may(Role::Administrator), signed.form());
            show_page(StatusCode::OK, &System { frame, status, zone: show::zone(), network, log, form, rules })
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn restart_page(signed: Signed) -> Response {
    let form = signed.form();
    let says = vec![
        "What was written is brought to its end before. Clients wait meanwhile: NFS goes on by itself, most iSCSI initiators too. What is being sent to peers goes on where it was.".into(),
        "It takes seconds, and minutes where much has to be read at the start. Everybody is signed out.".into(),
    ];
    Confirm {
        frame: Frame::of(&signed, "system", "Restart the box?"),
        says,
        action: "/system/restart".into(),
        button: "Restart",
        back: "/system".into(),
        typed: None,
        form,
    }
    .show()
}

pub(super) async fn restart(Change { signed, .. }: Change) -> Response {
    end(&signed, Request::Restart, "The box is restarting", Some(signed.web.run.clone())).await
}

pub(super) async fn stop_page(signed: Signed) -> Response {
    let form = signed.form();
    confirm_stop(&signed, form)
}

fn confirm_stop(signed: &Signed, form: Form) -> Response {
    let says = vec![
        "What was written is brought to its end. Then nothing is served, backed up or copied until somebody starts the box at its place: this page can’t.".into(),
        "Where the system starts it again by itself when it ends, it comes back at once: then stop it there.".into(),
    ];
    Confirm {
        frame: Frame::of(signed, "system", "Shut the box down?"),
        says,
        action: "/system/stop".into(),
        button: "Shut it down",
        back: "/system".into(),
        typed: Some(signed.web.name.clone()),
        form,
    }
    .show()
}

pub(super) async fn stop(Change { signed, mut form }: Change) -> Response {
    if form.text(TYPED) != signed.web.name.trim() {
        form.wrong(TYPED, "This is not its name: nothing was done.");
        return confirm_stop(&signed, form);
    }
    end(&signed, Request::Stop, "The box is shutting down", None).await
}

/// Ends the box, and shows what is seen meanwhile: this is the last answer of this worker.
async fn end(signed: &Signed, request: Request, title: &str, run: Option<String>) -> Response {
    match signed.request::<Acknowledged>(request).await {
        Ok(_) => show_page(StatusCode::OK, &Waits { frame: Frame::open(&signed.web.name, title), run }),
        Err(failed) => refused(&failed),
    }
}

/// Has another certificate ordered.
pub(super) async fn certificate(Change { signed, .. }: Change) -> Response {
    match signed.request::<Acknowledged>(Request::CertificateOrder).await {
        Ok(_) => done(&signed, "/system", "ordering"),
        Err(failed) => refused(&failed),
    }
}

/// Sends the support bundle.
pub(super) async fn support(Extension(line): Extension<Arc<Line>>, Change { signed, .. }: Change) -> Response {
    let proof = signed.session.clone().map(Proof::Session);
    let call = Call { proof, from: signed.from, at: signed.at, by_itself: false, once: None, ask: Ask::Support };
    match signed.web.door.download(&call).await {
        Ok((head, from, place)) => answer(&head, from, place, line),
        Err(failed) => refused(&failed),
    }
}

/// Where a browser asks whether the box is back: once another worker answers, it is.
pub(super) async fn back(visitor: Visitor) -> Response {
    let run = visitor.query.text("run").to_owned();
    if run != visitor.web.run {
        return to("/");
    }
    let frame = Frame::open(&visitor.web.name, "The box is restarting");
    show_page(StatusCode::OK, &Waits { frame, run: Some(run) })
}
