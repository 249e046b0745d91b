//! Which hosts have used which exports, so that nobody changes a share behind their backs without knowing of them.
//!
//! NFSv3 has no sessions: a host counts from its first call into an export until it says that it has unmounted it. Some never
//! say so, so it is for the reader to look which of them are still connected. In memory and bounded: after a restart of the
//! box a host counts again with its next call.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use narrowboat_storage::id::DatasetId;

/// Most pairs of an export and a host. Beyond, any one is forgotten until its next call.
const USERS_MAX: usize = 4096;

/// Hosts by the exports that they use.
#[derive(Debug, Default)]
pub(crate) struct Users(RwLock<BTreeSet<(DatasetId, IpAddr)>>);

impl Users {
    /// A host has made a call into an export.
    pub fn note(&self, export: DatasetId, host: IpAddr) {
        let user = (export, host.to_canonical());
        // Nearly every call is of somebody who is known: they must not wait for one another.
        if self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&user) {
            return;
        }
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS_MAX {
            users.pop_first();
        }
        users.insert(user);
    }

    /// A host has unmounted an export; everything where none is named.
    pub fn forget(&self, export: Option<DatasetId>, host: IpAddr) {
        let left = |user: &(DatasetId, IpAddr)| user.1 == host && export.is_none_or(|export| user.0 == export);
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|user| !left(user));
    }

    /// The hosts that use an export.
    pub fn of(&self, export: DatasetId) -> BTreeSet<IpAddr> {
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        users.iter().filter(|(used, _)| *used == export).map(|(_, host)| *host).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_count_until_they_unmount_and_are_bounded() {
        let users = Users::default();
        let (one, other) = (DatasetId([1; 16]), DatasetId([2; 16]));
        let host = |n: u32| IpAddr::from(n.to_be_bytes());
        let mapped: IpAddr = "::ffff:0.0.0.7".parse().expect("an address");
        for (export, host) in [(one, mapped), (one, host(7)), (one, host(8)), (other, host(7))] {
            users.note(export, host);
        }
        assert_eq!(users.of(one), BTreeSet::from([host(7), host(8)]));
        users.forget(Some(one), host(7));
        assert_eq!((users.of(one), users.of(other)), (BTreeSet::from([host(8)]), BTreeSet::from([host(7)])));
        users.forget(None, host(7));
        assert!(users.of(other).is_empty());
        (0..2 * USERS_MAX as u32).for_each(|n| users.note(one, host(n)));
        assert_eq!(users.of(one).len(), USERS_MAX);
    }
}
