//! Bytes that nobody meant: random ones, and calls of real clients with a few bytes changed. Nothing panics, nothing is
//! larger than it may be, and the tree stays a tree. `NARROWBOAT_SEEDS` sets how many worlds are tried.

use bytes::Bytes;
use narrowboat_storage::dataset::{Credentials, FileTree};
use narrowboat_storage::units::Inode;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::harness::{Client, procedure};
use super::recorded::{LIBNFS, LINUX, conversation};
use crate::ingest::nfs::portmap::Portmap;
use crate::ingest::nfs::record::RECORD_BYTES_MAX;
use crate::ingest::nfs::rpc::Outcome;
use crate::ingest::nfs::wire::NFS_PROGRAM;

fn seeds() -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Numbers at which lengths and counts go wrong.
const EDGES: [u32; 12] = [0, 1, 2, 3, 4, 255, 256, 400, 0x0010_0000, 0x7fff_ffff, 0x8000_0000, u32::MAX];

/// Changes a call in one to four places.
fn mutate(random: &mut StdRng, call: &[u8]) -> Vec<u8> {
    let mut bytes = call.to_vec();
    for _ in 0..random.random_range(1..5) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..6) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = random.random(),
            2 => bytes.truncate(at),
            3 => bytes.extend((0..random.random_range(0..64)).map(|_| random.random::<u8>())),
            4 => drop(bytes.splice(at..at, [0; 4])),
            _ => {
                let word = at / 4 * 4;
                if let Some(place) = bytes.get_mut(word..word + 4) {
                    place.copy_from_slice(&EDGES[random.random_range(0..EDGES.len())].to_be_bytes());
                }
            }
        }
    }
    bytes
}

/// Calls of every procedure with handles that work, beside those of real clients.
fn corpus(client: &Client) -> Vec<Bytes> {
    let root = client.root();
    let file = client.create(&root, b"file");
    let recorded = [LIBNFS, LINUX].into_iter().flat_map(conversation);
    let mut calls: Vec<Bytes> = recorded.map(|(call, _)| call).collect();
    for number in 0..=procedure::COMMIT {
        for handle in [&root, &file] {
            calls.push(client.encode(client.next_xid(), NFS_PROGRAM, 3, number, |out| {
                out.opaque(handle);
                out.opaque(b"name");
                // Reads as sattr3, as handle and name, as offsets and counts.
                out.opaque(&root);
                out.opaque(b"other");
                (0..24).for_each(|_| out.u32(0));
            }));
        }
    }
    calls
}

#[test]
fn changed_calls_never_break_anything() {
    let mut replies = 0;
    for seed in 0..seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let client = Client::new();
        let corpus = corpus(&client);
        for _ in 0..100 {
            let chosen = random.random_range(0..corpus.len());
            let call = mutate(&mut random, &corpus[chosen]);
            let reply = match client.hand_over(Bytes::from(call)) {
                Outcome::Reply(reply) => reply,
                Outcome::Owed(owed) => owed.settle(),
                Outcome::Silence | Outcome::Close => continue,
            };
            assert!(reply.len() <= RECORD_BYTES_MAX, "seed {seed}: a reply of {} bytes", reply.len());
            replies += 1;
        }
        let listing = client.tree().read_dir(&Credentials::ROOT, Inode::ROOT, 0, 1000).unwrap();
        assert!(listing.end && listing.entries.len() >= 2, "seed {seed}");
        for entry in listing.entries {
            let name = &entry.name[..];
            let found = client.tree().lookup(&Credentials::ROOT, Inode::ROOT, name).unwrap();
            assert_eq!(found.inode, entry.attributes.inode, "seed {seed}: {name:?}");
            let made_by_client = !matches!(name, b"." | b"..");
            assert!(!made_by_client || !name.iter().any(|byte| matches!(byte, b'/' | 0)), "seed {seed}: {name:?}");
        }
    }
    assert!(replies > seeds() * 20, "most calls must get far enough to be answered: {replies}");
}

#[test]
fn random_records_never_break_anything() {
    let client = Client::new();
    let portmap = Portmap::new(2049);
    for seed in 0..seeds() * 20 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = vec![0; random.random_range(0..300)];
        random.fill_bytes(&mut bytes);
        // Half of them begin like a call, so that what is behind the header is reached.
        let header = [7u32, 0, 2, [NFS_PROGRAM, 100_005, 100_000][random.random_range(0..3)], 3];
        let plain = [random.random_range(0..22), 0, 0, 0, 0];
        if random.random_bool(0.5) {
            bytes.splice(0..0, header.into_iter().chain(plain).flat_map(u32::to_be_bytes));
        }
        let record = Bytes::from(bytes);
        if let Outcome::Reply(reply) = client.hand_over(record.clone()) {
            assert!(reply.len() <= RECORD_BYTES_MAX, "seed {seed}");
        }
        if let Some(answer) = portmap.answer(&record, client.peer.local) {
            assert!(answer.len() < 1000, "seed {seed}: a short question gets a short answer");
        }
    }
}
