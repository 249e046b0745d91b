//! What iSCSI initiators may log in to: the volumes of the store, by the rules of the config file. A volume is unit 0 of a
//! target of its own, or one of several units of a target that the config file puts together. Replicas are read-only.
//!
//! ```text
//! store's list ─┐
//!               ├─ plan ── which volume is which unit of which target
//! config file ──┘  rules    who may, with which secret, in which blocks
//!                  units    one for each volume, while it exists
//! ```
//!
//! What it promises:
//!
//! * All ways to a volume lead to one logical unit, and a volume is a unit of one target.
//! * Volumes that come, go, grow or fill their disk are noticed by [`StoreTargets::look`], and initiators are told.
//!
//! What it never does: start threads, or let in whom the config file does not name.

mod plan;
mod rules;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetKind, DatasetRow};

use super::iscsi::chap::Account;
use super::iscsi::scsi::Device;
use super::iscsi::{Target, Targets};
use crate::config::Config;
pub use plan::place_of;
use plan::{Planned, targets};
use units::Units;

/// The volumes of a store as targets.
pub struct StoreTargets {
    store: Arc<Store>,
    config: Config,
    accounts: Vec<Account>,
    portals: Vec<SocketAddr>,
    units: Arc<Units>,
    /// By target name.
    devices: Mutex<BTreeMap<String, Arc<Device>>>,
}

impl StoreTargets {
    /// Serves the volumes of `store` by the rules of `config`, at `portals`. Says which key is wrong where one makes no sense.
    pub fn new(store: Arc<Store>, config: Config, portals: Vec<SocketAddr>) -> Result<Self, String> {
        rules::check(&config)?;
        let accounts = rules::accounts(&config)?;
        let units = Arc::new(Units::new(store.clone()));
        Ok(StoreTargets { store, config, accounts, portals, units, devices: Mutex::default() })
    }

    /// Looks at what initiators are to be told without having asked: volumes that came or went, other sizes, and a disk that
    /// gets full. To be called every second or so.
    pub fn look(&self) {
        let rows = self.rows();
        let planned = targets(&self.config, &rows);
        for target in &planned {
            // Only those that somebody has asked for: the others have no initiators that could be told.
            if self.devices().contains_key(&target.name) {
                self.device(target);
            }
        }
        self.units.keep_only(&rows);
        self.devices().retain(|name, device| {
            let stays = planned.iter().any(|target| target.name == *name);
            if !stays {
                device.replace(BTreeMap::new());
            }
            stays
        });
        let space = self.store.space().inspect_err(|error| tracing::debug!(%error, "the disk's room is not known"));
        self.units.notice(space.ok());
    }

    fn rows(&self) -> Vec<DatasetRow> {
        let rows = self.store.dataset_rows();
        rows.into_iter().filter(|row| row.kind == DatasetKind::Volume).collect()
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Device>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target as it is now; `None` where none of its volumes is there or can be served.
    fn target(&self, planned: &Planned) -> Option<Arc<Target>> {
        let device = self.device(planned);
        let target = || Target {
            name: planned.name.clone(),
            alias: planned.alias.to_owned(),
            access: rules::access(&self.config, planned.allow, planned.initiators, &self.accounts),
            device: device.clone(),
        };
        (!device.units().is_empty()).then(|| Arc::new(target()))
    }

    /// The device of a target, with the units that it has now.
    fn device(&self, planned: &Planned) -> Arc<Device> {
        let unit = |(lun, row): &(u16, &DatasetRow)| Some((*lun, self.units.of(&self.config, row)?));
        let units = planned.units.iter().filter_map(unit).collect();
        let mut devices = self.devices();
        let new = || Arc::new(Device::new(BTreeMap::new(), Some(self.units.clone())));
        let device = devices.entry(planned.name.clone()).or_insert_with(new).clone();
        device.replace(units);
        device
    }
}

impl Targets for StoreTargets {
    fn list(&self) -> Vec<Arc<Target>> {
        targets(&self.config, &self.rows()).iter().filter_map(|planned| self.target(planned)).collect()
    }

    fn by_name(&self, name: &str) -> Option<Arc<Target>> {
        let rows = self.rows();
        let planned = targets(&self.config, &rows);
        planned.iter().find(|target| target.name.eq_ignore_ascii_case(name)).and_then(|planned| self.target(planned))
    }

    fn discovery_accounts(&self) -> Vec<Account> {
        self.accounts.clone()
    }

    fn portals(&self) -> Vec<SocketAddr> {
        self.portals.clone()
    }
}
