//! Shares and volumes, what they can be taken back to, and those that were deleted.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::accounts::Role::{Administrator, Operator, Viewer};
use crate::control::Request;
use crate::control::reports::{Acknowledged, Dataset, Deleted, Emptied, Marked, Rewound, Timeline};
use crate::web::api::problem::Problem;
use crate::web::api::table::{Nothing, Operation, Place, Shape};

/// What kind of dataset.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// A file tree that is exported over NFS.
    Share,
    /// A block device that is exported over iSCSI.
    Volume,
}

/// When a dataset is deduplicated.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Dedup {
    /// While it is written.
    #[default]
    Inline,
    /// In its hours.
    Deferred,
    /// Not at all.
    Off,
}

impl Dedup {
    fn word(self) -> String {
        match self {
            Dedup::Inline => "inline",
            Dedup::Deferred => "deferred",
            Dedup::Off => "off",
        }
        .to_owned()
    }
}

/// A dataset to be created.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewDataset {
    /// Its name.
    name: String,
    /// A share or a volume.
    kind: Kind,
    /// A volume's size in bytes.
    size: Option<u64>,
    /// When it is deduplicated.
    #[serde(default)]
    dedup: Dedup,
}

/// A volume's new size.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Size {
    /// In bytes. No less than it has.
    size: u64,
}

/// How far back a dataset can be taken to any moment.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewWindow {
    /// How long.
    seconds: Option<u64>,
    /// How many bytes at most are kept for it.
    bytes: Option<u64>,
}

/// A dataset that starts as another one was.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewClone {
    /// Its name.
    name: String,
    /// The moment: a snapshot, a mark or a time (RFC 3339).
    at: String,
}

/// A moment to go back to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Back {
    /// A snapshot, a mark or a time (RFC 3339).
    to: String,
    /// Also while somebody uses it.
    #[serde(default)]
    force: bool,
}

/// A moment to be marked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewMark {
    /// The mark's name.
    name: String,
    /// Of which datasets, of all at once.
    datasets: Vec<String>,
    /// Whether the applications have nothing under way.
    #[serde(default)]
    quiet: bool,
    /// Hooks of the config file that quiet them, in this order.
    #[serde(default)]
    hooks: Vec<String>,
}

/// How something comes back.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Restored {
    /// Its new name; its own where there is none.
    pub(super) name: Option<String>,
}

/// What a preview is of.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct What {
    /// A deleted dataset, or `DATASET@SNAPSHOT`; everything where there is none.
    what: Option<String>,
}

fn create(_: &Place, new: NewDataset) -> Result<Request, Problem> {
    let (name, dedup) = (new.name, new.dedup.word());
    match (new.kind, new.size) {
        (Kind::Share, None) => Ok(Request::ShareCreate { name, dedup }),
        (Kind::Volume, Some(size)) => Ok(Request::VolumeCreate { name, size, dedup }),
        (Kind::Share, Some(_)) => Err(Problem::refused("size", "a share has no size")),
        (Kind::Volume, None) => Err(Problem::refused("size", "a volume has a size")),
    }
}

fn window(place: &Place, seconds: Option<u64>, bytes: Option<u64>, off: bool) -> Request {
    Request::Window { dataset: place.text("dataset"), seconds, bytes, off }
}

fn set_window(place: &Place, new: NewWindow) -> Result<Request, Problem> {
    match new {
        NewWindow { seconds: None, bytes: None } => Err(Problem::refused("seconds", "say how long, or how many bytes")),
        NewWindow { seconds, bytes } => Ok(window(place, seconds, bytes, false)),
    }
}

/// Of this noun.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new::<Nothing, Vec<Dataset>, _>(
            "listDatasets",
            Method::GET,
            "/datasets",
            Viewer,
            "All shares and volumes.",
            |_, Nothing {}| Request::DatasetList,
        )
        .list(&["name"]),
        Operation::new::<NewDataset, Dataset, _>(
            "createDataset",
            Method::POST,
            "/datasets",
            Administrator,
            "Creates a share or a volume.",
            create,
        )
        .creates(),
        Operation::new::<Nothing, Vec<Dataset>, _>(
            "getDataset",
            Method::GET,
            "/datasets/{dataset}",
            Viewer,
            "A share or volume.",
            |_, Nothing {}| Request::DatasetList,
        )
        .shown(Shape::One("name", "dataset")),
        Operation::new::<Size, Dataset, _>(
            "resizeVolume",
            Method::PATCH,
            "/datasets/{dataset}",
            Administrator,
            "Makes a volume larger.",
            |place, Size { size }| Request::VolumeResize { name: place.text("dataset"), size },
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "deleteDataset",
            Method::DELETE,
            "/datasets/{dataset}",
            Administrator,
            "Deletes a dataset with its snapshots. It can be had back from the quarantine for some days.",
            |place, Nothing {}| Request::DatasetDelete { name: place.text("dataset") },
        ),
        Operation::new::<Nothing, Acknowledged, _>(
            "acceptLoss",
            Method::POST,
            "/datasets/{dataset}/loss/accept",
            Operator,
            "Says that it was meant that much of a dataset is gone (`losses` of the status): it is told no longer.",
            |place, Nothing {}| Request::LossAccept { name: place.text("dataset") },
        ),
        Operation::new::<Nothing, Timeline, _>(
            "getTimeline",
            Method::GET,
            "/datasets/{dataset}/timeline",
            Viewer,
            "What a dataset can be taken back to.",
            |place, Nothing {}| Request::Timeline { dataset: place.text("dataset") },
        ),
        Operation::new::<NewWindow, Timeline, _>(
            "setWindow",
            Method::PUT,
            "/datasets/{dataset}/window",
            Administrator,
            "Says how far back a dataset can be taken to any moment.",
            set_window,
        ),
        Operation::new::<Nothing, Timeline, _>(
            "removeWindow",
            Method::DELETE,
            "/datasets/{dataset}/window",
            Administrator,
            "Has a dataset be taken back to its snapshots and marks alone.",
            |place, Nothing {}| window(place, None, None, true),
        ),
        Operation::new::<NewClone, Dataset, _>(
            "cloneDataset",
            Method::POST,
            "/datasets/{dataset}/clones",
            Operator,
            "Makes a dataset that starts as this one was at a moment.",
            |place, new: NewClone| Request::Clone { snapshot: place.of_dataset(&new.at), name: new.name },
        )
        .creates(),
        Operation::new::<Back, Rewound, _>(
            "rewindDataset",
            Method::POST,
            "/datasets/{dataset}/rewind",
            Administrator,
            "Takes a dataset back to a moment. A snapshot holds the present first.",
            |place, Back { to, force }| Request::Rewind { dataset: place.text("dataset"), to, force },
        ),
        Operation::new::<NewMark, Marked, _>(
            "createMark",
            Method::POST,
            "/marks",
            Operator,
            "Marks this moment of datasets, of all at once.",
            |_, NewMark { name, datasets, quiet, hooks }| Request::Mark { datasets, name, quiet, hooks },
        )
        .creates(),
        Operation::new::<Nothing, Vec<Deleted>, _>(
            "listDeletedDatasets",
            Method::GET,
            "/quarantine/datasets",
            Viewer,
            "Datasets that were deleted and can be had back.",
            |_, Nothing {}| Request::DatasetListDeleted,
        )
        .list(&["name", "id"]),
        Operation::new::<Restored, Acknowledged, _>(
            "undeleteDataset",
            Method::POST,
            "/quarantine/datasets/{dataset}/undelete",
            Operator,
            "Has a deleted dataset back, by its name or its id.",
            |place, Restored { name }| Request::DatasetUndelete { name: place.text("dataset"), new: name },
        ),
        Operation::new::<What, Emptied, _>(
            "previewQuarantine",
            Method::GET,
            "/quarantine/preview",
            Viewer,
            "What giving up what was deleted would free. Only root can do so, at the box itself.",
            |_, What { what }| Request::QuarantineEmpty { what, dry_run: true },
        ),
    ]
}
