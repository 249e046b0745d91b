//! One map node: its bytes, and finding things in them. See `docs/formats/map-tree.md`.

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::codec::Reader;
use crate::name::{Kind, Name, Realm};
use crate::tree::builder::Layout;
use crate::tree::node::{NodeFault, put_header, put_short, read_header, read_short_len};

/// Longest key, in bytes. The shortest is one byte.
pub const KEY_BYTES_MAX: usize = 300;
/// Longest value, in bytes. It may be empty.
pub const VALUE_BYTES_MAX: usize = 1024;

const MAGIC: [u8; 4] = *b"NBmn";
const WHAT: &str = "map node";
/// A node ends after so many entries even where no key says so.
const ENTRIES_MAX: usize = 256;
/// One key in two to the power of this ends a node: 64 entries of about 70 bytes are about 4 KiB.
const BOUNDARY_BITS: u32 = 6;
/// An inner node does not end before so many children, or a tree of hand-picked keys might not get narrower upwards.
const CHILDREN_MIN: usize = 2;

/// A decoded node: the bytes, and where in them its entries are. Keys and values stay where they are.
#[derive(Clone, Debug)]
pub struct Node {
    bytes: Bytes,
    level: u8,
    writable: bool,
    prefix: Range<usize>,
    slots: Vec<Slot>,
}

/// Where one entry is.
#[derive(Clone, Debug)]
struct Slot {
    suffix: Range<u32>,
    payload: Range<u32>,
}

impl Node {
    /// Reads a node. Refuses whatever [`merge`](super::merge()) would not write: keys out of order, a prefix shorter than it could be,
    /// bytes left over.
    pub fn decode(bytes: &Bytes) -> Result<Node, NodeFault> {
        let mut reader = Reader::new(bytes, WHAT);
        let header = read_header(&mut reader, MAGIC)?;
        if header.count > ENTRIES_MAX {
            return Err(reader.malformed().into());
        }
        let part = |reader: &mut Reader, len: usize| -> Result<Range<u32>, NodeFault> {
            let Range { start, end } = reader.skip(len)?;
            Ok(start as u32..end as u32)
        };
        let prefix_len = read_short_len(&mut reader, KEY_BYTES_MAX)?;
        let prefix = part(&mut reader, prefix_len)?;
        let mut slots = Vec::with_capacity(header.count);
        for _ in 0..header.count {
            let suffix_len = read_short_len(&mut reader, KEY_BYTES_MAX - prefix_len)?;
            let suffix = part(&mut reader, suffix_len)?;
            let payload_len = if header.level == 0 { read_short_len(&mut reader, VALUE_BYTES_MAX)? } else { 32 };
            slots.push(Slot { suffix, payload: part(&mut reader, payload_len)? });
        }
        let malformed = reader.malformed();
        reader.end()?;
        let prefix = prefix.start as usize..prefix.end as usize;
        let node = Node { bytes: bytes.clone(), level: header.level, writable: header.writable, prefix, slots };
        if node.is_ordered() { Ok(node) } else { Err(malformed.into()) }
    }

    /// True where keys are not empty, ascend, and share no more than the prefix.
    fn is_ordered(&self) -> bool {
        let last = self.suffix(self.len() - 1);
        let shared = shared_prefix(self.suffix(0), last);
        let longest = if self.len() == 1 { last.is_empty() } else { shared == 0 };
        let not_empty = !self.prefix.is_empty() || !self.suffix(0).is_empty();
        longest && not_empty && (1..self.len()).all(|index| self.suffix(index - 1) < self.suffix(index))
    }
    /// About how much memory it takes, its bytes included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Node>() + self.bytes.len() + self.slots.len() * size_of::<Slot>()
    }
    /// As it was read.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// 0 for leaves; children are one level below their parent.
    pub fn level(&self) -> u8 {
        self.level
    }
    /// How many entries or children it has: 1 to 256.
    #[allow(clippy::len_without_is_empty, reason = "a node is never empty")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }
    /// False where it uses a feature that only newer versions can write.
    pub fn is_writable(&self) -> bool {
        self.writable
    }
    /// The key of entry `index`; in an inner node, the last key of that child.
    pub fn key(&self, index: usize) -> Bytes {
        let suffix = self.suffix(index);
        if suffix.is_empty() {
            return self.bytes.slice(self.prefix.clone());
        }
        Bytes::from([&self.bytes[self.prefix.clone()], suffix].concat())
    }
    /// The value of entry `index` of a leaf, as a slice of the node.
    pub fn value(&self, index: usize) -> Bytes {
        assert_eq!(self.level, 0, "only leaves have values");
        self.bytes.slice(self.payload(index))
    }
    /// The name of child `index` of an inner node.
    pub fn child(&self, index: usize) -> Name {
        assert_ne!(self.level, 0, "leaves have no children");
        let mut name = Name::default();
        name.0.copy_from_slice(&self.bytes[self.payload(index)]);
        name
    }
    /// Key `index` compared with `key`, without putting it together.
    pub fn compare(&self, index: usize, key: &[u8]) -> Ordering {
        let prefix = &self.bytes[self.prefix.clone()];
        match key.split_at_checked(prefix.len()) {
            Some((front, rest)) => prefix.cmp(front).then_with(|| self.suffix(index).cmp(rest)),
            None => prefix.cmp(key),
        }
    }
    /// The entry that has `key`, or else the first one behind it.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.compare(middle, key) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }
    fn suffix(&self, index: usize) -> &[u8] {
        let Range { start, end } = self.slots[index].suffix;
        &self.bytes[start as usize..end as usize]
    }
    fn payload(&self, index: usize) -> Range<usize> {
        let Range { start, end } = self.slots[index].payload;
        start as usize..end as usize
    }
}

/// How many bytes two keys have in common at their front.
fn shared_prefix(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// What a node is made of while it is built.
#[derive(Clone, Debug)]
pub(in crate::tree) struct Item {
    pub key: Bytes,
    pub payload: Payload,
}

#[derive(Clone, Debug)]
pub(in crate::tree) enum Payload {
    Value(Bytes),
    Child(Name),
}

/// How map trees are built.
pub(in crate::tree) struct MapLayout<'a> {
    pub realm: &'a Realm,
}

impl Layout for MapLayout<'_> {
    const KIND: Kind = Kind::MapNode;
    type Item = Item;

    fn ends(&self, level: u8, count: usize, last: &Item) -> bool {
        if count >= ENTRIES_MAX {
            return true;
        }
        // Each level looks at bits of its own, so that ends on one level say nothing about the next.
        let bits = self.realm.boundary(&last.key).rotate_right(u32::from(level) * BOUNDARY_BITS);
        bits.trailing_zeros() >= BOUNDARY_BITS && (level == 0 || count >= CHILDREN_MIN)
    }

    fn encode(&self, level: u8, items: &[Item]) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        put_header(&mut out, MAGIC, level, items.len());
        let shared = match items {
            [first, .., last] => shared_prefix(&first.key, &last.key),
            _ => items[0].key.len(),
        };
        put_short(&mut out, shared as u64);
        out.extend_from_slice(&items[0].key[..shared]);
        for item in items {
            put_short(&mut out, (item.key.len() - shared) as u64);
            out.extend_from_slice(&item.key[shared..]);
            match &item.payload {
                Payload::Value(value) => {
                    put_short(&mut out, value.len() as u64);
                    out.extend_from_slice(value);
                }
                Payload::Child(name) => out.extend_from_slice(&name.0),
            }
        }
        out
    }

    fn parent(&self, items: &[Item], name: Name) -> Item {
        Item { key: items[items.len() - 1].key.clone(), payload: Payload::Child(name) }
    }
}
