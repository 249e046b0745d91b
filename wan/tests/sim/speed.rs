//! A measurement, not a test: what the protocol costs a processor, both sides and all verification on one core.
//!
//! `cargo test --release -p narrowboat-wan --test sim -- --ignored --nocapture speed`

use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::name::Realm;
use narrowboat_wan::sync::{Done, Input, Job, Limits, Output, Room, Session, Worker};
use narrowboat_wan::wire::{Channel, Frame, FrameDecoder, Hello, Role};

use crate::common::rng::Rng;
use crate::common::store::{MemoryStore, OwnOnly};
use crate::common::tree::{Dataset, Size, spans};
use crate::world::{BRANCH, HEAD_OFFICE, replication};

/// Seconds that this thread was on a processor: a busy machine does not change them.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() as f64 / 1e9
}

/// One side, its worker, its decoders, and the processor time that its session and its jobs took.
struct End {
    session: Session,
    worker: Worker,
    decoders: [FrameDecoder; 2],
    session_seconds: f64,
    job_seconds: f64,
}

impl End {
    fn new(session: Session, worker: Worker) -> Self {
        let decoders = [FrameDecoder::new(Channel::Control), FrameDecoder::new(Channel::Data)];
        End { session, worker, decoders, session_seconds: 0.0, job_seconds: 0.0 }
    }

    fn take(&mut self, (channel, frame): (Channel, Frame)) {
        let began = cpu_seconds();
        for part in [&frame.head, &frame.body] {
            // As a connection hands them over.
            for mut packet in part.chunks(1400) {
                while let Some(frame) = self.decoders[channel as usize].next(&mut packet).unwrap() {
                    self.session.handle(Duration::ZERO, Input::Frame(channel, frame));
                }
            }
        }
        self.session_seconds += cpu_seconds() - began;
    }

    fn poll(&mut self, out: &mut Vec<(Channel, Frame)>) -> bool {
        let began = cpu_seconds();
        let (mut jobs, before): (Vec<Job>, usize) = (Vec::new(), out.len());
        while out.len() < before + 64 {
            match self.session.poll(Room { control: true, data: true }) {
                Some(Output::Control(frame)) => out.push((Channel::Control, frame)),
                Some(Output::Data(frame)) => out.push((Channel::Data, frame)),
                Some(Output::Job(job)) => jobs.push(job),
                None => break,
            }
        }
        self.session_seconds += cpu_seconds() - began;
        let moved = !jobs.is_empty() || out.len() > before;
        for job in jobs {
            let began = cpu_seconds();
            let done: Done = self.worker.run(job);
            self.job_seconds += cpu_seconds() - began;
            let began = cpu_seconds();
            self.session.handle(Duration::ZERO, Input::Done(done));
            self.session_seconds += cpu_seconds() - began;
        }
        moved
    }
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let realm = Realm::published();
    let (source, sink) = (MemoryStore::new(&realm), MemoryStore::new(&realm));
    let dataset = Dataset::random(&mut Rng::new(1), Size { files: 2000, chunks_max: 20, chunk_bytes_max: 32_000 });
    let snapshot = dataset.snapshot(&source, 1, BRANCH);
    let limits = Limits { window_bytes: 16 << 20, window_objects: 1 << 16, patience: None, ..Limits::default() };
    let greet = |role, store| Hello::new(role, realm.id(), store);
    let sender = greet(Role::Sender, BRANCH);
    let mut branch = End::new(
        Session::send(sender, replication(&snapshot, &[]), limits.clone(), Duration::ZERO),
        Worker::source(source, spans),
    );
    let mut office = End::new(
        Session::receive(greet(Role::Receiver, HEAD_OFFICE), limits, Duration::ZERO),
        Worker::sink(sink, spans, realm.clone(), Arc::new(OwnOnly)),
    );
    loop {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        let moved = branch.poll(&mut there) | office.poll(&mut back);
        there.into_iter().for_each(|frame| office.take(frame));
        back.into_iter().for_each(|frame| branch.take(frame));
        if !moved {
            break;
        }
    }
    branch.session.outcome().unwrap().as_ref().unwrap();
    let report = branch.session.report();
    let bytes = report.payload_bytes as f64;
    for (side, end) in [("sender", &branch), ("receiver", &office)] {
        let rate = |seconds: f64| bytes * 8.0 / seconds / 1e9;
        println!(
            "{side:9} session {:.3} s ({:.1} Gbit/s), jobs {:.3} s ({:.1} Gbit/s)",
            end.session_seconds,
            rate(end.session_seconds),
            end.job_seconds,
            rate(end.job_seconds)
        );
    }
    println!("{} objects, {:.0} MB, {:?}", report.chunks.sent + report.nodes.sent, bytes / 1e6, report.framed_bytes);
}
