//! The page of a real box: its own worker, its accounts, its store; from the claim to a protected share, as a browser does it.

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod browser;
mod common;
#[path = "page/real.rs"]
mod real;

use std::fs;
use std::path::Path;

use browser::{Answer, Browser};
use common::{Served, facts, until};
use real::{address, follow, text, with_page};
use rustix::process::{Pid, Signal, kill_process};

const GOOD: &str = "Tram 12 smells of rye bread";
const PAGES: &[&str] = &[
    "/",
    "/live/overview",
    "/datasets",
    "/datasets/new",
    "/datasets/office",
    "/datasets/office/changes",
    "/deleted",
    "/storage",
    "/peers",
    "/peers/invite",
    "/limits",
    "/limits?way=received",
    "/jobs",
    "/security",
    "/users",
    "/audit",
    "/settings",
    "/system",
    "/setup/place",
    "/network",
    "/setup/network",
    "/setup/clients",
    "/setup/dataset",
    "/setup/head-office",
    "/setup/line",
    "/setup/summary",
    "/setup/file",
    "/setup/done",
];

/// The box's page worker.
fn worker(served: &Served) -> Option<i32> {
    let of = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let children =
        fs::read_dir("/proc").expect("Linux").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parent = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    children.into_iter().find(|pid: &i32| parent(pid) == served.pid() && of(pid).contains("page-worker"))
}

#[test]
fn from_the_claim_to_a_protected_share() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = with_page(folder.path());
    let served = Served::start(&data);
    let mut browser = Browser::new(address(&data));
    let claim = browser.get("/claim");
    let code = text(&facts(&data, &["account", "claim"])["code"]);
    let fields = |code: &str, user: &str, password: &str| {
        [("code", code), ("user", user), ("password", password), ("again", password)]
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let send = |browser: &mut Browser, from: &Answer, fields: [(String, String); 4]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        browser.submit(from, "/claim", &fields)
    };
    // Each refusal stands beside its field, and what was typed is still there.
    for (code, user, password, field) in [
        ("0000-0000-0000-0000", "anna", GOOD, "code"),
        (&code, "anna", "password1234", "password"),
        (&code, "an\u{202e}na", GOOD, "user"),
    ] {
        let answer = send(&mut browser, &claim, fields(code, user, password));
        assert_eq!(answer.status, 422, "{field}");
        assert!(answer.body.contains(&format!("id=\"{field}-wrong\"")), "{field}: {}", answer.body);
        assert!(answer.body.contains(user) && !answer.body.contains(password), "{field}");
    }
    let entered = send(&mut browser, &claim, fields(&code.to_lowercase(), "Ännä 老师", GOOD));
    let overview = follow(&mut browser, &entered);
    assert!(overview.status == 200 && overview.body.contains("Ännä 老师"), "{}", overview.body);

    let new = browser.get("/datasets/new");
    let made = browser.submit(
        &new,
        "/datasets/new",
        &[("kind", "share"), ("name", "office"), ("dedup", "inline"), ("size", "")],
    );
    let page = follow(&mut browser, &made);
    assert!(page.body.contains("office") && page.body.contains("mount"), "{}", page.body);
    let made = browser.submit(&page, "/datasets/office/snapshots", &[("name", "monday"), ("snapshot", "monday")]);
    let page = follow(&mut browser, &made);
    assert!(
        page.body.contains("monday") || !facts(&data, &["snapshot", "list"]).as_array().expect("a list").is_empty(),
        "{}",
        page.body
    );
    for path in PAGES {
        let answer = browser.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
    }
    assert!(browser.get("/audit").body.contains("share-create"), "what she did is in the log");

    let form = browser.get("/");
    browser.submit(&form, "/sign-out", &[]);
    assert!((300..400).contains(&browser.get("/datasets").status), "nobody is signed in");
    let form = browser.get("/sign-in");
    let wrong = browser.submit(&form, "/sign-in", &[("user", "Ännä 老师"), ("password", "wrong"), ("code", "")]);
    assert!(wrong.status == 422 && wrong.body.contains("wrong"), "{}", wrong.body);
    let right = browser.submit(&form, "/sign-in", &[("user", "Ännä 老师"), ("password", GOOD), ("code", "")]);
    assert!(follow(&mut browser, &right).body.contains("office"));
    assert!(!served.log().contains(GOOD) && !served.log().contains(&code));
}

#[test]
fn a_worker_has_nothing_and_another_one_comes_where_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = with_page(folder.path());
    let served = Served::start(&data);
    let mut browser = Browser::new(address(&data));
    assert_eq!(browser.get("/claim").status, 200);
    let first = worker(&served).expect("there is one");
    let status = fs::read_to_string(format!("/proc/{first}/status")).expect("it lives");
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("NoNewPrivs").ends_with('1'), "{status}");
    if rustix::process::geteuid().is_root() {
        assert_eq!(line("Uid:").split_whitespace().nth(1), Some("65534"), "{status}");
        assert_eq!(line("CapEff").split_whitespace().nth(1), Some("0000000000000000"));
    }
    let open: Vec<_> = fs::read_dir(format!("/proc/{first}/fd"))
        .expect("root may look")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|to| to.starts_with(&data))
        .collect();
    assert!(open.is_empty(), "it has files of the box: {open:?}");

    kill_process(Pid::from_raw(first).expect("a process"), Signal::KILL).expect("ours");
    until("another one serves", || worker(&served).is_some_and(|second| second != first));
    assert_eq!(browser.get("/claim").status, 200);
    let second = worker(&served).expect("there is one");
    served.kill();
    until("it ends with its box", || !Path::new(&format!("/proc/{second}/exe")).exists());
}

#[test]
fn settings_are_changed_and_count_once_the_box_was_restarted_through_its_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = with_page(folder.path());
    let file = data.join("narrowboat.toml");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, config.replace("listen = '127.0.0.1:0'\ncert", &format!("listen = '127.0.0.1:{port}'\ncert")))
        .expect("written");
    let served = Served::start(&data);
    let mut browser = Browser::new(address(&data));
    let claim = browser.get("/claim");
    let code = text(&facts(&data, &["account", "claim"])["code"]);
    let entered =
        browser.submit(&claim, "/claim", &[("code", &code), ("user", "anna"), ("password", GOOD), ("again", GOOD)]);
    assert_eq!(entered.status, 303, "{}", entered.body);
    let page = browser.get("/settings");
    let change = |days: &'static str| [("was:retention.quarantine_days", "7"), ("retention.quarantine_days", days)];
    let wrong = browser.submit(&page, "/settings", &change("4000"));
    assert!(wrong.status == 422 && wrong.body.contains("id=\"retention.quarantine_days-wrong\""), "{}", wrong.body);
    assert!(wrong.body.contains("value=\"4000\""));
    let kept = browser.submit(&page, "/settings", &change("30"));
    let page = follow(&mut browser, &kept);
    assert!(page.body.contains("Restart the box") && page.body.contains("value=\"30\""), "{}", page.body);
    assert!(fs::read_to_string(&file).expect("there").contains("quarantine_days = 30"));
    let asks = browser.get("/system/restart");
    let waits = browser.submit(&asks, "/system/restart", &[]);
    assert!(waits.status == 200 && waits.body.contains("http-equiv=\"refresh\""), "{}", waits.body);
    let back = waits.between("url=", "\"").to_owned();
    until("the box is back", || {
        let reached = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        reached
            && std::panic::catch_unwind(|| Browser::new(([127, 0, 0, 1], port).into()).get(&back))
                .is_ok_and(|answer| answer.header("location") == "/")
    });
    assert!(browser.get("/settings").header("location").starts_with("/sign-in"), "everybody is signed out");
    let form = browser.get("/sign-in");
    let entered = browser.submit(&form, "/sign-in", &[("user", "anna"), ("password", GOOD), ("code", "")]);
    follow(&mut browser, &entered);
    assert!(!browser.get("/settings").body.contains("Restart the box"), "it counts");
    served.kill();
}
