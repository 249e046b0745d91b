//! A [`Store`] at either end: where objects are read and kept, what is offered, what is shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{Sealed, SnapshotRow};
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::{Pool, StreamId};
use narrowboat_storage::store::ReplicaSnapshot;
use narrowboat_storage::units::Timestamp;

use super::replication::Replication;
use super::seam::{Admission, Hello, Mark, Sink, Sketch, SnapshotOffer, Source, Stored};

impl Source for Pool {
    fn stored(&self, kind: Kind, name: &Name) -> Result<Stored> {
        self.read_stored(kind, name)
    }
    fn kept_since(&self, mark: &Mark, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        Pool::kept_since(self, mark, kind, names)
    }
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        Pool::read(self, kind, name)
    }
    fn sketches(&self, names: &[Name]) -> Result<Vec<Sketch>> {
        Pool::sketches(self, names)
    }
}

impl Replication {
    /// What it takes to replicate a snapshot of a store, from the store's [`Store::pool`]. Seals the snapshot if need
    /// be, which may take as long as draining does. Refused where there is no such snapshot.
    pub fn of(store: &Store, snapshot: SnapshotId) -> Result<Replication> {
        let sealed = store.seal(snapshot)?;
        let row = store.snapshot(snapshot)?;
        let dataset = store
            .dataset_row(row.dataset)
            .ok_or_else(|| Refusal::NotFound(format!("the dataset of snapshot {}", row.name)))?;
        let others: Vec<SnapshotRow> =
            store.snapshots(Some(row.dataset)).into_iter().filter(|other| other.id != snapshot).collect();
        Ok(Replication {
            snapshot: SnapshotOffer {
                dataset: dataset.id,
                dataset_name: dataset.name,
                kind: dataset.kind,
                // The snapshot's, which the volume may have outgrown.
                size: sealed.volume_bytes(dataset.kind),
                snapshot,
                snapshot_name: row.name,
                time: row.time,
                root: sealed.root,
                logical_bytes: sealed.logical_bytes,
                files: sealed.files,
                next_inode: sealed.next_inode,
                source: dataset.origin.unwrap_or_else(|| store.id()),
            },
            bases: bases(others, row.time),
            // Taken when the snapshot is sealed: all of it was there.
            mark: Some(store.pool().mark()),
            shared: None,
        })
    }
}

/// Snapshots that the receiver may have: the nearest in time to the one that is sent first.
fn bases(mut others: Vec<SnapshotRow>, time: Timestamp) -> Vec<(SnapshotId, Name)> {
    others.sort_by_key(|other| (other.time.0.abs_diff(time.0), other.id));
    others.into_iter().filter_map(|other| Some((other.id, other.sealed?.root?))).collect()
}

/// The time, from whoever may know it.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where the snapshots of one peer go: objects into the store's pool, on the stream of their dataset; snapshots among
/// its datasets, as replicas. One for each session.
pub struct StoreSink {
    store: Arc<Store>,
    clock: Clock,
    /// Put in front of a new replica's name.
    prefix: String,
    /// The peer's store, where what others made is not taken to be of a time to come.
    peer: Option<StoreId>,
    stream: AtomicU64,
    /// The dataset that is being sent, until the first object of it arrives.
    arriving: Mutex<Option<DatasetId>>,
    before: Option<BeforeShown>,
}

/// What is to be done, durably, before a snapshot is shown. Where it fails none is.
pub type BeforeShown = Box<dyn Fn(&SnapshotOffer) -> Result<()> + Send + Sync>;

/// How far ahead of this box's clock the time of a snapshot may be that is passed on.
const AHEAD_NANOSECONDS: i64 = 600 * 1_000_000_000;

impl StoreSink {
    /// New replicas are called `prefix` and their name at the peer: `branch-3/` keeps those of different peers apart.
    pub fn new(store: Arc<Store>, prefix: impl Into<String>, clock: Clock) -> Self {
        let stream = AtomicU64::new(StreamId::MISC.0);
        StoreSink { store, clock, prefix: prefix.into(), peer: None, stream, arriving: Mutex::default(), before: None }
    }

    /// Has this done before each snapshot is shown.
    #[must_use]
    pub fn before_shown(mut self, before: BeforeShown) -> Self {
        self.before = Some(before);
        self
    }

    /// What comes from this peer and was made by another box is not shown as of a time that is more than ten minutes ahead of this box's clock: it counts as of
    /// when it arrives, behind what is there. Otherwise the maker's own would not be the newest for as long, once it sends here itself; and a maker whose clock is ahead would
    /// be cut off from the far end of its chain.
    #[must_use]
    pub fn passed_on_by(mut self, peer: StoreId) -> Self {
        self.peer = Some(peer);
        self
    }

    /// The time that a snapshot is shown with.
    fn time_of(&self, snapshot: &SnapshotOffer) -> Timestamp {
        if self.peer.is_none_or(|peer| peer == snapshot.source) {
            return snapshot.time;
        }
        // Also one that was deleted here and can be had back: it comes back as it was.
        if let Some(known) = self.store.snapshot_with_deleted(snapshot.snapshot) {
            return known.time;
        }
        let now = (self.clock)();
        if snapshot.time.0.saturating_sub(now.0) <= AHEAD_NANOSECONDS {
            return snapshot.time;
        }
        let newest = self.store.snapshots(Some(snapshot.dataset)).iter().map(|row| row.time.0).max();
        newest.map_or(now, |newest| now.max(Timestamp(newest.saturating_add(1))))
    }
}

impl Sink for StoreSink {
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        self.store.pool().sound_batch(kind, names)
    }
    fn named_by_prefix(&self, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        self.store.pool().named_by_prefix(Kind::Chunk, prefixes)
    }
    fn verifies(&self) -> bool {
        true
    }
    fn fetch(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.store.pool().read(kind, name)
    }
    fn admit(&self, kind: Kind, name: &Name, object: Stored) -> Result<()> {
        self.store.admit_received(object.bytes.len() as u64)?;
        if let Some(dataset) = self.arriving.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // What arrives is named by nothing until the snapshot is shown, maybe weeks and many sessions later.
            self.store.begin_receiving(dataset, (self.clock)())?;
        }
        let stream = StreamId(self.stream.load(Ordering::Relaxed));
        self.store.pool().put_stored(stream, kind, name, &object).map(|_| ())
    }
    fn sync(&self) -> Result<()> {
        self.store.pool().sync()
    }
    fn newest_shared(
        &self,
        source: &StoreId,
        dataset: &DatasetId,
        offered: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>> {
        let row = self.store.dataset_rows().into_iter().find(|row| row.id == *dataset);
        if row.is_some_and(|row| row.origin != Some(*source)) {
            return Err(Refusal::NotPermitted.into());
        }
        *self.arriving.lock().unwrap_or_else(PoisonError::into_inner) = Some(*dataset);
        self.stream.store(self.store.stream(*dataset).0, Ordering::Relaxed);
        Ok(self.store.newest_shared(*dataset, offered))
    }
    fn shows(&self, dataset: &DatasetId, root: &Name) -> Result<bool> {
        let snapshots = self.store.snapshots(Some(*dataset));
        Ok(snapshots.iter().any(|row| row.sealed.is_some_and(|sealed| sealed.root == Some(*root))))
    }
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        let replica = ReplicaSnapshot {
            dataset: snapshot.dataset,
            dataset_name: format!("{}{}", self.prefix, snapshot.dataset_name),
            kind: snapshot.kind,
            size: snapshot.size,
            origin: snapshot.source,
            snapshot: snapshot.snapshot,
            name: snapshot.snapshot_name.clone(),
            time: self.time_of(snapshot),
            sealed: Sealed {
                root: snapshot.root,
                next_inode: snapshot.next_inode,
                logical_bytes: snapshot.logical_bytes,
                files: snapshot.files,
            },
        };
        self.before.as_ref().map_or(Ok(()), |before| before(snapshot))?;
        self.store.publish(&replica, (self.clock)())
    }
}

/// Allows a peer what its own store made, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnSnapshots;

impl Admission for OwnSnapshots {
    fn admit(&self, peer: &Hello, snapshot: &SnapshotOffer) -> Result<()> {
        if peer.store == snapshot.source {
            return Ok(());
        }
        Err(Refusal::NotPermitted.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use narrowboat_storage::StoreOptions;
    use narrowboat_storage::catalogue::{DatasetKind, Policy};
    use narrowboat_storage::media::SimDisk;

    use super::*;

    const MAKER: StoreId = StoreId([1; 16]);
    const HUB: StoreId = StoreId([2; 16]);
    const SECOND: i64 = 1_000_000_000;
    const DAY: i64 = 86_400 * SECOND;

    /// The far end of a chain, at a time that can be set. The tree of an empty share is there already.
    struct Vault {
        store: Arc<Store>,
        empty: Sealed,
        now: Arc<AtomicI64>,
    }

    impl Vault {
        fn new() -> Vault {
            let options = StoreOptions { reserve_bytes: 1 << 20, ..StoreOptions::default() };
            let store = Arc::new(Store::open(Arc::new(SimDisk::new(1)), options).expect("a store").0);
            store.create_share("own", Policy::Inline, Timestamp(1)).expect("a share");
            let own = store.create_snapshot("own", "empty", Timestamp(2)).expect("a snapshot");
            let empty = store.seal(own.id).expect("a root");
            Vault { store, empty, now: Arc::new(AtomicI64::new(100 * DAY)) }
        }

        /// What a snapshot that the maker took at `time` is shown with, once it has come from `peer`.
        fn shown(&self, peer: Option<StoreId>, number: u8, time: i64) -> i64 {
            let now = self.now.clone();
            let sink =
                StoreSink::new(self.store.clone(), "hub/", Arc::new(move || Timestamp(now.load(Ordering::Relaxed))));
            let sink = peer.into_iter().fold(sink, StoreSink::passed_on_by);
            let snapshot = SnapshotId([number; 16]);
            let offer = SnapshotOffer {
                dataset: DatasetId([7; 16]),
                dataset_name: "empty".into(),
                kind: DatasetKind::Share,
                size: 0,
                snapshot,
                snapshot_name: format!("snapshot-{number}"),
                time: Timestamp(time),
                root: self.empty.root,
                logical_bytes: 0,
                files: 0,
                next_inode: self.empty.next_inode,
                source: MAKER,
            };
            sink.publish(&offer).expect("shown");
            self.store.snapshot(snapshot).expect("it is there").time.0
        }
    }

    #[test]
    fn what_is_passed_on_is_not_of_a_time_to_come() {
        let vault = Vault::new();
        let now = 100 * DAY;
        assert_eq!(vault.shown(Some(HUB), 1, now - DAY), now - DAY, "of the past");
        assert_eq!(vault.shown(Some(HUB), 2, now + 600 * SECOND), now + 600 * SECOND, "clocks differ a little");
        // Behind what is there, in the order in which they come.
        let third = vault.shown(Some(HUB), 3, now + DAY);
        assert_eq!(third, now + 600 * SECOND + 1);
        assert_eq!(vault.shown(Some(HUB), 4, now + DAY + 1), third + 1);
        vault.now.store(now + DAY / 2, Ordering::Relaxed);
        let fifth = vault.shown(Some(HUB), 5, now + DAY + 2);
        assert_eq!(fifth, now + DAY / 2, "as of when it arrives");
        // What is shown keeps its time, however often it comes, and also when that time has come.
        vault.now.store(now + 2 * DAY, Ordering::Relaxed);
        assert_eq!(vault.shown(Some(HUB), 5, now + DAY + 2), fifth);
        assert_eq!(vault.shown(Some(HUB), 6, now + DAY + 3), now + DAY + 3);
    }

    #[test]
    fn what_was_deleted_and_is_passed_on_again_comes_back_with_its_time() {
        let vault = Vault::new();
        let now = 100 * DAY;
        for (number, delete_all) in [(1, false), (2, true)] {
            let ahead = now + i64::from(number) * DAY;
            let shown = vault.shown(Some(HUB), number, ahead);
            assert!(shown < ahead, "it is of a time to come");
            let dataset = vault.store.dataset_rows().into_iter().find(|row| row.origin.is_some()).expect("a replica");
            match delete_all {
                true => vault.store.delete_dataset(&dataset.name, Timestamp(now)).expect("deleted"),
                false => {
                    let name = format!("snapshot-{number}");
                    vault.store.delete_snapshot(&dataset.name, &name, Timestamp(now)).expect("deleted");
                }
            }
            vault.now.fetch_add(3600 * SECOND, Ordering::Relaxed);
            assert_eq!(vault.shown(Some(HUB), number, ahead), shown);
        }
    }

    #[test]
    fn what_its_maker_sends_keeps_the_makers_time() {
        let vault = Vault::new();
        let ahead = 200 * DAY;
        assert_eq!(vault.shown(Some(MAKER), 1, ahead), ahead);
        assert_eq!(vault.shown(None, 2, ahead + 1), ahead + 1);
    }
}
