//! Entries of late, for who sends them on: they must not wait for a disk that does not answer.

use std::collections::VecDeque;

use super::{Entry, entry_of};

/// So many are known without looking at the disk.
const KNOWN: usize = 128;

/// An entry with its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Chained {
    /// The entry.
    pub entry: Entry,
    /// The chain up to it, in hexadecimal digits.
    pub chain: String,
}

/// Those of late.
#[derive(Debug)]
pub(super) struct Recent {
    next: u64,
    entries: VecDeque<Chained>,
}

impl Recent {
    /// None yet; the next one has this number.
    pub(super) fn behind(next: u64) -> Recent {
        Recent { next, entries: VecDeque::new() }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn push(&mut self, chained: Chained) {
        self.next = chained.entry.n + 1;
        self.entries.push_back(chained);
        if self.entries.len() > KNOWN {
            self.entries.pop_front();
        }
    }

    /// Those behind a number; `None` where the disk has to be asked. Inside, `None` where the number is behind the end.
    #[allow(
        clippy::option_option,
        reason = "who does not know, and who knows that there is none, say different things"
    )]
    pub(super) fn after(&self, number: u64, limit: usize) -> Option<Option<Vec<Chained>>> {
        if number >= self.next {
            return Some(None);
        }
        let first = self.entries.front().map_or(self.next, |chained| chained.entry.n);
        let wanted = self.entries.iter().filter(|chained| chained.entry.n > number);
        (number + 1 >= first).then(|| Some(wanted.take(limit).cloned().collect()))
    }
}

/// A line of a file.
pub(super) fn chained(line: &[u8]) -> Option<Chained> {
    let chain = std::str::from_utf8(line.get(..64)?).ok()?.to_owned();
    Some(Chained { entry: entry_of(line)?, chain })
}
