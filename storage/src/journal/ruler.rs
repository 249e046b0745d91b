//! How much journal lies behind a record, without reading it.

use std::collections::BTreeMap;

use super::format::SEGMENT_HEADER_BYTES;
use crate::units::Lsn;

/// Notches are set at least this far apart.
pub(super) const SAMPLE_BYTES: u64 = 64 << 10;
/// Most notches: beyond, every other one is dropped.
const NOTCHES_MAX: usize = 1 << 16;

/// Notches along the journal: at this record, so many bytes of journal lie before it.
pub(super) struct Ruler {
    notches: BTreeMap<Lsn, u64>,
    end: u64,
    /// The next record.
    next: Lsn,
}

impl Ruler {
    /// A ruler along segments (first LSN and bytes) of which the newest has records at the given offsets and ends at
    /// `end`, in front of record `next`. Older segments count with all their bytes.
    pub(super) fn new(segments: &BTreeMap<Lsn, u64>, samples: &[(Lsn, u64)], end: u64, next: Lsn) -> Ruler {
        let mut ruler = Ruler { notches: BTreeMap::new(), end: 0, next };
        let newest = segments.keys().next_back();
        for (first, bytes) in segments.iter().filter(|(first, _)| Some(*first) != newest) {
            ruler.notches.insert(*first, ruler.end);
            ruler.end += bytes;
        }
        let start = ruler.end;
        newest.map(|first| ruler.notches.insert(*first, start));
        let within = |offset: u64| start + offset.saturating_sub(SEGMENT_HEADER_BYTES);
        ruler.notches.extend(samples.iter().map(|(lsn, offset)| (*lsn, within(*offset))));
        ruler.end = within(end);
        ruler
    }

    /// A record of so many bytes was appended.
    pub(super) fn appended(&mut self, lsn: Lsn, bytes: u64) {
        if self.notches.last_key_value().is_none_or(|(_, at)| self.end - at >= SAMPLE_BYTES) {
            self.notches.insert(lsn, self.end);
        }
        self.end += bytes;
        self.next = Lsn(lsn.0 + 1);
        if self.notches.len() > NOTCHES_MAX {
            let mut keep = false;
            self.notches.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    /// Bytes of the records behind `lsn`: never too few.
    pub(super) fn since(&self, lsn: Lsn) -> u64 {
        let behind = Lsn(lsn.0.saturating_add(1));
        if behind >= self.next {
            return 0;
        }
        let notch = self.notches.range(..=behind).next_back().or_else(|| self.notches.first_key_value());
        notch.map_or(0, |(_, at)| self.end - at)
    }

    /// Everything before `first` is gone.
    pub(super) fn trimmed(&mut self, first: Lsn) {
        self.notches = self.notches.split_off(&first);
    }
}
