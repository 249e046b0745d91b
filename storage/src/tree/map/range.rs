//! Entries in order, read as they are asked for.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use super::format::Node;
use super::load_child;
use crate::error::Result;
use crate::name::Name;
use crate::tree::Objects;

/// The entries of the map `root` whose keys lie within `bounds`, in ascending order. Reads nothing before the first is
/// asked for. To go on later where a listing stopped, begin with `Bound::Excluded` of its last key.
pub fn range<'a, K: AsRef<[u8]>>(
    objects: &'a dyn Objects,
    root: Option<&Name>,
    bounds: impl RangeBounds<K>,
) -> Range<'a> {
    let owned = |bound: Bound<&K>| bound.map(|key| Bytes::copy_from_slice(key.as_ref()));
    Range {
        objects,
        start: root.map(|root| (*root, owned(bounds.start_bound()))),
        end: owned(bounds.end_bound()),
        path: Vec::new(),
    }
}

/// The entries of the map `root` whose keys begin with `prefix`.
pub fn prefix<'a>(objects: &'a dyn Objects, root: Option<&Name>, prefix: &[u8]) -> Range<'a> {
    // The first key behind all that begin with the prefix: its last byte that can grow, grown.
    let grows = prefix.iter().rposition(|byte| *byte < u8::MAX);
    let end = grows.map_or(Bound::Unbounded, |at| {
        let mut behind = prefix[..=at].to_vec();
        behind[at] += 1;
        Bound::Excluded(behind)
    });
    range(objects, root, (Bound::Included(prefix.to_vec()), end))
}

/// Entries in order; see [`range`]. After an error it is at its end.
pub struct Range<'a> {
    objects: &'a dyn Objects,
    /// Where to begin, until that was done.
    start: Option<(Name, Bound<Bytes>)>,
    end: Bound<Bytes>,
    /// From the root to a leaf, each with the index to go on at.
    path: Vec<(Arc<Node>, usize)>,
}

impl Range<'_> {
    fn begin(&mut self, root: &Name, start: &Bound<Bytes>) -> Result<()> {
        let mut node = self.objects.map_node(root)?;
        loop {
            let index = match start {
                Bound::Unbounded => 0,
                Bound::Included(key) => node.search(key).unwrap_or_else(|behind| behind),
                Bound::Excluded(key) => node.search(key).map_or_else(|behind| behind, |found| found + 1),
            };
            if node.level() == 0 || index == node.len() {
                self.path.push((node, index));
                return Ok(());
            }
            let child = load_child(self.objects, &node, index)?;
            self.path.push((node, index + 1));
            node = child;
        }
    }

    fn step(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        if let Some((root, start)) = self.start.take() {
            self.begin(&root, &start)?;
        }
        while let Some((node, index)) = self.path.last_mut() {
            let at = *index;
            if at == node.len() {
                self.path.pop();
                continue;
            }
            *index += 1;
            if node.level() > 0 {
                let child = load_child(self.objects, node, at)?;
                self.path.push((child, 0));
                continue;
            }
            let within = match &self.end {
                Bound::Unbounded => true,
                Bound::Included(end) => node.compare(at, end).is_le(),
                Bound::Excluded(end) => node.compare(at, end).is_lt(),
            };
            if !within {
                self.path.clear();
                break;
            }
            return Ok(Some((node.key(at), node.value(at))));
        }
        Ok(None)
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.path.clear();
        }
        step.transpose()
    }
}
