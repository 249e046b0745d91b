//! libiscsi's conformance suite against the real program with volumes of a real store, with one process a test and all in one
//! process. Disks in memory with other shapes of blocks are judged in `src/ingest/iscsi/tests/suite.rs`.

mod common;

use std::fs;

use common::suite::{Outcome, Ways, all_at_once, by_test, is_summed_up, judge, one_by_one};
use common::{CONFIG, Served, fine, target};

/// How many volumes are tested at once.
const SHARES: usize = 6;

#[test]
fn a_real_box_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = common::data_folder(folder.path(), "box");
    let names: Vec<String> = (0..=SHARES).map(|number| format!("disk{number}")).collect();
    // Physical blocks of one logical one: with others the suite has a test that nobody can pass.
    let shapes: String = names.iter().map(|name| format!("[volume.{name}]\nphysical_block_bytes = 512\n")).collect();
    let portals = CONFIG.replace("listen = ['127.0.0.1:0']", "listen = ['127.0.0.1:0', '127.0.0.1:0']");
    fs::write(data.join("narrowboat.toml"), portals + &shapes).expect("a config");
    let served = Served::start(&data);
    for name in &names {
        fine(&data, &["volume", "create", name, "--size", "64MiB"]);
    }
    // The suite's second initiator comes through the second portal.
    let ways =
        |name: &String| [0, 1].map(|portal: usize| format!("iscsi://{}/{}/0", served.portals[portal], target(name)));
    let units: Vec<Ways> = names.iter().map(ways).collect();
    let (whole, apart) = std::thread::scope(|scope| {
        let whole = scope.spawn(|| all_at_once(&units[SHARES]));
        let apart = one_by_one(&units[..SHARES]);
        (whole.join().expect("it ran to its end"), apart)
    });
    judge(&apart, 202, &[]);
    judge(&whole, 202, &[]);
    served.kill();
    fine(&data, &["check", "--deep"]);
}

/// The reading of the suite's text: what is skipped or fails is not taken for passed.
#[test]
fn what_the_suite_says_is_read_as_it_is_meant() {
    let text = "\nSuite: A\n  Test: One ...passed\n  Test: Two ...    [SKIPPED] not here\npassed\n\
                \nSuite: B\n  Test: One ...    [INFO] word\nFAILED\n    1. b.c:1  - CU_FAIL\n  Test: Two ...";
    let judged: Vec<_> = by_test(text).into_iter().map(|(name, outcome, _)| (name, outcome)).collect();
    let expected = [
        ("A.One", Outcome::Passed),
        ("A.Two", Outcome::Skipped),
        ("B.One", Outcome::Failed),
        ("B.Two", Outcome::Failed),
    ];
    assert_eq!(judged, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
    assert!(is_summed_up("  tests   7   7   7   0   0 ", 7) && !is_summed_up("tests 7 7 6 1 0", 7));
}
