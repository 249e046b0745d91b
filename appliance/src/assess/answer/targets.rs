//! The line that recovery points need.

use std::time::Duration;

use narrowboat_wan::assess::resample::{Days, quantile};
use narrowboat_wan::assess::{Measured, SLOT, Target, needed};
use serde::Serialize;

use super::{Question, SHARES};

/// Months that are drawn for a band, each of four weeks: within one week the end of it would count for too much.
const DRAWN: u64 = 20;
const WEEKS: usize = 4;
/// The share of the time that bands are told for.
const BAND_SHARE: f64 = 0.99;

/// What one recovery point needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Needed {
    /// How old what the peer has may be.
    pub age_seconds: u64,
    /// For what share of the time.
    pub share: f64,
    /// The slowest line that does it, in bits per second.
    pub bits: Option<u64>,
    /// Where no line does: the share that the fastest reaches.
    pub no_line: Option<f64>,
    /// Between what nine in ten drawn months need.
    pub band: Option<[u64; 2]>,
}

/// All of them, the shortest recovery point first. One that is shorter than looks are apart is left out.
pub(super) fn needed_for(
    measured: &Measured,
    question: &Question,
    coarse: Option<u64>,
    bands: Option<&Days>,
) -> Vec<Needed> {
    let ceiling = question.ceiling(measured.start, measured.end());
    let every = Duration::from_secs(coarse.unwrap_or_default()).max(SLOT);
    let snapshots = measured.snapshots(every, 0);
    let ages = question.ages.iter().filter(|age| **age > every);
    let all = ages.flat_map(|age| SHARES.map(|share| Target { age: *age, share }));
    let one = |target: Target| {
        let (bits, no_line) = match needed(&ceiling, &snapshots, target) {
            narrowboat_wan::assess::Needed::Rate(rate) => (Some(rate.bits()), None),
            narrowboat_wan::assess::Needed::NoLine { share } => (None, Some(share)),
        };
        let band = bands.filter(|_| target.share == BAND_SHARE && bits.is_some());
        let band = band.and_then(|days| band_of(days, measured, question, every, target));
        Needed { age_seconds: target.age.as_secs(), share: target.share, bits, no_line, band }
    };
    all.map(one).collect()
}

fn band_of(days: &Days, measured: &Measured, question: &Question, every: Duration, target: Target) -> Option<[u64; 2]> {
    let month = |seed: u64| {
        let drawn = days.draw(measured.start, WEEKS, seed)?;
        let ceiling = question.ceiling(drawn.start, drawn.end());
        match needed(&ceiling, &drawn.snapshots(every, 0), target) {
            narrowboat_wan::assess::Needed::Rate(rate) => Some(rate.bits() as f64),
            narrowboat_wan::assess::Needed::NoLine { .. } => Some(f64::INFINITY),
        }
    };
    let found: Vec<f64> = (0..DRAWN).filter_map(month).collect();
    let [low, high] = [0.05, 0.95].map(|share| quantile(&found, share));
    Some([low? as u64, high? as u64])
}
