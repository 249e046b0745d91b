//! How the network of the machine is, and what is tried of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network::Wanted;

/// The network of the machine that the box is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkState {
    /// Whether the box sets it up.
    pub managed: bool,
    /// Why it does not, where it does not: a sentence.
    pub why_not: Option<String>,
    /// The interface that it is about.
    pub interface: Option<String>,
    /// What was kept last; nothing where the machine's own set-up counts.
    pub kept: Option<Wanted>,
    /// What is tried now.
    pub trial: Option<NetworkTrial>,
    /// What became of what was tried last, since the box was started: a sentence.
    pub last: Option<String>,
    /// Why the network is not as it is kept, where it is not.
    pub trouble: Option<String>,
    /// How long a change is tried, in seconds.
    pub trial_seconds: u64,
    /// The addresses that the machine has now.
    pub addresses: Vec<NetworkAddress>,
    /// The routers to other networks that it uses now.
    pub gateways: Vec<String>,
    /// The DNS servers that it asks now.
    pub dns: Vec<String>,
}

/// A set-up that is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkTrial {
    /// Its number.
    pub number: u64,
    /// What is tried.
    pub wanted: Wanted,
    /// Whether it is in force already: it begins once whoever asked for it was answered.
    pub in_force: bool,
    /// In how many seconds it goes back by itself.
    pub seconds_left: u64,
    /// The fixed addresses of it, at one of which it is to be confirmed. Nothing where the network is asked for them.
    pub addresses: Vec<String>,
}

/// An address of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkAddress {
    /// Which interface has it.
    pub interface: String,
    /// The address with its prefix.
    pub address: String,
}
