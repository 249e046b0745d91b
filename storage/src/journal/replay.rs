//! Reading the journal back, record by record, every one verified as the successor of the one before it.

use std::sync::PoisonError;

use super::format::SegmentHeader;
use super::segment::{Segment, Walker, path};
use super::{Journal, KIND_OWN, Record, Span};
use crate::error::{Damage, Result};
use crate::units::Lsn;

/// No record has this number.
const NEVER: Lsn = Lsn(u64::MAX);

impl Journal {
    /// Hands every safe record behind `after` to `visit`, in order; those that become safe meanwhile are not seen. The
    /// first error ends it. Memory: one record.
    ///
    /// Damage where a record is not what was written, or where records behind `after` are gone although they should be
    /// kept. The caller does not trim what is being replayed.
    pub fn replay(&self, after: Lsn, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        self.walk(after, NEVER, &mut |record| if record.kind == KIND_OWN { Ok(()) } else { visit(record) })
    }

    /// The same for the records of one segment, which the caller keeps from being trimmed.
    pub fn replay_span(&self, span: &Span, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let before = Lsn(span.first.0 - 1);
        self.walk(before, span.last, &mut |record| if record.kind == KIND_OWN { Ok(()) } else { visit(record) })
    }

    /// Reads and verifies every safe record that is kept. Trimming waits until this is done.
    pub fn verify(&self) -> Result<()> {
        let _kept_meanwhile = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.lock().segments.keys().next().copied();
        first.map_or(Ok(()), |first| self.walk(Lsn(first.0 - 1), NEVER, &mut |_| Ok(())))
    }

    fn walk(&self, after: Lsn, upto: Lsn, visit: &mut dyn FnMut(Record) -> Result<()>) -> Result<()> {
        let (stable, segments) = {
            let state = self.lock();
            (state.stable.min(upto), state.segments.keys().copied().collect::<Vec<Lsn>>())
        };
        if after >= stable {
            return Ok(());
        }
        let wanted = Lsn(after.0 + 1);
        let Some(start) = segments.partition_point(|first| *first <= wanted).checked_sub(1) else {
            let found = segments.first().map_or("no segment".to_owned(), |first| path(*first));
            return Err(Damage::new(path(wanted), 0, format!("a segment with record {wanted}"), found).into());
        };
        let mut chain: Option<(Lsn, u32)> = None;
        for (index, &first) in segments.iter().enumerate().skip(start).take_while(|(_, first)| **first <= stable) {
            let segment = Segment::open(self.media.as_ref(), self.store, first)?;
            if let Some(chain) = chain {
                check_chain(&segment.header, chain)?;
            }
            let end = segments.get(index + 1).map_or(Lsn(stable.0 + 1), |next| *next).min(Lsn(stable.0 + 1));
            chain = Some(walk_segment(&segment, after, end, visit)?);
        }
        Ok(())
    }
}

/// A segment must go on where the one before it ended.
fn check_chain(header: &SegmentHeader, (next, link): (Lsn, u32)) -> Result<()> {
    if (header.first, header.link) == (next, link) {
        return Ok(());
    }
    let expected = format!("a segment that begins with record {next} behind link {link:08x}");
    let found = format!("record {} behind link {:08x}", header.first, header.link);
    Err(Damage::new(path(header.first), 0, expected, found).into())
}

/// Visits the records of a segment behind `after` and before `end`; returns the next LSN and link.
fn walk_segment(
    segment: &Segment,
    after: Lsn,
    end: Lsn,
    visit: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<(Lsn, u32)> {
    let mut walker = Walker::new(segment);
    while walker.next < end {
        let Some(found) = walker.peek()? else { return Err(walker.missing()?.into()) };
        let header = &found.0;
        if header.lsn > after {
            let Some((head, payload)) = walker.body(header)? else { return Err(walker.broken(header).into()) };
            visit(Record {
                lsn: header.lsn,
                time: header.time,
                dataset: header.dataset,
                kind: header.kind,
                head,
                payload,
                place: walker.place(header),
            })?;
        }
        walker.advance(&found);
    }
    Ok((walker.next, walker.link))
}
