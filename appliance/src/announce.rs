//! The box is found: it announces the name of its page by multicast DNS (RFC 6762, 6763), where that stays in the house.
//!
//! What it says, anybody on the same link may hear: `NAME.local`, and services `_https._tcp` and `_narrowboat._tcp` with the page's port, whether
//! somebody has claimed the box, and the fingerprint of the page's certificate, which whoever claims it compares. Nothing else, and nothing where the
//! page itself is not reached: on public addresses, and where it is off or for this machine alone.
//!
//! A name is one box's. Before it is announced it is asked for (RFC 6762, 8.1), and of two that ask at once one gives way (8.2). Where somebody else
//! has it, the box takes the next, `NAME-2`, as host and as service on all its links alike, and keeps it over restarts (docs/formats/announced.md), so
//! that neighbours find the same box by it. Where two have one name although both asked, for their links were joined later, that is found out and both
//! ask again (9). At its end the box says farewell (10.1).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mdns_sd::{DaemonEvent, HostnameResolutionEvent, IfKind, IfPredicate, Receiver, ServiceDaemon, ServiceInfo};
use narrowboat_storage::Store;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::node::Node;

/// How often it is looked at what is to be announced, and at whether a name was got that was asked for.
pub const EVERY: Duration = Duration::from_secs(5);
const ASKING: Duration = Duration::from_millis(300);
/// How often it is asked who else has the name, and how long for.
const LISTENS: Duration = Duration::from_secs(30);
const LISTENS_FOR: Duration = Duration::from_millis(1500);
/// The services that there are.
const SERVICES: [&str; 2] = ["_https._tcp.local.", "_narrowboat._tcp.local."];
/// How long the end of the box waits for its farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// The setting that keeps which name was free.
const SETTING: &str = "announced";
/// Most names that are tried.
const NAMES_MAX: u32 = 99;

/// Which of its names the box has: the first is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    /// The name that it would have.
    of: String,
    /// The how manieth; 2 is `NAME-2`.
    nth: u32,
}

impl Taken {
    fn of(store: &Store, name: &str) -> Taken {
        let own = Taken { of: name.to_owned(), nth: 1 };
        let kept = store.setting(SETTING).and_then(|value| serde_json::from_slice::<Taken>(&value).ok());
        kept.filter(|kept| kept.of == name && (1..=NAMES_MAX).contains(&kept.nth)).unwrap_or(own)
    }

    /// The next, because somebody else has this one.
    fn next(&mut self, store: &Store) {
        self.nth = (self.nth + 1).min(NAMES_MAX);
        let kept = serde_json::to_vec(self).map_err(|error| error.to_string());
        let kept = kept.and_then(|value| {
            store.set_setting(SETTING, Some(&value), clock::now()).map_err(|error| error.to_string())
        });
        if let Err(error) = kept {
            tracing::warn!(
                error,
                "the name by which this box is found is not kept: it is asked for anew at the next start"
            );
        }
    }

    /// A name with its number behind it.
    fn called(&self, name: &str) -> String {
        if self.nth > 1 { format!("{name}-{}", self.nth) } else { name.to_owned() }
    }
}

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
    /// The name under which the box is found, as in `bonn.local`; another one than its own where somebody else has that. None while it is asked for.
    pub fn name(&self) -> Option<String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Announces until the box ends.
    pub(crate) fn serve(&self, node: &Arc<Node>) {
        let mut taken = Taken::of(&node.store, &node.name);
        let mut voice: Option<Voice> = None;
        while !node.is_stopping() {
            let wanted = wanted(node, &taken);
            if voice.as_ref().map(|voice| &voice.says) != wanted.as_ref() {
                if let Some(voice) = voice.take() {
                    voice.end();
                }
                voice = wanted.and_then(Voice::begin);
                self.set(None);
            }
            match voice.as_mut().map(Voice::hear) {
                Some(Heard::Taken) => {
                    taken.next(&node.store);
                    let name = taken.called(&node.name);
                    tracing::warn!(name, "somebody else has the name of this box: it takes another one to be found by");
                    // The next round begins with it.
                    continue;
                }
                Some(Heard::Mine) => self.set(voice.as_ref().map(|voice| format!("{}.local", voice.says.host))),
                Some(Heard::Nothing) | None => {}
            }
            if voice.as_mut().is_some_and(Voice::is_disputed) {
                tracing::warn!("somebody else has the name of this box, too: it is asked for anew");
                voice.take().into_iter().for_each(Voice::end);
                continue;
            }
            std::thread::park_timeout(voice.as_ref().map_or(EVERY, Voice::patience));
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
fn wanted(node: &Node, taken: &Taken) -> Option<Announced> {
    let page = node.page.as_ref().filter(|_| node.config.page.announce.unwrap_or(true))?;
    let here = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = reached(page.address(), here.iter().map(if_addrs::Interface::ip));
    if addresses.is_empty() {
        return None;
    }
    Some(Announced {
        instance: taken.called(&node.name),
        host: taken.called(&host(&node.name, &node.store.id().to_string())),
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

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing new.
    Nothing,
    /// Nobody else has it: it is announced.
    Mine,
    /// Somebody else has it.
    Taken,
}

/// Announces one thing.
struct Voice {
    says: Announced,
    daemon: ServiceDaemon,
    events: Receiver<DaemonEvent>,
    /// Whether the name was got.
    mine: bool,
    /// When it was listened last whether somebody else has it, too.
    listened: Instant,
}

/// Somebody who hears and speaks where these addresses are.
fn daemon(addresses: &BTreeSet<IpAddr>) -> mdns_sd::Result<ServiceDaemon> {
    let (daemon, mine) = (ServiceDaemon::new()?, addresses.clone());
    daemon.disable_interface(IfKind::All)?;
    daemon.enable_interface(IfKind::Predicate(IfPredicate::new(move |interface| mine.contains(&interface.ip()))))?;
    // What nobody asked for is not remembered.
    daemon.accept_unsolicited(false)?;
    Ok(daemon)
}

impl Voice {
    fn begin(says: Announced) -> Option<Voice> {
        Voice::try_begin(says).inspect_err(|error| tracing::warn!(%error, "the box can't be announced (mDNS)")).ok()
    }

    fn try_begin(says: Announced) -> mdns_sd::Result<Voice> {
        let daemon = daemon(&says.addresses)?;
        let events = daemon.monitor()?;
        let addresses: Vec<IpAddr> = says.addresses.iter().copied().collect();
        let told = [("claimed", if says.claimed { "yes" } else { "no" }), ("fingerprint", says.fingerprint.as_str())];
        for service in SERVICES {
            let host = format!("{}.local.", says.host);
            daemon.register(ServiceInfo::new(service, &says.instance, &host, &addresses[..], says.port, &told[..])?)?;
        }
        Ok(Voice { says, daemon, events, mine: false, listened: Instant::now() })
    }

    /// What was heard of the name. The library takes another one by itself, for each of its parts and links alone; that is a sign, and no name of ours.
    fn hear(&mut self) -> Heard {
        let mut heard = Heard::Nothing;
        for event in self.events.try_iter() {
            match event {
                DaemonEvent::NameChange(_) => return Heard::Taken,
                DaemonEvent::Announce(..) if !self.mine => heard = Heard::Mine,
                _ => {}
            }
        }
        self.mine |= heard == Heard::Mine;
        heard
    }

    /// How long nothing is to be looked at.
    fn patience(&self) -> Duration {
        if self.mine { EVERY } else { ASKING }
    }

    /// Whether somebody else answers to the name, too. Whoever asks forgets all that he heard.
    fn is_disputed(&mut self) -> bool {
        if !self.mine || self.listened.elapsed() < LISTENS {
            return false;
        }
        self.listened = Instant::now();
        self.others().unwrap_or_else(|error| {
            tracing::debug!(%error, "nobody can be asked who else has the name of this box");
            false
        })
    }

    fn others(&self) -> mdns_sd::Result<bool> {
        let own: BTreeSet<IpAddr> =
            if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
        let ear = daemon(&self.says.addresses)?;
        let patience = u64::try_from(LISTENS_FOR.as_millis()).unwrap_or_default();
        let answers = ear.resolve_hostname(&format!("{}.local.", self.says.host), Some(patience))?;
        let mut others = false;
        while let Ok(event) = answers.recv_timeout(LISTENS_FOR * 2) {
            match event {
                HostnameResolutionEvent::AddressesFound(_, found) => {
                    others |= found.iter().any(|address| !own.contains(&address.to_ip_addr()));
                }
                HostnameResolutionEvent::SearchTimeout(_) | HostnameResolutionEvent::SearchStopped(_) => break,
                _ => {}
            }
        }
        if let Ok(done) = ear.shutdown() {
            let _ = done.recv_timeout(FAREWELL);
        }
        Ok(others)
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
    fn a_name_that_was_free_is_kept_as_long_as_the_box_is_called_so() {
        let page = include_str!("../../docs/formats/announced.md");
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let taken: Taken = serde_json::from_str(example).expect("as the page of the format says");
        assert_eq!((taken.called("Bonn"), taken.called("bonn")), ("Bonn-2".into(), "bonn-2".into()));
        assert_eq!(Taken { nth: 1, ..taken }.called("bonn"), "bonn");
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
