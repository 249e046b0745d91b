//! The running box: the only place that starts threads and tasks.
//!
//! ```text
//! store ◄── pump threads            drain whatever waits
//!   ▲ ◄──── NFS and iSCSI servers   their own threads
//!   ▲ ◄──── watch thread            tells initiators of sizes, volumes and room, every second
//!   ▲ ◄──── disk thread             tells the log of faults, and of a disk that is slow
//!   ▲ ◄──── notices thread        tells by itself what is wrong; and a thread for each way to tell it
//!   ▲ ◄──── certificates thread    has an authority give the page certificates, where there is one
//!   ▲ ◄──── network thread          has changes of the machine's network go back that nobody confirms
//!   ▲ ◄──── thaw thread             pays what hooks owe
//!   ▲ ◄──── caps thread             tells the link which caps count now
//!   ▲ ◄──── pace thread             where there are recovery points: how slowly they can still be met
//!   ▲ ◄──── plans thread            takes and sends the snapshots that go to peers by themselves, deletes those that no rule wants,
//!   ▲                               empties the quarantine, and keeps the clock that locks are measured by
//!   ▲ ◄──── scrub thread            reads everything now and then, before somebody needs it
//!   ▲ ◄──── heal thread             asks peers for what is damaged here
//!   ▲ ◄──── reclaim thread          gives back the room of what nobody needs, once a day
//!   ▲ ◄──── census thread           counts what deleting would free, once a day
//!   ▲ ◄──── link (tokio runtime)    QUIC, replications
//!   └ ◄──── control socket          one thread a request
//! ```
//!
//! [`Node::stop`] ends them in the opposite order of their need: front doors first, then replication, then the drain is
//! brought to its end and the store is closed. A box that is killed instead loses nothing stable.

mod doors;
mod options;
mod pump;
mod threads;

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use narrowboat_storage::store::OpenReport;
use narrowboat_storage::{Error, Store};
use narrowboat_wan::link::Link;

use crate::accounts::Accounts;
use crate::accounts::audit::{self, Audit};
use crate::announce::{self, Announcer};
use crate::backlog::Differences;
use crate::caps::Caps;
use crate::clock;
use crate::config::Config;
use crate::control::status::Latest;
use crate::control::{SOCKET, server};
use crate::disk::Disk;
use crate::heal::Healings;
use crate::hooks::Hooks;
use crate::ingest::iscsi;
use crate::ingest::nfs::Server;
use crate::jobs::census::Censuses;
use crate::jobs::checks::Checks;
use crate::jobs::reclaim::Reclaims;
use crate::jobs::recompress::Recompression;
use crate::losses::Losses;
use crate::network::Network;
use crate::notices::Notices;
use crate::page::Page;
use crate::plans::Plans;
use crate::policies::Policies;
use crate::quarantine::Quarantine;
use crate::refusals::Refusals;
use crate::repeats::Repeats;
use crate::retention::Retention;
use crate::scrub::Scrubs;
use crate::transfers::Transfers;
use crate::trends::Trends;
use crate::units::rfc3339;
use crate::users::Users;

use doors::{start_iscsi, start_link, start_nfs};
pub use options::{open_store, store_options};
use threads::{Threads, join};

/// How long clients have to take their last replies.
const CLIENT_GRACE: Duration = Duration::from_secs(5);

/// Why a box could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] Error),
    /// The config file says something impossible.
    #[error("{0}")]
    Config(String),
    /// A socket could not be opened.
    #[error("can't listen on {address} for {what}: {source}")]
    Listen {
        /// What for.
        what: &'static str,
        /// Where.
        address: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The link to peers.
    #[error(transparent)]
    Link(#[from] narrowboat_wan::link::LinkError),
    /// A thread or runtime could not be started.
    #[error("can't start {0}: {1}")]
    Thread(String, io::Error),
}

/// A running box.
pub struct Node {
    /// How it calls itself.
    pub name: String,
    /// Its data folder.
    pub data: PathBuf,
    /// Its config.
    pub config: Config,
    /// Its store.
    pub store: Arc<Store>,
    /// How its disk does.
    pub disk: Disk,
    /// The last status that was put together.
    pub latest: Latest,
    /// Its link to peers, if it has one.
    pub link: Option<Link>,
    /// What was said about caps.
    pub caps: Arc<Caps>,
    /// How much snapshots differ.
    pub differences: Differences,
    /// Where NFS is served, if it is.
    pub nfs_address: Option<SocketAddr>,
    /// Where iSCSI is served.
    pub iscsi_addresses: Vec<SocketAddr>,
    /// The page for people, where there is one.
    pub page: Option<Page>,
    /// The network of its machine.
    pub network: Network,
    /// By which name neighbours find it.
    pub announcer: Announcer,
    /// Who may do what through it.
    pub accounts: Accounts,
    /// What programs asked for that is done once.
    pub repeats: Repeats,
    /// Who asked for what.
    pub audit: Audit,
    /// What it tells by itself.
    pub notices: Notices,
    /// How it did over time.
    pub trends: Trends,
    /// What datasets lost.
    pub losses: Losses,
    /// What peers were refused.
    pub refusals: Arc<Refusals>,
    /// Who uses what.
    pub users: Users,
    /// Replications.
    pub transfers: Transfers,
    /// What goes to peers by itself.
    pub plans: Plans,
    /// Which snapshots stay.
    pub retention: Retention,
    /// What was deleted and can be had back.
    pub quarantine: Quarantine,
    /// What deleting would free.
    pub censuses: Censuses,
    /// What is old is compressed once more.
    pub recompression: Recompression,
    /// Reading everything now and then.
    pub scrubs: Scrubs,
    /// Gives back the room of what nobody needs.
    pub reclaims: Reclaims,
    /// Checks that somebody asked for and does not wait for.
    pub checks: Checks,
    /// Asking peers for what is damaged here.
    pub healings: Healings,
    /// What quiets applications around a mark.
    pub hooks: Hooks,
    /// Looks after datasets that are deduplicated later.
    pub policies: Policies,
    /// What opening the store found.
    pub opened: OpenReport,
    runtime: tokio::runtime::Runtime,
    stopping: AtomicBool,
    restarting: AtomicBool,
    stalled: Mutex<Option<String>>,
    /// Connections of those who wait for the end.
    farewells: Mutex<Vec<UnixStream>>,
}

/// What has to be ended when the node stops.
pub struct Running {
    node: Arc<Node>,
    nfs: Option<Server>,
    iscsi: Option<iscsi::Server>,
    control: server::ControlServer,
    threads: Threads,
}

impl Node {
    /// Starts a box in `data`, which is created where it does not exist.
    pub fn start(data: &Path, config: Config) -> Result<Running, StartError> {
        let disk = Disk::default();
        let (store, opened) = options::open_watched(data, &config, disk.notes())?;
        let store = Arc::new(store);
        let name = config.name.clone().or_else(host_name);
        let name = name.unwrap_or_else(|| announce::default_name(&store.id().to_string()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("link")
            .enable_all()
            .build()
            .map_err(|error| StartError::Thread("the runtime".into(), error))?;
        let caps = Arc::new(Caps::new(store.clone(), &config));
        let refusals = Arc::new(Refusals::new(store.clone()));
        let link = start_link(&runtime, data, &config, &name, &caps, &store, &refusals)?;
        let shares = start_nfs(&store, &config)?;
        let front = start_iscsi(&store, &config)?;
        let page = Page::open(data, &config, &name).map_err(|source| StartError::Listen {
            what: "the page",
            address: config.page.address().map(|address| address.to_string()).unwrap_or_default(),
            source,
        })?;
        let accounts = Accounts::new(store.clone(), name.clone());
        let audit = Audit::open(data, &rfc3339(clock::now()), disk.notes()).map_err(|error| {
            Error::from(narrowboat_storage::error::Environment::Io {
                operation: "open",
                file: audit::FOLDER.into(),
                source: error,
            })
        })?;
        let network = Network::open(data, &config.network);
        let losses = Losses::open(data, config.notices.lost_percent());
        let notices = Notices::open(data, &config, &name, store.id().to_string(), &audit);
        let users = Users::new(front.targets.clone(), shares.users());
        let policies = Policies::new(&config);
        let plans = Plans::new(store.clone(), &config);
        let retention = Retention::new(store.clone(), &config);
        let scrubs = Scrubs::new(store.clone(), &config);
        let censuses = Censuses::new(store.clone());
        let recompression = Recompression::new(store.clone(), &config);
        let reclaims = Reclaims::new(store.clone(), &config);
        let healings = Healings::new(store.clone());
        let hooks = Hooks::new(store.clone(), config.hook.clone());
        let node = Arc::new(Node {
            name,
            data: data.to_owned(),
            config,
            store,
            disk,
            latest: Latest::default(),
            link,
            caps,
            differences: Differences::default(),
            nfs_address: shares.address,
            iscsi_addresses: front.addresses,
            page,
            network,
            announcer: Announcer::default(),
            accounts,
            repeats: Repeats::open(data, u64::try_from(clock::wall().seconds()).unwrap_or_default()),
            audit,
            notices,
            trends: Trends::open(data),
            losses,
            refusals,
            users,
            transfers: Transfers::default(),
            plans,
            retention,
            quarantine: Quarantine::default(),
            censuses,
            recompression,
            scrubs,
            reclaims,
            checks: Checks::default(),
            healings,
            hooks,
            policies,
            opened,
            runtime,
            stopping: AtomicBool::new(false),
            restarting: AtomicBool::new(false),
            stalled: Mutex::default(),
            farewells: Mutex::default(),
        });
        let threads = Threads::start(&node, front.targets)?;
        let control = server::ControlServer::start(node.clone(), data).map_err(|source| StartError::Listen {
            what: "control",
            address: SOCKET.into(),
            source,
        })?;
        Ok(Running { node, nfs: shares.server, iscsi: front.server, control, threads })
    }

    /// Lets this thread call what starts tasks of the link, as long as the guard lives.
    pub fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime.enter()
    }

    /// Runs a future of the link to its end, from a thread that may block.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs a task beside everything else.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Asks the box to end; whoever holds [`Running`] ends it.
    pub fn ask_to_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Asks the box to end and to be started again.
    pub fn ask_to_restart(&self) {
        self.restarting.store(true, Ordering::Release);
        self.ask_to_stop();
    }

    /// True once the box was asked to be started again when it has ended.
    pub fn is_restarting(&self) -> bool {
        self.restarting.load(Ordering::Acquire)
    }

    /// Keeps a connection open until the node, or its process, has ended: its end tells that.
    pub fn say_farewell(&self, stream: UnixStream) {
        self.farewells.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    /// True once the box was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// What the last drain step failed with, if it did.
    pub fn stalled(&self) -> Option<String> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Running {
    /// The box.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Ends everything in order; all that was written is drained and the store is closed.
    pub fn stop(self) -> Result<(), Error> {
        let Running { node, nfs, iscsi, control, threads } = self;
        node.ask_to_stop();
        control.stop();
        node.notices.stop();
        if let Some(page) = &node.page {
            page.stop();
        }
        // While the front doors are open: what thaws writes to its volume.
        node.hooks.stop();
        join(threads.thawer);
        if let Some(server) = nfs {
            server.stop(CLIENT_GRACE);
        }
        if let Some(server) = iscsi {
            server.stop(CLIENT_GRACE);
        }
        node.healings.stop();
        threads.lookers.into_iter().for_each(join);
        node.transfers.cancel_all();
        if let Some(link) = &node.link {
            node.block_on(link.shutdown());
        }
        node.refusals.flush();
        node.store.stop_waiting();
        threads.pumps.into_iter().for_each(join);
        node.store.close(clock::now())
    }
}

/// The machine's name, where it has one of its own.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim().to_owned()).filter(|name| !announce::is_nobodys(name))
}
