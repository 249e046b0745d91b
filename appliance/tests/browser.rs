//! A browser drives the page of a real box: the whole set-up of a fresh one, then every page, with axe looking on.
//!
//! Needs Chromium, Node and axe-core (`.ci/setup test`, `.ci/axe`). `NARROWBOAT_SCREENS=FOLDER` keeps a picture of everything.

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod browser;
mod common;
#[path = "page/real.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod real;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Served, data_folder, facts, fine, noise, until};
use narrowboat::control::Request;
use narrowboat::control::reports::Status;
use real::{address, text, with_page};
use serde_json::{Value, json};

const GOOD: &str = "Tram 12 smells of rye bread";
/// What an office may take from the first page to a protected dataset.
const CLICKS_MAX: u64 = 12;

/// Runs one of the scripts beside this file; what it prints last.
fn drive(script: &str, given: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let out = Command::new("node").arg(&script).arg(given.to_string()).output().expect("Node is installed");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}: {said}{}", script.display(), String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(said.lines().last().unwrap_or_default()).expect("JSON")
}

/// Where axe-core lies, fetched where it is not there yet.
fn axe() -> PathBuf {
    let fetch = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/axe");
    let out = Command::new(fetch).output().expect("bash is installed");
    assert!(out.status.success(), "axe-core can't be had: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().into()
}

fn pictures() -> String {
    std::env::var("NARROWBOAT_SCREENS").unwrap_or_default()
}

/// Has something on the box that pages show: files, snapshots, copies, a clone, something deleted, a job.
fn populate(data: &Path) {
    let nfs = facts(data, &["status"])["nfs"].as_str().expect("it serves").to_owned();
    let mut client = common::nfs::Client::connect(&nfs).expect("it serves");
    let root = client.mount("/backups").expect("it is there");
    for round in 0..2 {
        let folder = client.make_dir(&root, format!("2026-11-{}", 20 + round).as_bytes()).expect("room");
        for nth in 0..4_u64 {
            let file = client.create(&folder, format!("report {nth} – Ünï.dat").as_bytes()).expect("room");
            client.write(&file, 0, &noise(nth + 10 * round, 200_000), common::nfs::Stable::File).expect("room");
        }
        fine(data, &["snapshot", "create", "backups", "--name", &format!("evening-{round}")]);
    }
    fine(data, &["replicate", "backups@evening-1", "--to", "hub", "--wait"]);
    fine(data, &["volume", "create", "server-1", "--size", "100MB"]);
    fine(data, &["share", "create", "old"]);
    fine(data, &["dataset", "delete", "old"]);
    fine(data, &["snapshot", "hold", "backups@evening-0"]);
}

#[test]
fn a_browser_sets_up_a_box_and_finds_every_page_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let hub = data_folder(folder.path(), "hub");
    let _hub = Served::start(&hub);
    let data = with_page(folder.path());
    let served = Served::start(&data);
    // A box has one address, also after it has started again.
    let page = address(&data);
    let file = data.join("narrowboat.toml");
    let config = std::fs::read_to_string(&file).expect("a config");
    std::fs::write(
        &file,
        config.replace("listen = '127.0.0.1:0'\ncertificate", &format!("listen = '{page}'\ncertificate")),
    )
    .expect("written");
    let invited = facts(&hub, &["peer", "invite"]);
    let (code, at) = (text(&invited["code"]), text(&invited["listen"]));
    let claim = text(&facts(&data, &["account", "claim"])["code"]);
    let base = format!("https://{page}");
    let done = drive(
        "setup.mjs",
        &json!({ "base": base, "claim": claim, "password": GOOD, "address": at, "code": code, "zone": "Asia/Kolkata", "pictures": pictures() }),
    );
    println!("set up: {} clicks, {:.1} s", done["clicks"], done["seconds"].as_f64().unwrap_or_default());
    assert!(done["clicks"].as_u64().is_some_and(|clicks| clicks <= CLICKS_MAX), "{done}");
    assert!(done["seconds"].as_f64().is_some_and(|seconds| seconds < 300.0), "{done}");
    until("it is up", || served.ask::<Status>(&Request::Status).is_ok());
    let status = facts(&data, &["status"]);
    assert_eq!(facts(&data, &["setup", "show"])["time_zone"], "Asia/Kolkata", "the browser's");
    assert_eq!(status["plans"].as_array().map(Vec::len), Some(1), "the share is protected: {status}");

    populate(&data);
    let seen = drive(
        "pages.mjs",
        &json!({ "base": base, "user": "admin", "password": GOOD, "axe": axe(), "pictures": pictures() }),
    );
    let pages = seen["pages"].as_array().expect("a list");
    println!("{} pages in four views, {} forms sent: {}", pages.len(), seen["sent"], seen["pages"]);
    assert!(pages.len() >= 20, "{seen}");
    for (what, found) in seen.as_object().expect("an object") {
        if !["pages", "sent"].contains(&what.as_str()) {
            assert_eq!(found.as_array().map(Vec::len), Some(0), "{what}: {found:#}");
        }
    }
}
