//! libiscsi's conformance suite (`iscsi-test-cu`, Debian's libiscsi-bin 1.19) as a judge that nobody here wrote. It counts
//! what it skips as passed; here its text is read.
//!
//! The real box and the disks in memory, with other shapes of blocks, are judged by the same code.

#![allow(dead_code, reason = "each test file uses a part")]

use std::process::{Command, Stdio};

/// Tests of the suite that say that they do not apply, and why that is so.
const SKIPPED: &[(&str, &str)] = &[
    ("NoMedia.", "for removable media"),
    ("PreventAllow.", "for removable media"),
    ("StartStopUnit.", "for removable media"),
    ("ReadOnly.", "for a medium that is write-protected"),
    ("Sanitize.", "not offered: a deduplicated store cannot promise that nothing is left"),
    ("WriteAtomic16.VPD", "atomic writes have no limits that could be tested"),
    ("WriteSame10.ZeroBlocks", "refused, as the block limits page says"),
    ("WriteSame16.ZeroBlocks", "refused, as the block limits page says"),
    ("CompareAndWrite.InvalidDataOutSize", "for physical blocks of several logical ones"),
    ("WriteSame10.InvalidDataOutSize", "for physical blocks of several logical ones"),
    ("WriteSame16.InvalidDataOutSize", "for physical blocks of several logical ones"),
    ("WriteSame10.UnmapUnaligned", "for physical blocks of several logical ones"),
    ("WriteSame16.UnmapUnaligned", "for physical blocks of several logical ones"),
];
/// Cannot pass alone, whatever the target does: version 1.19 asserts, before it has sent anything, on a variable that only
/// the test before it in its suite sets. It is run with that one.
const NEVER_ALONE: &str = "iSCSITMF.LUNResetSimpleAsync";
/// Fails with physical blocks of several logical ones: version 1.19 expects another block first than the one it asked for.
pub const IMPOSSIBLE_EMULATED: &str = "GetLBAStatus.UnmapSingle";
/// Fails with large blocks: it writes 2048 of them at once, which is more than the block limits page allows.
pub const IMPOSSIBLE_LARGE: &str = "ExtendedCopy.Simple";
/// How many tests the suite has.
pub const TESTS: usize = 230;
/// How long one test may take, and all of them in one process, in seconds. One that compares and writes every number of large
/// blocks moves half a gigabyte, which takes more than a minute where twenty others want the same two processors.
const PATIENCE_ONE: u32 = 300;
const PATIENCE_ALL: u32 = 900;

/// Runs a program for at most so many seconds: whether it ended well, and what it said.
pub fn tool(seconds: u32, name: &str, arguments: &[&str]) -> (bool, String) {
    let output =
        Command::new("timeout").arg(seconds.to_string()).arg(name).args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("timeout, of coreutils");
    assert_ne!(output.status.code(), Some(127), "{name} is missing: `make setup` installs it");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What came of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// The name of a test without its family, what came of it, and what was said.
pub type Judged = (String, Outcome, String);

/// One way to a unit for each of the suite's two initiators.
pub type Ways = [String; 2];

/// The names of all tests, without their family.
fn list_tests() -> Vec<String> {
    let (_, list) = tool(10, "iscsi-test-cu", &["--list"]);
    let tests = list.lines().filter_map(|line| line.strip_prefix("ALL.")).filter(|name| name.contains('.'));
    let tests: Vec<String> = tests.map(str::to_owned).collect();
    assert_eq!(tests.len(), TESTS, "another version of the suite: look at what is new");
    tests
}

/// Runs each test as a process of its own. Some mostly wait, so that several units are tested at once.
pub fn one_by_one(units: &[Ways]) -> Vec<Judged> {
    let tests = list_tests();
    std::thread::scope(|scope| {
        let share = tests.len().div_ceil(units.len());
        let shares = tests.chunks(share).zip(units);
        let running: Vec<_> = shares
            .map(|(tests, ways)| scope.spawn(move || tests.iter().map(|name| alone(name, ways)).collect::<Vec<_>>()))
            .collect();
        running.into_iter().flat_map(|share| share.join().expect("no panic")).collect()
    })
}

fn alone(name: &str, ways: &Ways) -> Judged {
    let (test, count) = if name == NEVER_ALONE { ("ALL.iSCSITMF".into(), 2) } else { (format!("ALL.{name}"), 1) };
    let arguments = ["--dataloss", "--allow-sanitize", "-f", "-n", "-t", &test, &ways[0], &ways[1]];
    let (ended, text) = tool(PATIENCE_ONE, "iscsi-test-cu", &arguments);
    let outcome = match (ended && is_summed_up(&text, count), was_skipped(&text)) {
        (false, _) => Outcome::Failed,
        (true, true) => Outcome::Skipped,
        (true, false) => Outcome::Passed,
    };
    (name.to_owned(), outcome, text)
}

/// Runs all tests in one process.
pub fn all_at_once(ways: &Ways) -> Vec<Judged> {
    // Unbuffered, so that what a test says stands between its name and its end.
    let arguments = ["-o0", "iscsi-test-cu", "--dataloss", "--allow-sanitize", "-v", "-t", "ALL", &ways[0], &ways[1]];
    let (ended, text) = tool(PATIENCE_ALL, "stdbuf", &arguments);
    // What the last test said and the suite did not get beyond stands at the end.
    let end = text.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
    assert!(ended, "it broke off, or hung:\n{}", &text[end..]);
    let judged = by_test(&text);
    assert!(judged.len() == TESTS && is_summed_up(&text, TESTS) || judged.iter().any(|test| test.1 == Outcome::Failed));
    judged
}

/// Cuts what a whole run says into tests.
pub fn by_test(text: &str) -> Vec<Judged> {
    let mut judged = Vec::new();
    for suite in text.split("\nSuite: ").skip(1) {
        let (name, rest) = suite.split_once('\n').unwrap_or((suite, ""));
        for test in rest.split("  Test: ").skip(1) {
            let (test, said) = test.split_once(" ...").unwrap_or((test, ""));
            let outcome = match (said.lines().any(|line| line.starts_with("passed")), was_skipped(said)) {
                (false, _) => Outcome::Failed,
                (true, true) => Outcome::Skipped,
                (true, false) => Outcome::Passed,
            };
            judged.push((format!("{}.{test}", name.trim()), outcome, said.to_owned()));
        }
    }
    judged
}

fn was_skipped(text: &str) -> bool {
    text.to_ascii_uppercase().contains("SKIPPED")
}

/// True where the suite's summary says that so many tests ran and none failed.
pub fn is_summed_up(text: &str, count: usize) -> bool {
    let expected = format!("tests {count} {count} {count} 0 0");
    text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == expected)
}

/// Holds what came of the suite against what is known.
pub fn judge(judged: &[Judged], passed_min: usize, impossible: &[&str]) {
    let count = |what| judged.iter().filter(|(_, outcome, _)| *outcome == what).count();
    let (passed, skipped, failed) = (count(Outcome::Passed), count(Outcome::Skipped), count(Outcome::Failed));
    println!("{passed} passed, {skipped} skipped, {failed} failed");
    for (name, outcome, text) in judged {
        match outcome {
            Outcome::Passed => {}
            Outcome::Skipped => {
                assert!(SKIPPED.iter().any(|(start, _)| name.starts_with(start)), "{name} was skipped:\n{text}");
            }
            Outcome::Failed => assert!(impossible.contains(&name.as_str()), "{name} failed:\n{text}"),
        }
    }
    assert!(passed >= passed_min, "only {passed} passed");
}
