//! Damage that nobody can heal keeps a real box from giving room back: `reclaim` and `status` say whose it is and what to do, and then it goes on.

mod common;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Served, check_deep, data_folder, facts, fine, narrowboat, noise, until, write_volume};

/// All files of tree nodes.
fn node_files(data: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(data.join("containers")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let files = files.map(|entry| entry.expect("an entry").path());
    files.filter(|file| file.extension().is_some_and(|name| name == "node")).collect()
}

/// Harms everything in a container but its header and its directory.
fn ruin(file: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("a container");
    let end = file.metadata().expect("a file").len() * 9 / 10;
    (200..end).step_by(16).for_each(|at| file.write_all_at(b"harm", at).expect("written"));
}

#[test]
fn whose_damage_stops_reclaim_is_told_with_what_to_do_and_then_it_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let mut served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "64MiB"]);
    write_volume(&served, "disk", 0, &noise(1, 12 << 20));
    fine(&data, &["snapshot", "create", "disk", "--name", "one"]);
    until("its root", || facts(&data, &["snapshot", "list", "disk"])[0]["sealed"] == true);
    fine(&data, &["stop"]);
    assert!(served.wait().success());
    let of_one = node_files(&data);

    // Nothing of what it holds now is in the nodes of then.
    let mut served = Served::start(&data);
    write_volume(&served, "disk", 0, &noise(2, 12 << 20));
    fine(&data, &["snapshot", "create", "disk", "--name", "two"]);
    until("its root", || facts(&data, &["snapshot", "list", "disk"])[1]["sealed"] == true);
    fine(&data, &["stop"]);
    assert!(served.wait().success());
    of_one.iter().for_each(|file| ruin(file));

    let served = Served::start(&data);
    let said = narrowboat(&data, &["reclaim"]);
    assert!(said.code == 4 && said.out.contains("`narrowboat snapshot delete disk@one`"), "{said:?}");
    assert!(!said.out.contains("disk@two") && said.out.contains("`narrowboat quarantine empty disk@one`"), "{said:?}");
    served.kill();
    let _served = Served::start(&data);
    let status = fine(&data, &["status"]);
    assert!(status.contains("gives no room back") && status.contains("snapshot delete disk@one"), "{status}");
    let told = &facts(&data, &["status"])["reclaim"]["in_the_way"][0];
    assert_eq!(
        (&told["dataset"], &told["snapshot"], &told["what"]),
        (&"disk".into(), &"one".into(), &"snapshot".into())
    );
    for command in told["commands"].as_array().expect("a list") {
        let words: Vec<&str> = command.as_str().expect("a command").split(' ').skip(1).collect();
        fine(&data, &words);
    }
    let freed = facts(&data, &["reclaim"]);
    assert!(freed["stopped"].is_null() && freed["freed_bytes"].as_u64() > Some(11 << 20), "{freed}");
    assert!(!fine(&data, &["status"]).contains("gives no room back"));
    check_deep(&data).expect("sound again");
}
