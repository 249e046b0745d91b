//! The shaped socket and the congestion controller under the real quinn, over simulated lines.
//!
//! `cargo test -p narrowboat-wan --test lines -- --ignored --nocapture` prints the whole table of
//! `docs/performance/wan.md`.

mod simnet;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_wan::link::identity::Identity;
use narrowboat_wan::link::socket::{ShapedSocket, Shaper};
use narrowboat_wan::link::tls::{Doorkeeper, Tls};
use narrowboat_wan::link::transport::{stripes, transport};
use narrowboat_wan::shape::{NodeId, Rate};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use simnet::{Line, Loss, SimNet, Wire};

/// A box on a simulated network.
struct Node {
    endpoint: Endpoint,
    shaper: Arc<Shaper>,
    tls: Arc<Tls>,
    identity: Identity,
    door: Arc<Doorkeeper>,
    address: SocketAddr,
}

impl Node {
    fn new(net: &SimNet, number: u8, limit: Option<Rate>) -> Node {
        let address = SocketAddr::from(([10, 0, 0, number], 7420));
        let identity = Identity::from_seed([number; 32]);
        let door = Arc::new(Doorkeeper::default());
        let tls = Arc::new(Tls::new(&identity, door.clone()).expect("a sound key"));
        let shaper = Shaper::new(limit, 0);
        let socket = ShapedSocket::new(net.socket(address), shaper.clone());
        let mut server = tls.answer().expect("a server");
        server.transport_config(Arc::new(transport()));
        let mut config = EndpointConfig::default();
        config.rng_seed(Some([number; 32]));
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))
            .expect("an endpoint");
        Node { endpoint, shaper, tls, identity, door, address }
    }

    fn know(&self, other: &Node, limit: Option<Rate>) -> NodeId {
        self.door.pin(other.identity.id());
        let node = self.shaper.add_peer(limit);
        self.shaper.route(other.address, node);
        node
    }

    async fn dial(&self, other: &Node) -> quinn::Connection {
        let mut config = self.tls.dial(other.identity.id()).expect("a client");
        config.transport_config(Arc::new(transport()));
        self.endpoint.connect_with(config, other.address, "narrowboat").expect("sound").await.expect("connects")
    }
}

/// What a stretch of bulk data over a line came to.
#[derive(Debug)]
struct Outcome {
    payload: u64,
    seconds: f64,
    wire: Wire,
    steady_payload: u64,
    steady_seconds: f64,
}

impl Outcome {
    fn goodput_bits(&self) -> f64 {
        self.payload as f64 * 8.0 / self.seconds
    }
    /// Without the first two seconds and twenty round trips of starting.
    fn steady_bits(&self) -> f64 {
        self.steady_payload as f64 * 8.0 / self.steady_seconds
    }
    fn overhead(&self) -> f64 {
        self.wire.bytes as f64 / self.payload.max(1) as f64
    }
}

/// Sends as much as it can for `time`, spread over streams, from one box to another.
async fn bulk(seed: u64, line: Line, limit: Option<Rate>, time: Duration) -> Outcome {
    let net = SimNet::new(seed);
    let (a, b) = (Node::new(&net, 1, None), Node::new(&net, 2, None));
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
    };
    if std::env::var("NARROWBOAT_TRACE").is_ok() {
        println!("{:?}", connection.stats().path);
    }
    assert!(connection.close_reason().is_none(), "{:?}", connection.close_reason());
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

/// The table of docs/performance/wan.md.
#[tokio::test(start_paused = true)]
#[ignore = "minutes: it makes the table of docs/performance/wan.md"]
async fn table() {
    println!("| link, round trip, loss | goodput | steady | wire/payload | dropped by queue | worst second / cap |");
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
