//! What the command line takes: its commands and arguments, and the help that goes with them. A command's first sentence is what lists of commands
//! show; what follows teaches whoever asks for `--help`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{
    account, assess, certificate, dataset, disks, limit, network, notice, peer, plan, quarantine, replication,
    retention, scrub, setting, setup,
};
use crate::units::{ByteSize, parse_duration};

/// Backup for branch offices on thin lines: keeps backups deduplicated, and ships only what is new.
#[derive(Parser)]
#[command(name = "narrowboat", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Cli {
    /// Data folder: it picks the box.
    #[arg(long, global = true, env = "NARROWBOAT_DATA", default_value = "/var/lib/narrowboat", value_name = "DIR")]
    pub(super) data: PathBuf,
    /// Print facts as JSON, for programs.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = r#"A first backup:
  narrowboat serve --data /srv/box &           the box itself
  narrowboat share create office               a share; mount it: mount -t nfs -o port=2049,mountport=2049,nolock HOST:/office /mnt
  narrowboat snapshot create office            holds this moment
  narrowboat peer join CODE head-office:4433   CODE comes from `narrowboat peer invite` over there
  narrowboat replicate office --to head-office --wait
  narrowboat plan create office --to head-office --every 1h

narrowboat.toml in the data folder says who may do what; without it the box is there for this machine alone:
  nfs.listen = "0.0.0.0:2049"                  where clients reach it
  nfs.allow = ["192.168.7.0/24"]               who may mount
  share.office.root_squash = false             lets a client's root be root: backups keep their owners
  wan.listen = "0.0.0.0:4433"                  where other boxes reach it
  retention.quarantine_days = 7                what is deleted can be had back for so long
  store.drain_hours = "22:00-06:00"            when datasets with --dedup deferred are deduplicated

Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 no box runs there, 4 damage was found, 5 done, but a hook failed."#;

const ASSESS_HELP: &str = r#"A week of a file server:
  narrowboat assess /srv/office /srv/mail --every 5min --for 7d
  narrowboat assess report --line 20Mbit --html report.html

One look tells the first copy: narrowboat assess /srv/office"#;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the box in the foreground: NFS, iSCSI, replication and the control socket.
    ///
    /// A new box begins where the data folder has a narrowboat.toml, or with `--create`, which makes the folder, too: the place of a disk that
    /// is not mounted is left alone. Without a config file the box is there for this machine alone. `narrowboat stop`, SIGTERM or
    /// Ctrl-C end it in order: what was written is brought to its end first. A box that is killed, or loses power, loses nothing that a
    /// client was told is stable, and takes up the rest when it is started again.
    Serve {
        /// Config file [default: narrowboat.toml in the data folder]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Begins a new box in a folder that has neither a box nor a narrowboat.toml
        #[arg(long)]
        create: bool,
        /// Set-up file that a box takes which nobody has claimed yet; any other passes it over. See `narrowboat setup --help`
        #[arg(long, value_name = "FILE")]
        setup: Option<PathBuf>,
    },
    /// What a box is told once: its name, who may back up to it, what is kept, and where copies go.
    ///
    /// A set-up file says it (docs/formats/set-up.md). The page writes one; a new box that is started with `narrowboat serve --setup FILE` takes it
    /// without a screen.
    Setup {
        #[command(subcommand)]
        command: setup::SetupCommand,
    },
    /// The process that speaks with browsers. `serve` starts it.
    #[command(hide = true)]
    PageWorker,
    /// What the box holds, what it saves, and how far each peer is behind.
    ///
    /// Lines that begin with PROBLEM want somebody to do something, those with NOTICE are worth knowing. `live data` is what clients see
    /// now, `snapshots` what all of them would take if each were kept whole, `unique` what of that is left after deduplication, `stored` what that takes on
    /// the disk. Below are the datasets, the peers with their plans, and what is being sent.
    Status,
    /// Shares: file trees that are exported over NFS.
    #[command(subcommand)]
    Share(dataset::ShareCommand),
    /// Volumes: disks of a fixed size that take only the room of what is on them.
    #[command(subcommand)]
    Volume(dataset::VolumeCommand),
    /// Datasets: shares, volumes and replicas.
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Snapshots: moments of a dataset, held fast.
    #[command(subcommand)]
    Snapshot(dataset::SnapshotCommand),
    /// Show or set how far back a dataset can be taken to any moment, not only to snapshots.
    ///
    /// What was written is kept for so long, or as long as that takes no more than --bytes, whichever ends first: its part of the
    /// journal, and behind that its history, in which deduplicated data is by reference. What was written before the window was set is not in it. Where the disk gets full, the oldest of it goes before writes are refused.
    /// Shown is how far back the dataset can be taken now, what that costs, and why it ends there.
    Window {
        /// The dataset.
        dataset: String,
        /// How long, as in 24h or 7d.
        #[arg(long, value_parser = parse_duration, value_name = "TIME")]
        keep: Option<u64>,
        /// How much history and journal at most, as in 20GiB.
        #[arg(long)]
        bytes: Option<ByteSize>,
        /// Keep nothing any more.
        #[arg(long, conflicts_with_all = ["keep", "bytes"])]
        off: bool,
    },
    /// Mark this moment of a dataset, or of several at once, so that it can be named later.
    ///
    /// A mark is what a power cut would leave at that moment, unless the applications had nothing under way: say so
    /// with --quiet, or let a hook of the config file see to it. A hook is a command on the box, a command on a
    /// server over ssh, or an HTTP call. It freezes before and thaws after; a thaw that fails is tried again until it is done,
    /// also when the box was killed in between. Where a freeze fails the mark is set all the same, counts
    /// as crash-consistent and says so, and the exit code is 5.
    #[command(after_help = MARK_HELP)]
    Mark {
        /// The dataset.
        dataset: String,
        /// The mark's name.
        name: String,
        /// A dataset that is marked at the same moment; may be said again.
        #[arg(long = "with", value_name = "DATASET")]
        with: Vec<String>,
        /// The applications have nothing under way: the moment is consistent for them, too.
        #[arg(long)]
        quiet: bool,
        /// A hook that freezes the applications first and thaws them afterwards; several are frozen in this order.
        #[arg(long = "hook", value_name = "HOOK", conflicts_with = "quiet")]
        hooks: Vec<String>,
    },
    /// Call the thaw of a hook now, whether one is owed or not (`status` shows those that are).
    Thaw {
        /// The hook.
        hook: String,
        /// Call nothing: you have seen to it that nothing is frozen.
        #[arg(long)]
        forget: bool,
    },
    /// Show what a dataset can be taken back to: snapshots, marks, its window and what was written when.
    ///
    /// The chart has a row for each piece of the window: how much was written then, and which snapshots (s), consistent
    /// marks (M) and marks that are like a crash (m) lie in it. Any time in the window can be named where a MOMENT is asked for,
    /// as in `narrowboat rewind DATASET --to 2026-11-22T07:30:00Z`.
    Timeline {
        /// The dataset.
        dataset: String,
    },
    /// Take a dataset back to a moment. What the box has is not lost: a snapshot holds the present first.
    ///
    /// Whoever has the dataset mounted remembers the present, and would write it over the past: that damages a file system on a
    /// volume. So a volume that initiators are logged in to, and a share that connected clients have mounted, is not taken
    /// back: unmount it there (and log out), or make a new one with --as. What clients have not written yet is in no
    /// snapshot.
    Rewind {
        /// The dataset.
        dataset: String,
        /// A snapshot, a mark, a time such as 2026-11-22T07:30:00Z, or `now`.
        #[arg(long, value_name = "MOMENT")]
        to: String,
        /// Leave the dataset as it is, and make a new writable one as it was.
        #[arg(long = "as", value_name = "NEW", conflicts_with = "force")]
        new: Option<String>,
        /// Take it back although somebody uses it. Initiators are told (a unit attention); file systems take no notice.
        #[arg(long)]
        force: bool,
    },
    /// Make a writable dataset that starts as another one was at a moment. Takes no room.
    ///
    /// What both have in common is kept once; what is written to the one is not seen in the other. It is a share or a volume as its source is, has no
    /// window, plan or rules of its own yet, and can be made from a replica, too: so a lost office goes on where its backups are.
    Clone {
        /// DATASET@MOMENT: a snapshot, a mark, a time such as 2026-11-22T07:30:00Z, or `now`
        snapshot: String,
        /// The new dataset's name.
        name: String,
    },
    /// What changed between two snapshots, by path.
    ///
    /// A line a change: + added, - removed, M content, with the bytes that differ, a attributes alone, > renamed. Both have to be snapshots of
    /// datasets of this box. Takes as long as there are changes, however large the datasets are.
    Diff {
        /// The earlier, DATASET@NAME.
        from: String,
        /// The later, DATASET@NAME.
        to: String,
    },
    /// Bring files back out of the store, without a mount, or a volume as a raw image. Works with or without a running box.
    ///
    /// Every byte is verified before it is written. DEST must not exist or be an empty folder; for a volume it must not
    /// exist. Owners, modes, times, links and holes come back as they were, where whoever restores may set them. A replica is
    /// restored in the same way: `narrowboat restore branch/office@monday:/projects /srv/restored`.
    Restore {
        /// DATASET[@MOMENT][:PATH]: the newest state where no snapshot, mark or time is named, everything where no path is.
        source: String,
        /// Where to.
        dest: PathBuf,
    },
    /// Peers: other boxes that this one trusts.
    #[command(subcommand)]
    Peer(peer::PeerCommand),
    /// Send a snapshot to a peer: only what it lacks travels, and a broken transfer goes on where it stopped.
    ///
    /// It goes on by itself, over breaks of the line and restarts of the peer, until the peer has proved that it holds the same by an equal root; there it is the snapshot of a
    /// replica, called after this box. `narrowboat replication list` tells how far it is, and `narrowboat limit` how fast
    /// it may go. For what is to be sent again and again there are plans.
    Replicate {
        /// DATASET[@NAME]: the newest snapshot where none is named.
        source: String,
        /// The peer.
        #[arg(long, value_name = "PEER")]
        to: String,
        /// What it is to other traffic to the peer: `urgent` goes before, `scavenger` takes what others leave.
        #[arg(long, value_parser = ["urgent", "normal", "scavenger"], default_value = "normal")]
        class: String,
        /// Wait for the end, with progress; otherwise it goes on by itself and `status` shows it.
        #[arg(long)]
        wait: bool,
        /// Wait for the end, and say what was chosen by itself, and why.
        #[arg(long)]
        explain: bool,
    },
    /// Plans: datasets that go to peers by themselves.
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// What is being sent, and was.
    #[command(subcommand)]
    Replication(replication::ReplicationCommand),
    /// Which snapshots stay, and for how long.
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// What was deleted and can be had back: `dataset list --deleted` and `snapshot list --deleted` show it.
    #[command(subcommand)]
    Quarantine(quarantine::QuarantineCommand),
    /// Read everything that is kept, slowly, and find what is damaged before somebody needs it.
    ///
    /// The box begins one by itself every 30 days unless [scrub] in the config file says otherwise. What is damaged is no longer taken for known: the next
    /// backup of the same data brings it again, and heals it in every snapshot; and peers that have it are asked for it. `status` says so while there is any.
    #[command(subcommand)]
    Scrub(scrub::ScrubCommand),
    /// Cap what is sent on the wire, headers and repetitions included. Counts from the next datagram on.
    ///
    /// Three things can be said about a cap, and the first that applies counts: an override (--rate with --for), which is over by
    /// itself; a calendar of the week with exceptions by date; and the plain rate (--rate), for all other hours. What is said
    /// here is kept, and outranks the config file. A peer's cap counts below that of the box. The same can be said about what is received
    /// (--receive), which peers keep that are as new as this box.
    #[command(after_help = limit::HELP)]
    Limit {
        /// The peer; all traffic of the box where none is named.
        peer: Option<String>,
        /// As in 20Mbit, 512kbit, pause or unlimited; where nothing is to be changed, the present cap is shown.
        #[arg(long)]
        rate: Option<String>,
        /// Let the rate outrank everything else for so long, as in 30min, 2h or 3d, and then be forgotten.
        #[arg(long = "for", value_parser = parse_duration, value_name = "TIME", requires = "rate")]
        seconds: Option<u64>,
        /// A file with the calendar, `-` for standard input; `none` for no calendar.
        #[arg(long, value_name = "FILE")]
        calendar: Option<PathBuf>,
        /// End the override now.
        #[arg(long, conflicts_with = "seconds")]
        resume: bool,
        /// Forget everything that was said here: the config file counts again.
        #[arg(long, conflicts_with_all = ["rate", "calendar", "resume"])]
        as_configured: bool,
        /// Cap what is received instead of what is sent: peers are told, and keep it.
        #[arg(long, conflicts_with = "explain")]
        receive: bool,
        /// Say which rule holds now and until when, and when peers will have caught up.
        #[arg(long, conflicts_with_all = ["rate", "calendar", "resume", "as_configured"])]
        explain: bool,
    },
    /// Measure the line to a peer: round trip, loss, capacity both ways. Takes seconds, and little traffic.
    ///
    /// It takes half a megabyte each way at most, far less where the line is thin, and stays below all caps; a cap is therefore the most
    /// that it can find, and it says so. A box that is asked too often answers that it was probed just now. Of a peer whose software knows no probes it
    /// tells what traffic has shown.
    Probe {
        /// The peer.
        peer: String,
    },
    /// Prove every invariant of the store. Works with or without a running box.
    ///
    /// Every snapshot and every dataset is walked from its root: each object that is referred to has to be there, and each file's record to agree
    /// with its name. Everybody goes on meanwhile. The exit code is 4 where anything is wrong; what it is is listed.
    /// With --deep it takes as long as reading the whole store; `narrowboat scrub` does that slowly instead.
    Check {
        /// Read and verify every byte, too.
        #[arg(long)]
        deep: bool,
    },
    /// Give back the room of what nobody needs any more: deleted files, snapshots and datasets. Works with or without a running box.
    ///
    /// A running box does this by itself once a day, paced; everybody goes on meanwhile. Of what lies
    /// among needed things in one container, a twentieth of the whole may stay.
    Reclaim {
        /// Only tell how much that would be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Disks: the array below the data folder, with redundancy and encryption.
    ///
    /// It is made once (`make`), opened at boot (`open`), and looked after (`status`, `replace`, `check`, `key`). mdadm, cryptsetup and ext4 do the work. A box needs none of that: its data folder may
    /// lie on any file system. docs/disks.md tells what to buy and what to do when a disk dies.
    #[command(subcommand)]
    Disks(disks::DisksCommand),
    /// Who may sign in to the page, and how a new box is made one's own.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Who asked the box for what that changes something, the newest first.
    ///
    /// Through the page or here. Each entry that asks is followed by one that says what became of it. The log is a chain of hashes, so that what was
    /// changed in it shows.
    Audit {
        /// Only entries before this number.
        #[arg(long, value_name = "ENTRY")]
        before: Option<u64>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Which line an office needs, measured on its own data with nothing sent.
    ///
    /// Looks at paths again and again and finds, with the product's own cutting, packing and protocol, what a box would have sent of each change. Nothing is written to what
    /// is looked at. It needs no box, goes on where it stopped, and `narrowboat assess report` says what it comes to at any time.
    #[command(after_help = ASSESS_HELP)]
    Assess(assess::Assess),
    /// How the box did: what it held, sent and lagged behind over two days, two months or five years, and when its disk is full.
    Trends {
        /// Two days by five minutes, two months by hours, or five years by days.
        #[arg(long, value_enum, default_value_t = crate::trends::Span::Days)]
        span: crate::trends::Span,
    },
    /// What the box tells by itself: by mail, by a call over HTTPS, to a log server.
    ///
    /// A problem that lasts is told once, again every day, and when it is over. So is what somebody should know although nothing is wrong: who signed in from where
    /// nobody came from before, who became an administrator, what was deleted. [notices] in the config file says who is told; docs/notices.md has examples.
    #[command(subcommand)]
    Notice(notice::NoticeCommand),
    /// The network of this machine: addresses, VLAN, DNS and time servers, where the config file leaves them to the box.
    ///
    /// A change is tried for a minute and goes back by itself unless somebody reaches the box at its new address and keeps it. docs/network.md tells how, and
    /// what the box writes.
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// The certificate of the page, and the authority that gives it one.
    ///
    /// Without a command: which certificate the page shows, until when it counts, why no other was had, and what to do. docs/certificates.md tells how to have
    /// one that browsers trust.
    Certificate {
        #[command(subcommand)]
        command: Option<certificate::CertificateCommand>,
    },
    /// Settings of the config file that can be changed while the box runs.
    #[command(subcommand)]
    Setting(setting::SettingCommand),
    /// End the running box in order and start it again, with the config file as it is by now, and the program as it lies on the disk.
    Restart,
    /// End the running box in order, and wait until it has ended.
    ///
    /// Applications that a hook has frozen are thawed first, clients get their last answers, and what was written is brought to its end. When this returns,
    /// the data folder may be copied, or the box be started again.
    Stop,
}

const MARK_HELP: &str = r#"A database on a volume: PostgreSQL on the server db1, its data on /var/lib/postgresql, a file system on the volume disk1.
In narrowboat.toml, read when the box starts:

  [hook.postgres]
  ssh = "root@db1"
  freeze = ["fsfreeze", "--freeze", "/var/lib/postgresql"]
  thaw = ["fsfreeze", "--unfreeze", "/var/lib/postgresql"]
  freeze_timeout = "20s"

Then every hour:

  narrowboat mark disk1 "$(date +%F-%H)" --hook postgres

With `freeze = ["psql", "-c", "checkpoint"]` it keeps running, and has little to recover after a rewind. Several volumes
of one database are marked at one moment: narrowboat mark disk1 noon --with log1 --hook postgres"#;
