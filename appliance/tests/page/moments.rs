//! The past of a dataset that is made up: moments, rules, locks.

use narrowboat::retention::Rules;
use serde_json::{Value, json};

/// Of `office`: a window, and moments as a month brings them; of `years`, as years do. Others have none.
pub fn timeline(dataset: &str) -> Value {
    if dataset == "years" {
        return years();
    }
    if dataset != "office" {
        return json!({ "dataset": dataset, "window": null, "moments": [], "written": [] });
    }
    let one = |kind: &str, name: &str, time: &str, quiet: Option<bool>| json!({ "kind": kind, "name": name, "time": time, "quiet": quiet, "consistency": null });
    let mut moments = vec![
        one("snapshot", "2026-11-01T13-00-00.000Z", "2026-11-01T13:00:00Z", None),
        one("snapshot", "2026-11-19T13-00-00.000Z", "2026-11-19T13:00:00Z", None),
        one("snapshot", "before the move \"<i>", "2026-11-20T17:30:00Z", None),
    ];
    moments.extend((0..14).map(|hour| {
        let name = format!("auto-2026-11-22T{hour:02}-15-00Z");
        one("snapshot", &name, &format!("2026-11-22T{hour:02}:15:00Z"), None)
    }));
    moments.push(one("mark", "exchange is quiet", "2026-11-22T07:30:00Z", Some(true)));
    moments.push(one("mark", "<script>alert('x')</script>", "2026-11-23T07:30:00Z", Some(false)));
    moments.push(one("snapshot", "2026-11-23T13-00-00.000Z", "2026-11-23T13:00:00Z", None));
    moments.sort_by_key(|moment| moment["time"].as_str().expect("text").to_owned());
    let written: Vec<Value> = (0..48)
        .map(|nth| {
            let (day, hour) = (20 + (nth + 13) / 24, (nth + 13) % 24);
            json!({ "from": format!("2026-11-{day}T{hour:02}:00:00Z"), "until": format!("2026-11-{day}T{hour:02}:59:59Z"), "bytes": (nth * nth % 37) * 1_000_000, "bytes_per_second": 1.0 })
        })
        .collect();
    json!({ "dataset": dataset, "moments": moments, "written": written, "window": {
        "asked_seconds": 604_800, "asked_bytes": 34_359_738_368_u64, "first": "2026-11-20T13:00:00.000000123Z", "last": "2026-11-23T14:00:00.5Z",
        "seconds": 262_800.5, "journal_bytes": 5_100_000_000_u64, "history_bytes": 2_000_000_000_u64, "limit": "begun" } })
}

/// Seconds since 1970 as people write them, in 2026.
pub fn second(nth: u64) -> String {
    format!("2026-{:02}-{:02}T{:02}:{:02}:00Z", 1 + nth / 40_320, 1 + nth % 40_320 / 1440, nth % 1440 / 60, nth % 60)
}

/// A snapshot or mark every ten minutes, and something written in each.
fn years() -> Value {
    let moments: Vec<Value> = (0..20_000u64)
        .map(|nth| {
            let (kind, time) = (if nth.is_multiple_of(3) { "mark" } else { "snapshot" }, second(nth * 20));
            json!({ "kind": kind, "name": format!("hourly-of-the-office-in-the-town-{nth}"), "time": time, "quiet": (nth.is_multiple_of(3)).then_some(true), "consistency": null })
        })
        .collect();
    let written: Vec<Value> = (0..20_000u64)
        .map(|nth| json!({ "from": second(nth * 20), "until": second(nth * 20 + 19), "bytes": nth * 7919 % 9_999_991, "bytes_per_second": 1.0 }))
        .collect();
    json!({ "dataset": "years", "moments": moments, "written": written, "window": {
        "asked_seconds": 604_800, "asked_bytes": 34_359_738_368_u64, "first": second(0), "last": second(399_999),
        "seconds": 26_280_000.5, "journal_bytes": 5_100_000_000_u64, "history_bytes": 2_000_000_000_u64, "limit": "age" } })
}

/// The rules of `office`.
pub fn rules() -> Rules {
    Rules { last: 2, daily: 7, within: Some(172_800), ..Rules::default() }
}

pub fn retention_list() -> Value {
    json!([
        { "dataset": "office", "rules": rules().to_string(), "as_set": rules(), "error": null, "snapshots": [] },
        { "dataset": "years", "rules": rules().to_string(), "as_set": rules(), "error": null, "snapshots": [] },
        { "dataset": "pictures", "rules": "", "error": "expected value at line 1 column 1", "snapshots": [] }
    ])
}

pub fn retention(dataset: &str, rules: &Rules) -> Value {
    if dataset == "years" {
        let one = |nth: u64| {
            json!({ "snapshot": format!("hourly-of-the-office-in-the-town-{nth}"), "time": second(nth), "stays": !nth.is_multiple_of(9),
            "why": ["the next difference to head-office is taken from it", "not at the-other-office yet", "daily 2026-11-19", "17 of the last 24"] })
        };
        return json!({ "dataset": dataset, "rules": rules.to_string(), "as_set": rules, "error": null, "snapshots": (0..20_000).map(one).collect::<Vec<_>>() });
    }
    if dataset == "pictures" {
        return json!({ "dataset": dataset, "rules": "", "error": "expected value at line 1 column 1", "snapshots": [] });
    }
    let stays = rules.daily > 3;
    json!({ "dataset": dataset, "rules": rules.to_string(), "as_set": rules, "error": null, "snapshots": [
        { "snapshot": "2026-11-19T13-00-00.000Z", "time": "2026-11-19T13:00:00Z", "stays": stays, "why": [if stays { "daily 2026-11-19" } else { "no rule wants it" }] },
        { "snapshot": "before the move \"<i>", "time": "2026-11-20T17:30:00Z", "stays": true, "why": ["held", "the next difference to head-office is taken from it"] },
        { "snapshot": "2026-11-23T13-00-00.000Z", "time": "2026-11-23T13:00:00Z", "stays": true, "why": ["the newest", "1 of the last 2"] }
    ] })
}

pub fn locks() -> Value {
    json!([{ "seconds": 2_592_000, "locked": 12 }, { "dataset": "office", "seconds": 604_800, "locked": 3 }])
}
