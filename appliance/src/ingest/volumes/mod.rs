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

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetKind, DatasetRow};
use narrowboat_storage::id::DatasetId;

use super::iscsi::chap::Account;
use super::iscsi::scsi::{Device, LogicalUnit};
use super::iscsi::{Target, Targets};
use crate::config::Config;
pub use plan::place_of;
use plan::{Planned, targets};
use units::Units;

/// Devices by the names of their targets.
type Devices = BTreeMap<String, Arc<Device>>;

/// The volumes of a store as targets.
pub struct StoreTargets {
    store: Arc<Store>,
    config: Config,
    accounts: Vec<Account>,
    portals: Vec<SocketAddr>,
    units: Arc<Units>,
    /// Held from the look at the store's volumes until devices have their units: they never get those of an older look.
    devices: Mutex<Devices>,
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
        self.look_and(|| {});
    }

    /// The same, with something that happens in the middle of it.
    fn look_and(&self, meanwhile: impl FnOnce()) {
        self.refresh();
        meanwhile();
        self.units.forget_what_is_gone();
        let space = self.store.space().inspect_err(|error| tracing::debug!(%error, "the disk's room is not known"));
        self.units.notice(space.ok());
    }

    /// Gives the devices that somebody has asked for the units that they have now. The others have no initiators that could
    /// be told. Devices whose last volume is gone are let go of.
    fn refresh(&self) {
        let mut devices = self.devices();
        // Looked up under the lock: whoever finds a volume that comes later gets its device behind this.
        let rows = self.rows();
        let planned = targets(&self.config, &rows);
        devices.retain(|name, device| {
            let target = planned.iter().find(|target| target.name == *name);
            device.replace(target.map(|target| self.units_of(target)).unwrap_or_default());
            target.is_some()
        });
    }

    /// The initiators that have a session with the target of a volume, by name.
    pub fn initiators_of(&self, volume: DatasetId) -> BTreeSet<String> {
        self.units.known(volume).map(|unit| unit.initiators()).unwrap_or_default()
    }

    /// Tells the initiators of a volume that it holds something else than what they wrote last.
    pub fn tell_replaced(&self, volume: DatasetId) {
        if let Some(unit) = self.units.known(volume) {
            unit.content_replaced();
        }
    }

    fn rows(&self) -> Vec<DatasetRow> {
        let rows = self.store.dataset_rows();
        rows.into_iter().filter(|row| row.kind == DatasetKind::Volume).collect()
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target as it is now; `None` where none of its volumes is there or can be served.
    fn target(&self, devices: &mut Devices, planned: &Planned) -> Option<Arc<Target>> {
        let new = || Arc::new(Device::new(BTreeMap::new(), Some(self.units.clone())));
        let device = devices.entry(planned.name.clone()).or_insert_with(new).clone();
        device.replace(self.units_of(planned));
        let target = || Target {
            name: planned.name.clone(),
            alias: planned.alias.to_owned(),
            access: rules::access(&self.config, planned.allow, planned.initiators, &self.accounts),
            device: device.clone(),
        };
        (!device.units().is_empty()).then(|| Arc::new(target()))
    }

    /// The units that a target has now.
    fn units_of(&self, planned: &Planned) -> BTreeMap<u16, Arc<LogicalUnit>> {
        let unit = |(lun, row): &(u16, &DatasetRow)| Some((*lun, self.units.of(&self.config, row)?));
        planned.units.iter().filter_map(unit).collect()
    }
}

impl Targets for StoreTargets {
    fn list(&self) -> Vec<Arc<Target>> {
        let mut devices = self.devices();
        targets(&self.config, &self.rows()).iter().filter_map(|planned| self.target(&mut devices, planned)).collect()
    }

    fn by_name(&self, name: &str) -> Option<Arc<Target>> {
        let mut devices = self.devices();
        let rows = self.rows();
        let planned = targets(&self.config, &rows);
        let found = planned.iter().find(|target| target.name.eq_ignore_ascii_case(name));
        found.and_then(|planned| self.target(&mut devices, planned))
    }

    fn discovery_accounts(&self) -> Vec<Account> {
        self.accounts.clone()
    }

    fn portals(&self) -> Vec<SocketAddr> {
        self.portals.clone()
    }
}
