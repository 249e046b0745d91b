//! What lies at an offset.

use bytes::Bytes;

use super::content::Content;
use super::cursor::Cursor;
use super::format::Entry;
use crate::error::Result;
use crate::name::Name;
use crate::tree::Objects;

/// A part of what was asked for. Lengths are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of a stored chunk.
    Chunk {
        /// Which one.
        name: Name,
        /// How many of its bytes come before the piece.
        skip: u32,
        /// How many of its bytes are the piece: at least 1.
        len: u32,
        /// How long the whole chunk is.
        chunk_len: u32,
    },
    /// So many zeros.
    Hole(u64),
    /// These bytes.
    Inline(Bytes),
}

impl Piece {
    /// Its length.
    #[allow(clippy::len_without_is_empty, reason = "a piece is never empty")]
    pub fn len(&self) -> u64 {
        match self {
            Piece::Chunk { len, .. } => u64::from(*len),
            Piece::Hole(len) => *len,
            Piece::Inline(bytes) => bytes.len() as u64,
        }
    }
}

/// The entries of a content from the one that holds the byte `offset` on, with their offsets. Reads nodes as it comes to
/// them, and nothing before the first entry is asked for.
pub fn entries<'a>(objects: &'a dyn Objects, content: &Content, offset: u64) -> Entries<'a> {
    Entries { objects, start: Some((content.clone(), offset)), cursor: None }
}

/// Entries with their offsets; see [`entries`]. After an error it is at its end.
pub struct Entries<'a> {
    objects: &'a dyn Objects,
    start: Option<(Content, u64)>,
    cursor: Option<Cursor<'a>>,
}

impl Entries<'_> {
    fn step(&mut self) -> Result<Option<(u64, Entry)>> {
        if let Some((content, offset)) = self.start.take() {
            let mut cursor = Cursor::new(self.objects, &content)?;
            cursor.seek(offset)?;
            self.cursor = Some(cursor);
        }
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        let entry = cursor.entry()?;
        let at = cursor.at();
        cursor.skip();
        Ok(entry.map(|entry| (at, entry)))
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<(u64, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.cursor = None;
        }
        step.transpose()
    }
}

/// What lies in the `len` bytes from `offset` on, in order; fewer at the end of the content. Lazy: whoever wants to read
/// ahead asks for more pieces than it needs at once.
pub fn read<'a>(objects: &'a dyn Objects, content: &Content, offset: u64, len: u64) -> Pieces<'a> {
    let end = offset.saturating_add(len).min(content.len());
    let entries = Entries { objects, start: (offset < end).then(|| (content.clone(), offset)), cursor: None };
    Pieces { entries, at: offset, end }
}

/// Pieces in order; see [`read`]. After an error it is at its end.
pub struct Pieces<'a> {
    entries: Entries<'a>,
    at: u64,
    end: u64,
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let (start, entry) = match self.entries.next()? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        let skip = self.at - start;
        let len = (start + entry.len()).min(self.end) - self.at;
        self.at += len;
        Some(Ok(match entry {
            Entry::Chunk { name, len: chunk_len } => {
                Piece::Chunk { name, skip: skip as u32, len: len as u32, chunk_len }
            }
            Entry::Hole(_) => Piece::Hole(len),
            Entry::Inline(bytes) => Piece::Inline(bytes.slice(skip as usize..(skip + len) as usize)),
        }))
    }
}
