//! The only sockets and tasks of this crate: one QUIC endpoint a box, under caps, between pinned keys.

pub mod congestion;
pub mod identity;
pub mod pairing;
pub mod socket;
pub mod tls;
pub mod transport;
