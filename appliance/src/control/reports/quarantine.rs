//! What was deleted and can be had back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much was deleted and can be had back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineSum {
    /// Datasets, each with its snapshots.
    pub datasets: usize,
    /// Single snapshots.
    pub snapshots: usize,
}

/// Something that was deleted and can be had back.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Deleted {
    /// "share", "volume" or "snapshot".
    pub kind: String,
    /// The dataset's name.
    pub dataset: String,
    /// The name of what was deleted.
    pub name: String,
    /// Its id, by which it is found where several were called so.
    pub id: String,
    /// The moment that a snapshot holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Snapshots that come back with a dataset.
    pub snapshots: usize,
    /// When it was deleted.
    pub deleted: String,
    /// By whom: "a person", "retention" or "a plan".
    pub by: String,
    /// Seconds for which the box has to run until it is gone.
    pub seconds_left: u64,
    /// True where the dataset of a snapshot was deleted, too: that has to come back first.
    pub within_deleted: bool,
}

/// What was given up before its time.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Emptied {
    /// True where it was only told what would be.
    pub preview: bool,
    /// Datasets that are gone.
    pub datasets: usize,
    /// Single snapshots that are gone.
    pub snapshots: usize,
    /// Of a preview: bytes that reclaim would give back then, with what nobody needs anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeable_bytes: Option<u64>,
    /// Why something stayed, or could not be told.
    pub stayed: Vec<String>,
}

/// What the disk has, by who needs it. What single datasets and snapshots would free is with them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Freeable {
    /// The moment that the figures tell of.
    pub counted: String,
    /// Bytes of containers that are needed.
    pub needed_bytes: u64,
    /// Bytes of containers that nobody needs: reclaim may give them back.
    pub unneeded_bytes: u64,
    /// Bytes that are kept for the quarantine alone.
    pub quarantine_bytes: u64,
    /// One chunk in so many was counted; 1: the figures are exact.
    pub one_in: u64,
    /// Datasets and snapshots that are damaged: their trees are not here whole, and were not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}
