//! Traffic of the class scavenger beside others on a simulated line: what is left for it, and what it takes alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_wan::link::identity::Identity;
use narrowboat_wan::link::socket::{ShapedSocket, Shaper};
use narrowboat_wan::link::tls::{Doorkeeper, Tls};
use narrowboat_wan::link::transport::{peer_window, transport, transport_of};
use narrowboat_wan::shape::Class;
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};

/// A sender and a receiver with a line between them.
struct Office {
    a: Endpoint,
    tls: Arc<Tls>,
    there: (narrowboat_wan::peer::PeerId, SocketAddr),
    _b: Endpoint,
}

fn endpoint(net: &SimNet, number: u8) -> (Endpoint, Arc<Tls>, Arc<Doorkeeper>, Identity, SocketAddr) {
    let address = SocketAddr::from(([10, 0, 0, number], 7420));
    let identity = Identity::from_seed([number; 32]);
    let door = Arc::new(Doorkeeper::default());
    let tls = Arc::new(Tls::new(&identity, door.clone()).expect("a sound key"));
    let shaper = Shaper::new(None, 0);
    let peer = shaper.add_peer(None);
    (1..=2).for_each(|other| shaper.route(SocketAddr::from(([10, 0, 0, other], 7420)), peer));
    let socket = ShapedSocket::new(net.socket(address), shaper);
    let mut server = tls.answer().expect("a server");
    server.transport_config(Arc::new(transport()));
    let mut config = EndpointConfig::default();
    config.rng_seed(Some([number; 32]));
    let endpoint = Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime));
    (endpoint.expect("an endpoint"), tls, door, identity, address)
}

impl Office {
    fn new(line: Line) -> Office {
        let net = SimNet::new(9);
        let (a, tls, a_door, a_id, a_at) = endpoint(&net, 1);
        let (b, _, b_door, b_id, b_at) = endpoint(&net, 2);
        net.connect(a_at, b_at, line);
        a_door.pin(b_id.id());
        b_door.pin(a_id.id());
        let accept = b.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accept.accept().await {
                let connection = incoming.await.expect("connects");
                connection.set_receive_window(peer_window(1));
                tokio::spawn(async move {
                    while let Ok(mut stream) = connection.accept_uni().await {
                        tokio::spawn(async move { while let Ok(Some(_)) = stream.read_chunk(1 << 20, false).await {} });
                    }
                });
            }
        });
        Office { a, tls, there: (b_id.id(), b_at), _b: b }
    }

    /// A connection that always has something to send.
    async fn sender(&self, transport: TransportConfig) -> Connection {
        let mut config = self.tls.dial(self.there.0).expect("sound");
        config.transport_config(Arc::new(transport));
        let connecting = self.a.connect_with(config, self.there.1, "narrowboat").expect("sound");
        let connection = connecting.await.expect("connects");
        for _ in 0..4 {
            let mut stream = connection.open_uni().await.expect("open");
            tokio::spawn(async move { while stream.write_all(&[0; 4096]).await.is_ok() {} });
        }
        connection
    }
}

/// Megabits per second that each sends over a stretch of time.
async fn rates(connections: &[&Connection], time: Duration) -> Vec<f64> {
    let sent = || connections.iter().map(|connection| connection.stats().udp_tx.bytes).collect::<Vec<_>>();
    let before = sent();
    tokio::time::sleep(time).await;
    sent().iter().zip(before).map(|(now, before)| (now - before) as f64 * 8e-6 / time.as_secs_f64()).collect()
}

fn scavenger() -> TransportConfig {
    transport_of(Class::Scavenger)
}

fn cubic() -> TransportConfig {
    let mut transport = transport();
    transport.congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()));
    transport
}

fn line(mbit: u64, milli: u64, loss: f64, queue_bdp: f64) -> Line {
    let mut line = Line::new(mbit * 1_000_000, Duration::from_millis(milli), loss);
    line.queue_bytes = (line.queue_bytes as f64 * queue_bdp) as u64;
    line
}

const LINES: [(u64, u64, f64); 5] = [(20, 50, 1.0), (20, 50, 4.0), (20, 50, 0.3), (5, 200, 1.0), (100, 10, 1.0)];

async fn beside(mbit: u64, milli: u64, queue: f64, other: TransportConfig) -> (f64, f64, f64) {
    let office = Office::new(line(mbit, milli, 0.0, queue));
    let yields = office.sender(scavenger()).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let takes = office.sender(other).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let both = rates(&[&yields, &takes], Duration::from_secs(40)).await;
    takes.close(0_u32.into(), b"done");
    tokio::time::sleep(Duration::from_secs(15)).await;
    let after = rates(&[&yields], Duration::from_secs(20)).await;
    (both[0] / mbit as f64, both[1] / mbit as f64, after[0] / mbit as f64)
}

/// Some of the table on every run.
#[tokio::test(start_paused = true)]
async fn scavengers_yield_and_take_what_is_left() {
    for (name, other) in [("Cubic", cubic()), ("our normal class", transport())] {
        let office = Office::new(line(20, 50, 0.0, 1.0));
        let yields = office.sender(scavenger()).await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let alone = rates(&[&yields], Duration::from_secs(10)).await[0];
        assert!(alone > 12.0, "alone it takes {alone} of 20 Mbit/s");
        let takes = office.sender(other).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let both = rates(&[&yields, &takes], Duration::from_secs(15)).await;
        assert!(both[0] < 1.2 && both[1] > 17.0, "beside {name}: {both:?}");
        takes.close(0_u32.into(), b"done");
        tokio::time::sleep(Duration::from_secs(15)).await;
        let after = rates(&[&yields], Duration::from_secs(10)).await[0];
        assert!(after > 11.0, "after {name} it takes {after} of 20 Mbit/s");
    }
}

/// The table of docs/performance/wan.md.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement for docs/performance/wan.md"]
async fn table() {
    println!(
        "| line | scavenger alone | beside Cubic | Cubic | after it | beside our normal one | that one | after it | two of them |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let filter = std::env::var("NARROWBOAT_ROW").unwrap_or_default();
    for (mbit, milli, queue) in LINES {
        if !format!("{mbit}-{milli}-{queue}").contains(&filter) {
            continue;
        }
        let office = Office::new(line(mbit, milli, 0.0, queue));
        let first = office.sender(scavenger()).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let alone = rates(&[&first], Duration::from_secs(30)).await[0] / mbit as f64;
        let second = office.sender(scavenger()).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let two = rates(&[&first, &second], Duration::from_secs(60)).await;
        let of_cubic = beside(mbit, milli, queue, cubic()).await;
        let of_ours = beside(mbit, milli, queue, transport()).await;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        println!(
            "| {mbit} Mbit/s, {milli} ms, queue of {queue} BDP | {} | {} | {} | {} | {} | {} | {} | {:.1} and {:.1} Mbit/s |",
            percent(alone),
            percent(of_cubic.0),
            percent(of_cubic.1),
            percent(of_cubic.2),
            percent(of_ours.0),
            percent(of_ours.1),
            percent(of_ours.2),
            two[0],
            two[1],
        );
    }
}
