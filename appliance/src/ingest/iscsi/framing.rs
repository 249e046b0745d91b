//! Where one PDU ends and the next begins in a stream of bytes.
//!
//! [`Assembler`] is a value: it is told which bytes came and says where the next are to be read into. A long data segment
//! is read from the socket into the very buffer that is handed on; only what arrived together with its header is copied.
//!
//! A data segment longer than what this target declared (`MaxRecvDataSegmentLength`) is refused before anything is
//! allocated. Wrong digests are told, not repaired: at error recovery level 0 the connection ends (RFC 7143 section 7.2).

use bytes::Bytes;

use super::wire::{BHS_BYTES, Bhs, DIGEST_BYTES, Digests, Pdu, padding_bytes};
use crate::ingest::nfs::record::Buffers;

/// Most bytes that are read at once where nothing says that a long data segment comes.
const STAGE_BYTES: usize = 64 << 10;
/// Most bytes that are read at once behind a long data segment: another is likely, and what is read here is copied.
const STAGE_BYTES_BULK: usize = 512;
/// Data segments from this length on are read into a buffer of their own.
const BULK_BYTES: usize = 16 << 10;

/// What a stream cannot go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A data segment beyond what was declared.
    #[error("a data segment of {0} bytes")]
    TooLong(usize),
    /// Additional headers where none may be.
    #[error("additional headers of {0} bytes")]
    Headers(usize),
    /// A header whose digest is wrong: nothing behind it can be believed.
    #[error("a header with a wrong digest")]
    HeaderDigest,
    /// A data segment whose digest is wrong.
    #[error("a data segment with a wrong digest")]
    DataDigest,
}

/// A PDU whose header is here and whose data segment is being read into a buffer of its own.
struct Growing<B> {
    bhs: Bhs,
    ahs: Bytes,
    buffer: B,
    filled: usize,
    /// With padding and digest.
    end: usize,
}

/// The lengths of a PDU's parts.
struct Layout {
    bhs: Bhs,
    /// Up to the end of the additional headers, without the digest.
    headers: usize,
    /// Where the data segment begins.
    data_at: usize,
    /// With padding and digest.
    tail: usize,
}

/// Puts the PDUs of one connection together.
pub struct Assembler<P: Buffers> {
    buffers: P,
    digests: Digests,
    data_bytes_max: usize,
    stage: Vec<u8>,
    from: usize,
    to: usize,
    growing: Option<Growing<P::Buffer>>,
    bulk: bool,
}

impl<P: Buffers> Assembler<P> {
    /// At the start of a stream: no digests, and data segments of at most `data_bytes_max`.
    pub fn new(buffers: P, data_bytes_max: usize) -> Self {
        let digests = Digests::default();
        Assembler { buffers, digests, data_bytes_max, stage: Vec::new(), from: 0, to: 0, growing: None, bulk: false }
    }

    /// What holds for the PDUs from here on: to be said right after the one that ended the login.
    pub fn set(&mut self, digests: Digests, data_bytes_max: usize) {
        (self.digests, self.data_bytes_max) = (digests, data_bytes_max);
    }

    /// Where the next bytes of the stream are to be read into. Never empty after [`Assembler::next_pdu`] said that bytes
    /// are missing.
    pub fn room(&mut self) -> &mut [u8] {
        if let Some(growing) = &mut self.growing {
            return growing.buffer.as_mut().get_mut(growing.filled..growing.end).unwrap_or_default();
        }
        self.stage.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        let wanted = if self.bulk && self.to < BHS_BYTES { STAGE_BYTES_BULK } else { STAGE_BYTES };
        self.stage.resize(STAGE_BYTES.max(self.to + 1), 0);
        let end = self.stage.len().min(self.to + wanted);
        &mut self.stage[self.to..end]
    }

    /// Says that `len` bytes were read into [`Assembler::room`].
    pub fn filled(&mut self, len: usize) {
        match &mut self.growing {
            Some(growing) => growing.filled = (growing.filled + len).min(growing.end),
            None => self.to = (self.to + len).min(self.stage.len()),
        }
    }

    /// True where bytes are here that no PDU was made of yet: another may be whole already.
    pub fn has_staged(&self) -> bool {
        self.from < self.to
    }

    /// How long a buffer is held for a PDU that is not whole yet.
    pub fn held_bytes(&mut self) -> usize {
        self.growing.as_mut().map_or(0, |growing| growing.buffer.as_mut().len())
    }

    /// The next whole PDU, or `None` where bytes are missing.
    pub fn next_pdu(&mut self) -> Result<Option<Pdu>, Broken> {
        if self.growing.is_none() {
            let Some(layout) = self.layout()? else { return Ok(None) };
            let staged = self.stage.get(self.from..self.to).unwrap_or_default();
            let whole = layout.data_at + layout.tail;
            self.bulk = layout.tail >= BULK_BYTES;
            if staged.len() < layout.data_at || (!self.bulk && staged.len() < whole) {
                return Ok(None);
            }
            self.check_header(staged, &layout)?;
            let ahs = Bytes::copy_from_slice(staged.get(BHS_BYTES..layout.headers).unwrap_or_default());
            let data = staged.get(layout.data_at..whole.min(staged.len())).unwrap_or_default();
            if !self.bulk {
                self.check_data(data, &layout.bhs)?;
                let data = Bytes::copy_from_slice(data.get(..layout.bhs.data_bytes()).unwrap_or_default());
                self.from += whole;
                return Ok(Some(Pdu { bhs: layout.bhs, ahs, data }));
            }
            let mut buffer = self.buffers.take(layout.tail);
            buffer.as_mut()[..data.len()].copy_from_slice(data);
            let filled = data.len();
            self.from += layout.data_at + filled;
            self.growing = Some(Growing { bhs: layout.bhs, ahs, buffer, filled, end: layout.tail });
        }
        let whole = self.growing.take_if(|growing| growing.filled == growing.end);
        let Some(Growing { bhs, ahs, mut buffer, end, .. }) = whole else { return Ok(None) };
        self.check_data(buffer.as_mut().get(..end).unwrap_or_default(), &bhs)?;
        Ok(Some(Pdu { bhs, ahs, data: self.buffers.seal(buffer, bhs.data_bytes()) }))
    }

    /// The parts of the PDU at the front of what is staged.
    fn layout(&self) -> Result<Option<Layout>, Broken> {
        let staged = self.stage.get(self.from..self.to).unwrap_or_default();
        let Some(bytes) = staged.first_chunk::<BHS_BYTES>() else { return Ok(None) };
        let bhs = Bhs(*bytes);
        let data_bytes = bhs.data_bytes();
        if data_bytes > self.data_bytes_max {
            // Without a header digest this is what the initiator said; with one it is at least what arrived.
            return Err(Broken::TooLong(data_bytes));
        }
        let headers = BHS_BYTES + bhs.ahs_bytes();
        let data_at = headers + if self.digests.header { DIGEST_BYTES } else { 0 };
        let digest = if self.digests.data { DIGEST_BYTES } else { 0 };
        let tail = if data_bytes == 0 { 0 } else { data_bytes + padding_bytes(data_bytes) + digest };
        Ok(Some(Layout { bhs, headers, data_at, tail }))
    }

    fn check_header(&self, staged: &[u8], layout: &Layout) -> Result<(), Broken> {
        let (headers, digest) = (staged.get(..layout.headers), staged.get(layout.headers..layout.data_at));
        match (headers, digest) {
            (Some(_), Some([])) => Ok(()),
            (Some(headers), Some(digest)) if crc32c::crc32c(headers).to_le_bytes() == *digest => Ok(()),
            _ => Err(Broken::HeaderDigest),
        }
    }

    fn check_data(&self, tail: &[u8], bhs: &Bhs) -> Result<(), Broken> {
        if !self.digests.data || bhs.data_bytes() == 0 {
            return Ok(());
        }
        match tail.split_last_chunk::<DIGEST_BYTES>() {
            Some((data, digest)) if crc32c::crc32c(data).to_le_bytes() == *digest => Ok(()),
            _ => Err(Broken::DataDigest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::iscsi::wire::{Encoder, Frame, opcode};
    use proptest::prelude::*;

    /// Buffers without a pool.
    pub struct Plain;

    impl Buffers for Plain {
        type Buffer = Vec<u8>;
        fn take(&self, len: usize) -> Vec<u8> {
            vec![0xee; len + 7]
        }
        fn seal(&self, mut buffer: Vec<u8>, len: usize) -> Bytes {
            buffer.truncate(len);
            buffer.into()
        }
    }

    /// Feeds a stream in pieces and returns the PDUs.
    fn feed(assembler: &mut Assembler<Plain>, mut stream: &[u8], piece: usize) -> Result<Vec<Pdu>, Broken> {
        let mut all = Vec::new();
        loop {
            while let Some(pdu) = assembler.next_pdu()? {
                all.push(pdu);
            }
            let room = assembler.room();
            assert!(!room.is_empty());
            let len = room.len().min(piece).min(stream.len());
            if len == 0 {
                return Ok(all);
            }
            room[..len].copy_from_slice(&stream[..len]);
            assembler.filled(len);
            stream = &stream[len..];
        }
    }

    fn stream(lengths: &[usize], digests: Digests) -> Vec<u8> {
        let mut out: Vec<Bytes> = Vec::new();
        let mut encoder = Encoder::default();
        for (number, len) in lengths.iter().enumerate() {
            let data: Vec<u8> = (0..*len).map(|at| (at * 7 + number) as u8).collect();
            let bhs = Bhs::new(opcode::DATA_OUT, 0x80).with_word(16, number as u32);
            encoder.encode(Frame::with_data(bhs, data.into()), digests, &mut out);
        }
        out.concat()
    }

    proptest! {
        #[test]
        fn pdus_come_back_however_they_are_cut(
            lengths in prop::collection::vec(prop_oneof![0usize..200, 15_000usize..70_000], 0..8),
            header: bool, data: bool, piece in 1usize..50_000,
        ) {
            let digests = Digests { header, data };
            let mut assembler = Assembler::new(Plain, 1 << 20);
            assembler.set(digests, 1 << 20);
            let pdus = feed(&mut assembler, &stream(&lengths, digests), piece).unwrap();
            prop_assert_eq!(pdus.len(), lengths.len());
            for (number, (pdu, len)) in pdus.iter().zip(&lengths).enumerate() {
                prop_assert_eq!(pdu.bhs.task_tag(), number as u32);
                prop_assert!(pdu.data.len() == *len);
                prop_assert!(pdu.data.iter().enumerate().all(|(at, byte)| *byte == (at * 7 + number) as u8));
            }
        }

        #[test]
        fn a_flipped_bit_is_found(at in 0usize..70_000, bit in 0u8..8, len in prop_oneof![1usize..100, 20_000usize..60_000]) {
            let digests = Digests { header: true, data: true };
            let mut bytes = stream(&[len], digests);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let mut assembler = Assembler::new(Plain, 1 << 20);
            assembler.set(digests, 1 << 20);
            // A length that was harmed leaves the stream waiting, or is refused; nothing false ever comes out.
            prop_assert!(feed(&mut assembler, &bytes, usize::MAX).map_or(true, |pdus| pdus.is_empty()));
        }

        #[test]
        fn any_bytes_are_taken_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..3000), piece in 1usize..500) {
            let mut assembler = Assembler::new(Plain, 8192);
            if let Ok(pdus) = feed(&mut assembler, &bytes, piece) {
                prop_assert!(pdus.iter().all(|pdu| pdu.data.len() <= 8192));
            }
            prop_assert!(assembler.held_bytes() <= 8192 + 16);
        }
    }

    #[test]
    fn long_segments_are_refused_before_anything_is_taken() {
        let mut assembler = Assembler::new(Plain, 8192);
        let bytes = Bhs::new(opcode::DATA_OUT, 0).with_bytes(5, &[0xff, 0xff, 0xff]).0;
        assert_eq!(feed(&mut assembler, &bytes, 100), Err(Broken::TooLong(0xff_ffff)));
        assert_eq!(assembler.held_bytes(), 0);
    }
}
