//! Two sessions, their workers, and the line between them, in simulated time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::id::StoreId;
use narrowboat_wan::sync::seam::{Hello, Sink, SnapshotOffer};
use narrowboat_wan::sync::{
    Arrival, Done, Expected, Failure, Frontier, Input, Job, Lane, Lately, Limits, Output, Replication, Reply, Report,
    Request, Room, Session, Worker,
};
use narrowboat_wan::wire::{Channel, Frame, FrameDecoder, Role};

use crate::common::rng::Rng;
use crate::common::store::{MemoryStore, OwnOnly};
use crate::common::tree::spans;
use crate::line::{Direction, Line};

pub const BRANCH: StoreId = StoreId([1; 16]);
pub const HEAD_OFFICE: StoreId = StoreId([2; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Sender = 0,
    Receiver = 1,
}

impl Side {
    pub fn other(self) -> Side {
        if self == Side::Sender { Side::Receiver } else { Side::Sender }
    }
}

/// A receiver that does not keep its word: shows that the harness can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Admits without verifying.
    Credulous,
    /// Publishes before everything is there.
    Hasty,
}

/// Changes what one side says: each frame becomes any frames.
pub type Tamper<'a> = &'a mut dyn FnMut(Side, Frame) -> Vec<Vec<u8>>;

/// What happens in one attempt.
pub struct Script<'a> {
    pub line: Line,
    pub limits: [Limits; 2],
    /// Where an earlier attempt was broken off.
    pub frontier: Frontier,
    /// What the sender's other sessions have sent.
    pub lately: Arc<Lately>,
    /// Cut the line after so many microseconds.
    pub cut_us: Option<u64>,
    pub flaw: Flaw,
    pub tamper: Option<Tamper<'a>>,
    pub hellos: [Hello; 2],
}

impl Script<'_> {
    pub fn honest(line: Line, realm: [u8; 16]) -> Self {
        let hellos = [Hello::new(Role::Sender, realm, BRANCH), Hello::new(Role::Receiver, realm, HEAD_OFFICE)];
        Script {
            line,
            limits: Default::default(),
            frontier: Frontier::default(),
            lately: Arc::default(),
            cut_us: None,
            flaw: Flaw::None,
            tamper: None,
            hellos,
        }
    }
}

/// How an attempt ended.
pub struct Ended {
    pub sender: (Result<(), Failure>, Report),
    pub receiver: (Result<(), Failure>, Report),
    pub wire_bytes: [u64; 2],
    pub micros: u64,
    /// When the first object was on its way.
    pub first_object_us: Option<u64>,
    /// Most jobs under way at the same time, at either side.
    pub jobs_max: usize,
}

enum Event {
    Arrive { to: Side, stream: usize, bytes: Vec<u8> },
    LineFree(Side),
    JobEnds(Side, Job),
    Cut,
}

struct End {
    session: Session,
    worker: Worker,
    decoders: Vec<FrameDecoder>,
    /// What each outgoing stream has still to send.
    queues: Vec<VecDeque<u8>>,
    next_stream: usize,
    line_busy: bool,
    writes: VecDeque<Job>,
    write_busy: bool,
    jobs: usize,
}

impl End {
    fn free_data_stream(&self) -> Option<usize> {
        (1..self.queues.len()).find(|stream| self.queues[*stream].is_empty())
    }

    fn next_stream_to_send(&mut self) -> Option<usize> {
        if !self.queues[0].is_empty() {
            return Some(0);
        }
        let data = self.queues.len() - 1;
        let after = self.next_stream;
        let stream = (0..data).map(|step| (after + step) % data + 1).find(|stream| !self.queues[*stream].is_empty())?;
        self.next_stream = stream;
        Some(stream)
    }
}

struct World<'a> {
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    ends: [End; 2],
    directions: [Direction; 2],
    rng: Rng,
    script: Script<'a>,
    sink: Arc<dyn Sink>,
    jobs_max: usize,
    first_object_us: Option<u64>,
}

fn end(session: Session, worker: Worker, streams_in: usize, streams_out: usize) -> End {
    let channel = |stream| if stream == 0 { Channel::Control } else { Channel::Data };
    End {
        session,
        worker,
        decoders: (0..streams_in).map(|stream| FrameDecoder::new(channel(stream))).collect(),
        queues: vec![VecDeque::new(); streams_out],
        next_stream: 0,
        line_busy: false,
        writes: VecDeque::new(),
        write_busy: false,
        jobs: 0,
    }
}

/// Runs one attempt to replicate a snapshot between stores in memory.
pub fn attempt(
    source: &Arc<MemoryStore>,
    sink: &Arc<MemoryStore>,
    replication: Replication,
    script: Script,
    seed: u64,
) -> Result<Ended, String> {
    let reader = Worker::source(source.clone(), spans);
    let writer = Worker::sink(sink.clone(), spans, sink.realm.clone(), Arc::new(OwnOnly));
    let writer = writer.remembering(sink.possessions.clone()).with_nonce([seed as u8; 32]);
    attempt_between(reader, writer, sink.clone(), replication, script, seed)
}

/// Runs one attempt to replicate a snapshot. `sink` is the store behind `writer`, for flaws. Fails where two honest
/// sides wait for one another for ever.
pub fn attempt_between(
    reader: Worker,
    writer: Worker,
    sink: Arc<dyn Sink>,
    replication: Replication,
    script: Script,
    seed: u64,
) -> Result<Ended, String> {
    let [limits_s, limits_r] = script.limits.clone();
    let [hello_s, hello_r] = script.hellos.clone();
    let sender =
        Session::send(hello_s, replication, limits_s, Duration::ZERO).going_on(&script.frontier).beside(&script.lately);
    let receiver = Session::receive(hello_r, limits_r, Duration::ZERO);
    let streams = script.line.streams + 1;
    let mut world = World {
        now: 0,
        events: BTreeMap::new(),
        count: 0,
        ends: [end(sender, reader, 1, streams), end(receiver, writer, streams, 1)],
        directions: [Direction::new(script.line), Direction::new(script.line)],
        rng: Rng::new(seed),
        script,
        sink,
        jobs_max: 0,
        first_object_us: None,
    };
    if let Some(cut) = world.script.cut_us {
        world.at(cut, Event::Cut);
    }
    world.pump(Side::Sender);
    world.pump(Side::Receiver);
    world.run()?;
    let World { ends: [sender, receiver], directions, now, jobs_max, first_object_us, .. } = world;
    Ok(Ended {
        sender: sender.session.finish(),
        receiver: receiver.session.finish(),
        wire_bytes: directions.map(|direction| direction.wire_bytes),
        micros: now,
        first_object_us,
        jobs_max,
    })
}

impl World<'_> {
    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    fn over(&self) -> bool {
        self.ends.iter().all(|end| end.session.outcome().is_some())
    }

    fn run(&mut self) -> Result<(), String> {
        while !self.over() {
            let Some(((time, _), event)) = self.events.pop_first() else {
                return self.quiet();
            };
            self.now = time;
            for side in [Side::Sender, Side::Receiver] {
                let deadline = self.end(side).session.deadline();
                if deadline.is_some_and(|deadline| deadline <= Duration::from_micros(time)) {
                    self.input(side, Input::Time);
                    self.pump(side);
                }
            }
            match event {
                Event::Arrive { to, stream, bytes } => self.arrive(to, stream, &bytes),
                Event::LineFree(side) => {
                    self.end(side).line_busy = false;
                    self.pump(side);
                }
                Event::JobEnds(side, job) => self.job_ends(side, job),
                Event::Cut => self.cut(),
            }
        }
        Ok(())
    }

    /// Nothing moves. Where one side has ended or lies, the other learns that the connection is closed; two honest
    /// sides that wait for one another are a mistake of ours.
    fn quiet(&mut self) -> Result<(), String> {
        let honest = self.script.tamper.is_none();
        if honest && self.ends.iter().all(|end| end.session.outcome().is_none()) {
            let reports: Vec<_> = self.ends.iter().map(|end| end.session.report()).collect();
            return Err(format!("stuck after {} us: {reports:#?}", self.now));
        }
        self.lose();
        Ok(())
    }

    fn input(&mut self, side: Side, input: Input) {
        let now = Duration::from_micros(self.now);
        self.end(side).session.handle(now, input);
    }

    fn lose(&mut self) {
        for side in [Side::Sender, Side::Receiver] {
            self.input(side, Input::Lost(Failure::Lost));
        }
    }

    /// The line is cut: of what is on its way, a part of one more segment arrives.
    fn cut(&mut self) {
        let events = std::mem::take(&mut self.events);
        let arrivals = events.into_values().filter_map(|event| match event {
            Event::Arrive { to, stream, bytes } => Some((to, stream, bytes)),
            _ => None,
        });
        if let Some((to, stream, bytes)) = arrivals.into_iter().next() {
            let len = self.rng.below(bytes.len() as u64 + 1) as usize;
            self.arrive(to, stream, &bytes[..len]);
        }
        // What the receiver's store was told to do may or may not have happened.
        while let Some(job) = self.end(Side::Receiver).writes.pop_front() {
            if self.rng.one_in(2) {
                break;
            }
            self.run_job(Side::Receiver, job);
        }
        self.lose();
    }

    fn arrive(&mut self, to: Side, stream: usize, bytes: &[u8]) {
        let mut rest = bytes;
        let channel = if stream == 0 { Channel::Control } else { Channel::Data };
        loop {
            match self.end(to).decoders[stream].next(&mut rest) {
                Ok(Some(frame)) => self.input(to, Input::Frame(channel, frame)),
                Ok(None) => break,
                Err(error) => {
                    self.input(to, Input::Lost(Failure::Wire(error)));
                    break;
                }
            }
        }
        self.pump(to);
    }

    fn job_ends(&mut self, side: Side, job: Job) {
        let lane = job.request.lane();
        let done = self.run_job(side, job);
        let end = self.end(side);
        end.jobs -= 1;
        if lane == Lane::Write {
            end.write_busy = false;
        }
        self.input(side, Input::Done(done));
        self.pump(side);
    }

    fn run_job(&mut self, side: Side, job: Job) -> Done {
        let id = job.id;
        match (self.script.flaw, &job.request) {
            (Flaw::Credulous, Request::Admit(arrivals)) => {
                for arrival in arrivals {
                    let Arrival::Object(Expected::Named((kind, name)), stored) = arrival else {
                        panic!("not to a credulous box")
                    };
                    self.sink.admit(*kind, name, stored.clone()).unwrap();
                }
                Done { id, reply: Reply::Admitted }
            }
            (Flaw::Hasty, Request::Accept { snapshot, .. }) => {
                self.sink.publish(snapshot).unwrap();
                self.end(side).worker.run(job)
            }
            _ => self.end(side).worker.run(job),
        }
    }

    /// Takes whatever a session puts out: a frame for each stream that has nothing to send, and all jobs.
    fn pump(&mut self, side: Side) {
        loop {
            let end = self.end(side);
            let data = end.free_data_stream();
            let room = Room { control: end.queues[0].is_empty(), data: data.is_some() };
            match end.session.poll(room) {
                None => break,
                Some(Output::Control(frame)) => self.enqueue(side, 0, frame),
                Some(Output::Data(frame)) => {
                    self.first_object_us.get_or_insert(self.now);
                    self.enqueue(side, data.unwrap(), frame);
                }
                Some(Output::Job(job)) => self.start(side, job),
            }
        }
        if !self.end(side).write_busy
            && let Some(job) = self.end(side).writes.pop_front()
        {
            self.end(side).write_busy = true;
            let ends = self.now + self.rng.within(50, 3000);
            self.at(ends, Event::JobEnds(side, job));
        }
        self.transmit(side);
    }

    fn start(&mut self, side: Side, job: Job) {
        let end = self.end(side);
        end.jobs += 1;
        let jobs = end.jobs;
        self.jobs_max = self.jobs_max.max(jobs);
        match job.request.lane() {
            Lane::Read => {
                let ends = self.now + self.rng.within(10, 500);
                self.at(ends, Event::JobEnds(side, job));
            }
            Lane::Write => self.end(side).writes.push_back(job),
        }
    }

    /// Puts one segment on the line: control first, then data streams in turn.
    fn transmit(&mut self, side: Side) {
        let end = self.end(side);
        if end.line_busy {
            return;
        }
        let Some(stream) = end.next_stream_to_send() else { return };
        let max = self.rng.within(1, self.script.line.segment_bytes.max(1)) as usize;
        let max = if stream == 0 { self.script.line.segment_bytes as usize } else { max.max(40) };
        let queue = &mut self.ends[side as usize].queues[stream];
        let bytes: Vec<u8> = queue.drain(..queue.len().min(max)).collect();
        let (free, arrival) = self.directions[side as usize].send(self.now, stream, bytes.len(), &mut self.rng);
        self.end(side).line_busy = true;
        self.at(free, Event::LineFree(side));
        self.at(arrival, Event::Arrive { to: side.other(), stream, bytes });
    }

    fn enqueue(&mut self, side: Side, stream: usize, frame: Frame) {
        let frames = match &mut self.script.tamper {
            Some(tamper) => tamper(side, frame),
            None => vec![[&frame.head[..], &frame.body[..]].concat()],
        };
        for frame in frames {
            self.end(side).queues[stream].extend(frame);
        }
    }
}

/// A snapshot to be replicated, building on earlier ones.
pub fn replication(snapshot: &SnapshotOffer, earlier: &[SnapshotOffer]) -> Replication {
    let bases = earlier.iter().rev().filter_map(|base| Some((base.snapshot, base.root?))).collect();
    Replication { snapshot: snapshot.clone(), bases, mark: None, shared: None }
}
