//! Where what a disk holds leads: how much more it is each day, and when the disk is full, with how sure that is.
//!
//! The rate is the median of the slopes between all pairs of days (Theil and Sen), of each day the median: a night on which much was given back, or a week
//! of moving house, does not bend it. How far off it may be is what Sen's ranks say at 95 %, and the rates of the first and the second half alone, where those
//! differ more: days that follow one another are alike, which the ranks do not know of.

use serde::{Deserialize, Serialize};

use super::Point;

const DAY_SECONDS: u64 = 86_400;
/// Of fewer days nothing is said.
pub const DAYS_MIN: usize = 7;
/// Nor of a future that is further away.
const DAYS_AHEAD_MAX: f64 = 3650.0;
/// How many standard deviations 95 % are, to either side.
const DEVIATIONS: f64 = 1.96;

/// Where a disk leads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Forecast {
    /// How many days that is of.
    pub days: usize,
    /// By how much more is used, a day; less than nothing where it becomes less.
    pub bytes_per_day: f64,
    /// At least and at most so much.
    pub bytes_per_day_between: (f64, f64),
    /// After how many days the disk is full; nothing where it does not fill, or not within ten years.
    pub full_in_days: Option<f64>,
    /// At the earliest.
    pub earliest_in_days: Option<f64>,
    /// At the latest; nothing where it may not fill at all.
    pub latest_in_days: Option<f64>,
}

/// Where these points lead, the oldest first; nothing where they are of too few days.
pub(super) fn forecast(points: &[Point]) -> Option<Forecast> {
    let last = points.last()?;
    // A disk that was exchanged is another line.
    let same = points.iter().rev().take_while(|point| point.disk_bytes == last.disk_bytes);
    let days = by_day(same);
    if days.len() < DAYS_MIN {
        return None;
    }
    let slopes = slopes(&days);
    let (mut low, mut high) = between(&slopes, days.len());
    let (first, second) = days.split_at(days.len() / 2);
    for half in [first, second].map(self::slopes).iter().filter(|half| !half.is_empty()) {
        (low, high) = (low.min(middle(half)), high.max(middle(half)));
    }
    let bytes_per_day = middle(&slopes);
    let reaches = |per_day: f64| {
        let days = last.disk_free_bytes as f64 / per_day;
        (per_day > 0.0 && days <= DAYS_AHEAD_MAX).then_some(days)
    };
    Some(Forecast {
        days: days.len(),
        bytes_per_day,
        bytes_per_day_between: (low, high),
        full_in_days: reaches(bytes_per_day),
        earliest_in_days: reaches(high),
        latest_in_days: reaches(low),
    })
}

/// What was used on each day, in the middle, the oldest first.
fn by_day<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<(f64, f64)> {
    let mut days: std::collections::BTreeMap<u64, Vec<f64>> = Default::default();
    for point in points {
        let used = point.disk_bytes.saturating_sub(point.disk_free_bytes) as f64;
        days.entry(point.time / DAY_SECONDS).or_default().push(used);
    }
    days.into_iter()
        .map(|(day, mut used)| {
            used.sort_unstable_by(f64::total_cmp);
            (day as f64, middle(&used))
        })
        .collect()
}

/// The slopes between all pairs, the smallest first.
fn slopes(days: &[(f64, f64)]) -> Vec<f64> {
    let pairs = days.iter().enumerate().flat_map(|(nth, from)| days[nth + 1..].iter().map(move |to| (from, to)));
    let mut slopes: Vec<f64> = pairs.map(|(from, to)| (to.1 - from.1) / (to.0 - from.0)).collect();
    slopes.sort_unstable_by(f64::total_cmp);
    slopes
}

/// The median of what is sorted; nought of nothing.
fn middle(sorted: &[f64]) -> f64 {
    let (low, high) = (sorted.get(sorted.len().saturating_sub(1) / 2), sorted.get(sorted.len() / 2));
    low.zip(high).map_or(0.0, |(low, high)| f64::midpoint(*low, *high))
}

/// Between which slopes the true one is, by Sen's ranks.
fn between(slopes: &[f64], days: usize) -> (f64, f64) {
    let (count, days) = (slopes.len() as f64, days as f64);
    let off = DEVIATIONS * (days * (days - 1.0) * (2.0 * days + 5.0) / 18.0).sqrt();
    let low = ((count - off) / 2.0).floor().max(0.0) as usize;
    let high = ((count + off) / 2.0).ceil() as usize;
    let at = |place: usize| slopes.get(place.min(slopes.len().saturating_sub(1))).copied().unwrap_or_default();
    (at(low), at(high))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 1_000_000;

    /// A point every six hours, of which `used` says what was used so many days after the first.
    fn points(days: usize, used: impl Fn(f64) -> f64) -> Vec<Point> {
        let point = |step: usize| {
            let free = DISK - used(step as f64 / 4.0) as u64;
            let of = |values: [u64; super::super::ring::VALUES]| {
                Point::from(super::super::ring::Slot { time: DAY_SECONDS * 1000 + step as u64 * 21_600, values })
            };
            Point { disk_bytes: DISK, disk_free_bytes: free, ..of([0; super::super::ring::VALUES]) }
        };
        (0..days * 4).map(point).collect()
    }

    #[test]
    fn a_disk_that_fills_says_when_and_how_sure_that_is() {
        let grows = forecast(&points(30, |day| 100_000.0 + 5_000.0 * day)).expect("known");
        assert_eq!(grows.days, 30);
        assert!((grows.bytes_per_day - 5_000.0).abs() < 1.0, "{grows:?}");
        let full = grows.full_in_days.expect("it fills");
        assert!((full - 150.0).abs() < 1.0, "{grows:?}");
        assert!(grows.earliest_in_days <= Some(full) && grows.latest_in_days >= Some(full));
        // A week of moving house, and a night on which much was given back, bend a line of least squares and not this one.
        let odd = |day: f64| {
            100_000.0 + 5_000.0 * day + if (12.0..14.0).contains(&day) { 300_000.0 } else { 0.0 }
                - if (20.0..21.0).contains(&day) { 150_000.0 } else { 0.0 }
        };
        let odd = forecast(&points(30, odd)).expect("known");
        assert!((odd.bytes_per_day - 5_000.0).abs() < 500.0, "{odd:?}");
        let (early, late) = (odd.earliest_in_days.expect("a date"), odd.latest_in_days);
        assert!(early < 151.0 && late.is_none_or(|late| late > 150.0), "{odd:?}");
    }

    #[test]
    fn nothing_is_claimed_of_too_little_history_or_where_it_does_not_fill() {
        assert_eq!(forecast(&[]), None);
        assert_eq!(forecast(&points(6, |day| 5_000.0 * day)), None);
        let rests = forecast(&points(30, |_| 100_000.0)).expect("known");
        assert_eq!((rests.bytes_per_day, rests.full_in_days, rests.earliest_in_days), (0.0, None, None));
        let shrinks = forecast(&points(30, |day| 500_000.0 - 5_000.0 * day)).expect("known");
        assert!(shrinks.bytes_per_day < 0.0 && shrinks.full_in_days.is_none(), "{shrinks:?}");
        // What goes up and down may fill the disk, or never.
        let waves = forecast(&points(30, |day| 400_000.0 + 100_000.0 * (day * 2.4).sin())).expect("known");
        assert_eq!(waves.latest_in_days, None, "{waves:?}");
        let slow = forecast(&points(30, |day| 100_000.0 + day)).expect("known");
        assert_eq!(slow.full_in_days, None, "in some thousand years");
    }

    #[test]
    fn another_pace_in_the_second_half_widens_what_is_said() {
        let turned = |day: f64| 100_000.0 + 1_000.0 * day + (day - 20.0).max(0.0) * 9_000.0;
        let turned = forecast(&points(40, turned)).expect("known");
        assert!(turned.bytes_per_day_between.1 >= 9_999.0 && turned.bytes_per_day_between.0 <= 1_001.0, "{turned:?}");
        let mut exchanged = points(30, |day| 5_000.0 * day);
        exchanged[..80].iter_mut().for_each(|point| point.disk_bytes = DISK / 2);
        assert_eq!(forecast(&exchanged).map(|known| known.days), Some(10), "another disk is another line");
    }
}
