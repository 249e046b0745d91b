//! The command line on real boxes: what it says, what it refuses and how it ends.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong use, 3 no box runs there, 4 damage was found.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::nfs::Stable;
use common::{Said, Served, data_folder, facts, fine, narrowboat, noise};
use narrowboat_storage::media::FileMedia;
use rustix::process::Signal;
use serde_json::{Value, json};

/// A command that must be refused with a sentence that has `part` in it.
fn refused(data: &Path, args: &[&str], code: i32, part: &str) -> Said {
    let said = narrowboat(data, args);
    assert_eq!(said.code, code, "narrowboat {args:?}: {said:?}");
    assert!(said.err.contains(part) && said.out.is_empty(), "narrowboat {args:?}: {said:?}");
    said
}

fn has(value: &Value, keys: &str) {
    for key in keys.split_whitespace() {
        assert!(value.get(key).is_some(), "{key} in {value:#}");
    }
}

/// The names in a section of a help text, each of which must be explained.
fn explained(help: &str, section: &str) -> Vec<String> {
    let lines: Vec<&str> = help.lines().collect();
    let Some(begin) = lines.iter().position(|line| *line == section) else { return Vec::new() };
    let lines: Vec<&str> = lines[begin + 1..].iter().copied().take_while(|line| !line.is_empty()).collect();
    let mut names = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if indent > 6 {
            continue;
        }
        // The sentence stands behind two spaces, or on the next line further in.
        let beside = text.split_once("  ").is_some_and(|(_, sentence)| !sentence.trim().is_empty());
        let below = lines.get(index + 1).is_some_and(|next| next.len() - next.trim_start().len() > 6);
        assert!(beside || below, "{text:?} is not explained:\n{help}");
        names.push(text.split_whitespace().next().unwrap_or_default().to_owned());
    }
    names
}

fn help_of(data: &Path, path: &[String]) -> usize {
    let args: Vec<&str> = path.iter().map(String::as_str).chain(["-h"]).collect();
    let help = fine(data, &args);
    assert!(help.lines().next().is_some_and(|line| line.len() > 10), "{path:?} says what it is for:\n{help}");
    explained(&help, "Arguments:");
    assert!(!explained(&help, "Options:").is_empty());
    let commands = explained(&help, "Commands:");
    let below = commands.iter().filter(|command| *command != "help");
    1 + below.map(|command| help_of(data, &[path, std::slice::from_ref(command)].concat())).sum::<usize>()
}

#[test]
fn every_command_and_every_argument_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(help_of(folder.path(), &[]) > 25, "all commands were visited");
    refused(folder.path(), &["frobnicate"], 2, "frobnicate");
    refused(folder.path(), &["share", "create"], 2, "<NAME>");
    refused(folder.path(), &["share", "create", "x", "--dedup", "maybe"], 2, "deferred");
}

#[test]
fn where_no_box_is_it_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    refused(&data, &["status"], 3, "narrowboat serve --data");
    refused(&data, &["check"], 1, "there is no box in");
    refused(&data, &["restore", "office", "/nonexistent/x"], 1, "there is no box in");
    let said = refused(&data, &["--json", "dataset", "list"], 3, "absent");
    let error: Value = serde_json::from_str(&said.err).expect("JSON, too");
    assert_eq!(error["error"]["kind"], "absent");
}

#[test]
fn a_new_box_begins_only_where_one_is_meant_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    // A mount point whose disk is missing, and a folder on a disk that is missing.
    let (empty, none) = (folder.path().join("empty"), folder.path().join("none"));
    fs::create_dir(&empty).expect("a folder");
    for data in [&empty, &none] {
        refused(data, &["serve"], 1, "if its disk is not mounted");
    }
    assert!(fs::read_dir(&empty).expect("there").next().is_none() && !none.exists(), "nothing was made");
}

#[test]
fn a_config_that_makes_no_sense_is_refused_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    for (config, key) in [
        ("[nfs]\nlisten = 'here'", "nfs.listen"),
        ("[nfs]\nallow = ['10.0.0.0/99']", "10.0.0.0/99"),
        ("[wan]\nrate = 'fast'", "wan.rate"),
        ("[wan]\nspeed = '1Mbit'", "speed"),
        ("[log]\nlevel = 'a=b=c'", "log.level"),
        ("[store]\nrealm_key_file = '/nonexistent'", "realm_key_file"),
        ("[nfs", "narrowboat.toml"),
    ] {
        fs::write(data.join("narrowboat.toml"), config).expect("written");
        refused(&data, &["serve"], 1, key);
    }
    refused(&data, &["serve", "--config", "/nonexistent.toml"], 1, "/nonexistent.toml");
}

#[test]
fn a_box_does_not_begin_anew_where_its_array_is_not_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    fs::write(data.join("array-is-not-open"), "").expect("written");
    refused(&data, &["serve"], 1, "`narrowboat disks open` first");
    assert!(!data.join("store.format").exists(), "no box was begun");
}

#[test]
fn the_folder_and_its_socket_are_their_owners_alone_however_deep() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).expect("a deep folder");
    let config = deep.join("config.toml");
    fs::write(&config, common::CONFIG.replace("NAME", "deep")).expect("written");
    let data = deep.join("box");
    let mut command = std::process::Command::new(common::PROGRAM);
    let mut child =
        command.args(["serve", "--create", "--config"]).arg(&config).arg("--data").arg(&data).spawn().expect("started");
    let deadline = Instant::now() + common::PATIENCE;
    while narrowboat(&data, &["status"]).code != 0 {
        assert!(Instant::now() < deadline && child.try_wait().expect("a child").is_none(), "it serves");
        std::thread::sleep(Duration::from_millis(50));
    }
    for (path, mode) in [("", 0o700), ("control.sock", 0o600), ("identity.key", 0o600), ("store.format", 0o600)] {
        let found = fs::metadata(data.join(path)).expect("there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
    assert_eq!(fine(&data, &["stop"]), "the box has stopped\n");
    assert!(child.wait().expect("a child").success());
    assert!(!data.join("control.sock").exists(), "nothing that looks like a box is left");
}

#[test]
fn stopping_waits_for_no_other_box_that_takes_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut served = Served::start(&data_folder(folder.path(), "box"));
    let mut command = std::process::Command::new(common::PROGRAM);
    let mut stop = command.arg("--data").arg(&served.data).arg("stop").spawn().expect("started");
    // As another box does, at the first moment at which it can.
    let deadline = Instant::now() + common::PATIENCE;
    let _other = loop {
        match FileMedia::open(&served.data) {
            Ok(taken) => break taken,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    while stop.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < deadline, "it waits for the other box");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stop.wait().expect("a child").success() && served.wait().success());
}

#[test]
fn who_asks_a_box_that_answers_enough_others_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let socket = served.data.join("control.sock");
    let ask = || UnixStream::connect(&socket).expect("it listens");
    let mut asking: Vec<UnixStream> = (0..64).map(|_| ask()).collect();
    let deadline = Instant::now() + common::PATIENCE;
    // The box may still be at the end of an earlier request, and have refused one of these for it.
    let said = loop {
        let said = narrowboat(&served.data, &["status"]);
        if said.code != 0 {
            break said;
        }
        assert!(Instant::now() < deadline, "it answers {} at once", asking.len());
        asking.push(ask());
    };
    assert!(said.code == 1 && said.err.contains("64 requests") && said.out.is_empty(), "{said:?}");
    drop(asking);
    while narrowboat(&served.data, &["status"]).code != 0 {
        assert!(Instant::now() < deadline, "there is room again");
    }
}

#[test]
fn a_box_whose_socket_somebody_took_away_still_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    fs::remove_file(served.data.join("control.sock")).expect("taken away");
    assert!(served.end_with(rustix::process::Signal::TERM).success());
}

#[test]
fn with_the_default_rules_a_new_share_can_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let config = common::CONFIG.replace("root_squash = false\n", "");
    fs::write(data.join("narrowboat.toml"), config).expect("a config");
    let served = Served::start(&data);
    fine(&data, &["share", "create", "office"]);
    let mut client = served.connect();
    let root = client.mount("/office").expect("mounted");
    let file = client.create(&root, b"file").expect("root is nobody here, and may make files");
    client.write(&file, 0, b"content", Stable::File).expect("and write them");
    let dir = client.make_dir(&root, b"dir").expect("and directories");
    client.create(&dir, b"inner").expect("and files in them");
    assert!(client.set(&root, Some(0o700), None).is_err(), "but the share's root is not its own");
}

#[test]
fn whoever_reads_the_output_may_stop_early() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    for args in [&["status"][..], &["status", "--json"], &["dataset", "list"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = std::process::Command::new(common::PROGRAM);
        let output = command.arg("--data").arg(&served.data).args(args).stdout(writer).output().expect("the program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{args:?}: {:?}, {said}", output.status);
    }
    let full = fs::File::options().write(true).open("/dev/full").expect("a device");
    let mut command = std::process::Command::new(common::PROGRAM);
    let output = command.arg("--data").arg(&served.data).arg("status").stdout(full).output().expect("the program");
    assert_eq!(output.status.code(), Some(1), "what could not be said was not said");
}

#[test]
fn a_volume_is_created_grown_cloned_and_given_back_as_an_image() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    let made = facts(&data, &["volume", "create", "disk", "--size", "64MiB"]);
    assert_eq!((&made["kind"], &made["logical_bytes"]), (&json!("volume"), &json!(64 << 20)));
    assert_eq!(made["export"], Value::Null, "NFS has nothing to do with it");
    refused(&data, &["volume", "create", "disk", "--size", "64MiB"], 1, "disk");
    refused(&data, &["volume", "create", "tiny", "--size", "4096"], 1, "1 MiB");
    refused(&data, &["volume", "resize", "disk", "--size", "32MiB"], 1, "shrink");
    let said = fine(&data, &["volume", "resize", "disk", "--size", "128MiB"]);
    assert!(said.starts_with("resized the volume disk, 128.0 MiB\n"), "{said}");
    fine(&data, &["snapshot", "create", "disk", "--name", "s"]);
    assert_eq!(facts(&data, &["clone", "disk@s", "copy"])["kind"], "volume");
    for (source, image) in [("disk", "live.img"), ("disk@s", "snapshot.img"), ("copy", "clone.img")] {
        let image = folder.path().join(image);
        fine(&data, &["restore", source, image.to_str().expect("UTF-8")]);
        assert_eq!(fs::metadata(&image).expect("there").len(), 128 << 20);
    }
    refused(&data, &["restore", "disk:etc/passwd", "/nonexistent/x"], 1, "without a path");
}

/// Writes monday's files over NFS.
fn monday(served: &Served) {
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    for (name, data) in [("kept", noise(1, 5000)), ("changed", noise(2, 200_000)), ("gone", b"bye".to_vec())] {
        let file = client.create(&root, name.as_bytes()).expect("a file");
        client.write(&file, 0, &data, Stable::File).expect("written");
    }
    let dir = client.make_dir(&root, b"dir").expect("a directory");
    client.create(&dir, b"moved").expect("a file");
    client.create(&dir, b"mode").expect("a file");
    client.symlink(&root, b"link", b"kept").expect("a symlink");
    client.fifo(&root, b"pipe").expect("a fifo");
}

/// What happens until tuesday.
fn tuesday(served: &Served) {
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    let (dir, _) = client.lookup(&root, b"dir").expect("there");
    let (changed, _) = client.lookup(&root, b"changed").expect("there");
    let (mode, _) = client.lookup(&dir, b"mode").expect("there");
    let (kept, _) = client.lookup(&root, b"kept").expect("there");
    client.write(&changed, 1000, b"otherwise", Stable::File).expect("written");
    client.remove(&root, b"gone").expect("removed");
    client.rename((&dir, b"moved"), (&root, b"new name")).expect("renamed");
    client.set(&mode, Some(0o600), None).expect("set");
    client.link(&kept, &dir, b"hard link").expect("linked");
    client.create(&root, b"added").expect("a file");
}

#[test]
fn two_days_of_a_box() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let served = Served::start(&data);
    refused(&data, &["serve"], 1, "in use by another process");

    assert!(fine(&data, &["share", "create", "office"]).contains("clients mount it as /office"));
    refused(&data, &["share", "create", "office"], 1, "dataset office exists already");
    refused(&data, &["share", "create", "a@b"], 1, "can't be the name of a share");
    refused(&data, &["snapshot", "create", "nothing"], 1, "dataset nothing does not exist");
    monday(&served);
    assert_eq!(fine(&data, &["snapshot", "create", "office", "--name", "monday"]), "created office@monday\n");
    refused(&data, &["snapshot", "create", "office", "--name", "monday"], 1, "snapshot office@monday exists already");
    tuesday(&served);
    let made = facts(&data, &["snapshot", "create", "office"]);
    let tuesday = made["name"].as_str().expect("a name");
    assert!(tuesday.ends_with('Z') && tuesday.len() == 24 && !tuesday.contains(':'), "the time, to a millisecond");

    let tuesday = format!("office@{tuesday}");
    let mut lines: Vec<String> = fine(&data, &["diff", "office@monday", &tuesday]).lines().map(str::to_owned).collect();
    lines.sort();
    let content = lines.iter().position(|line| line.starts_with("M changed (")).expect("the content");
    lines.remove(content);
    let expected = ["+ added", "+ dir/hard link", "- gone", "> dir/moved -> new name", "a dir/mode"];
    assert_eq!(lines, expected, "this and nothing else");
    assert_eq!(fine(&data, &["diff", "office@monday", "office@monday"]), "nothing changed\n");
    let diff = facts(&data, &["diff", "office@monday", &tuesday]);
    let renamed = json!({"what": "renamed", "path": "new name", "was": "dir/moved", "bytes": 0});
    assert!(diff["changes"].as_array().expect("a list").contains(&renamed), "{diff:#}");
    refused(&data, &["diff", "office", &tuesday], 1, "write it as DATASET@NAME");
    refused(&data, &["diff", "office@never", &tuesday], 1, "snapshot office@never does not exist");

    assert!(fine(&data, &["clone", "office@monday", "copy"]).contains("copy starts as office@monday was"));
    refused(&data, &["clone", "office@monday", "copy"], 1, "exists already");
    assert_eq!(fine(&data, &["snapshot", "hold", "office@monday"]), "holding office@monday\n");
    refused(&data, &["snapshot", "delete", "office@monday"], 1, "release it first");
    refused(&data, &["dataset", "delete", "office"], 1, "release it first");
    assert_eq!(fine(&data, &["snapshot", "release", "office@monday"]), "released office@monday\n");

    let list = facts(&data, &["snapshot", "list", "office"]);
    has(&list[0], "dataset name id time root sealed held logical_bytes files");
    assert_eq!((list[0]["name"].as_str(), list[0]["sealed"].as_bool()), (Some("monday"), Some(true)));
    assert_eq!(list[0]["root"].as_str().map(str::len), Some(64), "a root hash of 256 bits");
    let status = facts(&data, &["status"]);
    has(&status, "name version store realm peer_id nfs wan logical_bytes protected_bytes unique_bytes stored_bytes");
    has(&status, "dedup_ratio journal_bytes disk_free_bytes stalled datasets peers replications");
    assert_eq!(status["stalled"], Value::Null);
    assert!(status["dedup_ratio"].as_f64().expect("a number") > 1.5, "three trees of nearly the same: {status:#}");
    assert!(fine(&data, &["status"]).contains("live data"));
    assert!(fine(&data, &["dataset", "list"]).starts_with("DATASET"));
    assert_eq!(facts(&data, &["dataset", "list"]).as_array().map(Vec::len), Some(2));

    restore_and_check(&data, folder.path(), "with a box");
    // Caps survive a restart.
    assert_eq!(facts(&data, &["limit", "--rate", "20Mbit"])["limit"], 20_000_000);
    refused(&data, &["limit", "--rate", "quickly"], 1, "quickly");
    refused(&data, &["limit", "nobody", "--rate", "1Mbit"], 1, "nobody");
    // SIGTERM: everything is drained, so that the next start has nothing to apply again.
    assert_eq!(served.end_with(Signal::TERM).code(), Some(0));
    restore_and_check(&data, folder.path(), "without a box");
    let served = Served::start(&data);
    assert!(served.log().trim_end().ends_with("replayed=0"), "{}", served.log());
    assert_eq!(facts(&data, &["limit"])["limit"], 20_000_000);
    assert_eq!(fine(&data, &["limit", "--rate", "pause"]), "cap of the whole box: paused\n");
    assert_eq!(facts(&data, &["limit", "--rate", "unlimited"])["limit"], Value::Null);
    let deleted = fine(&data, &["snapshot", "delete", "office@monday"]);
    assert!(
        deleted.starts_with("deleted office@monday; ") && deleted.contains("snapshot undelete office@monday"),
        "{deleted}"
    );
    let deleted = fine(&data, &["dataset", "delete", "copy"]);
    assert!(deleted.starts_with("deleted copy") && deleted.contains("dataset undelete copy"), "{deleted}");
    refused(&data, &["restore", "office@monday", "/tmp/x"], 1, "snapshot office@monday does not exist");
}

fn restore_and_check(data: &Path, folder: &Path, how: &str) {
    let dest = folder.join(how);
    let to = dest.to_str().expect("UTF-8");
    assert!(fine(data, &["restore", "office@monday", to]).starts_with("restored 7 files and 2 directories"));
    assert!(fs::read(dest.join("changed")).expect("there") == noise(2, 200_000));
    refused(data, &["restore", "office@monday", to], 1, "the folder is not empty");
    refused(data, &["restore", "office@monday:no/such", &format!("{to}-none")], 1, "does not exist");
    let one = format!("{to}-one");
    let report = facts(data, &["restore", "office:dir/hard link", &one]);
    has(&report, "files directories hard_links logical_bytes written_bytes seconds failures");
    assert!(fs::read(one).expect("there") == noise(1, 5000));
    let report = facts(data, &["check", "--deep"]);
    has(&report, "sound containers objects bytes roots files deep seconds problems");
    assert_eq!((report["sound"].as_bool(), report["deep"].as_bool()), (Some(true), Some(true)));
    assert!(fine(data, &["check"]).contains("everything is as it should be"));
}

#[test]
fn damage_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let served = Served::start(&data);
    fine(&data, &["share", "create", "office"]);
    monday(&served);
    assert!(served.end_with(Signal::INT).success());
    let containers = files_below(&data.join("containers"));
    let (largest, _) = containers
        .iter()
        .map(|path| (path, fs::metadata(path).expect("there").len()))
        .max_by_key(|(_, len)| *len)
        .expect("one");
    let mut bytes = fs::read(largest).expect("read");
    let middle = 100_000.min(bytes.len() / 2);
    bytes[middle] ^= 1;
    fs::write(largest, bytes).expect("written");
    let said = narrowboat(&data, &["check", "--deep"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.out.contains("DAMAGE was found") && said.out.contains("containers/"), "{said:?}");
    let dest = folder.path().join("out");
    let said = narrowboat(&data, &["restore", "office", dest.to_str().expect("UTF-8")]);
    assert_eq!(said.code, 1, "what could not be restored is named, the rest is there: {said:?}");
    assert!(said.out.contains("not restored: ") && said.out.contains("/changed: damage in"), "{said:?}");
    assert!(fs::read(dest.join("kept")).expect("there") == noise(1, 5000));
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn two_boxes_meet_and_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let (branch, head) = (data_folder(folder.path(), "branch"), data_folder(folder.path(), "head"));
    let (served, _head) = (Served::start(&branch), Served::start(&head));
    fine(&branch, &["share", "create", "office"]);
    monday(&served);
    refused(&branch, &["replicate", "office", "--to", "head"], 1, "head");
    let pair = || {
        let invitation = facts(&head, &["peer", "invite"]);
        has(&invitation, "code seconds listen");
        let (code, listen) = (invitation["code"].as_str().expect("text"), invitation["listen"].as_str().expect("text"));
        refused(&branch, &["peer", "join", "no code", listen], 1, "");
        fine(&branch, &["peer", "join", code, listen])
    };
    assert!(pair().starts_with("paired with head ("));
    // Without --wait it goes on by itself, and status tells.
    fine(&branch, &["replicate", "office", "--to", "head"]);
    let deadline = Instant::now() + common::PATIENCE;
    let report = loop {
        let status = facts(&branch, &["status"]);
        match status["replications"][0]["state"].as_str() {
            Some("done") => break status["replications"][0].clone(),
            Some("running") => assert!(Instant::now() < deadline, "{status:#}"),
            other => panic!("{other:?}: {status:#}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    has(
        &report,
        "snapshot peer state chunks nodes payload_bytes raw_bytes wire_bytes_sent wire_bytes_received seconds",
    );
    has(&report, "peak_bits_per_second root root_there proved");
    has(&report["chunks"], "offered known sent");
    assert_eq!(report["root"], report["root_there"]);
    tuesday(&served);
    fine(&branch, &["snapshot", "create", "office", "--name", "tuesday"]);
    assert!(fine(&branch, &["replicate", "office@tuesday", "--to", "head", "--wait"]).contains("equal at both ends"));
    let status = facts(&branch, &["status"]);
    let all = status["replications"].as_array().expect("a list");
    let tuesday = all.iter().find(|one| one["snapshot"] == "office@tuesday").expect("it is remembered");
    assert!(tuesday["chunks"]["sent"].as_u64() > Some(0), "{tuesday:#}");
    // Nothing but the root is named: the ledger says what the head office has.
    assert_eq!(
        tuesday["chunks"]["offered"].as_u64().zip(tuesday["nodes"]["offered"].as_u64()),
        Some((0, 1)),
        "{tuesday:#}"
    );
    assert_eq!(facts(&head, &["snapshot", "list", "branch/office"]).as_array().map(Vec::len), Some(2));
    refused(&head, &["snapshot", "create", "branch/office"], 1, "read-only");
    refused(&head, &["replicate", "branch/office", "--to", "branch"], 1, "came from branch");
    refused(&branch, &["replicate", "office@never", "--to", "head", "--wait"], 1, "office@never");
    let line = facts(&branch, &["probe", "head"]);
    has(&line, "peer round_trip_ms round_trip_min_ms sent_packets lost_packets mtu measured");
    for way in ["there", "back"] {
        assert!(line["measured"][way]["packets"].as_u64() > Some(0), "{line:#}");
    }
    // One in ten seconds; what is known is told.
    assert!(fine(&branch, &["probe", "head"]).contains("probed just now"));
    assert_eq!(facts(&branch, &["limit", "head", "--rate", "8Mbit"])["limit"], 8_000_000);
    let peer = &facts(&branch, &["peer", "list"])[0];
    has(peer, "name id addresses paired connected_from limit round_trip_ms wire_bytes_sent wire_bytes_received lag");
    assert_eq!((peer["limit"].as_u64(), peer["lag"][0]["snapshots_behind"].as_u64()), (Some(8_000_000), Some(0)));
    assert!(peer["lag"][0]["seconds"].as_f64().expect("a number") >= 0.0);
    assert!(fine(&branch, &["status"]).contains("head has the newest snapshot of office"));
    // Who is removed leaves nothing behind that a later box of the same name would be credited with.
    assert_eq!(fine(&branch, &["peer", "remove", "head"]), "head is no peer any more\n");
    refused(&branch, &["peer", "remove", "head"], 1, "head");
    fine(&head, &["peer", "remove", "branch"]);
    pair();
    assert_eq!(facts(&branch, &["peer", "list"])[0]["lag"], json!([]));
}
