//! One segment: a file of the journal, its header, and the walk over its records.

use std::sync::Arc;

use bytes::Bytes;

use super::format::{RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, segment_name};
use super::{DIR, Place};
use crate::error::{Damage, Result, io_error};
use crate::id::StoreId;
use crate::media::{Media, MediaFile};
use crate::units::Lsn;

/// How much is read at once while walking over small records.
const WINDOW_BYTES: usize = 256 << 10;

/// A segment with its file open.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn MediaFile>,
    /// Bytes for which room is taken: records end before.
    pub(super) len: u64,
}

impl Segment {
    /// Opens the segment that begins with `first` and checks its header.
    pub(super) fn open(media: &dyn Media, store: StoreId, first: Lsn) -> Result<Segment> {
        let path = path(first);
        let file = media.open(&path).map_err(|error| io_error("open", &path, error))?;
        let len = file.len().map_err(|error| io_error("measure", &path, error))?;
        let bytes = read_upto(file.as_ref(), &path, 0, SEGMENT_HEADER_BYTES as usize)?;
        let header = SegmentHeader::decode(&bytes, &path, store, first)?;
        if len < header.len {
            return Err(Damage::new(path, len, format!("{} bytes in all", header.len), "the end of the file").into());
        }
        Ok(Segment { header, file, len: header.len })
    }

    pub(super) fn path(&self) -> String {
        path(self.header.first)
    }

    /// Reads a payload and verifies it.
    pub(super) fn payload(&self, place: &Place) -> Result<Bytes> {
        let bytes = read_upto(self.file.as_ref(), &self.path(), place.offset, place.len as usize)?;
        let found = crc32c::crc32c(&bytes);
        if bytes.len() != place.len as usize || found != place.crc {
            let expected = format!("{} bytes with checksum {:08x}", place.len, place.crc);
            let found = format!("{} bytes with checksum {found:08x}", bytes.len());
            return Err(Damage::new(self.path(), place.offset, expected, found).into());
        }
        Ok(bytes)
    }
}

/// The path of the segment that begins with `first`.
pub(super) fn path(first: Lsn) -> String {
    format!("{DIR}/{}", segment_name(first))
}

/// Reads `len` bytes, or those there are.
pub(super) fn read_upto(file: &dyn MediaFile, path: &str, offset: u64, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    let got = file.read_at(&mut buffer, offset).map_err(|error| io_error("read", path, error))?;
    buffer.truncate(got);
    Ok(buffer.into())
}

/// Walks over the records of a segment in order and verifies each, by its checksums and as the successor of the one
/// before it.
pub(super) struct Walker<'a> {
    segment: &'a Segment,
    window: Bytes,
    window_at: u64,
    /// Where the next record begins.
    pub(super) at: u64,
    /// Its LSN.
    pub(super) next: Lsn,
    /// Checksum of the header before it.
    pub(super) link: u32,
}

/// The head and payload of a record; `None` where the bytes are not those that were written.
pub(super) type Body = Option<(Bytes, Bytes)>;

impl<'a> Walker<'a> {
    /// A walker in front of the segment's first record.
    pub(super) fn new(segment: &'a Segment) -> Walker<'a> {
        let SegmentHeader { first, link, .. } = segment.header;
        Walker { segment, window: Bytes::new(), window_at: 0, at: SEGMENT_HEADER_BYTES, next: first, link }
    }

    /// The header of the next record, which stays the next one; `None` where what lies here is not it.
    pub(super) fn peek(&mut self) -> Result<Option<(RecordHeader, u32)>> {
        let bytes = self.bytes(self.at, RECORD_HEADER_BYTES as usize)?;
        let sound = |(header, _): &(RecordHeader, u32)| {
            header.salt == self.segment.header.salt
                && header.lsn == self.next
                && header.link == self.link
                && header.stable < header.lsn
                && header.record_bytes() <= self.segment.len.saturating_sub(self.at)
        };
        Ok(RecordHeader::decode(&bytes).filter(sound))
    }

    /// Head and payload of the record whose header was peeked, verified.
    pub(super) fn body(&mut self, header: &RecordHeader) -> Result<Body> {
        let head_at = self.at + RECORD_HEADER_BYTES;
        let head = self.bytes(head_at, header.head_len as usize)?;
        let payload = self.bytes(head_at + u64::from(header.head_len), header.payload_len as usize)?;
        let sound = head.len() == header.head_len as usize
            && payload.len() == header.payload_len as usize
            && crc32c::crc32c(&head) == header.head_crc
            && crc32c::crc32c(&payload) == header.payload_crc;
        Ok(sound.then_some((head, payload)))
    }

    /// Goes behind the record whose header was peeked.
    pub(super) fn advance(&mut self, (header, crc): &(RecordHeader, u32)) {
        self.at += header.record_bytes();
        self.next = Lsn(self.next.0 + 1);
        self.link = *crc;
    }

    /// Where the payload of the record whose header was peeked lies; `None` where it has none.
    pub(super) fn place(&self, header: &RecordHeader) -> Option<Place> {
        (header.payload_len > 0).then(|| Place {
            segment: self.segment.header.first,
            offset: self.at + RECORD_HEADER_BYTES + u64::from(header.head_len),
            len: header.payload_len,
            crc: header.payload_crc,
        })
    }

    /// The damage that the next record is not here.
    pub(super) fn missing(&mut self) -> Result<Damage> {
        let bytes = self.bytes(self.at, RECORD_HEADER_BYTES as usize)?;
        let found = match RecordHeader::decode(&bytes) {
            Some((header, _)) => format!("record {} of link {:08x}", header.lsn, header.link),
            None if bytes.iter().all(|byte| *byte == 0) => "zeros or the end of the file".to_owned(),
            None => "bytes that are no record".to_owned(),
        };
        let expected = format!("record {} behind link {:08x}", self.next, self.link);
        Ok(Damage::new(self.segment.path(), self.at, expected, found))
    }

    /// The damage that the body of the next record is not what was written.
    pub(super) fn broken(&self, header: &RecordHeader) -> Damage {
        let expected = format!(
            "record {} with head checksum {:08x} and payload checksum {:08x}",
            header.lsn, header.head_crc, header.payload_crc
        );
        Damage::new(self.segment.path(), self.at, expected, "other bytes")
    }

    /// Up to `len` bytes, of their own: whoever keeps a small one does not keep a window with it.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        if len > WINDOW_BYTES / 2 {
            return read_upto(self.segment.file.as_ref(), &self.segment.path(), offset, len);
        }
        let inside = |window_at: u64, window: &Bytes| {
            let from = usize::try_from(offset.checked_sub(window_at)?).ok()?;
            window.get(from..from.checked_add(len)?).map(Bytes::copy_from_slice)
        };
        if let Some(bytes) = inside(self.window_at, &self.window) {
            return Ok(bytes);
        }
        self.window = read_upto(self.segment.file.as_ref(), &self.segment.path(), offset, WINDOW_BYTES)?;
        self.window_at = offset;
        Ok(Bytes::copy_from_slice(self.window.get(..len).unwrap_or(&self.window)))
    }
}
