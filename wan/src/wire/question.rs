//! Questions and answers: which of these objects do you lack?

use bytes::Bytes;

use super::frame::Frame;
use super::reader::{Reader, WireError};
use super::{ASK_NAMES_MAX, ASK_PREFIXES_MAX, Ref};

/// Names of objects that the receiver may lack. Numbered one by one from 1 over the session, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The number of the first name.
    pub first: u64,
    /// The names, 1 to [`ASK_NAMES_MAX`].
    pub names: Vec<Ref>,
}

/// Answers to names, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the first name that is answered.
    pub first: u64,
    /// For each name, whether the receiver lacks it. 1 to [`ASK_NAMES_MAX`].
    pub lacking: Vec<bool>,
}

/// The same of chunks, named by the first eight bytes alone ([`narrowboat_storage::name::Name::prefix`]). Numbered on with other
/// names. What is not told apart by so much counts as lacking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskPrefixes {
    /// The number of the first.
    pub first: u64,
    /// The first eight bytes of each name as a little-endian number, 1 to [`ASK_PREFIXES_MAX`].
    pub prefixes: Vec<u64>,
}

/// A count of names in one message: 1 to `max`.
pub(super) fn names_count(reader: &mut Reader, max: usize) -> Result<usize, WireError> {
    match usize::from(reader.u16()?) {
        0 => Err(WireError::Unknown { what: "number of names", value: 0 }),
        count if count > max => Err(WireError::TooLong { what: "list of names", len: count as u64, max: max as u64 }),
        count => Ok(count),
    }
}

impl Ask {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        let mut out = Vec::with_capacity(10 + self.names.len() * 33);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&(self.names.len() as u16).to_le_bytes());
        for (kind, name) in &self.names {
            out.push(*kind as u8);
            out.extend_from_slice(&name.0);
        }
        Frame::build(kind, &out, Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("ask", payload);
        let first = reader.u64()?;
        let count = names_count(&mut reader, ASK_NAMES_MAX)?;
        let names = (0..count).map(|_| reader.reference()).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Ask { first, names })
    }
}

impl Answer {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        let mut out = Vec::with_capacity(10 + self.lacking.len() / 8 + 1);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&(self.lacking.len() as u16).to_le_bytes());
        for eight in self.lacking.chunks(8) {
            out.push(eight.iter().enumerate().fold(0, |byte, (bit, lacking)| byte | u8::from(*lacking) << bit));
        }
        Frame::build(kind, &out, Bytes::new())
    }

    /// Bits behind the last answer must be zero.
    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("answer", payload);
        let first = reader.u64()?;
        let count = names_count(&mut reader, ASK_NAMES_MAX)?;
        let bits = reader.take(count.div_ceil(8))?;
        reader.finish()?;
        let mut lacking: Vec<bool> = bits.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
        if lacking.drain(count..).any(|bit| bit) {
            return Err(WireError::Unknown { what: "answer bit", value: count as u64 });
        }
        Ok(Answer { first, lacking })
    }
}

impl AskPrefixes {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        let mut out = Vec::with_capacity(10 + self.prefixes.len() * 8);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&(self.prefixes.len() as u16).to_le_bytes());
        self.prefixes.iter().for_each(|prefix| out.extend_from_slice(&prefix.to_le_bytes()));
        Frame::build(kind, &out, Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("ask by prefix", payload);
        let first = reader.u64()?;
        let count = names_count(&mut reader, ASK_PREFIXES_MAX)?;
        let prefixes = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(AskPrefixes { first, prefixes })
    }
}
