//! What who may do: one table, without a default, so that nothing new is allowed by being forgotten.

use serde::{Deserialize, Serialize};

use crate::control::Request;

/// What somebody may do. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees everything but secrets, changes nothing.
    Viewer,
    /// Makes snapshots, restores, sends, pauses: what keeps an office going, and nothing that loses data.
    Operator,
    /// Everything that the box allows to anybody but its console.
    Administrator,
}
