//! Another box that sends its snapshots to a store, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use narrowboat_storage::catalogue::{DeletedBy, Policy};
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::id::{IdSource, SnapshotId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Result, Store, StoreOptions};

use super::common::{commit, create, noise, read, small, write};
use super::sending::Sending;

/// The box that sends.
pub struct Branch {
    store: Store,
    tree: Arc<dyn FileTree>,
    file: Inode,
    seed: u64,
    made: u64,
    /// A snapshot on its way, and what it holds.
    sending: Option<(Sending, Vec<u8>)>,
    /// What was shown, and what it holds.
    published: BTreeMap<SnapshotId, Vec<u8>>,
    shown: u64,
}

impl Branch {
    pub fn new(seed: u64) -> Branch {
        // Ids of its own: those of the store that it sends to follow from what happened there.
        let options = StoreOptions { ids: IdSource::seeded(seed ^ 1 << 50), ..small() };
        let (store, _) = Store::open(Arc::new(SimDisk::new(seed)), options).expect("an empty disk");
        let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
        let tree = store.tree(share.row.id).expect("just created");
        let file = create(&*tree, Inode::ROOT, "file", 2);
        write(&*tree, file, 0, &noise(seed, 900_000), 3);
        commit(&*tree, file).expect("a sound disk");
        Branch { store, tree, file, seed, made: 0, sending: None, published: BTreeMap::new(), shown: 0 }
    }

    /// How many snapshots arrived.
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// Takes up to `steps` steps of sending, and begins with the next snapshot when one has arrived. After an error it can be
    /// called again; what the store was about to do then may have happened.
    pub fn send(&mut self, to: &Store, steps: u64, now: Timestamp) -> Result<()> {
        for _ in 0..steps {
            if self.sending.is_none() {
                self.begin(to, now)?;
            } else {
                self.step(to, now)?;
            }
        }
        Ok(())
    }

    /// Brings what is on its way to its end.
    pub fn finish(&mut self, to: &Store, now: Timestamp) {
        for _ in 0..20_000 {
            if self.sending.is_none() {
                return;
            }
            self.step(to, now).expect("a sound disk");
        }
        panic!("a snapshot that never arrives: {:?}", self.sending.as_ref().and_then(|(sending, _)| sending.refused()));
    }

    fn begin(&mut self, to: &Store, now: Timestamp) -> Result<()> {
        self.made += 1;
        let seed = self.seed ^ self.made << 8;
        // Every third time what was there long ago comes back: a store may have it as garbage.
        let data = noise(if self.made.is_multiple_of(3) { self.seed } else { seed }, 300_000);
        write(&*self.tree, self.file, (self.made % 4) * 150_000, &data, 4);
        commit(&*self.tree, self.file).expect("a sound disk");
        let row = self.store.create_snapshot("share", &format!("s{}", self.made), Timestamp(5)).expect("room");
        let sending = Sending::begin(&self.store, to, &row, now)?;
        self.sending = Some((sending, read(&*self.tree, self.file)));
        // What is old goes, so that there is something to reclaim.
        if self.published.len() > 2
            && let Some((oldest, _)) = self.published.pop_first()
        {
            to.delete_snapshot_by_id(oldest, DeletedBy::Retention, now)?;
        }
        Ok(())
    }

    fn step(&mut self, to: &Store, now: Timestamp) -> Result<()> {
        let Some((sending, _)) = &mut self.sending else { return Ok(()) };
        if sending.step(&self.store, to, now)?
            && let Some((sending, bytes)) = self.sending.take()
        {
            self.published.insert(sending.row().id, bytes);
            self.shown += 1;
        }
        Ok(())
    }

    /// What was shown is whole, and reads as it was sent.
    pub fn expect_all(&self, to: &Store) {
        for (id, bytes) in &self.published {
            let tree = to.snapshot_tree(*id).expect("what was shown stays");
            assert!(read(&*tree, self.file) == *bytes, "a received snapshot has other bytes");
        }
    }
}
