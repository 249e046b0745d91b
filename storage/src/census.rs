//! Who would free what: bytes on the disk that only one snapshot keeps, only one dataset, or only the quarantine.
//!
//! ```text
//! roots, held ─▶ walk, root after root ─▶ sizes, from the index ─▶ Freeable
//! ```
//!
//! Every object gets a *label*: the one root that it was met from; once it is met from another root of the same dataset, the dataset; once from
//! another dataset, neither. Each label also says whether all that it was met from is in quarantine. A label only ever gets wider, three times at
//! the most, and what is below a node is looked at again only where the node's label changed: so a census walks no object more than four times, however
//! many snapshots share it, and most of them once for each root that differs there.
//!
//! * **A value that is stepped**, as a run of reclaim: each step reads a bounded number of nodes, one file of a history, or a 256th of the index. It changes nothing, and holds the
//!   trees that it walks, so reclaim and everybody else go on beside it.
//! * **Exact as of its beginning.** What is written, made or deleted since is not in it. A deletion into quarantine changes no figure: it keeps its room.
//! * **Memory** is bounded: nodes are remembered exactly, [`CensusOptions::nodes_max`] at the most, beyond which it refuses; chunks up to
//!   [`CensusOptions::chunks_max`], beyond which every second of them (by name, so at random) is left out and the others count twice, again and again:
//!   the error of a figure is then about one divided by the square root of the number of its chunks that were counted ([`Freeable::one_in`]).
//!
//! What the figures are not: what one run of reclaim gives back. It leaves up to a twentieth of what is needed lying among it
//! ([`Reclaimed::left_bytes`](crate::reclaim::Reclaimed)), and the journal keeps what it names until it is trimmed. Two things that share what nobody else has free
//! it only together: each one's figure leaves it out, that of their dataset has it.

use std::collections::{BTreeMap, HashMap};

use crate::catalogue::HistoryFile;
use crate::error::{Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::name::{Kind, Name};
use crate::pool::{HeldTree, Pool, StreamId};
use crate::reclaim::Stepped;
use crate::store::Store;
use crate::tree::{Objects, references};
use crate::units::Timestamp;

/// Nodes that are read in one step.
const NODES_PER_STEP: usize = 256;
/// Names that are looked at in one step, at the least.
const NAMES_PER_STEP: u64 = 50_000;

/// How much memory a census may use.
#[derive(Clone, Copy, Debug)]
pub struct CensusOptions {
    /// Nodes that are remembered, at some 40 bytes each.
    pub nodes_max: usize,
    /// Chunks that are remembered, at some 24 bytes each.
    pub chunks_max: usize,
}

impl Default for CensusOptions {
    fn default() -> Self {
        CensusOptions { nodes_max: 6 << 20, chunks_max: 4 << 20 }
    }
}

/// What came of a census. Bytes are those on the disk, with slots and directories of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freeable {
    /// The moment that it tells of.
    pub time: Timestamp,
    /// What each snapshot alone keeps: what is free to go once it is gone, and nothing else is. Snapshots without a root are not in it.
    pub snapshots: BTreeMap<SnapshotId, u64>,
    /// What each dataset alone keeps, with its snapshots and its past, its history's files included.
    pub datasets: BTreeMap<DatasetId, u64>,
    /// What is kept for the quarantine alone: what emptying it would free.
    pub quarantine_bytes: u64,
    /// What is needed, all in all, without history.
    pub needed_bytes: u64,
    /// What no dataset needs any more: at most so much may a run of reclaim give back, for what arrives from a peer just now and what somebody still
    /// reads of a deleted snapshot is in it.
    pub unneeded_bytes: u64,
    /// One chunk in so many was counted; 1: all, and the figures are exact.
    pub one_in: u64,
    /// Snapshots, and presents and pasts of datasets, of which trees are not here whole (any more): these count as nothing.
    pub left_out: Vec<String>,
}

/// What keeps objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// What a dataset is now.
    Present,
    /// What it can be taken back to, beside snapshots.
    Past,
    Snapshot(SnapshotId),
}

/// A keeper with what it keeps.
pub(crate) struct Kept {
    pub dataset: DatasetId,
    pub keeper: Keeper,
    pub quarantined: bool,
    pub roots: Vec<Name>,
    pub files: Vec<HistoryFile>,
}

/// What an object was met from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Label {
    One(u32),
    Dataset { dataset: u32, quarantined: bool },
    Several { quarantined: bool },
}

/// Who is who.
struct Owner {
    dataset: u32,
    quarantined: bool,
    keeper: Keeper,
}

enum At {
    Walk,
    Sizes(u16),
    Done,
}

/// A census under way.
pub struct Census {
    pool: Pool,
    options: CensusOptions,
    at: At,
    datasets: Vec<DatasetId>,
    owners: Vec<Owner>,
    /// Keepers that are still to be walked, the next one last.
    waiting: Vec<(u32, Kept)>,
    /// Nodes that are to be read, all met from the same one.
    stack: Vec<(Kind, Name)>,
    /// Files of its history that are to be read.
    files: Vec<(DatasetId, HistoryFile)>,
    owner: u32,
    nodes: HashMap<u128, Label>,
    chunks: HashMap<u64, Label>,
    /// A chunk counts where so many bits of its name are zero.
    skipped_bits: u32,
    sums: BTreeMap<Label, u64>,
    history: BTreeMap<DatasetId, u64>,
    report: Freeable,
    _held: Vec<HeldTree>,
}

impl Store {
    /// Begins a census of what there is now.
    pub fn census(&self, options: CensusOptions, now: Timestamp) -> Result<Census> {
        let (kept, _held, left_out) = self.everything_kept()?;
        let mut datasets: Vec<DatasetId> = kept.iter().map(|kept| kept.dataset).collect();
        datasets.sort_unstable();
        datasets.dedup();
        let number = |id: DatasetId| datasets.binary_search(&id).unwrap_or_default() as u32;
        let owner =
            |kept: &Kept| Owner { dataset: number(kept.dataset), quarantined: kept.quarantined, keeper: kept.keeper };
        let mut history = BTreeMap::new();
        for kept in &kept {
            *history.entry(kept.dataset).or_default() += kept.files.iter().map(|file| file.bytes).sum::<u64>();
        }
        Ok(Census {
            pool: self.pool().clone(),
            options,
            at: At::Walk,
            owners: kept.iter().map(owner).collect(),
            datasets,
            waiting: (0..kept.len() as u32).zip(kept).rev().collect(),
            stack: Vec::new(),
            files: Vec::new(),
            owner: 0,
            nodes: HashMap::new(),
            chunks: HashMap::new(),
            skipped_bits: 0,
            sums: BTreeMap::new(),
            history,
            report: Freeable { time: now, left_out, ..Freeable::default() },
            _held,
        })
    }
}

impl Census {
    /// What came of it; of use once it is done.
    pub fn report(&self) -> &Freeable {
        &self.report
    }

    /// Objects that were met so far.
    pub fn met(&self) -> u64 {
        (self.nodes.len() + (self.chunks.len() << self.skipped_bits)) as u64
    }

    /// Goes on by one step with the store that began it. Any error ends it; damage on the way is one, for what is below is not known.
    pub fn step(&mut self, store: &Store) -> Result<Stepped> {
        match self.at {
            At::Walk => self.walk(store)?,
            At::Sizes(part) => self.sizes(part)?,
            At::Done => return Ok(Stepped::Done),
        }
        Ok(if matches!(self.at, At::Done) { Stepped::Done } else { Stepped::Worked })
    }

    fn walk(&mut self, store: &Store) -> Result<()> {
        if !self.stack.is_empty() {
            return self.walk_nodes();
        }
        if let Some((dataset, file)) = self.files.pop() {
            return self.walk_history(store, dataset, &file);
        }
        let Some((owner, kept)) = self.waiting.pop() else {
            self.at = At::Sizes(0);
            return self.pool.index_everything();
        };
        self.owner = owner;
        self.files.extend(kept.files.into_iter().map(|file| (kept.dataset, file)));
        kept.roots.iter().try_for_each(|root| self.meet(Kind::MapNode, root))
    }

    fn walk_history(&mut self, store: &Store, dataset: DatasetId, file: &HistoryFile) -> Result<()> {
        let meet = &mut |names: &[Name]| names.iter().try_for_each(|name| self.meet(Kind::Chunk, name));
        let read = store.history_chunks(dataset, file, meet);
        // What a window let go of meanwhile is not kept any more.
        match store.history_files(dataset).iter().any(|now| now.first == file.first) {
            true => read,
            false => Ok(()),
        }
    }

    fn walk_nodes(&mut self) -> Result<()> {
        let objects = self.pool.on(StreamId::MISC);
        for _ in 0..NODES_PER_STEP {
            let Some((kind, name)) = self.stack.pop() else { break };
            let bytes = objects.read(kind, &name)?;
            for (kind, name) in references(kind, &bytes).map_err(|fault| fault.of(kind, &name))? {
                self.meet(kind, &name)?;
            }
        }
        Ok(())
    }

    /// An object is kept by whoever is walked now.
    fn meet(&mut self, kind: Kind, name: &Name) -> Result<()> {
        if kind.is_node() {
            let known = self.nodes.get(&name.half()).copied();
            let label = self.widened(known);
            if known == Some(label) {
                return Ok(());
            }
            if known.is_none() && self.nodes.len() >= self.options.nodes_max {
                let why = format!("more than {} tree nodes: no more can be remembered", self.options.nodes_max);
                return Err(Refusal::Invalid(why).into());
            }
            self.nodes.insert(name.half(), label);
            self.stack.push((kind, *name));
            return Ok(());
        }
        let short = short(name);
        if counts(short, self.skipped_bits) {
            let label = self.widened(self.chunks.get(&short).copied());
            self.chunks.insert(short, label);
            while self.chunks.len() > self.options.chunks_max {
                self.skipped_bits += 1;
                let bits = self.skipped_bits;
                self.chunks.retain(|short, _| counts(*short, bits));
            }
        }
        Ok(())
    }

    /// The label of what was met before under `known`, and now from whoever is walked.
    fn widened(&self, known: Option<Label>) -> Label {
        let one = Label::One(self.owner);
        let Some(known) = known.filter(|known| *known != one) else { return one };
        let ((before, quarantined), (now, too)) = (self.within(known), self.within(one));
        let quarantined = quarantined && too;
        match (before, now) {
            (Some(dataset), Some(other)) if dataset == other => Label::Dataset { dataset, quarantined },
            _ => Label::Several { quarantined },
        }
    }

    /// The one dataset of a label, if it has one, and whether all of it is in quarantine.
    fn within(&self, label: Label) -> (Option<u32>, bool) {
        match label {
            Label::One(owner) => {
                self.owners.get(owner as usize).map_or((None, false), |owner| (Some(owner.dataset), owner.quarantined))
            }
            Label::Dataset { dataset, quarantined } => (Some(dataset), quarantined),
            Label::Several { quarantined } => (None, quarantined),
        }
    }

    fn sizes(&mut self, part: u16) -> Result<()> {
        let (mut part, mut names) = (part, 0);
        let (nodes, chunks, sums) = (&self.nodes, &self.chunks, &mut self.sums);
        let (report, bits) = (&mut self.report, self.skipped_bits);
        while let Ok(nth) = u8::try_from(part) {
            names += self.pool.sizes(nth, &mut |kind, name, bytes| {
                let (label, bytes) = match kind.is_node() {
                    true => (nodes.get(&name.half()), bytes),
                    false if counts(short(name), bits) => (chunks.get(&short(name)), bytes << bits),
                    false => return,
                };
                match label {
                    Some(label) => *sums.entry(*label).or_default() += bytes,
                    None => report.unneeded_bytes += bytes,
                }
            })?;
            part += 1;
            if names >= NAMES_PER_STEP {
                self.at = At::Sizes(part);
                return Ok(());
            }
        }
        self.sum_up();
        self.at = At::Done;
        Ok(())
    }

    fn sum_up(&mut self) {
        let report = &mut self.report;
        report.one_in = 1 << self.skipped_bits;
        for owner in &self.owners {
            if let Keeper::Snapshot(id) = owner.keeper {
                report.snapshots.insert(id, 0);
            }
        }
        report.datasets = self.datasets.iter().map(|id| (*id, 0)).collect();
        for (id, bytes) in &self.history {
            *report.datasets.entry(*id).or_default() += bytes;
        }
        for (label, bytes) in &self.sums {
            report.needed_bytes += bytes;
            let (dataset, quarantined) = match *label {
                Label::One(owner) => match self.owners.get(owner as usize) {
                    Some(owner) => (Some(owner.dataset), owner.quarantined),
                    None => (None, false),
                },
                Label::Dataset { dataset, quarantined } => (Some(dataset), quarantined),
                Label::Several { quarantined } => (None, quarantined),
            };
            if let Label::One(owner) = *label
                && let Some(Owner { keeper: Keeper::Snapshot(id), .. }) = self.owners.get(owner as usize)
            {
                *report.snapshots.entry(*id).or_default() += bytes;
            }
            if let Some(id) = dataset.and_then(|dataset| self.datasets.get(dataset as usize)) {
                *report.datasets.entry(*id).or_default() += bytes;
            }
            if quarantined {
                report.quarantine_bytes += bytes;
            }
        }
    }
}

/// A quarter of a name: two of some million chunks seldom share one, and then a figure is wrong by one of them.
fn short(name: &Name) -> u64 {
    let mut quarter = [0; 8];
    quarter.copy_from_slice(&name.0[8..16]);
    u64::from_le_bytes(quarter)
}

fn counts(short: u64, skipped_bits: u32) -> bool {
    short.trailing_zeros() >= skipped_bits
}
