//! The network of the box's machine, set up by the box, with the real systemd-networkd: each test in a network and a tree of mounts of its own.
//!
//! ```text
//!   the test's own namespace: networkd, the box            the office: who looks at the page, a DHCP server
//!     up0 ───────────────────────────────────────────────── out0
//! ```
//!
//! As long as nobody has said anything to the box, the machine goes by a file of its own (`80-office.network`), as an image brings one.

#[path = "page/browser.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod browser;
mod common;
#[path = "network/machine.rs"]
mod machine;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use browser::{Answer, Browser};
use common::{Served, facts, until};
use machine::{ETC, Machine, RUN, alone};
use serde_json::Value;

const GOOD: &str = "Tram 12 smells of rye bread";
/// How long a trial lasts here: a fixed address takes six seconds until it is there.
const TRIAL: Duration = Duration::from_secs(20);

/// What the network is tried to be, over the page.
fn fixed(address: &str, gateway: &str) -> Vec<(&'static str, String)> {
    let fields = [
        ("network_ipv4", "fixed"),
        ("network_address4", address),
        ("network_gateway4", gateway),
        ("network_ipv6", "off"),
        ("network_address6", ""),
        ("network_gateway6", ""),
        ("network_dns", "10.9.0.1"),
        ("network_ntp", "ntp.example.com"),
        ("network_vlan", ""),
    ];
    fields.map(|(name, value)| (name, value.to_owned())).to_vec()
}

fn submit(browser: &mut Browser, from: &Answer, path: &str, fields: &[(&str, String)]) -> Answer {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.submit(from, path, &fields)
}

/// The box's administrator at an address of it, from the office.
fn signed_in(machine: &Machine, address: &str) -> Browser {
    machine.in_the_office(|| {
        let mut browser = Browser::new(format!("{address}:8443").parse().expect("an address"));
        let form = browser.get("/sign-in");
        let entered = browser.submit(&form, "/sign-in", &[("user", "admin"), ("password", GOOD), ("code", "")]);
        assert_eq!(entered.status, 303, "{}", entered.body);
        browser
    })
}

fn claim(machine: &Machine, data: &Path) {
    let code = facts(data, &["account", "claim"])["code"].as_str().expect("a code").to_owned();
    machine.in_the_office(|| {
        let mut browser = Browser::new("10.9.0.2:8443".parse().expect("an address"));
        let form = browser.get("/claim");
        let fields = [("code", code.as_str()), ("user", "admin"), ("password", GOOD), ("again", GOOD)];
        assert_eq!(browser.submit(&form, "/claim", &fields).status, 303);
    });
}

/// Ends that the audit log tells of, the newest first.
fn ends(data: &Path) -> Vec<String> {
    let log = facts(data, &["audit"]);
    let entries = log
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["what"] == "network-revert" && entry["who"] == "box");
    entries.map(|entry| entry["outcome"].as_str().unwrap_or_default().to_owned()).collect()
}

fn ours(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.contains("narrowboat")).collect()
}

#[test]
fn a_fixed_address_is_tried_goes_back_and_is_kept_where_it_was_confirmed() {
    if !alone("a_fixed_address_is_tried_goes_back_and_is_kept_where_it_was_confirmed") {
        return;
    }
    let machine = Machine::new();
    machine.office("ip addr add 10.9.7.1/24 dev out0");
    let folder = tempfile::tempdir().expect("a folder");
    let data = machine.data(folder.path(), TRIAL);
    let served = Served::start(&data);
    claim(&machine, &data);
    assert!(ours(ETC).is_empty() && ours(RUN).is_empty(), "nothing was said yet");

    let mut browser = signed_in(&machine, "10.9.0.2");
    let page = machine.in_the_office(|| browser.get("/network"));
    assert!(page.status == 200 && page.body.contains("10.9.0.2/24"), "{}", page.body);
    // What is wrong is said beside its field, and stays as it was typed.
    let wrong =
        machine.in_the_office(|| submit(&mut browser, &page, "/network", &fixed("10.9.7.255/24 老师", "10.9.8.1")));
    assert!(wrong.status == 422 && wrong.body.contains("id=\"network_address4-wrong\""), "{}", wrong.body);
    assert!(wrong.body.contains("10.9.7.255/24 老师") && ours(RUN).is_empty());

    // Nobody confirms: seen with `ip addr`, it comes and goes.
    let begun = Instant::now();
    let tried = machine.in_the_office(|| submit(&mut browser, &page, "/network", &fixed("10.9.7.2/24", "10.9.7.1")));
    assert!(tried.status == 200 && tried.body.contains("https://10.9.7.2:8443/network"), "{}", tried.body);
    until("the new address is there", || machine.has("up0", "10.9.7.2/24"));
    assert!(!machine.has("up0", "10.9.0.2/24") && ours(ETC).is_empty(), "{}", machine.addresses("up0"));
    assert_eq!(ours(RUN), ["09-narrowboat-trial.network"]);
    println!("tried at {:.1} s: {}", begun.elapsed().as_secs_f64(), machine.addresses("up0"));
    until("it goes back", || machine.has("up0", "10.9.0.2/24"));
    let back = begun.elapsed();
    println!("back at {:.1} s: {}", back.as_secs_f64(), machine.addresses("up0"));
    assert!(!machine.has("up0", "10.9.7.2/24") && back >= TRIAL && ours(RUN).is_empty());
    assert!(ends(&data)[0].contains("nobody confirmed it"), "{:?}", ends(&data));

    // Somebody confirms, at the new address alone.
    let mut browser = signed_in(&machine, "10.9.0.2");
    let page = machine.in_the_office(|| browser.get("/network"));
    assert!(page.body.contains("was not kept"), "{}", page.body);
    machine.in_the_office(|| submit(&mut browser, &page, "/network", &fixed("10.9.7.2/24", "10.9.7.1")));
    until("the new address is there", || machine.has("up0", "10.9.7.2/24"));
    let mut there = signed_in(&machine, "10.9.7.2");
    let page = machine.in_the_office(|| there.get("/network"));
    let trial = page.between("name=\"trial\" value=\"", "\"").to_owned();
    let kept = machine.in_the_office(|| there.submit(&page, "/network/keep", &[("trial", &trial)]));
    assert_eq!(kept.status, 303, "{}", kept.body);
    assert_eq!((ours(ETC).as_slice(), ours(RUN).len()), (&["10-narrowboat.network".to_owned()][..], 0));
    std::thread::sleep(TRIAL);
    assert!(machine.has("up0", "10.9.7.2/24"), "{}", machine.addresses("up0"));
    assert!(machine.run("ip route").contains("default via 10.9.7.1"), "{}", machine.run("ip route"));
    let state = facts(&data, &["network", "show"]);
    assert_eq!((&state["kept"]["address4"], &state["trial"]), (&Value::from("10.9.7.2/24"), &Value::Null), "{state}");

    // `kill -9` during a trial: the next start undoes it.
    facts(&data, &["network", "set", "--ipv4", "10.9.8.2/24", "--gateway4", "10.9.8.1"]);
    until("the third address is there", || machine.has("up0", "10.9.8.2/24"));
    served.kill();
    assert!(!ours(RUN).is_empty());
    let served = Served::start(&data);
    until("it is undone", || machine.has("up0", "10.9.7.2/24"));
    assert!(!machine.has("up0", "10.9.8.2/24") && ours(RUN).is_empty());
    assert!(ends(&data)[0].contains("the box ended before"), "{:?}", ends(&data));

    // A power cut during a trial: undone although the box does not start.
    facts(&data, &["network", "set", "--ipv4", "10.9.8.2/24", "--gateway4", "10.9.8.1"]);
    until("the third address is there again", || machine.has("up0", "10.9.8.2/24"));
    served.kill();
    let machine = machine.after_a_power_cut();
    until("what was kept is there", || machine.has("up0", "10.9.7.2/24"));
    assert!(!machine.has("up0", "10.9.8.2/24"), "{}", machine.addresses("up0"));
    let _served = Served::start(&data);
    until("the box tells of it", || ends(&data).len() == 3);
    assert!(machine.has("up0", "10.9.7.2/24") && facts(&data, &["network", "show"])["trial"].is_null());
}

#[test]
fn by_dhcp_any_address_that_the_network_gave_confirms() {
    if !alone("by_dhcp_any_address_that_the_network_gave_confirms") {
        return;
    }
    let machine = Machine::new();
    let folder = tempfile::tempdir().expect("a folder");
    machine.office("ip addr add 10.9.5.1/24 dev out0");
    let _server = machine.dhcp(folder.path());
    let data = machine.data(folder.path(), TRIAL);
    let _served = Served::start(&data);
    claim(&machine, &data);
    facts(&data, &["network", "set", "--ipv4", "dhcp", "--ipv6", "off"]);
    until("the network gave an address", || machine.addresses("up0").contains("10.9.5."));
    println!("by DHCP: {}", machine.addresses("up0"));
    let address =
        machine.addresses("up0").split_whitespace().find(|word| word.starts_with("10.9.5.")).expect("one").to_owned();
    let address = address.split('/').next().expect("an address");
    let mut there = signed_in(&machine, address);
    let page = machine.in_the_office(|| there.get("/network"));
    let trial = page.between("name=\"trial\" value=\"", "\"").to_owned();
    let kept = machine.in_the_office(|| there.submit(&page, "/network/keep", &[("trial", &trial)]));
    assert_eq!(kept.status, 303, "{}", kept.body);
    let file = fs::read_to_string(format!("{ETC}/10-narrowboat.network")).expect("it is kept");
    assert!(file.contains("DHCP=ipv4"), "{file}");
}

#[test]
fn a_vlan_comes_and_goes() {
    if !alone("a_vlan_comes_and_goes") {
        return;
    }
    let machine = Machine::new();
    if !machine.try_run("ip link add link up0 name probe type vlan id 5") {
        eprintln!("a_vlan_comes_and_goes is skipped: this kernel knows no VLANs; `make network-vm` has one that does");
        return;
    }
    machine.run("ip link del probe");
    machine.office("ip link add link out0 name out0.30 type vlan id 30");
    machine.office("ip addr add 10.9.30.1/24 dev out0.30");
    machine.office("ip link set out0.30 up");
    let folder = tempfile::tempdir().expect("a folder");
    let data = machine.data(folder.path(), TRIAL);
    let _served = Served::start(&data);
    let set = ["network", "set", "--ipv4", "10.9.30.2/24", "--vlan", "30", "--ipv6", "off"];
    facts(&data, &set);
    until("the VLAN has the address", || machine.has("narrowboat30", "10.9.30.2/24"));
    println!("tried: {}", machine.run("ip -d addr show narrowboat30"));
    assert!(machine.run("ip -d link show narrowboat30").contains("vlan protocol 802.1Q id 30"));
    assert!(!machine.has("up0", "10.9.0.2/24"), "{}", machine.addresses("up0"));
    machine.office("busybox ping -c 3 10.9.30.2");
    until("it goes back", || machine.has("up0", "10.9.0.2/24"));
    assert!(!machine.try_run("ip link show narrowboat30"), "the device is gone");
    // Kept, then another one: the old device goes.
    facts(&data, &set);
    until("the VLAN is there again", || machine.has("narrowboat30", "10.9.30.2/24"));
    facts(&data, &["network", "confirm"]);
    facts(&data, &["network", "set", "--ipv4", "10.9.31.2/24", "--vlan", "31"]);
    until("another VLAN", || machine.has("narrowboat31", "10.9.31.2/24"));
    assert!(!machine.try_run("ip link show narrowboat30"));
    facts(&data, &["network", "revert"]);
    until("the one that is kept", || machine.has("narrowboat30", "10.9.30.2/24"));
    assert!(!machine.try_run("ip link show narrowboat31"));
}

#[test]
fn where_the_machine_has_its_own_network_nothing_is_written() {
    if !alone("where_the_machine_has_its_own_network_nothing_is_written") {
        return;
    }
    let machine = Machine::new();
    let folder = tempfile::tempdir().expect("a folder");
    let data = machine.data(folder.path(), TRIAL);
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(&file, config.replace("manage = true", "manage = false")).expect("written");
    let served = Served::start(&data);
    let state = facts(&data, &["network", "show"]);
    assert!(state["managed"] == false && state["addresses"].to_string().contains("10.9.0.2/24"), "{state}");
    let refused = common::narrowboat(&data, &["network", "set", "--ipv4", "10.9.7.2/24"]);
    assert!(refused.code != 0 && refused.err.contains("its config file does not leave that to the box"), "{refused:?}");
    drop(served);
    // Managed, but networkd does not run.
    fs::write(&file, fs::read_to_string(&file).expect("a config").replace("manage = false", "manage = true"))
        .expect("written");
    let machine = machine.without_networkd();
    let _served = Served::start(&data);
    let state = facts(&data, &["network", "show"]);
    assert!(state["why_not"].as_str().is_some_and(|why| why.contains("systemd-networkd does not run")), "{state}");
    assert!(ours(ETC).is_empty() && ours(RUN).is_empty() && machine.has("up0", "10.9.0.2/24"));
}
