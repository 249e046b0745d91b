//! The acceptor: takes new connections, every second looks at deadlines, and looks after workers that hang.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::connection::Connection;
use super::pace::OVERDUE;
use super::{Shared, lock};
use crate::ingest::buffers::Lender;
use crate::ingest::iscsi::login::Context;
use crate::ingest::iscsi::session::{Session, Weight};

/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// What the kernel may hold for one connection in each direction, where it lets us say so.
const SOCKET_BYTES: usize = 4 << 20;

/// Starts the thread.
pub(super) fn start(shared: Arc<Shared>, portals: Vec<TcpListener>) -> io::Result<JoinHandle<()>> {
    for listener in &portals {
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit these. Refused without privileges beyond the system's limit: then the kernel's own
        // tuning is better than a small fixed size.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(listener, SOCKET_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(listener, SOCKET_BYTES);
    }
    std::thread::Builder::new().name("iscsi-accept".into()).spawn(move || run(&shared, &portals))
}

fn run(shared: &Arc<Shared>, portals: &[TcpListener]) {
    let mut next_id = 0;
    let mut swept = Instant::now();
    let deadlines = &shared.config.deadlines;
    let sweeps =
        [deadlines.login, deadlines.ping, deadlines.answer, shared.config.stall].into_iter().fold(SWEEP, Duration::min);
    let mut seen = 0;
    while !shared.is_stopping() {
        let watching = shared.watch.on.load(SeqCst);
        let pause = if watching { OVERDUE } else { sweeps };
        let mut ready: Vec<PollFd> = vec![PollFd::new(&shared.wake, PollFlags::IN)];
        ready.extend(portals.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        if !watching {
            ready.push(PollFd::new(&shared.watch.event, PollFlags::IN));
        }
        let timeout = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
        // An interrupted wait is a short one.
        let _ = poll(&mut ready, Some(&timeout));
        for listener in portals {
            accept_all(shared, listener, &mut next_id);
        }
        if watching {
            look_after_workers(shared, &mut seen);
        }
        if swept.elapsed() >= sweeps {
            swept = Instant::now();
            sweep(shared, swept);
        }
    }
}

/// Gives company to workers that have run tasks for long without having called anybody, or have left answers lying. Where
/// none began since the last look, there is nobody to look after.
fn look_after_workers(shared: &Arc<Shared>, seen: &mut u64) {
    let mut alone = 0;
    for connection in shared.connections() {
        let (since, admitted) = {
            let state = connection.state();
            (state.alone, state.may_try(Weight::Command))
        };
        let (finished, overdue) = {
            let finished = connection.finished();
            (!finished.is_empty(), finished.are_overdue(Instant::now(), admitted))
        };
        alone += usize::from(since.is_some() || finished);
        if overdue || since.is_some_and(|since| since.elapsed() >= OVERDUE) {
            shared.call_worker(&connection);
        }
    }
    let begun = shared.watch.begun.load(SeqCst);
    if alone == 0 && std::mem::replace(seen, begun) == begun {
        // What was told so far is over. Who begins from now on tells again.
        let _ = rustix::io::read(&shared.watch.event, &mut [0; 8]);
        shared.watch.on.store(false, SeqCst);
        // Whoever began in between has counted first and told nobody.
        if shared.watch.begun.load(SeqCst) != begun {
            shared.watch.on.store(true, SeqCst);
        }
    }
}

fn accept_all(shared: &Shared, listener: &TcpListener, next_id: &mut u64) {
    while !shared.is_stopping() {
        match listener.accept() {
            Ok((socket, initiator)) => {
                *next_id += 1;
                if let Err(error) = admit(shared, socket, *next_id) {
                    tracing::debug!(%initiator, %error, "connection not taken");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Out of descriptors, most likely: waiting helps, trying at once does not.
                tracing::warn!(%error, "cannot accept connections");
                std::thread::sleep(Duration::from_millis(50));
                return;
            }
        }
    }
}

/// Takes a new connection in, and closes the one whose place it takes.
fn admit(shared: &Shared, socket: TcpStream, id: u64) -> io::Result<()> {
    let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let pushed_out = lock(&shared.gate).enter(id, peer.ip());
    if let Some(other) = pushed_out.and_then(|other| shared.connection(other)) {
        shared.close(&other);
    }
    let others = shared.connections();
    let own = others.iter().filter(|other| other.peer.ip().to_canonical() == peer.ip().to_canonical()).count();
    if others.len() >= shared.config.connections_max || own >= shared.config.connections_max.div_ceil(2) {
        lock(&shared.gate).leave(id, peer.ip());
        return Err(io::Error::other("too many connections"));
    }
    let mut random = [0; 17];
    rand::rng().fill_bytes(&mut random);
    let (targets, registry) = (shared.targets.clone(), shared.registry.clone());
    let context = Context { targets, registry, connection: id, peer, local, random };
    let now = Instant::now();
    let session = Session::new(context, shared.config.deadlines, shared.memory.clone(), now);
    let (buffers, replies) = (Lender(shared.pool.clone()), shared.replies.share(peer.ip()));
    let connection = Arc::new(Connection::new((id, socket, peer), session, buffers, replies, now));
    epoll::add(&shared.epoll, &connection.socket, epoll::EventData::new_u64(id), epoll::EventFlags::ONESHOT)?;
    shared.connections.write().unwrap_or_else(PoisonError::into_inner).insert(id, connection.clone());
    shared.arm(&connection);
    Ok(())
}

/// Lets sessions look at their deadlines, and closes connections that take nothing.
fn sweep(shared: &Shared, now: Instant) {
    for connection in shared.connections() {
        let patience = if connection.is_short() { shared.config.stall_short } else { shared.config.stall };
        let stalled = {
            let state = connection.state();
            state.queued_bytes > 0 && now.saturating_duration_since(state.taken) > patience
        };
        if stalled {
            tracing::debug!(initiator = %connection.peer, "takes nothing");
            shared.close(&connection);
            continue;
        }
        connection.session().tick(now);
        shared.deliver(&connection);
        shared.arm(&connection);
    }
}
