//! Edits become a new root; what they do not touch stays as it is.

use bytes::Bytes;

use super::format::{Item, KEY_BYTES_MAX, MapLayout, Node, Payload, VALUE_BYTES_MAX};
use super::load_child;
use crate::error::{Refusal, Result};
use crate::name::{Name, Realm};
use crate::tree::Objects;
use crate::tree::builder::Builder;

/// The root of the map `root` after `edits`, which come with strictly ascending keys: `Some` sets a value, `None`
/// removes a key (also one that is not there).
///
/// Reads the nodes that the edits touch and their neighbours, puts the new ones, and takes over all other subtrees by
/// name. Refused where keys do not ascend, or a key is not 1 to [`KEY_BYTES_MAX`] bytes long, or a value longer than
/// [`VALUE_BYTES_MAX`]; what was put by then is unreferenced.
pub fn merge<K: Into<Bytes>, V: Into<Bytes>>(
    objects: &dyn Objects,
    realm: &Realm,
    root: Option<&Name>,
    edits: impl IntoIterator<Item = (K, Option<V>)>,
) -> Result<Option<Name>> {
    let source = edits.into_iter().map(|(key, value)| (key.into(), value.map(Into::into)));
    let mut edits = Edits { source, next: None };
    edits.advance()?;
    if edits.next.is_none() {
        return Ok(root.copied());
    }
    let mut merge = Merge { objects, builder: Builder::new(objects, MapLayout { realm }), edits };
    if let Some(root) = root {
        let node = objects.map_node(root)?;
        merge.node(&node, None)?;
    }
    while let Some((key, value)) = merge.edits.take()? {
        merge.set(key, value)?;
    }
    let Some((level, Item { payload: Payload::Child(root), .. })) = merge.builder.finish()? else { return Ok(None) };
    if level == 0 { Ok(Some(root)) } else { without_lone_children(objects, root).map(Some) }
}

/// The lowest node that holds everything below `root`. A subtree that was taken over whole may have been the last of
/// its level, with a single child; as a root it would stand one level too high.
fn without_lone_children(objects: &dyn Objects, root: Name) -> Result<Name> {
    let mut node = objects.map_node(&root)?;
    let mut name = root;
    while node.level() > 0 && node.len() == 1 {
        name = node.child(0);
        node = load_child(objects, &node, 0)?;
    }
    Ok(name)
}

/// The edits, checked, one of them in sight.
struct Edits<I> {
    source: I,
    next: Option<(Bytes, Option<Bytes>)>,
}

impl<I: Iterator<Item = (Bytes, Option<Bytes>)>> Edits<I> {
    /// Goes on to the next edit and returns the one that was in sight.
    fn advance(&mut self) -> Result<Option<(Bytes, Option<Bytes>)>> {
        let next = self.source.next();
        if let Some((key, value)) = &next {
            let invalid = |text: String| Err(Refusal::Invalid(text).into());
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return invalid(format!("a key of {} bytes: it must have 1 to {KEY_BYTES_MAX}", key.len()));
            }
            if let Some(value) = value.as_ref().filter(|value| value.len() > VALUE_BYTES_MAX) {
                return invalid(format!("a value of {} bytes: {VALUE_BYTES_MAX} are the most", value.len()));
            }
            if self.next.as_ref().is_some_and(|(before, _)| before >= key) {
                return invalid("edits must have strictly ascending keys".to_owned());
            }
        }
        Ok(std::mem::replace(&mut self.next, next))
    }
    fn take(&mut self) -> Result<Option<(Bytes, Option<Bytes>)>> {
        self.advance()
    }
    /// The key in sight, where it is at most `last` (`None`: in any case).
    fn key_up_to(&self, last: Option<&Bytes>) -> Option<&Bytes> {
        self.next.as_ref().map(|(key, _)| key).filter(|key| last.is_none_or(|last| *key <= last))
    }
}

struct Merge<'a, I> {
    objects: &'a dyn Objects,
    builder: Builder<'a, MapLayout<'a>>,
    edits: Edits<I>,
}

impl<I: Iterator<Item = (Bytes, Option<Bytes>)>> Merge<'_, I> {
    /// Adds everything below `node`, with the edits up to its last key. `last` is that key, or `None` for the nodes on the
    /// right edge of the tree: everything greater belongs to them, too.
    fn node(&mut self, node: &Node, last: Option<&Bytes>) -> Result<()> {
        if !node.is_writable() {
            return Err(
                Refusal::Unsupported("the map was written by a newer version; it can only be read".into()).into()
            );
        }
        if node.level() == 0 {
            return self.leaf(node, last);
        }
        for index in 0..node.len() {
            let key = node.key(index);
            let at_edge = last.is_none() && index + 1 == node.len();
            let child_last = if at_edge { None } else { Some(&key) };
            // The last node of a level did not end by its own entries, but by the end of the map: it may only stay
            // where nothing comes behind it. With `None`, any edit that is left lies within it.
            let touched = self.edits.key_up_to(child_last).is_some();
            if !touched && self.builder.between_nodes(node.level() - 1) {
                self.builder.push(node.level(), Item { key, payload: Payload::Child(node.child(index)) })?;
            } else {
                let child = load_child(self.objects, node, index)?;
                self.node(&child, child_last)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, leaf: &Node, last: Option<&Bytes>) -> Result<()> {
        for index in 0..leaf.len() {
            let key = leaf.key(index);
            let mut kept = true;
            while self.edits.key_up_to(Some(&key)).is_some() {
                let Some((edited, value)) = self.edits.take()? else { break };
                kept &= edited != key;
                self.set(edited, value)?;
            }
            if kept {
                self.set(key, Some(leaf.value(index)))?;
            }
        }
        while self.edits.key_up_to(last).is_some() {
            let Some((key, value)) = self.edits.take()? else { break };
            self.set(key, value)?;
        }
        Ok(())
    }

    fn set(&mut self, key: Bytes, value: Option<Bytes>) -> Result<()> {
        match value {
            Some(value) => self.builder.push(0, Item { key, payload: Payload::Value(value) }),
            None => Ok(()),
        }
    }
}
