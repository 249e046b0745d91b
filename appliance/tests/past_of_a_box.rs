//! The past of a dataset on the page of a real box: files of any moment, a new dataset from one, the old one taken back, rules and locks.

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod browser;
mod common;
#[path = "page/real.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod real;

use std::io::Write;
use std::time::{Duration, Instant};

use browser::{Answer, Browser, connect, read_bytes};
use common::nfs::{self, Stable};
use common::{Served, facts, noise};
use real::{address, follow, text, with_page};

const GOOD: &str = "Tram 12 smells of rye bread";

fn claimed(served: &Served) -> Browser {
    let mut browser = Browser::new(address(&served.data));
    let claim = browser.get("/claim");
    let code = text(&facts(&served.data, &["account", "claim"])["code"]);
    let fields = [("code", code.as_str()), ("user", "anna"), ("password", GOOD), ("again", GOOD)];
    assert_eq!(browser.submit(&claim, "/claim", &fields).status, 303);
    browser
}

/// Sends a form, and follows where it leads.
fn send(browser: &mut Browser, from: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let form = browser.get(from);
    let answer = browser.submit(&form, path, fields);
    follow(browser, &answer)
}

/// The bytes that lie there.
fn bytes(browser: &Browser, path: &str) -> Vec<u8> {
    let mut stream = connect(browser.address);
    let session = &browser.cookies["__Host-narrowboat"];
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: __Host-narrowboat={session}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("a page that listens");
    let mut bytes = read_bytes(&mut stream);
    let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
    bytes.split_off(end + 4)
}

/// Writes a file anew.
fn write(client: &mut nfs::Client, root: &[u8], name: &[u8], content: &[u8]) {
    let file = client.create(root, name).expect("room");
    for (nth, piece) in content.chunks(64 << 10).enumerate() {
        client.write(&file, (nth as u64) << 16, piece, Stable::Unstable).expect("room");
    }
    client.commit(&file).expect("a sound disk");
}

#[test]
fn files_of_any_moment_come_home_and_the_past_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&with_page(folder.path()));
    let mut browser = claimed(&served);
    let made = send(
        &mut browser,
        "/datasets/new",
        "/datasets/new",
        &[("kind", "share"), ("name", "office"), ("dedup", "inline"), ("size", "")],
    );
    assert!(made.body.contains("/datasets/office/timeline"), "{}", made.body);
    let line = "/datasets/office/timeline";
    assert!(
        send(&mut browser, line, "/datasets/office/window", &[("keep", "24h"), ("most", "1GB")])
            .body
            .contains("value=\"1d\"")
    );

    let content = noise(1, 3_000_000);
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    write(&mut client, &root, b"report", b"as it was on monday");
    write(&mut client, &root, b"\xff <b> odd", b"odd");
    write(&mut client, &root, b"data", &content);
    assert!(
        send(&mut browser, line, "/datasets/office/marks", &[("mark", "monday"), ("quiet", "yes")])
            .body
            .contains("monday")
    );
    let report = client.lookup(&root, b"report").expect("there").0;
    client.write(&report, 0, b"as it is TODAY, now", Stable::File).expect("room");
    client.remove(&root, b"data").expect("there");
    send(&mut browser, "/datasets/office", "/datasets/office/snapshots", &[("snapshot", "tuesday")]);

    // Files of now, of a mark, of a snapshot.
    let now = browser.get("/datasets/office/files");
    assert!(now.body.contains("2 entries") && now.body.contains("\u{fffd} &#60;b&#62; odd"), "{}", now.body);
    let monday = browser.get("/datasets/office/files?at=monday");
    assert!(monday.body.contains("3 entries") && monday.body.contains("2.86 MiB"), "{}", monday.body);
    let home = |browser: &mut Browser, at: &str, path: &str| {
        browser.get(&format!("/datasets/office/download?at={at}&path={path}"))
    };
    assert_eq!(home(&mut browser, "monday", "report").body, "as it was on monday");
    assert_eq!(home(&mut browser, "tuesday", "report").body, "as it is TODAY, now");
    let odd = home(&mut browser, "", "%25FF%2520%253Cb%253E%2520odd");
    assert!(
        odd.body == "odd" && odd.header("content-disposition").contains("filename=\"_ _b_ odd\""),
        "{:?}",
        odd.headers
    );
    let archive = bytes(&browser, "/datasets/office/download?at=monday");
    assert!(archive.windows(content.len().min(4096)).any(|part| part == &content[..4096]), "{} bytes", archive.len());
    assert_eq!(home(&mut browser, "never", "report").status, 422);

    // A new one from it.
    let new = send(
        &mut browser,
        "/datasets/office/clone?at=monday",
        "/datasets/office/clone",
        &[("at", "monday"), ("new", "office-monday")],
    );
    assert!(new.body.contains("office-monday"), "{}", new.body);
    assert!(browser.get("/datasets/office-monday/files").body.contains("3 entries"));

    // Taken back: not while somebody has it mounted, unless that is said.
    let asks = browser.get("/datasets/office/rewind?at=monday");
    let fields = [("at", "monday"), ("typed", "office")];
    let used = browser.submit(&asks, "/datasets/office/rewind", &fields);
    assert!(
        used.status == 422
            && used.body.contains("in use by 127.0.0.1")
            && used.body.contains("name=\"force\"")
            && !used.body.contains("--force"),
        "{}",
        used.body
    );
    assert!(client.lookup(&root, b"data").is_err(), "nothing has happened");
    let back = browser.submit(&asks, "/datasets/office/rewind", &[&fields[..], &[("force", "yes")]].concat());
    let page = follow(&mut browser, &back);
    assert!(page.body.contains("before-rewind-"), "{}", page.body);
    assert!(browser.get("/datasets/office/files").body.contains("3 entries"));
    assert_eq!(home(&mut browser, "", "report").body, "as it was on monday");
    let line = browser.get(line);
    assert!(
        line.body.contains("before-rewind-") && line.body.contains("monday") && line.body.contains("tuesday"),
        "{}",
        line.body
    );
}

#[test]
fn rules_and_locks_hold_what_they_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&with_page(folder.path()));
    let mut browser = claimed(&served);
    send(
        &mut browser,
        "/datasets/new",
        "/datasets/new",
        &[("kind", "volume"), ("name", "disk"), ("dedup", "inline"), ("size", "64MiB")],
    );
    let page = send(&mut browser, "/datasets/disk/larger", "/datasets/disk/larger", &[("size", "128MiB")]);
    assert!(page.body.contains("128.0 MiB"), "{}", page.body);
    let form = browser.get("/datasets/disk/larger");
    let smaller = browser.submit(&form, "/datasets/disk/larger", &[("size", "1MiB")]);
    assert!(
        smaller.status == 422 && smaller.body.contains("id=\"size-wrong\"") && smaller.body.contains("1MiB"),
        "{}",
        smaller.body
    );
    for name in ["one", "two", "three"] {
        send(&mut browser, "/datasets/disk", "/datasets/disk/snapshots", &[("snapshot", name)]);
    }
    let image = bytes(&browser, "/datasets/disk/download?at=one");
    assert!(image.len() == 128 << 20 && image.iter().all(|byte| *byte == 0), "{} bytes", image.len());
    assert!(browser.get("/datasets/disk/files?at=one").body.contains("Download the image"));

    let lock = "/datasets/disk/snapshots/one/lock";
    let locked = send(&mut browser, lock, lock, &[("length", "30d"), ("sure", "yes")]);
    assert!(locked.body.contains("Locked"), "{}", locked.body);
    let form = browser.get(lock);
    let shorter = browser.submit(&form, lock, &[("length", "1d"), ("sure", "yes")]);
    assert!(shorter.status == 422 && shorter.body.contains("never made shorter"), "{}", shorter.body);

    let rules = "/datasets/disk/retention";
    let form = browser.get(rules);
    let seen = browser.submit(&form, rules, &[("last", "1")]);
    assert!(seen.body.contains("1 goes, 2 stay") && seen.body.contains("Locked for 30 d"), "{}", seen.body);
    let words = seen.between("name=\"seen\" value=\"", "\"").to_owned();
    assert_eq!(facts(&served.data, &["snapshot", "list", "disk"]).as_array().map(Vec::len), Some(3), "only shown");
    send(&mut browser, rules, rules, &[("last", "1"), ("seen", &words)]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while facts(&served.data, &["snapshot", "list", "disk"]).as_array().map(Vec::len) != Some(2) {
        assert!(Instant::now() < deadline, "what goes by rules goes by itself");
        std::thread::sleep(Duration::from_millis(200));
    }
    let page = browser.get(rules);
    assert!(
        page.body.contains("These stay: 1 last") && page.body.contains("name=\"last\" value=\"1\""),
        "{}",
        page.body
    );
    // What went can be had back.
    let deleted = browser.get("/deleted");
    let id = deleted.between("name=\"what\" value=\"", "\"").to_owned();
    let back = browser.submit(&deleted, "/deleted", &[("kind", "snapshot"), ("what", &id), ("new", "")]);
    assert_eq!(back.header("location"), "/deleted?done=restored", "{}", back.body);
    assert!(send(&mut browser, rules, "/datasets/disk/retention/remove", &[]).body.contains("No rules"));
    assert!(send(&mut browser, rules, "/datasets/disk/lock", &[("length", "2d")]).body.contains("locked for 2 days"));
    assert!(send(&mut browser, rules, "/datasets/disk/count", &[]).body.contains("As of "));
    assert!(browser.get("/locks").body.contains("/datasets/disk/retention"));
}
