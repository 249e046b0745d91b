//! Exports: which trees clients may mount, who may, and as whom they act.
//!
//! The box implements [`Exports`] and [`Snapshots`] over its store; this protocol asks them on every call, so that a
//! changed rule or a deleted share counts at once. Both are asked from many threads at once and must answer from
//! memory.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use narrowboat_storage::dataset::{Credentials, FileTree};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::Timestamp;

use super::rpc::Identity;

/// The user and group "nobody", as most systems number it.
pub const NOBODY: u32 = 65534;

/// What is exported at the moment.
pub trait Exports: Send + Sync {
    /// All exports, for `showmount`.
    fn list(&self) -> Vec<ExportInfo>;
    /// The export that clients mount as `path`, such as `/share`: exactly this path, nothing below it.
    fn by_name(&self, path: &str) -> Option<Arc<Export>>;
    /// The export of a dataset, by the id in a file handle.
    fn by_id(&self, id: DatasetId) -> Option<Arc<Export>>;
}

/// One line of `showmount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// What clients mount, such as `/share`.
    pub name: String,
    /// Who may.
    pub clients: Vec<Network>,
}

/// The snapshots of one dataset.
pub trait Snapshots: Send + Sync {
    /// Those that can be opened now.
    fn list(&self) -> narrowboat_storage::Result<Vec<SnapshotEntry>>;
    /// The tree of one. Asked for on every call that touches it: keep it at hand. Refused with `Stale` where it is gone.
    fn open(&self, id: SnapshotId) -> narrowboat_storage::Result<Arc<dyn FileTree>>;
}

/// A snapshot as a directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Its id.
    pub id: SnapshotId,
    /// Its name below `.snapshot`.
    pub name: String,
    /// The moment that it shows.
    pub time: Timestamp,
}

/// One exported tree with its rules.
pub struct Export {
    /// The dataset.
    pub id: DatasetId,
    /// What clients mount, such as `/share`.
    pub name: String,
    /// Who may do what.
    pub rules: Rules,
    /// The live tree.
    pub tree: Arc<dyn FileTree>,
    /// Its snapshots.
    pub snapshots: Arc<dyn Snapshots>,
}

/// Who may use an export, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Networks that may use it. An empty list lets nobody in.
    pub clients: Vec<Network>,
    /// Refuses every change.
    pub read_only: bool,
    /// Whose ids are not believed.
    pub squash: Squash,
    /// The user that anonymous and squashed callers act as.
    pub anonymous_uid: u32,
    /// The group that anonymous and squashed callers act as.
    pub anonymous_gid: u32,
    /// Only clients whose port is below 1024, which on most systems only root can open.
    pub secure_port: bool,
    /// Lists `.snapshot` in the root directory. It can always be entered by name.
    pub show_snapshots: bool,
}

impl Default for Rules {
    /// Everyone on any network, root squashed, read and write, any port, `.snapshot` not listed.
    fn default() -> Self {
        Rules {
            clients: vec![Network::ALL_V4, Network::ALL_V6],
            read_only: false,
            squash: Squash::Root,
            anonymous_uid: NOBODY,
            anonymous_gid: NOBODY,
            secure_port: false,
            show_snapshots: false,
        }
    }
}

/// Whose ids are replaced by the anonymous ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Squash {
    /// Nobody's: root on a client is root here.
    None,
    /// Root's.
    #[default]
    Root,
    /// Everyone's.
    All,
}

impl Rules {
    /// True where a client at `address` may use the export.
    pub fn admit(&self, address: &SocketAddr) -> bool {
        (!self.secure_port || address.port() < 1024) && self.clients.iter().any(|net| net.contains(address.ip()))
    }

    /// As whom a caller acts.
    pub fn credentials(&self, identity: &Identity) -> Credentials {
        let anonymous = || Credentials { uid: self.anonymous_uid, gid: self.anonymous_gid, groups: Vec::new() };
        match identity {
            Identity::Anonymous => anonymous(),
            Identity::System { uid, gid, groups } => match self.squash {
                Squash::All => anonymous(),
                Squash::None => Credentials { uid: *uid, gid: *gid, groups: groups.clone() },
                Squash::Root => {
                    let group = |gid: u32| if gid == 0 { self.anonymous_gid } else { gid };
                    Credentials {
                        uid: if *uid == 0 { self.anonymous_uid } else { *uid },
                        gid: group(*gid),
                        groups: groups.iter().map(|gid| group(*gid)).collect(),
                    }
                }
            },
        }
    }
}

/// A network in CIDR notation: `10.0.0.0/8`, `192.168.1.5`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Every IPv4 address.
    pub const ALL_V4: Network = Network { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 };
    /// Every IPv6 address.
    pub const ALL_V6: Network = Network { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 };

    /// True where `address` lies in the network. IPv4 addresses that arrive on an IPv6 socket count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(host)) => {
                let shift = 32 - u32::from(self.prefix);
                u32::from(net).checked_shr(shift) == u32::from(host).checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(host)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(net).checked_shr(shift) == u128::from(host).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Refusal;
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = || Refusal::Invalid(format!("{text:?} is not a network such as 192.168.1.0/24 or fd00::/8"));
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(|_| wrong()))?;
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Network { address, prefix })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.168.1.5", "192.168.1.5", true),
            ("192.168.1.5", "192.168.1.6", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("192.168.1.77/24", "192.168.1.5", true),
        ];
        for (net, host, inside) in cases {
            assert_eq!(net.parse::<Network>().unwrap().contains(host.parse().unwrap()), inside, "{host} in {net}");
        }
        for wrong in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!("10.0.0.0/8".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
    }

    #[test]
    fn squashing_replaces_ids() {
        let system = |uid, gid, groups: &[u32]| Identity::System { uid, gid, groups: groups.to_vec() };
        let ids = |uid, gid, groups: &[u32]| Credentials { uid, gid, groups: groups.to_vec() };
        let mut rules = Rules::default();
        assert_eq!(rules.credentials(&system(0, 0, &[0, 4])), ids(NOBODY, NOBODY, &[NOBODY, 4]));
        assert_eq!(rules.credentials(&system(7, 8, &[9])), ids(7, 8, &[9]));
        assert_eq!(rules.credentials(&Identity::Anonymous), ids(NOBODY, NOBODY, &[]));
        rules.squash = Squash::None;
        assert_eq!(rules.credentials(&system(0, 0, &[0])), ids(0, 0, &[0]));
        rules.squash = Squash::All;
        rules.anonymous_uid = 5;
        assert_eq!(rules.credentials(&system(7, 8, &[9])), ids(5, NOBODY, &[]));
    }

    #[test]
    fn rules_admit_by_network_and_port() {
        let mut rules = Rules { clients: vec!["10.0.0.0/8".parse().unwrap()], ..Rules::default() };
        assert!(rules.admit(&"10.1.1.1:4000".parse().unwrap()));
        assert!(!rules.admit(&"11.1.1.1:4000".parse().unwrap()));
        rules.secure_port = true;
        assert!(!rules.admit(&"10.1.1.1:4000".parse().unwrap()));
        assert!(rules.admit(&"10.1.1.1:1023".parse().unwrap()));
        rules.clients.clear();
        assert!(!rules.admit(&"10.1.1.1:1023".parse().unwrap()));
    }
}
