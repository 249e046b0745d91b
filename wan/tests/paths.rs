//! Several connections and several addresses of one peer, over simulated lines in simulated time: dials that cross, a box that is
//! killed, a path that falls silent and comes back, an address that changes. One seed, one world.
//!
//! `NARROWBOAT_SEEDS=200` runs that many; `NARROWBOAT_SEED=7` runs one.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::office::{Office, dataset, replication};
use common::rng::Rng;
use common::{at, seeds, simulate};
use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_storage::id::DatasetId;
use narrowboat_wan::link::{Cancel, Host, Link, PeerStatus, Why};
use narrowboat_wan::peer::PeerAddress;
use narrowboat_wan::sync::Report;
use narrowboat_wan::sync::seam::SnapshotOffer;

const SECOND: Duration = Duration::from_secs(1);

/// Runs a world in simulated time, for at most an hour of it.
fn within_an_hour(world: impl Future<Output = ()>) {
    simulate(async { tokio::time::timeout(3600 * SECOND, world).await.expect("an hour is enough") });
}

fn open(net: &SimNet, office: &Arc<Office>, address: SocketAddr) -> Link {
    Link::over(net.socket(address), office.config(address), office.clone()).unwrap()
}

/// What a replication came to, and over how many connections.
struct Sent {
    report: Report,
    attempts: u32,
}

/// Sends a snapshot in the background.
fn send(link: &Link, to: &'static str, office: &Arc<Office>, what: &SnapshotOffer) -> tokio::task::JoinHandle<Sent> {
    let (link, office, what) = (link.clone(), office.clone(), replication(what, &[]));
    tokio::spawn(async move {
        let attempts = AtomicU32::new(0);
        let count = |progress: narrowboat_wan::link::Progress| attempts.store(progress.attempts, Ordering::Relaxed);
        let report = link.replicate(to, what, office.store.clone(), &Cancel::new(), count).await.unwrap();
        Sent { report, attempts: attempts.into_inner() }
    })
}

fn status(link: &Link) -> PeerStatus {
    link.peers().remove(0)
}

fn why(link: &Link) -> Option<Why> {
    status(link).path.map(|(path, _)| path.why)
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let began = tokio::time::Instant::now();
    while !so() {
        assert!(began.elapsed() < 600 * SECOND, "{what} did not come about");
        tokio::time::sleep(SECOND / 100).await;
    }
}

/// Two boxes that dial one another at once, and both send meanwhile. Counts the worlds in which there were two connections.
async fn crossed(seed: u64, two: &AtomicU32) {
    let mut rng = Rng::new(seed);
    let net = SimNet::new(seed);
    let (branch, head) = (Office::new(1), Office::new(2));
    head.pin(&branch.record(vec![at(1).into()])).unwrap();
    branch.pin(&head.record(vec![at(2).into()])).unwrap();
    net.connect(at(1), at(2), Line::new(20_000_000, Duration::from_millis(rng.within(1, 400)), 0.01));
    let other = |offer: SnapshotOffer| SnapshotOffer { dataset: DatasetId([8; 16]), ..offer };
    let (ours, theirs) = (dataset(seed, 1).0, dataset(seed + 1000, 1).0);
    let ours = ours.snapshot(&branch.store, 1, branch.id());
    let theirs = other(theirs.snapshot(&head.store, 2, head.id()));
    // Nearly at the same moment, as after a power cut that hit both.
    let branch_link = open(&net, &branch, at(1));
    tokio::time::sleep(Duration::from_millis(rng.within(0, 300))).await;
    let head_link = open(&net, &head, at(2));
    let (up, down) = (send(&branch_link, "box-2", &branch, &ours), send(&head_link, "box-1", &head, &theirs));
    let (up, down) = (up.await.unwrap(), down.await.unwrap());
    assert!(up.report.published && down.report.published);
    assert_eq!((up.attempts, down.attempts), (1, 1), "seed {seed}: no session was broken");
    two.fetch_add(u32::from(status(&branch_link).replaced > 0), Ordering::Relaxed);
    until("one connection", || [&branch_link, &head_link].iter().all(|link| status(link).replaced == 0)).await;
    // And that one is up for both.
    tokio::time::sleep(40 * SECOND).await;
    assert!([&branch_link, &head_link].iter().all(|link| status(link).connected_from.is_some()), "seed {seed}");
    for link in [&branch_link, &head_link] {
        assert_eq!(status(link).replaced, 0, "seed {seed}: nobody dials where there is a connection");
    }
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

#[test]
fn dials_that_cross_cost_no_session() {
    let (seeds, two) = (seeds(40), AtomicU32::new(0));
    let count = seeds.end - seeds.start;
    for seed in seeds {
        within_an_hour(crossed(seed, &two));
    }
    let two = two.into_inner();
    assert!(count < 20 || u64::from(two) * 4 > count, "in {two} of {count} worlds the dials crossed");
}

/// A head office with two addresses, and a branch that knows both. Lines of 10 Mbit/s and 50 ms, 5 Mbit/s and 150 ms.
struct TwoPaths {
    net: SimNet,
    branch: Arc<Office>,
    head: Arc<Office>,
    branch_link: Link,
    head_link: Link,
}

const FIRST: u8 = 2;
const SECOND_PATH: u8 = 3;

fn line(of: u8) -> Line {
    match of {
        FIRST => Line::new(10_000_000, Duration::from_millis(50), 0.001),
        _ => Line::new(5_000_000, Duration::from_millis(150), 0.001),
    }
}

impl TwoPaths {
    async fn new(seed: u64) -> TwoPaths {
        let net = SimNet::new(seed);
        let (branch, head) = (Office::new(1), Office::new(2));
        head.pin(&branch.record(Vec::new())).unwrap();
        let addresses = [FIRST, SECOND_PATH].map(|number| PeerAddress::from(at(number)));
        branch.pin(&head.record(addresses.to_vec())).unwrap();
        let head_link = open(&net, &head, at(FIRST));
        net.alias(at(SECOND_PATH), at(FIRST));
        for number in [FIRST, SECOND_PATH] {
            net.connect(at(1), at(number), line(number));
        }
        let branch_link = open(&net, &branch, at(1));
        TwoPaths { net, branch, head, branch_link, head_link }
    }

    /// Nothing passes any more, from now on for a while.
    fn cut(&self, number: u8, lasts: Duration) {
        let now = self.net.now();
        let mut dead = line(number);
        dead.outages.push(now..now + lasts);
        self.net.connect(at(1), at(number), dead);
    }

    fn path(&self) -> Option<String> {
        let (path, _) = status(&self.branch_link).path?;
        path.address.map(|address| address.to_string())
    }
}

#[test]
fn a_silent_path_is_left_and_a_better_one_comes_back() {
    within_an_hour(async {
        let world = TwoPaths::new(1).await;
        until("a connection", || why(&world.branch_link) == Some(Why::First)).await;
        assert_eq!(world.path(), Some(at(FIRST).to_string()));
        let (data, ..) = dataset(1, 12);
        let snapshot = data.snapshot(&world.branch.store, 1, world.branch.id());
        let job = send(&world.branch_link, "box-2", &world.branch, &snapshot);
        until("something to arrive", || world.head.store.len() > 50).await;
        world.cut(FIRST, 40 * SECOND);
        let cut = world.net.now();
        until("another path", || why(&world.branch_link) == Some(Why::OtherSilent)).await;
        let here = world.head.store.len();
        until("more to arrive", || world.head.store.len() > here + 20).await;
        let took = world.net.now() - cut;
        assert!(took < 8 * SECOND, "{took:?} without any data");
        assert_eq!(world.path(), Some(at(SECOND_PATH).to_string()));

        // When the first works again new sessions use it, and the one that runs is not broken.
        until("the first path", || why(&world.branch_link) == Some(Why::Better)).await;
        assert!(world.net.now() - cut >= 40 * SECOND && world.net.now() - cut < 110 * SECOND);
        let sent = job.await.unwrap();
        assert!(sent.report.published);
        assert_eq!(sent.attempts, 2, "one break, by the cut");
        let again = 4 << 20;
        let whole = world.branch.stored_bytes();
        assert!(sent.report.payload_bytes < whole + again, "{} sent of {whole}", sent.report.payload_bytes);
        world.head.store.check().unwrap();
        until("one connection", || status(&world.branch_link).replaced + status(&world.head_link).replaced == 0).await;
        assert_eq!(world.path(), Some(at(FIRST).to_string()));
    });
}

/// The last datagram of a transfer is an acknowledgement, which nobody answers. That the line is quiet then is no silence.
#[test]
fn a_path_that_is_quiet_after_a_transfer_is_kept() {
    for seed in 0..8 {
        within_an_hour(async move {
            let net = SimNet::new(seed);
            let (branch, head) = (Office::new(1), Office::new(2));
            head.pin(&branch.record(vec![at(4).into()])).unwrap();
            branch.pin(&head.record(vec![at(2).into()])).unwrap();
            net.connect(at(1), at(2), line(FIRST));
            net.alias(at(4), at(1));
            let (head_link, branch_link) = (open(&net, &head, at(2)), open(&net, &branch, at(1)));
            until("a connection", || why(&head_link) == Some(Why::Called)).await;
            tokio::time::sleep(15 * SECOND).await;
            // It has given up dialling; from now on the head office would reach the branch by another path, if it needed one.
            net.connect(at(2), at(4), line(SECOND_PATH));
            let snapshot = dataset(seed, 1).0.snapshot(&branch.store, 1, branch.id());
            let job = send(&branch_link, "box-2", &branch, &snapshot);
            assert!(job.await.unwrap().report.published);
            for _ in 0..600 {
                tokio::time::sleep(SECOND / 10).await;
                let ways = [why(&head_link), why(&branch_link)];
                assert_eq!(ways, [Some(Why::Called), Some(Why::First)], "seed {seed}");
            }
        });
    }
}

/// A head office that calls over what is the branch's second choice, since the first line does not work yet.
async fn called_over_the_second(net: &SimNet, its_addresses: &[u8]) -> (Arc<Office>, Link, Arc<Office>, Link) {
    let (branch, head) = (Office::new(1), Office::new(2));
    head.pin(&branch.record(its_addresses.iter().map(|number| at(*number).into()).collect())).unwrap();
    branch.pin(&head.record([FIRST, SECOND_PATH].map(|number| at(number).into()).to_vec())).unwrap();
    // What the head office sends of itself comes from its second address.
    net.alias(at(FIRST), at(SECOND_PATH));
    net.alias(at(4), at(1));
    let head_link = open(net, &head, at(SECOND_PATH));
    let branch_link = open(net, &branch, at(1));
    tokio::time::sleep(SECOND / 10).await;
    net.connect(at(SECOND_PATH), at(its_addresses[0]), line(SECOND_PATH));
    until("a call", || why(&branch_link) == Some(Why::Called)).await;
    net.connect(at(1), at(FIRST), line(FIRST));
    (branch, branch_link, head, head_link)
}

#[test]
fn who_was_called_over_a_worse_path_goes_to_the_better_one() {
    within_an_hour(async {
        let net = SimNet::new(5);
        let (branch, branch_link, head, head_link) = called_over_the_second(&net, &[1]).await;
        let began = net.now();
        // So that it is in the middle of it when the time has come: it takes some half a minute.
        tokio::time::sleep(24 * SECOND).await;
        let snapshot = dataset(5, 24).0.snapshot(&head.store, 1, head.id());
        let job = send(&head_link, "box-1", &head, &snapshot);
        until("the first path", || why(&branch_link) == Some(Why::Better)).await;
        let took = net.now() - began;
        assert!((29 * SECOND..35 * SECOND).contains(&took), "{took:?}");
        assert!(!job.is_finished(), "it is still sent");
        let sent = job.await.unwrap();
        assert!(sent.report.published && sent.attempts == 1, "what ran went on");
        branch.store.check().unwrap();
        tokio::time::sleep(300 * SECOND).await;
        assert_eq!((why(&branch_link), why(&head_link)), (Some(Why::Better), Some(Why::Called)));
    });
}

/// Each would rather have a path that is not the other's choice: they move less and less often.
#[test]
fn boxes_that_want_different_paths_settle() {
    simulate(async {
        let net = SimNet::new(6);
        let (_branch, branch_link, _head, head_link) = called_over_the_second(&net, &[4, 1]).await;
        let mut moves = Vec::new();
        for hour in 0..8 {
            let (mut before, mut count) = (why(&branch_link), 0);
            for _ in 0..7200 {
                tokio::time::sleep(SECOND / 2).await;
                let now = why(&branch_link);
                assert!(now.is_some() && why(&head_link).is_some(), "hour {hour}: nobody was left without a path");
                count += u32::from(now != before);
                before = now;
            }
            moves.push(count);
        }
        println!("moves in each hour: {moves:?}");
        assert!(moves[0] >= 4, "they do want different paths: {moves:?}");
        assert!(moves[0] <= 20 && moves[3..].iter().all(|moves| *moves <= 3), "{moves:?}");
    });
}

#[test]
fn what_the_called_side_sends_leaves_a_silent_path_too() {
    within_an_hour(async {
        let world = TwoPaths::new(2).await;
        until("a connection", || why(&world.head_link) == Some(Why::Called)).await;
        let (data, ..) = dataset(2, 6);
        let snapshot = data.snapshot(&world.head.store, 1, world.head.id());
        let job = send(&world.head_link, "box-1", &world.head, &snapshot);
        until("something to arrive", || world.branch.store.len() > 50).await;
        world.cut(FIRST, 3000 * SECOND);
        let (cut, here) = (world.net.now(), world.branch.store.len());
        until("more to arrive", || world.branch.store.len() > here + 40).await;
        let took = world.net.now() - cut;
        assert!(took < 12 * SECOND, "{took:?} without any data");
        assert!(job.await.unwrap().report.published);
    });
}

#[test]
fn an_address_that_never_answers_delays_by_its_head_start_alone() {
    within_an_hour(async {
        let world = TwoPaths::new(3).await;
        world.branch_link.shutdown().await;
        world.cut(FIRST, 3000 * SECOND);
        let began = world.net.now();
        let link = open(&world.net, &world.branch, at(1));
        until("a connection", || why(&link) == Some(Why::Faster)).await;
        let took = world.net.now() - began;
        assert!(took < 2 * SECOND, "{took:?}");
        // Its order can be changed while it runs.
        let turned = [SECOND_PATH, FIRST].map(|number| PeerAddress::from(at(number)));
        link.set_addresses("box-2", turned.to_vec()).unwrap();
        tokio::time::sleep(100 * SECOND).await;
        assert_eq!(status(&link).record.addresses, turned);
        assert_eq!(why(&link), Some(Why::Faster), "it is the first of the list now");
    });
}

#[test]
fn who_dials_a_box_that_was_killed_learns_of_it_at_once() {
    within_an_hour(async {
        let net = SimNet::new(4);
        let (branch, head) = (Office::new(1), Office::new(2));
        head.pin(&branch.record(Vec::new())).unwrap();
        branch.pin(&head.record(vec![at(2).into()])).unwrap();
        let good = Line::new(10_000_000, Duration::from_millis(50), 0.001);
        net.connect(at(1), at(2), good.clone());
        let (branch_link, head_link) = (open(&net, &branch, at(1)), open(&net, &head, at(2)));
        let (data, ..) = dataset(4, 4);
        let snapshot = data.snapshot(&branch.store, 1, branch.id());
        let job = send(&branch_link, "box-2", &branch, &snapshot);
        until("something to arrive", || head.store.len() > 50).await;
        // Without a word: what it says in the end is lost.
        let now = net.now();
        let mut dead = good.clone();
        dead.outages.push(now..now + 4 * SECOND);
        net.connect(at(1), at(2), dead);
        head_link.shutdown().await;
        drop(head_link);
        tokio::time::sleep(now + 4 * SECOND - net.now()).await;
        let unsynced = head.store.unsynced();
        head.store.restart(unsynced / 2);
        let _again = open(&net, &head, at(2));
        let (back, here) = (net.now(), head.store.len());
        until("more to arrive", || head.store.len() > here + 20).await;
        let took = net.now() - back;
        // Far less than the thirty seconds after which a silent connection is given up.
        assert!(took < 12 * SECOND, "{took:?}");
        assert!(job.await.unwrap().report.published);
    });
}
