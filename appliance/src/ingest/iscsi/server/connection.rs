//! One initiator's connection: who may read from it, what is to be written to it, what it waits for.
//!
//! Many workers touch one connection at once. The rules:
//!
//! * Locks are taken in the order reader, session, state, places, and held for moments; nobody holds one over a task. What is
//!   finished is locked beside no other.
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

use super::finished::Finished;
use super::pace::Pace;
use super::places::Held;
use crate::ingest::buffers::Lender;
use crate::ingest::iscsi::framing::Assembler;
use crate::ingest::iscsi::session::{Session, Share, Task, Weight};

/// Most slices in one write.
const SLICES_MAX: usize = 256;
/// Who takes fewer bytes than these takes nothing: a few now and then would keep the rest in memory for ever.
const TAKEN_BYTES: usize = 64 << 10;

/// An initiator's connection.
pub(super) struct Connection {
    /// Names it among the events.
    pub id: u64,
    pub socket: TcpStream,
    /// How long its tasks take.
    pub pace: Pace,
    pub peer: SocketAddr,
    /// Locked by the worker that reads, and by nobody else.
    pub reader: Mutex<Assembler<Lender>>,
    session: Mutex<Session>,
    state: Mutex<State>,
    finished: Mutex<Finished>,
    replies: Share,
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
    /// Bytes that tasks in workers' hands may add.
    coming_bytes: usize,
    /// Since when a worker runs tasks and has called nobody.
    pub alone: Option<Instant>,
    /// No place was free for its commands, or for its task management ([`super::places`]).
    refused: [bool; 2],
    /// What the socket is armed for.
    pub armed: EventFlags,
    /// When the initiator last took a good part, or nothing waited for it.
    pub taken: Instant,
    /// How many bytes it took since.
    taken_bytes: usize,
}

impl Connection {
    /// `replies` is where the memory of what waits to be sent is accounted.
    pub fn new(
        (id, socket, peer): (u64, TcpStream, SocketAddr),
        session: Session,
        buffers: Lender,
        replies: Share,
        now: Instant,
    ) -> Self {
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
            coming_bytes: 0,
            alone: None,
            refused: [false; 2],
            armed: EventFlags::empty(),
            taken: now,
            taken_bytes: 0,
        };
        let reader = Mutex::new(Assembler::new(buffers, data_bytes_max));
        let (session, state, finished) = (Mutex::new(session), Mutex::new(state), Mutex::default());
        Connection { id, socket, pace: Pace::default(), peer, reader, session, state, finished, replies }
    }

    pub fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done and not sent.
    pub fn finished(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what the session has to say.
    pub fn queue(&self, session: &mut Session) {
        let mut state = self.state();
        if state.queue.is_empty() && !state.writing {
            state.taken = Instant::now();
        }
        let len = session.take_output(&mut state.queue);
        if state.closed {
            state.queue.clear();
            return;
        }
        state.queued_bytes += len;
        self.replies.take(len);
    }

    /// The next task, where there is one, the worker has a place for it and what comes of it has room, and how many are ready
    /// behind it. [`Connection::ended`] has to follow.
    pub fn begin_task(&self, bytes_max: usize, held: &mut Held) -> Option<(Task, usize)> {
        let mut session = self.session();
        let mut state = self.state();
        if self.is_clogged(&state, bytes_max) {
            return None;
        }
        let task = session.next_task(|weight| held.admits(weight, &mut state))?;
        state.coming_bytes += task.reply_bytes();
        self.replies.take(task.reply_bytes());
        Some((task, session.ready_tasks()))
    }

    /// Tasks that might have sent so many bytes are over, and what they send is queued.
    pub fn ended(&self, reply_bytes: usize) {
        self.state().coming_bytes -= reply_bytes;
        self.replies.release(reply_bytes);
    }

    /// True where an initiator does not take its replies, or all together hold too much: nothing more is begun for it. One task
    /// at a time always may be.
    pub fn is_clogged(&self, state: &State, bytes_max: usize) -> bool {
        let held = state.queued_bytes + state.coming_bytes;
        held >= bytes_max || held > 0 && !self.replies.has_room()
    }

    /// True where others wait for what this one does not take.
    pub fn is_short(&self) -> bool {
        !self.replies.has_room()
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
                    let released = len.min(state.queued_bytes);
                    state.queued_bytes -= released;
                    self.replies.release(released);
                    state.taken_bytes += len;
                    if state.taken_bytes >= TAKEN_BYTES || state.queued_bytes == 0 {
                        (state.taken, state.taken_bytes) = (Instant::now(), 0);
                    }
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
        self.replies.release(std::mem::take(&mut state.queued_bytes));
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

    /// Notes whether there was a place for tasks of a kind.
    pub fn note_place(&mut self, weight: Weight, admitted: bool) {
        match weight {
            Weight::Brief => {}
            Weight::Command => self.refused[0] = !admitted,
            Weight::Management => self.refused[1] = !admitted,
        }
    }

    /// False where there was no place for such tasks. Whoever gives one back calls a worker.
    pub fn may_try(&self, weight: Weight) -> bool {
        match weight {
            Weight::Brief => true,
            Weight::Command => !self.refused[0],
            Weight::Management => !self.refused[1],
        }
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
