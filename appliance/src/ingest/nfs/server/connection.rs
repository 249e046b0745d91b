//! One client's connection: who may read from it, what is to be written to it, what it waits for.
//!
//! Many workers touch one connection at once. Three rules keep that simple:
//!
//! * `state` is locked for moments, never over reading, writing or a call.
//! * Whoever sets `reading` alone reads; whoever sets `writing` alone writes. A reply that comes while another worker
//!   writes is queued, and that worker writes it too.
//! * The socket is armed for one event at a time. Whoever changes what the connection waits for arms it again, under the
//!   lock, so that the last word is always the true one.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use rustix::event::epoll::EventFlags;

use super::slots::{Host, Slot};
use super::worker::Call;
use crate::ingest::buffers::{Lender, Share};
use crate::ingest::nfs::record::Assembler;
use crate::ingest::nfs::rpc::{Peer, Service};
use crate::ingest::nfs::xdr::Message;

/// Most slices in one write.
const SLICES_MAX: usize = 256;

/// A client's connection.
pub(super) struct Connection {
    /// Names it among the events.
    pub id: u64,
    pub socket: TcpStream,
    pub peer: Peer,
    pub service: Arc<dyn Service>,
    /// The program has something for this client. Asked until it has: who was let in once is no stranger to this connection.
    known: AtomicBool,
    /// Locked by the worker that reads, and by nobody else.
    pub reader: Mutex<Assembler<Lender>>,
    /// What its records and replies hold is accounted here.
    pub memory: Share,
    state: Mutex<State>,
}

/// What a connection is doing.
pub(super) struct State {
    /// A worker reads.
    pub reading: bool,
    /// Bytes are here that no record was made of yet.
    pub staged: bool,
    /// The client will send no more.
    pub ended: bool,
    pub closed: bool,
    /// Calls under way, those that wait for a place included.
    pub calls: usize,
    /// Calls that wait for a place ([`super::places`]), in the order in which they came.
    waiting: VecDeque<Call>,
    /// No place was free for them. Whoever gives one back calls a worker.
    refused: bool,
    /// Bytes of the buffer that a record is being received into.
    pub held_bytes: usize,
    /// A worker writes.
    writing: bool,
    queue: VecDeque<Bytes>,
    /// Bytes of replies that the socket has not taken, those in the writer's hands included.
    pub queued_bytes: usize,
    /// What the socket is armed for.
    pub armed: EventFlags,
    /// When bytes last moved in either direction.
    pub stirred: Instant,
    /// Since when the bytes in `watched_bytes` were counted, while the client holds memory.
    watched: Instant,
    /// Bytes that moved in either direction since `watched`.
    watched_bytes: usize,
}

impl Connection {
    pub(super) fn new(
        id: u64,
        socket: TcpStream,
        peer: Peer,
        service: Arc<dyn Service>,
        (buffers, memory): (Lender, Share),
        now: Instant,
    ) -> Self {
        let state = State {
            reading: false,
            staged: false,
            ended: false,
            closed: false,
            calls: 0,
            waiting: VecDeque::new(),
            refused: false,
            held_bytes: 0,
            writing: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            armed: EventFlags::empty(),
            stirred: now,
            watched: now,
            watched_bytes: 0,
        };
        let (known, reader) = (AtomicBool::new(service.knows(&peer)), Mutex::new(Assembler::new(buffers)));
        Connection { id, socket, peer, service, known, reader, memory, state: Mutex::new(state) }
    }

    /// True where the program has something for the client, by now.
    pub(super) fn is_known(&self) -> bool {
        let known = self.known.load(Relaxed) || self.service.knows(&self.peer);
        self.known.store(known, Relaxed);
        known
    }

    /// Whose it is.
    pub(super) fn host(&self) -> Host {
        self.peer.client.ip().into()
    }

    /// What is to be known of it where connections are scarce. Asks nobody.
    pub(super) fn slot(&self) -> Slot {
        let state = self.state();
        let (idle, stirred) = (state.is_idle(), state.stirred);
        Slot { id: self.id, host: self.host(), known: self.known.load(Relaxed), idle, stirred }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a reply for whoever writes next. False where the connection is closed: then it was dropped.
    pub(super) fn queue(&self, reply: Message) -> bool {
        let mut state = self.state();
        if !state.closed {
            state.takes_memory();
            state.queued_bytes += reply.len();
            state.queue.extend(reply.into_pieces().filter(|piece| !piece.is_empty()));
        }
        !state.closed
    }

    /// Writes what is queued, as far as the socket takes it, and tells `taken` of each step in bytes. Only for a caller
    /// that has begun writing.
    pub(super) fn write(&self, mut taken: impl FnMut(usize)) -> io::Result<()> {
        let mut batch: VecDeque<Bytes> = VecDeque::new();
        loop {
            {
                let mut state = self.state();
                let more = SLICES_MAX.saturating_sub(batch.len()).min(state.queue.len());
                batch.extend(state.queue.drain(..more));
                if batch.is_empty() {
                    state.writing = false;
                    return Ok(());
                }
            }
            let slices: Vec<IoSlice> = batch.iter().map(|piece| IoSlice::new(piece)).collect();
            let result = (&self.socket).write_vectored(&slices);
            drop(slices);
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    advance(&mut batch, len);
                    let mut state = self.state();
                    if state.closed {
                        // Whoever closed it gave back all that was queued.
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    state.queued_bytes = state.queued_bytes.saturating_sub(len);
                    state.moved(len);
                    drop(state);
                    taken(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut state = self.state();
                    while let Some(piece) = batch.pop_back() {
                        state.queue.push_front(piece);
                    }
                    state.writing = false;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the socket useless to both sides and gives up what is queued. Returns how many bytes were charged for it;
    /// `None` where it was closed before.
    pub(super) fn close(&self) -> Option<usize> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.closed = true;
        state.queue.clear();
        let waiting = std::mem::take(&mut state.waiting);
        state.calls -= waiting.len();
        let waiting_bytes: usize = waiting.iter().map(|call| call.charged).sum();
        // The client may be gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
        Some(std::mem::take(&mut state.queued_bytes) + std::mem::take(&mut state.held_bytes) + waiting_bytes)
    }
}

impl State {
    /// Takes the writer's part where something is queued and nobody has it.
    pub(super) fn begin_writing(&mut self) -> bool {
        let begin = !self.closed && !self.writing && !self.queue.is_empty();
        self.writing |= begin;
        begin
    }

    /// Lets a call wait until a worker has a place for it. Not for a connection that is closed: nobody would give it up.
    pub(super) fn put_off(&mut self, call: Call) {
        debug_assert!(!self.closed);
        self.waiting.push_back(call);
    }

    /// The first call that waits for a place. Only for a worker that has one.
    pub(super) fn take_waiting(&mut self) -> Option<Call> {
        self.waiting.pop_front()
    }

    /// True where calls wait for a place.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Notes whether a place was free.
    pub(super) fn note_place(&mut self, admitted: bool) {
        self.refused = !admitted;
    }

    /// True where another worker may try to get a place for what waits.
    pub(super) fn may_try_waiting(&self) -> bool {
        self.has_waiting() && !self.refused
    }

    /// True where replies wait for the socket and no worker is writing.
    pub(super) fn waits_to_write(&self) -> bool {
        !self.writing && !self.queue.is_empty()
    }

    /// Notes that memory is about to be held for the client. Where none was, its window begins now: while it waited for
    /// memory it could not move a byte, and must not be judged for that.
    pub(super) fn takes_memory(&mut self) {
        if !self.holds_memory() {
            self.watched = Instant::now();
            self.watched_bytes = 0;
        }
    }

    fn holds_memory(&self) -> bool {
        self.queued_bytes > 0 || self.held_bytes > 0
    }

    /// Notes that bytes moved in either direction.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.stirred = Instant::now();
        self.watched_bytes = self.watched_bytes.saturating_add(bytes);
    }

    /// True where the client has held memory for `window`, and moved fewer than `bytes_min` bytes meanwhile. To be asked
    /// every now and then: each window begins when the one before was judged.
    pub(super) fn crawls(&mut self, now: Instant, window: Duration, bytes_min: usize) -> bool {
        let holds = self.holds_memory();
        let over = now.saturating_duration_since(self.watched) >= window;
        let crawls = holds && over && self.watched_bytes < bytes_min;
        if !holds || over {
            self.watched = now;
            self.watched_bytes = 0;
        }
        crawls
    }

    /// True where nothing is owed to the client.
    pub(super) fn is_idle(&self) -> bool {
        self.calls == 0 && self.queued_bytes == 0
    }
}

/// Drops the first `len` bytes of a batch.
fn advance(batch: &mut VecDeque<Bytes>, mut len: usize) {
    while let Some(first) = batch.front_mut() {
        if first.len() > len {
            first.advance(len);
            return;
        }
        len -= first.len();
        batch.pop_front();
    }
}
