//! Conversations with real clients, played again: the same calls get the same replies, byte for byte.
//!
//! The recordings hold calls as the clients sent them and the replies they were content with. A change of a reply shows
//! here, and is either a mistake or a new recording, made with a real client (see `clients`).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::harness::Client;
use crate::ingest::nfs::procedures::PROCEDURES;
use crate::ingest::nfs::rpc::{CallHeader, Identity};
use crate::ingest::nfs::wire::{MOUNT_PROGRAM, NFS_PROGRAM};
use crate::ingest::nfs::xdr::Decoder;

/// Calls and replies.
pub(super) fn conversation(text: &str) -> Vec<(Bytes, Bytes)> {
    let bytes = |mark: &str, line: &str| -> Bytes {
        let hex = line.strip_prefix(mark).unwrap();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.chunks(2).map(|pair| (bytes("> ", pair[0]), bytes("< ", pair[1]))).collect()
}

/// nfs-cp of a file of eleven bytes, nfs-cat of it, nfs-ls, nfs-cat of a file that is not there.
pub(super) const LIBNFS: &str = include_str!("recorded/libnfs-4.0.txt");

/// The kernel's client mounts a share, makes, moves, links, lists, reads and removes a few files of every type, looks into
/// a snapshot and unmounts.
pub(super) const LINUX: &str = include_str!("recorded/linux-6.1.txt");

#[test]
fn linux_gets_the_replies_it_was_content_with() {
    let client = Client::new();
    client.exports.snapshots.add(7, "monday", client.tree().snapshot());
    for (number, (call, reply)) in conversation(LINUX).into_iter().enumerate() {
        assert_eq!(client.send(call).unwrap(), reply, "call {number}");
    }
    assert!(client.tree().all_is_stable());
}

#[test]
fn libnfs_gets_the_replies_it_was_content_with() {
    let client = Client::new();
    for (number, (call, reply)) in conversation(LIBNFS).into_iter().enumerate() {
        assert_eq!(client.send(call).unwrap(), reply, "call {number}");
    }
}

#[test]
fn calls_are_read_as_their_clients_meant_them() {
    let libnfs = asked(LIBNFS);
    for name in ["MOUNT", "LOOKUP", "CREATE", "WRITE", "READ", "READDIRPLUS", "COMMIT", "GETATTR", "FSINFO"] {
        assert!(libnfs.contains_key(name), "{name} among {libnfs:?}");
    }
    let linux = asked(LINUX);
    let never = ["READLINK", "READDIR", "COMMIT"];
    for procedure in PROCEDURES.iter().filter(|procedure| !never.contains(&procedure.name)) {
        assert!(linux.contains_key(procedure.name), "{} among {linux:?}", procedure.name);
    }
}

/// How often each procedure was asked for. All calls of NFS but NULL come from root.
fn asked(text: &str) -> BTreeMap<&'static str, usize> {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, _) in conversation(text) {
        let header = CallHeader::decode(&mut Decoder::new(&call)).unwrap();
        let name = match header.program {
            NFS_PROGRAM => PROCEDURES[header.procedure as usize].name,
            MOUNT_PROGRAM => "MOUNT",
            100_227 => "NFSACL", // Asked for by Linux, which is content to hear that it is not here.
            other => panic!("program {other}"),
        };
        *asked.entry(name).or_default() += 1;
        if header.program == NFS_PROGRAM && header.procedure != 0 {
            assert_eq!(header.identity, Identity::System { uid: 0, gid: 0, groups: vec![] }, "{name}");
        }
    }
    asked
}
