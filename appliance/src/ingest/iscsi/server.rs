//! Sockets, threads and deadlines: the rim of the target.
//!
//! A set of workers waits for events of all connections together. A worker that is woken reads what is there, hands it to
//! the connection's session, and then runs tasks of that session itself until none is left. Quick tasks it runs alone;
//! where they take long or are many it says so before it begins one, so that another worker reads on and takes the next
//! (`pace.rs`): tasks that end quickly stay with one thread, tasks that wait for a disk spread. When no worker is left waiting
//! one more is started, up to a bound.
//!
//! ```text
//! acceptor ── new connections, deadlines, company for workers whose task hangs
//! worker ──┬─ wait ─ read ─ session ─┬─ next task ─ run ─ complete ─┬─ write ─┐
//!          │                         └──────────────────────────────┘         │
//!          └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What bounds what:
//!
//! * data that initiators send: command windows and R2Ts, which sessions open into [`ServerConfig::memory_bytes`];
//! * data that initiators read: no task of a connection is begun while more than
//!   [`ServerConfig::connection_reply_bytes_max`] wait for it to take them, and while all together hold
//!   [`ServerConfig::reply_bytes`] only one at a time;
//! * what is answered where it is read (pings, text): sent every 256 KiB, and nothing is read while
//!   [`ServerConfig::connection_reply_bytes_max`] wait for the initiator;
//! * what one address takes of these, and of the workers: half, so that it does not take what others need (`places.rs`);
//! * an initiator that takes nothing: closed after [`ServerConfig::stall`], and sooner where others wait for the memory;
//! * logins: [`Gate`], and a deadline; connections: a number, of which one address has half.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, epoll, eventfd};

use super::gate::Gate;
use super::registry::Registry;
use super::session::{Deadlines, Memory, Weight};
use super::target::Targets;
use crate::ingest::buffers::Pool;
use connection::Connection;
use places::AllPlaces;

mod acceptor;
mod connection;
mod finished;
mod pace;
mod places;
mod worker;

/// The event that is no connection's: wake up and look whether the server stops.
const WAKE: u64 = u64::MAX;

/// Bounds and deadlines.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Most connections at once; one address has at most half of them.
    pub connections_max: usize,
    /// Most connections of one address that are logging in.
    pub logins_address_max: usize,
    /// Most connections that are logging in.
    pub logins_max: usize,
    /// Most threads that carry out tasks. From eight on some of them are kept free of tasks that may take long.
    pub workers_max: usize,
    /// Most bytes of command windows and bursts over all sessions.
    pub memory_bytes: usize,
    /// Bytes of replies over all connections, those that tasks may yet add included, from which on a connection has one task
    /// at a time.
    pub reply_bytes: usize,
    /// Replies of one connection that wait for their initiator, in bytes, from which on no more of its tasks are begun.
    pub connection_reply_bytes_max: usize,
    /// How long an initiator may take none of its replies.
    pub stall: Duration,
    /// The same where others wait for the memory that they take.
    pub stall_short: Duration,
    /// Deadlines of each connection.
    pub deadlines: Deadlines,
}

impl Default for ServerConfig {
    /// The bounds that the box runs with.
    fn default() -> Self {
        ServerConfig {
            connections_max: 128,
            logins_address_max: 16,
            logins_max: 64,
            workers_max: 128,
            memory_bytes: 64 << 20,
            reply_bytes: 64 << 20,
            connection_reply_bytes_max: 8 << 20,
            stall: Duration::from_secs(60),
            stall_short: Duration::from_secs(5),
            deadlines: Deadlines::default(),
        }
    }
}

/// What a server is doing at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Open connections.
    pub connections: usize,
    /// Of these, those that are logging in.
    pub logins: usize,
    /// Sessions with a target.
    pub sessions: usize,
    /// Threads that carry out tasks.
    pub workers: usize,
    /// Bytes of command windows and bursts.
    pub memory_bytes: usize,
    /// Bytes of replies, those that tasks may yet add included.
    pub reply_bytes: usize,
}

/// A running server. Dropped, it stops at once.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<std::thread::JoinHandle<()>>,
}

/// What the threads share.
struct Shared {
    config: ServerConfig,
    targets: Arc<dyn Targets>,
    registry: Arc<Registry>,
    memory: Arc<Memory>,
    replies: Arc<Memory>,
    gate: Mutex<Gate>,
    epoll: OwnedFd,
    wake: OwnedFd,
    watch: Watch,
    pool: Arc<Pool>,
    connections: RwLock<BTreeMap<u64, Arc<Connection>>>,
    places: AllPlaces,
    /// Workers that wait for events.
    waiting: AtomicUsize,
    workers: Mutex<usize>,
    worker_left: Condvar,
    stopping: AtomicBool,
}

/// Tells the acceptor that workers run tasks without having called anybody.
struct Watch {
    event: OwnedFd,
    /// The acceptor is looking after them.
    on: AtomicBool,
    /// Counts the times that a worker began.
    begun: AtomicU64,
}

impl Watch {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Watch { event, on: AtomicBool::new(false), begun: AtomicU64::new(0) })
    }

    fn begins(&self) {
        self.begun.fetch_add(1, SeqCst);
        if !self.on.load(SeqCst) && !self.on.swap(true, SeqCst) {
            // It can only fail where the counter is full, and then the acceptor is awake.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }
}

impl Server {
    /// Serves until it is stopped. The sockets, one a portal, are bound by the caller.
    pub fn start(config: ServerConfig, targets: Arc<dyn Targets>, portals: Vec<TcpListener>) -> io::Result<Server> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let shared = Arc::new(Shared {
            targets,
            registry: Arc::default(),
            memory: Arc::new(Memory::new(config.memory_bytes)),
            replies: Arc::new(Memory::new(config.reply_bytes)),
            gate: Mutex::new(Gate::new(config.logins_address_max, config.logins_max)),
            places: AllPlaces::new(config.workers_max),
            config,
            epoll,
            wake,
            watch: Watch::new()?,
            pool: Arc::default(),
            connections: RwLock::default(),
            waiting: AtomicUsize::new(0),
            workers: Mutex::new(0),
            worker_left: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        for _ in 0..2.min(shared.config.workers_max.max(1)) {
            worker::start(&shared)?;
        }
        let acceptor = acceptor::start(shared.clone(), portals)?;
        Ok(Server { shared, acceptor: Some(acceptor) })
    }

    /// What it is doing at the moment.
    pub fn status(&self) -> ServerStatus {
        ServerStatus {
            connections: self.shared.connections().len(),
            logins: lock(&self.shared.gate).count(),
            sessions: self.shared.registry.count(),
            workers: *lock(&self.shared.workers),
            memory_bytes: self.shared.memory.used(),
            reply_bytes: self.shared.replies.used(),
        }
    }

    /// Stops accepting, asks initiators to log out, waits for that at most `grace`, closes all connections and waits for
    /// the threads. A worker that storage holds longer than that is left to end by itself.
    pub fn stop(mut self, grace: Duration) {
        self.halt(grace);
    }

    fn halt(&mut self, grace: Duration) {
        let Some(acceptor) = self.acceptor.take() else { return };
        let shared = &self.shared;
        let deadline = Instant::now() + grace;
        shared.stopping.store(true, SeqCst);
        // Initiators answer it while workers still run.
        if !grace.is_zero() {
            for connection in shared.connections() {
                connection.session().shut_down(grace);
                shared.deliver(&connection);
                shared.arm(&connection);
            }
            while Instant::now() < deadline && !shared.connections().is_empty() {
                std::thread::sleep(Duration::from_millis(2));
            }
            let connections = shared.connections().len();
            if connections > 0 {
                tracing::info!(connections, "connections that did not end when they were asked to are closed");
            }
        }
        shared.wake_all();
        // A panic in it was reported when it happened.
        let _ = acceptor.join();
        for connection in shared.connections() {
            shared.close(&connection);
        }
        let deadline = deadline.max(Instant::now() + Duration::from_millis(500));
        let mut workers = lock(&shared.workers);
        while *workers > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(workers = *workers, "iSCSI workers are still held by storage");
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

    /// Ends a connection: no event of it comes any more, its session's place is free.
    fn close(&self, connection: &Connection) {
        if !connection.close() {
            return;
        }
        // It is registered from before anyone else knows it until here.
        let _ = epoll::delete(&self.epoll, &connection.socket);
        self.connections.write().unwrap_or_else(PoisonError::into_inner).remove(&connection.id);
        lock(&self.gate).leave(connection.id, connection.peer.ip());
        self.places.forget(connection.id);
        connection.session().end();
    }

    /// Sends what a session has to say, closes whom it pushed out, and closes it where it is over: nothing more is taken or will come,
    /// and everything is sent.
    ///
    /// Whoever writes asks again behind it whether it is over. Another worker may have queued the last word meanwhile, and
    /// left because somebody was writing.
    fn deliver(&self, connection: &Connection) {
        loop {
            let (evicted, has_target, over) = {
                let mut session = connection.session();
                connection.queue(&mut session);
                let over = session.is_closing() || (connection.state().ended && !session.is_busy());
                (session.take_evicted(), session.has_target(), over)
            };
            // Discovery stays among those who are logging in: nobody has shown there that it may be here.
            if has_target && connection.state().leave_gate() {
                lock(&self.gate).leave(connection.id, connection.peer.ip());
            }
            for other in evicted.into_iter().filter_map(|id| self.connection(id)) {
                tracing::debug!(initiator = %other.peer, "session closed by another");
                self.close(&other);
            }
            if !connection.state().begin_writing() {
                if over && connection.state().is_drained() {
                    self.close(connection);
                }
                return;
            }
            if let Err(error) = connection.write() {
                tracing::debug!(initiator = %connection.peer, %error, "initiator went away");
                self.close(connection);
                return;
            }
            if connection.state().waits_to_write() {
                // The socket takes no more for now, and says so when it does.
                return;
            }
        }
    }

    /// Lets another worker go on with a connection beside this one, and starts one where none is free.
    fn call_worker(self: &Arc<Self>, connection: &Connection) {
        if self.waiting.load(SeqCst) == 0
            && *lock(&self.workers) < self.config.workers_max
            && let Err(error) = worker::start(self)
        {
            tracing::warn!(%error, "cannot start another iSCSI worker");
        }
        self.arm(connection);
    }

    /// Notes that a worker begins to run tasks and calls nobody.
    fn works_alone(&self, connection: &Connection, since: Instant) {
        connection.state().alone = Some(since);
        self.watch.begins();
    }

    /// Says what a connection waits for, as its state is now.
    fn arm(&self, connection: &Connection) {
        let finished = {
            let (now, admitted) = (Instant::now(), connection.state().may_try(Weight::Command));
            connection.finished().are_overdue(now, admitted)
        };
        let session = connection.session();
        let mut state = connection.state();
        let has_task = session.has_task(|weight| state.may_try(weight));
        drop(session);
        state.alone = None;
        if state.closed {
            return;
        }
        let mut wanted = epoll::EventFlags::empty();
        if !state.reading && !state.ended && !self.is_clogged(connection, &state) {
            wanted |= epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            if state.staged {
                wanted |= epoll::EventFlags::OUT;
            }
        }
        // A socket that can be written to says so at once: that is how another worker is called to a ready task.
        if finished || state.waits_to_write() || (has_task && !self.is_clogged(connection, &state)) {
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

    fn is_clogged(&self, connection: &Connection, state: &connection::State) -> bool {
        connection.is_clogged(state, self.config.connection_reply_bytes_max)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
