//! Healing: what is said on a stream of its own between a box that lost objects and one that has the same tree.
//! `docs/formats/replication-protocol.md` owns the bytes.

use bytes::Bytes;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::name::Name;
use narrowboat_storage::pool::Stored;

use super::frame::{Frame, RawFrame};
use super::hello::Hello;
use super::message::{HELLO, STOP, Stop, WORKING};
use super::object::{read_stored, stored_frame};
use super::reader::{Reader, WireError};
use super::ways::{DEPTH_MAX, decode_ways, encode_ways};

const BELOW: u16 = 32;
const KNOWN: u16 = 33;
const SEEK: u16 = 34;
const FOUND: u16 = 35;
const LACKING: u16 = 36;
/// Most objects of one [`Seek`].
pub const SEEK_WAYS_MAX: usize = 256;

/// One message of a healing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealMessage {
    /// Both ways, first.
    Hello(Hello),
    /// Asker: ways begin here from now on.
    Below(Below),
    /// Answerer: whether they may, and can.
    Known(bool),
    /// Asker: what lies there?
    Seek(Seek),
    /// Answerer: this.
    Found(Found),
    /// Answerer: it can't be read here, either. Its number.
    Lacking(u64),
    /// Both ways: still at work, and nothing to say.
    Working,
    /// Either side: that was all, without success.
    Stop(Stop),
}

/// A snapshot that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below {
    /// Its dataset.
    pub dataset: DatasetId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The root of its tree.
    pub root: Name,
}

/// Objects that are asked for, each by the way to it from the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    /// The number of the first one; counted from 0 in the order of asking.
    pub first: u64,
    /// The places among the references of one node after the other; none for the root. 1 to [`SEEK_WAYS_MAX`], each of at most [`DEPTH_MAX`].
    pub ways: Vec<Vec<u32>>,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub stored: Stored,
}

impl HealMessage {
    /// Writes the message as one frame.
    pub fn encode(&self) -> Frame {
        match self {
            HealMessage::Hello(hello) => hello.encode(HELLO),
            HealMessage::Below(below) => {
                Frame::build(BELOW, &[&below.dataset.0[..], &below.snapshot.0, &below.root.0].concat(), Bytes::new())
            }
            HealMessage::Known(known) => Frame::build(KNOWN, &[u8::from(*known)], Bytes::new()),
            HealMessage::Seek(seek) => seek.encode(),
            HealMessage::Found(found) => found.encode(),
            HealMessage::Lacking(number) => Frame::build(LACKING, &number.to_le_bytes(), Bytes::new()),
            HealMessage::Working => Frame::ignorable(WORKING),
            HealMessage::Stop(stop) => stop.encode(),
        }
    }

    /// Reads the message in a frame. `None` for an unknown one that may be ignored.
    pub fn decode(frame: RawFrame) -> Result<Option<HealMessage>, WireError> {
        let ignored = frame.may_be_ignored();
        let payload = frame.payload;
        Ok(Some(match frame.kind {
            HELLO => HealMessage::Hello(Hello::decode(payload)?),
            STOP => HealMessage::Stop(Stop::decode(payload)?),
            WORKING => {
                Reader::new("sign of life", payload).finish()?;
                HealMessage::Working
            }
            BELOW => {
                let mut reader = Reader::new("snapshot to heal from", payload);
                let (dataset, snapshot) = (DatasetId(reader.array()?), SnapshotId(reader.array()?));
                let root = reader.name()?;
                reader.finish()?;
                HealMessage::Below(Below { dataset, snapshot, root })
            }
            KNOWN => {
                let mut reader = Reader::new("answer to a snapshot", payload);
                let known = reader.flag("whether it is known")?;
                reader.finish()?;
                HealMessage::Known(known)
            }
            SEEK => HealMessage::Seek(Seek::decode(payload)?),
            FOUND => HealMessage::Found(Found::decode(payload)?),
            LACKING => {
                let mut reader = Reader::new("lacking", payload);
                let number = reader.u64()?;
                reader.finish()?;
                HealMessage::Lacking(number)
            }
            _ if ignored => return Ok(None),
            kind => return Err(WireError::Unknown { what: "message", value: kind.into() }),
        }))
    }
}

impl Seek {
    fn encode(&self) -> Frame {
        Frame::build(SEEK, &encode_ways(self.first, &self.ways), Bytes::new())
    }

    /// A way of no places leads to the root.
    fn decode(payload: Bytes) -> Result<Self, WireError> {
        let (first, ways) = decode_ways(Reader::new("ways", payload), SEEK_WAYS_MAX, 0..=DEPTH_MAX)?;
        Ok(Seek { first, ways })
    }
}

impl Found {
    fn encode(&self) -> Frame {
        stored_frame(FOUND, &[self.number], &self.stored)
    }

    fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("object", payload);
        Ok(Found { number: reader.u64()?, stored: read_stored(reader)? })
    }
}
