//! The end of a life: everything that is on its way arrives, nothing but what can be reached is left, locks end, and all can be deleted.

use narrowboat_storage::catalogue::DeletedBy;

use super::super::garbage::{expect_all_reached, expect_nothing_left};
use super::Life;

impl Life {
    /// Ends whatever is wrong, and looks at everything for the last time.
    pub fn end(&mut self) {
        self.note("the end");
        while !self.fault.is_none() {
            self.bear();
        }
        self.lose_power();
        self.run = None;
        let now = self.world.now();
        // One more, so that nothing waits for a session that was broken off before it began.
        self.branch.send(self.world.store(), 1, now).expect("a sound disk");
        self.branch.finish(self.world.store(), now);
        expect_all_reached(self.world.store(), now);
        self.expect_counted();
        self.expect_all();
        self.delete_all();
    }

    /// What the store says of its room is what there is on the disk.
    fn expect_counted(&self) {
        let stats = self.world.store().stats().expect("a sound disk").pool;
        let disk = &self.world.disk;
        let files: Vec<_> = disk
            .paths()
            .into_iter()
            .filter(|path| path.starts_with("containers/") && !path.ends_with(".aside"))
            .collect();
        assert_eq!(stats.containers, files.len() as u64, "{files:?}");
        let bytes: u64 = files.iter().map(|path| disk.contents(path).expect("a file").len() as u64).sum();
        assert!(stats.stored_bytes <= bytes, "{} of {bytes}", stats.stored_bytes);
    }

    /// When all locks are over, everything can go, and goes.
    fn delete_all(&mut self) {
        const LONGER_THAN_ANY_LOCK: u64 = 1 << 20;
        self.world.run_for(LONGER_THAN_ANY_LOCK);
        let (store, now) = (self.world.store(), self.world.locks.ran as i64);
        let now = narrowboat_storage::units::Timestamp(now);
        for row in store.snapshots(None) {
            store.delete_snapshot_by_id(row.id, DeletedBy::Retention, now).expect("its time is over");
        }
        for dataset in store.dataset_rows() {
            store.delete_dataset(&dataset.name, now).expect("nothing is locked");
        }
        store.empty_quarantine(&|_| true, now).expect("a sound disk");
        expect_nothing_left(store, now);
        let left = store.stats().expect("a sound disk").pool;
        assert_eq!((left.objects, left.containers), (0, 0), "{left:?}");
    }
}
