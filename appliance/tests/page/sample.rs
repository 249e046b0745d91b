//! What the made-up box holds: an office as it might be, and names as nobody would wish them.

#[path = "moments.rs"]
pub mod moments;

use narrowboat::control::Failed;
use serde_json::{Value, json};

/// A dataset of that name.
pub fn dataset(name: &str, kind: &str) -> Value {
    let volume = kind == "volume";
    json!({
        "name": name, "id": "5b0c", "kind": kind, "dedup": "inline", "read_only": false, "origin": null, "created": "2026-10-02T09:12:00Z",
        "logical_bytes": 812_345_678_901_u64, "used_bytes": volume.then_some(214_748_364_800_u64), "files": if volume { 0 } else { 184_220 },
        "directories": if volume { 0 } else { 9_113 }, "snapshots": 3, "newest_snapshot": "2026-11-23T13-00-00.000Z",
        "export": (!volume).then(|| format!("/{name}")), "target": volume.then(|| format!("iqn.2026-01.example.narrowboat:branch-7.{name}")),
        "lun": volume.then_some(0), "damage": null, "window": null, "deferred": null, "frees_bytes": volume.then_some(61_000_000_000_u64)
    })
}

fn plan(dataset: &str, state: &str, behind: Option<f64>, error: Option<&str>) -> Value {
    json!({
        "dataset": dataset, "peer": "head-office", "plan": "every 1 h", "every_seconds": 3600, "hours": null, "class": "normal", "state": state,
        "error": error, "next": "2026-11-23T15:00:00Z", "newest_there": behind.map(|_| "2026-11-23T13-00-00.000Z"), "behind_seconds": behind
    })
}

/// A box in the middle of its day.
pub fn status() -> Value {
    let replica =
        json!({ "read_only": true, "origin": "77aa", "name": "warehouse.office", "export": "/warehouse.office" });
    let mut copy = dataset("warehouse.office", "share");
    copy.as_object_mut().expect("an object").extend(replica.as_object().cloned().expect("an object"));
    json!({
        "name": "branch-7", "version": "0.1.0", "store": "9f3c11d0a4e84b2ab7550d0b8a6f2c19", "realm": "public", "peer_id": "4f:1a:09:bc:77:d2:e0:5c",
        "nfs": "0.0.0.0:2049", "iscsi": ["0.0.0.0:3260"], "wan": "0.0.0.0:4433", "certificate": super::office::certificate(), "cap": null, "receive_cap": null,
        "logical_bytes": 1_624_000_000_000_u64, "protected_bytes": 9_870_000_000_000_u64, "unique_bytes": 702_000_000_000_u64,
        "stored_bytes": 468_000_000_000_u64, "folder_bytes": 481_000_000_000_u64,
        "parts": { "objects_bytes": 461_000_000_000_u64, "directories_bytes": 3_100_000_000_u64, "index_bytes": 9_400_000_000_u64, "catalogue_bytes": 81_000_000,
                   "journal_bytes": 5_300_000_000_u64, "history_bytes": 2_000_000_000, "aside_bytes": 0, "other_bytes": 1_000_000 },
        "losses": [{ "dataset": "pictures", "snapshot": "2026-11-22T13-00-00.000Z", "time": "2026-11-22T13:00:00Z", "since": "2026-11-23T13:40:15Z", "percent": 92,
                     "lost_bytes": 310_000_000_000_u64, "held_bytes": 337_000_000_000_u64, "lost_files": 0, "held_files": 18_420, "looks_encrypted": true, "copy": false }],
        "dedup_ratio": 14.1, "objects": 91_003_118, "containers": 29_511, "index_bytes": 9_400_000_000_u64, "journal_bytes": 5_300_000_000_u64,
        "history_bytes": 0, "overlay_bytes": 0, "disk_bytes": 1_920_000_000_000_u64, "disk_free_bytes": 1_402_000_000_000_u64, "full": false,
        "stalled": null, "quarantine": { "datasets": 1, "snapshots": 0 }, "array": super::office::array(), "reclaim": super::office::reclaim(false),
        "freeable": { "counted": "2026-11-23T03:10:00Z", "needed_bytes": 455_000_000_000_u64, "unneeded_bytes": 9_000_000_000_u64, "quarantine_bytes": 4_000_000_000_u64, "one_in": 16 },
        "datasets": [dataset("office", "share"), dataset("exchange", "volume"), dataset("pictures", "share"), dataset("<script>alert('x')</script>", "share"),
                     dataset("مكتب القاهرة", "share"), copy],
        "peers": [{
            "name": "head-office", "id": "b3:90:1c:55:0e:7a", "addresses": ["hq.example:4433", "198.51.100.7:4433"], "paired": "2026-10-02T09:40:00Z",
            "connected_from": "198.51.100.7:4433", "path": null, "last_error": null, "limit": 20_000_000, "granted": null, "sending": 14_200_000, "receiving": 310_000,
            "round_trip_ms": 38.4, "wire_bytes_sent": 48_112_000_000_u64, "wire_bytes_received": 1_290_000_000, "software": "narrowboat 0.1.0", "proves": true,
            "lag": [
                { "dataset": "office", "newest_there": "2026-11-23T13-00-00.000Z", "time": "2026-11-23T13:00:00Z", "seconds": 4200.0, "snapshots_behind": 0 },
                { "dataset": "exchange", "newest_there": "2026-11-23T12-00-00.000Z", "time": "2026-11-23T12:00:00Z", "seconds": 7800.0, "snapshots_behind": 1 }
            ]
        }],
        "replications": [running(), ended("done", true, None), ended("failed", false, Some("head-office has no room left"))],
        "plans": [plan("office", "waiting", Some(4200.0), None), plan("exchange", "sending", Some(3000.0), None),
                  plan("<script>alert('x')</script>", "failing", Some(90_000.0), Some("head-office refused it: it has no room left"))],
        "damaged_objects": 0
    })
}

fn running() -> Value {
    let mut one = ended("running", false, None);
    one["id"] = json!(41);
    one["snapshot"] = json!("exchange@2026-11-23T13-00-00.000Z");
    one
}

fn ended(state: &str, proved: bool, error: Option<&str>) -> Value {
    json!({
        "id": 40, "snapshot": "office@2026-11-23T13-00-00.000Z", "peer": "head-office", "class": "normal", "state": state, "error": error, "trouble": null,
        "begun": "2026-11-23T13:00:04Z", "logical_bytes": 812_345_678_901_u64, "differing_bytes": 4_100_000_000_u64, "bits_per_second": 14_200_000,
        "chunks": { "offered": 9, "known": 4, "sent": 5 }, "nodes": { "offered": 9, "known": 4, "sent": 5 }, "shared": 0, "payload_bytes": 811_000_000,
        "stored_bytes": 0, "raw_bytes": 2_583_000_000_u64, "differences": 0, "levels": {}, "wire_bytes_sent": 843_000_000, "wire_bytes_received": 9_000_000,
        "seconds": 512.0, "peak_bits_per_second": 19_900_000, "root": null, "root_there": null, "proved": proved
    })
}

/// Snapshots of any of them.
pub fn snapshots() -> Value {
    let one = |name: &str, time: &str, held: bool| json!({ "dataset": "office", "name": name, "id": "1", "time": time, "root": "ab", "sealed": true, "held": held, "logical_bytes": 812_345_678_901_u64, "files": 184_220, "frees_bytes": 1_200_000_000 });
    json!([
        one("2026-11-23T13-00-00.000Z", "2026-11-23T13:00:00Z", false),
        one("before the move \"<i>", "2026-11-20T17:30:00Z", true),
        one("2026-11-19T13-00-00.000Z", "2026-11-19T13:00:00Z", false)
    ])
}

/// A folder of files as they might be.
pub fn folder(path: &str, holds: &str, after: &str) -> Result<Value, Failed> {
    let one = |name: &str, part: &str, kind: &str, bytes: u64| json!({ "name": name, "part": part, "kind": kind, "bytes": bytes, "modified": "2026-11-20T16:41:07Z", "cookie": 3 });
    if path == "nowhere" {
        return Err(Failed::refused("there is no such file"));
    }
    if path == "many" {
        let from = if after.is_empty() { 0 } else { 200 };
        let rows: Vec<Value> = (from..from + 200)
            .map(|n| {
                one(
                    &format!("backup-2026-11-{n:05}-office-of-the-branch.vbk"),
                    &format!("backup-2026-11-{n:05}-office-of-the-branch.vbk"),
                    "file",
                    n * 1_234_567,
                )
            })
            .collect();
        return Ok(json!({ "entries": rows, "more": after.is_empty(), "count": 52_411 }));
    }
    let rows = [
        one("many", "many", "folder", 0),
        one("Verträge 2026", "Vertr%C3%A4ge%202026", "folder", 0),
        one("مكتب القاهرة", "%D9%85", "folder", 0),
        one("a\u{202e}fdp.exe", "a%E2%80%AEfdp.exe", "file", 81_920),
        one("budget.xlsx", "budget.xlsx", "file", 48_211),
        one("<img src=x onerror=alert(1)>.pdf", "%3Cimg%3E.pdf", "file", 1_204_882),
        one("large", "large", "file", 536_870_912),
        one("latest", "latest", "link", 6),
        one("\u{fffd}\u{fffd} broken name", "%FF%FE%20broken%20name", "file", 0),
        one(
            "a-name-without-any-place-to-break-it-that-goes-on-and-on-and-on-and-on-and-on-and-on-and-on-and-on-for-200-letters.tar.gz",
            "a-name",
            "file",
            9_812_345_678,
        ),
    ];
    let rows: Vec<Value> = rows.into_iter().filter(|row| row["name"].as_str().expect("text").contains(holds)).collect();
    Ok(json!({ "count": rows.len(), "entries": rows, "more": false }))
}

pub fn deleted() -> Value {
    json!([{ "kind": "share", "dataset": "scratch", "name": "scratch", "id": "c0ffee", "snapshots": 2, "deleted": "2026-11-21T10:00:00Z", "by": "a person", "seconds_left": 400_000, "within_deleted": false }])
}

pub fn diff() -> Value {
    json!({ "from": "a", "to": "b", "changes": [
        { "what": "added", "path": "/reports/2026/<img src=x onerror=alert(1)>.pdf", "was": null, "bytes": 120_000 },
        { "what": "content", "path": "/mail/inbox.mbox", "was": null, "bytes": 48_000_000 },
        { "what": "renamed", "path": "/plans/new.dwg", "was": "/plans/old.dwg", "bytes": 0 },
        { "what": "removed", "path": "/tmp/x", "was": null, "bytes": 0 }
    ] })
}

pub fn explained() -> Value {
    let cap = json!({ "receive": false, "peer": "head-office", "limit": 20_000_000, "reason": "rule", "rule": "mon-fri 08:00-18:00 20Mbit", "zone": "UTC",
        "until": "2026-11-23T18:00:00Z", "then": null, "rate": null, "calendar": ["mon-fri 08:00-18:00 20Mbit"] });
    json!({ "time": "2026-11-23T14:10:00Z", "whole": cap, "peers": [{
        "cap": cap, "in_force": 20_000_000, "recovery": null, "line": null, "sending": 14_200_000, "behind": ["exchange"], "under_way": 1,
        "left_bytes": 843_000_000, "caught_up": { "answer": "at", "time": "2026-11-23T14:21:00Z", "seconds": 660 }
    }] })
}

pub fn audit() -> Value {
    let entry = |n: u64, who: &str, from: &str, what: &str, with: Value, of: Option<u64>, outcome: Option<&str>| {
        let by = if who.is_empty() { "" } else { "session" };
        json!({ "n": n, "at": "2026-11-23T13:58:10Z", "who": who, "by": by, "from": from, "what": what, "with": with, "of": of, "outcome": outcome })
    };
    json!([
        entry(313, "admin", "192.0.2.17", "snapshot-create", Value::Null, Some(312), Some("done")),
        entry(312, "admin", "192.0.2.17", "snapshot-create", json!({ "dataset": "office" }), None, None),
        entry(
            311,
            "<b>o'neil</b>",
            "192.0.2.40",
            "dataset-delete",
            json!({ "name": "<img src=x>" }),
            None,
            Some("forbidden")
        ),
        entry(310, "", "203.0.113.9", "sign-in", Value::Null, None, Some("refused"))
    ])
}

/// The network of a box that sets it up.
pub fn network(tried: Option<&narrowboat::network::Wanted>) -> Value {
    let addresses = |wanted: &narrowboat::network::Wanted| {
        let own = wanted.address4.iter().chain(&wanted.address6);
        own.map(|text| text.split('/').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let trial = tried.map(|wanted| {
        json!({ "number": 3, "wanted": wanted, "in_force": true, "seconds_left": 57, "addresses": addresses(wanted) })
    });
    json!({
        "managed": true, "why_not": null, "interface": "enp3s0", "kept": { "ipv4": "dhcp", "ipv6": "auto" }, "trial": trial, "last": null,
        "trouble": null, "trial_seconds": 60, "addresses": [{ "interface": "enp3s0", "address": "192.168.7.20/24" }],
        "gateways": ["192.168.7.1"], "dns": ["192.168.7.1"]
    })
}

/// A set-up of which nothing was typed yet.
pub fn set_up() -> Value {
    json!({
        "typed": {}, "problems": {}, "applying": false, "outcomes": [], "name": "branch-7", "time_zone": "Europe/Berlin",
        "now": "2026-11-23T14:12:00Z", "places": [{ "address": "192.168.7.20", "network": "192.168.7.0/24" }],
        "zones": ["America/New_York", "Europe/Berlin", "Europe/London", "UTC"]
    })
}
