//! Bulk data over a real line: the transport, socket and controller of the product between two processes, and quinn's default controller
//! in their place.
//!
//! ```text
//! cargo run --release -p narrowboat-wan --example bulk -- take LISTEN
//! cargo run --release -p narrowboat-wan --example bulk -- give ADDRESS [--seconds 10] [--limit 900Mbit] [--cubic]
//! ```
//!
//! `take` serves one connection and ends with it. `give` sends what it can for so long, waits until all of it was acknowledged, and
//! prints one object of JSON: bytes of payload and on the wire (IP and UDP headers included), the seconds from the first byte to
//! the last acknowledgement, bits per second on the wire from two seconds after the first byte to the last that was given, and the most wire bits in any second as the box counts them; for whoever looks why, packets sent and lost, and the window
//! and round trip at the end. The keys come from seeds: it is for lines that nobody else is on.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use narrowboat_wan::link::identity::Identity;
use narrowboat_wan::link::socket::{ShapedSocket, Shaper};
use narrowboat_wan::link::tls::{Doorkeeper, Tls};
use narrowboat_wan::link::transport::{STRIPES_MAX, peer_window, transport};
use narrowboat_wan::link::udp::MarkingSocket;
use narrowboat_wan::shape::{Marks, NodeId, Rate};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};

type Done<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: bulk take LISTEN | bulk give ADDRESS [--seconds N] [--limit RATE] [--cubic]";
const GIVER: u8 = 1;
const TAKER: u8 = 2;
/// How long a connection begins.
const START: Duration = Duration::from_secs(2);
const PIECE: usize = 64 << 10;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bulk: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Done<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().skip_while(|word| *word != name).nth(1);
    let [what, address, ..] = &words[..] else { return Err(USAGE.into()) };
    let address: SocketAddr = address.parse()?;
    match what.as_str() {
        "take" => take(address).await,
        "give" => {
            let seconds = value("--seconds").map_or(Ok(10.0), |text| text.parse())?;
            let limit = value("--limit").map(|text| text.parse::<Rate>()).transpose()?;
            let cubic = words.iter().any(|word| word == "--cubic");
            give(address, Duration::from_secs_f64(seconds), limit, cubic).await
        }
        _ => Err(USAGE.into()),
    }
}

struct End {
    endpoint: Endpoint,
    tls: Arc<Tls>,
    shaper: Arc<Shaper>,
}

fn end(listen: SocketAddr, number: u8, limit: Option<Rate>) -> Done<End> {
    let door = Arc::new(Doorkeeper::default());
    [GIVER, TAKER].into_iter().for_each(|other| door.pin(identity(other).id()));
    let tls = Arc::new(Tls::new(&identity(number), door)?);
    let shaper = Shaper::new(limit, 0);
    let socket = ShapedSocket::marking(MarkingSocket::bind(listen, Marks::default())?, shaper.clone());
    let mut answering = tls.answer()?;
    answering.transport_config(Arc::new(transport()));
    let standing = EndpointConfig::default();
    let endpoint = Endpoint::new_with_abstract_socket(standing, Some(answering), socket, Arc::new(TokioRuntime))?;
    Ok(End { endpoint, tls, shaper })
}

fn identity(number: u8) -> Identity {
    Identity::from_seed([number; 32])
}

async fn take(listen: SocketAddr) -> Done<()> {
    let end = end(listen, TAKER, None)?;
    println!("listening");
    let connection = end.endpoint.accept().await.ok_or("closed")?.await?;
    let peer = end.shaper.add_peer(None);
    end.shaper.route(connection.remote_address(), peer);
    connection.set_receive_window(peer_window(1));
    while let Ok(mut stream) = connection.accept_uni().await {
        tokio::spawn(async move { while let Ok(Some(_)) = stream.read_chunk(1 << 20, true).await {} });
    }
    Ok(())
}

async fn give(to: SocketAddr, time: Duration, limit: Option<Rate>, cubic: bool) -> Done<()> {
    let anywhere: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
    let end = end(anywhere, GIVER, None)?;
    let peer = end.shaper.add_peer(limit);
    end.shaper.route(to, peer);
    let mut dialling = end.tls.dial(identity(TAKER).id())?;
    dialling.transport_config(Arc::new(if cubic { with_cubic() } else { transport() }));
    let connection = end.endpoint.connect_with(dialling, to, "narrowboat")?.await?;
    let began = Instant::now();
    let backlog = tokio::spawn(under_backlog(end.shaper.clone(), peer, began + time));
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..STRIPES_MAX / 2 {
        streams.spawn(fill(connection.clone(), began + time));
    }
    let mut payload = 0;
    while let Some(filled) = streams.join_next().await {
        payload += filled??;
    }
    let (seconds, sent) = (began.elapsed().as_secs_f64(), end.shaper.counters(Some(peer)).sent);
    let path = connection.stats().path;
    println!(
        "{{\"payload\": {payload}, \"wire\": {}, \"seconds\": {seconds:.3}, \"backlog_bits_per_second\": {:.0}, \"worst_second_bits\": {}, \"sent\": {}, \"lost\": {}, \"window\": {}, \"round_trip\": {:.4}}}",
        sent.bytes,
        backlog.await?,
        sent.highest_bits_per_second(),
        path.sent_packets,
        path.lost_packets,
        path.cwnd,
        path.rtt.as_secs_f64(),
    );
    connection.close(0_u32.into(), b"done");
    end.endpoint.wait_idle().await;
    Ok(())
}

/// What leaves in a second, in bits, from [`START`] on until then: as long as there is always something to send.
async fn under_backlog(shaper: Arc<Shaper>, peer: NodeId, until: Instant) -> f64 {
    let sent = || shaper.counters(Some(peer)).sent.bytes;
    tokio::time::sleep(START).await;
    let (began, before) = (Instant::now(), sent());
    tokio::time::sleep_until(until.into()).await;
    (sent() - before) as f64 * 8.0 / began.elapsed().as_secs_f64()
}

/// Writes one stream until then, and returns how much was acknowledged in the end.
async fn fill(connection: Connection, until: Instant) -> Done<u64> {
    let mut stream = connection.open_uni().await?;
    let piece = bytes::Bytes::from(vec![0x5A; PIECE]);
    let mut written = 0;
    while Instant::now() < until {
        stream.write_chunk(piece.clone()).await?;
        written += PIECE as u64;
    }
    stream.finish()?;
    stream.stopped().await?;
    Ok(written)
}

/// quinn as it comes: a transport like ours but for the controller.
fn with_cubic() -> TransportConfig {
    let mut transport = transport();
    transport.congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default()));
    transport
}
