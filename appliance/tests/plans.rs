//! Plans on real boxes: what goes to a peer by itself, while it changes, over pauses, cancellations and `kill -9`.

mod common;

use std::path::{Path, PathBuf};

use common::{Served, data_folder, facts, fine, narrowboat, pair, until, without_quarantine, write_noise};
use serde_json::Value;

/// What is said of the only plan.
fn plan(data: &Path) -> Value {
    facts(data, &["plan", "list"])[0].clone()
}

/// Names of the snapshots of a dataset, the oldest first; none where it is not there yet.
fn snapshots(data: &Path, dataset: &str) -> Vec<String> {
    let list = facts(data, &["snapshot", "list"]);
    let rows = list.as_array().expect("a list").iter().filter(|row| row["dataset"] == dataset);
    rows.map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

fn root(data: &Path, dataset: &str, snapshot: &str) -> Value {
    let list = facts(data, &["snapshot", "list", dataset]);
    let found = list.as_array().expect("a list").iter().find(|row| row["name"] == snapshot).cloned();
    found.expect("a snapshot")["root"].clone()
}

/// Two boxes, head and branch, that have paired, and a volume `disk` at the branch: their folders, and they themselves.
fn two_boxes(folder: &Path) -> (PathBuf, PathBuf, Served, Served) {
    let (head, branch) = (data_folder(folder, "head"), data_folder(folder, "branch"));
    let (served_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    (head, branch, served_head, served)
}

fn is_up_to_date(data: &Path) -> bool {
    let plan = plan(data);
    plan["state"] == "up to date" && plan["behind_seconds"] == 0.0
}

#[test]
fn a_dataset_goes_to_a_peer_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, _head, served) = two_boxes(folder.path());
    let said = fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    assert_eq!(said.trim(), "disk goes to head: follows every change");
    until("the first copy", || is_up_to_date(&branch));
    let first = plan(&branch)["newest_there"].as_str().expect("a snapshot").to_owned();
    assert!(first.starts_with("auto-"), "{first}");

    // Nobody says anything but the initiator.
    write_noise(&served);
    until("what was written", || is_up_to_date(&branch) && plan(&branch)["newest_there"] != first.as_str());
    let second = plan(&branch)["newest_there"].as_str().expect("a snapshot").to_owned();
    let why = facts(&branch, &["replication", "show", "2"]);
    assert_eq!((&why["choices"]["unasked"], &why["choices"]["bundles"]), (&true.into(), &true.into()), "{why}");
    let told = fine(&branch, &["replication", "show", "2"]);
    assert!(told.contains("was sent unasked"), "{told}");
    assert_eq!(root(&head, "branch/disk", &second), root(&branch, "disk", &second));
    until("the older one to go", || snapshots(&branch, "disk") == [second.as_str()]);
    assert_eq!(snapshots(&head, "branch/disk"), [first.as_str(), &second], "there it is kept");

    // What people make goes as well, each of it, and stays.
    fine(&branch, &["snapshot", "create", "disk", "--name", "monday"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "tuesday"]);
    until("both", || snapshots(&head, "branch/disk") == [first.as_str(), &second, "monday", "tuesday"]);
    until("the older one to go", || snapshots(&branch, "disk") == ["monday", "tuesday"]);

    // It outlives the box.
    served.kill();
    let served = Served::start(&branch);
    write_noise(&served);
    fine(&branch, &["snapshot", "create", "disk", "--name", "wednesday"]);
    until("what came later", || snapshots(&head, "branch/disk").iter().any(|name| name == "wednesday"));
    let status = fine(&branch, &["status"]);
    assert!(status.contains("follows every change"), "{status}");
}

#[test]
fn a_plan_can_be_paused_changed_and_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, _head, served) = two_boxes(folder.path());
    for wrong in [
        &["plan", "create", "disk", "--to", "nobody"][..],
        &["plan", "create", "nothing", "--to", "head"],
        &["plan", "create", "disk", "--to", "head", "--every", "1s"],
        &["plan", "create", "disk", "--to", "head", "--hours", "sometimes"],
        &["plan", "pause", "disk"],
        &["plan", "delete", "disk", "--to", "head"],
        &["replication", "cancel", "7"],
    ] {
        let refused = narrowboat(&branch, wrong);
        assert_eq!(refused.code, 1, "{wrong:?}: {refused:?}");
    }
    fine(&branch, &["plan", "create", "disk", "--to", "head", "--every", "1h", "--class", "urgent"]);
    until("the first copy", || is_up_to_date(&branch));
    write_noise(&served);
    until("the next hour", || plan(&branch)["state"] == "waiting");
    assert!(plan(&branch)["next"].is_string() && plan(&branch)["behind_seconds"].as_f64() > Some(0.0));

    // A line so thin that it takes minutes: cancelled, it is not sent again, but the next is.
    fine(&branch, &["limit", "head", "--rate", "256kbit"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "noisy"]);
    let sent = || facts(&branch, &["replication", "list"])[0].clone();
    until("it to be sent", || plan(&branch)["state"] == "sending" && sent()["snapshot"] == "disk@noisy");
    fine(&branch, &["replication", "cancel", &sent()["id"].to_string()]);
    until("it to be cancelled", || sent()["state"] == "cancelled");
    until("the plan to leave it", || plan(&branch)["state"] != "sending");
    assert_eq!(sent()["snapshot"], "disk@noisy");
    fine(&branch, &["snapshot", "create", "disk", "--name", "later"]);
    until("the next", || plan(&branch)["state"] == "sending");

    fine(&branch, &["plan", "pause", "disk"]);
    until("a pause", || plan(&branch)["state"] == "paused" && sent()["state"] == "cancelled");
    fine(&branch, &["limit", "head", "--rate", "unlimited"]);
    assert_eq!(plan(&branch)["state"], "paused");
    fine(&branch, &["plan", "create", "disk", "--to", "head", "--hours", "always"]);
    let kept = plan(&branch);
    assert_eq!(
        (&kept["every_seconds"], &kept["class"], &kept["state"]),
        (&3600.into(), &"urgent".into(), &"paused".into())
    );
    fine(&branch, &["plan", "resume", "disk", "--to", "head"]);
    until("the rest", || snapshots(&head, "branch/disk").iter().any(|name| name == "later"));

    fine(&branch, &["plan", "delete", "disk"]);
    assert_eq!(facts(&branch, &["plan", "list"]), Value::Array(Vec::new()));
}

/// A box whose config file says that `peer` may pass on what others made.
fn forwarding_from(folder: &Path, name: &str, peer: &str) -> std::path::PathBuf {
    let data = data_folder(folder, name);
    let file = data.join("narrowboat.toml");
    let text = std::fs::read_to_string(&file).expect("a config file");
    std::fs::write(&file, format!("{text}\n[peer.{peer}]\nforwards = true\n")).expect("written");
    data
}

#[test]
fn a_chain_of_three_boxes_passes_on_what_the_first_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let (branch, hub) = (data_folder(folder.path(), "branch"), data_folder(folder.path(), "hub"));
    let vault = forwarding_from(folder.path(), "vault", "hub");
    let served = Served::start(&branch);
    let (_hub, _vault) = (Served::start(&hub), Served::start(&vault));
    pair(&hub, &branch);
    pair(&vault, &hub);
    pair(&vault, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    fine(&branch, &["plan", "create", "disk", "--to", "hub"]);
    until("the first copy", || is_up_to_date(&branch));
    fine(&hub, &["plan", "create", "branch/disk", "--to", "vault"]);
    write_noise(&served);
    fine(&branch, &["snapshot", "create", "disk", "--name", "monday"]);
    until("monday", || snapshots(&vault, "hub/branch/disk").iter().any(|name| name == "monday"));
    until("an end", || is_up_to_date(&hub));
    assert_eq!(root(&vault, "hub/branch/disk", "monday"), root(&branch, "disk", "monday"));
    let image = folder.path().join("image");
    fine(&vault, &["restore", "hub/branch/disk@monday", image.to_str().expect("a path")]);
    assert_eq!(std::fs::metadata(&image).expect("an image").len(), 64 << 20);
    // The hub keeps what its own plan has sent on.
    assert!(snapshots(&hub, "branch/disk").iter().any(|name| name.starts_with("auto-")));

    // From the branch itself the vault takes it as well, into the same replica; and it costs next to nothing.
    fine(&branch, &["snapshot", "create", "disk", "--name", "direct"]);
    let sent = facts(&branch, &["replicate", "disk@direct", "--to", "vault", "--wait"]);
    assert!(sent["payload_bytes"].as_u64() < Some(64 << 10) && sent["proved"] == true, "{sent}");
    assert!(snapshots(&vault, "hub/branch/disk").iter().any(|name| name == "direct"));

    // From then on the branch alone says what is in it; what the hub has of the same is no offence.
    fine(&hub, &["replicate", "branch/disk@monday", "--to", "vault", "--wait"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "later"]);
    until("later", || snapshots(&hub, "branch/disk").iter().any(|name| name == "later"));
    let refused = narrowboat(&hub, &["replicate", "branch/disk@later", "--to", "vault", "--wait"]);
    assert!(refused.code != 0 && refused.err.contains("from the box that made it"), "{refused:?}");
    // Until the branch is no peer of the vault any more.
    fine(&vault, &["peer", "remove", "branch"]);
    fine(&hub, &["replicate", "branch/disk@later", "--to", "vault", "--wait"]);
    assert!(snapshots(&vault, "hub/branch/disk").iter().any(|name| name == "later"));

    // Back to where it came from nothing goes; and what others made only to who said so.
    let back = narrowboat(&hub, &["replicate", "branch/disk@monday", "--to", "branch"]);
    assert!(back.code != 0 && back.err.contains("branch/disk came from branch"), "{back:?}");
    assert!(narrowboat(&hub, &["plan", "create", "branch/disk", "--to", "branch"]).code != 0);
    let back = narrowboat(&vault, &["replicate", "hub/branch/disk@monday", "--to", "hub", "--wait"]);
    assert!(back.code != 0 && back.err.contains("hub/branch/disk came from hub"), "{back:?}");
}

#[test]
fn names_that_are_used_again_stop_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, _head, served) = two_boxes(folder.path());
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the first copy", || is_up_to_date(&branch));
    let by_people = |dataset: &str| -> Vec<String> {
        snapshots(&head, dataset).into_iter().filter(|name| !name.starts_with("auto-")).collect()
    };
    // As a script does that always keeps the latest.
    fine(&branch, &["snapshot", "create", "disk", "--name", "latest"]);
    until("the first", || by_people("branch/disk") == ["latest"]);
    fine(&branch, &["snapshot", "delete", "disk@latest"]);
    write_noise(&served);
    fine(&branch, &["snapshot", "create", "disk", "--name", "latest"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "after"]);
    until("all", || by_people("branch/disk") == ["latest", "latest-2", "after"]);
    assert_eq!(root(&head, "branch/disk", "latest-2"), root(&branch, "disk", "latest"));
    until("the plan to see it", || is_up_to_date(&branch));

    // And the whole volume is made anew.
    fine(&branch, &["dataset", "delete", "disk"]);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "new"]);
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the new one", || by_people("branch/disk-2") == ["new"] && is_up_to_date(&branch));
    assert_eq!(by_people("branch/disk"), ["latest", "latest-2", "after"], "the old one is another");
}

#[test]
fn what_was_cancelled_stays_so_over_a_restart_and_a_pause() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, branch, _head, served) = two_boxes(folder.path());
    fine(&branch, &["plan", "create", "disk", "--to", "head", "--every", "1h"]);
    until("the first copy", || is_up_to_date(&branch));
    write_noise(&served);
    fine(&branch, &["limit", "head", "--rate", "256kbit"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "noisy"]);
    let sent = || facts(&branch, &["replication", "list"])[0].clone();
    until("it to be sent", || plan(&branch)["state"] == "sending" && sent()["snapshot"] == "disk@noisy");
    fine(&branch, &["replication", "cancel", &sent()["id"].to_string()]);
    fine(&branch, &["plan", "pause", "disk"]);
    fine(&branch, &["plan", "create", "disk", "--to", "head", "--every", "2h"]);
    fine(&branch, &["plan", "resume", "disk"]);
    until("the plan to leave it", || plan(&branch)["state"] == "up to date");
    served.kill();
    let _served = Served::start(&branch);
    // The first that goes is a question about what is there.
    until("something to go", || sent()["snapshot"].is_string());
    assert_ne!(sent()["snapshot"], "disk@noisy");
    until("the plan to leave it", || plan(&branch)["state"] == "up to date");
}

#[test]
fn a_replica_that_was_deleted_there_is_sent_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, _head, served) = two_boxes(folder.path());
    write_noise(&served);
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the first copy", || is_up_to_date(&branch));
    served.kill();
    let served = Served::start(&branch);
    until("a question", || facts(&branch, &["replication", "list"])[0]["state"] == "done");
    let asked = facts(&branch, &["replication", "list"])[0].clone();
    assert_eq!(asked["payload_bytes"], 0, "it is still there: {asked}");
    served.kill();
    fine(&head, &["dataset", "delete", "branch/disk"]);
    let _served = Served::start(&branch);
    until("it to be there again", || !snapshots(&head, "branch/disk").is_empty());
    until("an end", || is_up_to_date(&branch));
}

/// While what was lost there is sent again, nobody is told that it is there.
#[test]
fn what_was_lost_there_is_not_said_to_be_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    without_quarantine(&head);
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    write_noise(&served);
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the first copy", || is_up_to_date(&branch));
    assert!(plan(&branch)["newest_there"].is_string());
    // 4 MiB take some minutes then: long enough to be looked at.
    fine(&branch, &["limit", "head", "--rate", "256kbit"]);
    served.kill();
    fine(&head, &["dataset", "delete", "branch/disk"]);
    // Its chunks are still there, and nobody would have to send them.
    fine(&head, &["reclaim"]);
    let _served = Served::start(&branch);
    let sent = || facts(&branch, &["replication", "list"])[0].clone();
    until("it to be sent again", || sent()["payload_bytes"].as_u64() > Some(0));
    let told = plan(&branch);
    assert_eq!((&told["state"], &told["newest_there"]), (&"sending".into(), &Value::Null), "{told}");
    assert!(told["behind_seconds"].is_null(), "{told}");
    fine(&branch, &["limit", "head", "--rate", "unlimited"]);
    until("an end", || is_up_to_date(&branch));
    let newest = plan(&branch)["newest_there"].as_str().expect("a snapshot").to_owned();
    assert_eq!(root(&head, "branch/disk", &newest), root(&branch, "disk", &newest));
}

/// The store's disk was lost, the box's key was not.
#[test]
fn a_peer_with_a_new_store_gets_everything() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, served_head, _served) = two_boxes(folder.path());
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the first copy", || is_up_to_date(&branch));
    served_head.kill();
    let old = head.with_extension("old");
    std::fs::rename(&head, &old).expect("moved");
    let head = data_folder(folder.path(), "head");
    std::fs::copy(old.join("identity.key"), head.join("identity.key")).expect("copied");
    let _head = Served::start(&head);
    pair(&head, &branch);
    until("it to be there", || !snapshots(&head, "branch/disk").is_empty());
}

/// Both boxes lost their keys and kept their stores, one after the other: they are paired anew once the old key was forgotten, and nothing is sent twice.
#[test]
fn boxes_with_new_keys_are_paired_anew_and_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, mut served_head, mut served) = two_boxes(folder.path());
    write_noise(&served);
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the first copy", || is_up_to_date(&branch));
    let names = snapshots(&head, "branch/disk");
    for (which, at, peer) in [(&head, &branch, "head"), (&branch, &head, "branch")] {
        let running = if peer == "head" { &mut served_head } else { &mut served };
        let key = |list: Value| list[0]["id"].clone();
        let old = key(facts(at, &["peer", "list"]));
        fine(which, &["stop"]);
        assert!(running.wait().success());
        std::fs::remove_file(which.join("identity.key")).expect("a key");
        *running = Served::start(which);
        // Somebody who only says that he has this store is not believed.
        let invitation = facts(&head, &["peer", "invite"]);
        let (code, listen) =
            (invitation["code"].as_str().expect("a code"), invitation["listen"].as_str().expect("where"));
        let refused = narrowboat(&branch, &["peer", "join", code, listen]);
        assert_ne!(refused.code, 0, "{refused:?}");
        fine(at, &["peer", "remove", peer]);
        // The branch's plan is for the key that it was made for.
        let plans = if peer == "head" { 0 } else { 1 };
        assert_eq!(facts(&branch, &["plan", "list"]).as_array().map(Vec::len), Some(plans));
        pair(&head, &branch);
        fine(&branch, &["plan", "create", "disk", "--to", "head"]);
        assert_ne!(key(facts(at, &["peer", "list"])), old);
        assert_eq!(facts(at, &["peer", "list"])[0]["name"], peer, "it has its name again");
    }
    assert_eq!(snapshots(&head, "branch/disk"), names, "replicas stay");
    fine(&branch, &["snapshot", "create", "disk", "--name", "after"]);
    let sent = facts(&branch, &["replicate", "disk@after", "--to", "head", "--wait"]);
    assert!(sent["payload_bytes"].as_u64() < Some(64 << 10) && sent["proved"] == true, "{sent}");
    assert_eq!(root(&head, "branch/disk", "after"), root(&branch, "disk", "after"), "in the same replica");
}

#[test]
fn what_people_made_goes_one_by_one_also_where_the_newest_there_was_deleted_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch, _head, _served) = two_boxes(folder.path());
    fine(&branch, &["snapshot", "create", "disk", "--name", "monday"]);
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("monday", || plan(&branch)["newest_there"] == "monday");
    fine(&branch, &["plan", "pause", "disk"]);
    for name in ["tuesday", "wednesday"] {
        fine(&branch, &["snapshot", "create", "disk", "--name", name]);
    }
    fine(&branch, &["snapshot", "delete", "disk@monday"]);
    fine(&branch, &["plan", "resume", "disk"]);
    until("both", || snapshots(&head, "branch/disk") == ["monday", "tuesday", "wednesday"]);
}

#[test]
fn what_is_removed_leaves_nothing_in_the_catalogue() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    without_quarantine(&branch);
    let (_head, served) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    for name in ["disk", "other"] {
        fine(&branch, &["volume", "create", name, "--size", "64MiB"]);
        fine(&branch, &["snapshot", "create", name, "--name", "one"]);
        fine(&branch, &["replicate", &format!("{name}@one"), "--to", "head", "--wait"]);
    }
    fine(&branch, &["plan", "create", "other", "--to", "head", "--every", "1h"]);
    fine(&branch, &["retention", "set", "other", "--daily", "30"]);
    fine(&branch, &["dataset", "delete", "other"]);
    // The peer goes while something is on its way to it.
    write_noise(&served);
    fine(&branch, &["limit", "head", "--rate", "256kbit"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "two"]);
    fine(&branch, &["replicate", "disk@two", "--to", "head"]);
    let state = || facts(&branch, &["replication", "list"])[0]["state"].clone();
    until("it to be under way", || state() == "running");
    fine(&branch, &["peer", "remove", "head"]);
    until("its end", || state() == "failed");
    served.end_with(rustix::process::Signal::TERM);
    let config = narrowboat::config::Config::default();
    let (store, _) = narrowboat::node::open_store(&branch, &config).expect("a store");
    for prefix in ["plan/", "peer.", "retention", "replica."] {
        assert_eq!(store.settings(prefix), Vec::new(), "{prefix}");
    }
}

#[test]
fn who_forwards_does_not_touch_what_comes_directly() {
    let folder = tempfile::tempdir().expect("a folder");
    let (branch, hub) = (data_folder(folder.path(), "branch"), data_folder(folder.path(), "hub"));
    let vault = forwarding_from(folder.path(), "vault", "hub");
    let _served = [Served::start(&branch), Served::start(&hub), Served::start(&vault)];
    pair(&hub, &branch);
    pair(&vault, &hub);
    pair(&vault, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "one"]);
    fine(&branch, &["replicate", "disk@one", "--to", "vault", "--wait"]);
    fine(&branch, &["snapshot", "create", "disk", "--name", "two"]);
    fine(&branch, &["replicate", "disk@two", "--to", "hub", "--wait"]);
    let refused = narrowboat(&hub, &["replicate", "branch/disk@two", "--to", "vault", "--wait"]);
    assert!(refused.code != 0 && refused.err.contains("from elsewhere already"), "{refused:?}");
    assert_eq!(snapshots(&vault, "branch/disk"), ["one"]);
}

#[test]
fn who_no_longer_waits_for_a_replication_takes_no_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (_head, _branch) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    fine(&branch, &["limit", "head", "--rate", "pause"]);
    // As many as the box answers at once wait for what will not end, and are given up, as a script with a time-out does.
    for _ in 0..4 {
        let wait = || {
            let mut command = std::process::Command::new(common::PROGRAM);
            command.arg("--data").arg(&branch).args(["replicate", "disk", "--to", "head", "--wait"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            command.spawn().expect("the program")
        };
        let mut waiting: Vec<_> = (0..16).map(|_| wait()).collect();
        std::thread::sleep(std::time::Duration::from_secs(2));
        for child in &mut waiting {
            child.kill().expect("it waits");
            child.wait().expect("a child");
        }
    }
    until("an answer", || narrowboat(&branch, &["replication", "list"]).code == 0);
    assert_eq!(facts(&branch, &["replication", "list"])[0]["state"], "running", "it goes on by itself");
}
