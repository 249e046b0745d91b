//! Volumes of a real box, seen by initiators that nobody here wrote: QEMU's `iscsi://` and libiscsi's tools, and fio through
//! `qemu-nbd`.
//!
//! The kernel's own initiator is tried in a guest (`make client-vm`).

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::suite::tool;
use common::{CONFIG, PATIENCE, Served, fine, narrowboat, noise};
use narrowboat::control::Request;
use narrowboat::control::reports::{Dataset, Status};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const MIB: usize = 1 << 20;
const SECRET: &str = "twelve or more";

/// A folder for local files, and a box with the volume `disk` of 64 MiB.
struct Lab {
    folder: tempfile::TempDir,
    data: PathBuf,
    served: Option<Served>,
}

impl Lab {
    /// `rules` are added to the config.
    fn new(rules: &str) -> Lab {
        let folder = tempfile::tempdir().expect("a folder");
        let data = common::data_folder(folder.path(), "box");
        fs::write(data.join("narrowboat.toml"), format!("{CONFIG}{rules}")).expect("a config");
        let lab = Lab { served: Some(Served::start(&data)), folder, data };
        fine(&lab.data, &["volume", "create", "disk", "--size", "64MiB"]);
        lab
    }
    fn local(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("text").to_owned()
    }
    fn write(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.local(name), content).expect("written");
        self.local(name)
    }
    fn portal(&self) -> String {
        let status: Status = self.served.as_ref().expect("it runs").ask(&Request::Status).expect("answered");
        status.iscsi.first().expect("iSCSI is on").clone()
    }
    fn url(&self, volume: &str) -> String {
        format!("iscsi://{}/iqn.2026-11.net.narrowboat:{volume}/0", self.portal())
    }
    /// `kill -9`, and a new start.
    fn crash(&mut self) {
        self.served.take().expect("it runs").kill();
        self.served = Some(Served::start(&self.data));
    }
    fn deep_check(&mut self) {
        drop(self.served.take());
        let said = narrowboat(&self.data, &["check", "--deep"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
}

/// Runs a tool to its end: whether it ended well, and what it said.
fn run(words: &[&str]) -> (bool, String) {
    let (fine, said) = tool(120, words[0], &words[1..]);
    if !fine {
        println!("{words:?} ended badly: {said}");
    }
    (fine, said)
}

fn succeeds(words: &[&str]) -> String {
    let (fine, said) = run(words);
    assert!(fine, "{words:?}");
    said
}

/// Commands for `qemu-io`, each one argument.
fn qemu_io(url: &str, commands: &[String]) -> String {
    let mut words = vec!["qemu-io", "-f", "raw", "-t", "none", "-d", "unmap"];
    for command in commands {
        words.extend(["-c", command]);
    }
    words.push(url);
    let said = succeeds(&words);
    assert!(!said.contains("failed") && !said.contains("Pattern verification"), "{said}");
    said
}

#[test]
fn an_image_goes_in_and_comes_back_the_same() {
    let mut lab = Lab::new("");
    let mut content = noise(1, 64 * MIB);
    content[8 * MIB..40 * MIB].fill(0);
    let image = lab.write("image", &content);
    let url = lab.url("disk");
    succeeds(&["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", &image, &url]);
    let compared = succeeds(&["qemu-img", "compare", "-f", "raw", "-F", "raw", &image, &url]);
    assert!(compared.contains("identical"), "{compared}");
    fine(&lab.data, &["snapshot", "create", "disk", "--name", "first"]);

    qemu_io(&url, &["write -P 7 1M 3M".into(), "flush".into()]);
    let (same, said) = run(&["qemu-img", "compare", "-f", "raw", "-F", "raw", &image, &url]);
    assert!(!same && said.contains("Content mismatch"), "different now: {said}");
    lab.crash();
    let restored = lab.local("restored");
    fine(&lab.data, &["restore", "disk@first", &restored]);
    assert!(fs::read(&restored).expect("whole") == content, "the snapshot is what was copied in");
    qemu_io(&lab.url("disk"), &["read -P 7 1M 3M".into()]);

    // What is discarded takes no room once it is drained; a snapshot sees to that.
    let used = |lab: &Lab| {
        let listed: Vec<Dataset> = lab.served.as_ref().expect("it runs").ask(&Request::DatasetList).expect("answered");
        listed[0].used_bytes.expect("a volume")
    };
    assert!((32 << 20..=35 << 20).contains(&used(&lab)), "what was written over may count twice: {}", used(&lab));
    qemu_io(&lab.url("disk"), &["write -z -u 40M 24M".into(), "flush".into()]);
    fine(&lab.data, &["snapshot", "create", "disk", "--name", "second"]);
    fine(&lab.data, &["restore", "disk@second", &lab.local("restored once more")]);
    assert!((8 << 20..=10 << 20).contains(&used(&lab)), "{}", used(&lab));
    lab.deep_check();
}

#[test]
fn random_patterns_read_as_they_were_written_also_after_a_kill() {
    let mut lab = Lab::new("");
    let mut random = StdRng::seed_from_u64(3);
    // What each block of 4 KiB holds.
    let mut model = vec![0u8; 64 * MIB / 4096];
    for _ in 0..4 {
        let mut commands = Vec::new();
        for _ in 0..60 {
            let at = random.random_range(0..model.len());
            let most = if random.random_bool(0.8) { 16 } else { 1000 };
            let blocks = random.random_range(1..=most).min(model.len() - at);
            let range = format!("{}k {}k", at * 4, blocks * 4);
            let pattern: u8 = if random.random_bool(0.2) { 0 } else { random.random_range(1..=255) };
            model[at..at + blocks].fill(pattern);
            commands.push(match pattern {
                0 if random.random_bool(0.5) => format!("write -z -u {range}"),
                0 => format!("write -z {range}"),
                pattern => format!("write -P {pattern} {range}"),
            });
        }
        commands.push("flush".into());
        qemu_io(&lab.url("disk"), &commands);
        lab.crash();
        let runs = model.chunk_by(|a, b| a == b).scan(0, |at, run| {
            *at += run.len();
            Some((*at - run.len(), run))
        });
        let reads: Vec<String> =
            runs.map(|(at, run)| format!("read -P {} {}k {}k", run[0], at * 4, run.len() * 4)).collect();
        for some in reads.chunks(500) {
            qemu_io(&lab.url("disk"), some);
        }
    }
    lab.deep_check();
}

/// QEMU's initiator connects again by itself and goes on: what it was told is written has to be there, flushed or not.
#[test]
fn a_kill_under_an_initiator_takes_nothing_that_was_answered() {
    let mut lab = Lab::new("");
    // The same port after the restart.
    let config = fs::read_to_string(lab.data.join("narrowboat.toml")).expect("a config");
    let fixed = config.replace("[iscsi]\nlisten = ['127.0.0.1:0']", &format!("[iscsi]\nlisten = ['{}']", lab.portal()));
    assert_ne!(fixed, config);
    fs::write(lab.data.join("narrowboat.toml"), fixed).expect("a config");
    let url = lab.url("disk");
    let mut shell = Command::new("qemu-io");
    shell.args(["-f", "raw", "-t", "none", &url]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("qemu-io (Debian: qemu-utils, qemu-block-extra)");
    let mut input = shell.stdin.take().expect("piped");
    let mut lines = BufReader::new(shell.stdout.take().expect("piped")).lines();
    let mut tell = |command: &str, expected: &str| {
        writeln!(input, "{command}").expect("it runs");
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("{command}: qemu-io ended")).expect("text");
            assert!(!line.contains("failed"), "{command}: {line}");
            if line.contains(expected) {
                return;
            }
        }
    };
    for round in 1..=3u64 {
        // What goes into the journal as it is, and what is cut and stored first.
        for (nth, kib) in [4, 64, 1024, 3000].into_iter().enumerate() {
            tell(&format!("write -P {} {}M {kib}k", round * 10 + nth as u64, nth * 8), "wrote ");
        }
        lab.crash();
        for (nth, kib) in [4, 64, 1024, 3000].into_iter().enumerate() {
            tell(&format!("read -P {} {}M {kib}k", round * 10 + nth as u64, nth * 8), "read ");
        }
    }
    drop(input);
    assert!(shell.wait().expect("a child").success());
    lab.deep_check();
}

#[test]
fn a_volume_grows_while_it_is_served() {
    let lab = Lab::new("[volume.disk]\nblock_bytes = 4096\n");
    fine(&lab.data, &["volume", "resize", "disk", "--size", "96MiB"]);
    let said = succeeds(&["qemu-img", "info", "--output=json", &lab.url("disk")]);
    assert!(said.contains("\"virtual-size\": 100663296"), "{said}");
    qemu_io(&lab.url("disk"), &["write -P 9 80M 16M".into(), "flush".into(), "read -P 9 80M 16M".into()]);
    fine(&lab.data, &["volume", "create", "second", "--size", "1GiB"]);
    let listed = succeeds(&["iscsi-ls", "-s", &format!("iscsi://{}", lab.portal())]);
    assert!(listed.contains(":disk") && listed.contains(":second"), "{listed}");
}

#[test]
fn who_has_no_account_does_not_get_in() {
    let lab_secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(lab_secret.path(), format!("{SECRET}\n")).expect("written");
    let lab = Lab::new(&format!("[iscsi.user.server1]\nsecret_file = '{}'\n", lab_secret.path().display()));
    let url = lab.url("disk");
    let (got_in, _) = run(&["qemu-img", "info", &url]);
    assert!(!got_in, "no account");
    let with = |password: &str| url.replacen("iscsi://", &format!("iscsi://server1%{password}@"), 1);
    let (got_in, _) = run(&["iscsi-inq", &with("another secret")]);
    assert!(!got_in, "a wrong secret");
    let said = succeeds(&["iscsi-inq", &with(SECRET)]);
    assert!(said.contains("Vendor:"), "{said}");
    assert!(!lab.served.as_ref().expect("it runs").log().contains(SECRET), "secrets are not logged");
}

/// CHAP in both directions with an initiator that nobody here wrote: it goes only to a box that knows the second secret.
#[test]
fn the_box_proves_itself_to_initiators_that_ask_it_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        file.display().to_string()
    };
    let (own, theirs) = (secret("own", "another long secret"), secret("theirs", SECRET));
    let lab = Lab::new(&format!(
        "[iscsi.user.server1]\nsecret_file = '{theirs}'\nmutual_name = 'box'\nmutual_secret_file = '{own}'\n"
    ));
    let url = lab.url("disk").replacen("iscsi://", &format!("iscsi://server1%{SECRET}@"), 1);
    let asks = |name: &str, password: &str| {
        run(&["iscsi-inq", &format!("{url}?target_user={name}&target_password={password}")]).0
    };
    assert!(asks("box", "another long secret"));
    assert!(!asks("box", "not its secret at all"));
    assert!(!asks("somebody", "another long secret"));
    let said = succeeds(&["iscsi-inq", &format!("{url}?header_digest=crc32c")]);
    assert!(said.contains("Vendor:"), "one way, with digests: {said}");
}

#[test]
fn initiators_and_networks_outside_the_lists_are_refused() {
    let lab = Lab::new("[volume.disk]\ninitiators = ['iqn.2026-01.org.example:one']\n");
    let inquires = |name: &str| run(&["iscsi-inq", "-i", name, &lab.url("disk")]).0;
    assert!(inquires("iqn.2026-01.org.example:one"));
    assert!(!inquires("iqn.2026-01.org.example:two"));
    fine(&lab.data, &["volume", "create", "open", "--size", "1MiB"]);
    assert!(run(&["iscsi-inq", &lab.url("open")]).0);
}

#[test]
fn a_clone_of_any_moment_is_a_target_at_once() {
    let lab = Lab::new("");
    fine(&lab.data, &["window", "disk", "--keep", "1h"]);
    qemu_io(&lab.url("disk"), &["write -P 1 0 8M".into(), "flush".into()]);
    fine(&lab.data, &["mark", "disk", "good"]);
    qemu_io(&lab.url("disk"), &["write -P 2 0 8M".into(), "flush".into()]);
    fine(&lab.data, &["rewind", "disk", "--to", "good", "--as", "before"]);
    qemu_io(&lab.url("before"), &["read -P 1 0 8M".into(), "write -P 3 0 4k".into()]);
    qemu_io(&lab.url("disk"), &["read -P 2 0 8M".into()]);
    // It may take a moment until the box has seen that nobody is logged in any more.
    let since = Instant::now();
    while narrowboat(&lab.data, &["rewind", "disk", "--to", "good"]).code != 0 {
        assert!(since.elapsed() < PATIENCE, "nobody is logged in");
    }
    qemu_io(&lab.url("disk"), &["read -P 1 0 8M".into()]);
}

/// A volume as a block device over a socket, until it is dropped.
struct Nbd {
    child: Child,
    uri: String,
}

impl Nbd {
    fn serve(folder: &Path, url: &str) -> Nbd {
        let socket = folder.join("nbd").to_str().expect("text").to_owned();
        let _ = fs::remove_file(&socket);
        let mut command = Command::new("qemu-nbd");
        command.args(["--persistent", "--shared=4", "--cache=none", "--discard=unmap", "--format=raw", "--socket"]);
        let child =
            command.args([&socket, url]).stdin(Stdio::null()).spawn().expect("qemu-nbd: `make setup` installs it");
        let nbd = Nbd { child, uri: format!("nbd+unix:///?socket={socket}") };
        let since = Instant::now();
        while !Path::new(&socket).exists() {
            assert!(since.elapsed() < PATIENCE, "qemu-nbd does not serve");
            std::thread::sleep(Duration::from_millis(10));
        }
        nbd
    }
}

impl Drop for Nbd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Jobs of fio, each with a part of the volume of its own: small ones at random, long ones in order, with trims between.
const JOBS: &str = "\
[global]
ioengine=nbd
uri=URI
verify=crc32c
verify_fatal=1
verify_state_save=0
randseed=7
end_fsync=1
size=20m
[small]
rw=randwrite
bsrange=512-16k
iodepth=32
fsync=64
[long]
rw=write
bs=512k
iodepth=4
offset=20m
[mixed]
rw=randrw
rwmixread=30
bs=4k
iodepth=16
offset=40m
";

#[test]
fn what_fio_wrote_is_verified_at_once_and_after_a_kill() {
    let mut lab = Lab::new("");
    let fio = |lab: &Lab, more: &[&str]| {
        let nbd = Nbd::serve(lab.folder.path(), &lab.url("disk"));
        let jobs = lab.write("jobs", JOBS.replace("URI", &nbd.uri).as_bytes());
        let said = succeeds(&[&["fio", "--output-format=terse"], more, &[&jobs]].concat());
        assert!(!said.contains("verify:") && !said.contains("bad magic"), "{said}");
    };
    fio(&lab, &[]);
    lab.crash();
    fio(&lab, &["--verify_only"]);
    // The harness can see: another byte in the middle of what was verified is found.
    qemu_io(&lab.url("disk"), &["write -P 1 24M 512".into(), "flush".into()]);
    let nbd = Nbd::serve(lab.folder.path(), &lab.url("disk"));
    let jobs = lab.write("jobs", JOBS.replace("URI", &nbd.uri).as_bytes());
    let (unharmed, said) = run(&["fio", "--verify_only", "--section=long", &jobs]);
    assert!(!unharmed && said.contains("verify"), "{said}");
    drop(nbd);
    lab.deep_check();
}
