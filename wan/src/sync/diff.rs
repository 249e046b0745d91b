//! Skipping what both sides share, without asking: a node's references, less those that its counterparts in the base
//! have.
//!
//! Both trees are walked together, from the top, and only where they differ. Trees are compared by names alone: within
//! a node, references that the base has as well are anchors, and a fresh reference between two anchors belongs to what
//! the base has between the same two. Those are its *counterparts*, which its own references are compared with in turn.
//!
//! What this finds to be shared is shared. What it does not find is asked for, costs a name on the wire, and is answered
//! with "known": a miss is never wrong, only dearer. So counterparts are few, and a change of height or a moved subtree
//! needs no special case.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use narrowboat_storage::error::Result;

use super::seam::Ref;

/// Most counterparts of one node.
pub(super) const COUNTERPARTS_MAX: usize = 8;

/// The nodes of the base that a node of the snapshot is compared with.
pub type Counterparts = Arc<[Ref]>;

/// What a node refers to and its counterparts do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// Fresh references in the node's order, each once, with the counterparts of those that are nodes.
    pub fresh: Vec<(Ref, Counterparts)>,
    /// How many references were left out because the base has them.
    pub shared: u64,
}

/// Compares the references of a node with those of its counterparts. `references` reads those of one node.
pub fn expand(
    node: &Ref,
    counterparts: &[Ref],
    references: &mut dyn FnMut(&Ref) -> Result<Arc<[Ref]>>,
) -> Result<Expansion> {
    let here = references(node)?;
    let mut base: Vec<Ref> = Vec::new();
    for counterpart in counterparts.iter().take(COUNTERPARTS_MAX) {
        base.extend_from_slice(&references(counterpart)?);
    }
    Ok(compare(&here, counterparts, &base))
}

fn compare(here: &[Ref], counterparts: &[Ref], base: &[Ref]) -> Expansion {
    let mut places: HashMap<&Ref, Vec<usize>> = HashMap::new();
    for (place, reference) in base.iter().enumerate() {
        places.entry(reference).or_default().push(place);
    }
    let present: HashSet<&Ref> = here.iter().collect();
    let mut gap = Gap { counterparts, base, present, from: 0, fresh: Vec::new() };
    let mut seen: HashSet<&Ref> = HashSet::new();
    let mut expansion = Expansion::default();
    let mut anchored = false;
    for reference in here {
        match places.get(reference) {
            Some(at) => {
                // The first occurrence behind the last anchor; one that only lies before it is shared, but no anchor.
                if let Some(place) = at.get(at.partition_point(|place| *place < gap.from)) {
                    gap.close(*place, false, &mut expansion);
                    gap.from = place + 1;
                    anchored = true;
                }
                expansion.shared += 1;
            }
            None if counterparts.contains(reference) => expansion.shared += 1,
            None if seen.insert(reference) => gap.fresh.push(*reference),
            None => {}
        }
    }
    gap.close(base.len(), !anchored, &mut expansion);
    expansion
}

/// What lies between two anchors: fresh references here, and others in the base from `from` on.
struct Gap<'a> {
    counterparts: &'a [Ref],
    base: &'a [Ref],
    present: HashSet<&'a Ref>,
    from: usize,
    fresh: Vec<Ref>,
}

impl Gap<'_> {
    /// Gives each fresh reference its counterparts among those of the base up to `to`. Where nothing matched at all,
    /// the snapshot's tree may be one level higher than the base's, so the node's own counterparts are tried as well.
    fn close(&mut self, to: usize, inherit: bool, expansion: &mut Expansion) {
        if self.fresh.is_empty() {
            return;
        }
        let mut rivals: Vec<Ref> = Vec::new();
        for reference in &self.base[self.from..to] {
            if reference.0.is_node() && !self.present.contains(reference) && rivals.last() != Some(reference) {
                rivals.push(*reference);
            }
        }
        let inherited: &[Ref] = if inherit { self.counterparts } else { &[] };
        let count = self.fresh.len();
        let mut last: Counterparts = Arc::new([]);
        for (place, reference) in self.fresh.drain(..).enumerate() {
            if reference.0.is_node() {
                let window =
                    window(&rivals, place, count, COUNTERPARTS_MAX - inherited.len().min(COUNTERPARTS_MAX / 2));
                let all = window.iter().chain(inherited).filter(|rival| rival.0 == reference.0).take(COUNTERPARTS_MAX);
                if !all.clone().eq(last.iter()) {
                    last = all.copied().collect();
                }
                expansion.fresh.push((reference, last.clone()));
            } else {
                expansion.fresh.push((reference, Arc::new([])));
            }
        }
    }
}

/// The part of `rivals`, at most `max` long, that lies where `place` of `count` lies.
fn window(rivals: &[Ref], place: usize, count: usize, max: usize) -> &[Ref] {
    if rivals.len() <= max {
        return rivals;
    }
    let centre = place * rivals.len() / count.max(1);
    let from = centre.saturating_sub(max / 2).min(rivals.len() - max);
    &rivals[from..from + max]
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::{Kind, Name};

    fn node(number: u8) -> Ref {
        (Kind::MapNode, Name([number; 32]))
    }
    fn chunk(number: u8) -> Ref {
        (Kind::Chunk, Name([number; 32]))
    }
    fn fresh(expansion: &Expansion) -> Vec<(u8, Vec<u8>)> {
        let first = |reference: &Ref| reference.1.0[0];
        expansion.fresh.iter().map(|(at, against)| (first(at), against.iter().map(first).collect())).collect()
    }

    #[test]
    fn a_changed_child_is_compared_with_the_one_in_its_place() {
        let base: Vec<Ref> = [1, 2, 3, 4].map(node).into();
        let expansion = compare(&[1, 9, 3, 4].map(node), &[node(100)], &base);
        assert_eq!(fresh(&expansion), [(9, vec![2])]);
        assert_eq!(expansion.shared, 3);
    }

    #[test]
    fn inserted_and_moved_children_find_their_way() {
        let base: Vec<Ref> = [1, 2, 3, 4].map(node).into();
        let expansion = compare(&[9, 1, 2, 3, 4].map(node), &[node(100)], &base);
        assert_eq!(fresh(&expansion), [(9, vec![])], "inserted in front: nothing to compare with");
        let expansion = compare(&[4, 1, 2, 3].map(node), &[node(100)], &base);
        assert_eq!((fresh(&expansion).len(), expansion.shared), (0, 4), "moved is shared all the same");
    }

    #[test]
    fn a_tree_that_grew_by_a_level_meets_the_old_root() {
        let expansion = compare(&[8, 9].map(node), &[node(100)], &[1, 2, 3].map(node));
        assert_eq!(fresh(&expansion), [(8, vec![1, 2, 3, 100]), (9, vec![1, 2, 3, 100])]);
        let expansion = compare(&[node(100), node(9)], &[node(100)], &[1, 2, 3].map(node));
        assert_eq!(expansion.shared, 1, "the old root itself is shared");
    }

    #[test]
    fn chunks_have_no_counterparts_and_repetitions_count_once() {
        let expansion = compare(&[7, 7, 8, 7].map(chunk), &[], &[]);
        assert_eq!(fresh(&expansion), [(7, vec![]), (8, vec![])]);
    }

    #[test]
    fn counterparts_stay_few_and_near() {
        let base: Vec<Ref> = (0..100).map(node).collect();
        let here: Vec<Ref> = (100..200).map(node).collect();
        let expansion = compare(&here, &[node(255)], &base);
        for (place, (_, against)) in expansion.fresh.iter().enumerate() {
            assert!(against.len() <= COUNTERPARTS_MAX);
            assert!(against.contains(&node(place as u8)), "{place}: {against:?}");
        }
    }
}
