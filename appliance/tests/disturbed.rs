//! Whole boxes whose surroundings misbehave while they replicate: a disk that fills, clocks that jump, restarts under another address. They keep up,
//! say what is wrong, go on by themselves, and end with equal roots.
//!
//! Like `networks.rs` in network namespaces; the full disk is a small file system in memory, and clocks are libfaketime's (Debian: faketime),
//! which leaves the steady clock alone, as a clock that somebody sets does.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::check_deep;
use common::net::{forward, is_alone};
use common::office::{MIB, Office, bytes};
use common::until;
use serde_json::Value;

/// Where Debian keeps libfaketime.
const FAKETIME: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

fn two(folder: &Path, head: Office, rate: &str) -> (Office, Office) {
    forward();
    let branch = Office::open(folder, 1, "branch", 1, "");
    pair(branch, head, rate)
}

fn pair(branch: Office, head: Office, rate: &str) -> (Office, Office) {
    branch.site.route(2, 0);
    head.site.route(1, 0);
    branch.site.shape(0, rate);
    branch.join(&head, &head.site.address(0));
    branch.say("volume create disk --size 128MiB");
    (branch, head)
}

fn sent(branch: &Office) -> Value {
    // The newest comes first.
    branch.ask("replication list")[0].clone()
}

fn free_bytes(folder: &Path) -> u64 {
    let space = rustix::fs::statvfs(folder).expect("a file system");
    space.f_bavail * space.f_frsize
}

fn equal(branch: &Office, head: &Office, name: &str) {
    let root = branch.root("disk", name).expect("sealed");
    assert_eq!(head.root("branch/disk", name), Some(root), "{name}");
}

#[test]
fn a_disk_that_fills_at_the_receiver() {
    if !is_alone("a_disk_that_fills_at_the_receiver") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // In this namespace of mounts alone, so that nothing of it is left.
    let small = folder.path().join("small");
    std::fs::create_dir(&small).expect("a folder");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=320m", "tmpfs"]).arg(&small);
    assert!(mount.status().expect("mount").success());
    let head = Office::open(&small, 2, "head", 1, "");
    let (branch, head) = two(folder.path(), head, "50mbit");
    branch.write("disk", 0, 1, 8 * MIB);
    branch.say("snapshot create disk --name monday");
    branch.say("replicate disk@monday --to head --wait");
    // Something else takes the room: what is left above the reserve of 64 MiB is less than what comes.
    let ballast = small.join("ballast");
    let left = free_bytes(&small) - (64 << 20);
    let takes = usize::try_from(left).expect("small").saturating_sub(8 * MIB);
    std::fs::write(&ballast, vec![0; takes]).expect("room");
    branch.write("disk", 16 * MIB, 2, 40 * MIB);
    branch.say("snapshot create disk --name tuesday");
    branch.say("replicate disk@tuesday --to head");
    until("the disk to be full", || sent(&branch)["trouble"].as_str().is_some_and(|why| why.contains("disk is full")));
    // Both say so, and both keep up: what is there is shown, and can be read.
    let said = branch.say("replication list");
    assert!(said.contains("the disk is full"), "{said}");
    let status = head.say("status");
    assert!(status.contains("the disk is full"), "{status}");
    assert_eq!(sent(&branch)["state"], "running");
    equal(&branch, &head, "monday");
    assert!(head.root("branch/disk", "tuesday").is_none());
    branch.write("disk", 64 * MIB, 3, MIB);
    branch.say("snapshot create disk --name wednesday");
    let kept = bytes(&sent(&branch), "payload_bytes");
    println!("full disk: {kept} bytes had been sent by then");
    // Room again: it goes on by itself, and sends again no more than a break may cost, however often it was tried meanwhile.
    std::fs::remove_file(&ballast).expect("the ballast");
    let since = Instant::now();
    until("the end", || sent(&branch)["state"] == "done");
    println!(
        "full disk: whole {:.1} s after there was room; {}",
        since.elapsed().as_secs_f64(),
        sent(&branch)["payload_bytes"]
    );
    assert!(sent(&branch)["trouble"].is_null());
    branch.say("replicate disk@wednesday --to head --wait");
    for name in ["monday", "tuesday", "wednesday"] {
        equal(&branch, &head, name);
    }
    let status = head.say("status");
    assert!(!status.contains("the disk is full"), "{status}");
    for office in [&branch, &head] {
        check_deep(&office.data).expect("whole");
    }
}

/// A clock that can be set: what is in the file is added to the system's.
struct Clock(PathBuf);

impl Clock {
    fn new(folder: &Path, name: &str) -> Clock {
        let clock = Clock(folder.join(name));
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        // Whole or not at all: it is read at any moment.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("a file");
        std::fs::rename(&new, &self.0).expect("a file");
    }

    fn environment(&self, library: &str) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("LD_PRELOAD", library.into()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.clone()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

#[test]
fn clocks_that_jump_at_either_end() {
    let Some(library) = FAKETIME.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("clocks_that_jump_at_either_end is skipped: libfaketime is not here (Debian: faketime)");
        return;
    };
    if !is_alone("clocks_that_jump_at_either_end") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    forward();
    let clocks = ["branch-clock", "head-clock"].map(|name| Clock::new(folder.path(), name));
    let branch = Office::open_in(folder.path(), 1, "branch", 1, "", clocks[0].environment(library));
    let head = Office::open_in(folder.path(), 2, "head", 1, "", clocks[1].environment(library));
    let (mut branch, mut head) = pair(branch, head, "20mbit");
    branch.say("limit head --rate 16Mbit");
    let (hour, day) = (3600, 86_400);
    // Which clock, and by how much it is wrong from then on.
    let jumps = [(0, day), (1, -day), (0, -2 * hour), (1, 400 * day), (0, 5), (1, 0), (0, 0)];
    for (round, (which, seconds)) in jumps.into_iter().enumerate() {
        let name = format!("round-{round}");
        branch.write("disk", round * 8 * MIB, round as u64, 6 * MIB);
        branch.say(&format!("snapshot create disk --name {name}"));
        branch.say(&format!("replicate disk@{name} --to head"));
        let begun = || bytes(&sent(&branch), "payload_bytes") > 1 << 20;
        until("something to arrive", || begun() || sent(&branch)["state"] == "done");
        clocks[which].set(seconds);
        let since = Instant::now();
        until("the end", || sent(&branch)["state"] == "done");
        equal(&branch, &head, &name);
        // 6 MiB at 16 Mbit/s take three seconds; nobody waits for a clock.
        assert!(since.elapsed() < Duration::from_secs(60), "{which} by {seconds} s: {:?}", since.elapsed());
        let peak = bytes(&sent(&branch), "peak_bits_per_second");
        assert!(peak <= 16_000_000, "{which} by {seconds} s: {peak}");
        println!(
            "clock {which} by {seconds} s: whole after {:.1} s, at most {peak} bit/s",
            since.elapsed().as_secs_f64()
        );
        // And a box that starts with its clock set so.
        if round % 2 == 1 {
            [&mut branch, &mut head].into_iter().for_each(Office::kill);
            [&mut branch, &mut head].into_iter().for_each(Office::start);
            until("both to be there", || branch.peer("head")["connected_from"].is_string());
        }
    }
    for office in [&branch, &head] {
        check_deep(&office.data).expect("whole");
    }
}

/// Kills a box and starts it under another address of its network, from which the network `other` is reached.
fn come_back_elsewhere(office: &mut Office, old: &str, new: &str, other: u8) {
    office.kill();
    office.site.run(&format!("ip addr add {new}/24 dev wan0"));
    office.site.run(&format!("ip addr del {old}/24 dev wan0"));
    // The kernel takes the second address of a network away together with the first.
    office.site.run(&format!("ip addr replace {new}/24 dev wan0"));
    office.site.route(other, 0);
    office.start();
}

/// A box that is killed in the middle and comes back under another address, first the one that calls, then the one that is called.
#[test]
fn restarts_under_other_addresses() {
    if !is_alone("restarts_under_other_addresses") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let head = Office::open(folder.path(), 2, "head", 1, "");
    let (mut branch, mut head) = two(folder.path(), head, "20mbit");
    branch.say("plan create disk --to head --every 1h");
    branch.say("peer address add head 10.2.0.88:7420");
    let begun = |office: &Office, before: u64| bytes(&office.peer("head"), "wire_bytes_sent") > before + (1 << 20);
    branch.write("disk", 0, 1, 16 * MIB);
    branch.say("snapshot create disk --name one");
    until("something to arrive", || begun(&branch, 0));
    come_back_elsewhere(&mut branch, "10.1.0.2", "10.1.0.77", 2);
    until("the first", || head.root("branch/disk", "one").is_some());
    equal(&branch, &head, "one");
    // It may all have been there before the cut: then nothing says yet that the branch calls from elsewhere.
    until("the new address", || {
        head.peer("branch")["connected_from"].as_str().is_some_and(|from| from.starts_with("10.1.0.77:"))
    });
    let before = bytes(&branch.peer("head"), "wire_bytes_sent");
    branch.write("disk", 32 * MIB, 2, 16 * MIB);
    branch.say("snapshot create disk --name two");
    until("something to arrive", || begun(&branch, before));
    come_back_elsewhere(&mut head, "10.2.0.2", "10.2.0.88", 1);
    until("the second", || head.root("branch/disk", "two").is_some());
    equal(&branch, &head, "two");
    assert_eq!(branch.peer("head")["path"]["address"], "10.2.0.88:7420");
    for office in [&branch, &head] {
        check_deep(&office.data).expect("whole");
    }
}
