//! Bad lines, for tests and benches of everything that talks over them.
//!
//! [`simnet`] is a network in memory under the real quinn, in tokio's simulated time: one seed, one world. [`relay`] stands
//! between real sockets, on one machine or between network namespaces. Both delay, narrow, lose and cut what passes, and both
//! count it in a [`ledger`] of their own that owes nothing to the code under test. Nothing here is part of the product.

pub mod ledger;
pub mod relay;
pub mod simnet;

/// Headers of IPv4 (20, RFC 791) and UDP (8, RFC 768): what a datagram takes of a line besides its payload.
pub const HEADERS: u64 = 28;
