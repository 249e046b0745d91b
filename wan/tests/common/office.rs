//! A box for tests: a store in memory, and what it was told.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use narrowboat_storage::error::Result;
use narrowboat_storage::id::StoreId;
use narrowboat_storage::name::Realm;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::heal::Healer;
use narrowboat_wan::link::{Host, Identity, Link, LinkConfig, LinkError};
use narrowboat_wan::peer::{PeerAddress, PeerRecord};
use narrowboat_wan::sync::seam::SnapshotOffer;
use narrowboat_wan::sync::{Admission, Failure, Replication, Report, Sink};

use crate::common::rng::Rng;
use crate::common::store::{MemoryStore, OwnOnly};
use crate::common::tree::{Dataset, Size, spans};

/// A box: a store in memory, and what it was told.
pub struct Office {
    number: u8,
    /// What the store's id is made of: the number, unless the box lies.
    claims: u8,
    realm: Realm,
    pub store: Arc<MemoryStore>,
    pub pinned: Mutex<Vec<PeerRecord>>,
    pub received: Mutex<Vec<(bool, Report)>>,
    pub refused: Mutex<Vec<String>>,
    /// What peers are healed from; nothing, as of an older box.
    pub healer: Mutex<Option<Arc<dyn Healer>>>,
}

impl Office {
    pub fn new(number: u8) -> Arc<Office> {
        Self::in_realm(number, Realm::published())
    }

    pub fn in_realm(number: u8, realm: Realm) -> Arc<Office> {
        Self::claiming(number, number, realm)
    }

    /// A box that says that it keeps the store of the box `claims`.
    pub fn claiming(claims: u8, number: u8, realm: Realm) -> Arc<Office> {
        let store = MemoryStore::new(&realm);
        Arc::new(Office {
            number,
            claims,
            realm,
            store,
            pinned: Mutex::default(),
            received: Mutex::default(),
            refused: Mutex::default(),
            healer: Mutex::default(),
        })
    }

    pub fn id(&self) -> StoreId {
        StoreId([self.claims; 16])
    }

    /// What it has, as it is stored.
    pub fn stored_bytes(&self) -> u64 {
        use narrowboat_wan::sync::Source;
        let stored = |(kind, name)| self.store.stored(kind, &name).unwrap().bytes.len() as u64;
        self.store.refs().into_iter().map(stored).sum()
    }

    /// What another box would have pinned of this one.
    pub fn record(&self, addresses: Vec<PeerAddress>) -> PeerRecord {
        PeerRecord {
            name: format!("box-{}", self.number).parse().unwrap(),
            id: Identity::from_seed([self.number; 32]).id(),
            addresses,
            realm: self.realm.id(),
            store: self.id(),
            paired_at: Timestamp::default(),
            limit: None,
        }
    }

    pub fn config(&self, listen: SocketAddr) -> LinkConfig {
        let identity = Identity::from_seed([self.number; 32]);
        let name = format!("box-{}", self.number).parse().unwrap();
        let mut config = LinkConfig::new(listen, identity, name, self.realm.clone(), self.id(), spans);
        config.peers = self.pinned.lock().unwrap().clone();
        config.retry_for = Duration::from_secs(300);
        config.limits.window_bytes = 1 << 20;
        config
    }

    pub async fn open(self: &Arc<Self>, listen: SocketAddr) -> Link {
        let config = self.config(listen);
        for _ in 0..300 {
            match Link::bind(config.clone(), self.clone()).await {
                Ok(link) => return link,
                // quinn's tasks let go of the port a moment after the last handle.
                Err(LinkError::Bind { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("{listen} stays in use");
    }

    pub async fn open_anywhere(self: &Arc<Self>) -> Link {
        self.open(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }
}

impl Host for Office {
    fn sink(&self, _peer: &PeerRecord) -> Result<Arc<dyn Sink>> {
        Ok(self.store.clone())
    }
    fn admission(&self, _peer: &PeerRecord) -> Arc<dyn Admission> {
        Arc::new(OwnOnly)
    }
    fn pin(&self, peer: &PeerRecord) -> Result<()> {
        let mut pinned = self.pinned.lock().unwrap();
        pinned.retain(|known| known.id != peer.id);
        pinned.push(peer.clone());
        Ok(())
    }
    fn healer(&self, _peer: &PeerRecord) -> Option<Arc<dyn Healer>> {
        self.healer.lock().unwrap().clone()
    }
    fn refused(&self, _peer: &PeerRecord, why: &str) {
        self.refused.lock().unwrap().push(why.to_owned());
    }
    fn received(&self, _peer: &PeerRecord, outcome: std::result::Result<(), &Failure>, report: &Report) {
        self.received.lock().unwrap().push((outcome.is_ok(), report.clone()));
    }
}

/// A dataset of about `megabytes` that does not compress.
pub fn dataset(seed: u64, megabytes: u64) -> (Dataset, Rng, Size) {
    let mut rng = Rng::new(seed);
    let size = Size { files: megabytes * 10, chunks_max: 12, chunk_bytes_max: 32 << 10 };
    (Dataset::random(&mut rng, size), rng, size)
}

pub fn replication(snapshot: &SnapshotOffer, earlier: &[&SnapshotOffer]) -> Replication {
    let bases = earlier.iter().rev().map(|base| (base.snapshot, base.root.unwrap())).collect();
    Replication { snapshot: snapshot.clone(), bases, mark: None, shared: None }
}
