//! Initiators that nobody here wrote, over a loopback socket: libiscsi's conformance suite and tools, and QEMU's.

use std::net::SocketAddr;
use std::process::Command;

use super::harness::{NAME, Served};
use crate::ingest::iscsi::scsi::Shape;
use crate::ingest::iscsi::{Access, ServerConfig};

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
const IMPOSSIBLE_EMULATED: &str = "GetLBAStatus.UnmapSingle";

/// Fails with large blocks: it writes 2048 of them at once, which is more than the block limits page allows.
const IMPOSSIBLE_LARGE: &str = "ExtendedCopy.Simple";

/// Serves for `NARROWBOAT_ISCSI_HOLD` seconds, for looking at it by hand.
#[test]
#[ignore = "for looking at it by hand"]
fn hold() {
    let seconds = std::env::var("NARROWBOAT_ISCSI_HOLD").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let all = Served::new(256 << 20, Shape { physical_exponent: 0, ..Shape::EMULATED_512 }, Access::default());
    let (server, portals) = all.serve(2, ServerConfig::default());
    println!("iscsi://{}/{NAME}/0 iscsi://{}/{NAME}/0", portals[0], portals[1]);
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    println!("{:?}", server.status());
    server.stop(std::time::Duration::from_secs(1));
}

/// Runs a program for at most so many seconds: whether it ended well, and what it said.
pub fn tool(seconds: u32, name: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("timeout").arg(seconds.to_string()).arg(name).args(arguments).output().unwrap();
    assert_ne!(output.status.code(), Some(127), "{name} is missing: `make setup` installs it");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// The names of all tests, without their family.
pub fn list_tests() -> Vec<String> {
    let (_, list) = tool(10, "iscsi-test-cu", &["--list"]);
    let tests = list.lines().filter_map(|line| line.strip_prefix("ALL.")).filter(|name| name.contains('.'));
    tests.map(str::to_owned).collect()
}

/// How many targets are tested at once.
const SHARES: usize = 6;

/// Runs each test of the suite as a process of its own.
fn run_suite(shape: Shape) -> Vec<(String, Outcome, String)> {
    let list = list_tests();
    let tests: Vec<&str> = list.iter().map(String::as_str).collect();
    // Some tests mostly wait: several targets are tested at once.
    std::thread::scope(|scope| {
        let share = tests.len().div_ceil(SHARES);
        let running: Vec<_> = tests.chunks(share).map(|tests| scope.spawn(move || run_tests(tests, shape))).collect();
        running.into_iter().flat_map(|share| share.join().unwrap()).collect()
    })
}

/// Runs some tests against a target of their own.
fn run_tests(tests: &[&str], shape: Shape) -> Vec<(String, Outcome, String)> {
    let all = Served::new(64 << 20, shape, Access::default());
    let (_server, portals) = all.serve(2, ServerConfig::default());
    run_against(tests, &portals)
}

/// Runs some tests against a target that is served.
pub fn run_against(tests: &[&str], portals: &[SocketAddr]) -> Vec<(String, Outcome, String)> {
    let urls = [0, 1].map(|at: usize| format!("iscsi://{}/{NAME}/0", portals[at]));
    let run = |name: &str| {
        let (test, count) = if name == NEVER_ALONE { ("ALL.iSCSITMF".into(), 2) } else { (format!("ALL.{name}"), 1) };
        let expected = format!("tests {count} {count} {count} 0 0");
        let arguments = ["--dataloss", "--allow-sanitize", "-f", "-n", "-t", &test, &urls[0], &urls[1]];
        let (ended, text) = tool(30, "iscsi-test-cu", &arguments);
        let counted =
            |what: &str| text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == what);
        let result = match (ended && counted(&expected), text.to_ascii_uppercase().contains("SKIPPED")) {
            (false, _) => Outcome::Failed,
            (true, true) => Outcome::Skipped,
            (true, false) => Outcome::Passed,
        };
        (name.to_owned(), result, text)
    };
    tests.iter().map(|name| run(name)).collect()
}

/// Holds what came of the suite against what is known.
pub fn judge(results: &[(String, Outcome, String)], passed_min: usize, impossible: &[&str]) {
    let count = |what| results.iter().filter(|(_, result, _)| *result == what).count();
    let (passed, skipped, failed) = (count(Outcome::Passed), count(Outcome::Skipped), count(Outcome::Failed));
    println!("{passed} passed, {skipped} skipped, {failed} failed");
    for (name, result, text) in results {
        match result {
            Outcome::Passed => {}
            Outcome::Skipped => {
                assert!(SKIPPED.iter().any(|(start, _)| name.starts_with(start)), "{name} was skipped:\n{text}");
            }
            Outcome::Failed => assert!(impossible.contains(&name.as_str()), "{name} failed:\n{text}"),
        }
    }
    assert!(passed >= passed_min, "only {passed} passed");
}

#[test]
fn the_conformance_suite_passes() {
    let shape = Shape { physical_exponent: 0, ..Shape::EMULATED_512 };
    let results = run_suite(shape);
    judge(&results, 195, &[]);
}

#[test]
fn the_conformance_suite_passes_with_emulated_blocks() {
    let results = run_suite(Shape::EMULATED_512);
    judge(&results, 199, &[IMPOSSIBLE_EMULATED]);
}

#[test]
fn the_conformance_suite_passes_with_large_blocks() {
    let results = run_suite(Shape::NATIVE_4096);
    judge(&results, 195, &[IMPOSSIBLE_LARGE]);
}

#[test]
fn the_conformance_suite_passes_as_one_process() {
    let all = Served::new(64 << 20, Shape { physical_exponent: 0, ..Shape::EMULATED_512 }, Access::default());
    let (_server, portals) = all.serve(2, ServerConfig::default());
    let urls = [0, 1].map(|at: usize| format!("iscsi://{}/{NAME}/0", portals[at]));
    let arguments = ["--dataloss", "--allow-sanitize", "-n", "-t", "ALL", &urls[0], &urls[1]];
    let (ended, text) = tool(300, "iscsi-test-cu", &arguments);
    let line = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let tests = line.filter(|line| line.starts_with("tests ")).collect::<Vec<_>>();
    assert!(ended && tests == ["tests 230 230 230 0 0"], "{text}");
}
