//! One side of a conversation: the product's own session with its worker, and its streams as bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::name::Realm;
use narrowboat_wan::sync::{
    Failure, Hello, Input, Job, Limits, Output, OwnSnapshots, Replication, Room, Session, Worker,
};
use narrowboat_wan::wire::{Channel, Frame, FrameDecoder, Role};

use super::shelf::{Shelf, spans};
use super::stage::{BRANCH, OFFICE, stage};

/// A session with its worker, its streams, and what it has still to do.
pub struct Side {
    pub session: Session,
    worker: Worker,
    decoders: [FrameDecoder; 2],
    /// Jobs that were not run yet.
    pub jobs: VecDeque<Job>,
    /// What it has said and nobody heard.
    pub said: VecDeque<(Channel, Vec<u8>)>,
    pub now: Duration,
}

impl Side {
    pub fn new(session: Session, worker: Worker) -> Side {
        let decoders = [FrameDecoder::new(Channel::Control), FrameDecoder::new(Channel::Data)];
        Side { session, worker, decoders, jobs: VecDeque::new(), said: VecDeque::new(), now: Duration::ZERO }
    }

    /// One that sends the second day.
    pub fn sender(limits: Limits, features: u64, replication: Replication) -> Side {
        let mut hello = Hello::new(Role::Sender, Realm::published().id(), BRANCH);
        hello.features_ignore = features;
        let worker = Worker::source(stage().branch.copy(), spans);
        Side::new(Session::send(hello, replication, limits, Duration::ZERO), worker)
    }

    /// One that receives into `shelf`.
    pub fn receiver(limits: Limits, features: u64, shelf: Arc<Shelf>) -> Side {
        Self::challenging([9; 32], limits, features, shelf)
    }

    /// The same with another challenge.
    pub fn challenging(nonce: [u8; 32], limits: Limits, features: u64, shelf: Arc<Shelf>) -> Side {
        let mut hello = Hello::new(Role::Receiver, Realm::published().id(), OFFICE);
        hello.features_ignore = features;
        let worker = Worker::sink(shelf, spans, Realm::published(), Arc::new(OwnSnapshots)).with_nonce(nonce);
        Side::new(Session::receive(hello, limits, Duration::ZERO), worker)
    }

    /// Hears bytes of a stream.
    pub fn hear(&mut self, channel: Channel, mut bytes: &[u8]) {
        loop {
            match self.decoders[usize::from(channel == Channel::Data)].next(&mut bytes) {
                Ok(Some(frame)) => self.session.handle(self.now, Input::Frame(channel, frame)),
                Ok(None) => return,
                Err(error) => return self.session.handle(self.now, Input::Lost(Failure::Wire(error))),
            }
        }
    }

    /// Takes out what the session has to say, as far as there is room, and its jobs.
    pub fn pump(&mut self, room: Room) {
        while let Some(output) = self.session.poll(room) {
            match output {
                Output::Control(frame) => self.said.push_back((Channel::Control, whole(&frame))),
                Output::Data(frame) => self.said.push_back((Channel::Data, whole(&frame))),
                Output::Job(job) => self.jobs.push_back(job),
            }
            if self.said.len() > 64 {
                return;
            }
        }
    }

    /// Runs so many jobs.
    pub fn work(&mut self, count: usize) {
        for _ in 0..count {
            let Some(job) = self.jobs.pop_front() else { return };
            let done = self.worker.run(job);
            self.session.handle(self.now, Input::Done(done));
            self.pump(ROOM);
        }
    }
}

pub const ROOM: Room = Room { control: true, data: true };

/// A frame's bytes.
pub fn whole(frame: &Frame) -> Vec<u8> {
    [&frame.head[..], &frame.body[..]].concat()
}
