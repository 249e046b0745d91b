//! What a box does for itself: checks and scrubs, with the damage that they find, and reclaim.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::jobs::Progress;

/// What a check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// True where nothing is wrong.
    pub sound: bool,
    /// Containers looked at.
    pub containers: u64,
    /// Objects looked at.
    pub objects: u64,
    /// Bytes of objects.
    pub bytes: u64,
    /// Snapshots and heads walked.
    pub roots: u64,
    /// Files whose records were compared with their names.
    pub files: u64,
    /// Whether every byte was read.
    pub deep: bool,
    /// How long it took.
    pub seconds: f64,
    /// What is wrong, the first of it.
    pub problems: Vec<String>,
    /// How many more problems there are than are named.
    pub problems_unnamed: u64,
}

/// A check in the background.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CheckState {
    /// How far it is, where one is under way.
    pub running: Option<Progress>,
    /// What came of the last since the box was started.
    pub last: Option<CheckEnded>,
}

/// What came of a check.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CheckEnded {
    /// When it ended (RFC 3339).
    pub ended: String,
    /// What it found.
    pub report: Option<Check>,
    /// Why it came to no end.
    pub error: Option<String>,
}

/// How far the room is given back of what nobody needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReclaimState {
    /// How far a run is, where one is under way.
    pub running: Option<Progress>,
    /// What came of the last.
    pub last: Option<Reclaim>,
    /// Why the last came to no end, if so it was.
    pub failed: Option<String>,
}

/// What was compressed once more, since the store was created.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Recompressed {
    /// Containers that were rewritten.
    pub containers: u64,
    /// Bytes of their files before.
    pub before_bytes: u64,
    /// What was in them took so many bytes afterwards.
    pub after_bytes: u64,
}

/// Scrubs: how far they are, and what they found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Scrub {
    /// "running", "paused", "waiting for its hours", "failing" or "idle".
    pub state: String,
    /// Why the disk can't be read at all, while it can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Bytes that are read in a second at most.
    pub rate: u64,
    /// When it may run; absent for any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<String>,
    /// Seconds for which the box runs until the next begins by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in_seconds: Option<u64>,
    /// The one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<crate::scrub::Run>,
    /// Those that ended, the newest first.
    pub history: Vec<crate::scrub::Run>,
    /// What is damaged here, as far as is known since the box started.
    pub damaged: Vec<Damaged>,
    /// The files that it hits.
    pub affected: Vec<AffectedFile>,
    /// Objects that were damaged and came again since the box started.
    pub healed: usize,
    /// True while peers are asked for what is damaged.
    #[serde(default)]
    pub heals: bool,
    /// What came from peers.
    #[serde(default)]
    pub healing: crate::heal::Kept,
}

/// An object that is damaged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Damaged {
    /// Its name.
    pub name: String,
    /// Where it lies, and what was found there.
    pub what: String,
}

/// A file some bytes of which are damaged.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AffectedFile {
    /// Its dataset.
    pub dataset: String,
    /// The snapshot; absent for what the dataset holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Its path; empty for a volume, absent where part of the directory tree is damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The first damaged byte.
    pub from: u64,
    /// The first byte behind the last damaged one.
    pub to: u64,
    /// How many are damaged.
    pub bytes: u64,
}

/// What a run of reclaim came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Reclaim {
    /// True where it only told what it would do.
    pub preview: bool,
    /// When it ended.
    pub ended: String,
    /// The same in nanoseconds since 1970.
    pub ended_nanoseconds: i64,
    /// How long it took.
    pub seconds: f64,
    /// Bytes that it found to be needed by nobody, and that can be given back.
    pub freeable_bytes: u64,
    /// Bytes on the disk that were given back.
    pub freed_bytes: u64,
    /// Bytes needed by nobody in containers of which at least half is needed.
    pub left_bytes: u64,
    /// Bytes that were written anew.
    pub moved_bytes: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Containers that are gone.
    pub containers_removed: u64,
    /// Thin containers whose rest was moved.
    pub containers_rewritten: u64,
    /// Tree nodes that are needed.
    pub nodes_needed: u64,
    /// Tree nodes that are gone; of a preview, that would go.
    pub nodes_freed: u64,
    /// Chunks that are gone.
    pub chunks_freed: u64,
    /// Why nothing was let go of, if so it was.
    pub stopped: Option<String>,
    /// Whose it is that can't be read, where that was it.
    pub in_the_way: Vec<InTheWay>,
    /// Containers that were left as they are, for they can't be read.
    pub problems: Vec<String>,
}

/// What has to be healed, or to go, before reclaim can give any room back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InTheWay {
    /// Its dataset.
    pub dataset: String,
    /// The snapshot; absent for what the dataset holds now, and for its past.
    pub snapshot: Option<String>,
    /// `snapshot`, `now`, or `past`: a moment of the dataset's window.
    pub what: String,
    /// True where it was deleted, itself or with its dataset, and can be had back.
    pub deleted: bool,
    /// Files that can't be read whole, some of them; a volume's is empty.
    pub paths: Vec<String>,
    /// True where part of the directory tree is lost, so that not all files can be named.
    pub torn: bool,
    /// What gives it up, command by command.
    pub commands: Vec<String>,
}
