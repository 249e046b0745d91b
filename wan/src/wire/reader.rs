//! Reading fields out of bytes that a peer sent.

use bytes::{Buf, Bytes};
use narrowboat_storage::name::{Kind, Name};

use super::Ref;

/// Bytes that are no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The payload ends inside a field.
    #[error("{0} ends too early")]
    Truncated(&'static str),
    /// The payload goes on behind its last field.
    #[error("{count} bytes too many at the end")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A length beyond its bound.
    #[error("{what} has length {len}, at most {max} is allowed")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// What the peer said.
        len: u64,
        /// What is allowed.
        max: u64,
    },
    /// A number that stands for nothing.
    #[error("{what} {value} is unknown")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A title or sentence that is not UTF-8, is empty where it must not be, or contains control characters.
    #[error("{0} is not a plain text")]
    NotText(&'static str),
    /// A stream or greeting that does not begin as ours do.
    #[error("{0} does not begin with its magic")]
    Magic(&'static str),
}

/// Takes fields from the front of a payload. Slices share the payload's memory.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    what: &'static str,
}

impl Reader {
    /// Reads `bytes`; `what` names the message in errors.
    pub fn new(what: &'static str, bytes: Bytes) -> Self {
        Reader { bytes, what }
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<Bytes, WireError> {
        if self.bytes.len() < len {
            return Err(WireError::Truncated(self.what));
        }
        Ok(self.bytes.split_to(len))
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        if self.bytes.len() < N {
            return Err(WireError::Truncated(self.what));
        }
        let mut array = [0; N];
        self.bytes.copy_to_slice(&mut array);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }
    /// A 16-bit integer.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }
    /// A 32-bit integer.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }
    /// A 64-bit integer.
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }
    /// A signed 64-bit integer.
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A truth value: exactly 0 or 1, so that each message has one encoding.
    pub fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::Unknown { what, value: value.into() }),
        }
    }

    /// A name of 32 bytes.
    pub fn name(&mut self) -> Result<Name, WireError> {
        self.array().map(Name)
    }

    /// A kind and a name.
    pub fn reference(&mut self) -> Result<Ref, WireError> {
        let number = self.u8()?;
        let kind = Kind::from_u8(number).ok_or(WireError::Unknown { what: "kind", value: number.into() })?;
        Ok((kind, self.name()?))
    }

    /// A text of at most `max` bytes behind its length (16 bits), free of control characters.
    pub fn text(&mut self, what: &'static str, max: usize) -> Result<String, WireError> {
        let len = usize::from(self.u16()?);
        if len > max {
            return Err(WireError::TooLong { what, len: len as u64, max: max as u64 });
        }
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| WireError::NotText(what))?;
        if text.chars().any(char::is_control) {
            return Err(WireError::NotText(what));
        }
        Ok(text.to_owned())
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.bytes
    }

    /// Refuses bytes behind the last field.
    pub fn finish(self) -> Result<(), WireError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(WireError::Trailing { count: self.bytes.len() }) }
    }
}

/// Appends a text behind its length. Text that is longer than `max` is cut at a character, control characters become
/// spaces: what this side writes, the other side can read.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str, max: usize) {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while clean.len() > max {
        clean.pop();
    }
    out.extend_from_slice(&(clean.len() as u16).to_le_bytes());
    out.extend_from_slice(clean.as_bytes());
}
