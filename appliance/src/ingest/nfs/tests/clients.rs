//! Clients that nobody here wrote: the tools of libnfs, over a loopback socket.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::units::Timestamp;

use super::memtree::{MemExports, MemTree};
use crate::ingest::nfs::rpc::Service;
use crate::ingest::nfs::{HandleKey, Rules, Server, ServerConfig, Session, Squash};

/// A server on a free port of the loopback interface.
fn serve(exports: Arc<MemExports>) -> (Server, Arc<Session>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let session = Arc::new(Session::new(exports, HandleKey::new(b"test")));
    let service: Arc<dyn Service> = session.clone();
    let config = ServerConfig::new(Arc::new(|| Timestamp::new(1_700_000_000, 0)));
    (Server::start(config, vec![(listener, service)], Vec::new()).unwrap(), session, port)
}

/// Runs a tool of libnfs. `None` where it is not installed, which is said.
fn tool(name: &str, arguments: &[&str]) -> Option<(bool, Vec<u8>)> {
    match Command::new("timeout").arg("60").arg(name).args(arguments).output() {
        Ok(output) if output.status.code() == Some(127) => {
            println!("SKIPPED: {name} is not installed (Debian: libnfs-utils)");
            None
        }
        Ok(output) => Some((output.status.success(), output.stdout)),
        Err(error) => panic!("cannot run timeout: {error}"),
    }
}

#[test]
fn libnfs_tools_list_and_copy() {
    let exports = MemExports::new(MemTree::new(), Rules { squash: Squash::None, ..Rules::default() });
    let (server, session, port) = serve(exports.clone());
    let url = |path: &str| format!("nfs://127.0.0.1/share{path}?nfsport={port}&mountport={port}");
    let folder = tempfile::tempdir().unwrap();
    let local = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let content: Vec<u8> = (0..5_000_003u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(local("there"), &content).unwrap();

    let Some((copied, _)) = tool("nfs-cp", &[&local("there"), &url("/file")]) else { return };
    assert!(copied);
    let (copied, _) = tool("nfs-cp", &[&url("/file"), &local("back")]).unwrap();
    assert!(copied);
    assert!(std::fs::read(local("back")).unwrap() == content, "what came back differs");
    let (done, listing) = tool("nfs-ls", &[&url("")]).unwrap();
    let listing = String::from_utf8(listing).unwrap();
    assert!(done && listing.contains("5000003 file"), "{listing}");
    exports.snapshots.add(7, "monday", exports.tree.snapshot());
    let (done, shown) = tool("nfs-cat", &[&url("/.snapshot/monday/file")]).unwrap();
    assert!(done && shown == content);
    let (done, _) = tool("nfs-cp", &[&local("there"), &url("/.snapshot/monday/new")]).unwrap();
    assert!(!done, "a snapshot was written to");

    let counts = session.counts();
    assert_eq!(counts.refused, 0);
    assert!(counts.procedures.iter().any(|count| count.name == "WRITE" && count.bytes_in > 5_000_000));
    assert!(exports.tree.all_is_stable());
    server.stop(Duration::from_secs(5));
}
