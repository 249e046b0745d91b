//! Is a tree the one that its entries give? Whoever receives trees from others, and a deep check, ask this.
//!
//! A tree can be well-formed node by node and still not be *the* tree of its entries: nodes that end elsewhere, keys out of
//! order between two nodes, sums that do not add up. Then equal contents would have unequal roots. So a content is built
//! again from its entries, with nothing stored, and must come to the same name; of a map each node is looked at ([`map::Canonical`]).

use std::sync::Arc;

use bytes::Bytes;

use super::sequence::{Content, Entry, rebuild};
use super::{Objects, map, sequence};
use crate::error::{Damage, Result};
use crate::name::{Kind, Name, Realm};

/// Verifies that the map `root` is the tree of its entries, and tells `each_content` of each content in it, so that
/// the caller can verify those that it does not know yet with [`verify_content`]. Reads all nodes of the map once,
/// and no chunk. [`map::Canonical`] does so for several maps.
pub fn verify_map(objects: &dyn Objects, realm: &Realm, root: &Name, each_content: map::EachContent<'_>) -> Result<()> {
    map::Canonical::once(objects, realm).verify(root, each_content)
}

/// Verifies that a content is the tree of its entries. Reads all its nodes once, and no chunk; that its cuts are those
/// of a cutter is not looked at.
pub fn verify_content(objects: &dyn Objects, realm: &Realm, content: &Content) -> Result<()> {
    let mut last_was_hole = false;
    let mut holes_apart = true;
    let entries = super::sequence::entries(objects, content, 0).map(|entry| {
        let (_, entry) = entry?;
        let is_hole = matches!(entry, Entry::Hole(_));
        holes_apart &= !(is_hole && last_was_hole);
        last_was_hole = is_hole;
        Ok(entry)
    });
    let again = rebuild(&NamesOnly { objects, realm }, entries)?;
    if holes_apart && again == *content {
        return Ok(());
    }
    let name = content.root().unwrap_or_default();
    Err(different(Kind::SequenceNode, &name, "the tree of its entries"))
}

fn different(kind: Kind, name: &Name, expected: &str) -> crate::Error {
    Damage::new(format!("{kind:?} {name}"), 0, expected, "another tree").into()
}

/// Names what is put, and keeps nothing.
struct NamesOnly<'a> {
    objects: &'a dyn Objects,
    realm: &'a Realm,
}

impl Objects for NamesOnly<'_> {
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.objects.read(kind, name)
    }
    fn sequence_node(&self, name: &Name) -> Result<Arc<sequence::Node>> {
        self.objects.sequence_node(name)
    }
    fn put(&self, kind: Kind, content: &[u8]) -> Result<Name> {
        Ok(self.realm.name(kind, content))
    }
    fn contains(&self, kind: Kind, name: &Name) -> Result<bool> {
        self.objects.contains(kind, name)
    }
}

/// Trees that are well-formed and not those of their entries, for tests.
#[cfg(test)]
pub(crate) mod wrong {
    use super::*;
    use crate::tree::builder::Layout;
    use crate::tree::sequence::{Items, Node, wrap_for_tests};

    /// The entries of a small map in two leaves below a root, where the map has one.
    pub fn two_leaves(objects: &dyn Objects, realm: &Realm, root: &Name) -> Name {
        let layout = map::layout_for_tests(realm);
        let entries: Vec<_> = map::range::<&[u8]>(objects, Some(root), ..).map(Result::unwrap).collect();
        let halves = entries.chunks(entries.len().div_ceil(2)).map(|half| {
            let items: Vec<_> =
                half.iter().map(|(key, value)| map::entry_for_tests(key.to_vec(), value.to_vec())).collect();
            let name = objects.put(Kind::MapNode, &layout.encode(0, &items)).unwrap();
            map::child_for_tests(half[half.len() - 1].0.to_vec(), name)
        });
        let halves: Vec<_> = halves.collect();
        objects.put(Kind::MapNode, &layout.encode(1, &halves)).unwrap()
    }

    /// The same children under a root that is one level of lone children higher; for a content of more than one node.
    pub fn too_high(objects: &dyn Objects, content: &Content) -> Content {
        let node = Node::decode(&objects.read(Kind::SequenceNode, &content.root().unwrap()).unwrap()).unwrap();
        let Items::Children(children) = node.items else { panic!("the test wants a tree") };
        wrap_for_tests(objects, &children, node.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::chunk::{ChunkSizes, Cutter};
    use crate::tree::builder::Layout;
    use crate::tree::map::layout_for_tests;
    use crate::tree::sequence::{Patch, Source, splice};
    use crate::tree::testing::TestObjects;

    fn damaged(result: Result<()>) {
        assert!(matches!(result, Err(Error::Damage(_))), "{result:?}");
    }

    fn content(objects: &TestObjects, blocks: u64) -> Content {
        let mark = |n: u64| Bytes::from(vec![(n % 251) as u8 + 1; 700]);
        let patches = (0..blocks).map(|n| Patch { offset: n * 9000, len: 700, source: Source::Bytes(mark(n)) });
        let put = &mut |chunks: &[&[u8]]| objects.put_chunks(chunks);
        let cutter = Cutter::new(ChunkSizes::TINY);
        splice(objects, &cutter, put, &Content::empty(), patches, blocks * 9000).unwrap().0
    }

    #[test]
    fn sound_trees_pass_and_every_content_is_told() {
        let objects = TestObjects::new();
        let contents: Vec<Content> = [0, 1, 40, 3000].into_iter().map(|blocks| content(&objects, blocks)).collect();
        let edits = (0u64..3000).map(|n| {
            let value = contents.get(n as usize).map_or_else(|| vec![1; 40], Content::encode);
            (n.to_be_bytes().to_vec(), Some(value))
        });
        let root = map::merge(&objects, objects.realm(), None, edits).unwrap().unwrap();
        let mut found = Vec::new();
        let mut tell = |_: &[u8], content: Content| {
            verify_content(&objects, objects.realm(), &content)?;
            found.push(content);
            Ok(())
        };
        verify_map(&objects, objects.realm(), &root, &mut tell).unwrap();
        assert_eq!(found, contents);
        // What the caller finds wrong is the result.
        damaged(verify_map(&objects, objects.realm(), &root, &mut |_, _| Err(different(Kind::Chunk, &root, "x"))));
    }

    #[test]
    fn a_map_whose_nodes_end_elsewhere_or_whose_keys_descend_is_told() {
        let objects = TestObjects::new();
        let realm = objects.realm();
        let layout = layout_for_tests(realm);
        for order in [[0u8, 1], [1, 0]] {
            // Two leaves of one entry each, below a root: well-formed, and not what `merge` builds (one leaf).
            let leaves = order.map(|n| {
                let leaf = layout.encode(0, &[map::entry_for_tests(vec![n + 1], vec![])]);
                (n + 1, objects.put(Kind::MapNode, &leaf).unwrap())
            });
            let children = leaves.map(|(key, name)| map::child_for_tests(vec![key], name));
            let root = layout.encode(1, &children);
            let ascends = map::Node::decode(&Bytes::from(root.clone())).is_ok();
            assert_eq!(ascends, order == [0, 1]);
            let root = objects.put(Kind::MapNode, &root).unwrap();
            damaged(verify_map(&objects, realm, &root, &mut |_, _| Ok(())));
        }
    }

    #[test]
    fn a_content_whose_nodes_end_elsewhere_is_told() {
        let objects = TestObjects::new();
        let sound = content(&objects, 3000);
        let wrapped = wrong::too_high(&objects, &sound);
        assert_eq!(wrapped.len(), sound.len());
        assert_ne!(wrapped, sound);
        damaged(verify_content(&objects, objects.realm(), &wrapped));
        verify_content(&objects, objects.realm(), &sound).unwrap();
    }
}
