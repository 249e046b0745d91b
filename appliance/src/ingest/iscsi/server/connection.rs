//! One initiator's connection: who may read from it, what is to be written to it, what it waits for.
//!
//! Many workers touch one connection at once. The rules:
//!
//! * Locks are taken in the order reader, session, state, and held for moments; nobody holds one over a task.
//! * Whoever sets `reading` alone reads; whoever sets `writing` alone writes. What comes while another worker writes is
//!   queued, and that worker writes it too.
//! * What a session says is moved to the queue under the session's lock, so that it is sent in the order in which it was said.
//! * The socket is armed for one event at a time, under the state's lock, so that the last word is always the true one.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::{Buf, Bytes};
use rustix::event::epoll::EventFlags;

use crate::ingest::buffers::Lender;
use crate::ingest::iscsi::framing::Assembler;
use crate::ingest::iscsi::session::Session;

/// Most slices in one write.
const SLICES_MAX: usize = 256;

/// An initiator's connection.
pub(super) struct Connection {
    /// Names it among the events.
    pub id: u64,
    pub socket: TcpStream,
    pub peer: SocketAddr,
    /// Locked by the worker that reads, and by nobody else.
    pub reader: Mutex<Assembler<Lender>>,
    session: Mutex<Session>,
    state: Mutex<State>,
}

/// What a connection is doing.
pub(super) struct State {
    /// A worker reads.
    pub reading: bool,
    /// Bytes are here that no PDU was made of yet.
    pub staged: bool,
    /// The initiator will send no more.
    pub ended: bool,
    pub closed: bool,
    /// It counts among those that are logging in.
    at_gate: bool,
    writing: bool,
    queue: VecDeque<Bytes>,
    /// Bytes that the socket has not taken, those in the writer's hands included.
    pub queued_bytes: usize,
    /// What the socket is armed for.
    pub armed: EventFlags,
    /// When the initiator last took bytes, or none waited for it.
    pub taken: Instant,
}

impl Connection {
    pub fn new(id: u64, socket: TcpStream, peer: SocketAddr, session: Session, buffers: Lender, now: Instant) -> Self {
        let (_, data_bytes_max) = session.framing();
        let state = State {
            reading: false,
            staged: false,
            ended: false,
            closed: false,
            at_gate: true,
            writing: false,
            queue: VecDeque::new(),
            queued_bytes: 0,
            armed: EventFlags::empty(),
            taken: now,
        };
        let reader = Mutex::new(Assembler::new(buffers, data_bytes_max));
        Connection { id, socket, peer, reader, session: Mutex::new(session), state: Mutex::new(state) }
    }

    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what the session has to say.
    pub fn queue(&self, session: &mut Session) {
        let mut state = self.state();
        if state.queue.is_empty() && !state.writing {
            state.taken = Instant::now();
        }
        let len = session.take_output(&mut state.queue);
        state.queued_bytes += len;
    }

    /// Writes what is queued, until nothing is or the socket takes no more. Only for a caller that has begun writing.
    pub fn write(&self) -> io::Result<()> {
        let mut batch: VecDeque<Bytes> = VecDeque::new();
        loop {
            {
                let mut state = self.state();
                if state.closed {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                let more = SLICES_MAX.saturating_sub(batch.len()).min(state.queue.len());
                batch.extend(state.queue.drain(..more));
                if batch.is_empty() {
                    state.writing = false;
                    return Ok(());
                }
            }
            let slices: Vec<IoSlice> = batch.iter().map(|piece| IoSlice::new(piece)).collect();
            match (&self.socket).write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    advance(&mut batch, len);
                    let mut state = self.state();
                    state.queued_bytes = state.queued_bytes.saturating_sub(len);
                    state.taken = Instant::now();
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

    /// Makes the socket useless to both sides and gives up what is queued. False where it was closed before.
    pub fn close(&self) -> bool {
        let mut state = self.state();
        if std::mem::replace(&mut state.closed, true) {
            return false;
        }
        state.queue.clear();
        state.queued_bytes = 0;
        // The initiator may be gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
        true
    }
}

impl State {
    /// Takes the writer's part where something is queued and nobody has it.
    pub fn begin_writing(&mut self) -> bool {
        let begin = !self.closed && !self.writing && !self.queue.is_empty();
        self.writing |= begin;
        begin
    }

    /// True where bytes wait for the socket and no worker is writing.
    pub fn waits_to_write(&self) -> bool {
        !self.writing && !self.queue.is_empty()
    }

    /// True where nothing is left to be sent.
    pub fn is_drained(&self) -> bool {
        !self.writing && self.queue.is_empty()
    }

    /// Says once that it has logged in.
    pub fn leave_gate(&mut self) -> bool {
        std::mem::replace(&mut self.at_gate, false)
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
