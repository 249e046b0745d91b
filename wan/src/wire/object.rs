//! Objects as they travel: the bytes that the sender's store keeps, and how they are packed.

use bytes::Bytes;
use narrowboat_storage::container::codec::Codec;
use narrowboat_storage::pool::Stored;

use super::OBJECT_BYTES_MAX;
use super::frame::Frame;
use super::reader::{Reader, WireError};

/// The length before compression, the codec, and what is reserved.
const STORED_HEAD_BYTES: usize = 8;

/// One object that the receiver lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its place in the order of admission, counted from 0: everything that it refers to has a smaller one, or was
    /// known to the receiver.
    pub seq: u64,
    /// The number under which its name was asked; the receiver knows the name from there.
    pub ask: u64,
    /// Its bytes.
    pub stored: Stored,
}

impl Object {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        stored_frame(kind, &[self.seq, self.ask], &self.stored)
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("object", payload);
        Ok(Object { seq: reader.u64()?, ask: reader.u64()?, stored: read_stored(reader)? })
    }
}

/// A frame of one object: its numbers, what is said of its bytes, and they.
pub(super) fn stored_frame(kind: u16, numbers: &[u64], stored: &Stored) -> Frame {
    let mut head = Vec::with_capacity(numbers.len() * 8 + STORED_HEAD_BYTES);
    numbers.iter().for_each(|number| head.extend_from_slice(&number.to_le_bytes()));
    head.extend_from_slice(&stored.raw_len.to_le_bytes());
    head.push(stored.codec as u8);
    head.extend_from_slice(&[0; 3]);
    Frame::build(kind, &head, stored.bytes.clone())
}

/// What is behind the numbers: an object's bytes, to the end.
pub(super) fn read_stored(mut reader: Reader) -> Result<Stored, WireError> {
    let raw_len = reader.u32()?;
    let number = reader.u8()?;
    let codec = Codec::from_u8(number).ok_or(WireError::Unknown { what: "codec", value: number.into() })?;
    let reserved = reader.array::<3>()?;
    if let Some(value) = reserved.iter().find(|byte| **byte != 0) {
        return Err(WireError::Unknown { what: "reserved field", value: (*value).into() });
    }
    for len in [u64::from(raw_len), reader.remaining() as u64] {
        if len > OBJECT_BYTES_MAX as u64 {
            return Err(WireError::TooLong { what: "object", len, max: OBJECT_BYTES_MAX as u64 });
        }
    }
    Ok(Stored { codec, raw_len, bytes: reader.rest() })
}
