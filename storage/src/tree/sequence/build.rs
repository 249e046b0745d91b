//! Entries in order become a content.

use super::content::Content;
use super::format::{Child, ENTRIES_MAX, Entry, encode_inner, encode_leaf};
use crate::error::Result;
use crate::name::{Kind, Name};
use crate::tree::Objects;
use crate::tree::builder::{Builder, Layout};

/// A node does not end by itself before so many entries or children.
pub(super) const NODE_ENTRIES_MIN: usize = 32;
/// Behind them, one in two to the power of this ends it: 96 on average, of about 36 bytes.
const BOUNDARY_BITS: u32 = 6;

pub(super) enum Item {
    Entry(Entry),
    Child(Child),
}

/// How sequence trees are built.
struct SequenceLayout;

impl Layout for SequenceLayout {
    const KIND: Kind = Kind::SequenceNode;
    type Item = Item;

    fn ends(&self, _level: u8, count: usize, last: &Item) -> bool {
        count >= ENTRIES_MAX || count >= NODE_ENTRIES_MIN && mark(last).trailing_zeros() >= BOUNDARY_BITS
    }

    fn encode(&self, level: u8, items: &[Item]) -> Vec<u8> {
        let entries = items.iter().filter_map(|item| if let Item::Entry(entry) = item { Some(entry) } else { None });
        let children = items.iter().filter_map(|item| if let Item::Child(child) = item { Some(child) } else { None });
        if level == 0 { encode_leaf(items.len(), entries) } else { encode_inner(level, items.len(), children) }
    }

    fn parent(&self, items: &[Item], name: Name) -> Item {
        let sums = items.iter().map(|item| match item {
            Item::Entry(entry) => (entry.len(), entry.data_len()),
            Item::Child(child) => (child.len, child.data_len),
        });
        let (len, data_len) = sums.fold((0, 0), |(len, data), (more, more_data)| (len + more, data + more_data));
        Item::Child(Child { len, data_len, name })
    }
}

/// A number that is spread evenly, and depends on the item alone.
fn mark(item: &Item) -> u64 {
    match item {
        Item::Entry(Entry::Chunk { name, .. }) | Item::Child(Child { name, .. }) => name.prefix(),
        Item::Entry(Entry::Hole(len)) => spread(*len),
        Item::Entry(Entry::Inline(bytes)) => spread(u64::from(crc32c::crc32c(bytes))),
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
fn spread(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

/// A content that grows to the right. Joins holes.
pub(super) struct ContentBuilder<'a> {
    builder: Builder<'a, SequenceLayout>,
    hole: u64,
}

impl<'a> ContentBuilder<'a> {
    pub fn new(objects: &'a dyn Objects) -> Self {
        ContentBuilder { builder: Builder::new(objects, SequenceLayout), hole: 0 }
    }
    pub fn push(&mut self, entry: Entry) -> Result<()> {
        if let Entry::Hole(len) = entry {
            self.hole += len;
            return Ok(());
        }
        self.close_hole()?;
        self.builder.push(0, Item::Entry(entry))
    }
    /// True where [`ContentBuilder::push_node`] may take a node of `level`.
    pub fn takes_node(&self, level: u8) -> bool {
        self.hole == 0 && self.builder.between_nodes(level)
    }
    /// Adds a whole node of `level`, and all that is below it.
    pub fn push_node(&mut self, level: u8, node: Child) -> Result<()> {
        assert!(self.takes_node(level), "a node was taken over where none begins");
        self.builder.push(level + 1, Item::Child(node))
    }
    pub fn finish(mut self) -> Result<Content> {
        self.close_hole()?;
        if let Some(items) = self.builder.only_leaf() {
            let entries =
                items.iter().filter_map(|item| if let Item::Entry(entry) = item { Some(entry.clone()) } else { None });
            if let Some(content) = Content::embedded(&entries.collect::<Vec<_>>()) {
                return Ok(content);
            }
        }
        match self.builder.finish()? {
            Some((_, Item::Child(root))) => Ok(Content::tree(&root)),
            Some((_, Item::Entry(_))) | None => Ok(Content::empty()),
        }
    }
    fn close_hole(&mut self) -> Result<()> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            len => self.builder.push(0, Item::Entry(Entry::Hole(len))),
        }
    }
}

/// The content that these entries are.
pub(in crate::tree) fn rebuild(
    objects: &dyn Objects,
    entries: impl Iterator<Item = Result<Entry>>,
) -> Result<super::Content> {
    let mut builder = ContentBuilder::new(objects);
    for entry in entries {
        builder.push(entry?)?;
    }
    builder.finish()
}

/// A content whose root stands above lone nodes that no builder would make.
#[cfg(test)]
pub(in crate::tree) fn wrap_for_tests(objects: &dyn Objects, children: &[Child], level: u8) -> super::Content {
    let wrap = |children: &[Child], level: u8| {
        let name = objects.put(Kind::SequenceNode, &encode_inner(level, children.len(), children.iter())).unwrap();
        let (len, data_len) = (children.iter().map(|c| c.len).sum(), children.iter().map(|c| c.data_len).sum());
        Child { len, data_len, name }
    };
    Content::tree(&wrap(&[wrap(children, level)], level + 1))
}
