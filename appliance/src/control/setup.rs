//! What is asked about the set-up of the box.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Failed;
use super::reports::{SetUpBegun, SetUpPlace, SetUpState};
use crate::clock;
use crate::node::Node;
use crate::setup::kept::Kept;
use crate::setup::{SetUp, apply, places, typed};
use crate::units::rfc3339;

/// How far it is.
pub(super) fn show(node: &Node) -> Result<SetUpState, Failed> {
    let kept = Kept::of(&node.store)?;
    let place = |place: places::Place| SetUpPlace { address: place.address.to_string(), network: place.network };
    Ok(SetUpState {
        problems: typed::problems(&kept.typed),
        typed: kept.typed,
        applying: kept.applying.is_some(),
        outcomes: kept.outcomes,
        name: node.name.clone(),
        time_zone: node.config.zone().iana_name().map(str::to_owned),
        now: rfc3339(clock::now()),
        places: places::places().into_iter().map(place).collect(),
        zones: places::zones(),
    })
}

/// Keeps what somebody types.
pub(super) fn type_in(node: &Node, fields: BTreeMap<String, String>) -> Result<SetUpState, Failed> {
    Kept::change(&node.store, |kept| kept.type_in(fields))?;
    show(node)
}

/// Does what a set-up says.
pub(super) fn apply(node: &Arc<Node>, set_up: &SetUp) -> Result<SetUpBegun, Failed> {
    let restarting = apply::begin(node, set_up)?;
    Ok(SetUpBegun { restarting, outcomes: Kept::of(&node.store)?.outcomes })
}
