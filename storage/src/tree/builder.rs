//! Builds a tree of either kind from its items in order, with whole subtrees of an older tree put in where they fit.
//!
//! One node per level is open at a time. A node ends where [`Layout::ends`] says so, which looks at the node's own
//! items and at nothing else; so the nodes are a pure function of the items, and a subtree of another tree that begins
//! where a node would begin is the subtree that would be built here. Memory: one open node per level.

use crate::error::Result;
use crate::name::{Kind, Name};

use super::Objects;
use super::node::{LEVEL_MAX, NODE_BYTES_MAX};

/// What distinguishes the two kinds of trees.
pub(crate) trait Layout {
    /// The kind of its nodes.
    const KIND: Kind;
    /// What a node holds: things in leaves, children in nodes above.
    type Item;
    /// True where a node of `level` ends behind `last`, which is its item number `count`.
    fn ends(&self, level: u8, count: usize, last: &Self::Item) -> bool;
    /// The bytes of a node; `items` are never empty.
    fn encode(&self, level: u8, items: &[Self::Item]) -> Vec<u8>;
    /// What stands for a node of `items`, called `name`, on the level above.
    fn parent(&self, items: &[Self::Item], name: Name) -> Self::Item;
}

/// A tree that grows to the right.
pub(crate) struct Builder<'a, L: Layout> {
    objects: &'a dyn Objects,
    layout: L,
    /// The items of the open node of each level. The last one is never empty.
    open: Vec<Vec<L::Item>>,
}

impl<'a, L: Layout> Builder<'a, L> {
    pub fn new(objects: &'a dyn Objects, layout: L) -> Self {
        Builder { objects, layout, open: Vec::new() }
    }

    /// Adds an item to the open node of `level`. Above level 0 it stands for a whole subtree, and everything below
    /// must be between nodes ([`Builder::between_nodes`] of the level below).
    pub fn push(&mut self, level: u8, item: L::Item) -> Result<()> {
        assert!(level <= LEVEL_MAX, "a tree grew too high");
        let index = usize::from(level);
        while self.open.len() <= index {
            self.open.push(Vec::new());
        }
        let items = &mut self.open[index];
        items.push(item);
        let ends = items.last().is_some_and(|last| self.layout.ends(level, items.len(), last));
        if ends { self.close(level) } else { Ok(()) }
    }

    /// True where the next item begins a new node on `level` and on every level below.
    pub fn between_nodes(&self, level: u8) -> bool {
        self.open.iter().take(usize::from(level) + 1).all(Vec::is_empty)
    }

    /// The items of the only node there is so far, if no node was ended yet.
    pub fn only_leaf(&self) -> Option<&[L::Item]> {
        match &self.open[..] {
            [] => Some(&[]),
            [leaf] => Some(leaf),
            _ => None,
        }
    }

    /// Ends all open nodes. Returns what stands for the root, and the root's level; nothing where there are no items.
    pub fn finish(mut self) -> Result<Option<(u8, L::Item)>> {
        let mut level = 0;
        while usize::from(level) < self.open.len() {
            let index = usize::from(level);
            let is_top = index + 1 == self.open.len();
            if is_top && level > 0 && self.open[index].len() == 1 {
                return Ok(self.open[index].pop().map(|root| (level - 1, root)));
            }
            if !self.open[index].is_empty() {
                self.close(level)?;
            }
            level += 1;
        }
        Ok(None)
    }

    fn close(&mut self, level: u8) -> Result<()> {
        let mut items = std::mem::take(&mut self.open[usize::from(level)]);
        let bytes = self.layout.encode(level, &items);
        assert!(bytes.len() <= NODE_BYTES_MAX, "a node of {} bytes", bytes.len());
        let name = self.objects.put(L::KIND, &bytes)?;
        let parent = self.layout.parent(&items, name);
        items.clear();
        self.open[usize::from(level)] = items;
        self.push(level + 1, parent)
    }
}
