//! What a map holds of a content: its entries where they are few, or the root of its tree.

use bytes::Bytes;

use super::format::{CONTENT_BYTES_MAX, Child, Entry, put_entry, read_entries};
use crate::codec::{Malformed, Reader};
use crate::name::{Kind, Name};
use crate::tree::CONTENT_TAG;
use crate::tree::node::{put_short, read_short};

/// A content lies in its map value whole where its entries take at most so many bytes: one of the longest inline
/// entries, or seven chunks.
const EMBEDDED_BYTES_MAX: usize = 260;
/// … and where there are no more of them than this: fewer than any node that ends by itself has.
const EMBEDDED_ENTRIES_MAX: usize = super::build::NODE_ENTRIES_MIN - 1;

const EMBEDDED: u8 = 0;
const TREE: u8 = 1;

/// The content of a file or a volume: bytes at offsets, some of them holes. A small value; the bytes are elsewhere.
///
/// Two contents of equal bytes that were cut by one cutter are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    len: u64,
    data_len: u64,
    pub(super) body: Body,
}

/// Where the entries are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Embedded(Vec<Entry>),
    Tree(Name),
}

impl Content {
    /// The longest encoding, in bytes.
    pub const ENCODED_BYTES_MAX: usize = 2 + EMBEDDED_BYTES_MAX;

    /// No bytes.
    pub fn empty() -> Self {
        Content { len: 0, data_len: 0, body: Body::Embedded(Vec::new()) }
    }
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }
    /// True where there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// How many bytes are not holes, before deduplication.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }
    /// The root of its tree, where it has one.
    pub fn root(&self) -> Option<Name> {
        match self.body {
            Body::Tree(root) => Some(root),
            Body::Embedded(_) => None,
        }
    }

    /// What it names directly, in order: the root of its tree, or its chunks.
    pub fn references(&self) -> impl Iterator<Item = (Kind, Name)> {
        let entries = match &self.body {
            Body::Embedded(entries) => &entries[..],
            Body::Tree(_) => &[],
        };
        let chunks = entries.iter().filter_map(|entry| match entry {
            Entry::Chunk { name, .. } => Some((Kind::Chunk, *name)),
            Entry::Hole(_) | Entry::Inline(_) => None,
        });
        self.root().map(|root| (Kind::SequenceNode, root)).into_iter().chain(chunks)
    }

    /// The bytes for a map value; they begin with [`CONTENT_TAG`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.push(CONTENT_TAG);
        match &self.body {
            Body::Embedded(entries) => {
                out.push(EMBEDDED);
                entries.iter().for_each(|entry| put_entry(&mut out, entry));
            }
            Body::Tree(root) => {
                out.push(TREE);
                put_short(&mut out, self.len);
                put_short(&mut out, self.data_len);
                out.extend_from_slice(&root.0);
            }
        }
        out
    }

    /// Reads what [`Content::encode`] wrote, and nothing else.
    pub fn decode(bytes: &Bytes) -> Result<Content, Malformed> {
        let mut reader = Reader::new(bytes, "content");
        let malformed = reader.malformed();
        if reader.u8()? != CONTENT_TAG {
            return Err(malformed);
        }
        match reader.u8()? {
            EMBEDDED => {
                let mut entries: Vec<Entry> = Vec::new();
                while reader.left() > 0 {
                    let entry = read_entries(&mut reader, 1)?;
                    if matches!((entries.last(), &entry[..]), (Some(Entry::Hole(_)), [Entry::Hole(_)])) {
                        return Err(malformed);
                    }
                    entries.extend(entry);
                    if entries.len() > EMBEDDED_ENTRIES_MAX {
                        return Err(malformed);
                    }
                }
                Content::embedded(&entries).ok_or(malformed)
            }
            TREE => {
                let child = Child {
                    len: read_short(&mut reader)?,
                    data_len: read_short(&mut reader)?,
                    name: Name(reader.array()?),
                };
                if child.data_len > child.len || child.len == 0 || child.len > CONTENT_BYTES_MAX {
                    return Err(malformed);
                }
                reader.end()?;
                Ok(Content::tree(&child))
            }
            _ => Err(malformed),
        }
    }

    /// A content of these entries, where they are few and short enough to lie in a map value.
    pub(super) fn embedded(entries: &[Entry]) -> Option<Content> {
        if entries.len() > EMBEDDED_ENTRIES_MAX {
            return None;
        }
        let mut bytes = Vec::with_capacity(EMBEDDED_BYTES_MAX);
        entries.iter().for_each(|entry| put_entry(&mut bytes, entry));
        let len = entries.iter().try_fold(0u64, |sum, entry| sum.checked_add(entry.len()))?;
        if bytes.len() > EMBEDDED_BYTES_MAX || len > CONTENT_BYTES_MAX {
            return None;
        }
        let data_len = entries.iter().map(Entry::data_len).sum();
        Some(Content { len, data_len, body: Body::Embedded(entries.to_vec()) })
    }
    /// A content with a tree of its own.
    pub(super) fn tree(root: &Child) -> Content {
        Content { len: root.len, data_len: root.data_len, body: Body::Tree(root.name) }
    }
}

impl Default for Content {
    fn default() -> Self {
        Content::empty()
    }
}
