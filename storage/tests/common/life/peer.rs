//! Another box, to which the store sends its snapshots.

use std::sync::Arc;

use narrowboat_storage::catalogue::SnapshotRow;
use narrowboat_storage::id::{IdSource, SnapshotId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Result, Store, StoreOptions};

use super::super::common::small;
use super::super::sending::Sending;
use super::super::world::{Image, image};

pub struct Peer {
    store: Store,
    sending: Option<(Sending, Image)>,
    /// What was shown, and what it holds.
    shown: Vec<(SnapshotId, Image)>,
}

impl Peer {
    pub fn new(seed: u64) -> Peer {
        let options = StoreOptions { ids: IdSource::seeded(seed ^ 1 << 51), ..small() };
        let (store, _) = Store::open(Arc::new(SimDisk::new(seed)), options).expect("an empty disk");
        Peer { store, sending: None, shown: Vec::new() }
    }

    pub fn is_idle(&self) -> bool {
        self.sending.is_none()
    }

    /// How many snapshots arrived.
    pub fn shown(&self) -> u64 {
        self.shown.len() as u64
    }

    /// Has a snapshot that holds `image` sent to it.
    pub fn begin(&mut self, from: &Store, snapshot: &SnapshotRow, image: Image, now: Timestamp) -> Result<()> {
        if self.shown.iter().any(|(id, _)| *id == snapshot.id) {
            return Ok(());
        }
        self.sending = Some((Sending::begin(from, &self.store, snapshot, now)?, image));
        Ok(())
    }

    pub fn take(&mut self, from: &Store, steps: u64, now: Timestamp) -> Result<()> {
        for _ in 0..steps {
            let Some((sending, _)) = &mut self.sending else { return Ok(()) };
            if sending.step(from, &self.store, now)?
                && let Some((sending, image)) = self.sending.take()
            {
                self.shown.push((sending.row().id, image));
            }
        }
        Ok(())
    }

    /// The line breaks: what is on its way is begun anew, if at all.
    pub fn hang_up(&mut self) {
        self.sending = None;
    }

    /// What was shown reads as it was.
    pub fn expect_all(&self) {
        for (id, known) in &self.shown {
            let found = image(&*self.store.snapshot_tree(*id).expect("what was shown stays"));
            assert!(found == *known, "what was sent as {id} is something else");
        }
    }
}
