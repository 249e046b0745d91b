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
