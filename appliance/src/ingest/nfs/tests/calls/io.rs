//! READ, WRITE, COMMIT, READLINK.

use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use narrowboat_storage::error::{Damage, Environment};
use narrowboat_storage::units::Inode;

use super::super::harness::*;
use crate::ingest::nfs::status::Status;
use crate::ingest::nfs::wire::TRANSFER_BYTES_MAX;
use crate::ingest::nfs::{Rules, Squash};

/// A WRITE's status, its `wcc_data`, and where it succeeded: count, stability and verifier.
fn write(client: &Client, file: &Bytes, offset: u64, data: &[u8], stable: u32) -> (Status, Wcc, (u32, u32, [u8; 8])) {
    let mut results = client.call(procedure::WRITE, |out| {
        out.opaque(file);
        out.u64(offset);
        out.u32(data.len() as u32);
        out.u32(stable);
        out.opaque(data);
    });
    let (status, wcc) = (results.status(), results.wcc());
    let done = if status == Status::Ok { (results.u32(), results.u32(), results.fixed()) } else { (0, 0, [0; 8]) };
    results.end();
    (status, wcc, done)
}

fn commit(client: &Client, file: &Bytes) -> (Status, Wcc, [u8; 8]) {
    let mut results = client.call(procedure::COMMIT, |out| {
        out.opaque(file);
        out.u64(0);
        out.u32(0);
    });
    let (status, wcc) = (results.status(), results.wcc());
    let verifier = if status == Status::Ok { results.fixed() } else { [0; 8] };
    results.end();
    (status, wcc, verifier)
}

/// Status, data and end of file.
fn read(client: &Client, file: &Bytes, offset: u64, count: u32) -> (Status, Bytes, bool) {
    let mut results = client.call(procedure::READ, |out| {
        out.opaque(file);
        out.u64(offset);
        out.u32(count);
    });
    let status = results.status();
    let attributes = results.post_attributes();
    if status != Status::Ok {
        results.end();
        return (status, Bytes::new(), false);
    }
    assert!(attributes.is_some());
    let (len, end, data) = (results.u32(), results.u32() == 1, results.opaque());
    assert_eq!(len as usize, data.len());
    results.end();
    (status, data, end)
}

#[test]
fn what_was_written_is_read() {
    let client = Client::new();
    let file = client.create(&client.root(), b"file");
    let data: Vec<u8> = (0..2_500_001).map(|at| (at % 251) as u8).collect();
    for (index, piece) in data.chunks(TRANSFER_BYTES_MAX as usize).enumerate() {
        let offset = (index << 20) as u64;
        let (status, wcc, (count, ..)) = write(&client, &file, offset, piece, 0);
        assert_eq!((status, count as usize), (Status::Ok, piece.len()));
        assert_eq!(wcc.before.unwrap().0, offset);
        assert_eq!(wcc.after.unwrap().size, offset + piece.len() as u64);
    }
    assert_eq!(read(&client, &file, 0, u32::MAX), (Status::Ok, Bytes::from(data[..1 << 20].to_vec()), false));
    assert_eq!(read(&client, &file, 2_500_000, 10), (Status::Ok, Bytes::from(data[2_500_000..].to_vec()), true));
    assert!(read(&client, &file, 2_499_000, 1001).2);
    assert!(!read(&client, &file, 2_499_000, 1000).2);
    assert_eq!(read(&client, &file, 2_500_001, 10), (Status::Ok, Bytes::new(), true));
    assert_eq!(read(&client, &file, u64::MAX, u32::MAX), (Status::Ok, Bytes::new(), true));
}

#[test]
fn stable_writes_are_stable_and_unstable_ones_wait_for_commit() {
    let client = Client::new();
    let file = client.create(&client.root(), b"file");
    let (_, _, (_, committed, verifier)) = write(&client, &file, 0, b"abc", 0);
    assert_eq!(committed, 0);
    assert!(!client.tree().all_is_stable(), "an unstable write waits for no disk");
    let (status, _, after_commit) = commit(&client, &file);
    assert_eq!((status, after_commit), (Status::Ok, verifier));
    assert!(client.tree().all_is_stable());
    for stable in [1, 2] {
        let (_, _, (_, committed, _)) = write(&client, &file, 3, b"def", stable);
        assert_eq!(committed, 2);
        assert!(client.tree().all_is_stable());
    }
}

#[test]
fn the_verifier_shows_a_loss_at_any_moment() {
    // The flush fails between the bytes' arrival and the reply: the reply must carry the verifier from before.
    let client = Client::new();
    let file = client.create(&client.root(), b"file");
    let first = client.tree().verifier.load(SeqCst);
    let tree = client.exports.tree.clone();
    client.tree().set_hook(move |operation| {
        if operation == "write" {
            tree.verifier.fetch_add(1, SeqCst);
        }
        Ok(())
    });
    let (_, _, (_, _, verifier)) = write(&client, &file, 0, b"abc", 0);
    assert_eq!(verifier, first.to_be_bytes());
    client.tree().set_hook(|_| Ok(()));
    assert_ne!(commit(&client, &file).2, verifier, "so that COMMIT shows the loss");
    // The flush fails while COMMIT waits: the reply must carry the verifier from after.
    let (_, _, (_, _, verifier)) = write(&client, &file, 0, b"abc", 0);
    let tree = client.exports.tree.clone();
    client.tree().set_hook(move |operation| {
        if operation == "make_stable" {
            tree.verifier.fetch_add(1, SeqCst);
        }
        Ok(())
    });
    assert_ne!(commit(&client, &file).2, verifier);
}

#[test]
fn what_cannot_be_done_is_told() {
    let client = Client::new();
    let root = client.root();
    let file = client.create(&root, b"file");
    assert_eq!(read(&client, &root, 0, 10).0, Status::IsDirectory);
    assert_eq!(write(&client, &root, 0, b"abc", 0).0, Status::Invalid);
    assert_eq!(read(&client, &Bytes::from_static(b"x"), 0, 10).0, Status::BadHandle);
    assert_eq!(write(&client, &Bytes::from_static(b"x"), 0, b"abc", 0).0, Status::BadHandle);
    assert_eq!(commit(&client, &Bytes::from_static(b"x")).0, Status::BadHandle);
    assert_eq!(write(&client, &file, 16 << 40, b"abc", 0).0, Status::FileTooBig);
    assert_eq!(write(&client, &file, u64::MAX, b"abc", 0).0, Status::FileTooBig);
    let mut results = client.call(procedure::WRITE, |out| {
        out.opaque(&file);
        out.u64(0);
        out.u32(4);
        out.u32(0);
        out.opaque(b"abc");
    });
    assert_eq!(results.status(), Status::Invalid, "count and data differ");

    let (status, wcc, (count, ..)) = write(&client, &file, 5, b"", 0);
    assert_eq!((status, count), (Status::Ok, 0));
    assert_eq!((wcc.before, wcc.after.unwrap().size), (None, 0), "nothing written, nothing changed");

    client.tree().set_hook(|operation| match operation {
        "write" => Err(Environment::Full.into()),
        "read" => Err(Damage::new("container/9", 4096, "name a", "name b").into()),
        "make_stable" => Err(Environment::Poisoned("sync failed".into()).into()),
        _ => Ok(()),
    });
    let (status, wcc, _) = write(&client, &file, 0, b"abc", 0);
    assert_eq!((status, wcc.before), (Status::NoSpace, None));
    assert!(wcc.after.is_some());
    assert_eq!(read(&client, &file, 0, 10).0, Status::Io);
    assert_eq!(commit(&client, &file).0, Status::Io, "a failed sync is not called stable");
}

#[test]
fn permissions_are_the_callers() {
    let mut client = Client::new();
    let file = client.create(&client.root(), b"file");
    client.uid = Some(1000);
    assert_eq!(write(&client, &file, 0, b"abc", 0).0, Status::Access);
    assert_eq!(write(&client, &file, 0, b"", 0).0, Status::Access, "a write of nothing as well");
    assert_eq!(read(&client, &file, 0, 1).0, Status::Ok);
    let mut squashed = Client::with(Rules::default());
    let mine = squashed.create(&squashed.root(), b"mine");
    assert_eq!(squashed.getattr(&mine).unwrap().uid, 65534, "root is nobody here");
    squashed.uid = None;
    assert_eq!(write(&squashed, &mine, 0, b"abc", 0).0, Status::Ok, "and so is a caller without a name");
    let read_only = Client::with(Rules { read_only: true, squash: Squash::None, ..Rules::default() });
    let root = read_only.root();
    assert_eq!(write(&read_only, &root, 0, b"abc", 0).0, Status::ReadOnly);
    assert_eq!(commit(&read_only, &root).0, Status::ReadOnly);
}

#[test]
fn data_is_handed_on_and_not_copied() {
    use crate::ingest::nfs::rpc::Outcome;
    let client = Client::new();
    let file = client.create(&client.root(), b"file");
    write(&client, &file, 0, &[7; 5000], 0);
    let record = client.encode(9, 100_003, 3, procedure::READ, |out| {
        out.opaque(&file);
        out.u64(0);
        out.u32(5000);
    });
    let Outcome::Reply(message) = client.hand_over(record) else { panic!("no reply") };
    assert_eq!(message.pieces().filter(|piece| piece.len() == 1000).count(), 5, "the tree's slices as they are");
    assert_eq!(client.tree().content(Inode(11)).len(), 5000);
}

#[test]
fn symlinks_are_read() {
    let client = Client::new();
    let root = client.root();
    let mut results = client.call(procedure::SYMLINK, |out| {
        out.opaque(&root);
        out.opaque(b"link");
        set(out, &Default::default());
        out.opaque(b"some/where");
    });
    results.ok();
    let link = results.post_handle().unwrap();
    let readlink = |handle: &Bytes| {
        let mut results = client.call(procedure::READLINK, |out| out.opaque(handle));
        let status = results.status();
        results.post_attributes();
        let target = if status == Status::Ok { results.opaque() } else { Bytes::new() };
        results.end();
        (status, target)
    };
    assert_eq!(readlink(&link), (Status::Ok, Bytes::from_static(b"some/where")));
    assert_eq!(readlink(&root).0, Status::Invalid);
    assert_eq!(readlink(&Bytes::from_static(b"x")).0, Status::BadHandle);
}
