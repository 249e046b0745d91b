//! What tests of whole links and whole sessions share: boxes with stores in memory, seeds, simulated time.

#![allow(dead_code, reason = "every test uses a part of it")]

pub mod office;
pub mod rng;
pub mod store;
pub mod tree;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;

/// The seeds to run: `NARROWBOAT_SEED` alone, or as many as `NARROWBOAT_SEEDS` or, where it isn't set, `default` says.
pub fn seeds(default: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    match (number("NARROWBOAT_SEED"), number("NARROWBOAT_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(default),
    }
}

/// Runs a world in simulated time: its clock leaps to the next timer whenever nothing else is left to do.
pub fn simulate<T>(world: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(world)
}

/// Where box `number` of a simulated network listens.
pub const fn at(number: u8) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, number)), 7420)
}
