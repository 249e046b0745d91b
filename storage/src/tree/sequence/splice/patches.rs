//! The changes, checked, one of them in sight and one behind it.

use bytes::Bytes;

use super::super::format::INLINE_BYTES_MAX;
use crate::chunk::{CHUNK_BYTES_MAX, Cutter, Ending, ZERO_RUN_BYTES};
use crate::error::{Damage, Refusal, Result};
use crate::name::Name;

/// New bytes for a range of a content. Offset and length in bytes; an empty patch changes nothing.
pub struct Patch<'a> {
    /// Where in the content it begins.
    pub offset: u64,
    /// How long it is.
    pub len: u64,
    /// What the bytes are.
    pub source: Source<'a>,
}

/// Where the bytes of a patch are.
pub enum Source<'a> {
    /// Here: exactly as many as the patch is long.
    Bytes(Bytes),
    /// Nowhere: zeros.
    Hole,
    /// In a stored chunk.
    Chunk {
        /// Its name.
        name: Name,
        /// How many of its bytes come before the patch.
        skip: u32,
        /// How long the whole chunk is.
        chunk_len: u32,
        /// Where the patch is the whole chunk, as the same cutter has cut it: what ended it then. It is taken without being
        /// read where cutting comes to its beginning and it would end alike. `None`: it is only bytes.
        cut: Option<Ending>,
    },
    /// To be read when they are needed, `len` bytes from an offset within the patch on. Asked in ascending order, at most
    /// 1 MiB at once, usually once for each byte.
    Later(Box<dyn Fn(u64, usize) -> Result<Bytes> + 'a>),
}

/// The bytes of a part of a patch.
pub(super) enum Part {
    Bytes(Bytes),
    Hole,
    Chunk { name: Name, skip: u32, chunk_len: u32 },
}

/// Patches in order.
pub(super) struct Patches<'a, 'p> {
    source: &'a mut dyn Iterator<Item = Patch<'p>>,
    /// The first one that was not used up, and how many of its bytes were.
    current: Option<Patch<'p>>,
    used: u64,
    /// The one behind it.
    behind: Option<Patch<'p>>,
    end: u64,
    new_len: u64,
}

impl<'a, 'p> Patches<'a, 'p> {
    pub fn new(source: &'a mut dyn Iterator<Item = Patch<'p>>, new_len: u64) -> Result<Self> {
        let mut patches = Patches { source, current: None, used: 0, behind: None, end: 0, new_len };
        patches.advance()?;
        patches.advance()?;
        Ok(patches)
    }

    /// Where the first byte is that was not used up.
    pub fn next_offset(&self) -> Option<u64> {
        self.current.as_ref().map(|patch| patch.offset + self.used)
    }
    /// True where a patch begins at `at`.
    pub fn stands_at(&self, at: u64) -> bool {
        self.used == 0 && self.next_offset() == Some(at)
    }

    /// True where the bytes at `at` are those of a patch, and in memory.
    pub fn at_hand(&self, at: u64) -> bool {
        let current = self.current.as_ref().filter(|_| self.next_offset() == Some(at));
        current.is_some_and(|patch| matches!(patch.source, Source::Bytes(_)))
    }

    /// Uses up the next bytes of the patch at `at`, if there is one: how many, and what they are. Bytes that are read
    /// later come in parts of at most `later_max`.
    pub fn part_at(&mut self, at: u64, later_max: u64) -> Result<Option<(u64, Part)>> {
        let Some(patch) = self.current.as_ref().filter(|_| self.next_offset() == Some(at)) else { return Ok(None) };
        let mut len = patch.len - self.used;
        let part = match &patch.source {
            Source::Bytes(bytes) => Part::Bytes(bytes.clone()),
            Source::Hole => Part::Hole,
            Source::Chunk { name, skip, chunk_len, .. } => {
                Part::Chunk { name: *name, skip: *skip, chunk_len: *chunk_len }
            }
            Source::Later(read) => {
                len = len.min(later_max);
                let bytes = read(self.used, len as usize)?;
                if bytes.len() as u64 != len {
                    let (expected, found) = (format!("{len} bytes"), format!("{} bytes", bytes.len()));
                    return Err(Damage::new("the source of a change", at, expected, found).into());
                }
                Part::Bytes(bytes)
            }
        };
        self.used += len;
        if self.used == patch.len {
            self.advance()?;
        }
        Ok(Some((len, part)))
    }

    /// Uses up the next patch where it is a whole chunk that cutting would give again, standing at its beginning.
    pub fn take_chunk(&mut self, cutter: &Cutter, new_len: u64) -> Result<Option<(Name, u32)>> {
        let Some(Patch { offset, len, source: Source::Chunk { name, chunk_len, cut: Some(ending), .. } }) =
            &self.current
        else {
            return Ok(None);
        };
        let end = offset + len;
        let is_chunk = (INLINE_BYTES_MAX + 1..=cutter.sizes().max_bytes()).contains(&(*chunk_len as usize))
            && cutter.to_boundary(*offset) >= *len;
        let hole_follows = self.behind.as_ref().is_some_and(|behind| {
            let run = behind.len.min(cutter.to_boundary(end));
            behind.offset == end && matches!(behind.source, Source::Hole) && run >= ZERO_RUN_BYTES as u64
        });
        let ends = match ending {
            Ending::Own => true,
            _ if end == new_len || cutter.is_boundary(end) => true,
            Ending::Hole => hole_follows,
            Ending::End => false,
        };
        if !is_chunk || !ends {
            return Ok(None);
        }
        let taken = (*name, *chunk_len);
        self.advance()?;
        Ok(Some(taken))
    }

    /// Goes on to the next patch that is not empty, and checks the one that comes in sight.
    fn advance(&mut self) -> Result<()> {
        self.used = 0;
        self.current = self.behind.take();
        while let Some(patch) = self.source.next() {
            self.check(&patch)?;
            if patch.len > 0 {
                self.end = patch.offset + patch.len;
                self.behind = Some(patch);
                break;
            }
        }
        Ok(())
    }

    fn check(&self, patch: &Patch) -> Result<()> {
        let fits = match &patch.source {
            Source::Bytes(bytes) => bytes.len() as u64 == patch.len,
            Source::Chunk { skip, chunk_len, cut, .. } => {
                let whole = *skip == 0 && patch.len == u64::from(*chunk_len);
                let within = u64::from(*skip).checked_add(patch.len).is_some_and(|end| end <= u64::from(*chunk_len));
                within && *chunk_len as usize <= CHUNK_BYTES_MAX && (whole || cut.is_none())
            }
            Source::Hole | Source::Later(_) => true,
        };
        let end = patch.offset.checked_add(patch.len).filter(|end| *end <= self.new_len);
        if fits && patch.offset >= self.end && end.is_some() {
            return Ok(());
        }
        Err(Refusal::Invalid(format!(
            "a change of {} bytes at {} behind one that ends at {}, in {} bytes, does not fit",
            patch.len, patch.offset, self.end, self.new_len
        ))
        .into())
    }
}
