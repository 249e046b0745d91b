//! A box that announces itself, and a neighbour with python-zeroconf that looks for it, in a network of their own.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::net::is_alone;
use common::{Served, data_folder, facts, fine, until};
use narrowboat::control::Request;
use narrowboat::control::reports::Status;
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
        // "office" is a switch: its lines are joined and parted while all of them stay up.
        system("ip link add office type bridge");
        for name in ["line", "spare", "outside"] {
            system(&format!("ip link add {name} type veth peer name {name}-end"));
            system(&format!("ip link set {name} up"));
        }
        system("ip link set line master office");
        system("ip link set spare master office");
        for (name, address) in [("office", "192.168.77.1/24"), ("outside", "203.0.113.1/24")] {
            system(&format!("ip addr add {address} dev {name}"));
            system(&format!("ip link set {name} up"));
        }
        system("ip link set outside-end up");
        system("ip link set spare-end up");
        let child =
            Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).spawn().expect("unshare");
        let neighbour = Neighbour(child);
        let pid = neighbour.0.id();
        let own = fs::read_link("/proc/self/ns/net").expect("there");
        until("he has a network of his own", || {
            fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|his| his != own)
        });
        system(&format!("ip link set line-end netns {pid}"));
        for words in [&format!("addr add {NEIGHBOUR}/24 dev line-end"), "link set lo up", "link set line-end up"] {
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

    /// A box of his own, in his network.
    fn serves(&self, data: &Path) -> Served {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(common::PROGRAM);
        Served::start_as(data, command)
    }

    /// Starts something of his that prints lines; it ends with what is returned.
    fn starts(&self, args: &[&str]) -> (Background, impl Iterator<Item = String> + use<>) {
        let mut child = self.runs(args).stdout(Stdio::piped()).spawn().expect("Python (Debian: python3-zeroconf)");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        (Background(child), lines)
    }

    /// What he finds.
    fn finds(&self) -> Vec<Value> {
        let output = self.runs(&["find", NEIGHBOUR, "3"]).output().expect("Python (Debian: python3-zeroconf)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// A process that is killed when this is dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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
    give_page(&data, more);
    data
}

/// A box that is called "box", too, with the page at its own address.
fn twin(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder.join("twin")).expect("room");
    let data = data_folder(&folder.join("twin"), "box");
    give_page(&data, "");
    data
}

fn give_page(data: &Path, more: &str) {
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, config.replace("[page]\nlisten = ''", &format!("[page]\nlisten = '0.0.0.0:4443'\n{more}")))
        .expect("room");
}

/// By which name a box says it is found; empty where it is by none yet.
fn found_as(served: &Served) -> String {
    served.ask::<Status>(&Request::Status).ok().and_then(|status| status.found_as).unwrap_or_default()
}

/// The hosts of all services, each with where they are.
fn hosts(found: &[Value]) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found.iter().map(|service| (text(&service["host"]), text(&service["addresses"][0]))).collect()
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

#[test]
fn of_two_boxes_of_one_name_one_takes_another_and_keeps_it() {
    if !is_alone("of_two_boxes_of_one_name_one_takes_another_and_keeps_it") {
        return;
    }
    let neighbour = Neighbour::beside();
    let folder = tempfile::tempdir().expect("a folder");
    let (data, twin) = (with_page(folder.path(), ""), twin(folder.path()));
    let first = Served::start(&data);
    until("it has its name", || found_as(&first) == "box.local");
    let second = neighbour.serves(&twin);
    until("the other has another one", || found_as(&second) == "box-2.local");
    assert_eq!(found_as(&first), "box.local", "who had it keeps it");
    let both = [("box.local.", "192.168.77.1"), ("box-2.local.", NEIGHBOUR)];
    let both: BTreeSet<_> = both.map(|(host, address)| (host.to_owned(), address.to_owned())).into();
    until("a client of another maker sees both", || hosts(&neighbour.finds()) == both);
    for service in neighbour.finds() {
        let name = service["name"].as_str().expect("a name");
        let own = if service["addresses"][0] == NEIGHBOUR { "box-2." } else { "box." };
        assert!(name.starts_with(own), "host and service have one name: {service:#}");
    }
    // Where the page and the console say how it is reached.
    let claim = facts(&twin, &["account", "claim"]);
    assert_eq!(claim["urls"][0], "https://box-2.local:4443/");
    assert!(fine(&twin, &["status"]).contains("box-2.local"));

    // Whoever comes first after a power cut: each is found by the name that it had.
    drop((first, second));
    let second = neighbour.serves(&twin);
    until("it has its name again", || found_as(&second) == "box-2.local");
    let first = Served::start(&data);
    until("it has its name again", || found_as(&first) == "box.local");

    // Both say farewell to who listens.
    let (_watch, mut lines) = neighbour.starts(&["watch", NEIGHBOUR, "60"]);
    let mut heard = |state: &str, wanted: usize| {
        let mut names = BTreeSet::new();
        while names.len() < wanted {
            let line: Value = serde_json::from_str(&lines.next().expect("he hears it")).expect("JSON");
            if line["state"] == state {
                names.insert(line["name"].to_string());
            }
        }
        names
    };
    assert_eq!(heard("Added", 4).len(), 4);
    let begun = std::time::Instant::now();
    fine(&twin, &["stop"]);
    assert!(heard("Removed", 2).iter().all(|name| name.contains("box-2.")));
    fine(&data, &["stop"]);
    assert!(heard("Removed", 2).iter().all(|name| name.contains("box.")));
    assert!(begun.elapsed().as_secs() < 30, "a record that nobody takes back stays for minutes");
    drop((first, second));
}

#[test]
fn a_name_that_another_makers_machine_has_is_left_to_it() {
    if !is_alone("a_name_that_another_makers_machine_has_is_left_to_it") {
        return;
    }
    let neighbour = Neighbour::beside();
    let folder = tempfile::tempdir().expect("a folder");
    let data = with_page(folder.path(), "");
    let (_hold, mut lines) = neighbour.starts(&["hold", NEIGHBOUR, "box", "600"]);
    assert_eq!(lines.next().as_deref(), Some("held"));
    let served = Served::start(&data);
    until("it has another one", || found_as(&served) == "box-2.local");
    until("both are found", || {
        let found = hosts(&neighbour.finds());
        found.contains(&("box-2.local.".into(), "192.168.77.1".into()))
            && found.contains(&("box.local.".into(), NEIGHBOUR.into()))
    });
}

#[test]
fn boxes_of_one_name_whose_links_are_joined_later_find_it_out() {
    if !is_alone("boxes_of_one_name_whose_links_are_joined_later_find_it_out") {
        return;
    }
    let neighbour = Neighbour::beside();
    let folder = tempfile::tempdir().expect("a folder");
    let (data, twin) = (with_page(folder.path(), ""), twin(folder.path()));
    // Nothing passes between them yet.
    system("ip link set line nomaster");
    let (first, second) = (Served::start(&data), neighbour.serves(&twin));
    until("each has the name", || [&first, &second].map(found_as) == ["box.local", "box.local"]);
    system("ip link set line master office");
    until("they have found it out", || {
        let names: BTreeSet<String> = [found_as(&first), found_as(&second)].into();
        names == BTreeSet::from(["box.local".to_owned(), "box-2.local".to_owned()])
    });
    let names: BTreeSet<String> = hosts(&neighbour.finds()).into_iter().map(|(host, _)| host).collect();
    assert_eq!(names, BTreeSet::from(["box.local.".to_owned(), "box-2.local.".to_owned()]));
}
