//! How the disk does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the disk of the data folder does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DiskHealth {
    /// Operations that failed as on no sound disk, since the box was started.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<DiskFault>,
    /// What it has not answered for some seconds.
    pub waits: Option<DiskWait>,
    /// That it is slow.
    pub slow: Option<DiskPace>,
    /// Why nothing is written any more until the box is restarted: a write or sync failed, and nobody knows what came of it.
    pub stopped: Option<String>,
}

/// An operation that failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskFault {
    /// "read", "write", "sync", …
    pub operation: String,
    /// Of which file in the data folder; empty for the folder itself.
    pub file: String,
    /// What the system said.
    pub error: String,
    /// How long ago.
    pub seconds_ago: f64,
}

/// An operation that is under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskWait {
    /// "read", "write", "sync", …
    pub operation: String,
    /// Of which file in the data folder; empty for the folder itself.
    pub file: String,
    /// For how long.
    pub seconds: f64,
}

/// How long operations of one kind took in the last minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskPace {
    /// How many there were.
    pub operations: u64,
    /// How long they took on average.
    pub mean_seconds: f64,
    /// The longest of them.
    pub longest: DiskWait,
}
