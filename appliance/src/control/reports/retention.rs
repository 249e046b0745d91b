//! What stays, and for how long at least: rules of retention, and locks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::retention::Rules;

/// The rules of a dataset, and what becomes of each of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Retention {
    /// The dataset.
    pub dataset: String,
    /// The rules, in words.
    pub rules: String,
    /// The same as they were set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_set: Option<Rules>,
    /// Why they can't be read, if they can't: then nothing goes.
    pub error: Option<String>,
    /// Each snapshot, the oldest first.
    pub snapshots: Vec<Verdict>,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Its name.
    pub snapshot: String,
    /// The moment that it holds, RFC 3339.
    pub time: String,
    /// Whether it stays.
    pub stays: bool,
    /// Why.
    pub why: Vec<String>,
}

/// For how long snapshots to come are locked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LockRule {
    /// The dataset; absent for replicas that have no rule of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Seconds for which the box runs.
    pub seconds: u64,
    /// How many snapshots are locked now, by this rule or otherwise.
    pub locked: usize,
}
