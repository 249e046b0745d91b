//! A real box whose share loses its files, over NFS, as by a wrong hand and as by malice.

mod common;

use std::path::Path;

use common::nfs::Stable;
use common::{Served, data_folder, facts, fine, narrowboat, noise, until};
use serde_json::Value;

fn losses(data: &Path) -> Vec<Value> {
    facts(data, &["status"])["losses"].as_array().cloned().unwrap_or_default()
}

/// So many files of text.
fn fill(served: &Served, share: &str, files: usize, length: usize) {
    let mut client = served.connect();
    let root = client.mount(&format!("/{share}")).expect("the share");
    for nth in 0..files {
        let file = client.create(&root, format!("minutes-{nth}").as_bytes()).expect("room");
        let text = format!("minutes of meeting {nth} on what is where; ").repeat(length / 30);
        for (at, part) in text.as_bytes()[..length].chunks(256 << 10).enumerate() {
            client.write(&file, (at * (256 << 10)) as u64, part, Stable::Unstable).expect("room");
        }
        client.commit(&file).expect("kept");
    }
}

#[test]
fn a_deletion_is_told_with_the_way_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    fine(&data, &["share", "create", "office"]);
    fill(&served, "office", 150, 120);
    fine(&data, &["snapshot", "create", "office", "--name", "monday"]);
    until("it is sealed", || facts(&data, &["snapshot", "list"])[0]["sealed"] == true);
    assert_eq!(losses(&data), Vec::<Value>::new());
    let delete = |client: &mut common::nfs::Client, files: std::ops::Range<usize>| {
        let root = client.mount("/office").expect("the share");
        files.for_each(|nth| client.remove(&root, format!("minutes-{nth}").as_bytes()).expect("there"));
    };
    delete(&mut served.connect(), 0..120);
    until("it is seen", || !losses(&data).is_empty());
    let loss = losses(&data)[0].clone();
    assert_eq!(
        [&loss["dataset"], &loss["snapshot"], &loss["lost_files"], &loss["held_files"], &loss["percent"]],
        [&Value::from("office"), &"monday".into(), &120.into(), &150.into(), &80.into()],
        "{loss}"
    );
    let said = fine(&data, &["status"]);
    assert!(
        said.contains("80 % of what its snapshot monday held") && said.contains("rewind office --to monday"),
        "{said}"
    );
    // A snapshot of what is left changes nothing, nor does a restart.
    fine(&data, &["snapshot", "create", "office", "--name", "tuesday"]);
    drop(served);
    served = Served::start(&data);
    assert_eq!(losses(&data).len(), 1, "it is known after a kill");
    fine(&data, &["rewind", "office", "--to", "monday", "--force"]);
    assert_eq!(losses(&data), Vec::<Value>::new(), "it was taken back");
    // What is from the second in which it was taken back, or before, is not compared with.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    fine(&data, &["snapshot", "create", "office", "--name", "wednesday"]);
    // With numbers of its own: else its calls were taken for those of before, sent again.
    delete(&mut served.connect().numbered_from(1 << 20), 0..140);
    until("it is seen again", || losses(&data).first().is_some_and(|loss| loss["snapshot"] == "wednesday"));
    assert!(fine(&data, &["dataset", "accept-loss", "office"]).contains("was meant"));
    assert_eq!(losses(&data), Vec::<Value>::new());
    assert_eq!(narrowboat(&data, &["dataset", "accept-loss", "office"]).code, 1, "nothing is told any more");
}

#[test]
fn files_that_were_written_over_as_if_encrypted_are_a_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&data_folder(folder.path(), "box"));
    let data = served.data.clone();
    fine(&data, &["share", "create", "office"]);
    fill(&served, "office", 20, 1 << 20);
    fine(&data, &["snapshot", "create", "office", "--name", "clear"]);
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    for nth in 0..18 {
        let (file, _) = client.lookup(&root, format!("minutes-{nth}").as_bytes()).expect("there");
        for (at, part) in noise(nth, 1 << 20).chunks(256 << 10).enumerate() {
            client.write(&file, (at * (256 << 10)) as u64, part, Stable::Unstable).expect("room");
        }
        client.commit(&file).expect("kept");
    }
    fine(&data, &["snapshot", "create", "office", "--name", "after"]);
    until("it is seen", || !losses(&data).is_empty());
    let loss = losses(&data)[0].clone();
    assert_eq!(
        [&loss["snapshot"], &loss["looks_encrypted"], &loss["lost_files"]],
        [&Value::from("clear"), &true.into(), &0.into()],
        "{loss}"
    );
    assert!(loss["percent"].as_u64().is_some_and(|percent| (85..=95).contains(&percent)), "{loss}");
    until("the notice is made", || {
        let open = facts(&data, &["notice", "list"])["open"].as_array().cloned().unwrap_or_default();
        open.iter().any(|open| open["key"] == "lost/office" && open["severity"] == "problem")
    });
}

#[test]
fn a_box_that_is_not_to_tell_it_does_not_look() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let file = data.join("narrowboat.toml");
    let config = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, config + "[notices]\nlost_percent = 0\n").expect("a config");
    let served = Served::start(&data);
    fine(&data, &["share", "create", "office"]);
    fill(&served, "office", 150, 120);
    fine(&data, &["snapshot", "create", "office", "--name", "monday"]);
    until("it is sealed", || facts(&data, &["snapshot", "list"])[0]["sealed"] == true);
    let mut client = served.connect();
    let root = client.mount("/office").expect("the share");
    (0..150).for_each(|nth| client.remove(&root, format!("minutes-{nth}").as_bytes()).expect("there"));
    std::thread::sleep(narrowboat::losses::EVERY + std::time::Duration::from_secs(5));
    assert_eq!(losses(&data), Vec::<Value>::new());
}
