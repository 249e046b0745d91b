//! What changed between two maps, without looking at what did not.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::format::Node;
use super::load_child;
use crate::error::Result;
use crate::name::Name;
use crate::tree::Objects;

/// One key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// Its value in the first map, if it is there.
    pub old: Option<Bytes>,
    /// Its value in the second map, if it is there.
    pub new: Option<Bytes>,
}

/// What differs between the maps `old` and `new`, by ascending keys. Lazy; subtrees that both have are skipped unread,
/// so it costs the differences and the paths to them.
pub fn diff<'a>(objects: &'a dyn Objects, old: Option<&Name>, new: Option<&Name>) -> Diff<'a> {
    let same = old == new;
    let side = |root: Option<&Name>| Side { objects, root: root.copied().filter(|_| !same), path: Vec::new() };
    Diff { old: side(old), new: side(new) }
}

/// The differences; see [`diff`]. After an error it is at its end.
pub struct Diff<'a> {
    old: Side<'a>,
    new: Side<'a>,
}

/// One of the two maps, seen as the rest of it: subtrees not entered yet, and entries.
struct Side<'a> {
    objects: &'a dyn Objects,
    /// The root, until it was entered.
    root: Option<Name>,
    path: Vec<(Arc<Node>, usize)>,
}

/// What comes next on one side.
enum Head {
    Subtree(u8, Name),
    Entry,
    End,
}

impl Side<'_> {
    /// Enters the root, if that was not done yet.
    fn begin(&mut self) -> Result<()> {
        if let Some(root) = self.root.take() {
            self.path.push((self.objects.map_node(&root)?, 0));
        }
        Ok(())
    }
    fn head(&mut self) -> Head {
        while self.path.pop_if(|(node, index)| *index == node.len()).is_some() {}
        match self.path.last() {
            None => Head::End,
            Some((node, _)) if node.level() == 0 => Head::Entry,
            Some((node, index)) => Head::Subtree(node.level() - 1, node.child(*index)),
        }
    }
    fn skip(&mut self) {
        if let Some((_, index)) = self.path.last_mut() {
            *index += 1;
        }
    }
    fn enter(&mut self) -> Result<()> {
        if let Some((node, index)) = self.path.last_mut() {
            let child = load_child(self.objects, node, *index)?;
            *index += 1;
            self.path.push((child, 0));
        }
        Ok(())
    }
    /// Key and value of the entry that comes next, which is passed.
    fn take(&mut self) -> Option<(Bytes, Bytes)> {
        let (leaf, index) = self.path.last_mut()?;
        *index += 1;
        Some((leaf.key(*index - 1), leaf.value(*index - 1)))
    }
    fn key(&self) -> Option<Bytes> {
        self.path.last().map(|(leaf, index)| leaf.key(*index))
    }
    fn same_value(&self, other: &Side) -> bool {
        let value = |side: &Side| side.path.last().map(|(leaf, index)| leaf.value(*index));
        value(self) == value(other)
    }
}

impl Diff<'_> {
    fn step(&mut self) -> Result<Option<Change>> {
        self.old.begin()?;
        self.new.begin()?;
        loop {
            match (self.old.head(), self.new.head()) {
                (Head::End, Head::End) => return Ok(None),
                (Head::Subtree(_, old), Head::Subtree(_, new)) if old == new => {
                    // The same subtree in front of both: the same entries, so both rests go on behind it.
                    self.old.skip();
                    self.new.skip();
                }
                (Head::Subtree(old, _), Head::Subtree(new, _)) => {
                    if old >= new {
                        self.old.enter()?;
                    }
                    if new >= old {
                        self.new.enter()?;
                    }
                }
                (Head::Subtree(..), _) => self.old.enter()?,
                (_, Head::Subtree(..)) => self.new.enter()?,
                (old, new) => {
                    if let Some(change) = self.entries(matches!(old, Head::Entry), matches!(new, Head::Entry)) {
                        return Ok(Some(change));
                    }
                }
            }
        }
    }

    /// Passes the smaller of two entries, or both where their keys are equal.
    fn entries(&mut self, in_old: bool, in_new: bool) -> Option<Change> {
        let order = match (in_old, in_new) {
            (true, true) => self.old.key().cmp(&self.new.key()),
            (true, false) => Ordering::Less,
            (false, _) => Ordering::Greater,
        };
        if order == Ordering::Equal && self.old.same_value(&self.new) {
            self.old.skip();
            self.new.skip();
            return None;
        }
        let old = if order.is_le() { self.old.take() } else { None };
        let new = if order.is_ge() { self.new.take() } else { None };
        let key = old.as_ref().or(new.as_ref()).map(|(key, _)| key.clone())?;
        Some(Change { key, old: old.map(|(_, value)| value), new: new.map(|(_, value)| value) })
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            (self.old.path, self.new.path) = (Vec::new(), Vec::new());
        }
        step.transpose()
    }
}
