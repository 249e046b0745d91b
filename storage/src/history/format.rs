//! The bytes of a history file: its header, and blocks of records. `docs/formats/history.md` owns them.

use bytes::Bytes;

use crate::codec::{Malformed, Put, Reader};
use crate::container::codec::Codec;
use crate::error::{Damage, Refusal, Result};
use crate::id::{DatasetId, StoreId};
use crate::journal::{HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, Record};
use crate::units::{Lsn, Timestamp};

/// The folder of all history files.
pub(crate) const FOLDER: &str = "history";
/// Bytes of a file's header; its first block begins behind it.
pub(crate) const HEADER_BYTES: u64 = 128;
/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: u64 = 48;
/// A block ends with the record that brings it here.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;
/// What a record takes in a block beside its head and payload.
const RECORD_BYTES: usize = 8 + 8 + 1 + 4 + 4;
/// The records of one block, at most.
pub(crate) const RAW_BYTES_MAX: usize = BLOCK_BYTES + RECORD_BYTES + HEAD_BYTES_MAX + PAYLOAD_BYTES_MAX;

const MAGIC: &[u8; 8] = b"NBhistry";
const VERSION: u32 = 1;
const SUFFIX: &str = ".history";

/// The first bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The store that it belongs to.
    pub store: StoreId,
    /// Whose history it is.
    pub dataset: DatasetId,
    /// All its records are at or behind this one.
    pub first: Lsn,
    /// Repeated in every block of this file, and in those of no other.
    pub salt: u64,
}

impl Header {
    pub fn new(store: StoreId, dataset: DatasetId, first: Lsn) -> Header {
        let mut hasher = blake3::Hasher::new_derive_key("narrowboat history file salt, version 1");
        hasher.update(&store.0).update(&dataset.0).update(&first.0.to_le_bytes());
        let mut salt = [0; 8];
        hasher.finalize_xof().fill(&mut salt);
        Header { store, dataset, first, salt: u64::from_le_bytes(salt) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(MAGIC);
        bytes.put_u32(VERSION);
        bytes.put_u32(HEADER_BYTES as u32);
        bytes.extend_from_slice(&[0; 24]); // no features
        bytes.extend_from_slice(&self.store.0);
        bytes.extend_from_slice(&self.dataset.0);
        bytes.put_u64(self.first.0);
        bytes.put_u64(self.salt);
        bytes.resize(HEADER_BYTES as usize - 4, 0);
        bytes.put_u32(crc32c::crc32c(&bytes));
        bytes
    }

    /// Reads the header of `file`, which must be that of a dataset's history of this store from `first` on.
    pub fn decode(bytes: &Bytes, file: &str, store: StoreId, dataset: DatasetId, first: Lsn) -> Result<Header> {
        let short = |error: Malformed| Damage::new(file, error.at as u64, "a history file's header", error);
        let mut reader = Reader::new(bytes, "a history file's header");
        if reader.take(MAGIC.len()).map_err(short)? != MAGIC[..] {
            let found = format!("{:02x?}", bytes.get(..MAGIC.len()).unwrap_or(bytes));
            return Err(Damage::new(file, 0, "a history file", found).into());
        }
        let version = reader.u32().map_err(short)?;
        // A version that is not ours may have its sum elsewhere: then it is not damage.
        if version == VERSION {
            check_sum(bytes, file)?;
        }
        let len = reader.u32().map_err(short)?;
        let _may_be_ignored = reader.u64().map_err(short)?;
        let needed = reader.u64().map_err(short)? | reader.u64().map_err(short)?;
        if version != VERSION || u64::from(len) != HEADER_BYTES || needed != 0 {
            let why =
                format!("{file} has history format version {version}, features {needed:#x}; this is version {VERSION}");
            return Err(Refusal::Unsupported(why).into());
        }
        let header = Header {
            store: StoreId(reader.array().map_err(short)?),
            dataset: DatasetId(reader.array().map_err(short)?),
            first: Lsn(reader.u64().map_err(short)?),
            salt: reader.u64().map_err(short)?,
        };
        let of =
            |header: &Header| format!("store {}, dataset {}, record {}", header.store, header.dataset, header.first);
        let expected = Header { store, dataset, first, ..header };
        match header == expected {
            true => Ok(header),
            false => Err(Damage::new(file, 40, of(&expected), of(&header)).into()),
        }
    }
}

fn check_sum(bytes: &Bytes, file: &str) -> Result<()> {
    let at = HEADER_BYTES as usize - 4;
    let computed = crc32c::crc32c(bytes.get(..at).unwrap_or(bytes));
    let stored = bytes.get(at..).and_then(|sum| sum.try_into().ok()).map(u32::from_le_bytes);
    if stored == Some(computed) {
        return Ok(());
    }
    let found = stored.map_or("nothing".into(), |sum| format!("{sum:08x}"));
    Err(Damage::new(file, at as u64, format!("checksum {computed:08x}"), found).into())
}

/// What comes before the records of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// CRC32C of the records as they are stored.
    pub crc: u32,
    /// Bytes of the records as they are stored.
    pub stored_len: u32,
    /// Bytes of the records.
    pub raw_len: u32,
    /// How they are stored.
    pub codec: Codec,
    /// How many they are.
    pub records: u32,
    /// The last record of the block before; of the first block, the one before the file's first.
    pub after: Lsn,
    /// The last record of this block.
    pub last: Lsn,
    /// That of the file.
    pub salt: u64,
}

impl BlockHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_HEADER_BYTES as usize);
        bytes.put_u32(0);
        bytes.put_u32(self.crc);
        bytes.put_u32(self.stored_len);
        bytes.put_u32(self.raw_len);
        bytes.put_u32(u32::from(self.codec as u8));
        bytes.put_u32(self.records);
        [self.after.0, self.last.0, self.salt].into_iter().for_each(|number| bytes.put_u64(number));
        let sum = crc32c::crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header; `None` where the bytes are not a whole and sound one. Its lengths are within their bounds.
    pub fn decode(bytes: &Bytes) -> Option<BlockHeader> {
        let mut reader = Reader::new(bytes, "a block's header");
        let sum = reader.u32().ok()?;
        if bytes.len() != BLOCK_HEADER_BYTES as usize || crc32c::crc32c(bytes.get(4..)?) != sum {
            return None;
        }
        let header = BlockHeader {
            crc: reader.u32().ok()?,
            stored_len: reader.u32().ok()?,
            raw_len: reader.u32().ok()?,
            codec: Codec::from_u8(u8::try_from(reader.u32().ok()?).ok()?)?,
            records: reader.u32().ok()?,
            after: Lsn(reader.u64().ok()?),
            last: Lsn(reader.u64().ok()?),
            salt: reader.u64().ok()?,
        };
        let bounded = header.raw_len as usize <= RAW_BYTES_MAX && header.stored_len <= header.raw_len;
        bounded.then_some(header)
    }
}

/// Adds a record to a block.
pub(crate) fn put_record(block: &mut Vec<u8>, record: &Record) {
    block.put_u64(record.lsn.0);
    block.put_i64(record.time.0);
    block.put_u8(record.kind);
    block.put_bytes(&record.head);
    block.put_bytes(&record.payload);
}

/// Reads the records of a block, all of them behind `after`, the last of them `last`. Each has bytes of its own: whoever keeps a
/// small one does not keep the block with it.
pub(crate) fn records(block: &Bytes, header: &BlockHeader, dataset: DatasetId) -> Result<Vec<Record>, Malformed> {
    let mut reader = Reader::new(block, "a block of history");
    let malformed = reader.malformed();
    let mut records: Vec<Record> = Vec::new();
    let mut before = header.after;
    let owned = |bytes: Bytes| if bytes.len() > block.len() / 2 { bytes } else { Bytes::copy_from_slice(&bytes) };
    for _ in 0..header.records {
        let (lsn, time, kind) = (Lsn(reader.u64()?), Timestamp(reader.i64()?), reader.u8()?);
        let head = owned(reader.bytes(HEAD_BYTES_MAX)?);
        let payload = owned(reader.bytes(PAYLOAD_BYTES_MAX)?);
        if lsn <= before || lsn > header.last {
            return Err(malformed);
        }
        before = lsn;
        records.push(Record { lsn, time, dataset, kind, head, payload, place: None });
    }
    reader.end()?;
    if before == header.last { Ok(records) } else { Err(malformed) }
}

/// The name of the file of a dataset that begins with `first`.
pub(crate) fn file_name(dataset: DatasetId, first: Lsn) -> String {
    format!("{dataset}-{:016x}{SUFFIX}", first.0)
}

/// The dataset and the first record of the file with this name; `None` where it is not the name of one.
pub(crate) fn parse_file_name(name: &str) -> Option<(DatasetId, Lsn)> {
    let (dataset, first) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let dataset = dataset.parse().ok()?;
    let first = Lsn(u64::from_str_radix(first, 16).ok()?);
    (file_name(dataset, first) == name).then_some((dataset, first))
}
