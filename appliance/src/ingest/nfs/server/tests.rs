//! The rim against hostile, slow and vanishing clients, over loopback sockets, under a program that does as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};

use bytes::Bytes;
use rustix::net;

use super::*;
use crate::ingest::nfs::record::RECORD_BYTES_MAX;
use crate::ingest::nfs::rpc::{Outcome, Owed, Peer};
use crate::ingest::nfs::xdr::{Encoder, LAST_FRAGMENT};
use rig::*;

mod crowds;
mod hogs;
mod rig;

#[test]
fn bytes_that_make_no_sense_end_their_own_connection_alone() {
    let rig = Rig::new(|_| {});
    let mut other = rig.connect();
    other.works();
    let too_long = (RECORD_BYTES_MAX as u32 + 1) | LAST_FRAGMENT;
    for bytes in [[0xff; 4], too_long.to_be_bytes(), [0x7f, 0xff, 0xff, 0xff], [0; 4]] {
        let mut hostile = rig.connect();
        hostile.0.write_all(&bytes).unwrap();
        assert_eq!(hostile.receive(), None, "{bytes:x?}");
        other.works();
    }
    let mut hostile = rig.connect();
    hostile.send(&[1, CLOSE], b"");
    assert_eq!(hostile.receive(), None);
    other.works();
    rig.until("all is given back", |status| status.connections == 1 && status.bytes_under_way == 0);
}

#[test]
fn a_client_that_vanishes_midway_leaves_nothing_behind() {
    let rig = Rig::new(|_| {});
    let mut other = rig.connect();
    for len in [1, 3, 4, 5, 100, 500_000] {
        let mut vanishing = rig.connect();
        let whole = record(&[1, ECHO], &[7; 1 << 20]);
        vanishing.0.write_all(&whole[..len]).unwrap();
        rig.until("connected", |status| status.connections >= 2);
        drop(vanishing);
        rig.until("gone", |status| status.connections <= 1);
        other.works();
    }
    // And one that vanishes while its calls are under way, and replies are on their way to it.
    let mut vanishing = rig.connect();
    vanishing.send(&[1, WAIT], b"");
    rig.entered.recv().unwrap();
    for number in 0..8 {
        vanishing.send(&[number, BULK, 1 << 20], b"");
    }
    drop(vanishing);
    rig.release.send(()).unwrap();
    rig.until("all is given back", |status| status.connections == 1 && status.bytes_under_way == 0);
    other.works();
}

#[test]
fn calls_run_concurrently_and_are_answered_as_they_end() {
    // With places for 126 calls, of which one host has half.
    let rig = Rig::new(|config| config.workers_max = 168);
    let mut client = rig.connect();
    for number in 0..63 {
        client.send(&[number, WAIT], b"");
    }
    let mut waiting: Vec<u32> = (0..63).map(|_| rig.entered.recv().unwrap()).collect();
    waiting.sort();
    assert_eq!(waiting, (0..63).collect::<Vec<_>>(), "all are under way at once");
    client.works();
    for _ in 0..63 {
        rig.release.send(()).unwrap();
    }
    let mut answered: Vec<u32> = (0..63).map(|_| client.answered()).collect();
    answered.sort();
    assert_eq!(answered, waiting);
    rig.until("all is given back", |status| status.bytes_under_way == 0);
}

#[test]
fn replies_that_wait_for_a_sync_hold_up_nobody_and_come_together() {
    let rig = Rig::new(|config| config.workers_max = 2);
    let (mut client, mut other) = (rig.connect(), rig.connect());
    client.send(&[0, OWE], b"");
    assert_eq!(rig.entered.recv().unwrap(), 0, "one worker waits for the disk");
    for number in 1..50 {
        client.send(&[number, if number == 25 { OWE_PANIC } else { OWE }], b"");
        other.send(&[number, OWE], b"");
    }
    // The other worker carries out everything else, whoever asks.
    rig.connect().works();
    for wire in [&client, &other] {
        wire.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!((&wire.0).read(&mut [0]).is_err(), "answered before it was stable");
        wire.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    rig.release.send(()).unwrap();
    let mut answered: Vec<u32> = (0..50).map(|_| client.answered()).collect();
    answered.sort();
    assert_eq!(answered, (0..50).collect::<Vec<_>>());
    let mut answered: Vec<u32> = (1..50).map(|_| other.answered()).collect();
    answered.sort();
    assert_eq!(answered, (1..50).collect::<Vec<_>>());
    client.works();
    rig.until("all is given back", |status| status.bytes_under_way == 0);
}

#[test]
fn brief_calls_that_came_together_are_carried_out_in_a_row() {
    let rig = Rig::new(|config| config.connection_calls_max = 8);
    let mut client = rig.connect();
    let row: Vec<u8> = (0..500).flat_map(|number| record(&[number, ECHO], b"")).collect();
    client.0.write_all(&row).unwrap();
    let answered: Vec<u32> = (0..500).map(|_| client.answered()).collect();
    assert_eq!(answered, (0..500).collect::<Vec<_>>());
    // A long one among them does not keep the rest waiting.
    let row = [record(&[500, ECHO], b""), record(&[501, WAIT], b""), record(&[502, ECHO], b"")].concat();
    client.0.write_all(&row).unwrap();
    assert_eq!([client.answered(), client.answered()], [500, 502]);
    rig.release.send(()).unwrap();
    assert_eq!(client.answered(), 501);
}

#[test]
fn brief_calls_that_take_long_all_the_same_hold_up_nobody_else() {
    let rig = Rig::new(|_| {});
    let mut other = rig.connect();
    let mut clients: Vec<Wire> = (0..6).map(|_| rig.connect()).collect();
    // A second call behind each makes its worker read on: nobody else reads from that connection.
    let row = [record(&[0, WAIT_BRIEF], b""), record(&[1, ECHO], b"")].concat();
    for client in &mut clients {
        client.0.write_all(&row).unwrap();
    }
    for _ in &clients {
        rig.entered.recv_timeout(Duration::from_secs(20)).expect("all are under way at once");
    }
    other.works();
    clients.iter().for_each(|_| rig.release.send(()).unwrap());
    for client in &mut clients {
        assert_eq!([client.answered(), client.answered()], [0, 1]);
    }
}

#[test]
fn calls_of_one_connection_are_bounded() {
    let rig = Rig::new(|config| config.connection_calls_max = 4);
    let (mut client, mut other) = (rig.connect(), rig.connect());
    for number in 0..10 {
        client.send(&[number, WAIT], b"");
    }
    (0..4).for_each(|_| assert!(rig.entered.recv().unwrap() < 10));
    other.works();
    assert!(rig.entered.recv_timeout(Duration::from_millis(100)).is_err(), "a fifth was begun");
    for _ in 0..10 {
        rig.release.send(()).unwrap();
    }
    let mut answered: Vec<u32> = (0..10).map(|_| client.answered()).collect();
    answered.sort();
    assert_eq!(answered, (0..10).collect::<Vec<_>>(), "but all are carried out in the end");
}

#[test]
fn a_slow_reader_gets_all_and_blocks_nobody() {
    let rig = Rig::new(|config| config.workers_max = 2);
    let (mut slow, mut other) = (rig.connect(), rig.connect());
    for number in 0..64 {
        slow.send(&[number, BULK, 1 << 20], b"");
    }
    for _ in 0..50 {
        other.works();
    }
    let queued = rig.server.status().bytes_under_way;
    assert!(queued <= (8 + 3) << 20, "{queued} bytes wait for one client");
    let mut seen = Vec::new();
    for _ in 0..64 {
        let reply = slow.receive().unwrap();
        let number = u32::from_be_bytes(reply[..4].try_into().unwrap());
        assert!(reply.len() == 8 + (1 << 20) && reply[8..].iter().all(|byte| *byte == number as u8));
        seen.push(number);
    }
    seen.sort();
    assert_eq!(seen, (0..64).collect::<Vec<_>>());
    rig.until("all is given back", |status| status.bytes_under_way == 0);
}

#[test]
fn memory_is_bounded_and_those_who_hold_it_idly_lose_it() {
    const MEMORY: usize = 4 << 20;
    let rig = Rig::new(|config| {
        config.memory_bytes = MEMORY;
        config.crawl_window = Duration::from_secs(1);
    });
    // Sixteen clients send half a record each and then nothing: more than there is memory for. Some begin with so little
    // that it could be taken for nothing, some with a fragment of a record whose length nobody knows.
    let half = &record(&[1, ECHO], &[7; 1 << 20])[..600_000];
    let fragments = [&[0, 0, 0, 1, 0, 0, 15, 0, 0][..], &[7; 600_000]].concat();
    let mut holding: Vec<Wire> = (0..16).map(|_| rig.connect()).collect();
    for (number, client) in holding.iter_mut().enumerate() {
        client.0.write_all(&if number % 3 == 0 { &fragments } else { half }[..number % 4]).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    for (number, client) in holding.iter_mut().enumerate() {
        client.0.set_nonblocking(true).unwrap();
        let _ = client.0.write(&if number % 3 == 0 { &fragments } else { half }[number % 4..]);
    }
    rig.until("what a host may take is taken", |status| status.bytes_under_way >= MEMORY / 2);
    // Another one has room.
    let mut neighbour = rig.connect_from([127, 0, 0, 2]);
    neighbour.send(&[5, ECHO], &[9; 1 << 20]);
    assert_eq!(neighbour.receive().unwrap().len(), 4 + (1 << 20));
    drop(neighbour);
    let most = (0..100).map(|_| rig.server.status().bytes_under_way).max().unwrap();
    assert!(most <= MEMORY + RECORD_BYTES_MAX, "{most} bytes");
    // One that behaves is served all the same where they are, once those are judged.
    let mut good = rig.connect();
    for _ in 0..8 {
        good.send(&[5, ECHO], &[9; 1 << 20]);
        assert_eq!(good.receive().unwrap().len(), 4 + (1 << 20));
    }
    drop(holding);
    rig.until("all is given back", |status| status.connections == 1 && status.bytes_under_way == 0);
}

#[test]
fn deadlines_close_what_says_nothing() {
    let rig = Rig::new(|config| {
        config.idle = Duration::from_secs(2);
        config.stall = Duration::from_secs(1);
    });
    let mut idle = rig.connect();
    idle.works();
    let mut stalled = rig.connect();
    stalled.0.write_all(&record(&[1, ECHO], &[7; 1 << 20])[..70_000]).unwrap();
    let mut waiting = rig.connect();
    waiting.send(&[3, WAIT], b"");
    rig.entered.recv().unwrap();
    assert_eq!(stalled.receive(), None);
    assert_eq!(idle.receive(), None);
    rig.until("only one is left", |status| status.connections == 1);
    rig.release.send(()).unwrap();
    assert_eq!(waiting.answered(), 3, "whoever waits for us has no deadline");
}

#[test]
fn our_own_mistakes_are_answered_and_harm_nobody() {
    let rig = Rig::new(|_| {});
    let mut client = rig.connect();
    client.send(&[9, PANIC], b"");
    let reply = client.receive().unwrap();
    assert_eq!(reply, [9u32, 1, 0, 0, 0, 5].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>());
    client.send(&[9, SILENCE], b"");
    client.works();
    rig.until("all is given back", |status| status.bytes_under_way == 0 && status.workers >= 2);
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answers() {
    let rig = Rig::new(|_| {});
    let mut client = rig.connect();
    client.send(&[1, WAIT], b"");
    client.send(&[2, ECHO], b"");
    assert_eq!(client.answered(), 2);
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    rig.entered.recv().unwrap();
    rig.release.send(()).unwrap();
    assert_eq!(client.answered(), 1);
    assert_eq!(client.receive(), None);
}

#[test]
fn a_client_that_has_said_all_and_reads_slowly_is_told_the_end() {
    let rig = Rig::new(|_| {});
    let mut client = rig.connect();
    // More than the kernel holds for it.
    for number in 0..40 {
        client.send(&[number, BULK, 1 << 20], b"");
    }
    client.0.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..40 {
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(client.receive().expect("a reply").len(), 8 + (1 << 20));
    }
    assert_eq!(client.receive(), None, "nothing follows, and it is told so");
    rig.until("nothing is left of it", |status| status.connections == 0 && status.bytes_under_way == 0);
}

#[test]
fn stopping_ends_what_is_under_way_and_takes_nothing_new() {
    let rig = Rig::new(|_| {});
    let (mut client, mut idle) = (rig.connect(), rig.connect());
    idle.works();
    client.send(&[1, WAIT], b"");
    rig.entered.recv().unwrap();
    let (server, address) = (rig.server, rig.address);
    let stopping = std::thread::spawn(move || {
        let since = Instant::now();
        server.stop(Duration::from_secs(20));
        since.elapsed()
    });
    assert_eq!(idle.receive(), None, "idle connections are closed at once");
    assert!(TcpStream::connect(address).is_err(), "and no new ones are taken");
    client.send(&[2, ECHO], b"");
    rig.release.send(()).unwrap();
    assert_eq!(client.answered(), 1, "the call under way is answered");
    assert_eq!(client.receive(), None, "the one that came too late is not");
    assert!(stopping.join().unwrap() < Duration::from_secs(10));
}

#[test]
fn stopping_does_not_wait_for_ever() {
    let rig = Rig::new(|_| {});
    let mut client = rig.connect();
    client.send(&[1, WAIT], b"");
    rig.entered.recv().unwrap();
    let since = Instant::now();
    rig.server.stop(Duration::from_millis(50));
    assert!(since.elapsed() < Duration::from_secs(10));
    assert_eq!(client.receive(), None);
    rig.release.send(()).unwrap();
}

#[test]
fn datagrams_are_answered_without_a_marker() {
    use crate::ingest::nfs::portmap::{PORTMAP_PROGRAM, Portmap};
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = ours.local_addr().unwrap();
    let service: Arc<dyn Service> = Arc::new(Portmap::new(2049));
    let config = ServerConfig::new(Arc::new(|| Timestamp(0)));
    let _server = Server::start(config, Vec::new(), vec![(ours, service)]).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let call = [5u32, 0, 2, PORTMAP_PROGRAM, 2, 3, 0, 0, 0, 0, 100_003, 3, 6, 0];
    client.send_to(b"noise", address).unwrap();
    client.send_to(&call.into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>(), address).unwrap();
    let mut reply = [0; 100];
    let (len, _) = client.recv_from(&mut reply).unwrap();
    let expected = [5u32, 1, 0, 0, 0, 0, 2049];
    assert_eq!(reply[..len], expected.into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>());
}

#[test]
fn random_bytes_in_random_pieces_harm_nobody() {
    use rand::rngs::StdRng;
    use rand::{Rng, RngExt, SeedableRng};
    let seeds = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let rig = Rig::new(|_| {});
    let mut other = rig.connect();
    for seed in 0..seeds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut client = rig.connect();
        let mut stream = Vec::new();
        for _ in 0..random.random_range(1..30) {
            let len = if random.random_bool(0.1) { 100_000 } else { random.random_range(0..300) };
            let mut body = vec![0; len];
            random.fill_bytes(&mut body);
            // Mostly calls that are answered, so that the rest comes after them.
            stream.extend(record(&[1, if random.random_bool(0.9) { ECHO } else { BULK }, 40], &body));
        }
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(0..stream.len());
            stream[at] ^= random.random::<u8>();
        }
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.random_range(1..=rest.len()));
            if client.0.write_all(now).is_err() {
                break;
            }
            rest = later;
        }
        other.works();
    }
    rig.until("all is given back", |status| status.connections == 1 && status.bytes_under_way == 0);
}

#[test]
fn a_panic_between_settling_and_sending_costs_one_client_its_connection_and_nobody_else_a_reply() {
    let rig = Rig::new(|_| {});
    let (mut trapped, mut other) = (rig.connect(), rig.connect());
    trapped.send(&[1, OWE_TRAP], b"");
    rig.entered.recv().unwrap();
    other.send(&[2, OWE], b"");
    other.works();
    rig.release.send(()).unwrap();
    assert_eq!(rig.entered.recv().unwrap(), 2, "what was owed meanwhile is settled");
    rig.release.send(()).unwrap();
    assert_eq!(other.answered(), 2);
    while trapped.receive().is_some() {}
    other.send(&[3, OWE], b"");
    assert_eq!(other.answered(), 3, "and settling goes on");
    rig.until("all is given back", |status| status.connections == 1 && status.bytes_under_way == 0);
}
