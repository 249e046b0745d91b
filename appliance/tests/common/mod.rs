//! What the tests of the whole program share: a box as a process, the command line, and a small NFS client of its own.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod iscsi;
pub mod net;
pub mod nfs;
pub mod office;
pub mod seeded;
pub mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use narrowboat::control::reports::Status;
use narrowboat::control::{Failed, Request, client};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_narrowboat");
/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A config for tests: ports that the system picks, root is root, a small overlay, so that the drain has work, and no word
/// of how full the machine's disk happens to be.
pub const CONFIG: &str = "\
name = 'NAME'
[nfs]
listen = '127.0.0.1:0'
root_squash = false
[iscsi]
listen = ['127.0.0.1:0']
threshold_percent = 0
[wan]
listen = '127.0.0.1:0'
[page]
listen = ''
[store]
overlay = '16MiB'
reserve = '64MiB'
cache = '16MiB'
";

/// Makes the data folder `name` in `folder`, with the config for tests.
pub fn data_folder(folder: &Path, name: &str) -> PathBuf {
    let data = folder.join(name);
    fs::create_dir_all(&data).expect("a data folder");
    fs::write(data.join("narrowboat.toml"), CONFIG.replace("NAME", name)).expect("a config");
    data
}

/// Has what is deleted on the box in `data` be gone at once. To be called before it starts.
pub fn without_quarantine(data: &Path) {
    let file = data.join("narrowboat.toml");
    let config = fs::read_to_string(&file).expect("a config");
    fs::write(file, config + "[retention]\nquarantine_days = 0\n").expect("a config");
}

/// A box that runs as a process of its own. Killed when dropped.
pub struct Served {
    child: Child,
    pub data: PathBuf,
    /// Where it serves NFS.
    pub nfs: String,
    /// Where it serves iSCSI.
    pub portals: Vec<String>,
}

impl Served {
    /// Starts a box and waits until it answers.
    pub fn start(data: &Path) -> Served {
        Served::start_with(data, |_| {})
    }
    /// Starts a box whose process is prepared, and waits until it answers.
    pub fn start_with(data: &Path, prepare: impl FnOnce(&mut Command)) -> Served {
        Served::launch_with(data, prepare).answering()
    }
    /// Starts a box by a command to which its own words are added, and waits until it answers.
    pub fn start_as(data: &Path, command: Command) -> Served {
        Served::launch_as(data, command, |_| {}).answering()
    }
    fn answering(mut self) -> Served {
        let served = &mut self;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = served.ask::<Status>(&Request::Status) {
                served.nfs = status.nfs.unwrap_or_default();
                served.portals = status.iscsi;
                return self;
            }
            let ended = served.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the box ended at its start ({ended:?}):\n{}", served.log());
            assert!(Instant::now() < deadline, "the box does not answer:\n{}", served.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    /// Starts a box and does not wait.
    pub fn launch(data: &Path) -> Served {
        Served::launch_with(data, |_| {})
    }
    fn launch_with(data: &Path, prepare: impl FnOnce(&mut Command)) -> Served {
        Served::launch_as(data, Command::new(PROGRAM), prepare)
    }
    fn launch_as(data: &Path, mut command: Command, prepare: impl FnOnce(&mut Command)) -> Served {
        let log = fs::File::options().create(true).append(true).open(log_of(data)).expect("a log");
        command.args(["serve", "--data"]).arg(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        prepare(&mut command);
        let child = command.spawn().expect("the program");
        Served { child, data: data.to_owned(), nfs: String::new(), portals: Vec::new() }
    }
    /// What it has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(log_of(&self.data)).unwrap_or_default()
    }
    /// Asks over the control socket.
    pub fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Failed> {
        ask(&self.data, request)
    }
    /// `kill -9`.
    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }
    /// Sends a signal and waits for the end.
    pub fn end_with(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.wait()
    }
    /// Waits for an end that was asked for.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the box does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    /// Bytes that it has read by system calls so far, from files and sockets (`rchar`).
    pub fn read_bytes(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).expect("it runs");
        let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("a line of its own");
        line.trim().parse().expect("a number")
    }
    /// Seconds of processor time that it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        // Behind the name, which may hold anything; in hundredths.
        let fields = stat.rsplit(')').next().expect("a name").split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).map(|ticks| ticks.parse().expect("a number")).collect();
        ticks.iter().sum::<u64>() as f64 / 100.0
    }
    /// A session with the target of a volume, as the usual initiator.
    pub fn log_in(&self, volume: &str) -> iscsi::Initiator {
        iscsi::Initiator::login(&self.portals[0], &target(volume)).expect("it serves")
    }
    /// Bytes of its memory that are not shared with files (RssAnon).
    pub fn memory_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line of its own");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
    /// A connection to its NFS server.
    pub fn connect(&self) -> nfs::Client {
        nfs::Client::connect(&self.nfs).expect("it serves")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The iSCSI name of a volume, with the config for tests.
pub fn target(volume: &str) -> String {
    format!("iqn.2026-11.net.narrowboat:{volume}")
}

fn log_of(data: &Path) -> PathBuf {
    data.with_extension("log")
}

/// Asks the box in a data folder over its control socket.
pub fn ask<T: DeserializeOwned>(data: &Path, request: &Request) -> Result<T, Failed> {
    let value = client::ask(data, request, &mut |_| {})?;
    Ok(serde_json::from_value(value).expect("the report that belongs to the request"))
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command on the box in a data folder.
pub fn narrowboat(data: &Path, args: &[&str]) -> Said {
    let output = Command::new(PROGRAM).arg("--data").arg(data).args(args).stdin(Stdio::null()).output();
    let output = output.expect("the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a command that must succeed and returns what it printed.
pub fn fine(data: &Path, args: &[&str]) -> String {
    let said = narrowboat(data, args);
    assert_eq!(said.code, 0, "narrowboat {args:?}: {said:?}");
    said.out
}

/// Runs a command that must succeed with `--json` and returns what it printed.
pub fn facts(data: &Path, args: &[&str]) -> Value {
    let out = fine(data, &[&["--json"], args].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("narrowboat {args:?}: {error}: {out}"))
}

/// Noise from a seed: bytes that neither compress nor repeat.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Copies a folder with all that is in it, but for sockets, as it is at the moment.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => copy_folder(&path, &target),
            kind if kind.is_file() => drop(fs::copy(&path, &target).expect("copied")),
            _ => {}
        }
    }
}

/// Reads every byte of the store in a data folder, with or without a running box, and says what is wrong.
pub fn check_deep(data: &Path) -> Result<(), String> {
    let said = narrowboat(data, &["check", "--deep"]);
    if said.code == 0 { Ok(()) } else { Err(format!("check --deep: {said:?}")) }
}

/// Waits until something is so.
pub fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes 4 MiB that nothing compresses to the volume `disk`.
pub fn write_noise(served: &Served) {
    let bytes: Vec<u8> = (0..32).flat_map(|step| noise(step, 256 * 512)).collect();
    write_volume(served, "disk", 0, &bytes);
}

/// Writes to a volume, and has it made stable. In blocks of 512 bytes.
pub fn write_volume(served: &Served, volume: &str, at: usize, bytes: &[u8]) {
    let mut initiator = served.log_in(volume);
    initiator.greet(0).expect("an answer");
    let blocks = 256;
    for (step, piece) in bytes.chunks(blocks * 512).enumerate() {
        let block = (at / 512 + step * blocks) as u64;
        let write = iscsi::write(block, piece.len() / 512, false);
        let answer = initiator.run(0, &write, piece.to_vec(), 0).expect("an answer");
        assert!(answer.is_good(), "{answer:?}");
    }
    assert!(initiator.run(0, &iscsi::synchronize(), Vec::new(), 0).expect("an answer").is_good());
}

/// Makes two boxes peers: the second joins the first, and calls it by the name that it has.
pub fn pair(head: &Path, branch: &Path) {
    let invitation = facts(head, &["peer", "invite"]);
    let (code, listen) =
        (invitation["code"].as_str().expect("a code"), invitation["listen"].as_str().expect("an address"));
    fine(branch, &["peer", "join", code, listen]);
}
