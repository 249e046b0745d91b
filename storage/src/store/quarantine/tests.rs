use std::sync::Arc;

use super::*;
use crate::catalogue::Policy;
use crate::id::IdSource;
use crate::media::SimDisk;
use crate::store::StoreOptions;
use crate::units::Lsn;

fn open(disk: &SimDisk, quarantine: Duration) -> Store {
    let ids = IdSource::seeded(disk.syncs());
    let options = StoreOptions { reserve_bytes: 1 << 20, quarantine, ids, ..StoreOptions::default() };
    Store::open(Arc::new(disk.clone()), options).expect("a sound disk").0
}

/// A dataset with so many snapshots, and another one.
fn big_and_other(store: &Store, snapshots: u128) {
    let dataset = store.create_share("big", Policy::Inline, Timestamp(1)).expect("room").row.id;
    store.create_share("other", Policy::Inline, Timestamp(1)).expect("room");
    let row = |nth: u128| SnapshotRow {
        id: SnapshotId(nth.to_le_bytes()),
        dataset,
        name: format!("s{nth}"),
        time: Timestamp(2),
        lsn: Lsn(1),
        sealed: Some(Sealed::default()),
        held: false,
    };
    let rows: Vec<Change> = (0..snapshots).map(|nth| Change::snapshot(&row(nth))).collect();
    for some in rows.chunks(SNAPSHOTS_TOGETHER) {
        let _administration = store.administration();
        store.administer(some, Timestamp(3)).expect("room");
    }
}

/// More than one record of the journal can hold, as quarters of an hour make in half a year.
#[test]
fn a_dataset_with_thousands_of_snapshots_leaves_the_quarantine() {
    let store = open(&SimDisk::new(1), Duration::from_secs(10));
    big_and_other(&store, 16_500);
    store.delete_dataset("big", Timestamp(4)).expect("nothing is locked");
    store.delete_dataset("other", Timestamp(4)).expect("nothing is locked");
    store.run_on(Duration::from_secs(1000), Timestamp(5)).expect("room");
    let emptied = store.expire_quarantine(Timestamp(6)).expect("room");
    assert_eq!((emptied.datasets.len(), store.quarantined().len()), (2, 0));
}

/// Between finding a snapshot and having it back it is given up, and another one is deleted that was called so: that is not what was asked for.
#[test]
fn what_is_had_back_is_what_was_found() {
    let quarantine = Duration::from_secs(1000);
    let options = StoreOptions { reserve_bytes: 1 << 20, quarantine, ..StoreOptions::default() };
    let store = Store::open(Arc::new(SimDisk::new(1)), options).expect("an empty disk").0;
    store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    store.create_snapshot("share", "monday", Timestamp(2)).expect("room");
    store.delete_snapshot("share", "monday", Timestamp(3)).expect("not held");
    let found = store.deleted_snapshot("share", "monday").expect("in quarantine");
    store.empty_quarantine(&|_| true, Timestamp(4)).expect("room");
    let other = store.create_snapshot("share", "monday", Timestamp(5)).expect("room").id;
    store.delete_snapshot("share", "monday", Timestamp(6)).expect("not held");
    let outcome = store.have_back(&found, Some("first"), Some(Sealed::default()), Timestamp(7));
    assert!(matches!(outcome, Err(Error::Refused(Refusal::NotFound(_)))), "{outcome:?}");
    assert!(store.snapshots(None).is_empty());
    let back = store.undelete_snapshot("share", &other.to_string(), Some("second"), Timestamp(8)).expect("by its id");
    assert_eq!((back.id, back.name.as_str()), (other, "second"));
    assert!(store.undelete_snapshot("share", &other.to_string(), None, Timestamp(9)).is_err(), "it is there");
}

/// It is looked at every few seconds: where nothing is due that waits for nobody who administers the store.
#[test]
fn what_is_not_due_costs_no_lock() {
    let store = open(&SimDisk::new(3), Duration::from_secs(10));
    big_and_other(&store, 10);
    store.delete_dataset("big", Timestamp(4)).expect("nothing is locked");
    std::thread::scope(|scope| {
        let administration = store.administration();
        let (sender, receiver) = std::sync::mpsc::channel();
        let store = &store;
        scope.spawn(move || sender.send(store.expire_quarantine(Timestamp(6))));
        let emptied = receiver.recv_timeout(Duration::from_secs(20));
        drop(administration);
        assert_eq!(emptied.expect("it waits for the administration").expect("room"), Emptied::default());
    });
    store.run_on(Duration::from_secs(1000), Timestamp(5)).expect("room");
    assert_eq!(store.expire_quarantine(Timestamp(6)).expect("room").datasets.len(), 1);
}

/// What can't go in one record goes at once all the same: a dataset that is there has all of its snapshots.
#[test]
fn a_power_cut_at_every_sync_of_a_deletion_for_good_leaves_all_or_nothing() {
    let disk = SimDisk::new(2);
    big_and_other(&open(&disk, Duration::ZERO), 2500);
    let mut half_gone = 0;
    for sync in 1.. {
        let disk = disk.fork(sync);
        let store = open(&disk, Duration::ZERO);
        disk.cut_power_at_sync(disk.syncs() + sync);
        let outcome = store.delete_dataset("big", Timestamp(4));
        drop(store);
        let cut = !disk.is_on();
        disk.cut_power_at_sync(0);
        disk.power_on();
        let store = open(&disk, Duration::ZERO);
        let snapshots = store.stages.catalogue.all_snapshots(None).len();
        if store.dataset_named("big").is_ok() {
            assert!(outcome.is_err() && snapshots == 2500, "sync {sync}: {snapshots} left, {outcome:?}");
            continue;
        }
        half_gone += u32::from(snapshots > 0 && snapshots < 2500);
        assert!(store.undelete_dataset("big", None, Timestamp(5)).is_err(), "sync {sync}: less of it came back");
        store.expire_quarantine(Timestamp(6)).expect("room");
        assert_eq!(store.stages.catalogue.all_snapshots(None).len(), 0, "sync {sync}");
        assert_eq!((store.quarantined().len(), store.datasets().expect("sound").len()), (0, 1), "sync {sync}");
        if !cut {
            break;
        }
    }
    assert!(half_gone > 0, "no cut came in between");
}
