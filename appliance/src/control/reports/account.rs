//! Who may use the page, and what was asked of the box.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::accounts::audit::Entry as AuditEntry;
use crate::config::settings::Setting;
pub use crate::control::door::Person;

/// Settings of the config file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// All that may be changed through the box.
    pub settings: Vec<Setting>,
    /// The file says something else than when the box was started: that counts from its next start on.
    pub pending: bool,
}

/// How somebody makes a box his own, and how he knows that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// The claim code; none once the box was claimed.
    pub code: Option<String>,
    /// Whether somebody has claimed it.
    pub claimed: bool,
    /// Where the page is, if it is anywhere.
    pub address: Option<String>,
    /// How browsers reach it: at each address of this machine on which it listens.
    #[serde(default)]
    pub urls: Vec<String>,
    /// SHA-256 of the certificate that it shows.
    pub fingerprint: Option<String>,
}
