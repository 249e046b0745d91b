//! Healing: what is damaged or missing below a root is looked for, asked of somebody who has the same tree, and stored anew.
//!
//! ```text
//! step ─▶ reads node after node, from the root ─▶ Asks(what is lost, by the way to it)
//!   ▲                                                   │ whoever drives it asks a peer
//!   └──────────── took(bytes, or nothing) ◀─────────────┘
//! ```
//!
//! A tree is walked as the disk has it, so what is damaged on the way is found although nobody knew of it. What is lost is named by its *way*: the places
//! among the references of one node after the other, from the root on. Who has the same root has the same tree, and finds it without being told a
//! name; who does not may not be told anything. Where a node is lost, the walk goes on below what came for it.
//!
//! What it promises:
//! * Nothing is stored that is not what its name says; bytes that are something else end the healing as a refusal.
//! * *Presence implies closure* holds: what came is stored children first, and a node for which something below is not here is not stored.
//! * Memory is bounded whatever the tree and the damage: for each level one node, and what came of those that it refers to (512 at the most, each as it was
//!   sent and unpacked), and [`Limits::seen`] names of nodes that were walked. Beyond that, some are walked again.
//!
//! What it never does: talk to peers, look at a clock, or let go of anything. `docs/decisions/0031-healing.md` has the reasons.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::error::{Refusal, Result};
use crate::id::{DatasetId, SnapshotId};
use crate::name::{Kind, Name};
use crate::pool::{Stored, StreamId};
use crate::store::Store;
use crate::tree;

use walk::Frame;

mod walk;

/// Nodes on a way, the root left out. Trees are far lower.
pub const WAY_MAX: usize = 64;

/// How much a healing holds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Objects that are asked for at once, at most.
    pub asks: usize,
    /// Nodes that are remembered as walked, at some 35 bytes each.
    pub seen: usize,
    /// Objects that are remembered as not to be had. Where there are more, the healing ends.
    pub lacking: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { asks: 256, seen: 1 << 19, lacking: 100_000 }
    }
}

/// Something that can't be read here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Where it is below the root: the places among the references of one node after the other. Empty for the root itself.
    pub way: Vec<u32>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    Worked,
    /// These are to be asked for. Each is to be answered by [`Healing::took`], in this order, before the next step.
    Ask(Vec<Lost>),
    /// The tree is walked, or there is nothing left that could be healed.
    Done,
}

/// What one healing with one peer has learned, from one tree to the next.
pub struct Healing {
    limits: Limits,
    /// Nodes below which nothing is left to be done with this peer, by half of their names.
    seen: HashSet<u128>,
    /// What the peer does not have either.
    lacking: HashSet<(Kind, Name)>,
    /// How many of those are known wounds.
    hopeless: usize,
    healed: u64,
    bytes: u64,
    overflown: bool,
    tree: Option<Tree>,
}

/// The tree that is walked.
struct Tree {
    root: Name,
    stream: StreamId,
    frames: Vec<Frame>,
    begun: bool,
    /// Collected, and not asked yet.
    pending: Vec<Lost>,
    /// Asked, and not answered yet, the next one last.
    asked: Vec<Lost>,
    /// Nodes that came, and wait for what is below them.
    came: HashMap<Name, (Stored, Bytes)>,
    /// Somebody waits for what is pending.
    wanted: bool,
}

impl Healing {
    /// One that has learned nothing yet.
    pub fn new(limits: Limits) -> Healing {
        Healing {
            limits,
            seen: HashSet::new(),
            lacking: HashSet::new(),
            hopeless: 0,
            healed: 0,
            bytes: 0,
            overflown: false,
            tree: None,
        }
    }

    /// Begins with the tree of a root, which the peer has, too. What is stored goes to the stream of its dataset.
    pub fn begin(&mut self, store: &Store, dataset: DatasetId, root: Name) {
        // Some came from elsewhere meanwhile.
        self.hopeless = self.lacking.iter().filter(|(kind, name)| store.pool().is_wounded(*kind, name)).count();
        self.tree = Some(Tree {
            root,
            stream: store.stream(dataset),
            frames: Vec::new(),
            begun: false,
            pending: Vec::new(),
            asked: Vec::new(),
            came: HashMap::new(),
            wanted: false,
        });
    }

    /// What was asked and not answered, since the peer went away, is asked again with the next step.
    pub fn ask_again(&mut self) {
        if let Some(tree) = &mut self.tree {
            let unanswered = std::mem::take(&mut tree.asked);
            tree.pending.splice(0..0, unanswered.into_iter().rev());
            tree.wanted |= !tree.pending.is_empty();
        }
    }

    /// Leaves the tree where it is: the peer does not give it any more.
    pub fn leave(&mut self) {
        self.tree = None;
    }

    /// True where something is known to be damaged that this peer was not asked for in vain.
    pub fn has_hope(&self, store: &Store) -> bool {
        !self.overflown && store.pool().wounded() > self.hopeless
    }

    /// Objects that were stored anew.
    pub fn healed(&self) -> u64 {
        self.healed
    }

    /// And their bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Walks on, by so many nodes at most. Damage is what it is for, and no error. Call it with the store that it began with.
    pub fn step(&mut self, store: &Store, nodes: usize) -> Result<Step> {
        let _in_use = store.pool().in_use();
        let Some(mut tree) = self.tree.take() else { return Ok(Step::Done) };
        let outcome = self.go_on(store, &mut tree, nodes);
        if !matches!(outcome, Ok(Step::Done)) {
            self.tree = Some(tree);
        }
        outcome
    }

    fn go_on(&mut self, store: &Store, tree: &mut Tree, nodes: usize) -> Result<Step> {
        for _ in 0..nodes {
            if self.overflown {
                return Ok(Step::Done);
            }
            if tree.must_ask(&self.limits) {
                return Ok(tree.ask(&self.limits));
            }
            if !self.visit(store, tree)? {
                return Ok(if tree.pending.is_empty() { Step::Done } else { tree.ask(&self.limits) });
            }
        }
        Ok(Step::Worked)
    }

    /// True where nothing is known to be damaged that this peer was not asked for.
    fn is_over(&self, store: &Store, tree: &Tree) -> Result<bool> {
        Ok(!self.has_hope(store) && tree.pending.is_empty() && store.pool().contains(Kind::MapNode, &tree.root)?)
    }

    /// Takes the answer to the first question that has none: the object as a peer sent it, or that it has none. Refused where it is something else:
    /// then the peer lies, and the healing with it is to end.
    pub fn took(&mut self, store: &Store, stored: Option<&Stored>) -> Result<()> {
        let Some(tree) = &mut self.tree else { return Ok(()) };
        let Some(lost) = tree.asked.pop() else {
            return Err(Refusal::Invalid("an answer to what was not asked".to_owned()).into());
        };
        let Some(stored) = stored else {
            self.give_up(store, lost.kind, lost.name);
            return Ok(());
        };
        if lost.kind.is_node() {
            let content = store.pool().verified(lost.kind, &lost.name, stored)?;
            tree.came.insert(lost.name, (stored.clone(), content));
            return Ok(());
        }
        let stream = tree.stream;
        self.store(store, stream, lost.kind, &lost.name, stored)
    }

    fn store(&mut self, store: &Store, stream: StreamId, kind: Kind, name: &Name, stored: &Stored) -> Result<()> {
        store.admit_received(stored.bytes.len() as u64)?;
        if store.pool().put_stored(stream, kind, name, stored)?.new {
            self.healed += 1;
            self.bytes += stored.bytes.len() as u64;
        }
        Ok(())
    }

    /// The peer is not asked for it again.
    fn give_up(&mut self, store: &Store, kind: Kind, name: Name) {
        if self.lacking.len() >= self.limits.lacking {
            self.overflown = true;
        } else if self.lacking.insert((kind, name)) && store.pool().is_wounded(kind, &name) {
            self.hopeless += 1;
        }
    }

    fn see(&mut self, name: &Name) {
        if self.seen.len() >= self.limits.seen {
            self.seen.clear();
        }
        self.seen.insert(name.half());
    }
}

impl Store {
    /// What lies at the end of a way from a root, for whoever may know everything below that root ([`Lost::way`]). `None` where it can't be read here, either.
    /// Refused where the way leads nowhere, which no way to anything in that tree does. What is given was verified against its name: whose own copy
    /// is damaged has none to give.
    pub fn at_way(&self, root: &Name, way: &[u32]) -> Result<Option<Stored>> {
        let pool = self.pool();
        let _in_use = pool.in_use();
        let nowhere = || Refusal::Invalid("a way that leads nowhere".to_owned());
        let (mut kind, mut name) = (Kind::MapNode, *root);
        for place in way {
            if !kind.is_node() || way.len() > WAY_MAX {
                return Err(nowhere().into());
            }
            let Some(bytes) = sound(pool.read(kind, &name))? else { return Ok(None) };
            let below = tree::references(kind, &bytes).map_err(|fault| fault.of(kind, &name))?;
            (kind, name) = *usize::try_from(*place).ok().and_then(|place| below.get(place)).ok_or_else(nowhere)?;
        }
        if pool.is_wounded(kind, &name) {
            return Ok(None);
        }
        sound(pool.read_stored_verified(kind, &name))
    }

    /// True where a root is not here although a snapshot has it: its index was built anew, and something below it was not there.
    pub fn is_torn(&self, root: &Name) -> Result<bool> {
        Ok(!self.pool().contains(Kind::MapNode, root)?)
    }

    /// The snapshots whose trees are not here whole, to be healed although nothing is known to be damaged; also deleted ones that can be had back.
    pub fn torn_snapshots(&self) -> Result<Vec<SnapshotId>> {
        let mut torn = Vec::new();
        for row in self.snapshots_with_deleted(None) {
            if let Some(root) = row.sealed.and_then(|sealed| sealed.root)
                && self.is_torn(&root)?
            {
                torn.push(row.id);
            }
        }
        Ok(torn)
    }
}

/// What was read; none where that is damaged, or where the disk could not give it back.
fn sound<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_of_one() => Ok(None),
        Err(error) => Err(error),
    }
}
