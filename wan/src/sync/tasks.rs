//! What a walk consists of: see [`super::walk`].

use std::collections::VecDeque;

use super::diff::{Counterparts, Fresh};
use super::seam::Ref;

/// A walk's own number for an object.
pub(super) type TaskId = u64;

/// An object from when it is to be asked until it is safe at the receiver.
#[derive(Debug)]
pub(super) struct Task {
    pub at: Ref,
    /// The number of its question; none where it was not asked, or not yet.
    pub ask: Option<u64>,
    pub depth: usize,
    pub state: State,
    /// True until it is known that the receiver lacks it.
    pub is_awaited: bool,
    /// Asked by guess: below a node that was awaited itself.
    pub is_guess: bool,
    /// May be expanded while it is awaited: it does not lie where the receiver had everything before a break.
    pub is_hopeful: bool,
    /// The node that first led to it.
    pub parent: Option<TaskId>,
    /// Nodes that cannot be shipped before this.
    pub waiters: Vec<TaskId>,
    pub counterparts: Counterparts,
}

/// How far an object is.
#[derive(Debug)]
pub(super) enum State {
    Asked,
    Lacking,
    Expanding,
    /// References not yet asked, and how many of those asked are neither shipped nor known.
    Open {
        unasked: VecDeque<Fresh>,
        missing: usize,
        /// So many of the first of those lie where the receiver had everything before a break.
        behind: usize,
        /// Expanded by guess, so that what it refers to counts as guessed.
        guessed: bool,
    },
    Ready,
    Loading,
    Shipped,
}

/// The objects of one depth.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Between asked and shipped. Chunks that are asked by prefix are counted elsewhere.
    pub pending: usize,
    /// Expanding, or open.
    pub open: usize,
    /// Names that open nodes have not asked yet.
    pub unasked: usize,
    /// Nodes that are to be expanded.
    pub lacking: VecDeque<TaskId>,
    /// Open nodes with names that were not asked yet.
    pub asking: VecDeque<TaskId>,
    /// Nodes that were asked and may be expanded while they are awaited; the first of them is one still.
    pub hopeful: VecDeque<TaskId>,
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
