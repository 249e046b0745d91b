//! Reading a range of a file through the layers.

use bytes::Bytes;

use super::extents::{Extent, Place};
use super::live::Dataset;
use super::state::{Part, Plan};
use crate::error::{Damage, Error, Refusal, Result};
use crate::name::{Kind, Name};
use crate::tree::Objects;
use crate::tree::sequence::{self, Content, Piece};

/// How often a read looks again for bytes that moved from the journal into the tree meanwhile.
const REPLANS_MAX: u32 = 8;
/// Zeros to hand out slices of.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

impl Dataset {
    /// Makes a plan under the lock and fetches it without, and again where the drain has merged these bytes and the journal
    /// that held them was trimmed: they are in the tree now.
    pub(super) fn fetch_patiently<T>(&self, plan: impl Fn() -> Result<(T, Plan)>) -> Result<(T, Vec<Bytes>)> {
        let mut attempts = 0;
        loop {
            let (found, plan) = plan()?;
            match self.fetch(plan) {
                Ok(pieces) => return Ok((found, pieces)),
                Err(Error::Refused(Refusal::NotFound(_))) if attempts < REPLANS_MAX => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The bytes that a plan describes, as slices of verified chunks, of the journal or of memory.
    pub(super) fn fetch(&self, plan: Plan) -> Result<Vec<Bytes>> {
        let objects = self.objects();
        let mut pieces = Vec::with_capacity(plan.parts.len());
        for part in plan.parts {
            match part {
                Part::Zeros(len) => push_zeros(&mut pieces, len),
                Part::Written(extent) => self.fetch_extent(&objects, &extent, &mut pieces)?,
                Part::Base { offset, len } => fetch_content(&objects, &plan.base, offset, len, &mut pieces)?,
            }
        }
        Ok(pieces)
    }

    /// The bytes of one extent.
    pub(crate) fn fetch_extent(&self, objects: &dyn Objects, extent: &Extent, pieces: &mut Vec<Bytes>) -> Result<()> {
        match &extent.place {
            Place::Memory { bytes, .. } => pieces.push(bytes.clone()),
            Place::Hole => push_zeros(pieces, extent.len),
            Place::Journal { place, skip } => {
                let payload = self.stages.journal.read(place)?;
                pieces.push(slice(payload, *skip, extent.len, &Name::default())?);
            }
            Place::Chunk { chunk, skip } => {
                let content = objects.read(Kind::Chunk, &chunk.name)?;
                pieces.push(slice(content, *skip, extent.len, &chunk.name)?);
            }
        }
        Ok(())
    }
}

/// Tells `take` of the runs of a plan in order, whether each takes room and how long it is, until it says that it has heard
/// enough. Neighbours may be alike. Reads nodes, and no bytes.
pub(super) fn runs(objects: &dyn Objects, plan: &Plan, mut take: impl FnMut(bool, u64) -> bool) -> Result<()> {
    for part in &plan.parts {
        let go_on = match part {
            Part::Zeros(len) | Part::Written(Extent { len, place: Place::Hole, .. }) => take(false, *len),
            Part::Written(extent) => take(true, extent.len),
            Part::Base { offset, len } => {
                let mut go_on = true;
                let mut pieces = sequence::read(objects, &plan.base, *offset, *len);
                while let (true, Some(piece)) = (go_on, pieces.next()) {
                    let piece = piece?;
                    go_on = take(!matches!(piece, Piece::Hole(_)), piece.len());
                }
                go_on
            }
        };
        if !go_on {
            return Ok(());
        }
    }
    Ok(())
}

/// How many of the bytes that a plan describes are nowhere.
pub(super) fn holes(objects: &dyn Objects, plan: &Plan) -> Result<u64> {
    let mut sum = 0;
    runs(objects, plan, |takes_room, len| {
        sum += if takes_room { 0 } else { len };
        true
    })?;
    Ok(sum)
}

/// The bytes `[offset, offset + len)` of a content, which must be that long.
pub(crate) fn fetch_content(
    objects: &dyn Objects,
    content: &Content,
    offset: u64,
    len: u64,
    pieces: &mut Vec<Bytes>,
) -> Result<()> {
    for piece in sequence::read(objects, content, offset, len) {
        match piece? {
            Piece::Hole(len) => push_zeros(pieces, len),
            Piece::Inline(bytes) => pieces.push(bytes),
            Piece::Chunk { name, skip, len, .. } => {
                pieces.push(slice(objects.read(Kind::Chunk, &name)?, skip, u64::from(len), &name)?);
            }
        }
    }
    Ok(())
}

/// A part of an object; an object shorter than its recipe says is damage of the tree that says so.
fn slice(object: Bytes, skip: u32, len: u64, name: &Name) -> Result<Bytes> {
    let end = u64::from(skip) + len;
    if end > object.len() as u64 {
        let found = format!("{} bytes", object.len());
        return Err(Damage::new(format!("object {name}"), 0, format!("at least {end} bytes"), found).into());
    }
    Ok(object.slice(skip as usize..end as usize))
}

fn push_zeros(pieces: &mut Vec<Bytes>, mut len: u64) {
    while len > 0 {
        let part = len.min(ZEROS.len() as u64) as usize;
        pieces.push(Bytes::from_static(&ZEROS[..part]));
        len -= part as u64;
    }
}
