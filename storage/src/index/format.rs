//! The bytes of the index's values and of the saved filter, as `docs/formats/index.md` has them.

use bytes::Bytes;

use crate::codec::{Malformed, Put, Reader};
use crate::container::Class;
use crate::container::format::OBJECT_BYTES_MAX;
use crate::id::{ContainerId, StoreId};
use crate::index::{Location, Record};
use crate::name::{Kind, Name};

/// Length of a value in the table of names.
pub const LOCATION_BYTES: usize = 16;
/// Length of a value in the table of containers.
pub const RECORD_BYTES: usize = 32;
/// Container ids stay below this: 2^40 containers of 16 MiB are 16 EiB.
pub const CONTAINER_ID_MAX: u64 = 1 << 40;

/// Length of a page of a sorted file.
pub const PAGE_BYTES: usize = 4096;
/// Length of a row: a name and its value.
pub const ROW_BYTES: usize = 32 + LOCATION_BYTES;
/// How many rows a page has; only the last one of a file has fewer.
pub const PAGE_ROWS: usize = (PAGE_BYTES - PAGE_HEADER_BYTES) / ROW_BYTES;
/// Length of a sorted file's footer.
pub const FOOTER_BYTES: usize = 64;
/// Length of a value in the table of sorted files.
pub const SORTED_BYTES: usize = 16;

const PAGE_HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"narrowIX";
const SORTED_MAGIC: &[u8; 8] = b"narrowIS";
const FILTER_MAGIC: &[u8; 8] = b"narrowIF";
const VERSION: u16 = 1;
const SORTED_VERSION: u16 = 1;
/// Of the header's third feature set: some names are in sorted files, and what is gone is noted.
const SORTED_FILES: u64 = 1;
/// Of the saved filter. 1 took its bits from other bytes of the names.
const FILTER_VERSION: u16 = 2;

/// What the index says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It lies there.
    At(Location),
    /// It is gone, whatever older sorted files say.
    Gone,
}

impl Entry {
    /// The place, where there is one.
    pub fn place(self) -> Option<Location> {
        match self {
            Entry::At(place) => Some(place),
            Entry::Gone => None,
        }
    }
}

/// Encodes that `name` is gone.
pub fn encode_gone(name: &Name) -> [u8; LOCATION_BYTES] {
    let mut bytes = [0; LOCATION_BYTES];
    let sum = checksum(name, &bytes);
    bytes[13..16].copy_from_slice(&sum);
    bytes
}

/// Decodes what the index says of `name`; `None` where the entry rotted.
pub fn decode_entry(name: &Name, bytes: &[u8; LOCATION_BYTES]) -> Option<Entry> {
    match *bytes == encode_gone(name) {
        true => Some(Entry::Gone),
        false => decode_location(name, bytes).map(Entry::At),
    }
}

/// Encodes where the object `name` lies.
pub fn encode_location(name: &Name, location: &Location) -> [u8; LOCATION_BYTES] {
    let mut bytes = [0; LOCATION_BYTES];
    bytes[0..5].copy_from_slice(&location.container.0.to_le_bytes()[..5]);
    bytes[5..9].copy_from_slice(&location.offset.to_le_bytes());
    let kind_and_len = (location.kind as u32) << 30 | location.stored_len;
    bytes[9..13].copy_from_slice(&kind_and_len.to_le_bytes());
    let sum = checksum(name, &bytes);
    bytes[13..16].copy_from_slice(&sum);
    bytes
}

/// Decodes where the object `name` lies; `None` where the entry rotted.
pub fn decode_location(name: &Name, bytes: &[u8; LOCATION_BYTES]) -> Option<Location> {
    if bytes[13..16] != checksum(name, bytes) {
        return None;
    }
    let mut id = [0; 8];
    id[..5].copy_from_slice(&bytes[..5]);
    let kind_and_len = u32::from_le_bytes([bytes[9], bytes[10], bytes[11], bytes[12]]);
    let location = Location {
        container: ContainerId(u64::from_le_bytes(id)),
        offset: u32::from_le_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]),
        stored_len: kind_and_len & 0x3FFF_FFFF,
        kind: Kind::from_u8((kind_and_len >> 30) as u8)?,
    };
    (location.stored_len as usize <= OBJECT_BYTES_MAX).then_some(location)
}

fn checksum(name: &Name, value: &[u8; LOCATION_BYTES]) -> [u8; 3] {
    let sum = crc32c::crc32c_append(crc32c::crc32c(&name.0), &value[..13]).to_le_bytes();
    [sum[0], sum[1], sum[2]]
}

/// Encodes what is known about an indexed container.
pub fn encode_record(record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[0] = record.class as u8;
    bytes[1] = u8::from(record.complete);
    bytes[2] = u8::from(record.dense);
    bytes[4..8].copy_from_slice(&record.slots.to_le_bytes());
    bytes[8..16].copy_from_slice(&record.raw_bytes.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.stored_bytes.to_le_bytes());
    bytes[24..32].copy_from_slice(&record.file_bytes.to_le_bytes());
    bytes
}

/// Decodes what is known about an indexed container.
pub fn decode_record(bytes: &[u8; RECORD_BYTES]) -> Option<Record> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut reader = Reader::new(&bytes, "container record");
    let mut fields = || -> Result<_, Malformed> {
        let (class, complete, dense, _) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        Ok((class, complete, dense, reader.u32()?, reader.u64()?, reader.u64()?, reader.u64()?))
    };
    let (class, complete, dense, slots, raw_bytes, stored_bytes, file_bytes) = fields().ok()?;
    let (class, complete, dense) = (Class::from_u8(class)?, complete == 1, dense == 1);
    Some(Record { class, complete, dense, slots, raw_bytes, stored_bytes, file_bytes })
}

/// Encodes whose index this is, and whether it has sorted files.
pub fn encode_header(store: StoreId, realm: &[u8; 16], sorted_files: bool) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u16(VERSION);
    bytes.extend_from_slice(&[0; 6 + 16]);
    bytes.put_u64(if sorted_files { SORTED_FILES } else { 0 });
    bytes.extend_from_slice(&store.0);
    bytes.extend_from_slice(realm);
    bytes
}

/// True where the index is of this store and realm and of a format that this version may write. Features of the first
/// set do not matter.
pub fn header_fits(header: &[u8], store: StoreId, realm: &[u8; 16]) -> bool {
    let fits = |ours: Vec<u8>| header.len() == ours.len() && header[..10] == ours[..10] && header[24..] == ours[24..];
    [false, true].into_iter().any(|sorted_files| fits(encode_header(store, realm, sorted_files)))
}

/// Encodes what is known about the sorted file `id`: its part and how many rows it has.
pub fn encode_sorted(id: u64, part: u8, rows: u64) -> [u8; SORTED_BYTES] {
    let mut bytes = [0; SORTED_BYTES];
    bytes[0] = part;
    bytes[8..].copy_from_slice(&rows.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), &bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Decodes part and rows of the sorted file `id`; `None` where they rotted.
pub fn decode_sorted(id: u64, bytes: &[u8; SORTED_BYTES]) -> Option<(u8, u64)> {
    let mut rows = [0; 8];
    rows.copy_from_slice(&bytes[8..]);
    let (part, rows) = (bytes[0], u64::from_le_bytes(rows));
    (*bytes == encode_sorted(id, part, rows)).then_some((part, rows))
}

/// How many pages so many rows fill.
pub fn page_count(rows: u64) -> usize {
    rows.div_ceil(PAGE_ROWS as u64) as usize
}

/// Appends a page of at most [`PAGE_ROWS`] rows: the `number`th of the sorted file `id`.
pub fn encode_page(rows: &[(Name, [u8; LOCATION_BYTES])], id: u64, number: usize, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.put_u32(0);
    bytes.put_u32(rows.len() as u32);
    bytes.put_u32(number as u32);
    bytes.put_u32(id as u32);
    for (name, value) in rows {
        bytes.extend_from_slice(&name.0);
        bytes.extend_from_slice(value);
    }
    bytes.resize(start + PAGE_BYTES, 0);
    let sum = crc32c::crc32c(&bytes[start + 4..]).to_le_bytes();
    bytes[start..start + 4].copy_from_slice(&sum);
}

/// The rows of a page; `None` where it is not the `number`th of the sorted file `id`, or its checksum is wrong.
pub fn decode_page(page: &[u8], id: u64, number: usize) -> Option<&[[u8; ROW_BYTES]]> {
    let (header, rows) = page.split_first_chunk::<PAGE_HEADER_BYTES>()?;
    let field = |nth: usize| {
        u32::from_le_bytes([header[4 * nth], header[4 * nth + 1], header[4 * nth + 2], header[4 * nth + 3]])
    };
    let sound = page.len() == PAGE_BYTES && field(0) == crc32c::crc32c(&page[4..]);
    let rows = rows.as_chunks::<ROW_BYTES>().0.get(..field(1) as usize)?;
    (sound && (field(2), field(3)) == (number as u32, id as u32)).then_some(rows)
}

/// What a sorted file says of itself at its end.
pub struct SortedFooter {
    /// Whose file it is.
    pub store: StoreId,
    /// Its number.
    pub id: u64,
    /// The first byte of all its names.
    pub part: u8,
    /// How many rows it has.
    pub rows: u64,
    /// CRC32C of the first names of its pages.
    pub fences_sum: u32,
}

impl SortedFooter {
    /// The footer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = SORTED_MAGIC.to_vec();
        bytes.put_u16(SORTED_VERSION);
        bytes.put_u8(self.part);
        bytes.put_u8(0);
        bytes.put_u32(page_count(self.rows) as u32);
        bytes.extend_from_slice(&self.store.0);
        bytes.put_u64(self.id);
        bytes.put_u64(self.rows);
        bytes.put_u32(self.fences_sum);
        bytes.extend_from_slice(&[0; 8]);
        let sum = crc32c::crc32c(&bytes);
        bytes.put_u32(sum);
        bytes
    }
}

/// The saved filter, before its blocks: header and the sizes of its parts.
pub fn encode_filter_header(store: StoreId, generation: u64, parts: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = FILTER_MAGIC.to_vec();
    bytes.put_u16(FILTER_VERSION);
    bytes.extend_from_slice(&[0; 6 + 24]);
    bytes.extend_from_slice(&store.0);
    bytes.put_u64(generation);
    for (names, blocks) in parts {
        bytes.put_u32(*names);
        bytes.put_u32(*blocks);
    }
    bytes
}

/// Reads what [`encode_filter_header`] wrote off the front; `Err` where it is not that of this store and generation.
pub fn decode_filter_header(
    reader: &mut Reader,
    store: StoreId,
    generation: u64,
    parts: usize,
) -> Result<Vec<(u32, u32)>, Malformed> {
    let ours = encode_filter_header(store, generation, &[]);
    let found = reader.take(ours.len())?;
    if found[..10] != ours[..10] || found[24..] != ours[24..] {
        return Err(reader.malformed());
    }
    (0..parts).map(|_| Ok((reader.u32()?, reader.u32()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/formats/index.md");

    fn shown() -> Vec<String> {
        let block = PAGE.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        block.split_whitespace().map(str::to_owned).collect()
    }
    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_the_page_are_what_is_written_and_read() {
        let name = Name([0x11; 32]);
        let location = Location { container: ContainerId(0x2a), offset: 0x60, stored_len: 0x200, kind: Kind::Chunk };
        let (class, complete, dense) = (Class::Data, true, false);
        let record =
            Record { class, complete, dense, slots: 3, raw_bytes: 0x1000, stored_bytes: 0x800, file_bytes: 0x1234 };
        let store = StoreId(*b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0f");
        let footer = SortedFooter { store, id: 0x51, part: 0x11, rows: 1, fences_sum: crc32c::crc32c(&[0x11; 8]) };
        let mut page = Vec::new();
        encode_page(&[(name, encode_location(&name, &location))], 0x51, 0, &mut page);
        assert!(page.len() == PAGE_BYTES && page[PAGE_HEADER_BYTES + ROW_BYTES..].iter().all(|byte| *byte == 0));
        let written = [
            hex(&encode_location(&name, &location)),
            hex(&encode_record(&record)),
            hex(&encode_header(store, &[0x22; 16], false)),
            hex(&encode_gone(&name)),
            hex(&encode_sorted(0x51, 0x11, 1)),
            hex(&page[..PAGE_HEADER_BYTES + ROW_BYTES]),
            hex(&footer.encode()),
        ];
        assert_eq!(shown(), written);
        let read: Vec<_> = shown().iter().map(|line| unhex(line)).collect();
        assert_eq!(decode_location(&name, read[0].as_slice().try_into().unwrap()), Some(location));
        assert_eq!(decode_record(read[1].as_slice().try_into().unwrap()), Some(record));
        assert!(header_fits(&read[2], store, &[0x22; 16]));
        assert_eq!(decode_entry(&name, read[3].as_slice().try_into().unwrap()), Some(Entry::Gone));
        assert_eq!(decode_sorted(0x51, read[4].as_slice().try_into().unwrap()), Some((0x11, 1)));
        assert_eq!(decode_sorted(0x52, read[4].as_slice().try_into().unwrap()), None);
        let mut page = read[5].clone();
        page.resize(PAGE_BYTES, 0);
        let rows = decode_page(&page, 0x51, 0).unwrap();
        assert_eq!((rows.len(), &rows[0][..32]), (1, &name.0[..]));
        assert!(decode_page(&page, 0x52, 0).is_none() && decode_page(&page, 0x51, 1).is_none());
    }

    #[test]
    fn rotten_entries_and_foreign_headers_are_told() {
        let name = Name([0x11; 32]);
        let location = Location { container: ContainerId(7), offset: 9, stored_len: 11, kind: Kind::SequenceNode };
        let value = encode_location(&name, &location);
        assert_eq!(decode_location(&name, &value), Some(location));
        assert_eq!(decode_location(&Name([0x12; 32]), &value), None, "the entry of another name");
        for bit in 0..8 * LOCATION_BYTES {
            let mut bent = value;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_location(&name, &bent), None, "bit {bit}");
        }
        let header = encode_header(StoreId([1; 16]), &[2; 16], false);
        assert!(!header_fits(&header, StoreId([3; 16]), &[2; 16]) && !header_fits(&header, StoreId([1; 16]), &[3; 16]));
        for (at, fits) in [(0, false), (8, false), (16, true), (24, false), (32, true), (33, false)] {
            let mut bent = header.clone();
            bent[at] ^= 1;
            assert_eq!(header_fits(&bent, StoreId([1; 16]), &[2; 16]), fits, "byte {at}");
        }
        assert!(!header_fits(&header[..71], StoreId([1; 16]), &[2; 16]));
    }
}
