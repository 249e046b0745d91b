//! `[iscsi]`, and what differs for single volumes and targets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use narrowboat_wan::shape::Hours;
use serde::Deserialize;

/// `[iscsi]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Iscsi {
    /// Addresses and ports, each a portal; none for off.
    pub listen: Vec<String>,
    /// Networks of initiators that may log in.
    pub allow: Vec<String>,
    /// Names of initiators that may log in; any where there are none.
    pub initiators: Vec<String>,
    /// What names of targets begin with.
    pub iqn: String,
    /// How full the disk may be, in percent, before initiators are warned; what is kept in reserve counts as used. 0 never
    /// warns.
    pub threshold_percent: u8,
    /// CHAP accounts by user name; where there are some, everybody has to have one.
    pub user: BTreeMap<String, IscsiUser>,
}

impl Default for Iscsi {
    fn default() -> Self {
        Iscsi {
            listen: vec!["127.0.0.1:3260".into()],
            allow: vec!["127.0.0.0/8".into(), "::1/128".into()],
            initiators: Vec::new(),
            iqn: "iqn.2026-11.net.narrowboat".into(),
            threshold_percent: 90,
            user: BTreeMap::new(),
        }
    }
}

/// `[iscsi.user.NAME]`: a CHAP account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IscsiUser {
    /// File with the initiator's secret.
    pub secret_file: PathBuf,
    /// The name under which this box proves itself to initiators that ask it to.
    pub mutual_name: Option<String>,
    /// File with the secret by which it does; another than the initiator's.
    pub mutual_secret_file: Option<PathBuf>,
}

/// `[volume.NAME]`: what differs from `[iscsi]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Volume {
    /// Networks of initiators that may log in.
    pub allow: Option<Vec<String>>,
    /// Names of initiators that may log in.
    pub initiators: Option<Vec<String>>,
    /// Bytes of a block: 512 (the default) or 4096.
    pub block_bytes: Option<u32>,
    /// Bytes of a physical block, to which initiators align: 512 or 4096 (the default).
    pub physical_block_bytes: Option<u32>,
    /// Whether writes may be stable only after SYNCHRONIZE CACHE, as initiators are told: true where nothing is said.
    pub write_cache: Option<bool>,
    /// When it is deduplicated, if it waits for that.
    #[serde(deserialize_with = "super::hours")]
    pub drain_hours: Option<Hours>,
}

/// `[target.NAME]`: a target with several volumes. They have no targets of their own then.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetRules {
    /// The volumes: the first is unit 0, and so on.
    pub volumes: Vec<String>,
    /// Networks of initiators that may log in; those of `[iscsi]` where nothing is said.
    pub allow: Option<Vec<String>>,
    /// Names of initiators that may log in; likewise.
    pub initiators: Option<Vec<String>>,
}
