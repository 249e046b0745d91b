//! Whole lives of stores, simulated: one seed is one life. `NARROWBOAT_SEEDS` gives their number, or a range of seeds as `FROM..TO`;
//! `make sim SEED=N` lives one of them again and tells what happened in it.

#[path = "common/blocks.rs"]
mod blocks;
mod common;
#[path = "common/garbage.rs"]
mod garbage;
#[path = "common/known.rs"]
mod known;
#[path = "common/life/mod.rs"]
mod life;
#[path = "common/received.rs"]
mod received;
#[path = "common/sending.rs"]
mod sending;
#[path = "common/versions.rs"]
mod versions;
#[path = "common/world/mod.rs"]
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::*;
use life::{Canary, Life, Tally};

const STEPS: u64 = 160;
/// So much of what happened is told where something went wrong.
const TOLD: usize = 60;

/// The seeds that the environment asks for.
fn seeds(default: u64) -> Range<u64> {
    let Ok(said) = std::env::var("NARROWBOAT_SEEDS") else { return 0..default };
    match said.split_once("..") {
        Some((from, to)) => from.parse().expect("a number")..to.parse().expect("a number"),
        None => 0..said.parse().expect("a number of seeds, or FROM..TO"),
    }
}

/// One life. What went wrong, and what had happened before, where something did.
fn live(seed: u64, canary: Canary) -> Result<Tally, Vec<String>> {
    let mut life = Life::new(seed, canary);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        life.live(STEPS);
        life.end();
    }));
    match outcome {
        Ok(()) => Ok(life.tally),
        Err(_) => Err(std::mem::take(&mut life.trace)),
    }
}

#[test]
fn lives_of_stores_lose_nothing() {
    let seeds = seeds(40);
    let mut sum = Tally::default();
    for seed in seeds.clone() {
        match live(seed, Canary::None) {
            Ok(tally) => sum.add(&tally),
            Err(trace) => {
                let told = &trace[trace.len().saturating_sub(TOLD)..];
                panic!("seed {seed}: see above. Again: make sim SEED={seed}\n{}", told.join("\n"));
            }
        }
    }
    println!("{} lives: {sum:?}", seeds.end - seeds.start);
    let seen = [
        ("power cuts", sum.power_cuts),
        ("wounds", sum.wounds),
        ("full disks", sum.full_disks),
        ("failed syncs", sum.failed_syncs),
        ("containers freed", sum.containers_freed),
        ("scrubs", sum.scrubs),
        ("received", sum.received),
        ("sent", sum.sent),
        ("moments", sum.moments),
        ("locks", sum.locks_kept),
        ("had back", sum.had_back),
    ];
    // A node that rots, met by a run of reclaim before it is healed.
    let seldom = [("in the way", sum.in_the_way)];
    let lives = seeds.end - seeds.start;
    for (what, count) in seen.iter().filter(|_| lives >= 20).chain(seldom.iter().filter(|_| lives >= 1000)) {
        assert!(*count > 0, "no {what}: lives that prove nothing");
    }
}

/// The first seed whose life shows what the canary does wrong.
fn seen_at(canary: Canary, among: u64) -> Option<u64> {
    (0..among).find(|seed| catch_unwind(AssertUnwindSafe(|| live(*seed, canary))).map_or(true, |life| life.is_err()))
}

#[test]
fn a_door_that_notes_nothing_is_seen() {
    assert!(seen_at(Canary::BlindDoor, 300).is_some());
}

#[test]
fn a_disk_that_lies_is_seen() {
    assert!(seen_at(Canary::LyingDisk, 10).is_some());
}
