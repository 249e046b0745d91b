//! A [`Store`] at either end of a healing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetRow, SnapshotRow};
use narrowboat_storage::error::Result;
use narrowboat_storage::heal::{Healing, Limits, Step};
use narrowboat_storage::name::Name;
use narrowboat_storage::pool::{HeldTree, Stored};

use super::{Below, Healer, Need, Patient};
use crate::wire::SEEK_WAYS_MAX;

/// Nodes that are read before somebody may say that it is enough.
const NODES_PER_STEP: usize = 256;

/// A store that is healed from one peer: the trees of some snapshots, one after the other. A walk that was broken off, as by a line, goes on where it
/// was with the next conversation ([`StorePatient::again`]).
pub struct StorePatient {
    store: Arc<Store>,
    state: Mutex<State>,
}

struct State {
    candidates: VecDeque<Below>,
    /// The peer owes whether it gives this.
    asked: Option<Below>,
    /// What is walked.
    walked: Option<Below>,
    /// The peer of this conversation was not asked for what is walked.
    unasked: bool,
    healing: Healing,
    /// The tree that is walked stays, where it is here at all.
    held: Option<HeldTree>,
}

impl StorePatient {
    /// Heals what lies below these, in this order, as long as there is something to heal.
    pub fn new(store: Arc<Store>, candidates: Vec<Below>) -> StorePatient {
        let healing = Healing::new(Limits { asks: SEEK_WAYS_MAX, ..Limits::default() });
        let (candidates, asked, walked) = (candidates.into(), None, None);
        let state = State { candidates, asked, walked, unasked: false, healing, held: None };
        StorePatient { store, state: Mutex::new(state) }
    }

    /// The next conversation with the same peer goes on where the one before was broken off. What has come to be damaged since, where the walk
    /// has been, is left to the next walk.
    pub fn again(&self) {
        let mut state = self.state();
        if let Some(asked) = state.asked.take().filter(|asked| Some(*asked) != state.walked) {
            state.candidates.push_front(asked);
        }
        state.healing.ask_again();
        state.unasked = state.walked.is_some();
    }

    /// Objects that were stored anew, and their bytes.
    pub fn healed(&self) -> (u64, u64) {
        let state = self.state();
        (state.healing.healed(), state.healing.bytes())
    }

    /// True where a tree is being walked: there is something to go on with.
    pub fn is_under_way(&self) -> bool {
        self.state().walked.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Calls come one after the other; one that panicked ends the healing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Patient for StorePatient {
    fn next(&self) -> Result<Need> {
        let mut state = self.state();
        if let Some(walked) = state.walked.filter(|_| std::mem::take(&mut state.unasked)) {
            state.asked = Some(walked);
            return Ok(Need::Below(walked));
        }
        match state.healing.step(&self.store, NODES_PER_STEP)? {
            Step::Worked => return Ok(Need::Moment),
            Step::Ask(lost) => return Ok(Need::Seek(lost.into_iter().map(|lost| lost.way).collect())),
            Step::Done => (state.held, state.walked) = (None, None),
        }
        while let Some(below) = state.candidates.pop_front() {
            if state.healing.has_hope(&self.store) || self.store.is_torn(&below.root)? {
                state.asked = Some(below);
                return Ok(Need::Below(below));
            }
        }
        Ok(Need::Nothing)
    }

    fn known(&self, known: bool) -> Result<()> {
        let mut state = self.state();
        let Some(below) = state.asked.take() else { return Ok(()) };
        let goes_on = state.walked == Some(below);
        if !known || goes_on && self.store.snapshot_with_deleted(below.snapshot).is_none() {
            if goes_on {
                state.healing.leave();
                state.walked = None;
            }
            return Ok(());
        }
        state.held = self.store.pool().hold(&below.root).ok();
        if !goes_on {
            state.healing.begin(&self.store, below.dataset, below.root);
            state.walked = Some(below);
        }
        Ok(())
    }

    fn took(&self, stored: Option<Stored>) -> Result<()> {
        self.state().healing.took(&self.store, stored.as_ref())
    }

    fn end(&self) -> Result<()> {
        self.state().held = None;
        self.store.pool().sync()
    }
}

/// Whether a peer may have all that a snapshot has: it acknowledged having it, or published it here.
pub type Entitled = Box<dyn Fn(&DatasetRow, &SnapshotRow) -> bool + Send + Sync>;

/// A store that one peer is healed from.
pub struct StoreHealer {
    store: Arc<Store>,
    entitled: Entitled,
    held: Mutex<Option<HeldTree>>,
}

impl StoreHealer {
    /// Gives what lies below snapshots that the peer is entitled to, and nothing else.
    pub fn new(store: Arc<Store>, entitled: Entitled) -> StoreHealer {
        StoreHealer { store, entitled, held: Mutex::default() }
    }
}

impl Healer for StoreHealer {
    fn may(&self, below: &Below) -> Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        let Ok(snapshot) = self.store.snapshot(below.snapshot) else { return Ok(false) };
        let Some(dataset) = self.store.dataset_row(snapshot.dataset) else { return Ok(false) };
        let is_it =
            dataset.id == below.dataset && snapshot.sealed.is_some_and(|sealed| sealed.root == Some(below.root));
        if is_it && (self.entitled)(&dataset, &snapshot) {
            // What is not here whole gives nothing; nor what is being deleted.
            *held = self.store.pool().hold(&below.root).ok();
        }
        Ok(held.is_some())
    }

    fn at(&self, root: &Name, way: &[u32]) -> Result<Option<Stored>> {
        self.store.at_way(root, way)
    }
}
