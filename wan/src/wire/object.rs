//! Objects as they travel: the bytes that the sender's store keeps, and how they are packed.

use bytes::Bytes;
use narrowboat_storage::container::codec::Codec;
use narrowboat_storage::pool::Stored;

use super::OBJECT_BYTES_MAX;
use super::frame::Frame;
use super::reader::{Reader, WireError};

const OBJECT_HEAD_BYTES: usize = 24;

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
        let mut head = Vec::with_capacity(OBJECT_HEAD_BYTES);
        head.extend_from_slice(&self.seq.to_le_bytes());
        head.extend_from_slice(&self.ask.to_le_bytes());
        head.extend_from_slice(&self.stored.raw_len.to_le_bytes());
        head.push(self.stored.codec as u8);
        head.extend_from_slice(&[0; 3]);
        Frame::build(kind, &head, self.stored.bytes.clone())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("object", payload);
        let (seq, ask, raw_len) = (reader.u64()?, reader.u64()?, reader.u32()?);
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
        Ok(Object { seq, ask, stored: Stored { codec, raw_len, bytes: reader.rest() } })
    }
}
