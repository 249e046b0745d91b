//! The rim: real sockets, tools that nobody here wrote, initiators that mean harm.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::harness::{NAME, Served};
use super::libiscsi::tool;
use crate::ingest::iscsi::chap::{Account, Secret};
use crate::ingest::iscsi::scsi::Shape;
use crate::ingest::iscsi::session::Deadlines;
use crate::ingest::iscsi::{Access, ServerConfig};

/// Where others than most are.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn images_come_back_as_they_went() {
    let all = Served::new(64 << 20, Shape::EMULATED_512, Access::default());
    let (server, portals) = all.serve(1, ServerConfig::default());
    let url = format!("iscsi://{}/{NAME}/0", portals[0]);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image").to_str().unwrap().to_owned();
    let mut content = super::initiator::pattern(64 << 20);
    content[10 << 20..30 << 20].fill(0);
    std::fs::write(&image, &content).unwrap();
    let (copied, text) = tool(120, "qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", &image, &url]);
    assert!(copied, "{text}");
    let (same, text) = tool(120, "qemu-img", &["compare", "-f", "raw", "-F", "raw", &image, &url]);
    assert!(same, "{text}");
    let commands = [
        "-c",
        "write -P 0xa5 1M 1M",
        "-c",
        "discard 4M 1M",
        "-c",
        "flush",
        "-c",
        "read -P 0xa5 1M 1M",
        "-c",
        "read -P 0 4M 1M",
    ];
    let (done, text) = tool(120, "qemu-io", &[&["-f", "raw"], &commands[..], &[&url]].concat());
    assert!(done && !text.contains("verification failed"), "{text}");
    assert_eq!(all.disk.unstable.load(SeqCst), 0, "flushed");
    let (done, text) = tool(
        120,
        "qemu-img",
        &["bench", "-w", "-f", "raw", "-t", "none", "-c", "500", "-d", "32", "-s", "65536", &url],
    );
    assert!(done, "{text}");
    until("everything is given back", || server.status().memory_bytes == 0);
    server.stop(Duration::from_secs(5));
}

#[test]
fn tools_with_the_right_password_get_in() {
    let account = Account { name: "host".into(), secret: Secret::new("a long password"), mutual: None };
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access { accounts: vec![account], ..Access::default() });
    let (_server, portals) = all.serve(1, ServerConfig::default());
    let ask = |who: &str| tool(120, "iscsi-readcapacity16", &[&format!("iscsi://{who}{}/{NAME}/0", portals[0])]);
    let (got_in, text) = ask("host%a long password@");
    assert!(got_in && text.contains("Total size:1048576"), "{text}");
    assert!(!ask("host%another password@").0);
    assert!(!ask("").0);
    let (listed, text) = tool(120, "iscsi-ls", &[&format!("iscsi://{}", portals[0])]);
    assert!(listed && text.contains(NAME), "{text}");
}

#[test]
fn thousands_that_say_nothing_keep_nobody_out() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let config = ServerConfig {
        deadlines: Deadlines { login: Duration::from_secs(4), ..Deadlines::default() },
        ..ServerConfig::default()
    };
    let (logins_max, connections_max) = (config.logins_address_max, config.connections_max);
    let (server, portals) = all.serve(1, config);
    let mut held = std::collections::VecDeque::new();
    for number in 0..2000 {
        let mut socket = TcpStream::connect(portals[0]).unwrap();
        // Half of a header, or nothing.
        let _ = socket.write_all(&[0x43; 47][..number % 48]);
        held.push_back(socket);
        if held.len() > 200 {
            held.pop_front();
        }
        if number % 500 == 499 {
            assert!(server.status().logins <= logins_max && server.status().connections <= connections_max);
            let (done, text) = tool(120, "iscsi-inq", &[&format!("iscsi://{}/{NAME}/0", portals[0])]);
            assert!(done, "{text}");
        }
    }
    until("all were closed", || server.status().connections == 0);
    assert_eq!(server.status().memory_bytes, 0);
    assert!(held.iter_mut().all(|socket| matches!(socket.read(&mut [0; 9]), Ok(0) | Err(_))));
}

/// A connection that has logged in.
fn logged_in(portal: SocketAddr) -> TcpStream {
    log_in(TcpStream::connect(portal).unwrap(), 0)
}

/// A connection from a certain address of this machine: all of 127.0.0.0/8 are.
fn connect_from(address: Ipv4Addr, portal: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((address, 0))).unwrap();
    connect(&socket, &portal).unwrap();
    socket.into()
}

/// Logs in as one port of the initiator.
fn log_in(mut socket: TcpStream, port: u8) -> TcpStream {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let text = format!("InitiatorName=iqn.2025-01.org.example:host\0TargetName={NAME}\0");
    let mut login = [0u8; 48];
    (login[0], login[1], login[7], login[13]) = (0x43, 0x87, text.len() as u8, port);
    let mut bytes = login.to_vec();
    bytes.extend(text.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    socket.write_all(&bytes).unwrap();
    let (header, _) = receive(&mut socket);
    assert_eq!((header[0], header[1], header[36]), (0x23, 0x87, 0));
    socket
}

/// The next PDU.
fn receive(socket: &mut TcpStream) -> ([u8; 48], Vec<u8>) {
    let mut header = [0; 48];
    socket.read_exact(&mut header).unwrap();
    let len = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    let mut data = vec![0; len.next_multiple_of(4)];
    socket.read_exact(&mut data).unwrap();
    (header, data)
}

/// READ (10) of one block, as the command `number` of a connection.
fn read_command(number: u8, block: u8) -> [u8; 48] {
    let mut command = [0; 48];
    (command[0], command[1], command[19], command[22], command[27]) = (0x01, 0xc1, number, 2, number);
    (command[32], command[37], command[40]) = (0x28, block, 1);
    command
}

/// An immediate NOP-Out that is to be answered.
fn ping(tag: u8, number: u8) -> [u8; 48] {
    let mut ping = [0; 48];
    (ping[0], ping[1], ping[19], ping[27]) = (0x40, 0x80, tag, number);
    ping[20..24].fill(0xff);
    ping
}

/// A connection whose commands are quick, as the target has learnt from the first sixty: it calls no second worker to them any more.
fn known_as_quick(portal: SocketAddr) -> TcpStream {
    let mut socket = logged_in(portal);
    for number in 0..60 {
        socket.write_all(&read_command(number, 8)).unwrap();
        receive(&mut socket);
    }
    socket
}

#[test]
fn what_hangs_for_once_does_not_hold_up_what_is_behind_it() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (_server, portals) = all.serve(1, ServerConfig::default());
    let mut socket = known_as_quick(portals[0]);
    all.disk.hangs.store(true, SeqCst);
    socket.write_all(&[read_command(60, 0), read_command(61, 8)].concat()).unwrap();
    let (header, data) = receive(&mut socket);
    assert_eq!((header[0], header[1] & 1, header[19], data.len()), (0x25, 1, 61, 512), "the second came back first");
    // Nor does it hold up what comes later.
    socket.write_all(&read_command(62, 8)).unwrap();
    assert_eq!(receive(&mut socket).0[19], 62);
    all.disk.hangs.store(false, SeqCst);
    assert_eq!(receive(&mut socket).0[19], 60);
}

#[test]
fn what_is_done_does_not_wait_for_what_hangs_behind_it() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (_server, portals) = all.serve(1, ServerConfig::default());
    let mut socket = known_as_quick(portals[0]);
    for number in (60..100).step_by(2) {
        all.disk.hangs.store(true, SeqCst);
        socket.write_all(&[read_command(number, 8), read_command(number + 1, 0)].concat()).unwrap();
        assert_eq!(receive(&mut socket).0[19], number, "done before the other was begun");
        all.disk.hangs.store(false, SeqCst);
        assert_eq!(receive(&mut socket).0[19], number + 1);
    }
}

#[test]
fn a_write_that_could_not_be_settled_is_answered_and_costs_no_worker() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (server, portals) = all.serve(1, ServerConfig::default());
    let mut socket = logged_in(portals[0]);
    socket.write_all(&read_command(0, 8)).unwrap();
    receive(&mut socket);
    let mut write = |number: u8| {
        let mut command = read_command(number, 8);
        (command[1], command[6], command[32]) = (0xa1, 2, 0x2a);
        socket.write_all(&[&command[..], &[7; 512]].concat()).unwrap();
        let (header, _) = receive(&mut socket);
        (header[0], header[3], header[19])
    };
    let workers = server.status().workers;
    all.disk.breaks.store(true, SeqCst);
    for number in 1..5 {
        assert_eq!(write(number), (0x21, 2, number), "CHECK CONDITION");
    }
    all.disk.breaks.store(false, SeqCst);
    assert_eq!(write(5), (0x21, 0, 5));
    assert!(server.status().workers >= workers);
}

#[test]
fn who_holds_workers_leaves_some_to_others_and_to_itself() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (server, portals) = all.serve(1, ServerConfig { workers_max: 16, ..ServerConfig::default() });
    all.disk.hangs.store(true, SeqCst);
    let mut greedy: Vec<TcpStream> =
        (0..20).map(|port| log_in(TcpStream::connect(portals[0]).unwrap(), port)).collect();
    for socket in &mut greedy {
        // The unit has something to say to each first.
        socket.write_all(&read_command(0, 8)).unwrap();
        receive(socket);
    }
    for socket in &mut greedy {
        let commands: Vec<[u8; 48]> = (1..4).map(|number| read_command(number, 0)).collect();
        socket.write_all(&commands.concat()).unwrap();
    }
    until("six of twelve places are its own", || all.disk.hanging.load(SeqCst) == 6);
    // It is answered itself: pings, and what needs no disk.
    for socket in &mut greedy {
        let ping = ping(99, 4);
        let mut ready = read_command(4, 0);
        ready[32..48].fill(0);
        (ready[1], ready[22]) = (0x81, 0);
        socket.write_all(&[ping, ready].concat()).unwrap();
        let mut heard = [receive(socket).0[19], receive(socket).0[19]];
        heard.sort_unstable();
        assert_eq!(heard, [4, 99]);
    }
    // And others are as if nothing was.
    let mut other = log_in(connect_from(ELSEWHERE, portals[0]), 99);
    for number in 0..20 {
        other.write_all(&read_command(number, 8)).unwrap();
        assert_eq!(receive(&mut other).0[19], number);
    }
    assert_eq!(all.disk.hanging.load(SeqCst), 6);
    assert!(server.status().workers <= 16);
    all.disk.hangs.store(false, SeqCst);
    for socket in &mut greedy {
        let mut heard: Vec<u8> = (1..4).map(|_| receive(socket).0[19]).collect();
        heard.sort_unstable();
        assert_eq!(heard, [1, 2, 3]);
    }
}

#[test]
fn who_takes_no_answers_to_its_pings_is_read_no_further() {
    // Far more than the kernel holds in both directions.
    const FLOOD: usize = 64 << 20;
    const ANSWERS_MAX: usize = 1 << 20;
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (server, portals) =
        all.serve(1, ServerConfig { connection_reply_bytes_max: ANSWERS_MAX, ..ServerConfig::default() });
    let mut socket = logged_in(portals[0]);
    let mut one = [&ping(7, 0)[..], &[0x5a; 112]].concat();
    one[7] = 112;
    let (len, many) = (one.len(), one.repeat(4096));
    // Faster than they can be answered, until no more is taken for a while.
    socket.set_nonblocking(true).unwrap();
    let (mut sent, mut moved) = (0, Instant::now());
    while sent < FLOOD && moved.elapsed() < Duration::from_secs(3) {
        match socket.write(&many[sent % len..]) {
            Ok(more) => (sent, moved) = (sent + more, Instant::now()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    assert!(sent < FLOOD, "everything was read, and nothing was taken");
    let waiting = server.status().reply_bytes;
    assert!(waiting <= ANSWERS_MAX + (512 << 10), "{waiting} bytes wait for it");
    // It goes on when it takes them, and nothing is lost.
    socket.set_nonblocking(false).unwrap();
    let mut other = socket.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| other.write_all(&one[sent % len..]).unwrap());
        for _ in 0..sent / len + 1 {
            let (header, echo) = receive(&mut socket);
            assert_eq!((header[0], header[19], &echo[..]), (0x20, 7, &[0x5a; 112][..]));
        }
    });
    socket.write_all(&read_command(0, 8)).unwrap();
    assert_eq!(receive(&mut socket).0[19], 0);
}

#[test]
fn who_sends_without_end_what_is_not_answered_keeps_no_worker() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (_server, portals) = all.serve(1, ServerConfig { workers_max: 2, ..ServerConfig::default() });
    let mut other = logged_in(portals[0]);
    // No tag: nobody wants to hear of it.
    let mut silent = ping(0, 0);
    silent[16..20].fill(0xff);
    let many = silent.repeat(1 << 14);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for port in 1..4 {
            let mut socket = log_in(TcpStream::connect(portals[0]).unwrap(), port);
            let (many, stop) = (&many, &stop);
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    socket.write_all(many).unwrap();
                }
            });
        }
        let stopping = StopAtEnd(&stop);
        for number in 0..10 {
            other.write_all(&read_command(number, 8)).unwrap();
            assert_eq!(receive(&mut other).0[19], number);
        }
        drop(stopping);
    });
}

/// Says that it is over, also where a test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn stopping_asks_initiators_to_leave_and_does_not_wait_for_ever() {
    let all = Served::new(1 << 20, Shape::EMULATED_512, Access::default());
    let (server, portals) = all.serve(2, ServerConfig::default());
    let mut socket = logged_in(portals[1]);
    let mut header = [0; 48];
    let since = Instant::now();
    let stopping = std::thread::spawn(move || server.stop(Duration::from_millis(300)));
    socket.read_exact(&mut header).unwrap();
    assert_eq!((header[0], header[36]), (0x32, 1), "logout is asked for");
    assert_eq!(socket.read(&mut header).unwrap_or(0), 0);
    stopping.join().unwrap();
    assert!(since.elapsed() < Duration::from_secs(10));
    assert!(TcpStream::connect(portals[1]).is_err());
}
