//! Payload that lies in chunks is kept by reference.
//!
//! What a record wrote is, by the next checkpoint, in that checkpoint's tree at the same offset of the same file, unless it was
//! written over before. There each piece of payload is looked for, and compared byte by byte (a whole chunk by its name, as every
//! write that is known already is); what is there becomes a reference, what is not stays as it is. The tree's word is not enough
//! for that: the chunk itself must be present, for the payload may be the only sound copy of one that was lost.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::catalogue::Checkpoint;
use crate::dataset::extents::{ChunkRef, Place};
use crate::dataset::namespace::Key;
use crate::dataset::record::{Record, WrittenPart};
use crate::dataset::state::content_of;
use crate::error::{Damage, Environment, Error, Result};
use crate::journal::{self, HEAD_BYTES_MAX};
use crate::name::{Kind, Name, Realm};
use crate::tree::sequence::{self, Content, Piece};
use crate::tree::{Objects, map};
use crate::units::Inode;

/// A shorter piece costs less as it is than a reference to it.
const REFERENCE_BYTES_MIN: usize = 128;

/// Finds payload of one dataset in its checkpoints.
pub(crate) struct Referrer<'a> {
    objects: &'a dyn Objects,
    realm: &'a Realm,
    /// Oldest first.
    checkpoints: &'a [Checkpoint],
}

/// A run of payload, and what it is the content of.
struct Wanted {
    checkpoint: usize,
    inode: Inode,
    offset: u64,
    record: usize,
    /// Where it begins in the record's payload.
    from: usize,
    len: usize,
}

/// A part of a record's payload that lies elsewhere.
struct Found {
    from: usize,
    len: usize,
    place: Place,
}

impl<'a> Referrer<'a> {
    pub fn new(objects: &'a dyn Objects, realm: &'a Realm, checkpoints: &'a [Checkpoint]) -> Self {
        Referrer { objects, realm, checkpoints }
    }

    /// Replaces what it can of the records' payloads by references. The records are of one dataset, in order, and mean the same
    /// afterwards.
    pub fn refer(&self, records: &mut [journal::Record]) -> Result<()> {
        let mut wanted = Vec::new();
        for (nth, record) in records.iter().enumerate().filter(|(_, record)| !record.payload.is_empty()) {
            let checkpoint = self.checkpoints.partition_point(|checkpoint| checkpoint.lsn < record.lsn);
            if checkpoint < self.checkpoints.len() {
                let runs = payload_runs(&decode(record)?, record.payload.len()).into_iter();
                wanted.extend(runs.map(|(inode, offset, from, len)| Wanted {
                    checkpoint,
                    inode,
                    offset,
                    record: nth,
                    from,
                    len,
                }));
            }
        }
        // In the order in which the tree has them: what lies together is read together.
        wanted.sort_by_key(|wanted| (wanted.checkpoint, wanted.inode, wanted.offset, wanted.record));
        let mut found: BTreeMap<usize, Vec<Found>> = BTreeMap::new();
        let mut reader = Reader { objects: self.objects, realm: self.realm, content: None, there: None, chunk: None };
        for wanted in &wanted {
            let Some(checkpoint) = self.checkpoints.get(wanted.checkpoint) else { continue };
            let payload = records[wanted.record].payload.slice(wanted.from..wanted.from + wanted.len);
            let outcome = reader.find(checkpoint.root, wanted, &payload, found.entry(wanted.record).or_default());
            match outcome {
                // What can't be read is no place to refer to. The check names it.
                Ok(()) | Err(Error::Damage(_) | Error::Environment(Environment::Io { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        for (nth, mut found) in found.into_iter().filter(|(_, found)| !found.is_empty()) {
            found.sort_by_key(|found| found.from);
            let record = &mut records[nth];
            let (kind, head, payload) = rewritten(decode(record)?, &record.payload, &found);
            if head.len() <= HEAD_BYTES_MAX {
                (record.kind, record.head, record.payload, record.place) = (kind, head, payload, None);
            }
        }
        Ok(())
    }
}

/// Looks into the contents of checkpoints, with the last one and its last chunk at hand.
struct Reader<'a> {
    objects: &'a dyn Objects,
    realm: &'a Realm,
    content: Option<((Option<Name>, Inode), Content)>,
    there: Option<(Name, bool)>,
    chunk: Option<(Name, Bytes)>,
}

impl Reader<'_> {
    /// Adds what of `payload` lies where it was written to.
    fn find(&mut self, root: Option<Name>, wanted: &Wanted, payload: &[u8], found: &mut Vec<Found>) -> Result<()> {
        let content = self.content(root, wanted.inode)?;
        let mut at = 0;
        for piece in sequence::read(self.objects, &content, wanted.offset, wanted.len as u64) {
            let piece = piece?;
            let len = piece.len() as usize;
            let Some(bytes) = payload.get(at..at + len) else { break };
            let mut add =
                |from: usize, len: usize, place| found.push(Found { from: wanted.from + at + from, len, place });
            match piece {
                Piece::Hole(_) if len >= REFERENCE_BYTES_MIN && bytes.iter().all(|byte| *byte == 0) => {
                    add(0, len, Place::Hole)
                }
                Piece::Chunk { name, skip, chunk_len, .. } if len >= REFERENCE_BYTES_MIN => {
                    let place = |skip| Place::Chunk { chunk: ChunkRef { name, len: chunk_len, cut: None }, skip };
                    if !self.is_there(&name)? {
                        // It stays as it is.
                    } else if len == chunk_len as usize && self.realm.name(Kind::Chunk, bytes) == name {
                        add(0, len, place(skip));
                    } else {
                        let stored = self.chunk(&name)?;
                        let stored = stored.get(skip as usize..).unwrap_or_default();
                        for (from, len) in in_common(bytes, stored) {
                            add(from, len, place(skip + from as u32));
                        }
                    }
                }
                Piece::Chunk { .. } | Piece::Hole(_) | Piece::Inline(_) => {}
            }
            at += len;
        }
        Ok(())
    }

    fn content(&mut self, root: Option<Name>, inode: Inode) -> Result<Content> {
        if let Some((key, content)) = &self.content
            && *key == (root, inode)
        {
            return Ok(content.clone());
        }
        let value = map::get(self.objects, root.as_ref(), &Key::Content(inode).encode())?;
        let content = value.map_or(Ok(Content::empty()), |value| content_of(inode, &value))?;
        self.content = Some(((root, inode), content.clone()));
        Ok(content)
    }

    /// Whether a chunk is present. Small writes into one come one behind the other: the last answer is kept.
    fn is_there(&mut self, name: &Name) -> Result<bool> {
        match self.there {
            Some((known, there)) if known == *name => Ok(there),
            _ => {
                let there = self.objects.contains(Kind::Chunk, name)?;
                self.there = Some((*name, there));
                Ok(there)
            }
        }
    }

    fn chunk(&mut self, name: &Name) -> Result<Bytes> {
        match &self.chunk {
            Some((known, bytes)) if known == name => Ok(bytes.clone()),
            _ => {
                let bytes = self.objects.read(Kind::Chunk, name)?;
                self.chunk = Some((*name, bytes.clone()));
                Ok(bytes)
            }
        }
    }
}

/// What two runs have in common at their beginnings and, where that is not all, at the end of the first: offsets and lengths.
fn in_common(bytes: &[u8], stored: &[u8]) -> Vec<(usize, usize)> {
    let stored = stored.get(..bytes.len()).unwrap_or(stored);
    let front = bytes.iter().zip(stored).take_while(|(ours, theirs)| ours == theirs).count();
    let mut parts = vec![(0, front)];
    if front < bytes.len() && stored.len() == bytes.len() {
        let pairs = bytes.iter().rev().zip(stored.iter().rev());
        let back = pairs.take_while(|(ours, theirs)| ours == theirs).count();
        parts.push((bytes.len() - back, back));
    }
    parts.retain(|(_, len)| *len >= REFERENCE_BYTES_MIN);
    parts
}

fn decode(record: &journal::Record) -> Result<Record> {
    let damaged = |error| Damage::new("journal", record.lsn.0, format!("a record at LSN {}", record.lsn), error);
    Record::decode(record.kind, &record.head).map_err(|error| damaged(error).into())
}

/// Whose bytes a record's payload is: inode, offset, and where in the payload they begin and how long they are. Nothing where
/// the record contradicts itself: it is kept as it is, and whoever replays it will say so.
fn payload_runs(record: &Record, payload_len: usize) -> Vec<(Inode, u64, usize, usize)> {
    match record {
        Record::Data { inode, offset } => vec![(*inode, *offset, 0, payload_len)],
        Record::Write { inode, parts } => {
            let mut from = 0;
            let mut runs = Vec::new();
            for part in parts.iter().filter(|part| part.place.is_none()) {
                runs.push((*inode, part.offset, from, part.len as usize));
                from += part.len as usize;
            }
            if from == payload_len { runs } else { Vec::new() }
        }
        _ => Vec::new(),
    }
}

/// The same record with parts of its payload where they were found: kind, head and what is left of the payload.
fn rewritten(record: Record, payload: &Bytes, found: &[Found]) -> (u8, Bytes, Bytes) {
    let (inode, parts) = match record {
        Record::Data { inode, offset } => (inode, vec![WrittenPart { offset, len: payload.len() as u64, place: None }]),
        Record::Write { inode, parts } => (inode, parts),
        other => {
            let (kind, head) = other.encode();
            return (kind, head, payload.clone());
        }
    };
    let mut found = found.iter().peekable();
    let mut rewritten = Vec::with_capacity(parts.len() + 2 * found.len());
    let mut left: Vec<u8> = Vec::new();
    let mut at = 0;
    for part in parts {
        if part.place.is_some() {
            rewritten.push(part);
            continue;
        }
        let (start, end) = (at, at + part.len as usize);
        let mut push = |from: usize, to: usize, place: Option<Place>| {
            if to > from {
                if place.is_none() {
                    left.extend_from_slice(&payload[from..to]);
                }
                let offset = part.offset + (from - start) as u64;
                rewritten.push(WrittenPart { offset, len: (to - from) as u64, place });
            }
        };
        while let Some(next) = found.next_if(|found| found.from < end) {
            push(at, next.from, None);
            at = next.from + next.len;
            push(next.from, at, Some(next.place.clone()));
        }
        push(at, end, None);
        at = end;
    }
    let (kind, head) = Record::Write { inode, parts: rewritten }.encode();
    (kind, head, left.into())
}
