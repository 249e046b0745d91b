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
//! Memory is bounded, however large the tree: the walk goes deep first, and at each depth at most [`AHEAD`] objects are between asked and shipped, which is far enough ahead that the line never waits for an answer.
//! An object that is met again while it is between asked and acknowledged is not asked again: the second node waits for
//! the same object.

use std::collections::{HashMap, VecDeque};

use narrowboat_storage::name::Kind;

use super::diff::{Counterparts, Expansion, Fresh};
use super::known::Known;
use super::seam::Ref;
use crate::wire::{ASK_NAMES_MAX, ASK_PREFIXES_MAX};

/// Most levels from the root to a chunk: a map tree and a sequence tree of 24 levels each.
pub(super) const DEPTH_MAX: usize = 48;
/// Objects of one depth between asked and shipped.
pub(super) const AHEAD: usize = 8192;
/// The same where chunks are asked by prefix: nodes of one depth, and chunks of all depths together. A chunk waits for nothing below
/// it, so those need no room of their own on each level; and where most are known, it takes many questions to find two
/// bandwidth-delay products of what is not (on 100 Mbit/s over 150 ms, and chunks of 16 KiB: 230 of these, 1 in 142).
const NODES_AHEAD: usize = AHEAD / 2;
const CHUNKS_AHEAD: usize = 4 * AHEAD;
/// Fewer prefixes are not sent in one message while more are about to come.
const PREFIXES_MIN: usize = 1024;
/// Nodes of one depth that wait for something below them.
const OPEN_MAX: usize = 4096;
/// Names asked and not yet answered.
const UNANSWERED_MAX: usize = 2 * AHEAD;
/// Nodes that are being expanded at a time.
const EXPANDING_MAX: usize = 64;
/// Nodes in one request to expand.
const EXPAND_BATCH: usize = 16;

/// A walk's own number for an object.
pub(super) type TaskId = u64;

#[derive(Debug)]
struct Task {
    at: Ref,
    /// The number of its question; none where it was not asked, or not yet.
    ask: Option<u64>,
    depth: usize,
    state: State,
    /// Nodes that cannot be shipped before this.
    waiters: Vec<TaskId>,
    counterparts: Counterparts,
}

#[derive(Debug)]
enum State {
    Asked,
    Lacking,
    Expanding,
    /// References not yet asked, and how many of those asked are neither shipped nor known.
    Open {
        unasked: VecDeque<Fresh>,
        missing: usize,
    },
    Ready,
    Loading,
    Shipped,
}

#[derive(Debug, Default)]
struct Level {
    /// Between asked and shipped. Chunks that are asked by prefix are counted elsewhere.
    pending: usize,
    /// Expanding, or open.
    open: usize,
    /// Names that open nodes have not asked yet.
    unasked: usize,
    /// Nodes that are to be expanded.
    lacking: VecDeque<TaskId>,
    /// Open nodes with names that were not asked yet.
    asking: VecDeque<TaskId>,
}

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
    /// Whether chunks are asked by prefix; how many are between asked and shipped, and may be.
    prefixes: bool,
    chunks_pending: usize,
    chunks_ahead: usize,
    root_shipped: bool,
}

/// The peer answered something that was not asked, or the tree is deeper or wider than any that this software builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Astray {
    /// An answer to names that were not asked, or answered already.
    Answer,
    /// A tree of more than [`DEPTH_MAX`] levels.
    Depth,
}

/// An object that is to be read and sent.
#[derive(Clone, Debug)]
pub(super) struct ToLoad {
    pub task: TaskId,
    pub at: Ref,
    /// What it may be packed against.
    pub counterparts: Counterparts,
    /// False where it is sent without having been asked for.
    pub was_asked: bool,
}

/// The next names to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The number of the first.
    pub first: u64,
    /// What is asked.
    pub names: Vec<Ref>,
    /// Whether by prefix: then all are chunks.
    pub by_prefix: bool,
}

/// What the receiver said of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// What was asked.
    pub at: Ref,
    /// Whether the receiver lacks it.
    pub lacking: bool,
}

const ROOT: TaskId = 0;

impl Walk {
    /// Begins at a root that the receiver lacks. At most `names_max` names are under way at a time.
    pub fn new(root: Ref, base: Option<Ref>, names_max: usize) -> Self {
        let counterparts = Counterparts::of_root(base);
        let task = Task { at: root, ask: Some(0), depth: 0, state: State::Lacking, waiters: Vec::new(), counterparts };
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
            root_shipped: false,
        }
    }

    /// Asks for chunks by the first bytes of their names. `names_max` as before.
    pub fn by_prefix(mut self, names_max: usize) -> Self {
        self.prefixes = true;
        self.ahead = (names_max / 2 / (DEPTH_MAX + 1)).clamp(1, NODES_AHEAD);
        self.chunks_ahead = (names_max / 2).clamp(1, CHUNKS_AHEAD);
        self
    }

    /// How many objects like this one are between asked and shipped.
    fn pending(&mut self, depth: usize, kind: Kind) -> &mut usize {
        match kind {
            Kind::Chunk if self.prefixes => &mut self.chunks_pending,
            _ => &mut self.levels[depth].pending,
        }
    }

    /// True once the root was shipped, and so everything below it.
    pub fn is_done(&self) -> bool {
        self.root_shipped
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

    /// The deepest level with nodes to expand whose names could be asked soon.
    fn level_to_expand(&self, stuck: bool) -> Option<usize> {
        (0..=DEPTH_MAX).rev().find(|depth| {
            let level = &self.levels[*depth];
            let below = self.levels.get(depth + 1).map_or(0, |below| below.pending);
            let wanted = level.unasked + below < self.ahead && self.chunks_pending < self.chunks_ahead;
            let wanted = wanted && level.open < OPEN_MAX;
            !level.lacking.is_empty() && (wanted || stuck)
        })
    }

    /// The next names to ask.
    pub fn next_ask(&mut self) -> Option<Question> {
        let unanswered_max = if self.prefixes { self.chunks_ahead } else { UNANSWERED_MAX };
        while self.to_ask[0].len() < ASK_NAMES_MAX
            && self.to_ask[1].len() < ASK_PREFIXES_MAX
            && self.to_be_asked() + self.unanswered.len() < unanswered_max
        {
            let deepest = self.level_to_ask(self.is_stuck());
            let Some(depth) = deepest else { break };
            self.ask_below(depth, ASK_NAMES_MAX - self.to_ask[0].len());
        }
        let by_prefix = self.to_ask[0].is_empty();
        if by_prefix && self.more_prefixes_will_come() {
            return None;
        }
        let max = if by_prefix { ASK_PREFIXES_MAX } else { ASK_NAMES_MAX };
        let queue = &mut self.to_ask[usize::from(by_prefix)];
        let (first, mut names) = (self.next_ask, Vec::new());
        for id in queue.drain(..queue.len().min(max)) {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.ask = Some(self.next_ask);
            self.next_ask += 1;
            self.unanswered.push_back(id);
            names.push(task.at);
        }
        (!names.is_empty()).then_some(Question { first, names, by_prefix })
    }

    /// True where a fuller message costs no time: more names are on their way, and there is something else to do until then.
    fn more_prefixes_will_come(&self) -> bool {
        let busy = self.unanswered.len() + self.ready.len() + self.loading + self.shipped > 0;
        let coming = self.expanding > 0 || self.level_to_expand(false).is_some();
        self.to_ask[1].len() < PREFIXES_MIN && busy && coming
    }

    /// Asks what the first open node of a depth refers to, up to `max` names. A node is in `asking` exactly while it has
    /// names that were not asked.
    fn ask_below(&mut self, depth: usize, max: usize) {
        let Some(&parent) = self.levels[depth].asking.front() else { return };
        let room = self.ahead.saturating_sub(self.levels[depth + 1].pending);
        let room = room.min(self.chunks_ahead.saturating_sub(self.chunks_pending)).clamp(1, max);
        for _ in 0..room {
            let Some((fresh, was_last)) = self.next_unasked(parent) else { return };
            self.levels[depth].unasked -= 1;
            if !self.await_object(parent, &fresh.at) {
                self.begin_task(fresh, depth + 1, parent);
            }
            if was_last {
                self.levels[depth].asking.pop_front();
                self.close_if_complete(parent);
                return;
            }
        }
    }

    /// Makes a task of a reference, to be asked. What is new is lacking without a question, unless it may
    /// have been sent in this very session and forgotten.
    fn begin_task(&mut self, fresh: Fresh, depth: usize, parent: TaskId) {
        let Fresh { at, counterparts, is_new } = fresh;
        let asks = !is_new || self.known.forgot();
        let id = self.next_task;
        self.next_task += 1;
        self.tasks.insert(id, Task { at, ask: None, depth, state: State::Asked, waiters: vec![parent], counterparts });
        self.by_ref.insert(at, id);
        *self.pending(depth, at.0) += 1;
        self.add_missing(parent);
        match asks {
            true => self.to_ask[usize::from(self.prefixes && at.0 == Kind::Chunk)].push_back(id),
            false => self.lacking(id),
        }
    }

    /// The receiver lacks this object.
    fn lacking(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.at.0.is_node() {
            task.state = State::Lacking;
            self.levels[task.depth].lacking.push_back(id);
        } else {
            task.state = State::Ready;
            self.ready.push_back(id);
        }
    }

    /// The next name of an open node, and whether it is the last.
    fn next_unasked(&mut self, parent: TaskId) -> Option<(Fresh, bool)> {
        let State::Open { unasked, .. } = &mut self.tasks.get_mut(&parent)?.state else { return None };
        let fresh = unasked.pop_front()?;
        Some((fresh, unasked.is_empty()))
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
            if lacking {
                self.lacking(id);
            } else {
                self.forget_known(id);
            }
        }
        Ok(answered)
    }

    fn forget_known(&mut self, id: TaskId) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.by_ref.remove(&task.at);
        *self.pending(task.depth, task.at.0) -= 1;
        self.known.insert(task.at);
        self.satisfy(&task.waiters);
    }

    /// The next nodes to expand, the deepest first.
    pub fn next_expand(&mut self) -> Option<Vec<(TaskId, Ref, Counterparts)>> {
        let mut batch = Vec::new();
        while batch.len() < EXPAND_BATCH && self.expanding < EXPANDING_MAX {
            let deepest = self.level_to_expand(self.is_stuck());
            let Some(id) = deepest.and_then(|depth| self.levels[depth].lacking.pop_front()) else { break };
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.state = State::Expanding;
            self.levels[task.depth].open += 1;
            self.expanding += 1;
            batch.push((id, task.at, task.counterparts.clone()));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Takes what a node refers to and the base does not.
    pub fn expanded(&mut self, id: TaskId, expansion: Expansion) -> Result<(), Astray> {
        self.expanding -= 1;
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        if task.depth >= DEPTH_MAX && !expansion.fresh.is_empty() {
            return Err(Astray::Depth);
        }
        let (depth, fresh) = (task.depth, expansion.fresh.len());
        task.state = State::Open { unasked: expansion.fresh.into(), missing: 0 };
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
        let complete = matches!(&task.state, State::Open { unasked, missing: 0 } if unasked.is_empty());
        if complete {
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
        let (kind, ask, depth, waiters) = (task.at.0, task.ask, task.depth, std::mem::take(&mut task.waiters));
        *self.pending(depth, kind) -= 1;
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
        }
    }

    /// Objects that this walk holds in memory.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        let unasked: usize = self.levels.iter().map(|level| level.unasked).sum();
        self.tasks.len() + unasked
    }
}
