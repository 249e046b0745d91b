//! Sockets, threads, memory and deadlines: the rim of every RPC program, knowing none of them.
//!
//! Workers wait for events of all connections together. A worker that is woken reads one record, lets another worker
//! read on, carries the call out itself, and writes the reply: one call on an idle connection never changes threads, many
//! calls run concurrently and are answered as they end. Brief calls that arrived together it carries out in a row. Replies
//! that wait for a sync are gathered, and one worker waits for all of them. Calls may block; when no worker is left
//! waiting one more is started, up to a bound. Not all of them carry out calls that may take long: such a call needs a place, and
//! waits in its connection until there is one, while the connection is read on.
//!
//! ```text
//! acceptor ── new connections, datagrams, deadlines
//! worker ──┬─ wait ─ read a record ─ arm for the next ─ call ─ write the reply ─ settle what is owed ─┐
//!          │             └──◀── the next one, after a brief call ──◀──┘                                │
//!          └───────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What bounds what:
//!
//! * workers that may be held for long: three quarters of [`ServerConfig::workers_max`] (`places.rs`);
//! * bytes under way, over all connections: reading stops at [`ServerConfig::memory_bytes`];
//! * what one host takes of both: no more than is left, so that it does not take what others need;
//! * strangers, hosts that the program has nothing for: they have [`ServerConfig::strangers_max`] connections, are closed
//!   after [`ServerConfig::stranger_idle`], and may send what fits into the 32 KiB that every connection reads through;
//! * calls and unsent replies of one connection: reading from it stops;
//! * a client that takes no replies or ends no record: closed after [`ServerConfig::stall`]. While others wait for the
//!   memory that it holds, one that moves fewer than [`ServerConfig::crawl_bytes`] in [`ServerConfig::crawl_window`] is
//!   closed;
//! * connections: one of the host that holds the most makes room ([`slots`]), else the newcomer is closed;
//! * idle connections: closed after [`ServerConfig::idle`]; NFS clients come back by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use narrowboat_storage::units::Timestamp;
use rustix::event::{EventfdFlags, epoll, eventfd};

use super::rpc::Service;
use super::xdr::Message;
use crate::ingest::buffers::{Budget, Pool};
use crate::ingest::places::Places;
use connection::Connection;

mod acceptor;
mod connection;
mod debts;
mod places;
mod slots;
#[cfg(test)]
mod tests;
mod worker;

/// The event that is no connection's: wake up and look whether the server stops.
const WAKE: u64 = u64::MAX;

/// Bounds, deadlines and the clock.
#[derive(Clone)]
pub struct ServerConfig {
    /// Most connections at once.
    pub connections_max: usize,
    /// Most connections of hosts that the program has nothing for, within those.
    pub strangers_max: usize,
    /// Most threads that carry out calls. From four on some of them are kept free of calls that may take long.
    pub workers_max: usize,
    /// Most calls of one connection under way.
    pub connection_calls_max: usize,
    /// Replies of one connection that wait for their client, in bytes, from which on no more of its calls are read.
    pub connection_reply_bytes_max: usize,
    /// Bytes under way over all connections from which on no more calls are read, and from a host that alone holds half of them.
    pub memory_bytes: usize,
    /// How long a connection may say nothing while nothing is owed to it.
    pub idle: Duration,
    /// The same for hosts that the program has nothing for.
    pub stranger_idle: Duration,
    /// How long a client may take to send more of a begun record, or to take more of its replies.
    pub stall: Duration,
    /// How often a client that holds memory is judged while others wait for memory.
    pub crawl_window: Duration,
    /// What it has to have moved meanwhile, in bytes.
    pub crawl_bytes: usize,
    /// The box's guarded clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl ServerConfig {
    /// The bounds that the box runs with.
    pub fn new(clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        ServerConfig {
            connections_max: 512,
            strangers_max: 32,
            workers_max: 128,
            connection_calls_max: 256,
            connection_reply_bytes_max: 8 << 20,
            memory_bytes: 64 << 20,
            idle: Duration::from_secs(30 * 60),
            stranger_idle: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            // A tenth of what a line of 1 Mbit/s carries.
            crawl_window: Duration::from_secs(5),
            crawl_bytes: 64 << 10,
            clock,
        }
    }
}

/// What a server is doing at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Open connections.
    pub connections: usize,
    /// Threads that carry out calls.
    pub workers: usize,
    /// Bytes under way over all connections.
    pub bytes_under_way: usize,
}

/// A running server. Dropped, it stops at once.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

/// Tells which hosts are connected to a server; none once it is gone.
#[derive(Clone)]
pub struct Hosts(Weak<Shared>);

impl Hosts {
    /// The hosts that are connected now.
    pub fn connected(&self) -> BTreeSet<IpAddr> {
        let connections = self.0.upgrade().map(|shared| shared.connections()).unwrap_or_default();
        connections.iter().map(|connection| connection.peer.client.ip().to_canonical()).collect()
    }
}

/// What the threads share.
struct Shared {
    config: ServerConfig,
    epoll: OwnedFd,
    wake: OwnedFd,
    pool: Arc<Pool>,
    budget: Arc<Budget>,
    places: Places,
    connections: RwLock<BTreeMap<u64, Arc<Connection>>>,
    /// Connections that are not read from until memory is free.
    parked: Mutex<BTreeSet<u64>>,
    /// Workers that wait for events.
    waiting: AtomicUsize,
    workers: Mutex<usize>,
    worker_left: Condvar,
    debts: debts::Debts,
    /// No new connections are taken.
    refusing: AtomicBool,
    /// No more calls are read, and what nothing is owed to is closed. Only after `refusing` took effect: whoever is closed
    /// comes back at once, and is not to find a listener that nobody listens to any more.
    stopping: AtomicBool,
}

impl Server {
    /// Serves streams and datagrams until it is stopped. The sockets are bound by the caller.
    pub fn start(
        config: ServerConfig,
        streams: Vec<(TcpListener, Arc<dyn Service>)>,
        datagrams: Vec<(UdpSocket, Arc<dyn Service>)>,
    ) -> io::Result<Server> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let shared = Arc::new(Shared {
            budget: Arc::new(Budget::new(config.memory_bytes)),
            places: Places::new(places::count(config.workers_max)),
            config,
            epoll,
            wake,
            pool: Arc::default(),
            connections: RwLock::default(),
            parked: Mutex::default(),
            waiting: AtomicUsize::new(0),
            workers: Mutex::new(0),
            worker_left: Condvar::new(),
            debts: debts::Debts::default(),
            refusing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        });
        for _ in 0..2.min(shared.config.workers_max.max(1)) {
            worker::start(&shared)?;
        }
        let acceptor = acceptor::start(shared.clone(), streams, datagrams)?;
        Ok(Server { shared, acceptor: Some(acceptor) })
    }

    /// Tells which hosts are connected.
    pub fn hosts(&self) -> Hosts {
        Hosts(Arc::downgrade(&self.shared))
    }

    /// What it is doing at the moment.
    pub fn status(&self) -> ServerStatus {
        ServerStatus {
            connections: self.shared.connections().len(),
            workers: *lock(&self.shared.workers),
            bytes_under_way: self.shared.budget.used(),
        }
    }

    /// Stops accepting and reading, lets calls under way end and their replies be taken for at most `grace`, closes all
    /// connections and waits for the threads. A worker that storage holds longer than that is left to end by itself.
    pub fn stop(mut self, grace: Duration) {
        self.halt(grace);
    }

    fn halt(&mut self, grace: Duration) {
        let Some(acceptor) = self.acceptor.take() else { return };
        let shared = &self.shared;
        let deadline = Instant::now() + grace;
        shared.refusing.store(true, SeqCst);
        shared.wake_all();
        // A panic in it was reported when it happened.
        let _ = acceptor.join();
        shared.stopping.store(true, SeqCst);
        while Instant::now() < deadline && shared.close_idle() > 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
        for connection in shared.connections() {
            shared.close(&connection);
        }
        let deadline = deadline.max(Instant::now() + Duration::from_millis(500));
        let mut workers = lock(&shared.workers);
        while *workers > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(workers = *workers, "NFS workers are still held by storage");
                return;
            }
            workers = shared.worker_left.wait_timeout(workers, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.halt(Duration::ZERO);
    }
}

impl Shared {
    fn is_refusing(&self) -> bool {
        self.refusing.load(SeqCst)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn connection(&self, id: u64) -> Option<Arc<Connection>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Makes every thread look up: the event stays until somebody reads it, which nobody does.
    fn wake_all(&self) {
        // It can only fail where the counter is full, and then everybody is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Closes connections that nothing is owed to, and says how many are left.
    fn close_idle(&self) -> usize {
        let all = self.connections();
        let idle = |connection: &&Arc<Connection>| connection.state().is_idle();
        let closed = all.iter().filter(idle).map(|connection| self.close(connection)).count();
        all.len() - closed
    }

    /// Ends a connection: no event of it comes any more, what it held is given back.
    fn close(&self, connection: &Connection) {
        let Some(bytes) = connection.close() else { return };
        // It is registered from before anyone else knows it until here.
        let _ = epoll::delete(&self.epoll, &connection.socket);
        self.connections.write().unwrap_or_else(PoisonError::into_inner).remove(&connection.id);
        self.places.forget(connection.id);
        self.release(connection, bytes);
    }

    /// Queues a reply and charges for it. It is sent when the connection is flushed.
    fn enqueue(&self, connection: &Connection, reply: Message) {
        let len = reply.len();
        connection.memory.charge(len);
        if !connection.queue(reply) {
            self.release(connection, len);
        }
    }

    /// Gives memory back, and lets those read who waited for it.
    fn release(&self, connection: &Connection, bytes: usize) {
        if bytes == 0 {
            return;
        }
        connection.memory.release(bytes);
        let parked = std::mem::take(&mut *lock(&self.parked));
        for connection in parked.into_iter().filter_map(|id| self.connection(id)) {
            self.arm(&connection);
        }
    }

    /// Says what a connection waits for, as its state is now.
    fn arm(&self, connection: &Connection) {
        let mut state = connection.state();
        let mut wanted = epoll::EventFlags::empty();
        if state.closed {
            return;
        }
        if !state.reading && self.may_read(connection, &state) {
            wanted |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            if state.staged {
                // The next record may be here already, so that the socket would say nothing of it. It says at once
                // that it can be written to, and if it cannot, an answer would not get through either.
                wanted |= epoll::EventFlags::OUT;
            }
        }
        // A socket that can be written to says so at once: that is how another worker is called to a call that waits.
        if state.waits_to_write() || state.may_try_waiting() {
            wanted |= epoll::EventFlags::OUT;
        }
        if wanted.is_empty() || wanted == state.armed {
            return;
        }
        let once = wanted | epoll::EventFlags::ONESHOT;
        match epoll::modify(&self.epoll, &connection.socket, epoll::EventData::new_u64(connection.id), once) {
            Ok(()) => state.armed = wanted,
            Err(error) => {
                drop(state);
                tracing::warn!(%error, "cannot wait for a connection");
                self.close(connection);
            }
        }
    }

    /// True where another record of a connection may be read. Where memory is what is missing, the connection is parked.
    fn may_read(&self, connection: &Connection, state: &connection::State) -> bool {
        let config = &self.config;
        if state.ended
            || state.calls >= config.connection_calls_max
            || state.queued_bytes >= config.connection_reply_bytes_max
            || self.is_stopping()
        {
            return false;
        }
        // What was begun has its memory already.
        if state.held_bytes > 0 || connection.memory.has_room() {
            return true;
        }
        lock(&self.parked).insert(connection.id);
        // Memory may have come free before the connection was parked; then nobody else would look.
        connection.memory.has_room()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
