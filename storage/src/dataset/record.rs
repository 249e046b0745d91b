//! What a dataset writes into the journal. `docs/formats/journal-records.md` owns the bytes.
//!
//! Records are physical: they carry the outcome of an operation, not its arguments, so replaying needs no permissions,
//! no time and no old state, and replaying twice gives the same.

use bytes::Bytes;

use super::CallTag;
use super::extents::{ChunkRef, Place};
use crate::chunk::Ending;
use crate::codec::{Malformed, Put, Reader};
use crate::journal;
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
    /// Bytes of a file that lie in containers, as adjacent runs of chunk parts and holes.
    Chunks { inode: Inode, offset: u64, runs: Vec<(u64, Place)> },
    /// One change of a volume's bytes, whole: what is where now.
    Write { inode: Inode, parts: Vec<WrittenPart> },
    /// From here on the dataset is what it was at a root: all that was changed before counts no more.
    Rewound { root: Option<Name>, next_inode: u64 },
    /// A snapshot: everything of the dataset before this record belongs to it. Holds the catalogue's snapshot value.
    Snapshot(Bytes),
    /// A change of the catalogue.
    Catalogue(Bytes),
}

/// One range of a write, and where its bytes are: in a chunk, nowhere, or (`None`) next in the record's payload.
#[derive(Clone, Debug)]
pub(crate) struct WrittenPart {
    pub offset: u64,
    pub len: u64,
    pub place: Option<Place>,
}

impl WrittenPart {
    /// What of it lies at or behind `from`.
    pub fn from(self, from: u64) -> Option<WrittenPart> {
        let before = from.saturating_sub(self.offset);
        if before == 0 || before >= self.len {
            return (before == 0).then_some(self);
        }
        let place = self.place.map(|place| match place {
            Place::Chunk { chunk, skip } => {
                Place::Chunk { chunk: ChunkRef { cut: None, ..chunk }, skip: skip + before as u32 }
            }
            other => other,
        });
        Some(WrittenPart { offset: from, len: self.len - before, place })
    }
}

/// The bulk part of a record that is applied, and where it lies.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// In the journal, which is read when somebody wants the bytes.
    Journal(journal::Place),
    /// Here: history has no places that stay.
    Memory(Bytes),
}

impl Payload {
    /// That of a record which was read back; `None` where it has none.
    pub fn of(record: &journal::Record) -> Option<Payload> {
        let here = || (!record.payload.is_empty()).then(|| Payload::Memory(record.payload.clone()));
        record.place.map(Payload::Journal).or_else(here)
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Payload::Journal(place) => u64::from(place.len),
            Payload::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Where `len` bytes of it behind the first `skip` are; `stamp` tells them from other writes. They must be there.
    pub fn part(&self, skip: u64, len: u64, stamp: u64) -> Place {
        match self {
            Payload::Journal(place) => Place::Journal { place: *place, skip: skip as u32 },
            Payload::Memory(bytes) => {
                let part = bytes.slice(skip as usize..(skip + len) as usize);
                Place::Memory { bytes: part, buffer: bytes.len(), stamp, claimed: false }
            }
        }
    }
}

/// The number that tells a kind of record apart in the journal.
const EDITS: u8 = 1;
const DATA: u8 = 2;
const CHUNKS: u8 = 3;
const SNAPSHOT: u8 = 4;
const CATALOGUE: u8 = 5;
const WRITE: u8 = 6;
const REWOUND: u8 = 7;

/// Marks the absence of a value where a length is expected.
const DELETED: u32 = u32::MAX;
/// Stands for a chunk whose beginning is not sure, where another one tells what ended it.
const UNSURE: u8 = 4;
/// Stands for bytes of the payload, where another one tells what ended a chunk.
const INLINE: u8 = 5;
/// What one run in a chunks record takes at least: its length and its tag.
const RUN_BYTES_MIN: usize = 9;
/// What one part of a write takes at least: its offset, its length and its tag.
const PART_BYTES_MIN: usize = 17;

impl Record {
    /// The chunks that it refers to.
    pub fn chunks(&self) -> Vec<Name> {
        let chunk = |place: &Place| match place {
            Place::Chunk { chunk, .. } => Some(chunk.name),
            _ => None,
        };
        match self {
            Record::Chunks { runs, .. } => runs.iter().filter_map(|(_, place)| chunk(place)).collect(),
            Record::Write { parts, .. } => {
                parts.iter().filter_map(|part| part.place.as_ref().and_then(chunk)).collect()
            }
            _ => Vec::new(),
        }
    }

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
            Record::Write { inode, parts } => {
                head.put_u64(inode.0);
                head.put_u32(parts.len() as u32);
                parts.iter().for_each(|part| encode_part(&mut head, part));
                WRITE
            }
            Record::Rewound { root, next_inode } => {
                head.put_u8(u8::from(root.is_some()));
                head.extend_from_slice(&root.unwrap_or_default().0);
                head.put_u64(*next_inode);
                REWOUND
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
            WRITE => {
                let inode = Inode(reader.u64()?);
                let count = reader.count(PART_BYTES_MIN)?;
                let parts = (0..count).map(|_| decode_part(&mut reader)).collect::<Result<_, _>>()?;
                Record::Write { inode, parts }
            }
            REWOUND => {
                let there = reader.u8()?;
                let root = Name(reader.array()?);
                if there > 1 {
                    return Err(reader.malformed());
                }
                Record::Rewound { root: (there == 1).then_some(root), next_inode: reader.u64()? }
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
    let malformed = reader.malformed();
    // No tag is 0 twice: that of a hole was met before.
    let (len, place) = decode_run_or(reader, 0)?;
    place.map(|place| (len, place)).ok_or(malformed)
}

/// A run, or (`None`) one with the tag `none`, which says that its bytes are elsewhere.
fn decode_run_or(reader: &mut Reader, none: u8) -> Result<(u64, Option<Place>), Malformed> {
    let len = reader.u64()?;
    let place = match reader.u8()? {
        0 => Some(Place::Hole),
        tag if tag == none => None,
        tag => {
            let cut = Ending::from_u8(tag);
            if cut.is_none() && tag != UNSURE {
                return Err(reader.malformed());
            }
            let chunk = ChunkRef { name: Name(reader.array()?), len: reader.u32()?, cut };
            let skip = reader.u32()?;
            if u64::from(skip).checked_add(len).is_none_or(|end| end > u64::from(chunk.len)) {
                return Err(reader.malformed());
            }
            Some(Place::Chunk { chunk, skip })
        }
    };
    if len == 0 {
        return Err(reader.malformed());
    }
    Ok((len, place))
}

fn encode_part(head: &mut Vec<u8>, part: &WrittenPart) {
    head.put_u64(part.offset);
    match &part.place {
        Some(place) => encode_run(head, part.len, place),
        None => {
            head.put_u64(part.len);
            head.put_u8(INLINE);
        }
    }
}

fn decode_part(reader: &mut Reader) -> Result<WrittenPart, Malformed> {
    let malformed = reader.malformed();
    let offset = reader.u64()?;
    let (len, place) = decode_run_or(reader, INLINE)?;
    match offset.checked_add(len) {
        Some(_) => Ok(WrittenPart { offset, len, place }),
        None => Err(malformed),
    }
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
            Record::Write {
                inode: Inode(1),
                parts: vec![
                    WrittenPart { offset: 4096, len: 60, place: Some(Place::Chunk { chunk, skip: 40 }) },
                    WrittenPart { offset: 4156, len: 1 << 40, place: Some(Place::Hole) },
                    WrittenPart { offset: 0, len: 512, place: None },
                ],
            },
            Record::Rewound { root: Some(Name([7; 32])), next_inode: 9 },
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
