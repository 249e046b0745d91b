use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::pool::{Mark, Stored};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::diff::Fresh;
use super::*;

fn name(number: u32) -> Name {
    let mut name = [0; 32];
    name[..4].copy_from_slice(&number.to_le_bytes());
    Name(name)
}
fn chunk(number: u32) -> Ref {
    (Kind::Chunk, name(number))
}
fn node(number: u32) -> Ref {
    (Kind::SequenceNode, name(number))
}

/// A base of nodes and chunks, all in memory.
#[derive(Default)]
struct Base {
    sketches: BTreeMap<Name, Sketch>,
    nodes: BTreeMap<Ref, Arc<[Span]>>,
    asked: AtomicUsize,
}

impl Source for Base {
    fn stored(&self, _: Kind, _: &Name) -> Result<Stored> {
        Err(Refusal::NotPermitted.into())
    }
    fn kept_since(&self, _: &Mark, _: Kind, names: &[Name]) -> Result<Vec<bool>> {
        Ok(vec![false; names.len()])
    }
    fn read(&self, _: Kind, _: &Name) -> Result<Bytes> {
        panic!("no content is read")
    }
    fn sketches(&self, names: &[Name]) -> Result<Vec<Sketch>> {
        self.asked.fetch_add(names.len(), Ordering::Relaxed);
        Ok(names.iter().map(|name| self.sketches.get(name).copied().unwrap_or_default()).collect())
    }
}

impl Base {
    /// A content of `count` chunks of 10 bytes each from number `first` on, in leaves of 50, below one node. Chunk `n` has features of its own.
    fn content(&mut self, root: u32, first: u32, count: u32) -> Ref {
        let mut leaves = Vec::new();
        for (nth, from) in (first..first + count).step_by(50).enumerate() {
            let chunks = from..(from + 50).min(first + count);
            let spans =
                (0..).zip(chunks.clone()).map(|(place, number)| Span { at: chunk(number), from: place * 10, len: 10 });
            let leaf = node(root + 1 + nth as u32);
            leaves.push(Span { at: leaf, from: nth as u64 * 500, len: u64::from(chunks.end - chunks.start) * 10 });
            self.nodes.insert(leaf, spans.collect());
            self.sketches.extend(chunks.map(|number| (name(number), sketch(number))));
        }
        self.nodes.insert(node(root), leaves.into());
        node(root)
    }

    /// Improves the fresh chunks of a node that refers to these, one behind the other, each with what lies in its place.
    fn found(&self, resemblance: &mut Resemblance, here: &[(u32, Sketch, Option<u32>)]) -> Vec<Vec<Ref>> {
        let mut new = Base { nodes: self.nodes.clone(), sketches: self.sketches.clone(), ..Base::default() };
        new.sketches.extend(here.iter().map(|(number, sketch, _)| (name(*number), *sketch)));
        let spans: Vec<Span> = (0..)
            .zip(here)
            .map(|(place, (number, ..))| Span { at: chunk(*number), from: place * 10, len: 10 })
            .collect();
        let root = Counterpart::root(resemblance.root);
        let fresh = here.iter().map(|(number, _, in_place)| {
            let all = in_place.iter().map(|other| Counterpart::below(&root, 9, chunk(*other), 0)).collect();
            let counterparts = Counterparts::default().with(all).unwrap_or_default();
            Fresh { at: chunk(*number), counterparts, is_new: true }
        });
        let mut expansion = Expansion { fresh: fresh.collect(), ..Expansion::default() };
        let mut read = |at: &Ref| new.nodes.get(at).cloned().ok_or_else(|| Refusal::NotFound("a node".into()).into());
        resemblance.improve(&spans, &Counterparts::default(), &mut expansion, &new, &mut read).unwrap();
        self.asked.fetch_add(new.asked.load(Ordering::Relaxed), Ordering::Relaxed);
        for fresh in &expansion.fresh {
            for other in
                fresh.counterparts.all.iter().filter(|other| other.way.as_ref().is_some_and(|(_, at)| *at != 9))
            {
                let (parent, index) = other.way.as_ref().unwrap();
                assert_eq!(new.nodes[&parent.at][*index as usize].at, other.at, "the way leads there");
            }
        }
        let all = |fresh: &Fresh| fresh.counterparts.all.iter().map(|other| other.at).collect();
        expansion.fresh.iter().map(all).collect()
    }
}

/// The sketch of what resembles nothing but what has the same number.
fn sketch(number: u32) -> Sketch {
    Sketch([1, 2, 3, 4].map(|nth| number << 3 | nth))
}
/// Of what shares one feature with it.
fn faint(number: u32) -> Sketch {
    Sketch([number << 3 | 1, 0, u32::MAX, u32::MAX - 1])
}

/// As much memory as a box has.
fn memory() -> Held {
    Arc::<super::super::budget::Budget>::default().hold()
}

#[test]
fn what_moved_is_found_with_its_neighbours() {
    let mut base = Base::default();
    let root = base.content(1000, 0, 20);
    let mut resemblance = Resemblance::new(root, memory());
    let found = base.found(&mut resemblance, &[(5000, faint(7), None)]);
    assert_eq!(found, [[6, 7, 8].map(chunk)]);
    let found = base.found(&mut resemblance, &[(5000, faint(0), Some(3))]);
    assert_eq!(found, [[3, 0, 1].map(chunk)], "behind what lies in its place, and not before the content's beginning");
}

#[test]
fn what_resembles_its_place_is_not_looked_for() {
    let mut base = Base::default();
    let root = base.content(1000, 0, 20);
    let mut resemblance = Resemblance::new(root, memory());
    assert_eq!(base.found(&mut resemblance, &[(5000, sketch(7), Some(7))]), [[chunk(7)]]);
    assert!(resemblance.chunks.is_empty(), "the base was not walked");
    assert_eq!(base.found(&mut resemblance, &[(5000, sketch(7), Some(3))]), [[3, 6, 7, 8].map(chunk)]);
}

#[test]
fn a_run_goes_on_over_what_resembles_nothing() {
    let mut base = Base::default();
    let root = base.content(1000, 0, 120);
    let mut resemblance = Resemblance::new(root, memory());
    let here =
        [(5000, Sketch::NONE, None), (5001, sketch(49), None), (5002, Sketch::NONE, None), (5003, Sketch::NONE, None)];
    let found = base.found(&mut resemblance, &here);
    assert_eq!(found[0], [chunk(48)]);
    assert_eq!(found[1], [48, 49, 50].map(chunk), "across leaves");
    assert_eq!((&found[2][..], &found[3][..]), (&[chunk(50)][..], &[chunk(51)][..]));
}

#[test]
fn nothing_is_found_without_sketches() {
    let mut base = Base::default();
    let root = base.content(1000, 0, 20);
    base.sketches.clear();
    let mut resemblance = Resemblance::new(root, memory());
    assert_eq!(base.found(&mut resemblance, &[(5000, sketch(7), Some(3))]), [[chunk(3)]]);
}

#[test]
fn of_a_large_base_no_more_is_looked_at_than_pays() {
    let mut base = Base::default();
    let root = base.content(1_000_000, 0, 20_000);
    let mut resemblance = Resemblance::new(root, memory());
    base.found(&mut resemblance, &[(50_000, faint(7), None)]);
    assert!((WALK_PER_CHUNK..WALK_PER_CHUNK + 50).contains(&resemblance.chunks.len()), "{}", resemblance.chunks.len());
    assert!(base.asked.load(Ordering::Relaxed) < WALK_PER_CHUNK + 60);
    let here: Vec<_> = (0..200).map(|nth| (50_001 + nth, faint(19_000 + nth), None)).collect();
    let found = base.found(&mut resemblance, &here);
    assert_eq!(resemblance.chunks.len(), 20_000);
    assert!(found.iter().all(|found| found.len() >= 2));
}

#[test]
fn where_there_is_no_memory_the_table_stays_small() {
    let mut base = Base::default();
    let root = base.content(1000, 0, 3000);
    let little = Arc::new(super::super::budget::Budget::new(500_000));
    let mut resemblance = Resemblance::new(root, little.hold());
    let here: Vec<_> = (0..20).map(|nth| (50_001 + nth, sketch(nth), None)).collect();
    base.found(&mut resemblance, &here);
    assert!((1..2000).contains(&resemblance.chunks.len()) && little.peak() <= 250_000, "{}", resemblance.chunks.len());
    drop(resemblance);
    assert!(little.hold().grow_to(250_000), "it was given back");
}

#[test]
fn a_node_that_cannot_be_read_hides_only_what_is_below_it() {
    let mut base = Base::default();
    let root = base.content(1000, 0, 120);
    base.nodes.remove(&node(1001));
    let mut resemblance = Resemblance::new(root, memory());
    let found = base.found(&mut resemblance, &[(5000, sketch(7), None), (5001, sketch(77), None)]);
    assert!(!found[0].contains(&chunk(7)) && found[1].contains(&chunk(77)), "{found:?}");
}

#[test]
fn whatever_the_sketches_are_counterparts_stay_few() {
    let mut rng = SmallRng::seed_from_u64(5);
    for _ in 0..20 {
        let mut base = Base::default();
        let root = base.content(1000, 0, 400);
        let few = |rng: &mut SmallRng| Sketch([0; FEATURES].map(|_: u32| rng.next_u32() % 5));
        base.sketches.values_mut().for_each(|sketch| *sketch = few(&mut rng));
        let here: Vec<_> = (0..100).map(|nth| (5000 + nth, few(&mut rng), Some(nth % 7))).collect();
        let found = base.found(&mut Resemblance::new(root, memory()), &here);
        assert!(found.iter().all(|found| found.len() <= 1 + FOUND_MAX));
    }
}
