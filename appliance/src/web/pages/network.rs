//! The network of the machine: as it is, another set-up for it, and what is seen while that is tried.

use askama::Template;
use axum::http::header::HOST;
use axum::response::Response;

use super::{Frame, of_form, refused, show_page, to};
use crate::accounts::Role;
use crate::control::reports::{NetworkState, NetworkTrial, SetUpState};
use crate::control::{Failed, Request};
use crate::network::Wanted;
use crate::setup::typed;
use crate::web::form::{Form, WHOLE};
use crate::web::show;
use crate::web::visitor::{Change, Signed, Visitor};

#[derive(Template)]
#[template(path = "network.html")]
struct Page {
    frame: Frame,
    network: NetworkState,
    form: Form,
    rules: bool,
}

#[derive(Template)]
#[template(path = "network_trial.html")]
struct TrialPage {
    frame: Frame,
    trial: NetworkTrial,
    /// Where the box will be.
    links: Vec<String>,
    /// Whether this browser may be there already.
    here: bool,
    form: Form,
    rules: bool,
}

pub(super) async fn page(signed: Signed) -> Response {
    let network = match signed.request::<NetworkState>(Request::NetworkShow).await {
        Ok(network) => network,
        Err(failed) => return refused(&failed),
    };
    let form = match fields(&signed, &network).await {
        Ok(fields) => fields.into_iter().fold(signed.form(), |form, (field, value)| form.with(field, value)),
        Err(failed) => return refused(&failed),
    };
    show(&signed, network, form)
}

/// What stands in the fields: what was typed when the box was set up, for whoever comes from there, or what was kept.
async fn fields(signed: &Signed, network: &NetworkState) -> Result<Vec<(&'static str, String)>, Failed> {
    if signed.query.text("from") == "setup" && signed.may(Role::Administrator) {
        let state: SetUpState = signed.request(Request::SetUpShow).await?;
        let said = |field: &'static str| Some((field, state.typed.get(field)?.clone()));
        return Ok(typed::NETWORK.iter().filter_map(|field| said(field)).collect());
    }
    Ok(typed::of_network(&network.kept.clone().unwrap_or_default()))
}

fn show(signed: &Signed, network: NetworkState, form: Form) -> Response {
    let rules = signed.may(Role::Administrator);
    match network.trial {
        Some(trial) => {
            let frame = Frame::of(signed, "system", "The new network set-up is being tried");
            let (links, here) = (links(signed, &trial), is_here(signed, &trial));
            show_page(of_form(&form), &TrialPage { frame, trial, links, here, form, rules })
        }
        None => {
            show_page(of_form(&form), &Page { frame: Frame::of(signed, "system", "Network"), network, form, rules })
        }
    }
}

/// Where the box will be: the port is the one by which this browser came.
fn links(visitor: &Visitor, trial: &NetworkTrial) -> Vec<String> {
    let host = visitor.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let link = |host: &str| format!("https://{host}{port}/network");
    if trial.addresses.is_empty() {
        return vec![link(&format!("{}.local", visitor.web.name))];
    }
    let of = |address: &String| if address.contains(':') { link(&format!("[{address}]")) } else { link(address) };
    trial.addresses.iter().map(of).collect()
}

/// Whether this browser came by an address of what is tried, as far as that is known here: the box decides.
fn is_here(visitor: &Visitor, trial: &NetworkTrial) -> bool {
    let at = visitor.at.map(|at| at.to_string());
    trial.in_force && (trial.addresses.is_empty() || at.is_some_and(|at| trial.addresses.contains(&at)))
}

pub(super) async fn set(Change { signed, mut form }: Change) -> Response {
    let wanted = typed::network(&|field| form.some(field));
    match signed.request::<NetworkState>(Request::NetworkSet { wanted: wanted.clone() }).await {
        Ok(network) => show(&signed, network, signed.form()),
        Err(failed) if failed.kind == "refused" => again(&signed, form, &wanted, failed).await,
        Err(mut failed) => {
            failed.field = None;
            form.failed(WHOLE, &failed);
            again(&signed, form, &Wanted::default(), failed).await
        }
    }
}

/// The page once more, with all that is wrong beside its field.
async fn again(signed: &Signed, mut form: Form, wanted: &Wanted, failed: Failed) -> Response {
    for problem in wanted.problems().into_iter().chain([failed]) {
        let field = problem.field.as_deref().map(|field| field.replace('.', "_"));
        form.failed(WHOLE, &Failed { field, ..problem });
    }
    match signed.request::<NetworkState>(Request::NetworkShow).await {
        Ok(network) => show(signed, network, form),
        Err(failed) => refused(&failed),
    }
}

pub(super) async fn keep(change: Change) -> Response {
    end(change, |trial| Request::NetworkConfirm { trial }).await
}

pub(super) async fn back(change: Change) -> Response {
    end(change, |trial| Request::NetworkRevert { trial }).await
}

async fn end(Change { signed, form }: Change, request: impl FnOnce(Option<u64>) -> Request) -> Response {
    // Without a number nobody knows what he means.
    let trial = Some(form.text("trial").parse().unwrap_or(0));
    match signed.request::<NetworkState>(request(trial)).await {
        Ok(_) => to("/network"),
        Err(failed) => {
            let mut form = signed.form();
            form.wrong(WHOLE, show::sentence(&failed.message));
            match signed.request::<NetworkState>(Request::NetworkShow).await {
                Ok(network) => show(&signed, network, form),
                Err(failed) => refused(&failed),
            }
        }
    }
}
