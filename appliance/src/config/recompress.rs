//! `[recompress]`: when what is old is compressed once more.

use std::time::Duration;

use serde::Deserialize;

use crate::units::parse_duration;

/// `[recompress]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recompress {
    /// How long the box runs before what was stored counts as old, as in "7d"; empty for never.
    pub after: String,
    /// How long nobody reads or writes before the box does it, as in "5m".
    pub quiet: String,
}

impl Default for Recompress {
    fn default() -> Self {
        Recompress { after: "7d".into(), quiet: "5m".into() }
    }
}

impl Recompress {
    /// Seconds after which what was stored is old; none where it never is.
    pub fn after_seconds(&self) -> Result<Option<u64>, String> {
        super::seconds_or_never("recompress.after", &self.after)
    }

    /// For how long it has to be quiet.
    pub fn quiet(&self) -> Result<Duration, String> {
        parse_duration(&self.quiet).map(Duration::from_secs).map_err(|refusal| format!("recompress.quiet: {refusal}"))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.after_seconds()?;
        self.quiet().map(drop)
    }
}
