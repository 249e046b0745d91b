//! One replication as a person sees it: goes on over broken connections until it is done, refused, or given up.

use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use tokio::time::Instant;

use super::cancel::Cancel;
use super::connections::is_same;
use super::driver::{Conversation, Ends, drive};
use super::host::LinkError;
use super::keeper::Backoff;
use super::peers::Peer;
use super::shares::Counting;
use super::transport::stripes;
use super::{Inner, lanes, tls};
use crate::shape::Class;
use crate::sync::{Failure, Limits, Replication, Report, Session, Source, Worker};
use crate::wire::{Hello, Preface, Role, StreamClass};

/// How often it is looked whether a connection is worth waiting for any longer.
const LOOK: Duration = Duration::from_secs(1);
/// How long the peer has to let a session begin, which it does when one of this box's has ended: then it counts as busy.
const OPENS: Duration = Duration::from_secs(300);
/// How often progress is told at most.
const PROGRESS: Duration = Duration::from_millis(200);

/// How a replication is getting on.
#[derive(Clone, Debug)]
pub struct Progress {
    /// False while there is no connection: then it is being waited for.
    pub connected: bool,
    /// Connections that were used so far, the present one included.
    pub attempts: u32,
    /// What was moved so far, all attempts together.
    pub report: Report,
    /// Why the last attempt broke off, until something arrives again.
    pub trouble: Option<String>,
    /// Bits per second on the wire to the peer in the second that ends now, whatever they are for.
    pub bits_per_second: u64,
}

/// A replication that did not come to its end, with what it had moved until then. That is kept by the peer, and need
/// not be sent again.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Stopped {
    /// Why.
    #[source]
    pub error: LinkError,
    /// What was moved.
    pub report: Box<Report>,
}

/// Runs `replication` towards `peer`, as traffic of a class.
pub(super) async fn replicate(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    replication: Replication,
    class: Class,
    source: Arc<dyn Source>,
    cancel: &Cancel,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, Stopped> {
    let worker = Arc::new(Worker::source(source, inner.config.references).within(inner.packing.clone()));
    let mut job = Running {
        inner,
        peer,
        counting: Counting::begin(inner.shaper.clone(), peer, inner.began),
        total: Report {
            dataset: replication.snapshot.dataset,
            snapshot: replication.snapshot.snapshot,
            ..Report::default()
        },
        attempts: 0,
        broken: 0,
        trouble: None,
        delta: inner.config.limits.delta,
        prefixes: inner.config.limits.prefixes,
        began: Instant::now(),
        told: None,
        progress,
    };
    let mut backoff = Backoff::default();
    let mut moved_at = Instant::now();
    let mut replication = replication;
    loop {
        let (kept_before, sent_before) = (job.total.kept, job.total.payload_bytes);
        let (error, used) = match job.connect(cancel, &mut moved_at).await {
            Ok(connection) => {
                let used = connection.clone();
                let held = lanes::hold(inner, peer, connection, class).await;
                match job.attempt(held.connection(), &replication, &worker, cancel).await {
                    Ok(()) => return Ok(job.report(None)),
                    Err(failure) => (failure, used),
                }
            }
            Err(error) => return Err(job.stopped(error)),
        };
        // A peer that is busy is there, and will have a place, however long that takes; so is one that wants nothing just now.
        if job.total.kept > kept_before || error.is_busy() || peer.stands_still(&inner.shaper) {
            moved_at = Instant::now();
            backoff = Backoff::default();
        }
        let hopeless = !error.may_pass() || moved_at.elapsed() > inner.config.retry_for;
        // What the first attempt brought is asked for by the next.
        if job.total.payload_bytes > sent_before {
            replication.shared = None;
        }
        let at_once = job.learn(&error, &mut replication);
        if hopeless || cancel.is_cancelled() {
            return Err(job.stopped(error.into()));
        }
        tracing::info!(peer = %peer.name(), %error, "replication interrupted, going on");
        job.trouble = Some((error.to_string(), job.total.kept));
        job.tell(true, None, true);
        // Where there is another connection already nothing is to be waited for.
        if at_once || peer.current().is_some_and(|other| !is_same(&other, &used)) {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next(rand::random())) => {}
            () = cancel.cancelled() => {}
        }
    }
}

struct Running<'a> {
    inner: &'a Arc<Inner>,
    peer: &'a Arc<Peer>,
    counting: Counting,
    /// Of the attempts that are over.
    total: Report,
    attempts: u32,
    /// Those of them that broke.
    broken: u32,
    /// Why the last attempt broke off, and what was kept by then.
    trouble: Option<(String, u64)>,
    /// Whether objects may be sent as differences.
    delta: bool,
    /// Whether chunks may be asked for by the first bytes of their names.
    prefixes: bool,
    began: Instant,
    told: Option<Instant>,
    progress: &'a mut (dyn FnMut(Progress) + Send),
}

impl Running<'_> {
    /// Waits for a connection, until cancelled or for as long as the link is configured to try. `since` is when something has moved
    /// last; a pause does not count, for nothing can move in it.
    async fn connect(&mut self, cancel: &Cancel, since: &mut Instant) -> Result<Connection, LinkError> {
        self.tell(false, None, true);
        let (inner, peer) = (self.inner, self.peer);
        let connected = async {
            peer.hold.released().await;
            peer.connected().await
        };
        tokio::pin!(connected);
        loop {
            tokio::select! {
                connection = &mut connected => return connection.ok_or(LinkError::Closed),
                () = cancel.cancelled() => return Err(Failure::Cancelled.into()),
                () = inner.closing.cancelled() => return Err(LinkError::Closed),
                () = tokio::time::sleep(LOOK) => {}
            }
            if peer.stands_still(&inner.shaper) {
                *since = Instant::now();
            } else if since.elapsed() >= inner.config.retry_for {
                return Err(LinkError::Unreachable {
                    peer: peer.name().to_string(),
                    why: peer
                        .last_error()
                        .unwrap_or_else(|| "it has not called, and no address of it is known".to_owned()),
                });
            }
        }
    }

    /// What the next attempt does otherwise, because of how this one failed. True where that is all that it takes, and it may begin at once.
    fn learn(&mut self, error: &Failure, replication: &mut Replication) -> bool {
        // What the peer could not make of differences is sent whole.
        let is_meant = error.wants_full_names() || error.wants_no_base() || error.is_busy();
        self.delta &= !matches!(error, Failure::Stopped(_)) || is_meant;
        self.broken += u32::from(!error.is_busy());
        // Each once: another time it is a failure like others.
        let full_names = self.prefixes && error.wants_full_names();
        // What is gone may have been called present, or be of the base.
        let gone = error.wants_full_names() && !full_names;
        let no_base = !replication.bases.is_empty() && (error.wants_no_base() || gone);
        self.prefixes &= !full_names;
        if no_base {
            replication.bases.clear();
            replication.shared = None;
        }
        full_names || no_base
    }

    async fn attempt(
        &mut self,
        connection: &Connection,
        replication: &Replication,
        worker: &Arc<Worker>,
        cancel: &Cancel,
    ) -> Result<(), Failure> {
        self.attempts += 1;
        let now = self.inner.began.elapsed();
        let mut hello = Hello::new(Role::Sender, self.inner.config.realm.id(), self.inner.config.store);
        hello.features_ignore &= self.inner.config.features;
        let rate = self.rate_expected(connection);
        let limits = self.limits(rate, connection.rtt());
        let session = Session::send(hello, replication.clone(), limits, now)
            .going_on(&self.total.frontier)
            .beside(&self.peer.lately);
        let rate = rate.unwrap_or(Limits::UNKNOWN_BYTES_PER_SECOND);
        let number = self.peer.next_session();
        let control = tokio::select! {
            opened = open_control(connection, number) => opened?,
            () = opens_for_too_long(self.inner, self.peer) => return Err(Failure::Busy("the peer takes no more sessions at once".to_owned())),
            _ = connection.closed() => return Err(Failure::Lost),
            () = cancel.cancelled() => return Err(Failure::Cancelled),
            () = self.inner.closing.cancelled() => return Err(Failure::Lost),
        };
        let connection = connection.clone();
        let stripes = u8::try_from(stripes(rate, connection.rtt())).unwrap_or(u8::MAX);
        let data_out = (0..stripes).map(|index| Preface { class: StreamClass::Data, index, session: number }).collect();
        let conversation =
            Conversation { session, worker: worker.clone(), connection, control, data_out, data_in: None };
        let (inner, peer) = (self.inner, self.peer);
        let mut greeted = false;
        let sending = peer.hold.begin_sending();
        let (outcome, report) = drive(
            conversation,
            inner.began,
            Ends { cancel, closing: &inner.closing, make_room: &Cancel::new(), hold: Some(&peer.hold) },
            || peer.stands_still(&inner.shaper) || inner.grants.pause(peer.node),
            |session| {
                if let Some(hello) = session.peer().filter(|_| !greeted) {
                    greeted = true;
                    peer.greeted(hello);
                }
                self.tell(true, Some(session.report()), false);
            },
        )
        .await;
        drop(sending);
        self.total.add(&report);
        self.tell(true, None, true);
        if let Err(failure) = &outcome
            && failure.is_refusal()
        {
            inner.refused(peer, format!("it was sent a snapshot: {failure}")).await;
        }
        outcome
    }

    fn limits(&self, rate: Option<u64>, round_trip: Duration) -> Limits {
        let own = Limits { delta: self.delta, prefixes: self.prefixes, ..self.inner.config.limits.clone() };
        own.on_line(rate, round_trip, self.broken)
    }

    /// Bytes per second that the line may be expected to take; none where neither a cap nor what was seen says anything.
    fn rate_expected(&self, connection: &Connection) -> Option<u64> {
        let limits = [None, Some(self.peer.node)].map(|of| self.inner.shaper.limit(of));
        let capped =
            limits.into_iter().flatten().filter(|limit| !limit.is_paused()).min().map(|limit| limit.bits() / 8);
        let seen = tls::controller_of(connection).map(|steady| steady.bytes_per_second()).filter(|rate| *rate > 0);
        // What was seen says little while little was sent, so a cap outranks it.
        capped.or(seen)
    }

    fn tell(&mut self, connected: bool, session: Option<&Report>, now: bool) {
        if !now && self.told.is_some_and(|told| told.elapsed() < PROGRESS) {
            return;
        }
        self.told = Some(Instant::now());
        let report = self.report(session);
        let bits_per_second = self.inner.shaper.bits_per_second(self.peer.node);
        self.trouble = self.trouble.take().filter(|(_, kept)| report.kept <= *kept);
        let trouble = self.trouble.as_ref().map(|(why, _)| why.clone());
        (self.progress)(Progress { connected, attempts: self.attempts, report, trouble, bits_per_second });
    }

    /// What was moved so far, with what was on the wire.
    fn report(&self, session: Option<&Report>) -> Report {
        let mut report = self.total.clone();
        if let Some(session) = session {
            report.add(session);
        }
        report.seconds = self.began.elapsed().as_secs_f64();
        (report.wire_bytes_forward, report.wire_bytes_back) =
            self.counting.share(report.framed_bytes, session.is_none());
        report.peak_bits_per_second = self.counting.seen().sent.highest_bits_per_second();
        report
    }

    fn stopped(&self, error: LinkError) -> Stopped {
        Stopped { error, report: Box::new(self.report(None)) }
    }
}

/// Waits until the peer has had its time to let a session begin; a pause does not count.
async fn opens_for_too_long(inner: &Inner, peer: &Peer) {
    let mut waited = Duration::ZERO;
    while waited < OPENS {
        tokio::time::sleep(LOOK).await;
        if !peer.stands_still(&inner.shaper) {
            waited += LOOK;
        }
    }
}

/// Opens the control stream of a session, which goes before its data in importance.
async fn open_control(
    connection: &Connection,
    session: u64,
) -> Result<(quinn::SendStream, quinn::RecvStream), Failure> {
    let mut control = connection.open_bi().await.map_err(|_| Failure::Lost)?;
    // Fails only on a stream that is closed already, which the write tells as well.
    let _ = control.0.set_priority(1);
    let preface = Preface { class: StreamClass::Control, index: 0, session };
    control.0.write_all(&preface.encode()).await.map_err(|_| Failure::Lost)?;
    Ok(control)
}
