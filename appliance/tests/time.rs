//! Any moment of a share from the command line: windows, marks, times, rewinds, clones and restores.

mod common;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::iscsi::{BLOCK, Initiator, Login, read, write};
use common::nfs::Stable;
use common::{PATIENCE, Served, data_folder, facts, fine, narrowboat};
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Store, StoreOptions};
use serde_json::json;

/// The present as people write it. Moments of the test lie apart by more than it is exact to.
fn now() -> String {
    std::thread::sleep(Duration::from_millis(20));
    let text = narrowboat::units::rfc3339(narrowboat::clock::now());
    std::thread::sleep(Duration::from_millis(20));
    text
}

#[test]
fn a_share_goes_back_to_any_moment_and_forth_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    fine(&data, &["share", "create", "office"]);
    let said = narrowboat(&data, &["mark", "office", "too early"]);
    assert!(said.code == 1 && said.err.contains("no window"), "{said:?}");
    assert!(fine(&data, &["window", "office"]).contains("no window"));
    let set = facts(&data, &["window", "office", "--keep", "24h", "--bytes", "1GiB"]);
    let window = &set["window"];
    assert_eq!((&window["asked_seconds"], &window["asked_bytes"]), (&json!(86_400), &json!(1 << 30)), "{set:#}");
    assert_eq!(window["limit"], "begun");

    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    let file = client.create(&root, b"report").expect("room");
    let mut times = Vec::new();
    for text in ["one", "two", "six"] {
        client.write(&file, 0, text.as_bytes(), Stable::File).expect("room");
        times.push(now());
        if text == "two" {
            assert_eq!(fine(&data, &["mark", "office", "noon", "--quiet"]), "marked office as noon\n");
        }
    }
    client.remove(&root, b"report").expect("there");

    let at = |moment: &str| {
        let dest = folder.path().join(format!("restored-{}", moment.replace(':', "-")));
        fine(&data, &["restore", &format!("office@{moment}:report"), dest.to_str().expect("UTF-8")]);
        fs::read_to_string(dest).expect("a file")
    };
    assert_eq!([at(&times[0]), at(&times[1]), at(&times[2]), at("noon")], ["one", "two", "six", "two"]);
    assert_eq!(facts(&data, &["dataset", "list"]).as_array().expect("a list").len(), 1, "nothing is left of restores");

    fine(&data, &["rewind", "office", "--to", "noon", "--as", "then"]);
    assert_eq!(facts(&data, &["clone", &format!("office@{}", times[0]), "earlier"])["files"], 1);
    let rewound = facts(&data, &["rewind", "office", "--to", &times[1], "--force"]);
    let file = client.lookup(&root, b"report").expect("it is back").0;
    assert_eq!(client.read(&file, 0, 100).expect("there"), b"two");
    let before = rewound["before"].as_str().expect("a snapshot").to_owned();
    fine(&data, &["rewind", "office", "--to", &before, "--force"]);
    assert!(client.lookup(&root, b"report").is_err(), "and removed again: nothing was lost");

    let timeline = facts(&data, &["timeline", "office"]);
    let named: Vec<&str> =
        timeline["moments"].as_array().expect("a list").iter().filter_map(|m| m["name"].as_str()).collect();
    assert!(named.contains(&"noon") && named.contains(&before.as_str()), "{timeline:#}");
    assert!(fine(&data, &["timeline", "office"]).contains("mark      application  noon"));
    let said = narrowboat(&data, &["rewind", "office", "--to", "yesterday"]);
    assert!(said.code == 1 && said.err.contains("yesterday"), "{said:?}");
    let said = narrowboat(&data, &["rewind", "office", "--to", "2001-01-01T00:00:00Z", "--force"]);
    assert!(said.code == 1 && said.err.contains("window"), "{said:?}");
    assert!(said.err.contains("begins at 20"), "in a time that people can read: {said:?}");
    let to_come = ["2031-01-01T00:00:00Z", "2200-01-01T00:00:00Z"];
    let dest = folder.path().join("to come").to_str().expect("UTF-8").to_owned();
    for (nth, time) in to_come.into_iter().enumerate() {
        let then = format!("office@{time}");
        for command in [
            &["rewind", "office", "--to", time, "--force"][..],
            &["rewind", "office", "--to", time, "--as", "coming"],
            &["clone", &then, "coming"],
            &["restore", &then, &dest],
        ] {
            let said = narrowboat(&data, command);
            assert!(said.code == 1 && said.err.contains(&time[..10]), "{nth}: {command:?}: {said:?}");
            assert!(said.err.contains("still to come"), "{command:?}: {said:?}");
        }
    }
    fine(&data, &["window", "office", "--off"]);
    assert_eq!(narrowboat(&data, &["rewind", "office", "--to", &times[0], "--force"]).code, 1);
    assert!(facts(&data, &["check", "--deep"])["sound"].as_bool().expect("an answer"));
}

/// Whoever reads where the window begins and ends can name both.
#[test]
fn the_ends_of_the_window_can_be_named_as_they_are_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    fine(&data, &["share", "create", "office"]);
    fine(&data, &["window", "office", "--keep", "24h"]);
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    let file = client.create(&root, b"report").expect("room");
    client.write(&file, 0, b"all of it", Stable::File).expect("room");
    let shown = fine(&data, &["timeline", "office"]);
    let end = |label: &str| {
        let line = shown.lines().find_map(|line| line.trim().strip_prefix(label)).expect("a line");
        line.trim().to_owned()
    };
    let restored = |name: &str, moment: &str| {
        let dest = folder.path().join(name);
        fine(&data, &["restore", &format!("office@{moment}"), dest.to_str().expect("UTF-8")]);
        fs::read(dest.join("report")).ok()
    };
    assert_eq!(restored("first", &end("from")), None, "{shown}");
    assert_eq!(restored("last", &end("to")).as_deref(), Some(&b"all of it"[..]), "{shown}");
    let window = facts(&data, &["timeline", "office"])["window"].clone();
    let first = window["first"].as_str().expect("a time");
    assert_eq!(restored("again", first), None);
    assert_eq!(first, end("from"));
    // Also what was written and not committed.
    client.write(&file, 0, b"ALL", Stable::Unstable).expect("room");
    assert_eq!(restored("newest", "now").as_deref(), Some(&b"ALL of it"[..]));
    fine(&data, &["clone", "office@now", "copy"]);
    fine(&data, &["mark", "office", "now"]);
    client.write(&file, 0, b"not", Stable::File).expect("room");
    assert_eq!(restored("mark", "now").as_deref(), Some(&b"ALL of it"[..]), "a mark of that name counts");
}

/// The box has run with a clock that was years ahead, and was stopped until the clock was right.
#[test]
fn a_box_whose_clock_was_years_ahead_says_so_and_every_moment_can_be_named() {
    const HOUR: i64 = 3600 * 1_000_000_000;
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64;
    let (before, ahead) = (Timestamp(now - HOUR), Timestamp(now + 5 * 365 * 24 * HOUR));
    {
        let media = Arc::new(FileMedia::open(&data).expect("a folder"));
        let (store, _) = Store::open(media, StoreOptions::default()).expect("a store");
        let id = store.create_volume("disk", 1 << 20, Policy::Inline, before).expect("room").row.id;
        let day = Window { nanoseconds: 24 * HOUR as u64, bytes: 1 << 30 };
        store.set_window("disk", Some(day), before).expect("room");
        let volume = store.volume(id).expect("just created");
        for (time, byte) in [(before, 1), (ahead, 2)] {
            volume.write(time, 0, vec![byte; BLOCK].into()).expect("room");
            store.drain_all(time).expect("room");
        }
        store.close(ahead).expect("room");
    }
    let served = Served::start(&data);
    let data = served.data.clone();
    let said = fine(&data, &["status"]);
    assert!(said.contains("PROBLEM      the clock was set back"), "{said}");
    assert!(facts(&data, &["status"])["ahead_seconds"].as_f64().expect("a number") > 4.9 * 365.0 * 86_400.0);
    let restored = |name: &str, moment: &str| {
        let dest = folder.path().join(name);
        fine(&data, &["restore", &format!("disk@{moment}"), dest.to_str().expect("UTF-8")]);
        fs::read(dest).expect("an image")[0]
    };
    assert_eq!(restored("before", &before.to_string()), 1, "five years let go of nothing");
    assert_eq!(restored("ahead", &ahead.to_string()), 2);
    let mut session = served.log_in("disk");
    let mut moments = Vec::new();
    for byte in 3..6 {
        put(&mut session, byte);
        assert_eq!(restored(&format!("newest {byte}"), "now"), byte);
        let window = facts(&data, &["timeline", "disk"])["window"].clone();
        assert!(window["seconds"].as_f64().expect("a number") < 3600.0, "{window}: what passed");
        moments.push((byte, window["last"].as_str().expect("a time").to_owned()));
    }
    for (byte, moment) in moments {
        assert_eq!(restored(&format!("{byte}"), &moment), byte, "{moment}");
    }
    let minute_ago = Timestamp(now - HOUR / 60).to_string();
    let said = narrowboat(&data, &["rewind", "disk", "--to", &minute_ago, "--as", "past"]);
    assert!(said.code == 1 && said.err.contains("jumped from") && said.err.contains("`now`"), "{said:?}");
}

fn put(session: &mut Initiator, byte: u8) {
    session.greet(0).expect("open");
    assert!(session.run(0, &write(0, 1, true), vec![byte; BLOCK], 0).expect("open").is_good());
}

/// Rewinds as soon as the box has seen that nobody is there any more.
fn rewind_once_left(data: &std::path::Path, dataset: &str, to: &str) {
    let since = Instant::now();
    loop {
        let said = narrowboat(data, &["rewind", dataset, "--to", to]);
        if said.code == 0 {
            return assert!(!said.out.contains("in use"), "{said:?}");
        }
        assert!(said.err.contains("is in use") && since.elapsed() < PATIENCE, "{said:?}");
    }
}

/// A file system that is mounted would write what it remembers over the past.
#[test]
fn a_volume_is_not_rewound_under_its_initiators_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    fine(&data, &["volume", "create", "disk", "--size", "1MiB"]);
    fine(&data, &["window", "disk", "--keep", "1h"]);
    let mut session = served.log_in("disk");
    put(&mut session, 1);
    fine(&data, &["mark", "disk", "good"]);
    put(&mut session, 2);
    let other = Login { initiator: "iqn.2026-01.org.example:other".into(), ..Login::default() };
    let mut other = Initiator::login_as(&served.portals[0], Some(&common::target("disk")), &other).expect("open");
    other.greet(0).expect("open");
    let said = narrowboat(&data, &["rewind", "disk", "--to", "good"]);
    assert_eq!(said.code, 1, "{said:?}");
    for part in ["iqn.2026-01.org.example:test", "iqn.2026-01.org.example:other", "--as NEW", "--force"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    let first = |session: &mut Initiator| session.run(0, &read(0, 1), Vec::new(), BLOCK).expect("open");
    assert_eq!(first(&mut session).data, [2; BLOCK], "nothing has happened");
    assert_eq!(facts(&data, &["snapshot", "list", "disk"]).as_array().map(Vec::len), Some(0));
    // Nobody is in the way of a new one.
    fine(&data, &["rewind", "disk", "--to", "good", "--as", "past"]);

    let said = fine(&data, &["rewind", "disk", "--to", "good", "--force"]);
    assert!(said.contains("PROBLEM: it was in use by iqn.2026-01.org.example:other, iqn"), "{said}");
    for session in [&mut session, &mut other] {
        assert_eq!(first(session).sense(), (6, 0x2900), "every session is told");
        assert_eq!(first(session).data, [1; BLOCK]);
    }
    put(&mut session, 3);
    session.logout().expect("open");
    drop(other);
    rewind_once_left(&data, "disk", "good");
    let mut session = served.log_in("disk");
    session.greet(0).expect("open");
    assert_eq!(first(&mut session).data, [1; BLOCK]);
}

#[test]
fn a_share_is_not_rewound_under_its_clients_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    for share in ["office", "other"] {
        fine(&data, &["share", "create", share]);
        fine(&data, &["window", share, "--keep", "1h"]);
        fine(&data, &["mark", share, "empty"]);
    }
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    client.create(&root, b"report").expect("room");
    let said = narrowboat(&data, &["rewind", "office", "--to", "empty"]);
    assert!(said.code == 1 && said.err.contains("in use by 127.0.0.1") && said.err.contains("--force"), "{said:?}");
    client.lookup(&root, b"report").expect("nothing has happened");
    rewind_once_left(&data, "other", "empty");
    let said = fine(&data, &["rewind", "office", "--to", "empty", "--force"]);
    assert!(said.contains("in use by 127.0.0.1"), "{said}");
    client.lookup(&root, b"report").expect_err("it was not there then");
    drop(client);
    rewind_once_left(&data, "office", "empty");
}
