//! Proofs: what they are computed from, and which the receiver demands.
//!
//! A proof is one keyed hash over everything that it is about: of each object its kind, its length and its bytes, and behind a node what it
//! refers to, in order, repetitions included. A node stands for all that is below it, so what it would take is measured first: what is beyond the
//! bounds is answered with "lacking", and its parts are asked for. So neither side reads more than it said it would, whatever
//! a tree is like.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, StoreId};
use narrowboat_storage::name::Kind;
use narrowboat_storage::tree::Span;

use super::possession::{self, Credits, Possessions, Uncredited};
use super::seam::{Ref, References};

/// Most objects that the proof of one node reads, repetitions counted.
pub(super) const OBJECTS_MAX: u64 = 64 << 10;
/// Most bytes of content that it reads.
pub(super) const BYTES_MAX: u64 = 1 << 30;
/// What an object counts that is not known to be longer.
const OBJECT_BYTES: u64 = 16 << 10;

/// What a proof takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Objects that are read, repetitions counted.
    pub objects: u64,
    /// Bytes of them, about.
    pub bytes: u64,
}

impl Cost {
    pub(super) const MAX: Cost = Cost { objects: OBJECTS_MAX, bytes: BYTES_MAX };

    pub(super) fn add(&mut self, other: Cost) {
        self.objects = self.objects.saturating_add(other.objects);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(super) fn exceeds(&self, max: &Cost) -> bool {
        self.objects > max.objects || self.bytes > max.bytes
    }
}

/// What is found of a name that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is not here, or would take too much to prove.
    Lacking,
    /// It is here, and the peer has shown to have it.
    Known,
    /// It is here, and the peer is to prove that it has it.
    Unproven(Demand),
}

/// Something to be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The object, and all that is below it.
    pub at: Ref,
    /// When it was credited, in advance.
    pub moment: u64,
    /// What the proof takes.
    pub cost: Cost,
}

/// The proof that somebody has these objects, and what it took. None where it takes more than twice `max`.
pub(super) fn prove(
    key: &[u8; 32],
    first: u64,
    objects: &[Ref],
    max: &Cost,
    references: References,
    read: &mut dyn FnMut(&Ref) -> Result<Bytes>,
) -> Result<Option<([u8; 32], Cost)>> {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&first.to_le_bytes());
    let mut cost = Cost::default();
    let mut open: Vec<Ref> = objects.iter().rev().copied().collect();
    while let Some(at) = open.pop() {
        let bytes = read(&at)?;
        cost.add(Cost { objects: 1, bytes: bytes.len() as u64 });
        if cost.objects > max.objects.saturating_mul(4) || cost.bytes > max.bytes.saturating_mul(8) {
            return Ok(None);
        }
        hasher.update(&[at.0 as u8]).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        if at.0.is_node() {
            let below = references(at.0, &bytes).map_err(|fault| fault.of(at.0, &at.1))?;
            open.extend(below.iter().rev().map(|span| span.at));
        }
    }
    Ok(Some((*hasher.finalize().as_bytes(), cost)))
}

/// What lies at the ends of ways from a root. None where one leads nowhere.
pub(super) fn resolve(
    root: &Ref,
    ways: &[Vec<u32>],
    spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
) -> Result<Option<Vec<Ref>>> {
    let mut found = Vec::with_capacity(ways.len());
    for way in ways {
        let mut at = *root;
        for place in way {
            let below = if at.0.is_node() { spans(&at)? } else { return Ok(None) };
            let Some(span) = below.get(*place as usize) else { return Ok(None) };
            at = span.at;
        }
        found.push(at);
    }
    Ok(Some(found))
}

/// What the proof of an object would take; none where it is more than `max`.
fn measure(at: &Ref, max: &Cost, spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>) -> Result<Option<Cost>> {
    let (mut cost, mut open) = (Cost { objects: 0, bytes: 0 }, Vec::new());
    open.push((*at, 0));
    while let Some((at, len)) = open.pop() {
        cost.add(Cost { objects: 1, bytes: OBJECT_BYTES.max(len) });
        if cost.exceeds(max) {
            return Ok(None);
        }
        if !at.0.is_node() {
            continue;
        }
        let below = spans(&at)?;
        // Nothing is kept of what would be too much anyway.
        if cost.objects + (open.len() + below.len()) as u64 > max.objects {
            return Ok(None);
        }
        let in_content = at.0 == Kind::SequenceNode;
        let len = |span: &Span| if in_content && span.at.0 == Kind::Chunk { span.len } else { 0 };
        open.extend(below.iter().map(|span| (span.at, len(span))));
    }
    Ok(Some(cost))
}

/// Demands, with the ways to what they are about.
pub type ByWay = Vec<(Vec<u32>, Demand)>;

/// The receiver's side, beside its store.
#[derive(Debug)]
pub(super) struct Holdings {
    pub nonce: [u8; 32],
    pub max: Cost,
    pub kept: Arc<Possessions>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whose, and of which dataset, where proofs are in force.
    of: Option<(StoreId, DatasetId)>,
    key: [u8; 32],
    base: Option<Ref>,
    credits: Credits,
    /// What was credited in advance.
    unverified: BTreeSet<u64>,
}

impl Holdings {
    /// With a nonce, which must be fresh and unknown to anybody.
    pub fn new(nonce: [u8; 32]) -> Self {
        Holdings { nonce, max: Cost::MAX, kept: Arc::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Proofs are in force. What the base has counts as credited.
    pub fn begin(&self, sender: StoreId, receiver: StoreId, dataset: DatasetId, base: Option<Ref>) {
        let credits = self.kept.take(sender, dataset);
        let key = possession::key(&self.nonce, sender, receiver, dataset);
        *self.state() = State { of: Some((sender, dataset)), key, base, credits, unverified: BTreeSet::new() };
    }

    fn in_force(&self) -> bool {
        self.state().of.is_some()
    }

    /// Tells of objects that are here, or not, what the peer has to do about them.
    pub fn find(
        &self,
        present: &[Option<Ref>],
        spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::with_capacity(present.len());
        for at in present {
            let Some(at) = at else {
                findings.push(Finding::Lacking);
                continue;
            };
            let shown = |state: &State| state.credits.holds(at) || state.credits.is_open(at);
            if shown(&self.state()) {
                findings.push(Finding::Known);
                continue;
            }
            findings.push(match measure(at, &self.max, spans)? {
                None => Finding::Lacking,
                Some(cost) => {
                    let mut state = self.state();
                    let moment = state.credits.credit(at);
                    state.unverified.insert(moment);
                    Finding::Unproven(Demand { at: *at, moment, cost })
                }
            });
        }
        Ok(findings)
    }

    /// An object was received and admitted; `below` is what it refers to.
    pub fn received(&self, at: &Ref, below: &mut dyn FnMut() -> Vec<Ref>) {
        if !self.in_force() {
            return;
        }
        let below = if at.0.is_node() { below() } else { Vec::new() };
        let mut state = self.state();
        match at.0.is_node() {
            true => state.credits.received(at, &below),
            false => drop(state.credits.credit(at)),
        }
    }

    /// Checks a proof, and says what that took; none where it is wrong.
    pub fn verify(
        &self,
        first: u64,
        demands: &[Demand],
        digest: &[u8; 32],
        references: References,
        read: &mut dyn FnMut(&Ref) -> Result<Bytes>,
    ) -> Result<Option<Cost>> {
        let objects: Vec<Ref> = demands.iter().map(|demand| demand.at).collect();
        let key = self.state().key;
        match prove(&key, first, &objects, &Cost::MAX, references, read)? {
            // Takes as long whatever is wrong.
            Some((expected, cost)) if blake3::Hash::from(expected) == blake3::Hash::from(*digest) => {
                let mut state = self.state();
                for demand in demands {
                    state.unverified.remove(&demand.moment);
                }
                Ok(Some(cost))
            }
            _ => Ok(None),
        }
    }

    /// What of a tree the sender has neither shown to have, nor its base has in the same place: to be proved, by the ways to it. None
    /// where something of it is too large to be proved.
    pub fn uncredited(&self, root: Ref, spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>) -> Result<Option<ByWay>> {
        if !self.in_force() {
            return Ok(Some(Vec::new()));
        }
        let found = {
            let mut state = self.state();
            assert!(state.unverified.is_empty(), "looked at before everything was proved");
            let base = state.base;
            state.credits.uncredited(root, base, spans)?
        };
        let mut demands = Vec::with_capacity(found.len());
        for Uncredited { at, way } in found {
            // The root itself was received, or the snapshot has nothing to do with this session.
            let cost = if way.is_empty() { None } else { measure(&at, &self.max, spans)? };
            let Some(cost) = cost else { return Ok(None) };
            let mut state = self.state();
            let moment = state.credits.credit(&at);
            state.unverified.insert(moment);
            demands.push((way, Demand { at, moment, cost }));
        }
        Ok(Some(demands))
    }
}

impl Drop for Holdings {
    /// What was shown is remembered for the next session, but for what was credited in advance and all since.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some((peer, dataset)) = state.of else { return };
        let mut credits = std::mem::take(&mut state.credits);
        if let Some(first) = state.unverified.first() {
            credits.forget_since(*first);
        }
        self.kept.keep(peer, dataset, credits);
    }
}
