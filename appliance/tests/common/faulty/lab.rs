//! A box on a disk that can be made to fail, with clients that nobody here wrote, and what they were told: QEMU's tools over NFS and iSCSI.
//!
//! What happens is printed as it would be read on a terminal: `make bad-disk` shows it, and `docs/durability.md` has some of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::Disk;
use crate::common::net::is_alone;
use crate::common::{CONFIG, Said, Served, check_deep, fine, narrowboat, noise, target};

pub const MIB: usize = 1 << 20;
/// Of the image on the share, and of the volume.
const IMAGE_MIB: usize = 16;

/// Where a client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Share,
    Volume,
}

pub const BOTH: [To; 2] = [To::Share, To::Volume];

/// A MiB of noise that a client wrote, synchronised, and was told is safe.
#[derive(Clone, Copy, Debug)]
struct Piece {
    to: To,
    at_mib: usize,
    seed: u64,
}

/// A box and its clients.
/// What is named first ends first: the box, then its disk, then the folder.
pub struct Lab {
    served: Option<Served>,
    pub disk: Disk,
    folder: tempfile::TempDir,
    pub data: PathBuf,
    /// In the order in which they were written.
    safe: Vec<Piece>,
    seeds: u64,
    told_lines: usize,
}

impl Lab {
    /// A box with a share `office`, which has an image, and a volume `disk`. Nothing where this machine does not let a test make such a disk.
    pub fn new(test: &str) -> Option<Lab> {
        if !is_alone(test) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::mount(folder.path(), test)?;
        let data = disk.folder().to_owned();
        write_safely(&data.join("narrowboat.toml"), &config());
        let mut lab = Lab { folder, disk, data, served: None, safe: Vec::new(), seeds: 0, told_lines: 0 };
        println!("== {}", test.replace('_', " "));
        lab.begin_again();
        Some(lab)
    }

    /// A new box on a disk that has its config file and nothing else.
    pub fn begin_again(&mut self) {
        self.start();
        fine(&self.data, &["share", "create", "office"]);
        fine(&self.data, &["volume", "create", "disk", "--size", &format!("{IMAGE_MIB}MiB")]);
        let len = format!("{IMAGE_MIB}M");
        let (code, said) = run(&["qemu-img", "create", "-q", "-f", "raw", &self.url(To::Share), &len]);
        assert_eq!(code, 0, "{said}");
    }

    /// What was written there is to be there no more.
    pub fn forget(&mut self, to: To) {
        self.safe.retain(|piece| piece.to != to);
    }

    /// Says what is done from now on.
    pub fn does(&self, what: &str) {
        println!("\n-- {what}");
    }

    pub fn start(&mut self) {
        self.served = Some(Served::start(&self.data));
    }

    /// Starts a box that ends by itself, and returns what it says.
    pub fn fails_to_start(&mut self) -> String {
        let mut served = Served::launch(&self.data);
        assert!(!served.wait().success(), "it started");
        self.told()
    }

    pub fn kill(&mut self) {
        self.served.take().expect("it runs").kill();
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        assert!(self.served.take().expect("it runs").end_with(Signal::TERM).success());
    }

    pub fn served(&self) -> &Served {
        self.served.as_ref().expect("it runs")
    }

    fn url(&self, to: To) -> String {
        match to {
            To::Share => "nfs://127.0.0.1/office/image".to_owned(),
            To::Volume => format!("iscsi://{}/{}/0", self.served().portals[0], target("disk")),
        }
    }

    /// Has a client write a MiB of noise there and synchronise it. True where it was told that this is done.
    pub fn writes(&mut self, to: To, at_mib: usize) -> bool {
        self.seeds += 1;
        let piece = Piece { to, at_mib, seed: self.seeds };
        let local = self.folder.path().join("piece");
        fs::write(&local, noise(piece.seed, MIB)).expect("room");
        let write = format!("write -q -s {} {at_mib}M 1M", local.display());
        let since = Instant::now();
        let (code, said) = run(&["qemu-io", "-f", "raw", "-t", "none", "-c", &write, "-c", "flush", &self.url(to)]);
        let took = since.elapsed().as_secs_f64();
        let shown = said.lines().next().unwrap_or("synchronised");
        println!("   a client writes a MiB to the {} and flushes: {shown} ({took:.1} s)", name(to));
        if code == 0 {
            self.safe.push(piece);
        }
        code == 0
    }

    /// Has a client read all of it. `None` where it is told of an error.
    fn reads_image(&self, to: To) -> Option<Vec<u8>> {
        let local = self.folder.path().join("back");
        let shown = local.to_str().expect("text");
        let (code, said) = run(&["qemu-img", "convert", "-f", "raw", "-O", "raw", &self.url(to), shown]);
        let first = said.lines().next().unwrap_or("all of it");
        println!("   a client reads all of the {}: {first}", name(to));
        (code == 0).then(|| fs::read(&local).expect("there"))
    }

    /// True where a client gets all that clients were told is safe, and nothing else in its place.
    pub fn reads(&self, to: To) -> bool {
        let Some(bytes) = self.reads_image(to) else { return false };
        for place in 0..IMAGE_MIB {
            let last = self.safe.iter().rev().find(|piece| piece.to == to && piece.at_mib == place);
            let Some(last) = last else { continue };
            let found = &bytes[place * MIB..(place + 1) * MIB];
            assert!(found == noise(last.seed, MIB), "{to:?}: MiB {place} is not what was synchronised");
        }
        true
    }

    /// Everything that clients were told is safe is there, and `check --deep` finds nothing.
    pub fn is_whole(&self) {
        assert!(BOTH.into_iter().all(|to| self.reads(to)));
        check_deep(&self.data).expect("whole");
        println!("   narrowboat check --deep: whole");
    }

    /// What `status` says is a problem, within seconds.
    pub fn problems(&self) -> String {
        let since = Instant::now();
        let said = narrowboat(&self.data, &["status"]);
        assert_eq!(said.code, 0, "{said:?}");
        let took = since.elapsed();
        assert!(took < Duration::from_secs(6), "status took {took:?}");
        let (mut shown, mut on) = (String::new(), false);
        for line in said.out.lines() {
            on = line.contains("PROBLEM") || on && line.starts_with("               ");
            if on {
                shown += &format!("{line}\n");
            }
        }
        println!("   narrowboat status ({:.1} s):", took.as_secs_f64());
        shown.lines().for_each(|line| println!("   {line}"));
        shown
    }

    /// What `status` says to programs.
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.command(&["--json", "status"]).out).expect("JSON")
    }

    /// Waits until `status` says that something is a problem.
    pub fn says(&self, what: &str) {
        crate::common::until(what, || self.command(&["status"]).out.contains(what));
        self.problems();
    }

    pub fn command(&self, words: &[&str]) -> Said {
        narrowboat(&self.data, words)
    }

    /// What the log has said since this was asked last: no panic, and no flood.
    pub fn told(&mut self) -> String {
        let log = fs::read_to_string(self.data.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().skip(self.told_lines).collect();
        self.told_lines += lines.len();
        println!("   log:");
        // Without the time.
        lines.iter().for_each(|line| println!("     {}", line.split_once("Z ").map_or(*line, |(_, rest)| rest.trim())));
        assert!(lines.len() < 40, "{} lines of log", lines.len());
        assert!(!log.contains("panicked") && !log.contains("mistake of the program"), "{log}");
        lines.join("\n")
    }

    /// The box has nothing better to do than to wait: it uses next to no processor time.
    pub fn rests(&self) {
        let before = self.served().cpu_seconds();
        let time = Duration::from_secs(3);
        std::thread::sleep(time);
        let used = self.served().cpu_seconds() - before;
        println!("   {used:.2} s of processor time in {} s", time.as_secs());
        assert!(used < 0.9, "{used} s of processor time in {time:?}");
    }
}

/// As for other tests, but on the ports that QEMU asks for.
pub fn config() -> String {
    let ports = "listen = '127.0.0.1:2049'\nportmap = '127.0.0.1:111'";
    CONFIG.replacen("listen = '127.0.0.1:0'", ports, 1).replace("NAME", "box")
}

/// Writes a file so that a power cut takes nothing of it.
pub fn write_safely(path: &Path, text: &str) {
    fs::write(path, text).expect("room");
    fs::File::open(path).and_then(|file| file.sync_all()).expect("a disk");
}

fn name(to: To) -> &'static str {
    match to {
        To::Share => "share (nfs://)",
        To::Volume => "volume (iscsi://)",
    }
}

/// Runs a tool to its end: its exit code, and what it printed.
fn run(words: &[&str]) -> (i32, String) {
    let output = Command::new("timeout").arg("100").args(words).stdin(Stdio::null()).output().expect("timeout");
    let code = output.status.code().unwrap_or(-1);
    assert_ne!(code, 127, "{} is not installed (Debian: qemu-utils, qemu-block-extra)", words[0]);
    (code, String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Files below a folder, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("a type").is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}
