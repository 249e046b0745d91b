//! The command line around the page: settings that are changed while a box runs, restarts, accounts and the audit log.

mod common;

use std::fs;

use common::{Served, data_folder, facts, fine, narrowboat, until};
use serde_json::Value;

const GOOD: &str = "Tram 12 smells of rye bread";

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn settings_are_changed_in_the_file_and_count_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let file = data.join("narrowboat.toml");
    let written = "# of the office in Bonn\n".to_owned() + &fs::read_to_string(&file).expect("there");
    fs::write(&file, &written).expect("written");
    let mut served = Served::start(&data);
    let before = facts(&data, &["status"]);
    fine(&data, &["share", "create", "films"]);
    let said =
        fine(&data, &["setting", "set", "name=bonn", "share.films.allow=10.0.0.0/8,127.0.0.0/8", "nfs.read_only=true"]);
    assert!(said.contains("next start"), "{said}");
    let now = fs::read_to_string(&file).expect("there");
    assert!(
        now.starts_with("# of the office in Bonn\nname = 'bonn'")
            || now.starts_with("# of the office in Bonn\nname = \"bonn\""),
        "{now}"
    );
    assert_eq!(text_of(&facts(&data, &["status"])["name"]), "box", "not yet");
    assert!(fine(&data, &["setting", "list"]).contains("NOTICE"));
    for (wrong, part) in [
        ("nfs.listen=here", "nfs.listen"),
        ("nfs.allow=10.0.0.0/99", "10.0.0.0/99"),
        ("hook.db.freeze=rm", "config file alone"),
        ("retention.quarantine_days=many", "whole number"),
        ("name", "KEY=VALUE"),
    ] {
        let said = narrowboat(&data, &["setting", "set", "name=never", wrong]);
        assert!(said.code == 1 && said.err.contains(part), "{wrong}: {said:?}");
    }
    assert_eq!(fs::read_to_string(&file).expect("there"), now, "all or nothing");

    assert!(fine(&data, &["restart"]).contains("restarting"));
    until("it is up again, as the file says", || {
        let said = narrowboat(&data, &["status", "--json"]);
        said.code == 0 && text_of(&serde_json::from_str::<Value>(&said.out).expect("JSON")["name"]) == "bonn"
    });
    let settings = facts(&data, &["setting", "list"]);
    assert_eq!(settings["pending"], false);
    let after = facts(&data, &["status"]);
    assert_eq!(after["store"], before["store"], "the same box");
    assert!(fine(&data, &["dataset", "list"]).contains("films"));
    fine(&data, &["setting", "unset", "nfs.read_only", "share.films.allow"]);
    assert!(!fs::read_to_string(&file).expect("there").contains("read_only"));
    fine(&data, &["stop"]);
    assert!(served.wait().success(), "the same process all along");
}

#[test]
fn who_has_the_box_itself_looks_after_its_accounts() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "box");
    let password = folder.path().join("password");
    fs::write(&password, format!("{GOOD}\n")).expect("written");
    let password = password.to_str().expect("UTF-8");
    let served = Served::start(&data);
    let claim = facts(&data, &["account", "claim"]);
    assert_eq!(text_of(&claim["code"]).len(), 19);
    assert_eq!(claim["claimed"], false);
    assert!(fine(&data, &["status"]).contains("account claim"));
    fine(&data, &["account", "add", "anna", "--password-file", password]);
    fine(&data, &["account", "add", "vera", "--role", "viewer", "--password-file", password]);
    assert_eq!(facts(&data, &["account", "claim"])["code"], Value::Null, "it belongs to somebody");
    let people = fine(&data, &["account", "list"]);
    assert!(people.contains("anna") && people.contains("viewer"), "{people}");
    fine(&data, &["account", "password", "vera", "--password-file", password]);
    fine(&data, &["account", "remove", "vera"]);
    let refused = narrowboat(&data, &["account", "remove", "anna"]);
    assert!(refused.code == 1 && refused.err.contains("last administrator"), "{refused:?}");
    let weak = folder.path().join("weak");
    fs::write(&weak, "password1").expect("written");
    let refused = narrowboat(&data, &["account", "add", "x", "--password-file", weak.to_str().expect("UTF-8")]);
    assert!(refused.code == 1 && refused.err.contains("characters"), "{refused:?}");

    let log = facts(&data, &["audit", "--limit", "100"]);
    let entries = log.as_array().expect("a list");
    let asked: Vec<String> =
        entries.iter().rev().filter(|entry| entry["of"].is_null()).map(|entry| text_of(&entry["what"])).collect();
    let expected = [
        "account-claim",
        "account-add",
        "account-add",
        "account-claim",
        "account-reset",
        "account-remove",
        "account-remove",
        "account-add",
    ];
    assert_eq!(asked, expected);
    assert!(entries.iter().all(|entry| entry["who"] == "console"));
    assert!(!log.to_string().contains(GOOD) && !served.log().contains(GOOD));
    assert!(fine(&data, &["audit"]).contains("last administrator"));
}
