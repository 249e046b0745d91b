//! The network of the machine that the box is on. Where the config file says so, the box sets it up: by files of systemd-networkd that it owns alone
//! (docs/formats/network.md), written by its own process and never by the page worker. Elsewhere it only looks.
//!
//! What was said ([`wanted`]) is understood, tried ([`trial`], a value without a clock), and kept once somebody has shown that he reaches the box at its
//! new address. [`runner`] brings about what the value wants, with [`hands`]; [`files`] are what networkd reads, [`seen`] what the kernel has.

mod address;
mod files;
mod hands;
mod kept;
mod runner;
mod seen;
mod trial;
mod wanted;

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::accounts::audit::Entry;
use crate::clock;
use crate::config;
use crate::control::Failed;
use crate::control::reports::{NetworkAddress, NetworkState, NetworkTrial};
use crate::node::Node;
use crate::units::rfc3339;
use hands::System;
use kept::State;
use runner::Runner;
use trial::{Event, From, How, Machine, Present};
pub use wanted::Wanted;

/// How often it is looked whether time has passed, while something is tried, and while nothing is.
const EVERY: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// The box's hold of the network.
pub struct Network {
    config: config::Network,
    begun: Instant,
    /// Why what was kept can't be read.
    unreadable: Option<String>,
    runner: Mutex<Runner<System>>,
}

impl Network {
    /// With what is kept in the data folder. Nothing is done before [`Network::serve`].
    pub fn open(data: &Path, config: &config::Network) -> Network {
        let (state, unreadable) = match State::load(data) {
            Ok(state) => (state, None),
            Err(error) => {
                tracing::error!(%error, "what is kept of the network set-up can't be read: the network stays as it is");
                (State::default(), Some(error.to_string()))
            }
        };
        // The config file was checked when it was read.
        let lasts = config.trial().unwrap_or(Duration::from_secs(60));
        let runner = Mutex::new(Runner::new(Machine::new(state, lasts), System::new(data)));
        Network { config: config.clone(), begun: Instant::now(), unreadable, runner }
    }

    /// Undoes what a box before this one was killed over, sees to it that trials end, and ends the last one when the box ends.
    pub fn serve(&self, node: &Node) {
        let undo = self.lock().machine().state().trial.is_some();
        if self.unreadable.is_some() || !(self.config.manage || undo) {
            return;
        }
        self.take(node, Event::Started);
        while !node.is_stopping() {
            let pause = EVERY[usize::from(self.lock().machine().trial().is_none())];
            std::thread::park_timeout(pause);
            self.take(node, Event::Passed);
        }
        self.take(node, Event::Ending);
    }

    /// An event that nobody waits for.
    fn take(&self, node: &Node, event: Event) {
        let mut runner = self.lock();
        let owed = runner.owed().map(str::to_owned);
        if let Err(failed) = runner.take(self.begun.elapsed(), event)
            && runner.owed().map(str::to_owned) != owed
        {
            tracing::error!(%failed, "the network");
        }
        self.tell(node, runner);
    }

    /// Tells the audit log of ends that nobody asked for.
    fn tell(&self, node: &Node, mut runner: MutexGuard<'_, Runner<System>>) {
        let ended = std::mem::take(&mut runner.hands_mut().ended);
        drop(runner);
        for ended in ended {
            tracing::warn!(trial = ended.number, how = %ended.how, "a change of the network ended");
            let entry = Entry {
                at: rfc3339(clock::now()),
                who: "box".into(),
                by: "box".into(),
                what: "network-revert".into(),
                with: serde_json::json!({ "trial": ended.number }),
                outcome: Some(ended.how.to_string()),
                ..Entry::default()
            };
            if let Err(error) = node.audit.add(entry) {
                tracing::error!(%error, "the end of a change of the network can't be written to the audit log");
            }
        }
    }

    /// Has another set-up count at once: for a box that nobody has used yet.
    pub fn keep(&self, node: &Node, wanted: Wanted) -> Result<NetworkState, Failed> {
        let interface = self.possible(&wanted)?;
        self.ask(node, Event::Keep(interface, wanted))
    }

    /// Tries another set-up.
    pub fn set(&self, node: &Node, wanted: Wanted) -> Result<NetworkState, Failed> {
        let interface = self.possible(&wanted)?;
        self.ask(node, Event::Begin(interface, wanted))
    }

    /// The interface for which a set-up is possible.
    fn possible(&self, wanted: &Wanted) -> Result<String, Failed> {
        let interface = self.interface();
        if let Some(why) = self.why_not(interface.as_deref()) {
            return Err(Failed::refused(why));
        }
        let interface = interface.unwrap_or_default();
        if let Some(failed) = wanted.problems().into_iter().next() {
            return Err(failed);
        }
        elsewhere(wanted, &interface)?;
        Ok(interface)
    }

    /// Has what is tried count. `at` is the address of the box at which whoever says so has come; nothing where he stands at the box itself.
    pub fn confirm(&self, node: &Node, number: Option<u64>, at: Option<IpAddr>) -> Result<NetworkState, Failed> {
        let from = match at {
            None => From::Console,
            Some(at) => From::Address(at, self.present()),
        };
        self.ask(node, Event::Confirm(number, from))
    }

    /// The addresses of what is tried, as networkd has them.
    fn present(&self) -> Vec<Present> {
        let vlan = self.lock().machine().layout().device;
        let device = vlan.or_else(|| self.interface());
        device.and_then(|device| hands::present(&device)).unwrap_or_default()
    }

    /// Has what was before back at once.
    pub fn revert(&self, node: &Node, number: Option<u64>) -> Result<NetworkState, Failed> {
        self.ask(node, Event::GoBack(number))
    }

    fn ask(&self, node: &Node, event: Event) -> Result<NetworkState, Failed> {
        let mut runner = self.lock();
        let outcome = runner.take(self.begun.elapsed(), event);
        self.tell(node, runner);
        outcome?;
        Ok(self.show())
    }

    /// How the network is.
    pub fn show(&self) -> NetworkState {
        let interface = self.interface();
        let why_not = self.why_not(interface.as_deref());
        let runner = self.lock();
        let (machine, now) = (runner.machine(), self.begun.elapsed());
        let trial = machine.trial().map(|tried| NetworkTrial {
            number: tried.number,
            wanted: tried.wanted.clone(),
            in_force: machine.is_running(),
            seconds_left: machine.left(now).unwrap_or_default().as_secs(),
            addresses: tried
                .wanted
                .sound()
                .map(|sound| sound.fixed())
                .unwrap_or_default()
                .iter()
                .map(IpAddr::to_string)
                .collect(),
        });
        let last = machine.ended().map(|ended| match &ended.how {
            How::Kept => format!("What was tried last was kept: {}.", ended.how),
            how => format!("What was tried last was not kept: {how}."),
        });
        NetworkState {
            managed: why_not.is_none(),
            why_not,
            interface,
            kept: machine.state().kept.clone(),
            trial,
            last,
            trouble: runner.owed().map(str::to_owned),
            trial_seconds: self.config.trial().unwrap_or_default().as_secs(),
            addresses: addresses(),
            gateways: seen::routes().iter().map(|route| route.gateway.to_string()).collect(),
            dns: seen::dns().iter().map(IpAddr::to_string).collect(),
        }
    }

    /// The interface that the box sets up, or would.
    fn interface(&self) -> Option<String> {
        let named = self.config.interface.clone();
        let kept = || Some(self.lock().machine().state().interface.clone()).filter(|name| !name.is_empty());
        named.or_else(kept).or_else(|| seen::usual_interface(&seen::routes()))
    }

    /// Why the box does not set up the network, if it does not.
    fn why_not(&self, interface: Option<&str>) -> Option<String> {
        if !self.config.manage {
            return Some("the network of this machine is set up by the machine itself: its config file does not leave that to the box (manage = true below [network])".into());
        }
        if let Some(why) = &self.unreadable {
            return Some(format!("what is kept of the network set-up can't be read, so it stays as it is: {why}"));
        }
        let Some(interface) = interface else {
            return Some("this machine has no interface that could be set up".into());
        };
        if !self.lock().hands().may_write() {
            return Some("the box may not write below /etc/systemd/network and /run/systemd/network: its network is set up by the machine itself".into());
        }
        hands::present(interface).is_none().then(|| {
            format!("systemd-networkd does not run on this machine, or does not know {interface}: its network is set up by other means")
        })
    }

    fn lock(&self) -> MutexGuard<'_, Runner<System>> {
        self.runner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses an address that another interface of this machine has.
fn elsewhere(wanted: &Wanted, interface: &str) -> Result<(), Failed> {
    let fixed = wanted.sound().map(|sound| sound.fixed()).unwrap_or_default();
    let others = if_addrs::get_if_addrs().unwrap_or_default();
    let ours = |name: &str| name == interface || name.starts_with(files::DEVICE);
    for other in others.iter().filter(|other| !ours(&other.name)) {
        if fixed.contains(&other.ip()) {
            let field = if other.ip().is_ipv4() { "network.address4" } else { "network.address6" };
            let sentence =
                format!("{} is the address of {} of this machine already: take another one", other.ip(), other.name);
            return Err(Failed::about(field, sentence));
        }
    }
    Ok(())
}

/// The addresses of this machine, but for those that nobody else reaches.
fn addresses() -> Vec<NetworkAddress> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let of = |one: if_addrs::Interface| {
        let prefix = match &one.addr {
            if_addrs::IfAddr::V4(four) => four.prefixlen,
            if_addrs::IfAddr::V6(six) => six.prefixlen,
        };
        NetworkAddress { address: format!("{}/{prefix}", one.ip()), interface: one.name }
    };
    let mut all: Vec<NetworkAddress> =
        all.into_iter().filter(|one| !one.is_loopback() && !one.is_link_local()).map(of).collect();
    all.sort_by(|one, other| (&one.interface, &one.address).cmp(&(&other.interface, &other.address)));
    all
}
