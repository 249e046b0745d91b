//! One program for all targets: `NARROWBOAT_FUZZ` names the one to run, `NARROWBOAT_FUZZ_SEEDS` a folder that its seeds go to first.
#![no_main]

#[path = "../targets.rs"]
mod targets;

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use targets::{Fuzzed, TARGETS};

fn target() -> &'static Fuzzed {
    static TARGET: OnceLock<Fuzzed> = OnceLock::new();
    TARGET.get_or_init(|| {
        let wanted = std::env::var("NARROWBOAT_FUZZ").unwrap_or_default();
        let found = TARGETS.into_iter().find(|target| target.name == wanted);
        found.unwrap_or_else(|| panic!("NARROWBOAT_FUZZ is none of {:?}", TARGETS.map(|target| target.name)))
    })
}

fuzz_target!(
    init: {
        if let Ok(folder) = std::env::var("NARROWBOAT_FUZZ_SEEDS") {
            for (number, seed) in target().corpus().into_iter().enumerate() {
                std::fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).expect("a folder for seeds");
            }
        }
    },
    |input: &[u8]| {
        let _ = (target().run)(input);
    }
);
