//! The pages of the box as a whole: its storage, its settings, the box itself.

use narrowboat::control::Failed;
use serde_json::json;

use super::browser::Browser;
use super::fake::{Page, SESSION, VIEWER};
use super::is_harmless;

#[test]
fn the_storage_page_tells_what_fills_the_disk_and_what_is_damaged() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let storage = browser.get("/storage?span=day");
    for told in [
        "3.82 GiB more a day (between 2.98 GiB and 4.56 GiB)",
        "at the earliest",
        "Array of 3 disks (raid5)",
        "Counted",
        "1 object is damaged",
        "/reports/2026/&#60;img src=x onerror=alert(1)&#62;.pdf",
        "56.8 GiB",
    ] {
        assert!(storage.body.contains(told), "{told}: {}", storage.body);
    }
    // Each chart says in words and in a table what it draws.
    for id in ["room", "saved", "moved", "lag"] {
        assert!(storage.body.contains(&format!("aria-labelledby=\"{id}-title {id}-desc\"")), "{id}");
    }
    let rows = storage.body.matches("<tr><th scope=\"row\">").count();
    assert!(rows > 40 && storage.body.contains("href=\"/storage?span=day#trends\" aria-current=\"true\""), "{rows}");
    assert!(storage.body.len() < 90_000, "{} bytes", storage.body.len());
    // Two who look at the same time are one question.
    browser.get("/storage?span=hour");
    let asked = page.memory().asked.iter().filter(|asked| asked["request"] == "trends").count();
    assert_eq!(asked, 1);
}

#[test]
fn room_is_given_back_and_everything_read_when_somebody_says_so() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let storage = browser.get("/storage");
    let preview = browser.submit(&storage, "/storage/reclaim", &[("what", "preview")]);
    assert!(preview.status == 200 && preview.body.contains("A run now would give back 8.38 GiB"), "{}", preview.body);
    for (path, what, request, word) in [
        ("/storage/reclaim", "begin", json!({ "request": "reclaim-begin" }), "reclaiming"),
        ("/storage/count", "", json!({ "request": "freeable-begin" }), "counting"),
        ("/storage/scrub", "start", json!({ "request": "scrub-start" }), "scrubbing"),
        ("/storage/scrub", "pause", json!({ "request": "scrub-pause", "paused": true }), "scrub-paused"),
        ("/storage/scrub", "resume", json!({ "request": "scrub-pause", "paused": false }), "scrub-resumed"),
        ("/storage/scrub", "heal", json!({ "request": "scrub-heal" }), "healing"),
    ] {
        let answer = browser.submit(&storage, path, &[("what", what)]);
        assert_eq!((answer.status, page.asked()), (303, request), "{path} {what}");
        let to = answer.header("location").to_owned();
        assert_eq!(to, format!("/storage?done={word}"));
        assert!(browser.get(&to).body.contains("role=\"status\""), "{to}");
    }
    page.memory().refuses = Some(Failed::environment("the disk does not answer"));
    let refused = browser.submit(&storage, "/storage/scrub", &[("what", "start")]);
    assert!(refused.status == 503 && refused.body.contains("The disk does not answer."), "{}", refused.body);
}

#[test]
fn who_only_looks_sees_the_storage_and_changes_nothing_there() {
    let page = Page::claimed();
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    let storage = viewer.get("/storage");
    assert_eq!(storage.status, 200);
    for button in ["Give it back now", "Count anew", "Read everything now", "Pause it", "Ask peers"] {
        assert!(!storage.body.contains(button), "{button}");
    }
    for (path, what) in [("/storage/reclaim", "begin"), ("/storage/count", ""), ("/storage/scrub", "start")] {
        assert_eq!(viewer.submit(&storage, path, &[("what", what)]).status, 403, "{path}");
    }
    let preview = viewer.submit(&storage, "/storage/reclaim", &[("what", "preview")]);
    is_harmless(&preview, "/storage/reclaim");
    assert_eq!(preview.status, 200, "who looks may ask");
}

#[test]
fn settings_are_checked_beside_their_field_and_what_was_typed_stays() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let settings = browser.get("/settings");
    assert!(settings.body.contains("Default: <bdi>127.0.0.1:2049</bdi>") && settings.body.contains("Restart the box"));
    let untouched = [
        ("was:nfs.listen", "0.0.0.0:2049"),
        ("was:retention.quarantine_days", "7"),
        ("was:nfs.allow", "192.168.7.0/24"),
    ];
    let fill = |listen: &'static str, days: &'static str, allow: &'static str| {
        let typed = [("nfs.listen", listen), ("retention.quarantine_days", days), ("nfs.allow", allow)];
        [untouched, typed].concat()
    };
    // What makes no sense to the page, and what makes none to the box: beside its field, and all that was typed is still there.
    let long = "x".repeat(4096);
    for odd in ["<script>alert('x')</script>", "مكتب القاهرة", "支店", "a\u{202e}b", &long] {
        let odd: &'static str = odd.to_owned().leak();
        let answer = browser.submit(&settings, "/settings", &fill(odd, "many", "10.0.0.0/8\r\n::1/128"));
        assert!(answer.status == 422 && answer.body.contains("Write a whole number."), "{}", answer.body);
        assert!(answer.between("<input id=\"retention.quarantine_days\"", ">").contains("aria-invalid=\"true\""));
        assert!(
            answer.body.contains("10.0.0.0/8\r\n::1/128")
                && answer.between("<input id=\"retention.quarantine_days\"", ">").contains("many")
        );
        is_harmless(&answer, odd);
        page.memory().refuses = Some(Failed::about("nfs.listen", "nfs.listen: expected an address and a port"));
        let answer = browser.submit(&settings, "/settings", &fill(odd, "9", "10.0.0.0/8"));
        page.memory().refuses = None;
        let field = answer.between("<input id=\"nfs.listen\"", ">");
        assert!(
            answer.status == 422 && field.contains("aria-invalid=\"true\"") && field.contains("autofocus"),
            "{field}"
        );
        assert!(
            answer.body.contains("id=\"nfs.listen-wrong\"")
                && answer.between("<input id=\"retention.quarantine_days\"", ">").contains("value=\"9\"")
        );
        // Sent once more as it came back, it is still told what it was at first.
        assert!(answer.body.contains("name=\"was:nfs.listen\" value=\"0.0.0.0:2049\""));
    }
    let same = browser.submit(&settings, "/settings", &fill("0.0.0.0:2049", "7", "192.168.7.0/24"));
    assert!(same.status == 422 && same.body.contains("nothing was changed"));
    let kept = browser.submit(&settings, "/settings", &fill("", "7", " 10.0.0.0/8 \r\n"));
    assert_eq!(kept.header("location"), "/settings?done=settings", "{}", kept.body);
    assert_eq!(
        page.asked(),
        json!({ "request": "setting-set", "changes": { "nfs.listen": "", "nfs.allow": ["10.0.0.0/8"] } })
    );
    let one = browser.submit(
        &settings,
        "/settings",
        &[("dataset", "office"), ("was:share.office.read_only", "no"), ("share.office.read_only", "yes")],
    );
    assert_eq!(one.status, 303);
    assert_eq!(page.asked()["changes"], json!({ "share.office.read_only": true }));
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    let seen = viewer.get("/settings");
    assert!(seen.status == 200 && seen.body.contains("Administrators change them") && !seen.body.contains("<textarea"));
    assert_eq!(viewer.submit(&seen, "/settings", &fill("", "7", "")).status, 403);
}

#[test]
fn a_box_is_restarted_with_one_answer_that_waits_and_shut_down_by_its_name() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let asks = browser.get("/system/restart");
    let waits = browser.submit(&asks, "/system/restart", &[]);
    assert_eq!(page.asked(), json!({ "request": "restart" }));
    let back = waits.between("http-equiv=\"refresh\" content=\"15; url=", "\"").to_owned();
    assert!(waits.status == 200 && waits.body.contains(&format!("data-back=\"{back}\"")), "{}", waits.body);
    // The same worker: it is not back yet. Another one: it is.
    let mut open = Browser::new(page.address);
    let still = open.get(&back);
    assert!(still.status == 200 && still.body.contains(&back));
    assert_eq!(open.get("/back?run=an-earlier-one").header("location"), "/");
    let asks = browser.get("/system/stop");
    let wrong = browser.submit(&asks, "/system/stop", &[("typed", "branch")]);
    assert!(
        wrong.status == 422
            && wrong.body.contains("nothing was done")
            && page.asked() == json!({ "request": "restart" })
    );
    let right = browser.submit(&asks, "/system/stop", &[("typed", "branch-7")]);
    assert!(right.status == 200 && right.body.contains("shutting down") && !right.body.contains("http-equiv"));
    assert_eq!(page.asked(), json!({ "request": "stop" }));
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    let system = viewer.get("/system");
    assert!(
        system.status == 200 && !system.body.contains("Shut down") && !system.body.contains("What it has warned of")
    );
    for path in ["/system/restart", "/system/stop"] {
        assert_eq!(viewer.submit(&system, path, &[("typed", "branch-7")]).status, 403, "{path}");
    }
}

#[test]
fn a_calendar_is_painted_filled_in_or_typed_and_comes_back_as_it_was() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let path = "/peers/head-office/limits";
    let shown = browser.get(path);
    for told in [
        "So says the calendar",
        "name=\"row-1-rate\" value=\"8Mbit\"",
        "2026-12-24..2027-01-01 00:00-24:00 unlimited",
        "It will have caught up by",
    ] {
        assert!(shown.body.contains(told), "{told}: {}", shown.body);
    }
    let cells = shown.between("name=\"cells\" value=\"", "\"").to_owned();
    assert_eq!((cells.len(), &cells[..24]), (168, "333333002222122222000033"));
    // Sent as it came, painted or as rows, it means the same to the box.
    let brushes = [
        ("brush-1", "8Mbit"),
        ("brush-2", "4Mbit"),
        ("brush-3", "unlimited"),
        ("brush-4", ""),
        ("zone", "Europe/London"),
    ];
    let dated = ("dated", "2026-12-24..2027-01-01 unlimited");
    let grid = [&[("way", "sent"), ("what", "grid"), ("cells", cells.as_str()), dated][..], &brushes].concat();
    assert_eq!(browser.submit(&shown, path, &grid).header("location"), "/peers/head-office/limits?done=limit");
    let sent = page.asked();
    let text = sent["calendar"].as_str().expect("a calendar").to_owned();
    assert!(
        text.starts_with("zone Europe/London\n2026-12-24") && text.contains("mon-fri 12:00-13:00 8Mbit\n"),
        "{text}"
    );
    assert!(
        text.contains("\n22:00-06:00 unlimited\n")
            && text.contains("mon-fri 08:00-12:00 4Mbit\n")
            && text.contains("mon-fri 13:00-18:00 4Mbit\n"),
        "{text}"
    );
    let rows = [
        ("what", "rows"),
        ("way", "received"),
        ("dated", ""),
        ("zone", ""),
        ("row-1-mon", "on"),
        ("row-1-wed", "on"),
        ("row-1-from", "8"),
        ("row-1-until", "18:30"),
        ("row-1-rate", "4 Mbit"),
        ("row-2-rate", "unlimited"),
        ("row-2-sun", "on"),
        ("row-2-from", ""),
        ("row-2-until", ""),
        ("row-3-rate", ""),
        ("row-3-from", ""),
        ("row-3-until", ""),
    ];
    assert_eq!(
        browser.submit(&shown, path, &rows).header("location"),
        "/peers/head-office/limits?done=limit&way=received"
    );
    assert_eq!(
        (page.asked()["calendar"].as_str(), page.asked()["receive"].as_bool()),
        (Some("mon 08:00-18:30, wed 08:00-18:30 4Mbit\nsun unlimited\n"), Some(true))
    );
    let nowhere = [&grid[..grid.len() - 1], &[("zone", "Atlantis/Capital")]].concat();
    let wrong = browser.submit(&shown, path, &nowhere);
    assert!(
        wrong.body.contains("id=\"zone-wrong\"") && wrong.body.contains("value=\"Atlantis/Capital\""),
        "{}",
        wrong.body
    );
    browser.submit(&shown, "/limits", &[("what", "text"), ("way", "sent"), ("calendar", "mon pause\r\n")]);
    assert_eq!((page.asked()["calendar"].as_str(), page.asked()["peer"].as_str()), (Some("mon pause\n"), None));
}

#[test]
fn what_makes_no_sense_in_a_limit_stands_beside_its_field() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let path = "/peers/head-office/limits";
    let shown = browser.get(path);
    let before =
        page.memory().asked.iter().filter(|asked| asked["calendar"].is_string() || asked["rate"].is_string()).count();
    let zeros = "0".repeat(168);
    let ones = "1".repeat(168);
    for odd in ["<script>alert('x')</script>", "مكتب القاهرة", "支店", "fast", ""] {
        for (fields, field) in [
            (vec![("what", "rate"), ("rate", odd)], "rate"),
            (vec![("what", "override"), ("by-hand", "4Mbit"), ("lasts", odd)], "lasts"),
            (vec![("what", "override"), ("by-hand", odd), ("lasts", "2h")], "by-hand"),
            (
                vec![("what", "grid"), ("cells", ones.as_str()), ("brush-1", odd), ("dated", "2026-12-24 pause")],
                "brush-1",
            ),
            (vec![("what", "grid"), ("cells", zeros.as_str()), ("dated", "mon pause"), ("zone", odd)], "dated"),
            (
                vec![
                    ("what", "rows"),
                    ("row-1-rate", odd),
                    ("row-1-mon", "on"),
                    ("row-1-from", "08:00"),
                    ("row-1-until", "18:00"),
                ],
                "row-1-rate",
            ),
            (
                vec![
                    ("what", "rows"),
                    ("row-1-rate", "4Mbit"),
                    ("row-1-mon", "on"),
                    ("row-1-from", "99:99"),
                    ("row-1-until", odd),
                ],
                "row-1-from",
            ),
            (
                vec![("what", "rows"), ("row-1-rate", "4Mbit"), ("row-1-from", odd), ("row-1-until", "18:00")],
                "row-1-rate",
            ),
            (vec![("what", "grid"), ("cells", odd), ("dated", "")], "calendar"),
        ] {
            let answer = browser.submit(&shown, path, &[&[("way", "sent")][..], &fields].concat());
            assert_eq!(answer.status, 422, "{field} {odd}: {}", answer.body);
            assert!(answer.body.contains(&format!("id=\"{field}-wrong\"")), "{field} {odd}: {}", answer.body);
            let typed = odd.replace('<', "&#60;").replace('>', "&#62;").replace('\'', "&#39;");
            assert!(answer.body.contains(&typed), "{field} {odd}: {}", answer.body);
            is_harmless(&answer, odd);
        }
    }
    let after =
        page.memory().asked.iter().filter(|asked| asked["calendar"].is_string() || asked["rate"].is_string()).count();
    assert_eq!(before, after, "nothing of it was asked of the box");
}

#[test]
fn a_peer_is_paused_measured_and_found_elsewhere() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let shown = browser.get("/peers/head-office");
    assert!(
        shown.body.contains("The lowest counts")
            && shown.body.contains("&#60;b&#62;a snapshot")
            && !shown.body.contains("of somebody else"),
        "{}",
        shown.body
    );
    browser.submit(&shown, "/peers/head-office/limits", &[("what", "pause"), ("way", "sent"), ("lasts", "1h")]);
    let asked = page.asked();
    assert_eq!((asked["rate"].as_str(), asked["seconds"].as_u64()), (Some("pause"), Some(3600)));
    let measured = browser.submit(&shown, "/peers/head-office/probe", &[]);
    assert!(
        measured.status == 200
            && measured.body.contains(
                "There: 20.00 Mbit/s, which is the limit of whoever sends; 2 of 400 packets were lost (0.1 to 1.8 %)"
            ),
        "{}",
        measured.body
    );
    for (what, change) in [("add", "add"), ("remove", "remove"), ("prefer", "prefer")] {
        browser.submit(&shown, "/peers/head-office/addresses", &[("what", what), ("address", " hq.example:4433 ")]);
        assert_eq!(page.asked()["change"], json!({ change: "hq.example:4433" }));
    }
    page.memory().refuses = Some(Failed::refused("\"支店\" is not an address (no port); write host:port"));
    let wrong = browser.submit(&shown, "/peers/head-office/addresses", &[("what", "add"), ("address", "支店")]);
    assert!(
        wrong.status == 422 && wrong.body.contains("id=\"address-wrong\"") && wrong.body.contains("value=\"支店\""),
        "{}",
        wrong.body
    );
    page.memory().refuses = Some(Failed::of("link", "head-office is not connected"));
    let lost = browser.submit(&shown, "/peers/head-office/probe", &[]);
    assert!(lost.status == 422 && lost.body.contains("Head-office is not connected."), "{}", lost.body);
    page.memory().refuses = None;
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    for path in ["/peers/head-office", "/peers/head-office/limits"] {
        let seen = viewer.get(path);
        let buttons = ["Pause for an hour", "Measure the line", "Add it", "Set the calendar", "Set the limit"];
        assert!(seen.status == 200 && buttons.iter().all(|button| !seen.body.contains(button)), "{path}");
        assert_eq!(
            viewer.submit(&seen, "/peers/head-office/limits", &[("what", "rate"), ("rate", "4Mbit")]).status,
            403
        );
        assert_eq!(
            viewer.submit(&seen, "/peers/head-office/addresses", &[("what", "add"), ("address", "a:1")]).status,
            403
        );
        assert_eq!(viewer.submit(&seen, "/peers/head-office/probe", &[]).status, 403);
    }
}

#[test]
fn the_certificate_says_why_no_other_was_had_and_what_to_do() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let system = browser.get("/system");
    for told in [
        "backup.bonn.example.org",
        "&#60;b&#62;refused&#60;/b&#62;",
        "See to it that port 80",
        "CN=&#60;E7&#62;",
        "Order one now",
    ] {
        assert!(system.body.contains(told), "{told}: {}", system.body);
    }
    let ordered = browser.submit(&system, "/system/certificate", &[]);
    assert_eq!((ordered.status, page.asked()), (303, json!({ "request": "certificate-order" })));
    assert!(browser.get("/system?done=ordering").body.contains("is being ordered"));
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    assert!(!viewer.get("/system").body.contains("Order one now"));
}
