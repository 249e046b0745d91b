//! What may flow when: a line under a calendar, as stretches of one rate.

use narrowboat_storage::units::Timestamp;

use crate::shape::bucket::aim_bits;
use crate::shape::{Rate, Schedule};

/// What may flow between two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    stretches: Vec<Stretch>,
}

/// A while in which one rate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// When it begins,
    pub from: Timestamp,
    /// and ends.
    pub until: Timestamp,
    /// Bits per second that flow; nothing where nothing bounds them.
    pub bits: Option<u64>,
}

impl Line {
    /// What a schedule lets flow from one moment to another. Of a cap 63/64 flow, which is what a saturated sender reaches.
    pub fn under(schedule: &Schedule, from: Timestamp, until: Timestamp) -> Line {
        let (mut stretches, mut at) = (Vec::new(), from);
        while at < until {
            let ruling = schedule.at(at);
            let end = ruling.until.unwrap_or(until).min(until);
            stretches.push(Stretch { from: at, until: end, bits: ruling.limit.map(aim_bits) });
            at = end;
        }
        Line { stretches }
    }

    /// The same where the line itself takes no more than `rate`.
    pub fn of(&self, rate: Rate) -> Line {
        let own = aim_bits(rate);
        let capped =
            |stretch: &Stretch| Stretch { bits: Some(stretch.bits.map_or(own, |bits| bits.min(own))), ..*stretch };
        Line { stretches: self.stretches.iter().map(capped).collect() }
    }

    /// The same with an outage: nothing flows between these moments.
    pub fn without(&self, from: Timestamp, until: Timestamp) -> Line {
        let cut = |stretch: &Stretch| {
            let (out, back) = (from.clamp(stretch.from, stretch.until), until.clamp(stretch.from, stretch.until));
            let parts = [(stretch.from, out, stretch.bits), (out, back, Some(0)), (back, stretch.until, stretch.bits)];
            parts.into_iter().filter(|(from, until, _)| from < until).map(|(from, until, bits)| Stretch {
                from,
                until,
                bits,
            })
        };
        Line { stretches: self.stretches.iter().flat_map(cut).collect() }
    }

    /// Its stretches, in order and without holes.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Calendar;

    const HOUR: i64 = 3_600_000_000_000;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn a_calendar_a_line_and_an_outage_make_stretches_without_holes() {
        let calendar =
            Calendar::parse("08:00-18:00 4Mbit\n22:00-24:00 pause", &jiff::tz::TimeZone::UTC).expect("sound");
        let schedule = Schedule { plain: None, calendar, once: None };
        let line = Line::under(&schedule, Timestamp(0), Timestamp(24 * HOUR));
        let seen = |line: &Line| -> Vec<(i64, Option<u64>)> {
            let stretches = line.stretches();
            assert!(stretches.windows(2).all(|two| two[0].until == two[1].from));
            assert_eq!((stretches[0].from, stretches[stretches.len() - 1].until), (Timestamp(0), Timestamp(24 * HOUR)));
            stretches.iter().map(|stretch| (stretch.from.0 / HOUR, stretch.bits)).collect()
        };
        let four = Some(4_000_000 - 4_000_000 / 64);
        assert_eq!(seen(&line), [(0, None), (8, four), (18, None), (22, Some(0))]);
        let two = Some(2_000_000 - 2_000_000 / 64);
        assert_eq!(seen(&line.of(rate("2Mbit"))), [(0, two), (8, two), (18, two), (22, Some(0))]);
        let out = line.without(Timestamp(9 * HOUR), Timestamp(19 * HOUR));
        assert_eq!(seen(&out), [(0, None), (8, four), (9, Some(0)), (18, Some(0)), (19, None), (22, Some(0))]);
    }
}
