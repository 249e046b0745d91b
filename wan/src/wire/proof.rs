//! Proof of possession: the receiver's challenge, what it wants proved, and the proof.

use bytes::Bytes;

use super::ASK_NAMES_MAX;
use super::frame::Frame;
use super::reader::{Reader, WireError};
use super::ways::{DEPTH_MAX, decode_ways, encode_ways};

/// What proofs of this session are keyed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Fresh, and of no sense.
    pub nonce: [u8; 32],
}

/// What the sender is to prove that it has: objects of the answer just given that were answered with "present".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prove {
    /// The number of the first name.
    pub first: u64,
    /// Of that name and those after it, which. 1 to [`ASK_NAMES_MAX`].
    pub which: Vec<bool>,
}

/// The same for objects that were not asked about: each by the way to it from the root of the snapshot, as the places among the
/// references of one node after the other. So nothing can be named but what the snapshot has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProveWays {
    /// A number that no earlier demand had, from 2^63 on.
    pub first: u64,
    /// The ways, 1 to [`ASK_NAMES_MAX`]; each of 1 to [`DEPTH_MAX`] places.
    pub ways: Vec<Vec<u32>>,
}

/// What only somebody who has the bytes can say of what was to be proved. In the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// `first` of what was to be proved.
    pub first: u64,
    /// The keyed BLAKE3 that the format page defines.
    pub digest: [u8; 32],
}

impl Challenge {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        Frame::build(kind, &self.nonce, Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("challenge", payload);
        let challenge = Challenge { nonce: reader.array()? };
        reader.finish()?;
        Ok(challenge)
    }
}

impl Prove {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        let mut out = Vec::with_capacity(10 + self.which.len() / 8 + 1);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&(self.which.len() as u16).to_le_bytes());
        for eight in self.which.chunks(8) {
            out.push(eight.iter().enumerate().fold(0, |byte, (bit, set)| byte | u8::from(*set) << bit));
        }
        Frame::build(kind, &out, Bytes::new())
    }

    /// Bits behind the last must be zero.
    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("demand of proof", payload);
        let first = reader.u64()?;
        let count = super::question::names_count(&mut reader, ASK_NAMES_MAX)?;
        let bits = reader.take(count.div_ceil(8))?;
        reader.finish()?;
        let mut which: Vec<bool> = bits.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
        if which.drain(count..).any(|bit| bit) {
            return Err(WireError::Unknown { what: "bit", value: count as u64 });
        }
        Ok(Prove { first, which })
    }
}

impl ProveWays {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        Frame::build(kind, &encode_ways(self.first, &self.ways), Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let reader = Reader::new("demand of proof by way", payload);
        let (first, ways) = decode_ways(reader, ASK_NAMES_MAX, 1..=DEPTH_MAX)?;
        Ok(ProveWays { first, ways })
    }
}

impl Proof {
    pub(super) fn encode(&self, kind: u16) -> Frame {
        Frame::build(kind, &[&self.first.to_le_bytes()[..], &self.digest].concat(), Bytes::new())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("proof", payload);
        let proof = Proof { first: reader.u64()?, digest: reader.array()? };
        reader.finish()?;
        Ok(proof)
    }
}
