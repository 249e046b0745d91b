//! What iSCSI initiators may log in to: every volume of the store is a target of its own, with one logical unit, by the
//! rules of the config file. Replicas are read-only.
//!
//! A volume's unit is made once and kept while the volume exists: its locks and reservations are what keeps initiators apart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use narrowboat_storage::catalogue::{DatasetKind, DatasetRow};
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::{Error, Result, Store};

use super::iscsi::chap::{Account, Secret};
use super::iscsi::scsi::reserve::Reservations;
use super::iscsi::scsi::{Device, Identity, Keeper, LogicalUnit, Shape};
use super::iscsi::target::normal_name;
use super::iscsi::{Access, Target, Targets, VolumeDisk};
use super::nfs::Network;
use crate::clock;
use crate::config::{Config, Volume};

/// The number of a volume's only unit.
const LUN: u16 = 0;
/// Secrets of CHAP that are shorter can be guessed from one exchange that was listened to (RFC 7143 section 9.2.1: 96 bits).
const SECRET_BYTES_MIN: usize = 12;

/// The volumes of a store as targets.
pub struct StoreTargets {
    store: Arc<Store>,
    config: Config,
    accounts: Vec<Account>,
    devices: Mutex<BTreeMap<DatasetId, Arc<Device>>>,
}

impl StoreTargets {
    /// Serves the volumes of `store` by the rules of `config`. Says which key is wrong where one makes no sense.
    pub fn new(store: Arc<Store>, config: Config) -> std::result::Result<Self, String> {
        let networks = config.volume.values().filter_map(|rules| rules.allow.as_ref());
        for text in std::iter::once(&config.iscsi.allow).chain(networks).flatten() {
            text.parse::<Network>().map_err(|refusal| format!("allow = [{text:?}]: {refusal}"))?;
        }
        let initiators = config.volume.values().filter_map(|rules| rules.initiators.as_ref());
        for text in std::iter::once(&config.iscsi.initiators).chain(initiators).flatten() {
            normal_name(text)
                .ok_or(format!("initiators = [{text:?}]: expected a name such as iqn.2026-01.org.example:host"))?;
        }
        if normal_name(&format!("{}:x", config.iscsi.iqn)).is_none() {
            return Err(format!("iscsi.iqn = {:?}: expected one such as iqn.2026-01.org.example", config.iscsi.iqn));
        }
        for (name, rules) in &config.volume {
            if !matches!(rules.block_bytes, None | Some(512 | 4096)) {
                return Err(format!("volume.{name}.block_bytes: blocks have 512 or 4096 bytes"));
            }
        }
        let accounts = accounts(&config)?;
        Ok(StoreTargets { store, config, accounts, devices: Mutex::default() })
    }

    /// The iSCSI name of a volume.
    pub fn name_of(config: &Config, row: &DatasetRow) -> String {
        let plain =
            row.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte));
        match plain {
            true => format!("{}:{}", config.iscsi.iqn.to_ascii_lowercase(), row.name),
            // Names are compared without case, and know few characters.
            false => format!("{}:{}", config.iscsi.iqn.to_ascii_lowercase(), row.id),
        }
    }

    fn rows(&self) -> Vec<DatasetRow> {
        let rows = self.store.dataset_rows();
        let rows: Vec<_> = rows.into_iter().filter(|row| row.kind == DatasetKind::Volume).collect();
        self.lock().retain(|id, _| rows.iter().any(|row| row.id == *id));
        rows
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DatasetId, Arc<Device>>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self, row: &DatasetRow) -> Volume {
        self.config.volume.get(&row.name).cloned().unwrap_or_default()
    }

    /// The target of a volume; `None` where it can't be served, which is logged.
    fn target(&self, row: &DatasetRow) -> Option<Arc<Target>> {
        let (general, special) = (&self.config.iscsi, self.rules(row));
        let initiators = special.initiators.unwrap_or_else(|| general.initiators.clone());
        let networks = special.allow.unwrap_or_else(|| general.allow.clone());
        let access = Access {
            initiators: initiators.iter().filter_map(|name| normal_name(name)).collect(),
            networks: networks.iter().filter_map(|text| text.parse().ok()).collect(),
            accounts: self.accounts.clone(),
        };
        match self.device(row) {
            Ok(device) => {
                let name = Self::name_of(&self.config, row);
                Some(Arc::new(Target { name, alias: row.name.clone(), access, device }))
            }
            Err(error) => {
                tracing::warn!(volume = row.name, %error, "a volume is not served");
                None
            }
        }
    }

    fn device(&self, row: &DatasetRow) -> Result<Arc<Device>> {
        let mut devices = self.lock();
        if let Some(device) = devices.get(&row.id) {
            return Ok(device.clone());
        }
        let shape = match self.rules(row).block_bytes {
            Some(4096) => Shape::NATIVE_4096,
            _ => Shape::EMULATED_512,
        };
        let keeper = Keeping { store: self.store.clone(), setting: format!("iscsi.reservations.{}", row.id) };
        let reservations = keeper.kept()?;
        let disk = Arc::new(VolumeDisk::new(self.store.volume(row.id)?, Arc::new(clock::now)));
        let identity = Identity::new(row.id.0);
        let unit = LogicalUnit::new(disk, identity, shape, Arc::new(keeper), reservations);
        let device = Arc::new(Device::new(BTreeMap::from([(LUN, Arc::new(unit))]), None));
        devices.insert(row.id, device.clone());
        Ok(device)
    }
}

impl Targets for StoreTargets {
    fn list(&self) -> Vec<Arc<Target>> {
        self.rows().iter().filter_map(|row| self.target(row)).collect()
    }

    fn by_name(&self, name: &str) -> Option<Arc<Target>> {
        let rows = self.rows();
        let row = rows.iter().find(|row| Self::name_of(&self.config, row).eq_ignore_ascii_case(name))?;
        self.target(row)
    }

    fn discovery_accounts(&self) -> Vec<Account> {
        self.accounts.clone()
    }
}

/// The accounts of the config file, with their secrets read.
fn accounts(config: &Config) -> std::result::Result<Vec<Account>, String> {
    let one = |(name, user): (&String, &crate::config::IscsiUser)| {
        let key = format!("iscsi.user.{name}");
        let secret = read_secret(&format!("{key}.secret_file"), &user.secret_file)?;
        let mutual = match (&user.mutual_name, &user.mutual_secret_file) {
            (Some(own), Some(file)) => Some((own.clone(), read_secret(&format!("{key}.mutual_secret_file"), file)?)),
            (None, None) => None,
            _ => return Err(format!("{key}: mutual_name and mutual_secret_file belong together")),
        };
        if mutual.as_ref().is_some_and(|(_, own)| *own == secret) {
            return Err(format!("{key}: both directions have the same secret, which proves nothing"));
        }
        Ok(Account { name: name.clone(), secret, mutual })
    };
    config.iscsi.user.iter().map(one).collect()
}

fn read_secret(key: &str, file: &Path) -> std::result::Result<Secret, String> {
    let text = std::fs::read(file).map_err(|error| format!("{key} {}: {error}", file.display()))?;
    let secret = text.trim_ascii();
    match secret.len() {
        SECRET_BYTES_MIN..=255 => Ok(Secret::new(secret)),
        len => Err(format!("{key} {}: a secret has {SECRET_BYTES_MIN} to 255 characters, not {len}", file.display())),
    }
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
