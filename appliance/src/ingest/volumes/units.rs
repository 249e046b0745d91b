//! The logical units of a store's volumes. Each is made once and kept while its volume exists: its locks and reservations are
//! what keeps initiators apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use narrowboat_storage::catalogue::DatasetRow;
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::units::Space;
use narrowboat_storage::{Error, Result, Store};

use super::rules;
use crate::clock;
use crate::config::Config;
use crate::ingest::iscsi::VolumeDisk;
use crate::ingest::iscsi::scsi::reserve::Reservations;
use crate::ingest::iscsi::scsi::{Identity, Keeper, LogicalUnit, Neighbours, Nexus};

/// The units that were asked for so far, and why others cannot be served.
#[derive(Default)]
struct Kept {
    units: BTreeMap<DatasetId, Arc<LogicalUnit>>,
    failing: BTreeMap<DatasetId, String>,
}

/// The logical units of a store's volumes.
pub(super) struct Units {
    store: Arc<Store>,
    kept: Mutex<Kept>,
}

impl Units {
    pub fn new(store: Arc<Store>) -> Self {
        Units { store, kept: Mutex::default() }
    }

    /// The unit of a volume; `None` where it can't be served, which is logged once.
    pub fn of(&self, config: &Config, row: &DatasetRow) -> Option<Arc<LogicalUnit>> {
        let mut kept = self.lock();
        if let Some(unit) = kept.units.get(&row.id) {
            return Some(unit.clone());
        }
        match self.make(config, row) {
            Ok(unit) => {
                kept.failing.remove(&row.id);
                kept.units.insert(row.id, unit.clone());
                Some(unit)
            }
            Err(error) => {
                let why = error.to_string();
                if kept.failing.get(&row.id) != Some(&why) {
                    tracing::warn!(volume = row.name, why, "a volume is not served");
                    kept.failing.insert(row.id, why);
                }
                None
            }
        }
    }

    fn make(&self, config: &Config, row: &DatasetRow) -> Result<Arc<LogicalUnit>> {
        let keeper = Keeping { store: self.store.clone(), setting: setting_of(row.id) };
        let reservations = keeper.kept()?;
        let disk = Arc::new(VolumeDisk::new(self.store.volume(row.id)?, Arc::new(clock::now)));
        let (identity, shape) = (Identity::new(row.id.0), rules::shape(config, &row.name));
        let unit = LogicalUnit::new(disk, identity, shape, Arc::new(keeper), reservations);
        // Where the disk is short of room already, the first initiator hears of it as it comes.
        self.store.space().into_iter().for_each(|space| unit.notice_space(space));
        Ok(Arc::new(unit))
    }

    /// The unit of a volume that somebody has asked for.
    pub fn known(&self, id: DatasetId) -> Option<Arc<LogicalUnit>> {
        self.lock().units.get(&id).cloned()
    }

    /// Forgets the units of volumes that are gone, and what was kept for them. Each is asked for at the store, now: of a
    /// volume that came a moment ago an older list knows nothing, and somebody may have logged in to it already.
    pub fn forget_what_is_gone(&self) {
        let there = |id: &DatasetId| self.store.dataset_row(*id).is_some();
        let gone: Vec<DatasetId> = {
            let mut kept = self.lock();
            kept.failing.retain(|id, _| there(id));
            let gone: Vec<_> = kept.units.keys().copied().filter(|id| !there(id)).collect();
            gone.iter().for_each(|id| drop(kept.units.remove(id)));
            gone
        };
        // A setting waits for other administration: nobody who logs in should wait with it.
        for id in gone.into_iter().filter(|id| self.store.setting(&setting_of(*id)).is_some()) {
            if let Err(error) = self.store.set_setting(&setting_of(id), None, clock::now()) {
                tracing::warn!(%id, %error, "the reservations of a volume that is gone are still kept");
            }
        }
    }

    /// Tells initiators where sizes are others than before, and where the disk of the store gets short of room.
    pub fn notice(&self, space: Option<Space>) {
        let units: Vec<_> = self.lock().units.values().cloned().collect();
        for unit in units {
            unit.notice_size();
            if let Some(space) = space {
                unit.notice_space(space);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbours for Units {
    /// An initiator may copy from and to the units of other targets that it is logged in to: there it has shown who it is.
    fn find(&self, asking: &Nexus, naa: &[u8; 16]) -> Option<Arc<LogicalUnit>> {
        let kept = self.lock();
        let named = kept.units.values().find(|unit| unit.identity().naa_name() == *naa)?;
        named.has_session_of(&asking.initiator).then(|| named.clone())
    }
}

fn setting_of(id: DatasetId) -> String {
    format!("iscsi.reservations.{id}")
}

/// Keeps the reservations of one volume among the store's settings.
struct Keeping {
    store: Arc<Store>,
    setting: String,
}

impl Keeping {
    fn kept(&self) -> Result<Reservations> {
        match self.store.setting(&self.setting) {
            Some(bytes) => Reservations::decode(&self.setting, &bytes),
            None => Ok(Reservations::default()),
        }
    }
}

impl Keeper for Keeping {
    fn keep(&self, state: &[u8]) -> std::result::Result<(), Error> {
        self.store.set_setting(&self.setting, Some(state), clock::now())
    }
}
