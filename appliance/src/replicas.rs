//! What this box does for peers: keeps their snapshots as replicas, and keeps their records.

use std::sync::Arc;

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{self, Sealed};
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::name::Name;
use narrowboat_storage::store::ReplicaSnapshot;
use narrowboat_wan::link::Host;
use narrowboat_wan::peer::PeerRecord;
use narrowboat_wan::sync::{Admission, Failure, PoolSink, Replication, Report, Shelf, Sink};
use narrowboat_wan::wire::{DatasetKind, Hello, SnapshotOffer};

use crate::clock;

/// The part of a box that peers meet.
pub struct Replicas {
    store: Arc<Store>,
}

impl Replicas {
    /// Keeps what peers send in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Replicas { store }
    }
}

impl Host for Replicas {
    fn sink(&self, peer: &PeerRecord) -> Result<Arc<dyn Sink>> {
        let shelf = Arc::new(PeerShelf { store: self.store.clone(), peer: peer.clone() });
        // All that one peer sends lies together: a peer sends one snapshot at a time.
        let stream = self.store.stream(DatasetId(peer.store.0));
        Ok(Arc::new(PoolSink::new(self.store.pool().clone(), stream, shelf)))
    }

    fn admission(&self, peer: &PeerRecord) -> Arc<dyn Admission> {
        Arc::new(PeerShelf { store: self.store.clone(), peer: peer.clone() })
    }

    fn pin(&self, peer: &PeerRecord) -> Result<()> {
        let same_key = |record: &PeerRecord| record.id == peer.id && record.name != peer.name;
        for (name, bytes) in self.store.peers() {
            if PeerRecord::decode(&bytes).is_ok_and(|record| same_key(&record)) {
                self.store.set_peer(&name, None, clock::now())?;
            }
        }
        self.store.set_peer(peer.name.as_str(), Some(&peer.encode()), clock::now())
    }

    fn received(&self, peer: &PeerRecord, outcome: Result<(), &Failure>, report: &Report) {
        let (peer, snapshot, payload) = (peer.name.as_str(), report.snapshot, report.payload_bytes);
        match outcome {
            Ok(()) => tracing::info!(peer, %snapshot, payload, "received a snapshot"),
            Err(error) => tracing::warn!(peer, %snapshot, payload, %error, "a replication ended early"),
        }
    }
}

/// The peers in a store, those that can be read.
pub fn peers(store: &Store) -> Vec<PeerRecord> {
    let decode = |(name, bytes): (String, bytes::Bytes)| match PeerRecord::decode(&bytes) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::error!(name, %error, "the record of a peer can't be read; remove the peer and pair again");
            None
        }
    };
    store.peers().into_iter().filter_map(decode).collect()
}

/// One peer's snapshots in a store.
struct PeerShelf {
    store: Arc<Store>,
    peer: PeerRecord,
}

impl PeerShelf {
    /// The name that a dataset of this peer gets here.
    fn replica_name(&self, dataset: &str) -> String {
        format!("{}/{dataset}", self.peer.name)
    }

    /// A peer may publish what it made itself, in datasets that are replicas of its own store.
    fn check(&self, snapshot: &SnapshotOffer) -> Result<()> {
        if snapshot.source != self.peer.store {
            return Err(Refusal::Invalid("a peer may send only snapshots of its own store".into()).into());
        }
        match self.store.dataset_row(snapshot.dataset) {
            Some(row) if row.origin != Some(self.peer.store) => {
                Err(Refusal::Exists(format!("the dataset {} is not a replica of that peer here", row.name)).into())
            }
            _ => Ok(()),
        }
    }
}

impl Shelf for PeerShelf {
    fn newest_shared(&self, dataset: &DatasetId, offered: &[(SnapshotId, Name)]) -> Result<Option<(SnapshotId, Name)>> {
        Ok(self.store.newest_shared(*dataset, offered))
    }

    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        self.check(snapshot)?;
        let replica = ReplicaSnapshot {
            dataset: snapshot.dataset,
            dataset_name: self.replica_name(&snapshot.dataset_name),
            kind: match snapshot.kind {
                DatasetKind::Share => catalogue::DatasetKind::Share,
                DatasetKind::Volume => catalogue::DatasetKind::Volume,
            },
            size: snapshot.size,
            origin: snapshot.source,
            snapshot: snapshot.snapshot,
            name: snapshot.snapshot_name.clone(),
            time: snapshot.time,
            sealed: Sealed {
                root: snapshot.root,
                next_inode: snapshot.next_inode,
                logical_bytes: snapshot.logical_bytes,
                files: snapshot.files,
            },
        };
        self.store.publish(&replica, clock::now())
    }
}

impl Admission for PeerShelf {
    fn admit(&self, _peer: &Hello, snapshot: &SnapshotOffer) -> Result<()> {
        self.check(snapshot)
    }
}

/// What has to be sent for a snapshot of this store, sealed for it if need be, and which earlier ones a peer may have.
pub fn replication(store: &Store, dataset: &str, snapshot: &str) -> Result<Replication> {
    let info = store.dataset_named(dataset)?;
    let row = store.snapshot_named(dataset, snapshot)?;
    let sealed = store.seal(row.id)?;
    if info.row.origin.is_some() {
        return Err(Refusal::Invalid(format!("{dataset} is a replica itself; replicate it from where it was made")).into());
    }
    let earlier = store.snapshots(Some(info.row.id)).into_iter().rev().filter(|other| other.id != row.id);
    let bases = earlier.filter_map(|other| Some((other.id, other.sealed?.root?))).take(32).collect();
    let offer = SnapshotOffer {
        dataset: info.row.id,
        dataset_name: info.row.name,
        kind: match info.row.kind {
            catalogue::DatasetKind::Share => DatasetKind::Share,
            catalogue::DatasetKind::Volume => DatasetKind::Volume,
        },
        size: info.row.size,
        snapshot: row.id,
        snapshot_name: row.name,
        time: row.time,
        root: sealed.root,
        logical_bytes: sealed.logical_bytes,
        files: sealed.files,
        next_inode: sealed.next_inode,
        source: store.id(),
    };
    Ok(Replication { snapshot: offer, bases })
}
