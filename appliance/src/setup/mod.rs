//! What a box is told once: its name, who may back up to it, what is kept, and where copies go (docs/formats/set-up.md).
//!
//! A person types it on the page ([`typed`]), a file says it ([`SetUp::read`]); either way it is one [`SetUp`], which is applied ([`apply`]).

pub mod apply;
mod check;
pub mod kept;
pub mod notices;
pub mod places;
pub mod secrets;
pub mod typed;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::Failed;
use crate::network::Wanted;
use crate::retention::Rules;
pub use notices::Notices;

/// The version of the format.
const VERSION: u32 = 1;
/// Longest file, in bytes.
pub const FILE_BYTES_MAX: usize = 48 << 10;

/// A set-up. What it does not say stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpFile")]
pub struct SetUp {
    /// The version of the format.
    pub set_up: u32,
    /// How the box calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The time zone of hours and calendars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Who may back up to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// The first account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub administrator: Option<Administrator>,
    /// Where backups are written to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dataset: Vec<Dataset>,
    /// Where copies go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_office: Option<HeadOffice>,
    /// How much of the line they may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<Line>,
    /// Who is told by the box itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<Notices>,
    /// The network of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Wanted>,
    /// Other settings, by their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Value>,
}

/// The first account of a box that nobody has claimed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpAdministrator")]
pub struct Administrator {
    /// Its name.
    pub user: String,
    /// The argon2id hash of its password.
    pub password_hash: String,
}

impl std::fmt::Debug for Administrator {
    /// Not the hash: it does not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Administrator").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A share, or a volume where it has a size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpDataset")]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// The size of a volume, as in "500GB".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// "inline", "deferred" or "off".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// How often it is copied to head office: "1h", or "change".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Which snapshots stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Rules>,
}

/// The box that copies go to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpHeadOffice")]
pub struct HeadOffice {
    /// Host and port.
    pub address: String,
    /// The code of its invitation.
    pub code: String,
}

impl std::fmt::Debug for HeadOffice {
    /// Not the code: it does not belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadOffice").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What of the line may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUpLine")]
pub struct Line {
    /// The cap of what is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// What counts instead in some hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<String>,
}

impl Default for SetUp {
    fn default() -> Self {
        SetUp {
            set_up: VERSION,
            name: None,
            time_zone: None,
            networks: Vec::new(),
            administrator: None,
            dataset: Vec::new(),
            head_office: None,
            line: None,
            notices: None,
            network: None,
            settings: BTreeMap::new(),
        }
    }
}

impl SetUp {
    /// Reads a file; refused with what is wrong, and where.
    pub fn read(text: &str) -> Result<SetUp, Failed> {
        if text.len() > FILE_BYTES_MAX {
            return Err(Failed::refused(format!("a set-up file has at most {FILE_BYTES_MAX} bytes")));
        }
        let set_up: SetUp =
            toml::from_str(text).map_err(|error| Failed::refused(format!("this is no set-up file: {error}")))?;
        if set_up.set_up != VERSION {
            return Err(Failed::about(
                "set_up",
                format!("this set-up file is of version {}; this box reads version {VERSION}", set_up.set_up),
            ));
        }
        set_up.check()?;
        Ok(set_up)
    }

    /// As a file.
    pub fn write(&self) -> Result<String, Failed> {
        toml::to_string(self).map_err(|error| Failed::environment(error.to_string()))
    }

    /// What it says about settings of the config file.
    pub fn all_settings(&self) -> BTreeMap<String, Option<Value>> {
        let mut settings: BTreeMap<String, Option<Value>> =
            self.settings.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let mut say = |key: &str, value: Value| {
            settings.entry(key.to_owned()).or_insert(Some(value));
        };
        if let Some(name) = &self.name {
            say("name", name.as_str().into());
        }
        if let Some(zone) = &self.time_zone {
            say("time_zone", zone.as_str().into());
        }
        if !self.networks.is_empty() {
            let itself =
                ["127.0.0.0/8", "::1/128"].map(str::to_owned).into_iter().filter(|own| !self.networks.contains(own));
            let allowed = Value::from(self.networks.iter().cloned().chain(itself).collect::<Vec<_>>());
            say("nfs.allow", allowed.clone());
            say("iscsi.allow", allowed);
        }
        self.notices.iter().flat_map(Notices::settings).for_each(|(key, value)| say(key, value));
        settings
    }

    /// The doors that it needs, each with its setting: as long as nobody has said where a door is, it is open for this machine alone.
    pub fn doors(&self) -> Vec<(&'static str, Value)> {
        let mut doors = Vec::new();
        if !self.networks.is_empty() {
            doors.push(("nfs.listen", Value::from(NFS_EVERYWHERE)));
            doors.push(("iscsi.listen", Value::from(vec![ISCSI_EVERYWHERE])));
        }
        if self.head_office.is_some() {
            doors.push(("wan.listen", Value::from(WAN_EVERYWHERE)));
        }
        doors
    }
}

/// Where NFS is served once somebody else than the box itself may use it: all addresses of the box.
const NFS_EVERYWHERE: &str = "0.0.0.0:2049";
/// The same for peers.
const WAN_EVERYWHERE: &str = "0.0.0.0:4433";
/// The same for iSCSI.
const ISCSI_EVERYWHERE: &str = "0.0.0.0:3260";

#[cfg(test)]
mod tests;
