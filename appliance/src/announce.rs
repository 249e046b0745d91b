//! The box is found: it announces the name of its page by multicast DNS (RFC 6762, 6763), where that stays in the house.
//!
//! What it says, anybody on the same link may hear: `NAME.local`, and services `_https._tcp` and `_narrowboat._tcp` with the page's port, whether
//! somebody has claimed the box, and the fingerprint of the page's certificate, which whoever claims it compares. Nothing else, and nothing where the
//! page itself is not reached: on public addresses, and where it is off or for this machine alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mdns_sd::{DaemonEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo};

use crate::node::Node;

/// How often it is looked at what is to be announced.
pub const EVERY: Duration = Duration::from_secs(5);
/// The services that there are.
const SERVICES: [&str; 2] = ["_https._tcp.local.", "_narrowboat._tcp.local."];
/// How long the end of the box waits for its farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Announced {
    /// The name of the box, for people.
    instance: String,
    /// Its name as a host, without `.local`.
    host: String,
    port: u16,
    addresses: BTreeSet<IpAddr>,
    claimed: bool,
    fingerprint: String,
}

/// What is announced now, for whoever wants to show it.
#[derive(Debug, Default)]
pub struct Announcer {
    name: Mutex<Option<String>>,
}

impl Announcer {
    /// The name under which the box is found, as in `bonn.local`; another one than its own where somebody else has that.
    pub fn name(&self) -> Option<String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Announces until the box ends.
    pub(crate) fn serve(&self, node: &Arc<Node>) {
        let mut voice: Option<Voice> = None;
        while !node.is_stopping() {
            let wanted = wanted(node);
            if voice.as_ref().map(|voice| &voice.says) != wanted.as_ref() {
                if let Some(voice) = voice.take() {
                    voice.end();
                }
                voice = wanted.and_then(Voice::begin);
                self.set(voice.as_ref().map(|voice| format!("{}.local", voice.says.host)));
            }
            if let Some(name) = voice.as_ref().and_then(Voice::renamed) {
                tracing::warn!(name, "somebody else has the name of this box: it is found by another one");
                self.set(Some(name));
            }
            std::thread::park_timeout(EVERY);
        }
        if let Some(voice) = voice {
            voice.end();
        }
    }

    fn set(&self, name: Option<String>) {
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

/// What is to be announced; nothing where nobody could come.
fn wanted(node: &Node) -> Option<Announced> {
    let page = node.page.as_ref().filter(|_| node.config.page.announce.unwrap_or(true))?;
    let here = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = reached(page.address(), here.iter().map(if_addrs::Interface::ip));
    if addresses.is_empty() {
        return None;
    }
    Some(Announced {
        instance: node.name.clone(),
        host: host(&node.name, &node.store.id().to_string()),
        port: page.address().port(),
        addresses,
        claimed: node.accounts.claimed(),
        fingerprint: page.fingerprint(),
    })
}

/// Where a page that listens there is reached by neighbours.
fn reached(listen: SocketAddr, here: impl Iterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
    let listens = |address: &IpAddr| match listen.ip() {
        any if any.is_unspecified() => any.is_ipv6() || address.is_ipv4(),
        one => one == *address,
    };
    here.filter(|address| is_private(*address) && listens(address)).collect()
}

/// Addresses that nobody outside the house can have: RFC 1918, RFC 3927, RFC 4193, and link-local ones.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_unique_local() || address.is_unicast_link_local(),
    }
}

/// The name as one of a host: letters, digits and hyphens. Without any of them, one by the id of the box's store.
pub(crate) fn host(name: &str, store: &str) -> String {
    let spelt = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let spelt: String = spelt.take(60).collect();
    let parts: Vec<&str> = spelt.split('-').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { default_name(store) } else { parts.join("-") }
}

/// How a box is called that has no name of its own.
pub(crate) fn default_name(store: &str) -> String {
    let digits: String = store.chars().filter(char::is_ascii_alphanumeric).take(4).collect();
    format!("narrowboat-{digits}")
}

/// Whether a host's name says nothing: each machine has it.
pub(crate) fn is_nobodys(host: &str) -> bool {
    ["", "(none)", "localhost", "localhost.localdomain", "narrowboat", "debian"].contains(&host)
}

/// Announces one thing.
struct Voice {
    says: Announced,
    daemon: ServiceDaemon,
    events: Receiver<DaemonEvent>,
}

impl Voice {
    fn begin(says: Announced) -> Option<Voice> {
        Voice::try_begin(says).inspect_err(|error| tracing::warn!(%error, "the box can't be announced (mDNS)")).ok()
    }

    fn try_begin(says: Announced) -> mdns_sd::Result<Voice> {
        let daemon = ServiceDaemon::new()?;
        let events = daemon.monitor()?;
        let mine = says.addresses.clone();
        daemon.disable_interface(IfKind::All)?;
        daemon
            .enable_interface(IfKind::Predicate(IfPredicate::new(move |interface| mine.contains(&interface.ip()))))?;
        // What nobody asked for is not remembered.
        daemon.accept_unsolicited(false)?;
        let addresses: Vec<IpAddr> = says.addresses.iter().copied().collect();
        let told = [("claimed", if says.claimed { "yes" } else { "no" }), ("fingerprint", says.fingerprint.as_str())];
        for service in SERVICES {
            let host = format!("{}.local.", says.host);
            daemon.register(ServiceInfo::new(service, &says.instance, &host, &addresses[..], says.port, &told[..])?)?;
        }
        Ok(Voice { says, daemon, events })
    }

    /// The name that was taken because somebody else has the other one.
    fn renamed(&self) -> Option<String> {
        let hosts = self.events.try_iter().filter_map(|event| match event {
            DaemonEvent::NameChange(change) if change.original.starts_with(&format!("{}.local", self.says.host)) => {
                Some(change.new_name.trim_end_matches('.').to_owned())
            }
            _ => None,
        });
        hosts.last()
    }

    /// Says farewell, so that nobody looks for the box any more.
    fn end(self) {
        for service in SERVICES {
            if let Ok(done) = self.daemon.unregister(&format!("{}.{service}", self.says.instance)) {
                let _ = done.recv_timeout(FAREWELL);
            }
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(FAREWELL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_announced_where_neighbours_reach_it_and_nowhere_else() {
        let here = [
            "127.0.0.1",
            "192.168.7.4",
            "10.0.0.1",
            "203.0.113.9",
            "169.254.3.4",
            "::1",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
        ];
        let here = here.map(|text| text.parse::<IpAddr>().expect("an address"));
        let reached = |listen: &str| {
            let found = reached(listen.parse().expect("an address"), here.iter().copied());
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(reached("0.0.0.0:443"), ["10.0.0.1", "169.254.3.4", "192.168.7.4"]);
        assert_eq!(reached("[::]:443"), ["10.0.0.1", "169.254.3.4", "192.168.7.4", "fd00::1", "fe80::1"]);
        assert_eq!(reached("192.168.7.4:443"), ["192.168.7.4"]);
        for nowhere in ["127.0.0.1:8443", "203.0.113.9:443", "[2001:db8::1]:443", "192.168.7.5:443"] {
            assert!(reached(nowhere).is_empty(), "{nowhere}");
        }
    }

    #[test]
    fn every_box_has_a_name_that_a_host_may_have() {
        for (name, is) in [
            ("bonn", "bonn"),
            ("Office Köln 2", "office-k-ln-2"),
            ("--a..b--", "a-b"),
            ("", "narrowboat-6f0d"),
            ("größe", "gr-e"),
            ("ß", "narrowboat-6f0d"),
        ] {
            assert_eq!(host(name, "6f0d6a3e"), is, "{name}");
        }
        assert_eq!(host(&"x".repeat(500), "").len(), 60);
        assert!(is_nobodys("localhost") && !is_nobodys("bonn"));
    }
}
