#![recursion_limit = "256"]
//! The interface for programs: on a real box, by each role; and with a made-up one, that fails in every way.

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod browser;
mod common;
#[path = "page/fake.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod fake;
#[path = "page/office.rs"]
mod office;
#[path = "page/program.rs"]
mod program;
#[path = "page/sample.rs"]
mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use browser::Browser;
use common::{Served, data_folder, facts, until};
use fake::{Page, SESSION, TOKEN, VIEWER_TOKEN};
use narrowboat::control::reports::Status;
use narrowboat::control::{Failed, Request};
use program::{Program, good, problem};
use serde_json::{Map, Value, json};

const GOOD: &str = "Tram 12 smells of rye bread";

/// A box with a page, claimed, and a token of each role.
struct Box_ {
    served: Served,
    address: SocketAddr,
    tokens: [String; 3],
    _folder: tempfile::TempDir,
}

const ROLES: [&str; 3] = ["viewer", "operator", "administrator"];

impl Box_ {
    fn start() -> Box_ {
        let folder = tempfile::tempdir().expect("a folder");
        let data = with_page(folder.path());
        let served = Served::start(&data);
        let address = facts(&data, &["status"])["page"].as_str().and_then(|text| text.parse().ok()).expect("a page");
        let mut browser = Browser::new(address);
        let claim = browser.get("/claim");
        let code = facts(&data, &["account", "claim"])["code"].as_str().expect("a code").to_owned();
        let fields = [("code", &code[..]), ("user", "anna"), ("password", GOOD), ("again", GOOD)];
        assert_eq!(browser.submit(&claim, "/claim", &fields).status, 303);
        let tokens = ROLES.map(|role| {
            let security = browser.get("/security");
            let made =
                browser.submit(&security, "/security/tokens", &[("label", role), ("role", role), ("days", "30")]);
            format!("narrowboat_{}", made.between("narrowboat_", "<"))
        });
        Box_ { served, address, tokens, _folder: folder }
    }

    /// A program with a token of this role.
    fn program(&self, role: &str) -> Program {
        let place = ROLES.iter().position(|known| *known == role).expect("a role");
        Program::new(self.address, &self.tokens[place])
    }
}

fn with_page(folder: &Path) -> PathBuf {
    let data = data_folder(folder, "box");
    let tls = format!("{}/tests/tls", env!("CARGO_MANIFEST_DIR"));
    let page = format!("listen = '127.0.0.1:0'\ncertificate_file = '{tls}/server.pem'\nkey_file = '{tls}/server.key'");
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, config.replace("[page]\nlisten = ''", &format!("[page]\n{page}"))).expect("written");
    data
}

fn names(page: &Value, field: &str) -> Vec<String> {
    page["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item[field].as_str().expect("text").to_owned())
        .collect()
}

/// Something that fits a schema of an input.
fn example(schema: &Value) -> Value {
    let mut fields = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let property = &schema["properties"][name];
        let choice = property["oneOf"][0]["const"].as_str().or(property["enum"][0].as_str());
        let plain = match property["type"].as_str() {
            Some("integer") => json!(1),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => json!(choice.unwrap_or("nothing")),
        };
        fields.insert(name.into(), plain);
    }
    Value::Object(fields)
}

#[test]
fn each_role_is_kept_from_what_it_may_not() {
    let box_ = Box_::start();
    let document = good(&Program::new(box_.address, "").get("/openapi.json"));
    let mut refused = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "7").replace(['{', '}'], "");
        for (method, operation) in methods.as_object().expect("methods") {
            let method = method.to_uppercase();
            let needed = ROLES.iter().position(|role| operation["x-narrowboat-role"] == *role).expect("a role");
            let mut body = example(&operation["requestBody"]["content"]["application/json"]["schema"]);
            match operation["operationId"].as_str() {
                Some("changeLimit" | "changePeerLimit") => body["rate"] = json!("1Mbit"),
                Some("setWindow") => body["seconds"] = json!(60),
                _ => {}
            }
            let send = |program: &Program| match method == "GET" || method == "DELETE" {
                true => program.send(&method, &format!("/api/v1{path}"), &[], b""),
                false => program.json(&method, &path, &body),
            };
            for role in &ROLES[..needed] {
                let answer = send(&box_.program(role));
                assert_eq!(problem(&answer), (403, "forbidden".into(), None), "{role}: {method} {path} {body}");
                refused += 1;
            }
            // Nobody, and somebody who shows a session as browsers do.
            assert_eq!(problem(&send(&Program::new(box_.address, ""))).0, 401, "{method} {path}");
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn what_an_office_needs_is_done_by_a_program() {
    let box_ = Box_::start();
    let (viewer, operator, admin) = (box_.program("viewer"), box_.program("operator"), box_.program("administrator"));
    assert_eq!(good(&viewer.get("/whoami")), json!({ "user": "anna", "role": "viewer", "second_factor": false }));

    let new = |name: &str| json!({ "name": name, "kind": "share" });
    let made = admin.post("/datasets", &new("office"));
    assert_eq!((made.status, &good(&made)["dedup"]), (201, &json!("inline")));
    let disk = json!({ "name": "disk", "kind": "volume", "size": 16 << 20, "dedup": "off" });
    assert_eq!(good(&admin.post("/datasets", &disk))["kind"], "volume");
    assert_eq!(good(&admin.json("PATCH", "/datasets/disk", &json!({ "size": 32 << 20 })))["logical_bytes"], 32 << 20);
    assert_eq!(problem(&admin.post("/datasets", &new("office"))).1, "exists");
    let sized = json!({ "name": "other", "kind": "share", "size": 1 });
    assert_eq!(problem(&admin.post("/datasets", &sized)), (422, "refused".into(), Some("size".into())));
    assert_eq!(good(&viewer.get("/datasets/office"))["name"], "office");
    assert_eq!(names(&good(&viewer.get("/datasets")), "name"), ["disk", "office"]);

    let snapshots = "/datasets/office/snapshots";
    for name in ["monday", "tuesday", "über morgen"] {
        assert_eq!(good(&operator.post(snapshots, &json!({ "name": name })))["name"], name);
    }
    let first = good(&viewer.get(&format!("{snapshots}?limit=2")));
    assert_eq!(names(&first, "name"), ["monday", "tuesday"]);
    let second = good(&viewer.get(&format!("{snapshots}?limit=2&cursor={}", first["next"].as_str().expect("more"))));
    assert_eq!((names(&second, "name"), &second["next"]), (vec!["über morgen".to_owned()], &Value::Null));
    let one = format!("{snapshots}/%C3%BCber%20morgen");
    assert_eq!(good(&viewer.get(&one))["dataset"], "office");
    assert_eq!(good(&operator.json("PUT", &format!("{one}/hold"), &json!({})))["held"], true);
    assert_eq!(problem(&admin.delete(&one)).0, 422, "it is held");
    assert_eq!(good(&admin.delete(&format!("{one}/hold")))["held"], false);
    good(&admin.delete(&one));
    assert_eq!(problem(&viewer.get(&one)), (404, "missing".into(), None));
    assert_eq!(names(&good(&viewer.get("/quarantine/snapshots")), "name"), ["über morgen"]);
    let back = "/quarantine/datasets/office/snapshots/%C3%BCber%20morgen/undelete";
    good(&operator.post(back, &json!({ "name": "wednesday" })));
    assert_eq!(good(&viewer.get("/quarantine/preview"))["preview"], true);
    good(&admin.json("PUT", &format!("{snapshots}/monday/lock"), &json!({ "seconds": 3600 })));
    assert_eq!(problem(&admin.delete(&format!("{snapshots}/monday"))).0, 422, "it is locked");
    let changes = good(&viewer.get("/datasets/office/changes?from=monday&to=tuesday"));
    assert_eq!((&changes["changes"], &changes["next"]), (&json!([]), &Value::Null));

    let windows = admin.json("PUT", "/datasets/office/window", &json!({ "seconds": 3600 }));
    assert_eq!(good(&windows)["window"]["asked_seconds"], 3600);
    assert!(good(&viewer.get("/datasets/office/timeline"))["moments"].as_array().is_some_and(|all| all.len() == 3));
    let marked = operator.post("/marks", &json!({ "name": "noon", "datasets": ["office"] }));
    assert_eq!(good(&marked)["consistency"], "crash");
    let cloned = operator.post("/datasets/office/clones", &json!({ "name": "copy", "at": "tuesday" }));
    assert_eq!(good(&cloned)["name"], "copy");
    assert_eq!(problem(&operator.post("/datasets/office/clones", &json!({ "name": "c2", "at": "never" }))).0, 404);
    assert_eq!(problem(&admin.post("/datasets/copy/rewind", &json!({ "to": "noon" }))).0, 404, "a mark of another one");
    let rewound = good(&admin.post("/datasets/office/rewind", &json!({ "to": "noon" })));
    assert_eq!(rewound["dataset"], "office");

    let rules = json!({ "last": 1 });
    let preview = good(&viewer.post("/datasets/office/retention/preview", &rules));
    assert!(preview["snapshots"].as_array().is_some_and(|all| all.len() >= 4), "{preview}");
    assert_eq!(problem(&viewer.get("/datasets/office/retention")).0, 404, "a preview sets nothing");
    assert_eq!(problem(&admin.json("PUT", "/datasets/office/retention", &json!({}))).0, 422, "everything would go");
    good(&admin.json("PUT", "/datasets/office/retention", &json!({ "last": 100 })));
    assert_eq!(names(&good(&viewer.get("/retention")), "dataset"), ["office"]);
    assert!(good(&viewer.get("/datasets/office/retention?limit=1"))["next"].is_string());
    good(&admin.delete("/datasets/office/retention"));

    good(&admin.json("PUT", "/datasets/office/lock", &json!({ "seconds": 60 })));
    assert_eq!(good(&viewer.get("/locks"))["items"][0]["seconds"], 60);
    good(&admin.delete("/datasets/office/lock"));

    good(&admin.delete("/datasets/copy"));
    assert_eq!(names(&good(&viewer.get("/quarantine/datasets")), "name"), ["copy"]);
    good(&operator.post("/quarantine/datasets/copy/undelete", &json!({})));
    assert_eq!(names(&good(&viewer.get("/datasets")), "name"), ["copy", "disk", "office"]);
}

#[test]
fn the_box_is_looked_after_by_a_program() {
    let box_ = Box_::start();
    let (viewer, operator, admin) = (box_.program("viewer"), box_.program("operator"), box_.program("administrator"));
    assert_eq!(good(&viewer.get("/status"))["name"], "box");
    assert!(good(&viewer.get("/trends?span=days"))["points"].is_array());
    assert_eq!(problem(&viewer.get("/trends?span=weeks")).2.as_deref(), Some("span"));
    assert_eq!(problem(&viewer.get("/trends")).2.as_deref(), Some("span"));

    assert_eq!(good(&operator.json("PATCH", "/limit", &json!({ "rate": "20Mbit" })))["limit"], 20_000_000);
    assert_eq!(good(&viewer.get("/limit?receive=false"))["limit"], 20_000_000);
    assert_eq!(good(&viewer.get("/limits"))["whole"]["limit"], 20_000_000);
    assert_eq!(problem(&operator.json("PATCH", "/limit", &json!({}))).2.as_deref(), Some("rate"));
    assert_eq!(problem(&operator.json("PATCH", "/limit", &json!({ "rate": "fast" }))).0, 422);
    assert_eq!(problem(&viewer.get("/peers/nobody/limit")).0, 404);

    assert_eq!(good(&viewer.get("/peers")), json!({ "items": [], "next": null }));
    assert_eq!(good(&viewer.get("/refusals"))["items"], json!([]));
    assert!(good(&admin.post("/invitations", &json!({})))["code"].is_string());
    assert_eq!(problem(&admin.delete("/peers/nobody")).0, 404);
    let plan = json!({ "seconds": 3600 });
    assert_eq!(problem(&admin.json("PUT", "/datasets/nothing/plans/nobody", &plan)).0, 404);
    assert_eq!(problem(&operator.json("PUT", "/datasets/nothing/plans/nobody/pause", &json!({}))).0, 404);
    assert_eq!(good(&viewer.get("/plans"))["items"], json!([]));
    assert_eq!(problem(&operator.post("/replications", &json!({ "dataset": "a", "peer": "b" }))).0, 404);
    assert_eq!(problem(&viewer.get("/replications/77")).0, 404);
    assert_eq!(problem(&viewer.get("/replications/last")), (400, "bad-request".into(), Some("id".into())));
    assert_eq!(problem(&operator.delete("/replications/77")).0, 404);

    good(&operator.json("PUT", "/scrub/pause", &json!({})));
    assert_eq!(good(&viewer.get("/scrub"))["state"], "paused");
    good(&operator.delete("/scrub/pause"));
    good(&operator.post("/scrub/start", &json!({})));

    assert_eq!(good(&viewer.get("/settings"))["pending"], false);
    good(&admin.json("PATCH", "/settings", &json!({ "changes": { "name": "depot" } })));
    assert_eq!(good(&viewer.get("/settings"))["pending"], true);
    let wrong = admin.json("PATCH", "/settings", &json!({ "changes": { "nmae": "depot" } }));
    assert_eq!(problem(&wrong), (422, "refused".into(), Some("nmae".into())));

    let user = json!({ "user": "bert", "role": "operator", "password": "Nine blue ladders, one goat" });
    assert_eq!(admin.post("/users", &user).status, 201);
    assert_eq!(names(&good(&admin.get("/users")), "user"), ["anna", "bert"]);
    let weak = json!({ "user": "carla", "role": "viewer", "password": "password1234" });
    assert_eq!(problem(&admin.post("/users", &weak)), (422, "refused".into(), Some("password".into())));
    good(&admin.delete("/users/bert"));
    assert_eq!(problem(&admin.delete("/users/bert")).0, 404);

    let first = good(&admin.get("/audit?limit=3"));
    let numbers = |page: &Value| -> Vec<u64> {
        page["items"].as_array().expect("a list").iter().map(|entry| entry["n"].as_u64().expect("a number")).collect()
    };
    let second = good(&admin.get(&format!("/audit?limit=1000&cursor={}", first["next"].as_str().expect("more"))));
    let all = [numbers(&first), numbers(&second)].concat();
    assert!(all.len() > 10 && all.windows(2).all(|two| two[0] == two[1] + 1), "{all:?}");
    assert_eq!(second["next"], Value::Null);
    assert!(first["items"][0]["by"].as_str().is_some_and(|by| by.starts_with("token ")));
    let log = box_.served.log();
    assert!(!log.contains(GOOD) && box_.tokens.iter().all(|token| !log.contains(token)));
}

#[test]
fn a_token_ends_and_a_session_is_none() {
    let box_ = Box_::start();
    let (viewer, operator) = (box_.program("viewer"), box_.program("operator"));
    good(&box_.program("administrator").post("/datasets", &json!({ "name": "office", "kind": "share" })));
    // What is sent twice is done once; without a name, each snapshot would be one more.
    let send =
        |body: &Value| operator.keyed("POST", "/datasets/office/snapshots", body, &[("Idempotency-Key", "4711")]);
    let (first, again) = (send(&json!({})), send(&json!({})));
    assert_eq!((first.status, &first.body), (201, &again.body));
    assert_eq!(good(&viewer.get("/snapshots"))["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(problem(&send(&json!({ "name": "other" }))).1, "key-reused");

    let mut browser = Browser::new(box_.address);
    let sign_in = browser.get("/sign-in");
    browser.submit(&sign_in, "/sign-in", &[("user", "anna"), ("password", GOOD), ("code", "")]);
    let session = browser.cookies.get("__Host-narrowboat").expect("a session").clone();
    assert_eq!(problem(&browser.send("GET", "/api/v1/status", "", &[])).0, 401, "a cookie proves nothing here");
    assert_eq!(problem(&Program::new(box_.address, &session).get("/status")).0, 401, "nor does it in a token's place");

    let page = browser.get("/security");
    let id = box_.tokens[1].split('_').nth(1).expect("an id");
    browser.submit(&page, "/security/tokens/remove", &[("id", id)]);
    assert_eq!(problem(&operator.get("/status")).0, 401);
    assert_eq!(problem(&send(&json!({}))).0, 401, "nor is an answer that was kept told again");
    good(&viewer.get("/status"));
}

#[test]
fn whoever_watches_is_told_what_the_page_says() {
    let box_ = Box_::start();
    let viewer = box_.program("viewer");
    good(&box_.program("administrator").post("/datasets", &json!({ "name": "office", "kind": "share" })));
    let metrics = viewer.send("GET", "/metrics", &[], b"");
    assert_eq!((metrics.status, metrics.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    let served: BTreeSet<(&str, &str)> =
        metrics.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let page = fs::read_to_string(format!("{}/../docs/metrics.md", env!("CARGO_MANIFEST_DIR"))).expect("a page");
    let told: BTreeSet<(&str, &str)> = page
        .lines()
        .filter(|line| line.starts_with("| `narrowboat_"))
        .map(|row| {
            let mut cells = row.split('|').map(str::trim).skip(1);
            (cells.next().expect("a name").trim_matches('`'), cells.next().expect("a type"))
        })
        .collect();
    assert_eq!(served, told);
    assert!(metrics.body.contains("\nnarrowboat_dataset_snapshots{dataset=\"office\"} 0\n"), "{}", metrics.body);
    for line in metrics.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let known = served.iter().any(|(own, _)| name.split('{').next() == Some(own));
        assert!(known && value.parse::<f64>().is_ok(), "{line}");
    }
    assert_eq!(problem(&Program::new(box_.address, "").send("GET", "/metrics", &[], b"")).0, 401);
    let health = |method: &str| Program::new(box_.address, "").send(method, "/health", &[], b"");
    assert_eq!((health("GET").status, &health("GET").body[..], health("HEAD").status), (200, "ok\n", 200));
    assert_eq!(problem(&health("POST")).0, 405);
}

/// A method, an address, a head and a body; the status that they are answered with, and what the problem is called.
type Wrong<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[test]
fn every_way_to_go_wrong_is_a_problem() {
    let page = Page::claimed();
    let admin = Program::new(page.address, TOKEN);
    let create = json!({ "name": "new", "kind": "share" });
    assert_eq!(admin.post("/datasets", &create).status, 201);
    let before = page.memory().calls;
    let json = [("Content-Type", "application/json")];
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(40 << 10));
    let cases: [Wrong<'_>; 20] = [
        ("GET", "/api/v1/nothing", &[], b"", 404, "no-operation"),
        ("GET", "/api/", &[], b"", 404, "no-operation"),
        ("GET", "/api/v2/datasets", &[], b"", 404, "no-operation"),
        ("GET", "/api/v1/datasets/%ff", &[], b"", 400, "bad-request"),
        ("GET", "/api/v1/datasets/a%40b", &[], b"", 404, "missing"),
        ("PUT", "/api/v1/datasets", &[], b"", 405, "no-method"),
        ("POST", "/api/v1/openapi.json", &[], b"", 405, "no-method"),
        ("GET", "/api/v1/datasets?limit=0", &[], b"", 400, "bad-request"),
        ("GET", "/api/v1/datasets?cursor=zz", &[], b"", 400, "bad-request"),
        ("GET", "/api/v1/datasets?what=1", &[], b"", 400, "bad-request"),
        ("GET", "/api/v1/limit?receive=maybe", &[], b"", 400, "bad-request"),
        ("GET", "/api/v1/status?a=1&a=2", &[], b"", 400, "bad-request"),
        ("POST", "/api/v1/datasets", &json, b"{\"name\":", 400, "bad-request"),
        ("POST", "/api/v1/datasets", &json, b"[]", 400, "bad-request"),
        ("POST", "/api/v1/datasets", &json, b"{\"name\":\"a\",\"kind\":\"tape\"}", 400, "bad-request"),
        ("POST", "/api/v1/datasets", &json, b"\xff\xfe", 400, "bad-request"),
        ("POST", "/api/v1/datasets", &[], b"{}", 415, "not-json"),
        ("POST", "/api/v1/datasets", &[("Content-Type", "text/plain")], b"{}", 415, "not-json"),
        ("POST", "/api/v1/datasets", &json, long.as_bytes(), 413, "too-large"),
        ("POST", "/api/v1/scrub/start", &[("Idempotency-Key", "two words")], b"", 400, "bad-request"),
    ];
    for (method, path, headers, body, status, name) in cases {
        let answer = admin.send(method, path, headers, body);
        assert_eq!((problem(&answer).0, &problem(&answer).1[..]), (status, name), "{method} {path}: {}", answer.body);
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(admin.send("PUT", "/api/v1/datasets", &[], b"").header("allow"), "GET, POST, HEAD");
    for wrong in ["", "narrowboat_a_\"", SESSION] {
        assert_eq!(problem(&Program::new(page.address, wrong).get("/status")).0, 401, "{wrong}");
    }
    assert_eq!(page.memory().calls, before, "nothing of it reached the box");
    assert_eq!(problem(&Program::new(page.address, "narrowboat_made_up").get("/status")).0, 401);
    assert_eq!(problem(&Program::new(page.address, VIEWER_TOKEN).post("/datasets", &create)).0, 403);

    for (kind, status, again) in [
        ("refused", 422, ""),
        ("link", 502, ""),
        ("damage", 500, ""),
        ("environment", 503, "10"),
        ("busy", 503, "1"),
        ("wait", 429, "1"),
        ("slow", 504, ""),
    ] {
        page.memory().refuses = Some(Failed { field: Some("name".into()), ..Failed::of(kind, "so it is told") });
        let answer = admin.post("/datasets", &create);
        assert_eq!((problem(&answer).0, problem(&answer).2.as_deref()), (status, Some("name")), "{kind}");
        assert_eq!(answer.header("retry-after"), again, "{kind}");
        assert!(answer.body.contains("So it is told."));
    }
}

#[test]
fn what_the_box_had_no_time_for_may_be_sent_again() {
    let page = Page::claimed();
    let admin = Program::new(page.address, TOKEN);
    let send = |key: &str| {
        let body = json!({ "name": "new", "kind": "share" });
        admin.keyed("POST", "/datasets", &body, &[("Idempotency-Key", key)])
    };
    page.memory().refuses = Some(Failed::of("busy", "the box has much to do"));
    assert_eq!(problem(&send("a")).0, 503);
    page.memory().refuses = None;
    assert_eq!(send("a").status, 201, "nothing was begun: the key is free");
    page.memory().refuses = Some(Failed::of("link", "it broke off"));
    assert_eq!(send("a").status, 201, "and now it is told again");
    assert_eq!(problem(&send("b")).0, 502);
    page.memory().refuses = None;
    assert_eq!(problem(&send("b")).0, 502, "something may have been done");
    let created = page.memory().asked.iter().filter(|asked| asked["request"] == "share-create").count();
    assert_eq!(created, 3);
}

#[test]
fn one_token_asks_eight_things_at_once() {
    let page = Page::claimed();
    page.memory().thinks = Duration::from_secs(2);
    let address = page.address;
    let send = |_| std::thread::spawn(move || Program::new(address, TOKEN).get("/status").status);
    let threads: Vec<_> = (0..10).map(send).collect();
    let told: Vec<u16> = threads.into_iter().map(|thread| thread.join().expect("an answer")).collect();
    let count = |wanted: u16| told.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(200), count(429)), (8, 2), "{told:?}");
    page.memory().thinks = Duration::ZERO;
    assert_eq!(Program::new(page.address, TOKEN).get("/status").status, 200);
}

#[test]
fn a_box_that_does_not_answer_is_not_well() {
    let page = Page::claimed();
    let health = || Program::new(page.address, "").send("GET", "/health", &[], b"");
    page.memory().thinks = Duration::from_secs(8);
    let silent = health();
    assert_eq!((silent.status, &silent.body[..]), (503, "silent\n"));
    page.memory().thinks = Duration::ZERO;
    assert_eq!(health().body, "silent\n", "it is not asked for each that asks");
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(health().body, "ok\n");
    page.memory().failing = true;
    std::thread::sleep(Duration::from_millis(2100));
    let failing = health();
    assert_eq!((failing.status, &failing.body[..]), (503, "failing\n"));
}

#[test]
fn people_read_what_there_is() {
    let page = Page::claimed();
    let open = Browser::new(page.address).get("/api");
    assert_eq!(open.status, 200);
    for told in ["curl ", "/api/v1/datasets/{dataset}/snapshots", "Makes a snapshot.", "/api/v1/openapi.json"] {
        assert!(open.body.contains(told), "{told}");
    }
    assert!(Browser::signed_in(page.address, SESSION).get("/api").body.contains("Sign out"));
}

#[test]
fn a_key_counts_after_a_restart_of_the_box() {
    let box_ = Box_::start();
    let admin = box_.program("administrator");
    good(&admin.post("/datasets", &json!({ "name": "office", "kind": "share" })));
    let send = |admin: &Program, body: &Value| {
        admin.keyed("POST", "/datasets/office/snapshots", body, &[("Idempotency-Key", "4711")])
    };
    let first = send(&admin, &json!({}));
    assert_eq!(first.status, 201);
    let data = box_.served.data.clone();
    facts(&data, &["restart"]);
    until("it has started again", || box_.served.log().matches("replayed=").count() == 2);
    until("it answers", || box_.served.ask::<Status>(&Request::Status).is_ok());
    // The system gives it another port.
    let address = facts(&data, &["status"])["page"].as_str().and_then(|text| text.parse().ok()).expect("a page");
    let admin = Program::new(address, &box_.tokens[2]);
    until("its page answers", || std::net::TcpStream::connect(address).is_ok());
    let again = send(&admin, &json!({}));
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(good(&admin.get("/snapshots"))["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(problem(&send(&admin, &json!({ "name": "other" }))).1, "key-reused");
}

#[test]
fn a_token_that_asks_too_fast_is_told_when_to_come_again() {
    let page = Page::claimed();
    let address = page.address;
    let ask = move |token: &'static str| {
        let answer = Program::new(address, token).get("/limits?x=1");
        (answer.status, answer.header("retry-after").to_owned())
    };
    // In threads: a connection each takes its time.
    let threads: Vec<_> =
        (0..6).map(|_| std::thread::spawn(move || (0..200).map(|_| ask(TOKEN)).collect::<Vec<_>>())).collect();
    let told: Vec<(u16, String)> = threads
        .into_iter()
        .flat_map(|thread| thread.join().expect("answers"))
        .filter(|(status, _)| *status == 429)
        .collect();
    assert!(!told.is_empty() && told.iter().all(|(_, again)| again == "1"), "{}", told.len());
    assert_eq!(ask(VIEWER_TOKEN).0, 400, "nobody else waits");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ask(TOKEN).0, 400, "it may come again");
}

#[test]
fn what_takes_long_is_begun_and_looked_at() {
    let box_ = Box_::start();
    let (viewer, operator, admin) = (box_.program("viewer"), box_.program("operator"), box_.program("administrator"));
    assert_eq!(good(&viewer.get("/check")), json!({ "running": null, "last": null }));
    good(&operator.post("/check", &json!({ "deep": true })));
    assert_eq!(problem(&operator.post("/check", &json!({}))), (422, "refused".into(), None), "one at a time");
    until("it has ended", || good(&viewer.get("/check"))["running"].is_null());
    let last = good(&viewer.get("/check"))["last"].clone();
    assert_eq!(
        (&last["report"]["sound"], &last["report"]["deep"], &last["error"]),
        (&true.into(), &true.into(), &Value::Null),
        "{last}"
    );
    good(&admin.post("/reclaim", &json!({})));
    until("a run has ended", || !good(&viewer.get("/reclaim"))["last"].is_null());
    assert_eq!(good(&admin.get("/notices"))["ways"], json!([]));
    assert_eq!(problem(&admin.post("/notices/test", &json!({}))).1, "refused");
    assert!(good(&operator.get("/log?newest=5")).as_array().is_some_and(|lines| lines.len() <= 5));
    assert!(good(&admin.get("/disks"))["folder"].as_str().is_some_and(|folder| folder.ends_with("box")));
    assert_eq!(good(&admin.get("/set-up"))["applying"], false);
    let wrong = json!({ "set_up": 1, "time_zone": "Europe/Bonn" });
    assert_eq!(problem(&admin.post("/set-up", &wrong)), (422, "refused".into(), Some("time_zone".into())));
    assert_eq!(problem(&admin.post("/set-up", &json!({ "set_up": 1, "nmae": "x" }))).0, 400);
    let set_up = json!({ "set_up": 1, "dataset": [{ "name": "made", "keep": { "daily": 7 } }] });
    let begun = good(&admin.post("/set-up", &set_up));
    assert_eq!((&begun["restarting"], &begun["outcomes"][0]["problem"]), (&false.into(), &Value::Null), "{begun}");
    assert_eq!(good(&viewer.get("/datasets/made"))["kind"], "share");
}

/// For schemathesis (`make api-fuzz`): a real box, and the program that `NARROWBOAT_API_FUZZ` names, with what stands behind it, as the one who asks. It is told
/// by the environment where the box is and what its token is.
#[test]
#[ignore = "wants schemathesis, and minutes"]
fn a_fuzzer_finds_nothing() {
    let box_ = Box_::start();
    let admin = box_.program("administrator");
    good(&admin.post("/datasets", &json!({ "name": "office", "kind": "share" })));
    good(&admin.post("/datasets", &json!({ "name": "disk", "kind": "volume", "size": 16 << 20 })));
    for name in ["monday", "tuesday"] {
        good(&admin.post("/datasets/office/snapshots", &json!({ "name": name })));
    }
    // A peer that is there: what is about one is answered by the line, and not by its absence.
    let hub = data_folder(box_.served.data.parent().expect("a folder"), "hub");
    let hub_box = Served::start(&hub);
    let invited = facts(&hub, &["peer", "invite"]);
    let join = json!({ "code": invited["code"], "address": invited["listen"] });
    good(&admin.post("/peers", &join));
    good(&admin.json("PUT", "/datasets/office/plans/hub", &json!({ "seconds": 3600 })));
    let command = std::env::var("NARROWBOAT_API_FUZZ").expect("`make api-fuzz` says which");
    let mut words = command.split_whitespace();
    let status = std::process::Command::new(words.next().expect("a program"))
        .args(words)
        .env("API_URL", format!("https://localhost:{}/api/v1", box_.address.port()))
        .env("API_TOKEN", &box_.tokens[2])
        .env("API_CA", format!("{}/tests/tls/ca.pem", env!("CARGO_MANIFEST_DIR")))
        .status()
        .expect("a fuzzer");
    assert!(status.success(), "it found something");
    assert_eq!(good(&box_.program("viewer").get("/status"))["name"], "box", "the box is none the worse for it");
    assert!(!box_.served.log().contains("panicked"), "{}", box_.served.log());
    assert!(!hub_box.log().contains("panicked"), "{}", hub_box.log());
    assert_eq!(good(&box_.program("viewer").get("/peers"))["items"][0]["name"], "hub", "still paired");
}
