//! What was measured: bytes on the wire, dataset by dataset, in spans of five minutes.

use std::time::Duration;

use narrowboat_storage::units::Timestamp;

use super::replay::Due;

/// How long a span is in which something is measured.
pub const SLOT: Duration = Duration::from_secs(300);
const SLOT_NANOS: i64 = 300_000_000_000;

/// What was measured of one dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Its name.
    pub dataset: String,
    /// What each span brought to the wire, in bytes; nothing where it was not measured.
    pub bytes: Vec<Option<u64>>,
}

/// Measured days of an office. All series begin together; one that is shorter was not measured behind its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// When the first span began.
    pub start: Timestamp,
    /// What was measured, dataset by dataset.
    pub series: Vec<Series>,
}

impl Measured {
    /// How many spans it has.
    pub fn slots(&self) -> usize {
        self.series.iter().map(|series| series.bytes.len()).max().unwrap_or(0)
    }

    /// When the span of this number begins.
    pub fn at(&self, slot: usize) -> Timestamp {
        let after = i64::try_from(slot).unwrap_or(i64::MAX).saturating_mul(SLOT_NANOS);
        Timestamp(self.start.0.saturating_add(after))
    }

    /// When the last span ends.
    pub fn end(&self) -> Timestamp {
        self.at(self.slots())
    }

    /// How much of it was measured: spans of datasets, of all that there are. 0 where nothing was.
    pub fn coverage(&self) -> f64 {
        let all = self.slots() * self.series.len();
        let known: usize = self.series.iter().map(|series| series.bytes.iter().flatten().count()).sum();
        if all == 0 { 0.0 } else { known as f64 / all as f64 }
    }

    /// All bytes that were measured.
    pub fn bytes(&self) -> u64 {
        self.series
            .iter()
            .flat_map(|series| series.bytes.iter().flatten())
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// The snapshots that a plan makes which has one made `every` so often (at least a span), one list a dataset: each is what the
    /// spans since the one before brought, and `each` bytes that a snapshot costs whatever is in it. One in whose time nothing at
    /// all was measured is left out.
    pub fn snapshots(&self, every: Duration, each: u64) -> Vec<Vec<Due>> {
        let together = usize::try_from(every.as_nanos() / SLOT.as_nanos()).unwrap_or(usize::MAX).max(1);
        let due = |(nth, slots): (usize, &[Option<u64>])| {
            let bytes = slots.iter().flatten().try_fold(0u64, |sum, bytes| sum.checked_add(*bytes));
            let known = slots.iter().any(Option::is_some);
            let at = self.at(nth.saturating_mul(together).saturating_add(slots.len()));
            known.then(|| Due { at, bytes: bytes.unwrap_or(u64::MAX).saturating_add(each) })
        };
        let of = |series: &Series| series.bytes.chunks(together).enumerate().filter_map(due).collect();
        self.series.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_take_what_their_spans_brought_and_gaps_make_none() {
        let bytes = vec![Some(1), Some(2), None, Some(4), None, None, None, None, Some(9)];
        let measured = Measured { start: Timestamp(0), series: vec![Series { dataset: "office".into(), bytes }] };
        let due = |slot: usize, bytes| Due { at: measured.at(slot), bytes };
        assert_eq!(measured.snapshots(SLOT * 4, 100), [vec![due(4, 107), due(9, 109)]]);
        // Never more often than it was measured.
        assert_eq!(measured.snapshots(Duration::ZERO, 0)[0].len(), 4);
        assert_eq!((measured.bytes(), measured.end()), (16, measured.at(9)));
        assert!((measured.coverage() - 4.0 / 9.0).abs() < 1e-9);
        let nothing = Measured { start: Timestamp(0), series: vec![] };
        assert_eq!((nothing.coverage(), nothing.slots(), nothing.snapshots(SLOT, 1).len()), (0.0, 0, 0));
    }
}
