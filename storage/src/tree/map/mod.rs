//! Map trees: sorted keys to values, as nodes of about 4 KiB.
//!
//! A map is named by its root; no root is the empty map. What is promised:
//!
//! * **Equal maps have equal roots,** however they came about: node ends depend on keys alone (a keyed hash of the key,
//!   and the count of entries since the last end), never on the order of edits.
//! * [`get`] reads one node a level. [`range`] and [`diff`] are lazy: they read what they pass, and [`diff`] skips
//!   subtrees that both maps have.
//! * [`merge`] costs the touched nodes and the paths to them, and memory of one node a level, so it also loads millions
//!   of entries into an empty map.
//! * Nothing read is trusted: order, lengths, levels and the keys a parent promises are checked.
//!
//! Never here: what keys and values mean (`dataset` knows), except that a value whose first byte is
//! [`CONTENT_TAG`](super::CONTENT_TAG) names a content, which [`super::references`] follows.
//!
//! `docs/formats/map-tree.md` owns the bytes.

mod canonical;
mod diff;
mod format;
mod merge;
mod range;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use super::Objects;
use crate::error::{Damage, Result};
use crate::name::Name;

pub use canonical::{Canonical, EachContent};
pub use diff::{Change, Diff, diff};
pub use format::{KEY_BYTES_MAX, Node, VALUE_BYTES_MAX};
pub use merge::merge;
pub use range::{Range, prefix, range};

/// The value of `key` in the map `root`: a slice of its node.
pub fn get(objects: &dyn Objects, root: Option<&Name>, key: &[u8]) -> Result<Option<Bytes>> {
    let Some(root) = root else { return Ok(None) };
    let mut node = objects.map_node(root)?;
    loop {
        let found = node.search(key);
        if node.level() == 0 {
            return Ok(found.ok().map(|index| node.value(index)));
        }
        let index = found.unwrap_or_else(|behind| behind);
        if index == node.len() {
            return Ok(None);
        }
        node = load_child(objects, &node, index)?;
    }
}

/// How maps are laid out, for tests that build wrong ones.
#[cfg(test)]
pub(super) fn layout_for_tests(realm: &crate::name::Realm) -> format::MapLayout<'_> {
    format::MapLayout { realm }
}

/// An entry of a leaf, for the same.
#[cfg(test)]
pub(super) fn entry_for_tests(key: Vec<u8>, value: Vec<u8>) -> format::Item {
    format::Item { key: key.into(), payload: format::Payload::Value(value.into()) }
}

/// A child of an inner node, for the same.
#[cfg(test)]
pub(super) fn child_for_tests(key: Vec<u8>, name: Name) -> format::Item {
    format::Item { key: key.into(), payload: format::Payload::Child(name) }
}

/// Reads and decodes child `index` of `parent`, and checks that it is what the parent says.
fn load_child(objects: &dyn Objects, parent: &Node, index: usize) -> Result<Arc<Node>> {
    let name = parent.child(index);
    let node = objects.map_node(&name)?;
    if node.level() + 1 != parent.level() {
        let (expected, found) = (parent.level() - 1, node.level());
        return Err(Damage::new(format!("MapNode {name}"), 0, format_args!("level {expected}"), found).into());
    }
    if parent.compare(index, &node.key(node.len() - 1)) != Ordering::Equal {
        return Err(Damage::new(format!("MapNode {name}"), 0, "the last key that its parent names", "another").into());
    }
    Ok(node)
}
