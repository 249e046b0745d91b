//! Whole links over real sockets on loopback: pairing, replicating, breaking, resuming, under caps, against strangers.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::office::{Office, dataset, replication};
use common::rng::Rng;
use narrowboat_lines::relay::{Path, Relay};
use narrowboat_storage::name::Realm;
use narrowboat_wan::link::{Cancel, Host, Link, LinkError, PairingError, Progress, Stopped};
use narrowboat_wan::peer::PeerAddress;
use narrowboat_wan::shape::{Class, Rate};
use narrowboat_wan::sync::seam::SnapshotOffer;
use narrowboat_wan::sync::{Compression, Failure, Replication, Report};

fn address(link: &Link) -> PeerAddress {
    link.local_address().unwrap().into()
}

/// A branch and a head office that have paired.
async fn paired() -> (Arc<Office>, Link, Arc<Office>, Link) {
    let (branch, head) = (Office::new(1), Office::new(2));
    let (branch_link, head_link) = (branch.open_anywhere().await, head.open_anywhere().await);
    let (code, _) = head_link.invite(None);
    let record = branch_link.join(&code, &address(&head_link)).await.unwrap();
    assert_eq!(record.name.as_str(), "box-2");
    (branch, branch_link, head, head_link)
}

/// The same, with a line between them: the head office knows no address of the branch, as behind a NAT.
async fn paired_over(up: Path, down: Path) -> (Arc<Office>, Link, Arc<Office>, Link, Relay) {
    let (branch, head) = (Office::new(1), Office::new(2));
    head.pin(&branch.record(Vec::new())).unwrap();
    let head_link = head.open_anywhere().await;
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let relay = Relay::start(anywhere, head_link.local_address().unwrap(), up, down, 5).unwrap();
    branch.pin(&head.record(vec![relay.address.into()])).unwrap();
    let branch_link = branch.open_anywhere().await;
    (branch, branch_link, head, head_link, relay)
}

async fn send(link: &Link, office: &Office, what: Replication) -> std::result::Result<Report, Stopped> {
    link.replicate("box-2", what, office.store.clone(), &Cancel::new(), |_| ()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_boxes_pair_and_replicate_two_days() {
    let (branch, branch_link, head, head_link) = paired().await;
    assert_eq!(head.pinned.lock().unwrap().len(), 1);
    let (mut data, mut rng, size) = dataset(1, 3);
    let day1 = data.snapshot(&branch.store, 1, branch.id());
    let mut told: Vec<Progress> = Vec::new();
    let source = branch.store.clone();
    // The sender knows before the receiving box is told: two in a row may be told the other way round.
    let told_of = async |count: usize| {
        while head.received.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let report = branch_link
        .replicate("box-2", replication(&day1, &[]), source, &Cancel::new(), |progress| told.push(progress))
        .await
        .unwrap();
    told_of(1).await;
    head.store.check().unwrap();
    assert_eq!(head.store.published(&day1.snapshot), Some(day1.clone()));
    assert!(report.published && report.root_there == day1.root, "{report:?}");
    assert!(report.payload_bytes > 1_000_000);
    let overhead = report.wire_bytes_forward as f64 / report.payload_bytes as f64;
    assert!((1.0..1.15).contains(&overhead), "{report:?}");
    assert!(report.peak_bits_per_second > 0 && report.seconds > 0.0 && report.wire_bytes_back > 0);
    assert!(told.iter().any(|progress| progress.connected));

    // The second day builds on the first; what did not change is not sent, and a day without changes costs next to nothing.
    data.edit(&mut rng, size, 3);
    let day2 = data.snapshot(&branch.store, 2, branch.id());
    let second = send(&branch_link, &branch, replication(&day2, &[&day1])).await.unwrap();
    told_of(2).await;
    assert_eq!(second.base, Some(day1.snapshot));
    assert!(second.payload_bytes < report.payload_bytes / 3, "{second:?}");
    let day3 = SnapshotOffer { snapshot: narrowboat_storage::id::SnapshotId([3; 16]), ..day2.clone() };
    let third = send(&branch_link, &branch, replication(&day3, &[&day1, &day2])).await.unwrap();
    assert!(third.published && third.payload_bytes == 0, "{third:?}");
    assert!(third.wire_bytes_forward + third.wire_bytes_back < 8_000, "{third:?}");
    head.store.check().unwrap();

    // And the head office told its box of each.
    told_of(3).await;
    let received = head.received.lock().unwrap().clone();
    assert_eq!(
        received.iter().map(|(ok, report)| (*ok, report.snapshot)).collect::<Vec<_>>(),
        [(true, day1.snapshot), (true, day2.snapshot), (true, day3.snapshot)]
    );
    let probe = branch_link.probe("box-2").await.unwrap().line;
    assert!(probe.round_trip > Duration::ZERO && probe.mtu >= 1200, "{probe:?}");
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

/// The head office has all chunks from elsewhere, and none of the nodes. Counted on the wire both ways, with UDP and IP headers; what the
/// nodes take, which are sent, is left out in proportion, and so are the questions for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_chunk_costs_at_most_nine_bytes() {
    let (branch, head) = (Office::new(1), Office::new(2));
    let mut config = branch.config(SocketAddr::from(([127, 0, 0, 1], 0)));
    config.limits.compression = Compression::Level(3);
    let branch_link = Link::bind(config, branch.clone()).await.unwrap();
    let head_link = head.open_anywhere().await;
    let (code, _) = head_link.invite(None);
    branch_link.join(&code, &address(&head_link)).await.unwrap();
    let mut rng = Rng::new(31);
    let mut data = common::tree::Dataset::default();
    for number in 0..100 {
        let content: Vec<bytes::Bytes> = (0..600).map(|_| rng.bytes(30).into()).collect();
        for chunk in &content {
            head.store.put(narrowboat_storage::name::Kind::Chunk, chunk);
        }
        data.files.insert(number, content);
    }
    let day = data.snapshot(&branch.store, 1, branch.id());
    let report = send(&branch_link, &branch, replication(&day, &[])).await.unwrap();
    assert_eq!((report.chunks.known, report.chunks.sent), (60_000, 0), "{report:?}");
    let wire = (report.wire_bytes_forward + report.wire_bytes_back) as f64;
    let framed = (report.framed_bytes.0 + report.framed_bytes.1) as f64;
    // Each with a kind and a length in its bundle, and its part of the bundle's own head.
    let nodes = (report.payload_bytes + 33 * report.nodes.offered + 6 * report.nodes.sent) as f64;
    let each = wire * (framed - nodes) / framed / 60_000.0;
    println!("{each:.2} bytes for a known chunk; {report:?}");
    assert!(each <= 9.0, "{each:.2} bytes for a known chunk: {report:?}");
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

/// The head office takes a chunk for known that only begins like one it has: the second attempt follows at once, by full names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_known_is_repaired_without_a_person() {
    let (branch, branch_link, head, head_link) = paired().await;
    let mut rng = Rng::new(32);
    // Two hundred other chunks, of which one byte is looked at: some of ours begin alike.
    for _ in 0..200 {
        head.store.put(narrowboat_storage::name::Kind::Chunk, &rng.bytes(50));
    }
    head.store.look_at(1);
    let (data, ..) = dataset(33, 1);
    let day = data.snapshot(&branch.store, 1, branch.id());
    let mut attempts = 0;
    let source = branch.store.clone();
    let sent = branch_link
        .replicate("box-2", replication(&day, &[]), source, &Cancel::new(), |told| attempts = told.attempts)
        .await;
    assert!(sent.unwrap().published);
    assert_eq!(attempts, 2);
    head.store.check().unwrap();
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_send_to_one_another_at_once_over_one_connection() {
    let (branch, branch_link, head, head_link) = paired().await;
    let (here, there) = (dataset(21, 2).0, dataset(22, 2).0);
    let ours = here.snapshot(&branch.store, 1, branch.id());
    let theirs = SnapshotOffer {
        dataset: narrowboat_storage::id::DatasetId([8; 16]),
        ..there.snapshot(&head.store, 2, head.id())
    };
    let cancel = Cancel::new();
    let (up, down) = tokio::join!(
        branch_link.replicate("box-2", replication(&ours, &[]), branch.store.clone(), &cancel, |_| ()),
        head_link.replicate("box-1", replication(&theirs, &[]), head.store.clone(), &cancel, |_| ()),
    );
    assert!(up.unwrap().published && down.unwrap().published);
    branch.store.check().unwrap();
    head.store.check().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_where_a_killed_head_office_left_it() {
    let (branch, branch_link, head, head_link) = paired().await;
    let listen = head_link.local_address().unwrap();
    branch_link.set_limit("box-2", Some("16Mbit".parse().unwrap())).unwrap();
    let (data, ..) = dataset(3, 4);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let whole: u64 = branch.store.len() as u64;
    let (sender, job_branch, what) = (branch_link.clone(), branch.clone(), replication(&snapshot, &[]));
    let job = tokio::spawn(async move { send(&sender, &job_branch, what).await });
    // Killed when something has arrived: everything that was not synced is lost, and the socket is gone without a word.
    while head.store.len() < 60 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    head_link.shutdown().await;
    drop(head_link);
    let unsynced = head.store.unsynced();
    head.store.restart(unsynced / 2);
    let kept = head.store.len() as u64;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let again = head.open(listen).await;
    let report = tokio::time::timeout(Duration::from_secs(40), job).await.unwrap().unwrap().unwrap();
    assert!(report.published);
    head.store.check().unwrap();
    let sent = report.chunks.sent + report.nodes.sent;
    assert!(kept > 0 && sent >= whole - kept, "{kept} kept of {whole}, {sent} sent");
    let twice = head.store.admissions().values().filter(|times| **times > 1).count();
    assert!(twice < 120, "{twice} objects of {whole} were admitted twice");
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_holds_in_every_second_as_counted_elsewhere() {
    let line = Path { delay: Duration::from_millis(10), loss: 0.01, ..Path::PLAIN };
    let (branch, link, head, _head_link, relay) = paired_over(line, line).await;
    let cap: Rate = "20Mbit".parse().unwrap();
    link.set_limit("box-2", Some(cap)).unwrap();
    let (data, ..) = dataset(4, 8);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let began = Instant::now();
    let report = send(&link, &branch, replication(&snapshot, &[])).await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    head.store.check().unwrap();
    let counted = relay.up();
    assert!(counted.worst_second() * 8 <= cap.bits(), "{} bits in the worst second", counted.worst_second() * 8);
    assert!(report.peak_bits_per_second <= cap.bits(), "{report:?}");
    // How much of the cap is used is measured where the clock is simulated; here the machine may be busy.
    let rate = report.payload_bytes as f64 * 8.0 / seconds;
    assert!(seconds < 3.0 || rate > 0.40 * cap.bits() as f64, "{rate} bit/s of payload in {seconds} s");
    // Every datagram that the relay saw was counted, and no other.
    link.shutdown().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ours = link.counters(None).unwrap().sent;
    let seen = relay.up();
    assert_eq!((ours.bytes, ours.datagrams), (seen.bytes, seen.datagrams));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelled_means_stopped_and_what_arrived_is_kept() {
    let (branch, branch_link, head, _head_link) = paired().await;
    branch_link.set_limit("box-2", Some("8Mbit".parse().unwrap())).unwrap();
    let (data, ..) = dataset(6, 6);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let cancel = Cancel::new();
    let (sender, job_branch, what, switch) =
        (branch_link.clone(), branch.clone(), replication(&snapshot, &[]), cancel.clone());
    let job =
        tokio::spawn(async move { sender.replicate("box-2", what, job_branch.store.clone(), &switch, |_| ()).await });
    while head.store.len() < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    cancel.cancel();
    let stopped = job.await.unwrap().unwrap_err();
    assert!(matches!(stopped.error, LinkError::Replication(Failure::Cancelled)), "{stopped:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(stopped.report.payload_bytes > 0);
    assert!(head.store.published(&snapshot.snapshot).is_none());
    head.store.check().unwrap();
    // Again, without a cap: what arrived is not sent twice.
    branch_link.set_limit("box-2", None).unwrap();
    let here = head.store.len() as u64;
    let report = send(&branch_link, &branch, replication(&snapshot, &[])).await.unwrap();
    assert!(report.published && report.chunks.sent + report.nodes.sent <= branch.store.len() as u64 - here);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_of_zero_pauses_and_a_cap_above_goes_on() {
    let (branch, branch_link, head, _head_link) = paired().await;
    branch_link.set_limit("box-2", Some("8Mbit".parse().unwrap())).unwrap();
    let (data, ..) = dataset(7, 3);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let (sender, job_branch, what) = (branch_link.clone(), branch.clone(), replication(&snapshot, &[]));
    let job = tokio::spawn(async move { send(&sender, &job_branch, what).await });
    while head.store.len() < 20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    branch_link.set_limit("box-2", Some(Rate::PAUSED)).unwrap();
    let before = branch_link.counters(Some("box-2")).unwrap().sent;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(branch_link.counters(Some("box-2")).unwrap().sent, before, "nothing leaves while paused");
    assert!(!job.is_finished());
    branch_link.set_limit("box-2", None).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(30), job).await.unwrap().unwrap().unwrap().published);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_removed_peers_and_noise_get_nowhere() {
    let (branch, branch_link, head, head_link) = paired().await;
    // Noise: random bytes, and bytes that begin like QUIC.
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut rng = Rng::new(8);
    for length in 0..600 {
        let mut bytes = rng.bytes(length * 2 + 1);
        if length % 2 == 0 {
            bytes[0] |= 0xC0;
            let version = 1_u32.to_be_bytes();
            bytes.iter_mut().skip(1).zip(version).for_each(|(byte, version)| *byte = version);
        }
        noise.send_to(&bytes, head_link.local_address().unwrap()).unwrap();
    }
    // A box that nobody paired with, which has our address and key from somewhere.
    let stranger = Office::new(3);
    let known = branch.pinned.lock().unwrap()[0].clone();
    stranger.pin(&known).unwrap();
    let stranger_link = stranger.open_anywhere().await;
    let (data, ..) = dataset(8, 1);
    let foreign = data.snapshot(&stranger.store, 9, stranger.id());
    let attempt = send(&stranger_link, &stranger, replication(&foreign, &[]));
    assert!(tokio::time::timeout(Duration::from_secs(3), attempt).await.is_err(), "it waits for a connection in vain");
    assert_eq!(stranger_link.peers()[0].connected_from, None);
    assert_eq!(head_link.peers().len(), 1);
    assert_eq!(head.store.len(), 0);
    // Meanwhile those who are paired work.
    let ours = data.snapshot(&branch.store, 1, branch.id());
    assert!(send(&branch_link, &branch, replication(&ours, &[])).await.unwrap().published);
    // Until one is removed.
    head_link.remove("box-1").unwrap();
    let later = SnapshotOffer { snapshot: narrowboat_storage::id::SnapshotId([2; 16]), ..ours };
    let attempt = send(&branch_link, &branch, replication(&later, &[]));
    assert!(tokio::time::timeout(Duration::from_secs(3), attempt).await.is_err());
    assert!(head.store.published(&later.snapshot).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_paired_in_the_name_of_anothers_store() {
    let (_branch, branch_link, head, head_link) = paired().await;
    let liar = Office::claiming(1, 3, Realm::published());
    let liar_link = liar.open_anywhere().await;
    let (code, _) = head_link.invite(None);
    assert!(liar_link.join(&code, &address(&head_link)).await.is_err());
    assert_eq!(head.pinned.lock().unwrap().len(), 1, "the branch alone");
    assert_eq!(head_link.peers().len(), 1);
    // A box that lost its key is let in again once the old one was removed.
    branch_link.shutdown().await;
    head_link.remove("box-1").unwrap();
    let (code, _) = head_link.invite(None);
    liar_link.join(&code, &address(&head_link)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_codes_and_closed_doors_pair_nobody() {
    let (branch, head) = (Office::new(1), Office::new(2));
    let (branch_link, head_link) = (branch.open_anywhere().await, head.open_anywhere().await);
    let at = address(&head_link);
    let no_invitation = branch_link.invite(None).0;
    branch_link.cancel_invitation();
    let refused = branch_link.join(&no_invitation, &at).await.unwrap_err();
    assert!(matches!(refused, LinkError::Pairing(PairingError::NotInvited)), "{refused:?}");
    let (right, _) = head_link.invite(Some("filiale".parse().unwrap()));
    let refused = branch_link.join(&no_invitation, &at).await.unwrap_err();
    assert!(matches!(refused, LinkError::Pairing(PairingError::WrongCode { attempts_left: 2 })), "{refused:?}");
    branch_link.join(&right, &at).await.unwrap();
    assert_eq!(head_link.peers()[0].record.name.as_str(), "filiale");
    let again = branch_link.join(&right, &at).await.unwrap_err();
    assert!(matches!(again, LinkError::Pairing(PairingError::NotInvited)), "{again:?}");
    // Another realm parts with a sentence.
    let elsewhere = Office::in_realm(4, Realm::new([7; 32]));
    let (code, _) = head_link.invite(None);
    let refused = elsewhere.open_anywhere().await.join(&code, &at).await.unwrap_err();
    assert!(matches!(refused, LinkError::Pairing(PairingError::OtherRealm)), "{refused:?}");
    let nobody: PeerAddress = "127.0.0.1:9".parse().unwrap();
    let started = Instant::now();
    let unreachable = tokio::time::timeout(Duration::from_secs(2), branch_link.join(&code, &nobody)).await;
    assert!(
        unreachable.is_err() || matches!(unreachable, Ok(Err(LinkError::Unreachable { .. }))),
        "{:?}",
        started.elapsed()
    );
}

/// Of this process, user and system, from `/proc/self/stat` in ticks of 10 ms.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// `cargo test -p narrowboat-wan --test link -- --ignored --nocapture speed` tells what a link takes of the processor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    let (branch, branch_link, head, _head_link) = paired().await;
    let megabytes = std::env::var("NARROWBOAT_MB").map_or(300, |text| text.parse().unwrap());
    let (data, ..) = dataset(9, megabytes);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let limit = std::env::var("NARROWBOAT_LIMIT").ok().map(|text| text.parse::<Rate>().unwrap());
    branch_link.set_limit("box-2", limit).unwrap();
    let cpu = processor_seconds;
    let before = cpu();
    let report = send(&branch_link, &branch, replication(&snapshot, &[])).await.unwrap();
    let used = cpu() - before;
    println!(
        "{:.1} MB of payload in {:.2} s: {:.0} Mbit/s, {:.2} processor seconds per GB for both ends; wire/payload {:.3}; \
         worst second {:.1} Mbit/s; {} objects",
        report.payload_bytes as f64 / 1e6,
        report.seconds,
        report.payload_bytes as f64 * 8e-6 / report.seconds,
        used / (report.payload_bytes as f64 / 1e9),
        report.wire_bytes_forward as f64 / report.payload_bytes as f64,
        report.peak_bits_per_second as f64 / 1e6,
        report.chunks.sent + report.nodes.sent,
    );
    head.store.check().unwrap();
}

/// A real line made of sockets: `NARROWBOAT_LINE=20Mbit,100,1` (rate, round trip in ms, loss in percent) and
/// `NARROWBOAT_LIMIT=19Mbit`, run like `speed`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn bad_line() {
    let line = std::env::var("NARROWBOAT_LINE").unwrap_or("20Mbit,100,1".to_owned());
    let [rate, milli, percent] = line.split(',').collect::<Vec<_>>()[..] else { panic!("rate,ms,percent") };
    let rate: Rate = rate.parse().unwrap();
    let delay = Duration::from_secs_f64(milli.parse::<f64>().unwrap() / 2000.0);
    let queue_bytes = rate.bytes_in(delay * 2).max(30_000);
    let path =
        Path { bits_per_second: Some(rate.bits()), delay, queue_bytes, loss: percent.parse::<f64>().unwrap() / 100.0 };
    let (branch, link, head, _head_link, relay) = paired_over(path, path).await;
    let limit = std::env::var("NARROWBOAT_LIMIT").ok().map(|text| text.parse::<Rate>().unwrap());
    link.set_limit("box-2", limit).unwrap();
    let (data, ..) = dataset(4, 60);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let report = send(&link, &branch, replication(&snapshot, &[])).await.unwrap();
    head.store.check().unwrap();
    let counted = relay.up();
    println!(
        "{:.1} MB in {:.1} s: {:.2} Mbit/s of payload; wire/payload {:.3}; worst second at the relay {:.2} Mbit/s, as the box \
         says {:.2}; {} dropped",
        report.payload_bytes as f64 / 1e6,
        report.seconds,
        report.payload_bytes as f64 * 8e-6 / report.seconds,
        counted.bytes as f64 / report.payload_bytes as f64,
        counted.worst_second() as f64 * 8e-6,
        report.peak_bits_per_second as f64 / 1e6,
        counted.dropped,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_have_connections_of_their_own_under_one_cap() {
    let (branch, link, head, head_link, relay) = paired_over(Path::PLAIN, Path::PLAIN).await;
    let cap: Rate = "4Mbit".parse().unwrap();
    link.set_limit("box-2", Some(cap)).unwrap();
    let other = |offer: SnapshotOffer| SnapshotOffer { dataset: narrowboat_storage::id::DatasetId([9; 16]), ..offer };
    let slow = dataset(31, 3).0.snapshot(&branch.store, 1, branch.id());
    let fast = other(dataset(32, 2).0.snapshot(&branch.store, 2, branch.id()));
    let (sender, job_branch, what) = (link.clone(), branch.clone(), replication(&slow, &[]));
    let background = tokio::spawn(async move {
        let (source, cancel) = (job_branch.store.clone(), Cancel::new());
        sender.replicate_as(Class::Scavenger, "box-2", what, source, &cancel, |_| ()).await
    });
    while head.store.len() < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = link.sent_by_class("box-2").unwrap();
    let (source, cancel) = (branch.store.clone(), Cancel::new());
    let urgent = link.replicate_as(Class::Urgent, "box-2", replication(&fast, &[]), source, &cancel, |_| ()).await;
    assert!(urgent.unwrap().published);
    let after = link.sent_by_class("box-2").unwrap();
    let grown = |class: Class| after[class as usize] - before[class as usize];
    // 14 to 1 where both always have something to send, which on a busy machine they may not.
    let (urgent, scavenger) = (grown(Class::Urgent), grown(Class::Scavenger));
    assert!(urgent > 1_000_000 && scavenger * 2 < urgent, "{urgent} and {scavenger}");
    assert!(background.await.unwrap().unwrap().published);
    head.store.check().unwrap();
    let sent = link.sent_by_class("box-2").unwrap();
    assert!(sent[Class::Normal as usize] < 100_000, "only what keeps the connection up: {sent:?}");
    assert_eq!(sent[Class::Restore as usize], 0);
    let worst = relay.up().worst_second() * 8;
    assert!(worst <= cap.bits(), "one cap for all connections: {worst}");
    // The other side answers in the class that it was called in, and counts what it begins itself as normal: it can't dial.
    let answers = head_link.sent_by_class("box-1").unwrap();
    assert!(answers[Class::Urgent as usize] > 0 && answers[Class::Scavenger as usize] > 0, "{answers:?}");
    let theirs = other(dataset(33, 1).0.snapshot(&head.store, 3, head.id()));
    let (source, cancel) = (head.store.clone(), Cancel::new());
    let back = head_link.replicate_as(Class::Urgent, "box-1", replication(&theirs, &[]), source, &cancel, |_| ()).await;
    assert!(back.unwrap().published);
    let answered = head_link.sent_by_class("box-1").unwrap();
    assert!(answered[Class::Normal as usize] > 500_000 + answers[Class::Normal as usize], "{answered:?}");
    link.shutdown().await;
    head_link.shutdown().await;
}
