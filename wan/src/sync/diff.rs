//! Skipping what both sides share, without asking: a node's references, less those that its counterparts in the base
//! have.
//!
//! Both trees are walked together, from the top, and only where they differ. Trees are compared by names alone: within
//! a node, references that the base has as well are anchors, and a fresh reference between two anchors belongs to what
//! the base has between the same two. Those are its *counterparts*, which its own references are compared with in turn,
//! and its bytes are packed against theirs.
//!
//! What this finds to be shared is shared. What it does not find is asked for, costs a name on the wire, and is answered
//! with "known": a miss is never wrong, only dearer. So counterparts are few, and a change of height or a moved subtree
//! needs no special case.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use narrowboat_storage::error::Result;
use narrowboat_storage::name::Kind;
use narrowboat_storage::tree::Span;

use super::seam::Ref;

/// Most counterparts of one node.
pub(super) const COUNTERPARTS_MAX: usize = 8;
/// Most counterparts of one chunk: the longest lies in the place of some of the shortest.
const CHUNK_COUNTERPARTS_MAX: usize = 12;

/// An object of the base, and the way to it from the base's root: so can it be named to a receiver that has the base,
/// for less than a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Counterpart {
    /// The object.
    pub at: Ref,
    /// The node that refers to it, and at which place among that node's references; none for the base's root.
    pub way: Option<(Arc<Counterpart>, u32)>,
    /// Where it begins in its content; 0 outside of contents.
    from: u64,
}

impl Counterpart {
    /// The base's root.
    pub fn root(at: Ref) -> Arc<Self> {
        Arc::new(Counterpart { at, way: None, from: 0 })
    }

    /// Where it begins in its content; 0 outside of contents.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    /// What a node refers to at a place, and where in its content it begins.
    pub(super) fn below(parent: &Arc<Counterpart>, index: u32, at: Ref, from: u64) -> Arc<Self> {
        Arc::new(Counterpart { at, way: Some((parent.clone(), index)), from })
    }
}

/// The objects of the base that an object of the snapshot is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counterparts {
    /// The objects, in the order in which they lie.
    pub all: Arc<[Arc<Counterpart>]>,
    /// Where in the base's content this object would begin, had nothing been put in or taken out near it.
    aim: u64,
}

impl Counterparts {
    /// Those of the snapshot's root.
    pub fn of_root(base: Option<Ref>) -> Self {
        Counterparts { all: base.into_iter().map(Counterpart::root).collect(), aim: 0 }
    }

    /// These and more; none where there are no more.
    pub(super) fn with(&self, more: Vec<Arc<Counterpart>>) -> Option<Self> {
        let new = more.into_iter().filter(|other| self.all.iter().all(|known| known.at != other.at));
        let all: Arc<[_]> = self.all.iter().cloned().chain(new).collect();
        (all.len() > self.all.len()).then_some(Counterparts { all, aim: self.aim })
    }
}

/// A reference that a node has and its counterparts have not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// What it refers to.
    pub at: Ref,
    /// What lies in its place in the base.
    pub counterparts: Counterparts,
    /// True where it was kept after the receiver had all that there was: it need not be asked for.
    pub is_new: bool,
}

/// What a node refers to and its counterparts do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// Fresh references in the node's order, each once.
    pub fresh: Vec<Fresh>,
    /// How many references were left out because the base has them.
    pub shared: u64,
    /// How many fresh chunks were given counterparts that they resemble and that do not lie in their place.
    pub resembling: u64,
}

/// A reference of the base: which of the counterparts has it, at which place, and where that lies.
#[derive(Clone, Copy, Debug)]
struct Rival {
    at: Ref,
    parent: usize,
    index: u32,
    from: u64,
    to: u64,
}

/// Compares the references of a node with those of its counterparts. `spans` reads those of one node.
pub fn expand(
    node: &Ref,
    counterparts: &Counterparts,
    spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
) -> Result<Expansion> {
    let here = spans(node)?;
    let mut base: Vec<Rival> = Vec::new();
    for (parent, counterpart) in counterparts.all.iter().enumerate().take(COUNTERPARTS_MAX) {
        // Outside of contents, places are counted on from one node to the next.
        let start = if counterpart.at.0 == Kind::SequenceNode { counterpart.from } else { base.len() as u64 };
        let rival = |(index, span): (u32, &Span)| {
            let from = start + span.from;
            Rival { at: span.at, parent, index, from, to: from + span.len }
        };
        base.extend((0..).zip(spans(&counterpart.at)?.iter()).map(rival));
    }
    // Nodes of different heights describe the same places.
    base.sort_by_key(|rival| rival.from);
    Ok(compare(&here, counterparts, &base))
}

fn compare(here: &[Span], counterparts: &Counterparts, base: &[Rival]) -> Expansion {
    let mut places: HashMap<&Ref, Vec<usize>> = HashMap::new();
    for (place, rival) in base.iter().enumerate() {
        places.entry(&rival.at).or_default().push(place);
    }
    let present: HashSet<&Ref> = here.iter().map(|span| &span.at).collect();
    let mut gap = Gap { counterparts, base, present, from: 0, shift: counterparts.aim, fresh: Vec::new() };
    let mut seen: HashSet<&Ref> = HashSet::new();
    let mut expansion = Expansion::default();
    let mut anchored = false;
    for span in here {
        match places.get(&span.at) {
            Some(at) => {
                // The first occurrence behind the last anchor; one that only lies before it is shared, but no anchor.
                if let Some(place) = at.get(at.partition_point(|place| *place < gap.from)) {
                    gap.close(*place, Some(span), false, &mut expansion);
                    gap.from = place + 1;
                    anchored = true;
                }
                expansion.shared += 1;
            }
            None if counterparts.all.iter().any(|counterpart| counterpart.at == span.at) => expansion.shared += 1,
            None if seen.insert(&span.at) => gap.fresh.push(*span),
            None => {}
        }
    }
    gap.close(base.len(), None, !anchored, &mut expansion);
    expansion
}

/// What lies between two anchors: fresh references here, and others in the base from `from` on.
struct Gap<'a> {
    counterparts: &'a Counterparts,
    base: &'a [Rival],
    present: HashSet<&'a Ref>,
    from: usize,
    /// What is to be added to a place of this node for the same place in the base, as the last anchor says.
    shift: u64,
    fresh: Vec<Span>,
}

impl Gap<'_> {
    /// Gives each fresh reference its counterparts among those of the base up to `to`, where `anchor` lies: those in its
    /// place, counted from the anchor in front, and counted from the anchor behind. Where nothing matched at all,
    /// the snapshot's tree may be one level higher than the base's, so the node's own counterparts are tried as well.
    fn close(&mut self, to: usize, anchor: Option<&Span>, inherit: bool, expansion: &mut Expansion) {
        let behind = anchor.map_or(self.shift, |span| self.base[to].from.wrapping_sub(span.from));
        let shifts = [self.shift, behind];
        self.shift = behind;
        if self.fresh.is_empty() {
            return;
        }
        let mut last = Counterparts::default();
        for span in std::mem::take(&mut self.fresh) {
            let mut near = self.in_place(&span, to, shifts);
            if near.is_empty() && span.at.0 == Kind::Chunk {
                // Something was put in between: it resembles its neighbours, if anything.
                near = self.neighbours(to);
            }
            let mut all: Vec<_> = near.into_iter().map(|place| self.counterpart(&self.base[place])).collect();
            if inherit && span.at.0.is_node() {
                all.truncate(COUNTERPARTS_MAX / 2);
                all.extend(self.counterparts.all.iter().filter(|other| other.at.0 == span.at.0).cloned());
                all.truncate(COUNTERPARTS_MAX);
            }
            if all[..] != last.all[..] {
                last.all = all.into();
            }
            last.aim = if span.at.0 == Kind::SequenceNode { self.aim_of(&span, shifts[0]) } else { 0 };
            expansion.fresh.push(Fresh { at: span.at, counterparts: last.clone(), is_new: false });
        }
    }

    /// Where a sequence node would begin in the base: at the same place, or at the beginning of another content.
    fn aim_of(&self, span: &Span, shift: u64) -> u64 {
        let within = self.counterparts.all.first().is_none_or(|parent| parent.at.0 == Kind::SequenceNode);
        if within { span.from.wrapping_add(shift) } else { 0 }
    }

    /// The references of the base, of the same kind and not in the snapshot's node, that lie where `span` lies.
    fn in_place(&self, span: &Span, to: usize, shifts: [u64; 2]) -> Vec<usize> {
        let max = if span.at.0.is_node() { COUNTERPARTS_MAX } else { CHUNK_COUNTERPARTS_MAX };
        let mut found: Vec<usize> = Vec::new();
        for shift in shifts {
            let aim = span.from.wrapping_add(shift);
            // Children of maps move when others come and go, so their neighbours count as well.
            let slack = if span.at.0 == Kind::MapNode { 2 } else { 0 };
            let (from, end) = (aim.saturating_sub(slack), aim.saturating_add(span.len + slack));
            let gap = &self.base[self.from..to];
            let begin = self.from + gap.partition_point(|rival| rival.to <= from);
            let fits = |place: &usize| {
                let rival = &self.base[*place];
                rival.at.0 == span.at.0 && !self.present.contains(&rival.at)
            };
            let here = (begin..to).take_while(|place| self.base[*place].from < end).filter(fits);
            let room = max.saturating_sub(found.len());
            let more: Vec<usize> = here.filter(|place| !found.contains(place)).take(room).collect();
            found.extend(more);
        }
        found.sort_unstable();
        found
    }

    /// The chunks of the base to either side of the gap.
    fn neighbours(&self, to: usize) -> Vec<usize> {
        let sides = [self.from.checked_sub(1), Some(to)].into_iter().flatten();
        sides.filter(|place| self.base.get(*place).is_some_and(|rival| rival.at.0 == Kind::Chunk)).collect()
    }

    fn counterpart(&self, rival: &Rival) -> Arc<Counterpart> {
        let from = if rival.at.0 == Kind::SequenceNode { self.begin_of(rival) } else { 0 };
        Counterpart::below(&self.counterparts.all[rival.parent], rival.index, rival.at, from)
    }

    /// Where a sequence node of the base begins in its content.
    fn begin_of(&self, rival: &Rival) -> u64 {
        if self.counterparts.all[rival.parent].at.0 == Kind::SequenceNode { rival.from } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::Name;

    fn node(number: u8) -> Ref {
        (Kind::MapNode, Name([number; 32]))
    }
    fn chunk(number: u8) -> Ref {
        (Kind::Chunk, Name([number; 32]))
    }
    /// References that follow one another, each so long.
    fn spans(all: &[Ref], len: u64) -> Vec<Span> {
        (0..).zip(all).map(|(place, at)| Span { at: *at, from: place * len, len }).collect()
    }
    fn compared(here: &[Span], base: &[Span]) -> Expansion {
        let parent = (Kind::SequenceNode, Name([100; 32]));
        let parent = if here[0].at.0 == Kind::MapNode { node(100) } else { parent };
        let counterparts = Counterparts::of_root(Some(parent));
        let read = &mut |at: &Ref| Ok(if *at == parent { Arc::from(base) } else { Arc::from(here) });
        let expansion = expand(&node(200), &counterparts, read).unwrap();
        for counterpart in expansion.fresh.iter().flat_map(|fresh| fresh.counterparts.all.iter()) {
            let at = counterpart.way.as_ref().map_or(parent, |(_, index)| base[*index as usize].at);
            assert_eq!(counterpart.at, at, "the way leads there");
        }
        expansion
    }
    /// Compares with one counterpart, number 100, that refers to `base`.
    fn against(here: &[Ref], base: &[Ref]) -> Expansion {
        compared(&spans(here, 1), &spans(base, 1))
    }
    fn fresh(expansion: &Expansion) -> Vec<(u8, Vec<u8>)> {
        let first = |reference: &Ref| reference.1.0[0];
        let counterparts = |all: &Counterparts| all.all.iter().map(|counterpart| first(&counterpart.at)).collect();
        expansion.fresh.iter().map(|fresh| (first(&fresh.at), counterparts(&fresh.counterparts))).collect()
    }

    #[test]
    fn a_changed_child_is_compared_with_the_one_in_its_place() {
        let base: Vec<Ref> = [1, 2, 3, 4].map(node).into();
        let expansion = against(&[1, 9, 3, 4].map(node), &base);
        assert_eq!(fresh(&expansion), [(9, vec![2])]);
        assert_eq!(expansion.shared, 3);
    }

    #[test]
    fn inserted_and_moved_children_find_their_way() {
        let base: Vec<Ref> = [1, 2, 3, 4].map(node).into();
        let expansion = against(&[9, 1, 2, 3, 4].map(node), &base);
        assert_eq!(fresh(&expansion), [(9, vec![])], "inserted in front: nothing to compare with");
        let expansion = against(&[4, 1, 2, 3].map(node), &base);
        assert_eq!((fresh(&expansion).len(), expansion.shared), (0, 4), "moved is shared all the same");
    }

    #[test]
    fn a_tree_that_grew_by_a_level_meets_the_old_root() {
        let expansion = against(&[8, 9].map(node), &[1, 2, 3].map(node));
        assert_eq!(fresh(&expansion), [(8, vec![1, 2, 3, 100]), (9, vec![1, 2, 3, 100])]);
        let expansion = against(&[node(100), node(9)], &[1, 2, 3].map(node));
        assert_eq!(expansion.shared, 1, "the old root itself is shared");
    }

    #[test]
    fn repetitions_count_once() {
        assert_eq!(fresh(&against(&[7, 7, 8, 7].map(chunk), &[])), [(7, vec![]), (8, vec![])]);
    }

    #[test]
    fn a_changed_chunk_is_packed_against_those_in_its_place() {
        let base = [1, 2, 3, 4, 5, 6].map(chunk);
        assert_eq!(fresh(&against(&[1, 9, 3, 4, 5, 6].map(chunk), &base)), [(9, vec![2])]);
        assert_eq!(fresh(&against(&[1, 2, 9, 3, 4, 5, 6].map(chunk), &base)), [(9, vec![2, 3])], "an insertion");
        assert_eq!(fresh(&against(&[1, 2, 3, 4, 5, 6, 9].map(chunk), &base)), [(9, vec![6])], "appended");
    }

    #[test]
    fn places_count_and_not_numbers_of_chunks() {
        let base = spans(&[1, 2, 3, 4, 5, 6].map(chunk), 10);
        let span = |number, from, len| Span { at: chunk(number), from, len };
        let here = [span(1, 0, 10), span(8, 10, 25), span(9, 35, 15), span(6, 50, 10)];
        assert_eq!(fresh(&compared(&here, &base)), [(8, vec![2, 3, 4]), (9, vec![4, 5])]);
        // Five bytes were put in somewhere between: both the place from the front and that from the back.
        let here = [span(1, 0, 10), span(8, 10, 22), span(9, 32, 23), span(6, 55, 10)];
        assert_eq!(fresh(&compared(&here, &base)), [(8, vec![2, 3, 4]), (9, vec![3, 4, 5])]);
        let here = [span(8, 0, 30), span(9, 30, 30)];
        assert_eq!(fresh(&compared(&here, &base)), [(8, vec![1, 2, 3]), (9, vec![4, 5, 6])], "without an anchor");
    }

    #[test]
    fn counterparts_stay_few_and_near() {
        let base: Vec<Ref> = (0..100).map(node).collect();
        let here: Vec<Ref> = (101..201).map(node).collect();
        for (place, (_, against)) in fresh(&against(&here, &base)).iter().enumerate() {
            assert!(against.len() <= COUNTERPARTS_MAX);
            assert!(against.contains(&(place as u8)), "{place}: {against:?}");
        }
    }
}
