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
/// Chunks that are read together, at most: about a MiB of them.
const CHUNKS_TOGETHER: usize = 64;
/// Zeros to hand out slices of.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

impl Dataset {
    /// Makes a plan under the lock and fetches it without, and again where the drain has merged these bytes and the journal
    /// that held them was trimmed: they are in the tree now.
    pub(super) fn fetch_patiently<T>(&self, plan: impl Fn() -> Result<(T, Plan)>) -> Result<(T, Vec<Bytes>)> {
        let _in_use = self.stages.pool.in_use();
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
        let mut gather = Gather::new(&objects, plan.parts.len());
        for part in plan.parts {
            match part {
                Part::Zeros(len) => push_zeros(&mut gather.pieces, len),
                Part::Written(extent) => match extent.place {
                    Place::Chunk { chunk, skip } => gather.chunk(chunk.name, skip, extent.len)?,
                    _ => self.fetch_extent(&objects, &extent, &mut gather.pieces)?,
                },
                Part::Base { offset, len } => gather.content(&plan.base, offset, len)?,
            }
        }
        gather.finish()
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

/// Pieces in order, some of them parts of chunks that are still to be read: several together, for they lie together.
struct Gather<'a> {
    objects: &'a dyn Objects,
    pieces: Vec<Bytes>,
    /// Which piece is to be which part of which chunk.
    wanted: Vec<Wanted>,
}

struct Wanted {
    piece: usize,
    name: Name,
    skip: u32,
    len: u64,
}

impl<'a> Gather<'a> {
    fn new(objects: &'a dyn Objects, pieces: usize) -> Self {
        Gather { objects, pieces: Vec::with_capacity(pieces), wanted: Vec::new() }
    }

    fn chunk(&mut self, name: Name, skip: u32, len: u64) -> Result<()> {
        self.wanted.push(Wanted { piece: self.pieces.len(), name, skip, len });
        self.pieces.push(Bytes::new());
        if self.wanted.len() < CHUNKS_TOGETHER { Ok(()) } else { self.settle() }
    }

    /// The bytes `[offset, offset + len)` of a content, which must be that long.
    fn content(&mut self, content: &Content, offset: u64, len: u64) -> Result<()> {
        for piece in sequence::read(self.objects, content, offset, len) {
            match piece? {
                Piece::Hole(len) => push_zeros(&mut self.pieces, len),
                Piece::Inline(bytes) => self.pieces.push(bytes),
                Piece::Chunk { name, skip, len, .. } => self.chunk(name, skip, len.into())?,
            }
        }
        Ok(())
    }

    /// Reads the chunks that are wanted.
    fn settle(&mut self) -> Result<()> {
        let names: Vec<Name> = self.wanted.iter().map(|wanted| wanted.name).collect();
        let chunks = if names.is_empty() { Vec::new() } else { self.objects.read_run(Kind::Chunk, &names)? };
        for (Wanted { piece, name, skip, len }, chunk) in self.wanted.drain(..).zip(chunks) {
            self.pieces[piece] = slice(chunk, skip, len, &name)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Bytes>> {
        self.settle()?;
        Ok(self.pieces)
    }
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
