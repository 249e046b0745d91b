//! What goes to peers: plans, and each replication with what was chosen for it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A plan: a dataset that goes to a peer by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The dataset.
    pub dataset: String,
    /// The peer.
    pub peer: String,
    /// What was asked for, in words.
    pub plan: String,
    /// Seconds between two snapshots; none where it follows every change.
    pub every_seconds: Option<u64>,
    /// The hours in which something may begin; none for any.
    pub hours: Option<String>,
    /// "urgent", "normal" or "scavenger".
    pub class: String,
    /// "up to date", "waiting" (for its time), "preparing", "queued", "sending", "retrying", "failing", "paused" or "outside its hours".
    pub state: String,
    /// Why the last sending failed, until one succeeds.
    pub error: Option<String>,
    /// When something happens next, where that is known.
    pub next: Option<String>,
    /// The newest snapshot that is at the peer.
    pub newest_there: Option<String>,
    /// The age of what the peer has; 0 where that is all there is, none where it has nothing.
    pub behind_seconds: Option<f64>,
}

/// A replication.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Replication {
    /// Its number on this box since the start.
    pub id: u64,
    /// `DATASET@SNAPSHOT`.
    pub snapshot: String,
    /// To whom.
    pub peer: String,
    /// As what traffic: "urgent", "normal" or "scavenger".
    #[serde(default)]
    pub class: String,
    /// "running", "done" or "failed".
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// While it goes on: why it was interrupted, as long as nothing has arrived since.
    #[serde(default)]
    pub trouble: Option<String>,
    /// When it began.
    pub begun: String,
    /// Bytes that clients see in the snapshot.
    pub logical_bytes: u64,
    /// Bytes of contents that differ from what the peer has proved to have: what is sent at most, before compression. None before
    /// that was computed.
    #[serde(default)]
    pub differing_bytes: Option<u64>,
    /// Bits per second on the wire to the peer, lately; 0 once it has ended.
    #[serde(default)]
    pub bits_per_second: u64,
    /// Chunks.
    pub chunks: Tally,
    /// Tree nodes.
    pub nodes: Tally,
    /// References that were skipped because an earlier snapshot that both have holds them.
    pub shared: u64,
    /// Bytes of objects as sent, packed for the line.
    pub payload_bytes: u64,
    /// The same objects as they are stored, each compressed alone.
    pub stored_bytes: u64,
    /// The same before compression.
    pub raw_bytes: u64,
    /// Objects that were sent as their difference from what lies in their place at the peer.
    pub differences: u64,
    /// Bytes of objects before compression, by the zstd level that was chosen for them; 0 is as stored.
    pub levels: BTreeMap<i32, u64>,
    /// What was chosen by itself, and from what.
    #[serde(default)]
    pub choices: Choices,
    /// Bytes on the wire to the peer, all headers and repetitions counted.
    pub wire_bytes_sent: u64,
    /// Bytes on the wire from the peer.
    pub wire_bytes_received: u64,
    /// How long it took.
    pub seconds: f64,
    /// Highest rate on the wire in any second.
    pub peak_bits_per_second: u64,
    /// The root here.
    pub root: Option<String>,
    /// The root that the peer answered with.
    pub root_there: Option<String>,
    /// True where both are the same and the peer shows the snapshot.
    pub proved: bool,
}

/// Objects of one sort in a replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    /// Named to the peer.
    pub offered: u64,
    /// Of these, what it had.
    pub known: u64,
    /// Sent.
    pub sent: u64,
}

/// What a replication chose by itself, and from what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Choices {
    /// `wan.compression` of the config file: "adaptive", "stored" or a zstd level.
    pub compression: String,
    /// `wan.delta` of the config file.
    pub delta: bool,
    /// `wan.resemblance` of the config file.
    #[serde(default)]
    pub resemblance: bool,
    /// Chunks for which something that they resemble was found elsewhere in the base than in their place; some of them the peer had.
    #[serde(default)]
    pub resembling: u64,
    /// False where the peer's software takes objects one by one only.
    pub bundles: bool,
    /// What was kept since the snapshot that the peer had proved to have was sent without a question.
    pub unasked: bool,
    /// The snapshot that it was built upon, as the peer chose it; its id where it has gone since.
    pub base: Option<String>,
    /// What the line was expected to take when it began, in bits per second; none where nothing was known.
    pub expected_bits_per_second: Option<u64>,
    /// How often the line was what limited, so that the next group was packed harder.
    pub harder: u64,
    /// How often packing was what limited, so that the next group was packed less hard.
    pub easier: u64,
    /// Bytes that went as they are, because packing made them no smaller.
    pub incompressible_bytes: u64,
}
