//! One API for people: what the command line speaks to a running box, and what the web pages will.
//!
//! A request is one JSON value; the answer is any number of progress messages and then a result or a failure. Over the
//! control socket (`control.sock` in the data folder, for its owner alone) each is one line.

mod account;
pub mod api;
mod audited;
mod census;
mod certificate;
pub mod check;
pub mod client;
pub(crate) mod dataset;
mod disk;
pub mod door;
pub mod doorkeeper;
mod files;
mod limit;
mod lock;
mod network;
mod notice;
mod peer;
mod plan;
mod quarantine;
mod replicate;
pub mod reports;
pub mod restore;
mod retention;
mod scrub;
pub mod server;
pub(crate) mod setting;
mod setup;
mod snapshot;
pub mod status;
mod support;
mod time;

use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jobs::Progress;
use crate::retention::Rules;

/// The name of the control socket in the data folder.
pub const SOCKET: &str = "control.sock";

/// Longest path of a socket that every Linux takes: `sun_path` has 108 bytes with the NUL at the end.
const SOCKET_PATH_MAX: usize = 107;

/// Where the control socket of a data folder is reached, in a form that fits into a socket's address however deep the
/// folder lies. The folder is held open as long as this lives.
pub(crate) struct SocketPath {
    path: PathBuf,
    _folder: Option<std::fs::File>,
}

impl SocketPath {
    /// For the socket in `data`, which must exist.
    pub(crate) fn of(data: &Path) -> std::io::Result<SocketPath> {
        let path = data.join(SOCKET);
        if path.as_os_str().len() <= SOCKET_PATH_MAX {
            return Ok(SocketPath { path, _folder: None });
        }
        let folder = std::fs::File::open(data)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()));
        Ok(SocketPath { path, _folder: Some(folder) })
    }

    /// The path to bind or to connect to.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The second name of the control socket, for when the disk with the first one does not answer: in no folder, so anybody may take it, and both
/// sides ask the kernel who the other is ([`is_trusted`]); it takes no more than a person needs then. It hangs on the path of the data folder as it was named.
pub(crate) fn second_socket(data: &Path) -> std::io::Result<SocketAddr> {
    // Without what a slash at the end or a dot would change.
    let path: PathBuf = std::path::absolute(data)?.components().collect();
    let digest = blake3::hash(path.as_os_str().as_encoded_bytes());
    SocketAddr::from_abstract_name(format!("narrowboat/{}", digest.to_hex()))
}

/// True where the other side is root, or whom this process is.
pub(crate) fn is_trusted(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == ours)
}

/// A change to the addresses of a peer; each is `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressChange {
    /// One more, behind the others.
    Add(String),
    /// One less.
    Remove(String),
    /// This one first; added where it is not there yet.
    Prefer(String),
}

/// What can be asked of a box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What it holds and how far peers are.
    Status,
    /// Creates a share.
    ShareCreate {
        /// Its name.
        name: String,
        /// "inline", "deferred" or "off".
        dedup: String,
    },
    /// Creates a volume.
    VolumeCreate {
        /// Its name.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// "inline", "deferred" or "off".
        dedup: String,
    },
    /// Makes a volume larger.
    VolumeResize {
        /// Its name.
        name: String,
        /// Its new size in bytes.
        size: u64,
    },
    /// All datasets.
    DatasetList,
    /// Datasets that were deleted and can be had back.
    DatasetListDeleted,
    /// Has a deleted dataset back.
    DatasetUndelete {
        /// Its name, or its id.
        name: String,
        /// Its new name; its own where there is none.
        #[serde(default)]
        new: Option<String>,
    },
    /// Deletes a dataset and its snapshots.
    DatasetDelete {
        /// Its name.
        name: String,
    },
    /// Makes a snapshot.
    SnapshotCreate {
        /// Of which dataset.
        dataset: String,
        /// Its name; the time where there is none.
        name: Option<String>,
    },
    /// All snapshots, or those of one dataset.
    SnapshotList {
        /// Of which dataset.
        dataset: Option<String>,
    },
    /// Snapshots that were deleted and can be had back, of one dataset or of all.
    SnapshotListDeleted {
        /// Of which dataset.
        dataset: Option<String>,
    },
    /// Has a deleted snapshot back.
    SnapshotUndelete {
        /// `DATASET@NAME`, or `DATASET@ID`.
        snapshot: String,
        /// Its new name; its own where there is none.
        #[serde(default)]
        new: Option<String>,
    },
    /// What deleting would free, as it was counted last; counted now where it never was.
    Freeable {
        /// Counts now in any case.
        #[serde(default)]
        again: bool,
    },
    /// Gives up what was deleted before its time. For root alone.
    QuarantineEmpty {
        /// A deleted dataset, or `DATASET@NAME`; everything where there is none.
        #[serde(default)]
        what: Option<String>,
        /// Only tells what that would free.
        #[serde(default)]
        dry_run: bool,
    },
    /// Deletes a snapshot.
    SnapshotDelete {
        /// `DATASET@NAME`.
        snapshot: String,
    },
    /// Holds or releases a snapshot.
    SnapshotHold {
        /// `DATASET@NAME`.
        snapshot: String,
        /// Whether it is held from now on.
        held: bool,
    },
    /// Locks a snapshot: nobody deletes it before.
    SnapshotLock {
        /// `DATASET@NAME`.
        snapshot: String,
        /// For how long the box has to run.
        seconds: u64,
    },
    /// Says how long snapshots to come are locked.
    LockSet {
        /// The dataset; where there is none, all replicas without a rule of their own.
        dataset: Option<String>,
        /// For how long the box has to run; not at all where there is none.
        seconds: Option<u64>,
    },
    /// All rules of locking.
    LockList,
    /// Shows or changes how far back a dataset can be taken to any moment.
    Window {
        /// Its name.
        dataset: String,
        /// How long.
        seconds: Option<u64>,
        /// How much of the journal at most.
        bytes: Option<u64>,
        /// Not at all any more.
        off: bool,
    },
    /// Marks this moment of datasets, of all at once.
    Mark {
        /// Which.
        datasets: Vec<String>,
        /// The mark's name.
        name: String,
        /// Whether the applications have nothing under way.
        quiet: bool,
        /// Hooks of the config file that quiet them, in this order.
        #[serde(default)]
        hooks: Vec<String>,
    },
    /// Calls the thaw of a hook, or forgets that one is owed.
    Thaw {
        /// The hook.
        hook: String,
        /// Forgets it.
        forget: bool,
    },
    /// What a dataset can be taken back to.
    Timeline {
        /// Its name.
        dataset: String,
    },
    /// That much of a dataset is gone was meant: it is told no longer.
    LossAccept {
        /// The dataset.
        name: String,
    },
    /// Takes a dataset back to a moment.
    Rewind {
        /// Its name.
        dataset: String,
        /// A snapshot, a mark or a time.
        to: String,
        /// Also while somebody uses it.
        #[serde(default)]
        force: bool,
    },
    /// A new dataset that starts as another one was at a moment.
    Clone {
        /// `DATASET@MOMENT`: a snapshot, a mark or a time.
        snapshot: String,
        /// The new dataset's name.
        name: String,
    },
    /// What changed between two snapshots.
    Diff {
        /// The earlier, `DATASET@NAME`.
        from: String,
        /// The later, `DATASET@NAME`.
        to: String,
    },
    /// Files out of the store into a folder of this machine, or a volume into an image.
    Restore {
        /// `DATASET[@NAME][:PATH]`.
        source: String,
        /// An absolute path.
        dest: String,
    },
    /// Opens an invitation for another box.
    PeerInvite {
        /// What it will be called here.
        name: Option<String>,
    },
    /// Pairs with a box that gave out a code.
    PeerJoin {
        /// The code.
        code: String,
        /// Host and port.
        address: String,
    },
    /// All peers.
    PeerList,
    /// Changes where a peer is dialled, or only tells.
    PeerAddresses {
        /// Its name.
        peer: String,
        /// What changes; nothing where nothing is said.
        #[serde(default)]
        change: Option<AddressChange>,
    },
    /// What peers were refused, those that are no peers any more included.
    PeerRefusals,
    /// Forgets a peer.
    PeerRemove {
        /// Its name.
        name: String,
    },
    /// Sends a snapshot to a peer.
    Replicate {
        /// `DATASET[@NAME]`; the newest snapshot where no name is given, a new one where there is none.
        source: String,
        /// The peer.
        peer: String,
        /// Whether to wait for the end.
        wait: bool,
        /// "urgent", "normal" or "scavenger"; normal where nothing is said.
        #[serde(default)]
        class: Option<String>,
    },
    /// Replications: under way and ended.
    ReplicationList,
    /// One of them.
    ReplicationShow {
        /// Its number.
        id: u64,
    },
    /// Stops sending a snapshot.
    ReplicationCancel {
        /// The number of the replication.
        id: u64,
    },
    /// Makes a plan or changes it: a dataset that goes to a peer by itself.
    PlanSet {
        /// The dataset.
        dataset: String,
        /// The peer.
        peer: String,
        /// Seconds between two snapshots.
        #[serde(default)]
        seconds: Option<u64>,
        /// Follows every change instead.
        #[serde(default)]
        follow: bool,
        /// The hours in which something may begin; "always" for any.
        #[serde(default)]
        hours: Option<String>,
        /// "urgent", "normal" or "scavenger".
        #[serde(default)]
        class: Option<String>,
    },
    /// All plans.
    PlanList,
    /// Stops plans of a dataset for a while, or lets them go on.
    PlanPause {
        /// The dataset.
        dataset: String,
        /// One peer; all where there is none.
        peer: Option<String>,
        /// Whether to stop.
        paused: bool,
    },
    /// Drops plans of a dataset.
    PlanRemove {
        /// The dataset.
        dataset: String,
        /// One peer; all where there is none.
        peer: Option<String>,
    },
    /// Says which snapshots of a dataset stay, or only what would become of each.
    RetentionSet {
        /// The dataset.
        dataset: String,
        /// What stays.
        rules: Rules,
        /// Changes nothing.
        dry_run: bool,
    },
    /// What becomes of each snapshot of a dataset by the rules that it has.
    RetentionShow {
        /// The dataset.
        dataset: String,
    },
    /// All datasets with rules.
    RetentionList,
    /// Drops the rules of a dataset.
    RetentionRemove {
        /// The dataset.
        dataset: String,
    },
    /// Caps what is sent. Only tells where nothing is to be changed.
    Limit {
        /// The peer; all traffic of the box where there is none.
        peer: Option<String>,
        /// As in "20Mbit", "pause" or "unlimited".
        rate: Option<String>,
        /// For how long the rate outranks everything else; without it, the rate counts where nothing else does.
        #[serde(default)]
        seconds: Option<u64>,
        /// The text of a calendar, which may be empty.
        #[serde(default)]
        calendar: Option<String>,
        /// Ends an override.
        #[serde(default)]
        resume: bool,
        /// Drops whatever was said since the config file.
        #[serde(default)]
        as_configured: bool,
        /// It is about what is received, not what is sent.
        #[serde(default)]
        receive: bool,
    },
    /// Which caps count now, why, until when, and when peers will have caught up.
    LimitExplain {
        /// One peer; all where there is none.
        peer: Option<String>,
    },
    /// The line to a peer.
    Probe {
        /// The peer.
        peer: String,
    },
    /// How far scrubs are, what is damaged, and whom it hits.
    ScrubShow,
    /// Begins a scrub.
    ScrubStart,
    /// Stops scrubs, or lets them go on.
    ScrubPause {
        /// Whether nothing is read from now on.
        paused: bool,
    },
    /// Asks peers for what is damaged.
    ScrubHeal,
    /// Proves every invariant of the store.
    Check {
        /// Whether every byte is read, too.
        deep: bool,
    },
    /// Gives the room back of what nobody needs.
    Reclaim {
        /// Only tells how much that would be.
        dry_run: bool,
    },
    /// Has reclaim run now, by itself and at its own pace: the status says how far it is.
    ReclaimBegin,
    /// Has it counted now, beside everything else, what deleting would free: the status has the figures then.
    FreeableBegin,
    /// What the box has warned of lately, the newest first.
    Log {
        /// At most so many.
        limit: u32,
    },
    /// The claim code, and where the page is.
    AccountClaim,
    /// Everybody who may sign in.
    AccountList,
    /// One more.
    AccountAdd {
        /// His name.
        user: String,
        /// What he may do.
        role: crate::accounts::Role,
        /// His password.
        password: String,
    },
    /// One less.
    AccountRemove {
        /// His name.
        user: String,
    },
    /// A new password for somebody who has forgotten his; his second factor, sessions and tokens go.
    AccountReset {
        /// His name.
        user: String,
        /// The new one.
        password: String,
    },
    /// The audit log, the newest first.
    Audit {
        /// Only entries before this number.
        #[serde(default)]
        before: Option<u64>,
        /// At most so many.
        limit: u32,
    },
    /// How the box did over time.
    Trends {
        /// Over how long.
        span: crate::trends::Span,
    },
    /// Begins a check that nobody waits for.
    CheckBegin {
        /// Whether every byte is read.
        #[serde(default)]
        deep: bool,
    },
    /// How far that is, and what came of the last: a [`reports::CheckState`].
    CheckShow,
    /// How far room is given back: a [`reports::ReclaimState`].
    ReclaimShow,
    /// What disks there are, how well they are, and where the backups lie: a [`reports::Disks`].
    DiskList,
    /// What the box told by itself, and how that leaves it.
    NoticeList,
    /// Sees whether notices arrive.
    NoticeTest {
        /// By which way; by all where nothing is said.
        #[serde(default)]
        way: Option<String>,
    },
    /// All settings that may be changed through the box.
    SettingList,
    /// Changes settings in the config file: all of them, or none. They count from the next start on.
    SettingSet {
        /// New values by key; without one, the default counts.
        changes: std::collections::BTreeMap<String, Option<Value>>,
    },
    /// How far the set-up of the box is: a [`reports::SetUpState`].
    SetUpShow,
    /// Keeps what somebody types for it.
    SetUpType {
        /// Texts by field.
        fields: std::collections::BTreeMap<String, String>,
    },
    /// Does what a set-up says.
    SetUpApply {
        /// Which.
        set_up: Box<crate::setup::SetUp>,
        /// With the secrets that were typed on the page.
        #[serde(default)]
        typed: bool,
    },
    /// Sees whether those would be told of whom somebody types that they are to get notices: a list of [`reports::NoticeTried`].
    SetUpTest,
    /// How the network of the machine is: a [`reports::NetworkState`].
    NetworkShow,
    /// Tries another network set-up, which goes back by itself unless it is confirmed.
    NetworkSet {
        /// Which.
        wanted: crate::network::Wanted,
    },
    /// Keeps the network set-up that is tried. Over the network that counts at its new address alone.
    NetworkConfirm {
        /// The trial that is meant; the one of now where nothing is said.
        #[serde(default)]
        trial: Option<u64>,
    },
    /// Takes back at once the network set-up that is tried.
    NetworkRevert {
        /// As above.
        #[serde(default)]
        trial: Option<u64>,
    },
    /// Which certificate the page shows: a [`reports::PageCertificate`].
    CertificateShow,
    /// Orders another certificate at the page's authority now; what came of it is shown by [`Request::CertificateShow`].
    CertificateOrder,
    /// Ends the box in order and starts it again.
    Restart,
    /// Ends the box in order.
    Stop,
}

/// One message of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// How far it is.
    Progress(Progress),
    /// It is done; the value is one of [`reports`].
    Done(Value),
    /// It is not, and why.
    Failed(Failed),
}

/// A failure as people and programs see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// "refused", "damage", "environment", "link" (a peer or the line to it), or "absent" (no box runs there).
    pub kind: String,
    /// A sentence that says what to do.
    pub message: String,
    /// What of the request it is about, where it is one thing that somebody typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What a program may go by where the kind says too little: "missing" (what it is about is not there), or "exists" (what it would make is).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Failed {
    /// A failure of a kind.
    pub fn of(kind: &str, message: impl Into<String>) -> Self {
        Failed { kind: kind.into(), message: message.into(), field: None, reason: None }
    }

    /// A request that makes no sense.
    pub fn refused(message: impl Into<String>) -> Self {
        Failed::of("refused", message)
    }

    /// A request of which one thing makes no sense.
    pub fn about(field: &str, message: impl Into<String>) -> Self {
        Failed { field: Some(field.into()), ..Failed::refused(message) }
    }

    /// A request about something that is not there.
    pub fn missing(message: impl Into<String>) -> Self {
        Failed { reason: Some("missing".into()), ..Failed::refused(message) }
    }

    /// The machine could not do it.
    pub fn environment(message: impl Into<String>) -> Self {
        Failed::of("environment", message)
    }
}

impl From<narrowboat_storage::Error> for Failed {
    fn from(error: narrowboat_storage::Error) -> Self {
        use narrowboat_storage::Error;
        use narrowboat_storage::error::Refusal;
        match error {
            Error::Damage(damage) => {
                let message = format!("{damage}; `narrowboat check --deep` tells what else is damaged");
                Failed::of("damage", message)
            }
            Error::Environment(environment) => Failed::environment(environment.to_string()),
            Error::Refused(refusal) => {
                let reason = match &refusal {
                    Refusal::NotFound(_) => Some("missing".into()),
                    Refusal::Exists(_) => Some("exists".into()),
                    _ => None,
                };
                Failed { reason, ..Failed::refused(refusal.to_string()) }
            }
        }
    }
}

impl From<crate::jobs::restore::RestoreError> for Failed {
    fn from(error: crate::jobs::restore::RestoreError) -> Self {
        use crate::jobs::restore::RestoreError;
        match error {
            RestoreError::Store(error) => error.into(),
            error @ RestoreError::Destination(_) => Failed::refused(error.to_string()),
            error @ RestoreError::Stopped => Failed::environment(error.to_string()),
        }
    }
}

impl From<crate::node::StartError> for Failed {
    fn from(error: crate::node::StartError) -> Self {
        use crate::node::StartError;
        match error {
            StartError::Store(error) => error.into(),
            StartError::Link(error) => error.into(),
            error @ StartError::Config(_) => Failed::refused(error.to_string()),
            error => Failed::environment(error.to_string()),
        }
    }
}

impl From<narrowboat_storage::error::Refusal> for Failed {
    fn from(refusal: narrowboat_storage::error::Refusal) -> Self {
        narrowboat_storage::Error::from(refusal).into()
    }
}

impl From<narrowboat_wan::link::LinkError> for Failed {
    fn from(error: narrowboat_wan::link::LinkError) -> Self {
        match error {
            narrowboat_wan::link::LinkError::Store(error) => error.into(),
            error => Failed::of("link", error.to_string()),
        }
    }
}
