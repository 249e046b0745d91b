//! One connection as a value: PDUs and the time come in, bytes and tasks come out. No sockets, no threads, no clock.
//!
//! ```text
//!   PDU ──▶ receive ──▶ login ──▶ full feature ──▶ next_task ──▶ a worker runs it
//!                                   │   ▲                              │
//!   bytes ◀── take_output ◀─────────┘   └────────── complete ◀─────────┘
//! ```
//!
//! A session has one connection (MaxConnections is 1), and a connection one session: both are this value.
//!
//! What it promises:
//!
//! * Commands are taken in the order of their numbers and handed out as soon as their data is here; they may be carried
//!   out side by side and completed in any order. An ordered task waits for those before it and keeps back those behind.
//! * Memory: commands are taken only into slots whose memory is accounted, data is asked for only into memory that is
//!   there ([`Memory`]).
//! * A task that was aborted is never answered; the function that aborted it is answered when the task can change nothing
//!   any more, or refused when that takes too long.
//! * Whatever bytes come, the worst that happens is that this connection ends.

mod commands;
mod discovery;
mod full;
mod manage;
mod memory;
mod replies;
mod task;
mod window;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::framing::Broken;
use super::login::{Context, Login, Outcome};
use super::params::{RECEIVE_BYTES_DEFAULT, RECEIVE_BYTES_MAX};
use super::wire::{Bhs, Digests, Encoder, Frame, Pdu, RejectReason, opcode};
use full::Full;

pub use memory::{Memory, Share};
pub use task::{Done, Task, Weight};

/// Deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// How long a login may take.
    pub login: Duration,
    /// After how long a silence the initiator is asked whether it is there.
    pub ping: Duration,
    /// How long it may take to answer.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines { login: Duration::from_secs(15), ping: Duration::from_secs(30), answer: Duration::from_secs(30) }
    }
}

/// Where a connection stands.
enum Phase {
    Login(Box<Login>),
    Full(Box<Full>),
    /// Nothing more is taken; what is queued is still to be sent.
    Closing,
}

/// One connection.
pub struct Session {
    context: Context,
    deadlines: Deadlines,
    phase: Phase,
    out: Output,
    evicted: Vec<u64>,
    heard: Instant,
    begun: Instant,
    pinged: Option<Instant>,
}

/// Bytes that are to be sent, in order.
#[derive(Default)]
struct Output {
    encoder: Encoder,
    digests: Digests,
    queue: Vec<Bytes>,
    /// How long the queue is.
    bytes: usize,
}

impl Output {
    fn push(&mut self, frame: Frame) {
        let before = self.queue.len();
        self.encoder.encode(frame, self.digests, &mut self.queue);
        self.bytes += self.queue.iter().skip(before).map(Bytes::len).sum::<usize>();
    }
}

impl Session {
    /// A connection that was just made.
    pub fn new(context: Context, deadlines: Deadlines, memory: std::sync::Arc<Memory>, now: Instant) -> Self {
        let login = Login::new(memory.share(context.peer.ip()));
        Session {
            context,
            deadlines,
            phase: Phase::Login(Box::new(login)),
            out: Output::default(),
            evicted: Vec::new(),
            heard: now,
            begun: now,
            pinged: None,
        }
    }

    /// Takes a PDU.
    pub fn receive(&mut self, pdu: Pdu, now: Instant) {
        (self.heard, self.pinged) = (now, None);
        match &mut self.phase {
            Phase::Login(login) => match login.receive(&self.context, &pdu) {
                Outcome::Continue(frame) => self.out.push(frame),
                Outcome::Refuse(frame) => {
                    self.out.push(frame);
                    self.phase = Phase::Closing;
                }
                Outcome::Close => self.phase = Phase::Closing,
                Outcome::Established(frame, established) => {
                    let digests = established.params.digests;
                    let full = Full::new(*established, login.memory());
                    self.evicted.extend(full.superseded());
                    self.out.push(Frame { bhs: frame.bhs.with_word(32, full.max_cmd_sn()), data: frame.data });
                    // From here on in both directions (RFC 7143 section 6.3.3).
                    self.out.digests = digests;
                    self.phase = Phase::Full(Box::new(full));
                }
            },
            Phase::Full(full) => full.receive(&self.context, pdu, &mut self.out),
            Phase::Closing => {}
        }
        self.settle();
    }

    /// Says that the stream cannot go on. Where there is a session it is told why (RFC 7143 section 7.8 leaves level 0 no
    /// other way than to end the connection).
    pub fn broken(&mut self, why: Broken) {
        if let Phase::Full(full) = &mut self.phase {
            let reason = match why {
                Broken::DataDigest => RejectReason::DataDigest,
                Broken::TooLong(_) | Broken::Headers(_) => RejectReason::InvalidField,
                Broken::HeaderDigest => RejectReason::ProtocolError,
            };
            full.reject(reason, &Bhs::new(opcode::NOP_OUT, 0), &mut self.out);
        }
        self.phase = Phase::Closing;
    }

    /// The next task that may be carried out now, of those that `admits` has no objection to. Whoever takes it runs it and
    /// brings back what [`Task::run`] returned.
    pub fn next_task(&mut self, admits: impl FnMut(Weight) -> bool) -> Option<Task> {
        match &mut self.phase {
            Phase::Full(full) => full.next_task(admits),
            Phase::Login(_) | Phase::Closing => None,
        }
    }

    /// True where [`Session::next_task`] would give one.
    pub fn has_task(&self, admits: impl FnMut(Weight) -> bool) -> bool {
        matches!(&self.phase, Phase::Full(full) if full.has_task(admits))
    }

    /// How many tasks are ready, at most: some may have to wait for others.
    pub fn ready_tasks(&self) -> usize {
        if let Phase::Full(full) = &self.phase { full.ready.len() + full.managing.len() } else { 0 }
    }

    /// Takes back what came of a task.
    pub fn complete(&mut self, done: Done) {
        if let Phase::Full(full) = &mut self.phase {
            full.complete(done, &mut self.out);
            self.evicted.append(&mut full.evicted);
        }
        self.settle();
    }

    /// Looks at deadlines. To be called every second or so.
    pub fn tick(&mut self, now: Instant) {
        let silent = now.saturating_duration_since(self.heard);
        let late = match (&mut self.phase, self.pinged) {
            (Phase::Login(_), _) => now.saturating_duration_since(self.begun) > self.deadlines.login,
            (Phase::Full(_), Some(asked)) => now.saturating_duration_since(asked) > self.deadlines.answer,
            (Phase::Full(full), None) => {
                full.tick(now, self.deadlines.answer, &mut self.out);
                full.pump(&mut self.out);
                if silent > self.deadlines.ping {
                    full.ping(&mut self.out);
                    self.pinged = Some(now);
                }
                false
            }
            (Phase::Closing, _) => false,
        };
        if late {
            self.phase = Phase::Closing;
        }
        self.settle();
    }

    /// Asks the initiator to log out within `grace` (RFC 7143 section 11.9.1).
    pub fn shut_down(&mut self, grace: Duration) {
        match &mut self.phase {
            Phase::Full(full) => full.ask_for_logout(grace, &mut self.out),
            Phase::Login(_) | Phase::Closing => self.phase = Phase::Closing,
        }
    }

    /// Moves what is to be sent to the end of `out`, and says how many bytes that is.
    pub fn take_output(&mut self, out: &mut impl Extend<Bytes>) -> usize {
        out.extend(self.out.queue.drain(..));
        std::mem::take(&mut self.out.bytes)
    }

    /// How many bytes [`Session::take_output`] would move. Whatever is received may add to them: where they grow large they
    /// are to be taken first.
    pub fn output_bytes(&self) -> usize {
        self.out.bytes
    }

    /// How the next PDUs that come in are to be cut: digests, and the longest data segment.
    pub fn framing(&self) -> (Digests, usize) {
        match &self.phase {
            Phase::Full(_) => (self.out.digests, RECEIVE_BYTES_MAX as usize),
            Phase::Login(_) | Phase::Closing => (Digests::default(), RECEIVE_BYTES_DEFAULT as usize),
        }
    }

    /// Connections that are to be closed because of what happened here.
    pub fn take_evicted(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.evicted)
    }

    /// True where nothing more is taken: the connection is to be closed when everything is sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    /// True where tasks are in workers' hands or wait for them.
    pub fn is_busy(&self) -> bool {
        matches!(&self.phase, Phase::Full(full) if full.is_busy())
    }

    /// Ends it: the connection is gone.
    pub fn end(&mut self) {
        self.phase = Phase::Closing;
    }

    /// True once it is a session with a target, whose initiator has shown that it may be here.
    pub fn has_target(&self) -> bool {
        matches!(&self.phase, Phase::Full(full) if full.normal.is_some())
    }

    /// Ends the connection where the session is over.
    fn settle(&mut self) {
        if let Phase::Full(full) = &mut self.phase
            && full.is_over()
        {
            self.phase = Phase::Closing;
        }
    }
}
