//! A peer that means harm over its real connections, in simulated time.

use std::sync::Arc;
use std::time::Duration;

use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_wan::link::identity::Identity;
use narrowboat_wan::link::tls::{Doorkeeper, Tls};
use narrowboat_wan::link::transport::transport;
use narrowboat_wan::link::{Host, Link};
use narrowboat_wan::wire::{Channel, FrameDecoder, Message, Preface, ProbeMessage, StreamClass};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};

use super::common::office::Office;
use super::common::{at, simulate};

/// A box that has a peer's key, and is no Narrowboat: whatever it says over its connections.
struct Fiend {
    _endpoint: Endpoint,
    connection: Connection,
}

const VICTIM: u8 = 1;
const FIEND: u8 = 2;

async fn world() -> (SimNet, Arc<Office>, Link, Fiend) {
    let net = SimNet::new(3);
    let (victim, fiend) = (Office::new(VICTIM), Office::new(FIEND));
    net.connect(at(VICTIM), at(FIEND), Line::new(50_000_000, Duration::from_millis(20), 0.0));
    victim.pin(&fiend.record(Vec::new())).unwrap();
    let link = Link::over(net.socket(at(VICTIM)), victim.config(at(VICTIM)), victim.clone()).unwrap();
    let (identity, door) = (Identity::from_seed([FIEND; 32]), Arc::new(Doorkeeper::default()));
    let there = Identity::from_seed([VICTIM; 32]).id();
    door.pin(there);
    let tls = Tls::new(&identity, door).unwrap();
    let socket = net.socket(at(FIEND));
    let endpoint =
        Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
    let mut config = tls.dial(there).unwrap();
    config.transport_config(Arc::new(transport()));
    let connection = endpoint.connect_with(config, at(VICTIM), "narrowboat").unwrap().await.unwrap();
    (net, victim, link, Fiend { _endpoint: endpoint, connection })
}

/// Lets simulated time pass until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..600 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come about within a minute");
}

/// Probe after probe, several at a time, each asking for all that it may: the line is not flooded.
#[test]
fn a_peer_that_probes_for_ever_gets_one_probe_in_ten_seconds() {
    simulate(async {
        let (net, victim, _link, fiend) = world().await;
        let began = net.now();
        let before = net.wire(at(VICTIM), at(FIEND)).bytes;
        let mut session = 0;
        while net.now() - began < Duration::from_secs(61) {
            session += 1;
            let Ok(Ok((mut send, mut recv))) =
                tokio::time::timeout(Duration::from_secs(1), fiend.connection.open_bi()).await
            else {
                continue;
            };
            let preface = Preface { class: StreamClass::Probe, index: 0, session };
            send.write_all(&preface.encode()).await.unwrap();
            // All trains that there can be, and more, at once.
            for train in 1..=4 {
                let _ = send.write_all(&ProbeMessage::Send { train, size: 1140, packets: 112 }.encode()).await;
            }
            tokio::spawn(async move {
                let mut heard = [0; 4096];
                while let Ok(Some(_)) = recv.read(&mut heard).await {}
                drop(send);
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let seconds = (net.now() - began).as_secs();
        let sent = net.wire(at(VICTIM), at(FIEND)).bytes - before;
        // A probe, ten seconds of rest: of each at most the bytes of its trains with headers; and what QUIC says besides.
        let probes = seconds / 10 + 1;
        let bound = probes * (256_000 * 112 / 100) + 60 * seconds * 200;
        assert!(
            session > 100 && sent < bound,
            "{sent} bytes in {seconds} s for {session} probes; {bound} are the bound"
        );
        assert!(sent > probes / 2 * 200_000, "it does answer: {sent}");
        // What goes beyond a probe is an entry, each time.
        let refused = victim.refused.lock().unwrap().clone();
        assert!((probes / 2..=probes).contains(&(refused.len() as u64)), "{refused:?}");
        assert!(refused.iter().all(|why| why.starts_with("it probed the line")), "{refused:?}");
    });
}

/// Sessions of nonsense, in both channels, and grants that are none: each ends, is told why, and is an entry.
#[test]
fn nonsense_over_a_real_connection_is_refused_and_kept() {
    simulate(async {
        let (_net, victim, _link, fiend) = world().await;
        let count = || victim.refused.lock().unwrap().len();
        for session in 0..20 {
            let before = count();
            let (mut send, mut recv) = fiend.connection.open_bi().await.unwrap();
            send.write_all(&Preface { class: StreamClass::Control, index: 0, session }.encode()).await.unwrap();
            send.write_all(&[0xee; 200]).await.unwrap();
            until("an entry", || count() == before + 1).await;
            let heard = recv.read_to_end(1 << 16).await.unwrap();
            let mut decoder = FrameDecoder::new(Channel::Control);
            let (mut rest, mut stop) = (&heard[..], None);
            while let Some(frame) = decoder.next(&mut rest).unwrap() {
                if let Some(Message::Stop(said)) = Message::decode(frame).unwrap() {
                    stop = Some(said);
                }
            }
            assert!(stop.is_some_and(|stop| stop.sentence.contains("cannot read")));
        }
        let mut grants = fiend.connection.open_uni().await.unwrap();
        grants.write_all(&Preface { class: StreamClass::Grants, index: 0, session: 0 }.encode()).await.unwrap();
        grants.write_all(&7_u64.to_le_bytes()).await.unwrap();
        until("the last entry", || count() == 21).await;
        assert!(victim.refused.lock().unwrap()[20].starts_with("it said how fast"));
    });
}
