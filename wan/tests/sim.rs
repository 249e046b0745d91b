//! Replication in a simulated world: two stores, one bad line, one seed.
//!
//! `NARROWBOAT_SEEDS=100000` runs that many worlds instead of a thousand; `NARROWBOAT_SEED=7` runs one.

#![allow(clippy::unwrap_used)] // a failed world ends the test

#[path = "sim/golden.rs"]
mod golden;
#[path = "sim/hostile.rs"]
mod hostile;
#[path = "sim/line.rs"]
mod line;
#[path = "sim/possession.rs"]
mod possession;
#[path = "sim/prefixes.rs"]
mod prefixes;
#[path = "sim/promises.rs"]
mod promises;
#[path = "sim/real.rs"]
mod real;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/seeds.rs"]
mod seeds;
#[path = "sim/speed.rs"]
mod speed;
#[path = "sim/store.rs"]
mod store;
#[path = "sim/tree.rs"]
mod tree;
#[path = "sim/world.rs"]
mod world;
