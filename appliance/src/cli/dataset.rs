//! `share`, `dataset`, `snapshot`, `clone` and `diff`.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::show::{count, or_dash, size, table};
use super::{Context, Outcome};
use crate::control::Request;
use crate::control::client;
use crate::control::reports::{Acknowledged, Dataset, Diff, Freeable, Snapshot};
use crate::units::{ByteSize, duration, parse_duration};

#[derive(Subcommand)]
pub(super) enum ShareCommand {
    /// Create an empty share. It can be mounted at once.
    ///
    /// mount -t nfs -o vers=3,proto=tcp,mountproto=tcp,nolock,port=2049,mountport=2049 BOX:/NAME /mnt
    ///
    /// Who may mount it is said in the config file ([nfs], [share.NAME]).
    Create {
        /// Its name, which is also what clients mount.
        name: String,
        /// Deduplicate while it is written, in the hours of the config file, or never (for data that is encrypted already).
        ///
        /// What is deferred is written at the speed of the disk, and takes its whole size in the journal until its hours come:
        /// store.drain_hours, or those of one share or volume (share.NAME.drain_hours); every night where none are set. Where
        /// more than store.deferred waits, it is deduplicated while it is written, and `status` says so.
        #[arg(long, default_value = "inline", value_parser = ["inline", "deferred", "off"])]
        dedup: String,
    },
}

#[derive(Subcommand)]
pub(super) enum VolumeCommand {
    /// Create a volume of zeros, which takes no room yet.
    ///
    /// Initiators find it at once, as a target of its own, whose name is told here; `narrowboat status` says where iSCSI is served. Who may
    /// log in is said in the config file ([iscsi], [volume.NAME]).
    Create {
        /// Its name.
        name: String,
        /// Its size: 1MiB to 256TiB, as in 10GiB.
        #[arg(long)]
        size: ByteSize,
        /// Deduplicate while it is written, in the hours of the config file, or never (for data that is encrypted already).
        ///
        /// What is deferred is written at the speed of the disk, and takes its whole size in the journal until its hours come:
        /// store.drain_hours, or those of one share or volume (share.NAME.drain_hours); every night where none are set. Where
        /// more than store.deferred waits, it is deduplicated while it is written, and `status` says so.
        #[arg(long, default_value = "inline", value_parser = ["inline", "deferred", "off"])]
        dedup: String,
    },
    /// Make a volume larger, while it is in use. It can't be made smaller.
    ///
    /// Initiators are told; the file system on it has to be grown there, as with `resize2fs` or `xfs_growfs`.
    Resize {
        /// Its name.
        name: String,
        /// Its new size, as in 20GiB.
        #[arg(long)]
        size: ByteSize,
    },
}

/// What a list is to say of room.
#[derive(Args)]
pub(super) struct Frees {
    /// Show what each alone would free, as it was counted last, once a day; counts now where it was not yet.
    #[arg(long)]
    freeable: bool,
    /// The same, counted now: every tree is walked.
    #[arg(long)]
    recount: bool,
}

#[derive(Subcommand)]
pub(super) enum DatasetCommand {
    /// List all datasets: shares, volumes, and replicas of what peers have sent.
    List {
        /// Those that were deleted and can be had back, instead.
        #[arg(long, conflicts_with_all = ["freeable", "recount"])]
        deleted: bool,
        #[command(flatten)]
        frees: Frees,
    },
    /// Delete a dataset and all its snapshots. It stops serving at once.
    ///
    /// Refused while one of its snapshots is held or locked. Replicas at peers stay. Until the box has run for retention.quarantine_days more it keeps its room, and
    /// `narrowboat dataset undelete` has it back with its plans, rules and window; then they go for good, and the room comes back within a day.
    Delete {
        /// Its name.
        name: String,
    },
    /// Say that it was meant that much of a dataset is gone: `narrowboat status` and notices tell it no longer.
    ///
    /// Told is where a half (notices.lost_percent) of what a snapshot held was removed or written over since. `narrowboat rewind` takes it back.
    AcceptLoss {
        /// Its name.
        name: String,
    },
    /// Have a deleted dataset back, with all its snapshots and how far it can be taken back, as it was.
    Undelete {
        /// Its name, or its id where several were called so.
        name: String,
        /// Its new name; needed where its own was taken meanwhile.
        #[arg(long = "as", value_name = "NAME")]
        new: Option<String>,
    },
}

#[derive(Subcommand)]
pub(super) enum SnapshotCommand {
    /// Hold this moment fast. Instant: everything written before is in, nothing later is.
    ///
    /// It takes room only for what is changed later. Clients read it in `.snapshot/NAME` of the share; `narrowboat restore DATASET@NAME` brings it back,
    /// `narrowboat clone` makes something writable of it. What clients hold back in their own caches is not in it: see `narrowboat mark --help` for hooks.
    Create {
        /// The dataset.
        dataset: String,
        /// The snapshot's name [default: the time]
        #[arg(long)]
        name: Option<String>,
    },
    /// List all snapshots, or those of one dataset, oldest first.
    List {
        /// The dataset.
        dataset: Option<String>,
        /// Those that were deleted by themselves and can be had back, instead.
        #[arg(long, conflicts_with_all = ["freeable", "recount"])]
        deleted: bool,
        #[command(flatten)]
        frees: Frees,
    },
    /// Delete a snapshot. Others are not touched.
    ///
    /// Refused while it is held or locked. Until the box has run for retention.quarantine_days more it keeps its room, and `narrowboat snapshot undelete` has it
    /// back; then the room of what nothing else shares comes back within a day.
    Delete {
        /// DATASET@NAME
        snapshot: String,
    },
    /// Have a deleted snapshot back.
    Undelete {
        /// DATASET@NAME, or DATASET@ID where several were called so
        snapshot: String,
        /// Its new name; needed where its own was taken meanwhile.
        #[arg(long = "as", value_name = "NAME")]
        new: Option<String>,
    },
    /// Keep a snapshot from being deleted, by rules of retention or by hand, until it is released.
    Hold {
        /// DATASET@NAME
        snapshot: String,
    },
    /// Keep anybody, you included, from deleting a snapshot for so long. There is no way back.
    ///
    /// Only time in which the box runs counts, by a clock that nobody can set. The dataset can't be deleted before, either.
    Lock {
        /// DATASET@NAME
        snapshot: String,
        /// For how long, as in 36h or 90d.
        #[arg(long = "for", value_parser = parse_duration, value_name = "TIME")]
        length: u64,
        /// Yes, for more than a year.
        #[arg(long)]
        years: bool,
    },
    /// Allow a held snapshot to be deleted again. A lock is not ended by this.
    Release {
        /// DATASET@NAME
        snapshot: String,
    },
}

pub(super) fn share(context: &Context, command: ShareCommand) -> Outcome {
    let ShareCommand::Create { name, dedup } = command;
    if let Some(dataset) = context.ask::<Dataset>(&Request::ShareCreate { name, dedup })? {
        say!("created the share {}", dataset.name);
        match dataset.export {
            Some(export) => {
                say!("clients mount it as {export} (`narrowboat status` says where NFS is served)");
                say!(
                    "whoever may mount it may write there; a client's root is nobody, unless the config file says root_squash = false"
                );
            }
            None => say!("NFS is off on this box: set nfs.listen in its config file"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn volume(context: &Context, command: VolumeCommand) -> Outcome {
    let (request, what) = match command {
        VolumeCommand::Create { name, size, dedup } => (Request::VolumeCreate { name, size: size.0, dedup }, "created"),
        VolumeCommand::Resize { name, size } => (Request::VolumeResize { name, size: size.0 }, "resized"),
    };
    if let Some(dataset) = context.ask::<Dataset>(&request)? {
        say!("{what} the volume {}, {}", dataset.name, size(dataset.logical_bytes));
        match (dataset.target, dataset.lun) {
            (Some(target), Some(lun)) => {
                say!("initiators log in to {target}, unit {lun} (`narrowboat status` says where iSCSI is served)");
            }
            _ => say!("iSCSI is off on this box: set iscsi.listen in its config file"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn dataset(context: &Context, command: DatasetCommand) -> Outcome {
    match command {
        DatasetCommand::List { deleted: true, .. } => {
            super::quarantine::deleted(context, &Request::DatasetListDeleted)?
        }
        DatasetCommand::Undelete { name, new } => {
            acknowledge(context, &Request::DatasetUndelete { name, new })?;
        }
        DatasetCommand::List { deleted: false, frees: wanted } => {
            let counted = count_freeable(context, &wanted)?;
            if let Some(datasets) = context.ask::<Vec<Dataset>>(&Request::DatasetList)? {
                show_datasets(&datasets);
                let frees = datasets.iter().map(|dataset| (dataset.name.clone(), dataset.frees_bytes));
                show_freeable(counted, frees);
            }
        }
        DatasetCommand::AcceptLoss { name } => acknowledge(context, &Request::LossAccept { name })?,
        DatasetCommand::Delete { name } => acknowledge(context, &Request::DatasetDelete { name })?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the box count what would be freed, where that is asked for.
fn count_freeable(context: &Context, wanted: &Frees) -> Result<Option<Freeable>, crate::control::Failed> {
    if !wanted.freeable && !wanted.recount {
        return Ok(None);
    }
    let mut line = super::ProgressLine::default();
    let request = Request::Freeable { again: wanted.recount };
    let value = client::ask(&context.data, &request, &mut |progress| line.show(&progress));
    line.clear();
    context.understood(value?).map(Some)
}

fn show_freeable(counted: Option<Freeable>, frees: impl Iterator<Item = (String, Option<u64>)>) {
    let Some(counted) = counted else { return };
    say!();
    let rows: Vec<_> = frees.map(|(name, bytes)| vec![name, or_dash(bytes.map(size))]).collect();
    table(&["GONE FOR GOOD", "FREES"], &rows);
    say!();
    say!("as of {}: each by itself; what several share goes with the last of them", counted.counted);
    say!(
        "needed {}, for the quarantine alone {} of it; at most {} are free to go with the next reclaim",
        size(counted.needed_bytes),
        size(counted.quarantine_bytes),
        size(counted.unneeded_bytes)
    );
    if counted.one_in > 1 {
        say!("about: one chunk in {} was counted", count(counted.one_in));
    }
    if !counted.left_out.is_empty() {
        say!("damaged, and so not counted: {}", counted.left_out.join(", "));
    }
}

pub(super) fn show_datasets(datasets: &[Dataset]) {
    let row = |dataset: &Dataset| {
        let kind = if dataset.read_only { format!("{}, replica", dataset.kind) } else { dataset.kind.clone() };
        let counted = |text: String| if dataset.damage.is_some() { "damaged".into() } else { text };
        vec![
            dataset.name.clone(),
            kind,
            counted(size(dataset.logical_bytes)),
            or_dash(dataset.used_bytes.map(size)),
            counted(count(dataset.files)),
            dataset.snapshots.to_string(),
            or_dash(dataset.newest_snapshot.clone()),
            dataset.dedup.clone(),
        ]
    };
    let rows: Vec<_> = datasets.iter().map(row).collect();
    table(&["DATASET", "KIND", "SIZE", "USED", "FILES", "SNAPSHOTS", "NEWEST", "DEDUP"], &rows);
    for (name, damage) in datasets.iter().filter_map(|dataset| Some((&dataset.name, dataset.damage.as_ref()?))) {
        say!("  PROBLEM      {name}: {damage}");
    }
}

fn acknowledge(context: &Context, request: &Request) -> Result<(), crate::control::Failed> {
    if let Some(done) = context.ask::<Acknowledged>(request)? {
        say!("{}", done.message);
    }
    Ok(())
}

pub(super) fn snapshot(context: &Context, command: SnapshotCommand) -> Outcome {
    match command {
        SnapshotCommand::Create { dataset, name } => {
            if let Some(snapshot) = context.ask::<Snapshot>(&Request::SnapshotCreate { dataset, name })? {
                say!("created {}@{}", snapshot.dataset, snapshot.name);
            }
        }
        SnapshotCommand::List { dataset, deleted: true, .. } => {
            super::quarantine::deleted(context, &Request::SnapshotListDeleted { dataset })?;
        }
        SnapshotCommand::Undelete { snapshot, new } => {
            acknowledge(context, &Request::SnapshotUndelete { snapshot, new })?;
        }
        SnapshotCommand::List { dataset, deleted: false, frees: wanted } => {
            let counted = count_freeable(context, &wanted)?;
            if let Some(snapshots) = context.ask::<Vec<Snapshot>>(&Request::SnapshotList { dataset })? {
                show_snapshots(&snapshots);
                let label = |one: &Snapshot| format!("{}@{}", one.dataset, one.name);
                show_freeable(counted, snapshots.iter().map(|one| (label(one), one.frees_bytes)));
            }
        }
        SnapshotCommand::Delete { snapshot } => acknowledge(context, &Request::SnapshotDelete { snapshot })?,
        SnapshotCommand::Lock { snapshot, length, years } => {
            super::lock::check(Some(length), years)?;
            acknowledge(context, &Request::SnapshotLock { snapshot, seconds: length })?;
        }
        SnapshotCommand::Hold { snapshot } => hold(context, snapshot, true)?,
        SnapshotCommand::Release { snapshot } => hold(context, snapshot, false)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn hold(context: &Context, snapshot: String, held: bool) -> Result<(), crate::control::Failed> {
    if let Some(snapshot) = context.ask::<Snapshot>(&Request::SnapshotHold { snapshot, held })? {
        say!("{} {}@{}", if held { "holding" } else { "released" }, snapshot.dataset, snapshot.name);
    }
    Ok(())
}

/// Why it can't be deleted.
fn kept(snapshot: &Snapshot) -> String {
    let locked = snapshot.locked_seconds.map(|seconds| format!("locked for {}", duration(seconds as f64)));
    let held = snapshot.held.then(|| "held".to_owned());
    held.into_iter().chain(locked).collect::<Vec<_>>().join(", ")
}

fn show_snapshots(snapshots: &[Snapshot]) {
    let row = |snapshot: &Snapshot| {
        let root = match (&snapshot.root, snapshot.sealed) {
            (Some(root), _) => root[..16.min(root.len())].to_owned(),
            (None, true) => "empty".into(),
            (None, false) => "not sealed yet".into(),
        };
        vec![
            format!("{}@{}", snapshot.dataset, snapshot.name),
            snapshot.time.clone(),
            or_dash(snapshot.logical_bytes.map(size)),
            or_dash(snapshot.files.map(count)),
            root,
            kept(snapshot),
        ]
    };
    let rows: Vec<_> = snapshots.iter().map(row).collect();
    table(&["SNAPSHOT", "TIME", "SIZE", "FILES", "ROOT", ""], &rows);
}

pub(super) fn clone(context: &Context, snapshot: String, name: String) -> Outcome {
    let source = snapshot.clone();
    if let Some(dataset) = context.ask::<Dataset>(&Request::Clone { snapshot, name })? {
        say!("{} starts as {source} was", dataset.name);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn diff(context: &Context, from: String, to: String) -> Outcome {
    let Some(diff) = context.ask::<Diff>(&Request::Diff { from, to })? else { return Ok(ExitCode::SUCCESS) };
    for change in &diff.changes {
        match (change.what.as_str(), &change.was) {
            ("added", _) => say!("+ {}", change.path),
            ("removed", _) => say!("- {}", change.path),
            (_, Some(was)) => say!("> {was} -> {}", change.path),
            ("content", _) => say!("M {} ({} differ)", change.path, size(change.bytes)),
            _ => say!("a {}", change.path),
        }
    }
    if diff.changes.is_empty() {
        say!("nothing changed");
    }
    Ok(ExitCode::SUCCESS)
}
