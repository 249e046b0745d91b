//! Healing between real boxes: a replica from its source, a source from its replica, with whole containers gone; and what nobody else has stays told.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Served, check_deep, data_folder, facts, fine, noise, pair, until, write_volume};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// Files of containers, those of chunks (`data`) or of nodes (`node`), the largest first.
fn containers(data: &Path, class: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![data.join("containers")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|name| name == class) {
                found.push(entry);
            }
        }
    }
    found.sort_by_key(|file| std::cmp::Reverse(file.metadata().expect("a file").len()));
    found
}

/// Flips a bit at each of these places.
fn rot(file: &Path, places: impl Iterator<Item = u64>) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("a container");
    let len = file.metadata().expect("a file").len();
    for at in places.take_while(|at| *at < len) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("there");
        file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
    }
}

/// Reads everything; what was written is in sealed containers then.
fn scrub(data: &Path) {
    let ended = || facts(data, &["scrub", "show"])["history"].as_array().map_or(0, Vec::len);
    let before = ended();
    fine(data, &["scrub", "start"]);
    until("a scrub", || ended() > before);
}

fn healed_from(data: &Path, peer: &str) -> u64 {
    facts(data, &["scrub", "show"])["healing"]["from"][peer]["objects"].as_u64().unwrap_or_default()
}

/// The image of a snapshot of a volume.
fn image(data: &Path, snapshot: &str, to: &Path) -> Vec<u8> {
    fine(data, &["restore", snapshot, to.to_str().expect("a path")]);
    let bytes = fs::read(to).expect("an image");
    fs::remove_file(to).expect("removed");
    bytes
}

/// A head office and a branch whose volume `disk` of 12 MiB is at both, as the snapshot `one`.
fn two(folder: &Path) -> ((PathBuf, Served), (PathBuf, Served), Vec<u8>) {
    let (head, branch) = (data_folder(folder, "head"), data_folder(folder, "branch"));
    for data in [&head, &branch] {
        let config = fs::read_to_string(data.join("narrowboat.toml")).expect("a config");
        fs::write(data.join("narrowboat.toml"), config + "[scrub]\nevery = ''\nrate = '1GiB'\n").expect("written");
    }
    let (at_head, at_branch) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "12MiB"]);
    let bytes = noise(1, 12 * MIB);
    write_volume(&at_branch, "disk", 0, &bytes);
    fine(&branch, &["snapshot", "create", "disk", "--name", "one"]);
    fine(&branch, &["replicate", "disk@one", "--to", "head", "--wait"]);
    for data in [&head, &branch] {
        scrub(data);
    }
    ((head, at_head), (branch, at_branch), bytes)
}

fn is_sound(data: &Path) -> bool {
    let told = facts(data, &["scrub", "show"]);
    told["damaged"] == serde_json::json!([]) && told["healing"]["last"]["torn"] == 0
}

#[test]
fn a_replica_is_healed_from_its_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let ((head, _at_head), (_branch, _at_branch), bytes) = two(folder.path());
    rot(&containers(&head, "data")[0], (1..6).map(|nth| nth * 2_000_000));
    for file in containers(&head, "node") {
        rot(&file, (0..).map(|nth| 200 + nth * 1500));
    }
    scrub(&head);
    until("all of it to be healed", || is_sound(&head));
    assert!(healed_from(&head, "branch") > 5);
    check_deep(&head).expect("sound again");
    assert!(image(&head, "branch/disk@one", &folder.path().join("image")) == bytes);
    let said = fine(&head, &["scrub", "show"]);
    assert!(said.contains("healed from branch: ") && said.contains("nothing is known to be damaged"), "{said}");
}

/// Containers are gone, so the index is built again without what was there, and without all that is above it.
#[test]
fn a_source_that_lost_containers_is_healed_from_its_replica() {
    let folder = tempfile::tempdir().expect("a folder");
    let ((head, _at_head), (branch, mut at_branch), bytes) = two(folder.path());
    fine(&branch, &["stop"]);
    assert!(at_branch.wait().success());
    fs::remove_file(&containers(&branch, "data")[0]).expect("removed");
    fs::remove_file(&containers(&branch, "node")[0]).expect("removed");
    let at_branch = Served::start(&branch);
    until("all of it to be healed", || healed_from(&branch, "head") > 5 && is_sound(&branch));
    at_branch.kill();
    let _at_branch = Served::start(&branch);
    check_deep(&branch).expect("sound again");
    assert!(image(&branch, "disk@one", &folder.path().join("image")) == bytes);
    check_deep(&head).expect("as ever");
}

/// What was never sent is nobody else's: it is told, with whom it hits, and the rest is healed.
#[test]
fn what_nobody_else_has_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let ((_head, _at_head), (branch, at_branch), _) = two(folder.path());
    fine(&branch, &["volume", "create", "own", "--size", "4MiB"]);
    write_volume(&at_branch, "own", 0, &noise(2, 4 * MIB));
    fine(&branch, &["snapshot", "create", "own", "--name", "mine"]);
    until("its root", || facts(&branch, &["snapshot", "list", "own"])[0]["sealed"] == true);
    scrub(&branch);
    let mut files = containers(&branch, "data").into_iter();
    // The larger one is of the volume that was sent.
    rot(&files.next().expect("of disk"), std::iter::once(3_000_000));
    rot(&files.next().expect("of own"), std::iter::once(1_000_000));
    scrub(&branch);
    let last = || facts(&branch, &["scrub", "show"])["healing"]["last"].clone();
    until("a round", || last()["left"] == 1 && healed_from(&branch, "head") == 1);
    let told = facts(&branch, &["scrub", "show"]);
    let hit: Vec<&Value> = told["affected"].as_array().expect("a list").iter().collect();
    assert!(!hit.is_empty() && hit.iter().all(|file| file["dataset"] == "own"), "{told}");
    let said = fine(&branch, &["scrub", "show"]);
    assert!(said.contains("NOT HEALED") && said.contains("own @mine"), "{said}");
    assert!(check_deep(&branch).is_err());
    // Once it is backed up again, it is sound.
    write_volume(&at_branch, "own", 0, &noise(3, 4 * MIB));
    write_volume(&at_branch, "disk", 0, &noise(2, 4 * MIB));
    until("it to heal", || facts(&branch, &["scrub", "show"])["damaged"] == serde_json::json!([]));
    fine(&branch, &["scrub", "heal"]);
}
