//! Replication in a simulated world: two stores, one bad line, one seed.
//!
//! `NARROWBOAT_SEEDS=100000` runs that many worlds instead of a thousand; `NARROWBOAT_SEED=7` runs one.

#![allow(clippy::unwrap_used)] // a failed world ends the test

#[path = "../common/mod.rs"]
mod common;
mod golden;
mod heal;
mod hostile;
mod line;
mod possession;
mod prefixes;
mod promises;
mod real;
mod resume;
mod seeds;
mod speed;
mod world;
