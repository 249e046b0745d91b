//! iSCSI (RFC 7143): volumes as disks of other machines, from our own target.
//!
//! The modules stand in the order in which a command travels:
//!
//! ```text
//! socket ─ server ─ framing ─ session ─┬─ login                        scsi::Disk
//!            │         │         │     └─ commands ─ tasks ─ scsi ─────────┘
//!       threads,   cut into   numbers,              device server, one
//!       memory,      PDUs     window, R2T           function a command
//!       deadlines
//! ```
//!
//! What it promises:
//!
//! * A command is answered after what it promises has happened: SYNCHRONIZE CACHE, FUA and writes without a cache after
//!   the disk below said that the bytes are stable.
//! * Commands of one session are carried out side by side and answered as they end.
//! * Memory is bounded, whatever initiators do: command windows and bursts are opened only into memory that is accounted.
//! * No initiator can crash it with bytes: every length is checked before it is believed.
//!
//! What it never does: hold a write back, keep a session's tasks for a later connection (error recovery level 0), look at
//! the clock or start threads outside `server`.
//!
//! Everything but `server` is a value without sockets: PDUs and time come in, bytes and tasks go out.

/// Who knows the secret.
pub mod chap;
/// Cuts a stream into PDUs.
pub mod framing;
/// How many may be logging in.
pub mod gate;
/// The login phase.
pub mod login;
/// A disk without a store.
pub mod null;
/// What the two sides agree on.
pub mod params;
/// Which sessions there are.
pub mod registry;
/// The device server.
pub mod scsi;
/// Sockets, threads and deadlines.
pub mod server;
/// One connection as a value.
pub mod session;
/// What initiators may log in to.
pub mod target;
/// Text in logins.
pub mod text;
/// A volume as a disk.
pub mod volume;
/// PDUs on the wire.
pub mod wire;

#[cfg(test)]
mod tests;

pub use server::{Server, ServerConfig};
pub use target::{Access, Target, Targets};
pub use volume::VolumeDisk;
