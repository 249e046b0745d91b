//! Overwrites, cuts off and extends a content, and cuts only what lies around the changes again.
//!
//! The new content is the old one up to a *restart* (an old cut that no change can undo), then what the cutter makes of
//! the bytes from there on, until it *meets* an old cut with nothing changed behind it; then the old one again, up to
//! the restart before the next change. Because a cut depends on nothing before it, the result is what cutting the whole
//! content from scratch would give.
//!
//! ```text
//! old     |--a--|---b---|--c--|----d----|--e--|
//! patches          ####
//!         keep  ^restart            ^meets     keep
//! new     |--a--|--x--|-----y-------|--d'-|--e--|     (here it meets the cut before e)
//! ```

mod output;
mod patches;

use bytes::Bytes;

use self::output::Output;
use self::patches::Patches;
pub use self::patches::{Patch, Source};
use super::content::Content;
use super::cursor::Cursor;
use super::format::{CONTENT_BYTES_MAX, Entry, INLINE_BYTES_MAX};
use crate::chunk::{Cutter, Fed, Feed, ZERO_RUN_BYTES};
use crate::error::{Damage, Refusal, Result};
use crate::name::{Kind, Name};
use crate::tree::Objects;

/// Stores chunks, in order, and returns their names in the same order.
pub type PutChunks<'a> = &'a mut dyn FnMut(&[&[u8]]) -> Result<Vec<Name>>;

/// How much of a patch that is read later is read at once, in bytes.
const LATER_BYTES: u64 = 1 << 20;

/// What a splice did, in bytes and chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpliceStats {
    /// Chunks that were cut and put.
    pub cut_chunks: u64,
    /// Their bytes.
    pub cut_bytes: u64,
    /// Chunks of patches that were taken as they are.
    pub accepted_chunks: u64,
    /// Their bytes.
    pub accepted_bytes: u64,
    /// Bytes of chunks that were read back, from the old content or from patches, to be cut again.
    pub reread_bytes: u64,
}

/// The content that `base` becomes when `patches` are written over it and its length is made `new_len`. What lies
/// between patches behind the old end is a hole.
///
/// `patches` ascend and do not overlap, and end at `new_len` at the latest; their bytes go through `cutter`, which must be
/// the one that cut `base`. Chunks are stored with `put`, nodes with `objects.put`; all chunks that a node names are
/// put before it. The result is the [`Content`] that cutting all of the new bytes from scratch gives.
///
/// Costs, for each group of neighbouring patches, a path to them, one or two chunks read back on either side, and
/// the patches. Memory: a window, a batch of chunks (2 MiB) and a node a level, however long the patches are.
///
/// Refused where patches overlap, descend, or reach beyond `new_len`, or `new_len` beyond [`CONTENT_BYTES_MAX`]. After an
/// error, what was put is unreferenced and nothing else has happened.
pub fn splice<'p>(
    objects: &dyn Objects,
    cutter: &Cutter,
    put: PutChunks<'_>,
    base: &Content,
    patches: impl IntoIterator<Item = Patch<'p>>,
    new_len: u64,
) -> Result<(Content, SpliceStats)> {
    if new_len > CONTENT_BYTES_MAX {
        return Err(Refusal::FileTooLarge.into());
    }
    let mut source = patches.into_iter();
    let patches = Patches::new(&mut source, new_len)?;
    if patches.next_offset().is_none() && new_len == base.len() {
        return Ok((base.clone(), SpliceStats::default()));
    }
    let start = Cursor::new(objects, base)?;
    start.check_writable()?;
    let output = Output::new(objects, put, start.clone(), base.len());
    let splice = Splice {
        objects,
        cutter,
        old_len: base.len(),
        new_len,
        patches,
        output,
        last_read: None,
        stats: SpliceStats::default(),
    };
    splice.run(start)
}

struct Splice<'a, 'p> {
    objects: &'a dyn Objects,
    cutter: &'a Cutter,
    old_len: u64,
    new_len: u64,
    patches: Patches<'a, 'p>,
    output: Output<'a>,
    /// The chunk that was read last.
    last_read: Option<(Name, Bytes)>,
    stats: SpliceStats,
}

/// Where the bytes that are being cut come from.
struct Input<'a> {
    /// Up to where they were fed.
    fed: u64,
    /// The old content, at or before that.
    old: Cursor<'a>,
    /// End of the last patch that was fed from.
    dirty_end: u64,
}

impl<'a> Splice<'a, '_> {
    fn run(mut self, start: Cursor<'a>) -> Result<(Content, SpliceStats)> {
        let mut clean = Some(start);
        while let Some(from) = clean {
            let Some(edit) = self.next_edit() else {
                self.output.keep(from.at(), self.old_len, true)?;
                break;
            };
            let restart = restart_before(&from, edit, self.old_len, self.cutter)?;
            self.output.keep(from.at(), restart.at(), false)?;
            clean = self.cut_from(restart)?;
        }
        let content = self.output.finish()?;
        assert_eq!(content.len(), self.new_len, "a splice lost count");
        Ok((content, self.stats))
    }

    /// Where the next byte is that is, or may be, another than before.
    fn next_edit(&self) -> Option<u64> {
        let tail = (self.new_len != self.old_len).then(|| self.new_len.min(self.old_len));
        [self.patches.next_offset(), tail].into_iter().flatten().min()
    }

    /// Cuts from `restart` on, until an old cut is met with nothing changed behind it, and returns that place; or to
    /// the end of the content.
    fn cut_from(&mut self, restart: Cursor<'a>) -> Result<Option<Cursor<'a>>> {
        let mut feed = Feed::new(restart.at());
        let mut input = Input { fed: restart.at(), old: restart.clone(), dirty_end: restart.at() };
        let mut old = restart;
        loop {
            if self.meets(&feed, &input, &mut old)? {
                return Ok(Some(old));
            }
            if self.accept(&mut feed, &mut input)? {
                continue;
            }
            match feed.next(self.cutter) {
                Fed::Chunk { bytes, .. } => {
                    if bytes.len() > INLINE_BYTES_MAX {
                        self.stats.cut_chunks += 1;
                        self.stats.cut_bytes += bytes.len() as u64;
                    }
                    self.output.chunk(bytes)?;
                }
                Fed::Hole(len) => self.output.entry(Entry::Hole(len))?,
                Fed::NeedMore => {
                    self.pull(&mut feed, &mut input)?;
                    // Bytes at hand cost nothing to feed, and small ones are joined best a window at a time.
                    while feed.queued_bytes() < self.cutter.window_bytes() as u64 && self.patches.at_hand(input.fed) {
                        self.pull(&mut feed, &mut input)?;
                    }
                }
                Fed::End => return Ok(None),
            }
        }
    }

    /// True where cutting stands at an old cut behind which nothing is changed, at least as far as is worth it: up to
    /// the restart before the next change. `old` goes along.
    fn meets(&self, feed: &Feed, input: &Input, old: &mut Cursor) -> Result<bool> {
        let at = feed.at();
        if at < input.dirty_end || at >= self.old_len.min(self.new_len) || feed.hole_is_open(self.cutter) {
            return Ok(false);
        }
        old.seek(at)?;
        if old.at() != at {
            return Ok(false);
        }
        match self.next_edit() {
            None => Ok(true),
            Some(edit) => Ok(edit > at && restart_before(old, edit, self.old_len, self.cutter)?.at() > at),
        }
    }

    /// Takes the next patch as it is, where it is a whole chunk, cutting stands at its beginning, and would end where
    /// it ends.
    fn accept(&mut self, feed: &mut Feed, input: &mut Input) -> Result<bool> {
        let at = feed.at();
        if feed.queued_bytes() > 0 || feed.hole_is_open(self.cutter) || !self.patches.stands_at(at) {
            return Ok(false);
        }
        let Some((name, len)) = self.patches.take_chunk(self.cutter, self.new_len)? else { return Ok(false) };
        feed.skip_chunk(u64::from(len));
        input.fed = feed.at();
        input.dirty_end = feed.at();
        self.stats.accepted_chunks += 1;
        self.stats.accepted_bytes += u64::from(len);
        self.output.entry(Entry::Chunk { name, len })?;
        Ok(true)
    }

    /// Feeds what comes next: the rest of a patch, a part of the old content, or a hole.
    fn pull(&mut self, feed: &mut Feed, input: &mut Input) -> Result<()> {
        let at = input.fed;
        if at == self.new_len {
            feed.end();
            return Ok(());
        }
        if let Some((len, source)) = self.patches.part_at(at, LATER_BYTES)? {
            input.dirty_end = input.dirty_end.max(at + len);
            input.fed += len;
            match source {
                patches::Part::Bytes(bytes) => feed.push(bytes),
                patches::Part::Hole => feed.push_zeros(len),
                patches::Part::Chunk { name, skip, chunk_len } => {
                    let chunk = self.read_chunk(&name, chunk_len)?;
                    feed.push(chunk.slice(skip as usize..skip as usize + len as usize));
                }
            }
            return Ok(());
        }
        let end = self.patches.next_offset().unwrap_or(self.new_len).min(self.new_len);
        if at >= self.old_len {
            feed.push_zeros(end - at);
            input.fed = end;
            return Ok(());
        }
        input.old.seek(at)?;
        let entry = input.old.entry()?;
        input.old.check_writable()?;
        let Some(entry) = entry else {
            return Err(Damage::new("sequence tree", at, "an entry", "the end").into());
        };
        let skip = at - input.old.at();
        let len = (entry.len() - skip).min(end - at);
        let part = skip as usize..(skip + len) as usize;
        match entry {
            Entry::Hole(_) => feed.push_zeros(len),
            Entry::Inline(bytes) => feed.push(bytes.slice(part)),
            Entry::Chunk { name, len: chunk_len } => feed.push(self.read_chunk(&name, chunk_len)?.slice(part)),
        }
        input.fed += len;
        Ok(())
    }

    /// A whole chunk, as long as it was said to be.
    fn read_chunk(&mut self, name: &Name, len: u32) -> Result<Bytes> {
        // What lies before a small patch and what lies behind it is mostly the same chunk.
        if let Some((_, bytes)) =
            self.last_read.as_ref().filter(|(last, bytes)| last == name && bytes.len() == len as usize)
        {
            return Ok(bytes.clone());
        }
        let bytes = self.objects.read(Kind::Chunk, name)?;
        if bytes.len() != len as usize {
            let (expected, found) = (format!("{len} bytes"), format!("{} bytes", bytes.len()));
            return Err(Damage::new(format!("Chunk {name}"), 0, expected, found).into());
        }
        self.stats.reread_bytes += u64::from(len);
        self.last_read = Some((*name, bytes.clone()));
        Ok(bytes)
    }
}

/// The last old cut, from the place `from` on, that stays a cut whatever happens to the bytes from `edit` on.
///
/// What a cut between two entries depends on (see `docs/formats/cutting.md`):
/// * before a hole: on the zeros that make the hole one, 4 KiB of them;
/// * behind a hole: on the byte that is not zero; where a forced boundary ended the hole, on that byte's being among the first
///   4 KiB, for with more zeros there both sides of the boundary are one hole;
/// * between chunks: on nothing behind it, because the chunk's own bytes ended it (or a forced boundary did);
/// * at the end of the content: on nothing following. It is never answered.
fn restart_before<'a>(from: &Cursor<'a>, edit: u64, old_len: u64, cutter: &Cutter) -> Result<Cursor<'a>> {
    let run = ZERO_RUN_BYTES as u64;
    let mut cursor = from.clone();
    cursor.seek(edit.saturating_sub(run).max(from.at()))?;
    let mut best = cursor.clone();
    let mut before = cursor.entry()?;
    while let Some(entry) = before {
        cursor.skip();
        let cut = cursor.at();
        if cut > edit || cut >= old_len {
            break;
        }
        before = cursor.entry()?;
        let stays = match (&entry, &before) {
            (_, Some(Entry::Hole(_))) => cut + run <= edit,
            (Entry::Hole(_), _) if cutter.is_boundary(cut) => cut + run <= edit,
            (Entry::Hole(_), _) => cut < edit,
            _ => true,
        };
        if stays {
            best = cursor.clone();
        }
    }
    Ok(best)
}
