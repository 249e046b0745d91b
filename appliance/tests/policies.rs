//! When datasets are deduplicated, on real boxes: while they are written, in their hours, or when too much waits for these.

mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::nfs::{Client, Stable};
use common::{PATIENCE, Served, data_folder, facts, fine, noise};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// Hours of which the present is not in, or in the midst.
fn hours(come: bool) -> String {
    let hour = (narrowboat::clock::now().seconds() / 3600 % 24) as i64;
    let from = if come { hour + 22 } else { hour + 6 } % 24;
    format!("{from:02}:00-{:02}:00", (from + 6) % 24)
}

fn set_hours(data: &Path, hours: &str) {
    let config =
        format!("time_zone = 'UTC'\n{}deferred = '64MiB'\n[share.later]\ndrain_hours = '{hours}'\n", common::CONFIG);
    fs::write(data.join("narrowboat.toml"), config.replace("NAME", "box")).expect("a config");
}

fn later(data: &Path) -> Value {
    let datasets = facts(data, &["dataset", "list"]);
    let found = datasets.as_array().expect("a list").iter().find(|dataset| dataset["name"] == "later").cloned();
    found.expect("it is there")["deferred"].clone()
}

fn write_mib(client: &mut Client, name: &[u8], seed: u64, count: u64) {
    let root = client.mount("/later").expect("the share");
    let file = client.create(&root, name).expect("room");
    for nth in 0..count * 4 {
        client.write(&file, nth * MIB / 4, &noise(seed + nth, MIB as usize / 4), Stable::Unstable).expect("room");
    }
    client.commit(&file).expect("a sound disk");
}

fn until(data: &Path, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = later(data);
        if is_so(&now) {
            return now;
        }
        assert!(Instant::now() < deadline, "not {what}: {now:#}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_deferred_share_waits_for_its_hours_and_says_when_it_can_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    set_hours(&data, &hours(false));
    let served = Served::start(&data);
    fine(&data, &["share", "create", "later", "--dedup", "deferred"]);
    let mut client = served.connect();
    write_mib(&mut client, b"first", 0, 20);
    let unique = || facts(&data, &["status"])["unique_bytes"].as_u64().expect("a number");
    let waiting = later(&data);
    assert!(waiting["waiting_bytes"].as_u64() >= Some(20 * MIB) && waiting["now"] == false, "{waiting:#}");
    assert!(unique() < MIB, "nothing is cut before its hours");
    let status = fine(&data, &["status"]);
    assert!(status.contains("later is deduplicated") && !status.contains("NOTICE"), "{status}");
    // More than may wait: it is treated as an inline one, and a person is told, also when it is over.
    write_mib(&mut client, b"second", 1000, 60);
    until(&data, "overrun", |now| now["overrun_at"].is_string());
    assert!(served.log().contains("too much waits for its hours"), "{}", served.log());
    assert!(fine(&data, &["status"]).contains("NOTICE       later:"));
    until(&data, "half empty", |now| now["overrun"] == false && now["waiting_bytes"].as_u64() <= Some(32 * MIB));
    assert!(unique() > 40 * MIB);
    assert!(fine(&data, &["status"]).contains("NOTICE       later: at"));
    // In its hours all of it is done.
    write_mib(&mut client, b"third", 2000, 10);
    drop(served);
    set_hours(&data, &hours(true));
    let served = Served::start(&data);
    until(&data, "drained", |now| now["now"] == true && now["waiting_bytes"].as_u64() < Some(MIB));
    assert!(unique() >= 90 * MIB, "{} bytes", unique());
    assert!(served.log().contains("hours for deduplication"));
    assert!(facts(&data, &["check", "--deep"])["sound"].as_bool().expect("an answer"));
}

#[test]
fn policies_are_shown_for_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let _served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "8MiB", "--dedup", "deferred"]);
    fine(&data, &["share", "create", "secret", "--dedup", "off"]);
    let datasets = facts(&data, &["dataset", "list"]);
    assert_eq!((&datasets[0]["dedup"], &datasets[1]["dedup"]), (&"deferred".into(), &"off".into()));
    assert_eq!((&datasets[0]["deferred"]["hours"], &datasets[1]["deferred"]), (&"22:00-06:00".into(), &Value::Null));
    assert!(fine(&data, &["status"]).contains("disk is deduplicated"));
}
