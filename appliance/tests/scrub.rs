//! Scrubs of real boxes: damage on the disk is found, told with the files that it hits, and healed by the next backup.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Served, check_deep, data_folder, facts, fine, noise, until, write_volume};

const MIB: usize = 1 << 20;

fn configure(data: &Path, lines: &str) {
    let path = data.join("narrowboat.toml");
    let config = fs::read_to_string(&path).expect("a config");
    fs::write(&path, format!("{config}\n[scrub]\n{lines}\n")).expect("written");
}

/// A box with 12 MiB on the volume `disk`, all of it in containers, and a snapshot.
fn filled(folder: &Path, scrub: &str) -> (PathBuf, Served) {
    let data = data_folder(folder, "box");
    configure(&data, scrub);
    let mut served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "64MiB"]);
    write_volume(&served, "disk", 0, &noise(1, 12 * MIB));
    fine(&data, &["snapshot", "create", "disk", "--name", "one"]);
    until("its root", || facts(&data, &["snapshot", "list", "disk"])[0]["sealed"] == true);
    fine(&data, &["stop"]);
    assert!(served.wait().success());
    let served = Served::start(&data);
    (data, served)
}

/// The largest file of chunks.
fn container(data: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![data.join("containers")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => found.push(entry),
            }
        }
    }
    let chunks = found.into_iter().filter(|file| file.extension().is_some_and(|name| name == "data"));
    chunks.max_by_key(|file| file.metadata().expect("a file").len()).expect("a container")
}

fn rot(file: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("a container");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("there");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
}

#[test]
fn what_rots_is_found_told_and_healed_by_the_next_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = filled(folder.path(), "every = ''\nrate = '1GiB'");
    let idle = facts(&data, &["scrub", "show"]);
    assert_eq!((&idle["state"], &idle["due_in_seconds"]), (&"idle".into(), &serde_json::Value::Null), "{idle}");
    rot(&container(&data), 5_000_000);
    fine(&data, &["scrub", "start"]);
    until("its end", || facts(&data, &["scrub", "show"])["state"] == "idle");
    let told = facts(&data, &["scrub", "show"]);
    assert_eq!(
        (&told["history"][0]["damaged"], told["damaged"].as_array().map(Vec::len)),
        (&1.into(), Some(1)),
        "{told}"
    );
    assert!(told["history"][0]["bytes"].as_u64().expect("a count") > 12 * MIB as u64, "{told}");
    let hit = |nth: usize| &told["affected"][nth];
    assert_eq!((&hit(0)["snapshot"], &hit(0)["path"]), (&"one".into(), &"".into()), "{told}");
    assert!(hit(1)["snapshot"].is_null() && hit(1)["from"] == hit(0)["from"], "{told}");
    let from = hit(0)["from"].as_u64().expect("a place") as usize;
    let lost = hit(0)["bytes"].as_u64().expect("a count") as usize;
    assert!(lost <= 128 << 10 && from + lost <= 12 * MIB);
    let said = fine(&data, &["scrub", "show"]);
    assert!(said.contains("DAMAGED") && said.contains("(the volume)") && said.contains("@one"), "{said}");
    assert!(fine(&data, &["status"]).contains("1 objects are damaged"), "a person is told");
    assert!(check_deep(&data).is_err());

    // The same backup once more, elsewhere.
    write_volume(&served, "disk", 32 * MIB, &noise(1, 12 * MIB));
    until("it to heal", || facts(&data, &["scrub", "show"])["healed"] == 1);
    fine(&data, &["snapshot", "create", "disk", "--name", "two"]);
    until("its root", || facts(&data, &["snapshot", "list", "disk"])[1]["sealed"] == true);
    assert_eq!(facts(&data, &["scrub", "show"])["damaged"], serde_json::json!([]));
    check_deep(&data).expect("sound again");
    served.kill();
    let _served = Served::start(&data);
    check_deep(&data).expect("and it stays so");
    assert_eq!(facts(&data, &["scrub", "show"])["history"].as_array().map(Vec::len), Some(1));
}

fn containers(data: &Path) -> u64 {
    facts(data, &["status"])["containers"].as_u64().expect("a count")
}

/// A scrub that is slow goes on where it was after a kill, and stands still while it is paused: in the end each container was read once.
#[test]
fn a_scrub_goes_on_after_a_kill_and_can_be_paused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = filled(folder.path(), "every = ''\nrate = '1KiB'");
    let all = containers(&data);
    assert!(all >= 2, "{all} containers");
    fine(&data, &["scrub", "start"]);
    // A container is read whole, and then the rate is waited for: longer than this test takes.
    until("a step", || facts(&data, &["scrub", "show"])["running"]["containers"] == 1);
    fine(&data, &["scrub", "pause"]);
    let paused = facts(&data, &["scrub", "show"]);
    assert_eq!(paused["state"], "paused");
    served.kill();
    let mut served = Served::start(&data);
    let show = || facts(&data, &["scrub", "show"]);
    assert_eq!((&show()["state"], &show()["running"]), (&"paused".into(), &paused["running"]), "over a kill, too");
    fine(&data, &["stop"]);
    assert!(served.wait().success());
    let file = data.join("narrowboat.toml");
    let slow = fs::read_to_string(&file).expect("a config");
    fs::write(&file, slow.replace("1KiB", "1GiB")).expect("written");
    let _served = Served::start(&data);
    assert_eq!((&show()["state"], &show()["running"]), (&"paused".into(), &paused["running"]), "over a restart, too");
    fine(&data, &["scrub", "resume"]);
    until("the end", || show()["state"] == "idle");
    let ended = show()["history"][0].clone();
    assert_eq!((&ended["began"], ended["containers"].as_u64()), (&paused["running"]["began"], Some(all)), "{ended}");
    assert_eq!(ended["damaged"], 0);
}

/// It reads no more in a second than it may, however fast the disk is.
#[test]
fn a_scrub_reads_at_its_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, mut served) = filled(folder.path(), "every = ''\nrate = '4MiB'");
    // A second container of 12 MiB: whichever comes last, the other is waited for.
    write_volume(&served, "disk", 16 * MIB, &noise(2, 12 * MIB));
    fine(&data, &["stop"]);
    assert!(served.wait().success());
    let _served = Served::start(&data);
    let since = Instant::now();
    fine(&data, &["scrub", "start"]);
    until("the end", || facts(&data, &["scrub", "show"])["state"] == "idle");
    let took = since.elapsed();
    let read = facts(&data, &["scrub", "show"])["history"][0]["bytes"].as_u64().expect("a count");
    assert!(read > 24 * MIB as u64, "{read}");
    assert!(took >= Duration::from_secs(3), "{read} bytes in {took:?}");
}

/// What was found is known after a kill, without another scrub; and a box whose index had to be built again scrubs by itself, also where scrubs are off.
#[test]
fn what_was_found_is_known_after_a_kill_and_a_lost_index_is_followed_by_a_scrub() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, served) = filled(folder.path(), "every = ''\nrate = '1GiB'");
    rot(&container(&data), 5_000_000);
    fine(&data, &["scrub", "start"]);
    until("its end", || facts(&data, &["scrub", "show"])["state"] == "idle");
    served.kill();
    let served = Served::start(&data);
    assert!(fine(&data, &["status"]).contains("1 objects are damaged"));
    let told = facts(&data, &["scrub", "show"]);
    assert_eq!(
        (told["damaged"].as_array().map(Vec::len), &told["affected"][0]["snapshot"]),
        (Some(1), &"one".into()),
        "{told}"
    );
    assert_eq!(told["history"].as_array().map(Vec::len), Some(1), "{told}");

    served.kill();
    fs::remove_file(data.join("index.redb")).expect("there");
    let _served = Served::start(&data);
    until("a scrub by itself", || facts(&data, &["scrub", "show"])["history"].as_array().map(Vec::len) == Some(2));
    let told = facts(&data, &["scrub", "show"]);
    assert_eq!((&told["history"][0]["damaged"], &told["state"]), (&1.into(), &"idle".into()), "{told}");
}
