//! Rules of retention on real boxes: previewed, then carried out, beside plans, holds and restarts.

mod common;

use std::path::Path;

use common::{Served, data_folder, facts, fine, narrowboat, pair, until};

fn snapshots(data: &Path, dataset: &str) -> Vec<String> {
    let list = facts(data, &["snapshot", "list", dataset]);
    list.as_array().expect("a list").iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

fn some(data: &Path, names: &[&str]) {
    names.iter().for_each(|name| drop(fine(data, &["snapshot", "create", "disk", "--name", name])));
}

#[test]
fn rules_are_previewed_and_then_carried_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "64MiB"]);
    some(&data, &["one", "two", "three", "four"]);
    fine(&data, &["snapshot", "hold", "disk@one"]);
    until("their roots", || facts(&data, &["snapshot", "list", "disk"]).as_array().unwrap().iter().all(is_sealed));

    let preview = facts(&data, &["retention", "set", "disk", "--last", "2", "--dry-run"]);
    let stays: Vec<bool> =
        preview["snapshots"].as_array().unwrap().iter().map(|verdict| verdict["stays"] == true).collect();
    assert_eq!(stays, [true, false, true, true], "{preview}");
    assert_eq!(facts(&data, &["retention", "list"]), serde_json::json!([]));
    let said = fine(&data, &["retention", "set", "disk", "--last", "2"]);
    assert!(said.contains("held") && said.contains("no rule wants it") && said.contains("3 stay, 1 go"), "{said}");
    until("what nobody wants to go", || snapshots(&data, "disk") == ["one", "three", "four"]);

    // They outlive the box, and count for what comes later.
    served.kill();
    let _served = Served::start(&data);
    some(&data, &["five"]);
    until("the next to go", || snapshots(&data, "disk") == ["one", "four", "five"]);
    assert_eq!(facts(&data, &["retention", "show", "disk"])["rules"], "2 last");

    fine(&data, &["retention", "delete", "disk"]);
    let refused = narrowboat(&data, &["retention", "show", "disk"]);
    assert!(refused.code != 0 && refused.err.contains("retention set disk"), "{refused:?}");
    let refused = narrowboat(&data, &["retention", "set", "disk", "--least", "3"]);
    assert!(refused.code != 0 && refused.err.contains("keep nothing"), "{refused:?}");
}

fn is_sealed(snapshot: &serde_json::Value) -> bool {
    snapshot["root"].is_string() || snapshot["sealed"] == true
}

#[test]
fn a_replica_has_rules_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (_head, _branch) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    some(&branch, &["one", "two", "three"]);
    for name in ["one", "two", "three"] {
        fine(&branch, &["replicate", &format!("disk@{name}"), "--to", "head", "--wait"]);
    }
    fine(&branch, &["retention", "set", "disk", "--last", "1"]);
    // The newest is also what the next difference is taken from.
    until("the branch to let go", || snapshots(&branch, "disk") == ["three"]);
    assert_eq!(snapshots(&head, "branch/disk"), ["one", "two", "three"], "whatever the branch does");
    fine(&head, &["retention", "set", "branch/disk", "--last", "2"]);
    until("the head office to let go", || snapshots(&head, "branch/disk") == ["two", "three"]);
    // The next one still goes as a difference.
    some(&branch, &["four"]);
    fine(&branch, &["replicate", "disk@four", "--to", "head", "--wait"]);
    until("the oldest to go", || snapshots(&head, "branch/disk") == ["three", "four"]);
}

#[test]
fn what_people_made_stays_until_the_peer_of_a_plan_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (served_head, _branch) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    some(&branch, &["sunday"]);
    fine(&branch, &["plan", "create", "disk", "--to", "head"]);
    until("the first copy", || facts(&branch, &["plan", "list"])[0]["newest_there"] == "sunday");
    served_head.kill();
    some(&branch, &["monday", "tuesday", "wednesday"]);
    // The first of them may be on its way already.
    let preview = fine(&branch, &["retention", "set", "disk", "--last", "1", "--dry-run"]);
    assert!(preview.matches("not at head yet").count() >= 2 && !preview.contains("no rule wants it"), "{preview}");
    fine(&branch, &["retention", "set", "disk", "--last", "1"]);
    let _head = Served::start(&head);
    until("all", || snapshots(&head, "branch/disk") == ["sunday", "monday", "tuesday", "wednesday"]);
    until("the branch to let go", || snapshots(&branch, "disk") == ["wednesday"]);
}

/// What arrives at the head office stays, whatever the branch, or somebody at the head office, wants.
#[test]
fn what_is_locked_goes_for_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let (head, branch) = (data_folder(folder.path(), "head"), data_folder(folder.path(), "branch"));
    let (served_head, _branch) = (Served::start(&head), Served::start(&branch));
    pair(&head, &branch);
    let rules = facts(&head, &["retention", "lock", "--replicas", "--for", "30d"]);
    assert_eq!(rules[0]["seconds"], 30 * 86_400);
    fine(&branch, &["volume", "create", "disk", "--size", "64MiB"]);
    some(&branch, &["one", "two"]);
    for name in ["one", "two"] {
        fine(&branch, &["replicate", &format!("disk@{name}"), "--to", "head", "--wait"]);
        fine(&branch, &["snapshot", "delete", &format!("disk@{name}")]);
    }
    assert_eq!(snapshots(&head, "branch/disk"), ["one", "two"]);
    served_head.kill();
    let _head = Served::start(&head);
    fine(&head, &["retention", "lock", "--replicas", "--off"]);
    for wish in [["snapshot", "delete", "branch/disk@one"], ["dataset", "delete", "branch/disk"]] {
        let refused = narrowboat(&head, &wish);
        assert!(refused.code != 0 && refused.err.contains("nobody can delete it before"), "{refused:?}");
    }
    let locked = |told: &str| ["30 d", "29 d 23 h"].iter().any(|left| told.contains(&format!("locked for {left}")));
    let preview = fine(&head, &["retention", "set", "branch/disk", "--last", "1", "--dry-run"]);
    assert!(preview.contains("2 stay, 0 go") && locked(&preview), "{preview}");
    let list = fine(&head, &["snapshot", "list", "branch/disk"]);
    assert!(locked(&list), "{list}");
    assert_eq!(facts(&head, &["retention", "lock"]), serde_json::json!([]), "the rule is gone, not what it locked");

    // One by one, never shorter, and a slip of the keyboard is asked about.
    some(&branch, &["three"]);
    let lock = |time: &[&str]| narrowboat(&branch, &[&["snapshot", "lock", "disk@three", "--for"], time].concat());
    assert_eq!(lock(&["2d"]).code, 0);
    assert!(lock(&["1d"]).err.contains("never made shorter"));
    assert!(lock(&["900d"]).err.contains("--years"));
    assert_eq!(lock(&["900d", "--years"]).code, 0);
    let refused = narrowboat(&branch, &["dataset", "delete", "disk"]);
    assert!(refused.code != 0 && refused.err.contains("900 days"), "{refused:?}");
}
