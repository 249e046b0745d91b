//! Which bytes differ between two contents, without looking at what both share.

use std::ops::Range;

use super::content::Content;
use super::cursor::{Cursor, Head};
use super::format::Entry;
use crate::error::Result;
use crate::tree::Objects;

/// The byte ranges in which two contents differ, ascending and apart from one another. All bytes outside are equal;
/// inside, a range is as exact as chunks are: two chunks of different names differ over their whole length. Where one
/// content is longer, the rest of it is a difference. Lazy; reads no chunk, and no node that both have at one place.
pub fn diff<'a>(objects: &'a dyn Objects, old: &Content, new: &Content) -> Differences<'a> {
    let start = (old != new).then(|| (old.clone(), new.clone()));
    Differences { objects, start, sides: None, at: 0, open: None }
}

/// Differing ranges; see [`diff`]. After an error it is at its end.
pub struct Differences<'a> {
    objects: &'a dyn Objects,
    start: Option<(Content, Content)>,
    sides: Option<(Cursor<'a>, Cursor<'a>)>,
    at: u64,
    /// A range that may still grow.
    open: Option<Range<u64>>,
}

impl Differences<'_> {
    fn step(&mut self) -> Result<Option<Range<u64>>> {
        if let Some((old, new)) = self.start.take() {
            self.sides = Some((Cursor::new(self.objects, &old)?, Cursor::new(self.objects, &new)?));
        }
        let Some((old, new)) = &mut self.sides else { return Ok(None) };
        loop {
            old.seek(self.at)?;
            new.seek(self.at)?;
            let (len, same) = match (old.head(), new.head()) {
                (None, None) => return Ok(self.open.take()),
                (Some(head), None) => (old.at() + head.len() - self.at, false),
                (None, Some(head)) => (new.at() + head.len() - self.at, false),
                (Some(Head::Node(one, old_node)), Some(Head::Node(other, new_node))) => {
                    if old_node == new_node && old.at() == new.at() {
                        (old_node.len, true)
                    } else {
                        if one >= other {
                            old.enter()?;
                        }
                        if other >= one {
                            new.enter()?;
                        }
                        continue;
                    }
                }
                (Some(Head::Node(..)), _) => {
                    old.enter()?;
                    continue;
                }
                (_, Some(Head::Node(..))) => {
                    new.enter()?;
                    continue;
                }
                (Some(Head::Entry(one)), Some(Head::Entry(other))) => {
                    compare((self.at - old.at(), &one), (self.at - new.at(), &other))
                }
            };
            let from = self.at;
            self.at += len;
            if same {
                if let Some(range) = self.open.take() {
                    return Ok(Some(range));
                }
            } else {
                let start = self.open.take().map_or(from, |range| range.start);
                self.open = Some(start..self.at);
            }
        }
    }
}

/// Compares the rest of two entries, each behind some of its bytes: how far, and whether that far they are equal.
fn compare((skip, one): (u64, &Entry), (other_skip, other): (u64, &Entry)) -> (u64, bool) {
    let len = (one.len() - skip).min(other.len() - other_skip);
    let same = match (one, other) {
        (Entry::Hole(_), Entry::Hole(_)) => true,
        (Entry::Chunk { name: one, .. }, Entry::Chunk { name: other, .. }) => one == other && skip == other_skip,
        (Entry::Inline(one), Entry::Inline(other)) => {
            one.iter().skip(skip as usize).zip(other.iter().skip(other_skip as usize)).all(|(one, other)| one == other)
        }
        _ => false,
    };
    (len, same)
}

impl Iterator for Differences<'_> {
    type Item = Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            (self.sides, self.open) = (None, None);
        }
        step.transpose()
    }
}
