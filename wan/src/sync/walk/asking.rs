//! What a walk asks next, and what becomes an object of it.

use narrowboat_storage::name::Kind;

use super::super::diff::Fresh;
use super::super::tasks::{Question, State, Task, TaskId};
use super::{UNANSWERED_MAX, Walk};
use crate::wire::{ASK_NAMES_MAX, ASK_PREFIXES_MAX};

/// Fewer prefixes are not sent in one message while more are about to come.
const PREFIXES_MIN: usize = 1024;

/// The next name of an open node.
struct Unasked {
    fresh: Fresh,
    was_last: bool,
    is_guess: bool,
    is_hopeful: bool,
}

impl Walk {
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
        let (first, mut names) = (self.next_ask, Vec::new());
        while names.len() < max
            && let Some(id) = self.to_ask[usize::from(by_prefix)].pop_front()
        {
            if self.forget_orphan(id) {
                continue;
            }
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.ask = Some(self.next_ask);
            self.next_ask += 1;
            self.unanswered.push_back(id);
            names.push(task.at);
        }
        (!names.is_empty()).then_some(Question { first, names, by_prefix })
    }

    /// True where an object is not to be asked after all: all that refers to it turned out to be known.
    fn forget_orphan(&mut self, id: TaskId) -> bool {
        let is_orphan = |task: &&Task| !task.waiters.iter().any(|waiter| self.tasks.contains_key(waiter));
        if self.tasks.get(&id).filter(is_orphan).is_none() {
            return false;
        }
        self.remove_unshipped(id);
        true
    }

    /// Forgets an object that is not to be shipped.
    pub(super) fn remove_unshipped(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.by_ref.remove(&task.at);
        self.ends(task.depth, task.at.0);
        self.guess.answered(usize::from(task.is_guess && task.is_awaited));
        self.drop_hopes(task.depth);
        Some(task)
    }

    /// The first of the hopeful nodes of a level is one still.
    pub(super) fn drop_hopes(&mut self, depth: usize) {
        let hopes =
            |id: &TaskId| self.tasks.get(id).is_some_and(|task| task.is_awaited && matches!(task.state, State::Asked));
        let level = &mut self.levels[depth];
        while level.hopeful.front().is_some_and(|id| !hopes(id)) {
            level.hopeful.pop_front();
        }
    }

    /// True where a fuller message costs no time: more names are on their way, and there is something else to do until then.
    fn more_prefixes_will_come(&self) -> bool {
        let busy = self.unanswered.len() + self.ready.len() + self.loading + self.shipped > 0;
        let coming = self.expanding > 0 || self.level_to_expand(false).is_some() || self.level_to_guess().is_some();
        self.to_ask[1].len() < PREFIXES_MIN && busy && coming
    }

    /// Asks what the first open node of a depth refers to, up to `max` names. A node is in `asking` exactly while it has
    /// names that were not asked.
    fn ask_below(&mut self, depth: usize, max: usize) {
        let Some(&parent) = self.levels[depth].asking.front() else { return };
        let room = self.ahead.saturating_sub(self.levels[depth + 1].pending);
        let room = room.min(self.chunks_ahead.saturating_sub(self.chunks_pending)).clamp(1, max);
        for _ in 0..room {
            let Some(Unasked { fresh, was_last, is_guess, is_hopeful }) = self.next_unasked(parent) else { return };
            self.levels[depth].unasked -= 1;
            if self.await_object(parent, &fresh.at) {
                self.guess.answered(usize::from(is_guess));
            } else {
                self.begin_task(fresh, depth + 1, parent, is_guess, is_hopeful);
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
    fn begin_task(&mut self, fresh: Fresh, depth: usize, parent: TaskId, is_guess: bool, is_hopeful: bool) {
        let Fresh { at, counterparts, is_new } = fresh;
        let asks = !is_new || self.known.forgot() || self.lately.has(&at);
        let id = self.next_task;
        self.next_task += 1;
        let task = Task {
            at,
            ask: None,
            depth,
            state: State::Asked,
            is_awaited: asks,
            is_guess: is_guess && asks,
            is_hopeful,
            parent: Some(parent),
            waiters: vec![parent],
            counterparts,
        };
        self.tasks.insert(id, task);
        self.by_ref.insert(at, id);
        self.begins(depth, at.0);
        self.add_missing(parent);
        if !asks {
            self.guess.answered(usize::from(is_guess));
            return self.lacking(id);
        }
        if at.0.is_node() && is_hopeful {
            self.levels[depth].hopeful.push_back(id);
        }
        self.to_ask[usize::from(self.prefixes && at.0 == Kind::Chunk)].push_back(id);
    }

    /// The receiver lacks this object.
    pub(super) fn lacking(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_awaited = false;
        let depth = task.depth;
        match task.state {
            State::Asked if task.at.0.is_node() => {
                task.state = State::Lacking;
                self.levels[depth].lacking.push_back(id);
            }
            State::Asked => {
                task.state = State::Ready;
                self.ready.push_back(id);
            }
            // It was expanded by guess.
            _ => self.close_if_complete(id),
        }
    }

    /// The next name of an open node.
    fn next_unasked(&mut self, parent: TaskId) -> Option<Unasked> {
        let State::Open { unasked, behind, guessed, .. } = &mut self.tasks.get_mut(&parent)?.state else { return None };
        let fresh = unasked.pop_front()?;
        let is_hopeful = *behind == 0;
        *behind = behind.saturating_sub(1);
        Some(Unasked { fresh, was_last: unasked.is_empty(), is_guess: *guessed, is_hopeful })
    }
}
