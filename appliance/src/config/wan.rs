//! `[wan]`, and what is said about single peers.

use std::ops::RangeInclusive;

use jiff::tz::TimeZone;
use narrowboat_wan::shape::{Calendar, parse_limit};
use narrowboat_wan::sync::Compression;
use serde::Deserialize;

use super::Marking;
use crate::units::parse_duration;

/// How long a recovery point may be.
const RECOVERY_SECONDS: RangeInclusive<u64> = 60..=366 * 86_400;

/// `[wan]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wan {
    /// Address and port, or empty for off.
    pub listen: String,
    /// Cap of the whole box, as in "20Mbit".
    pub rate: Option<String>,
    /// What counts instead in some hours of the week and on some dates, as [`Calendar::parse`] takes it.
    pub calendar: Option<String>,
    /// Cap of everything that is received, which peers are told and keep.
    pub receive: Option<String>,
    /// The calendar of that.
    pub receive_calendar: Option<String>,
    /// What the line adds to each datagram beyond IP and UDP headers, in bytes.
    pub overhead_bytes: u32,
    /// How datagrams are marked for routers, by class.
    pub dscp: Marking,
    /// How objects are packed: "adaptive", "stored", or a zstd level.
    pub compression: String,
    /// Whether what changed is sent as its difference from what the peer has.
    pub delta: bool,
    /// Whether differences are also looked for from what lies elsewhere in the base, by resemblance.
    pub resemblance: bool,
    /// Whether snapshots are taken only from peers that prove to have what they do not send.
    pub require_proofs: bool,
}

impl Default for Wan {
    fn default() -> Self {
        let compression = Compression::Adaptive.to_string();
        let listen = "127.0.0.1:4433".into();
        let dscp = Marking::default();
        Wan {
            listen,
            rate: None,
            calendar: None,
            receive: None,
            receive_calendar: None,
            overhead_bytes: 0,
            dscp,
            compression,
            delta: true,
            resemblance: true,
            require_proofs: true,
        }
    }
}

impl Wan {
    /// How objects are packed.
    pub fn compression(&self) -> Result<Compression, String> {
        self.compression.parse().map_err(|refusal| format!("wan.compression: {refusal}"))
    }

    /// What it says about the cap of the box.
    pub fn caps(&self) -> CapRules {
        CapRules {
            rate: self.rate.clone(),
            calendar: self.calendar.clone(),
            receive: self.receive.clone(),
            receive_calendar: self.receive_calendar.clone(),
            ..CapRules::default()
        }
    }
}

/// `[peer.NAME]`: what is said about a peer, most of it about its cap.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapRules {
    /// The cap where the calendar says nothing, as in "20Mbit".
    pub rate: Option<String>,
    /// What counts instead in some hours of the week and on some dates, as [`Calendar::parse`] takes it.
    pub calendar: Option<String>,
    /// The same two of what is received from it, as far as it keeps them.
    pub receive: Option<String>,
    /// See `receive`.
    pub receive_calendar: Option<String>,
    /// How old a snapshot may be when it is there, as in "24h". What is sent is slowed down as far as that allows.
    pub recovery_point: Option<String>,
    /// The peer may pass on what other boxes made and it keeps.
    pub forwards: bool,
}

impl CapRules {
    /// The recovery point in seconds; one that can't be meant was refused when the config was read.
    pub fn recovery_seconds(&self) -> Option<u64> {
        self.recovery_point.as_deref().and_then(|text| parse_duration(text).ok())
    }

    /// Finds what can't be meant. `key` is where it stands in the file.
    pub(super) fn validate(&self, key: &str, zone: &TimeZone) -> Result<(), String> {
        for (what, rate) in [("rate", &self.rate), ("receive", &self.receive)] {
            let read = rate.as_deref().map(parse_limit).transpose();
            read.map_err(|refusal| format!("{key}.{what} = {:?}: {refusal}", rate.as_deref().unwrap_or_default()))?;
        }
        for (what, text) in [("calendar", &self.calendar), ("receive_calendar", &self.receive_calendar)] {
            let read = text.as_deref().map(|text| Calendar::parse(text, zone)).transpose();
            read.map_err(|refusal| format!("{key}.{what}: {refusal}"))?;
        }
        if let Some(point) = &self.recovery_point {
            let seconds = parse_duration(point).map_err(|why| format!("{key}.recovery_point: {why}"))?;
            if !RECOVERY_SECONDS.contains(&seconds) {
                return Err(format!("{key}.recovery_point = {point:?}: from 1min to 366d"));
            }
        }
        Ok(())
    }
}
