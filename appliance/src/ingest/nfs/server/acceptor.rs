//! The acceptor: takes new connections, answers datagrams, and once a second looks for connections past a deadline.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::Shared;
use super::connection::Connection;
use super::slots::{self, Bounds, Host, Room, Slot};
use crate::ingest::buffers::Lender;
use crate::ingest::nfs::rpc::{Outcome, Peer, Service};

/// How often deadlines are looked at, at most: shorter ones are looked at more often.
const SWEEP: Duration = Duration::from_secs(1);
/// What the kernel may hold for one connection in each direction, where it lets us say so.
const SOCKET_BYTES: usize = 4 << 20;
/// Longest datagram that is looked at.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Datagrams that are answered before looking at anything else again.
const DATAGRAMS_AT_ONCE: usize = 64;

type Streams = Vec<(TcpListener, Arc<dyn Service>)>;
type Datagrams = Vec<(UdpSocket, Arc<dyn Service>)>;

/// Starts the thread.
pub(super) fn start(shared: Arc<Shared>, streams: Streams, datagrams: Datagrams) -> io::Result<JoinHandle<()>> {
    for (listener, _) in &streams {
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit these. Refused without privileges beyond the system's limit: then the kernel's own
        // tuning is better than a small fixed size.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(listener, SOCKET_BYTES);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(listener, SOCKET_BYTES);
    }
    for (socket, _) in &datagrams {
        socket.set_nonblocking(true)?;
    }
    std::thread::Builder::new().name("nfs-accept".into()).spawn(move || run(&shared, &streams, &datagrams))
}

fn run(shared: &Shared, streams: &Streams, datagrams: &Datagrams) {
    let mut next_id = 0;
    let mut swept = Instant::now();
    let config = &shared.config;
    let pause =
        [config.idle, config.stranger_idle, config.stall, config.crawl_window].into_iter().fold(SWEEP, Duration::min);
    while !shared.is_refusing() {
        let mut ready: Vec<PollFd> = vec![PollFd::new(&shared.wake, PollFlags::IN)];
        ready.extend(streams.iter().map(|(listener, _)| PollFd::new(listener, PollFlags::IN)));
        ready.extend(datagrams.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)));
        let timeout = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
        // An interrupted wait is a short one.
        let _ = poll(&mut ready, Some(&timeout));
        for (listener, service) in streams {
            accept_all(shared, listener, service, &mut next_id);
        }
        for (socket, service) in datagrams {
            answer_all(shared, socket, service);
        }
        if swept.elapsed() >= pause {
            swept = Instant::now();
            sweep(shared, swept);
        }
    }
}

fn accept_all(shared: &Shared, listener: &TcpListener, service: &Arc<dyn Service>, next_id: &mut u64) {
    while !shared.is_refusing() {
        match listener.accept() {
            Ok((socket, client)) => {
                *next_id += 1;
                if let Err(error) = admit(shared, socket, service.clone(), *next_id) {
                    tracing::debug!(%client, %error, "connection not taken");
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

/// Takes a new connection in, and makes room for it where there is none.
fn admit(shared: &Shared, socket: TcpStream, service: Arc<dyn Service>, id: u64) -> io::Result<()> {
    let peer = Peer { client: socket.peer_addr()?, local: socket.local_addr()? };
    socket.set_nonblocking(true)?;
    socket.set_nodelay(true)?;
    let host = Host::from(peer.client.ip()).address();
    let memory = (Lender(shared.pool.clone()), shared.budget.share(host));
    let connection = Arc::new(Connection::new(id, socket, peer, service, memory, Instant::now()));
    let slots: Vec<Slot> = shared.connections().iter().map(|other| other.slot()).collect();
    let bounds = Bounds { all: shared.config.connections_max, strangers: shared.config.strangers_max };
    let Slot { host, known, .. } = connection.slot();
    match slots::room(&slots, host, known, bounds) {
        Room::Free => {}
        Room::Of(other) => shared.connection(other).iter().for_each(|other| shared.close(other)),
        Room::Nowhere => return Err(io::Error::other("too many connections")),
    }
    epoll::add(&shared.epoll, &connection.socket, epoll::EventData::new_u64(id), epoll::EventFlags::ONESHOT)?;
    shared.connections.write().unwrap_or_else(PoisonError::into_inner).insert(id, connection.clone());
    shared.arm(&connection);
    Ok(())
}

fn answer_all(shared: &Shared, socket: &UdpSocket, service: &Arc<dyn Service>) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    for _ in 0..DATAGRAMS_AT_ONCE {
        let Ok((len, client)) = socket.recv_from(&mut buffer) else { return };
        let Ok(local) = socket.local_addr() else { return };
        let record = Bytes::copy_from_slice(&buffer[..len]);
        let outcome = service.clone().call(record, &Peer { client, local }, (shared.config.clock)());
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Owed(owed) => owed.settle(),
            Outcome::Silence | Outcome::Close => continue,
        };
        // Without the record marker that streams have. Whether it arrives is not known anyway.
        let _ = socket.send_to(&reply.to_bytes()[crate::ingest::nfs::xdr::MARKER_BYTES..], client);
    }
}

/// Closes connections that are past a deadline.
fn sweep(shared: &Shared, now: Instant) {
    let config = &shared.config;
    for connection in shared.connections() {
        let pressed = !connection.memory.has_room();
        let idle_max = if connection.is_known() { config.idle } else { config.stranger_idle };
        let late = {
            let mut state = connection.state();
            let quiet = now.saturating_duration_since(state.stirred);
            let crawls = state.crawls(now, config.crawl_window, config.crawl_bytes);
            let waits_for_client = state.queued_bytes > 0 || (state.held_bytes > 0 && state.calls == 0);
            (pressed && crawls) || (waits_for_client && quiet > config.stall) || (state.is_idle() && quiet > idle_max)
        };
        if late {
            tracing::debug!(client = %connection.peer.client, "connection past its deadline");
            shared.close(&connection);
        }
    }
}
