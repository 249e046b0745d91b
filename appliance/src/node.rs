//! The running box: the only place that starts threads and tasks.
//!
//! ```text
//! store ◄── pump threads            drain whatever waits
//!   ▲ ◄──── NFS and iSCSI servers   their own threads
//!   ▲ ◄──── watch thread            tells initiators of sizes, volumes and room, every second
//!   ▲ ◄──── thaw thread             pays what hooks owe
//!   ▲ ◄──── caps thread             tells the link which caps count now
//!   ▲ ◄──── pace thread             where there are recovery points: how slowly they can still be met
//!   ▲ ◄──── plans thread            takes and sends the snapshots that go to peers by themselves, and deletes those that no rule wants
//!   ▲ ◄──── reclaim thread          gives back the room of what nobody needs, once a day
//!   ▲ ◄──── link (tokio runtime)    QUIC, replications
//!   └ ◄──── control socket          one thread a request
//! ```
//!
//! [`Node::stop`] ends them in the opposite order of their need: front doors first, then replication, then the drain is
//! brought to its end and the store is closed. A box that is killed instead loses nothing stable.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use narrowboat_storage::chunk::ChunkSizes;
use narrowboat_storage::error::{Environment, Refusal};
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::name::Realm;
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::{Error, Store, StoreOptions, tree};
use narrowboat_wan::link::{Identity, Link, LinkConfig};
use narrowboat_wan::peer::PeerName;

use crate::backlog::Differences;
use crate::caps::{self, Caps, Way};
use crate::clock;
use crate::config::{Config, OVERLAY_BYTES_MIN};
use crate::control::{SOCKET, server};
use crate::hooks::Hooks;
use crate::ingest::exports::{StoreExports, check_networks};
use crate::ingest::iscsi;
use crate::ingest::nfs::portmap::Portmap;
use crate::ingest::nfs::rpc::Service;
use crate::ingest::nfs::{HandleKey, Hosts, Server, ServerConfig, Session};
use crate::ingest::volumes::StoreTargets;
use crate::jobs::reclaim::{self, Reclaims};
use crate::pace;
use crate::plans::{self, Plans};
use crate::policies::Policies;
use crate::refusals::Refusals;
use crate::replicas::{Replicas, peers};
use crate::retention::Retention;
use crate::scrub::Scrubs;
use crate::transfers::Transfers;
use crate::users::Users;

/// Threads that drain.
const PUMPS: usize = 2;
/// How long a pump sleeps where nothing calls it.
const PUMP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a pump that could not work waits before it tries again.
const PUMP_RETRY: Duration = Duration::from_secs(2);
/// How often it is looked at what initiators are to be told without having asked.
const WATCH: Duration = Duration::from_secs(1);
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
    Thread(&'static str, io::Error),
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
    /// Reading everything now and then.
    pub scrubs: Scrubs,
    /// Gives back the room of what nobody needs.
    pub reclaims: Reclaims,
    /// What quiets applications around a mark.
    pub hooks: Hooks,
    /// Looks after datasets that are deduplicated later.
    pub policies: Policies,
    /// What opening the store found.
    pub opened: OpenReport,
    runtime: tokio::runtime::Runtime,
    stopping: AtomicBool,
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
    pumps: Vec<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
    caps: JoinHandle<()>,
    pacer: Option<JoinHandle<()>>,
    planner: JoinHandle<()>,
    scrubber: JoinHandle<()>,
    reclaimer: JoinHandle<()>,
    thawer: JoinHandle<()>,
}

/// The options of a store that a config asks for.
pub fn store_options(config: &Config) -> Result<StoreOptions, StartError> {
    let mut options = StoreOptions::default();
    if let Some(bytes) = config.store.chunk_bytes {
        options.chunk_sizes = ChunkSizes::around(bytes)?;
    }
    if let Some(cache) = config.store.cache {
        options.pool.cache_bytes = cache.0 as usize;
    }
    if let Some(overlay) = config.store.overlay {
        options.pressure.block_bytes = overlay.0.max(OVERLAY_BYTES_MIN);
        options.pressure.freeze_bytes = options.pressure.block_bytes / 2;
    }
    if let Some(deferred) = config.store.deferred {
        options.pressure.deferred_bytes = deferred.0;
    }
    if let Some(reserve) = config.store.reserve {
        options.reserve_bytes = reserve.0;
    }
    if let Some(file) = &config.store.realm_key_file {
        options.realm = read_realm(file)?;
    }
    Ok(options)
}

fn read_realm(file: &Path) -> Result<Realm, StartError> {
    let wrong = |why: String| StartError::Config(format!("store.realm_key_file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let digits = text.trim();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(byte).collect();
    match bytes.map(<[u8; 32]>::try_from) {
        Some(Ok(secret)) if digits.len() == 64 => Ok(Realm::new(secret)),
        _ => Err(wrong("expected 64 hexadecimal digits".into())),
    }
}

/// Opens the store in a data folder, as the box itself does, for commands that work without a running box.
pub fn open_store(data: &Path, config: &Config) -> Result<(Store, OpenReport), StartError> {
    let media = FileMedia::open(data)?;
    Ok(Store::open(Arc::new(media), store_options(config)?)?)
}

impl Node {
    /// Starts a box in `data`, which is created where it does not exist.
    pub fn start(data: &Path, config: Config) -> Result<Running, StartError> {
        check_networks(&config).map_err(StartError::Config)?;
        let name = config.name.clone().unwrap_or_else(host_name);
        let (store, opened) = open_store(data, &config)?;
        let store = Arc::new(store);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("link")
            .enable_all()
            .build()
            .map_err(|error| StartError::Thread("the runtime", error))?;
        let caps = Arc::new(Caps::new(store.clone(), &config));
        let refusals = Arc::new(Refusals::new(store.clone()));
        let link = start_link(&runtime, data, &config, &name, &caps, &store, &refusals)?;
        let shares = start_nfs(&store, &config)?;
        let front = start_iscsi(&store, &config)?;
        let users = Users::new(front.targets.clone(), shares.users());
        let policies = Policies::new(&config);
        let plans = Plans::new(store.clone(), &config);
        let retention = Retention::new(store.clone(), &config);
        let scrubs = Scrubs::new(store.clone(), &config);
        let reclaims = Reclaims::new(store.clone(), &config);
        let hooks = Hooks::new(store.clone(), config.hook.clone());
        let node = Arc::new(Node {
            name,
            data: data.to_owned(),
            config,
            store,
            link,
            caps,
            differences: Differences::default(),
            nfs_address: shares.address,
            iscsi_addresses: front.addresses,
            refusals,
            users,
            transfers: Transfers::default(),
            plans,
            retention,
            scrubs,
            reclaims,
            hooks,
            policies,
            opened,
            runtime,
            stopping: AtomicBool::new(false),
            stalled: Mutex::default(),
            farewells: Mutex::default(),
        });
        let pumps = (0..PUMPS).map(|number| start_pump(node.clone(), number)).collect::<Result<_, _>>()?;
        let watch = front.targets.map(|targets| start_watch(node.clone(), targets)).transpose()?;
        let caps = start_caps(node.clone())?;
        let pacer = node.caps.have_recovery_points().then(|| start_pacer(node.clone())).transpose()?;
        let planner = start_planner(node.clone())?;
        let scrubber = start_scrubber(node.clone())?;
        let reclaimer = start_reclaimer(node.clone())?;
        let thawer = start_thawer(node.clone())?;
        let control = server::ControlServer::start(node.clone(), data).map_err(|source| StartError::Listen {
            what: "control",
            address: SOCKET.into(),
            source,
        })?;
        Ok(Running {
            node,
            nfs: shares.server,
            iscsi: front.server,
            control,
            pumps,
            watch,
            caps,
            pacer,
            planner,
            scrubber,
            reclaimer,
            thawer,
        })
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

    fn pump(&self) {
        let mut unsplit = None;
        while self.store.wait_for_work(PUMP_PATIENCE) {
            let outcome = self.drain();
            let stalled = outcome.as_ref().err().map(ToString::to_string);
            let mut known = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
            if *known != stalled {
                match &stalled {
                    Some(why) => tracing::error!(why, "the drain stands still"),
                    None => tracing::info!("the drain goes on"),
                }
                *known = stalled;
            }
            drop(known);
            let problem = self.store.split_problem();
            if unsplit != problem {
                match &problem {
                    Some(why) => tracing::error!(why, "the journal can't be split for windows, and grows"),
                    None => tracing::info!("the journal is split again"),
                }
                unsplit = problem;
            }
            // What is damaged in one dataset must not keep the others waiting.
            let again_later = matches!(outcome, Err(Error::Environment(Environment::Full) | Error::Damage(_)));
            if again_later && self.store.is_stalled() {
                std::thread::sleep(PUMP_RETRY);
            }
        }
    }

    fn drain(&self) -> Result<(), Error> {
        self.policies.look(&self.store, &self.config, clock::now());
        while self.store.drain_step(clock::now())? {
            self.policies.look(&self.store, &self.config, clock::now());
        }
        Ok(())
    }
}

impl Running {
    /// The box.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Ends everything in order; all that was written is drained and the store is closed.
    pub fn stop(self) -> Result<(), Error> {
        let Running { node, nfs, iscsi, control, pumps, watch, caps, pacer, planner, scrubber, reclaimer, thawer } =
            self;
        node.ask_to_stop();
        control.stop();
        // While the front doors are open: what thaws writes to its volume.
        node.hooks.stop();
        if thawer.join().is_err() {
            tracing::error!("the thread that thaws had panicked");
        }
        if let Some(server) = nfs {
            server.stop(CLIENT_GRACE);
        }
        if let Some(server) = iscsi {
            server.stop(CLIENT_GRACE);
        }
        if let Some(watch) = watch {
            watch.thread().unpark();
            if watch.join().is_err() {
                tracing::error!("the watch thread had panicked");
            }
        }
        for thread in pacer.into_iter().chain([caps, planner, scrubber, reclaimer]) {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("a thread of the caps, plans or reclaim had panicked");
            }
        }
        node.transfers.cancel_all();
        if let Some(link) = &node.link {
            node.block_on(link.shutdown());
        }
        node.refusals.flush();
        node.store.stop_waiting();
        for pump in pumps {
            if pump.join().is_err() {
                tracing::error!("a pump thread had panicked");
            }
        }
        node.store.close(clock::now())
    }
}

/// A pump that panics may hold a dataset that nobody can drain any more: writers would wait for ever. Without the thread that
/// thaws, an application might stand still for ever; without the one of the caps, the line might carry too much. The box ends at once instead, and recovers from its journal when it is
/// started again.
struct EndsWithThread;

impl Drop for EndsWithThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread met a mistake of the program; the box ends and recovers at its next start");
            std::process::abort();
        }
    }
}

fn start_pump(node: Arc<Node>, number: usize) -> Result<JoinHandle<()>, StartError> {
    let builder = std::thread::Builder::new().name(format!("pump-{number}"));
    let pump = move || {
        let _ends = EndsWithThread;
        node.pump();
    };
    builder.spawn(pump).map_err(|error| StartError::Thread("a pump", error))
}

fn start_thawer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    let thawer = move || {
        let _ends = EndsWithThread;
        node.hooks.pay_what_is_due();
    };
    let builder = std::thread::Builder::new().name("thaw".into());
    builder.spawn(thawer).map_err(|error| StartError::Thread("the thread that thaws", error))
}

fn start_caps(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    let keep = move || {
        let _ends = EndsWithThread;
        let Some(link) = &node.link else { return };
        while !node.is_stopping() {
            node.caps.apply(link);
            std::thread::park_timeout(caps::EVERY);
        }
    };
    let started = std::thread::Builder::new().name("caps".into()).spawn(keep);
    started.map_err(|error| StartError::Thread("the thread of the caps", error))
}

fn start_pacer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    let keep = move || {
        let _ends = EndsWithThread;
        let Some(link) = &node.link else { return };
        while !node.is_stopping() {
            pace::look(&node, link);
            std::thread::park_timeout(pace::EVERY);
        }
    };
    let started = std::thread::Builder::new().name("pace".into()).spawn(keep);
    started.map_err(|error| StartError::Thread("the thread of the paces", error))
}

fn start_scrubber(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    let keep = move || {
        let _ends = EndsWithThread;
        while !node.is_stopping() {
            std::thread::park_timeout(node.scrubs.look(clock::now()));
        }
    };
    let started = std::thread::Builder::new().name("scrub".into()).spawn(keep);
    started.map_err(|error| StartError::Thread("the thread of the scrubs", error))
}

fn start_planner(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    let keep = move || {
        let _ends = EndsWithThread;
        let mut looked = Instant::now();
        while !node.is_stopping() {
            // By a clock that nobody can set: locks are measured by it.
            let passed = looked.elapsed();
            looked += passed;
            if let Err(error) = node.store.run_on(passed, clock::now()) {
                tracing::warn!(%error, "how long the box ran could not be kept: locks last longer if it ends now");
            }
            if let Some(link) = &node.link {
                node.plans.look(&node, link);
            }
            node.retention.look(&node);
            std::thread::park_timeout(plans::EVERY);
        }
    };
    let started = std::thread::Builder::new().name("plans".into()).spawn(keep);
    started.map_err(|error| StartError::Thread("the thread of the plans", error))
}

fn start_reclaimer(node: Arc<Node>) -> Result<JoinHandle<()>, StartError> {
    let keep = move || {
        while !node.is_stopping() {
            node.reclaims.look(&|| node.is_stopping());
            std::thread::park_timeout(reclaim::EVERY);
        }
    };
    let started = std::thread::Builder::new().name("reclaim".into()).spawn(keep);
    started.map_err(|error| StartError::Thread("the thread of reclaim", error))
}

/// The NFS front door: nothing where it is off.
#[derive(Default)]
struct NfsFront {
    server: Option<Server>,
    session: Option<Arc<Session>>,
    address: Option<SocketAddr>,
}

impl NfsFront {
    fn users(&self) -> Option<(Arc<Session>, Hosts)> {
        Some((self.session.clone()?, self.server.as_ref()?.hosts()))
    }
}

fn start_nfs(store: &Arc<Store>, config: &Config) -> Result<NfsFront, StartError> {
    let Some(address) = config.nfs_address() else { return Ok(NfsFront::default()) };
    let failed =
        |what, address: SocketAddr| move |source| StartError::Listen { what, address: address.to_string(), source };
    let exports = Arc::new(StoreExports::new(store.clone(), config.clone()));
    let session = Arc::new(Session::new(exports, HandleKey::new(&store.id().0)));
    let listener = TcpListener::bind(address).map_err(failed("NFS", address))?;
    let local = listener.local_addr().map_err(failed("NFS", address))?;
    let mut streams: Vec<(TcpListener, Arc<dyn Service>)> = vec![(listener, session.clone())];
    let mut datagrams: Vec<(UdpSocket, Arc<dyn Service>)> = Vec::new();
    if let Some(asked) = config.portmap_address() {
        let portmap = Arc::new(Portmap::new(local.port()));
        streams.push((TcpListener::bind(asked).map_err(failed("the portmapper", asked))?, portmap.clone()));
        datagrams.push((UdpSocket::bind(asked).map_err(failed("the portmapper", asked))?, portmap));
    }
    let server = Server::start(ServerConfig::new(Arc::new(clock::now)), streams, datagrams)
        .map_err(|error| StartError::Thread("the NFS server", error))?;
    Ok(NfsFront { server: Some(server), session: Some(session), address: Some(local) })
}

fn start_watch(node: Arc<Node>, targets: Arc<StoreTargets>) -> Result<JoinHandle<()>, StartError> {
    let watch = move || {
        while !node.is_stopping() {
            targets.look();
            std::thread::park_timeout(WATCH);
        }
    };
    let started = std::thread::Builder::new().name("watch".into()).spawn(watch);
    started.map_err(|error| StartError::Thread("the watch", error))
}

/// The iSCSI front door: nothing where it is off.
#[derive(Default)]
struct IscsiFront {
    server: Option<iscsi::Server>,
    targets: Option<Arc<StoreTargets>>,
    addresses: Vec<SocketAddr>,
}

fn start_iscsi(store: &Arc<Store>, config: &Config) -> Result<IscsiFront, StartError> {
    let bind = |address: &SocketAddr| {
        let failed = |source| StartError::Listen { what: "iSCSI", address: address.to_string(), source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok((listener, local))
    };
    let bound: Vec<_> = config.iscsi_addresses().iter().map(bind).collect::<Result<_, StartError>>()?;
    let (portals, addresses): (Vec<_>, Vec<_>) = bound.into_iter().unzip();
    // Wrong rules are told also where nothing is served by them yet.
    let targets = StoreTargets::new(store.clone(), config.clone(), addresses.clone()).map_err(StartError::Config)?;
    if portals.is_empty() {
        return Ok(IscsiFront::default());
    }
    let targets = Arc::new(targets);
    let server = iscsi::Server::start(iscsi::ServerConfig::default(), targets.clone(), portals)
        .map_err(|error| StartError::Thread("the iSCSI server", error))?;
    Ok(IscsiFront { server: Some(server), targets: Some(targets), addresses })
}

fn start_link(
    runtime: &tokio::runtime::Runtime,
    data: &Path,
    config: &Config,
    name: &str,
    caps: &Arc<Caps>,
    store: &Arc<Store>,
    refusals: &Arc<Refusals>,
) -> Result<Option<Link>, StartError> {
    let Some(listen) = config.wan_address() else { return Ok(None) };
    let identity = Identity::load_or_create(&data.join("identity.key"), rand::random)?;
    let name: PeerName = name.parse().map_err(|error: Refusal| StartError::Config(error.to_string()))?;
    let realm = store.realm().clone();
    let mut link = LinkConfig::new(listen, identity, name, realm, store.id(), tree::spans);
    link.limit = caps.limit_at(Way::Sent, None, clock::wall());
    link.extra_bytes = config.wan.overhead_bytes.into();
    link.marks = config.wan.dscp.marks().map_err(StartError::Config)?;
    link.limits.compression = config.wan.compression().map_err(StartError::Config)?;
    link.limits.delta = config.wan.delta;
    link.limits.resemblance = config.wan.resemblance;
    link.require_proofs = config.wan.require_proofs;
    link.peers = peers(store);
    let replicas = Replicas::new(store.clone(), caps.clone(), refusals.clone(), config);
    Ok(Some(runtime.block_on(Link::bind(link, Arc::new(replicas)))?))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "narrowboat".into() } else { name.trim().to_owned() }
}
