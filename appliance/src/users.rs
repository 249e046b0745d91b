//! Who uses a dataset now, through either front door: those behind whose backs it is not taken back to another moment.
//!
//! Promises: whoever is logged in to a volume is named, and whoever is connected and has used a share and not unmounted it. A
//! client of a share that lost its connection, or that has made no call since the box was started, is not known.

use std::net::IpAddr;
use std::sync::Arc;

use narrowboat_storage::id::DatasetId;

use crate::ingest::nfs::{Hosts, Session};
use crate::ingest::volumes::StoreTargets;

/// The front doors that are open.
#[derive(Default)]
pub struct Users {
    targets: Option<Arc<StoreTargets>>,
    shares: Option<(Arc<Session>, Hosts)>,
}

impl Users {
    /// Of the targets that are served, and of the shares with the server's hosts; either may be off.
    pub fn new(targets: Option<Arc<StoreTargets>>, shares: Option<(Arc<Session>, Hosts)>) -> Self {
        Users { targets, shares }
    }

    /// Who uses a dataset now: names of initiators, addresses of hosts.
    pub fn of(&self, dataset: DatasetId) -> Vec<String> {
        let initiators = self.targets.iter().flat_map(|targets| targets.initiators_of(dataset));
        let hosts = self.shares.iter().flat_map(|(session, hosts)| {
            let connected = hosts.connected();
            session.users_of(dataset).into_iter().filter(move |host: &IpAddr| connected.contains(host))
        });
        initiators.chain(hosts.map(|host| host.to_string())).collect()
    }

    /// Tells whoever can be told that a dataset holds something else than what they wrote last: initiators can, NFS has no
    /// words for it.
    pub fn tell_replaced(&self, dataset: DatasetId) {
        if let Some(targets) = &self.targets {
            targets.tell_replaced(dataset);
        }
    }
}
