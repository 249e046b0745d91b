//! How the disk does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disks::place::Place;
use crate::disks::smart::Smart;
use crate::disks::state::ArrayState;

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

/// Where the backups lie, and what disks there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Disks {
    /// The data folder.
    pub folder: String,
    /// What is mounted where it lies.
    pub place: Option<Place>,
    /// The array below it, where there is one.
    pub array: Option<ArrayState>,
    /// All disks of the machine.
    pub disks: Vec<DiskSeen>,
    /// Why they are not known, where that is so.
    pub error: Option<String>,
}

/// A disk of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskSeen {
    /// The path of its node.
    pub path: String,
    /// Its own number.
    pub serial: Option<String>,
    /// What its maker calls it.
    pub model: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it turns.
    pub rotational: bool,
    /// What is on it and would be erased; nothing where it is empty.
    pub holds: Option<String>,
    /// Whether somebody uses it now: it is mounted, or part of an array.
    pub in_use: bool,
    /// What it says of itself.
    pub health: Smart,
}
