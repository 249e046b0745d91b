//! Is a map the tree of its entries? Looked at node by node, so that what several maps share is looked at once.
//!
//! The builder ends a node by that node's own items and nothing else ([`crate::tree::builder`]). So a map is the tree of its entries
//! where this holds of each node:
//!
//! * its bytes are those that its items encode to;
//! * none of its items but the last ends it, and the last does, unless nothing comes behind it in the map;
//! * its keys ascend, and each child's keys lie between the key before it and its own;
//!
//! and where the root has more than one child, if it has children.

use std::collections::HashSet;

use bytes::Bytes;

use super::format::{Item, MapLayout, Node, Payload};
use super::load_child;
use crate::error::{Damage, Result};
use crate::name::{Kind, Name, Realm};
use crate::tree::builder::Layout;
use crate::tree::sequence::Content;
use crate::tree::{CONTENT_TAG, Objects};

/// Is told of the contents of a map, with their keys.
pub type EachContent<'a> = &'a mut dyn FnMut(&[u8], Content) -> Result<()>;

/// Verifies maps one after the other.
pub struct Canonical<'a> {
    objects: &'a dyn Objects,
    layout: MapLayout<'a>,
    /// Nodes that are sound wherever they stand, with all below them; not kept where one map is all there is.
    seen: Option<&'a mut HashSet<Name>>,
}

/// What was found about a node and all below it.
struct Found {
    first_key: Bytes,
    /// It would end here whatever came behind it.
    closed: bool,
}

impl<'a> Canonical<'a> {
    /// For one map. Memory: a node a level.
    pub fn once(objects: &'a dyn Objects, realm: &'a Realm) -> Self {
        Canonical { objects, layout: MapLayout { realm }, seen: None }
    }

    /// For several maps: nodes that they share are read once, and `seen` knows them. Memory: 33 bytes a node besides.
    pub fn of_several(objects: &'a dyn Objects, realm: &'a Realm, seen: &'a mut HashSet<Name>) -> Self {
        Canonical { seen: Some(seen), ..Canonical::once(objects, realm) }
    }

    /// Verifies that the map `root` is the tree of its entries. `each_content` is told of the contents in it, but of those in nodes that
    /// were seen before; what it finds wrong is the result.
    pub fn verify(&mut self, root: &Name, each_content: EachContent<'_>) -> Result<()> {
        let node = self.objects.map_node(root)?;
        if node.level() > 0 && node.len() == 1 {
            return Err(different(root));
        }
        self.node(root, &node, true, each_content).map(drop)
    }

    /// `at_edge`: nothing of the map comes behind this node.
    fn node(&mut self, name: &Name, node: &Node, at_edge: bool, each_content: EachContent<'_>) -> Result<Found> {
        if self.seen.as_ref().is_some_and(|seen| seen.contains(name)) {
            return Ok(Found { first_key: self.first_key(node)?, closed: true });
        }
        let items: Vec<Item> = (0..node.len()).map(|index| item(node, index)).collect();
        if self.layout.encode(node.level(), &items) != node.bytes()[..] {
            return Err(different(name));
        }
        let ends = |count: usize| self.layout.ends(node.level(), count, &items[count - 1]);
        let mut closed = ends(items.len());
        if (1..items.len()).any(ends) || !(closed || at_edge) {
            return Err(different(name));
        }
        let first_key = match node.level() {
            0 => {
                contents(name, &items, each_content)?;
                items[0].key.clone()
            }
            _ => {
                let (first_key, last_closed) = self.children(name, node, at_edge, each_content)?;
                closed &= last_closed;
                first_key
            }
        };
        if let (true, Some(seen)) = (closed, &mut self.seen) {
            seen.insert(*name);
        }
        Ok(Found { first_key, closed })
    }

    /// All that is below a node: the first key of that, and whether the last child would end there anyhow.
    fn children(
        &mut self,
        name: &Name,
        node: &Node,
        at_edge: bool,
        each_content: EachContent<'_>,
    ) -> Result<(Bytes, bool)> {
        let (mut first_key, mut closed) = (Bytes::new(), true);
        for index in 0..node.len() {
            let child = load_child(self.objects, node, index)?;
            let child_at_edge = at_edge && index + 1 == node.len();
            let found = self.node(&node.child(index), &child, child_at_edge, each_content)?;
            match index {
                0 => first_key = found.first_key,
                _ if node.compare(index - 1, &found.first_key).is_ge() => return Err(different(name)),
                _ => {}
            }
            closed = found.closed;
        }
        Ok((first_key, closed))
    }

    fn first_key(&self, node: &Node) -> Result<Bytes> {
        match node.level() {
            0 => Ok(node.key(0)),
            // No deeper than the levels, which `load_child` has descend.
            _ => {
                let child = load_child(self.objects, node, 0)?;
                self.first_key(&child)
            }
        }
    }
}

fn item(node: &Node, index: usize) -> Item {
    let payload = match node.level() {
        0 => Payload::Value(node.value(index)),
        _ => Payload::Child(node.child(index)),
    };
    Item { key: node.key(index), payload }
}

fn contents(name: &Name, items: &[Item], each_content: EachContent<'_>) -> Result<()> {
    for Item { key, payload } in items {
        if let Payload::Value(value) = payload
            && value.first() == Some(&CONTENT_TAG)
        {
            let untrue = |_| Damage::new(of(name), 0, "a content in each value that is tagged as one", "another value");
            each_content(key, Content::decode(value).map_err(untrue)?)?;
        }
    }
    Ok(())
}

fn different(name: &Name) -> crate::Error {
    Damage::new(of(name), 0, "a node of the tree of its entries", "another node").into()
}

fn of(name: &Name) -> String {
    format!("{:?} {name}", Kind::MapNode)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::map;
    use crate::tree::testing::{TestObjects, cases};

    /// What `Canonical` must come to: the map, built again from its entries.
    fn is_rebuilt(objects: &TestObjects, root: &Name) -> bool {
        let entries: Result<Vec<_>> = map::range::<&[u8]>(objects, Some(root), ..).collect();
        let Ok(entries) = entries else { return false };
        let edits = entries.into_iter().map(|(key, value)| (key, Some(value)));
        map::merge(objects, objects.realm(), None, edits).is_ok_and(|again| again == Some(*root))
    }

    /// A tree of these items whose nodes end where the builder would end them, but for the node number `odd`, which ends
    /// so many items too early or too late.
    fn tree(objects: &TestObjects, mut items: Vec<Item>, odd: Option<(usize, i8)>) -> Name {
        let layout = MapLayout { realm: objects.realm() };
        let (mut level, mut nth) = (0, 0);
        loop {
            let mut above = Vec::new();
            let mut rest = &items[..];
            while !rest.is_empty() {
                let end = (1..=rest.len()).find(|count| layout.ends(level, *count, &rest[count - 1]));
                let by = odd.filter(|(at, _)| *at == nth).map_or(0, |(_, by)| isize::from(by));
                let len = end.unwrap_or(rest.len()).saturating_add_signed(by).clamp(1, rest.len().min(256));
                let name = objects.put(Kind::MapNode, &layout.encode(level, &rest[..len])).unwrap();
                above.push(layout.parent(&rest[..len], name));
                rest = &rest[len..];
                nth += 1;
            }
            items = above;
            match &items[..] {
                [Item { payload: Payload::Child(root), .. }] => return *root,
                _ => level += 1,
            }
        }
    }

    fn items(numbers: impl IntoIterator<Item = u16>) -> Vec<Item> {
        let item = |n: u16| Item { key: n.to_be_bytes().to_vec().into(), payload: Payload::Value(vec![1; 9].into()) };
        numbers.into_iter().map(item).collect()
    }

    fn verify(maps: &mut Canonical, root: &Name) -> Result<()> {
        maps.verify(root, &mut |_, _| Ok(()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(64)))]

        #[test]
        fn it_says_what_building_again_says(
            numbers in proptest::collection::btree_set(any::<u16>(), 1..3000),
            odd: Option<(prop::sample::Index, i8)>,
            swapped: Option<prop::sample::Index>,
        ) {
            let objects = TestObjects::new();
            let mut items = items(numbers);
            let odd = odd.map(|(at, by)| (at.index(items.len().div_ceil(40)), by));
            // Neighbours in the wrong order: within a node that is told by the decoder, between two of them by nobody else.
            if let Some(at) = swapped && items.len() > 1 {
                let at = at.index(items.len() - 1);
                items.swap(at, at + 1);
            }
            let root = tree(&objects, items, odd);
            let mut seen = HashSet::new();
            let mut maps = Canonical::of_several(&objects, objects.realm(), &mut seen);
            for _ in 0..2 {
                let found = verify(&mut maps, &root);
                prop_assert_eq!(found.is_ok(), is_rebuilt(&objects, &root), "{:?}", found);
            }
            let once = verify(&mut Canonical::once(&objects, objects.realm()), &root);
            prop_assert_eq!(once.is_ok(), is_rebuilt(&objects, &root));
        }
    }

    #[test]
    fn keys_out_of_order_between_two_nodes_are_told() {
        let objects = TestObjects::new();
        let layout = MapLayout { realm: objects.realm() };
        let ends = |n: &u16| layout.ends(0, 1, &items([*n])[0]);
        // Two leaves that end where they should, under keys that ascend, the second of which begins too low.
        let closing: Vec<u16> = (100..u16::MAX).filter(ends).take(2).collect();
        let leaf = |numbers: &[u16]| {
            let items = items(numbers.iter().copied());
            (objects.put(Kind::MapNode, &layout.encode(0, &items)).unwrap(), items)
        };
        for (low, sound) in [(closing[0] - 1, false), (closing[0] + 1, true)] {
            premise(&ends, low);
            let leaves = [leaf(&[closing[0]]), leaf(&[low, closing[1]])];
            let above: Vec<Item> = leaves.iter().map(|(name, items)| layout.parent(items, *name)).collect();
            let root = objects.put(Kind::MapNode, &layout.encode(1, &above)).unwrap();
            let found = verify(&mut Canonical::once(&objects, objects.realm()), &root);
            assert_eq!(found.is_ok(), sound, "{found:?}");
            assert_eq!(is_rebuilt(&objects, &root), sound);
        }
    }

    /// The test's own premise.
    fn premise(ends: &dyn Fn(&u16) -> bool, number: u16) {
        assert!(!ends(&number), "choose other numbers: {number} ends a node");
    }

    #[test]
    fn what_two_maps_share_is_read_once() {
        let objects = TestObjects::new();
        let sound = |n: u32| (n.to_be_bytes().to_vec(), Some(vec![1; 40]));
        let one = map::merge(&objects, objects.realm(), None, (0..20_000).map(sound)).unwrap().unwrap();
        let edit = [(7u32.to_be_bytes().to_vec(), Some(vec![2; 40]))];
        let two = map::merge(&objects, objects.realm(), Some(&one), edit).unwrap().unwrap();
        let mut seen = HashSet::new();
        let mut maps = Canonical::of_several(&objects, objects.realm(), &mut seen);
        objects.take_tally();
        verify(&mut maps, &one).unwrap();
        let first = objects.take_tally().node_reads;
        verify(&mut maps, &two).unwrap();
        let second = objects.take_tally().node_reads;
        assert!(first > 200 && second < 100, "{first}, then {second}");
    }
}
