//! Drives one replication session over the streams of one connection: see "Driving a session" in [`crate::sync`].
//!
//! The session decides; this carries. One task turns the session, small tasks read and write its streams, and jobs of the
//! store run on threads that may block. Every queue is bounded, so a slow disk slows its peer down through the windows
//! of QUIC and of the session and fills nobody's memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::error::Environment;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cancel::Cancel;
use super::hold::Hold;
use super::streams::{Heard, Shared, Way, Writer, read_frames};
use crate::sync::{Done, Failure, Input, Job, Lane, Output, Report, Room, Session, Worker};
use crate::wire::{Channel, Frame, Preface};

/// Frames that wait between the streams' readers and the session, whatever their sum: each reader holds one more.
const HEARD_FRAMES: usize = 16;
/// Control frames that wait for their stream.
const CONTROL_FRAMES: usize = 32;
/// Data frames that wait for each stream, besides the one being written.
const DATA_FRAMES: usize = 1;
/// Read jobs that run at once: enough to hide a disk's latency, few enough to leave it to its other users.
const READS: usize = 3;
/// The least time that the last word is given to arrive.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a paused line is looked at.
const PAUSED: Duration = Duration::from_secs(1);

/// A session and what it speaks through.
pub(super) struct Conversation {
    pub session: Session,
    pub worker: Arc<Worker>,
    pub connection: Connection,
    pub control: (SendStream, RecvStream),
    /// Streams for data that goes out, which are opened when there is some; none at a receiver.
    pub data_out: Vec<Preface>,
    /// Streams with data that comes in, behind their prefaces; None at a sender.
    pub data_in: Option<mpsc::Receiver<RecvStream>>,
}

/// What ends a session from outside.
pub(super) struct Ends<'a> {
    /// A person or a schedule: the peer is told, and does not wait for more.
    pub cancel: &'a Cancel,
    /// The link shuts down: to the peer it is a broken connection, after which it tries again.
    pub closing: &'a Cancel,
    /// The peer wants nothing for a while: a session that sends ends, and what it has written with it.
    pub hold: Option<&'a Hold>,
    /// Others wait for the place of a session that receives.
    pub make_room: &'a Cancel,
}

/// Runs a session to its end. `began` is the origin of the session's time; `patient` says whether silence is to be borne
/// just now, because the line is paused; `observe` is called whenever the session has moved.
pub(super) async fn drive(
    conversation: Conversation,
    began: Instant,
    ends: Ends<'_>,
    patient: impl Fn() -> bool,
    mut observe: impl FnMut(&Session),
) -> (Result<(), Failure>, Report) {
    let Conversation { mut session, worker, connection, control, data_out, mut data_in } = conversation;
    let outlasted = async {
        match ends.hold {
            Some(hold) => hold.outlasts().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(outlasted);
    let data_out = data_out.into_iter().map(|preface| Way::Later(connection.clone(), preface)).collect();
    let mut rim = Rim::new(worker, control, data_out);
    let mut leaving = false;
    loop {
        rim.pump(&mut session);
        observe(&session);
        if session.outcome().is_some() {
            // Only the last words are still to be handed out.
            let room = tokio::time::timeout(FAREWELL, rim.shared.room.notified());
            if session.is_over() || rim.is_mute() || room.await.is_err() {
                break;
            }
            continue;
        }
        // Who has to make room does so also while its line is paused.
        let borne = !leaving && patient();
        let deadline = session.deadline().map(|deadline| began + deadline);
        let deadline = if borne { Some(Instant::now() + PAUSED) } else { deadline };
        let input = tokio::select! {
            biased;
            () = ends.cancel.cancelled() => Input::Cancel,
            () = ends.closing.cancelled() => Input::Lost(Failure::Lost),
            // Once: the session has an outcome then.
            () = &mut outlasted => Input::Lost(Failure::Busy("the peer has paused what it receives".to_owned())),
            () = ends.make_room.cancelled(), if !leaving => {
                leaving = true;
                Input::MakeRoom
            }
            Some(done) = rim.jobs.done.recv() => match done {
                Ok(done) => Input::Done(done),
                Err(failure) => Input::Lost(failure),
            },
            Some(heard) = rim.heard.recv() => match heard {
                Heard::Frame(channel, frame) => Input::Frame(channel, frame),
                Heard::Part => Input::Heard,
                Heard::Broken(failure) => Input::Lost(failure),
            },
            Some(stream) = next_stream(&mut data_in) => {
                rim.listen(stream, Channel::Data);
                continue;
            }
            // After what was heard before it.
            _ = connection.closed() => Input::Lost(Failure::Lost),
            () = rim.shared.room.notified() => continue,
            () = sleep_until(deadline) => match borne {
                // Silence begins anew when the pause is over.
                true => Input::Heard,
                false => Input::Time,
            },
        };
        session.handle(began.elapsed(), input);
    }
    let farewell = FAREWELL.max(connection.rtt() * 4);
    rim.end(matches!(session.outcome(), Some(Ok(()))), farewell).await;
    session.finish()
}

async fn next_stream(streams: &mut Option<mpsc::Receiver<RecvStream>>) -> Option<RecvStream> {
    match streams {
        Some(streams) => streams.recv().await,
        None => None,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Everything around a session that moves by itself. Dropped, it stops moving.
struct Rim {
    control: Option<Writer>,
    data: Vec<Writer>,
    heard: mpsc::Receiver<Heard>,
    shared: Shared,
    abandon_data: watch::Sender<bool>,
    abandon_control: watch::Sender<bool>,
    jobs: Jobs,
    readers: JoinSet<()>,
    control_writer: JoinSet<()>,
    data_writers: JoinSet<()>,
}

impl Rim {
    fn new(worker: Arc<Worker>, control: (SendStream, RecvStream), data_out: Vec<Way>) -> Rim {
        let (heard_in, heard) = mpsc::channel(HEARD_FRAMES);
        let (abandon_data, data_abandoned) = watch::channel(false);
        let (abandon_control, control_abandoned) = watch::channel(false);
        let shared = Shared { room: Arc::new(Notify::new()), abandon: data_abandoned, heard: heard_in };
        let (mut control_writer, mut data_writers) = (JoinSet::new(), JoinSet::new());
        let control_shared = Shared { abandon: control_abandoned, ..shared.clone() };
        let (control_out, task) = Writer::new(Way::Open(control.0), CONTROL_FRAMES, control_shared);
        control_writer.spawn(task);
        let mut data = Vec::with_capacity(data_out.len());
        for way in data_out {
            let (writer, task) = Writer::new(way, DATA_FRAMES, shared.clone());
            data.push(writer);
            data_writers.spawn(task);
        }
        let mut rim = Rim {
            control: Some(control_out),
            data,
            heard,
            shared,
            abandon_data,
            abandon_control,
            jobs: Jobs::new(worker),
            readers: JoinSet::new(),
            control_writer,
            data_writers,
        };
        rim.listen(control.1, Channel::Control);
        rim
    }

    /// True where nothing that is said will leave any more.
    fn is_mute(&self) -> bool {
        self.control.as_ref().is_none_or(Writer::is_closed)
    }

    fn listen(&mut self, stream: RecvStream, channel: Channel) {
        // Those that have ended are of no further interest.
        while self.readers.try_join_next().is_some() {}
        self.readers.spawn(read_frames(stream, channel, self.shared.heard.clone()));
    }

    /// Takes everything out of the session that there is room for.
    fn pump(&mut self, session: &mut Session) {
        loop {
            let control = self.control.as_ref().filter(|control| control.has_room());
            let roomiest = self.data.iter().filter(|data| data.has_room()).min_by_key(|data| data.queued_bytes());
            let room = Room { control: control.is_some(), data: roomiest.is_some() };
            match session.poll(room) {
                Some(Output::Control(frame)) => push(control, frame),
                Some(Output::Data(frame)) => push(roomiest, frame),
                Some(Output::Job(job)) => self.jobs.start(job),
                None => return,
            }
        }
    }

    /// Lets the last word arrive; data is given up where the session failed.
    async fn end(mut self, done: bool, farewell: Duration) {
        self.readers.abort_all();
        self.control = None;
        self.data.clear();
        // The control stream's last frame says why; data is worth nothing any more.
        self.abandon_data.send_replace(!done);
        let _ = tokio::time::timeout(farewell, async {
            while self.control_writer.join_next().await.is_some() {}
            while self.data_writers.join_next().await.is_some() {}
        })
        .await;
        self.abandon_data.send_replace(true);
        self.abandon_control.send_replace(true);
        while self.control_writer.join_next().await.is_some() {}
        while self.data_writers.join_next().await.is_some() {}
    }
}

fn push(writer: Option<&Writer>, frame: Frame) {
    // A session puts nothing out where it was told that there is no room.
    if let Some(writer) = writer {
        writer.push(frame);
    }
}

/// Jobs under way: reads beside one another, writes in order.
struct Jobs {
    done: mpsc::UnboundedReceiver<Result<Done, Failure>>,
    done_in: mpsc::UnboundedSender<Result<Done, Failure>>,
    writes: mpsc::UnboundedSender<Job>,
    reads: mpsc::UnboundedSender<Job>,
    _lanes: JoinSet<()>,
}

impl Jobs {
    // The queues have no bound of their own: a session has at most a dozen jobs under way.
    fn new(worker: Arc<Worker>) -> Jobs {
        let (done_in, done) = mpsc::unbounded_channel();
        let (writes, write_jobs) = mpsc::unbounded_channel();
        let (reads, read_jobs) = mpsc::unbounded_channel();
        let mut lanes = JoinSet::new();
        lanes.spawn(lane(worker.clone(), write_jobs, done_in.clone(), 1));
        lanes.spawn(lane(worker, read_jobs, done_in.clone(), READS));
        Jobs { done, done_in, writes, reads, _lanes: lanes }
    }

    fn start(&mut self, job: Job) {
        let lane = match job.request.lane() {
            Lane::Read => &self.reads,
            Lane::Write => &self.writes,
        };
        if lane.send(job).is_err() {
            // The lane's task ended early, which only a panic of a store's code does.
            let _ = self.done_in.send(Err(broken_store()));
        }
    }
}

/// Runs the jobs of one lane, at most `width` of them at once.
async fn lane(
    worker: Arc<Worker>,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    done: mpsc::UnboundedSender<Result<Done, Failure>>,
    width: usize,
) {
    let mut running = VecDeque::with_capacity(width);
    while let Some(job) = jobs.recv().await {
        if running.len() == width
            && let Some(oldest) = running.pop_front()
        {
            let _: Result<(), tokio::task::JoinError> = oldest.await;
        }
        let (worker, done) = (worker.clone(), done.clone());
        running.push_back(tokio::task::spawn_blocking(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run(job)));
            let _ = done.send(outcome.map_err(|_| broken_store()));
        }));
    }
}

fn broken_store() -> Failure {
    Failure::Store(Environment::Poisoned("a job of the store did not come back".to_owned()).into())
}
