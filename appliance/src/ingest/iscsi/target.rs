//! Targets: what initiators may log in to, and who may.
//!
//! The box implements [`Targets`] over its volumes; logins and discovery ask it every time, so that a changed rule or a
//! deleted volume counts at once. It is asked from many threads and must answer from memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::chap::Account;
use super::scsi::Device;
use crate::ingest::nfs::Network;

/// Longest iSCSI name in bytes (RFC 7143 section 4.2.7.1).
pub const NAME_BYTES_MAX: usize = 223;
/// The only portal group: all portals of a target lead to the same SCSI target port.
pub const PORTAL_GROUP: u16 = 1;

/// What is served at the moment.
pub trait Targets: Send + Sync {
    /// All targets, in a fixed order.
    fn list(&self) -> Vec<Arc<Target>>;
    /// The target of a name.
    fn by_name(&self, name: &str) -> Option<Arc<Target>> {
        self.list().into_iter().find(|target| target.name.eq_ignore_ascii_case(name))
    }
    /// Who may ask which targets there are. Empty: everybody may.
    fn discovery_accounts(&self) -> Vec<Account> {
        Vec::new()
    }
    /// The addresses that all targets are served at, which discovery names beside the one that was asked. One without an
    /// address of its own (`0.0.0.0`) stands for the one that was asked.
    fn portals(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
}

/// One target: a name, a set of logical units, and who may use them.
pub struct Target {
    /// Its iSCSI name, such as `iqn.2025-01.org.example:volume`.
    pub name: String,
    /// What people call it.
    pub alias: String,
    /// Who may, and how they prove it.
    pub access: Access,
    /// The logical units.
    pub device: Arc<Device>,
}

/// Who may use a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Initiator names; empty: any.
    pub initiators: Vec<String>,
    /// Networks; empty: any.
    pub networks: Vec<Network>,
    /// CHAP accounts; empty: nobody has to prove anything.
    pub accounts: Vec<Account>,
}

impl Access {
    /// True where an initiator of this name at this address may try to log in.
    pub fn admits(&self, initiator: &str, address: IpAddr) -> bool {
        let named =
            self.initiators.is_empty() || self.initiators.iter().any(|name| name.eq_ignore_ascii_case(initiator));
        named && (self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address)))
    }
}

/// The initiator's name as it is kept: names are compared without case (RFC 3722 folds it). `None` where it is no name.
pub fn normal_name(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte) || !byte.is_ascii();
    let shaped =
        ["iqn.", "eui.", "naa."].iter().any(|start| name.get(..4).is_some_and(|own| own.eq_ignore_ascii_case(start)));
    (shaped && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_or_refused() {
        assert_eq!(normal_name("IQN.2025-01.org.Example:a").as_deref(), Some("iqn.2025-01.org.example:a"));
        for bad in ["", "iqn", "disk", "iqn.a b", "iqn.a\n", &format!("iqn.{}", "a".repeat(220))] {
            assert_eq!(normal_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lists_of_names_and_networks_are_both_asked() {
        let here: IpAddr = "10.0.0.7".parse().unwrap();
        assert!(Access::default().admits("iqn.a", here));
        let access = Access {
            initiators: vec!["iqn.A".into()],
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            accounts: Vec::new(),
        };
        assert!(access.admits("iqn.a", here));
        assert!(!access.admits("iqn.b", here));
        assert!(!access.admits("iqn.a", "192.168.0.1".parse().unwrap()));
    }
}
