//! NFSv3 (RFC 1813) and MOUNT over TCP on one port, from our own XDR and RPC core.
//!
//! The modules stand in the order in which a call travels:
//!
//! ```text
//! socket ─ server ─ record ─ session ─ rpc ─ procedures ─ FileTree
//!            │        │         │       │         │
//!       threads,   cut into  whole    header,   one function a
//!       memory,    records   calls,   identity  procedure; wire
//!       deadlines            replies            types, status
//! ```
//!
//! What it promises:
//!
//! * A reply that speaks of stable storage is sent after [`FileTree::make_stable`] returned: every namespace change,
//!   `COMMIT`, `DATA_SYNC` and `FILE_SYNC` writes.
//! * Bulk data is not copied on its way: a WRITE's bytes go from the socket into the buffer that storage is handed, a
//!   READ's go from the slices that storage returned to `writev`.
//! * Calls of one connection run concurrently and are answered in the order in which they end.
//! * Memory is bounded, whatever clients do: by bytes under way over all connections and by calls of each connection.
//!   Where a bound is met the socket is not read, and TCP makes the client wait.
//! * No client can crash it with bytes: every length is checked before it is believed.
//! * A changing call that is repeated gets its first answer, also after a restart.
//!
//! What it never does: decide about permissions of files (the tree does, under its own lock), look at the clock
//! outside `server`, or start threads outside `server`.
//!
//! Everything but `server` is a value without sockets: bytes and time come in, bytes go out. `rpc`, `xdr`, `record` and
//! `server` know nothing of NFS; NFSv4.1 is to be one more [`server::Service`] on the same port.
//!
//! [`FileTree::make_stable`]: narrowboat_storage::dataset::FileTree::make_stable

/// Counts for status pages.
pub mod counters;
/// What clients may mount.
pub mod export;
/// Names of files in clients' hands.
pub mod handle;
/// A tree without a store below it, for measuring the protocol alone.
pub mod null;
/// The portmapper's answers.
pub mod portmap;
/// The procedures of NFS and MOUNT.
pub mod procedures;
/// Cuts a stream into records.
pub mod record;
/// Repeated calls get their first answer.
pub mod replies;
/// Headers of calls and replies.
pub mod rpc;
/// Sockets, threads, memory and deadlines.
pub mod server;
/// Whole calls in, whole replies out.
pub mod session;
/// Errors on the wire.
pub mod status;
mod users;
/// Types on the wire.
pub mod wire;
/// The data representation below everything.
pub mod xdr;

#[cfg(test)]
mod tests;

pub use export::{Export, ExportInfo, Exports, Network, Rules, SnapshotEntry, Snapshots, Squash};
pub use handle::HandleKey;
pub use server::{Hosts, Server, ServerConfig};
pub use session::Session;
