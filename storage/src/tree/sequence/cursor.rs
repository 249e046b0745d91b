//! A place in a content that moves forward, and enters only the nodes it has to.

use std::sync::Arc;

use super::content::{Body, Content};
use super::format::{Child, Entry, Items, Node};
use crate::error::{Damage, Refusal, Result};
use crate::name::Name;
use crate::tree::Objects;

/// What comes next at a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// A node of this level that was not entered.
    Node(u8, Child),
    /// An entry.
    Entry(Entry),
}

impl Head {
    pub fn len(&self) -> u64 {
        match self {
            Head::Node(_, child) => child.len,
            Head::Entry(entry) => entry.len(),
        }
    }
}

/// A place between two entries of a content, or within one. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    objects: &'a dyn Objects,
    /// From the root down: nodes, and the index of the item that comes next. Only the last may be at its end.
    path: Vec<(Arc<Node>, usize)>,
    at: u64,
    writable: bool,
}

impl<'a> Cursor<'a> {
    /// The beginning of a content. Reads its root.
    pub fn new(objects: &'a dyn Objects, content: &Content) -> Result<Self> {
        let root = match &content.body {
            Body::Embedded(entries) => {
                Arc::new(Node { level: 0, writable: true, items: Items::Entries(entries.clone()) })
            }
            Body::Tree(name) => {
                let node = objects.sequence_node(name)?;
                check_sums(&node, &Child { len: content.len(), data_len: content.data_len(), name: *name })?;
                node
            }
        };
        Ok(Cursor { objects, writable: root.writable, path: vec![(root, 0)], at: 0 })
    }
    /// Offset of what comes next, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }
    /// Refuses where a node was met that only newer versions can write.
    pub fn check_writable(&self) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(Refusal::Unsupported("the content was written by a newer version; it can only be read".into()).into())
    }
    /// What comes next; nothing at the end of the content.
    pub fn head(&mut self) -> Option<Head> {
        while self.path.pop_if(|(node, index)| *index == node.count()).is_some() {}
        let (node, index) = self.path.last()?;
        Some(match &node.items {
            Items::Entries(entries) => Head::Entry(entries[*index].clone()),
            Items::Children(children) => Head::Node(node.level - 1, children[*index]),
        })
    }
    /// Passes what comes next.
    pub fn skip(&mut self) {
        if let Some(head) = self.head() {
            self.at += head.len();
            if let Some((_, index)) = self.path.last_mut() {
                *index += 1;
            }
        }
    }
    /// Enters what comes next, where it is a node.
    pub fn enter(&mut self) -> Result<()> {
        if let Some(Head::Node(level, child)) = self.head() {
            let node = self.objects.sequence_node(&child.name)?;
            if node.level != level {
                return Err(damage(&child.name, format_args!("level {level}"), node.level));
            }
            check_sums(&node, &child)?;
            self.writable &= node.writable;
            if let Some((_, index)) = self.path.last_mut() {
                *index += 1;
            }
            self.path.push((node, 0));
        }
        Ok(())
    }
    /// Goes forward to the item that holds the byte `offset`, and enters no node that begins there. Never goes back.
    pub fn seek(&mut self, offset: u64) -> Result<()> {
        while self.at < offset {
            match self.head() {
                None => break,
                Some(head) if self.at + head.len() <= offset => self.skip(),
                Some(Head::Node(..)) => self.enter()?,
                Some(Head::Entry(_)) => break,
            }
        }
        Ok(())
    }
    /// The entry that comes next.
    pub fn entry(&mut self) -> Result<Option<Entry>> {
        loop {
            match self.head() {
                None => return Ok(None),
                Some(Head::Entry(entry)) => return Ok(Some(entry)),
                Some(Head::Node(..)) => self.enter()?,
            }
        }
    }
}

/// Checks that a node is as long as its parent says.
fn check_sums(node: &Node, child: &Child) -> Result<()> {
    let found = node.sums().unwrap_or_default();
    if found == (child.len, child.data_len) {
        return Ok(());
    }
    let text = |(len, data): (u64, u64)| format!("{len} bytes, {data} of them data");
    Err(damage(&child.name, text((child.len, child.data_len)), text(found)))
}

fn damage(name: &Name, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> crate::Error {
    Damage::new(format!("SequenceNode {name}"), 0, expected, found).into()
}
