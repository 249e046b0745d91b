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
