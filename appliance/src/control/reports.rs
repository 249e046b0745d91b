//! What answers hold. Sizes are bytes, times RFC 3339, rates bits per second.

mod account;
mod certificate;
mod dataset;
mod disk;
mod limit;
mod measured;
mod moment;
mod network;
mod notice;
mod peer;
mod quarantine;
mod replication;
mod retention;
mod setup;
mod upkeep;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::disks::state::ArrayState;
pub use crate::jobs::restore::RestoreReport;
pub use crate::recent::LogLine;
pub use account::{AuditEntry, Claim, Person, Settings};
pub use certificate::{Authority, PageCertificate};
pub use dataset::{Changed, Dataset, Deferred, Diff, Loss, Snapshot};
pub use disk::{DiskFault, DiskHealth, DiskPace, DiskSeen, DiskWait, Disks};
pub use limit::{CaughtUp, Explained, ExplainedPeer, Limit, Recovery};
pub use measured::{Measured, MeasuredRoundTrip, MeasuredWay};
pub use moment::{HookCall, Marked, Moment, OwedThaw, Rewound, Timeline, Window, Written, consistency};
pub use network::{NetworkAddress, NetworkState, NetworkTrial};
pub use notice::{NoticeItem, NoticeOpen, NoticeTold, NoticeTried, NoticeWay, Notices};
pub use peer::{Invitation, Lag, Line, Peer, PeerPath, Refusal};
pub use quarantine::{Deleted, Emptied, Freeable, QuarantineSum};
pub use replication::{Choices, Plan, Replication, Tally};
pub use retention::{LockRule, Retention, Verdict};
pub use setup::{SetUpBegun, SetUpPlace, SetUpState};
pub use upkeep::{
    AffectedFile, Check, CheckEnded, CheckState, Damaged, InTheWay, Reclaim, ReclaimState, Recompressed, Scrub,
};

/// What a box holds, what it saves, and how far its peers are.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Where the page is, if it is anywhere.
    #[serde(default)]
    pub page: Option<String>,
    /// Which certificate it shows.
    #[serde(default)]
    pub certificate: Option<PageCertificate>,
    /// The name by which neighbours find it, as in `bonn.local`; another one than its own where somebody else has that.
    #[serde(default)]
    pub found_as: Option<String>,
    /// Whether somebody has made the box his own.
    #[serde(default)]
    pub claimed: bool,
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
    /// What the data folder holds, all in all.
    #[serde(default)]
    pub folder_bytes: u64,
    /// The same by parts.
    #[serde(default)]
    pub parts: DiskParts,
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
    /// How the disk does, now.
    #[serde(default)]
    pub disk: DiskHealth,
    /// How old everything else is, where the disk gave nothing newer in time.
    #[serde(default)]
    pub age_seconds: Option<f64>,
    /// Why it did not, where it said so.
    #[serde(default)]
    pub unmeasured: Option<String>,
    /// What the last drain step failed with, if it did.
    pub stalled: Option<String>,
    /// Why the journal is kept whole that windows need only a part of, if it can't be split: it grows with all that is written.
    #[serde(default)]
    pub unsplit: Option<String>,
    /// How the array below the data folder is, where there is one.
    #[serde(default)]
    pub array: Option<ArrayState>,
    /// What was deleted and can be had back, and keeps its room until then.
    #[serde(default)]
    pub quarantine: QuarantineSum,
    /// What would be freed, and how old these figures are; absent where nobody has counted since the box was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeable: Option<Freeable>,
    /// What was compressed once more because it is old.
    #[serde(default)]
    pub recompressed: Recompressed,
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
    /// Datasets in which much of what a snapshot held is gone.
    #[serde(default)]
    pub losses: Vec<Loss>,
    /// How notices leave the box: how each way does.
    #[serde(default)]
    pub notices: Vec<NoticeWay>,
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

/// Bytes of files in the data folder, by what they are for.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DiskParts {
    /// Chunks and tree nodes as they are stored, with those that nobody needs any more until reclaim has gone by.
    pub objects_bytes: u64,
    /// What containers have beside: slots, directories, sketches.
    pub directories_bytes: u64,
    /// Containers that were set aside, for nothing in them could be read.
    pub aside_bytes: u64,
    /// The index and its filter.
    pub index_bytes: u64,
    /// The catalogue and its images.
    pub catalogue_bytes: u64,
    /// The journal.
    pub journal_bytes: u64,
    /// What was split off it for windows.
    pub history_bytes: u64,
    /// Whatever else lies there.
    pub other_bytes: u64,
}

/// Nothing but that it was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// A sentence.
    pub message: String,
}

impl Status {
    /// What clients have written and still see: of a volume what takes room, not its size, or an empty disk would look like savings.
    pub fn written_bytes(&self) -> u64 {
        let of = |dataset: &Dataset| dataset.used_bytes.unwrap_or(dataset.logical_bytes);
        self.datasets.iter().map(of).fold(0, u64::saturating_add)
    }
}
