//! How much journal lies behind a record, without reading it.

use std::collections::BTreeMap;

use super::format::SEGMENT_HEADER_BYTES;
use crate::units::Lsn;

/// Marks are set at least this far apart.
pub(super) const SAMPLE_BYTES: u64 = 64 << 10;
/// Most marks: beyond, every other one is dropped.
const MARKS_MAX: usize = 1 << 16;

/// Marks along the journal: at this record, so many bytes of journal lie before it.
pub(super) struct Ruler {
    marks: BTreeMap<Lsn, u64>,
    end: u64,
    /// The next record.
    next: Lsn,
}

impl Ruler {
    /// A ruler along segments (first LSN and bytes) of which the newest has records at the given offsets and ends at
    /// `end`, in front of record `next`. Older segments count with all their bytes.
    pub(super) fn new(segments: &BTreeMap<Lsn, u64>, samples: &[(Lsn, u64)], end: u64, next: Lsn) -> Ruler {
        let mut ruler = Ruler { marks: BTreeMap::new(), end: 0, next };
        let newest = segments.keys().next_back();
        for (first, bytes) in segments.iter().filter(|(first, _)| Some(*first) != newest) {
            ruler.marks.insert(*first, ruler.end);
            ruler.end += bytes;
        }
        let start = ruler.end;
        newest.map(|first| ruler.marks.insert(*first, start));
        let within = |offset: u64| start + offset.saturating_sub(SEGMENT_HEADER_BYTES);
        ruler.marks.extend(samples.iter().map(|(lsn, offset)| (*lsn, within(*offset))));
        ruler.end = within(end);
        ruler
    }

    /// A record of so many bytes was appended.
    pub(super) fn appended(&mut self, lsn: Lsn, bytes: u64) {
        if self.marks.last_key_value().is_none_or(|(_, at)| self.end - at >= SAMPLE_BYTES) {
            self.marks.insert(lsn, self.end);
        }
        self.end += bytes;
        self.next = Lsn(lsn.0 + 1);
        if self.marks.len() > MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_, _| {
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
        let mark = self.marks.range(..=behind).next_back().or_else(|| self.marks.first_key_value());
        mark.map_or(0, |(_, at)| self.end - at)
    }

    /// Everything before `first` is gone.
    pub(super) fn trimmed(&mut self, first: Lsn) {
        self.marks = self.marks.split_off(&first);
    }
}
