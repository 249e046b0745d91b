//! Answers to commands: Data-In, SCSI Response, residuals (RFC 7143 sections 11.4 and 11.7).
//!
//! Where a command ended well its status travels with the last Data-In, which saves a PDU.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::Output;
use super::full::Full;
use crate::ingest::iscsi::scsi::{Reply, Status};
use crate::ingest::iscsi::wire::{Bhs, Command, NO_TAG, opcode};

/// Slices that are handed out in pieces of other lengths, without copying.
pub(super) struct Cursor(VecDeque<Bytes>);

impl Cursor {
    pub fn new(pieces: Vec<Bytes>) -> Self {
        Cursor(pieces.into())
    }

    /// The next `len` bytes, or what is left.
    pub fn take(&mut self, mut len: usize) -> Vec<Bytes> {
        let mut taken = Vec::new();
        while len > 0 {
            let Some(first) = self.0.front_mut() else { break };
            let piece = first.split_to(first.len().min(len));
            if first.is_empty() {
                self.0.pop_front();
            }
            len -= piece.len();
            if !piece.is_empty() {
                taken.push(piece);
            }
        }
        taken
    }
}

/// More or less than the initiator expected.
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

impl Full {
    /// Sends what came of a command. `wanted` is how many bytes it would have moved by itself.
    pub(super) fn reply(&mut self, request: &Command, wanted: u64, r2ts: u32, reply: Reply, out: &mut Output) {
        let expected = u64::from(if request.reads || request.writes { request.expected_bytes } else { 0 });
        let (flag, residual) = match wanted.cmp(&expected) {
            std::cmp::Ordering::Greater => (OVERFLOW, wanted - expected),
            std::cmp::Ordering::Less => (UNDERFLOW, expected - wanted),
            std::cmp::Ordering::Equal => (0, 0),
        };
        let residual = u32::try_from(residual).unwrap_or(u32::MAX);
        let sent = if request.reads { wanted.min(expected) } else { 0 };
        let good = reply.status == Status::Good && reply.sense.is_empty();
        let numbers = self.data_in(request, reply.data, sent as usize, good.then_some((flag, residual)), out);
        if good && sent > 0 {
            return;
        }
        let mut bhs = Bhs::new(opcode::RESPONSE, 0x80 | flag)
            .with_byte(3, reply.status as u8)
            .with_word(16, request.tag)
            .with_word(36, if request.reads { numbers } else { r2ts })
            .with_word(44, residual);
        let mut data = Vec::new();
        if !reply.sense.is_empty() {
            let mut sense = BytesMut::with_capacity(2 + reply.sense.len());
            sense.put_u16(reply.sense.len() as u16);
            sense.put_slice(&reply.sense);
            data.push(sense.freeze());
        } else if reply.status != Status::Good {
            // A status without sense data says nothing of how much was moved.
            bhs = bhs.with_byte(1, 0x80).with_word(44, 0);
        }
        self.send(bhs, data, true, out);
    }

    /// Sends `len` bytes of data, the last of them with a good status where there is one. Says how many PDUs that took.
    fn data_in(
        &mut self,
        request: &Command,
        data: Vec<Bytes>,
        len: usize,
        status: Option<(u8, u32)>,
        out: &mut Output,
    ) -> u32 {
        let (segment, burst) = (self.params.send_bytes as usize, self.params.burst_bytes as usize);
        let mut cursor = Cursor::new(data);
        let (mut at, mut number) = (0, 0);
        while at < len {
            let in_burst = at % burst;
            let piece = segment.min(len - at).min(burst - in_burst);
            let last = at + piece == len;
            let ends_burst = in_burst + piece == burst;
            let mut flags = if last || ends_burst { 0x80 } else { 0 };
            let mut bhs = Bhs::new(opcode::DATA_IN, 0);
            if let Some((flag, residual)) = status.filter(|_| last) {
                flags |= 0x01 | flag;
                bhs = bhs.with_byte(3, Status::Good as u8).with_word(44, residual);
            }
            let bhs = bhs
                .with_byte(1, flags)
                .with_word(16, request.tag)
                .with_word(20, NO_TAG)
                .with_word(36, number)
                .with_word(40, at as u32);
            self.send_data(bhs, cursor.take(piece), last && status.is_some(), out);
            (at, number) = (at + piece, number + 1);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_without_copying() {
        let whole = Bytes::from_static(b"abcdefgh");
        let mut cursor = Cursor::new(vec![whole.slice(..3), Bytes::new(), whole.slice(3..)]);
        let taken = cursor.take(5);
        assert_eq!(taken, [&b"abc"[..], b"de"]);
        assert_eq!(taken[1].as_ptr(), whole[3..].as_ptr());
        assert_eq!(cursor.take(99).concat(), b"fgh");
        assert!(cursor.take(1).is_empty());
    }
}
