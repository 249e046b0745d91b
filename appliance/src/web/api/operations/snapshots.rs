//! Snapshots: making, keeping and comparing them, and the rules by which they stay.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::datasets::Restored;
use crate::accounts::Role::{Administrator, Operator, Viewer};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Deleted, Diff, LockRule, Retention, Snapshot};
use crate::retention::Rules;
use crate::web::api::table::{Nothing, Operation, Order, Place, Shape};

/// Which snapshots.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Of {
    /// Of this dataset; of all where there is none.
    dataset: Option<String>,
}

/// A snapshot to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSnapshot {
    /// Its name; the time where there is none.
    name: Option<String>,
}

/// For how long something is locked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Seconds {
    /// Seconds for which the box has to run.
    seconds: u64,
}

/// Two snapshots of a dataset.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Two {
    /// The earlier.
    from: String,
    /// The later.
    to: String,
}

fn hold(place: &Place, held: bool) -> Request {
    Request::SnapshotHold { snapshot: place.snapshot(), held }
}

fn lock(place: &Place, seconds: Option<u64>) -> Request {
    Request::LockSet { dataset: Some(place.text("dataset")), seconds }
}

fn retention(place: &Place, rules: Rules, dry_run: bool) -> Request {
    Request::RetentionSet { dataset: place.text("dataset"), rules, dry_run }
}

/// The order of what becomes of snapshots: that of their time.
const VERDICTS: Order = Order { by: &["time", "snapshot"], backwards: false };
/// The order of changes.
const CHANGES: Order = Order { by: &["path", "what"], backwards: false };

/// Of this noun.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = snapshots();
    all.extend(locks());
    all.extend(rules());
    all
}

fn snapshots() -> Vec<Operation> {
    vec![
        Operation::new::<Of, Vec<Snapshot>, _>(
            "listSnapshots",
            Method::GET,
            "/snapshots",
            Viewer,
            "All snapshots, or those of one dataset.",
            |_, Of { dataset }| Request::SnapshotList { dataset },
        )
        .list(&["dataset", "time", "id"]),
        Operation::new::<Nothing, Vec<Snapshot>, _>(
            "listSnapshotsOfDataset",
            Method::GET,
            "/datasets/{dataset}/snapshots",
            Viewer,
            "The snapshots of a dataset, the oldest first.",
            |place, Nothing {}| Request::SnapshotList { dataset: Some(place.text("dataset")) },
        )
        .list(&["time", "id"]),
        Operation::new::<NewSnapshot, Snapshot, _>(
            "createSnapshot",
            Method::POST,
            "/datasets/{dataset}/snapshots",
            Operator,
            "Makes a snapshot.",
            |place, NewSnapshot { name }| Request::SnapshotCreate { dataset: place.text("dataset"), name },
        )
        .creates(),
        Operation::new::<Nothing, Vec<Snapshot>, _>(
            "getSnapshot",
            Method::GET,
            "/datasets/{dataset}/snapshots/{snapshot}",
            Viewer,
            "A snapshot.",
            |place, Nothing {}| Request::SnapshotList { dataset: Some(place.text("dataset")) },
        )
        .shown(Shape::One("name", "snapshot")),
        Operation::new::<Nothing, Acknowledged, _>(
            "deleteSnapshot",
            Method::DELETE,
            "/datasets/{dataset}/snapshots/{snapshot}",
            Administrator,
            "Deletes a snapshot, unless it is held or locked. It can be had back from the quarantine for some days.",
            |place, Nothing {}| Request::SnapshotDelete { snapshot: place.snapshot() },
        ),
        Operation::new::<Nothing, Snapshot, _>(
            "holdSnapshot",
            Method::PUT,
            "/datasets/{dataset}/snapshots/{snapshot}/hold",
            Operator,
            "Keeps a snapshot from being deleted until somebody releases it.",
            |place, Nothing {}| hold(place, true),
        ),
        Operation::new::<Nothing, Snapshot, _>(
            "releaseSnapshot",
            Method::DELETE,
            "/datasets/{dataset}/snapshots/{snapshot}/hold",
            Administrator,
            "Lets a snapshot be deleted again.",
            |place, Nothing {}| hold(place, false),
        ),
        Operation::new::<Seconds, Acknowledged, _>(
            "lockSnapshot",
            Method::PUT,
            "/datasets/{dataset}/snapshots/{snapshot}/lock",
            Administrator,
            "Keeps a snapshot from being deleted by anybody for so long. Nothing shortens that.",
            |place, Seconds { seconds }| Request::SnapshotLock { snapshot: place.snapshot(), seconds },
        ),
        Operation::new::<Two, Diff, _>(
            "compareSnapshots",
            Method::GET,
            "/datasets/{dataset}/changes",
            Viewer,
            "What changed between two snapshots of a dataset.",
            |place, Two { from, to }| Request::Diff { from: place.of_dataset(&from), to: place.of_dataset(&to) },
        )
        .shown(Shape::Holds("changes", CHANGES)),
        Operation::new::<Of, Vec<Deleted>, _>(
            "listDeletedSnapshots",
            Method::GET,
            "/quarantine/snapshots",
            Viewer,
            "Snapshots that were deleted and can be had back.",
            |_, Of { dataset }| Request::SnapshotListDeleted { dataset },
        )
        .list(&["dataset", "name", "id"]),
        Operation::new::<Restored, Acknowledged, _>(
            "undeleteSnapshot",
            Method::POST,
            "/quarantine/datasets/{dataset}/snapshots/{snapshot}/undelete",
            Operator,
            "Has a deleted snapshot back, by its name or its id.",
            |place, Restored { name }| Request::SnapshotUndelete { snapshot: place.snapshot(), new: name },
        ),
    ]
}

fn locks() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Vec<LockRule>, _>(
            "listLockRules",
            Method::GET,
            "/locks",
            Viewer,
            "For how long snapshots to come are locked, by dataset.",
            |_, Nothing {}| Request::LockList,
        )
        .list(&["dataset"]),
        Operation::new::<Seconds, Vec<LockRule>, _>(
            "setLockRule",
            Method::PUT,
            "/datasets/{dataset}/lock",
            Administrator,
            "Has each snapshot to come of a dataset be locked for so long.",
            |place, Seconds { seconds }| lock(place, Some(seconds)),
        ),
        Operation::new::<Nothing, Vec<LockRule>, _>(
            "removeLockRule",
            Method::DELETE,
            "/datasets/{dataset}/lock",
            Administrator,
            "Locks no more snapshots of a dataset. Those that are locked stay so.",
            |place, Nothing {}| lock(place, None),
        ),
    ]
}

fn rules() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Vec<Retention>, _>(
            "listRetention",
            Method::GET,
            "/retention",
            Viewer,
            "All datasets with rules of retention, without their snapshots.",
            |_, Nothing {}| Request::RetentionList,
        )
        .list(&["dataset"]),
        Operation::new::<Nothing, Retention, _>(
            "getRetention",
            Method::GET,
            "/datasets/{dataset}/retention",
            Viewer,
            "The rules of a dataset, and what becomes of each of its snapshots.",
            |place, Nothing {}| Request::RetentionShow { dataset: place.text("dataset") },
        )
        .shown(Shape::Holds("snapshots", VERDICTS)),
        Operation::new::<Rules, Retention, _>(
            "previewRetention",
            Method::POST,
            "/datasets/{dataset}/retention/preview",
            Viewer,
            "What would become of each snapshot by other rules. Changes nothing.",
            |place, rules: Rules| retention(place, rules, true),
        ),
        Operation::new::<Rules, Retention, _>(
            "setRetention",
            Method::PUT,
            "/datasets/{dataset}/retention",
            Administrator,
            "Says which snapshots of a dataset stay. What none of the rules wants is deleted.",
            |place, rules: Rules| retention(place, rules, false),
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "removeRetention",
            Method::DELETE,
            "/datasets/{dataset}/retention",
            Administrator,
            "Drops the rules of a dataset: nothing goes by them any more.",
            |place, Nothing {}| Request::RetentionRemove { dataset: place.text("dataset") },
        ),
    ]
}
