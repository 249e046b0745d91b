//! What the pages about the past of a dataset show and do.

use narrowboat::control::Failed;
use serde_json::json;

use crate::browser::Browser;
use crate::fake::{Page, SESSION, VIEWER};
use crate::sample::moments::second;

/// The time that the sample is of.
const MONTH: &str = "from=2026-10-25T00:00:00Z&until=2026-11-24T00:00:00Z";

fn signed_in() -> (Page, Browser) {
    let page = Page::claimed();
    let browser = Browser::signed_in(page.address, SESSION);
    (page, browser)
}

#[test]
fn a_line_of_time_leads_to_files_and_says_the_same_in_a_table() {
    let (_page, mut browser) = signed_in();
    let line = browser.get(&format!("/datasets/office/timeline?{MONTH}"));
    let drawn = line.between("<svg class=\"line-of-time\" aria-hidden=\"true\">", "</section>");
    assert!(drawn.contains("cx=\"") && drawn.contains("/datasets/office/files?at=2026-11-01T13-00-00.000Z"), "{drawn}");
    assert!(
        drawn.contains("?from=2026-11-22T") && !drawn.contains("tabindex=\"0\""),
        "what is close leads closer: {drawn}"
    );
    let table = line.between("<section class=\"card\" id=\"moments\">", "</section>");
    for part in [
        "20 moments",
        "exchange is quiet",
        "as at a power cut",
        "/clone?at=exchange%20is%20quiet",
        "/rewind?at=2026-11-19T13-00-00.000Z",
        "/changes?from=2026-11-19T13-00-00.000Z&#38;to=before%20the%20move%20%22%3Ci%3E",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    let closer = browser.get("/datasets/office/timeline?from=2026-11-22T00:00:00Z&until=2026-11-22T05:00:00Z");
    assert!(closer.body.contains("5 moments from") && !closer.body.contains("before the move"), "{}", closer.body);
    for odd in [
        "span=never",
        "from=2026-11-22T00:00:00Z",
        "from=9&until=8",
        "from=-9999-01-01T00:00:00Z&until=9999-12-30T00:00:00Z",
    ] {
        assert_eq!(browser.get(&format!("/datasets/office/timeline?{odd}")).status, 200, "{odd}");
    }
    let to = browser.get("/datasets/office/moment?when=2026-11-22T07:30&do=clone");
    assert_eq!(to.header("location"), "/datasets/office/clone?at=2026-11-22T07%3A30%3A00Z");
    let wrong = browser.get("/datasets/office/moment?when=%3Cb%3Esoon&do=clone");
    assert!(wrong.status == 422 && wrong.body.contains("id=\"when-wrong\"") && wrong.body.contains("&#60;b&#62;soon"));
    let files = browser.get("/datasets/office/files?when=2026-11-22T07:30:05&path=many");
    assert_eq!(files.header("location"), "/datasets/office/files?at=2026-11-22T07%3A30%3A05Z&path=many");
}

#[test]
fn what_is_typed_about_the_past_comes_back_with_what_is_wrong() {
    let (page, mut browser) = signed_in();
    let line = browser.get("/datasets/office/timeline");
    assert!(line.body.contains("name=\"keep\" value=\"7d\"") && line.body.contains("name=\"most\" value=\"32GiB\""));
    for (path, fields, field, again) in [
        ("window", vec![("keep", "soon <b>"), ("most", "1GB")], "keep", "value=\"soon &#60;b&#62;\""),
        ("window", vec![("keep", ""), ("most", "")], "keep", "name=\"most\" value=\"\""),
        ("window", vec![("keep", "0d"), ("most", "")], "keep", "value=\"0d\""),
        ("window", vec![("keep", "٧d"), ("most", "١GB")], "most", "value=\"١GB\""),
        ("marks", vec![("mark", " "), ("quiet", "yes")], "mark", "value=\"yes\" checked"),
        ("clone", vec![("new", ""), ("at", "exchange is quiet")], "new", "value=\"exchange is quiet\""),
        ("retention", vec![("daily", "x\""), ("within", "30d")], "daily", "value=\"30d\""),
        ("retention", vec![("daily", "7"), ("within", "für immer")], "within", "value=\"für immer\""),
        ("lock", vec![("length", "ewig 永遠")], "length", "value=\"ewig 永遠\""),
        ("snapshots/2026-11-19T13-00-00.000Z/lock", vec![("length", "30d")], "sure", "value=\"30d\""),
    ] {
        let answer = browser.submit(&line, &format!("/datasets/office/{path}"), &fields);
        assert_eq!(answer.status, 422, "{path} {fields:?}: {}", answer.body);
        assert!(answer.body.contains(&format!("id=\"{field}-wrong\"")), "{path}: {field}: {}", answer.body);
        assert!(answer.body.contains(again), "{path}: {again}: {}", answer.body);
    }
    let larger = browser.submit(&line, "/datasets/exchange/larger", &[("size", "a lot")]);
    assert!(
        larger.status == 422 && larger.body.contains("id=\"size-wrong\"") && larger.body.contains("value=\"a lot\"")
    );
    let nothing = browser.submit(&line, "/datasets/office/retention", &[("daily", "0"), ("least", "3")]);
    assert!(nothing.status == 422 && nothing.body.contains("keep nothing but the newest"), "{}", nothing.body);
    assert!(page.memory().asked.iter().all(|asked| asked["dry_run"] != false && asked["request"] != "snapshot-lock"));
    // What the box says about it stands there, too.
    page.memory().refuses = Some(Failed::refused("the name is taken"));
    let taken = browser.submit(&line, "/datasets/office/clone", &[("new", "büro"), ("at", "2026-11-22T07:30:00Z")]);
    assert!(taken.status == 422 && taken.body.contains("The name is taken.") && taken.body.contains("value=\"büro\""));
    // Also of what somebody else has taken out of the list meanwhile.
    for (what, rows) in [("c0ffee", 1), ("badcafe", 2)] {
        let gone = browser.submit(&line, "/deleted", &[("kind", "share"), ("what", what), ("new", "Büro <2>")]);
        assert!(gone.status == 422 && gone.body.contains("value=\"Büro &#60;2&#62;\""), "{}", gone.body);
        assert_eq!(gone.body.matches("action=\"/deleted\"").count(), rows, "{}", gone.body);
    }
    assert_eq!(browser.get("/datasets/office/clone?at=no-such-moment").status, 404);
    assert_eq!(browser.get("/datasets/office/larger").status, 404, "a share has no size");
}

#[test]
fn rules_count_once_somebody_has_seen_what_they_do() {
    let (page, mut browser) = signed_in();
    let form = browser.get("/datasets/office/retention");
    assert!(form.body.contains("name=\"daily\" value=\"7\"") && form.body.contains("name=\"within\" value=\"2d\""));
    assert!(form.body.contains("0 go, 3 stay") && !form.body.contains("name=\"seen\""), "{}", form.body);
    let fields = [("last", "1"), ("daily", "2"), ("within", "")];
    let seen = browser.submit(&form, "/datasets/office/retention", &fields);
    assert!(
        seen.status == 200 && seen.body.contains("Nothing has changed yet") && seen.body.contains("1 goes, 2 stay"),
        "{}",
        seen.body
    );
    assert_eq!(page.memory().asked.iter().filter(|asked| asked["dry_run"] == false).count(), 0);
    assert!(seen.body.contains("Have 1 snapshot go") && seen.body.contains("No rule wants it"));
    let words = seen.between("name=\"seen\" value=\"", "\"").to_owned();
    // Other rules than those that were shown are shown first.
    let other = browser.submit(&form, "/datasets/office/retention", &[("daily", "1"), ("seen", &words)]);
    assert!(other.body.contains("Nothing has changed yet"));
    let set = browser.submit(&form, "/datasets/office/retention", &[&fields[..], &[("seen", &words)]].concat());
    assert_eq!(set.header("location"), "/datasets/office/retention?done=rules");
    let asked = page.memory().asked.iter().rfind(|asked| asked["dry_run"] == false).cloned().expect("it was set");
    assert_eq!(asked["rules"], json!({ "last": 1, "daily": 2 }));
    let unreadable = browser.get("/datasets/pictures/retention");
    assert!(unreadable.status == 200 && unreadable.body.contains("nothing goes"), "{}", unreadable.body);
}

#[test]
fn a_rewind_is_typed_for_and_refused_while_somebody_uses_it() {
    let (page, mut browser) = signed_in();
    let asks = browser.get("/datasets/office/rewind?at=before%20the%20move%20%22%3Ci%3E");
    assert!(
        asks.body.contains("Whatever was written since then (") && asks.body.contains("before-rewind"),
        "{}",
        asks.body
    );
    assert!(!asks.body.contains("name=\"force\""));
    let at = ("at", "before the move \"<i>");
    let wrong = browser.submit(&asks, "/datasets/office/rewind", &[at, ("typed", "offic")]);
    assert!(wrong.status == 422 && wrong.body.contains("nothing was done") && wrong.body.contains("value=\"offic\""));
    assert!(page.memory().asked.iter().all(|asked| asked["request"] != "rewind"));
    page.memory().refuses = Some(Failed::about(
        "force",
        "office is in use by 192.0.2.9: what clients remember would be of another time. Either unmount it there first, or leave it",
    ));
    let used = browser.submit(&asks, "/datasets/office/rewind", &[at, ("typed", "office")]);
    assert!(
        used.status == 422 && used.body.contains("in use by 192.0.2.9") && used.body.contains("name=\"force\""),
        "{}",
        used.body
    );
    page.memory().refuses = None;
    let done = browser.submit(&asks, "/datasets/office/rewind", &[at, ("typed", "office"), ("force", "yes")]);
    assert_eq!(done.header("location"), "/datasets/office?done=rewound");
    let asked = page.memory().asked.iter().rfind(|asked| asked["request"] == "rewind").cloned().expect("it was asked");
    assert_eq!(
        asked,
        json!({ "request": "rewind", "dataset": "office", "to": "before the move \"<i>", "force": true })
    );
}

#[test]
fn what_the_forms_of_the_past_ask_the_box_for() {
    let (page, mut browser) = signed_in();
    let form = browser.get("/datasets/office/timeline");
    let snapshot = "snapshots/2026-11-19T13-00-00.000Z/lock";
    for (path, fields, location, asked) in [
        (
            "office/marks",
            vec![("mark", "before it"), ("quiet", "yes")],
            "office/timeline?done=marked",
            json!({ "request": "mark", "datasets": ["office"], "name": "before it", "quiet": true, "hooks": [] }),
        ),
        (
            "office/window",
            vec![("keep", "36h"), ("most", "")],
            "office/timeline?done=window",
            json!({ "request": "window", "dataset": "office", "seconds": 129_600, "bytes": null, "off": false }),
        ),
        (
            "office/window/off",
            vec![],
            "office/timeline?done=unwindowed",
            json!({ "request": "window", "dataset": "office", "seconds": null, "bytes": null, "off": true }),
        ),
        (
            "exchange/larger",
            vec![("size", "2TB")],
            "exchange?done=larger",
            json!({ "request": "volume-resize", "name": "exchange", "size": 2_000_000_000_000_u64 }),
        ),
        (
            "office/retention/remove",
            vec![],
            "office/retention?done=unruled",
            json!({ "request": "retention-remove", "dataset": "office" }),
        ),
        (
            "office/lock",
            vec![("length", "30d")],
            "office/retention?done=lock-rule",
            json!({ "request": "lock-set", "dataset": "office", "seconds": 2_592_000 }),
        ),
        (
            "office/lock",
            vec![("length", ""), ("off", "yes")],
            "office/retention?done=no-lock-rule",
            json!({ "request": "lock-set", "dataset": "office", "seconds": null }),
        ),
        (
            &format!("office/{snapshot}"),
            vec![("length", "48h"), ("sure", "yes")],
            "office?done=locked",
            json!({ "request": "snapshot-lock", "snapshot": "office@2026-11-19T13-00-00.000Z", "seconds": 172_800 }),
        ),
        (
            "office/clone",
            vec![("new", "monday"), ("at", "2026-11-22T07:30:00Z")],
            "monday?done=cloned",
            json!({ "request": "clone", "snapshot": "office@2026-11-22T07:30:00Z", "name": "monday" }),
        ),
    ] {
        let answer = browser.submit(&form, &format!("/datasets/{path}"), &fields);
        assert_eq!(answer.header("location"), format!("/datasets/{location}"), "{path}: {}", answer.body);
        assert_eq!(page.asked(), asked, "{path}");
        let shown = browser.get(&format!("/datasets/{location}"));
        assert!(shown.status == 200 && shown.body.contains("notice good"), "{path}");
    }
    let locks = browser.submit(&form, "/locks", &[("length", "14d")]);
    assert_eq!(locks.header("location"), "/locks?done=lock-rule");
}

#[test]
fn years_of_moments_are_light_pages() {
    let (page, mut browser) = signed_in();
    let snapshot = |nth: u64| json!({ "dataset": "years", "name": format!("hourly-of-the-office-in-the-town-{nth}"), "id": "1", "time": second(nth), "root": "ab", "sealed": true, "held": false, "logical_bytes": 812_345_678_901_u64, "files": 184_220, "frees_bytes": 1_200_000_000 });
    {
        let mut memory = page.memory();
        memory.snapshots = (0..20_000).map(snapshot).collect();
        memory.status["datasets"].as_array_mut().expect("a list").push(crate::sample::dataset("years", "share"));
    }
    for path in [
        "",
        "/timeline?span=all",
        "/timeline?from=2026-01-01T00:00:00Z&until=2026-11-01T00:00:00Z",
        "/retention",
        "/files",
        "/files?path=many",
    ] {
        let answer = browser.get(&format!("/datasets/years{path}"));
        assert_eq!(answer.status, 200, "{path}");
        let files: usize = answer
            .body
            .split('"')
            .filter(|part| part.starts_with("/assets/"))
            .map(|part| browser.get(part).body.len())
            .sum();
        println!("{path}: {} + {files} bytes", answer.body.len());
        assert!(answer.body.len() + files < 150_000, "{path}: {} + {files} bytes", answer.body.len());
    }
}

#[test]
fn who_only_looks_sees_the_past_and_changes_none_of_it() {
    let page = Page::claimed();
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    let line = viewer.get(&format!("/datasets/office/timeline?{MONTH}"));
    assert!(line.status == 200 && line.body.contains("20 moments"));
    for part in ["/files", "/clone?", "/rewind?", "Mark it", "name=\"keep\""] {
        assert!(!line.body.contains(part), "{part}");
    }
    let rules = viewer.get("/datasets/office/retention");
    assert!(
        rules.body.contains("0 go, 3 stay")
            && !rules.body.contains("name=\"daily\"")
            && !rules.body.contains("name=\"length\"")
    );
    for (path, fields) in [
        ("/datasets/office/marks", vec![("mark", "mine")]),
        ("/datasets/office/window/off", vec![]),
        ("/datasets/office/rewind", vec![("at", "exchange is quiet"), ("typed", "office")]),
        ("/datasets/office/clone", vec![("at", "exchange is quiet"), ("new", "mine")]),
        ("/datasets/office/retention/remove", vec![]),
        ("/datasets/office/lock", vec![("length", "30d")]),
        ("/datasets/exchange/larger", vec![("size", "2TB")]),
        ("/locks", vec![("length", "30d")]),
    ] {
        let answer = viewer.submit(&line, path, &fields);
        assert!(answer.status == 403 && answer.body.contains("A viewer changes nothing."), "{path}: {}", answer.body);
    }
    assert_eq!(viewer.get("/datasets/office/files").status, 403);
}

#[test]
fn what_a_dataset_lost_is_told_with_the_way_back_and_may_have_been_meant() {
    let (page, mut browser) = signed_in();
    let overview = browser.get("/");
    assert!(
        overview.body.contains("looks encrypted")
            && overview.body.contains("/datasets/pictures/rewind?at=2026-11-22T13-00-00.000Z")
    );
    let pictures = browser.get("/datasets/pictures");
    for told in ["92 %", "Take it back to that snapshot", "Its files as they were", "It was meant"] {
        assert!(pictures.body.contains(told), "{told}: {}", pictures.body);
    }
    let answer = browser.submit(&pictures, "/datasets/pictures/meant", &[]);
    assert_eq!((answer.status, page.asked()), (303, json!({ "request": "loss-accept", "name": "pictures" })));
    assert!(!browser.get("/datasets/office").body.contains("It was meant"));
    let viewer = Browser::signed_in(page.address, VIEWER).get("/datasets/pictures");
    assert!(viewer.body.contains("92 %") && !viewer.body.contains("It was meant"));
}
