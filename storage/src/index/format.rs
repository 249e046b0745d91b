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

const MAGIC: &[u8; 8] = b"narrowIX";
const FILTER_MAGIC: &[u8; 8] = b"narrowIF";
const VERSION: u16 = 1;

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
        let (class, complete, _) = (reader.u8()?, reader.u8()?, reader.u16()?);
        Ok((class, complete, reader.u32()?, reader.u64()?, reader.u64()?, reader.u64()?))
    };
    let (class, complete, slots, raw_bytes, stored_bytes, file_bytes) = fields().ok()?;
    Some(Record { class: Class::from_u8(class)?, complete: complete == 1, slots, raw_bytes, stored_bytes, file_bytes })
}

/// Encodes whose index this is.
pub fn encode_header(store: StoreId, realm: &[u8; 16]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u16(VERSION);
    bytes.extend_from_slice(&[0; 6 + 24]);
    bytes.extend_from_slice(&store.0);
    bytes.extend_from_slice(realm);
    bytes
}

/// True where the index is of this store and realm and of a format that this version may write. Features of the first
/// set do not matter.
pub fn header_fits(header: &[u8], store: StoreId, realm: &[u8; 16]) -> bool {
    let ours = encode_header(store, realm);
    header.len() == ours.len() && header[..10] == ours[..10] && header[24..] == ours[24..]
}

/// The saved filter, before its blocks: header and the sizes of its parts.
pub fn encode_filter_header(store: StoreId, generation: u64, parts: &[(u32, u32)]) -> Vec<u8> {
    let mut bytes = FILTER_MAGIC.to_vec();
    bytes.put_u16(VERSION);
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
