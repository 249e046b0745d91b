//! The shaped socket and the congestion controller under the real quinn, over simulated lines.
//!
//! `cargo test -p narrowboat-wan --test lines -- --ignored --nocapture` prints the whole table of
//! `docs/performance/wan.md`.

#[path = "common/node.rs"]
mod node;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_lines::simnet::{Line, Loss, SimNet, Wire};
use narrowboat_wan::link::transport::{peer_window, stripes, transport};
use narrowboat_wan::shape::Rate;
use node::{Node, always_send, cubic};
use quinn::TransportConfig;

/// What a stretch of bulk data over a line came to.
#[derive(Debug)]
struct Outcome {
    payload: u64,
    seconds: f64,
    wire: Wire,
    steady_payload: u64,
    steady_seconds: f64,
    /// What was put into the line during the same.
    steady_wire: u64,
}

impl Outcome {
    fn goodput_bits(&self) -> f64 {
        self.payload as f64 * 8.0 / self.seconds
    }
    /// Without the first two seconds and twenty round trips of starting.
    fn steady_bits(&self) -> f64 {
        self.steady_payload as f64 * 8.0 / self.steady_seconds
    }
    /// Wire bytes for a byte of payload, without the start: what is under way at its end was under way at its beginning, too.
    fn overhead(&self) -> f64 {
        self.steady_wire as f64 / self.steady_payload.max(1) as f64
    }
    fn steady_wire_bits(&self) -> f64 {
        self.steady_wire as f64 * 8.0 / self.steady_seconds
    }
}

/// Sends as much as it can for `time`, spread over streams, from one box to another.
async fn bulk(seed: u64, line: Line, limit: Option<Rate>, time: Duration) -> Outcome {
    bulk_with(seed, line, limit, time, transport).await
}

async fn bulk_with(
    seed: u64,
    line: Line,
    limit: Option<Rate>,
    time: Duration,
    transport: fn() -> TransportConfig,
) -> Outcome {
    let net = SimNet::new(seed);
    let (a, b) = (Node::with(&net, 1, None, transport), Node::new(&net, 2, None));
    net.connect(a.address, b.address, line.clone());
    a.know(&b, limit);
    b.know(&a, None);
    let rate = limit.map_or(line.bits_per_second, |limit| limit.bits().min(line.bits_per_second));
    let count = stripes(rate / 8, line.delay * 2);
    let accept = b.endpoint.clone();
    let received = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = received.clone();
    let receiver = tokio::spawn(async move {
        let connection = accept.accept().await.expect("open").await.expect("connects");
        connection.set_receive_window(peer_window(1));
        while let Ok(mut stream) = connection.accept_uni().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                while let Ok(Some(chunk)) = stream.read_chunk(1 << 20, true).await {
                    counter.fetch_add(chunk.bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let began = net.now();
    let connection = a.dial(&b).await;
    for _ in 0..count {
        let mut stream = connection.open_uni().await.expect("open");
        tokio::spawn(async move {
            let data = bytes::Bytes::from(vec![0x5A; 64 << 10]);
            while stream.write_chunk(data.clone()).await.is_ok() {}
        });
    }
    let read = || received.load(std::sync::atomic::Ordering::Relaxed);
    let starting = (Duration::from_secs(2) + line.delay * 40).min(time / 2);
    tokio::time::sleep(starting).await;
    let (at_start, start) = (read(), net.now());
    tokio::time::sleep(time.saturating_sub(start - began)).await;
    let seconds = (net.now() - began).as_secs_f64();
    let outcome = Outcome {
        payload: read(),
        seconds,
        wire: net.wire(a.address, b.address),
        steady_payload: read() - at_start,
        steady_seconds: (net.now() - start).as_secs_f64(),
        steady_wire: net.wire(a.address, b.address).bytes_within(start..net.now()),
    };
    if std::env::var("NARROWBOAT_TRACE").is_ok() {
        println!("{:?}", connection.stats().path);
        let wire = net.wire(a.address, b.address);
        let second = |from: u64| Duration::from_secs(from)..Duration::from_secs(from + 1);
        let shares = (0..time.as_secs()).map(|from| wire.bytes_within(second(from)) * 80_000 / rate);
        println!("of the rate, in each second, in hundredths of a percent: {:?}", shares.collect::<Vec<_>>());
    }
    assert!(connection.close_reason().is_none(), "{:?}", connection.close_reason());
    connection.close(0_u32.into(), b"done");
    receiver.abort();
    outcome
}

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().expect("a rate"))
}

fn row(name: &str, line: &Line, limit: Option<Rate>, outcome: &Outcome) -> String {
    let possible = limit.map_or(line.bits_per_second, |limit| limit.bits().min(line.bits_per_second)) as f64;
    format!(
        "| {name} | {:.0} % | {:.0} % | {:.3} | {} | {} |",
        outcome.goodput_bits() / possible * 100.0,
        outcome.steady_bits() / possible * 100.0,
        outcome.overhead(),
        outcome.wire.dropped_by_queue,
        limit.map_or("-".to_owned(), |limit| format!(
            "{:.1} %",
            outcome.wire.worst_second() as f64 * 800.0 / limit.bits() as f64
        )),
    )
}

/// The table of docs/performance/wan.md; `NARROWBOAT_ROW` picks the rows whose name has it.
#[tokio::test(start_paused = true)]
#[ignore = "minutes: it makes the table of docs/performance/wan.md"]
async fn table() {
    println!(
        "| line (rate, round trip, loss) | goodput | after the start | Cubic's | wire/payload | capped at 95 %: goodput | wire/payload | on the wire / cap | worst second / cap | worst 100 ms / cap |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let filter = std::env::var("NARROWBOAT_ROW").unwrap_or_default();
    let bursts = Loss::Bursts { worsens: 0.0025, recovers: 0.175, loses: 0.7 };
    for (name, bits, milli, loss, jitter) in [
        ("office: 20 Mbit/s, 30 ms, 0.1 %", 20_000_000, 30, Loss::Random(0.001), 0),
        ("ocean: 100 Mbit/s, 150 ms, 1 %", 100_000_000, 150, Loss::Random(0.01), 0),
        ("ocean: 100 Mbit/s, 150 ms, 1 % in bursts", 100_000_000, 150, bursts, 0),
        ("satellite: 10 Mbit/s, 600 ms, 1 %", 10_000_000, 600, Loss::Random(0.01), 0),
        ("rural: 2 Mbit/s, 80 ms, 3 %", 2_000_000, 80, Loss::Random(0.03), 0),
        ("thin: 64 kbit/s, 300 ms, 0 %", 64_000, 300, Loss::Random(0.0), 0),
        ("radio: 50 Mbit/s, 20 ms, 1 %, up to 20 ms late", 50_000_000, 20, Loss::Random(0.01), 20),
        ("radio: 20 Mbit/s, 20 ms, 1 %, up to 60 ms late", 20_000_000, 20, Loss::Random(0.01), 60),
        ("radio: 20 Mbit/s, 100 ms, 1 %, up to 50 ms late", 20_000_000, 100, Loss::Random(0.01), 50),
        ("radio: 100 Mbit/s, 5 ms, 1 %, up to 20 ms late", 100_000_000, 5, Loss::Random(0.01), 20),
        ("LAN: 1 Gbit/s, 1 ms, 0 %", 1_000_000_000, 1, Loss::Random(0.0), 0),
    ] {
        if !name.contains(&filter) {
            continue;
        }
        let (round_trip, jitter) = (Duration::from_millis(milli), Duration::from_millis(jitter));
        let line = Line { jitter, loss, ..Line::new(bits, round_trip, 0.0) };
        // On a slow line what is under way at the end is a part of all that was sent.
        let seconds = Duration::from_secs(if bits > 500_000_000 {
            10
        } else if bits < 500_000 {
            600
        } else {
            60
        });
        let cap = Rate::from_bits(bits / 100 * 95).expect("a rate");
        let free = bulk_with(7, line.clone(), None, seconds, transport).await;
        let capped = bulk_with(7, line.clone(), Some(cap), seconds, transport).await;
        let other = bulk_with(7, line.clone(), None, seconds, cubic).await;
        let share = |bits_per_second: f64, of: u64| format!("{:.0} %", bits_per_second / of as f64 * 100.0);
        let of_cap =
            |bytes: u64, per_second: f64| format!("{:.1} %", bytes as f64 * per_second * 800.0 / cap.bits() as f64);
        println!(
            "| {name} | {} | {} | {} | {:.3} | {} | {:.3} | {} | {} | {} |",
            share(free.goodput_bits(), bits),
            share(free.steady_bits(), bits),
            share(other.goodput_bits(), bits),
            free.overhead(),
            share(capped.goodput_bits(), cap.bits()),
            capped.overhead(),
            format_args!("{:.1} %", capped.steady_wire_bits() / cap.bits() as f64 * 100.0),
            of_cap(capped.wire.worst_second(), 1.0),
            of_cap(capped.wire.worst(Duration::from_millis(100)), 10.0),
        );
    }
}

/// Rates, round trips and losses, each with each; `NARROWBOAT_ROW` picks those whose name has it.
#[tokio::test(start_paused = true)]
#[ignore = "minutes: a measurement for work on the controller"]
async fn sweep() {
    println!("| line, round trip, loss | goodput | steady | wire/payload | dropped by queue | worst second / cap |");
    let filter = std::env::var("NARROWBOAT_ROW").unwrap_or_default();
    for (bits, name) in [(2_000_000, "2 Mbit/s"), (20_000_000, "20 Mbit/s"), (100_000_000, "100 Mbit/s")] {
        for milli in [1, 20, 100, 300] {
            for percent in [0, 1, 3] {
                for limit in [None, Rate::from_bits(bits / 100 * 95).ok()] {
                    let line = Line::new(bits, Duration::from_millis(milli), f64::from(percent) / 100.0);
                    let capped = if limit.is_some() { ", capped at 95 %" } else { "" };
                    let name = format!("{name}, {milli} ms, {percent} %{capped}");
                    if !name.contains(&filter) {
                        continue;
                    }
                    let outcome = bulk(7, line.clone(), limit, Duration::from_secs(30)).await;
                    println!("{}", row(&name, &line, limit, &outcome));
                }
            }
        }
    }
}

/// Some of the table on every run: the cap holds in every second, and most of it carries payload.
#[tokio::test(start_paused = true)]
async fn a_lossy_line_is_used_and_its_cap_holds() {
    // (Mbit/s, round trip ms, loss %, cap, least share of min(line, cap) as payload, most wire per payload)
    let cases = [
        (2, 300, 1, rate("1900kbit"), 0.85, 1.10),
        (20, 100, 1, rate("19Mbit"), 0.88, 1.08),
        (20, 100, 3, rate("10Mbit"), 0.86, 1.10),
        (20, 20, 1, None, 0.86, 1.08),
        (20, 100, 0, None, 0.86, 1.08),
        // Next to no line: whatever is under way waits in a queue of 30 kB.
        (20, 1, 1, None, 0.86, 1.15),
    ];
    for (mbit, milli, percent, limit, least, most) in cases {
        let line = Line::new(mbit * 1_000_000, Duration::from_millis(milli), f64::from(percent) / 100.0);
        let outcome = bulk(11, line.clone(), limit, Duration::from_secs(12)).await;
        let what = row(&format!("{mbit} Mbit/s, {milli} ms, {percent} %, {limit:?}"), &line, limit, &outcome);
        let possible = limit.map_or(line.bits_per_second, Rate::bits) as f64;
        assert!(outcome.steady_bits() / possible >= least, "{what}");
        assert!(outcome.overhead() <= most, "{what}");
        if let Some(limit) = limit {
            assert!(outcome.wire.worst_second() * 8 <= limit.bits(), "{what}");
        }
    }
}

/// Where packets come late by as much as the line takes, in both directions, the window does not shrink from round to
/// round.
#[tokio::test(start_paused = true)]
async fn a_line_that_jitters_is_used() {
    for (mbit, milli, jitter, least) in
        [(50, 20, 20, 0.80), (20, 20, 60, 0.70), (20, 100, 50, 0.80), (100, 5, 20, 0.70)]
    {
        let line = Line {
            jitter: Duration::from_millis(jitter),
            ..Line::new(mbit * 1_000_000, Duration::from_millis(milli), 0.01)
        };
        let outcome = bulk(13, line.clone(), None, Duration::from_secs(20)).await;
        let what = row(&format!("{mbit} Mbit/s, {milli} ms, up to {jitter} ms late"), &line, None, &outcome);
        assert!(outcome.steady_bits() >= least * line.bits_per_second as f64, "{what}");
    }
}

/// Bursty loss, reordering and a second without a line.
#[tokio::test(start_paused = true)]
async fn bursts_reordering_and_outages_are_survived() {
    let bursts = Loss::Bursts { worsens: 0.002, recovers: 0.2, loses: 0.7 };
    let outage = Duration::from_secs(4)..Duration::from_secs(5);
    let line = Line {
        loss: bursts,
        reorder: 0.01,
        outages: vec![outage],
        ..Line::new(10_000_000, Duration::from_millis(60), 0.0)
    };
    let limit = rate("9Mbit");
    let outcome = bulk(5, line.clone(), limit, Duration::from_secs(15)).await;
    let what = row("10 Mbit/s, 60 ms, bursts, outage", &line, limit, &outcome);
    // One second of fifteen is gone, and starting again takes part of another.
    assert!(outcome.goodput_bits() >= 0.72 * 9e6, "{what}");
    assert!(outcome.wire.worst_second() * 8 <= 9_000_000, "{what}");
}

/// The thinnest line that is promised to work.
#[tokio::test(start_paused = true)]
async fn a_line_of_64_kbit_works() {
    let line = Line::new(64_000, Duration::from_millis(600), 0.01);
    let limit = rate("60kbit");
    let outcome = bulk(5, line.clone(), limit, Duration::from_secs(60)).await;
    let what = row("64 kbit/s, 600 ms, 1 %", &line, limit, &outcome);
    assert!(outcome.steady_bits() >= 0.70 * 60e3, "{what}");
    assert!(outcome.wire.worst_second() * 8 <= 60_000, "{what}");
}

/// quinn's own default on the same line: the harness can see a controller that fails.
#[tokio::test(start_paused = true)]
async fn the_harness_sees_a_controller_that_fails() {
    let line = Line::new(20_000_000, Duration::from_millis(100), 0.01);
    let outcome = bulk_with(11, line, None, Duration::from_secs(12), cubic).await;
    assert!(outcome.steady_bits() < 0.25 * 20e6, "{outcome:?}");
}

/// A live change of the cap, downwards, upwards, to nothing and back.
#[tokio::test(start_paused = true)]
async fn a_cap_changes_under_way() {
    let net = SimNet::new(3);
    let (a, b) = (Node::new(&net, 1, None), Node::new(&net, 2, None));
    net.connect(a.address, b.address, Line::new(50_000_000, Duration::from_millis(20), 0.0));
    let peer = a.know(&b, rate("20Mbit"));
    b.know(&a, None);
    let accept = b.endpoint.clone();
    tokio::spawn(async move {
        let connection = accept.accept().await.expect("open").await.expect("connects");
        connection.set_receive_window(peer_window(1));
        while let Ok(mut stream) = connection.accept_uni().await {
            tokio::spawn(async move { while let Ok(Some(_)) = stream.read_chunk(1 << 20, false).await {} });
        }
    });
    let connection = a.dial(&b).await;
    let mut stream = connection.open_uni().await.expect("open");
    tokio::spawn(async move { while stream.write_all(&[0; 4096]).await.is_ok() {} });
    let second = Duration::from_secs(1);
    for (limit, least, most) in [
        (rate("20Mbit"), 0.95, 1.0),
        (rate("1Mbit"), 0.9, 1.0),
        (rate("10Mbit"), 0.95, 1.0),
        (Some(Rate::PAUSED), 0.0, 0.0),
        (rate("10Mbit"), 0.9, 1.0),
        (None, 0.0, 0.0),
    ] {
        a.shaper.set_limit(Some(peer), limit);
        tokio::time::sleep(second).await;
        let from = net.now();
        tokio::time::sleep(3 * second).await;
        let sent = net.wire(a.address, b.address).bytes_within(from..net.now()) * 8;
        match limit {
            Some(limit) => {
                let share = sent as f64 / (3 * limit.bits()).max(1) as f64;
                assert!((least..=most).contains(&share), "{limit}: {sent} bits in three seconds");
            }
            None => assert!(sent > 3 * 40_000_000, "unlimited: {sent} bits in three seconds"),
        }
    }
    let counted = a.shaper.counters(Some(peer)).sent;
    let wire = net.wire(a.address, b.address);
    assert_eq!((counted.bytes, counted.datagrams), (wire.bytes, wire.packets), "every byte is counted, from the first");
}

/// Keys decide, not addresses.
#[tokio::test(start_paused = true)]
async fn only_pinned_keys_shake_hands() {
    let net = SimNet::new(4);
    let (a, b, c) = (Node::new(&net, 1, None), Node::new(&net, 2, None), Node::new(&net, 3, None));
    for (one, other) in [(&a, &b), (&b, &c), (&a, &c)] {
        net.connect(one.address, other.address, Line::new(50_000_000, Duration::from_millis(20), 0.0));
    }
    b.know(&a, None);
    let accept = b.endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accept.accept().await {
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            });
        }
    });
    let try_dial = |from: &Node, expected: &Node, at: SocketAddr, alpn_pair: bool| {
        let config = if alpn_pair { from.tls.dial_to_pair() } else { from.tls.dial(expected.identity.id()) };
        let connecting = from.endpoint.connect_with(config.expect("sound"), at, "narrowboat").expect("sound");
        async move {
            let connection = connecting.await?;
            // TLS 1.3: the server's verdict on the client comes after the client's handshake is over.
            match tokio::time::timeout(Duration::from_millis(500), connection.closed()).await {
                Ok(error) => Err(error),
                Err(_) => Ok(connection),
            }
        }
    };
    assert!(try_dial(&a, &b, b.address, false).await.is_ok(), "a pinned key");
    assert!(try_dial(&c, &b, b.address, false).await.is_err(), "a key that b does not know");
    assert!(try_dial(&a, &c, b.address, false).await.is_err(), "b is not c, whatever the address book says");
    assert!(try_dial(&c, &b, b.address, true).await.is_err(), "pairing while no invitation is open");
    b.door.set_pairing(true);
    assert!(try_dial(&c, &b, b.address, true).await.is_ok(), "pairing while one is");
    assert!(try_dial(&c, &b, b.address, false).await.is_err(), "which opens no other door");
    b.door.unpin(&a.identity.id());
    assert!(try_dial(&a, &b, b.address, false).await.is_err(), "a key that was removed does not come back");
}

/// How a line is shared with another flow: of our own kind, or of quinn's default.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement for docs/performance/wan.md"]
async fn company() {
    println!("| line | two of ours | round trip | dropped | ours beside Cubic | round trip | dropped |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (mbit, milli, queue_bdp) in [(20, 50, 1.0), (20, 50, 4.0), (20, 50, 0.3), (5, 200, 1.0), (100, 10, 1.0)] {
        let mut line = Line::new(mbit * 1_000_000, Duration::from_millis(milli), 0.0);
        line.queue_bytes = ((line.queue_bytes as f64) * queue_bdp) as u64;
        let cells = [shared(&line, transport).await, shared(&line, cubic).await].map(|shared| {
            let [first, second] = shared.megabits;
            let milli = shared.round_trip.as_millis();
            format!("{first:.1} and {second:.1} | {milli} ms | {:.1} %", shared.dropped * 100.0)
        });
        println!("| {mbit} Mbit/s, {milli} ms, queue of {queue_bdp} BDP | {} |", cells.join(" | "));
    }
}

/// What became of two connections on a line.
struct Shared {
    megabits: [f64; 2],
    /// The mean of what the first one saw, once a second.
    round_trip: Duration,
    /// Of all packets, by the queue.
    dropped: f64,
}

/// Two connections that always have something to send, the second one five seconds younger and with this transport.
async fn shared(line: &Line, second: fn() -> TransportConfig) -> Shared {
    let net = SimNet::new(9);
    let (a, b) = (Node::new(&net, 1, None), Node::new(&net, 2, None));
    net.connect(a.address, b.address, line.clone());
    a.know(&b, None);
    b.know(&a, None);
    b.take_all();
    let mut connections = Vec::new();
    for transport in [transport, second] {
        let connection = a.dial_with(&b, transport()).await;
        always_send(&connection).await;
        connections.push(connection);
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let sent = || [0, 1].map(|at: usize| connections[at].stats().udp_tx.bytes);
    let (before, wire_before) = (sent(), net.wire(a.address, b.address));
    let mut round_trip = Duration::ZERO;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        round_trip += connections[0].rtt() / 40;
    }
    let (after, wire) = (sent(), net.wire(a.address, b.address));
    connections.iter().for_each(|connection| connection.close(0_u32.into(), b"done"));
    Shared {
        megabits: [0, 1].map(|at| (after[at] - before[at]) as f64 * 8e-6 / 40.0),
        round_trip,
        dropped: (wire.dropped_by_queue - wire_before.dropped_by_queue) as f64
            / (wire.packets - wire_before.packets) as f64,
    }
}
