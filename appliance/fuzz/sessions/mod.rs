//! Whole sessions that a hostile peer speaks to, as values: the bytes of an input decide what it says.
//!
//! Beside the *victim*, which is the product's own session with a worker and a small store, runs a *puppet*: an honest session of the other role. An
//! input decides for each step whether the victim hears the puppet's next frame as it is, damaged, twice, late or not at all, or something that the input makes up;
//! so it gets as far as proofs and publication, and lies there. What the victim says the puppet hears. Whatever comes of it, the victim's store keeps
//! only what is true: each object under its own name, complete below itself, and no snapshot without its root.
//!
//! `wan/tests/hostile/` counts the memory that the worst of it takes.

#![allow(dead_code, reason = "every user uses a part of it")]

mod lies;
pub mod shelf;
pub mod side;
pub mod stage;

use std::time::Duration;

use narrowboat_wan::sync::{Input, Limits};
use narrowboat_wan::wire::FEATURES_KNOWN;

use lies::{Cursor, Tongue};
use side::{ROOM, Side};
use stage::{office, replication, stage};

/// Steps of one input at most.
const STEPS_MAX: usize = 4000;

/// A session that receives, and a sender that lies.
pub fn receiving(input: &[u8]) -> usize {
    received(input).0
}

/// Whether what it receives is published in the end.
pub fn publishes(input: &[u8]) -> bool {
    received(input).1
}

fn received(input: &[u8]) -> (usize, bool) {
    let mut cursor = Cursor(input);
    let (how, what) = (cursor.u8(), cursor.u8());
    let shelf = office();
    let mut victim = Side::receiver(limits(how), features(what), shelf.clone());
    let mut puppet = Side::sender(limits(how >> 4), FEATURES_KNOWN, replication(how & 128 == 0));
    let heard = converse(&mut victim, &mut puppet, &mut cursor);
    drop(victim);
    shelf.check();
    (heard, shelf.shows_snapshot(&stage().second.snapshot))
}

/// A session that sends, and a receiver that lies.
pub fn sending(input: &[u8]) -> usize {
    let mut cursor = Cursor(input);
    let (how, what) = (cursor.u8(), cursor.u8());
    let mut victim = Side::sender(limits(how), features(what), replication(how & 128 == 0));
    let mut puppet = Side::receiver(limits(how >> 4), FEATURES_KNOWN, office());
    converse(&mut victim, &mut puppet, &mut cursor)
}

/// Lets a victim and its puppet converse as the input says. How many frames the victim heard.
fn converse(victim: &mut Side, puppet: &mut Side, cursor: &mut Cursor) -> usize {
    let (mut tongue, mut heard, mut idle) = (Tongue::default(), 0, 0);
    for _ in 0..STEPS_MAX {
        victim.pump(ROOM);
        puppet.pump(ROOM);
        puppet.work(usize::MAX);
        while let Some((channel, bytes)) = victim.said.pop_front() {
            puppet.hear(channel, &bytes);
        }
        puppet.pump(ROOM);
        if victim.session.outcome().is_some() || idle > 3 {
            break;
        }
        let over = cursor.0.is_empty();
        if over && puppet.said.is_empty() && puppet.jobs.is_empty() && victim.jobs.is_empty() {
            // What waits for a moment comes to it.
            idle += 1;
            victim.now += Duration::from_secs(6);
            victim.session.handle(victim.now, Input::Time);
            continue;
        }
        // Jobs come late now and then, and time passes.
        let step = if over { 0 } else { cursor.u8() };
        if step & 3 != 3 {
            victim.work(usize::MAX);
        }
        if step & 0xf0 == 0xf0 {
            victim.now += Duration::from_secs(u64::from(step & 15));
            victim.session.handle(victim.now, Input::Time);
        }
        let next = puppet.said.pop_front();
        let says = if over { next.into_iter().collect() } else { tongue.says(cursor, next) };
        for (channel, bytes) in says {
            heard += 1;
            victim.hear(channel, &bytes);
        }
    }
    victim.work(usize::MAX);
    heard
}

fn limits(byte: u8) -> Limits {
    let mut limits = Limits { window_objects: [8, 64, 8192, 8192][usize::from(byte & 3)], ..Limits::default() };
    limits.window_bytes = [4 << 10, 64 << 10, 4 << 20, 4 << 20][usize::from(byte >> 2 & 3)];
    limits.prefixes = byte & 16 == 0;
    limits
}

/// What of the features a side names.
fn features(byte: u8) -> u64 {
    if byte & 0x80 == 0 { FEATURES_KNOWN } else { FEATURES_KNOWN & u64::from(byte & 7) }
}

/// Honest to the end, with and without a base and older features; and each kind of lie early and late.
pub fn session_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (how, what) in [(10, 0), (0x8a, 0), (10, 0x80), (10, 0x81), (10, 0x83), (0, 0), (26, 0)] {
        seeds.push(vec![how, what]);
        for lie in [165, 205, 215, 225, 235, 245, 250] {
            for honest in [0, 1, 3, 6, 12] {
                let mut seed = vec![how, what];
                seed.extend(std::iter::repeat_n([0, 0], honest).flatten());
                seed.extend([0, lie, 3, 17, 4, 1, 2, 1, 9, 0, 0, 1, 0, 0, 2, 0, 1]);
                seeds.push(seed);
            }
        }
    }
    seeds
}
