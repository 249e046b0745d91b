//! Whole links over simulated lines, in simulated time: one seed, one weather. Lines lose, reorder, break for a minute and
//! change; what is replicated is equal in the end, and no second was above the cap.
//!
//! `NARROWBOAT_SEEDS=200` runs that many; `NARROWBOAT_SEED=7` runs one.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::time::Duration;

use common::office::{Office, dataset, replication};
use common::rng::Rng;
use common::{seeds, simulate};
use narrowboat_lines::simnet::{Line, Loss, SimNet, Wire};
use narrowboat_wan::link::{Cancel, Host, Link};
use narrowboat_wan::shape::Rate;
use narrowboat_wan::sync::Report;

fn weather(rng: &mut Rng) -> Line {
    let bits = [512_000, 2_000_000, 10_000_000, 50_000_000][rng.below(4) as usize];
    let mut line = Line::new(bits, Duration::from_millis(rng.within(2, 300)), rng.below(4) as f64 / 100.0);
    if rng.one_in(3) {
        line.loss = Loss::Bursts { worsens: 0.002, recovers: 0.1, loses: 0.8 };
    }
    line.reorder = if rng.one_in(3) { 0.02 } else { 0.0 };
    let mut at = 4.0;
    for _ in 0..rng.below(3) {
        let lasts = [0.5, 5.0, 60.0][rng.below(3) as usize];
        line.outages.push(Duration::from_secs_f64(at)..Duration::from_secs_f64(at + lasts));
        at += lasts + 6.0;
    }
    line
}

async fn world(seed: u64) {
    let mut rng = Rng::new(seed);
    let net = SimNet::new(seed);
    let (branch, head) = (Office::new(1), Office::new(2));
    let [here, there] = [1, 2].map(common::at);
    net.connect(here, there, weather(&mut rng));
    let open = |office: &std::sync::Arc<Office>, at| -> Link {
        Link::over(net.socket(at), office.config(at), office.clone()).unwrap()
    };
    let (branch_link, head_link) = (open(&branch, here), open(&head, there));
    let (code, _) = head_link.invite(None);
    branch_link.join(&code, &there.into()).await.unwrap();
    let cap = Rate::from_bits(rng.within(4, 40) * 100_000).unwrap();
    branch_link.set_limit("box-2", Some(cap)).unwrap();
    // Half a minute of data at the cap or the line, whichever is slower, but at most 8 MB.
    let (mut data, mut edits, size) = dataset(seed, rng.within(1, 3));
    let mut earlier = Vec::new();
    for day in 1..=2 {
        let snapshot = data.snapshot(&branch.store, day, branch.id());
        let bases: Vec<_> = earlier.iter().collect();
        let what = replication(&snapshot, &bases);
        let report = branch_link
            .replicate("box-2", what, branch.store.clone(), &Cancel::new(), |_| ())
            .await
            .unwrap_or_else(|stopped| panic!("seed {seed}, day {day}: {stopped:?}"));
        assert!(report.published, "seed {seed}");
        head.store.check().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        assert_eq!(head.store.published(&snapshot.snapshot), Some(snapshot.clone()), "seed {seed}");
        data.edit(&mut edits, size, 5);
        earlier.push(snapshot);
    }
    let worst = net.wire(here, there).worst_second() * 8;
    // Pairing and the first handshake came before the cap was set.
    assert!(worst <= cap.bits().max(1_000_000), "seed {seed}: {worst} bits in a second under {cap}");
    branch_link.shutdown().await;
    head_link.shutdown().await;
}

#[test]
fn whatever_the_weather_roots_are_equal_in_the_end() {
    for seed in seeds(8) {
        simulate(world(seed));
    }
}

#[test]
fn a_pause_that_is_longer_than_patience_ends_no_replication() {
    let world = async {
        let net = SimNet::new(3);
        let (branch, head) = (Office::new(1), Office::new(2));
        let [here, there] = [1, 2].map(common::at);
        net.connect(here, there, Line::new(10_000_000, Duration::from_millis(80), 0.0));
        head.pin(&branch.record(Vec::new())).unwrap();
        branch.pin(&head.record(vec![there.into()])).unwrap();
        let _head_link = Link::over(net.socket(there), head.config(there), head.clone()).unwrap();
        let config = branch.config(here);
        let pause = config.retry_for * 12;
        let link = Link::over(net.socket(here), config, branch.clone()).unwrap();
        link.set_limit("box-2", Some(Rate::PAUSED)).unwrap();
        let snapshot = dataset(4, 1).0.snapshot(&branch.store, 1, branch.id());
        let paused = link.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            paused.set_limit("box-2", None).unwrap();
        });
        let what = replication(&snapshot, &[]);
        let report = link.replicate("box-2", what, branch.store.clone(), &Cancel::new(), |_| ()).await.unwrap();
        assert!(report.published && net.now() > pause, "{report:?}");
        link.shutdown().await;
    };
    simulate(world);
}

/// A whole replication (questions, syncs, acknowledgements and all) over a line, in simulated time.
async fn replicate_over(line: Line, limit: Option<Rate>, megabytes: u64, window_bytes: u64) -> (Report, u64) {
    let net = SimNet::new(17);
    let (branch, head) = (Office::new(1), Office::new(2));
    let [here, there] = [1, 2].map(common::at);
    net.connect(here, there, line);
    head.pin(&branch.record(Vec::new())).unwrap();
    branch.pin(&head.record(vec![there.into()])).unwrap();
    let open = |office: &std::sync::Arc<Office>, at| -> Link {
        let mut config = office.config(at);
        config.limits.window_bytes = window_bytes;
        Link::over(net.socket(at), config, office.clone()).unwrap()
    };
    let (_head_link, branch_link) = (open(&head, there), open(&branch, here));
    branch_link.set_limit("box-2", limit).unwrap();
    let (data, ..) = dataset(4, megabytes);
    let snapshot = data.snapshot(&branch.store, 1, branch.id());
    let what = replication(&snapshot, &[]);
    let report = branch_link.replicate("box-2", what, branch.store.clone(), &Cancel::new(), |_| ()).await.unwrap();
    (report, net.wire(here, there).worst_second() * 8)
}

#[test]
fn a_replication_fills_the_line() {
    // (Mbit/s, round trip ms, loss, jitter ms, cap, MB, window, least share of the cap, with start and end)
    for (mbit, milli, loss, jitter, limit, megabytes, window, least) in [
        (20, 100, 0.01, 0, "19Mbit", 12, 16 << 20, 0.65),
        (100, 20, 0.01, 0, "50Mbit", 24, 16 << 20, 0.80),
        (100, 20, 0.01, 0, "50Mbit", 24, 1 << 20, 0.80),
        (20, 100, 0.03, 0, "10Mbit", 12, 1 << 20, 0.70),
        (50, 20, 0.01, 20, "20Mbit", 12, 16 << 20, 0.68),
        (10, 600, 0.01, 0, "9500kbit", 24, 16 << 20, 0.55),
        (100, 150, 0.01, 0, "95Mbit", 64, 16 << 20, 0.53),
    ] {
        let limit: Rate = limit.parse().unwrap();
        let mut line = Line::new(mbit * 1_000_000, Duration::from_millis(milli), loss);
        line.jitter = Duration::from_millis(jitter);
        let (report, worst) = simulate(replicate_over(line, Some(limit), megabytes, window));
        let share = report.payload_bytes as f64 * 8.0 / report.seconds / limit.bits() as f64;
        let what = format!("{mbit} Mbit/s, {milli} ms, {loss}, {jitter} ms late, {limit}, window {window}: {share:.3}");
        assert!(worst <= limit.bits(), "{what} of the cap, but {worst} bits in a second");
        assert!(share >= least, "{what} of the cap, {} s", report.seconds);
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Waits until `what` holds; it has to before half a minute is over.
async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(30 * SECOND, waiting).await.expect("it comes to hold");
}

/// Two branches send at once to a head office with a cap: together they are within it in every second, and each gets its part.
#[test]
fn two_peers_share_what_a_box_receives() {
    simulate(async {
        let net = SimNet::new(23);
        let [there, one, two] = [9, 1, 3].map(common::at);
        let head = Office::new(9);
        let branches = [(Office::new(1), one), (Office::new(3), two)];
        for (branch, at) in &branches {
            net.connect(*at, there, Line::new(50_000_000, Duration::from_millis(40), 0.005));
            head.pin(&branch.record(Vec::new())).unwrap();
            branch.pin(&head.record(vec![there.into()])).unwrap();
        }
        let head_link = Link::over(net.socket(there), head.config(there), head.clone()).unwrap();
        let cap = 8_000_000;
        head_link.set_receive_limit(None, Rate::from_bits(cap).ok());
        let mut jobs = Vec::new();
        for (nth, (branch, at)) in branches.iter().enumerate() {
            let link = Link::over(net.socket(*at), branch.config(*at), branch.clone()).unwrap();
            until(|| link.peers().first().is_some_and(|peer| peer.granted.is_some())).await;
            let (data, ..) = dataset(50 + nth as u64, 12);
            let snapshot = data.snapshot(&branch.store, 1 + nth as u8, branch.id());
            let (job_branch, what) = (branch.clone(), replication(&snapshot, &[]));
            jobs.push(tokio::spawn(async move {
                let (source, cancel) = (job_branch.store.clone(), Cancel::new());
                link.replicate("box-9", what, source, &cancel, |_| ()).await.unwrap()
            }));
            // The second comes when the first has the whole.
            tokio::time::sleep(3 * SECOND).await;
        }
        tokio::time::sleep(6 * SECOND).await;
        let wires = [one, two].map(|at| net.wire(at, there));
        let within = |from: Duration| wires.each_ref().map(|wire| wire.bytes_within(from..from + SECOND) * 8);
        let end = net.now().saturating_sub(SECOND);
        let mut from = Duration::ZERO;
        while from < end {
            let both: u64 = within(from).iter().sum();
            assert!(both <= cap * 102 / 100, "{both} bits in the second from {from:?}");
            from += Duration::from_millis(20);
        }
        // Over three seconds: now and then a session waits for an answer.
        let share = |wire: &Wire| wire.bytes_within(end - 2 * SECOND..end + SECOND) * 8 / 3;
        let last = wires.each_ref().map(share);
        assert!(last.iter().all(|bits| *bits > cap * 35 / 100), "an equal part each: {last:?}");
        let early = within(2 * SECOND);
        assert!(early[0] > cap * 55 / 100, "more than half while the other was not there: {early:?}");
        for job in jobs {
            assert!(job.await.unwrap().published);
        }
    });
}
