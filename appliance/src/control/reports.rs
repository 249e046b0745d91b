//! What answers hold. Sizes are bytes, times RFC 3339, rates bits per second.

mod limit;
mod measured;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::jobs::restore::RestoreReport;
pub use limit::{CaughtUp, Explained, ExplainedPeer, Limit, Recovery};
pub use measured::{Measured, MeasuredRoundTrip, MeasuredWay};

/// What a box holds, what it saves, and how far its peers are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The box's name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// The store's id.
    pub store: String,
    /// The realm's public id.
    pub realm: String,
    /// The box's own key, as a fingerprint to compare.
    pub peer_id: Option<String>,
    /// Where NFS is served, if it is.
    pub nfs: Option<String>,
    /// Where it serves iSCSI.
    pub iscsi: Vec<String>,
    /// Where peers are answered, if they are.
    pub wan: Option<String>,
    /// The cap of everything that is sent, and why it counts.
    #[serde(default)]
    pub cap: Option<Limit>,
    /// The cap of everything that is received, where there is one.
    #[serde(default)]
    pub receive_cap: Option<Limit>,
    /// What clients see: the sum of all datasets now.
    pub logical_bytes: u64,
    /// The same over all snapshots: what restoring each of them would take.
    pub protected_bytes: u64,
    /// What is left after deduplication.
    pub unique_bytes: u64,
    /// What is left after compression, on disk.
    pub stored_bytes: u64,
    /// Protected (or logical, where that is more) bytes by unique bytes.
    pub dedup_ratio: f64,
    /// Objects: chunks and tree nodes.
    pub objects: u64,
    /// Containers.
    pub containers: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes of journal on disk.
    pub journal_bytes: u64,
    /// Bytes that were split off the journal for windows.
    pub history_bytes: u64,
    /// Memory of data that waits for the drain.
    pub overlay_bytes: u64,
    /// Size of the disk.
    pub disk_bytes: u64,
    /// Free on the disk.
    pub disk_free_bytes: u64,
    /// True where so little is free beyond the reserve that writes are refused, or will be soon, and what peers send waits.
    #[serde(default)]
    pub full: bool,
    /// What the last drain step failed with, if it did.
    pub stalled: Option<String>,
    /// Why the journal is kept whole that windows need only a part of, if it can't be split: it grows with all that is written.
    #[serde(default)]
    pub unsplit: Option<String>,
    /// What came of the last run of reclaim.
    #[serde(default)]
    pub reclaim: Option<Reclaim>,
    /// How far the run is that is under way.
    #[serde(default)]
    pub reclaiming: Option<crate::jobs::Progress>,
    /// Why the last run of reclaim let nothing go, if so it was.
    #[serde(default)]
    pub unreclaimed: Option<String>,
    /// Thaws that are owed: applications that may stand still.
    #[serde(default)]
    pub owed_thaws: Vec<OwedThaw>,
    /// Seconds by which the times that the box gives out are ahead of the system's clock, where it was set back.
    #[serde(default)]
    pub ahead_seconds: Option<f64>,
    /// Datasets.
    pub datasets: Vec<Dataset>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Replications, the newest first.
    pub replications: Vec<Replication>,
    /// What goes to peers by itself.
    #[serde(default)]
    pub plans: Vec<Plan>,
    /// Objects that are known to be damaged here.
    #[serde(default)]
    pub damaged_objects: usize,
}

/// A dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
}

/// How far a dataset can be taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// What waits of a dataset that is deduplicated later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// What a dataset can be taken back to.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A mark that was set.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// How much was written to a dataset for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// What a rewind did.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// A snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
}

/// A peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its name here.
    pub name: String,
    /// Its key, as a fingerprint to compare.
    pub id: String,
    /// Where it is dialled, best first.
    pub addresses: Vec<String>,
    /// When it was paired.
    pub paired: String,
    /// Where it is connected from.
    pub connected_from: Option<String>,
    /// The path in use.
    #[serde(default)]
    pub path: Option<PeerPath>,
    /// Why it was not reached when tried last.
    pub last_error: Option<String>,
    /// The cap of what is sent to it that counts now, in bits per second.
    pub limit: Option<u64>,
    /// How fast it lets itself be sent to, in bits per second, where it said so; `limit` is never above.
    #[serde(default)]
    pub granted: Option<u64>,
    /// What was sent to it in the last second, in bits on the wire.
    #[serde(default)]
    pub sending: u64,
    /// What was received from it in the last second, likewise.
    #[serde(default)]
    pub receiving: u64,
    /// Round trip in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Bytes sent to it on the wire since the box started.
    pub wire_bytes_sent: u64,
    /// Bytes received from it on the wire since the box started.
    pub wire_bytes_received: u64,
    /// How far it is behind, for each dataset that was ever sent to it.
    pub lag: Vec<Lag>,
    /// What its software called itself in the latest session, where there was one since the box started.
    #[serde(default)]
    pub software: Option<String>,
    /// Whether it proves to have what it does not send, likewise.
    #[serde(default)]
    pub proves: Option<bool>,
    /// How often it was refused something, as far as that is kept.
    #[serde(default)]
    pub refusals: u64,
    /// What it was refused last.
    #[serde(default)]
    pub last_refusal: Option<Refusal>,
}

/// What a peer was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The peer's name then.
    pub peer: String,
    /// When for the first time.
    pub first: String,
    /// And when for the last time.
    pub last: String,
    /// How often.
    pub count: u64,
    /// What, and why: a sentence.
    pub why: String,
}

/// The path to a peer that is in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerPath {
    /// Which of its addresses was dialled; none where it has called.
    pub address: Option<String>,
    /// Why this one.
    pub why: String,
    /// For how long it has been in use.
    pub seconds: f64,
}

/// How far a peer is behind with one dataset.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lag {
    /// The dataset.
    pub dataset: String,
    /// The newest snapshot that the peer has whole.
    pub newest_there: String,
    /// The moment that it holds.
    pub time: String,
    /// Seconds between that moment and now.
    pub seconds: f64,
    /// Newer snapshots here that it does not have.
    pub snapshots_behind: usize,
}

/// An invitation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// The code to be read out.
    pub code: String,
    /// For how many seconds it is good.
    pub seconds: u64,
    /// What the other box's command needs besides the code.
    pub listen: String,
}

/// The line to a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The peer.
    pub peer: String,
    /// Round trip, smoothed, in milliseconds.
    pub round_trip_ms: f64,
    /// The shortest round trip, in milliseconds.
    pub round_trip_min_ms: f64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Of these, lost.
    pub lost_packets: u64,
    /// Largest UDP payload that passes.
    pub mtu: u16,
    /// What the line has delivered lately at most; 0 before anything was sent.
    pub bits_per_second: u64,
    /// What was measured just now.
    #[serde(default)]
    pub measured: Option<Measured>,
    /// Why nothing was.
    #[serde(default)]
    pub unmeasured: Option<String>,
}

/// A plan: a dataset that goes to a peer by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// Objects of one sort in a replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Named to the peer.
    pub offered: u64,
    /// Of these, what it had.
    pub known: u64,
    /// Sent.
    pub sent: u64,
}

/// What a replication chose by itself, and from what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// A replication.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// What a run of reclaim came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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
    /// Containers that were left as they are, for they can't be read.
    pub problems: Vec<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
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

/// What changed between two snapshots.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Diff {
    /// The earlier.
    pub from: String,
    /// The later.
    pub to: String,
    /// Changes in the order of paths.
    pub changes: Vec<Changed>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Nothing but that it was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Acknowledged {
    /// A sentence.
    pub message: String,
}

/// Scrubs: how far they are, and what they found.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
}

/// An object that is damaged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Damaged {
    /// Its name.
    pub name: String,
    /// Where it lies, and what was found there.
    pub what: String,
}

/// A file some bytes of which are damaged.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// For how long snapshots to come are locked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LockRule {
    /// The dataset; absent for replicas that have no rule of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Seconds for which the box runs.
    pub seconds: u64,
    /// How many snapshots are locked now, by this rule or otherwise.
    pub locked: usize,
}

/// The rules of a dataset, and what becomes of each of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// The dataset.
    pub dataset: String,
    /// The rules, in words.
    pub rules: String,
    /// Why they can't be read, if they can't: then nothing goes.
    pub error: Option<String>,
    /// Each snapshot, the oldest first.
    pub snapshots: Vec<Verdict>,
}

/// What becomes of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
