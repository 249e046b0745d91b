//! Healings on the wire: the values of [`crate::heal`] over a two-way stream of class heal.
//!
//! It is traffic of class scavenger: nobody waits for it, and what is asked for still lies soundly at the peer. Where there can be no connection of that
//! class it goes over the normal one, behind everything else of this side.
//!
//! What it promises: a peer is answered in one conversation at a time, a newer one ends the older; all peers together in [`ANSWERS_MAX`], calls of the store
//! that outlast their conversation included; each holds one question and one object. A side that says nothing for [`PATIENCE`] while it owes something is
//! given up. Nothing is asked while this box wants nothing sent to it, and nothing answered while the peer wants nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use narrowboat_storage::error::{Environment, Error, Result as StorageResult};
use quinn::{Connection, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::cancel::Cancel;
use super::host::LinkError;
use super::peers::Peer;
use super::{Inner, lanes, lock};
use crate::heal::{Answerer, Asked, Asker, Healer, Heard, Need, Patient, farewell};
use crate::peer::PeerId;
use crate::shape::Class;
use crate::sync::Failure;
use crate::wire::{Channel, Frame, FrameDecoder, HealMessage, Hello, Preface, RawFrame, Role, StreamClass};

/// Peers that are answered at one time.
const ANSWERS_MAX: usize = 8;
/// How long a side that owes something may say nothing.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the asker says that it is still looking what is lost.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);
/// No conversation lasts longer, whatever signs of life there are: then another peer is asked, or another one is answered. What is left
/// comes with the next one.
const LONGEST: Duration = Duration::from_secs(3600);
/// A pause of so long is borne: the turns of other branches.
const PAUSE_BORNE: Duration = Duration::from_secs(60);
/// How much is taken from a stream at once.
const READ_BYTES: usize = 64 << 10;
/// How long the last word has to arrive.
const FAREWELL: Duration = Duration::from_secs(5);
/// What an older box says to a stream that it does not know.
const UNWANTED: VarInt = VarInt::from_u32(3);
/// What was not said to its end.
const BROKEN_OFF: VarInt = VarInt::from_u32(0);
/// Behind the streams of sessions.
const PRIORITY: i32 = -1;

/// Why a healing came to no end.
#[derive(Debug, thiserror::Error)]
pub enum Unhealed {
    /// It knows no healing, or is set to give nothing.
    #[error("the peer's software heals nobody; update it")]
    TooOld,
    /// Nothing may be sent.
    #[error("the peer is paused")]
    Paused,
    /// The conversation failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Those whom this box answers.
pub(super) struct Answers {
    places: Arc<Semaphore>,
    running: Mutex<BTreeMap<PeerId, Cancel>>,
}

impl Default for Answers {
    fn default() -> Self {
        Answers { places: Arc::new(Semaphore::new(ANSWERS_MAX)), running: Mutex::default() }
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

/// A stream whose frames are taken one at a time.
struct Talk {
    send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
    /// Bytes behind the last frame.
    left: bytes::Bytes,
    /// A frame was begun and is not all written.
    writing: bool,
}

impl Talk {
    fn new(send: SendStream, recv: RecvStream, channel: Channel) -> Talk {
        let _ = send.set_priority(PRIORITY);
        Talk { send, recv, decoder: FrameDecoder::new(channel), left: bytes::Bytes::new(), writing: false }
    }

    async fn say(&mut self, Frame { head, body }: Frame) -> Result<(), Unhealed> {
        self.writing = true;
        self.send.write_all_chunks(&mut [head, body]).await.map_err(|error| match error {
            WriteError::Stopped(UNWANTED) => Unhealed::TooOld,
            _ => Failure::Lost.into(),
        })?;
        self.writing = false;
        Ok(())
    }

    /// The next frame; none where the other side has ended the conversation between two.
    async fn hear(&mut self) -> Result<Option<RawFrame>, Unhealed> {
        loop {
            let mut input = &self.left[..];
            let frame = self.decoder.next(&mut input).map_err(Failure::Wire)?;
            let taken = self.left.len() - input.len();
            self.left = self.left.slice(taken..);
            if frame.is_some() {
                return Ok(frame);
            }
            let read = tokio::time::timeout(PATIENCE, self.recv.read_chunk(READ_BYTES, true)).await;
            match read.map_err(|_| Failure::Silent(PATIENCE))? {
                Ok(Some(chunk)) => self.left = chunk.bytes,
                Ok(None) if self.decoder.at_boundary() => return Ok(None),
                Err(ReadError::Reset(UNWANTED)) => return Err(Unhealed::TooOld),
                Ok(None) | Err(_) => return Err(Failure::Lost.into()),
            }
        }
    }

    /// Says why it ends, where there is something to say, and lets that arrive; not for long, and not in the middle of a frame.
    async fn end(mut self, outcome: &Result<(), Unhealed>) {
        if self.writing {
            let _ = self.send.reset(BROKEN_OFF);
            return;
        }
        let farewell = async {
            if let Err(Unhealed::Failed(failure)) = outcome
                && let Some(frame) = farewell(failure)
            {
                let _ = self.say(frame).await;
            }
            if self.send.finish().is_ok() {
                let _ = self.send.stopped().await;
            }
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            let _ = self.send.reset(BROKEN_OFF);
        }
    }
}

fn hello(inner: &Inner, role: Role) -> Hello {
    let mut hello = Hello::new(role, inner.config.realm.id(), inner.config.store);
    hello.features_ignore &= inner.config.features;
    hello
}

/// The calls of one conversation to its store: one after the other where blocking is allowed, though the conversation may be broken off in the
/// middle of one.
#[derive(Default)]
struct Calls {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Given back when the last call is over.
    place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Calls {
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> StorageResult<T> + Send + 'static,
        refused: fn(Error) -> Failure,
    ) -> Result<T, Unhealed> {
        let turn: OwnedMutexGuard<()> = self.turn.clone().lock_owned().await;
        let place = self.place.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            let _until_it_is_over = (turn, place);
            call()
        });
        let broken = |_| Environment::Poisoned("a call of the store did not come back".to_owned()).into();
        match outcome.await.map_err(broken).and_then(|outcome| outcome) {
            Ok(done) => Ok(done),
            Err(Error::Refused(why)) => Err(refused(why.into()).into()),
            Err(error) => Err(Failure::Store(error).into()),
        }
    }
}

/// Asks a peer for what a store has lost.
pub(super) async fn ask(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    patient: Arc<dyn Patient>,
    cancel: &Cancel,
) -> Result<(), LinkError> {
    let unreachable = |why: String| LinkError::Unreachable { peer: peer.name().to_string(), why };
    let Some(normal) = peer.current() else {
        return Err(unreachable(peer.last_error().unwrap_or_else(|| "it has not called".to_owned())));
    };
    if wants_nothing(inner, peer) {
        return Err(unreachable(Unhealed::Paused.to_string()));
    }
    let held = lanes::hold(inner, peer, normal, Class::Scavenger).await;
    let calls = Calls::default();
    let asking = converse(inner, peer, held.connection(), (&patient, &calls));
    let outcome = tokio::select! {
        outcome = asking => outcome,
        () = inner.closing.cancelled() => Err(Failure::Cancelled.into()),
        () = cancel.cancelled() => Err(Failure::Cancelled.into()),
        () = peer.removed.cancelled() => Err(Failure::Cancelled.into()),
    };
    let ended = calls.call(move || patient.end(), Failure::Store).await;
    if inner.closing.is_cancelled() {
        return Err(LinkError::Closed);
    }
    match outcome.and(ended) {
        Ok(()) => Ok(()),
        Err(Unhealed::Failed(failure)) => {
            if failure.is_refusal() {
                inner.refused(peer, format!("it was asked for what is damaged here: {failure}")).await;
            }
            Err(failure.into())
        }
        Err(other) => Err(unreachable(other.to_string())),
    }
}

/// True while nothing is to be asked: by a cap on what is sent, or on what comes.
fn wants_nothing(inner: &Inner, peer: &Peer) -> bool {
    peer.stands_still(&inner.shaper) || inner.grants.pause(peer.node)
}

async fn converse(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: &Connection,
    (patient, calls): (&Arc<dyn Patient>, &Calls),
) -> Result<(), Unhealed> {
    let opened = tokio::time::timeout(PATIENCE, connection.open_bi()).await.map_err(|_| Failure::Silent(PATIENCE))?;
    let (send, recv) = opened.map_err(|_| Failure::Lost)?;
    let mut talk = Talk::new(send, recv, Channel::Data);
    let preface = Preface { class: StreamClass::Heal, index: 0, session: peer.next_session() };
    let outcome = async {
        talk.send.write_all(&preface.encode()).await.map_err(|_| Failure::Lost)?;
        let (asker, frame) = Asker::new(hello(inner, Role::Receiver));
        talk.say(frame).await?;
        be_healed(asker, &mut talk, (patient, calls), &|| wants_nothing(inner, peer)).await
    };
    let later = |_| Err(Failure::Busy(format!("it took longer than {} minutes", LONGEST.as_secs() / 60)).into());
    let outcome = tokio::time::timeout(LONGEST, outcome).await.unwrap_or_else(later);
    talk.end(&outcome).await;
    outcome
}

async fn be_healed(
    mut asker: Asker,
    talk: &mut Talk,
    (patient, calls): (&Arc<dyn Patient>, &Calls),
    wants_nothing: &(dyn Fn() -> bool + Sync),
) -> Result<(), Unhealed> {
    let mut said = Instant::now();
    loop {
        while asker.waits() {
            let Some(frame) = talk.hear().await? else { return Err(Failure::Lost.into()) };
            let (patient, heard) = (patient.clone(), asker.handle(frame)?);
            let wrong = |why: Error| Failure::WrongContent(why.to_string());
            match heard {
                Heard::Nothing => {}
                Heard::Known(known) => calls.call(move || patient.known(known), wrong).await?,
                Heard::Answer(stored) => calls.call(move || patient.took(stored), wrong).await?,
            }
        }
        let paused = Instant::now();
        while wants_nothing() {
            if paused.elapsed() >= PAUSE_BORNE {
                return Err(Failure::Busy("there is a pause".to_owned()).into());
            }
            tokio::time::sleep(PAUSE_BORNE / 60).await;
        }
        if said.elapsed() >= SIGN_OF_LIFE {
            said = Instant::now();
            talk.say(HealMessage::Working.encode()).await?;
        }
        let looking = patient.clone();
        match calls.call(move || looking.next(), Failure::Store).await? {
            Need::Moment => {}
            Need::Below(below) => talk.say(asker.below(below)).await?,
            Need::Seek(ways) => talk.say(asker.seek(ways)).await?,
            Need::Nothing => return Ok(()),
        }
    }
}

/// Answers one conversation, behind the preface of its stream.
pub(super) async fn answer(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: Connection,
    (mut send, mut recv): (SendStream, RecvStream),
) {
    let Ok(place) = inner.answers.places.clone().try_acquire_owned() else {
        let outcome = Err(Failure::Busy("others are being healed just now".to_owned()).into());
        return Talk::new(send, recv, Channel::Control).end(&outcome).await;
    };
    let calls = Calls { place: Some(Arc::new(place)), ..Calls::default() };
    let (host, record) = (inner.host.clone(), peer.record());
    let Ok(Some(healer)) = calls.call(move || Ok(host.healer(&record)), Failure::Store).await else {
        let _ = recv.stop(UNWANTED);
        let _ = send.reset(UNWANTED);
        return;
    };
    let newer = Cancel::new();
    if let Some(older) = lock(&inner.answers.running).insert(peer.id, newer.clone()) {
        older.cancel();
    }
    let (in_use, sending) = (peer.begin_use(&connection), peer.hold.begin_sending());
    let mut talk = Talk::new(send, recv, Channel::Control);
    let outcome = tokio::select! {
        outcome = heal(inner, peer, &mut talk, (healer, &calls)) => outcome,
        () = inner.closing.cancelled() => Err(Failure::Cancelled.into()),
        () = tokio::time::sleep(LONGEST) => Err(Failure::Busy("a healing that lasts for so long is begun anew".to_owned()).into()),
        () = peer.hold.outlasts() => Err(Failure::Busy("you have paused what you receive".to_owned()).into()),
        () = newer.cancelled() => Err(Failure::Busy("a newer healing has begun".to_owned()).into()),
        _ = connection.closed() => Err(Failure::Lost.into()),
    };
    // The place is the next one's, and acknowledgements leave again.
    drop((calls, sending));
    talk.end(&outcome).await;
    drop(in_use);
    {
        let mut running = lock(&inner.answers.running);
        // Else it is a newer one's.
        if !newer.is_cancelled() {
            running.remove(&peer.id);
        }
    }
    tracing::debug!(peer = %peer.name(), ?outcome, "a healing has ended");
    if let Err(Unhealed::Failed(failure)) = &outcome
        && failure.is_refusal()
    {
        inner.refused(peer, format!("it asked to be healed: {failure}")).await;
    }
}

async fn heal(
    inner: &Arc<Inner>,
    peer: &Peer,
    talk: &mut Talk,
    (healer, calls): (Arc<dyn Healer>, &Calls),
) -> Result<(), Unhealed> {
    let (answerer, frame) = Answerer::new(hello(inner, Role::Sender));
    let mut answerer = answerer.for_store(peer.record().store);
    talk.say(frame).await?;
    while let Some(frame) = talk.hear().await? {
        let asked = answerer.handle(frame)?;
        let healer = healer.clone();
        match asked {
            Asked::Nothing => {}
            Asked::Below(below) => {
                let known = calls.call(move || healer.may(&below), Failure::Store).await?;
                talk.say(answerer.known(known)).await?;
            }
            Asked::Seek { root, first, ways } => {
                for (number, way) in (first..).zip(ways) {
                    let healer = healer.clone();
                    let nowhere = |why: Error| Failure::Protocol(why.to_string());
                    let stored = calls.call(move || healer.at(&root, &way), nowhere).await?;
                    talk.say(Answerer::answer(number, stored)).await?;
                }
            }
        }
    }
    Ok(())
}
