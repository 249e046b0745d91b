//! A replication with nothing sent: both sides of the real protocol, talking to each other over a line that is only arithmetic.
//!
//! The sender is the product's own, with its packing and its differences; the receiver is the product's own, too, in front of a [`Ghost`]. So what a
//! rehearsal counts is what a replication would have counted. Where packing everything would take too long, only each so many-th group
//! is packed and the others are taken to become as much smaller ([`Sampling`]); how far that can be trusted is told.

mod ghost;
mod pipe;
mod sampling;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::id::StoreId;
use narrowboat_storage::name::Realm;

pub use ghost::Ghost;
pub use pipe::Traffic;
pub use sampling::{Sampled, Sampling};

use self::pipe::Pipe;
use self::sampling::Packer;
use crate::sync::seam::References;
use crate::sync::{Failure, Input, Limits, Output, OwnSnapshots, Replication, Report, Room, Session, Source, Worker};
use crate::wire::{Channel, Frame, FrameDecoder, Hello, RawFrame, Role};

/// What the ghost's store is called.
const GHOST: StoreId = StoreId(*b"a rehearsed peer");

/// Over what, and how, it is rehearsed.
#[derive(Clone)]
pub struct Rehearsal {
    /// The realm of the names.
    pub realm: Realm,
    /// What nodes refer to.
    pub references: References,
    /// How the sender packs, and how much it holds.
    pub limits: Limits,
    /// What the line takes, in bytes per second; none for one that never makes anybody wait.
    pub bytes_per_second: Option<u64>,
    /// There and back.
    pub round_trip: Duration,
    /// What is packed to see how small it gets.
    pub sampling: Sampling,
}

/// What a replication would have moved.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// The sender's report. Of the wire it knows the frames.
    pub report: Report,
    /// What went over the line, to the receiver and back.
    pub traffic: [Traffic; 2],
    /// How much of it was only estimated.
    pub sampled: Sampled,
    /// How long it took on the line.
    pub took: Duration,
    /// Bytes of chunks that lie elsewhere than they did, or are in other files, and that the peer has: about, where there are many.
    pub known_bytes: u64,
}

/// Rehearses a replication out of `source` to a ghost, which has what it was sent afterwards.
///
/// # Errors
/// What would break off a replication: above all objects that can't be read.
pub fn rehearse(
    source: &Arc<dyn Source>,
    ghost: &Arc<Ghost>,
    replication: Replication,
    how: &Rehearsal,
) -> Result<Rehearsed, Failure> {
    let hello = |role, store| Hello::new(role, how.realm.id(), store);
    let from = replication.snapshot.source;
    let limits = Limits { patience: None, ..how.limits.clone() };
    let sender = Session::send(hello(Role::Sender, from), replication, limits.clone(), Duration::ZERO);
    let receiver = Session::receive(hello(Role::Receiver, GHOST), limits, Duration::ZERO);
    let writer = Worker::sink(ghost.clone(), how.references, how.realm.clone(), Arc::new(OwnSnapshots));
    let reader = Worker::source(source.clone(), how.references);
    let pipe = || Pipe::new(how.bytes_per_second, how.round_trip / 2);
    let mut stage = Stage {
        now: Duration::ZERO,
        told: 0,
        events: BinaryHeap::new(),
        ends: [End::new(sender, reader, pipe()), End::new(receiver, writer, pipe())],
        packer: Packer::new(source.clone(), how.sampling),
    };
    stage.pump(Side::Sender);
    stage.pump(Side::Receiver);
    stage.run();
    let Stage { now, ends: [sender, receiver], packer, .. } = stage;
    let known_bytes = ghost.take_known_bytes();
    let (outcome, report) = sender.session.finish();
    outcome?;
    let traffic = [sender.pipe.traffic(), receiver.pipe.traffic()];
    Ok(Rehearsed { report, traffic, sampled: packer.sampled(), took: now, known_bytes })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Sender = 0,
    Receiver = 1,
}

impl Side {
    fn other(self) -> Side {
        if self == Side::Sender { Side::Receiver } else { Side::Sender }
    }
}

/// Something that will happen.
enum Event {
    Arrives(Side, Channel, RawFrame),
    /// The line has room for data of this side again.
    Room(Side),
}

struct End {
    session: Session,
    worker: Worker,
    pipe: Pipe,
    waits_for_room: bool,
}

impl End {
    fn new(session: Session, worker: Worker, pipe: Pipe) -> End {
        End { session, worker, pipe, waits_for_room: false }
    }
}

/// An event in the order of time, and of telling where times are equal.
struct Due(Duration, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

struct Stage {
    now: Duration,
    told: u64,
    events: BinaryHeap<Reverse<Due>>,
    ends: [End; 2],
    packer: Packer,
}

impl Stage {
    fn at(&mut self, time: Duration, event: Event) {
        self.told += 1;
        self.events.push(Reverse(Due(time, self.told, event)));
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    fn run(&mut self) {
        while self.ends.iter().any(|end| !end.session.is_over()) {
            let deadline = self.ends.iter().filter_map(|end| end.session.deadline()).min();
            let next = self.events.peek().map(|Reverse(due)| due.0);
            match (next, deadline) {
                (next, Some(deadline)) if next.is_none_or(|next| deadline < next) => {
                    // Also where it has passed: a deadline that does not move with time is nobody's to wait for.
                    self.now = self.now.max(deadline) + Duration::from_micros(1);
                    [Side::Sender, Side::Receiver].into_iter().for_each(|side| self.input(side, Input::Time));
                }
                (None, _) => return,
                _ => self.happen(),
            }
        }
    }

    fn happen(&mut self) {
        let Some(Reverse(Due(time, _, event))) = self.events.pop() else { return };
        self.now = self.now.max(time);
        match event {
            Event::Arrives(to, channel, frame) => self.input(to, Input::Frame(channel, frame)),
            Event::Room(side) => {
                self.end(side).waits_for_room = false;
                self.pump(side);
            }
        }
    }

    fn input(&mut self, side: Side, input: Input) {
        let now = self.now;
        self.end(side).session.handle(now, input);
        self.pump(side);
    }

    /// Takes everything that a side puts out. Jobs take no time: what a box can't compute as fast as the line, the line waits for.
    fn pump(&mut self, side: Side) {
        loop {
            let now = self.now;
            let end = self.end(side);
            let has_room = end.pipe.has_room(now);
            match end.session.poll(Room { control: true, data: has_room }) {
                Some(Output::Control(frame)) => self.send(side, Channel::Control, &frame),
                Some(Output::Data(frame)) => self.send(side, Channel::Data, &frame),
                Some(Output::Job(job)) => {
                    let done = self.packer.run(&self.ends[side as usize].worker, job);
                    self.end(side).session.handle(now, Input::Done(done));
                }
                None => break,
            }
        }
        let now = self.now;
        let end = self.end(side);
        if !end.waits_for_room && !end.pipe.has_room(now) {
            end.waits_for_room = true;
            let free = end.pipe.room_at();
            self.at(free, Event::Room(side));
        }
    }

    fn send(&mut self, side: Side, channel: Channel, frame: &Frame) {
        let now = self.now;
        let arrives = self.end(side).pipe.send(now, frame.len() as u64);
        match whole(channel, frame) {
            Ok(frame) => self.at(arrives, Event::Arrives(side.other(), channel, frame)),
            Err(failure) => self.input(side.other(), Input::Lost(failure)),
        }
    }
}

/// A frame as it arrives.
fn whole(channel: Channel, frame: &Frame) -> Result<RawFrame, Failure> {
    let mut decoder = FrameDecoder::new(channel);
    let head = decoder.next(&mut &frame.head[..]).map_err(Failure::Wire)?;
    let whole = match head {
        Some(frame) => Some(frame),
        None => decoder.next(&mut &frame.body[..]).map_err(Failure::Wire)?,
    };
    whole.ok_or(Failure::Lost)
}
