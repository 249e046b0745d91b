//! Peers: who they are, pairing with one more, and how fast each is sent to.

use std::sync::Arc;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

use super::trends::{Over, of_peers, report};
use super::{Confirm, Frame, TYPED, done, explained, missing, of_form, refused, show_page};
use crate::accounts::Role;
use crate::control::reports::{
    Acknowledged, Explained, ExplainedPeer, Invitation, Line, MeasuredWay, Peer, Refusal, Status,
};
use crate::control::{AddressChange, Failed, Request};
use crate::qr;
use crate::web::chart::Chart;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Path, Signed};

#[derive(Template)]
#[template(path = "peers.html")]
struct Peers {
    frame: Frame,
    status: Arc<Status>,
    rules: bool,
}

#[derive(Template)]
#[template(path = "peer.html")]
struct One {
    frame: Frame,
    href: String,
    peer: Peer,
    explained: Option<ExplainedPeer>,
    caught_up: String,
    /// Which limits count, and why.
    says: Vec<String>,
    /// What it was refused.
    refusals: Vec<Refusal>,
    /// What a probe found just now, and each direction of it in a sentence.
    line: Option<Line>,
    ways: Option<[String; 2]>,
    charts: Vec<Chart>,
    form: Form,
    operates: bool,
    rules: bool,
}

#[derive(Template)]
#[template(path = "peer_invite.html")]
struct Invite {
    frame: Frame,
    invitation: Option<Invitation>,
    /// The command that the other box needs, where it has no page.
    command: String,
    picture: Option<String>,
    minutes: u64,
    form: Form,
}

#[derive(Template)]
#[template(path = "peer_join.html")]
struct Join {
    frame: Frame,
    form: Form,
}

impl One {
    /// Whether a limit was set by hand.
    fn by_hand(&self) -> bool {
        self.explained.as_ref().is_some_and(|explained| explained.cap.reason == "override")
    }
}

pub(super) async fn list(signed: Signed) -> Response {
    match signed.web.live.for_page(&signed).await {
        Ok(status) => {
            let rules = signed.may(Role::Administrator);
            show_page(StatusCode::OK, &Peers { frame: Frame::of(&signed, "peers", "Peers"), status, rules })
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    one(&signed, &name, form, None).await
}

async fn one(signed: &Signed, name: &str, form: Form, line: Option<Line>) -> Response {
    let peer = match find(signed, name).await {
        Ok(peer) => peer,
        Err(response) => return response,
    };
    let asked: Result<Explained, Failed> = signed.request(Request::LimitExplain { peer: Some(name.to_owned()) }).await;
    let refusals: Result<Vec<Refusal>, Failed> = signed.request(Request::PeerRefusals).await;
    let status = signed.web.live.for_page(signed).await;
    let charts = match (report(signed, Over::Week).await, &status) {
        (Ok(report), Ok(status)) if status.peers.len() == 1 => of_peers(&report, status, Over::Week),
        _ => Vec::new(),
    };
    let says = asked.as_ref().ok().and_then(|asked| Some(explained::of_peer(asked.peers.first()?, &asked.whole)));
    let explained = asked.ok().and_then(|explained| explained.peers.into_iter().next());
    let page = One {
        frame: Frame::of(signed, "peers", name),
        href: format!("/peers/{}", show::part(name)),
        caught_up: explained.as_ref().map_or_else(String::new, |known| explained::caught_up(&known.caught_up)),
        says: says.unwrap_or_default(),
        refusals: refusals.unwrap_or_default().into_iter().filter(|refusal| refusal.peer == name).collect(),
        ways: line
            .as_ref()
            .and_then(|line| line.measured.as_ref())
            .map(|known| [&known.there, &known.back].map(measured)),
        line,
        charts,
        operates: signed.may(Role::Operator),
        rules: signed.may(Role::Administrator),
        peer,
        explained,
        form,
    };
    show_page(of_form(&page.form), &page)
}

async fn find(signed: &Signed, name: &str) -> Result<Peer, Response> {
    let status = signed.web.live.for_page(signed).await.map_err(|failed| refused(&failed))?;
    let found = status.peers.iter().find(|peer| peer.name == name).cloned();
    found.ok_or_else(|| missing("there is no such peer; it may have been forgotten"))
}

/// Changes where a peer is dialled.
pub(super) async fn addresses(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    let address = form.needs("address", "Where the peer is reached, as in head-office.example:4433.");
    if !form.is_good() {
        return one(&signed, &name, form, None).await;
    }
    let change = match form.value("what") {
        "remove" => AddressChange::Remove(address),
        "prefer" => AddressChange::Prefer(address),
        _ => AddressChange::Add(address),
    };
    match signed.request::<Peer>(Request::PeerAddresses { peer: name.clone(), change: Some(change) }).await {
        Ok(_) => done(&signed, &format!("/peers/{}", show::part(&name)), "addresses"),
        Err(failed) if failed.kind == "refused" => {
            form.failed("address", &failed);
            one(&signed, &name, form, None).await
        }
        Err(failed) => refused(&failed),
    }
}

/// Measures the line, which takes some seconds.
pub(super) async fn probe(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    match signed.request::<Line>(Request::Probe { peer: name.clone() }).await {
        Ok(line) => one(&signed, &name, form, Some(line)).await,
        Err(failed) if failed.kind == "signed-out" || failed.kind == "forbidden" => refused(&failed),
        Err(failed) => {
            form.failed(WHOLE, &failed);
            one(&signed, &name, form, None).await
        }
    }
}

/// One direction of a line in a sentence.
fn measured(way: &MeasuredWay) -> String {
    let rate = match (&way.bits_per_second, way.at_least, way.held_by_cap) {
        (Some(bits), _, true) => format!("{}, which is the limit of whoever sends", show::rate(bits)),
        (Some(bits), true, _) => format!("{} at least", show::rate(bits)),
        (Some(bits), ..) => format!("about {}", show::rate(bits)),
        (None, ..) => "too little arrived to tell how much".into(),
    };
    let (low, high) = way.loss_percent_between;
    let lost = format!("{} of {} packets were lost", way.lost, way.packets);
    match way.lost {
        0 => format!("{rate}; {lost} (at most {high:.1} %)"),
        _ => format!("{rate}; {lost} ({low:.1} to {high:.1} %), at most {} in a row", way.longest_burst),
    }
}

pub(super) async fn invite_page(signed: Signed) -> Response {
    let form = signed.form();
    invite_form(&signed, form, None)
}

fn invite_form(signed: &Signed, form: Form, invitation: Option<Invitation>) -> Response {
    let command = invitation.as_ref().map_or_else(String::new, |invitation| {
        format!("narrowboat peer join {} {}", show::quoted(&invitation.code), address(&invitation.listen, &signed.host))
    });
    let page = Invite {
        frame: Frame::of(signed, "peers", "Invite a box"),
        picture: invitation.as_ref().and_then(|invitation| qr::svg(&invitation.code, "The code of the invitation")),
        minutes: invitation.as_ref().map_or(0, |invitation| invitation.seconds / 60),
        invitation,
        command,
        form,
    };
    show_page(of_form(&page.form), &page)
}

/// Where the other box finds this one, as far as can be told from here.
fn address(listen: &str, host: &str) -> String {
    match listen.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => format!("{host}:{}", address.port()),
        _ => listen.to_owned(),
    }
}

pub(super) async fn invite(Change { signed, mut form }: Change) -> Response {
    match signed.request::<Invitation>(Request::PeerInvite { name: form.some("name") }).await {
        Ok(invitation) => invite_form(&signed, form, Some(invitation)),
        Err(failed) if failed.kind == "refused" => {
            form.failed("name", &failed);
            invite_form(&signed, form, None)
        }
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn join_page(signed: Signed) -> Response {
    let form = signed.form();
    join_form(&signed, form)
}

fn join_form(signed: &Signed, form: Form) -> Response {
    show_page(of_form(&form), &Join { frame: Frame::of(signed, "peers", "Join a box"), form })
}

pub(super) async fn join(Change { signed, mut form }: Change) -> Response {
    let code = form.needs("code", "The code that the other box gave out.");
    let address = form.needs("address", "Where the other box is reached, as in head-office.example:4433.");
    if form.is_good() {
        match signed.request::<serde_json::Value>(Request::PeerJoin { code, address }).await {
            Ok(_) => return done(&signed, "/peers", "paired"),
            Err(failed) if failed.kind == "signed-out" || failed.kind == "forbidden" => return refused(&failed),
            Err(failed) => form.failed(if failed.kind == "link" { "address" } else { WHOLE }, &failed),
        }
    }
    join_form(&signed, form)
}

pub(super) async fn remove_page(Path(name): Path<String>, signed: Signed) -> Response {
    let form = signed.form();
    confirm(&signed, &name, form).await
}

async fn confirm(signed: &Signed, name: &str, form: Form) -> Response {
    if let Err(response) = find(signed, name).await {
        return response;
    }
    let href = format!("/peers/{}", show::part(name));
    let says = "Nothing is sent to it any more, nor taken from it, and the plans that send to it go. What it has stays there, and its copies here stay \
                here. To send again, the boxes are paired anew.";
    Confirm {
        frame: Frame::of(signed, "peers", format!("Forget {name}?")),
        says: vec![says.into()],
        action: format!("{href}/remove"),
        button: "Forget it",
        back: href,
        typed: Some(name.to_owned()),
        form,
    }
    .show()
}

pub(super) async fn remove(Path(name): Path<String>, Change { signed, mut form }: Change) -> Response {
    if form.text(TYPED) != name.trim() {
        form.wrong(TYPED, "This is not its name: nothing was done.");
        return confirm(&signed, &name, form).await;
    }
    match signed.request::<Acknowledged>(Request::PeerRemove { name: name.clone() }).await {
        Ok(_) => done(&signed, "/peers", "unpaired"),
        Err(failed) if failed.kind == "refused" => {
            form.failed(WHOLE, &failed);
            confirm(&signed, &name, form).await
        }
        Err(failed) => refused(&failed),
    }
}
