//! One sequence node and its entries: their bytes. See `docs/formats/sequence-tree.md`.

use bytes::Bytes;

use crate::chunk::{CHUNK_BYTES_MAX, ZERO_RUN_BYTES};
use crate::codec::{Malformed, Reader};
use crate::name::Name;
use crate::tree::node::{NodeFault, put_header, put_short, read_header, read_short};

/// A chunk of at most this many bytes lies inline in its tree instead of being stored as a chunk.
pub const INLINE_BYTES_MAX: usize = 256;
/// No content is longer, in bytes (1 EiB).
pub const CONTENT_BYTES_MAX: u64 = 1 << 60;
/// No node has more entries or children.
pub(super) const ENTRIES_MAX: usize = 512;

const MAGIC: [u8; 4] = *b"NBsn";
const WHAT: &str = "sequence node";
const CHUNK: u64 = 0;
const HOLE: u64 = 1;
const INLINE: u64 = 2;

/// A part of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A stored chunk.
    Chunk {
        /// Its name.
        name: Name,
        /// Its length in bytes: more than [`INLINE_BYTES_MAX`], at most [`CHUNK_BYTES_MAX`].
        len: u32,
    },
    /// So many zero bytes that are stored nowhere, at least [`ZERO_RUN_BYTES`].
    Hole(u64),
    /// A chunk of 1 to [`INLINE_BYTES_MAX`] bytes: these.
    Inline(Bytes),
}

impl Entry {
    /// How many bytes of the content it stands for.
    #[allow(clippy::len_without_is_empty, reason = "an entry is never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Entry::Chunk { len, .. } => u64::from(*len),
            Entry::Hole(len) => *len,
            Entry::Inline(bytes) => bytes.len() as u64,
        }
    }
    /// How many of these are not a hole.
    pub fn data_len(&self) -> u64 {
        if matches!(self, Entry::Hole(_)) { 0 } else { self.len() }
    }
}

/// A node as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// How many bytes of the content lie below it.
    pub len: u64,
    /// How many of these are not holes.
    pub data_len: u64,
    /// Its name.
    pub name: Name,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Items {
    /// A leaf's entries.
    Entries(Vec<Entry>),
    /// An inner node's children.
    Children(Vec<Child>),
}

/// A decoded node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 0 for leaves; children are one level below their parent.
    pub level: u8,
    /// False where it uses a feature that only newer versions can write.
    pub writable: bool,
    /// What it holds: 1 to 512 of them.
    pub items: Items,
}

/// What an entry takes in a node's bytes as a rule: a name and a short length.
const ENCODED_ENTRY_BYTES: usize = 36;

impl Node {
    /// Reads a node. Refuses whatever would not be written: empty entries, adjacent holes, chunks that would lie
    /// inline, sums beyond [`CONTENT_BYTES_MAX`], bytes left over.
    pub fn decode(bytes: &Bytes) -> Result<Node, NodeFault> {
        let mut reader = Reader::new(bytes, WHAT);
        let header = read_header(&mut reader, MAGIC)?;
        if header.count > ENTRIES_MAX {
            return Err(reader.malformed().into());
        }
        let malformed = reader.malformed();
        let items = if header.level == 0 {
            Items::Entries(read_entries(&mut reader, header.count)?)
        } else {
            let mut children = Vec::with_capacity(header.count);
            for _ in 0..header.count {
                children.push(read_child(&mut reader)?);
            }
            Items::Children(children)
        };
        reader.end()?;
        let node = Node { level: header.level, writable: header.writable, items };
        node.sums().ok_or(malformed)?;
        Ok(node)
    }

    /// The sums over its items: length and data length. `None` where they are beyond [`CONTENT_BYTES_MAX`].
    pub fn sums(&self) -> Option<(u64, u64)> {
        let add = |(len, data): (u64, u64), (more, more_data): (u64, u64)| {
            let len = len.checked_add(more).filter(|len| *len <= CONTENT_BYTES_MAX)?;
            Some((len, data + more_data))
        };
        match &self.items {
            Items::Entries(entries) => entries.iter().map(|e| (e.len(), e.data_len())).try_fold((0, 0), add),
            Items::Children(children) => children.iter().map(|c| (c.len, c.data_len)).try_fold((0, 0), add),
        }
    }
    /// About how much memory it takes, the bytes that it was decoded from included: inline entries are slices of them.
    pub fn memory_bytes(&self) -> usize {
        self.count() * (size_of::<Entry>() + ENCODED_ENTRY_BYTES) + size_of::<Node>()
    }
    /// How many entries or children it has.
    pub(super) fn count(&self) -> usize {
        match &self.items {
            Items::Entries(entries) => entries.len(),
            Items::Children(children) => children.len(),
        }
    }
}

/// The bytes of a leaf.
pub(super) fn encode_leaf<'a>(count: usize, entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    put_header(&mut out, MAGIC, 0, count);
    entries.for_each(|entry| put_entry(&mut out, entry));
    out
}

/// The bytes of an inner node.
pub(super) fn encode_inner<'a>(level: u8, count: usize, children: impl Iterator<Item = &'a Child>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    put_header(&mut out, MAGIC, level, count);
    for child in children {
        put_short(&mut out, child.len);
        put_short(&mut out, child.data_len);
        out.extend_from_slice(&child.name.0);
    }
    out
}

/// Appends an entry: its length and kind as one short number, then the name or the bytes.
pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Chunk { name, len } => {
            put_short(out, u64::from(*len) << 2 | CHUNK);
            out.extend_from_slice(&name.0);
        }
        Entry::Hole(len) => put_short(out, *len << 2 | HOLE),
        Entry::Inline(bytes) => {
            put_short(out, (bytes.len() as u64) << 2 | INLINE);
            out.extend_from_slice(bytes);
        }
    }
}

/// Reads `count` entries.
pub(super) fn read_entries(reader: &mut Reader, count: usize) -> Result<Vec<Entry>, Malformed> {
    let mut entries = Vec::with_capacity(count.min(reader.left()));
    for _ in 0..count {
        let malformed = reader.malformed();
        let entry = read_entry(reader)?;
        if matches!((entries.last(), &entry), (Some(Entry::Hole(_)), Entry::Hole(_))) {
            return Err(malformed);
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn read_entry(reader: &mut Reader) -> Result<Entry, Malformed> {
    let malformed = reader.malformed();
    let number = read_short(reader)?;
    let (len, kind) = (number >> 2, number & 3);
    let within = |from: usize, to: u64| (from as u64..=to).contains(&len);
    match kind {
        CHUNK if within(INLINE_BYTES_MAX + 1, CHUNK_BYTES_MAX as u64) => {
            Ok(Entry::Chunk { name: Name(reader.array()?), len: len as u32 })
        }
        HOLE if within(ZERO_RUN_BYTES, CONTENT_BYTES_MAX) => Ok(Entry::Hole(len)),
        INLINE if within(1, INLINE_BYTES_MAX as u64) => Ok(Entry::Inline(reader.take(len as usize)?)),
        _ => Err(malformed),
    }
}

fn read_child(reader: &mut Reader) -> Result<Child, Malformed> {
    let malformed = reader.malformed();
    let (len, data_len) = (read_short(reader)?, read_short(reader)?);
    if len == 0 || data_len > len {
        return Err(malformed);
    }
    Ok(Child { len, data_len, name: Name(reader.array()?) })
}
