//! The journal's bytes on disk: segment headers and record headers. `docs/formats/journal.md` owns them.
//!
//! Both headers carry a checksum of their own, so every length in them is known to be what was written before it is
//! believed; then it is held against its bound and against the end of the file all the same.

use bytes::Bytes;

use crate::codec::{Malformed, Put, Reader};
use crate::error::{Damage, Refusal, Result};
use crate::id::{DatasetId, StoreId};
use crate::units::{Lsn, Timestamp};

/// Bytes of a segment header; the first record begins behind it.
pub const SEGMENT_HEADER_BYTES: u64 = 512;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: u64 = 72;
/// Records begin at multiples of this.
pub const ALIGNMENT: u64 = 8;
/// Largest head of a record.
pub const HEAD_BYTES_MAX: usize = 1 << 20;
/// Largest payload of a record.
pub const PAYLOAD_BYTES_MAX: usize = 4 << 20;

const MAGIC: &[u8; 8] = b"NBjournl";
const VERSION: u32 = 1;
/// Features that this version knows, of the sets "read only" and "refuse".
const FEATURES_KNOWN: u64 = 0;
/// Where a record header says which segment it belongs to.
pub(super) const SALT_AT: usize = 40;

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store that the journal belongs to.
    pub store: StoreId,
    /// LSN of the segment's first record.
    pub first: Lsn,
    /// Repeated in every record header of the segment, and in those of no other.
    pub salt: u64,
    /// Time of the last record before the segment.
    pub time: Timestamp,
    /// Checksum of the last record header before the segment; 0 where there is none.
    pub link: u32,
    /// Bytes of the segment's file, from its beginning to its end.
    pub len: u64,
}

impl SegmentHeader {
    /// The header of the segment that begins with `first`, behind a record header with checksum `link` and `time`, in a
    /// file of `len` bytes.
    pub fn new(store: StoreId, first: Lsn, time: Timestamp, link: u32, len: u64) -> SegmentHeader {
        let mut hasher = blake3::Hasher::new_derive_key("narrowboat journal segment salt, version 1");
        hasher
            .update(&store.0)
            .update(&first.0.to_le_bytes())
            .update(&time.0.to_le_bytes())
            .update(&link.to_le_bytes());
        let mut salt = [0; 8];
        hasher.finalize_xof().fill(&mut salt);
        SegmentHeader { store, first, salt: u64::from_le_bytes(salt), time, link, len }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u32(SEGMENT_HEADER_BYTES as u32);
        bytes.extend_from_slice(&[0; 24]); // no features
        bytes.extend_from_slice(&self.store.0);
        bytes.put_u64(self.first.0);
        bytes.put_u64(self.salt);
        bytes.put_i64(self.time.0);
        bytes.put_u32(self.link);
        bytes.put_u32(0);
        bytes.put_u64(self.len);
        bytes.resize(SEGMENT_HEADER_BYTES as usize - 4, 0);
        bytes.put_u32(crc32c::crc32c(&bytes));
        bytes
    }

    /// Reads the header of the segment in `file`, which must belong to `store` and begin with `first`.
    pub fn decode(bytes: &Bytes, file: &str, store: StoreId, first: Lsn) -> Result<SegmentHeader> {
        let damage = |offset, expected: &str, found: String| Damage::new(file, offset, expected, found);
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            let found = format!("{:02x?}", bytes.get(..MAGIC.len()).unwrap_or(bytes));
            return Err(damage(0, "a journal segment", found).into());
        }
        let mut reader = Reader::new(bytes, "segment header");
        let short = |error: Malformed| damage(error.at as u64, "a segment header", error.to_string());
        reader.take(MAGIC.len()).map_err(short)?;
        let version = reader.u32().map_err(short)?;
        let len = reader.u32().map_err(short)?;
        check_sum(bytes, file, version)?;
        if version != VERSION || u64::from(len) != SEGMENT_HEADER_BYTES {
            let text = format!("{file} has journal format version {version}; this is version {VERSION}");
            return Err(Refusal::Unsupported(text).into());
        }
        let _may_be_ignored = reader.u64().map_err(short)?;
        let needed = reader.u64().map_err(short)? | reader.u64().map_err(short)?;
        if needed & !FEATURES_KNOWN != 0 {
            let text = format!("{file} needs journal features {needed:#x}, which this version lacks");
            return Err(Refusal::Unsupported(text).into());
        }
        let header = SegmentHeader {
            store: StoreId(reader.array().map_err(short)?),
            first: Lsn(reader.u64().map_err(short)?),
            salt: reader.u64().map_err(short)?,
            time: Timestamp(reader.i64().map_err(short)?),
            link: reader.u32().map_err(short)?,
            len: reader.u32().and_then(|_zero| reader.u64()).map_err(short)?,
        };
        if header.store != store {
            return Err(damage(40, &format!("store {store}"), format!("store {}", header.store)).into());
        }
        if header.first != first {
            return Err(damage(56, &format!("first LSN {first}"), header.first.to_string()).into());
        }
        Ok(header)
    }
}

/// Checks the sum over the whole header. A version that is not ours may have put it elsewhere: then it is not damage.
fn check_sum(bytes: &Bytes, file: &str, version: u32) -> Result<()> {
    let at = SEGMENT_HEADER_BYTES as usize - 4;
    let computed = crc32c::crc32c(bytes.get(..at).unwrap_or_default());
    let stored = bytes.get(at..).and_then(|sum| sum.try_into().ok()).map(u32::from_le_bytes);
    if stored == Some(computed) || version > VERSION {
        return Ok(());
    }
    let found = stored.map_or("nothing".into(), |sum| format!("{sum:08x}"));
    Err(Damage::new(file, at as u64, format!("checksum {computed:08x}"), found).into())
}

/// What a record header says besides its own checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Checksum of the record header before this one.
    pub link: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// Bytes of the head.
    pub head_len: u32,
    /// What the record means; only its writer knows.
    pub kind: u8,
    /// The record's number.
    pub lsn: Lsn,
    /// When.
    pub time: Timestamp,
    /// All records up to this one were known to be safe when this one was made.
    pub stable: Lsn,
    /// The salt of the segment.
    pub salt: u64,
    /// Whose record it is.
    pub dataset: DatasetId,
    /// CRC32C of the head.
    pub head_crc: u32,
    /// CRC32C of the payload.
    pub payload_crc: u32,
}

impl RecordHeader {
    /// The bytes of the header, and its checksum.
    pub fn encode(&self) -> ([u8; RECORD_HEADER_BYTES as usize], u32) {
        assert!(self.head_len as usize <= HEAD_BYTES_MAX && self.payload_len as usize <= PAYLOAD_BYTES_MAX);
        let mut bytes = Vec::with_capacity(RECORD_HEADER_BYTES as usize);
        bytes.put_u32(0);
        bytes.put_u32(self.link);
        bytes.put_u32(self.payload_len);
        bytes.put_u32(self.head_len << 8 | u32::from(self.kind));
        bytes.put_u64(self.lsn.0);
        bytes.put_i64(self.time.0);
        bytes.put_u64(self.stable.0);
        bytes.put_u64(self.salt);
        bytes.extend_from_slice(&self.dataset.0);
        bytes.put_u32(self.head_crc);
        bytes.put_u32(self.payload_crc);
        let mut whole = [0; RECORD_HEADER_BYTES as usize];
        whole.copy_from_slice(&bytes);
        let crc = crc32c::crc32c(&whole[4..]);
        whole[..4].copy_from_slice(&crc.to_le_bytes());
        (whole, crc)
    }

    /// Reads a header and its checksum; `None` where the bytes are not a whole and sound header.
    pub fn decode(bytes: &[u8]) -> Option<(RecordHeader, u32)> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES as usize)?;
        let crc = u32::from_le_bytes(bytes.first_chunk().copied()?);
        if crc32c::crc32c(bytes.get(4..)?) != crc {
            return None;
        }
        let shared = Bytes::copy_from_slice(bytes);
        let header = RecordHeader::fields(&shared).ok()?;
        let bounded = header.head_len as usize <= HEAD_BYTES_MAX && header.payload_len as usize <= PAYLOAD_BYTES_MAX;
        bounded.then_some((header, crc))
    }

    fn fields(bytes: &Bytes) -> Result<RecordHeader, Malformed> {
        let mut reader = Reader::new(bytes, "record header");
        reader.u32()?;
        let link = reader.u32()?;
        let payload_len = reader.u32()?;
        let head_len_and_kind = reader.u32()?;
        Ok(RecordHeader {
            link,
            payload_len,
            head_len: head_len_and_kind >> 8,
            kind: head_len_and_kind as u8,
            lsn: Lsn(reader.u64()?),
            time: Timestamp(reader.i64()?),
            stable: Lsn(reader.u64()?),
            salt: reader.u64()?,
            dataset: DatasetId(reader.array()?),
            head_crc: reader.u32()?,
            payload_crc: reader.u32()?,
        })
    }

    /// Bytes of the whole record, with the zeros behind it up to the next one.
    pub fn record_bytes(&self) -> u64 {
        record_bytes(self.head_len as usize, self.payload_len as usize)
    }
}

/// Bytes that a record with such a head and payload takes in a segment.
pub fn record_bytes(head_len: usize, payload_len: usize) -> u64 {
    (RECORD_HEADER_BYTES + head_len as u64 + payload_len as u64).next_multiple_of(ALIGNMENT)
}

/// The name of the segment that begins with `first`.
pub fn segment_name(first: Lsn) -> String {
    format!("{:016x}.journal", first.0)
}

/// The first LSN of the segment with this name; `None` where it is not a segment's name.
pub fn parse_segment_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".journal")?;
    let first = Lsn(u64::from_str_radix(digits, 16).ok()?);
    (segment_name(first) == name).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/formats/journal.md");

    /// The bytes of the page's example: lines of an offset, a colon and hexadecimal bytes, `*` for zeros up to the next.
    fn example() -> Bytes {
        let (_, text) = PAGE.split_once("```hex\n").unwrap();
        let (text, _) = text.split_once("```").unwrap();
        let mut bytes = Vec::new();
        for line in text.lines().filter(|line| *line != "*") {
            let (offset, rest) = line.split_once(':').unwrap();
            let offset = usize::from_str_radix(offset, 16).unwrap();
            assert!(offset >= bytes.len());
            bytes.resize(offset, 0);
            bytes.extend(rest.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
        bytes.into()
    }

    fn example_parts() -> (SegmentHeader, RecordHeader, RecordHeader) {
        let store = StoreId(*b"store-0123456789");
        let segment = SegmentHeader::new(store, Lsn(1), Timestamp(0), 0, 64 << 20);
        let first = RecordHeader {
            link: 0,
            payload_len: 5,
            head_len: 4,
            kind: 1,
            lsn: Lsn(1),
            time: Timestamp::new(1_700_000_000, 5),
            stable: Lsn(0),
            salt: segment.salt,
            dataset: DatasetId(*b"dataset-01234567"),
            head_crc: crc32c::crc32c(b"head"),
            payload_crc: crc32c::crc32c(b"hello"),
        };
        let second = RecordHeader {
            link: first.encode().1,
            payload_len: 0,
            kind: 2,
            lsn: Lsn(2),
            stable: Lsn(1),
            payload_crc: 0,
            ..first
        };
        (segment, first, second)
    }

    #[test]
    fn the_example_in_the_page_is_what_is_read_and_written() {
        let (segment, first, second) = example_parts();
        let mut written = segment.encode();
        written.extend_from_slice(&first.encode().0);
        written.extend_from_slice(b"headhello");
        written.resize(512 + first.record_bytes() as usize, 0);
        written.extend_from_slice(&second.encode().0);
        written.extend_from_slice(b"head");
        written.resize(written.len().next_multiple_of(8), 0);
        let page = example();
        assert_eq!(hex(&page), hex(&written), "the page should show:\n{}", hex(&written));

        let read = SegmentHeader::decode(&page.slice(..512), "file", segment.store, Lsn(1)).unwrap();
        assert_eq!(read, segment);
        assert_eq!(RecordHeader::decode(&page[512..]).unwrap().0, first);
        assert_eq!(RecordHeader::decode(&page[512 + 88..]).unwrap().0, second);
    }

    fn hex(bytes: &[u8]) -> String {
        let lines = bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0));
        let digits = |line: &[u8]| line.iter().map(|byte| format!(" {byte:02x}")).collect::<String>();
        lines.map(|(at, line)| format!("{:04x}:{}\n", at * 16, digits(line))).collect()
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let (segment, first, _) = example_parts();
        let sound = segment.encode();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes.into(), "file", segment.store, Lsn(1)).is_err(), "bit {bit}");
        }
        let (sound, _) = first.encode();
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bytes), None, "bit {bit}");
        }
        for len in 0..sound.len() {
            assert_eq!(RecordHeader::decode(&sound[..len]), None);
            let short = Bytes::from(segment.encode()).slice(..len);
            assert!(SegmentHeader::decode(&short, "file", segment.store, Lsn(1)).is_err());
        }
    }

    #[test]
    fn another_store_another_place_or_a_newer_version_is_not_taken() {
        let (segment, ..) = example_parts();
        let bytes = Bytes::from(segment.encode());
        assert!(SegmentHeader::decode(&bytes, "file", StoreId([0; 16]), Lsn(1)).is_err());
        assert!(SegmentHeader::decode(&bytes, "file", segment.store, Lsn(2)).is_err());
        for (at, what) in [(8, "version"), (24, "read only"), (32, "refuse")] {
            let mut newer = bytes.to_vec();
            newer[at] += 2;
            let sum = crc32c::crc32c(&newer[..508]);
            newer[508..].copy_from_slice(&sum.to_le_bytes());
            let error = SegmentHeader::decode(&newer.into(), "file", segment.store, Lsn(1)).unwrap_err();
            assert!(matches!(error, crate::Error::Refused(Refusal::Unsupported(_))), "{what}: {error}");
        }
        let mut ignorable = bytes.to_vec();
        ignorable[16] = 1;
        let sum = crc32c::crc32c(&ignorable[..508]);
        ignorable[508..].copy_from_slice(&sum.to_le_bytes());
        assert!(SegmentHeader::decode(&ignorable.into(), "file", segment.store, Lsn(1)).is_ok());
    }

    #[test]
    fn segment_names_are_read_back() {
        assert_eq!(parse_segment_name(&segment_name(Lsn(0xABC))), Some(Lsn(0xABC)));
        for wrong in ["", "1.journal", "000000000000000G.journal", "0000000000000ABC.journal", "0000000000000001.spare"]
        {
            assert_eq!(parse_segment_name(wrong), None, "{wrong}");
        }
    }
}
