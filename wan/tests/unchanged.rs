//! What it costs to find out that nothing changed: real stores with a share of a terabyte (all holes but for a page in each file), real links
//! and a line of 300 ms there and back, in simulated time. Every packet counts, both ways, headers and acknowledgements included.
//!
//! `cargo test -p narrowboat-wan --test unchanged -- --nocapture` prints what each of the days cost.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::simulate;
use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Call, Create, Credentials, SetAttributes};
use narrowboat_storage::error::Result;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::tree::spans;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{PressureOptions, Store, StoreOptions};
use narrowboat_wan::link::{Cancel, Host, Identity, Link, LinkConfig};
use narrowboat_wan::peer::{PeerAddress, PeerRecord};
use narrowboat_wan::sync::{Admission, Failure, OwnSnapshots, Replication, Report, Sink, StoreSink};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const ROUND_TRIP: Duration = Duration::from_millis(300);
const FILES: u64 = 1000;
const GIGABYTE: u64 = 1_000_000_000;
static ROOT: Credentials = Credentials::ROOT;

/// A box with a real store.
struct Office {
    number: u8,
    store: Arc<Store>,
}

impl Office {
    fn new(number: u8) -> Arc<Office> {
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
        Arc::new(Office { number, store: Arc::new(Store::open(disk, options).unwrap().0) })
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

impl Host for Office {
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

/// A share of a terabyte: files of a gigabyte, each with one page that nobody else has.
fn fill(store: &Store) {
    let mut rng = SmallRng::seed_from_u64(1);
    let share = store.create_share("archive", Policy::Inline, Timestamp(1)).unwrap();
    let tree = store.tree(share.row.id).unwrap();
    for number in 0..FILES {
        let call = Call { caller: &ROOT, now: Timestamp(2 + number as i64), tag: None };
        let how = Create::Guarded(SetAttributes { size: Some(GIGABYTE), ..SetAttributes::default() });
        let name = format!("{number:04}.img");
        let inode = tree.create(&call, Inode::ROOT, name.as_bytes(), &how).unwrap().file.inode;
        let mut page = vec![0; 4096];
        rng.fill(&mut page[..]);
        let place = rng.random_range(0..GIGABYTE - 4096);
        tree.write(&call, inode, place, Bytes::from(page)).unwrap();
    }
}

/// What replicating a snapshot put on the wire, from the first packet until the line was quiet again, and its report.
struct Cost {
    report: Report,
    /// Each packet: when, counted from the beginning; whether it came back; its bytes.
    packets: Vec<(Duration, bool, u64)>,
}

impl Cost {
    fn bytes(&self) -> u64 {
        self.packets.iter().map(|(_, _, bytes)| bytes).sum()
    }
}

/// Two boxes that are connected.
struct Pair {
    net: SimNet,
    branch: Arc<Office>,
    here: SocketAddr,
    there: SocketAddr,
    link: Link,
    head: Arc<Office>,
    _head_link: Link,
}

impl Pair {
    async fn new() -> Pair {
        let net = SimNet::new(5);
        let (branch, head) = (Office::new(1), Office::new(2));
        let [here, there] = [1, 2].map(common::at);
        net.connect(here, there, Line::new(20_000_000, ROUND_TRIP, 0.0));
        let head_link = head.open(&net, there, branch.record(Vec::new()));
        let link = branch.open(&net, here, head.record(vec![there.into()]));
        Pair { net, branch, here, there, link, head, _head_link: head_link }
    }

    fn snapshot(&self, day: i64) -> Replication {
        let moment = Timestamp(1_000_000 * (1 + day));
        let row = self.branch.store.create_snapshot("archive", &format!("day {day}"), moment).unwrap();
        Replication::of(&self.branch.store, row.id).unwrap()
    }

    async fn replicate(&self, what: Replication) -> Cost {
        let began = self.net.now();
        let source = Arc::new(self.branch.store.pool().clone());
        let report = self.link.replicate("box-2", what, source, &Cancel::new(), |_| ()).await.unwrap();
        // Until everything is acknowledged, and before the connection is kept alive.
        tokio::time::sleep(8 * ROUND_TRIP).await;
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

#[test]
fn an_unchanged_terabyte_costs_less_than_four_kilobytes_and_one_round_trip() {
    simulate(async {
        let pair = Pair::new().await;
        fill(&pair.branch.store);
        let first = pair.snapshot(1);
        assert_eq!(first.snapshot.logical_bytes, FILES * GIGABYTE);
        let cost = pair.replicate(first.clone()).await;
        assert!(cost.bytes() > 4096 && cost.report.chunks.sent >= FILES, "{:?}", cost.report);
        // The line's largest packet has been found by then.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut known = first;
        for day in 2..=40 {
            let mut what = pair.snapshot(day);
            assert_eq!(what.snapshot.root, known.snapshot.root);
            // By the ledger, and where that was lost: then up to 32 earlier snapshots are offered.
            let proved = day % 2 == 0;
            if proved {
                what.shared = Some((known.snapshot.snapshot, Arc::new(known.mark.clone().unwrap())));
            }
            let cost = pair.replicate(what.clone()).await;
            let (seconds, offered) = (cost.report.seconds, what.bases.len());
            println!(
                "day {day}, {offered} earlier ones: {} bytes in {} packets, {seconds:.3} s",
                cost.bytes(),
                cost.packets.len()
            );
            assert!(cost.report.published && cost.bytes() < if proved { 2048 } else { 4096 }, "{:?}", cost.packets);
            assert!(seconds < 1.1 * ROUND_TRIP.as_secs_f64(), "{seconds} s");
            assert_eq!(
                pair.head.store.snapshot(what.snapshot.snapshot).unwrap().sealed.unwrap().root,
                what.snapshot.root
            );
            known = what;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        pair.link.shutdown().await;
    });
}
