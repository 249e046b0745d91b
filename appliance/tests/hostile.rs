//! Initiators that mean harm, against the real box: what they do ends with their own connections, an initiator from
//! another address works on undisturbed, and the box's memory stays within bounds.
//!
//! All of them come from an address that may log in: outside of the lists there is nothing to be done but to log in half.

mod common;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::iscsi::{BLOCK, Initiator, Login, NO_TAG, connect_from, header, put, read, word, write};
use common::{Served, fine, noise, target};

/// Where harm comes from.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// How long the other initiator's commands may take beside it all, on a machine with other work.
const COMMAND_MAX: Duration = Duration::from_secs(5);
/// What the box may hold beyond what it held before, in bytes: windows and bursts, replies, one reply a connection.
const GROWTH_MAX: u64 = 224 << 20;
/// Who takes nothing is closed sooner than after the minute that it has where nobody waits for its memory.
const SOON: Duration = Duration::from_secs(45);
/// Half-open logins.
const HALF_OPEN: usize = 10_000;

/// What came of the well-behaved initiator's work.
#[derive(Debug)]
struct Work {
    commands: u64,
    longest: Duration,
}

/// What it does at least, however slow the machine is: each size twice.
const COMMANDS_MIN: u64 = 16;

/// Writes and reads back, large and small, until told to stop. Everything has to be answered well.
fn behave(served: &Served, stop: &AtomicBool) -> Work {
    let mut session = served.log_in("good");
    session.greet(0).expect("it serves");
    let content = noise(1, 1 << 20);
    let mut work = Work { commands: 0, longest: Duration::ZERO };
    while !stop.load(SeqCst) || work.commands < COMMANDS_MIN {
        let blocks = [8, 2048, 1, 256][(work.commands / 2 % 4) as usize];
        let data = &content[..blocks * BLOCK];
        for reads in [false, true] {
            let since = Instant::now();
            let answer = if reads {
                session.run(0, &read(40, blocks), Vec::new(), data.len())
            } else {
                session.run(0, &write(40, blocks, false), data.to_vec(), 0)
            };
            let answer = answer.expect("nobody is thrown out for what others do");
            assert!(answer.is_good() && (!reads || answer.data == data), "{answer:?}");
            work.longest = work.longest.max(since.elapsed());
            work.commands += 1;
        }
    }
    work
}

/// Stops the others also where a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Lets some harm be done beside a well-behaved initiator, and looks at both it and the memory.
fn beside(served: &Served, what: &str, harm: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let before = served.memory_bytes();
    let (work, most) = std::thread::scope(|scope| {
        let good = scope.spawn(|| behave(served, &stop));
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !stop.load(SeqCst) {
                most = served.memory_bytes().max(most);
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let harm_done = Stop(&stop);
        std::thread::sleep(Duration::from_millis(100));
        harm();
        std::thread::sleep(Duration::from_millis(100));
        drop(harm_done);
        (good.join().expect("it worked on"), watch.join().expect("no panic"))
    });
    let growth = most.saturating_sub(before);
    println!("{what}: {work:?}, memory {} MiB and {} MiB more", before >> 20, growth >> 20);
    assert!(work.longest < COMMAND_MAX, "{what}: {work:?}");
    assert!(growth < GROWTH_MAX, "{what}: {growth} bytes more");
}

/// A session from elsewhere.
fn bad(served: &Served, port: u8, digests: bool) -> Initiator {
    let login = Login {
        initiator: "iqn.2026-01.org.example:bad".into(),
        port,
        digests,
        from: Some(ELSEWHERE),
        keys: Vec::new(),
    };
    let mut session = Initiator::login_as(&served.portals[0], Some(&target("bad")), &login).expect("it may");
    session.greet(0).expect("it serves");
    session
}

/// True once the box has closed a connection; what it says until then is heard.
fn ends(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let mut heard = vec![0; 1 << 20];
    loop {
        match socket.read(&mut heard) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn start(folder: &std::path::Path) -> Served {
    let data = common::data_folder(folder, "box");
    let served = Served::start(&data);
    for name in ["good", "bad"] {
        fine(&data, &["volume", "create", name, "--size", "64MiB"]);
    }
    served
}

#[test]
fn wrong_lengths_and_digests_end_the_connection_that_sent_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = start(folder.path());
    beside(&served, "wrong lengths and digests", || {
        for round in 0..10u8 {
            // A data segment beyond what was declared; additional headers without end; a command whose headers do not fit.
            for (at, bytes) in [(5, [0xff, 0xff, 0xfc]), (4, [0xff, 0x10, 0])] {
                let mut session = bad(&served, round, false);
                let mut request = header(0x01, 0xa1, 7);
                request[at..at + 3].copy_from_slice(&bytes);
                put(&mut request, 24, session.cmd_sn);
                session.socket.write_all(&request).expect("open");
                let _ = session.socket.write_all(&[0xee; 2048]);
                let _ = session.socket.shutdown(std::net::Shutdown::Write);
                assert!(ends(&mut session.socket), "lengths");
            }
            // A command that says that it has 4 GiB, and one that has less than it says: answered, or waited for in vain.
            let mut session = bad(&served, round, false);
            let mut request = header(0x01, 0xa1, 0);
            put(&mut request, 20, u32::MAX);
            request[32..48].copy_from_slice(&write(0, 1, false));
            session.numbered(&mut request);
            session.send(request, &[1; 4096]).expect("open");
            let (said, _) = session.hear().expect("answered");
            assert!([0x21, 0x3f].contains(&(said[0] & 0x3f)), "{said:x?}");
            // Digests: of the header, of the data.
            for harmed in [10, 60] {
                let mut session = bad(&served, round, true);
                let mut request = header(0x40, 0x80, 0);
                session.numbered(&mut request);
                request[7] = 8;
                let mut bytes = request.to_vec();
                bytes.extend(crc32c::crc32c(&request).to_le_bytes());
                bytes.extend([1; 8]);
                bytes.extend(crc32c::crc32c(&[1; 8]).to_le_bytes());
                bytes[harmed - 4] ^= 0x40;
                session.socket.write_all(&bytes).expect("open");
                assert!(ends(&mut session.socket), "digests");
            }
        }
    });
}

#[test]
fn numbers_outside_the_window_and_text_without_end_get_nobody_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = start(folder.path());
    beside(&served, "windows and text", || {
        let mut session = bad(&served, 1, false);
        // Thousands of commands far outside the window, the same number again and again, and a hole that is never filled.
        for number in 0..5000u32 {
            let mut request = header(0x01, 0x81, number);
            let place = match number % 3 {
                0 => session.cmd_sn.wrapping_add(100_000 + number),
                1 => session.cmd_sn.wrapping_sub(1),
                _ => session.cmd_sn.wrapping_add(2),
            };
            put(&mut request, 24, place);
            session.send(request, &[]).expect("open");
        }
        assert!(session.run(0, &[0; 6], Vec::new(), 0).expect("still there").is_good());
        // Text that goes on for ever, in a session and in a login.
        let mut session = bad(&served, 2, false);
        for _ in 0..200 {
            let mut request = header(0x44, 0x40, 0);
            put(&mut request, 20, NO_TAG);
            session.numbered(&mut request);
            session.send(request, &[b'a'; 8000]).expect("open");
            let (said, _) = session.hear().expect("answered");
            assert!([0x24, 0x3f].contains(&(said[0] & 0x3f)), "{said:x?}");
        }
        let mut socket = connect_from(ELSEWHERE, &served.portals[0]).expect("it listens");
        let mut request = header(0x43, 0x44, 0);
        request[5..8].copy_from_slice(&[0, 0x1f, 0x40]);
        for _ in 0..100 {
            if socket.write_all(&[&request[..], &[b'a'; 8000]].concat()).is_err() {
                break;
            }
        }
        assert!(ends(&mut socket), "text at login");
    });
}

#[test]
fn thousands_that_log_in_half_keep_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = start(folder.path());
    beside(&served, "half-open logins", || {
        let mut held = VecDeque::new();
        for number in 0..HALF_OPEN {
            let mut socket = connect_from(ELSEWHERE, &served.portals[0]).expect("it listens");
            // Nothing, half of a header, or discovery that is begun and stays.
            if number % 50 == 49 {
                let text = b"InitiatorName=iqn.2026-01.org.example:bad\0SessionType=Discovery\0";
                let mut request = header(0x43, 0x87, 0);
                request[7] = text.len() as u8;
                let _ = socket.write_all(&[&request[..], text, &[0; 3][..text.len().wrapping_neg() % 4]].concat());
            } else {
                let _ = socket.write_all(&[0x43; 47][..number % 48]);
            }
            held.push_back(socket);
            if held.len() > 300 {
                held.pop_front();
            }
            if number % 1000 == 999 {
                // Both from where nobody does harm and from where somebody does.
                let login = Login { port: 9, ..Login::default() };
                let session = Initiator::login_as(&served.portals[0], Some(&target("good")), &login);
                session.and_then(Initiator::logout).expect("let in");
                bad(&served, 9, false).logout().expect("let in");
            }
        }
    });
}

#[test]
fn who_takes_no_replies_and_sends_no_data_holds_only_its_share() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = start(folder.path());
    // Something to read that is not all one run of zeros.
    let mut session = bad(&served, 1, false);
    for (at, piece) in (0u64..).zip(noise(2, 64 << 20).chunks(1 << 20)) {
        assert!(session.run(0, &write(at * 2048, 2048, false), piece.to_vec(), 0).expect("it serves").is_good());
    }
    drop(session);
    beside(&served, "replies that nobody takes, data that never comes", || {
        let mut held = Vec::new();
        for port in 0..60u8 {
            let mut session = bad(&served, port, false);
            for number in 0..8u64 {
                let reads = port % 2 == 0;
                let mut request = header(0x01, if reads { 0xc1 } else { 0xa1 }, 0);
                put(&mut request, 20, 4 << 20);
                let block = (u64::from(port) + number) % 16 * 8192;
                request[32..48].copy_from_slice(&if reads { read(block, 8192) } else { write(block, 8192, false) });
                session.numbered(&mut request);
                if session.send(request, &[]).is_err() {
                    break;
                }
            }
            held.push(session);
        }
        // Those that take nothing while memory is short are closed. Its word for that waits behind what they did not take, but
        // what is sent to it is refused.
        let mut readers: Vec<_> = held.iter_mut().step_by(2).collect();
        let ping = header(0x40, 0x80, NO_TAG);
        let since = Instant::now();
        let mut closed = 0;
        while closed == 0 {
            assert!(since.elapsed() < SOON, "none was closed");
            std::thread::sleep(Duration::from_millis(300));
            closed = readers.iter_mut().filter_map(|session| session.send(ping, &[]).err()).count();
        }
        println!("{closed} of {} were closed after {:?}", readers.len(), since.elapsed());
    });
    // Everything is as before for those who come now.
    let mut session = bad(&served, 200, false);
    let answer = session.run(0, &read(0, 8192), Vec::new(), 4 << 20).expect("it serves");
    assert!(answer.is_good() && answer.data.len() == 4 << 20);
}

/// True where the other side has closed a connection, whatever still waits to be read from it.
fn is_closed(socket: &TcpStream) -> bool {
    let mut descriptors = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::RDHUP)];
    let ready = rustix::event::poll(&mut descriptors, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
    ready.is_ok_and(|count| count > 0)
}

#[test]
fn nonsense_in_a_session_is_rejected_or_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = start(folder.path());
    beside(&served, "nonsense", || {
        let bytes = noise(7, 48 * 400);
        let mut session = bad(&served, 1, false);
        for (number, piece) in bytes.chunks_exact(48).enumerate() {
            let mut request = [0; 48];
            request.copy_from_slice(piece);
            // Lengths that make sense, so that what is behind them is looked at.
            request[4..8].fill(0);
            if request[0] & 0x3f == 0x06 {
                continue; // A logout would be heeded.
            }
            let sent = session.send(request, &bytes[..number % 64 * 4]);
            if sent.is_err() || is_closed(&session.socket) {
                session = bad(&served, (number % 200) as u8, false);
            }
        }
        let mut last = bad(&served, 201, false);
        let mut request = header(0x40, 0x80, 0);
        let tag = last.numbered(&mut request);
        last.send(request, b"still there?").expect("open");
        let (said, echo) = last.hear().expect("answered");
        assert_eq!((word(&said, 16), &echo[..]), (tag, &b"still there?"[..]));
    });
}

#[test]
fn who_only_works_hard_does_not_make_memory_grow() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = start(folder.path());
    beside(&served, "nothing", || std::thread::sleep(Duration::from_secs(5)));
}
