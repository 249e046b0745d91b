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

#[test]
fn libnfs_gets_the_replies_it_was_content_with() {
    let client = Client::new();
    for (number, (call, reply)) in conversation(LIBNFS).into_iter().enumerate() {
        assert_eq!(client.send(call).unwrap(), reply, "call {number}");
    }
}

#[test]
fn libnfs_calls_are_read_as_it_meant_them() {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for (call, _) in conversation(LIBNFS) {
        let header = CallHeader::decode(&mut Decoder::new(&call)).unwrap();
        let name = match header.program {
            NFS_PROGRAM => PROCEDURES[header.procedure as usize].name,
            MOUNT_PROGRAM => "MOUNT",
            other => panic!("program {other}"),
        };
        *asked.entry(name).or_default() += 1;
        if !matches!(header.procedure, 0 | 5) && header.program == NFS_PROGRAM {
            assert_eq!(header.identity, Identity::System { uid: 0, gid: 0, groups: vec![] }, "{name}");
        }
    }
    for name in ["MOUNT", "LOOKUP", "CREATE", "WRITE", "READ", "READDIRPLUS", "COMMIT", "GETATTR", "FSINFO"] {
        assert!(asked.contains_key(name), "{name} among {asked:?}");
    }
}
