//! One session at one side, as a plain value.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, misplaced};
use super::failure::Failure;
use super::guess::Frontier;
use super::jobs::{Done, Job};
use super::lately::Lately;
use super::limits::Limits;
use super::receiver::Receiver;
use super::replication::Replication;
use super::report::Report;
use super::seam::{Hello, SnapshotOffer};
use super::sender::Sender;
use crate::wire::{Channel, Frame, Message, RawFrame, Role};

/// What the sender of a session that makes room is told.
const TURN_OVER: &str = "other boxes have their turn; it goes on by itself where it stopped";

/// What a session is told.
#[derive(Debug)]
pub enum Input {
    /// A frame of the peer, and the channel that it came on.
    Frame(Channel, RawFrame),
    /// A job is finished.
    Done(Done),
    /// Something of a frame has arrived, and not all of it: the peer is there, and slow.
    Heard,
    /// Time has passed.
    Time,
    /// The connection is gone, or a stream broke off or carried what the decoder refused.
    Lost(Failure),
    /// A person or a schedule ends it.
    Cancel,
    /// Others wait for the place of a receiving session: it makes room after its next acknowledgement, within a minute at the latest. One that
    /// publishes comes to its end before.
    MakeRoom,
}

/// Where the driver can take a frame now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// On the control stream.
    pub control: bool,
    /// On any of the data streams.
    pub data: bool,
}

/// What a session puts out.
#[derive(Debug)]
pub enum Output {
    /// A frame for the control stream.
    Control(Frame),
    /// A frame for one of the data streams, whichever.
    Data(Frame),
    /// A job for a [`super::Worker`].
    Job(Job),
}

/// One session at one side. See the [module](super) for how to drive it.
#[derive(Debug)]
pub struct Session {
    side: Side,
}

#[derive(Debug)]
enum Side {
    Sender(Box<Sender>),
    Receiver(Box<Receiver>),
}

impl Session {
    /// The side that has the snapshot, and opens the session's streams. `now` is the time since any fixed moment.
    pub fn send(hello: Hello, replication: Replication, limits: Limits, now: Duration) -> Self {
        assert_eq!(hello.role, Role::Sender);
        Session { side: Side::Sender(Box::new(Sender::new(hello, replication, limits, now))) }
    }

    /// A sending session for a snapshot that an earlier one was broken off with, there: it asks behind that first.
    #[must_use]
    pub fn going_on(mut self, frontier: &Frontier) -> Self {
        if let Side::Sender(sender) = &mut self.side {
            sender.frontier = frontier.clone();
        }
        self
    }

    /// A sending session that knows what others have sent to the same receiver lately, and tells them what it sends.
    #[must_use]
    pub fn beside(mut self, others: &Arc<Lately>) -> Self {
        if let Side::Sender(sender) = &mut self.side {
            sender.lately = others.clone();
        }
        self
    }

    /// The side that gets the snapshot. `now` is the time since any fixed moment.
    pub fn receive(hello: Hello, limits: Limits, now: Duration) -> Self {
        assert_eq!(hello.role, Role::Receiver);
        Session { side: Side::Receiver(Box::new(Receiver::new(hello, limits, now))) }
    }

    fn core(&self) -> &Core {
        match &self.side {
            Side::Sender(sender) => &sender.core,
            Side::Receiver(receiver) => &receiver.core,
        }
    }

    fn core_mut(&mut self) -> &mut Core {
        match &mut self.side {
            Side::Sender(sender) => &mut sender.core,
            Side::Receiver(receiver) => &mut receiver.core,
        }
    }

    /// Takes one input. Once the session has an outcome, further input is ignored.
    pub fn handle(&mut self, now: Duration, input: Input) {
        if self.core().outcome.is_some() {
            return;
        }
        self.core_mut().advance(now);
        let result = match input {
            Input::Frame(channel, frame) => self.frame(now, channel, frame),
            Input::Done(done) => match &mut self.side {
                Side::Sender(sender) => sender.reply(done.id, done.reply),
                Side::Receiver(receiver) => receiver.reply(done.id, done.reply),
            },
            Input::Heard => {
                self.core_mut().heard(now);
                Ok(())
            }
            Input::Time => self.check_patience(now),
            Input::Lost(failure) => Err(failure),
            Input::Cancel => Err(Failure::Cancelled),
            Input::MakeRoom => {
                if let Side::Receiver(receiver) = &mut self.side {
                    receiver.make_room();
                }
                Ok(())
            }
        };
        let result = result.and_then(|()| match &self.side {
            Side::Receiver(receiver) if receiver.leaves_now() => Err(Failure::Busy(TURN_OVER.to_owned())),
            _ => Ok(()),
        });
        if let Err(failure) = result {
            self.core_mut().fail(failure);
        }
        if !self.peer_owes() {
            self.core_mut().heard(now);
        }
    }

    fn frame(&mut self, now: Duration, channel: Channel, frame: RawFrame) -> Result<(), Failure> {
        let len = frame.stream_len() as u64;
        let core = self.core_mut();
        core.heard(now);
        match core.hello.role {
            Role::Sender => core.report.framed_bytes.1 += len,
            Role::Receiver => core.report.framed_bytes.0 += len,
        }
        let Some(message) = Message::decode(frame)? else { return Ok(()) };
        if message.channel() != channel {
            return Err(misplaced(&message));
        }
        if message == Message::Working {
            return Ok(());
        }
        match &mut self.side {
            Side::Sender(sender) => sender.message(message),
            Side::Receiver(receiver) => receiver.message(message),
        }
    }

    fn check_patience(&self, now: Duration) -> Result<(), Failure> {
        match self.core().deadline().filter(|_| self.peer_owes()) {
            Some(deadline) if deadline <= now => Err(Failure::Silent(self.core().limits.patience.unwrap_or_default())),
            _ => Ok(()),
        }
    }

    fn peer_owes(&self) -> bool {
        match &self.side {
            Side::Sender(sender) => sender.peer_owes(),
            Side::Receiver(receiver) => receiver.peer_owes(),
        }
    }

    /// The next output that there is room for; `None` where there is nothing until the next input, or more room.
    pub fn poll(&mut self, room: Room) -> Option<Output> {
        // In this order, one call finds everything: handing out a frame can make a job, but no job makes a frame.
        let control = if room.control { self.next_control() } else { None };
        if let Some(message) = control {
            return Some(Output::Control(self.encode(&message)));
        }
        if self.core().outcome.is_some() {
            return None;
        }
        let (data, job) = match &mut self.side {
            Side::Sender(sender) => match room.data.then(|| sender.next_data()).flatten() {
                None => (None, sender.next_job()),
                some => (some, None),
            },
            Side::Receiver(receiver) => (None, receiver.next_job()),
        };
        match data {
            Some(message) => Some(Output::Data(self.encode(&message))),
            None => job.map(Output::Job),
        }
    }

    fn next_control(&mut self) -> Option<Message> {
        let over = self.core().outcome.is_some();
        match self.core_mut().next_said() {
            Some(message) => Some(message),
            None if over => None,
            None => match &mut self.side {
                Side::Sender(sender) => sender.next_control(),
                Side::Receiver(receiver) => receiver.next_control(),
            }
            .or_else(|| self.sign_of_life()),
        }
    }

    fn sign_of_life(&self) -> Option<Message> {
        let due = self.core().sign_of_life().filter(|_| self.is_at_work())?;
        (due <= self.core().now()).then_some(Message::Working)
    }

    fn is_at_work(&self) -> bool {
        match &self.side {
            Side::Sender(sender) => sender.is_at_work(),
            Side::Receiver(receiver) => receiver.is_at_work(),
        }
    }

    fn encode(&mut self, message: &Message) -> Frame {
        let frame = message.encode();
        let len = frame.len() as u64;
        let core = self.core_mut();
        core.said = core.now();
        match core.hello.role {
            Role::Sender => core.report.framed_bytes.0 += len,
            Role::Receiver => core.report.framed_bytes.1 += len,
        }
        frame
    }

    /// When to hand in [`Input::Time`] at the latest. Moves with every input.
    pub fn deadline(&self) -> Option<Duration> {
        if self.core().outcome.is_some() {
            return None;
        }
        let silence = self.core().deadline().filter(|_| self.peer_owes());
        let (sync, leaves) = match &self.side {
            Side::Sender(_) => (None, None),
            Side::Receiver(receiver) => (receiver.sync_due(), receiver.leaves_by()),
        };
        let life = self.core().sign_of_life().filter(|_| self.is_at_work());
        silence.into_iter().chain(sync).chain(leaves).chain(life).min()
    }

    /// How the session ended; `None` while it goes on.
    pub fn outcome(&self) -> Option<&Result<(), Failure>> {
        self.core().outcome.as_ref()
    }

    /// True once the session has ended and everything that the peer is to know of it was handed out.
    pub fn is_over(&self) -> bool {
        self.core().outcome.is_some() && self.core().outbox_is_empty()
    }

    /// What was moved so far.
    pub fn report(&self) -> &Report {
        &self.core().report
    }

    /// Ends the session's use: how it ended and what it moved. A session that had no outcome counts as lost.
    pub fn finish(mut self) -> (Result<(), Failure>, Report) {
        if let Side::Sender(sender) = &mut self.side {
            sender.stop();
        }
        let core = self.core_mut();
        (core.outcome.take().unwrap_or(Err(Failure::Lost)), core.report.clone())
    }

    /// How the peer greeted.
    pub fn peer(&self) -> Option<&Hello> {
        self.core().peer.as_ref()
    }

    /// The snapshot that a receiving session was offered.
    pub fn offered(&self) -> Option<&SnapshotOffer> {
        match &self.side {
            Side::Sender(_) => None,
            Side::Receiver(receiver) => receiver.offered(),
        }
    }
}
