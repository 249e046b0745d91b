//! MOUNT, and RPC's own errors.

use bytes::Bytes;

use super::super::harness::*;
use crate::ingest::nfs::rpc::{Outcome, Peer, Service};
use crate::ingest::nfs::wire::NFS_PROGRAM;
use crate::ingest::nfs::{Rules, Squash};

#[test]
fn directories_are_mounted_by_path() {
    let client = Client::new();
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    let below = client.mkdir(&dir, b"below");
    client.create(&dir, b"file");
    assert_eq!(client.mount("/share/"), Ok(root.clone()));
    assert_eq!(client.mount("share"), Ok(root));
    assert_eq!(client.mount("//share//dir/"), Ok(dir));
    assert_eq!(client.mount("/share/dir/below"), Ok(below));
    assert_eq!(client.mount("/share/dir/file"), Err(20));
    assert_eq!(client.mount("/share/none"), Err(2));
    assert_eq!(client.mount("/other"), Err(2));
    assert_eq!(client.mount("/"), Err(2));
    assert_eq!(client.mount(""), Err(2));
    assert_eq!(client.mount(&format!("/share/{}", "x".repeat(300))), Err(63));
}

#[test]
fn mounting_needs_permission() {
    let mut client = Client::with(Rules { secure_port: true, squash: Squash::None, ..Rules::default() });
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    client.mkdir(&dir, b"below");
    client.call(procedure::SETATTR, |out| {
        out.opaque(&dir);
        set(out, &narrowboat_storage::dataset::SetAttributes { mode: Some(0o700), ..Default::default() });
        out.bool(false);
    });
    client.uid = Some(1000);
    assert!(client.mount("/share/dir").is_ok());
    assert_eq!(client.mount("/share/dir/below"), Err(13), "the caller may not search its parent");
    client.peer.client.set_port(1024);
    assert_eq!(client.mount("/share"), Err(13), "not a port that only root can open");
}

/// Lines of DUMP: host and path.
fn dump(client: &Client) -> Vec<(Bytes, Bytes)> {
    let mut results = client.mount_call(3, 2, |_| {});
    let mut lines = Vec::new();
    while results.u32() == 1 {
        lines.push((results.opaque(), results.opaque()));
    }
    results.end();
    lines
}

#[test]
fn mounts_are_remembered_and_forgotten() {
    let mut client = Client::new();
    let line =
        |host: &str, path: &str| (Bytes::copy_from_slice(host.as_bytes()), Bytes::copy_from_slice(path.as_bytes()));
    client.mkdir(&client.root(), b"dir");
    client.root();
    client.mount("/share/dir/").unwrap();
    assert_eq!(dump(&client), [line("10.0.0.9", "/share"), line("10.0.0.9", "/share/dir")]);
    client.peer.client = "10.0.0.8:700".parse().unwrap();
    client.root();
    client.mount_call(3, 3, |out| out.opaque(b"/share")).end();
    assert_eq!(dump(&client).len(), 2);
    client.peer.client = "10.0.0.9:701".parse().unwrap();
    client.mount_call(3, 4, |_| {}).end();
    assert_eq!(dump(&client), []);
    for number in 0..2000 {
        client.mkdir(&client.root(), format!("d{number}").as_bytes());
        client.mount(&format!("/share/d{number}")).unwrap();
    }
    assert_eq!(dump(&client).len(), 1024, "bounded");
}

#[test]
fn exports_are_listed_for_all_versions() {
    let client = Client::with(Rules { clients: vec!["10.0.0.0/8".parse().unwrap()], ..Rules::default() });
    for version in [1, 2, 3] {
        let mut results = client.mount_call(version, 5, |_| {});
        assert_eq!((results.u32(), &results.opaque()[..]), (1, &b"/share"[..]));
        assert_eq!((results.u32(), &results.opaque()[..]), (1, &b"10.0.0.0/8"[..]));
        assert_eq!(results.words(), [0, 0]);
        results.end();
        client.mount_call(version, 0, |_| {}).end();
    }
    let mut results = client.mount_call(1, 1, |out| out.opaque(b"/share"));
    assert_eq!(results.u32(), 10004, "a handle of version 1 has no room for ours");
    results.end();
}

#[test]
fn rpc_answers_with_its_own_errors() {
    let client = Client::new();
    let words = |reply: Option<Bytes>| -> Vec<u32> {
        reply.unwrap().chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
    };
    let ask = |program, version, procedure| words(client.send(client.encode(5, program, version, procedure, |_| {})));
    assert_eq!(ask(NFS_PROGRAM, 3, 0), [5, 1, 0, 0, 0, 0], "NULL");
    assert_eq!(ask(100_004, 3, 0), [5, 1, 0, 0, 0, 1]);
    assert_eq!(ask(NFS_PROGRAM, 2, 0), [5, 1, 0, 0, 0, 2, 3, 3]);
    assert_eq!(ask(NFS_PROGRAM, 4, 0), [5, 1, 0, 0, 0, 2, 3, 3], "so that clients fall back from version 4");
    assert_eq!(ask(100_005, 4, 0), [5, 1, 0, 0, 0, 2, 1, 3]);
    assert_eq!(ask(NFS_PROGRAM, 3, 22), [5, 1, 0, 0, 0, 3]);
    assert_eq!(ask(NFS_PROGRAM, 3, u32::MAX), [5, 1, 0, 0, 0, 3]);
    assert_eq!(ask(100_005, 3, 6), [5, 1, 0, 0, 0, 3]);
    for procedure in 1..22 {
        assert_eq!(ask(NFS_PROGRAM, 3, procedure), [5, 1, 0, 0, 0, 4], "procedure {procedure} without arguments");
    }
    let call = |bytes: &[u32]| {
        let record: Bytes = bytes.iter().flat_map(|word| word.to_be_bytes()).collect();
        client.hand_over(record)
    };
    assert!(matches!(call(&[5, 1, 0, 0, 0, 0]), Outcome::Close), "a reply is no call");
    assert!(matches!(call(&[]), Outcome::Close));
    let Outcome::Reply(reply) = call(&[5, 0, 3, NFS_PROGRAM, 3, 0, 0, 0, 0, 0]) else { panic!("closed") };
    assert_eq!(words(Some(reply.to_bytes().slice(4..))), [5, 1, 1, 0, 2, 2]);
    let Outcome::Reply(reply) = call(&[5, 0, 2, NFS_PROGRAM, 3, 0, 6, 0, 0, 0]) else { panic!("closed") };
    assert_eq!(words(Some(reply.to_bytes().slice(4..))), [5, 1, 1, 1, 5]);
    assert_eq!(client.session.counts().refused, 7 + 21 + 2, "programs and procedures, arguments, headers");
}

#[test]
fn hosts_that_no_export_admits_are_strangers() {
    let client = Client::with(Rules { clients: vec!["10.0.0.0/8".parse().unwrap()], ..Rules::default() });
    let from = |address: &str| client.session.knows(&Peer { client: address.parse().unwrap(), ..client.peer });
    assert!(from("10.1.2.3:700") && from("[::ffff:10.1.2.3]:700"));
    assert!(!from("11.1.2.3:700") && !from("[fd00::1]:700"));
}
