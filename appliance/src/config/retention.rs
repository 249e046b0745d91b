//! `[retention]`: how long what is deleted can be had back.

use std::time::Duration;

use serde::Deserialize;

/// A longer quarantine than this is a mistake: what is to be kept for years is not to be deleted.
const DAYS_MAX: u32 = 366;

/// `[retention]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Days that the box runs in which what was deleted can be had back; 0: it is gone at once.
    pub quarantine_days: u32,
    /// Whether the older half of the quarantine is given up, again and again, where the disk is nearly full.
    pub empty_quarantine_when_full: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { quarantine_days: 7, empty_quarantine_when_full: false }
    }
}

impl Retention {
    /// How long what is deleted can be had back.
    pub fn quarantine(&self) -> Duration {
        Duration::from_secs(u64::from(self.quarantine_days) * 86_400)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self.quarantine_days {
            0..=DAYS_MAX => Ok(()),
            days => Err(format!("retention.quarantine_days = {days}: from 0 to {DAYS_MAX}")),
        }
    }
}
