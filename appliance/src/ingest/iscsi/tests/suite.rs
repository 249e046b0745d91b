//! libiscsi's conformance suite against disks in memory, for the shapes of blocks that `tests/conformance.rs` does not
//! try on a real box.

use super::harness::{NAME, Served};
use super::libiscsi::{IMPOSSIBLE_EMULATED, IMPOSSIBLE_LARGE, Ways, judge, one_by_one};
use crate::ingest::iscsi::scsi::Shape;
use crate::ingest::iscsi::{Access, ServerConfig};

/// How many targets are tested at once.
const SHARES: usize = 6;

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

fn with_shape(shape: Shape, passed_min: usize, impossible: &[&str]) {
    let served: Vec<_> = (0..SHARES)
        .map(|_| Served::new(64 << 20, shape, Access::default()).serve(2, ServerConfig::default()))
        .collect();
    let ways =
        |portals: &Vec<std::net::SocketAddr>| [0, 1].map(|at: usize| format!("iscsi://{}/{NAME}/0", portals[at]));
    let units: Vec<Ways> = served.iter().map(|(_, portals)| ways(portals)).collect();
    judge(&one_by_one(&units), passed_min, impossible);
}

#[test]
fn the_conformance_suite_passes_with_emulated_blocks() {
    with_shape(Shape::EMULATED_512, 206, &[IMPOSSIBLE_EMULATED]);
}

#[test]
fn the_conformance_suite_passes_with_large_blocks() {
    with_shape(Shape::NATIVE_4096, 201, &[IMPOSSIBLE_LARGE]);
}
