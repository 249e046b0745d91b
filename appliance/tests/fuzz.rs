//! The targets of `fuzz/` in every test run: with inputs that get far into the code and those that libFuzzer found, as they are and
//! changed at random, and with bytes of no sense at all. `NARROWBOAT_SEEDS` sets how many inputs of each there are; `make fuzz` lets libFuzzer look for more.

#[path = "../fuzz/targets.rs"]
mod targets;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use targets::{Fuzzed, TARGETS};

/// Changes of an input: bytes that are set, put in and left out, at places that are taken modulo its length.
fn changed(mut input: Vec<u8>, changes: &[(u8, usize, u8)]) -> Vec<u8> {
    for (kind, at, byte) in changes {
        let at = at % (input.len() + 1);
        match kind % 5 {
            0 | 1 if at < input.len() => input[at] = *byte,
            2 if at < input.len() => input[at] ^= 1 << (byte % 8),
            3 => input.insert(at, *byte),
            4 if at < input.len() => drop(input.remove(at)),
            _ => {}
        }
    }
    input
}

fn run(target: &Fuzzed) {
    let corpus = target.corpus();
    for input in &corpus {
        let _ = (target.run)(input);
    }
    let cases = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(500);
    let changes =
        prop::collection::vec((any::<u8>(), any::<usize>(), prop_oneof![Just(0), Just(0xff), any::<u8>()]), 0..20);
    let input = prop_oneof![
        6 => (prop::sample::select(corpus), changes).prop_map(|(seed, changes)| changed(seed, &changes)),
        1 => prop::collection::vec(any::<u8>(), 0..600),
    ];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let outcome = TestRunner::new(config).run(&input, |input| {
        let _ = (target.run)(&input);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{}: {failure}", target.name));
}

#[test]
fn streams_of_pdus() {
    run(&TARGETS[0]);
}

#[test]
fn text_of_any_kind() {
    run(&TARGETS[1]);
}

#[test]
fn logins() {
    run(&TARGETS[2]);
}

#[test]
fn commands() {
    run(&TARGETS[3]);
}

#[test]
fn conversations() {
    run(&TARGETS[4]);
}

#[test]
fn frames() {
    run(&TARGETS[5]);
}

#[test]
fn sessions_that_receive() {
    run(&TARGETS[6]);
}

#[test]
fn sessions_that_send() {
    run(&TARGETS[7]);
}

#[test]
fn probes_and_grants() {
    run(&TARGETS[8]);
}

/// The seeds are worth something: of each, something comes through the decoders that it is for.
#[test]
fn seeds_get_far() {
    for target in TARGETS {
        let reached: Vec<usize> = (target.seeds)().iter().map(|seed| (target.run)(seed)).collect();
        match target.name {
            "cdb" => assert!(reached.iter().copied().eq(1..=reached.len()), "every command ends well: {reached:?}"),
            name => assert!(reached.iter().all(|reached| *reached > 0), "{name}: {reached:?}"),
        }
    }
}
