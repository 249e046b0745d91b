//! What this box does for peers: keeps their snapshots as replicas, and keeps their records.

use std::collections::BTreeSet;
use std::sync::Arc;

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetRow, SnapshotRow};
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::DatasetId;
use narrowboat_wan::heal::{Healer, StoreHealer};
use narrowboat_wan::link::Host;
use narrowboat_wan::peer::PeerRecord;
use narrowboat_wan::shape::Rate;
use narrowboat_wan::sync::{
    Admission, Failure, Hello, OwnSnapshots, Replication, Report, Sink, SnapshotOffer, StoreSink,
};

use crate::caps::{Caps, Way};
use crate::clock;
use crate::config::Config;
use crate::ledger;
use crate::refusals::Refusals;

/// The part of a box that peers meet.
pub struct Replicas {
    store: Arc<Store>,
    caps: Arc<Caps>,
    refusals: Arc<Refusals>,
    /// Names of peers that may pass on what others made.
    forwarders: BTreeSet<String>,
    /// Whether peers prove to have what they do not send.
    proofs: bool,
}

impl Replicas {
    /// Keeps what peers send in `store`, sends to them under `caps`, and notes what they are refused.
    pub fn new(store: Arc<Store>, caps: Arc<Caps>, refusals: Arc<Refusals>, config: &Config) -> Self {
        let forwards = config.peer.iter().filter(|(_, rules)| rules.forwards);
        let forwarders = forwards.map(|(name, _)| name.clone()).collect();
        Replicas { store, caps, refusals, forwarders, proofs: config.wan.require_proofs }
    }
}

impl Replicas {
    /// Notes once that the maker of a replica has sent it itself.
    fn note_maker(&self, peer: &PeerRecord, dataset: DatasetId) {
        let setting = from_maker(dataset);
        let is_maker = self.store.dataset_row(dataset).is_some_and(|row| row.origin == Some(peer.store));
        if is_maker
            && self.store.setting(&setting).is_none()
            && let Err(error) = self.store.set_setting(&setting, Some(peer.store.to_string().as_bytes()), clock::now())
        {
            tracing::warn!(%error, "who has sent a replica could not be noted");
        }
    }
}

/// What goes in front of the names of a peer's datasets here.
fn prefix(peer: &PeerRecord) -> String {
    format!("{}/", peer.name)
}

/// What one peer may publish: what its own store made, and, where it was said so, what it keeps for other boxes. That goes under
/// its name, never into what came from elsewhere: who forwards could have changed it. And never beside what its maker publishes
/// here itself, as long as that is a peer of this box; only what the maker has published may be said again.
struct Publishing {
    store: Arc<Store>,
    prefix: String,
    forwards: bool,
}

impl Admission for Publishing {
    fn admit(&self, peer: &Hello, snapshot: &SnapshotOffer) -> Result<()> {
        let here = format!("{}{}", self.prefix, snapshot.dataset_name);
        // Also one that was deleted here: what arrives for it would bring it back.
        let row = self.store.kept_row(snapshot.dataset);
        if row.is_none() {
            // Before anything is sent: a name that can't be is better told now.
            Store::check_replica_name(&here)?;
        }
        if OwnSnapshots.admit(peer, snapshot).is_ok() {
            return Ok(());
        }
        let refused = |why: String| Err(Refusal::Invalid(why).into());
        let name = &snapshot.dataset_name;
        if !self.forwards {
            return refused(format!(
                "{name} was made by another box: its snapshots are taken from you where `forwards = true` stands under your \
                 name in the config file of the box that receives them"
            ));
        }
        match row {
            _ if snapshot.source == self.store.id() => {
                refused(format!("{name} was made by the box that you send it to"))
            }
            Some(_) if self.is_here(snapshot) => Ok(()),
            Some(row) if !row.name.starts_with(&self.prefix) => {
                refused(format!("{name} comes to the box that you send it to from elsewhere already"))
            }
            Some(row) if maker_sends(&self.store, &row) => refused(format!(
                "{name} comes to the box that you send it to from the box that made it: what you have of it is not taken any more"
            )),
            _ => Ok(()),
        }
    }
}

impl Publishing {
    /// Is just this snapshot, with this root, here already?
    fn is_here(&self, offer: &SnapshotOffer) -> bool {
        let snapshots = self.store.snapshots(Some(offer.dataset));
        let is_same = |known: &SnapshotRow| {
            known.id == offer.snapshot && known.sealed.is_some_and(|sealed| sealed.root == offer.root)
        };
        snapshots.iter().any(is_same)
    }
}

/// The name of the setting that says that a replica's maker has sent it here itself; its value is the maker's store.
fn from_maker(dataset: DatasetId) -> String {
    format!("replica.{dataset}.from-maker")
}

/// Has the maker of a replica sent it here itself, and is it a peer still?
fn maker_sends(store: &Store, row: &DatasetRow) -> bool {
    let is_maker = |peer: &PeerRecord| Some(peer.store) == row.origin;
    store.setting(&from_maker(row.id)).is_some() && peers(store).iter().any(is_maker)
}

/// Has this peer sent all that a replica has? What its maker sends here itself is none of a forwarder's.
pub fn has_published(store: &Store, peer: &PeerRecord, row: &DatasetRow) -> bool {
    let forwarded = || row.name.starts_with(&prefix(peer)) && store.setting(&from_maker(row.id)).is_none();
    row.origin == Some(peer.store) || row.origin.is_some() && forwarded()
}

/// Forgets who has sent a dataset that is there no more.
pub fn forget(store: &Store, dataset: DatasetId) -> Result<()> {
    let setting = from_maker(dataset);
    if store.setting(&setting).is_some() { store.set_setting(&setting, None, clock::now()) } else { Ok(()) }
}

impl Host for Replicas {
    fn sink(&self, peer: &PeerRecord) -> Result<Arc<dyn Sink>> {
        let sink = StoreSink::new(self.store.clone(), prefix(peer), Arc::new(clock::now));
        Ok(Arc::new(sink.passed_on_by(peer.store)))
    }

    fn admission(&self, peer: &PeerRecord) -> Arc<dyn Admission> {
        let forwards = self.forwarders.contains(peer.name.as_str());
        Arc::new(Publishing { store: self.store.clone(), prefix: prefix(peer), forwards })
    }

    fn healer(&self, peer: &PeerRecord) -> Option<Arc<dyn Healer>> {
        let (store, peer, proofs) = (self.store.clone(), peer.clone(), self.proofs);
        let entitled = move |dataset: &DatasetRow, snapshot: &SnapshotRow| {
            // What was published without a proof may be made of what others have.
            proofs && has_published(&store, &peer, dataset)
                || ledger::given(&store, peer.name.as_str(), &dataset.id).contains(&snapshot.id)
        };
        Some(Arc::new(StoreHealer::new(self.store.clone(), Box::new(entitled))))
    }

    fn pin(&self, peer: &PeerRecord) -> Result<()> {
        for (name, bytes) in self.store.peers() {
            let Ok(known) = PeerRecord::decode(&bytes) else { continue };
            if known.id != peer.id {
                continue;
            }
            let renamed = known.name != peer.name;
            // A new store has nothing of what the one before it proved to have; nor has who gets a name that is free now.
            if renamed || known.store != peer.store {
                ledger::forget_all(&self.store, &name, clock::now())?;
            }
            if renamed {
                self.store.set_peer(&name, None, clock::now())?;
            }
        }
        self.store.set_peer(peer.name.as_str(), Some(&peer.encode()), clock::now())
    }

    fn cap(&self, peer: &PeerRecord) -> Option<Rate> {
        self.caps.limit_at(Way::Sent, Some(peer), clock::wall())
    }

    fn refused(&self, peer: &PeerRecord, why: &str) {
        self.refusals.note(peer, why);
    }

    fn received(&self, peer: &PeerRecord, outcome: Result<(), &Failure>, report: &Report) {
        if outcome.is_ok() {
            self.note_maker(peer, report.dataset);
        }
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

/// Refuses to send a dataset to the peer that it came from.
pub fn refuse_return(row: &DatasetRow, peer: &str) -> Result<()> {
    match row.origin.is_some() && row.name.starts_with(&format!("{peer}/")) {
        true => Err(Refusal::Invalid(format!("{} came from {peer}, and is there", row.name)).into()),
        false => Ok(()),
    }
}

/// What has to be sent for a snapshot of this store, sealed for it if need be. That of a replica is passed on as it is.
pub fn replication(store: &Store, dataset: &str, snapshot: &str) -> Result<Replication> {
    Replication::of(store, store.snapshot_named(dataset, snapshot)?.id)
}
