//! Two boxes with real stores on simulated disks, a simulated line between them, and what each replication put on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_storage::error::Result;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::tree::spans;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{PressureOptions, Store, StoreOptions};
use narrowboat_wan::link::{Cancel, Host, Identity, Link, LinkConfig};
use narrowboat_wan::peer::{PeerAddress, PeerRecord};
use narrowboat_wan::shape::Rate;
use narrowboat_wan::sync::{Admission, Failure, OwnSnapshots, Replication, Report, Sink, StoreSink};

/// A box with a real store.
pub struct Keeper {
    number: u8,
    pub store: Arc<Store>,
}

impl Keeper {
    pub fn new(number: u8) -> Arc<Keeper> {
        let mut options = StoreOptions { reserve_bytes: 1 << 20, ..StoreOptions::default() };
        options.pool.container_bytes = 1 << 20;
        options.journal.segment_bytes = 4 << 20;
        options.pressure = PressureOptions {
            freeze_bytes: 4 << 20,
            block_bytes: 64 << 20,
            owed_bytes: 64 << 20,
            deferred_bytes: 64 << 20,
        };
        let disk = Arc::new(SimDisk::new(number.into())) as Arc<dyn Media>;
        Arc::new(Keeper { number, store: Arc::new(Store::open(disk, options).unwrap().0) })
    }

    fn identity(&self) -> Identity {
        Identity::from_seed([self.number; 32])
    }

    fn record(&self, addresses: Vec<PeerAddress>) -> PeerRecord {
        PeerRecord {
            name: format!("box-{}", self.number).parse().unwrap(),
            id: self.identity().id(),
            addresses,
            realm: self.store.realm().id(),
            store: self.store.id(),
            paired_at: Timestamp::default(),
            limit: None,
        }
    }

    fn open(self: &Arc<Self>, net: &SimNet, at: SocketAddr, peer: PeerRecord) -> Link {
        let name = format!("box-{}", self.number).parse().unwrap();
        let realm = self.store.realm().clone();
        let mut config = LinkConfig::new(at, self.identity(), name, realm, self.store.id(), spans);
        config.peers = vec![peer];
        Link::over(net.socket(at), config, self.clone()).unwrap()
    }
}

impl Host for Keeper {
    fn sink(&self, _peer: &PeerRecord) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(StoreSink::new(self.store.clone(), "branch/", Arc::new(|| Timestamp(1 << 40)))))
    }
    fn admission(&self, _peer: &PeerRecord) -> Arc<dyn Admission> {
        Arc::new(OwnSnapshots)
    }
    fn pin(&self, _peer: &PeerRecord) -> Result<()> {
        Ok(())
    }
    fn received(&self, _peer: &PeerRecord, _outcome: std::result::Result<(), &Failure>, _report: &Report) {}
}

/// What replicating a snapshot put on the wire, from the first packet until the line was quiet again, and its report.
pub struct Cost {
    pub report: Report,
    /// Each packet: when, counted from the beginning; whether it came back; its bytes.
    pub packets: Vec<(Duration, bool, u64)>,
}

impl Cost {
    pub fn bytes(&self) -> u64 {
        self.bytes_to(true) + self.bytes_to(false)
    }

    /// Those that went one way.
    pub fn bytes_to(&self, back: bool) -> u64 {
        self.packets.iter().filter(|(_, came_back, _)| *came_back == back).map(|(.., bytes)| bytes).sum()
    }
}

/// Two boxes that are connected.
pub struct Pair {
    pub net: SimNet,
    pub branch: Arc<Keeper>,
    here: SocketAddr,
    there: SocketAddr,
    pub link: Link,
    pub head: Arc<Keeper>,
    round_trip: Duration,
    made: i64,
    _head_link: Link,
}

impl Pair {
    /// A box that sends at most `limit`, and one that it sends to.
    pub async fn new(line: Line, limit: Option<Rate>) -> Pair {
        let net = SimNet::new(5);
        let round_trip = 2 * line.delay;
        let (branch, head) = (Keeper::new(1), Keeper::new(2));
        let [here, there] = [1, 2].map(super::at);
        net.connect(here, there, line);
        let head_link = head.open(&net, there, branch.record(Vec::new()));
        let link = branch.open(&net, here, PeerRecord { limit, ..head.record(vec![there.into()]) });
        Pair { net, branch, here, there, link, head, round_trip, made: 0, _head_link: head_link }
    }

    /// The next snapshot of a dataset of the branch, sealed.
    pub fn snapshot(&mut self, dataset: &str) -> Replication {
        self.made += 1;
        let (name, moment) = (format!("day {}", self.made), Timestamp(1_000_000_000 * (1 + self.made)));
        let row = self.branch.store.create_snapshot(dataset, &name, moment).unwrap();
        Replication::of(&self.branch.store, row.id).unwrap()
    }

    pub async fn replicate(&self, what: Replication) -> Cost {
        let began = self.net.now();
        let source = Arc::new(self.branch.store.pool().clone());
        let report = self.link.replicate("box-2", what, source, &Cancel::new(), |_| ()).await.unwrap();
        // Until everything is acknowledged, and before the connection is kept alive.
        tokio::time::sleep(8 * self.round_trip).await;
        let during = began..self.net.now();
        let one_way = |from, to, back| {
            let packets = self.net.wire(from, to).packets_within(during.clone());
            packets.into_iter().map(move |(at, bytes)| (at - during.start, back, bytes)).collect::<Vec<_>>()
        };
        let mut packets = one_way(self.here, self.there, false);
        packets.extend(one_way(self.there, self.here, true));
        packets.sort();
        Cost { report, packets }
    }
}
