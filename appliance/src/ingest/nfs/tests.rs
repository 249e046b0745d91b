//! Tests of the protocol as a whole: sessions against a small tree in memory, real clients, hostile bytes.

mod calls;
mod clients;
mod fuzz;
mod harness;
mod memexports;
pub(crate) mod memtree;
mod recorded;
