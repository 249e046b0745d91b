//! Delta by resemblance: counterparts that lie anywhere in the base, for chunks whose counterparts by place are none of theirs.
//!
//! A chunk that moved, or was written beside its old place, has nothing of use in its place. Its sketch
//! ([`narrowboat_storage::chunk::Sketch`]) finds what it was made of, wherever that lies in the base; and once one chunk of a run is found, the
//! others are looked for where the run would go on, however little they resemble. What is found is named by the way to it, as every
//! counterpart is: nothing is negotiated, and nothing new is believed.
//!
//! ```text
//!   fresh chunks ─ sketches ─▶ resembles its place? ─ yes ─▶ as before
//!                                     │ no
//!                                     ▼
//!   base tree ─ walked as far as that pays ─▶ table of features ─▶ what shares most, and its run
//! ```
//!
//! What it costs is in proportion to what it is for: the base is walked as far as [`WALK_PER_CHUNK`] chunks for each one that was
//! looked for, and never further than [`CHUNKS_MAX`]. Sketches come from the directories of containers: no content is read. What is held is a
//! hint: a miss costs bytes and is never wrong.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use narrowboat_storage::chunk::{FEATURES, Sketch};
use narrowboat_storage::error::{Error, Result};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::tree::Span;

use super::budget::Held;
use super::diff::{Counterpart, Counterparts, Expansion};
use super::seam::{Ref, Source};

/// Chunks of the base that are looked at for each fresh chunk that has nothing of use in its place.
const WALK_PER_CHUNK: usize = 256;
/// Most chunks of the base in the table: 8 GiB of content, some 100 bytes of memory each.
const CHUNKS_MAX: usize = 1 << 19;
/// Most nodes of the base that are read.
const NODES_MAX: usize = 1 << 18;
/// A chunk that shares so many features with what lies in its place is not looked for elsewhere.
const ENOUGH: usize = 2;
/// Chunks with the same feature that are looked at, the ones met last first.
const CHAIN_MAX: usize = 8;
/// Most counterparts by resemblance of one chunk.
const FOUND_MAX: usize = 8;
/// Fresh chunks that are so near to each other belong to one run.
const RUN_GAP_BYTES: u64 = 64 << 10;
/// What a chunk and a node take in memory, with the room that tables keep free; and chunks that memory is asked for in advance.
const CHUNK_MEMORY: u64 = 128;
const NODE_MEMORY: u64 = 160;
const CHUNKS_AT_ONCE: usize = 1024;
/// Names whose sketches are asked for together.
const SKETCH_BATCH: usize = 4096;
/// No chunk.
const NOTHING: u32 = u32::MAX;

/// Reads what a node refers to.
pub(super) type Spans<'a> = dyn FnMut(&Ref) -> Result<Arc<[Span]>> + 'a;

/// A chunk of the base.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Which of the nodes refers to it, and at which place.
    node: u32,
    index: u32,
    /// Which content it is met in. Neighbours in the table with the same content are neighbours in it.
    content: u32,
    len: u32,
    /// Where it begins in that content.
    from: u64,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.from + u64::from(self.len)
    }
}

/// What is known of a base's chunks. One for each session.
#[derive(Debug)]
pub(super) struct Resemblance {
    root: Ref,
    /// Nodes to walk, the next one last, each with the number of the content that it belongs to.
    open: Vec<(Arc<Counterpart>, Option<u32>)>,
    seen: HashSet<Ref>,
    nodes: Vec<Arc<Counterpart>>,
    contents: u32,
    chunks: Vec<Chunk>,
    /// By feature, the chunk that had it last; and for each chunk and feature, the one that had it before.
    heads: HashMap<u32, u32>,
    before: Vec<[u32; FEATURES]>,
    /// Fresh chunks that were looked for.
    wanted: usize,
    memory: Held,
}

impl Resemblance {
    /// Of the base with this root. Nothing is read yet. It gets as large as there is memory.
    pub fn new(root: Ref, memory: Held) -> Self {
        Resemblance {
            root,
            open: vec![(Counterpart::root(root), None)],
            seen: HashSet::new(),
            nodes: Vec::new(),
            contents: 0,
            chunks: Vec::new(),
            heads: HashMap::new(),
            before: Vec::new(),
            wanted: 0,
            memory,
        }
    }

    /// True where it is about the base with this root.
    pub fn is_of(&self, root: &Ref) -> bool {
        self.root == *root
    }

    /// Gives the fresh chunks of these nodes' expansions what they resemble.
    pub fn improve_all(
        &mut self,
        nodes: &[(Ref, Counterparts)],
        expansions: &mut [Expansion],
        source: &dyn Source,
        spans: &mut Spans,
    ) -> Result<()> {
        for ((node, near), expansion) in nodes.iter().zip(expansions) {
            self.improve(&spans(node)?, near, expansion, source, spans)?;
        }
        Ok(())
    }

    /// True where there is memory for one more node of the base.
    fn has_room(&mut self) -> bool {
        let (chunks, nodes) = (self.chunks.len() + CHUNKS_AT_ONCE, self.seen.len() + self.open.len());
        self.memory.grow_to(chunks as u64 * CHUNK_MEMORY + nodes as u64 * NODE_MEMORY)
    }

    /// Gives the fresh chunks of an expansion what they resemble. `here` is what the expanded node refers to, `near` what it was
    /// compared with.
    pub fn improve(
        &mut self,
        here: &[Span],
        near: &Counterparts,
        expansion: &mut Expansion,
        source: &dyn Source,
        spans: &mut Spans,
    ) -> Result<()> {
        let wanted = wanted(here, expansion, source)?;
        let looked_for = wanted.iter().filter(|wanted| wanted.is_looked_for()).count();
        if looked_for == 0 {
            return Ok(());
        }
        self.wanted += looked_for;
        self.prefer(near);
        self.walk(self.wanted.saturating_mul(WALK_PER_CHUNK).min(CHUNKS_MAX), source, spans)?;
        let anchors: Vec<Option<u32>> = wanted.iter().map(|wanted| self.best(wanted)).collect();
        for nth in 0..wanted.len() {
            if !wanted[nth].is_looked_for() {
                continue;
            }
            let found = self.near(&wanted, &anchors, nth);
            let counterparts = self.counterparts(&found, spans)?;
            let fresh = &mut expansion.fresh[wanted[nth].fresh];
            if let Some(more) = fresh.counterparts.with(counterparts) {
                fresh.counterparts = more;
                expansion.resembling += 1;
            }
        }
        Ok(())
    }

    /// Walks next what is around these: what moved did not move far, as a rule.
    fn prefer(&mut self, near: &Counterparts) {
        for node in near.all.iter().rev() {
            let around = node.way.as_ref().map(|(parent, _)| parent).filter(|parent| parent.at.0 == Kind::SequenceNode);
            let around = around.unwrap_or(node);
            if around.at.0 == Kind::SequenceNode && !self.seen.contains(&around.at) {
                self.open.push((around.clone(), None));
            }
        }
    }

    /// Goes on with the base's tree until the table has so many chunks.
    fn walk(&mut self, chunks: usize, source: &dyn Source, spans: &mut Spans) -> Result<()> {
        let mut names = Vec::new();
        while self.chunks.len() < chunks && self.seen.len() < NODES_MAX && self.has_room() {
            let Some((node, content)) = self.open.pop() else { break };
            if !self.seen.insert(node.at) {
                continue;
            }
            match spans(&node.at) {
                Ok(below) => self.take(&node, content, &below, &mut names),
                // The new snapshot does not need it, and checks will name it.
                Err(error @ (Error::Damage(_) | Error::Refused(_))) => {
                    tracing::warn!(%error, "a node of the base cannot be read, so nothing below it is compared with");
                }
                Err(error) => return Err(error),
            }
            if names.len() >= SKETCH_BATCH {
                self.note(&std::mem::take(&mut names), source)?;
            }
        }
        self.note(&names, source)
    }

    /// Takes what a node of the base refers to: its chunks, and its nodes as the next ones to walk.
    fn take(&mut self, node: &Arc<Counterpart>, content: Option<u32>, below: &[Span], names: &mut Vec<Name>) {
        let within = node.at.0 == Kind::SequenceNode;
        let mut number = content;
        let mut nodes = Vec::new();
        let mut has_chunks = false;
        for (index, span) in (0..).zip(below) {
            if !within || number.is_none() {
                number = Some(self.contents);
                self.contents = self.contents.wrapping_add(1);
            }
            let from = if within { node.from() + span.from } else { 0 };
            if span.at.0.is_node() {
                nodes.push((Counterpart::below(node, index, span.at, from), number.filter(|_| within)));
                continue;
            }
            let (number, place) = (number.unwrap_or_default(), self.nodes.len() as u32);
            let len = u32::try_from(span.len).unwrap_or(u32::MAX);
            self.chunks.push(Chunk { node: place, index, content: number, len, from });
            names.push(span.at.1);
            has_chunks = true;
        }
        self.open.extend(nodes.into_iter().rev());
        if has_chunks {
            self.nodes.push(node.clone());
        }
    }

    /// Enters the features of the chunks that were taken last.
    fn note(&mut self, names: &[Name], source: &dyn Source) -> Result<()> {
        for sketch in source.sketches(names)? {
            let id = self.before.len() as u32;
            let mut before = [NOTHING; FEATURES];
            for (before, feature) in before.iter_mut().zip(sketch.0).filter(|(_, feature)| *feature != 0) {
                *before = self.heads.insert(feature, id).unwrap_or(NOTHING);
            }
            self.before.push(before);
        }
        Ok(())
    }

    /// The chunk of the base that shares the most features, and more than what lies in its place does.
    fn best(&self, wanted: &Wanted) -> Option<u32> {
        if !wanted.is_looked_for() {
            return None;
        }
        let mut counts: Vec<(u32, usize)> = Vec::new();
        for (nth, feature) in wanted.sketch.0.iter().enumerate() {
            let mut next = self.heads.get(feature).copied().filter(|_| *feature != 0);
            for _ in 0..CHAIN_MAX {
                let Some(id) = next.filter(|id| *id != NOTHING) else { break };
                match counts.iter_mut().find(|(other, _)| *other == id) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((id, 1)),
                }
                next = self.before.get(id as usize).map(|before| before[nth]);
            }
        }
        let most = counts.into_iter().max_by_key(|(id, count)| (*count, std::cmp::Reverse(*id)));
        most.filter(|(_, count)| *count > wanted.in_place).map(|(id, _)| id)
    }

    /// What a chunk is packed against: what it resembles, with a neighbour to each side, and what lies where the runs of its
    /// neighbours would go on.
    fn near(&self, wanted: &[Wanted], anchors: &[Option<u32>], nth: usize) -> Vec<u32> {
        let mut found: Vec<u32> = Vec::new();
        let mut add = |id: u32| {
            if found.len() < FOUND_MAX && !found.contains(&id) {
                found.push(id);
            }
        };
        if let Some(id) = anchors[nth] {
            [Some(id), self.beside(id, false), self.beside(id, true)].into_iter().flatten().for_each(&mut add);
        }
        let in_front = (0..nth).rev().take_while(|other| wanted[*other].is_followed_by(&wanted[other + 1]));
        let behind = (nth + 1..wanted.len()).take_while(|other| wanted[other - 1].is_followed_by(&wanted[*other]));
        let nearest = [
            in_front.filter_map(|other| Some((other, anchors[other]?))).next(),
            behind.filter_map(|other| Some((other, anchors[other]?))).next(),
        ];
        for (other, anchor) in nearest.into_iter().flatten() {
            self.going_on(anchor, wanted[other].from, &wanted[nth]).into_iter().for_each(&mut add);
        }
        found.sort_unstable();
        found
    }

    /// The next chunk of the same content, before or after.
    fn beside(&self, id: u32, after: bool) -> Option<u32> {
        let other = if after { id.checked_add(1)? } else { id.checked_sub(1)? };
        let content = self.chunks.get(id as usize)?.content;
        self.chunks.get(other as usize).filter(|chunk| chunk.content == content).map(|_| other)
    }

    /// What lies as far from a chunk of the base as `wanted` lies from `place`, where something stands that resembles it.
    fn going_on(&self, anchor: u32, place: u64, wanted: &Wanted) -> Vec<u32> {
        let Some(chunk) = self.chunks.get(anchor as usize) else { return Vec::new() };
        let aim = i128::from(chunk.from) + i128::from(wanted.from) - i128::from(place);
        let Ok(end) = u64::try_from(aim + i128::from(wanted.len)) else { return Vec::new() };
        // It may begin before the content does.
        let aim = u64::try_from(aim).unwrap_or(0);
        let chunk = |id: u32| self.chunks.get(id as usize).copied();
        let mut at = anchor;
        while let Some(before) = self.beside(at, false).filter(|_| chunk(at).is_some_and(|chunk| chunk.from > aim)) {
            at = before;
        }
        let mut found = Vec::new();
        let mut next = Some(at);
        while let Some((id, chunk)) = next.and_then(|id| Some((id, chunk(id)?))) {
            if chunk.from >= end || found.len() >= FOUND_MAX {
                break;
            }
            if chunk.end() > aim {
                found.push(id);
            }
            next = self.beside(id, true);
        }
        found
    }

    fn counterparts(&self, found: &[u32], spans: &mut Spans) -> Result<Vec<Arc<Counterpart>>> {
        let mut all = Vec::with_capacity(found.len());
        for id in found {
            let Some(chunk) = self.chunks.get(*id as usize) else { continue };
            let Some(node) = self.nodes.get(chunk.node as usize) else { continue };
            match spans(&node.at) {
                Ok(below) => {
                    let found = below.get(chunk.index as usize);
                    all.extend(found.map(|span| Counterpart::below(node, chunk.index, span.at, 0)));
                }
                Err(Error::Damage(_) | Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
}

/// A fresh chunk.
#[derive(Debug)]
struct Wanted {
    /// Which of the expansion's it is.
    fresh: usize,
    /// Where it lies in its node.
    from: u64,
    len: u64,
    sketch: Sketch,
    /// How many features it shares with what lies in its place in the base.
    in_place: usize,
}

impl Wanted {
    fn is_looked_for(&self) -> bool {
        self.in_place < ENOUGH
    }

    fn is_followed_by(&self, next: &Wanted) -> bool {
        next.from.saturating_sub(self.from + self.len) <= RUN_GAP_BYTES
    }
}

/// The fresh chunks of an expansion, and how well each is served by what lies in its place.
fn wanted(here: &[Span], expansion: &Expansion, source: &dyn Source) -> Result<Vec<Wanted>> {
    let chunks: Vec<_> = expansion.fresh.iter().enumerate().filter(|(_, fresh)| fresh.at.0 == Kind::Chunk).collect();
    if chunks.is_empty() {
        return Ok(Vec::new());
    }
    let mut names: Vec<Name> = chunks.iter().map(|(_, fresh)| fresh.at.1).collect();
    names.extend(chunks.iter().flat_map(|(_, fresh)| fresh.counterparts.all.iter()).map(|other| other.at.1));
    let names_of_place = names.split_off(chunks.len());
    let sketches = source.sketches(&names)?;
    let places: HashMap<Name, Sketch> = names_of_place.iter().copied().zip(source.sketches(&names_of_place)?).collect();
    let mut spans: HashMap<&Ref, &Span> = HashMap::new();
    for span in here {
        spans.entry(&span.at).or_insert(span);
    }
    let wanted = chunks.into_iter().zip(sketches).filter_map(|((nth, fresh), sketch)| {
        let span = spans.get(&fresh.at)?;
        Some(Wanted {
            fresh: nth,
            from: span.from,
            len: span.len,
            in_place: in_place(&sketch, &fresh.counterparts, &places),
            sketch,
        })
    });
    Ok(wanted.collect())
}

/// How many features a chunk shares with its counterparts, each taken from whichever has it.
fn in_place(sketch: &Sketch, counterparts: &Counterparts, places: &HashMap<Name, Sketch>) -> usize {
    let there: Vec<&Sketch> = counterparts.all.iter().filter_map(|other| places.get(&other.at.1)).collect();
    let shared = |nth: &usize| sketch.0[*nth] != 0 && there.iter().any(|other| other.0[*nth] == sketch.0[*nth]);
    (0..FEATURES).filter(shared).count()
}

#[cfg(test)]
#[path = "resemble_tests.rs"]
mod tests;
