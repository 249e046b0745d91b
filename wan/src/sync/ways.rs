//! Naming objects of the base by the way to them, at both sides.
//!
//! Both sides number the nodes that were met, in the order of shipment: 0 is the base's root, each further one is a
//! place among the references of one that has a number. A node costs its few bytes once, however many counterparts
//! below it are used. The table is bounded: where it would overflow, the sender has both sides forget it.

use std::collections::HashMap;
use std::sync::Arc;

use super::diff::Counterpart;
use super::seam::Ref;
use super::walk::DEPTH_MAX;
use crate::wire::{BASES_OF_BUNDLE_MAX, WAYS_PER_BASE_MAX, Way};

/// Most ways with a number. More than the bases of one bundle can need.
pub(super) const WAYS_MAX: usize = 1 << 16;
const _: () = assert!(BASES_OF_BUNDLE_MAX * DEPTH_MAX < WAYS_MAX && DEPTH_MAX <= WAYS_PER_BASE_MAX);

/// The sender's side.
#[derive(Debug, Default)]
pub(super) struct Ways {
    numbers: HashMap<Ref, u32>,
}

/// What a bundle says of its bases.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub forget: bool,
    pub ways: Vec<Way>,
    pub from_root: bool,
    pub bases: Vec<Way>,
}

impl Ways {
    /// Names the bases of one bundle, at most [`BASES_OF_BUNDLE_MAX`], in order. The root, where it is among them, is
    /// the first.
    pub fn name(&mut self, bases: &[Arc<Counterpart>]) -> Named {
        let mut named = Named::default();
        if self.numbers.len() + bases.len() * DEPTH_MAX >= WAYS_MAX {
            self.numbers.clear();
            named.forget = true;
        }
        for base in bases {
            match &base.way {
                None => named.from_root = true,
                Some((parent, index)) => {
                    let parent = self.number(parent, &mut named.ways);
                    named.bases.push(Way { parent, index: *index });
                }
            }
        }
        named
    }

    fn number(&mut self, node: &Arc<Counterpart>, new: &mut Vec<Way>) -> u32 {
        let Some((parent, index)) = &node.way else { return 0 };
        if let Some(number) = self.numbers.get(&node.at) {
            return *number;
        }
        let parent = self.number(parent, new);
        new.push(Way { parent, index: *index });
        let number = self.numbers.len() as u32 + 1;
        self.numbers.insert(node.at, number);
        number
    }
}

/// The receiver's side: which node has which number.
#[derive(Debug, Default)]
pub(super) struct Known {
    nodes: Vec<Ref>,
}

impl Known {
    /// Begins with the base's root.
    pub fn begin(&mut self, root: Option<Ref>) {
        self.nodes = root.into_iter().collect();
    }

    /// The base's root.
    pub fn root(&self) -> Result<Ref, String> {
        self.nodes.first().copied().ok_or_else(|| "it packs against a base, and there is none".to_owned())
    }

    /// Forgets all but the root.
    pub fn forget(&mut self) {
        self.nodes.truncate(1);
    }

    /// The node with a number.
    pub fn node(&self, number: u32) -> Result<Ref, String> {
        self.nodes.get(number as usize).copied().ok_or_else(|| format!("it names way {number}, which it never told"))
    }

    /// Gives the next number to a node.
    pub fn learn(&mut self, node: Ref) -> Result<(), String> {
        if self.nodes.len() > WAYS_MAX {
            return Err("it tells more ways than there may be".to_owned());
        }
        self.nodes.push(node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use narrowboat_storage::name::{Kind, Name};

    use super::*;

    fn below(parent: &Arc<Counterpart>, index: u32, number: u32) -> Arc<Counterpart> {
        let mut name = [0; 32];
        name[..4].copy_from_slice(&number.to_le_bytes());
        Counterpart::below(parent, index, (Kind::MapNode, Name(name)), 0)
    }

    #[test]
    fn a_node_is_told_once_and_its_children_by_place() {
        let root = Counterpart::root((Kind::MapNode, Name([9; 32])));
        let node = below(&root, 4, 1);
        let leaves = [below(&node, 0, 2), below(&node, 7, 3)];
        let mut ways = Ways::default();
        let named = ways.name(&[root.clone(), leaves[0].clone(), leaves[1].clone(), below(&root, 5, 4)]);
        let way = |parent, index| Way { parent, index };
        assert_eq!(
            named,
            Named {
                forget: false,
                ways: vec![way(0, 4)],
                from_root: true,
                bases: vec![way(1, 0), way(1, 7), way(0, 5)],
            }
        );
        let named = ways.name(&[below(&leaves[1], 2, 5)]);
        assert_eq!((named.ways, named.bases), (vec![way(1, 7)], vec![way(2, 2)]), "numbers go on");
    }

    #[test]
    fn a_full_table_is_forgotten_at_both_sides() {
        let root = Counterpart::root((Kind::MapNode, Name([9; 32])));
        let (mut ways, mut known) = (Ways::default(), Known::default());
        known.begin(Some(root.at));
        let mut forgotten = 0;
        for turn in 0..200 {
            let nodes: Vec<_> = (0..1000).map(|nth| below(&root, nth, 1 + turn * 1000 + nth)).collect();
            let bases: Vec<_> = nodes.iter().map(|node| below(node, 3, u32::MAX)).collect();
            let named = ways.name(&bases);
            if named.forget {
                forgotten += 1;
                known.forget();
            }
            for way in &named.ways {
                assert_eq!(known.node(way.parent).unwrap(), root.at);
                known.learn(nodes[way.index as usize].at).unwrap();
            }
            for (base, node) in named.bases.iter().zip(&nodes) {
                assert_eq!(known.node(base.parent).unwrap(), node.at);
            }
        }
        assert!(forgotten > 1);
        assert!(known.node(WAYS_MAX as u32 + 1).is_err());
    }
}
