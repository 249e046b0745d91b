//! Who may use the page, and what was asked of the box.

use serde::{Deserialize, Serialize};

pub use crate::accounts::audit::Entry as AuditEntry;
pub use crate::control::door::Person;

/// How somebody makes a box his own, and how he knows that it is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The claim code; none once the box was claimed.
    pub code: Option<String>,
    /// Whether somebody has claimed it.
    pub claimed: bool,
    /// Where the page is, if it is anywhere.
    pub address: Option<String>,
    /// SHA-256 of the certificate that it shows.
    pub fingerprint: Option<String>,
}
