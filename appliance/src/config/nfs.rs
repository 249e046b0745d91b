//! `[nfs]`, and what differs for single shares.

use narrowboat_wan::shape::Hours;
use serde::Deserialize;

/// `[nfs]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nfs {
    /// Address and port, or empty for off.
    pub listen: String,
    /// Where to answer portmapper calls, or empty for off.
    pub portmap: String,
    /// Client networks that may mount.
    pub allow: Vec<String>,
    /// Whether a client's root is nobody.
    pub root_squash: bool,
    /// Whether clients may only read.
    pub read_only: bool,
    /// Whether clients must call from a port below 1024.
    pub privileged_ports: bool,
}

impl Default for Nfs {
    fn default() -> Self {
        Nfs {
            listen: "127.0.0.1:2049".into(),
            portmap: String::new(),
            allow: vec!["127.0.0.0/8".into(), "::1/128".into()],
            root_squash: true,
            read_only: false,
            privileged_ports: false,
        }
    }
}

/// `[share.NAME]`: what differs from `[nfs]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShareRules {
    /// Client networks that may mount.
    pub allow: Option<Vec<String>>,
    /// Whether a client's root is nobody.
    pub root_squash: Option<bool>,
    /// Whether clients may only read.
    pub read_only: Option<bool>,
    /// When it is deduplicated, if it waits for that.
    #[serde(deserialize_with = "super::hours")]
    pub drain_hours: Option<Hours>,
}
