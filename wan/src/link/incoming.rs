//! What a connected peer begins: sessions in which it sends us a snapshot; probes and healings are handed on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::StoreId;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cancel::Cancel;
use super::connections::Watch;
use super::driver::{Conversation, Ends, drive};
use super::hold::Opener;
use super::paths::Path;
use super::peers::Peer;
use super::places::Place;
use super::shares::Counting;
use super::streams::read_preface;
use super::transport::{DATA_STREAMS_MAX, STRIPES_MAX, peer_window};
use super::{Inner, grants, heal, probe};
use crate::shape::Class;
use crate::sync::{Admission, Failure, Limits, Report, Session, Worker};
use crate::wire::{FEATURE_PROOFS, Frame, Hello, Message, Preface, Role, SnapshotOffer, StreamClass};

/// How long a peer has to say what a stream is for.
const PREFACE: Duration = Duration::from_secs(30);
/// How often a connection is looked at: a NAT may have given the peer another port, or another connection may have replaced it.
const ADDRESS: Duration = Duration::from_millis(500);
/// How often a session that waits for its place says that it does.
const WAITING: Duration = Duration::from_secs(20);
/// Names that a session with a whole window may have asked, or lacking: eight times as many chunks as a sender asks ahead. Of each this box notes up to a hundred bytes,
/// so all sessions together take 100 MB for them at most.
const NAMES_MAX: u32 = 128 << 10;
/// A stream that nobody asked for.
const UNWANTED: VarInt = VarInt::from_u32(3);

/// Takes a connection that has proved the peer's key, and serves it until it ends.
pub(super) fn adopt(inner: &Arc<Inner>, peer: &Arc<Peer>, connection: Connection, path: Path) {
    peer.take(&connection, path, inner.config.identity.id());
    connection.set_receive_window(peer_window(inner.peers.count()));
    tracing::info!(peer = %peer.name(), address = %connection.remote_address(), "connected");
    begin(inner, peer, connection.clone());
    inner.spawn(grants::tell(inner.clone(), peer.clone(), connection));
}

/// Serves a connection of a class besides the peer's normal one until it ends. All of them together may have as much under way as
/// the normal one.
pub(super) fn attend(inner: &Arc<Inner>, peer: &Arc<Peer>, connection: Connection) {
    connection.set_receive_window(peer_window(inner.peers.count() * 2 * (Class::ALL.len() - 1)));
    tracing::debug!(peer = %peer.name(), address = %connection.remote_address(), "connected for a class");
    begin(inner, peer, connection);
}

fn begin(inner: &Arc<Inner>, peer: &Arc<Peer>, connection: Connection) {
    inner.shaper.route(connection.remote_address(), peer.node);
    let (task_inner, peer) = (inner.clone(), peer.clone());
    inner.spawn(async move { serve(task_inner, peer, connection).await });
}

async fn serve(inner: Arc<Inner>, peer: Arc<Peer>, connection: Connection) {
    let sessions = Arc::new(Sessions::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(probe::listen(inner.clone(), peer.clone(), connection.clone()));
    let mut address = connection.remote_address();
    let mut look = tokio::time::interval(ADDRESS);
    let mut watch = Watch::default();
    let mut opener = Opener::of(&connection, &peer.hold);
    let ended = loop {
        while tasks.try_join_next().is_some() {}
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok(control) => {
                    let serving = receive(inner.clone(), peer.clone(), connection.clone(), sessions.clone(), control);
                    tasks.spawn(serving);
                }
                Err(error) => break Some(error),
            },
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    let (inner, peer, sessions) = (inner.clone(), peer.clone(), sessions.clone());
                    tasks.spawn(async move { take_in(&inner, &peer, &sessions, stream).await });
                }
                Err(error) => break Some(error),
            },
            () = peer.hold.changed() => opener.look(&connection),
            () = inner.closing.cancelled() => break None,
            () = peer.removed.cancelled() => {
                connection.close(VarInt::from_u32(0), b"removed");
                break None;
            }
            _ = look.tick() => {
                peer.look_after(&connection, &mut watch, inner.config.identity.id());
                opener.look(&connection);
                let seen = connection.remote_address();
                inner.shaper.route(seen, peer.node);
                if seen != address {
                    inner.shaper.unroute(address);
                    address = seen;
                }
            }
        }
    };
    tracing::info!(peer = %peer.name(), why = ?ended, "disconnected");
    // Sessions notice the end by themselves, and have their reports to make.
    while tasks.join_next().await.is_some() {}
    if !peer.is_connected_from(address) {
        inner.shaper.unroute(address);
    }
}

/// Takes a one-way stream in, once it has said what it is for.
async fn take_in(inner: &Arc<Inner>, peer: &Arc<Peer>, sessions: &Sessions, mut stream: RecvStream) {
    match tokio::time::timeout(PREFACE, read_preface(&mut stream)).await {
        Ok(Some(Preface { class: StreamClass::Data, session, .. })) => sessions.route(session, stream),
        Ok(Some(Preface { class: StreamClass::Grants, .. })) => {
            // What was granted outlives the connection for a while.
            let (granted, peer) = (inner.clone(), peer.clone());
            inner.spawn(async move { grants::listen(&granted, &peer, stream).await });
        }
        _ => {
            // It may be stopped already; then nothing is to be said.
            let _ = stream.stop(UNWANTED);
        }
    }
}

/// Data streams on their way to their sessions.
#[derive(Debug, Default)]
struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    running: BTreeMap<u64, mpsc::Sender<RecvStream>>,
    /// Streams that came before their session's control stream, unread. QUIC's limit of open streams bounds them.
    early: VecDeque<(u64, RecvStream)>,
}

impl Sessions {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a data stream where it belongs.
    fn route(&self, session: u64, stream: RecvStream) {
        let mut table = self.table();
        match table.running.get(&session) {
            // A queue that is full has as many streams as a session may have: this one is of no use.
            Some(queue) => drop(queue.try_send(stream)),
            None => {
                table.early.push_back((session, stream));
                if table.early.len() > DATA_STREAMS_MAX as usize {
                    table.early.pop_front();
                }
            }
        }
    }

    /// Begins a session: its data streams come out here. None where the number is in use.
    fn begin(&self, session: u64) -> Option<mpsc::Receiver<RecvStream>> {
        let mut table = self.table();
        if table.running.contains_key(&session) {
            return None;
        }
        let (queue, streams) = mpsc::channel(STRIPES_MAX as usize);
        let early = std::mem::take(&mut table.early);
        for (number, stream) in early {
            if number == session {
                drop(queue.try_send(stream));
            } else {
                table.early.push_back((number, stream));
            }
        }
        table.running.insert(session, queue);
        Some(streams)
    }

    fn end(&self, session: u64) {
        self.table().running.remove(&session);
    }
}

/// How often a session says how much of the wire is its.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Serves one control stream that the peer opened.
async fn receive(
    inner: Arc<Inner>,
    peer: Arc<Peer>,
    connection: Connection,
    sessions: Arc<Sessions>,
    mut control: (SendStream, RecvStream),
) {
    let preface = tokio::time::timeout(PREFACE, read_preface(&mut control.1)).await;
    if let Ok(Some(Preface { class: StreamClass::Probe, session, .. })) = preface {
        return probe::answer(&inner, &peer, connection, control, session).await;
    }
    if let Ok(Some(Preface { class: StreamClass::Heal, .. })) = preface {
        return heal::answer(&inner, &peer, connection, control).await;
    }
    let Ok(Some(Preface { class: StreamClass::Control, session: number, .. })) = preface else {
        let _ = control.1.stop(UNWANTED);
        let _ = control.0.reset(UNWANTED);
        return;
    };
    let Some(data_in) = sessions.begin(number) else {
        let _ = control.1.stop(UNWANTED);
        let _ = control.0.reset(UNWANTED);
        return;
    };
    let in_use = peer.begin_use(&connection);
    // What all sessions hold is bounded.
    let Some(place) = wait(&inner, &peer, &connection, &mut control.0).await else {
        sessions.end(number);
        return;
    };
    let record = peer.record();
    let outcome = run(&inner, &peer, connection, control, data_in, &place).await;
    drop(place);
    drop(in_use);
    sessions.end(number);
    if let Some((outcome, report)) = outcome {
        if let Err(failure) = &outcome
            && failure.is_refusal()
        {
            inner.refused(&peer, format!("it sent a snapshot: {failure}")).await;
        }
        let host = inner.host.clone();
        let told = tokio::task::spawn_blocking(move || host.received(&record, outcome.as_ref().copied(), &report));
        if told.await.is_err() {
            tracing::error!(peer = %peer.name(), "telling the box of a replication failed");
        }
    }
}

/// Waits for a place, and tells the peer so: then it does not take this box for gone. None where the peer no longer wants it.
async fn wait<'a>(
    inner: &'a Inner,
    peer: &Peer,
    connection: &Connection,
    control: &mut SendStream,
) -> Option<Place<'a>> {
    let take = inner.sessions.take(peer.id);
    tokio::pin!(take);
    let mut says = tokio::time::interval_at(Instant::now() + WAITING, WAITING);
    let given_up = control.stopped();
    tokio::pin!(given_up);
    loop {
        tokio::select! {
            biased;
            place = &mut take => return Some(place),
            _ = connection.closed() => return None,
            _ = &mut given_up => return None,
            () = inner.closing.cancelled() => return None,
            _ = says.tick() => {
                tracing::debug!(peer = %peer.name(), "waits for its turn to send");
                // A box of before signs of life ignores it, and has heard something all the same.
                let Frame { head, body } = Message::Working.encode();
                control.write_all_chunks(&mut [head, body]).await.ok()?;
            }
        }
    }
}

async fn run(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: Connection,
    control: (SendStream, RecvStream),
    data_in: mpsc::Receiver<RecvStream>,
    place: &Place<'_>,
) -> Option<(Result<(), Failure>, Report)> {
    let record = peer.record();
    let (host, asked) = (inner.host.clone(), record.clone());
    let opened =
        tokio::task::spawn_blocking(move || host.sink(&asked).map(|sink| (sink, host.admission(&asked)))).await;
    let (sink, admission) = match opened.ok()? {
        Ok(opened) => opened,
        Err(error) => return Some((Err(Failure::Store(error)), Report::default())),
    };
    let admission = Arc::new(PinnedStore { store: record.store, inner: admission });
    let config = &inner.config;
    let worker = Worker::sink(sink, config.references, config.realm.clone(), admission);
    let worker = Arc::new(worker.remembering(inner.possessions.clone()));
    let mut hello = Hello::new(Role::Receiver, config.realm.id(), config.store);
    hello.features_ignore &= config.features;
    if config.require_proofs {
        hello.features_read_only |= FEATURE_PROOFS;
    }
    let limits = Limits {
        window_bytes: place.window_bytes(),
        window_names: place.part_of(config.limits.window_names.min(NAMES_MAX)),
        ..config.limits.clone()
    };
    let session = Session::receive(hello, limits, inner.began.elapsed());
    let counting = Counting::begin(inner.shaper.clone(), peer, inner.began);
    let conversation =
        Conversation { session, worker, connection, control, data_out: Vec::new(), data_in: Some(data_in) };
    let began = Instant::now();
    let ends = Ends { cancel: &Cancel::new(), closing: &inner.closing, make_room: place.wanted(), hold: None };
    let patient = || peer.stands_still(&inner.shaper) || inner.grants.pause(peer.node);
    let mut watched = Watched { greeted: false, told: began };
    let observe = |session: &Session| watched.look(peer, session, &counting);
    let (outcome, mut report) = drive(conversation, inner.began, ends, patient, observe).await;
    if let Err(failure @ Failure::NotProved(_)) = &outcome {
        tracing::warn!(peer = %peer.name(), snapshot = %report.snapshot, %failure, "a peer claimed what it does not have; nothing was published");
    }
    report.seconds = began.elapsed().as_secs_f64();
    (report.wire_bytes_forward, report.wire_bytes_back) = swapped(counting.share(swapped(report.framed_bytes), true));
    report.peak_bits_per_second = counting.seen().received.highest_bits_per_second();
    Some((outcome, report))
}

/// A peer speaks for the store that it was paired with and for no other.
struct PinnedStore {
    store: StoreId,
    inner: Arc<dyn Admission>,
}

impl Admission for PinnedStore {
    fn admit(&self, peer: &Hello, snapshot: &SnapshotOffer) -> Result<()> {
        if peer.store != self.store {
            let sentence = "this box was paired with another store than it has now; pair it again".to_owned();
            return Err(Refusal::Invalid(sentence).into());
        }
        self.inner.admit(peer, snapshot)
    }
}

/// Bytes from the sender and to it, as bytes to this peer and from it; and the other way round.
fn swapped((there, back): (u64, u64)) -> (u64, u64) {
    (back, there)
}

/// What is looked after while a session goes on.
struct Watched {
    /// It has greeted.
    greeted: bool,
    /// When its share of the wire was last told.
    told: Instant,
}

impl Watched {
    fn look(&mut self, peer: &Peer, session: &Session, counting: &Counting) {
        if let Some(hello) = session.peer().filter(|_| !self.greeted) {
            self.greeted = true;
            peer.greeted(hello);
            if hello.features_ignore & FEATURE_PROOFS == 0 {
                tracing::warn!(peer = %peer.name(), software = %hello.software, "the peer is too old to prove that it has what it does not send");
            }
        }
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            counting.share(swapped(session.report().framed_bytes), false);
        }
    }
}
