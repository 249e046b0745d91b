//! What was appended and is not safe yet. A plain value: it decides where every record goes and never touches the disk.
//!
//! Records are laid into *runs*: bytes that follow one another in one segment and are written in one go. Small pieces are
//! copied together, large ones are handed on as they are. A record gets a place only in room that was taken on the disk
//! before, so that a commit never finds the disk full half-way.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Place;
use super::format::{RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, record_bytes};
use super::segment::Segment;
use crate::id::{DatasetId, StoreId};
use crate::media::MediaFile;
use crate::units::{Lsn, Timestamp};

/// Pieces up to this many bytes are copied: cheaper than one more part of a vectored write, and a small slice does not
/// keep a large network buffer alive.
const COPY_BYTES_MAX: usize = 1024;

/// A record on its way into the journal, with everything computed that does not depend on its place.
pub(super) struct Draft {
    pub(super) dataset: DatasetId,
    pub(super) kind: u8,
    pub(super) head: Bytes,
    pub(super) payload: Vec<Bytes>,
    pub(super) payload_len: usize,
    head_crc: u32,
    payload_crc: u32,
}

impl Draft {
    /// Computes the checksums, which is the work of an append: done before any lock is taken.
    pub(super) fn new(dataset: DatasetId, kind: u8, head: Bytes, mut payload: Vec<Bytes>) -> Draft {
        payload.retain(|piece| !piece.is_empty());
        let payload_len = payload.iter().map(Bytes::len).sum();
        let head_crc = crc32c::crc32c(&head);
        let payload_crc = payload.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
        Draft { dataset, kind, head, payload, payload_len, head_crc, payload_crc }
    }

    /// Bytes it will take in the journal.
    pub(super) fn bytes(&self) -> u64 {
        record_bytes(self.head.len(), self.payload_len)
    }
}

/// Bytes that follow one another in one segment.
pub(super) struct Run {
    pub(super) segment: Arc<Segment>,
    /// The spare file's path that the segment still has: this run is its first and begins with its header.
    pub(super) begins: Option<String>,
    pub(super) offset: u64,
    /// LSN behind the run's last record.
    pub(super) next: Lsn,
    parts: Vec<Bytes>,
    copied: Vec<u8>,
    pub(super) bytes: u64,
}

impl Run {
    fn new(segment: Arc<Segment>, offset: u64, next: Lsn) -> Run {
        Run { segment, begins: None, offset, next, parts: Vec::new(), copied: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, piece: &Bytes) {
        self.bytes += piece.len() as u64;
        if piece.len() <= COPY_BYTES_MAX {
            self.copied.extend_from_slice(piece);
            return;
        }
        self.settle();
        self.parts.push(piece.clone());
    }

    fn push_copy(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.copied.extend_from_slice(bytes);
    }

    fn settle(&mut self) {
        if !self.copied.is_empty() {
            self.parts.push(std::mem::take(&mut self.copied).into());
        }
    }

    /// The run's bytes, in parts.
    pub(super) fn parts(&mut self) -> &[Bytes] {
        self.settle();
        &self.parts
    }
}

/// How far the journal has come in some respect.
#[derive(Clone)]
pub(super) struct Reached {
    /// The last record that is so far.
    pub(super) last: Lsn,
    /// Its segment.
    pub(super) segment: Arc<Segment>,
    /// Where it ends there.
    pub(super) end: u64,
    /// Bytes of all records up to it that were laid since the journal was opened.
    pub(super) bytes: u64,
}

impl Reached {
    /// Behind one run more.
    pub(super) fn with(&self, run: &Run) -> Reached {
        Reached {
            last: Lsn(run.next.0 - 1),
            segment: Arc::clone(&run.segment),
            end: run.offset + run.bytes,
            bytes: self.bytes + run.record_bytes(),
        }
    }
}

/// A file with room for a segment, waiting to become one.
pub(super) struct Spare {
    pub(super) path: String,
    pub(super) file: Arc<dyn MediaFile>,
    pub(super) len: u64,
}

/// The growing end of the journal.
pub(super) struct Buffer {
    pub(super) store: StoreId,
    /// The next record's LSN.
    pub(super) next: Lsn,
    /// The last record's time.
    pub(super) time: Timestamp,
    /// Checksum of the last record's header.
    pub(super) link: u32,
    /// Where records go.
    pub(super) open: Arc<Segment>,
    /// Where in it the next one goes.
    pub(super) end: u64,
    pub(super) spare: Option<Spare>,
    /// Not yet handed to a commit.
    pub(super) runs: Vec<Run>,
    /// Bytes of all records that were laid since the journal was opened.
    pub(super) laid_bytes: u64,
    /// Bytes of those of them that are safe.
    safe_bytes: u64,
    /// Payloads of records not yet safe, by segment and offset, so that they can be read.
    payloads: BTreeMap<(Lsn, u64), Vec<Bytes>>,
}

impl Buffer {
    /// The buffer behind the record that ends at `end` of `open`.
    pub(super) fn new(store: StoreId, open: Segment, end: u64, next: Lsn, time: Timestamp, link: u32) -> Buffer {
        Buffer {
            store,
            next,
            time,
            link,
            open: Arc::new(open),
            end,
            spare: None,
            runs: Vec::new(),
            laid_bytes: 0,
            safe_bytes: 0,
            payloads: BTreeMap::new(),
        }
    }

    /// True where the open segment has room for this many bytes more.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        bytes <= self.open.len.saturating_sub(self.end)
    }

    /// Ends the open segment; what follows goes into the spare. False where there is none.
    pub(super) fn roll(&mut self) -> bool {
        let Some(spare) = self.spare.take() else { return false };
        let header = SegmentHeader::new(self.store, self.next, self.time, self.link, spare.len);
        self.open = Arc::new(Segment { header, file: spare.file, len: spare.len });
        self.end = SEGMENT_HEADER_BYTES;
        let mut run = Run::new(Arc::clone(&self.open), 0, self.next);
        run.begins = Some(spare.path);
        run.push_copy(&header.encode());
        self.runs.push(run);
        true
    }

    /// Lays a record behind the others; the open segment must have room for it. The time must not run backwards.
    pub(super) fn push(&mut self, draft: &Draft, time: Timestamp, stable: Lsn) -> (Lsn, Option<Place>) {
        let bytes = draft.bytes();
        assert!(self.has_room(bytes) && time >= self.time);
        let lsn = self.next;
        let header = RecordHeader {
            link: self.link,
            payload_len: draft.payload_len as u32,
            head_len: draft.head.len() as u32,
            kind: draft.kind,
            lsn,
            time,
            stable,
            salt: self.open.header.salt,
            dataset: draft.dataset,
            head_crc: draft.head_crc,
            payload_crc: draft.payload_crc,
        };
        let (encoded, crc) = header.encode();
        let place = (draft.payload_len > 0).then(|| Place {
            segment: self.open.header.first,
            offset: self.end + RECORD_HEADER_BYTES + draft.head.len() as u64,
            len: draft.payload_len as u32,
            crc: draft.payload_crc,
        });
        self.lay(draft, &encoded, bytes);
        if let Some(place) = &place {
            self.payloads.insert((place.segment, place.offset), kept(&draft.payload));
        }
        self.end += bytes;
        self.laid_bytes += bytes;
        self.next = Lsn(lsn.0 + 1);
        self.link = crc;
        self.time = time;
        (lsn, place)
    }

    fn lay(&mut self, draft: &Draft, header: &[u8], bytes: u64) {
        let next = Lsn(self.next.0 + 1);
        if self.runs.last().is_none_or(|run| !Arc::ptr_eq(&run.segment, &self.open)) {
            self.runs.push(Run::new(Arc::clone(&self.open), self.end, next));
        }
        let Some(run) = self.runs.last_mut() else { return };
        run.next = next;
        run.push_copy(header);
        run.push(&draft.head);
        draft.payload.iter().for_each(|piece| run.push(piece));
        let laid = header.len() + draft.head.len() + draft.payload_len;
        run.push_copy(&[0; 8][..bytes as usize - laid]);
    }

    /// The payload that lies at `place`, where it is not safe yet.
    pub(super) fn payload(&self, place: &Place) -> Option<Vec<Bytes>> {
        self.payloads.get(&(place.segment, place.offset)).cloned()
    }

    /// Bytes of records not yet safe: those in `runs`, those that are being written, and those that no sync has covered.
    pub(super) fn unsafe_bytes(&self) -> u64 {
        self.laid_bytes - self.safe_bytes
    }

    /// True where what is buffered begins a segment.
    pub(super) fn rolls(&self) -> bool {
        self.runs.iter().any(|run| run.begins.is_some())
    }

    /// Forgets what is safe now.
    pub(super) fn is_safe(&mut self, reached: &Reached) {
        self.payloads = self.payloads.split_off(&(reached.segment.header.first, reached.end));
        self.safe_bytes = self.safe_bytes.max(reached.bytes);
    }

    /// Takes back what a commit could not begin to write.
    pub(super) fn put_back(&mut self, mut runs: Vec<Run>) {
        runs.append(&mut self.runs);
        self.runs = runs;
    }
}

impl Run {
    fn record_bytes(&self) -> u64 {
        self.bytes - if self.begins.is_some() { SEGMENT_HEADER_BYTES } else { 0 }
    }
}

/// Pieces of a payload as they are kept for reading: small ones as copies, so that they keep nothing else alive.
fn kept(payload: &[Bytes]) -> Vec<Bytes> {
    let keep = |piece: &Bytes| match piece.len() {
        ..=COPY_BYTES_MAX => Bytes::copy_from_slice(piece),
        _ => piece.clone(),
    };
    payload.iter().map(keep).collect()
}
