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
use crate::wire::ASK_NAMES_MAX;

/// Most levels from the root to a chunk: a map tree and a sequence tree of 24 levels each.
pub(super) const DEPTH_MAX: usize = 48;
/// Objects of one depth between asked and shipped.
pub(super) const AHEAD: usize = 8192;
/// Nodes of one depth that wait for something below them.
const OPEN_MAX: usize = 4096;
/// Names asked and not yet answered.
const UNANSWERED_MAX: usize = 16 << 10;
/// Nodes that are being expanded at a time.
const EXPANDING_MAX: usize = 64;
/// Nodes in one request to expand.
const EXPAND_BATCH: usize = 16;

/// A walk's own number for an object.
pub(super) type TaskId = u64;

#[derive(Debug)]
struct Task {
    at: Ref,
    /// The number of its question; none where it was not asked.
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
    /// Between asked and shipped.
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
    unanswered: VecDeque<TaskId>,
    expanding: usize,
    ready: VecDeque<TaskId>,
    loading: usize,
    shipped: usize,
    /// Most objects of one depth between asked and shipped.
    ahead: usize,
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

/// What the receiver said of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// What was asked.
    pub kind: Kind,
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
            unanswered: VecDeque::new(),
            expanding: 0,
            ready: VecDeque::new(),
            loading: 0,
            shipped: 0,
            ahead: (names_max / (DEPTH_MAX + 1)).clamp(1, AHEAD),
            root_shipped: false,
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

    /// True where nothing moves that could make room, and nothing may: then, and only then, the bounds on each level
    /// give way. That takes nodes of one level that wait for nodes of a higher one in a circle of full levels.
    fn is_stuck(&self) -> bool {
        let moving = self.unanswered.len() + self.expanding + self.ready.len() + self.loading + self.shipped;
        let may_move = self.level_to_ask(false).is_some() || self.level_to_expand(false).is_some();
        moving == 0 && !may_move && !self.root_shipped
    }

    /// The deepest level with names to ask and room below.
    fn level_to_ask(&self, stuck: bool) -> Option<usize> {
        (0..DEPTH_MAX).rev().find(|depth| {
            let room = self.levels[depth + 1].pending < self.ahead;
            !self.levels[*depth].asking.is_empty() && (room || stuck)
        })
    }

    /// The deepest level with nodes to expand whose names could be asked soon.
    fn level_to_expand(&self, stuck: bool) -> Option<usize> {
        (0..=DEPTH_MAX).rev().find(|depth| {
            let level = &self.levels[*depth];
            let below = self.levels.get(depth + 1).map_or(0, |below| below.pending);
            let wanted = level.unasked + below < self.ahead && level.open < OPEN_MAX;
            !level.lacking.is_empty() && (wanted || stuck)
        })
    }

    /// The next names to ask, and the number of the first.
    pub fn next_ask(&mut self) -> Option<(u64, Vec<Ref>)> {
        let first = self.next_ask;
        let mut names = Vec::new();
        while names.len() < ASK_NAMES_MAX && self.unanswered.len() < UNANSWERED_MAX {
            let deepest = self.level_to_ask(self.is_stuck());
            let Some(depth) = deepest else { break };
            self.ask_below(depth, ASK_NAMES_MAX - names.len(), &mut names);
        }
        (!names.is_empty()).then_some((first, names))
    }

    /// Asks what the first open node of a depth refers to, up to `max` names. A node is in `asking` exactly while it has
    /// names that were not asked.
    fn ask_below(&mut self, depth: usize, max: usize, names: &mut Vec<Ref>) {
        let Some(&parent) = self.levels[depth].asking.front() else { return };
        let room = self.ahead.saturating_sub(self.levels[depth + 1].pending).clamp(1, max);
        for _ in 0..room {
            let Some((fresh, was_last)) = self.next_unasked(parent) else { return };
            self.levels[depth].unasked -= 1;
            if !self.await_object(parent, &fresh.at) {
                let at = fresh.at;
                if self.begin_task(fresh, depth + 1, parent) {
                    names.push(at);
                }
            }
            if was_last {
                self.levels[depth].asking.pop_front();
                self.close_if_complete(parent);
                return;
            }
        }
    }

    /// Makes a task of a reference; true where it is to be asked. What is new is lacking without a question, unless it may
    /// have been sent in this very session and forgotten.
    fn begin_task(&mut self, fresh: Fresh, depth: usize, parent: TaskId) -> bool {
        let Fresh { at, counterparts, is_new } = fresh;
        let asks = !is_new || self.known.forgot();
        let id = self.next_task;
        self.next_task += 1;
        let ask = asks.then_some(self.next_ask);
        self.tasks.insert(id, Task { at, ask, depth, state: State::Asked, waiters: vec![parent], counterparts });
        self.by_ref.insert(at, id);
        self.levels[depth].pending += 1;
        self.add_missing(parent);
        if asks {
            self.next_ask += 1;
            self.unanswered.push_back(id);
        } else {
            self.lacking(id);
        }
        asks
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
            answered.push(Answered { kind: task.at.0, lacking });
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
        self.levels[task.depth].pending -= 1;
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
        let (kind, ask, waiters) = (task.at.0, task.ask, std::mem::take(&mut task.waiters));
        self.levels[task.depth].pending -= 1;
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
