//! Moves snapshots between stores over thin, long, lossy links.
//!
//! The modules stand in the order in which a byte travels.

/// Who is on the other end: identities, addresses, pinned records.
pub mod peer;
/// How fast and when: the bucket tree that every datagram passes.
pub mod shape;
