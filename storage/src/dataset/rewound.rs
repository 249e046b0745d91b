//! A dataset goes back to an earlier root, and what it takes to bring such a root about.

use std::sync::Arc;

use super::layer::Layer;
use super::live::Dataset;
use super::record::Record;
use super::state::{Base, State};
use super::tails::Tails;
use crate::error::{Refusal, Result};
use crate::units::Timestamp;

/// Keeps everybody from changing a dataset while this lives: they are told that it is busy.
pub(crate) struct Held {
    dataset: Arc<Dataset>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.dataset.write_state().held = false;
    }
}

impl Dataset {
    /// Lets nobody change anything until the result is dropped. Refused where that is so already.
    pub fn hold(self: &Arc<Self>) -> Result<Held> {
        self.refuse_if_read_only()?;
        let mut state = self.write_state();
        state.refuse_if_shut()?;
        if state.held {
            return Err(Refusal::Busy.into());
        }
        state.held = true;
        Ok(Held { dataset: self.clone() })
    }

    /// Brings what clients have written so far into the journal's order.
    pub fn settle_in_journal(&self, now: Timestamp) -> Result<()> {
        let mut state = self.change_state()?;
        self.journal_everything(&mut state, now)
    }

    /// Goes back to a root: one record in the journal, seen at once. The caller holds the dataset, has drained all of it, and
    /// keeps other drain steps away. Returns the base, of which the record must be made stable before it becomes the head.
    pub fn rewind_to(&self, root: Base, next_inode: u64, now: Timestamp) -> Result<Base> {
        let mut state = self.write_state();
        state.refuse_if_shut()?;
        if state.owes() {
            return Err(Refusal::Busy.into());
        }
        let next_inode = next_inode.max(state.next_inode);
        let lsn = self.append(&mut state, now, &Record::Rewound { root: root.root, next_inode }, Vec::new())?.lsn;
        let base = Base { root: root.root, lsn };
        self.show_rewound(&mut state, base, next_inode);
        drop(state);
        self.learn_size()?;
        Ok(base)
    }

    /// Drops all layers and stands on another root.
    pub(super) fn show_rewound(&self, state: &mut State, base: Base, next_inode: u64) {
        self.unstick(state);
        let mut active = Layer::behind(base.lsn, state.active.time);
        // The records of what goes stay in the journal.
        let frozen = state.frozen.iter().flat_map(|layer| layer.steps.iter());
        active.steps = frozen.chain(&state.active.steps).copied().collect();
        let frozen: u64 = state.frozen.drain(..).map(|layer| layer.memory_bytes()).sum();
        let dropped = std::mem::replace(&mut state.active, active);
        self.moved(state, dropped.memory_bytes() + frozen, 0);
        state.base = base;
        state.next_inode = state.next_inode.max(next_inode);
        state.unjournaled.clear();
        state.tails = Tails::default();
    }

    /// Ends the replay of a part of the journal, for a look at a moment: bytes that no record counted yet were not there.
    /// Unlike [`Dataset::replayed`] it leaves no trace.
    pub fn end_at_moment(&self) -> Result<()> {
        let mut state = self.write_state();
        self.drop_beyond_end(&mut state)?;
        state.unjournaled.clear();
        Ok(())
    }

    /// Merges all frozen layers, where nobody else knows of this dataset.
    pub fn drain_privately(&self) -> Result<()> {
        while let Some(drained) = self.drain_oldest()? {
            self.drained(&drained);
        }
        Ok(())
    }
}
