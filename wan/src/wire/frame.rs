//! Streams and frames: how messages are cut out of a stream of bytes.
//!
//! A stream begins with a [`Preface`] and goes on with frames: an 8-byte head (`type u16`, `flags u16`, `length u32`)
//! and a payload of `length` bytes.

use bytes::Bytes;

use super::reader::{Reader, WireError};

/// Length of a [`Preface`].
pub const PREFACE_BYTES: usize = 16;
const PREFACE_MAGIC: [u8; 4] = *b"NBst";
const HEAD_BYTES: usize = 8;
/// Frames of a type that the receiver does not know are skipped where this flag is set, and an error where it is not.
const FLAG_IGNORE: u16 = 1;
/// A frame's buffer grows by at most this much ahead of the bytes that have arrived.
const GROWTH_BYTES: usize = 64 << 10;

/// Which of a session's streams a frame travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The one stream, both ways, for everything small.
    Control,
    /// Any of the streams from sender to receiver that carry objects.
    Data,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamClass {
    /// The control stream of a session.
    Control = 1,
    /// One of the data streams of a session.
    Data = 2,
    /// Of no session: tells how fast the other side may send.
    Grants = 3,
    /// Of no session: measures the line.
    Probe = 4,
    /// Of no session: asks for objects that are damaged.
    Heal = 5,
}

/// The first bytes of every stream: they say what it is for and to which session it belongs, so that one connection
/// carries several sessions, in both directions, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preface {
    /// What the stream is for.
    pub class: StreamClass,
    /// The number of a data stream within its session, counted from 0; 0 for a control stream.
    pub index: u8,
    /// The session, by a number that the side which sends the snapshot chose; unique among its sessions of one
    /// connection.
    pub session: u64,
}

impl Preface {
    /// Writes the preface.
    pub fn encode(&self) -> [u8; PREFACE_BYTES] {
        let mut bytes = [0; PREFACE_BYTES];
        bytes[..4].copy_from_slice(&PREFACE_MAGIC);
        bytes[4] = self.class as u8;
        bytes[5] = self.index;
        bytes[8..].copy_from_slice(&self.session.to_le_bytes());
        bytes
    }

    /// Reads a preface. Fails on another magic, an unknown class, or reserved bytes that are not zero.
    pub fn decode(bytes: &[u8; PREFACE_BYTES]) -> Result<Preface, WireError> {
        let mut reader = Reader::new("preface", Bytes::copy_from_slice(bytes));
        if reader.array()? != PREFACE_MAGIC {
            return Err(WireError::Magic("stream"));
        }
        let class = match reader.u8()? {
            1 => StreamClass::Control,
            2 => StreamClass::Data,
            3 => StreamClass::Grants,
            4 => StreamClass::Probe,
            5 => StreamClass::Heal,
            value => return Err(WireError::Unknown { what: "stream class", value: value.into() }),
        };
        let index = reader.u8()?;
        let reserved = reader.u16()?;
        if reserved != 0 {
            return Err(WireError::Unknown { what: "reserved field", value: reserved.into() });
        }
        Ok(Preface { class, index, session: reader.u64()? })
    }
}

/// A frame to be sent: `head`, then `body` (possibly empty). Two parts, so that an object's bytes are not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The frame's head and the message's fields.
    pub head: Bytes,
    /// The bytes of an object, or nothing.
    pub body: Bytes,
}

impl Frame {
    /// Builds a frame of `kind` whose payload is `fields`, then `body`.
    pub(super) fn build(kind: u16, fields: &[u8], body: Bytes) -> Frame {
        Frame::flagged(kind, 0, fields, body)
    }

    /// Builds a frame that a side which does not know its type skips.
    pub(super) fn ignorable(kind: u16) -> Frame {
        Frame::flagged(kind, FLAG_IGNORE, &[], Bytes::new())
    }

    fn flagged(kind: u16, flags: u16, fields: &[u8], body: Bytes) -> Frame {
        let len = (fields.len() + body.len()) as u32;
        let mut head = Vec::with_capacity(HEAD_BYTES + fields.len());
        head.extend_from_slice(&kind.to_le_bytes());
        head.extend_from_slice(&flags.to_le_bytes());
        head.extend_from_slice(&len.to_le_bytes());
        head.extend_from_slice(fields);
        Frame { head: head.into(), body }
    }

    /// Length on the stream, in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Never true: a frame has a head.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// A frame that was received whole, not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// The message's number.
    pub kind: u16,
    /// Flags; bit 0: may be ignored.
    pub flags: u16,
    /// The payload, in memory of its own (it pins nothing else).
    pub payload: Bytes,
}

impl RawFrame {
    /// True where a receiver that does not know the type goes on without it.
    pub fn may_be_ignored(&self) -> bool {
        self.flags & FLAG_IGNORE != 0
    }

    /// Length on the stream, in bytes.
    pub fn stream_len(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }
}

/// Cuts frames out of one stream, whatever pieces it arrives in.
///
/// Holds at most one frame of at most the length it was made for. After an error the stream is beyond repair.
#[derive(Debug)]
pub struct FrameDecoder {
    payload_bytes_max: usize,
    head: [u8; HEAD_BYTES],
    head_filled: usize,
    payload: Vec<u8>,
}

impl FrameDecoder {
    /// A decoder for a stream of this channel, behind its preface.
    pub fn new(channel: Channel) -> Self {
        let payload_bytes_max = match channel {
            Channel::Control => super::CONTROL_BYTES_MAX,
            Channel::Data => super::DATA_BYTES_MAX,
        };
        FrameDecoder { payload_bytes_max, head: [0; HEAD_BYTES], head_filled: 0, payload: Vec::new() }
    }

    /// Takes bytes from the front of `input` until a frame is whole or `input` is empty. Call it again with what is
    /// left of `input` until it returns `None`.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<RawFrame>, WireError> {
        let part = take_front(input, HEAD_BYTES - self.head_filled);
        self.head[self.head_filled..self.head_filled + part.len()].copy_from_slice(part);
        self.head_filled += part.len();
        if self.head_filled < HEAD_BYTES {
            return Ok(None);
        }
        let [k0, k1, f0, f1, l0, l1, l2, l3] = self.head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if len > self.payload_bytes_max {
            let max = self.payload_bytes_max as u64;
            return Err(WireError::TooLong { what: "frame", len: len as u64, max });
        }
        let part = take_front(input, len - self.payload.len());
        if self.payload.capacity() < self.payload.len() + part.len() {
            let missing = len - self.payload.len();
            let doubled = self.payload.len().max(part.len()).max(GROWTH_BYTES);
            self.payload.reserve_exact(missing.min(doubled));
        }
        self.payload.extend_from_slice(part);
        if self.payload.len() < len {
            return Ok(None);
        }
        self.head_filled = 0;
        let payload = Bytes::from(std::mem::take(&mut self.payload));
        Ok(Some(RawFrame { kind: u16::from_le_bytes([k0, k1]), flags: u16::from_le_bytes([f0, f1]), payload }))
    }

    /// True between two frames: a stream that ends elsewhere was cut.
    pub fn at_boundary(&self) -> bool {
        self.head_filled == 0
    }
}

fn take_front<'a>(input: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    front
}
