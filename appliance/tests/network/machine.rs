//! A machine with systemd-networkd, in the test's own network and tree of mounts, and the office that it is in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::net::is_alone;
use crate::common::{self, until};

/// Where networkd looks for files.
pub const ETC: &str = "/etc/systemd/network";
pub const RUN: &str = "/run/systemd/network";
const NETWORKD: &str = "/lib/systemd/systemd-networkd";
/// What the machine came with.
const OWN: &str = "[Match]\nName=up0\n[Network]\nAddress=10.9.0.2/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n";

/// True in a network of its own, as root; otherwise as [`is_alone`].
pub fn alone(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{test} is skipped: networkd becomes another user, and only root can let it");
        return false;
    }
    is_alone(test)
}

/// A process that ends with this.
pub struct Held(Child);

impl Held {
    fn start(command: &mut Command) -> Held {
        Held(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The machine. Its parts end in the order in which they stand here.
pub struct Machine {
    networkd: Option<Held>,
    bus: Option<Held>,
    office: Held,
}

/// Runs a command of the system; what it says, if it succeeds.
fn system(command: &mut Command) -> Result<String, String> {
    let output =
        command.stdin(Stdio::null()).output().expect("iproute2, util-linux, dbus and systemd (Debian packages)");
    let said = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    match output.status.success() {
        true => Ok(said(output.stdout)),
        false => Err(format!("{command:?}: {}{}", said(output.stdout), said(output.stderr))),
    }
}

fn words(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words);
    command
}

impl Machine {
    /// Mounts what is its own, and starts networkd on an address that the machine came with.
    pub fn new() -> Machine {
        let office = Held::start(Command::new("unshare").args(["--net", "sleep", "7200"]));
        let of = |process: String| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let deadline = Instant::now() + Duration::from_secs(30);
        while of(office.0.id().to_string()).is_none_or(|space| Some(space) == of("self".into())) {
            assert!(Instant::now() < deadline, "no namespace came about");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::create_dir_all(ETC).expect("root");
        // The devices of this network, and read-only: that is how networkd knows that there is no udev to wait for.
        for line in [
            "umount -l /sys",
            "mount -t sysfs -o ro sysfs /sys",
            "mount -t tmpfs -o mode=755 tmpfs /run",
            "mount -t tmpfs -o mode=755 tmpfs /etc/systemd/network",
        ] {
            system(&mut words(line)).expect("a mount");
        }
        fs::write(format!("{ETC}/80-office.network"), OWN).expect("written");
        let mut machine = Machine { networkd: None, bus: None, office };
        machine.run(&format!("ip link add up0 type veth peer name out0 netns {}", machine.office.0.id()));
        machine.office("ip link set lo up");
        machine.office("ip link set out0 up");
        machine.office("ip addr add 10.9.0.1/24 dev out0");
        machine.boot();
        machine
    }

    fn boot(&mut self) {
        for folder in ["/run/dbus", RUN] {
            fs::create_dir_all(folder).expect("root");
        }
        let bus = Held::start(Command::new("dbus-daemon").args(["--system", "--nofork", "--nopidfile"]));
        self.bus = Some(bus);
        until("the bus is there", || Path::new("/run/dbus/system_bus_socket").exists());
        self.networkd = Some(Held::start(&mut Command::new(NETWORKD)));
        until("networkd has set up the network", || self.addresses("up0").contains("10.9."));
    }

    /// The same machine after its power went and came back: what lies in `/run` and what the kernel knew is gone.
    pub fn after_a_power_cut(mut self) -> Machine {
        (self.networkd, self.bus) = (None, None);
        for entry in fs::read_dir("/run").expect("ours").flatten() {
            let path = entry.path();
            let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
        }
        self.run("ip link set up0 down");
        self.run("ip addr flush dev up0");
        self.boot();
        self
    }

    /// The same machine without networkd: what the kernel knows stays.
    pub fn without_networkd(mut self) -> Machine {
        self.networkd = None;
        let _ = fs::remove_dir_all("/run/systemd/netif");
        self
    }

    /// Runs a command that must succeed; what it says.
    pub fn run(&self, line: &str) -> String {
        system(&mut words(line)).unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    /// Runs a command; whether it succeeds.
    pub fn try_run(&self, line: &str) -> bool {
        system(&mut words(line)).is_ok()
    }

    /// Runs a command in the office that must succeed.
    pub fn office(&self, line: &str) {
        let mut command = self.command_in_the_office();
        system(command.args(line.split_whitespace())).unwrap_or_else(|complaint| panic!("{complaint}"));
    }

    fn command_in_the_office(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.office.0.id()));
        command
    }

    /// Does something as somebody in the office would: his connections come from there.
    pub fn in_the_office<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let space = fs::File::open(format!("/proc/{}/ns/net", self.office.0.id())).expect("the office");
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                let kind = rustix::thread::LinkNameSpaceType::Network;
                rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(kind)).expect("root");
                work()
            });
            there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Serves addresses from 10.9.5.20 on in the office.
    pub fn dhcp(&self, folder: &Path) -> Held {
        let (config, leases) = (folder.join("udhcpd.conf"), folder.join("leases"));
        let text = format!(
            "start 10.9.5.20\nend 10.9.5.29\nmax_leases 10\ninterface out0\nlease_file {}\nopt subnet 255.255.255.0\nopt router 10.9.5.1\nopt dns 10.9.5.1\nopt lease 600\n",
            leases.display()
        );
        fs::write(&config, text).expect("written");
        fs::write(leases, []).expect("written");
        Held::start(self.command_in_the_office().args(["busybox", "udhcpd", "-f"]).arg(config))
    }

    /// What the kernel says of a device.
    pub fn addresses(&self, device: &str) -> String {
        system(Command::new("ip").args(["-brief", "addr", "show", "dev", device])).unwrap_or_default()
    }

    /// Whether a device has an address.
    pub fn has(&self, device: &str, address: &str) -> bool {
        self.addresses(device).split_whitespace().any(|word| word == address)
    }

    /// Makes a data folder for its box, which sets up the network and has a page.
    pub fn data(&self, folder: &Path, trial: Duration) -> PathBuf {
        let data = common::data_folder(folder, "box");
        let tls = format!("{}/tests/tls", env!("CARGO_MANIFEST_DIR"));
        let page = format!(
            "[page]\nlisten = '0.0.0.0:8443'\nannounce = false\ncertificate_file = '{tls}/server.pem'\nkey_file = '{tls}/server.key'"
        );
        let network = format!("[network]\nmanage = true\ninterface = 'up0'\ntrial = '{}s'\n", trial.as_secs());
        let file = data.join("narrowboat.toml");
        let config = fs::read_to_string(&file).expect("a config").replace("[page]\nlisten = ''", &page);
        fs::write(&file, config + &network).expect("written");
        data
    }
}
