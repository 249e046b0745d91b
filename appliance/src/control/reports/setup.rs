use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::disks::place::Place;
use crate::disks::state::ArrayState;
use crate::setup::apply::Outcome;

/// How far the set-up of a box is.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SetUpState {
    /// What was typed, by field.
    pub typed: BTreeMap<String, String>,
    /// Fields of which something secret was typed, which nobody is shown.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What of it makes no sense, by field.
    pub problems: BTreeMap<String, String>,
    /// Whether something is still to be done.
    pub applying: bool,
    /// What became of the last one.
    pub outcomes: Vec<Outcome>,
    /// How the box calls itself now.
    pub name: String,
    /// The time zone that counts now.
    pub time_zone: Option<String>,
    /// What time it is by its clock (RFC 3339).
    pub now: String,
    /// What is mounted where its backups lie.
    #[serde(default)]
    pub lies: Option<Place>,
    /// The array there, where it is one.
    #[serde(default)]
    pub array: Option<ArrayState>,
    /// Its addresses.
    pub places: Vec<SetUpPlace>,
    /// Time zones that there are.
    pub zones: Vec<String>,
}

/// An address of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SetUpPlace {
    /// The address.
    pub address: String,
    /// The network that it is in.
    pub network: String,
}

/// A set-up that was begun.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SetUpBegun {
    /// Whether the box starts again now, and does the rest after that.
    pub restarting: bool,
    /// What became of its parts, where it does not.
    pub outcomes: Vec<Outcome>,
}
