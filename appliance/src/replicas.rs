//! What this box does for peers: keeps their snapshots as replicas, and keeps their records.

use std::sync::Arc;

use narrowboat_storage::Store;
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_wan::link::Host;
use narrowboat_wan::peer::PeerRecord;
use narrowboat_wan::shape::Rate;
use narrowboat_wan::sync::{Admission, Failure, OwnSnapshots, Replication, Report, Sink, StoreSink};

use crate::caps::Caps;
use crate::clock;
use crate::plans;

/// The part of a box that peers meet.
pub struct Replicas {
    store: Arc<Store>,
    caps: Arc<Caps>,
}

impl Replicas {
    /// Keeps what peers send in `store`, and sends to them under `caps`.
    pub fn new(store: Arc<Store>, caps: Arc<Caps>) -> Self {
        Replicas { store, caps }
    }
}

impl Host for Replicas {
    fn sink(&self, peer: &PeerRecord) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(StoreSink::new(self.store.clone(), format!("{}/", peer.name), Arc::new(clock::now))))
    }

    fn admission(&self, _peer: &PeerRecord) -> Arc<dyn Admission> {
        Arc::new(OwnSnapshots)
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

    fn cap(&self, peer: &PeerRecord) -> Option<Rate> {
        self.caps.limit_at(Some(peer), clock::wall())
    }

    fn received(&self, peer: &PeerRecord, outcome: Result<(), &Failure>, report: &Report) {
        let (peer, snapshot, payload) = (peer.name.as_str(), report.snapshot, report.payload_bytes);
        match outcome {
            Ok(()) => {
                tracing::info!(peer, %snapshot, payload, "received a snapshot");
                if let Err(error) = plans::tidy_replica(&self.store, snapshot) {
                    tracing::warn!(peer, %snapshot, %error, "older snapshots by the peer's plans stay");
                }
            }
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

/// What has to be sent for a snapshot of this store, sealed for it if need be. Refused for replicas: a peer takes from
/// a box only what that box made.
pub fn replication(store: &Store, dataset: &str, snapshot: &str) -> Result<Replication> {
    if store.dataset_named(dataset)?.row.origin.is_some() {
        let why = format!("{dataset} is a replica itself: replicate it from the box that made it");
        return Err(Refusal::Invalid(why).into());
    }
    Replication::of(store, store.snapshot_named(dataset, snapshot)?.id)
}
