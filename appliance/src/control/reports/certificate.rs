//! Which certificate the page shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The certificate that the page shows to whoever connects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PageCertificate {
    /// "own" (the box made it), "file" (somebody gave it) or "authority" (by ACME).
    pub kind: String,
    /// SHA-256 of it, as browsers show it.
    pub fingerprint: String,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Who vouches for it.
    pub issuer: Option<String>,
    /// When it ends (RFC 3339).
    pub until: Option<String>,
    /// The authority that gives certificates, where there is one.
    pub authority: Option<Authority>,
}

/// An authority that gives certificates, and how it stands with that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authority {
    /// Its directory.
    pub directory: String,
    /// The names that a certificate is ordered for.
    pub names: Vec<String>,
    /// When the last one that it gave ends (RFC 3339); nothing where it has given none.
    pub until: Option<String>,
    /// Whether a quarter of its life is left, or less, or nothing.
    pub short: bool,
    /// Whether one is being ordered now.
    pub ordering: bool,
    /// When one is ordered next (RFC 3339).
    pub next: String,
    /// Since when orders fail (RFC 3339).
    pub failing_since: Option<String>,
    /// How many have failed since the last that did not.
    pub tries: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
}
