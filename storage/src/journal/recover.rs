//! What opening finds: the segments, the end of the journal, and whether something is wrong with it.
//!
//! A segment has a name only when everything in it so far, and everything before it, was synced. So only the newest one
//! can have a tail that a crash left unfinished, and anything wrong elsewhere is damage.
//!
//! Behind the last whole record of the newest segment may lie parts of a batch whose sync never ended: a torn tail, cut
//! off without loss, for nobody was told that it is safe. Or a record that was safe is broken: damage, which must not
//! be cut off. What tells them apart is in the records behind: each says up to where the journal was known to be safe
//! when it was made. If one of them, or the caller ([`super::JournalOptions::known_stable`]), vouches for the record
//! that is missing, it is damage; else the tail is torn. What nothing vouches for, the very last batch, cannot be told
//! apart and is taken for torn. So is a record that nothing vouches for and that refers to what is not there: records that
//! only had to outlive the process may come to the disk before what they refer to.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use bytes::Bytes;

use super::format::{ALIGNMENT, RECORD_HEADER_BYTES, RecordHeader, SALT_AT, parse_segment_name};
use super::segment::{Segment, Walker, read_upto};
use super::{DIR, JournalOptions, KIND_OWN, SPARE_SUFFIX, Witness};
use crate::error::{Damage, Result, io_error};
use crate::id::StoreId;
use crate::media::Media;
use crate::units::{Lsn, Timestamp};

/// What opening a journal found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// There was no journal, and now there is an empty one. Right for a new store; for any other the journal was lost.
    pub created: bool,
    /// LSN of the oldest record that is kept, or of the next one where none is.
    pub first: Lsn,
    /// LSN of the last record.
    pub last: Lsn,
    /// Segments that are kept.
    pub segments: usize,
    /// What was cut off behind the last whole record.
    pub torn: Option<TornTail>,
}

/// The unfinished end of a journal, cut off while opening: nothing in it had been acknowledged as stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Path of the segment within the data folder.
    pub file: String,
    /// Where it was cut.
    pub offset: u64,
    /// Bytes from there to the last one that was not zero.
    pub bytes: u64,
}

/// The journal as it lies on the disk, ready to be continued.
pub(super) struct Found {
    /// First LSN and length in bytes of every segment.
    pub(super) segments: BTreeMap<Lsn, u64>,
    pub(super) open: Segment,
    /// Where the next record goes in the newest segment.
    pub(super) end: u64,
    pub(super) next: Lsn,
    pub(super) link: u32,
    pub(super) time: Timestamp,
    /// LSNs and offsets of some records of the newest segment, in order.
    pub(super) samples: Vec<(Lsn, u64)>,
    /// Nothing vouches for the last records.
    pub(super) unproven: bool,
    pub(super) torn: Option<TornTail>,
}

/// Looks at the journal in `media`; `None` where there is none. On return everything found is safe, and what a crash
/// left behind is gone.
pub(super) fn recover(
    media: &dyn Media,
    store: StoreId,
    options: &JournalOptions,
    witness: Witness<'_>,
) -> Result<Option<Found>> {
    let names = media.list(DIR).map_err(|error| io_error("list", DIR, error))?;
    for spare in names.iter().filter(|name| name.ends_with(SPARE_SUFFIX)) {
        let path = format!("{DIR}/{spare}");
        media.remove(&path).map_err(|error| io_error("remove", &path, error))?;
    }
    let mut firsts: Vec<Lsn> = names.iter().filter_map(|name| parse_segment_name(name)).collect();
    firsts.sort_unstable();
    let Some(newest) = firsts.pop() else { return Ok(None) };
    let mut segments = BTreeMap::new();
    for first in firsts {
        segments.insert(first, Segment::open(media, store, first)?.len);
    }
    let open = Segment::open(media, store, newest)?;
    segments.insert(newest, open.len);
    let mut end = End::find(&open, NEVER)?;
    if let Some(lacking) = end.first_lacking(options.known_stable, witness)? {
        end = End::find(&open, lacking)?;
    }
    let torn = end.settle(&open, options.known_stable)?;
    // A process may have been killed, or a sync may have failed, between a rename and this.
    media.sync_dir(DIR).map_err(|error| io_error("sync", DIR, error))?;
    let unproven = end.unproven_at() < end.at && !end.ends_with_voucher;
    let End { at, next, link, time, samples, .. } = end;
    Ok(Some(Found { segments, open, end: at, next, link, time, samples, unproven, torn }))
}

/// The end of the newest segment: behind its last whole record.
struct End {
    at: u64,
    next: Lsn,
    link: u32,
    time: Timestamp,
    samples: Vec<(Lsn, u64)>,
    /// Records that no later one vouches for, in order.
    unproven: VecDeque<Unproven>,
    /// The last record is a voucher, which vouches for all others.
    ends_with_voucher: bool,
    /// From where on another record could lie: behind a record whose header is sound and whose body is not.
    behind: u64,
    damage: Damage,
}

/// A record that may be part of a batch whose sync never ended.
struct Unproven {
    lsn: Lsn,
    at: u64,
    kind: u8,
    head: Bytes,
}

/// No record has this number.
const NEVER: Lsn = Lsn(u64::MAX);

impl End {
    /// Walks to the end of the segment, or as if the record `until` were not whole.
    fn find(segment: &Segment, until: Lsn) -> Result<End> {
        let mut walker = Walker::new(segment);
        let mut time = segment.header.time;
        let mut samples: Vec<(Lsn, u64)> = Vec::new();
        let mut unproven = VecDeque::new();
        let mut ends_with_voucher = false;
        let (behind, damage) = loop {
            let Some(found) = walker.peek()? else { break (walker.at, walker.missing()?) };
            let header = &found.0;
            let body = if header.lsn < until { walker.body(header)? } else { None };
            let Some((head, _)) = body else {
                break (walker.at + header.record_bytes(), walker.broken(header));
            };
            if samples.last().is_none_or(|(_, at)| walker.at - at >= super::SAMPLE_BYTES) {
                samples.push((header.lsn, walker.at));
            }
            unproven.push_back(Unproven { lsn: header.lsn, at: walker.at, kind: header.kind, head });
            while unproven.front().is_some_and(|record| record.lsn <= header.stable) {
                unproven.pop_front();
            }
            ends_with_voucher = header.kind == KIND_OWN && header.head_len == 0 && header.stable.0 + 1 == header.lsn.0;
            time = header.time;
            walker.advance(&found);
        };
        let (at, next, link) = (walker.at, walker.next, walker.link);
        Ok(End { at, next, link, time, samples, unproven, ends_with_voucher, behind, damage })
    }

    /// Where the first record begins that no later one vouches for.
    fn unproven_at(&self) -> u64 {
        self.unproven.front().map_or(self.at, |record| record.at)
    }

    /// The first record that nothing proves to have been safe, and that refers to something that is not there.
    fn first_lacking(&self, known_stable: Lsn, witness: Witness<'_>) -> Result<Option<Lsn>> {
        for record in self.unproven.iter().filter(|record| record.lsn > known_stable && record.kind != KIND_OWN) {
            if !witness(record.kind, &record.head)? {
                return Ok(Some(record.lsn));
            }
        }
        Ok(None)
    }

    /// Makes the end what it seems to be: refuses damage, cuts a torn tail, and makes all before it safe.
    fn settle(&self, segment: &Segment, known_stable: Lsn) -> Result<Option<TornTail>> {
        if self.next <= known_stable {
            return Err(self.damage.clone().into());
        }
        let tail = Tail::scan(segment, self.at, self.behind, self.next)?;
        if tail.vouched_for {
            return Err(self.damage.clone().into());
        }
        // Written once more, not only synced: after a sync that failed the kernel may show bytes that are not on the disk
        // and think them clean.
        self.rewrite(segment, self.unproven_at(), self.at)?;
        if tail.end > self.at {
            zero(segment, self.at, tail.end)?;
        }
        segment.file.sync().map_err(|error| io_error("sync", &segment.path(), error))?;
        let torn = TornTail { file: segment.path(), offset: self.at, bytes: tail.end.saturating_sub(self.at) };
        Ok((torn.bytes > 0).then_some(torn))
    }

    fn rewrite(&self, segment: &Segment, mut from: u64, to: u64) -> Result<()> {
        let path = segment.path();
        while from < to {
            let part = read_upto(segment.file.as_ref(), &path, from, (to - from).min(SCAN_BYTES as u64) as usize)?;
            if part.is_empty() {
                break;
            }
            let write = segment.file.write_at(&[IoSlice::new(&part)], from);
            write.map_err(|error| io_error("write", &path, error))?;
            from += part.len() as u64;
        }
        Ok(())
    }
}

const SCAN_BYTES: usize = 1 << 20;

fn zero(segment: &Segment, mut from: u64, to: u64) -> Result<()> {
    let zeros = vec![0; SCAN_BYTES];
    while from < to {
        let part = zeros.get(..(to - from).min(SCAN_BYTES as u64) as usize).unwrap_or(&zeros);
        let write = segment.file.write_at(&[IoSlice::new(part)], from);
        write.map_err(|error| io_error("write", &segment.path(), error))?;
        from += part.len() as u64;
    }
    Ok(())
}

/// What lies behind the last whole record.
struct Tail {
    /// Behind the last byte that is not zero.
    end: u64,
    /// A sound record there says that the missing one was safe.
    vouched_for: bool,
}

impl Tail {
    /// Looks from `from` to the end of the segment; for records, from `behind` on. `missing` is the record that should
    /// have been at `from`.
    ///
    /// Payloads are looked through, too, and a client chooses what is in them. What looks like a record header must
    /// therefore carry the segment's salt, which no client is told.
    fn scan(segment: &Segment, from: u64, behind: u64, missing: Lsn) -> Result<Tail> {
        let mut tail = Tail { end: from, vouched_for: false };
        let path = segment.path();
        let mut at = from;
        loop {
            let part = read_upto(segment.file.as_ref(), &path, at, SCAN_BYTES)?;
            if let Some(last) = part.iter().rposition(|byte| *byte != 0) {
                tail.end = tail.end.max(at + last as u64 + 1);
                tail.vouched_for |= vouched_for(&part, at, behind, segment.header.salt, missing);
            }
            if part.len() < SCAN_BYTES || tail.vouched_for {
                return Ok(tail);
            }
            // A header that the parts share is looked at whole in the next one.
            at += (SCAN_BYTES as u64 - RECORD_HEADER_BYTES).next_multiple_of(ALIGNMENT);
        }
    }
}

/// True where one of the headers in `part`, which lies at `at`, says that `missing` was safe.
fn vouched_for(part: &[u8], at: u64, behind: u64, salt: u64, missing: Lsn) -> bool {
    let start = behind.max(at).next_multiple_of(ALIGNMENT);
    let salt = salt.to_le_bytes();
    let mut offset = usize::try_from(start - at).unwrap_or(usize::MAX);
    while let Some(rest) = part.get(offset..).filter(|rest| rest.len() >= RECORD_HEADER_BYTES as usize) {
        if rest.get(SALT_AT..SALT_AT + 8) == Some(&salt)
            && RecordHeader::decode(rest).is_some_and(|(header, _)| header.lsn > missing && header.stable >= missing)
        {
            return true;
        }
        offset += ALIGNMENT as usize;
    }
    false
}
