//! The box itself: how it is and was, scrubs, settings, who may use it, and what was done.

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::accounts::Role::{self, Administrator, Operator, Viewer};
use crate::control::Request;
use crate::control::door::Ask;
use crate::control::reports::{Acknowledged, AuditEntry, Person, Scrub, Settings, Status};
use crate::trends::{self, Span};
use crate::web::api::table::{Nothing, Operation, Shape};

/// Over how long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Over {
    /// Two days, two months or five years.
    span: Span,
}

/// New settings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// New values by key; without one (null), the default counts.
    changes: BTreeMap<String, Option<Value>>,
}

/// One more who may sign in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewUser {
    /// His name.
    user: String,
    /// What he may do.
    role: Role,
    /// His first password.
    password: String,
}

/// Of this noun.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = looks();
    all.extend(scrubs());
    all.extend(rules());
    all
}

fn looks() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Person, _>(
            "whoami",
            Method::GET,
            "/whoami",
            Viewer,
            "Who the token stands for, and what he may do by it.",
            |_, Nothing {}| Ask::Whoami,
        ),
        Operation::new::<Nothing, Status, _>(
            "getStatus",
            Method::GET,
            "/status",
            Viewer,
            "What the box holds, what it saves, how it is, and how far its peers are.",
            |_, Nothing {}| Request::Status,
        ),
        Operation::new::<Over, trends::Report, _>(
            "getTrends",
            Method::GET,
            "/trends",
            Viewer,
            "How the box did over time, and where that leads.",
            |_, Over { span }| Request::Trends { span },
        ),
    ]
}

fn scrubs() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Scrub, _>(
            "getScrub",
            Method::GET,
            "/scrub",
            Viewer,
            "How far scrubs are, what is damaged, and which files that hits.",
            |_, Nothing {}| Request::ScrubShow,
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "startScrub",
            Method::POST,
            "/scrub/start",
            Operator,
            "Begins a scrub.",
            |_, Nothing {}| Request::ScrubStart,
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "healScrub",
            Method::POST,
            "/scrub/heal",
            Operator,
            "Asks peers for what is damaged.",
            |_, Nothing {}| Request::ScrubHeal,
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "pauseScrub",
            Method::PUT,
            "/scrub/pause",
            Operator,
            "Stops scrubs.",
            |_, Nothing {}| Request::ScrubPause { paused: true },
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "resumeScrub",
            Method::DELETE,
            "/scrub/pause",
            Operator,
            "Lets scrubs go on.",
            |_, Nothing {}| Request::ScrubPause { paused: false },
        ),
    ]
}

fn rules() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Settings, _>(
            "getSettings",
            Method::GET,
            "/settings",
            Viewer,
            "All settings that may be changed through the box.",
            |_, Nothing {}| Request::SettingList,
        ),
        Operation::new::<Changes, Acknowledged, _>(
            "changeSettings",
            Method::PATCH,
            "/settings",
            Administrator,
            "Changes settings: all of them, or none. They count from the next start of the box on.",
            |_, Changes { changes }| Request::SettingSet { changes },
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "restart",
            Method::POST,
            "/restart",
            Administrator,
            "Ends the box in order and starts it again.",
            |_, Nothing {}| Request::Restart,
        ),
        Operation::new::<Nothing, Vec<Person>, _>(
            "listUsers",
            Method::GET,
            "/users",
            Administrator,
            "Everybody who may sign in.",
            |_, Nothing {}| Request::AccountList,
        )
        .list(&["user"]),
        Operation::new::<NewUser, Acknowledged, _>(
            "addUser",
            Method::POST,
            "/users",
            Administrator,
            "One more who may sign in.",
            |_, NewUser { user, role, password }| Request::AccountAdd { user, role, password },
        )
        .creates(),
        Operation::new::<Nothing, Acknowledged, _>(
            "removeUser",
            Method::DELETE,
            "/users/{user}",
            Administrator,
            "One user less; his sessions and tokens end.",
            |place, Nothing {}| Request::AccountRemove { user: place.text("user") },
        ),
        Operation::new::<Nothing, Vec<AuditEntry>, _>(
            "listAudit",
            Method::GET,
            "/audit",
            Administrator,
            "The audit log: who asked for what changes something, and what became of it. The newest first.",
            |_, Nothing {}| Request::Audit { before: None, limit: 0 },
        )
        .shown(Shape::Numbered("n")),
    ]
}
