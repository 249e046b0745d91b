//! `[scrub]`: how often everything is read, and how fast.

use narrowboat_wan::shape::Hours;
use serde::Deserialize;

use crate::units::ByteSize;

/// `[scrub]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// How long the box runs between two scrubs, as in "30d"; empty for never by itself.
    pub every: String,
    /// Bytes read in a second at most.
    pub rate: ByteSize,
    /// When it may run; any time where nothing is said.
    #[serde(deserialize_with = "super::hours")]
    pub hours: Option<Hours>,
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub { every: "30d".into(), rate: ByteSize(16 << 20), hours: None }
    }
}

impl Scrub {
    /// Seconds between the end of one and the beginning of the next; none where it never begins by itself.
    pub fn every_seconds(&self) -> Result<Option<u64>, String> {
        super::seconds_or_never("scrub.every", &self.every)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.every_seconds()?;
        match self.rate.0 {
            0 => Err("scrub.rate: nothing would ever be read; scrub.every = \"\" switches scrubs off".into()),
            _ => Ok(()),
        }
    }
}
