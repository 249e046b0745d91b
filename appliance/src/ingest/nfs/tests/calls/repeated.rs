//! Repeated calls: the first answer comes again, in the same process and after a restart.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use narrowboat_storage::dataset::SetAttributes;
use narrowboat_storage::error::Refusal;
use narrowboat_storage::units::{Inode, Timestamp};

use super::super::harness::*;
use super::super::memexports::MemExports;
use crate::ingest::nfs::rpc::Outcome;
use crate::ingest::nfs::status::Status;
use crate::ingest::nfs::wire::NFS_PROGRAM;
use crate::ingest::nfs::xdr::{Encoder, MARKER_BYTES};
use crate::ingest::nfs::{Rules, Squash};

/// One call of every procedure that changes something, in an order in which each succeeds.
fn changing_calls(client: &Client) -> Vec<(u32, Bytes)> {
    let root = client.root();
    let dir = client.mkdir(&root, b"dir");
    let file = client.create(&root, b"file");
    type Args<'a> = Box<dyn Fn(&mut Encoder) + 'a>;
    let named = |name: &'static [u8]| {
        let root = root.clone();
        move |out: &mut Encoder| {
            out.opaque(&root);
            out.opaque(name);
        }
    };
    let plain = SetAttributes::default();
    let calls: Vec<(u32, Args)> = vec![
        (
            procedure::SETATTR,
            Box::new(|out| {
                out.opaque(&file);
                set(out, &SetAttributes { mode: Some(0o600), ..Default::default() });
                out.bool(false);
            }),
        ),
        (
            procedure::CREATE,
            Box::new(|out| {
                named(b"new")(out);
                out.u32(1);
                set(out, &plain);
            }),
        ),
        (
            procedure::MKDIR,
            Box::new(|out| {
                named(b"newdir")(out);
                set(out, &plain);
            }),
        ),
        (
            procedure::SYMLINK,
            Box::new(|out| {
                named(b"newlink")(out);
                set(out, &plain);
                out.opaque(b"target");
            }),
        ),
        (
            procedure::MKNOD,
            Box::new(|out| {
                named(b"newpipe")(out);
                out.u32(7);
                set(out, &plain);
            }),
        ),
        (
            procedure::LINK,
            Box::new(|out| {
                out.opaque(&file);
                named(b"second")(out);
            }),
        ),
        (
            procedure::RENAME,
            Box::new(|out| {
                named(b"new")(out);
                out.opaque(&dir);
                out.opaque(b"moved");
            }),
        ),
        (procedure::REMOVE, Box::new(named(b"second"))),
        (procedure::RMDIR, Box::new(named(b"newdir"))),
    ];
    calls
        .into_iter()
        .map(|(procedure, args)| {
            let xid = client.next_xid();
            (xid, client.encode(xid, NFS_PROGRAM, 3, procedure, args))
        })
        .collect()
}

#[test]
fn a_repetition_gets_the_first_answer_and_is_not_carried_out() {
    let mut client = Client::new();
    for (xid, record) in changing_calls(&client) {
        let first = client.send(record.clone()).unwrap();
        results(first.clone(), xid).ok();
        let operations = Arc::new(Mutex::new(Vec::new()));
        let seen = operations.clone();
        client.tree().set_hook(move |operation| {
            seen.lock().unwrap().push(operation);
            Ok(())
        });
        client.peer.client.set_port(client.peer.client.port() + 1);
        assert_eq!(client.send(record).unwrap(), first, "another connection of the same client");
        assert_eq!(*operations.lock().unwrap(), [""; 0]);
        client.tree().set_hook(|_| Ok(()));
    }
    assert_eq!(client.session.counts().repeated, 9);
}

#[test]
fn another_client_with_the_same_call_is_another_call() {
    let mut client = Client::new();
    let root = client.root();
    let record = client.encode(5, NFS_PROGRAM, 3, procedure::REMOVE, |out| {
        out.opaque(&root);
        out.opaque(b"file");
    });
    client.create(&root, b"file");
    results(client.send(record.clone()).unwrap(), 5).ok();
    client.peer.client = "10.0.0.10:700".parse().unwrap();
    assert_eq!(results(client.send(record).unwrap(), 5).status(), Status::NoEntry);
}

#[test]
fn after_a_restart_success_is_told_again() {
    let client = Client::new();
    let root = client.root();
    let calls = changing_calls(&client);
    let mut first = Vec::new();
    for (xid, record) in &calls {
        let reply = client.send(record.clone()).unwrap();
        results(reply.clone(), *xid).ok();
        first.push(reply);
    }
    let rules = Rules { squash: Squash::None, ..Rules::default() };
    let again = Client::on(MemExports::new(client.tree().restarted(), rules));
    assert_eq!(again.root(), root, "handles survive");
    let entries_before = again.lookup(&root, b"dir").unwrap();
    for ((xid, record), first) in calls.iter().zip(&first) {
        let reply = again.send(record.clone()).unwrap();
        let mut told = results(reply.clone(), *xid);
        told.ok();
        assert!(!reply.is_empty() && !first.is_empty());
    }
    assert_eq!(again.lookup(&root, b"dir").unwrap(), entries_before, "nothing was done twice");
    assert_eq!(again.lookup(&root, b"newdir"), Err(Status::NoEntry));
    // What CREATE made was moved since: its handle is still told, and leads to it.
    let (xid, record) = &calls[1];
    let mut told = results(again.send(record.clone()).unwrap(), *xid);
    told.ok();
    let handle = told.post_handle().unwrap();
    assert_eq!(told.post_attributes().unwrap(), again.getattr(&handle).unwrap());
    assert!(told.wcc().before.is_none());
    told.end();
    // What MKDIR made is gone since: there is nothing to tell about it, but it did succeed.
    let (xid, record) = &calls[2];
    let mut told = results(again.send(record.clone()).unwrap(), *xid);
    told.ok();
    assert_eq!((told.post_handle(), told.post_attributes()), (None, None));
}

#[test]
fn a_call_under_way_is_not_begun_again() {
    let client = Arc::new(Client::new());
    let root = client.root();
    let file = client.create(&root, b"file");
    let record = client.encode(5, NFS_PROGRAM, 3, procedure::WRITE, |out| {
        out.opaque(&file);
        out.u64(0);
        out.u32(3);
        out.u32(0);
        out.opaque(b"abc");
    });
    let (entered, has_entered) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (entered, released) = (Mutex::new(entered), Mutex::new(released));
    client.tree().set_hook(move |operation| {
        if operation == "write" {
            entered.lock().unwrap().send(()).unwrap();
            released.lock().unwrap().recv().unwrap();
        }
        Ok(())
    });
    let worker = {
        let (client, record) = (client.clone(), record.clone());
        std::thread::spawn(move || client.send(record))
    };
    has_entered.recv().unwrap();
    assert_eq!(client.send(record.clone()), None, "dropped while it is under way");
    release.send(()).unwrap();
    let first = worker.join().unwrap().unwrap();
    assert_eq!(client.send(record), Some(first));
    assert_eq!(client.tree().content(Inode(11)), b"abc");
}

#[test]
fn what_is_to_be_tried_again_is_not_kept() {
    let client = Client::new();
    let root = client.root();
    let record = client.encode(5, NFS_PROGRAM, 3, procedure::MKDIR, |out| {
        out.opaque(&root);
        out.opaque(b"dir");
        set(out, &SetAttributes::default());
    });
    client.tree().set_hook(|operation| match operation {
        "make_dir" => Err(Refusal::Busy.into()),
        _ => Ok(()),
    });
    assert_eq!(results(client.send(record.clone()).unwrap(), 5).status(), Status::Jukebox);
    client.tree().set_hook(|operation| if operation == "make_dir" { panic!("our own mistake") } else { Ok(()) });
    let broke = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.hand_over(record.clone())));
    assert!(broke.is_err());
    client.tree().set_hook(|_| Ok(()));
    assert!(matches!(client.hand_over(record.clone()), Outcome::Owed(_)), "not under way for ever, nor when unsettled");
    assert!(client.lookup(&root, b"dir").is_ok());
    client.tree().set_hook(|operation| if operation == "make_stable" { panic!("our own mistake") } else { Ok(()) });
    let other = client.encode(6, NFS_PROGRAM, 3, procedure::RMDIR, |out| {
        out.opaque(&root);
        out.opaque(b"dir");
    });
    let broke = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.send(other.clone())));
    assert!(broke.is_err());
    client.tree().set_hook(|_| Ok(()));
    assert!(!client.tree().all_is_stable());
    assert_eq!(results(client.send(other).unwrap(), 6).status(), Status::Ok, "not under way for ever");
    assert!(client.tree().all_is_stable(), "what is told from memory has to be stable, too");
}

#[test]
fn a_call_whose_reply_waits_for_the_disk_is_under_way() {
    let client = Client::new();
    let root = client.root();
    let record = client.encode(5, NFS_PROGRAM, 3, procedure::MKDIR, |out| {
        out.opaque(&root);
        out.opaque(b"dir");
        set(out, &SetAttributes::default());
    });
    let Outcome::Owed(owed) = client.hand_over(record.clone()) else { panic!("told before it was stable") };
    assert_eq!(client.send(record.clone()), None, "a repetition is dropped meanwhile");
    let first = owed.settle().to_bytes().slice(MARKER_BYTES..);
    assert_eq!(client.send(record), Some(first), "and gets the answer afterwards");
}

#[test]
fn a_client_that_counts_from_the_same_number_again_gets_no_old_answer() {
    let mut client = Client::new();
    let root = client.root();
    let remove = client.encode(1, NFS_PROGRAM, 3, procedure::REMOVE, |out| {
        out.opaque(&root);
        out.opaque(b"file");
    });
    client.create(&root, b"file");
    results(client.send(remove.clone()).unwrap(), 1).ok();
    // Long after that the client starts anew, and removes another file of that name with a call of that number.
    client.now = Timestamp(client.now.0 + 3600 * 1_000_000_000);
    client.create(&root, b"file");
    results(client.send(remove.clone()).unwrap(), 1).ok();
    assert_eq!(client.lookup(&root, b"file"), Err(Status::NoEntry), "carried out");
    // The same where the box, too, starts anew: what its journal remembers is as old.
    client.create(&root, b"file");
    let rules = Rules { squash: Squash::None, ..Rules::default() };
    let mut again = Client::on(MemExports::new(client.tree().restarted(), rules));
    again.now = Timestamp(client.now.0 + 3600 * 1_000_000_000);
    results(again.send(remove).unwrap(), 1).ok();
    assert_eq!(again.lookup(&root, b"file"), Err(Status::NoEntry), "carried out");
}
