//! Assessment as a person has it: paths are looked at, and what is foretold is then really sent by two boxes.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::nfs::Stable;
use common::seeded::Seeded;
use common::{PROGRAM, Served, data_folder, facts, fine, noise, pair};
use serde_json::Value;

/// `narrowboat assess` with these words.
fn assess(words: &[&str]) -> (bool, String, String) {
    let said = Command::new(PROGRAM).args(["--json", "assess"]).args(words).output().expect("the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (said.status.success(), text(said.stdout), text(said.stderr))
}

/// One look at a path: its row.
fn look(path: &Path, work: &Path) -> Value {
    let (done, out, err) = assess(&[path.to_str().unwrap(), "--work", work.to_str().unwrap()]);
    assert!(done, "{err}");
    serde_json::from_str(&out).expect("one row")
}

fn report(work: &Path, words: &[&str]) -> Value {
    let (done, out, err) = assess(&[&["report", "--work", work.to_str().unwrap()], words].concat());
    assert!(done, "{err}");
    serde_json::from_str(&out).expect("JSON")
}

/// Words, which become a third as large.
fn words(dice: &mut Seeded, len: usize) -> Vec<u8> {
    let mut text = Vec::new();
    while text.len() < len {
        text.extend_from_slice(format!("word{} ", dice.below(4000)).as_bytes());
    }
    text.truncate(len);
    text
}

/// Files of an office by their names, and what a day does to them.
fn first_day(dice: &mut Seeded) -> BTreeMap<String, Vec<u8>> {
    let file = |number: usize| {
        let len = if number.is_multiple_of(8) { 400_000 } else { 60_000 };
        let bytes = if number.is_multiple_of(3) { noise(number as u64, len) } else { words(dice, len) };
        (format!("file-{number:02}"), bytes)
    };
    (0..40).map(file).collect()
}

fn next_day(files: &mut BTreeMap<String, Vec<u8>>, dice: &mut Seeded) {
    let edit = words(dice, 300);
    for name in ["file-01", "file-08", "file-17", "file-32"] {
        let file = files.get_mut(name).unwrap();
        let at = dice.below(file.len() as u64 - 300) as usize;
        file[at..at + 300].copy_from_slice(&edit);
    }
    // A paragraph in front of everything, a copy, a new one, and one less.
    let longer = [edit.clone(), files["file-16"].clone()].concat();
    files.insert("file-16".into(), longer);
    files.insert("copy".into(), files["file-24"].clone());
    files.insert("new".into(), words(dice, 300_000));
    files.remove("file-05");
}

fn put(folder: &Path, files: &BTreeMap<String, Vec<u8>>) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if !files.contains_key(entry.file_name().to_str().unwrap()) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for (name, bytes) in files {
        let path = folder.join(name);
        if fs::read(&path).ok().as_ref() != Some(bytes) {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Writes over NFS what differs from what was there.
fn write_to(served: &Served, before: &BTreeMap<String, Vec<u8>>, files: &BTreeMap<String, Vec<u8>>) {
    let mut client = served.connect();
    let root = client.mount("/office").unwrap();
    for name in before.keys().filter(|name| !files.contains_key(*name)) {
        client.remove(&root, name.as_bytes()).unwrap();
    }
    for (name, bytes) in files.iter().filter(|(name, bytes)| before.get(*name) != Some(bytes)) {
        let file = client
            .create(&root, name.as_bytes())
            .or_else(|_| client.lookup(&root, name.as_bytes()).map(|found| found.0));
        let file = file.unwrap();
        for (nth, part) in bytes.chunks(256 << 10).enumerate() {
            client.write(&file, (nth * (256 << 10)) as u64, part, Stable::Unstable).unwrap();
        }
        client.set(&file, None, Some(bytes.len() as u64)).unwrap();
        client.commit(&file).unwrap();
    }
}

#[test]
fn what_is_foretold_is_what_two_boxes_then_send() {
    let folder = tempfile::tempdir().unwrap();
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["limit", "head", "--rate", "20Mbit"]);
    fine(&branch, &["share", "create", "office"]);
    let (path, work) = (folder.path().join("office"), folder.path().join("work"));
    let mut dice = Seeded::new(5);
    let (mut before, mut files) = (BTreeMap::new(), first_day(&mut dice));
    for day in 0..3 {
        put(&path, &files);
        let row = look(&path, &work);
        write_to(&served, &before, &files);
        fine(&branch, &["snapshot", "create", "office", "--name", &format!("day-{day}")]);
        let sent = facts(&branch, &["replicate", &format!("office@day-{day}"), "--to", "head", "--wait"]);
        let both = |foretold: &Value, fields: [&str; 2]| {
            fields.iter().map(|field| foretold[*field].as_u64().unwrap()).sum::<u64>()
        };
        let foretold = both(&row, ["wire", "back"]);
        let taken = both(&sent, ["wire_bytes_sent", "wire_bytes_received"]);
        println!("day {day}: {foretold} foretold, {taken} taken");
        // The two trees differ in owners and times; small ones cost what they cost.
        assert!(
            foretold.abs_diff(taken) <= taken / 20 + 2000,
            "day {day}: {foretold} foretold, {taken} taken: {row} {sent}"
        );
        assert_eq!(row["logical"].as_u64().unwrap(), files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        before = files.clone();
        next_day(&mut files, &mut dice);
    }
    let found = report(&work, &["--line", "20Mbit"]);
    assert!(found["first_copy"]["seconds"].as_u64().is_some_and(|seconds| seconds < 10), "{found}");
    assert_eq!(found["waterfall"].as_array().map(Vec::len), Some(7));
}

#[test]
fn a_look_that_is_killed_goes_on_and_foretells_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (path, undisturbed, killed) =
        (folder.path().join("office"), folder.path().join("undisturbed"), folder.path().join("killed"));
    let files: BTreeMap<String, Vec<u8>> = (0..30).map(|nth| (format!("file-{nth}"), noise(nth, 1 << 20))).collect();
    put(&path, &files);
    for millis in [30, 90, 200, 400] {
        let mut child = Command::new(PROGRAM)
            .args(["assess", path.to_str().unwrap(), "--work", killed.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (whole, rest) = (look(&path, &undisturbed), look(&path, &killed));
    let rows = fs::read_to_string(killed.join("spans.jsonl")).unwrap();
    let first: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    let wire = |row: &Value| row["wire"].as_u64().unwrap();
    assert!(wire(&first).abs_diff(wire(&whole)) < wire(&whole) / 100, "{first} {whole}");
    assert_eq!((rest["files"].as_u64(), rest["logical"].as_u64()), (Some(30), Some(30 << 20)));
    // What lies there is what was looked at.
    let modes =
        [&killed, &killed.join("store")].map(|folder| fs::metadata(folder).unwrap().permissions().mode() & 0o777);
    assert_eq!(modes, [0o700; 2]);
}

#[test]
fn what_goes_wrong_is_said_and_nothing_is_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    put(&at("office"), &BTreeMap::from([("file".to_owned(), noise(1, 3 << 20))]));
    let work = text(&at("work"));

    let (done, _, err) = assess(&[&text(&at("gone")), "--work", &work]);
    assert!(!done && err.contains("gone can't be looked at"), "{err}");
    let (done, _, err) = assess(&[&text(folder.path()), "--work", &work]);
    assert!(!done && err.contains("keep it elsewhere with --work"), "{err}");
    let (done, _, err) = assess(&[&text(&at("office")), "--work", &work, "--every", "5s"]);
    assert!(!done && err.contains("too often"), "{err}");
    let (done, _, err) = assess(&[]);
    assert!(!done && err.contains("PATH"), "{err}");

    let found = report(&at("work"), &[]);
    assert!(
        found["sentence"].as_str().unwrap().starts_with("Nothing is known")
            && found["needed"].as_array().unwrap().is_empty()
    );
    let (done, _, err) = assess(&["report", "--work", &work, "--growth", "9999"]);
    assert!(!done && err.contains("-50 and 200"), "{err}");
    let (done, _, err) = assess(&["report", "--work", &work, "--calendar", &text(&at("no-calendar"))]);
    assert!(!done && err.contains("no-calendar"), "{err}");

    // One that is there beside one that isn't: what is known is known.
    let (done, out, err) = assess(&[&text(&at("office")), &text(&at("gone")), "--work", &work]);
    assert!(!done && err.contains("gone is passed over") && out.contains("\"wire\":"), "{out} {err}");
    fs::rename(at("office"), at("elsewhere")).unwrap();
    let (done, _, err) = assess(&[&text(&at("office")), "--work", &work]);
    assert!(!done && err.contains("can't be looked at"), "{err}");
    fs::rename(at("elsewhere"), at("office")).unwrap();
    let page = at("report.html");
    let found = report(&at("work"), &["--html", &text(&page), "--csv", &text(&at("rows.csv"))]);
    assert!(found["missing"][0].as_str().unwrap().contains("looked at once"), "{found}");
    assert!(fs::read_to_string(page).unwrap().contains("looked at once"));
    assert_eq!(fs::read_to_string(at("rows.csv")).unwrap().lines().count(), 2);

    // More than it may take.
    put(&at("large"), &(0..6).map(|nth| (format!("{nth}"), noise(nth + 100, 64 << 20))).collect());
    let (done, _, err) = assess(&[&text(&at("large")), "--work", &text(&at("small")), "--room", "300MB"]);
    assert!(!done && err.contains("nothing is known of") && err.contains("--room"), "{err}");
    assert!(report(&at("small"), &[])["first_copy"].is_null());
    // With more it goes on, and does not read what it has.
    let row = look(&at("large"), &at("small"));
    assert_eq!(row["logical"].as_u64(), Some(6 * (64 << 20)));
    assert!(row["changed"].as_u64().unwrap() < 6 * (64 << 20), "{row}");
}
