//! Little-endian encoding with bounds: what every record, node and header in this crate is read and written with.
//!
//! A [`Reader`] never believes a length: whatever would reach beyond the bytes at hand is [`Malformed`], and nothing is
//! allocated before it is known to be there.

use bytes::Bytes;

/// Bytes that do not follow their format. Callers turn it into damage (from disk) or refusal (from a peer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is malformed at byte {at}")]
pub struct Malformed {
    /// What was being read.
    pub what: &'static str,
    /// Offset within the bytes handed in.
    pub at: usize,
}

/// Appends values to a byte vector.
pub trait Put {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Two bytes.
    fn put_u16(&mut self, value: u16);
    /// Four bytes.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes.
    fn put_u64(&mut self, value: u64);
    /// Eight bytes, signed.
    fn put_i64(&mut self, value: i64);
    /// A length in four bytes, then the bytes. Longer than `u32::MAX` is a mistake of ours.
    fn put_bytes(&mut self, value: &[u8]);
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_le_bytes());
    }
    fn put_bytes(&mut self, value: &[u8]) {
        assert!(u32::try_from(value.len()).is_ok(), "longer than its length field");
        self.put_u32(value.len() as u32);
        self.extend_from_slice(value);
    }
}

/// Takes values off the front of a byte slice.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `what` names them in errors.
    pub fn new(bytes: &'a Bytes, what: &'static str) -> Self {
        Reader { bytes, at: 0, what }
    }
    /// The error that says the bytes are wrong at the present place.
    pub fn malformed(&self) -> Malformed {
        Malformed { what: self.what, at: self.at }
    }
    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }
    /// The next `len` bytes, shared with the source.
    pub fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.left() {
            return Err(self.malformed());
        }
        self.at += len;
        Ok(self.bytes.slice(self.at - len..self.at))
    }
    /// Where the next `len` bytes lie, which are passed.
    pub fn skip(&mut self, len: usize) -> Result<std::ops::Range<usize>, Malformed> {
        if len > self.left() {
            return Err(self.malformed());
        }
        self.at += len;
        Ok(self.at - len..self.at)
    }
    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let part = self.bytes.get(self.at..self.at + N).and_then(|part| part.try_into().ok());
        self.at += if part.is_some() { N } else { 0 };
        part.ok_or(self.malformed())
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }
    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }
    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }
    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }
    /// A four-byte length of at most `len_max`, then that many bytes.
    pub fn bytes(&mut self, len_max: usize) -> Result<Bytes, Malformed> {
        let len = self.u32()? as usize;
        if len > len_max {
            return Err(self.malformed());
        }
        self.take(len)
    }
    /// A four-byte count of things that take at least `each_min` bytes: never more than could be there.
    pub fn count(&mut self, each_min: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > self.left() / each_min.max(1) {
            return Err(self.malformed());
        }
        Ok(count)
    }
    /// Succeeds where nothing is left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { Err(self.malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        let mut bytes = Vec::new();
        bytes.put_bytes(b"abc");
        bytes.put_u64(7);
        let whole = Bytes::from(bytes);
        let mut reader = Reader::new(&whole, "test");
        assert_eq!(reader.bytes(3).as_deref(), Ok(&b"abc"[..]));
        assert_eq!(reader.u64(), Ok(7));
        assert_eq!(reader.end(), Ok(()));
        for cut in 0..whole.len() {
            let short = whole.slice(..cut);
            let mut reader = Reader::new(&short, "test");
            assert!(reader.bytes(3).and_then(|_| reader.u64()).is_err(), "cut at {cut}");
        }
        let huge = Bytes::from_static(&[0xFF; 8]);
        assert!(Reader::new(&huge, "test").bytes(usize::MAX).is_err());
        assert!(Reader::new(&huge, "test").count(1).is_err());
        assert!(Reader::new(&huge, "test").bytes(2).is_err());
    }
}
