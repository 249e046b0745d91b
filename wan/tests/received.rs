//! Caps of what is received: told to the peers, kept by them, counted elsewhere.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::office::{Office, dataset, replication};
use narrowboat_lines::relay::{Path, Relay};
use narrowboat_wan::link::{Cancel, Host, Link};
use narrowboat_wan::shape::Rate;

const SECOND: Duration = Duration::from_secs(1);

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().unwrap())
}

/// Waits until `what` holds; it has to before half a minute is over.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(30 * SECOND, waiting).await.expect("it comes to hold");
}

fn granted(link: &Link) -> Option<Rate> {
    link.peers().first().and_then(|peer| peer.granted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_sends_no_faster_than_it_is_granted() {
    let (branch, head) = (Office::new(1), Office::new(2));
    head.pin(&branch.record(Vec::new())).unwrap();
    let head_link = head.open_anywhere().await;
    let line = Path { delay: Duration::from_millis(10), ..Path::PLAIN };
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay = Relay::start(anywhere, head_link.local_address().unwrap(), line, line, 5).unwrap();
    branch.pin(&head.record(vec![relay.address.into()])).unwrap();
    head_link.set_receive_limit(None, rate("6Mbit"));
    let link = branch.open_anywhere().await;
    until(|| granted(&link) == rate("6Mbit")).await;
    let (data, ..) = dataset(41, 6);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let (sender, job_branch, what) = (link.clone(), branch.clone(), replication(&snapshot, &[]));
    let attempts = Arc::new(AtomicU32::new(0));
    let tries = attempts.clone();
    let job = tokio::spawn(async move {
        let (source, cancel) = (job_branch.store.clone(), Cancel::new());
        let tell = |progress: narrowboat_wan::link::Progress| tries.store(progress.attempts, Ordering::Relaxed);
        sender.replicate("box-2", what, source, &cancel, tell).await
    });
    until(|| relay.up().bytes > 1_500_000).await;
    let most = |cap: u64| cap * 102 / 100;
    assert!(relay.up().worst_second() * 8 <= most(6_000_000), "{}", relay.up().worst_second() * 8);
    // Lowered under way, by a cap of the peer's own: within a second nothing is above it.
    head_link.set_receive_limit(Some(&branch.record(Vec::new()).id), rate("1Mbit"));
    until(|| granted(&link) == rate("1Mbit")).await;
    tokio::time::sleep(SECOND).await;
    let (before, began) = (relay.up().bytes, tokio::time::Instant::now());
    tokio::time::sleep(2 * SECOND).await;
    let bits = (relay.up().bytes - before) * 8;
    let allowed = most(1_000_000) as f64 * began.elapsed().as_secs_f64();
    assert!(bits as f64 <= allowed, "{bits} bits, {allowed} allowed");
    assert!(bits > 400_000, "it goes on: {bits} bits in two seconds");
    let seen = head_link.peers()[0].received_bits_per_second;
    assert!((1..=1_300_000).contains(&seen), "the head office sees what comes: {seen}");
    // A pause, and no cap.
    head_link.set_receive_limit(None, Some(Rate::PAUSED));
    until(|| granted(&link) == Some(Rate::PAUSED)).await;
    let before = link.counters(None).unwrap().sent.bytes;
    tokio::time::sleep(2 * SECOND).await;
    let sent = link.counters(None).unwrap().sent.bytes - before;
    assert!(sent < 8000, "acknowledgements, and what was under way asked for once more: {sent}");
    head_link.set_receive_limit(Some(&branch.record(Vec::new()).id), None);
    head_link.set_receive_limit(None, None);
    assert!(tokio::time::timeout(60 * SECOND, job).await.unwrap().unwrap().unwrap().published);
    assert_eq!((granted(&link), attempts.load(Ordering::Relaxed)), (None, 1), "all over one connection");
    link.shutdown().await;
    head_link.shutdown().await;
}
