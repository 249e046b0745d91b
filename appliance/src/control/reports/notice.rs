//! What the box tells by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::notices::core::{Kind, Severity};

/// What was told, what is wrong, and how the ways do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notices {
    /// How long a problem lasts before it is told.
    pub after_seconds: u64,
    /// After how long it is told again.
    pub remind_seconds: u64,
    /// Notices an hour, at most.
    pub per_hour: u32,
    /// Since when something waits because there were so many.
    pub held_since: Option<String>,
    /// What is wrong now.
    pub open: Vec<NoticeOpen>,
    /// What was told, the newest first.
    pub notices: Vec<NoticeTold>,
    /// How notices leave the box.
    pub ways: Vec<NoticeWay>,
}

/// Something that is wrong, or was a moment ago.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeOpen {
    /// What it is.
    pub key: String,
    /// How much it matters.
    pub severity: Severity,
    /// The same in words.
    pub what: String,
    /// Since when.
    pub since: String,
    /// Whether it was told; else it did not last for long enough yet.
    pub told: bool,
}

/// A notice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeTold {
    /// Its number.
    pub n: u64,
    /// When it was made.
    pub at: String,
    /// What it tells.
    pub items: Vec<NoticeItem>,
    /// How many items more there were.
    pub more: u64,
    /// Since when some of it had to wait.
    pub held_since: Option<String>,
}

/// One thing that a notice tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeItem {
    /// "PROBLEM", "OVER", …
    pub word: String,
    /// What of it.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub key: String,
    /// A sentence.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Since when, or when.
    pub since: String,
}

/// How a way does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeWay {
    /// "mail", "webhook" or "syslog".
    pub way: String,
    /// Whom it tells; only for who may know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Notices that it has still to tell.
    pub waiting: u64,
    /// When it told something last.
    pub told: Option<String>,
    /// Since when it fails, if it does.
    pub failing_since: Option<String>,
    /// Why.
    pub error: Option<String>,
    /// How often it was tried since.
    pub tries: u32,
}

/// What came of a test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeTried {
    /// Which way.
    pub way: String,
    /// Whom it told, or would have.
    pub target: String,
    /// Whether the other side took it.
    pub arrived: bool,
    /// Why not.
    pub error: Option<String>,
}
