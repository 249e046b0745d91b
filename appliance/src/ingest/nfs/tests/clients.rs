//! Clients that nobody here wrote: the tools of libnfs, over a loopback socket.
//!
//! With `NARROWBOAT_RECORD=FILE` the small conversation is written to a file, from which `recorded` plays it again.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use narrowboat_storage::units::Timestamp;

use super::harness::NOW;
use super::memexports::MemExports;
use super::memtree::MemTree;
use crate::ingest::nfs::rpc::{Outcome, Peer, Service};
use crate::ingest::nfs::xdr::MARKER_BYTES;
use crate::ingest::nfs::{HandleKey, Rules, Server, ServerConfig, Session, Squash};

/// A session whose conversation is written down.
struct Recorder {
    session: Arc<Session>,
    lines: Mutex<String>,
}

impl Service for Recorder {
    fn call(self: Arc<Self>, record: Bytes, peer: &Peer, now: Timestamp) -> Outcome {
        let outcome = match self.session.clone().call(record.clone(), peer, now) {
            Outcome::Owed(owed) => Outcome::Reply(owed.settle()),
            outcome => outcome,
        };
        if let Outcome::Reply(reply) = &outcome {
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let reply = &reply.to_bytes()[MARKER_BYTES..];
            writeln!(self.lines.lock().unwrap(), "> {}\n< {}", hex(&record), hex(reply)).unwrap();
        }
        outcome
    }
}

/// A server on a free port of the loopback interface.
fn serve(exports: Arc<MemExports>) -> (Server, Arc<Recorder>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let session = Arc::new(Session::new(exports, HandleKey::new(b"test")));
    let recorder = Arc::new(Recorder { session, lines: Mutex::default() });
    let service: Arc<dyn Service> = recorder.clone();
    let server = Server::start(ServerConfig::new(Arc::new(|| NOW)), vec![(listener, service)], Vec::new());
    (server.unwrap(), recorder, port)
}

/// Runs a tool of libnfs: whether it went well, and what it printed.
fn tool(name: &str, arguments: &[&str]) -> (bool, Vec<u8>) {
    let output = Command::new("timeout").arg("60").arg(name).args(arguments).output().unwrap();
    assert_ne!(output.status.code(), Some(127), "{name} is not installed (Debian: libnfs-utils)");
    (output.status.success(), output.stdout)
}

#[test]
fn libnfs_tools_list_and_copy() {
    let exports = MemExports::new(MemTree::new(), Rules { squash: Squash::None, ..Rules::default() });
    let (server, recorder, port) = serve(exports.clone());
    let url = |path: &str| format!("nfs://127.0.0.1/share{path}?nfsport={port}&mountport={port}");
    let folder = tempfile::tempdir().unwrap();
    let local = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();

    // A conversation that is small enough to be kept.
    std::fs::write(local("small"), b"a few bytes").unwrap();
    assert!(tool("nfs-cp", &[&local("small"), &url("/small")]).0);
    let (done, shown) = tool("nfs-cat", &[&url("/small")]);
    assert!(done && shown == b"a few bytes");
    let (done, listing) = tool("nfs-ls", &[&url("")]);
    let listing = String::from_utf8(listing).unwrap();
    assert!(done && listing.contains("11 small"), "{listing}");
    assert!(!tool("nfs-cat", &[&url("/none")]).0, "what is not there was shown");
    if let Ok(path) = std::env::var("NARROWBOAT_RECORD") {
        std::fs::write(path, recorder.lines.lock().unwrap().as_bytes()).unwrap();
    }

    let content: Vec<u8> = (0..5_000_003u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(local("there"), &content).unwrap();
    assert!(tool("nfs-cp", &[&local("there"), &url("/file")]).0);
    assert!(tool("nfs-cp", &[&url("/file"), &local("back")]).0);
    assert!(std::fs::read(local("back")).unwrap() == content, "what came back differs");
    exports.snapshots.add(7, "monday", exports.tree.snapshot());
    let (done, shown) = tool("nfs-cat", &[&url("/.snapshot/monday/file")]);
    assert!(done && shown == content);
    assert!(!tool("nfs-cp", &[&local("there"), &url("/.snapshot/monday/new")]).0, "a snapshot was written to");

    let counts = recorder.session.counts();
    assert_eq!(counts.refused, 0);
    assert!(counts.procedures.iter().any(|count| count.name == "WRITE" && count.bytes_in > 5_000_000));
    assert!(exports.tree.all_is_stable());
    server.stop(Duration::from_secs(5));
}
