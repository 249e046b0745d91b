//! The box itself: how it is and was, scrubs, settings, who may use it, and what was done.

use std::collections::BTreeMap;

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::accounts::Role::{self, Administrator, Operator, Viewer};
use crate::control::Request;
use crate::control::door::Ask;
use crate::control::reports::{
    Acknowledged, AuditEntry, CheckState, Disks, LogLine, NoticeTried, Notices, Person, ReclaimState, Scrub,
    SetUpBegun, SetUpState, Settings, Status,
};
use crate::setup::SetUp;
use crate::trends::{self, Span};
use crate::web::api::problem::Problem;
use crate::web::api::table::{Nothing, Operation, Order, Shape};

/// Over how long.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Over {
    /// Two days, two months or five years.
    span: Span,
}

/// How thoroughly.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Depth {
    /// Whether every byte is read.
    #[serde(default)]
    deep: bool,
}

/// By which way.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ByWay {
    /// "mail", "webhook" or "syslog"; all where nothing is said.
    #[serde(default)]
    way: Option<String>,
}

/// How many.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Newest {
    /// At most so many lines; 100 where nothing is said.
    #[serde(default)]
    newest: Option<u32>,
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
    all.extend(upkeep());
    all.extend(rules());
    all.extend(told());
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

fn upkeep() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, CheckState, _>(
            "getCheck",
            Method::GET,
            "/check",
            Viewer,
            "How far the check is that was begun, and what came of the last since the box was started.",
            |_, Nothing {}| Request::CheckShow,
        ),
        Operation::new::<Depth, Acknowledged, _>(
            "startCheck",
            Method::POST,
            "/check",
            Operator,
            "Begins to prove that the store is sound.",
            |_, Depth { deep }| Request::CheckBegin { deep },
        ),
        Operation::new::<Nothing, ReclaimState, _>(
            "getReclaim",
            Method::GET,
            "/reclaim",
            Viewer,
            "How far room is given back that nobody needs, and what came of the last run.",
            |_, Nothing {}| Request::ReclaimShow,
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "startReclaim",
            Method::POST,
            "/reclaim",
            Administrator,
            "Begins to give back room that nobody needs.",
            |_, Nothing {}| Request::ReclaimBegin,
        ),
        Operation::new::<Nothing, Disks, _>(
            "getDisks",
            Method::GET,
            "/disks",
            Administrator,
            "Where the backups lie, what disks there are, and how well they take themselves to be.",
            |_, Nothing {}| Request::DiskList,
        ),
    ]
}

fn told() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Notices, _>(
            "getNotices",
            Method::GET,
            "/notices",
            Administrator,
            "What the box told by itself, the newest first, what is wrong now, and how each way to tell it does.",
            |_, Nothing {}| Request::NoticeList,
        )
        .shown(Shape::Holds("notices", Order { by: &["n"], backwards: true })),
        Operation::new::<ByWay, Vec<NoticeTried>, _>(
            "testNotices",
            Method::POST,
            "/notices/test",
            Administrator,
            "Sees whether notices arrive.",
            |_, ByWay { way }| Request::NoticeTest { way },
        ),
        Operation::new::<Newest, Vec<LogLine>, _>(
            "getLog",
            Method::GET,
            "/log",
            Operator,
            "What the box has warned of since it was started, the newest first.",
            |_, Newest { newest }| Request::Log { limit: newest.unwrap_or(100) },
        ),
        Operation::new::<Nothing, SetUpState, _>(
            "getSetUp",
            Method::GET,
            "/set-up",
            Administrator,
            "How far the set-up is, and what became of the last.",
            |_, Nothing {}| Request::SetUpShow,
        ),
        Operation::new::<SetUp, SetUpBegun, _>(
            "applySetUp",
            Method::POST,
            "/set-up",
            Administrator,
            "Does what a set-up file says; where it changes settings, the box starts again for it.",
            |_, set_up: SetUp| {
                set_up.check().map_err(Problem::from)?;
                Ok::<_, Problem>(Request::SetUpApply { set_up: Box::new(set_up), typed: false })
            },
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
