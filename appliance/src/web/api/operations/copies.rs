//! What goes to peers: replications, and the plans that begin them by themselves.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::accounts::Role::{Administrator, Operator, Viewer};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Plan, Replication};
use crate::web::api::table::{Nothing, Operation, Order, Place, Shape};

/// As what traffic something goes.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Class {
    /// Before everything else.
    Urgent,
    /// As is usual.
    Normal,
    /// What nobody else needs of the line.
    Scavenger,
}

impl Class {
    fn word(self) -> String {
        match self {
            Class::Urgent => "urgent",
            Class::Normal => "normal",
            Class::Scavenger => "scavenger",
        }
        .to_owned()
    }
}

/// A snapshot to be sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewReplication {
    /// The dataset.
    dataset: String,
    /// The snapshot; the newest where there is none, a new one where the dataset has none.
    snapshot: Option<String>,
    /// To whom.
    peer: String,
    /// As what traffic; normal where nothing is said.
    class: Option<Class>,
}

/// When a dataset goes to a peer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPlan {
    /// Seconds between two snapshots.
    seconds: Option<u64>,
    /// Follows every change instead.
    #[serde(default)]
    follow: bool,
    /// The hours in which something may begin, as in `mon-fri 20:00-06:00`; `always` for any.
    hours: Option<String>,
    /// As what traffic.
    class: Option<Class>,
}

fn replicate(_: &Place, new: NewReplication) -> Request {
    let source = match new.snapshot {
        Some(snapshot) => format!("{}@{snapshot}", new.dataset),
        None => new.dataset,
    };
    Request::Replicate { source, peer: new.peer, wait: false, class: new.class.map(Class::word) }
}

fn set_plan(place: &Place, new: NewPlan) -> Request {
    Request::PlanSet {
        dataset: place.text("dataset"),
        peer: place.text("peer"),
        seconds: new.seconds,
        follow: new.follow,
        hours: new.hours,
        class: new.class.map(Class::word),
    }
}

fn pause(place: &Place, paused: bool) -> Request {
    Request::PlanPause { dataset: place.text("dataset"), peer: Some(place.text("peer")), paused }
}

/// The newest first.
const NEWEST: Order = Order { by: &["id"], backwards: true };

/// Of this noun.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Vec<Replication>, _>(
            "listReplications",
            Method::GET,
            "/replications",
            Viewer,
            "Replications, under way and ended, the newest first.",
            |_, Nothing {}| Request::ReplicationList,
        )
        .shown(Shape::List(NEWEST)),
        Operation::new::<NewReplication, Replication, _>(
            "startReplication",
            Method::POST,
            "/replications",
            Operator,
            "Begins to send a snapshot to a peer. It is not waited for: ask for it by its number.",
            replicate,
        )
        .creates(),
        Operation::new::<Nothing, Replication, _>(
            "getReplication",
            Method::GET,
            "/replications/{id}",
            Viewer,
            "A replication.",
            |place, Nothing {}| Ok(Request::ReplicationShow { id: place.number()? }),
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "cancelReplication",
            Method::DELETE,
            "/replications/{id}",
            Operator,
            "Stops sending a snapshot.",
            |place, Nothing {}| Ok(Request::ReplicationCancel { id: place.number()? }),
        ),
        Operation::new::<Nothing, Vec<Plan>, _>(
            "listPlans",
            Method::GET,
            "/plans",
            Viewer,
            "All plans: what goes to which peer by itself, and how that is.",
            |_, Nothing {}| Request::PlanList,
        )
        .list(&["dataset", "peer"]),
        Operation::new::<NewPlan, Acknowledged, _>(
            "setPlan",
            Method::PUT,
            "/datasets/{dataset}/plans/{peer}",
            Administrator,
            "Has a dataset go to a peer by itself, or changes how.",
            set_plan,
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "removePlan",
            Method::DELETE,
            "/datasets/{dataset}/plans/{peer}",
            Administrator,
            "Drops a plan. What is at the peer stays there.",
            |place, Nothing {}| Request::PlanRemove { dataset: place.text("dataset"), peer: Some(place.text("peer")) },
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "pausePlan",
            Method::PUT,
            "/datasets/{dataset}/plans/{peer}/pause",
            Operator,
            "Stops a plan for a while.",
            |place, Nothing {}| pause(place, true),
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "resumePlan",
            Method::DELETE,
            "/datasets/{dataset}/plans/{peer}/pause",
            Operator,
            "Lets a plan go on.",
            |place, Nothing {}| pause(place, false),
        ),
    ]
}
