//! LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK.

use bytes::Bytes;
use narrowboat_storage::dataset::{FileType, SetAttributes};
use narrowboat_storage::error::{Environment, Refusal};
use narrowboat_storage::units::Inode;

use super::super::harness::*;
use crate::ingest::nfs::status::Status;
use crate::ingest::nfs::{Rules, Squash};

/// Status and handle of a CREATE; `how` writes `createhow3`.
fn create(
    client: &Client,
    dir: &Bytes,
    name: &[u8],
    how: impl FnOnce(&mut crate::ingest::nfs::xdr::Encoder),
) -> (Status, Option<Bytes>) {
    let mut results = client.call(procedure::CREATE, |out| {
        out.opaque(dir);
        out.opaque(name);
        how(out);
    });
    let status = results.status();
    let mut handle = None;
    if status == Status::Ok {
        handle = results.post_handle();
        results.post_attributes().unwrap();
    }
    let wcc = results.wcc();
    assert_eq!(wcc.before.is_some(), status == Status::Ok);
    results.end();
    (status, handle)
}

fn guarded(out: &mut crate::ingest::nfs::xdr::Encoder) {
    out.u32(1);
    set(out, &SetAttributes::default());
}

fn remove(client: &Client, procedure: u32, dir: &Bytes, name: &[u8]) -> Status {
    let mut results = client.call(procedure, |out| {
        out.opaque(dir);
        out.opaque(name);
    });
    let status = results.status();
    assert_eq!(results.wcc().before.is_some(), status == Status::Ok);
    results.end();
    status
}

fn rename(client: &Client, from: (&Bytes, &[u8]), to: (&Bytes, &[u8])) -> Status {
    let mut results = client.call(procedure::RENAME, |out| {
        for (dir, name) in [from, to] {
            out.opaque(dir);
            out.opaque(name);
        }
    });
    let status = results.status();
    let wccs = [results.wcc(), results.wcc()];
    assert!(wccs.iter().all(|wcc| wcc.before.is_some() == (status == Status::Ok)));
    results.end();
    status
}

fn link(client: &Client, file: &Bytes, dir: &Bytes, name: &[u8]) -> (Status, Option<Seen>) {
    let mut results = client.call(procedure::LINK, |out| {
        out.opaque(file);
        out.opaque(dir);
        out.opaque(name);
    });
    let status = results.status();
    let seen = results.post_attributes();
    assert_eq!(results.wcc().before.is_some(), status == Status::Ok);
    results.end();
    (status, seen)
}

#[test]
fn names_are_found() {
    let client = Client::new();
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    let file = client.create(&dir, b"file");
    let (found, seen) = client.lookup(&dir, b"file").unwrap();
    assert_eq!((found, seen.file_type), (file.clone(), FileType::Regular));
    assert_eq!(client.lookup(&dir, b"..").unwrap().0, root);
    assert_eq!(client.lookup(&root, b"..").unwrap().0, root, "the root is its own parent");
    assert_eq!(client.lookup(&dir, b".").unwrap().0, dir);
    assert_eq!(client.lookup(&dir, b"none"), Err(Status::NoEntry));
    assert_eq!(client.lookup(&file, b"none"), Err(Status::NotDirectory));
    assert_eq!(client.lookup(&dir, &[b'x'; 256]), Err(Status::NameTooLong));
    assert_eq!(client.lookup(&dir, &[b'x'; 70_000]), Err(Status::NameTooLong));
    assert_eq!(client.lookup(&dir, b""), Err(Status::Invalid));
    assert_eq!(client.lookup(&dir, b"a/b"), Err(Status::Invalid));
    assert_eq!(client.lookup(&dir, b"a\0b"), Err(Status::Invalid));
    assert_eq!(client.lookup(&Bytes::new(), b"a"), Err(Status::BadHandle));
    client.create(&dir, &[0xff, 0x80, b'\n']);
    assert!(client.lookup(&dir, &[0xff, 0x80, b'\n']).is_ok(), "names are bytes");
}

#[test]
fn files_are_created_in_three_ways() {
    let client = Client::new();
    let root = client.root();
    let exclusive = |verifier: [u8; 8]| {
        move |out: &mut crate::ingest::nfs::xdr::Encoder| {
            out.u32(2);
            out.fixed(&verifier);
        }
    };
    let unchecked = |size| {
        move |out: &mut crate::ingest::nfs::xdr::Encoder| {
            out.u32(0);
            set(out, &SetAttributes { size, ..Default::default() });
        }
    };
    let (status, handle) = create(&client, &root, b"file", guarded);
    assert_eq!(status, Status::Ok);
    assert!(client.tree().all_is_stable());
    assert_eq!(create(&client, &root, b"file", guarded).0, Status::Exists);
    assert_eq!(create(&client, &root, b"file", unchecked(None)), (Status::Ok, handle));
    let (status, first) = create(&client, &root, b"only", exclusive(*b"12345678"));
    assert_eq!(status, Status::Ok);
    assert_eq!(create(&client, &root, b"only", exclusive(*b"12345678")), (Status::Ok, first));
    assert_eq!(create(&client, &root, b"only", exclusive(*b"87654321")).0, Status::Exists);
    client.mkdir(&root, b"dir");
    assert_eq!(create(&client, &root, b"dir", unchecked(None)).0, Status::Exists);
    for name in [&b"."[..], b"..", b".snapshot"] {
        assert_eq!(create(&client, &root, name, guarded).0, Status::Exists);
    }
}

#[test]
fn directories_symlinks_and_nodes_are_made() {
    let client = Client::new();
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    assert_eq!(client.getattr(&dir).unwrap().file_type, FileType::Directory);
    let mknod = |name: &[u8], number: u32| {
        let mut results = client.call(procedure::MKNOD, |out| {
            out.opaque(&root);
            out.opaque(name);
            out.u32(number);
            if !matches!(number, 1 | 2 | 5) {
                set(out, &SetAttributes { mode: Some(0o640), ..Default::default() });
            }
            if matches!(number, 3 | 4) {
                out.u32(8);
                out.u32(17);
            }
        });
        match results.status() {
            Status::Ok => Ok(client.getattr(&results.post_handle().unwrap()).unwrap()),
            status => Err(status),
        }
    };
    for (number, file_type, device) in [
        (3, FileType::BlockDevice, (8, 17)),
        (4, FileType::CharDevice, (8, 17)),
        (6, FileType::Socket, (0, 0)),
        (7, FileType::Fifo, (0, 0)),
    ] {
        let seen = mknod(format!("node{number}").as_bytes(), number).unwrap();
        assert_eq!((seen.file_type, seen.device, seen.mode), (file_type, device, 0o640));
    }
    for number in [1, 2, 5] {
        assert_eq!(mknod(b"other", number), Err(Status::BadType));
    }
    assert_eq!(mknod(b"node3", 3), Err(Status::Exists));
    let mut results = client.call(procedure::SYMLINK, |out| {
        out.opaque(&root);
        out.opaque(b"link");
        set(out, &SetAttributes::default());
        out.opaque(&[b'x'; 4097]);
    });
    assert_eq!(results.status(), Status::NameTooLong);
    assert!(client.tree().all_is_stable());
}

#[test]
fn names_are_removed() {
    let client = Client::new();
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    let file = client.create(&dir, b"file");
    assert_eq!(remove(&client, procedure::RMDIR, &root, b"dir"), Status::NotEmpty);
    assert_eq!(remove(&client, procedure::REMOVE, &root, b"dir"), Status::IsDirectory);
    assert_eq!(remove(&client, procedure::RMDIR, &dir, b"file"), Status::NotDirectory);
    assert_eq!(remove(&client, procedure::REMOVE, &dir, b"file"), Status::Ok);
    assert!(client.tree().all_is_stable());
    assert_eq!(client.getattr(&file), Err(Status::Stale));
    assert_eq!(remove(&client, procedure::REMOVE, &dir, b"file"), Status::NoEntry);
    assert_eq!(remove(&client, procedure::RMDIR, &root, b"."), Status::Invalid);
    assert_eq!(remove(&client, procedure::RMDIR, &root, b".."), Status::Exists);
    assert_eq!(remove(&client, procedure::RMDIR, &root, b"dir"), Status::Ok);
    assert!(client.tree().all_is_stable());
    assert_eq!(remove(&client, procedure::REMOVE, &dir, b"x"), Status::Stale);
}

#[test]
fn names_are_moved_and_added() {
    let client = Client::new();
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    let file = client.create(&root, b"file");
    assert_eq!(rename(&client, (&root, b"file"), (&dir, b"moved")), Status::Ok);
    assert!(client.tree().all_is_stable());
    assert_eq!(client.lookup(&dir, b"moved").unwrap().0, file, "the handle is the same");
    assert_eq!(rename(&client, (&root, b"file"), (&dir, b"moved")), Status::NoEntry);
    assert_eq!(rename(&client, (&root, b"."), (&dir, b"x")), Status::Invalid);
    assert_eq!(rename(&client, (&Bytes::new(), b"a"), (&dir, b"x")), Status::BadHandle);
    assert_eq!(rename(&client, (&dir, b"moved"), (&Bytes::new(), b"x")), Status::BadHandle);

    let (status, seen) = link(&client, &file, &root, b"again");
    assert_eq!((status, seen.unwrap().links), (Status::Ok, 2));
    assert!(client.tree().all_is_stable());
    assert_eq!(client.lookup(&root, b"again").unwrap().0, file);
    assert_eq!(link(&client, &file, &root, b"again").0, Status::Exists);
    assert_eq!(link(&client, &dir, &root, b"dirlink").0, Status::IsDirectory);
    assert_eq!(link(&client, &Bytes::new(), &root, b"x").0, Status::BadHandle);
    assert_eq!(link(&client, &file, &Bytes::new(), b"x").0, Status::BadHandle);
    client.tree().set_hook(|operation| if operation == "link" { Err(Refusal::TooManyLinks.into()) } else { Ok(()) });
    assert_eq!(link(&client, &file, &root, b"more").0, Status::TooManyLinks);
}

#[test]
fn nothing_changes_where_nothing_may() {
    let client = Client::new();
    let root = client.root();
    let file = client.create(&root, b"file");
    client.mkdir(&root, b"dir");
    let rules = Rules { read_only: true, squash: Squash::None, ..Rules::default() };
    let client = Client::on(super::super::memexports::MemExports::new(client.tree().restarted(), rules));
    assert_eq!(create(&client, &root, b"new", guarded).0, Status::ReadOnly);
    assert_eq!(remove(&client, procedure::REMOVE, &root, b"file"), Status::ReadOnly);
    assert_eq!(remove(&client, procedure::RMDIR, &root, b"dir"), Status::ReadOnly);
    assert_eq!(rename(&client, (&root, b"file"), (&root, b"x")), Status::ReadOnly);
    assert_eq!(link(&client, &file, &root, b"x").0, Status::ReadOnly);
}

#[test]
fn a_change_that_is_not_stable_is_not_called_made() {
    let client = Client::new();
    let root = client.root();
    client.tree().set_hook(|operation| match operation {
        "make_stable" => Err(Environment::Poisoned("sync failed".into()).into()),
        _ => Ok(()),
    });
    assert_eq!(create(&client, &root, b"file", guarded).0, Status::Io);
    assert_eq!(remove(&client, procedure::REMOVE, &root, b"file"), Status::Io);
    assert_eq!(client.tree().attributes_of(Inode(11)), None, "both took place all the same, and nobody was told so");
}
