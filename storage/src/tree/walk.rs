//! What an object names, and everything below it.

use bytes::Bytes;

use super::node::NodeFault;
use super::sequence::{Content, Entry, Items};
use super::{CONTENT_TAG, Objects, map, sequence};
use crate::error::{Damage, Result};
use crate::name::{Kind, Name};

/// What the object of these bytes names directly, in order and with repetitions. Chunks name nothing. Decodes all of the
/// node: bytes that are none, or of a newer version, are told.
pub fn references(kind: Kind, bytes: &Bytes) -> Result<Vec<(Kind, Name)>, NodeFault> {
    match kind {
        Kind::Chunk => Ok(Vec::new()),
        Kind::MapNode => map_references(&map::Node::decode(bytes)?),
        Kind::SequenceNode => Ok(match sequence::Node::decode(bytes)?.items {
            Items::Children(children) => children.iter().map(|child| (Kind::SequenceNode, child.name)).collect(),
            Items::Entries(entries) => {
                let chunk = |entry: &Entry| match entry {
                    Entry::Chunk { name, .. } => Some((Kind::Chunk, *name)),
                    Entry::Hole(_) | Entry::Inline(_) => None,
                };
                entries.iter().filter_map(chunk).collect()
            }
        }),
    }
}

/// A reference, and what part of what its node describes it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What the node refers to.
    pub at: (Kind, Name),
    /// Where the part begins: in a sequence node a number of bytes, in a map node a number of references.
    pub from: u64,
    /// How long it is, counted alike.
    pub len: u64,
}

/// What [`references`] finds, in the same order, each with its place. For whoever compares two nodes.
pub fn spans(kind: Kind, bytes: &Bytes) -> Result<Vec<Span>, NodeFault> {
    if kind != Kind::SequenceNode {
        let span = |(from, at)| Span { at, from, len: 1 };
        return Ok((0..).zip(references(kind, bytes)?).map(span).collect());
    }
    let mut from = 0;
    let mut place = |at: Option<(Kind, Name)>, len: u64| {
        let span = at.map(|at| Span { at, from, len });
        from += len;
        span
    };
    Ok(match sequence::Node::decode(bytes)?.items {
        Items::Children(children) => {
            children.iter().filter_map(|child| place(Some((Kind::SequenceNode, child.name)), child.len)).collect()
        }
        Items::Entries(entries) => {
            let chunk = |entry: &Entry| match entry {
                Entry::Chunk { name, .. } => Some((Kind::Chunk, *name)),
                Entry::Hole(_) | Entry::Inline(_) => None,
            };
            entries.iter().filter_map(|entry| place(chunk(entry), entry.len())).collect()
        }
    })
}

fn map_references(node: &map::Node) -> Result<Vec<(Kind, Name)>, NodeFault> {
    if node.level() > 0 {
        return Ok((0..node.len()).map(|index| (Kind::MapNode, node.child(index))).collect());
    }
    let mut found = Vec::new();
    for value in (0..node.len()).map(|index| node.value(index)) {
        if value.first() == Some(&CONTENT_TAG) {
            found.extend(Content::decode(&value)?.references());
        }
    }
    Ok(found)
}

/// Visits an object and what is below it, each parent before its children, in order. `visit` says whether to go below an
/// object: it is asked once for each time that one is named, and tells known ones by itself. Chunks are visited and
/// not read. Memory: the names in one node a level.
pub fn walk(
    objects: &dyn Objects,
    kind: Kind,
    name: &Name,
    visit: &mut dyn FnMut(Kind, &Name) -> Result<bool>,
) -> Result<()> {
    // Trees stand at most two on one another, map over sequence, and neither is higher than `LEVEL_MAX`; names make cycles
    // impossible. What waits here is at most one node's references for each of these levels.
    let mut waiting = vec![(kind, *name)];
    while let Some((kind, name)) = waiting.pop() {
        if !visit(kind, &name)? || !kind.is_node() {
            continue;
        }
        let bytes = objects.read(kind, &name)?;
        let below = references(kind, &bytes).map_err(|fault| fault.of(kind, &name))?;
        waiting.extend(below.into_iter().rev());
        if waiting.len() > WAITING_MAX {
            return Err(Damage::new(format!("{kind:?} {name}"), 0, "a tree of bounded height", "a higher one").into());
        }
    }
    Ok(())
}

/// More references than two trees of the greatest height can have waiting in nodes of the greatest size.
const WAITING_MAX: usize = 2 * 40 * 2048;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::chunk::{ChunkSizes, Cutter};
    use crate::tree::sequence::{Patch, Source, splice};
    use crate::tree::testing::{TestObjects, cases};

    /// A map of three contents, one of them with a tree, and some other values.
    fn map_with_contents(objects: &TestObjects) -> Name {
        let cutter = Cutter::new(ChunkSizes::TINY);
        let mut bytes = vec![0; 300_000];
        SmallRng::seed_from_u64(1).fill_bytes(&mut bytes);
        let content = |len: usize| {
            let bytes = Bytes::copy_from_slice(&bytes[..len]);
            let patch = Patch { offset: 0, len: len as u64, source: Source::Bytes(bytes) };
            let put = &mut |chunks: &[&[u8]]| objects.put_chunks(chunks);
            splice(objects, &cutter, put, &Content::empty(), Some(patch), len as u64).unwrap().0.encode()
        };
        let contents = [10, 2000, 300_000].into_iter().enumerate();
        let others = (0..200u8).map(|n| (vec![9, n], Some(vec![n & 0x7F; 30])));
        let edits = contents.map(|(n, len)| (vec![1, n as u8], Some(content(len)))).chain(others);
        map::merge(objects, objects.realm(), None, edits).unwrap().unwrap()
    }

    #[test]
    fn walking_visits_every_object_that_was_put() {
        let objects = TestObjects::new();
        let root = map_with_contents(&objects);
        let mut seen = BTreeSet::new();
        walk(&objects, Kind::MapNode, &root, &mut |kind, name| Ok(seen.insert((kind, *name)))).unwrap();
        assert_eq!(seen.len(), objects.count());
        assert!(Kind::ALL.into_iter().all(|kind| seen.iter().any(|(seen, _)| *seen == kind)));
        for (kind, name) in &seen {
            let bytes = objects.read(*kind, name).unwrap();
            let spans = spans(*kind, &bytes).unwrap();
            assert!(spans.iter().map(|span| span.at).eq(references(*kind, &bytes).unwrap()));
            assert!(spans.windows(2).all(|two| two[0].from + two[0].len <= two[1].from));
        }
        let mut visits = 0;
        let shallow = &mut |_, _: &Name| {
            visits += 1;
            Ok(visits == 1)
        };
        walk(&objects, Kind::MapNode, &root, shallow).unwrap();
        assert!(visits > 1 && visits < 20, "below the root only");
        let (kind, name) = seen.into_iter().find(|(kind, _)| *kind == Kind::SequenceNode).unwrap();
        assert!(objects.forget(kind, &name));
        assert!(walk(&objects, Kind::MapNode, &root, &mut |_, _| Ok(true)).is_err());
    }

    #[test]
    fn a_value_that_only_looks_like_a_content_is_told() {
        let objects = TestObjects::new();
        let edits = [(&b"key"[..], Some(Bytes::from_static(&[CONTENT_TAG, 7])))];
        let root = map::merge(&objects, objects.realm(), None, edits).unwrap().unwrap();
        let bytes = objects.read(Kind::MapNode, &root).unwrap();
        assert!(matches!(references(Kind::MapNode, &bytes), Err(NodeFault::Malformed(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(256)))]

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, kind in 0usize..3, magic: bool) {
            if magic && bytes.len() > 12 {
                let start = [b"NBmn\x01\x00\x03\x00\0\0\0\0", b"NBsn\x01\x00\x03\x00\0\0\0\0"][kind % 2];
                bytes[..12].copy_from_slice(start);
            }
            let _ = references(Kind::ALL[kind], &Bytes::from(bytes));
        }
    }
}
