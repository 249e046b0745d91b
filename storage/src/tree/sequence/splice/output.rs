//! The new content, written in order: chunks in batches, and what is kept of the old one by whole subtrees.

use bytes::Bytes;

use super::PutChunks;
use crate::error::Result;
use crate::tree::Objects;
use crate::tree::sequence::build::ContentBuilder;
use crate::tree::sequence::content::Content;
use crate::tree::sequence::cursor::{Cursor, Head};
use crate::tree::sequence::format::{Entry, INLINE_BYTES_MAX};

/// Chunks are put when so many bytes of them, …
const BATCH_BYTES: usize = 2 << 20;
/// … or so many steps are waiting.
const BATCH_STEPS: usize = 4096;

enum Step {
    /// A chunk to be put.
    Chunk(Bytes),
    Entry(Entry),
    /// A range of the old content, between two of its cuts; `last` where nothing follows.
    Keep {
        from: u64,
        to: u64,
        last: bool,
    },
}

pub(super) struct Output<'a> {
    builder: ContentBuilder<'a>,
    put: PutChunks<'a>,
    old: Cursor<'a>,
    old_len: u64,
    waiting: Vec<Step>,
    waiting_bytes: usize,
}

impl<'a> Output<'a> {
    pub fn new(objects: &'a dyn Objects, put: PutChunks<'a>, old: Cursor<'a>, old_len: u64) -> Self {
        let builder = ContentBuilder::new(objects);
        Output { builder, put, old, old_len, waiting: Vec::new(), waiting_bytes: 0 }
    }
    /// Adds what was cut.
    pub fn chunk(&mut self, bytes: Bytes) -> Result<()> {
        if bytes.len() <= INLINE_BYTES_MAX {
            // A copy, so that an entry does not hold a whole buffer.
            return self.entry(Entry::Inline(Bytes::copy_from_slice(&bytes)));
        }
        self.waiting_bytes += bytes.len();
        self.step(Step::Chunk(bytes))
    }
    /// Adds an entry that needs no chunk to be put.
    pub fn entry(&mut self, entry: Entry) -> Result<()> {
        self.step(Step::Entry(entry))
    }
    /// Adds a range of the old content, between two of its cuts; `last` where nothing will follow.
    pub fn keep(&mut self, from: u64, to: u64, last: bool) -> Result<()> {
        if from < to { self.step(Step::Keep { from, to, last }) } else { Ok(()) }
    }
    pub fn finish(mut self) -> Result<Content> {
        self.flush()?;
        self.builder.finish()
    }

    fn step(&mut self, step: Step) -> Result<()> {
        self.waiting.push(step);
        if self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_STEPS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let steps = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let chunks =
            steps.iter().filter_map(|step| if let Step::Chunk(bytes) = step { Some(&bytes[..]) } else { None });
        let chunks: Vec<&[u8]> = chunks.collect();
        let names = if chunks.is_empty() { Vec::new() } else { (self.put)(&chunks)? };
        assert_eq!(names.len(), chunks.len(), "one name for each chunk");
        let mut names = names.into_iter();
        for step in &steps {
            match step {
                Step::Chunk(bytes) => {
                    if let Some(name) = names.next() {
                        self.builder.push(Entry::Chunk { name, len: bytes.len() as u32 })?;
                    }
                }
                Step::Entry(entry) => self.builder.push(entry.clone())?,
                Step::Keep { from, to, last } => self.copy(*from, *to, *last)?,
            }
        }
        Ok(())
    }

    /// Takes over the old content from `from` to `to`, by the largest subtrees that fit.
    fn copy(&mut self, from: u64, to: u64, last: bool) -> Result<()> {
        self.old.seek(from)?;
        assert_eq!(self.old.at(), from, "kept from a place that is no cut");
        while let Some(head) = self.old.head().filter(|_| self.old.at() < to) {
            let end = self.old.at() + head.len();
            match head {
                Head::Entry(entry) => {
                    self.builder.push(entry)?;
                    self.old.skip();
                }
                // The last node of a level did not end by its own entries, but with the content: it may only stay where
                // nothing comes behind it.
                Head::Node(level, node)
                    if end <= to && self.builder.takes_node(level) && (last || end < self.old_len) =>
                {
                    self.builder.push_node(level, node)?;
                    self.old.skip();
                }
                Head::Node(..) => self.old.enter()?,
            }
        }
        self.old.check_writable()
    }
}
