//! Moves snapshots between stores over thin, long, lossy links.
//!
//! The modules stand in the order in which a byte travels.

/// The only sockets and tasks here: the QUIC endpoint, identity, pairing, the shaped socket, congestion control.
pub mod link;
/// Who is on the other end: identities, addresses, pinned records.
pub mod peer;

/// The bytes of replication: streams, frames, messages.
pub mod wire;

/// Groups of objects, packed for the line against what the peer has.
pub mod pack;

/// Replication as a value: which objects a peer lacks, and how they get there.
pub mod sync;

/// Objects that are damaged, asked of a peer that has the same tree.
pub mod heal;

/// How fast and when: the bucket tree that every datagram passes.
pub mod shape;

/// What a line is like, measured with little traffic.
pub mod probe;

/// Which line an office needs: measured days, replayed.
pub mod assess;
