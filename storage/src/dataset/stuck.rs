//! A dataset whose layers can't be merged, because of what is damaged below them.
//!
//! Such layers stay in memory until what is damaged is there again. If they counted as what waits for the pump, writers of every
//! dataset would wait for the one that can't be drained. So the dataset is marked: its layers are taken out of what writers are
//! paced and bounded by ([`Pressure`](crate::pressure::Pressure)), it takes new changes for one layer more at the most, and
//! from then on answers them with the damage. Reading goes on, and so does everything that makes stable what was accepted.
//!
//! The mark is in memory alone: a store that is opened again finds the damage again. It goes with the first step that succeeds.

use std::sync::RwLockWriteGuard;

use super::live::Dataset;
use super::state::State;
use crate::error::{Damage, Error, Result};
use crate::units::Timestamp;

/// A dataset that is stuck is tried again after this time: it costs as much as merging all that lies before the damage.
const RETRY_NANOSECONDS: u64 = 30_000_000_000;

/// Why a dataset can't be drained.
#[derive(Clone, Debug)]
pub(crate) struct Stuck {
    damage: Damage,
    /// When the pump has tried last; `None` where it was somebody else.
    tried: Option<Timestamp>,
}

impl State {
    /// Memory of all layers.
    pub fn memory_bytes(&self) -> u64 {
        self.layers().map(|layer| layer.memory_bytes()).sum()
    }

    /// Refused where the layers can't be drained and hold `bound` bytes or more.
    fn refuse_if_stuck(&self, bound: u64) -> Result<()> {
        match &self.stuck {
            Some(stuck) if self.memory_bytes() >= bound => Err(stuck.damage.clone().into()),
            _ => Ok(()),
        }
    }
}

impl Dataset {
    /// Marks the dataset where a step of it ended in damage.
    pub fn stick(&self, error: &Error) {
        let Error::Damage(damage) = error else { return };
        let mut state = self.write_state();
        // Deleted meanwhile: it has no layers any more.
        if state.shut.is_some() {
            return;
        }
        let tried = match state.stuck.take() {
            Some(before) => before.tried,
            None => {
                self.stages.pressure.set_aside(0, state.memory_bytes());
                None
            }
        };
        state.stuck = Some(Stuck { damage: damage.clone(), tried });
    }

    /// Notes that the pump has tried at `now`; the damage that it met, if it met any.
    pub fn tried(&self, now: Timestamp) -> Option<Damage> {
        // Whoever is not stuck is not kept from writing for this.
        self.read_state().stuck.as_ref()?;
        let mut state = self.write_state();
        let stuck = state.stuck.as_mut()?;
        stuck.tried = Some(now);
        Some(stuck.damage.clone())
    }

    /// The damage that keeps the dataset from being drained, where it is too early to try again.
    pub fn stuck_for_now(&self, now: Timestamp) -> Option<Damage> {
        let state = self.read_state();
        let stuck = state.stuck.as_ref()?;
        // A clock that was set back must not make it wait for ever.
        let early = stuck.tried.is_some_and(|tried| now.0.abs_diff(tried.0) < RETRY_NANOSECONDS);
        early.then(|| stuck.damage.clone())
    }

    /// Takes the mark away where nothing was left that could not be drained.
    pub fn not_stuck(&self) {
        if self.read_state().stuck.is_some() {
            self.unstick(&mut self.write_state());
        }
    }

    /// Takes the mark away: what the layers hold counts as that of others again.
    pub(crate) fn unstick(&self, state: &mut State) {
        if state.stuck.take().is_some() {
            self.stages.pressure.set_aside(state.memory_bytes(), 0);
        }
    }

    /// Tells the store's account of memory that the layers grew or shrank from `before` to `after` bytes.
    pub(crate) fn moved(&self, state: &State, before: u64, after: u64) {
        if state.stuck.is_some() {
            self.stages.pressure.set_aside(before, after);
        }
        self.stages.pressure.moved(before, after);
    }

    /// Lets new data of so many bytes in: refused where the dataset is stuck or the disk is nearly full, and waits where the pump
    /// has to catch up first.
    pub(super) fn admit(&self, len: u64) -> Result<()> {
        // Whoever is to be refused need not wait for others before.
        self.read_state().refuse_if_stuck(self.stages.pressure.options.freeze_bytes)?;
        self.stages.admit_data(len)
    }

    /// The state for a change that makes its layers larger; removing something does, too, until it is merged. Besides what
    /// [`Dataset::change_state`] refuses, refused with the damage where the layers can't be drained and hold as much as one may.
    pub(super) fn grow_state(&self) -> Result<RwLockWriteGuard<'_, State>> {
        let state = self.change_state()?;
        state.refuse_if_stuck(self.stages.pressure.options.freeze_bytes)?;
        Ok(state)
    }
}
