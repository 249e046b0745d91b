//! A pause of what is received, over simulated lines in simulated time: no data comes, and the connection stays.
//!
//! `NARROWBOAT_SEEDS=50` runs that many; `NARROWBOAT_SEED=7` runs one.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::office::{Office, dataset, replication};
use common::rng::Rng;
use common::{at, each_seed, simulate};
use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::name::Name;
use narrowboat_storage::pool::Stored;
use narrowboat_wan::heal::{Below, Healer, Need, Patient};
use narrowboat_wan::link::{Cancel, Host, Link};
use narrowboat_wan::shape::{Class, Rate};
use narrowboat_wan::sync::Report;
use narrowboat_wan::sync::seam::Codec;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn line() -> Line {
    Line::new(10_000_000, Duration::from_millis(40), 0.005)
}

/// A branch that calls a head office.
struct World {
    net: SimNet,
    branch: Arc<Office>,
    head: Arc<Office>,
    branch_link: Link,
    head_link: Link,
    attempts: Arc<AtomicU32>,
}

impl World {
    fn new(seed: u64) -> World {
        let net = SimNet::new(seed);
        net.connect(at(1), at(2), line());
        let (branch, head) = (Office::new(1), Office::new(2));
        head.pin(&branch.record(Vec::new())).unwrap();
        branch.pin(&head.record(vec![at(2).into()])).unwrap();
        let open = |office: &Arc<Office>, number| {
            Link::over(net.socket(at(number)), office.config(at(number)), office.clone()).unwrap()
        };
        let (head_link, branch_link) = (open(&head, 2), open(&branch, 1));
        World { net, branch, head, branch_link, head_link, attempts: Arc::default() }
    }

    /// The branch sends so many megabytes, as traffic of a class.
    fn send(&self, seed: u64, megabytes: u64, class: Class) -> JoinHandle<Report> {
        let snapshot = dataset(seed, megabytes).0.snapshot(&self.branch.store, 1, self.branch.id());
        let (link, office, attempts) = (self.branch_link.clone(), self.branch.clone(), self.attempts.clone());
        tokio::spawn(async move {
            let count = |told: narrowboat_wan::link::Progress| attempts.store(told.attempts, Ordering::Relaxed);
            let what = replication(&snapshot, &[]);
            link.replicate_as(class, "box-2", what, office.store.clone(), &Cancel::new(), count).await.unwrap()
        })
    }

    /// The head office receives nothing from now on. Returns when the branch knows that, and has given up what it was sending.
    async fn pause(&self) {
        self.head_link.set_receive_limit(None, Some(Rate::PAUSED));
        let began = self.net.now() + SECOND;
        tokio::time::sleep(20 * SECOND).await;
        let sent = self.sent_since(began);
        assert!(sent < 20_000, "{sent} bytes beyond the first second");
        assert_eq!(self.branch_link.peers()[0].granted, Some(Rate::PAUSED));
    }

    /// Bytes that the branch has put on the wire since then.
    fn sent_since(&self, began: Duration) -> u64 {
        self.net.wire(at(1), at(2)).bytes_within(began..self.net.now())
    }

    fn connected_for(&self, link: &Link) -> Duration {
        link.peers()[0].path.as_ref().map(|(_, since)| *since).unwrap_or_default()
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let began = tokio::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < 10 * MINUTE, "{what} did not come about");
        tokio::time::sleep(SECOND / 100).await;
    }
}

async fn paused_in_the_middle(seed: u64, class: Class) {
    let world = World::new(seed);
    let job = world.send(seed, 8, class);
    until("something to arrive", || world.head.store.len() > 50).await;
    world.pause().await;
    // Twenty times as long as QUIC waits for a sign of life.
    let began = world.net.now();
    tokio::time::sleep(10 * MINUTE).await;
    let sent = world.sent_since(began);
    assert!(sent < 12_000, "seed {seed}, {class}: {sent} bytes in ten minutes");
    for link in [&world.branch_link, &world.head_link] {
        assert!(world.connected_for(link) > 10 * MINUTE, "seed {seed}, {class}: the same connection");
    }
    let (here, resumed) = (world.head.store.len(), world.net.now());
    world.head_link.set_receive_limit(None, None);
    until("more to arrive", || world.head.store.len() > here + 10).await;
    let took = world.net.now() - resumed;
    assert!(took < 2 * SECOND, "seed {seed}, {class}: {took:?} after the end of the pause");
    let report = job.await.unwrap();
    assert!(report.published, "{report:?}");
    assert_eq!(world.attempts.load(Ordering::Relaxed), 2, "seed {seed}, {class}: a session each side of the pause");
    let whole = world.branch.stored_bytes();
    assert!(report.payload_bytes < whole + (4 << 20), "seed {seed}: {} bytes of {whole}", report.payload_bytes);
    world.head.store.check().unwrap();
}

#[test]
fn a_pause_keeps_its_connection() {
    each_seed(3, |seed| simulate(paused_in_the_middle(seed, Class::Normal)));
}

#[test]
fn a_pause_keeps_connections_of_a_class_too() {
    each_seed(2, |seed| simulate(paused_in_the_middle(seed, Class::Scavenger)));
}

/// As short as another branch's turn.
async fn paused_for_a_moment(seed: u64) {
    let world = World::new(seed);
    let job = world.send(seed, 8, Class::Normal);
    until("something to arrive", || world.head.store.len() > 50).await;
    for _ in 0..3 {
        world.head_link.set_receive_limit(None, Some(Rate::PAUSED));
        tokio::time::sleep(SECOND).await;
        let began = world.net.now();
        tokio::time::sleep(11 * SECOND).await;
        let sent = world.sent_since(began);
        assert!(sent < 20_000, "seed {seed}: {sent} bytes of what was under way");
        world.head_link.set_receive_limit(None, None);
        tokio::time::sleep(SECOND).await;
    }
    assert!(job.await.unwrap().published);
    assert_eq!(world.attempts.load(Ordering::Relaxed), 1, "seed {seed}: it went on where it was");
}

#[test]
fn a_short_pause_keeps_its_session_too() {
    each_seed(3, |seed| simulate(paused_for_a_moment(seed)));
}

/// Who wants nothing sends: its peer answers, and slips in next to nothing of what it has to send itself.
async fn who_pauses_sends(seed: u64) {
    let world = World::new(seed);
    let held = world.send(seed, 8, Class::Normal);
    until("something to arrive", || world.head.store.len() > 50).await;
    world.pause().await;
    let theirs = dataset(seed + 1000, 6).0.snapshot(&world.head.store, 2, world.head.id());
    let theirs = replication(&narrowboat_wan::sync::seam::SnapshotOffer { dataset: DatasetId([8; 16]), ..theirs }, &[]);
    let began = world.net.now();
    let source = world.head.store.clone();
    let report = world.head_link.replicate("box-1", theirs, source, &Cancel::new(), |_| ()).await.unwrap();
    let (took, sent) = (world.net.now() - began, world.sent_since(began));
    assert!(report.published && took < MINUTE, "seed {seed}: {took:?}: {report:?}");
    let worst = world.net.wire(at(1), at(2)).worst_within(began..world.net.now(), SECOND);
    assert!(worst * 8 <= Rate::MIN.bits() && sent * 12 < report.payload_bytes, "seed {seed}: {sent} bytes, {worst}");
    world.head_link.set_receive_limit(None, None);
    assert!(held.await.unwrap().published);
}

#[test]
fn who_receives_nothing_can_send() {
    each_seed(2, |seed| simulate(who_pauses_sends(seed)));
}

/// Gives whatever is asked for, 20 kB each.
struct Gives;

impl Healer for Gives {
    fn may(&self, _: &Below) -> narrowboat_storage::Result<bool> {
        Ok(true)
    }
    fn at(&self, _: &Name, way: &[u32]) -> narrowboat_storage::Result<Option<Stored>> {
        let bytes = Rng::new(u64::from(way[0])).bytes(20_000);
        Ok(Some(Stored { codec: Codec::Raw, raw_len: bytes.len() as u32, bytes: bytes.into() }))
    }
}

/// Has lost very much. What it has been given is counted.
#[derive(Default)]
struct Lost {
    asked: AtomicU32,
    got: AtomicU32,
}

impl Patient for Lost {
    fn next(&self) -> narrowboat_storage::Result<Need> {
        let (dataset, snapshot) = (DatasetId([1; 16]), SnapshotId([2; 16]));
        Ok(match self.asked.fetch_add(50, Ordering::Relaxed) {
            0 => Need::Below(Below { dataset, snapshot, root: Name([3; 32]) }),
            first => Need::Seek((first..first + 50).map(|place| vec![place]).collect()),
        })
    }
    fn known(&self, known: bool) -> narrowboat_storage::Result<()> {
        assert!(known);
        Ok(())
    }
    fn took(&self, _: Option<Stored>) -> narrowboat_storage::Result<()> {
        self.got.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn end(&self) -> narrowboat_storage::Result<()> {
        Ok(())
    }
}

/// Who receives nothing is not healed, either: not begun, and not gone on with.
async fn healing_in_a_pause(seed: u64) {
    let world = World::new(seed);
    *world.branch.healer.lock().unwrap() = Some(Arc::new(Gives));
    until("both to be connected", || {
        [&world.branch_link, &world.head_link].iter().all(|link| link.peers()[0].connected_from.is_some())
    })
    .await;
    let lost = Arc::new(Lost::default());
    let healing = tokio::spawn({
        let (link, lost) = (world.head_link.clone(), lost.clone());
        async move { link.heal("box-1", lost, &Cancel::new()).await }
    });
    until("some of it to come", || lost.got.load(Ordering::Relaxed) > 60).await;
    world.pause().await;
    let outcome = healing.await.unwrap();
    assert!(outcome.is_err(), "seed {seed}: {outcome:?}");
    let (began, got) = (world.net.now(), lost.got.load(Ordering::Relaxed));
    let outcome = world.head_link.heal("box-1", lost.clone(), &Cancel::new()).await;
    assert!(outcome.as_ref().is_err_and(|error| error.to_string().contains("paused")), "seed {seed}: {outcome:?}");
    tokio::time::sleep(10 * MINUTE).await;
    let sent = world.sent_since(began);
    assert!(sent < 12_000, "seed {seed}: {sent} bytes in ten minutes");
    assert_eq!(lost.got.load(Ordering::Relaxed), got, "seed {seed}");
}

#[test]
fn a_pause_holds_for_healing_too() {
    each_seed(3, |seed| simulate(healing_in_a_pause(seed)));
}

/// A connection that is lost in a pause comes back, and the pause with it.
async fn lost_in_a_pause(seed: u64) {
    let world = World::new(seed);
    let job = world.send(seed, 6, Class::Normal);
    until("something to arrive", || world.head.store.len() > 50).await;
    world.pause().await;
    let now = world.net.now();
    let mut dead = line();
    dead.outages.push(now..now + 2 * MINUTE);
    world.net.connect(at(1), at(2), dead);
    until("the end of the connection", || world.branch_link.peers()[0].connected_from.is_none()).await;
    until("another", || world.branch_link.peers()[0].connected_from.is_some()).await;
    tokio::time::sleep(5 * SECOND).await;
    let (began, here) = (world.net.now(), world.head.store.len());
    tokio::time::sleep(90 * MINUTE).await;
    let sent = world.sent_since(began);
    assert!(sent < 100_000, "seed {seed}: {sent} bytes in an hour and a half");
    assert_eq!(world.head.store.len(), here, "seed {seed}");
    assert!(world.connected_for(&world.head_link) > 90 * MINUTE, "seed {seed}");
    world.head_link.set_receive_limit(None, None);
    assert!(job.await.unwrap().published, "seed {seed}: nobody has given up meanwhile");
}

#[test]
fn a_connection_that_breaks_in_a_pause_comes_back_to_it() {
    each_seed(2, |seed| simulate(lost_in_a_pause(seed)));
}
