//! The messages of a session.

use bytes::Bytes;
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::name::Name;

use super::SENTENCE_BYTES_MAX;
use super::bundle::Bundle;
use super::frame::{Channel, Frame, RawFrame};
use super::hello::Hello;
use super::object::Object;
use super::offer::Offer;
use super::proof::{Challenge, Proof, Prove, ProveWays};
use super::question::{Answer, Ask, AskPrefixes};
use super::reader::{Reader, WireError, put_text};

pub(super) const HELLO: u16 = 1;
const OFFER: u16 = 2;
const BEGIN: u16 = 3;
const ASK: u16 = 4;
const ANSWER: u16 = 5;
const ACK: u16 = 6;
const COMMIT: u16 = 7;
const PUBLISHED: u16 = 8;
pub(super) const STOP: u16 = 9;
const PROVE_WAYS: u16 = 10;
const ASK_PREFIXES: u16 = 11;
const CHALLENGE: u16 = 12;
const PROVE: u16 = 13;
const PROOF: u16 = 14;
pub(super) const WORKING: u16 = 15;
const OBJECT: u16 = 64;
const BUNDLE: u16 = 65;

/// One message of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Both ways, first.
    Hello(Hello),
    /// Sender: here is a snapshot.
    Offer(Offer),
    /// Receiver: I lack its root; send, within these windows.
    Begin(Begin),
    /// Sender: which of these do you lack?
    Ask(Ask),
    /// Sender: which of these chunks do you lack?
    AskPrefixes(AskPrefixes),
    /// Receiver: these.
    Answer(Answer),
    /// Receiver: these objects are safe.
    Ack(Ack),
    /// Sender: that was all.
    Commit(Commit),
    /// Receiver: the snapshot is published, and this is its root.
    Published(Published),
    /// Either side: the session is over without success.
    Stop(Stop),
    /// Receiver: key proofs with this.
    Challenge(Challenge),
    /// Receiver: prove that you have these.
    Prove(Prove),
    /// Receiver: prove that you have what lies there.
    ProveWays(ProveWays),
    /// Sender: the proof.
    Proof(Proof),
    /// Both ways: still at work, and nothing to say.
    Working,
    /// Sender, on a data stream: an object.
    Object(Object),
    /// Sender, on a data stream: several objects, packed together.
    Bundle(Bundle),
}

/// The receiver's answer to an offer whose root it lacks. The root counts as asked under number 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The newest of the offered bases that the receiver has, whole.
    pub base: Option<SnapshotId>,
    /// Bytes of objects under way (sent, and not acknowledged) from which on no further object is sent. Not more than
    /// the offer's.
    pub window_bytes: u64,
    /// Most objects under way. Not more than the offer's.
    pub window_objects: u32,
    /// Most names under way: asked and not answered, or answered with "lacking" and not sent.
    pub window_names: u32,
}

/// Objects that survive a power cut at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// All objects with a smaller `seq` are safe.
    pub objects: u64,
}

/// The sender has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// How many objects it has sent.
    pub objects: u64,
}

/// The receiver shows the snapshot to its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The root that it verified and published; none for an empty map.
    pub root: Option<Name>,
}

/// Why a session ends without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCode {
    /// The other side broke the protocol.
    Protocol,
    /// No protocol version that both sides speak, or a required feature is missing.
    Version,
    /// The other side belongs to another realm.
    Realm,
    /// The receiver does not accept this dataset or snapshot from this sender.
    NotAllowed,
    /// An object did not match its name, or referred to something that the receiver lacks.
    WrongContent,
    /// The receiver's disk is full.
    Full,
    /// The store of the side that says it is in trouble.
    Store,
    /// The other side said nothing for too long.
    Silent,
    /// A person or a schedule ended it.
    Cancelled,
    /// Too much under way at once; try again later.
    Busy,
    /// What the receiver took for known was not: the sender asks again, by full names.
    FullNames,
    /// The snapshot refers to what this sender did not prove to have: the sender offers it again, without a base.
    Unproven,
    /// A reason that this version does not know.
    Other(u16),
}

impl StopCode {
    const NUMBERS: [(StopCode, u16); 12] = [
        (StopCode::Protocol, 1),
        (StopCode::Version, 2),
        (StopCode::Realm, 3),
        (StopCode::NotAllowed, 4),
        (StopCode::WrongContent, 5),
        (StopCode::Full, 6),
        (StopCode::Store, 7),
        (StopCode::Silent, 8),
        (StopCode::Cancelled, 9),
        (StopCode::Busy, 10),
        (StopCode::FullNames, 11),
        (StopCode::Unproven, 12),
    ];

    fn number(self) -> u16 {
        if let StopCode::Other(number) = self {
            return number;
        }
        Self::NUMBERS.iter().find(|(code, _)| *code == self).map_or(0, |(_, number)| *number)
    }

    fn from_number(number: u16) -> StopCode {
        Self::NUMBERS.iter().find(|(_, known)| *known == number).map_or(StopCode::Other(number), |(code, _)| *code)
    }
}

/// The session is over without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub code: StopCode,
    /// Why, in a sentence for people.
    pub sentence: String,
}

impl Message {
    /// The stream that the message travels on.
    pub fn channel(&self) -> Channel {
        if matches!(self, Message::Object(_) | Message::Bundle(_)) { Channel::Data } else { Channel::Control }
    }

    /// Writes the message as one frame.
    pub fn encode(&self) -> Frame {
        match self {
            Message::Hello(hello) => hello.encode(HELLO),
            Message::Offer(offer) => offer.encode(OFFER),
            Message::Begin(begin) => begin.encode(),
            Message::Ask(ask) => ask.encode(ASK),
            Message::AskPrefixes(ask) => ask.encode(ASK_PREFIXES),
            Message::Challenge(challenge) => challenge.encode(CHALLENGE),
            Message::Prove(prove) => prove.encode(PROVE),
            Message::ProveWays(prove) => prove.encode(PROVE_WAYS),
            Message::Proof(proof) => proof.encode(PROOF),
            Message::Working => Frame::ignorable(WORKING),
            Message::Answer(answer) => answer.encode(ANSWER),
            Message::Ack(ack) => Frame::build(ACK, &ack.objects.to_le_bytes(), Bytes::new()),
            Message::Commit(commit) => Frame::build(COMMIT, &commit.objects.to_le_bytes(), Bytes::new()),
            Message::Published(published) => published.encode(),
            Message::Stop(stop) => stop.encode(),
            Message::Object(object) => object.encode(OBJECT),
            Message::Bundle(bundle) => bundle.encode(BUNDLE),
        }
    }

    /// Reads the message in a frame. `None` for an unknown one that may be ignored.
    pub fn decode(frame: RawFrame) -> Result<Option<Message>, WireError> {
        let ignored = frame.may_be_ignored();
        let payload = frame.payload;
        Ok(Some(match frame.kind {
            HELLO => Message::Hello(Hello::decode(payload)?),
            OFFER => Message::Offer(Offer::decode(payload)?),
            BEGIN => Message::Begin(Begin::decode(payload)?),
            ASK => Message::Ask(Ask::decode(payload)?),
            ASK_PREFIXES => Message::AskPrefixes(AskPrefixes::decode(payload)?),
            CHALLENGE => Message::Challenge(Challenge::decode(payload)?),
            PROVE => Message::Prove(Prove::decode(payload)?),
            PROVE_WAYS => Message::ProveWays(ProveWays::decode(payload)?),
            PROOF => Message::Proof(Proof::decode(payload)?),
            WORKING => {
                Reader::new("sign of life", payload).finish()?;
                Message::Working
            }
            ANSWER => Message::Answer(Answer::decode(payload)?),
            ACK => Message::Ack(Ack { objects: counter("acknowledgement", payload)? }),
            COMMIT => Message::Commit(Commit { objects: counter("commit", payload)? }),
            PUBLISHED => Message::Published(Published::decode(payload)?),
            STOP => Message::Stop(Stop::decode(payload)?),
            OBJECT => Message::Object(Object::decode(payload)?),
            BUNDLE => Message::Bundle(Bundle::decode(payload)?),
            _ if ignored => return Ok(None),
            kind => return Err(WireError::Unknown { what: "message", value: kind.into() }),
        }))
    }
}

fn counter(what: &'static str, payload: Bytes) -> Result<u64, WireError> {
    let mut reader = Reader::new(what, payload);
    let value = reader.u64()?;
    reader.finish()?;
    Ok(value)
}

impl Begin {
    fn encode(&self) -> Frame {
        let mut out = Vec::with_capacity(40);
        out.push(self.base.is_some().into());
        out.extend_from_slice(&[0; 7]);
        out.extend_from_slice(&self.base.unwrap_or_default().0);
        out.extend_from_slice(&self.window_bytes.to_le_bytes());
        out.extend_from_slice(&self.window_objects.to_le_bytes());
        out.extend_from_slice(&self.window_names.to_le_bytes());
        Frame::build(BEGIN, &out, Bytes::new())
    }

    fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("begin", payload);
        let has_base = reader.flag("base flag")?;
        reader.take(7)?;
        let base = SnapshotId(reader.array()?);
        let begin = Begin {
            base: has_base.then_some(base),
            window_bytes: reader.u64()?,
            window_objects: reader.u32()?,
            window_names: reader.u32()?,
        };
        reader.finish()?;
        Ok(begin)
    }
}

impl Published {
    fn encode(&self) -> Frame {
        let mut out = Vec::with_capacity(40);
        out.push(self.root.is_some().into());
        out.extend_from_slice(&[0; 7]);
        out.extend_from_slice(&self.root.unwrap_or_default().0);
        Frame::build(PUBLISHED, &out, Bytes::new())
    }

    fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("published", payload);
        let has_root = reader.flag("root flag")?;
        reader.take(7)?;
        let root = reader.name()?;
        reader.finish()?;
        Ok(Published { root: has_root.then_some(root) })
    }
}

impl Stop {
    pub(super) fn encode(&self) -> Frame {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&self.code.number().to_le_bytes());
        put_text(&mut out, &self.sentence, SENTENCE_BYTES_MAX);
        Frame::build(STOP, &out, Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("stop", payload);
        let code = StopCode::from_number(reader.u16()?);
        let sentence = reader.text("sentence", SENTENCE_BYTES_MAX)?;
        reader.finish()?;
        Ok(Stop { code, sentence })
    }
}
