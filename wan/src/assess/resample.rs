//! Weeks that might have been: days drawn anew from those that were measured, each for a day of the same kind.
//!
//! An office has a week: Mondays resemble Mondays. So for each day to come a measured one of the same weekday is drawn; where none
//! was measured, one of the same kind (of Monday to Friday, or of the weekend); else any. Datasets of a day stay together, for what
//! happens in an office happens to all of them. How much answers scatter over such weeks says how sure they are.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use narrowboat_storage::units::Timestamp;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::measured::{Measured, SLOT, Series};

/// Spans of a day.
const DAY_SLOTS: usize = 24 * 60 * 60 / SLOT.as_secs() as usize;
/// A day counts as measured where at least half of it was.
const MEASURED_MIN: f64 = 0.5;

/// What is drawn from: the measured days.
pub struct Days<'a> {
    measured: &'a Measured,
    /// The weekday of each, and where its spans begin.
    days: Vec<(Weekday, usize)>,
}

impl<'a> Days<'a> {
    /// The days that were measured, each 24 hours from its beginning on; `zone` tells which day of the week each is. Days of which less
    /// than half was measured are left out.
    pub fn of(measured: &'a Measured, zone: &TimeZone) -> Days<'a> {
        let whole = measured.slots() / DAY_SLOTS;
        let day = |nth: usize| {
            let begin = nth * DAY_SLOTS;
            // Noon of it, for a day that begins at 23:30 is the next one's.
            let noon = jiff::Timestamp::from_nanosecond(i128::from(measured.at(begin + DAY_SLOTS / 2).0)).ok()?;
            let known = |series: &Series| known(series, begin) as f64;
            let share = measured.series.iter().map(known).sum::<f64>() / (measured.series.len() * DAY_SLOTS) as f64;
            (share >= MEASURED_MIN).then(|| (noon.to_zoned(zone.clone()).weekday(), begin))
        };
        Days { measured, days: (0..whole).filter_map(day).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.days.len()
    }

    /// Which days of the week were measured at least once.
    pub fn weekdays(&self) -> usize {
        let mut seen: Vec<_> = self.days.iter().map(|(weekday, _)| weekday.to_monday_zero_offset()).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    }

    /// So many weeks from `start` on, from Monday on, drawn by a seed. Nothing where no day was measured.
    pub fn draw(&self, start: Timestamp, weeks: usize, seed: u64) -> Option<Measured> {
        let mut rng = SmallRng::seed_from_u64(seed);
        let names =
            self.measured.series.iter().map(|series| Series { dataset: series.dataset.clone(), bytes: Vec::new() });
        let mut drawn = Measured { start, series: names.collect() };
        for nth in 0..weeks * 7 {
            let begin = self.day_like(weekday(nth), &mut rng)?;
            for (to, from) in drawn.series.iter_mut().zip(&self.measured.series) {
                to.bytes.extend((begin..begin + DAY_SLOTS).map(|slot| from.bytes.get(slot).copied().flatten()));
            }
        }
        Some(drawn)
    }

    fn day_like(&self, wanted: Weekday, rng: &mut impl Rng) -> Option<usize> {
        let is_weekend = |day: Weekday| matches!(day, Weekday::Saturday | Weekday::Sunday);
        let like: [&dyn Fn(Weekday) -> bool; 3] =
            [&|day| day == wanted, &|day| is_weekend(day) == is_weekend(wanted), &|_| true];
        let of = |is_like: &&dyn Fn(Weekday) -> bool| {
            let begins = self.days.iter().filter(|(day, _)| is_like(*day)).map(|(_, begin)| *begin);
            Some(begins.collect::<Vec<_>>()).filter(|found| !found.is_empty())
        };
        like.iter().find_map(of)?.choose(rng).copied()
    }
}

fn known(series: &Series, begin: usize) -> usize {
    series.bytes.iter().skip(begin).take(DAY_SLOTS).flatten().count()
}

fn weekday(nth: usize) -> Weekday {
    let offset = i8::try_from(nth % 7).unwrap_or(0);
    Weekday::from_monday_zero_offset(offset).unwrap_or(Weekday::Monday)
}

/// What lies below a share of values: the lowest at 0, the median at 0.5. Nothing of no values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let place = (share.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 is a Monday.
    const MONDAY: i64 = 1_795_392_000_000_000_000;

    /// Days in which each span brings what the day is: 1 for the first, 2 for the second.
    fn of_days(days: usize) -> Measured {
        let bytes = (0..days * DAY_SLOTS).map(|slot| Some((slot / DAY_SLOTS) as u64 + 1)).collect();
        Measured { start: Timestamp(MONDAY), series: vec![Series { dataset: "office".into(), bytes }] }
    }

    fn days_of(measured: &Measured) -> Vec<u64> {
        measured.series[0].bytes.chunks(DAY_SLOTS).map(|day| day[7].expect("measured")).collect()
    }

    #[test]
    fn a_weekday_is_drawn_from_the_same_weekdays() {
        let measured = of_days(28);
        let days = Days::of(&measured, &TimeZone::UTC);
        assert_eq!((days.count(), days.weekdays()), (28, 7));
        let drawn = days_of(&days.draw(Timestamp(MONDAY), 50, 1).expect("days"));
        assert_eq!(drawn.len(), 350);
        assert!(drawn.iter().enumerate().all(|(nth, day)| (*day as usize - 1) % 7 == nth % 7));
        // Each of the four weeks has its turn, and a seed is a draw.
        let mondays: std::collections::BTreeSet<u64> = drawn.iter().copied().step_by(7).collect();
        assert_eq!(mondays, [1, 8, 15, 22].into());
        assert_eq!(drawn, days_of(&days.draw(Timestamp(MONDAY), 50, 1).expect("days")));
        assert_ne!(drawn, days_of(&days.draw(Timestamp(MONDAY), 50, 2).expect("days")));
    }

    #[test]
    fn days_that_were_not_measured_are_taken_from_their_like() {
        // Wednesday to Saturday.
        let mut measured = of_days(6);
        measured.series[0].bytes[..2 * DAY_SLOTS].fill(None);
        // A gap in the night leaves a day what it is.
        measured.series[0].bytes[3 * DAY_SLOTS..3 * DAY_SLOTS + 7].fill(None);
        let days = Days::of(&measured, &TimeZone::UTC);
        assert_eq!((days.count(), days.weekdays()), (4, 4));
        let drawn = days_of(&days.draw(Timestamp(MONDAY), 20, 3).expect("days"));
        for week in drawn.chunks(7) {
            assert!(week[..2].iter().all(|day| (3..=5).contains(day)), "{week:?}");
            assert_eq!((&week[2..6], week[6]), (&[3, 4, 5, 6][..], 6));
        }
        // Twelve hours to the east, the same spans are half a day later: the first day's noon is a Tuesday's.
        let east = TimeZone::fixed(jiff::tz::offset(13));
        assert_eq!(Days::of(&of_days(1), &east).days[0].0, Weekday::Tuesday);
    }

    #[test]
    fn from_nothing_nothing_is_drawn() {
        let nothing = Measured { start: Timestamp(0), series: vec![] };
        assert!(Days::of(&nothing, &TimeZone::UTC).draw(Timestamp(0), 1, 1).is_none());
        let short =
            Measured { series: vec![Series { dataset: "office".into(), bytes: vec![Some(1); 100] }], ..nothing };
        assert_eq!(Days::of(&short, &TimeZone::UTC).count(), 0);
        assert_eq!(
            (quantile(&[], 0.5), quantile(&[3.0, 1.0, 2.0], 0.5), quantile(&[3.0, 1.0], 1.0)),
            (None, Some(2.0), Some(3.0))
        );
    }
}
