//! `.snapshot`: found by name, read-only, file systems of their own.

use bytes::Bytes;
use narrowboat_storage::dataset::FileType;
use narrowboat_storage::units::Inode;

use super::super::harness::*;
use crate::ingest::nfs::status::Status;

/// A share with a file, and two snapshots of it, of which the second holds a later state.
fn client() -> Client {
    let client = Client::new();
    let root = client.root();
    client.create(&root, b"file");
    client.exports.snapshots.add(5, "monday", client.tree().snapshot());
    client.create(&root, b"later");
    client.exports.snapshots.add(2, "tuesday", client.tree().snapshot());
    client
}

fn names(client: &Client, dir: &Bytes, procedure: u32) -> Vec<Bytes> {
    let mut results = client.call(procedure, |out| {
        out.opaque(dir);
        out.u64(0);
        out.u64(0);
        out.u32(65_536);
        if procedure == procedure::READDIRPLUS {
            out.u32(65_536);
        }
    });
    results.ok();
    results.post_attributes().unwrap();
    results.u64();
    let mut names = Vec::new();
    while results.u32() == 1 {
        results.u64();
        names.push(results.opaque());
        results.u64();
        if procedure == procedure::READDIRPLUS {
            results.post_attributes();
            results.post_handle();
        }
    }
    assert_eq!(results.u32(), 1);
    results.end();
    names
}

#[test]
fn snapshots_are_file_systems_of_their_own() {
    let client = client();
    let root = client.root();
    let live = client.getattr(&root).unwrap();
    let (all, seen) = client.lookup(&root, b".snapshot").unwrap();
    assert_eq!((seen.file_type, seen.mode, seen.fsid), (FileType::Directory, 0o555, live.fsid));
    assert_eq!(client.getattr(&all).unwrap(), seen);
    let (monday, monday_seen) = client.lookup(&all, b"monday").unwrap();
    let (tuesday, tuesday_seen) = client.lookup(&all, b"tuesday").unwrap();
    assert_eq!(monday_seen.inode, Inode::ROOT);
    let ids = [live.fsid, monday_seen.fsid, tuesday_seen.fsid];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    assert_eq!(client.getattr(&monday).unwrap(), monday_seen);
    assert_eq!(client.lookup(&monday, b"later"), Err(Status::NoEntry));
    let (file, seen) = client.lookup(&tuesday, b"later").unwrap();
    assert_eq!(seen.fsid, tuesday_seen.fsid);
    assert_ne!(file, client.lookup(&root, b"later").unwrap().0, "another file than the live one");

    assert_eq!(client.lookup(&monday, b"..").unwrap().0, all);
    assert_eq!(client.lookup(&all, b"..").unwrap().0, root);
    assert_eq!(client.lookup(&all, b".").unwrap().0, all);
    assert_eq!(client.lookup(&all, b"sunday"), Err(Status::NoEntry));
    let dir = client.mkdir(&root, b"dir");
    assert_eq!(client.lookup(&dir, b".snapshot"), Err(Status::NoEntry), "only in the root");
}

#[test]
fn snapshots_are_listed() {
    let client = client();
    let (all, _) = client.lookup(&client.root(), b".snapshot").unwrap();
    for procedure in [procedure::READDIR, procedure::READDIRPLUS] {
        assert_eq!(names(&client, &all, procedure), [&b"."[..], b"..", b"tuesday", b"monday"], "by their cookies");
        let (monday, _) = client.lookup(&all, b"monday").unwrap();
        assert_eq!(names(&client, &monday, procedure), [&b"."[..], b"..", b"file"]);
    }
}

#[test]
fn the_directory_changes_when_a_snapshot_comes_or_goes() {
    let client = client();
    let (all, before) = client.lookup(&client.root(), b".snapshot").unwrap();
    client.exports.snapshots.0.lock().unwrap().pop_first();
    assert_ne!(client.getattr(&all).unwrap().changed, before.changed);
}

#[test]
fn a_deleted_snapshot_is_stale() {
    let client = client();
    let (all, _) = client.lookup(&client.root(), b".snapshot").unwrap();
    let (monday, _) = client.lookup(&all, b"monday").unwrap();
    client.exports.snapshots.0.lock().unwrap().clear();
    assert_eq!(client.getattr(&monday), Err(Status::Stale));
    assert_eq!(client.lookup(&all, b"monday"), Err(Status::NoEntry));
}

#[test]
fn nothing_changes_in_a_snapshot() {
    let client = client();
    let root = client.root();
    let (all, _) = client.lookup(&root, b".snapshot").unwrap();
    let (monday, _) = client.lookup(&all, b"monday").unwrap();
    let (file, _) = client.lookup(&monday, b"file").unwrap();
    type Args<'a> = Box<dyn Fn(&mut crate::ingest::nfs::xdr::Encoder) + 'a>;
    for dir in [&all, &monday] {
        let named = |name: &'static [u8]| {
            move |out: &mut crate::ingest::nfs::xdr::Encoder| {
                out.opaque(dir);
                out.opaque(name);
            }
        };
        let calls: Vec<(u32, Args)> = vec![
            (
                procedure::SETATTR,
                Box::new(|out| {
                    out.opaque(dir);
                    set(out, &Default::default());
                    out.bool(false);
                }),
            ),
            (
                procedure::WRITE,
                Box::new(|out| {
                    out.opaque(&file);
                    out.u64(0);
                    out.u32(3);
                    out.u32(0);
                    out.opaque(b"abc");
                }),
            ),
            (
                procedure::CREATE,
                Box::new(move |out| {
                    named(b"new")(out);
                    out.u32(1);
                    set(out, &Default::default());
                }),
            ),
            (
                procedure::MKDIR,
                Box::new(move |out| {
                    named(b"new")(out);
                    set(out, &Default::default());
                }),
            ),
            (
                procedure::SYMLINK,
                Box::new(move |out| {
                    named(b"new")(out);
                    set(out, &Default::default());
                    out.opaque(b"x");
                }),
            ),
            (
                procedure::MKNOD,
                Box::new(move |out| {
                    named(b"new")(out);
                    out.u32(7);
                    set(out, &Default::default());
                }),
            ),
            (procedure::REMOVE, Box::new(named(b"file"))),
            (procedure::RMDIR, Box::new(named(b"monday"))),
            (
                procedure::RENAME,
                Box::new(move |out| {
                    named(b"file")(out);
                    named(b"other")(out);
                }),
            ),
            (
                procedure::COMMIT,
                Box::new(|out| {
                    out.opaque(&file);
                    out.u64(0);
                    out.u32(0);
                }),
            ),
        ];
        for (procedure, args) in calls {
            assert_eq!(client.call(procedure, |out| args(out)).status(), Status::ReadOnly, "procedure {procedure}");
        }
    }
    let mut results = client.call(procedure::LINK, |out| {
        out.opaque(&file);
        out.opaque(&root);
        out.opaque(b"out");
    });
    assert_eq!(results.status(), Status::CrossDevice);
    for (procedure, name) in [(procedure::RMDIR, b".snapshot"), (procedure::REMOVE, b".snapshot")] {
        let mut results = client.call(procedure, |out| {
            out.opaque(&root);
            out.opaque(name);
        });
        assert_eq!(results.status(), Status::ReadOnly);
    }
}

#[test]
fn snapshots_can_be_mounted() {
    let client = client();
    let (all, _) = client.lookup(&client.root(), b".snapshot").unwrap();
    assert_eq!(client.mount("/share/.snapshot").unwrap(), all);
    assert_eq!(client.mount("/share/.snapshot/monday").unwrap(), client.lookup(&all, b"monday").unwrap().0);
    assert_eq!(client.mount("/share/.snapshot/sunday"), Err(2));
}
