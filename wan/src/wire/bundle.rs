//! Bundles: several objects as one, packed together and against what the receiver has.

use bytes::Bytes;
use narrowboat_storage::name::Kind;

use super::frame::Frame;
use super::reader::{Reader, WireError};
use super::varint::{put_varint, unzigzag, zigzag};
use super::{BUNDLE_OBJECTS_MAX, OBJECT_BYTES_MAX};

const FORGET: u8 = 1;
const FROM_ROOT: u8 = 2;
/// Most bases of one bundle.
pub const BASES_OF_BUNDLE_MAX: usize = 1024;

/// Most new ways for each base: one for each level of two trees.
pub const WAYS_PER_BASE_MAX: usize = 48;

/// How the content of a bundle travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Packing {
    /// As it is.
    Raw = 0,
    /// One zstd frame, with the bases in front as its prefix.
    Zstd = 2,
}

/// What the receiver knows of an object before it has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its name was asked under this number, and answered with lacking.
    Asked(u64),
    /// It was never asked: the sender holds it to be new. Its kind.
    Unasked(Kind),
}

/// One object of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is known of it.
    pub origin: Origin,
    /// How many bytes of the content are its own. At least 1.
    pub len: u32,
}

/// One step down the base's tree: the reference at a place of a node whose way is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The number of the node's way; 0 is the root's.
    pub parent: u32,
    /// The place among the node's references, from 0.
    pub index: u32,
}

/// Objects that the receiver lacks, in the order of admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The first object's place in the order of admission; the others follow.
    pub seq: u64,
    /// The objects: 1 to [`BUNDLE_OBJECTS_MAX`], of at most [`OBJECT_BYTES_MAX`] bytes in all.
    pub items: Vec<Item>,
    /// All ways but the root's are forgotten before the new ones are counted.
    pub forget: bool,
    /// New ways, numbered on from the last one that is known.
    pub ways: Vec<Way>,
    /// The base's root is the first of the bases.
    pub from_root: bool,
    /// What the content was packed against, in this order.
    pub bases: Vec<Way>,
    /// How the content is packed.
    pub packing: Packing,
    /// The packed content: all objects, one behind the other.
    pub bytes: Bytes,
}

impl Bundle {
    /// What a bundle counts in the window: its whole payload, so that nobody gets memory for less than it costs to send.
    pub fn wire_len(&self) -> u64 {
        (self.head().len() + self.bytes.len()) as u64
    }

    fn head(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 4 * self.items.len() + 4 * self.bases.len());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.push(self.packing as u8);
        out.push(if self.forget { FORGET } else { 0 } | if self.from_root { FROM_ROOT } else { 0 });
        for count in [self.items.len(), self.ways.len(), self.bases.len()] {
            out.extend_from_slice(&(count as u16).to_le_bytes());
        }
        let mut expected = 0u64;
        for item in &self.items {
            match item.origin {
                Origin::Asked(number) => {
                    put_varint(&mut out, zigzag(number.wrapping_sub(expected) as i64) << 1);
                    expected = number.wrapping_add(1);
                }
                Origin::Unasked(kind) => put_varint(&mut out, (kind as u64) << 1 | 1),
            }
            put_varint(&mut out, item.len.into());
        }
        for way in &self.ways {
            put_varint(&mut out, way.parent.into());
            put_varint(&mut out, way.index.into());
        }
        let mut last = Way { parent: 0, index: u32::MAX };
        for base in &self.bases {
            put_varint(&mut out, zigzag(i64::from(base.parent) - i64::from(last.parent)));
            put_varint(&mut out, zigzag(i64::from(base.index) - i64::from(last.index.wrapping_add(1))));
            last = *base;
        }
        out
    }

    pub(super) fn encode(&self, kind: u16) -> Frame {
        Frame::build(kind, &self.head(), self.bytes.clone())
    }

    pub(super) fn decode(payload: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new("bundle", payload);
        let seq = reader.u64()?;
        let packing = match reader.u8()? {
            0 => Packing::Raw,
            2 => Packing::Zstd,
            value => return Err(WireError::Unknown { what: "packing", value: value.into() }),
        };
        let flags = reader.u8()?;
        if flags & !(FORGET | FROM_ROOT) != 0 {
            return Err(WireError::Unknown { what: "bundle flag", value: flags.into() });
        }
        let (items, ways, bases) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let bundle = Bundle {
            seq,
            items: read_items(&mut reader, items.into())?,
            forget: flags & FORGET != 0,
            ways: (0..ways).map(|_| read_way(&mut reader)).collect::<Result<_, _>>()?,
            from_root: flags & FROM_ROOT != 0,
            bases: read_bases(&mut reader, bases.into())?,
            packing,
            bytes: reader.rest(),
        };
        let based = bundle.from_root || !bundle.bases.is_empty() || !bundle.ways.is_empty();
        let raw = bundle.packing == Packing::Raw;
        if raw && bundle.bytes.len() != bundle.content_len() {
            return Err(WireError::Unknown { what: "length of a raw bundle", value: bundle.bytes.len() as u64 });
        }
        // Work for nothing: nobody needs bases of what is not packed, or more ways than lead to the bases.
        if raw && based || bundle.ways.len() > bundle.bases.len() * WAYS_PER_BASE_MAX {
            return Err(WireError::Unknown { what: "number of ways", value: bundle.ways.len() as u64 });
        }
        Ok(bundle)
    }

    /// Length of all its objects, in bytes.
    pub fn content_len(&self) -> usize {
        self.items.iter().map(|item| item.len as usize).sum()
    }
}

fn read_items(reader: &mut Reader, count: usize) -> Result<Vec<Item>, WireError> {
    if count == 0 || count > BUNDLE_OBJECTS_MAX {
        return Err(WireError::TooLong { what: "bundle", len: count as u64, max: BUNDLE_OBJECTS_MAX as u64 });
    }
    let (mut items, mut expected, mut total) = (Vec::new(), 0u64, 0u64);
    for _ in 0..count {
        let number = reader.varint()?;
        let origin = if number & 1 == 0 {
            let asked = expected.wrapping_add(unzigzag(number >> 1) as u64);
            expected = asked.wrapping_add(1);
            Origin::Asked(asked)
        } else {
            let kind = u8::try_from(number >> 1).ok().and_then(Kind::from_u8);
            Origin::Unasked(kind.ok_or(WireError::Unknown { what: "kind", value: number >> 1 })?)
        };
        let len = reader.varint()?;
        total = total.saturating_add(len);
        if len == 0 || total > OBJECT_BYTES_MAX as u64 {
            return Err(WireError::TooLong { what: "content of a bundle", len: total, max: OBJECT_BYTES_MAX as u64 });
        }
        items.push(Item { origin, len: len as u32 });
    }
    Ok(items)
}

fn read_way(reader: &mut Reader) -> Result<Way, WireError> {
    let mut number = |what| {
        let value = reader.varint()?;
        u32::try_from(value).map_err(|_| WireError::Unknown { what, value })
    };
    Ok(Way { parent: number("way")?, index: number("place in a node")? })
}

fn read_bases(reader: &mut Reader, count: usize) -> Result<Vec<Way>, WireError> {
    if count > BASES_OF_BUNDLE_MAX {
        return Err(WireError::TooLong { what: "list of bases", len: count as u64, max: BASES_OF_BUNDLE_MAX as u64 });
    }
    let (mut bases, mut last) = (Vec::new(), Way { parent: 0, index: u32::MAX });
    for _ in 0..count {
        let mut near = |from: u32, what| {
            let value = i64::from(from).checked_add(unzigzag(reader.varint()?));
            let value = value.ok_or(WireError::Unknown { what, value: u64::MAX })?;
            u32::try_from(value).map_err(|_| WireError::Unknown { what, value: value as u64 })
        };
        let parent = near(last.parent, "way")?;
        let index = near(last.index.wrapping_add(1), "place in a node")?;
        last = Way { parent, index };
        bases.push(last);
    }
    Ok(bases)
}
