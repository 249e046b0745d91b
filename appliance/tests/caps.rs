//! Caps over time, on real boxes: calendars, overrides, and what `limit --explain` says of them.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::nfs::Stable;
use common::{Served, data_folder, facts, fine, narrowboat, noise, pair, until, write_noise};
use serde_json::{Value, json};

fn explain(data: &Path) -> Value {
    facts(data, &["limit", "--explain"])
}

/// A box whose config file has these lines in front of and behind those that every box has here.
fn configured(folder: &Path, name: &str, front: &str, back: &str) -> PathBuf {
    let data = data_folder(folder, name);
    let file = data.join("narrowboat.toml");
    let text = fs::read_to_string(&file).expect("a config file");
    fs::write(&file, format!("{front}\n{text}\n{back}")).expect("written");
    data
}

#[test]
fn the_first_of_override_calendar_and_rate_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = configured(folder.path(), "box", "time_zone = \"Asia/Kathmandu\"", "");
    let served = Served::start(&data);
    fine(&data, &["limit", "--rate", "20Mbit"]);
    let calendar = folder.path().join("calendar.txt");
    fs::write(&calendar, "# always the same\n00:00-24:00 4Mbit\n2020-01-01 pause\n").expect("written");
    let said = fine(&data, &["limit", "--calendar", calendar.to_str().expect("a path")]);
    assert!(said.starts_with("cap of the whole box: 4.00 Mbit/s\n"), "{said}");
    assert!(said.contains("by the rule \"00:00-24:00 4Mbit\" (Asia/Kathmandu)"), "{said}");
    // The plain rate is kept, and told not to count now.
    let said = fine(&data, &["limit", "--rate", "10Mbit"]);
    assert!(said.contains("4.00 Mbit/s") && said.contains("10.00 Mbit/s, counts when that is over"), "{said}");
    let said = fine(&data, &["limit", "--rate", "pause", "--for", "2h"]);
    assert!(said.starts_with("cap of the whole box: paused until ") && said.contains("then 4.00 Mbit/s"), "{said}");
    assert!(said.contains("`narrowboat limit --resume` ends it"), "{said}");
    let whole = &explain(&data)["whole"];
    assert_eq!((&whole["limit"], &whole["reason"], &whole["then"]), (&json!(0), &json!("override"), &json!(4_000_000)));
    // Kept over a restart.
    served.kill();
    let served = Served::start(&data);
    assert_eq!(explain(&data)["whole"]["reason"], "override");
    let resumed = facts(&data, &["limit", "--resume"]);
    assert_eq!((&resumed["limit"], &resumed["rule"]), (&json!(4_000_000), &json!("00:00-24:00 4Mbit")));
    assert_eq!(resumed["calendar"], json!(["2020-01-01 00:00-24:00 pause", "00:00-24:00 4Mbit"]));
    assert_eq!(facts(&data, &["limit", "--calendar", "none"])["limit"], 10_000_000);
    assert_eq!(facts(&data, &["limit", "--as-configured"])["limit"], Value::Null);
    drop(served);
}

#[test]
fn an_override_is_over_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let _served = Served::start(&data);
    fine(&data, &["limit", "--rate", "20Mbit"]);
    let once = facts(&data, &["limit", "--rate", "1Mbit", "--for", "2s"]);
    assert_eq!((&once["limit"], &once["then"]), (&json!(1_000_000), &json!(20_000_000)));
    until("the end of the override", || facts(&data, &["limit"])["limit"] == json!(20_000_000));
    let said = narrowboat(&data, &["limit", "--rate", "1Mbit", "--for", "0s"]);
    assert!(said.code == 1 && said.err.contains("--for 90s"), "{said:?}");
}

#[test]
fn a_calendar_that_makes_no_sense_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let _served = Served::start(&data);
    let calendar = folder.path().join("calendar.txt");
    for (text, says) in [
        ("mon-fri 08:00-18:00 4Mbit\nmonday 4Mbit\n", "line 2"),
        ("mon-fri 4MB\n", "bits per second"),
        ("mon-fri 4Mbit\ntue 12:00-13:00 8Mbit\n", "would never count"),
        ("zone Europe/Atlantis\n", "no time zone"),
    ] {
        fs::write(&calendar, text).expect("written");
        let said = narrowboat(&data, &["limit", "--calendar", calendar.to_str().expect("a path"), "--rate", "1Mbit"]);
        assert!(said.code == 1 && said.err.contains(says), "{said:?}");
        assert_eq!(facts(&data, &["limit"])["limit"], Value::Null);
    }
    let said = narrowboat(&data, &["limit", "--calendar", "/nonexistent/calendar"]);
    assert!(said.code == 1 && said.err.contains("can't be read"), "{said:?}");
}

#[test]
fn explain_says_when_a_peer_will_have_caught_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = data_folder(folder.path(), "head");
    let branch = configured(folder.path(), "branch", "", "[peer.head]\ncalendar = '00:00-24:00 8Mbit'\n");
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    // The config file's calendar counts for the peer from its first datagram on.
    let peer = || explain(&branch)["peers"][0].clone();
    assert_eq!((&peer()["cap"]["limit"], &peer()["in_force"]), (&json!(8_000_000), &json!(8_000_000)));
    assert_eq!(facts(&branch, &["peer", "list"])[0]["limit"], 8_000_000);
    assert_eq!(peer()["caught_up"], json!({ "answer": "now" }));
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "empty"]);
    fine(&branch, &["replicate", "disk@empty", "--to", "head", "--wait"]);
    assert_eq!(peer()["caught_up"]["answer"], "now");
    fine(&branch, &["limit", "head", "--rate", "pause"]);
    fine(&branch, &["limit", "head", "--calendar", "none"]);
    write_noise(&served);
    fine(&branch, &["snapshot", "create", "disk", "--name", "full"]);
    until("the new snapshot to count", || peer()["behind"] == json!(["disk"]));
    assert_eq!((&peer()["caught_up"], &peer()["in_force"]), (&json!({ "answer": "never" }), &json!(0)));
    let said = fine(&branch, &["limit", "--explain"]);
    assert!(said.contains("never, at this calendar") && said.contains("lacks       the newest of disk"), "{said}");
    fine(&branch, &["limit", "head", "--rate", "1Mbit"]);
    let answer = peer();
    let left = answer["left_bytes"].as_u64().expect("bytes");
    assert!((4 << 20..6 << 20).contains(&left), "4 MiB of noise and what goes with it: {left}");
    let seconds = answer["caught_up"]["seconds"].as_u64().expect("seconds");
    assert!(seconds.abs_diff(left * 8 * 64 / 63 / 1_000_000) <= 1, "{answer:#}");
    fine(&branch, &["limit", "head", "--rate", "unlimited"]);
    assert_eq!(peer()["caught_up"]["answer"], "unknown");
    fine(&branch, &["limit", "head", "--rate", "1Mbit"]);
    // What is sent says how far it is, of how much.
    fine(&branch, &["replicate", "disk", "--to", "head"]);
    let sent = || facts(&branch, &["replication", "list"])[0].clone();
    until("what differs to be known", || (4 << 20..6 << 20).contains(&sent()["differing_bytes"].as_u64().unwrap_or(0)));
    let said = fine(&branch, &["status"]);
    assert!(said.contains("sending disk@full to head") && said.contains("of contents"), "{said}");
    fine(&branch, &["limit", "head", "--rate", "unlimited"]);
    fine(&branch, &["replicate", "disk", "--to", "head", "--wait"]);
    assert_eq!(peer()["caught_up"]["answer"], "now");
    let refused = narrowboat(&branch, &["limit", "nobody", "--explain"]);
    assert!(refused.code == 1 && refused.err.contains("nobody"), "{refused:?}");
}

#[test]
fn a_recovery_point_slows_down_what_has_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let head = data_folder(folder.path(), "head");
    let rules = "[peer.head]\nrate = '8Mbit'\nrecovery_point = '1h'\n";
    let branch = configured(folder.path(), "branch", "", rules);
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "empty"]);
    fine(&branch, &["replicate", "disk@empty", "--to", "head", "--wait"]);
    let peer = || explain(&branch)["peers"][0].clone();
    until("no pace", || peer()["recovery"] == Value::Null);
    assert_eq!(peer()["in_force"], 8_000_000);
    write_noise(&served);
    fine(&branch, &["snapshot", "create", "disk", "--name", "full"]);
    // Some 4.5 MB within 54 minutes need next to nothing: the slowest pace there is.
    until("a pace", || peer()["recovery"]["pace"] == 256_000);
    until("the pace to count", || facts(&branch, &["peer", "list"])[0]["limit"] == 256_000);
    let explained = peer();
    assert_eq!((&explained["in_force"], &explained["cap"]["limit"]), (&json!(256_000), &json!(8_000_000)));
    let seconds = explained["caught_up"]["seconds"].as_u64().expect("seconds");
    assert!(seconds.abs_diff(explained["left_bytes"].as_u64().expect("bytes") * 8 / 256_000) <= 1, "{explained:#}");
    assert!(fine(&branch, &["limit", "--explain"]).contains("  recovery    within 1 h, by "));
    // It is a matter of the peer's own cap; an override still counts where it is lower.
    fine(&branch, &["limit", "head", "--rate", "pause", "--for", "1h"]);
    assert_eq!(peer()["in_force"], 0);
    // Paused for longer than there is time: what is missed is told.
    fine(&branch, &["limit", "head", "--rate", "pause", "--for", "2h"]);
    until("what is missed", || peer()["recovery"]["misses_bytes"].as_u64().is_some_and(|bytes| bytes > 4 << 20));
    assert!(fine(&branch, &["limit", "--explain"]).contains("MISSED by "));
}

#[test]
fn what_is_received_is_capped_by_telling_the_peer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (_head, _branch) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    assert_eq!(explain(&head)["whole_received"], Value::Null, "nothing was said, and nothing is told");
    let said = fine(&head, &["limit", "--receive", "--rate", "6Mbit"]);
    assert!(said.starts_with("cap of what the whole box receives: 6.00 Mbit/s"), "{said}");
    let granted = || explain(&branch)["peers"][0]["granted"].clone();
    until("the grant", || granted() == json!(6_000_000));
    assert_eq!(explain(&branch)["peers"][0]["in_force"], 6_000_000);
    let once = facts(&head, &["limit", "branch", "--receive", "--rate", "1Mbit", "--for", "2h"]);
    assert_eq!(
        (&once["receive"], &once["limit"], &once["reason"]),
        (&json!(true), &json!(1_000_000), &json!("override"))
    );
    until("the lower grant", || granted() == json!(1_000_000));
    assert_eq!(explain(&head)["peers"][0]["received"]["limit"], 1_000_000);
    assert_eq!(explain(&head)["whole"]["limit"], Value::Null, "what is sent has no cap of its own");
    let said = fine(&branch, &["limit", "--explain"]);
    assert!(said.contains("it takes    1.00 Mbit/s"), "{said}");
    fine(&head, &["limit", "branch", "--receive", "--resume"]);
    fine(&head, &["limit", "--receive", "--as-configured"]);
    until("no grant", || granted() == Value::Null);
}

#[test]
fn two_replications_at_a_time_share_what_is_on_the_wire() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    for name in ["one", "two"] {
        fine(&branch, &["share", "create", name]);
        let mut client = served.connect();
        let root = client.mount(&format!("/{name}")).expect("exported");
        let file = client.create(&root, b"noise").expect("a file");
        for (place, part) in (0..).zip(noise(u64::from(name.as_bytes()[0]), 2 << 20).chunks(64 << 10)) {
            client.write(&file, place * (64 << 10), part, Stable::File).expect("room");
        }
        fine(&branch, &["snapshot", "create", name, "--name", "full"]);
    }
    let wire = || facts(&branch, &["peer", "list"])[0]["wire_bytes_sent"].as_u64().expect("bytes");
    fine(&branch, &["limit", "head", "--rate", "8Mbit"]);
    let before = wire();
    for name in ["one", "two"] {
        fine(&branch, &["replicate", name, "--to", "head"]);
    }
    let list = || facts(&branch, &["replication", "list"]).as_array().expect("a list").clone();
    until("both", || list().iter().all(|sent| sent["state"] == "done"));
    let shares: Vec<u64> = list().iter().map(|sent| sent["wire_bytes_sent"].as_u64().expect("bytes")).collect();
    let (sum, whole) = (shares.iter().sum::<u64>(), wire() - before);
    assert!(sum <= whole && sum >= whole * 9 / 10, "{shares:?} of {whole}");
    // To whom what belongs to nobody goes is no more than a guess.
    assert!(shares.iter().all(|share| *share > 3 << 19), "each has its own: {shares:?}");
}

/// Longer than QUIC waits for a sign of life.
#[test]
fn a_pause_of_what_is_received_keeps_the_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    write_noise(&served);
    fine(&branch, &["snapshot", "create", "disk", "--name", "full"]);
    fine(&branch, &["limit", "head", "--rate", "2Mbit"]);
    fine(&branch, &["replicate", "disk", "--to", "head"]);
    let peer = || facts(&branch, &["peer", "list"])[0].clone();
    let sent = || peer()["wire_bytes_sent"].as_u64().expect("bytes");
    let used = || peer()["path"]["seconds"].as_f64().unwrap_or(0.0);
    until("something to be sent", || sent() > 1 << 20);
    // Both have called; by now one connection is left, or will be: the one in use.
    fine(&head, &["limit", "--receive", "--rate", "pause"]);
    until("the pause", || peer()["granted"] == 0);
    let (began, before) = (used(), sent());
    // By then the session is broken off, and waits.
    until("the session to wait", || used() > began + 20.0);
    assert!(sent() - before < 40_000, "{} bytes of what was under way", sent() - before);
    let quiet = sent();
    until("the end of QUIC's patience", || used() > began + 60.0);
    assert!(sent() - quiet < 3000, "{} bytes in forty seconds", sent() - quiet);
    assert_eq!(facts(&branch, &["replication", "list"])[0]["state"], "running");
    // The other way all goes on.
    fine(&head, &["volume", "create", "other", "--size", "64MiB"]);
    fine(&head, &["snapshot", "create", "other", "--name", "empty"]);
    fine(&head, &["replicate", "other", "--to", "branch", "--wait"]);
    fine(&head, &["limit", "--receive", "--rate", "unlimited"]);
    fine(&branch, &["limit", "head", "--rate", "unlimited"]);
    until("the end", || facts(&branch, &["replication", "list"])[0]["state"] == "done");
    assert!(used() > began + 60.0, "the same connection: {}", peer());
}
