//! What a dataset writes into the journal. `docs/formats/journal-records.md` owns the bytes.
//!
//! Records are physical: they carry the outcome of an operation, not its arguments, so replaying needs no permissions,
//! no time and no old state, and replaying twice gives the same.

use bytes::Bytes;

use super::CallTag;
use super::extents::{ChunkRef, Place};
use crate::chunk::Ending;
use crate::codec::{Malformed, Put, Reader};
use crate::name::Name;
use crate::units::Inode;

/// An edit of the map: a key with its new value, or with none where it was deleted.
pub(crate) type Edit = (Bytes, Option<Bytes>);

/// One decoded record.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// One namespace operation, whole: edits of the map, and where a file's content was cut off.
    Edits { tag: Option<(CallTag, Inode)>, truncated: Option<(Inode, u64)>, edits: Vec<Edit> },
    /// Bytes of a file; they are the journal record's payload.
    Data { inode: Inode, offset: u64 },
    /// Bytes of a file that lie in synced containers, as adjacent runs of chunk parts and holes.
    Chunks { inode: Inode, offset: u64, runs: Vec<(u64, Place)> },
    /// A snapshot: everything of the dataset before this record belongs to it. Holds the catalogue's snapshot value.
    Snapshot(Bytes),
    /// A change of the catalogue.
    Catalogue(Bytes),
}

/// The number that tells a kind of record apart in the journal.
const EDITS: u8 = 1;
const DATA: u8 = 2;
const CHUNKS: u8 = 3;
const SNAPSHOT: u8 = 4;
const CATALOGUE: u8 = 5;

/// Marks the absence of a value where a length is expected.
const DELETED: u32 = u32::MAX;
/// Stands for a chunk whose beginning is not sure, where another one tells what ended it.
const UNSURE: u8 = 4;
/// What one run in a chunks record takes at least: its length and its tag.
const RUN_BYTES_MIN: usize = 9;

impl Record {
    /// The record's number and its structured part.
    pub fn encode(&self) -> (u8, Bytes) {
        let mut head = Vec::new();
        let kind = match self {
            Record::Edits { tag, truncated, edits } => {
                encode_edits(&mut head, tag, truncated, edits);
                EDITS
            }
            Record::Data { inode, offset } => {
                head.put_u64(inode.0);
                head.put_u64(*offset);
                DATA
            }
            Record::Chunks { inode, offset, runs } => {
                head.put_u64(inode.0);
                head.put_u64(*offset);
                head.put_u32(runs.len() as u32);
                runs.iter().for_each(|(len, place)| encode_run(&mut head, *len, place));
                CHUNKS
            }
            Record::Snapshot(value) => {
                head.extend_from_slice(value);
                SNAPSHOT
            }
            Record::Catalogue(change) => {
                head.extend_from_slice(change);
                CATALOGUE
            }
        };
        (kind, head.into())
    }

    /// Reads what [`Record::encode`] wrote.
    pub fn decode(kind: u8, head: &Bytes) -> Result<Record, Malformed> {
        let mut reader = Reader::new(head, "a dataset's journal record");
        let record = match kind {
            EDITS => decode_edits(&mut reader)?,
            DATA => Record::Data { inode: Inode(reader.u64()?), offset: reader.u64()? },
            CHUNKS => {
                let (inode, offset) = (Inode(reader.u64()?), reader.u64()?);
                let count = reader.count(RUN_BYTES_MIN)?;
                let runs = (0..count).map(|_| decode_run(&mut reader)).collect::<Result<_, _>>()?;
                Record::Chunks { inode, offset, runs }
            }
            SNAPSHOT => Record::Snapshot(reader.take(reader.left())?),
            CATALOGUE => Record::Catalogue(reader.take(reader.left())?),
            _ => return Err(reader.malformed()),
        };
        reader.end().map(|()| record)
    }
}

fn encode_edits(head: &mut Vec<u8>, tag: &Option<(CallTag, Inode)>, truncated: &Option<(Inode, u64)>, edits: &[Edit]) {
    head.put_u8(u8::from(tag.is_some()) | u8::from(truncated.is_some()) << 1);
    if let Some((tag, inode)) = tag {
        head.extend_from_slice(&tag.0);
        head.put_u64(inode.0);
    }
    if let Some((inode, size)) = truncated {
        head.put_u64(inode.0);
        head.put_u64(*size);
    }
    head.put_u32(edits.len() as u32);
    for (key, value) in edits {
        head.put_bytes(key);
        match value {
            Some(value) => head.put_bytes(value),
            None => head.put_u32(DELETED),
        }
    }
}

fn decode_edits(reader: &mut Reader) -> Result<Record, Malformed> {
    let flags = reader.u8()?;
    if flags > 3 {
        return Err(reader.malformed());
    }
    let tag = if flags & 1 != 0 { Some((CallTag(reader.array()?), Inode(reader.u64()?))) } else { None };
    let truncated = if flags & 2 != 0 { Some((Inode(reader.u64()?), reader.u64()?)) } else { None };
    let count = reader.count(8)?;
    let mut edits = Vec::with_capacity(count);
    for _ in 0..count {
        let left = reader.left();
        let key = reader.bytes(left)?;
        let value = match reader.u32()? {
            DELETED => None,
            len => Some(reader.take(len as usize)?),
        };
        edits.push((key, value));
    }
    Ok(Record::Edits { tag, truncated, edits })
}

fn encode_run(head: &mut Vec<u8>, len: u64, place: &Place) {
    head.put_u64(len);
    match place {
        Place::Chunk { chunk, skip } => {
            head.put_u8(chunk.cut.map_or(UNSURE, |ending| ending as u8));
            head.extend_from_slice(&chunk.name.0);
            head.put_u32(chunk.len);
            head.put_u32(*skip);
        }
        Place::Hole => head.put_u8(0),
        Place::Memory { .. } | Place::Journal { .. } => unreachable!("bytes go into records of their own"),
    }
}

fn decode_run(reader: &mut Reader) -> Result<(u64, Place), Malformed> {
    let len = reader.u64()?;
    let place = match reader.u8()? {
        0 => Place::Hole,
        tag => {
            let cut = Ending::from_u8(tag);
            if cut.is_none() && tag != UNSURE {
                return Err(reader.malformed());
            }
            let chunk = ChunkRef { name: Name(reader.array()?), len: reader.u32()?, cut };
            let skip = reader.u32()?;
            if u64::from(skip) + len > u64::from(chunk.len) {
                return Err(reader.malformed());
            }
            Place::Chunk { chunk, skip }
        }
    };
    if len == 0 {
        return Err(reader.malformed());
    }
    Ok((len, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Record> {
        let chunk = ChunkRef { name: Name([7; 32]), len: 100, cut: Some(Ending::Hole) };
        vec![
            Record::Edits {
                tag: Some((CallTag([9; 16]), Inode(5))),
                truncated: Some((Inode(5), 77)),
                edits: vec![
                    (Bytes::from_static(b"key"), Some(Bytes::from_static(b"value"))),
                    (Bytes::from_static(b"gone"), None),
                ],
            },
            Record::Data { inode: Inode(3), offset: 1 << 40 },
            Record::Chunks {
                inode: Inode(3),
                offset: 9,
                runs: vec![(60, Place::Chunk { chunk, skip: 40 }), (1 << 44, Place::Hole)],
            },
            Record::Snapshot(Bytes::from_static(b"s")),
            Record::Catalogue(Bytes::from_static(b"c")),
        ]
    }

    #[test]
    fn records_come_back_as_they_were() {
        for record in examples() {
            let (kind, head) = record.encode();
            let again = Record::decode(kind, &head).expect("our own bytes");
            assert_eq!(format!("{record:?}"), format!("{again:?}"));
        }
    }

    #[test]
    fn cut_or_changed_records_never_panic() {
        for record in examples() {
            let (kind, head) = record.encode();
            for cut in 0..head.len() {
                let _ = Record::decode(kind, &head.slice(..cut));
                for flip in [0x01, 0x80, 0xFF] {
                    let mut bytes = head.to_vec();
                    bytes[cut] ^= flip;
                    let _ = Record::decode(kind, &Bytes::from(bytes));
                }
            }
        }
        assert!(Record::decode(0, &Bytes::new()).is_err());
    }

    #[test]
    fn the_page_has_the_bytes_we_write() {
        let page = include_str!("../../../docs/formats/journal-records.md");
        for record in examples() {
            let (kind, head) = record.encode();
            let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(
                page.contains(&format!("`{kind}` `{hex}`")),
                "docs/formats/journal-records.md lacks `{kind}` `{hex}`"
            );
        }
    }
}
