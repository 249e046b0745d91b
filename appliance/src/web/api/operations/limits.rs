//! Limits: the caps of what is sent and received.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::accounts::Role::{Operator, Viewer};
use crate::control::Request;
use crate::control::reports::{Explained, Limit};
use crate::web::api::problem::Problem;
use crate::web::api::table::Operation;

/// Which way.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// It is about what is received, not what is sent.
    #[serde(default)]
    receive: bool,
}

/// Of whom.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Whose {
    /// One peer; all where there is none.
    peer: Option<String>,
}

/// A change of a cap.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// As in `20Mbit`, `pause` or `unlimited`.
    rate: Option<String>,
    /// For how long the rate outranks everything else; without it, the rate counts where nothing else does.
    seconds: Option<u64>,
    /// The text of a calendar, which may be empty.
    calendar: Option<String>,
    /// Ends an override.
    #[serde(default)]
    resume: bool,
    /// Drops whatever was said since the config file.
    #[serde(default)]
    as_configured: bool,
    /// It is about what is received, not what is sent.
    #[serde(default)]
    receive: bool,
}

fn look(peer: Option<String>, receive: bool) -> Request {
    Request::Limit { peer, rate: None, seconds: None, calendar: None, resume: false, as_configured: false, receive }
}

fn change(peer: Option<String>, change: Change) -> Result<Request, Problem> {
    let Change { rate, seconds, calendar, resume, as_configured, receive } = change;
    if rate.is_none() && calendar.is_none() && !resume && !as_configured {
        return Err(Problem::refused("rate", "say what is to change: rate, calendar, resume or as_configured"));
    }
    Ok(Request::Limit { peer, rate, seconds, calendar, resume, as_configured, receive })
}

/// Of this noun.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new::<Whose, Explained, _>(
            "explainLimits",
            Method::GET,
            "/limits",
            Viewer,
            "Which caps count now, why, until when, and when peers will have caught up.",
            |_, Whose { peer }| Request::LimitExplain { peer },
        ),
        Operation::new::<Which, Limit, _>(
            "getLimit",
            Method::GET,
            "/limit",
            Viewer,
            "The cap of all traffic of the box.",
            |_, Which { receive }| look(None, receive),
        ),
        Operation::new::<Change, Limit, _>(
            "changeLimit",
            Method::PATCH,
            "/limit",
            Operator,
            "Changes the cap of all traffic of the box.",
            |_, asked: Change| change(None, asked),
        ),
        Operation::new::<Which, Limit, _>(
            "getPeerLimit",
            Method::GET,
            "/peers/{peer}/limit",
            Viewer,
            "The cap of the traffic with a peer.",
            |place, Which { receive }| look(Some(place.text("peer")), receive),
        ),
        Operation::new::<Change, Limit, _>(
            "changePeerLimit",
            Method::PATCH,
            "/peers/{peer}/limit",
            Operator,
            "Changes the cap of the traffic with a peer.",
            |place, asked: Change| change(Some(place.text("peer")), asked),
        ),
    ]
}
