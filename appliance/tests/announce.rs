//! A box that announces itself, and a neighbour with python-zeroconf that looks for it, in a network of their own.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::net::is_alone;
use common::{Served, data_folder, facts, fine, until};
use serde_json::Value;

/// The neighbour, on the private network.
const NEIGHBOUR: &str = "192.168.77.2";

fn system(words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    let done = Command::new(words[0]).args(&words[1..]).status().expect("iproute2");
    assert!(done.success(), "{words:?}");
}

/// Somebody on the private network, in a network namespace of his own. Gone when dropped.
struct Neighbour(Child);

impl Neighbour {
    /// Makes two networks: a private one, with him, and a public one without anybody.
    fn beside() -> Neighbour {
        for (name, address) in [("office", "192.168.77.1/24"), ("outside", "203.0.113.1/24")] {
            system(&format!("ip link add {name} type veth peer name {name}-end"));
            system(&format!("ip addr add {address} dev {name}"));
            system(&format!("ip link set {name} up"));
        }
        system("ip link set outside-end up");
        let child =
            Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().expect("unshare");
        let neighbour = Neighbour(child);
        let pid = neighbour.0.id();
        let own = fs::read_link("/proc/self/ns/net").expect("there");
        until("he has a network of his own", || {
            fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|his| his != own)
        });
        system(&format!("ip link set office-end netns {pid}"));
        for words in [&format!("addr add {NEIGHBOUR}/24 dev office-end"), "link set lo up", "link set office-end up"] {
            system(&format!("nsenter --net=/proc/{pid}/ns/net ip {words}"));
        }
        neighbour
    }

    fn runs(&self, args: &[&str]) -> Command {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/announce/peer.py");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("/usr/bin/python3");
        command.arg(program).args(args).stdin(Stdio::null());
        command
    }

    /// What he finds.
    fn finds(&self) -> Vec<Value> {
        let output = self.runs(&["find", NEIGHBOUR, "3"]).output().expect("Python (Debian: python3-zeroconf)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_page(folder: &Path, more: &str) -> PathBuf {
    let data = data_folder(folder, "box");
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, config.replace("[page]\nlisten = ''", &format!("[page]\nlisten = '0.0.0.0:4443'\n{more}")))
        .expect("room");
    data
}

#[test]
fn a_box_is_found_by_its_neighbours_and_by_nobody_else() {
    if !is_alone("a_box_is_found_by_its_neighbours_and_by_nobody_else") {
        return;
    }
    let neighbour = Neighbour::beside();
    let folder = tempfile::tempdir().expect("a folder");
    let data = with_page(folder.path(), "");
    let served = Served::start(&data);
    let claim = facts(&data, &["account", "claim"]);
    until("both services are there", || neighbour.finds().len() == 2);
    for service in neighbour.finds() {
        assert_eq!((&service["host"], &service["port"]), (&"box.local.".into(), &4443.into()), "{service:#}");
        assert_eq!(service["addresses"], serde_json::json!(["192.168.77.1"]), "not the one outside");
        let text = &service["text"];
        assert_eq!((&text["claimed"], &text["fingerprint"]), (&"no".into(), &claim["fingerprint"]), "{service:#}");
        assert_eq!(text.as_object().map(serde_json::Map::len), Some(2), "nothing else: {text:#}");
        let code = claim["code"].as_str().expect("a code");
        assert!(!service.to_string().contains(code), "{service:#}");
    }
    // It is claimed, which shows.
    let password = folder.path().join("password");
    fs::write(&password, "Tram 12 smells of rye bread").expect("room");
    fine(&data, &["account", "add", "anna", "--password-file", password.to_str().expect("UTF-8")]);
    until("it is claimed", || {
        neighbour.finds().iter().filter(|service| service["text"]["claimed"] == "yes").count() == 2
    });
    // It says farewell.
    fine(&data, &["stop"]);
    drop(served);
    assert_eq!(neighbour.finds(), [] as [Value; 0]);

    // Off is off.
    let file = data.join("narrowboat.toml");
    let text = fs::read_to_string(&file).expect("there").replace("[page]\n", "[page]\nannounce = false\n");
    fs::write(&file, text).expect("room");
    let _served = Served::start(&data);
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(neighbour.finds(), [] as [Value; 0]);
}
