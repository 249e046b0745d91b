//! What a probe has measured.

use std::time::Duration;

use narrowboat_wan::probe::{RoundTrips, Survey, Way};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A line, as a probe has found it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Round trips of small packets; none where none came back.
    pub round_trip: Option<MeasuredRoundTrip>,
    /// From here to the peer.
    pub there: MeasuredWay,
    /// From the peer to here.
    pub back: MeasuredWay,
    /// Wire bytes that were sent to the peer meanwhile, headers included.
    pub sent_bytes: u64,
    /// Wire bytes that came from it.
    pub received_bytes: u64,
    /// Other traffic with the peer passed meanwhile: rates are what it left.
    pub busy: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Round trips, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredRoundTrip {
    /// How many.
    pub count: u32,
    /// The shortest.
    pub min_ms: f64,
    /// Half of them are shorter.
    pub median_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// By how much one differs from the next, on average.
    pub jitter_ms: f64,
}

/// One direction.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MeasuredWay {
    /// What it carries, headers included; none where too little arrived to tell.
    pub bits_per_second: Option<u64>,
    /// It may carry more.
    pub at_least: bool,
    /// The cap of whoever sends is what bounded it.
    pub held_by_cap: bool,
    /// That cap.
    pub cap: Option<u64>,
    /// Packets of the row.
    pub packets: u32,
    /// Of these, lost.
    pub lost: u32,
    /// The share that is lost, in percent.
    pub loss_percent: f64,
    /// At least and at most so much, with 95 % confidence.
    pub loss_percent_between: (f64, f64),
    /// Runs of losses.
    pub bursts: u32,
    /// Packets lost in a row, on average.
    pub mean_burst: f64,
    /// And at most.
    pub longest_burst: u32,
}

impl From<&Survey> for Measured {
    fn from(survey: &Survey) -> Measured {
        Measured {
            round_trip: survey.round_trips.as_ref().map(MeasuredRoundTrip::from),
            there: MeasuredWay::from(&survey.there),
            back: MeasuredWay::from(&survey.back),
            sent_bytes: survey.sent_bytes,
            received_bytes: survey.received_bytes,
            busy: survey.busy,
            seconds: survey.took.as_secs_f64(),
        }
    }
}

impl From<&RoundTrips> for MeasuredRoundTrip {
    fn from(trips: &RoundTrips) -> MeasuredRoundTrip {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        MeasuredRoundTrip {
            count: trips.count,
            min_ms: ms(trips.min),
            median_ms: ms(trips.median),
            max_ms: ms(trips.max),
            jitter_ms: ms(trips.jitter),
        }
    }
}

impl From<&Way> for MeasuredWay {
    fn from(way: &Way) -> MeasuredWay {
        let (low, high) = way.loss.between();
        MeasuredWay {
            bits_per_second: way.rate().map(|(bits, _)| bits),
            at_least: way.rate().is_some_and(|(_, more)| more),
            held_by_cap: way.held_by_cap(),
            cap: way.cap.map(|cap| cap.bits()),
            packets: way.loss.sent,
            lost: way.loss.lost,
            loss_percent: way.loss.share() * 100.0,
            loss_percent_between: (low * 100.0, high * 100.0),
            bursts: way.loss.bursts,
            mean_burst: way.loss.mean_burst(),
            longest_burst: way.loss.longest,
        }
    }
}
