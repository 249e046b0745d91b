//! What a peer has shown to have: received from it, or proved by it under a fresh nonce.
//!
//! Presence says that an object is in this store, whoever sent it. Who only knows a name must not get what it stands for into a replica of
//! its own. So a receiver *credits* a peer with what it received from it, with chunks that it proved to have, and with nodes when everything that
//! they refer to is credited. A node that refers to something else, most often to what the base has, is *open*: it is looked at again
//! before the snapshot is published, beside the base ([`Possession::uncredited`]).
//!
//! * What is proved is credited when the proof is demanded: a session in which one fails publishes nothing, and what was credited since then
//!   is forgotten ([`Credits::forget_since`]).
//! * Bounded: the latest names of each class are remembered. What was forgotten is proved or sent again.
//! * Names are told apart by sixteen of their bytes, which nobody can make agree.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::tree::Span;

use super::diff::{self, Counterparts};
use super::seam::Ref;
use crate::wire::DEPTH_MAX;

/// Most chunks that are remembered: many times what a sender has between a chunk and the node that refers to it.
const CHUNKS_MAX: usize = 256 << 10;
/// Most nodes that refer to chunks alone, that refer to nodes, and that are open.
const NODES_MAX: usize = 128 << 10;
/// Most nodes that are looked at before a snapshot is published. A tree that takes more is asked for from its top.
const LOOKS_MAX: usize = 4 << 20;
/// Most objects that are to be proved at a time before a snapshot is published.
const FOUND_MAX: usize = 1024;
/// Datasets whose credits are kept when a session breaks.
const KEPT_MAX: usize = 8;

/// What a key of proofs is derived for.
const CONTEXT: &str = "narrowboat 2026-11-22 proof of possession";

/// The key of a session's proofs: bound to both stores and the dataset, so that a proof given to one peer is none to another.
pub(super) fn key(nonce: &[u8; 32], sender: StoreId, receiver: StoreId, dataset: DatasetId) -> [u8; 32] {
    blake3::derive_key(CONTEXT, &[&nonce[..], &sender.0, &receiver.0, &dataset.0].concat())
}

/// The latest so many names.
#[derive(Debug, Default)]
pub(super) struct Latest {
    set: HashSet<u128>,
    order: VecDeque<(u64, u128)>,
}

fn print(name: &Name) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&name.0[16..]);
    u128::from_le_bytes(bytes)
}

impl Latest {
    /// Notes a name, at a moment; false where it is there.
    pub fn insert(&mut self, at: u64, name: &Name, max: usize) -> bool {
        if !self.set.insert(print(name)) {
            return false;
        }
        self.order.push_back((at, print(name)));
        if self.order.len() > max
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        true
    }

    /// True where the name is there.
    pub fn contains(&self, name: &Name) -> bool {
        self.set.contains(&print(name))
    }

    fn forget_since(&mut self, moment: u64) {
        while let Some((_, last)) = self.order.back().copied().filter(|(at, _)| *at >= moment) {
            self.order.pop_back();
            self.set.remove(&last);
        }
    }
}

/// What a peer is credited with for one dataset.
#[derive(Debug, Default)]
pub(super) struct Credits {
    chunks: Latest,
    leaves: Latest,
    inner: Latest,
    open: Latest,
    clock: u64,
}

impl Credits {
    /// True where the peer has shown to have the object and everything below it.
    pub fn holds(&self, at: &Ref) -> bool {
        match at.0 {
            Kind::Chunk => self.chunks.contains(&at.1),
            _ => self.leaves.contains(&at.1) || self.inner.contains(&at.1),
        }
    }

    /// True where the node was received, and refers to something that was not credited then.
    pub fn is_open(&self, at: &Ref) -> bool {
        at.0.is_node() && self.open.contains(&at.1)
    }

    /// The peer has shown to have this, and all that is below it. Returns the moment.
    pub fn credit(&mut self, at: &Ref) -> u64 {
        let (class, max) = match at.0 {
            Kind::Chunk => (&mut self.chunks, CHUNKS_MAX),
            _ => (&mut self.inner, NODES_MAX),
        };
        class.insert(self.clock, &at.1, max);
        self.clock += 1;
        self.clock - 1
    }

    /// A node was received that refers to these.
    pub fn received(&mut self, at: &Ref, below: &[Ref]) {
        let class = match below.iter().all(|below| self.holds(below)) {
            false => &mut self.open,
            true if below.iter().any(|(kind, _)| kind.is_node()) => &mut self.inner,
            true => &mut self.leaves,
        };
        class.insert(self.clock, &at.1, NODES_MAX);
        self.clock += 1;
    }

    /// Forgets what was credited at a moment and since.
    pub fn forget_since(&mut self, moment: u64) {
        for class in [&mut self.chunks, &mut self.leaves, &mut self.inner, &mut self.open] {
            class.forget_since(moment);
        }
    }

    /// Before a snapshot is published: what of its tree neither lies in its place in the base nor was shown by the peer; the first
    /// [`FOUND_MAX`] of it. `spans` reads the references of a node.
    pub fn uncredited(
        &mut self,
        root: Ref,
        base: Option<Ref>,
        spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
    ) -> Result<Vec<Uncredited>> {
        let before = self.clock;
        let found = self.look(root, base, spans);
        if !matches!(&found, Ok(found) if found.is_empty()) {
            self.forget_since(before);
        }
        found
    }

    fn look(
        &mut self,
        root: Ref,
        base: Option<Ref>,
        spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
    ) -> Result<Vec<Uncredited>> {
        let mut to_look_at = vec![(Uncredited { at: root, way: Vec::new() }, Counterparts::of_root(base))];
        let mut found: Vec<Uncredited> = Vec::new();
        let mut looks = 0;
        while let Some((here, counterparts)) = to_look_at.pop() {
            if self.holds(&here.at) {
                continue;
            }
            looks += 1;
            // Each once: a tree may meet an object again and again. Where anything is found, nothing of this counts.
            let is_open = self.is_open(&here.at);
            self.credit(&here.at);
            if !is_open || looks > LOOKS_MAX || here.way.len() >= DEPTH_MAX {
                found.push(here);
                if found.len() == FOUND_MAX || looks > LOOKS_MAX {
                    break;
                }
                continue;
            }
            let fresh = diff::expand(&here.at, &counterparts, spans)?.fresh;
            let all = spans(&here.at)?;
            let places: HashMap<Ref, u32> = (0u32..).zip(all.iter()).map(|(place, span)| (span.at, place)).collect();
            for fresh in fresh.into_iter().filter(|fresh| !self.holds(&fresh.at)) {
                let Some(place) = places.get(&fresh.at) else { continue };
                let way = [&here.way[..], &[*place]].concat();
                to_look_at.push((Uncredited { at: fresh.at, way }, fresh.counterparts));
            }
        }
        Ok(found)
    }
}

/// Something that a snapshot refers to, and the way to it from its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uncredited {
    pub at: Ref,
    pub way: Vec<u32>,
}

/// What peers are credited with beyond one session: a transfer that broke goes on where it was, with nothing to be proved again.
/// Kept in memory alone; after a restart what arrived is proved.
#[derive(Debug, Default)]
pub struct Possessions {
    kept: Mutex<BTreeMap<(StoreId, DatasetId), (u64, Credits)>>,
}

impl Possessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(StoreId, DatasetId), (u64, Credits)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, peer: StoreId, dataset: DatasetId) -> Credits {
        self.lock().remove(&(peer, dataset)).map(|(_, credits)| credits).unwrap_or_default()
    }

    pub(super) fn keep(&self, peer: StoreId, dataset: DatasetId, credits: Credits) {
        let mut kept = self.lock();
        let latest = kept.values().map(|(at, _)| *at).max().unwrap_or(0) + 1;
        kept.insert((peer, dataset), (latest, credits));
        if kept.len() > KEPT_MAX
            && let Some(oldest) = kept.iter().min_by_key(|(_, (at, _))| *at).map(|(of, _)| *of)
        {
            kept.remove(&oldest);
        }
    }

    /// Forgets everything, as a restart does.
    pub fn forget(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: Kind, number: u64) -> Ref {
        (kind, Name(*blake3::hash(&number.to_le_bytes()).as_bytes()))
    }

    #[test]
    fn nodes_are_credited_with_what_they_refer_to() {
        let mut credits = Credits::default();
        let (chunk, foreign) = (at(Kind::Chunk, 1), at(Kind::Chunk, 2));
        let (leaf, lying, top) = (at(Kind::SequenceNode, 3), at(Kind::SequenceNode, 4), at(Kind::MapNode, 5));
        credits.credit(&chunk);
        credits.received(&leaf, &[chunk]);
        credits.received(&lying, &[chunk, foreign]);
        credits.received(&top, &[leaf, lying]);
        assert!(credits.holds(&leaf) && !credits.holds(&lying) && !credits.holds(&top) && credits.is_open(&top));
        let refs = |node: &Ref| match *node == top {
            true => vec![leaf, lying],
            false => vec![chunk, foreign],
        };
        let mut spans = |node: &Ref| Ok((0..).zip(refs(node)).map(|(from, at)| Span { at, from, len: 1 }).collect());
        let found = credits.uncredited(top, None, &mut spans).unwrap();
        assert_eq!(found, [Uncredited { at: foreign, way: vec![1, 1] }]);
        assert!(!credits.holds(&top) && !credits.holds(&foreign), "nothing is credited by looking");
        credits.credit(&foreign);
        assert!(credits.uncredited(top, None, &mut spans).unwrap().is_empty());
    }

    #[test]
    fn the_oldest_and_what_came_since_a_moment_are_forgotten() {
        let mut credits = Credits::default();
        let moments: Vec<u64> =
            (0..CHUNKS_MAX as u64 + 10).map(|number| credits.credit(&at(Kind::Chunk, number))).collect();
        assert!(!credits.holds(&at(Kind::Chunk, 9)) && credits.holds(&at(Kind::Chunk, 10)));
        credits.forget_since(moments[1000]);
        assert!(credits.holds(&at(Kind::Chunk, 999)) && !credits.holds(&at(Kind::Chunk, 1000)));
        assert_eq!((credits.chunks.set.len(), credits.chunks.order.len()), (990, 990));
    }

    #[test]
    fn few_datasets_are_kept() {
        let kept = Possessions::default();
        for number in 0..KEPT_MAX as u8 + 2 {
            let mut credits = Credits::default();
            credits.credit(&at(Kind::Chunk, 1));
            kept.keep(StoreId([number; 16]), DatasetId([1; 16]), credits);
        }
        let holds = |number| kept.take(StoreId([number; 16]), DatasetId([1; 16])).holds(&at(Kind::Chunk, 1));
        assert_eq!([0, 1, 2, 9, 9].map(holds), [false, false, true, true, false]);
    }

    #[test]
    fn keys_differ_by_everything() {
        let keys = [
            key(&[1; 32], StoreId([2; 16]), StoreId([3; 16]), DatasetId([4; 16])),
            key(&[0; 32], StoreId([2; 16]), StoreId([3; 16]), DatasetId([4; 16])),
            key(&[1; 32], StoreId([3; 16]), StoreId([2; 16]), DatasetId([4; 16])),
            key(&[1; 32], StoreId([2; 16]), StoreId([3; 16]), DatasetId([5; 16])),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 4);
    }
}
