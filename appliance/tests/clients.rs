//! Clients that nobody here wrote, against a real box on its real ports: the tools of libnfs, and QEMU's `nfs://`, which
//! asks the portmapper and takes no other way.
//!
//! Ports 111 and 2049 are fixed and may be taken, so the test goes into a network of its own that holds nothing but
//! loopback. The kernel's own client is tried in a guest (`make client-vm`).

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{CONFIG, Served, fine, narrowboat, noise};

const MIB: usize = 1 << 20;
/// Set in the environment of the copy of this program that runs in a network of its own.
const INSIDE: &str = "NARROWBOAT_IN_NAMESPACE";

/// True in a network of its own. Elsewhere it runs the same test there and fails where that fails.
fn is_alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().expect("this program")).args([test, "--exact", "--nocapture"]);
    let output = command.env(INSIDE, "1").stdin(Stdio::null()).output().expect("unshare (Debian: util-linux)");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a network of its own, which takes root or user namespaces, and `ip` (Debian: iproute2):\n{said}"
    );
    false
}

/// A folder for local files, and the box that is asked.
struct Lab {
    folder: tempfile::TempDir,
    data: PathBuf,
}

impl Lab {
    fn new() -> Lab {
        let folder = tempfile::tempdir().expect("a folder");
        let data = common::data_folder(folder.path(), "box");
        let ports = "listen = '127.0.0.1:2049'\nportmap = '127.0.0.1:111'";
        let config = CONFIG.replacen("listen = '127.0.0.1:0'", ports, 1);
        fs::write(data.join("narrowboat.toml"), config).expect("a config");
        Lab { folder, data }
    }
    fn local(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }
    fn write(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.local(name), content).expect("written");
        self.local(name)
    }
}

/// As a person types it: no ports.
fn url(path: &str) -> String {
    format!("nfs://127.0.0.1/office{path}")
}

/// Runs a tool to its end: its exit code and what it printed.
fn run(words: &[&str]) -> (i32, Vec<u8>) {
    let output = Command::new("timeout").arg("120").args(words).stdin(Stdio::null()).output().expect("timeout");
    let code = output.status.code().unwrap_or(-1);
    assert_ne!(code, 127, "{} is not installed (Debian: libnfs-utils, qemu-utils, qemu-block-extra)", words[0]);
    if code != 0 {
        println!("{words:?} ended with {code}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (code, output.stdout)
}

/// Runs a tool that must succeed.
fn must(words: &[&str]) -> Vec<u8> {
    let (code, shown) = run(words);
    assert_eq!(code, 0, "{words:?}: {}", String::from_utf8_lossy(&shown));
    shown
}

fn listing(path: &str) -> String {
    String::from_utf8(must(&["nfs-ls", &url(path)])).expect("text")
}

fn nothing_is_damaged(data: &Path) {
    fine(data, &["check", "--deep"]);
}

#[test]
fn libnfs_finds_a_box_by_itself_and_copies_lists_and_shows() {
    if !is_alone("libnfs_finds_a_box_by_itself_and_copies_lists_and_shows") {
        return;
    }
    let lab = Lab::new();
    let served = Served::start(&lab.data);
    fine(&lab.data, &["share", "create", "office"]);

    // Sizes around nothing, a block, a chunk, and a write of the largest size.
    let mut kept = Vec::new();
    for (index, len) in [0, 1, 4096, 70_001, MIB, 9 * MIB + 3].into_iter().enumerate() {
        let content = noise(index as u64, len);
        let name = format!("/file{index}");
        must(&["nfs-cp", &lab.write("there", &content), &url(&name)]);
        kept.push((name, content));
    }
    let held = |kept: &[(String, Vec<u8>)], below: &str| {
        for (name, content) in kept {
            let from = url(&format!("{below}{name}"));
            assert!(must(&["nfs-cat", &from]) == *content, "nfs-cat {from}");
            must(&["nfs-cp", &from, &lab.local("back")]);
            assert!(fs::read(lab.local("back")).expect("there") == *content, "nfs-cp {from}");
            // The tool overwrites nothing on this side.
            fs::remove_file(lab.local("back")).expect("there");
        }
    };
    held(&kept, "");
    let shown = listing("");
    for (name, content) in &kept {
        let ending = format!("{:>13} {}", content.len(), &name[1..]);
        assert!(shown.lines().any(|line| line.ends_with(ending.trim_start())), "{ending:?} in\n{shown}");
    }
    assert_ne!(run(&["nfs-cat", &url("/none")]).0, 0, "what is not there was shown");

    // A snapshot keeps what was, whatever is written later, and nobody writes into it.
    fine(&lab.data, &["snapshot", "create", "office", "--name", "monday"]);
    let old = kept.clone();
    kept.push(("/later".to_owned(), noise(99, 5 * MIB)));
    let later = lab.write("there", &kept[6].1);
    must(&["nfs-cp", &later, &url("/later")]);
    let write = ["qemu-io", "-f", "raw", "-c", "write -P 165 1000000 3000000", &url("/file5")];
    must(&write);
    kept[5].1[1_000_000..4_000_000].fill(165);
    held(&kept, "");
    held(&old, "/.snapshot/monday");
    let shown = listing("/.snapshot/monday");
    assert!(shown.contains("file5") && !shown.contains("later"), "{shown}");
    // The tool asks for a file that is new.
    assert_ne!(run(&["nfs-cp", &later, &url("/file5")]).0, 0, "a file was created twice");
    assert_ne!(run(&["nfs-cp", &later, &url("/.snapshot/monday/new")]).0, 0, "a snapshot was written to");

    // The plug is pulled: what nfs-cp said it has copied is there.
    served.kill();
    let served = Served::start(&lab.data);
    held(&kept, "");
    held(&old, "/.snapshot/monday");
    nothing_is_damaged(&lab.data);
    drop(served);
    assert_eq!(narrowboat(&lab.data, &["check", "--deep"]).code, 0);
}

/// Runs `qemu-img compare` of two raw images and says whether they are the same.
fn are_equal(one: &str, other: &str, format: &str) -> bool {
    let (code, shown) = run(&["qemu-img", "compare", "-f", "raw", "-F", format, one, other]);
    assert!(code == 0 || code == 1, "qemu-img compare {one} {other}: {}", String::from_utf8_lossy(&shown));
    code == 0
}

#[test]
fn qemu_keeps_its_images_on_a_box() {
    if !is_alone("qemu_keeps_its_images_on_a_box") {
        return;
    }
    let lab = Lab::new();
    let _served = Served::start(&lab.data);
    fine(&lab.data, &["share", "create", "office"]);

    // A disk with holes, zeros that were written, and data that ends inside a chunk.
    let local = lab.write("disk.raw", &noise(1, 3 * MIB + 512));
    let disk = fs::File::options().write(true).open(&local).expect("there");
    disk.set_len(64 * MIB as u64).expect("room");
    disk.write_all_at(&noise(2, 5 * MIB), 20 * MIB as u64).expect("written");
    disk.write_all_at(&vec![0; 2 * MIB], 40 * MIB as u64).expect("written");
    disk.write_all_at(&noise(3, 4096), 64 * MIB as u64 - 4096).expect("written");

    let (raw, qcow2) = (url("/disk.raw"), url("/disk.qcow2"));
    must(&["qemu-img", "convert", "-f", "raw", "-O", "raw", &local, &raw]);
    assert!(are_equal(&local, &raw, "raw"));
    must(&["qemu-img", "convert", "-f", "raw", "-O", "qcow2", &raw, &qcow2]);
    must(&["qemu-img", "check", "-f", "qcow2", &qcow2]);
    assert!(are_equal(&local, &qcow2, "qcow2"));
    let back = lab.local("back.raw");
    must(&["qemu-img", "convert", "-f", "qcow2", "-O", "raw", &qcow2, &back]);
    assert!(fs::read(&local).expect("there") == fs::read(&back).expect("there"), "the image came back another");

    fine(&lab.data, &["snapshot", "create", "office", "--name", "monday"]);
    // Small writes in the middle, the same to both; the comparison sees them where only one has them.
    for at in ["4096", "21000192", "67104768"] {
        let write = format!("write -P 165 {at} 1536");
        must(&["qemu-io", "-f", "raw", "-c", &write, &raw]);
        assert!(!are_equal(&local, &raw, "raw"), "a write at {at} was not noticed");
        must(&["qemu-io", "-f", "raw", "-c", &write, &local]);
        assert!(are_equal(&local, &raw, "raw"), "a write at {at}");
    }
    // Many calls at once, flushed at times.
    for (size, count, depth) in [("1M", "48", "8"), ("64k", "500", "16"), ("4k", "2000", "32")] {
        let bench = ["qemu-img", "bench", "-f", "raw", "-t", "none", "-s", size, "-c", count, "-d", depth];
        let write = [&bench[..], &["-w", "--pattern", "90", "--flush-interval", "64", "--no-drain"]].concat();
        must(&[&write[..], &[&raw]].concat());
        must(&[&bench[..], &[&raw]].concat());
        must(&["qemu-img", "bench", "-f", "raw", "-s", size, "-c", count, "-w", "--pattern", "90", &local]);
        assert!(are_equal(&local, &raw, "raw"), "{count} writes of {size}");
    }
    let monday = url("/.snapshot/monday/disk.raw");
    assert!(are_equal(&back, &monday, "raw"), "the snapshot has changed");
    nothing_is_damaged(&lab.data);
}
