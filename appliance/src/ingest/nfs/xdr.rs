//! XDR (RFC 4506): a decoder that never copies and an encoder that carries bulk data without copying it.
//!
//! * [`Decoder`] borrows from one record. Every length is checked against a bound of the caller's and against what the
//!   record holds before it is believed; nothing is allocated on the word of a peer.
//! * [`Encoder`] collects small values in one buffer and remembers where slices of bulk data go between them; the
//!   result is a list of slices for one `writev`.
//!
//! It never looks at what the values mean: that is `rpc`'s and `wire`'s part.

use bytes::Bytes;

/// The bytes are not what the protocol's grammar says: too short, a length out of bounds, or a number that stands for
/// nothing. Answered with `GARBAGE_ARGS` where it concerns arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed XDR")]
pub struct Malformed;

/// How many bytes of padding follow `len` bytes of opaque data (RFC 4506 section 4.10).
pub const fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Reads values from one record, from front to back.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    source: &'a Bytes,
    at: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte of `source`.
    pub fn new(source: &'a Bytes) -> Self {
        Decoder { source, at: 0 }
    }

    /// How many bytes have not been read yet.
    pub fn remaining(&self) -> usize {
        self.source.len() - self.at
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).ok_or(Malformed)?;
        let bytes = self.source.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// An unsigned integer (section 4.2).
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// An unsigned hyper integer (section 4.5).
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Some unsigned integers in a row.
    pub fn words<const N: usize>(&mut self) -> Result<[u32; N], Malformed> {
        let mut words = [0; N];
        for word in &mut words {
            *word = self.u32()?;
        }
        Ok(words)
    }

    /// A boolean (section 4.4): anything but 0 and 1 is malformed.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// Opaque data of a fixed length (section 4.9), with its padding.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.array()?;
        self.take(padding(N))?;
        Ok(bytes)
    }

    /// Opaque data or a string (sections 4.10, 4.11) of at most `max` bytes, borrowed from the record.
    pub fn opaque(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if len > max {
            return Err(Malformed);
        }
        let bytes = self.take(len)?;
        self.take(padding(len))?;
        Ok(bytes)
    }

    /// Opaque data as a slice that shares the record's memory: for bulk data that outlives the call. Where more than an
    /// eighth of its record is something else (a client may put what it likes behind it) it is copied: a slice keeps the
    /// whole record.
    pub fn opaque_shared(&mut self, max: usize) -> Result<Bytes, Malformed> {
        let bytes = self.opaque(max)?;
        match bytes.len() < self.source.len() / 8 * 7 {
            true => Ok(Bytes::copy_from_slice(bytes)),
            false => Ok(self.source.slice_ref(bytes)),
        }
    }
}

/// Collects one message: small values by copying, bulk data by reference.
///
/// The first four bytes are kept free for the record marker of a stream (see `record`).
#[derive(Debug)]
pub struct Encoder {
    own: Vec<u8>,
    /// Bulk slices, each with the place in `own` that it comes before.
    bulk: Vec<(usize, Bytes)>,
    bulk_bytes: usize,
}

/// Room for the record marker at the front of every message.
pub(crate) const MARKER_BYTES: usize = 4;

impl Default for Encoder {
    fn default() -> Self {
        Encoder::new()
    }
}

impl Encoder {
    /// An empty message.
    pub fn new() -> Self {
        let mut own = Vec::with_capacity(512);
        own.extend_from_slice(&[0; MARKER_BYTES]);
        Encoder { own, bulk: Vec::new(), bulk_bytes: 0 }
    }

    /// How long the message is so far, in bytes, bulk data included and the marker not.
    pub fn len(&self) -> usize {
        self.own.len() - MARKER_BYTES + self.bulk_bytes
    }

    /// True where nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An unsigned integer.
    pub fn u32(&mut self, value: u32) {
        self.own.extend_from_slice(&value.to_be_bytes());
    }

    /// An unsigned hyper integer.
    pub fn u64(&mut self, value: u64) {
        self.own.extend_from_slice(&value.to_be_bytes());
    }

    /// A boolean.
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// Opaque data of a length that both sides know.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
        self.pad(bytes.len());
    }

    /// Opaque data or a string, with its length in front.
    pub fn opaque(&mut self, bytes: &[u8]) {
        // Our own messages stay far below 4 GiB.
        self.u32(bytes.len() as u32);
        self.fixed(bytes);
    }

    /// Opaque data in pieces that are not copied: length, pieces, padding.
    pub fn bulk(&mut self, pieces: Vec<Bytes>) {
        let len: usize = pieces.iter().map(Bytes::len).sum();
        self.u32(len as u32);
        let at = self.own.len();
        self.bulk.extend(pieces.into_iter().filter(|piece| !piece.is_empty()).map(|piece| (at, piece)));
        self.bulk_bytes += len;
        self.pad(len);
    }

    fn pad(&mut self, len: usize) {
        self.own.extend_from_slice(&[0; 3][..padding(len)]);
    }

    /// Remembers this place, so that what follows can be taken back.
    pub fn mark(&self) -> Mark {
        Mark { own: self.own.len(), bulk: self.bulk.len() }
    }

    /// Takes back everything since `mark`.
    pub fn rewind(&mut self, mark: &Mark) {
        self.own.truncate(mark.own);
        self.bulk_bytes -= self.bulk.drain(mark.bulk..).map(|(_, piece)| piece.len()).sum::<usize>();
    }

    /// Overwrites the integer that was written right after `mark`, as with a count that is known only later.
    pub fn patch_u32(&mut self, mark: &Mark, value: u32) {
        self.patch(mark, &value.to_be_bytes());
    }

    /// Overwrites the bytes that were written right after `mark`.
    pub fn patch(&mut self, mark: &Mark, bytes: &[u8]) {
        if let Some(place) = self.own.get_mut(mark.own..mark.own + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The message as one record of a stream (RFC 5531 section 11): one last fragment.
    pub fn finish_record(mut self) -> Message {
        let marker = self.len() as u32 | LAST_FRAGMENT;
        self.own[..MARKER_BYTES].copy_from_slice(&marker.to_be_bytes());
        self.into_message(0)
    }

    /// The message as a datagram: no marker.
    pub fn finish_datagram(self) -> Message {
        self.into_message(MARKER_BYTES)
    }

    fn into_message(self, from: usize) -> Message {
        let mut own = Bytes::from(self.own);
        let mut taken = from;
        bytes::Buf::advance(&mut own, from);
        if self.bulk.is_empty() {
            return Message { first: own, rest: Vec::new() };
        }
        let mut rest = Vec::with_capacity(self.bulk.len() + 2);
        for (at, piece) in self.bulk {
            if at > taken {
                rest.push(own.split_to(at - taken));
                taken = at;
            }
            rest.push(piece);
        }
        if !own.is_empty() {
            rest.push(own);
        }
        let first = if rest.is_empty() { Bytes::new() } else { rest.remove(0) };
        Message { first, rest }
    }
}

/// The highest bit of a record marker: no fragment follows.
pub(crate) const LAST_FRAGMENT: u32 = 1 << 31;

/// A place in an [`Encoder`].
#[derive(Clone, Debug)]
pub struct Mark {
    own: usize,
    bulk: usize,
}

/// One finished message: slices that belong together in this order.
#[derive(Clone, Debug)]
pub struct Message {
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Message {
    /// A message that lies in one piece.
    pub fn whole(bytes: Bytes) -> Self {
        Message { first: bytes, rest: Vec::new() }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Bytes::len).sum::<usize>()
    }

    /// True where there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The slices, in order, by value.
    pub fn into_pieces(self) -> impl Iterator<Item = Bytes> {
        std::iter::once(self.first).chain(self.rest)
    }

    /// The message where it lies in one piece, which is so for all that carries no bulk data.
    pub fn as_whole(&self) -> Option<&Bytes> {
        self.rest.is_empty().then_some(&self.first)
    }

    /// Everything copied together: for tests and datagrams.
    pub fn to_bytes(&self) -> Bytes {
        self.pieces().flat_map(|piece| piece.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were_written() {
        let mut out = Encoder::new();
        out.u32(7);
        out.u64(1 << 40);
        out.bool(true);
        out.opaque(b"abcde");
        out.fixed(b"xyz");
        out.bulk(vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")]);
        out.u32(9);
        let length = out.len();
        let message = out.finish_record();
        assert_eq!(message.len(), length + MARKER_BYTES);
        assert_eq!(message.pieces().count(), 4, "head, two pieces of bulk data, tail");
        let bytes = message.to_bytes();
        let mut input = Decoder::new(&bytes);
        assert_eq!(input.u32(), Ok(LAST_FRAGMENT | length as u32));
        assert_eq!(input.u32(), Ok(7));
        assert_eq!(input.u64(), Ok(1 << 40));
        assert_eq!(input.bool(), Ok(true));
        assert_eq!(input.opaque(5), Ok(&b"abcde"[..]));
        assert_eq!(input.fixed::<3>(), Ok(*b"xyz"));
        assert_eq!(input.opaque_shared(8), Ok(Bytes::from_static(b"onethree")));
        assert_eq!(input.u32(), Ok(9));
        assert_eq!(input.remaining(), 0);
        assert_eq!(input.u32(), Err(Malformed));
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        for bytes in [
            &[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4][..],
            &[0, 0, 0, 9, 1, 2, 3, 4],
            &[0, 0, 0, 3, 1, 2, 3],
            &[0, 0, 0],
            &[],
        ] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(Decoder::new(&bytes).opaque(usize::MAX), Err(Malformed), "{bytes:?}");
        }
        let five = Bytes::from_static(&[0, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);
        assert_eq!(Decoder::new(&five).opaque(4), Err(Malformed), "over the caller's bound");
        assert!(Decoder::new(&five).opaque(5).is_ok());
        let two = Bytes::from_static(&[0, 0, 0, 2]);
        assert_eq!(Decoder::new(&two).bool(), Err(Malformed));
    }

    #[test]
    fn bulk_data_is_carried_and_not_copied() {
        let data = Bytes::from(vec![7; 1 << 16]);
        let mut out = Encoder::new();
        out.bulk(vec![data.clone()]);
        let message = out.finish_record();
        assert!(message.pieces().any(|piece| piece.as_ptr() == data.as_ptr()));
        let record = message.to_bytes().slice(MARKER_BYTES..);
        let shared = Decoder::new(&record).opaque_shared(1 << 16).unwrap();
        assert_eq!(shared.as_ptr(), record[4..].as_ptr());
    }

    #[test]
    fn a_little_data_does_not_keep_a_large_record() {
        let mut record = vec![0, 0, 0, 4, 1, 2, 3, 4];
        record.resize(1 << 20, 0xEE);
        let record = Bytes::from(record);
        let data = Decoder::new(&record).opaque_shared(1 << 20).unwrap();
        assert_eq!(data, &[1, 2, 3, 4][..]);
        assert!(!record.as_ptr_range().contains(&data.as_ptr()), "the data has bytes of its own");
        let mut record = 600_000u32.to_be_bytes().to_vec();
        record.resize(1 << 20, 0xEE);
        let record = Bytes::from(record);
        let data = Decoder::new(&record).opaque_shared(1 << 20).unwrap();
        assert!(!record.as_ptr_range().contains(&data.as_ptr()), "more than half is not enough");
    }

    #[test]
    fn what_was_written_can_be_taken_back() {
        let mut out = Encoder::new();
        out.u32(1);
        let mark = out.mark();
        out.u32(2);
        out.bulk(vec![Bytes::from_static(b"gone")]);
        out.patch_u32(&mark, 3);
        out.rewind(&mark);
        assert_eq!(out.len(), 4);
        assert_eq!(out.finish_datagram().to_bytes(), &[0, 0, 0, 1][..]);
    }
}
