//! What a dataset can be taken back to: windows, marks with the hooks that made them quiet, and rewinds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a dataset can be taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// How long the window was asked to be.
    pub asked_seconds: u64,
    /// How many bytes of history and journal it may keep.
    pub asked_bytes: u64,
    /// The first moment that can be named by its time.
    pub first: String,
    /// The last one.
    pub last: String,
    /// Seconds between both.
    pub seconds: f64,
    /// Bytes that are kept for it: its history, and its own part of the journal.
    pub journal_bytes: u64,
    /// Of these, bytes of its history.
    pub history_bytes: u64,
    /// Why it reaches back no further: "begun" (nothing was kept before), "age", "bytes", "disk" (no room), or "let-go" (what
    /// was before went while the window or the room was smaller).
    pub limit: String,
}

/// What a dataset can be taken back to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// Its name.
    pub dataset: String,
    /// Its window; none where it has none.
    pub window: Option<Window>,
    /// Snapshots and marks, oldest first.
    pub moments: Vec<Moment>,
    /// What was written within the window, oldest first.
    pub written: Vec<Written>,
}

/// A moment that has a name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// "snapshot" or "mark".
    pub kind: String,
    /// Its name.
    pub name: String,
    /// When.
    pub time: String,
    /// Of a mark: whether the application had nothing under way; otherwise it is like the moment of a power cut.
    pub quiet: Option<bool>,
    /// The same in a word: "application" or "crash".
    pub consistency: Option<String>,
}

/// How much was written to a dataset for a while.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Written {
    /// From when.
    pub from: String,
    /// Until when.
    pub until: String,
    /// Bytes.
    pub bytes: u64,
    /// Bytes per second, on average.
    pub bytes_per_second: f64,
}

/// A mark that was set.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Marked {
    /// The datasets.
    pub datasets: Vec<String>,
    /// The mark's name.
    pub name: String,
    /// When.
    pub time: String,
    /// Its record in the journal.
    pub lsn: u64,
    /// Whether the applications had nothing under way; otherwise it is like the moment of a power cut.
    pub quiet: bool,
    /// The same in a word: "application" or "crash".
    pub consistency: String,
    /// What was called, in this order.
    pub hooks: Vec<HookCall>,
}

/// One call of a hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HookCall {
    /// The hook.
    pub hook: String,
    /// "freeze" or "thaw".
    pub phase: String,
    /// Whether it ended well.
    pub done: bool,
    /// How long it took.
    pub seconds: f64,
    /// Why it did not end well.
    pub problem: Option<String>,
    /// True where it ran and said that it failed; false where it ended well, or where nobody knows.
    pub answered_no: bool,
}

/// A thaw that is owed: something may be frozen that nobody could thaw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OwedThaw {
    /// The hook.
    pub hook: String,
    /// The datasets that were marked.
    pub datasets: Vec<String>,
    /// The mark.
    pub mark: String,
    /// Since when.
    pub since: String,
    /// How often it was tried since the box started.
    pub tries: u32,
    /// Why the last try failed.
    pub problem: Option<String>,
}

/// What a moment is worth to an application, in a word.
pub fn consistency(quiet: bool) -> &'static str {
    if quiet { "application" } else { "crash" }
}

/// What a rewind did.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rewound {
    /// The dataset.
    pub dataset: String,
    /// The moment.
    pub to: String,
    /// The snapshot that holds what it was before.
    pub before: String,
    /// Who used it meanwhile: initiators, and addresses of NFS clients.
    #[serde(default)]
    pub users: Vec<String>,
}
