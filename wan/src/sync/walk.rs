//! The sender's walk: which objects to name, which to read, which to send, and in which order.
//!
//! Top-down by questions, bottom-up by shipments. A node that the receiver lacks is *expanded*; what it refers to is
//! *asked*; what the receiver lacks of that is expanded in turn, or is a chunk and thus *ready*. A node becomes ready
//! when everything that it refers to was shipped or is known. So shipments are in an order in which the receiver can
//! admit them one by one, and whatever arrived before a break is complete below itself.
//!
//! ```text
//!   Asked ──known──▶ gone
//!     │ lacking
//!     ├─ node ─▶ Lacking ─▶ Expanding ─▶ Open ─ all below shipped or known ─▶ Ready ─▶ Loading ─▶ Shipped ─ack─▶ gone
//!     └─ chunk ────────────────────────────────────────────────────────────────▲
//! ```
//!
//! An answer takes a round trip, and a tree has many levels. So where less is asked than the line could do with, nodes are expanded before it is
//! known whether the receiver lacks them ([`super::guess`]): what they refer to is asked in the same breath, several levels at
//! once. A node that turns out to be known takes with it what was not asked yet; what was is answered as ever.
//!
//! Memory is bounded, however large the tree: the walk goes deep first, and at each depth at most [`AHEAD`] objects are between asked and shipped, which is far enough ahead that the line never waits for an answer.
//! An object that is met again while it is between asked and acknowledged is not asked again: the second node waits for
//! the same object.

mod asking;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use narrowboat_storage::name::Kind;

use super::diff::{Counterparts, Expansion};
use super::guess::{Frontier, Guess};
use super::known::Known;
use super::lately::Lately;
use super::seam::Ref;
pub(super) use super::tasks::{Answered, Astray, Question, TaskId, ToLoad};
use super::tasks::{Level, State, Task};

/// Most levels from the root to a chunk: a map tree and a sequence tree of 24 levels each.
pub(super) const DEPTH_MAX: usize = 48;
/// Objects of one depth between asked and shipped.
pub(super) const AHEAD: usize = 8192;
/// The same where chunks are asked by prefix: nodes of one depth, and chunks of all depths together. A chunk waits for nothing below
/// it, so those need no room of their own on each level; and where most are known, it takes many questions to find two
/// bandwidth-delay products of what is not (on 100 Mbit/s over 150 ms, and chunks of 16 KiB: 230 of these, 1 in 142).
const NODES_AHEAD: usize = AHEAD / 2;
const CHUNKS_AHEAD: usize = 4 * AHEAD;
/// Nodes of one depth that wait for something below them.
const OPEN_MAX: usize = 4096;
/// Names asked and not yet answered.
const UNANSWERED_MAX: usize = 2 * AHEAD;
/// Nodes that are being expanded at a time.
const EXPANDING_MAX: usize = 64;
/// Nodes in one request to expand.
const EXPAND_BATCH: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Walk {
    tasks: HashMap<TaskId, Task>,
    by_ref: HashMap<Ref, TaskId>,
    known: Known,
    levels: Vec<Level>,
    next_task: TaskId,
    next_ask: u64,
    /// What is to be asked next: by full names, and by prefix.
    to_ask: [VecDeque<TaskId>; 2],
    unanswered: VecDeque<TaskId>,
    expanding: usize,
    ready: VecDeque<TaskId>,
    loading: usize,
    shipped: usize,
    /// Most objects of one depth between asked and shipped.
    ahead: usize,
    /// Whether chunks are asked by prefix; how many of all depths are between asked and shipped, and may be where they are.
    prefixes: bool,
    chunks_pending: usize,
    chunks_ahead: usize,
    guess: Guess,
    /// What went to the receiver lately, by other sessions too.
    lately: Arc<Lately>,
    /// What the receiver acknowledged last, and what refers to that.
    last_kept: Option<(Ref, Option<TaskId>)>,
    root_shipped: bool,
}

const ROOT: TaskId = 0;

impl Walk {
    /// Begins at a root that the receiver lacks. At most `names_max` names are under way at a time.
    pub fn new(root: Ref, base: Option<Ref>, names_max: usize) -> Self {
        let counterparts = Counterparts::of_root(base);
        let task = Task {
            at: root,
            ask: Some(0),
            depth: 0,
            state: State::Lacking,
            is_awaited: false,
            is_guess: false,
            is_hopeful: false,
            parent: None,
            waiters: Vec::new(),
            counterparts,
        };
        let mut levels: Vec<Level> = (0..=DEPTH_MAX).map(|_| Level::default()).collect();
        levels[0].pending = 1;
        levels[0].lacking.push_back(ROOT);
        Walk {
            tasks: HashMap::from([(ROOT, task)]),
            by_ref: HashMap::from([(root, ROOT)]),
            known: Known::default(),
            levels,
            next_task: ROOT + 1,
            next_ask: 1,
            to_ask: Default::default(),
            unanswered: VecDeque::new(),
            expanding: 0,
            ready: VecDeque::new(),
            loading: 0,
            shipped: 0,
            ahead: (names_max / (DEPTH_MAX + 1)).clamp(1, AHEAD),
            prefixes: false,
            chunks_pending: 0,
            chunks_ahead: usize::MAX,
            guess: Guess::default(),
            lately: Arc::default(),
            last_kept: None,
            root_shipped: false,
        }
    }

    /// Asks by guess, so that about `names` chunks are asked ahead; begins where an earlier walk of the same tree was broken off.
    pub fn guessing(mut self, names: usize, frontier: &Frontier) -> Self {
        self.guess = Guess::new(names, frontier);
        self
    }

    /// Asks also for what is new where another session with the same receiver has sent it.
    pub fn beside(mut self, others: &Arc<Lately>) -> Self {
        self.lately = others.clone();
        self
    }

    /// Where this walk is, for one that goes on behind a break.
    pub fn frontier(&self) -> Frontier {
        let (mut nodes, mut parent) = self.last_kept.map_or((Vec::new(), None), |(last, parent)| (vec![last], parent));
        while let Some(task) = parent.and_then(|id| self.tasks.get(&id)).filter(|_| nodes.len() <= DEPTH_MAX) {
            nodes.push(task.at);
            parent = task.parent;
        }
        Frontier { nodes: nodes.into(), under_way: self.shipped }
    }

    /// Asks for chunks by the first bytes of their names. `names_max` as before.
    pub fn by_prefix(mut self, names_max: usize) -> Self {
        self.prefixes = true;
        self.ahead = (names_max / 2 / (DEPTH_MAX + 1)).clamp(1, NODES_AHEAD);
        self.chunks_ahead = (names_max / 2).clamp(1, CHUNKS_AHEAD);
        self
    }

    /// One more object is between asked and shipped.
    fn begins(&mut self, depth: usize, kind: Kind) {
        self.chunks_pending += usize::from(kind == Kind::Chunk);
        if kind != Kind::Chunk || !self.prefixes {
            self.levels[depth].pending += 1;
        }
    }

    /// One is no longer.
    fn ends(&mut self, depth: usize, kind: Kind) {
        self.chunks_pending -= usize::from(kind == Kind::Chunk);
        if kind != Kind::Chunk || !self.prefixes {
            self.levels[depth].pending -= 1;
        }
    }

    /// True once the root was shipped, and so everything below it, and every question was answered.
    pub fn is_done(&self) -> bool {
        self.root_shipped && self.unanswered.is_empty()
    }

    /// True while names were asked and not answered.
    pub fn awaits_answers(&self) -> bool {
        !self.unanswered.is_empty()
    }

    fn to_be_asked(&self) -> usize {
        self.to_ask.iter().map(VecDeque::len).sum()
    }

    /// True where nothing moves that could make room, and nothing may: then, and only then, the bounds on each level
    /// give way. That takes nodes of one level that wait for nodes of a higher one in a circle of full levels.
    fn is_stuck(&self) -> bool {
        let moving = self.to_be_asked()
            + self.unanswered.len()
            + self.expanding
            + self.ready.len()
            + self.loading
            + self.shipped;
        let may_move = self.level_to_ask(false).is_some() || self.level_to_expand(false).is_some();
        moving == 0 && !may_move && !self.root_shipped
    }

    /// The deepest level with names to ask and room below.
    fn level_to_ask(&self, stuck: bool) -> Option<usize> {
        (0..DEPTH_MAX).rev().find(|depth| {
            let room = self.levels[depth + 1].pending < self.ahead && self.chunks_pending < self.chunks_ahead;
            !self.levels[*depth].asking.is_empty() && (room || stuck)
        })
    }

    /// True where the names of one more node of this depth could be asked soon.
    fn wants_open(&self, depth: usize) -> bool {
        let level = &self.levels[depth];
        let below = self.levels.get(depth + 1).map_or(0, |below| below.pending);
        level.unasked + below < self.ahead && self.chunks_pending < self.chunks_ahead && level.open < OPEN_MAX
    }

    /// The deepest level with nodes to expand whose names could be asked soon.
    fn level_to_expand(&self, stuck: bool) -> Option<usize> {
        let may = |depth: &usize| !self.levels[*depth].lacking.is_empty() && (self.wants_open(*depth) || stuck);
        (0..=DEPTH_MAX).rev().find(may)
    }

    /// The deepest level with a node to expand by guess, where too little is asked without.
    fn level_to_guess(&self) -> Option<usize> {
        if self.expanding > 0 || !self.guess.is_due(self.chunks_pending) {
            return None;
        }
        (0..DEPTH_MAX).rev().find(|depth| !self.levels[*depth].hopeful.is_empty() && self.wants_open(*depth))
    }

    fn add_missing(&mut self, parent: TaskId) {
        if let Some(Task { state: State::Open { missing, .. }, .. }) = self.tasks.get_mut(&parent) {
            *missing += 1;
        }
    }

    /// True where an object need not be asked: it is known, or under way already (then `parent` waits for it, unless
    /// it was shipped).
    fn await_object(&mut self, parent: TaskId, at: &Ref) -> bool {
        if let Some(id) = self.by_ref.get(at) {
            if let Some(task) = self.tasks.get_mut(id)
                && !matches!(task.state, State::Shipped)
            {
                task.waiters.push(parent);
                self.add_missing(parent);
            }
            return true;
        }
        self.known.contains(at)
    }

    /// Takes answers, which come in the order of asking.
    pub fn answer(&mut self, first: u64, lacking: &[bool]) -> Result<Vec<Answered>, Astray> {
        let expected = self.unanswered.front().and_then(|id| self.tasks.get(id)).and_then(|task| task.ask);
        if expected != Some(first) || lacking.len() > self.unanswered.len() {
            return Err(Astray::Answer);
        }
        let mut answered = Vec::with_capacity(lacking.len());
        for lacking in lacking.iter().copied() {
            let Some(id) = self.unanswered.pop_front() else { break };
            let Some(task) = self.tasks.get(&id) else { continue };
            answered.push(Answered { at: task.at, lacking });
            if task.is_hopeful && task.at.0.is_node() {
                self.guess.learn(lacking);
            }
            if lacking {
                let depth = task.depth;
                self.guess.answered(usize::from(task.is_guess));
                self.lacking(id);
                self.drop_hopes(depth);
            } else {
                self.forget_known(id);
            }
        }
        Ok(answered)
    }

    fn forget_known(&mut self, id: TaskId) {
        let Some(task) = self.remove_unshipped(id) else { return };
        let level = &mut self.levels[task.depth];
        match &task.state {
            State::Open { unasked, guessed, .. } => {
                level.open -= 1;
                level.unasked -= unasked.len();
                if !unasked.is_empty() {
                    level.asking.retain(|other| *other != id);
                }
                self.guess.answered(if *guessed { unasked.len() } else { 0 });
            }
            State::Expanding => level.open -= 1,
            _ => {}
        }
        self.known.insert(task.at);
        self.satisfy(&task.waiters);
    }

    /// The next nodes to expand, the deepest first.
    pub fn next_expand(&mut self) -> Option<Vec<(TaskId, Ref, Counterparts)>> {
        let mut batch = Vec::new();
        while batch.len() < EXPAND_BATCH && self.expanding < EXPANDING_MAX {
            let deepest = self.level_to_expand(self.is_stuck());
            let Some(id) = deepest.and_then(|depth| self.levels[depth].lacking.pop_front()) else { break };
            batch.extend(self.begin_to_expand(id));
        }
        if batch.is_empty()
            && let Some(depth) = self.level_to_guess()
            && let Some(id) = self.levels[depth].hopeful.pop_front()
        {
            batch.extend(self.begin_to_expand(id));
            self.drop_hopes(depth);
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn begin_to_expand(&mut self, id: TaskId) -> Option<(TaskId, Ref, Counterparts)> {
        let task = self.tasks.get_mut(&id)?;
        task.state = State::Expanding;
        self.levels[task.depth].open += 1;
        self.expanding += 1;
        Some((id, task.at, task.counterparts.clone()))
    }

    /// Takes what a node refers to and the base does not.
    pub fn expanded(&mut self, id: TaskId, expansion: Expansion) -> Result<(), Astray> {
        self.expanding -= 1;
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        if task.depth >= DEPTH_MAX && !expansion.fresh.is_empty() {
            return Err(Astray::Depth);
        }
        let (depth, fresh) = (task.depth, expansion.fresh.len());
        let guessed = task.is_awaited;
        let behind = self.guess.behind(&task.at, &expansion.fresh);
        task.state = State::Open { unasked: expansion.fresh.into(), missing: 0, behind, guessed };
        self.guess.asked(if guessed { fresh } else { 0 });
        self.levels[depth].unasked += fresh;
        if fresh > 0 {
            self.levels[depth].asking.push_back(id);
        } else {
            self.close_if_complete(id);
        }
        Ok(())
    }

    /// Makes an open node ready where nothing below it is missing any more.
    fn close_if_complete(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let complete = matches!(&task.state, State::Open { unasked, missing: 0, .. } if unasked.is_empty());
        if complete && !task.is_awaited {
            task.state = State::Ready;
            self.levels[task.depth].open -= 1;
            self.ready.push_back(id);
        }
    }

    fn satisfy(&mut self, waiters: &[TaskId]) {
        for waiter in waiters {
            if let Some(Task { state: State::Open { missing, .. }, .. }) = self.tasks.get_mut(waiter) {
                *missing -= 1;
            }
            self.close_if_complete(*waiter);
        }
    }

    /// The next object to read.
    pub fn next_load(&mut self) -> Option<ToLoad> {
        let id = self.ready.pop_front()?;
        let task = self.tasks.get_mut(&id)?;
        task.state = State::Loading;
        self.loading += 1;
        Some(ToLoad { task: id, at: task.at, counterparts: task.counterparts.clone(), was_asked: task.ask.is_some() })
    }

    /// Puts objects that were not read after all back in front, in their order.
    pub fn not_loaded(&mut self, ids: &[TaskId]) {
        for id in ids.iter().rev() {
            if let Some(task) = self.tasks.get_mut(id) {
                task.state = State::Ready;
                self.loading -= 1;
                self.ready.push_front(*id);
            }
        }
    }

    /// Notes that an object has its place in the order of shipments. Returns its kind and the number it was asked under, if
    /// it was.
    pub fn ship(&mut self, id: TaskId) -> Option<(Kind, Option<u64>)> {
        let task = self.tasks.get_mut(&id)?;
        task.state = State::Shipped;
        self.lately.sent(&task.at);
        let (kind, ask, depth, waiters) = (task.at.0, task.ask, task.depth, std::mem::take(&mut task.waiters));
        self.ends(depth, kind);
        self.loading -= 1;
        self.shipped += 1;
        self.root_shipped |= id == ROOT;
        self.satisfy(&waiters);
        Some((kind, ask))
    }

    /// Notes that an object is safe at the receiver.
    pub fn acknowledged(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.remove(&id) {
            self.by_ref.remove(&task.at);
            self.known.insert(task.at);
            self.shipped -= 1;
            self.last_kept = Some((task.at, task.parent));
        }
    }

    /// Objects that this walk holds in memory.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let unasked: usize = self.levels.iter().map(|level| level.unasked).sum();
        self.tasks.len() + unasked
    }
}
