//! Probes of the line to a peer: packets that are numbered, sent as QUIC datagrams over the connection that is there, and
//! reckoned with by [`crate::probe`].
//!
//! ```text
//!   asker                     answerer            (a two-way stream of class probe, beside the datagrams)
//!   preface ─────────────────▶
//!          ◀───────────────── Ready(cap)          or Wait; who knows no probes stops the stream
//!   train, Sent ─────────────▶ Heard              longer and longer, until the spread says enough
//!   Send ────────────────────▶ train, Sent        and the same the other way
//!   Row, row, Sent ──────────▶◀─ row, Sent, Lost  both at once; each packet brings back the last of the other side
//! ```
//!
//! Datagrams are of class normal like their connection, and are counted and held by the caps like everything else. Only the
//! window of congestion control lets a train pass at once ([`super::congestion::Steady::let_pass`]); else it would measure the window.
//!
//! What it promises: a peer can have one probe answered at a time, and one in [`CALM`]; it makes this side send no more than
//! [`TRAIN_BYTES_MAX`] and one row for each, and hold no more than their numbers. It never takes a size from the peer.

mod answer;
mod ear;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ReadError, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::time::{Instant, MissedTickBehavior};

use super::Inner;
use super::peers::Peer;
use super::socket::{Counters, Shaper, Watch};
use super::tls::controller_of;
use crate::probe::{Plan, RoundTrips, Row, Survey, Way};
use crate::shape::Rate;
use crate::wire::{PROBE_MARK_BYTES, PROBE_MESSAGE_BYTES, Preface, ProbeMark, ProbeMessage, StreamClass};

pub(super) use answer::answer;
use ear::Ear;
pub(super) use ear::Probes;

/// Payload of a datagram of a train: fits whatever packet size a path takes (RFC 9000, section 14).
const TRAIN_PAYLOAD: usize = 1140;
/// And of a row.
const ROW_PAYLOAD: usize = 40;
/// What QUIC adds: short header, packet number, frame, tag.
const QUIC_BYTES: u64 = 30;
/// How long the peer has to say that it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long a probe takes at most.
const TAKES_MAX: Duration = Duration::from_secs(60);
/// How long a peer is left alone between two probes.
const CALM: Duration = Duration::from_secs(10);
/// What an older box says to a stream that it does not know.
const UNWANTED: VarInt = VarInt::from_u32(3);
/// How often it is looked whether a train has left.
const LEAVING: Duration = Duration::from_millis(2);
/// Beyond so many bytes, and twice its own, a probe was not alone.
const ALONE_BYTES: u64 = 64_000;

/// Why nothing was measured, although the peer is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmeasured {
    /// It knows no probes.
    #[error("the peer's software measures no more than this; update it")]
    TooOld,
    /// A cap of zero.
    #[error("the peer is paused: nothing may be sent to it, and nothing is measured")]
    Paused,
    /// Too soon.
    #[error("the peer was probed just now, or is being probed; try again in {0} s")]
    Again(u64),
    /// It takes too long.
    #[error("the peer did not answer the probe in time: its line may be full, or it may be paused over there")]
    Silent,
    /// What it said can't be.
    #[error("the peer answered the probe with what is no answer")]
    Nonsense,
    /// The connection went.
    #[error("the connection broke while it was measured")]
    Broken,
}

/// One side of a probe.
struct Side {
    connection: Connection,
    ear: Arc<Ear>,
    session: u64,
    by_asker: bool,
    header_bytes: u64,
    send: SendStream,
    recv: RecvStream,
}

impl Side {
    fn wire_bytes(&self, payload: usize) -> u64 {
        payload as u64 + QUIC_BYTES + self.header_bytes
    }

    /// How much later than its end a train may arrive.
    fn grace(&self) -> Duration {
        (self.connection.rtt() / 2).clamp(Duration::from_millis(50), Duration::from_secs(1))
    }

    async fn say(&mut self, message: ProbeMessage) -> Result<(), Unmeasured> {
        self.send.write_all(&message.encode()).await.map_err(|_| Unmeasured::Broken)
    }

    async fn hear(&mut self) -> Result<ProbeMessage, Unmeasured> {
        let mut bytes = [0; PROBE_MESSAGE_BYTES];
        self.recv.read_exact(&mut bytes).await.map_err(|error| match error {
            ReadExactError::ReadError(ReadError::Reset(UNWANTED)) => Unmeasured::TooOld,
            _ => Unmeasured::Broken,
        })?;
        ProbeMessage::decode(&bytes).map_err(|_| Unmeasured::Nonsense)
    }

    fn datagram(&self, train: u8, number: u32, payload: usize, echo: Option<(u32, Duration)>) -> Bytes {
        let mark = ProbeMark { by_asker: self.by_asker, train, session: self.session, number, echo };
        let mut bytes = Vec::with_capacity(payload.max(PROBE_MARK_BYTES));
        bytes.extend_from_slice(&mark.encode());
        bytes.resize(payload.max(PROBE_MARK_BYTES), 0);
        bytes.into()
    }

    /// Sends a train at once, and says so.
    async fn train(&mut self, train: u8, packets: u32) -> Result<(), Unmeasured> {
        if let Some(steady) = controller_of(&self.connection) {
            steady.let_pass(u64::from(packets) * (TRAIN_PAYLOAD as u64 + QUIC_BYTES));
        }
        let room = self.connection.datagram_send_buffer_space();
        for number in 0..packets {
            let datagram = self.datagram(train, number, TRAIN_PAYLOAD, None);
            self.connection.send_datagram_wait(datagram).await.map_err(|_| Unmeasured::Broken)?;
        }
        // QUIC fills packets up with what is said on streams: that must not come before the rest of the train.
        while self.connection.datagram_send_buffer_space() < room {
            tokio::time::sleep(LEAVING).await;
        }
        self.say(ProbeMessage::Sent { train, packets }).await
    }

    /// Sends a row, spread out, and says so unless the other side is gone.
    async fn row(&self, row: Row) -> Result<(), Unmeasured> {
        let mut ticks = tokio::time::interval(row.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..row.packets {
            ticks.tick().await;
            let datagram = self.datagram(0, number, ROW_PAYLOAD, self.ear.leaves());
            self.connection.send_datagram(datagram).map_err(|_| Unmeasured::Broken)?;
        }
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // What a train did not use is nobody else's.
        if let Some(steady) = controller_of(&self.connection) {
            steady.let_pass(0);
        }
    }
}

/// Counts what passes with a peer, and stops counting when dropped.
struct Meanwhile {
    shaper: Arc<Shaper>,
    watch: Option<Watch>,
}

impl Meanwhile {
    fn begin(shaper: Arc<Shaper>, peer: &Peer) -> Self {
        let watch = Some(shaper.watch(peer.node));
        Meanwhile { shaper, watch }
    }

    fn seen(&self) -> Counters {
        self.watch.as_ref().map(|watch| self.shaper.seen(watch)).unwrap_or_default()
    }
}

impl Drop for Meanwhile {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.take() {
            self.shaper.unwatch(watch);
        }
    }
}

/// Hears the datagrams of a connection until it ends.
pub(super) async fn listen(inner: Arc<Inner>, peer: Arc<Peer>, connection: Connection) {
    let listening = async {
        while let Ok(datagram) = connection.read_datagram().await {
            if let Ok(mark) = ProbeMark::decode(&datagram) {
                inner.probes.heard(peer.id, mark);
            }
        }
    };
    tokio::select! {
        () = listening => {}
        () = inner.closing.cancelled() => {}
    }
}

/// IP, UDP, and what the line adds.
fn header_bytes(inner: &Inner, connection: &Connection) -> u64 {
    let ip = if connection.remote_address().ip().to_canonical().is_ipv4() { 28 } else { 48 };
    ip + inner.config.extra_bytes.min(200)
}

/// The cap in force of what is sent to a peer.
fn cap(inner: &Inner, peer: &Peer) -> Option<Rate> {
    [None, Some(peer.node)].into_iter().filter_map(|of| inner.shaper.limit(of)).min()
}

/// Measures the line to a connected peer.
pub(super) async fn ask(inner: &Inner, peer: &Peer, connection: &Connection) -> Result<Survey, Unmeasured> {
    if connection.max_datagram_size().is_none() {
        return Err(Unmeasured::TooOld);
    }
    if peer.stands_still(&inner.shaper) {
        return Err(Unmeasured::Paused);
    }
    let session = peer.next_session();
    let running = inner.probes.begin(peer.id, true, session).ok_or(Unmeasured::Again(CALM.as_secs()))?;
    let _in_use = peer.begin_use(connection);
    let counting = Meanwhile::begin(inner.shaper.clone(), peer);
    let began = Instant::now();
    let asking = async {
        let (mut send, recv) = connection.open_bi().await.map_err(|_| Unmeasured::Broken)?;
        let _ = send.set_priority(2);
        let preface = Preface { class: StreamClass::Probe, index: 0, session };
        send.write_all(&preface.encode()).await.map_err(|_| Unmeasured::TooOld)?;
        let header_bytes = header_bytes(inner, connection);
        let (connection, ear) = (connection.clone(), running.ear.clone());
        let mut side = Side { connection, ear, session, by_asker: true, header_bytes, send, recv };
        let ready = tokio::time::timeout(READY, side.hear()).await.map_err(|_| Unmeasured::Silent)??;
        match ready {
            ProbeMessage::Ready(theirs) => converse(&mut side, cap(inner, peer), theirs).await,
            ProbeMessage::Wait(seconds) => Err(Unmeasured::Again(seconds.into())),
            _ => Err(Unmeasured::Nonsense),
        }
    };
    let (mut survey, own) = tokio::time::timeout(TAKES_MAX, asking).await.map_err(|_| Unmeasured::Silent)??;
    let wire = counting.seen();
    (survey.sent_bytes, survey.received_bytes) = (wire.sent.bytes, wire.received.bytes);
    survey.busy = survey.sent_bytes + survey.received_bytes > 2 * own + ALONE_BYTES;
    survey.took = began.elapsed();
    Ok(survey)
}

/// The exchange itself: what was measured, and the wire bytes of its datagrams.
async fn converse(side: &mut Side, ours: Option<Rate>, theirs: Option<Rate>) -> Result<(Survey, u64), Unmeasured> {
    let wire = side.wire_bytes(TRAIN_PAYLOAD);
    let (mut there, mut back) = (Plan::default(), Plan::default());
    let mut train = 0;
    while let Some(packets) = there.next(wire) {
        train += 1;
        side.train(train, packets).await?;
        match side.hear().await? {
            ProbeMessage::Heard { train: heard, seen } if heard == train && seen.packets <= packets => {
                there.heard(packets, wire, seen);
            }
            _ => return Err(Unmeasured::Nonsense),
        }
    }
    train = 0;
    while let Some(packets) = back.next(wire) {
        train += 1;
        side.say(ProbeMessage::Send { train, size: TRAIN_PAYLOAD as u16, packets }).await?;
        if side.hear().await? != (ProbeMessage::Sent { train, packets }) {
            return Err(Unmeasured::Nonsense);
        }
        side.ear.wait(train, packets, side.grace()).await;
        back.heard(packets, wire, side.ear.train(train, packets, wire));
    }
    let slower = [(there.capacity(), ours), (back.capacity(), theirs)].into_iter().filter_map(|(seen, cap)| {
        let seen = seen.map(|capacity| capacity.bits_per_second);
        [seen, cap.map(Rate::bits)].into_iter().flatten().min()
    });
    let row = Row::over(slower.min(), side.wire_bytes(ROW_PAYLOAD));
    let Row { packets, interval } = row;
    side.say(ProbeMessage::Row { size: ROW_PAYLOAD as u16, packets, interval }).await?;
    side.row(row).await?;
    side.say(ProbeMessage::Sent { train: 0, packets }).await?;
    let (ProbeMessage::Sent { train: 0, packets: sent }, ProbeMessage::Lost(lost)) =
        (side.hear().await?, side.hear().await?)
    else {
        return Err(Unmeasured::Nonsense);
    };
    if sent != packets || lost.sent != packets {
        return Err(Unmeasured::Nonsense);
    }
    side.ear.wait(0, packets, side.grace()).await;
    let (missed, round_trips) = side.ear.row(packets);
    let own = there.spent_bytes() + back.spent_bytes() + 2 * u64::from(packets) * side.wire_bytes(ROW_PAYLOAD);
    let survey = Survey {
        round_trips: RoundTrips::of(&round_trips),
        there: Way { capacity: there.capacity(), loss: lost, cap: ours },
        back: Way { capacity: back.capacity(), loss: missed, cap: theirs },
        sent_bytes: 0,
        received_bytes: 0,
        busy: false,
        took: Duration::ZERO,
    };
    Ok((survey, own))
}
