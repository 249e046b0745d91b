//! What this box does for peers: keeps their snapshots as replicas, and keeps their records.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Held by whoever notes who publishes what.
    noting: Arc<Mutex<()>>,
}

impl Replicas {
    /// Keeps what peers send in `store`, sends to them under `caps`, and notes what they are refused.
    pub fn new(store: Arc<Store>, caps: Arc<Caps>, refusals: Arc<Refusals>, config: &Config) -> Self {
        let forwards = config.peer.iter().filter(|(_, rules)| rules.forwards);
        let forwarders = forwards.map(|(name, _)| name.clone()).collect();
        let noting = Arc::default();
        Replicas { store, caps, refusals, forwarders, proofs: config.wan.require_proofs, noting }
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
        let row = self.store.row_with_deleted(snapshot.dataset);
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

/// The name of the setting that says which box has published all that a replica has: its key, or [`SEVERAL`].
fn published_by(dataset: DatasetId) -> String {
    format!("replica.{dataset}.published-by")
}

/// More than one box has published what a replica has.
const SEVERAL: &[u8] = b"several";

/// Notes who publishes a snapshot, before it is shown: so nothing is ever here whose publisher is not known. Calls come one after the other.
fn note_publisher(store: &Store, peer: &PeerRecord, offer: &SnapshotOffer) -> Result<()> {
    let row = store.row_with_deleted(offer.dataset);
    let is_maker = offer.source == peer.store && row.is_none_or(|row| row.origin == Some(offer.source));
    let from_maker = from_maker(offer.dataset);
    if is_maker && store.setting(&from_maker).is_none() {
        store.set_setting(&from_maker, Some(peer.store.to_string().as_bytes()), clock::now())?;
    }
    let kept = store.snapshots_with_deleted(Some(offer.dataset));
    if kept.iter().any(|known| known.id == offer.snapshot) {
        // Nothing comes to the replica by that.
        return Ok(());
    }
    let (setting, id) = (published_by(offer.dataset), peer.id.to_hex());
    match store.setting(&setting) {
        // What was here before is some other's, or nobody knows whose.
        None if !kept.is_empty() => Ok(()),
        None => store.set_setting(&setting, Some(id.as_bytes()), clock::now()),
        Some(known) if known == id.as_bytes() || known == SEVERAL => Ok(()),
        Some(_) => store.set_setting(&setting, Some(SEVERAL), clock::now()),
    }
}

/// Has this peer published all that a replica has? Its maker has, for all of it is the maker's own. Of another box it is known by its key: whoever gets
/// the name of one that was removed has published nothing.
fn has_published(store: &Store, peer: &PeerRecord, row: &DatasetRow) -> bool {
    let is_noted = || store.setting(&published_by(row.id)).is_some_and(|id| id == peer.id.to_hex());
    row.origin == Some(peer.store) || row.origin.is_some() && is_noted()
}

/// May this peer have what a replica has, because it came from there? For whoever looks whom to ask, which gives nobody a right: who is asked knows what it has.
pub fn comes_from(store: &Store, peer: &PeerRecord, row: &DatasetRow) -> bool {
    let forwarded = || row.name.starts_with(&prefix(peer)) && store.setting(&from_maker(row.id)).is_none();
    row.origin == Some(peer.store) || row.origin.is_some() && forwarded()
}

/// Forgets who has sent a dataset that is there no more.
pub fn forget(store: &Store, dataset: DatasetId) -> Result<()> {
    for setting in [from_maker(dataset), published_by(dataset)] {
        if store.setting(&setting).is_some() {
            store.set_setting(&setting, None, clock::now())?;
        }
    }
    Ok(())
}

/// Forgets what a peer has published that is none any more, or keeps another store: by having been here it has no right to anything.
pub fn forget_publisher(store: &Store, peer: &PeerRecord) -> Result<()> {
    let id = peer.id.to_hex();
    for (setting, value) in store.settings("replica.") {
        if setting.ends_with(".published-by") && value == id {
            store.set_setting(&setting, None, clock::now())?;
        }
    }
    Ok(())
}

impl Host for Replicas {
    fn sink(&self, peer: &PeerRecord) -> Result<Arc<dyn Sink>> {
        let sink = StoreSink::new(self.store.clone(), prefix(peer), Arc::new(clock::now));
        let (store, noting, publisher) = (self.store.clone(), self.noting.clone(), peer.clone());
        let before = move |offer: &SnapshotOffer| {
            let _one_after_the_other = noting.lock().unwrap_or_else(PoisonError::into_inner);
            note_publisher(&store, &publisher, offer)
        };
        Ok(Arc::new(sink.passed_on_by(peer.store).before_shown(Box::new(before))))
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
            if known.store != peer.store {
                forget_publisher(&self.store, &known)?;
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

#[cfg(test)]
mod tests {
    use narrowboat_storage::catalogue::{DatasetKind, Policy, Sealed};
    use narrowboat_storage::id::{SnapshotId, StoreId};
    use narrowboat_storage::units::Timestamp;
    use narrowboat_wan::heal::Below;
    use narrowboat_wan::link::Identity;

    use super::*;

    const MAKER: StoreId = StoreId([7; 16]);

    /// A box that is healed from, and the tree of an empty share in it.
    struct Vault {
        replicas: Replicas,
        empty: Sealed,
        _folder: tempfile::TempDir,
    }

    /// A box called `hub`: its key, and the store that it keeps.
    fn hub(key: u8, store: u8) -> PeerRecord {
        PeerRecord {
            name: "hub".parse().expect("a name"),
            id: Identity::from_seed([key; 32]).id(),
            addresses: Vec::new(),
            realm: [1; 16],
            store: StoreId([store; 16]),
            paired_at: Timestamp(1),
            limit: None,
        }
    }

    impl Vault {
        fn new() -> Vault {
            let folder = tempfile::tempdir().expect("a folder");
            let config = Config::default();
            let store = Arc::new(crate::node::open_store(folder.path(), &config).expect("a store").0);
            store.create_share("own", Policy::Inline, clock::now()).expect("a share");
            let own = store.create_snapshot("own", "empty", clock::now()).expect("a snapshot");
            let empty = store.seal(own.id).expect("a root");
            let caps = Arc::new(Caps::new(store.clone(), &config));
            let refusals = Arc::new(Refusals::new(store.clone()));
            let mut replicas = Replicas::new(store, caps, refusals, &config);
            replicas.proofs = true;
            Vault { replicas, empty, _folder: folder }
        }

        fn publish(&self, peer: &PeerRecord, snapshot: u8) {
            let offer = SnapshotOffer {
                dataset: DatasetId([3; 16]),
                dataset_name: "office".into(),
                kind: DatasetKind::Share,
                size: 0,
                snapshot: SnapshotId([snapshot; 16]),
                snapshot_name: format!("snapshot-{snapshot}"),
                time: Timestamp(snapshot.into()),
                root: self.empty.root,
                logical_bytes: 0,
                files: 0,
                next_inode: self.empty.next_inode,
                source: MAKER,
            };
            self.replicas.sink(peer).expect("a sink").publish(&offer).expect("shown");
        }

        /// Whether a peer is healed from a snapshot.
        fn heals(&self, peer: &PeerRecord, snapshot: u8) -> bool {
            let (dataset, snapshot) = (DatasetId([3; 16]), SnapshotId([snapshot; 16]));
            let below = Below { dataset, snapshot, root: self.empty.root.expect("a share has one") };
            self.replicas.healer(peer).expect("one that heals").may(&below).expect("a disk")
        }

        fn is_from_maker(&self) -> bool {
            self.replicas.store.setting(&from_maker(DatasetId([3; 16]))).is_some()
        }
    }

    #[test]
    fn who_gets_the_name_of_another_box_has_published_nothing() {
        let (vault, old, new) = (Vault::new(), hub(1, 11), hub(2, 12));
        vault.replicas.pin(&old).expect("paired");
        vault.publish(&old, 1);
        assert!(vault.heals(&old, 1) && !vault.heals(&new, 1) && !vault.is_from_maker());
        // Not even where it says to keep the same store, nor by what it publishes itself: it may be made of what is there.
        assert!(!vault.heals(&hub(2, 11), 1));
        vault.replicas.pin(&new).expect("paired");
        vault.publish(&new, 2);
        assert!(![1, 2].iter().any(|snapshot| vault.heals(&new, *snapshot) || vault.heals(&old, *snapshot)));
    }

    #[test]
    fn who_was_removed_or_keeps_another_store_has_published_nothing() {
        let (vault, old) = (Vault::new(), hub(1, 11));
        let anew = |peer: &PeerRecord| {
            vault.publish(peer, 1);
            vault.replicas.store.delete_dataset("hub/office", clock::now()).expect("deleted");
            for row in vault.replicas.store.empty_quarantine(&|_| true, clock::now()).expect("emptied").datasets {
                forget(&vault.replicas.store, row.id).expect("forgotten");
            }
            vault.publish(peer, 1);
            vault.heals(peer, 1)
        };
        vault.replicas.pin(&old).expect("paired");
        assert!(anew(&old));
        vault.replicas.pin(&old).expect("paired again");
        assert!(vault.heals(&old, 1));
        vault.replicas.pin(&hub(1, 12)).expect("paired with another store");
        assert!(!vault.heals(&hub(1, 12), 1));
        assert!(anew(&hub(1, 12)), "published again");
        forget_publisher(&vault.replicas.store, &hub(1, 12)).expect("removed");
        assert!(!vault.heals(&hub(1, 12), 1));
        vault.publish(&hub(1, 12), 1);
        assert!(!vault.heals(&hub(1, 12), 1), "nothing came by that");
    }

    #[test]
    fn what_its_maker_publishes_is_its_own() {
        let (vault, old) = (Vault::new(), hub(1, 11));
        let maker = PeerRecord { name: "maker".parse().expect("a name"), ..hub(3, 7) };
        vault.publish(&old, 1);
        assert!(vault.heals(&old, 1) && !vault.is_from_maker());
        vault.publish(&maker, 2);
        assert!(vault.is_from_maker() && vault.heals(&maker, 1) && vault.heals(&maker, 2));
        assert!(!vault.heals(&old, 1) && !vault.heals(&old, 2));
    }
}
