//! Networks for whole boxes: each box in a network namespace of its own, joined by lines of the kernel or by a relay.
//!
//! ```text
//!   box ──lan── ┐                    ┌ ──lan── box        lan:  iSCSI and the test, 10.9.BOX.0/24
//!               the test's own namespace                  wan0, wan1, …: lines to "the internet", 10.BOX.LINE.0/24
//!   box ─wan0── ┘ (routes, or relays) └ ─wan0── box
//! ```
//!
//! The test's namespace holds nothing else. It forwards only where it is told to: then lines are routed by the kernel, and a cut is an
//! interface that goes down. Where it does not forward, a relay in the test passes datagrams on, later, fewer and counted, and
//! is a NAT to whom it calls.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{CONFIG, PROGRAM, Served};

/// Set in the environment of the copy of this program that runs in a network of its own.
const INSIDE: &str = "NARROWBOAT_IN_NAMESPACE";
/// Where boxes listen for peers.
pub const WAN_PORT: u16 = 7420;

/// True in a network of its own. Elsewhere it runs the same test there, and fails where that fails. Where no namespace can be
/// made, it says so, and there is nothing to be tested.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let enter = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]).stdin(Stdio::null());
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
    };
    let possible = enter().arg("true").output().expect("unshare (Debian: util-linux)");
    if !possible.status.success() {
        let why = String::from_utf8_lossy(&possible.stderr);
        eprintln!(
            "{test} is skipped: this machine lets nobody make namespaces of networks and mounts ({})",
            why.trim()
        );
        return false;
    }
    let mut command = enter();
    command.args(["sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(std::env::current_exe().expect("this program")).args([test, "--exact", "--nocapture"]);
    let output = command.env(INSIDE, "1").output().expect("unshare");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    print!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "in a network of its own:\n{said}");
    false
}

/// Runs a command of the system that must succeed.
fn system(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("iproute2 and util-linux (Debian packages)");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `ip` with these words in the test's own namespace.
pub fn ip(words: &str) {
    system(Command::new("ip").args(words.split_whitespace()));
}

/// From now on the test's namespace passes packets on between lines, as routers do.
pub fn forward() {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a sysctl of its own namespace");
}

/// The namespace of one box, numbered from 1.
pub struct Site {
    number: u8,
    holder: Child,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Site {
    /// A namespace with a line to the test (`lan`) and `lines` lines to the internet.
    pub fn new(number: u8, lines: u8) -> Site {
        let holder = Command::new("unshare").args(["--net", "sleep", "7200"]).stdin(Stdio::null()).spawn();
        let site = Site { number, holder: holder.expect("unshare") };
        let of = |process: String| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let deadline = Instant::now() + Duration::from_secs(30);
        while of(site.holder.id().to_string()).is_none_or(|space| Some(space) == of("self".into())) {
            assert!(Instant::now() < deadline, "no namespace came about");
            std::thread::sleep(Duration::from_millis(5));
        }
        site.run("ip link set lo up");
        site.join("lan", &format!("lan{number}"), &format!("10.9.{number}"));
        for line in 0..lines {
            site.join(&format!("wan{line}"), &Site::outside(number, line), &format!("10.{number}.{line}"));
        }
        site
    }

    /// The interface of a line at the test's end.
    pub fn outside(number: u8, line: u8) -> String {
        format!("net{number}-{line}")
    }

    fn join(&self, inside: &str, outside: &str, network: &str) {
        ip(&format!("link add {outside} type veth peer name {inside} netns {}", self.holder.id()));
        ip(&format!("addr add {network}.1/24 dev {outside}"));
        ip(&format!("link set {outside} up"));
        self.run(&format!("ip addr add {network}.2/24 dev {inside}"));
        self.run(&format!("ip link set {inside} up"));
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command
    }

    /// Runs a command of the system in this namespace.
    pub fn run(&self, words: &str) {
        system(self.enter().args(words.split_whitespace()));
    }

    /// What goes to another site's line leaves over the line of the same number.
    pub fn route(&self, to: u8, line: u8) {
        self.run(&format!("ip route replace 10.{to}.{line}.0/24 via 10.{}.{line}.1", self.number));
    }

    /// What leaves over a line is held to a rate by the kernel (TBF).
    pub fn shape(&self, line: u8, rate: &str) {
        self.run(&format!("tc qdisc replace dev wan{line} root tbf rate {rate} burst 16k latency 100ms"));
    }

    /// Its address on a line.
    pub fn address(&self, line: u8) -> String {
        format!("10.{}.{line}.2:{WAN_PORT}", self.number)
    }

    /// Makes a data folder for its box; `more` is further config.
    pub fn data(&self, folder: &Path, name: &str, more: &str) -> std::path::PathBuf {
        let data = super::data_folder(folder, name);
        let lan = format!("10.9.{}", self.number);
        let config = CONFIG
            .replace("NAME", name)
            .replacen("listen = '127.0.0.1:0'", "listen = ''", 1)
            .replace("listen = ['127.0.0.1:0']", &format!("listen = ['{lan}.2:3260']\nallow = ['{lan}.0/24']"))
            .replace("listen = '127.0.0.1:0'", &format!("listen = '0.0.0.0:{WAN_PORT}'"));
        std::fs::write(data.join("narrowboat.toml"), format!("{config}{more}")).expect("a config");
        data
    }

    /// Starts its box with these variables in its environment, and waits until it answers.
    pub fn start_in(&self, data: &Path, environment: &[(&str, std::path::PathBuf)]) -> Served {
        let mut command = self.enter();
        command.arg("env");
        for (name, value) in environment {
            command.arg(format!("{name}={}", value.display()));
        }
        command.arg(PROGRAM);
        Served::start_as(data, command)
    }
}
