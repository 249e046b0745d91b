//! What is deleted on a real box can be had back: by command and after rules, over restarts, with its rules and plans.

mod common;

use std::path::Path;

use common::{Served, data_folder, facts, fine, narrowboat, until, without_quarantine};

fn names(data: &Path, words: &[&str]) -> Vec<String> {
    let list = facts(data, words);
    list.as_array().expect("a list").iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn what_people_and_rules_delete_is_listed_and_comes_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let served = Served::start(&data);
    fine(&data, &["volume", "create", "disk", "--size", "64MiB"]);
    for name in ["one", "two", "three"] {
        fine(&data, &["snapshot", "create", "disk", "--name", name]);
    }
    let said = fine(&data, &["snapshot", "delete", "disk@two"]);
    assert!(said.contains("snapshot undelete disk@two") && said.contains("7 d"), "{said}");
    fine(&data, &["retention", "set", "disk", "--last", "1"]);
    until("what no rule wants to go", || names(&data, &["snapshot", "list", "disk"]) == ["three"]);
    let deleted = facts(&data, &["snapshot", "list", "--deleted", "disk"]);
    let told: Vec<_> = deleted.as_array().unwrap().iter().map(|row| (row["name"].clone(), row["by"].clone())).collect();
    assert_eq!(told, [("one".into(), "retention".into()), ("two".into(), "a person".into())], "{deleted}");
    assert_eq!(facts(&data, &["status"])["quarantine"]["snapshots"], 2);
    fine(&data, &["snapshot", "create", "disk", "--name", "two"]);
    let refused = narrowboat(&data, &["snapshot", "undelete", "disk@two"]);
    assert!(refused.code != 0 && refused.err.contains("--as"), "{refused:?}");

    // A dataset comes back over a restart, with its snapshots and its rules.
    fine(&data, &["dataset", "delete", "disk"]);
    assert!(names(&data, &["dataset", "list"]).is_empty() && names(&data, &["snapshot", "list"]).is_empty());
    served.kill();
    let _served = Served::start(&data);
    assert_eq!(names(&data, &["dataset", "list", "--deleted"]), ["disk"]);
    assert!(fine(&data, &["dataset", "list", "--deleted"]).contains("a person"));
    fine(&data, &["volume", "create", "disk", "--size", "32MiB"]);
    let refused = narrowboat(&data, &["dataset", "undelete", "disk"]);
    assert!(refused.code != 0 && refused.err.contains("--as"), "{refused:?}");
    fine(&data, &["dataset", "undelete", "disk", "--as", "disk-then"]);
    assert_eq!(facts(&data, &["retention", "show", "disk-then"])["rules"], "1 last");
    until("the rules to count again", || names(&data, &["snapshot", "list", "disk-then"]) == ["two"]);
    assert_eq!(facts(&data, &["check", "--deep"])["sound"], true);
}

#[test]
fn root_gives_it_up_before_its_time_and_is_told_what_that_frees() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let _served = Served::start(&data);
    fine(&data, &["share", "create", "office"]);
    fine(&data, &["snapshot", "create", "office", "--name", "one"]);
    fine(&data, &["snapshot", "create", "office", "--name", "two"]);
    fine(&data, &["snapshot", "delete", "office@one"]);
    let refused = narrowboat(&data, &["quarantine", "empty", "office@two"]);
    assert!(refused.code != 0, "{refused:?}");
    let listed = facts(&data, &["dataset", "list", "--freeable"]);
    assert!(listed[0]["frees_bytes"].as_u64() > Some(0), "{listed}");
    let listed = facts(&data, &["snapshot", "list", "--recount"]);
    assert!(listed[0]["frees_bytes"].is_u64(), "{listed}");
    assert!(facts(&data, &["status"])["freeable"]["needed_bytes"].as_u64() > Some(0));
    let said = fine(&data, &["snapshot", "list", "--freeable"]);
    assert!(said.contains("office@two") && said.contains("FREES") && said.contains("as of"), "{said}");
    let told = facts(&data, &["quarantine", "empty", "--dry-run"]);
    assert_eq!((told["preview"].clone(), told["snapshots"].clone()), (true.into(), 1.into()), "{told}");
    assert!(told["freeable_bytes"].is_u64(), "{told}");
    assert_eq!(names(&data, &["snapshot", "list", "--deleted"]), ["one"]);
    let emptied = narrowboat(&data, &["quarantine", "empty", "office@one"]);
    if rustix::process::geteuid().is_root() {
        assert!(emptied.code == 0 && emptied.out.contains("gone for good"), "{emptied:?}");
        assert!(names(&data, &["snapshot", "list", "--deleted"]).is_empty());
        let refused = narrowboat(&data, &["snapshot", "undelete", "office@one"]);
        assert!(refused.code != 0 && refused.err.contains("office@one") | refused.err.contains("one"), "{refused:?}");
    } else {
        assert!(emptied.code != 0 && emptied.err.contains("only root"), "{emptied:?}");
    }
    assert_eq!(names(&data, &["snapshot", "list"]), ["two"]);
}

#[test]
fn without_a_quarantine_it_is_gone_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    without_quarantine(&data);
    let _served = Served::start(&data);
    fine(&data, &["share", "create", "office"]);
    fine(&data, &["snapshot", "create", "office", "--name", "one"]);
    fine(&data, &["snapshot", "delete", "office@one"]);
    fine(&data, &["dataset", "delete", "office"]);
    assert!(names(&data, &["dataset", "list", "--deleted"]).is_empty());
    assert!(narrowboat(&data, &["dataset", "undelete", "office"]).code != 0);
}
