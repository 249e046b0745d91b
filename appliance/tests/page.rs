#![recursion_limit = "256"]
//! The page worker as a process, with a made-up box behind its door: what a browser sees, and what a stranger can't do.

#[path = "page/browser.rs"]
mod browser;
#[path = "page/downloads.rs"]
mod downloads;
#[path = "page/fake.rs"]
mod fake;
#[path = "page/network.rs"]
mod network;
#[path = "page/office.rs"]
mod office;
#[path = "page/past.rs"]
mod past;
#[path = "page/sample.rs"]
mod sample;
#[path = "page/whole.rs"]
mod whole;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use browser::{Answer, Browser, connect, read};
use fake::{CODE, PASSWORD, Page, SESSION, VIEWER};
use narrowboat::control::Failed;

/// Every page that an administrator can open.
const PAGES: &[&str] = &[
    "/",
    "/live/overview",
    "/datasets",
    "/datasets/new",
    "/datasets/office",
    "/datasets/exchange",
    "/datasets/%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E",
    "/datasets/office/delete",
    "/datasets/office/snapshots/2026-11-19T13-00-00.000Z/delete",
    "/datasets/office/changes",
    "/datasets/office/changes?from=a&to=b",
    "/datasets/office/files",
    "/datasets/office/files?path=many&holds=%3Cscript%3E",
    "/datasets/office/files?path=many&after=x&at=%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E",
    "/datasets/exchange/files?at=2026-11-23T13-00-00.000Z",
    "/datasets/%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E/files?path=%253Cscript%253E",
    "/datasets/office/timeline",
    "/datasets/office/timeline?span=year",
    "/datasets/office/timeline?from=2026-11-20T00:00:00Z&until=%3Cscript%3E",
    "/datasets/office/clone?at=before%20the%20move%20%22%3Ci%3E",
    "/datasets/office/rewind?at=2026-11-22T07:30:00Z",
    "/datasets/office/window/off",
    "/datasets/office/retention",
    "/datasets/%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E/retention",
    "/datasets/office/snapshots/2026-11-19T13-00-00.000Z/lock",
    "/datasets/exchange/larger",
    "/datasets/exchange/timeline",
    "/locks",
    "/deleted",
    "/storage",
    "/storage?span=year",
    "/storage?span=%3Cb%3E",
    "/peers",
    "/peers/head-office",
    "/peers/head-office/limits",
    "/peers/head-office/limits?way=received",
    "/limits",
    "/peers/invite",
    "/peers/join",
    "/jobs",
    "/security",
    "/users",
    "/audit",
    "/settings",
    "/settings?dataset=office",
    "/system",
    "/system/restart",
    "/system/stop",
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

/// Checks what has to be above every answer.
fn is_guarded(answer: &Answer, path: &str) {
    let policy = answer.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'") && !policy.contains("unsafe"),
        "{path}: {policy}"
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), value, "{path}");
    }
    assert!(answer.header("permissions-policy").contains("camera=()"), "{path}");
    assert_eq!(
        answer.header("strict-transport-security"),
        "",
        "{path}: nobody could pass a certificate that is not known then"
    );
    let kept = if path.starts_with("/assets/") && answer.status == 200 {
        "public, max-age=31536000, immutable"
    } else {
        "no-store"
    };
    assert_eq!(answer.header("cache-control"), kept, "{path}");
}

/// Checks that a page holds nothing that it should not run or that its own policy would stop, and none of the hostile names as they are.
fn is_harmless(answer: &Answer, path: &str) {
    for wrong in ["<script>", "alert(", "<img", "<b>", "<i>", "javascript:", " style=", " onclick=", "<style"] {
        let body = answer.body.replace("alert(&#39;", "").replace("alert(1)&#62;", "");
        assert!(
            !body.contains(wrong) || wrong == "alert(" && !body.contains("<script>alert"),
            "{path}: {wrong} in {body}"
        );
    }
}

#[test]
fn whoever_holds_the_code_claims_the_box_and_sees_every_page() {
    let page = Page::start();
    let mut browser = Browser::new(page.address);
    let claim = browser.get("/");
    assert!(claim.status == 200 && claim.body.contains("Nobody owns this box yet"), "{}", claim.body);
    assert_eq!(browser.get("/sign-in").header("location"), "/", "there is nobody to sign in yet");
    let fields = [("code", CODE), ("user", "admin"), ("password", PASSWORD), ("again", PASSWORD)];
    let claimed = browser.submit(&claim, "/claim", &fields);
    assert_eq!((claimed.status, claimed.header("location")), (303, "/setup/place?done=claimed"), "{}", claimed.body);
    assert_eq!(browser.cookies.get("__Host-narrowboat").map(String::as_str), Some(SESSION));
    assert!(browser.get("/?done=claimed").body.contains("The box is yours."));
    assert_eq!(browser.get("/claim").header("location"), "/sign-in", "the code counts once");
    for path in PAGES.iter().copied() {
        let answer = browser.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        is_guarded(&answer, path);
        is_harmless(&answer, path);
        let whole = !path.starts_with("/live/");
        assert_eq!(answer.body.contains("<main id=\"main\""), whole, "{path}");
    }
    let overview = browser.get("/");
    let out = browser.submit(&overview, "/sign-out", &[]);
    assert_eq!((out.header("location"), browser.cookies.contains_key("__Host-narrowboat")), ("/sign-in", false));
    assert_eq!(browser.get("/").header("location"), "/sign-in");
    let sign_in = browser.get("/sign-in");
    let wrong = browser.submit(&sign_in, "/sign-in", &[("user", "admin"), ("password", "guess"), ("code", "")]);
    assert!(
        wrong.status == 422
            && wrong.body.contains("The name or the password is wrong.")
            && wrong.body.contains("value=\"admin\"")
    );
    assert!(!wrong.body.contains("guess"), "a password never comes back");
    let wait = browser.submit(&sign_in, "/sign-in", &[("user", "slow"), ("password", "guess"), ("code", "")]);
    assert_eq!(wait.status, 429);
    let right = browser.submit(&sign_in, "/sign-in", &[("user", "admin"), ("password", PASSWORD), ("code", "")]);
    assert_eq!((right.status, right.header("location")), (303, "/"));
}

#[test]
fn nobody_sees_anything_who_is_not_signed_in() {
    let page = Page::claimed();
    for session in [None, Some("made-up")] {
        let mut browser = Browser::new(page.address);
        browser.cookies.extend(session.map(|session| ("__Host-narrowboat".to_owned(), session.to_owned())));
        let seen: Vec<Answer> = PAGES.iter().map(|path| browser.get(path)).collect();
        for (answer, path) in seen.iter().zip(PAGES.iter().copied()) {
            let alone = path.split('?').next().unwrap_or_default();
            let to = match alone {
                "/" => "/sign-in".to_owned(),
                live if live.starts_with("/live/") => "/sign-in".to_owned(),
                page => {
                    let wanted: String = form_urlencoded::byte_serialize(page.as_bytes()).collect();
                    // What was escaped already is so once more.
                    format!("/sign-in?to={wanted}")
                }
            };
            assert_eq!(
                (answer.status, answer.header("location"), answer.body.as_str()),
                (303, to.as_str(), ""),
                "{path}"
            );
            is_guarded(answer, path);
        }
    }
    assert!(page.memory().asked.is_empty());
}

#[test]
fn a_form_counts_only_from_a_page_of_this_box() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let form = browser.get("/datasets/new");
    let fields = [("kind", "share"), ("name", "new"), ("dedup", "inline")];
    let stranger = Browser::signed_in(page.address, VIEWER).get("/jobs").token();
    let own = form.token();
    let cases: [(Option<&str>, &str, &str); 6] = [
        (Some("https://evil.example"), "", &own),
        (Some("null"), "", &own),
        (None, "", &own),
        (None, "cross-site", &own),
        (Some(""), "same-origin", &stranger),
        (Some(""), "same-origin", ""),
    ];
    let before = page.memory().asked.len();
    for (origin, site, token) in cases {
        browser.origin = origin.map(|origin| {
            if origin.is_empty() { format!("https://localhost:{}", page.address.port()) } else { origin.into() }
        });
        let body = format!("form={token}&kind=share&name=new&dedup=inline");
        let mut more: Vec<(&str, &str)> = Vec::new();
        let origin = browser.origin.clone();
        more.extend(origin.iter().map(|origin| ("Origin", origin.as_str())));
        more.extend(Some(("Sec-Fetch-Site", site)).filter(|(_, site)| !site.is_empty()));
        let answer = browser.send("POST", "/datasets/new", &body, &more);
        assert_eq!(answer.status, 403, "{origin:?} {site} {token}");
        is_guarded(&answer, "/datasets/new");
    }
    assert_eq!(page.memory().asked.len(), before, "nothing reached the box");
    let mut browser = Browser::signed_in(page.address, SESSION);
    assert_eq!(browser.submit(&form, "/datasets/new", &fields).header("location"), "/datasets/new?done=created");
    // Before sign-in the form's own cookie counts.
    let mut victim = Browser::new(page.address);
    let sign_in = victim.get("/sign-in");
    victim.cookies.insert("__Host-narrowboat-form".into(), "another".into());
    let refused = victim.submit(&sign_in, "/sign-in", &[("user", "admin"), ("password", PASSWORD)]);
    assert_eq!(refused.status, 403);
}

#[test]
fn what_was_typed_stands_there_when_a_form_comes_back() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let form = browser.get("/datasets/new");
    let long = "x".repeat(4096);
    let names =
        ["<script>alert('x')</script>", "\"quotes' & more", "مكتب القاهرة", "支店のバックアップ", "a\u{202e}b", &long];
    page.memory().refuses = Some(Failed::refused("a name has letters, digits and - _ . only"));
    for name in names {
        let answer = browser.submit(
            &form,
            "/datasets/new",
            &[("kind", "volume"), ("name", name), ("size", "10GB"), ("dedup", "off")],
        );
        assert_eq!(answer.status, 422, "{name}");
        let shown = name
            .replace('&', "&#38;")
            .replace('<', "&#60;")
            .replace('>', "&#62;")
            .replace('"', "&#34;")
            .replace('\'', "&#39;");
        assert!(answer.body.contains(&format!("name=\"name\" value=\"{shown}\"")), "{name}: {}", answer.body);
        assert!(
            answer.body.contains("A name has letters, digits and - _ . only.")
                && answer.body.contains("value=\"10GB\"")
        );
        let field = answer.between("<input id=\"name\"", ">");
        assert!(
            field.contains("aria-invalid=\"true\"") && field.contains("autofocus") && field.contains("name-wrong"),
            "{field}"
        );
        assert!(
            answer.between("id=\"dedup-off\"", ">").contains("checked")
                && answer.between("id=\"kind-volume\"", ">").contains("checked")
        );
        is_harmless(&answer, name);
    }
    page.memory().refuses = None;
    let empty = browser.submit(
        &form,
        "/datasets/new",
        &[("kind", "volume"), ("name", ""), ("size", "much"), ("dedup", "inline")],
    );
    assert!(
        empty.status == 422 && empty.body.contains("Give it a name") && empty.body.contains("no size"),
        "{}",
        empty.body
    );
    assert!(
        empty.between("<input id=\"name\"", ">").contains("autofocus")
            && !empty.between("<input id=\"size\"", ">").contains("autofocus")
    );
    let mut open = Browser::new(page.address);
    page.memory().claimed = false;
    let claim = open.get("/");
    let fields = [("code", "wrong"), ("user", "Zoë <b>"), ("password", PASSWORD), ("again", PASSWORD)];
    let answer = open.submit(&claim, "/claim", &fields);
    assert!(
        answer.status == 422
            && answer.body.contains("This is not the claim code.")
            && answer.body.contains("Zoë &#60;b&#62;")
    );
    assert!(!answer.body.contains(PASSWORD) && answer.between("<input id=\"code\"", ">").contains("value=\"wrong\""));
    let weak =
        open.submit(&claim, "/claim", &[("code", CODE), ("user", "a"), ("password", "short"), ("again", "short")]);
    assert!(
        weak.body.contains("id=\"password-wrong\"") && weak.body.contains("The password is too easy to guess."),
        "{}",
        weak.body
    );
}

#[test]
fn what_is_taken_away_is_asked_about_first() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let asks = browser.get("/datasets/office/delete");
    let wrong = browser.submit(&asks, "/datasets/office/delete", &[("typed", "offic")]);
    assert!(
        wrong.status == 422 && wrong.body.contains("nothing was deleted") && wrong.body.contains("value=\"offic\"")
    );
    assert!(page.memory().asked.iter().all(|asked| asked["request"] == "status"));
    let right = browser.submit(&asks, "/datasets/office/delete", &[("typed", "office")]);
    assert_eq!(right.header("location"), "/datasets?done=deleted");
    assert_eq!(page.asked(), serde_json::json!({ "request": "dataset-delete", "name": "office" }));
    let name = "/datasets/office/snapshots/2026-11-19T13-00-00.000Z";
    let asks = browser.get(&format!("{name}/delete"));
    assert_eq!(browser.submit(&asks, &format!("{name}/delete"), &[]).status, 303);
    assert_eq!(page.asked()["snapshot"], "office@2026-11-19T13-00-00.000Z");
    browser.submit(&asks, &format!("{name}/hold"), &[("held", "yes")]);
    assert_eq!(
        page.asked(),
        serde_json::json!({ "request": "snapshot-hold", "snapshot": "office@2026-11-19T13-00-00.000Z", "held": true })
    );
    browser.submit(&asks, "/datasets/office/copies", &[("peer", "head-office"), ("often", "6h"), ("hours", "")]);
    let plan = page.asked();
    assert_eq!(
        (plan["request"].as_str(), plan["seconds"].as_u64(), plan["hours"].as_str()),
        (Some("plan-set"), Some(21_600), Some("always"))
    );
    assert_eq!(browser.get("/datasets/nowhere").status, 404);
}

#[test]
fn who_only_looks_is_shown_no_buttons_and_told_so() {
    let page = Page::claimed();
    let mut viewer = Browser::signed_in(page.address, VIEWER);
    let dataset = viewer.get("/datasets/office");
    assert_eq!(dataset.status, 200);
    assert!(
        !dataset.body.contains("Make a snapshot")
            && !dataset.body.contains("Delete this dataset")
            && !dataset.body.contains("/users")
    );
    let answer = viewer.submit(&dataset, "/datasets/office/snapshots", &[("snapshot", "mine")]);
    assert!(answer.status == 403 && answer.body.contains("A viewer changes nothing."), "{}", answer.body);
}

#[test]
fn what_is_not_there_is_a_page_that_says_so() {
    let page = Page::claimed();
    let mut browser = Browser::new(page.address);
    for (method, path, status) in [
        ("GET", "/nothing", 404),
        ("GET", "/datasets/a/b/c", 404),
        ("PUT", "/", 405),
        ("GET", "/sign-out", 405),
        ("GET", "/%ff", 404),
        ("GET", "/datasets/%ff", 404),
        ("GET", "/datasets/a/snapshots/%ff/delete", 404),
        ("POST", "/jobs/first/cancel", 404),
        ("GET", "/assets/%ff/page.css", 404),
    ] {
        let answer = browser.send(method, path, "", &[]);
        assert!(answer.status == status && answer.body.contains("<main id=\"main\""), "{path}: {}", answer.status);
        is_guarded(&answer, path);
    }
    let long = "x=".to_owned() + &"y".repeat(70_000);
    assert_eq!(
        browser
            .send("POST", "/sign-in", &long, &[("Origin", &format!("https://localhost:{}", page.address.port()))])
            .status,
        413
    );
    assert!(page.memory().asked.is_empty());
}

#[test]
fn a_page_is_light_and_its_files_are_kept() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    let overview = browser.get("/");
    let mut weight = overview.body.len();
    for part in overview.body.split(['"']).filter(|part| part.starts_with("/assets/")) {
        let file = browser.get(part);
        assert_eq!(file.status, 200, "{part}");
        is_guarded(&file, part);
        weight += file.body.len();
        assert_eq!(browser.get(&part.replace("/assets/", "/assets/0")).status, 404, "another version");
    }
    assert!((20_000..150_000).contains(&weight), "{weight} bytes");
}

#[test]
fn a_hundred_who_look_cost_one_question_every_two_seconds() {
    let page = Page::claimed();
    page.memory().thinks = Duration::from_millis(100);
    let begun = Instant::now();
    let rounds: Vec<_> = (0..10)
        .map(|_| {
            let address = page.address;
            std::thread::spawn(move || {
                let mut browser = Browser::signed_in(address, SESSION);
                (0..10).for_each(|_| assert_eq!(browser.get("/live/overview").status, 200));
            })
        })
        .collect();
    rounds.into_iter().for_each(|round| round.join().expect("all were answered"));
    let most = begun.elapsed().as_secs() as usize / 2 + 1;
    let asked = page.memory().asked.len();
    assert!((1..=most).contains(&asked), "{asked} in {:?}", begun.elapsed());
    // Whoever changes something sees it at once.
    let mut browser = Browser::signed_in(page.address, SESSION);
    let form = browser.get("/datasets/new");
    browser.submit(&form, "/datasets/new", &[("kind", "share"), ("name", "brand-new"), ("dedup", "inline")]);
    assert!(browser.get("/").body.contains("brand-new"));
}

#[test]
fn whoever_forgets_the_s_is_sent_to_the_right_address() {
    let page = Page::claimed();
    let mut stream = TcpStream::connect(page.address).expect("a page");
    stream.write_all(b"GET /?secret HTTP/1.1\r\nHost: box.local:8443\r\n\r\n").expect("a page that listens");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 307") && text.contains("Location: https://box.local:8443/\r\n"), "{text}");
}

#[test]
fn nobody_holds_more_connections_than_his_share_nor_for_longer() {
    let page = Page::claimed();
    let silent: Vec<TcpStream> = (0..15).map(|_| TcpStream::connect(page.address).expect("a page")).collect();
    // The sixteenth is a page's, whose head never ends.
    let mut slow = connect(page.address);
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").expect("a page that listens");
    let begun = Instant::now();
    let mut one_more = TcpStream::connect(page.address).expect("a connection, which is closed at once");
    one_more.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
    let closed = one_more.read(&mut [0]);
    assert!(matches!(closed, Ok(0)) || closed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(40))).expect("a time-out");
        assert_eq!(stream.read(&mut [0]).expect("it is closed"), 0);
    }
    assert!(begun.elapsed() > Duration::from_secs(8), "a handshake has its time");
    assert!(read(&mut slow).status != 200 && begun.elapsed() < Duration::from_secs(45));
    assert_eq!(Browser::new(page.address).get("/sign-in").status, 200, "others are served again");
}

#[test]
fn the_worker_gives_everything_away_and_ends_with_its_box() {
    let mut page = Page::claimed();
    assert_eq!(Browser::new(page.address).get("/sign-in").status, 200);
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", page.worker.id())).expect("a process");
    let status = file("status");
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Threads:\t1"), "{status}");
    let limits = file("limits");
    let limit = |name: &str| {
        limits
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|rest| rest.split_whitespace().next().unwrap_or_default().to_owned())
    };
    assert_eq!(
        (limit("Max core file size").as_deref(), limit("Max processes").as_deref()),
        (Some("0"), Some("0")),
        "{limits}"
    );
    page.end_box();
    let deadline = Instant::now() + Duration::from_secs(20);
    while page.worker.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "it outlives its box");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_has_the_box_end_is_still_told_so() {
    let page = Page::claimed();
    let mut browser = Browser::signed_in(page.address, SESSION);
    assert_eq!(browser.get("/datasets").status, 200);
    // Long enough for the end to come in between.
    page.memory().thinks = Duration::from_secs(1);
    let asks = std::thread::spawn(move || browser.get("/system"));
    std::thread::sleep(Duration::from_millis(300));
    page.end_box();
    let answer = asks.join().expect("an answer");
    assert!(answer.status == 503 || answer.status == 200, "{} {}", answer.status, answer.body);
    assert!(answer.body.contains("</html>"), "it is whole: {}", answer.body);
}

/// For a look with a browser: the page of a made-up office, for as many seconds as `PAGE_SECONDS` says. Its port goes to standard output.
#[test]
#[ignore = "for people"]
fn look() {
    let page = if std::env::var_os("PAGE_UNCLAIMED").is_some() { Page::start() } else { Page::claimed() };
    println!("PORT {} PID {}", page.address.port(), page.worker.id());
    let seconds = std::env::var("PAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    std::thread::sleep(Duration::from_secs(seconds));
}
