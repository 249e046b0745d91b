//! What nodes of both kinds have in common: the header, short numbers, and what can be wrong with them.
//!
//! A node carries no checksum: its name is one. Whoever hands a node's bytes to a decoder has verified them against the
//! name, so a malformed node was *made* malformed, by a peer or by a mistake.

use crate::codec::{Malformed, Put, Reader};
use crate::error::{Damage, Error, Refusal};
use crate::name::{Kind, Name};

/// The version that this code writes, and the newest that it reads.
pub const NODE_VERSION: u8 = 1;
/// No tree is higher. A tree of this height would need more nodes than there are names for.
pub const LEVEL_MAX: u8 = 40;
/// No node is longer, in bytes. Usual ones are about 4 KiB.
pub const NODE_BYTES_MAX: usize = 512 << 10;
/// How long the header is, in bytes.
pub const HEADER_BYTES: usize = 12;

/// Why bytes are not a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// They do not follow the format.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// They follow a newer version of it, or need a feature that this one lacks.
    #[error("{0}")]
    Unsupported(String),
}

impl NodeFault {
    /// The same fault as an error that names the node.
    pub fn of(self, kind: Kind, name: &Name) -> Error {
        match self {
            NodeFault::Malformed(Malformed { what, at }) => {
                Damage::new(format!("{kind:?} {name}"), at as u64, format_args!("a well-formed {what}"), "another form")
                    .into()
            }
            NodeFault::Unsupported(text) => Refusal::Unsupported(format!("{kind:?} {name}: {text}")).into(),
        }
    }
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// 0 for leaves; a node's children are one level below it.
    pub level: u8,
    /// How many items follow.
    pub count: usize,
    /// False where the node uses a feature that only newer versions can write: it can be read and not changed.
    pub writable: bool,
}

/// Begins a node of `count` items.
pub(crate) fn put_header(out: &mut Vec<u8>, magic: [u8; 4], level: u8, count: usize) {
    assert!(
        level <= LEVEL_MAX && (1..=usize::from(u16::MAX)).contains(&count),
        "a node of {count} items at level {level}"
    );
    out.extend_from_slice(&magic);
    out.put_u8(NODE_VERSION);
    out.put_u8(level);
    out.put_u16(count as u16);
    out.extend_from_slice(&[0; 4]); // three empty feature sets, one reserved byte
}

/// Reads a header that begins with `magic`.
pub(crate) fn read_header(reader: &mut Reader, magic: [u8; 4]) -> Result<Header, NodeFault> {
    let malformed = reader.malformed();
    if reader.left() > NODE_BYTES_MAX || reader.array()? != magic {
        return Err(malformed.into());
    }
    let version = reader.u8()?;
    if version != NODE_VERSION {
        return Err(NodeFault::Unsupported(format!("version {version} of nodes is newer than {NODE_VERSION}")));
    }
    let (level, count) = (reader.u8()?, usize::from(reader.u16()?));
    let [_ignore, read_only, refuse, reserved] = reader.array()?;
    if refuse != 0 {
        return Err(NodeFault::Unsupported(format!("unknown features {refuse:#04x}")));
    }
    if level > LEVEL_MAX || count == 0 || reserved != 0 {
        return Err(malformed.into());
    }
    Ok(Header { level, count, writable: read_only == 0 })
}

/// Appends a number in as many bytes as it needs: seven bits each, lowest first, the top bit set on all but the last.
pub(crate) fn put_short(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads what [`put_short`] wrote, and nothing that is longer than it needs to be: there is one encoding of a number.
pub(crate) fn read_short(reader: &mut Reader) -> Result<u64, Malformed> {
    let malformed = reader.malformed();
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7F);
        if bits << shift >> shift != bits || byte == 0 && shift > 0 {
            return Err(malformed);
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(malformed)
}

/// Reads what [`put_short`] wrote where it is a length of at most `max`.
pub(crate) fn read_short_len(reader: &mut Reader, max: usize) -> Result<usize, Malformed> {
    let malformed = reader.malformed();
    let len = read_short(reader)?;
    usize::try_from(len).ok().filter(|len| *len <= max).ok_or(malformed)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn short_numbers_have_one_encoding() {
        for number in (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, u64::MAX >> bit]) {
            let mut bytes = Vec::new();
            put_short(&mut bytes, number);
            let whole = Bytes::from(bytes.clone());
            let mut reader = Reader::new(&whole, "number");
            assert_eq!(read_short(&mut reader), Ok(number));
            assert_eq!(reader.end(), Ok(()));
            // The same number with a needless byte.
            *bytes.last_mut().unwrap() |= 0x80;
            bytes.push(0);
            assert!(read_short(&mut Reader::new(&Bytes::from(bytes), "number")).is_err());
        }
        for bad in [&[0xFF; 10][..], &[0xFF, 0xFF], &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2]] {
            assert!(read_short(&mut Reader::new(&Bytes::copy_from_slice(bad), "number")).is_err());
        }
    }

    #[test]
    fn newer_nodes_are_refused_by_name_of_what_is_missing() {
        let magic = *b"NBxx";
        let mut bytes = Vec::new();
        put_header(&mut bytes, magic, 3, 7);
        let read = |bytes: &[u8]| read_header(&mut Reader::new(&Bytes::copy_from_slice(bytes), "node"), magic);
        assert_eq!(bytes.len(), HEADER_BYTES);
        assert_eq!(read(&bytes), Ok(Header { level: 3, count: 7, writable: true }));
        let with = |at: usize, value: u8| {
            let mut changed = bytes.clone();
            changed[at] = value;
            read(&changed)
        };
        assert!(matches!(with(0, 0), Err(NodeFault::Malformed(_))));
        assert!(matches!(with(4, 2), Err(NodeFault::Unsupported(_))));
        assert!(matches!(with(5, LEVEL_MAX + 1), Err(NodeFault::Malformed(_))));
        assert!(matches!(with(6, 0), Err(NodeFault::Malformed(_))));
        assert_eq!(with(8, 1), read(&bytes));
        assert_eq!(with(9, 1), Ok(Header { level: 3, count: 7, writable: false }));
        assert!(matches!(with(10, 1), Err(NodeFault::Unsupported(_))));
        assert!(matches!(with(11, 1), Err(NodeFault::Malformed(_))));
    }
}
