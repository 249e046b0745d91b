//! How the made-up office did over time, and what its box keeps its things on.

use std::time::{SystemTime, UNIX_EPOCH};

use narrowboat::trends::Span;
use serde_json::{Value, json};

/// A disk that fills by some 4 GB a day, a line that works at night, and a day without power.
pub fn trends(span: Span) -> Value {
    let (step, steps) = match span {
        Span::Days => (300_u64, 576_u64),
        Span::Months => (3600, 1440),
        Span::Years => (86_400, 400),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / step * step;
    let points = (0..steps).rev().filter(|ago| !(1..2).contains(&(ago * step / 86_400 / 3)) || step > 3600);
    let points: Vec<Value> = points.map(|ago| point(now, ago * step, step)).collect();
    json!({ "step_seconds": step, "points": points, "full_in_days": 341.0, "forecast": {
        "days": 57, "bytes_per_day": 4.1e9, "bytes_per_day_between": [3.2e9, 4.9e9], "full_in_days": 341.0, "earliest_in_days": 286.0, "latest_in_days": 438.0
    } })
}

fn point(now: u64, ago: u64, step: u64) -> Value {
    let days = ago as f64 / 86_400.0;
    let hour = (now - ago) / 3600 % 24;
    let weekly = (days % 7.0) * 3e9;
    let used = (518e9 - days * 1.1e9 + weekly) as u64;
    let rate = if (20..24).contains(&hour) || hour < 5 { 2_300_000 } else { 240_000 + hour * 9_000 };
    let stored = 468_000_000_000 - (days * 1.0e9) as u64;
    json!({
        "time": now - ago, "logical_bytes": 1_624_000_000_000_u64, "protected_bytes": 9_870_000_000_000 - (days * 22e9) as u64,
        "unique_bytes": stored + stored / 2, "stored_bytes": stored, "folder_bytes": used - 30_000_000_000, "disk_bytes": 1_920_000_000_000_u64,
        "disk_free_bytes": 1_920_000_000_000 - used, "sent_bytes": rate * step, "received_bytes": rate * step / 40,
        "lag_seconds": 600 + hour * 400, "damaged_objects": 0
    })
}

/// A mirror of three disks, one of which is being filled.
pub fn array() -> Value {
    let member = |partition: &str, slot: Option<u32>, state: &str, serial: Option<&str>| json!({ "partition": partition, "slot": slot, "state": [state], "errors": 0, "present": true, "serial": serial });
    json!({
        "device": "md127", "level": "raid5", "disks": 3, "degraded": 1, "health": "rebuilding", "action": "recover", "done_bytes": 412_000_000_000_u64,
        "total_bytes": 960_000_000_000_u64, "bytes_per_second": 121_000_000, "mismatch_bytes": null,
        "members": [member("sda2", Some(0), "in_sync", Some("S4EVNX0R")), member("sdb2", Some(1), "in_sync", Some("<b>WD-WX</b>")), member("sdd2", Some(2), "spare", None)],
        "advice": ["the new disk is being filled: leave the box on until it is done"]
    })
}

/// What reclaim did, or would do.
pub fn reclaim(preview: bool) -> Value {
    json!({ "preview": preview, "ended": "2026-11-23T02:41:00Z", "seconds": 812.0, "freeable_bytes": 9_000_000_000_u64, "freed_bytes": if preview { 0 } else { 6_100_000_000_u64 },
            "left_bytes": 700_000_000, "nodes_freed": 4112, "in_the_way": [] })
}

/// A scrub that has found something, some of it in files with names that nobody would wish.
pub fn scrub() -> Value {
    let run = |began: &str, ended: Option<&str>, damaged: u64| json!({ "began": began, "ended": ended, "containers": 18_020, "left": if ended.is_some() { 0 } else { 11_491 }, "objects": 55_000_000, "bytes": 281_000_000_000_u64, "damaged": damaged, "by_hand": ended.is_none(), "after_rebuild": false });
    json!({
        "state": "running", "rate": 16_777_216, "hours": "22:00-06:00", "running": run("2026-11-23T09:00:00Z", None, 1),
        "history": [run("2026-10-24T22:00:00Z", Some("2026-10-25T05:12:00Z"), 0), run("2026-09-24T22:00:00Z", Some("2026-09-25T04:58:00Z"), 0)],
        "damaged": [{ "name": "9f3c11d0a4e84b2ab7550d0b8a6f2c19", "what": "containers/00/1f: offset 81920: expected a checksum of 4fd1, found 4fd3" }],
        "affected": [
            { "dataset": "office", "snapshot": "2026-11-19T13-00-00.000Z", "path": "/reports/2026/<img src=x onerror=alert(1)>.pdf", "from": 0, "to": 16_384, "bytes": 16_384 },
            { "dataset": "exchange", "path": "", "from": 0, "to": 16_384, "bytes": 16_384 }
        ],
        "healed": 2, "heals": true, "healing": { "from": {}, "last": { "began": "2026-11-23T13:00:00Z", "ended": "2026-11-23T13:02:00Z", "healed": 2, "left": 1 } }
    })
}

/// Settings of every kind, some of them as the file has them.
pub fn settings() -> Value {
    let one = |key: &str, kind: &str, means: &str, value: Value, default: Value, unit: &str| json!({ "key": key, "kind": kind, "means": means, "value": value, "default": default, "unit": unit });
    json!({ "pending": true, "settings": [
        one("name", "text", "how the box calls itself towards people and peers", json!("branch-7"), Value::Null, ""),
        one("time_zone", "text", "the time zone of hours and calendars, as in Europe/London", Value::Null, Value::Null, "a place of the IANA database"),
        one("nfs.listen", "text", "where NFS is served, as in 0.0.0.0:2049; empty for off", json!("0.0.0.0:2049"), json!("127.0.0.1:2049"), "address:port"),
        one("nfs.allow", "list", "networks of clients of new shares, as in 192.168.7.0/24", json!(["192.168.7.0/24"]), json!(["127.0.0.0/8", "::1/128"]), "network/bits, one a line"),
        one("nfs.root_squash", "flag", "whether a client's root is nobody", Value::Null, json!(true), ""),
        one("share.<script>alert('x')</script>.read_only", "flag", "whether clients may only read this share", json!(true), json!(false), ""),
        one("scrub.every", "text", "how often everything is read, as in 30d; empty for never by itself", Value::Null, json!("30d"), "a length of time: 90s, 30min, 12h, 7d"),
        one("retention.quarantine_days", "number", "for how many days what was deleted can be had back", Value::Null, json!(7), "days")
    ] })
}

/// What it has warned of.
pub fn log() -> Value {
    let line = |time: &str, level: &str, text: &str, times: u64| json!({ "time": time, "level": level, "part": "narrowboat::disk", "text": text, "times": times });
    json!([
        line(
            "2026-11-23T13:41:00Z",
            "error",
            "the disk failed operation=read file=containers/00/1f error=Input/output error (os error 5)",
            1
        ),
        line(
            "2026-11-23T11:02:00Z",
            "warn",
            "head-office was not reached error=<script>alert('x')</script> timed out",
            14
        )
    ])
}

/// A limit with a calendar of every sort.
pub fn limit() -> Value {
    json!({ "receive": false, "peer": "head-office", "limit": 4_000_000, "reason": "rule", "rule": "mon-fri 08:00-18:00 4Mbit", "zone": "Europe/London",
        "until": "2026-11-23T18:00:00Z", "then": null, "rate": 20_000_000,
        "calendar": ["2026-12-24..2027-01-01 00:00-24:00 unlimited", "mon-fri 12:00-13:00 8Mbit", "mon-fri 08:00-18:00 4Mbit", "22:00-06:00 unlimited"] })
}

/// What a peer was refused.
pub fn refusals() -> Value {
    json!([
        { "peer": "head-office", "first": "2026-11-02T07:00:00Z", "last": "2026-11-22T23:10:00Z", "count": 12, "why": "it asked for <b>a snapshot</b> that it was not given" },
        { "peer": "another", "first": "2026-11-02T07:00:00Z", "last": "2026-11-02T07:00:00Z", "count": 1, "why": "of somebody else" }
    ])
}

/// What a probe has found.
pub fn line() -> Value {
    let way = |bits: u64, cap: bool, lost: u32| {
        json!({ "bits_per_second": bits, "at_least": false, "held_by_cap": cap, "cap": null, "packets": 400, "lost": lost, "loss_percent": f64::from(lost) / 4.0,
        "loss_percent_between": [0.1, 1.8], "bursts": lost, "mean_burst": 1.0, "longest_burst": 2 })
    };
    json!({ "peer": "head-office", "round_trip_ms": 38.4, "round_trip_min_ms": 36.0, "sent_packets": 9000, "lost_packets": 3, "mtu": 1452, "bits_per_second": 18_000_000,
        "measured": { "round_trip": { "count": 40, "min_ms": 36.0, "median_ms": 38.0, "max_ms": 61.5, "jitter_ms": 1.9 }, "there": way(20_000_000, true, 2), "back": way(48_000_000, false, 0),
                      "sent_bytes": 610_000, "received_bytes": 590_000, "busy": true, "seconds": 8.2 } })
}

/// The certificate of its page: good for a while, and an authority that can't reach it.
pub fn certificate() -> Value {
    json!({
        "kind": "authority", "fingerprint": vec!["6B"; 32].join(":"), "names": ["backup.bonn.example.org"], "issuer": "C=US, O=Example, CN=<E7>",
        "until": "2026-12-20T09:14:02Z",
        "authority": {
            "directory": "https://acme.example.org/directory", "names": ["backup.bonn.example.org"], "until": "2026-12-20T09:14:02Z", "short": false,
            "ordering": false, "next": "2026-11-23T15:00:00Z", "failing_since": "2026-11-23T11:00:00Z", "tries": 3,
            "error": "the authority says \"connection\": <b>refused</b>", "remedy": "See to it that port 80 reaches the box."
        }
    })
}
