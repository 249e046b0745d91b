//! Healing from a peer, as plain values: frames go in, frames and what is to be done come out. No sockets, no threads, no clock.
//!
//! ```text
//!   asker                              answerer          (a two-way stream of class heal)
//!   Hello  ───────────────────────────▶
//!          ◀─────────────────────────── Hello            who knows no healing stops the stream
//!   Below(snapshot, root) ────────────▶
//!          ◀─────────────────────────── Known(yes)       both have it, and each acknowledged it to the other
//!   Seek(ways) ───────────────────────▶
//!          ◀─────────────────────────── Found(bytes), Lacking, …   one for each way, in order
//!   …
//! ```
//!
//! Nothing is named: what is asked for is a *way*, the places among the references of one node after the other, from the root of a snapshot on that both
//! sides acknowledged having. So a peer gets what it had, and no more; who only knows a name learns nothing. Reasons:
//! `docs/decisions/0031-healing.md`.
//!
//! What it promises: at each side no more than one question with its answer is held; whatever a peer says out of turn, or that is no answer to
//! what was asked, ends it as a refusal. What comes is verified by whoever takes it ([`Patient`]). What it never does: believe a peer's bytes.

use std::collections::VecDeque;

use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::StoreId;
use narrowboat_storage::name::Name;
use narrowboat_storage::pool::Stored;

use crate::sync::{Failure, incompatible};
use crate::wire::{Found, Frame, HealMessage, Hello, RawFrame, Role, SEEK_WAYS_MAX, Seek, Stop};

pub use crate::wire::Below;
pub use store::{Entitled, StoreHealer, StorePatient};

mod store;
#[cfg(test)]
mod tests;

/// What an asker needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It is still looking: ask again.
    Moment,
    /// Whether the peer gives what lies below this.
    Below(Below),
    /// These, below what was said last; at most [`SEEK_WAYS_MAX`].
    Seek(Vec<Vec<u32>>),
    /// Nothing more.
    Nothing,
}

/// The store that is to be healed. All calls block and come one after the other.
pub trait Patient: Send + Sync {
    /// What it needs next. Does a bounded piece of work.
    fn next(&self) -> Result<Need>;
    /// The answer to [`Need::Below`].
    fn known(&self, known: bool) -> Result<()>;
    /// The answer to one of [`Need::Seek`], in their order. Refused where the bytes are something else than what was asked for.
    fn took(&self, stored: Option<Stored>) -> Result<()>;
    /// Makes durable what was taken. Called once, at the end, however that came.
    fn end(&self) -> Result<()>;
}

/// A store that others are healed from. All calls block and come one after the other.
pub trait Healer: Send + Sync {
    /// Whether the peer may have what lies below this: it is here, whole as far as that is known, and the peer has acknowledged having it, or published it here.
    fn may(&self, below: &Below) -> Result<bool>;
    /// What lies at a way from the root; none where that can't be read here. Refused where the way leads nowhere.
    fn at(&self, root: &Name, way: &[u32]) -> Result<Option<Stored>>;
}

/// What the asker's side of a conversation has heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that matters.
    Nothing,
    /// The answer to [`Asker::below`].
    Known(bool),
    /// The answer to the first of [`Asker::seek`] that has none yet.
    Answer(Option<Stored>),
}

/// The side that lost something.
#[derive(Debug)]
pub struct Asker {
    hello: Hello,
    greeted: bool,
    owes_known: bool,
    next: u64,
    open: VecDeque<u64>,
}

impl Asker {
    /// A conversation, and its first frame.
    pub fn new(hello: Hello) -> (Asker, Frame) {
        let hello = Hello { role: Role::Receiver, ..hello };
        let frame = HealMessage::Hello(hello.clone()).encode();
        (Asker { hello, greeted: false, owes_known: false, next: 0, open: VecDeque::new() }, frame)
    }

    /// True while the peer owes something.
    pub fn waits(&self) -> bool {
        !self.greeted || self.owes_known || !self.open.is_empty()
    }

    /// Asks whether what lies below this may be sought. Only while nothing is owed.
    pub fn below(&mut self, below: Below) -> Frame {
        self.owes_known = true;
        HealMessage::Below(below).encode()
    }

    /// Asks for objects. Only while nothing is owed; at most [`SEEK_WAYS_MAX`].
    pub fn seek(&mut self, ways: Vec<Vec<u32>>) -> Frame {
        debug_assert!(!ways.is_empty() && ways.len() <= SEEK_WAYS_MAX && !self.waits());
        let first = self.next;
        self.next += ways.len() as u64;
        self.open.extend(first..self.next);
        HealMessage::Seek(Seek { first, ways }).encode()
    }

    /// Takes a frame of the peer. After an error the conversation is over.
    pub fn handle(&mut self, frame: RawFrame) -> Result<Heard, Failure> {
        let Some(message) = HealMessage::decode(frame)? else { return Ok(Heard::Nothing) };
        match message {
            HealMessage::Hello(hello) if !self.greeted => {
                incompatible(&self.hello, &hello)?;
                self.greeted = true;
                Ok(Heard::Nothing)
            }
            HealMessage::Working => Ok(Heard::Nothing),
            HealMessage::Stop(stop) => Err(Failure::Stopped(stop)),
            _ if !self.greeted => Err(misplaced()),
            HealMessage::Known(known) if self.owes_known => {
                self.owes_known = false;
                Ok(Heard::Known(known))
            }
            HealMessage::Found(Found { number, stored }) if self.open.front() == Some(&number) => {
                self.open.pop_front();
                Ok(Heard::Answer(Some(stored)))
            }
            HealMessage::Lacking(number) if self.open.front() == Some(&number) => {
                self.open.pop_front();
                Ok(Heard::Answer(None))
            }
            _ => Err(misplaced()),
        }
    }
}

/// What the answerer's side of a conversation is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// Answer with [`Answerer::known`].
    Below(Below),
    /// Answer each, in order, with [`Answerer::answer`].
    Seek {
        /// The root that the ways begin at.
        root: Name,
        /// The number of the first one; the others count on.
        first: u64,
        /// The ways.
        ways: Vec<Vec<u32>>,
    },
}

/// The side that has the same tree.
#[derive(Debug)]
pub struct Answerer {
    hello: Hello,
    /// The store that the peer speaks for, where that is known.
    peer: Option<StoreId>,
    greeted: bool,
    asked: Option<Below>,
    root: Option<Name>,
    next: u64,
}

impl Answerer {
    /// A conversation, and its first frame.
    pub fn new(hello: Hello) -> (Answerer, Frame) {
        let hello = Hello { role: Role::Sender, ..hello };
        let frame = HealMessage::Hello(hello.clone()).encode();
        (Answerer { hello, peer: None, greeted: false, asked: None, root: None, next: 0 }, frame)
    }

    /// Answers the peer for this store and no other.
    #[must_use]
    pub fn for_store(self, peer: StoreId) -> Answerer {
        Answerer { peer: Some(peer), ..self }
    }

    /// Takes a frame of the peer; the next one only when this one is answered. After an error the conversation is over.
    pub fn handle(&mut self, frame: RawFrame) -> Result<Asked, Failure> {
        let Some(message) = HealMessage::decode(frame)? else { return Ok(Asked::Nothing) };
        match message {
            HealMessage::Hello(hello) if !self.greeted => {
                incompatible(&self.hello, &hello)?;
                if self.peer.is_some_and(|peer| peer != hello.store) {
                    let sentence = "this box was paired with another store than it has now; pair it again".to_owned();
                    return Err(Failure::NotAllowed(Refusal::Invalid(sentence).into()));
                }
                self.greeted = true;
                Ok(Asked::Nothing)
            }
            HealMessage::Working => Ok(Asked::Nothing),
            HealMessage::Stop(stop) => Err(Failure::Stopped(stop)),
            HealMessage::Below(below) if self.greeted => {
                (self.asked, self.root) = (Some(below), None);
                Ok(Asked::Below(below))
            }
            HealMessage::Seek(Seek { first, ways }) if first == self.next => {
                let Some(root) = self.root else { return Err(misplaced()) };
                self.next = self.next.saturating_add(ways.len() as u64);
                Ok(Asked::Seek { root, first, ways })
            }
            _ => Err(misplaced()),
        }
    }

    /// The answer to [`Asked::Below`].
    pub fn known(&mut self, known: bool) -> Frame {
        self.root = self.asked.take().filter(|_| known).map(|below| below.root);
        HealMessage::Known(self.root.is_some()).encode()
    }

    /// The answer to one way.
    pub fn answer(number: u64, stored: Option<Stored>) -> Frame {
        match stored {
            Some(stored) => HealMessage::Found(Found { number, stored }).encode(),
            None => HealMessage::Lacking(number).encode(),
        }
    }
}

/// The last frame of a conversation that failed, where there is something to say.
pub fn farewell(failure: &Failure) -> Option<Frame> {
    failure.stop().map(|stop: Stop| HealMessage::Stop(stop).encode())
}

fn misplaced() -> Failure {
    Failure::Protocol("what it said has no place in a healing".to_owned())
}
