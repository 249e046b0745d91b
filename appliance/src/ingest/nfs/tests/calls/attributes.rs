//! GETATTR, SETATTR, ACCESS, FSSTAT, FSINFO, PATHCONF.

use narrowboat_storage::dataset::{FileType, SetAttributes, SetTime};
use narrowboat_storage::error::{Damage, Environment};
use narrowboat_storage::units::{Inode, Timestamp};

use super::super::harness::*;
use crate::ingest::nfs::status::Status;
use crate::ingest::nfs::{Rules, Squash};
use bytes::Bytes;

#[test]
fn getattr_shows_what_is_there() {
    let client = Client::new();
    let root = client.root();
    let seen = client.getattr(&root).unwrap();
    assert_eq!((seen.file_type, seen.mode, seen.inode), (FileType::Directory, 0o777, Inode::ROOT));
    assert_eq!(client.getattr(&Bytes::from_static(b"never given out")), Err(Status::BadHandle));
    client.tree().set_hook(|_| Err(Damage::new("container/3", 7, "a", "b").into()));
    assert_eq!(client.getattr(&root), Err(Status::Io), "damage is told as such");
}

#[test]
fn a_deleted_export_is_stale_and_a_strange_network_is_refused() {
    let client = Client::new();
    let root = client.root();
    *client.exports.export.lock().unwrap() = None;
    assert_eq!(client.getattr(&root), Err(Status::Stale));
    let mut client = Client::with(Rules { clients: vec!["10.0.0.0/24".parse().unwrap()], ..Rules::default() });
    let root = client.root();
    client.peer.client = "10.0.1.1:700".parse().unwrap();
    assert_eq!(client.getattr(&root), Err(Status::Access));
    assert_eq!(client.mount("/share"), Err(13));
}

fn setattr(client: &Client, handle: &Bytes, new: &SetAttributes, guard: Option<Timestamp>) -> (Status, Wcc) {
    let mut results = client.call(procedure::SETATTR, |out| {
        out.opaque(handle);
        set(out, new);
        out.bool(guard.is_some());
        guard.into_iter().for_each(|guard| out.time(guard));
    });
    let status = results.status();
    let wcc = results.wcc();
    results.end();
    (status, wcc)
}

#[test]
fn setattr_changes_what_it_is_told_and_is_stable() {
    let client = Client::new();
    let file = client.create(&client.root(), b"file");
    let before = client.getattr(&file).unwrap();
    let new = SetAttributes {
        mode: Some(0o4711),
        uid: Some(5),
        gid: Some(6),
        size: Some(70_000),
        accessed: Some(SetTime::Now),
        modified: Some(SetTime::To(Timestamp::new(77, 88))),
    };
    let (status, wcc) = setattr(&client, &file, &new, Some(before.changed));
    assert_eq!(status, Status::Ok);
    assert!(client.tree().all_is_stable());
    assert_eq!(wcc.before, Some((before.size, before.modified, before.changed)));
    let after = wcc.after.unwrap();
    assert_eq!((after.mode, after.uid, after.gid, after.size), (0o4711, 5, 6, 70_000));
    assert_eq!((after.modified, after.changed), (Timestamp::new(77, 88), NOW));
    assert_eq!(client.getattr(&file).unwrap(), after);
    let (status, wcc) = setattr(&client, &file, &new, Some(Timestamp::new(1, 1)));
    assert_eq!((status, wcc.before, wcc.after), (Status::NotSync, None, Some(after)), "the guard does not match");
}

#[test]
fn access_grants_what_bits_and_rules_allow() {
    let access = |client: &Client, wanted: u32| {
        let root = client.root();
        let mut results = client.call(procedure::ACCESS, |out| {
            out.opaque(&root);
            out.u32(wanted);
        });
        results.ok();
        results.post_attributes().unwrap();
        let granted = results.u32();
        results.end();
        granted
    };
    assert_eq!(access(&Client::new(), 0x3f), 0x3f);
    assert_eq!(access(&Client::new(), 0x05), 0x05);
    assert_eq!(access(&Client::new(), u32::MAX), 0x3f, "unknown rights are not granted");
    let read_only = Client::with(Rules { read_only: true, squash: Squash::None, ..Rules::default() });
    assert_eq!(access(&read_only, 0x3f), 0x23);
}

#[test]
fn file_system_procedures_tell_their_numbers() {
    let client = Client::new();
    let root = client.root();
    let mut results = client.call(procedure::FSSTAT, |out| out.opaque(&root));
    results.ok();
    results.post_attributes().unwrap();
    assert_eq!([results.u64(), results.u64(), results.u64()], [1 << 40, 1 << 39, 1 << 39]);
    assert_eq!([results.u64(), results.u64(), results.u64()], [u64::from(u32::MAX); 3]);
    assert_eq!(results.u32(), 0);
    results.end();

    let mut results = client.call(procedure::FSINFO, |out| out.opaque(&root));
    results.ok();
    results.post_attributes().unwrap();
    assert_eq!(results.words(), [1 << 20, 1 << 20, 4096, 1 << 20, 1 << 20, 4096, 64 << 10]);
    assert_eq!(results.u64(), 16 << 40);
    assert_eq!(results.words(), [0, 1, 0x1b]);
    results.end();

    let mut results = client.call(procedure::PATHCONF, |out| out.opaque(&root));
    results.ok();
    results.post_attributes().unwrap();
    assert_eq!(results.words(), [65_000, 255, 1, 1, 0, 1]);
    results.end();
}

#[test]
fn failures_carry_the_attributes_there_are() {
    let client = Client::new();
    let root = client.root();
    client.tree().set_hook(|operation| match operation {
        "space" | "set_attributes" => Err(Environment::Full.into()),
        _ => Ok(()),
    });
    let mut results = client.call(procedure::FSSTAT, |out| out.opaque(&root));
    assert_eq!(results.status(), Status::NoSpace);
    assert!(results.post_attributes().is_some());
    results.end();
    let (status, wcc) = setattr(&client, &root, &SetAttributes::default(), None);
    assert_eq!(status, Status::NoSpace);
    assert!(wcc.before.is_none() && wcc.after.is_some());
    for procedure in [procedure::FSSTAT, procedure::FSINFO, procedure::PATHCONF] {
        let mut results = client.call(procedure, |out| out.opaque(b"nonsense"));
        assert_eq!((results.status(), results.post_attributes()), (Status::BadHandle, None));
        results.end();
    }
}
