//! What is asked about the network of the machine.

use std::net::IpAddr;

use super::Failed;
use super::reports::NetworkState;
use crate::network::Wanted;
use crate::node::Node;

/// How it is.
pub(super) fn show(node: &Node) -> NetworkState {
    node.network.show()
}

/// Tries another set-up.
pub(super) fn set(node: &Node, wanted: Wanted) -> Result<NetworkState, Failed> {
    node.network.set(node, wanted)
}

/// Keeps what is tried, for somebody at the box itself.
pub(super) fn confirm_here(node: &Node, trial: Option<u64>) -> Result<NetworkState, Failed> {
    node.network.confirm(node, trial, None)
}

/// Keeps what is tried, for somebody whose connection arrived at an address of the box.
pub(super) fn confirm_from(node: &Node, trial: Option<u64>, at: Option<IpAddr>) -> Result<NetworkState, Failed> {
    let unknown = || {
        Failed::refused("at which address you came to the box is not known: keep it on its page, or at the box itself")
    };
    node.network.confirm(node, trial, Some(at.ok_or_else(unknown)?))
}

/// Goes back to what was before.
pub(super) fn revert(node: &Node, trial: Option<u64>) -> Result<NetworkState, Failed> {
    node.network.revert(node, trial)
}
