//! What is old becomes dense on a real box while nobody needs it, and clients read what they wrote.

mod common;

use std::fs;

use common::{Served, check_deep, data_folder, facts, fine, iscsi, noise, until, write_volume};

const MIB: usize = 1 << 20;

/// Letters without order: LZ4 saves nothing of them, zstd a half.
fn letters(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).into_iter().map(|byte| b'a' + (byte & 15)).collect()
}

fn read_volume(served: &Served, len: usize) -> Vec<u8> {
    let mut initiator = served.log_in("disk");
    initiator.greet(0).expect("an answer");
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let read = iscsi::read((bytes.len() / 512) as u64, 256);
        bytes.extend(initiator.run(0, &read, Vec::new(), 256 * 512).expect("an answer").data);
    }
    bytes
}

#[test]
fn a_quiet_box_compresses_what_is_old_and_gives_the_room_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let path = data.join("narrowboat.toml");
    let config = fs::read_to_string(&path).expect("a config");
    fs::write(&path, format!("{config}\n[recompress]\nafter = '0s'\nquiet = '1s'\n")).expect("written");
    let served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "64MiB"]);
    let written = [letters(1, 12 * MIB), noise(2, 6 * MIB)].concat();
    write_volume(&served, "disk", 0, &written);
    fine(&data, &["snapshot", "create", "disk", "--name", "one"]);
    until("its root", || facts(&data, &["snapshot", "list", "disk"])[0]["sealed"] == true);
    let status = || facts(&data, &["status"]);
    let before = status()["parts"]["objects_bytes"].as_u64().expect("a count");
    // What is in open containers is dealt with once these are sealed.
    fine(&data, &["check"]);
    until("it to be dense", || {
        let now = status()["parts"]["objects_bytes"].as_u64().expect("a count");
        now + 5 * MIB as u64 <= before
    });
    let told = status()["recompressed"].clone();
    let (was, is) = (told["before_bytes"].as_u64().expect("a count"), told["after_bytes"].as_u64().expect("a count"));
    assert!(told["containers"].as_u64() > Some(0) && is * 10 < was * 8, "{told}");
    assert!(fine(&data, &["status"]).contains("recompressed"), "a person is told");
    assert!(read_volume(&served, written.len()) == written);
    check_deep(&data).expect("sound");
    served.kill();
    let served = Served::start(&data);
    assert!(read_volume(&served, written.len()) == written);
    check_deep(&data).expect("and it stays so");
    assert!(status()["recompressed"]["containers"].as_u64() > Some(0), "what it gave is remembered");
}
