//! Datasets, their snapshots, and what changed between two.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Window;

/// A dataset.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Its id, on every box.
    pub id: String,
    /// "share" or "volume".
    pub kind: String,
    /// "inline", "deferred" or "off".
    pub dedup: String,
    /// True for replicas.
    pub read_only: bool,
    /// The store that it is a replica of.
    pub origin: Option<String>,
    /// When it was created here.
    pub created: String,
    /// Sum of file lengths; a volume's size.
    pub logical_bytes: u64,
    /// Of a volume: bytes that take room, before deduplication. Never less than the truth; more, and at most the size, where
    /// much was written over or discarded lately. None for shares.
    pub used_bytes: Option<u64>,
    /// Files, directories not counted.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// How many snapshots it has.
    pub snapshots: usize,
    /// The newest one's name.
    pub newest_snapshot: Option<String>,
    /// What clients mount.
    pub export: Option<String>,
    /// The iSCSI name that initiators log in to.
    pub target: Option<String>,
    /// The number of its unit there.
    pub lun: Option<u16>,
    /// Why it can't be served or counted; its sizes and counts are 0 then.
    pub damage: Option<String>,
    /// How far it can be taken back to any moment; none where it has no window.
    pub window: Option<Window>,
    /// What waits to be deduplicated; none where that does not wait for hours.
    pub deferred: Option<Deferred>,
    /// Bytes that go once it is gone for good with its snapshots and its past, as of the last count (`freeable` of the status); absent where it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frees_bytes: Option<u64>,
}

/// What waits of a dataset that is deduplicated later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deferred {
    /// Its hours, in the box's time zone.
    pub hours: String,
    /// Whether they have come.
    pub now: bool,
    /// Bytes of journal that are kept for what waits, of all datasets.
    pub waiting_bytes: u64,
    /// Beyond this it is deduplicated while it is written, until half of it is left.
    pub bound_bytes: u64,
    /// Whether that is so.
    pub overrun: bool,
    /// When it began to be so the last time, since the box started.
    pub overrun_at: Option<String>,
}

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its dataset's name.
    pub dataset: String,
    /// Its name.
    pub name: String,
    /// Its id, on every box.
    pub id: String,
    /// The moment it holds.
    pub time: String,
    /// The root hash, once it is sealed; none for an empty dataset.
    pub root: Option<String>,
    /// True once it has its root.
    pub sealed: bool,
    /// True while it can't be deleted.
    pub held: bool,
    /// Seconds for which the box has to run until anybody can delete it; absent where it is not locked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_seconds: Option<u64>,
    /// Sum of file lengths.
    pub logical_bytes: Option<u64>,
    /// Files.
    pub files: Option<u64>,
    /// Bytes that go once it alone is gone for good, as of the last count; absent where it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frees_bytes: Option<u64>,
}

/// Much of what a snapshot of a dataset held is gone, or was written over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// The dataset.
    pub dataset: String,
    /// The snapshot that still has everything.
    pub snapshot: String,
    /// The moment it holds (RFC 3339).
    pub time: String,
    /// When the loss was found (RFC 3339).
    pub since: String,
    /// How much of it: the larger of bytes and files, in percent.
    pub percent: u32,
    /// Bytes that were removed or written over.
    pub lost_bytes: u64,
    /// Bytes that the snapshot holds.
    pub held_bytes: u64,
    /// By how many there are fewer files.
    pub lost_files: u64,
    /// Files that the snapshot holds.
    pub held_files: u64,
    /// What is there now looks encrypted, and what was there before did not.
    pub looks_encrypted: bool,
    /// Whether it is a copy that another box keeps here: it is that one that lost it.
    pub copy: bool,
}

/// What changed between two snapshots.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// The earlier.
    pub from: String,
    /// The later.
    pub to: String,
    /// Changes in the order of paths.
    pub changes: Vec<Changed>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// "added", "removed", "content", "attributes" or "renamed".
    pub what: String,
    /// The path in the later snapshot (in the earlier one for "removed").
    pub path: String,
    /// The path in the earlier snapshot, for "renamed".
    pub was: Option<String>,
    /// Bytes that differ, where the content does.
    pub bytes: u64,
}
