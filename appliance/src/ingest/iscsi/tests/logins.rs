//! Logins and discovery.

use super::harness::{NAME, Served};
use super::initiator::{Initiator, NONE, World};
use crate::ingest::iscsi::Access;
use crate::ingest::iscsi::chap::{Account, Algorithm, Secret};
use crate::ingest::iscsi::scsi::{Disk, Shape};
use crate::ingest::iscsi::text;
use crate::ingest::iscsi::wire::{Bhs, opcode};

fn world(access: Access) -> World {
    World::new(Served::new(1 << 20, Shape::EMULATED_512, access))
}

fn accounts() -> Access {
    let mutual = Some(("box".to_owned(), Secret::new("secret of the box")));
    let account = Account { name: "host".into(), secret: Secret::new("secret of the host"), mutual };
    Access { accounts: vec![account], ..Access::default() }
}

const WHO: [(&str, &str); 3] =
    [("InitiatorName", "iqn.2025-01.org.example:host"), ("SessionType", "Normal"), ("TargetName", NAME)];

fn with(keys: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    WHO.iter().chain(keys).copied().collect()
}

fn value(pairs: &[(String, String)], key: &str) -> Option<String> {
    pairs.iter().find(|(own, _)| own == key).map(|(_, value)| value.clone())
}

/// Goes up to the challenge: algorithm, identifier, challenge.
fn challenged(initiator: &mut Initiator, list: &'static str) -> (String, u8, Vec<u8>) {
    initiator.login_request(0, None, &with(&[("AuthMethod", "CHAP,None")]));
    let (status, flags, said) = initiator.login_response();
    assert_eq!((status, flags, value(&said, "AuthMethod").as_deref()), (0, 0, Some("CHAP")));
    assert_eq!(value(&said, "TargetPortalGroupTag").as_deref(), Some("1"));
    initiator.login_request(0, None, &[("CHAP_A", list)]);
    let (_, _, said) = initiator.login_response();
    let challenge = text::binary(&value(&said, "CHAP_C").unwrap()).unwrap();
    (value(&said, "CHAP_A").unwrap(), value(&said, "CHAP_I").unwrap().parse().unwrap(), challenge)
}

#[test]
fn secrets_are_proved_both_ways() {
    for (list, chosen, algorithm) in [("5", "5", Algorithm::Md5), ("7,5", "7", Algorithm::Sha256)] {
        let world = world(accounts());
        let mut initiator = world.connect(1);
        let (number, identifier, challenge) = challenged(&mut initiator, list);
        assert_eq!(number, chosen);
        let response = text::to_hex(&algorithm.response(identifier, &Secret::new("secret of the host"), &challenge));
        let mut keys = vec![("CHAP_N", "host"), ("CHAP_R", &response), ("CHAP_I", "33"), ("CHAP_C", "0x010203")];
        initiator.login_request(0, Some(1), &keys);
        let (status, flags, said) = initiator.login_response();
        assert_eq!((status, flags), (0, 0x81));
        assert_eq!(value(&said, "CHAP_N").as_deref(), Some("box"));
        let proof = algorithm.response(33, &Secret::new("secret of the box"), &[1, 2, 3]);
        assert_eq!(value(&said, "CHAP_R"), Some(text::to_hex(&proof)));
        initiator.login_request(1, Some(3), &[("MaxRecvDataSegmentLength", "65536")]);
        let (status, flags, said) = initiator.login_response();
        assert_eq!((status, flags), (0, 0x87));
        assert_eq!(value(&said, "MaxRecvDataSegmentLength").as_deref(), Some("1048576"));
        assert!(initiator.session.has_target() && world.registry.count() == 1);

        // A wrong response, and half a counter-challenge.
        for wrong in [("CHAP_R", "0x00"), ("CHAP_I", "")] {
            let mut initiator = world.connect(2);
            challenged(&mut initiator, list);
            keys.iter_mut().filter(|(key, _)| *key == wrong.0).for_each(|(_, value)| *value = wrong.1);
            initiator.login_request(0, Some(1), &keys);
            assert_eq!(initiator.login_response().0, 0x0201);
            assert!(initiator.session.is_closing());
        }
    }
}

#[test]
fn nobody_goes_around_the_secret() {
    let world = world(accounts());
    let refused = |stage: u8, next: Option<u8>, keys: &[(&str, &str)]| {
        let mut initiator = world.connect(1);
        initiator.login_request(stage, next, keys);
        initiator.login_response().0
    };
    assert_eq!(refused(1, Some(3), &with(&[])), 0x0201, "straight to the operational stage");
    assert_eq!(refused(0, Some(3), &with(&[("AuthMethod", "None")])), 0x0201);
    // Wanting to go on without having proved anything is heard and not done.
    let mut initiator = world.connect(1);
    initiator.login_request(0, Some(3), &with(&[("AuthMethod", "CHAP")]));
    assert_eq!(initiator.login_response().1, 0);
    initiator.login_request(1, Some(3), &[]);
    assert_eq!(initiator.login_response().0, 0x0200);
    let mut initiator = world.connect(1);
    challenged(&mut initiator, "5");
    initiator.login_request(0, Some(3), &[]);
    assert_eq!(initiator.login_response().1, 0);
    assert_eq!(world.registry.count(), 0);
}

#[test]
fn refusals_have_their_own_numbers() {
    let world = world(Access {
        initiators: vec!["iqn.2025-01.org.example:HOST".into()],
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        ..Access::default()
    });
    let refused = |keys: &[(&str, &str)]| {
        let mut initiator = world.connect(1);
        initiator.login_request(1, Some(3), keys);
        let status = initiator.login_response().0;
        assert_eq!(initiator.session.is_closing(), status != 0);
        status
    };
    assert_eq!(refused(&WHO), 0);
    assert_eq!(refused(&WHO[1..]), 0x0207);
    assert_eq!(refused(&WHO[..2]), 0x0207);
    assert_eq!(refused(&[WHO[0], ("TargetName", "iqn.none")]), 0x0203);
    assert_eq!(refused(&[("InitiatorName", "iqn.2025-01.org.example:other"), WHO[2]]), 0x0202);
    assert_eq!(refused(&[("InitiatorName", "host"), WHO[2]]), 0x0200);
    assert_eq!(refused(&[WHO[0], WHO[2], ("SessionType", "Other")]), 0x0209);
    let mut initiator = world.connect(1);
    let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x87).with_byte(2, 2).with_byte(3, 1);
    initiator.send(bhs, b"");
    assert_eq!(initiator.login_response().0, 0x0205);
    let mut initiator = world.connect(1);
    let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x87).with_bytes(14, &[0, 9]);
    initiator.send(bhs, b"InitiatorName=iqn.2025-01.org.example:host\0TargetName=iqn.2025-01.org.example:disk\0");
    assert_eq!(initiator.login_response().0, 0x020a);
}

#[test]
fn endless_logins_end() {
    let world = world(Access::default());
    // Text without end.
    let mut initiator = world.connect(1);
    let piece = vec![b'a'; 8000];
    let bhs = Bhs::new(opcode::LOGIN_REQUEST | 0x40, 0x44);
    for _ in 0..3 {
        initiator.send(bhs, &piece);
    }
    assert_eq!(initiator.hear().last().unwrap().bhs.half(36), 0x0200);
    assert!(initiator.session.is_closing());
    // Requests without end.
    let mut initiator = world.connect(1);
    for _ in 0..100 {
        initiator.login_request(1, None, if initiator.session.is_closing() { &[] } else { &WHO });
    }
    assert!(initiator.session.is_closing() && initiator.hear().len() < 40);
    // Silence.
    let mut initiator = world.connect(1);
    initiator.wait(14);
    assert!(!initiator.session.is_closing());
    initiator.wait(2);
    assert!(initiator.session.is_closing());
    // Something else altogether.
    let mut initiator = world.connect(1);
    let _ = initiator.send_bytes(b"GET / HTTP/1.1\r\nHost: box\r\nAccept: text/html\r\n\r\n\r\n");
    assert!(initiator.session.is_closing() && initiator.hear().is_empty());
}

#[test]
fn a_session_takes_the_place_of_its_predecessor() {
    let world = world(Access::default());
    let mut old = world.login(1, &[]);
    old.write(&[1; 512], 512, true);
    let running = old.session.next_task(|_| true).unwrap();
    let mut new = world.connect(2);
    new.login_request(1, Some(3), &WHO);
    assert_eq!(new.login_response().0, 0);
    new.now_full();
    assert_eq!(new.session.take_evicted(), [1]);
    old.session.end();
    assert_eq!(world.registry.count(), 1);
    // The first task of the new session waits for the last one of the old.
    let bhs = new.command(0x81, 0, &[0; 6]);
    new.send(bhs, b"");
    let task = new.session.next_task(|_| true).unwrap();
    let waiting = std::thread::spawn(move || task.run());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!waiting.is_finished());
    running.run();
    new.session.complete(waiting.join().unwrap());
    assert_eq!(new.hear_one().data[14..16], [0x29, 0x07], "it is told that its session was lost");
}

#[test]
fn a_lost_session_is_waited_for_too() {
    let world = world(Access::default());
    let mut old = world.login(1, &[]);
    old.write(&[1; 512], 512, true);
    let running = old.session.next_task(|_| true).unwrap();
    old.write(&[3; 512], 512, true);
    let not_begun = old.session.next_task(|_| true).unwrap();
    // The connection breaks, and only then the initiator comes back.
    old.session.end();
    assert_eq!(world.registry.count(), 0);
    let mut new = world.connect(2);
    new.login_request(1, Some(3), &WHO);
    assert_eq!(new.login_response().0, 0);
    new.now_full();
    assert!(new.session.take_evicted().is_empty());
    let bhs = new.command(0x81, 0, &[0; 6]);
    new.send(bhs, b"");
    new.write(&[2; 512], 512, true);
    let first = new.session.next_task(|_| true).unwrap();
    let waiting = std::thread::spawn(move || first.run());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!waiting.is_finished());
    drop(running);
    assert!(!waiting.is_finished());
    not_begun.run();
    new.session.complete(waiting.join().unwrap());
    assert_eq!(new.hear_one().data[14..16], [0x29, 0x07]);
    assert_eq!(new.run_tasks(), 1);
    assert_eq!(new.hear_one().bhs.0[3], 0);
    assert_eq!(world.all.disk.read(0, 512).unwrap().concat(), [2; 512], "what the lost one left over is not written");
    new.session.end();
    assert!(!world.all.target.device.units()[&0].has_session_of(new.name));
}

#[test]
fn targets_are_listed_to_those_who_may_see_them() {
    let listed = |access: Access, wanted: &str| {
        let world = world(access);
        *world.all.portals.lock().unwrap() =
            ["0.0.0.0:3260", "[fd00::1]:3260", "127.0.0.1:3260"].map(|portal| portal.parse().unwrap()).into();
        let mut initiator = world.connect(1);
        initiator.login_request(1, Some(3), &[WHO[0], ("SessionType", "Discovery"), ("MaxBurstLength", "4096")]);
        let (status, _, said) = initiator.login_response();
        assert_eq!((status, value(&said, "MaxBurstLength").as_deref()), (0, Some("Irrelevant")));
        initiator.now_full();
        initiator.text(format!("SendTargets={wanted}").as_bytes(), false, NONE);
        let text = initiator.hear_one().data;
        // No commands here.
        let bhs = initiator.command(0x81, 0, &[0; 6]);
        initiator.send(bhs, b"");
        assert_eq!(initiator.hear_one().bhs.opcode(), opcode::REJECT);
        String::from_utf8(text.to_vec()).unwrap()
    };
    let all = format!("TargetName={NAME}\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=[fd00::1]:3260,1\0");
    assert_eq!(listed(Access::default(), "All"), all);
    assert_eq!(listed(Access::default(), NAME), all);
    assert_eq!(listed(Access::default(), "iqn.other"), "");
    let elsewhere = Access { networks: vec!["192.168.0.0/16".parse().unwrap()], ..Access::default() };
    assert_eq!(listed(elsewhere, "All"), "");
}

#[test]
fn long_lists_come_in_pieces() {
    let world = world(Access::default());
    let many = (0..200u16).map(|port| ([10, 0, 0, 1], 10_000 + port).into()).collect();
    *world.all.portals.lock().unwrap() = many;
    let mut initiator = world.connect(1);
    let keys = [WHO[0], ("SessionType", "Discovery"), ("MaxRecvDataSegmentLength", "512")];
    initiator.login_request(1, Some(3), &keys);
    initiator.hear();
    initiator.now_full();
    // The question in two pieces, too.
    initiator.text(b"SendTar", true, NONE);
    let tag = initiator.hear_one().bhs.word(20);
    initiator.text(b"gets=All", false, tag);
    let mut text = Vec::new();
    loop {
        let pdu = initiator.hear_one();
        assert!(pdu.data.len() <= 512);
        text.extend_from_slice(&pdu.data);
        if pdu.bhs.0[1] & 0x80 != 0 {
            break;
        }
        initiator.text(b"", false, pdu.bhs.word(20));
    }
    assert_eq!(text::parse(b"a=b").unwrap().len(), 1);
    assert_eq!(text.split(|byte| *byte == 0).filter(|pair| pair.starts_with(b"TargetAddress=")).count(), 201);
    initiator.text(&[b'x'; 8000], true, NONE);
    initiator.text(&[b'x'; 8000], true, NONE);
    initiator.text(&[b'x'; 8000], true, NONE);
    assert_eq!(initiator.hear().last().unwrap().bhs.opcode(), opcode::REJECT);
}
