//! What tests of whole links and whole sessions share: boxes with stores in memory, seeds, simulated time.

#![allow(dead_code, reason = "every test uses a part of it")]

pub mod boxes;
pub mod office;
pub mod rng;
pub mod store;
pub mod tree;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Range;

/// The seeds to run: `NARROWBOAT_SEED` alone, or as many as `NARROWBOAT_SEEDS` or, where it isn't set, `default` says; `from..to` stands for
/// a part of a longer run.
pub fn seeds(default: u64) -> Range<u64> {
    let text = |name| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().expect("a number of seeds");
    if let Some(seed) = text("NARROWBOAT_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match text("NARROWBOAT_SEEDS").as_deref().map(|text| text.split_once("..").ok_or(text)) {
        None => 0..default,
        Some(Err(count)) => 0..number(count),
        Some(Ok((from, to))) => number(from)..number(to),
    }
}

/// How many seeds there are between two signs of progress in a long run.
const TELL_EVERY: u64 = 250;

/// The same one by one; in a long run it is told now and then how far it is, so that one that was broken off can go on there.
pub fn each_seed(default: u64, mut world: impl FnMut(u64)) {
    let seeds = seeds(default);
    let (first, long) = (seeds.start, seeds.end - seeds.start > TELL_EVERY);
    for seed in seeds.clone() {
        world(seed);
        let next = seed + 1;
        if long && ((next - first).is_multiple_of(TELL_EVERY) || next == seeds.end) {
            eprintln!("seeds {first} to {seed} of {}..{} hold", seeds.start, seeds.end);
        }
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
